//! Whatever is read: an answer or an error, never a panic.

use proptest::prelude::*;

use super::events;
use crate::foreign::{Format, fuzzing};

const EDN: &str = "[{:index 0, :type :invoke, :process 0, :f :txn, :value [[:append 1 2] [:r \"x\" nil]]}
#jepsen.history.Op{:type :ok :process 0 :f :txn :value [[:append 1 2] [:r \"x\" [1 2.5e3 \\a]]]}
{:type :invoke, :process 1, :f :cas, :value [1 2]} {:type :info, :process 1, :f :cas :error [:x #{a}]}
{:type :invoke, :process 2, :f :read, :value nil} #_{:no \"\\u0041\"} {:type :ok, :process 2, :f :read, :value {0 1}}]";

const JSON: &str = "{\"type\":\"invoke\",\"process\":0,\"f\":\"add\",\"key\":\"k\",\"value\":3}
{\"type\":\"ok\",\"process\":0,\"f\":\"add\",\"key\":\"k\",\"value\":3}
{\"type\":\"invoke\",\"process\":0,\"f\":\"read\",\"key\":\"k\"}
{\"type\":\"ok\",\"process\":0,\"f\":\"read\",\"key\":\"k\",\"elements\":[3]}";

const LOG: &str = "INFO  jepsen.util - 0\t:invoke\t:cas\t[4 2]\nINFO  jepsen.util - 0\t:fail\t:cas\t[4 2]
INFO  jepsen.util - 1\t:invoke\t:read\tnil\nINFO  jepsen.util - 1\t:ok\t:read\t4";

/// Replaces, inserts, removes or repeats bytes.
#[derive(Clone, Debug)]
enum Edit {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let byte = || prop_oneof![any::<u8>(), prop::sample::select(b"{}[]()#\"\\:;^_=0-9 \n\t,nil".to_vec())];
    let at = || 0..2000usize;
    prop_oneof![
        (at(), byte()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), byte()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        (at(), 1..40usize).prop_map(|(at, len)| Edit::Remove(at, len)),
        (at(), 1..40usize).prop_map(|(at, len)| Edit::Repeat(at, len)),
    ]
}

fn edited(text: &str, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for edit in edits {
        let place = |at: usize, bytes: &Vec<u8>| at % (bytes.len() + 1);
        match *edit {
            Edit::Set(at, byte) => {
                let at = place(at, &bytes);
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            Edit::Insert(at, byte) => {
                let at = place(at, &bytes);
                bytes.insert(at, byte);
            }
            Edit::Remove(at, len) => {
                let at = place(at, &bytes);
                let end = (at + len).min(bytes.len());
                bytes.drain(at..end);
            }
            Edit::Repeat(at, len) => {
                let at = place(at, &bytes);
                let end = (at + len).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn edited_edn_never_panics(edits in prop::collection::vec(edit(), 0..6)) {
        fuzzing::edn(&edited(EDN, &edits));
    }

    #[test]
    fn edited_json_never_panics(edits in prop::collection::vec(edit(), 0..6)) {
        fuzzing::json_lines(&edited(JSON, &edits));
    }

    #[test]
    fn edited_logs_never_panic(edits in prop::collection::vec(edit(), 0..6)) {
        fuzzing::porcupine_log(&edited(LOG, &edits));
    }

    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}") {
        for format in [Format::Edn, Format::JsonLines, Format::PorcupineLog] {
            drop(events(&text, format));
        }
    }
}
