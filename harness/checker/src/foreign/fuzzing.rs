//! What the fuzz targets (`harness/checker/fuzz`) do with their bytes, and what the kept corpora (`tests/corpora`) go through
//! in every `cargo test`: one body a target, for both. A body panics where the code under it breaks a promise; foreign
//! bytes that are refused, with the place, are no fault.

use super::{
    EdnReader, ForeignError, ForeignOptions, Format, Pairing, Value, Workload, judge, judge_bin, read,
};
use crate::linear::Limits;
use crate::record::bin::{AnyGroup, BinKind, BinOp, BinReader, Group, write_group, write_header};

/// A target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. A folder of this name in `tests/corpora` holds a target's kept inputs.
pub const TARGETS: [Target; 4] = [
    ("edn", edn),
    ("json_lines", json_lines),
    ("porcupine_log", porcupine_log),
    ("history_bin", history_bin),
];

/// EDN that is read, printed and read again is the same; and it is a history or is refused.
pub fn edn(bytes: &[u8]) {
    let mut reader = EdnReader::new(bytes);
    while let Ok(Some(located)) = reader.next_value() {
        let text = format!("[{}]", located.value);
        let again = EdnReader::new(text.as_bytes()).next_value();
        let again = again.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(same(&again.expect("a value").value, &located.value), "{text}");
    }
    history(bytes, Format::Edn);
}

pub fn json_lines(bytes: &[u8]) {
    history(bytes, Format::JsonLines);
}

pub fn porcupine_log(bytes: &[u8]) {
    history(bytes, Format::PorcupineLog);
}

/// What is read can be written again, and is judged.
pub fn history_bin(bytes: &[u8]) {
    let mut again = Vec::new();
    if let Ok(mut reader) = BinReader::open(bytes) {
        write_header(&mut again).expect("a vector takes all");
        while let Ok(Some(group)) = reader.next_any() {
            rewrite(&group, &mut again);
        }
        // Padding and what is reserved may differ.
        assert!(again.len() <= bytes.len(), "grew from {} to {}", bytes.len(), again.len());
        let mut reader = BinReader::open(again.as_slice()).expect("what was written");
        while reader.next_any().expect("what was written").is_some() {}
    }
    drop(judge_bin(bytes, &options(Workload::Register, false)));
}

/// Floats that are no numbers are the same here.
fn same(one: &Value, other: &Value) -> bool {
    one.to_string() == other.to_string()
}

/// Read, paired and judged as every workload: there is an answer or an error with its place.
fn history(bytes: &[u8], format: Format) {
    let mut pairing = Pairing::default();
    if let Err(error) = read(bytes, format, |event| pairing.event(event)) {
        let lines = bytes.split(|&byte| byte == b'\n').count() as u64;
        if let ForeignError::Syntax { line, column, .. } = &error {
            assert!((1..=lines).contains(line) && *column >= 1, "{error}");
        }
    }
    let (calls, _) = pairing.finish();
    for workload in Workload::names().filter_map(Workload::parse) {
        for keyed in [false, true] {
            drop(judge(&calls, &options(workload, keyed)));
        }
    }
}

/// Small budgets: what is looked for is a panic, not an answer.
fn options(workload: Workload, keyed: bool) -> ForeignOptions<'static> {
    ForeignOptions {
        keyed,
        failed_cas_tells: keyed,
        negative_balances: keyed,
        limits: Limits { configurations: 1000, bytes: 1 << 20, ..Limits::default() },
        ..ForeignOptions::of(workload)
    }
}

fn rewrite(group: &AnyGroup, out: &mut Vec<u8>) {
    match group {
        AnyGroup::Register(group) => written(group, out),
        AnyGroup::Set(group) => written(group, out),
        AnyGroup::List(group) => written(group, out),
        AnyGroup::Counter(group) => written(group, out),
        AnyGroup::Queue(group) => written(group, out),
        AnyGroup::Lock(group) => written(group, out),
        AnyGroup::Lease(group) => written(group, out),
        AnyGroup::Bank(group) => written(group, out),
        AnyGroup::Expiring(group) => written(group, out),
        AnyGroup::Sessions(group) => written(group, out),
        AnyGroup::ListTxns(group) => written(group, out),
        AnyGroup::RegisterTxns(group) => written(group, out),
    }
}

fn written<K: BinKind>(group: &Group<K>, out: &mut Vec<u8>) {
    let ops: Vec<BinOp<K>> =
        group.ops.iter().zip(&group.nodes).map(|(&op, &node)| BinOp { op, node }).collect();
    write_group(out, &group.key, &ops, &group.elements).expect("a vector takes all");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, clippy::disallowed_types)] // reads the corpora

    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn kept_inputs_are_understood_or_refused() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora");
        for (name, body) in TARGETS {
            let inputs: Vec<_> = fs::read_dir(corpora.join(name)).expect(name).collect();
            assert!(!inputs.is_empty(), "{name} has no inputs");
            for input in inputs {
                let path = input.expect(name).path();
                body(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            }
        }
    }
}
