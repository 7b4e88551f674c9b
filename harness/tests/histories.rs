//! `slotstorm check FILE` and `slotstorm export`, as their users call them: histories of other recorders, and ours for them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

use std::process::{Command, Output};

/// A folder with one history in it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn with(name: &str, text: &str) -> (Self, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (Self { folder }, path.to_str().unwrap().to_owned())
    }
}

fn slotstorm(args: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_slotstorm")).args(args).output().expect("the binary starts");
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code().expect("it ended by itself"), text)
}

/// A register, written by process 0, then read by process 1.
fn register(read: &str) -> String {
    format!(
        "{{:type :invoke, :process 0, :f :write, :value 3}}\n{{:type :ok, :process 0, :f :write, :value 3}}\n\
         {{:type :invoke, :process 1, :f :read, :value nil}}\n{{:type :ok, :process 1, :f :read, :value {read}}}\n"
    )
}

#[test]
fn a_register_of_jepsen_holds_or_does_not() {
    let (_bench, file) = Bench::with("history.edn", &register("3"));
    let (code, text) = slotstorm(&["check", &file, "--workload", "register"]);
    assert_eq!((code, text.starts_with("VALID  2 operations")), (0, true), "{text}");

    let (bench, file) = Bench::with("history.edn", &register("nil"));
    let drawn = bench.folder.path().join("drawn");
    let (code, text) =
        slotstorm(&["check", &file, "--model", "cas-register", "--draw", drawn.to_str().unwrap()]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("INVALID") && text.contains("process 1"), "{text}");
    let pictures: Vec<_> = std::fs::read_dir(drawn).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(
        pictures.iter().any(|path| std::fs::read_to_string(path).unwrap().starts_with("<svg")),
        "{pictures:?}"
    );
}

#[test]
fn a_cycle_of_transactions_is_told_as_json() {
    let (_bench, file) = Bench::with(
        "skew.edn",
        "{:type :invoke, :process 0, :f :txn, :value [[:append :x 1] [:r :y nil]]}\n\
         {:type :invoke, :process 1, :f :txn, :value [[:append :y 1] [:r :x nil]]}\n\
         {:type :ok, :process 0, :f :txn, :value [[:append :x 1] [:r :y []]]}\n\
         {:type :ok, :process 1, :f :txn, :value [[:append :y 1] [:r :x []]]}\n\
         {:type :invoke, :process 2, :f :txn, :value [[:r :x nil] [:r :y nil]]}\n\
         {:type :ok, :process 2, :f :txn, :value [[:r :x [1]] [:r :y [1]]]}\n",
    );
    let (code, text) = slotstorm(&["check", &file, "--workload", "list-append", "--json"]);
    let verdict: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &verdict["valid"]), (1, &serde_json::json!(false)), "{text}");
    assert_eq!(verdict["parts"][0]["witnesses"][0]["class"], "G2-item", "{text}");
    // Write skew is what snapshot isolation permits.
    let (code, text) =
        slotstorm(&["check", &file, "--workload", "list-append", "--isolation", "snapshot-isolation"]);
    assert_eq!((code, text.contains("permitted")), (0, true), "{text}");
}

#[test]
fn what_cannot_be_understood_is_254_with_its_place() {
    let (_bench, file) =
        Bench::with("history.edn", "{:type :invoke, :process 0, :f :write, :value 3}\n{:type :ok, :process");
    let (code, text) = slotstorm(&["check", &file, "--workload", "register"]);
    assert_eq!(code, 254, "{text}");
    assert!(text.contains("line 2, column") && text.contains("expected"), "{text}");
    let (code, text) = slotstorm(&["check", &file]);
    assert_eq!((code, text.contains("--workload")), (254, true), "{text}");
    let (code, text) = slotstorm(&["check", &file, "--workload", "tornado"]);
    assert_eq!((code, text.contains("list-append")), (254, true), "{text}");
    let (code, text) = slotstorm(&["export", "/no/such/run", "--edn"]);
    assert_eq!((code, text.contains("history.jsonl")), (254, true), "{text}");
}

#[test]
fn our_history_exported_is_judged_as_a_set_of_jepsen() {
    let line = |index: u64, kind: &str, process: u64, rest: &str| {
        format!("{{\"index\":{index},\"time\":{index},\"type\":\"{kind}\",\"process\":{process},{rest}}}\n")
    };
    let history = [
        line(0, "invoke", 0, r#""f":"add","key":"k","value":1"#),
        line(1, "ok", 0, r#""f":"add","key":"k","value":1,"node":"n1","reply":1"#),
        line(2, "invoke", 1, r#""f":"read","key":"k","final":true"#),
        line(3, "ok", 1, r#""f":"read","key":"k","elements":[],"node":"n1","final":true"#),
    ];
    let (bench, _) = Bench::with("history.jsonl", &history.concat());
    let edn = bench.folder.path().join("history.edn");
    let edn = edn.to_str().unwrap();
    let (code, text) = slotstorm(&["export", bench.folder.path().to_str().unwrap(), "--edn", edn]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = slotstorm(&["check", edn, "--workload", "set-full", "--keyed"]);
    assert_eq!((code, text.contains("lost")), (1, true), "{text}");
}
