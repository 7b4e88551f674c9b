//! `history.bin`: what was written is read; what is no such file is an error with its place, never a panic.

use proptest::prelude::*;

use crate::answer::Answer;
use crate::foreign::{ForeignOptions, Workload, judge_bin};
use crate::linear::{self, List, NEVER, Op, Register, UNSEEN};
use crate::record::Datum::Nil;
use crate::record::bin::*;
use crate::record::{Datum, OpKind, Record, write_bin};
use crate::scene::Scene;

fn group_of_lists() -> Vec<u8> {
    let mut file = Vec::new();
    write_header(&mut file).unwrap();
    let ops = [
        BinOp { op: Op::done(1, 10, 20, List::Append { element: 7, length: 1 }), node: 3 },
        BinOp { op: Op::unknown(2, 15, List::Append { element: 8, length: 0 }), node: 0 },
        BinOp { op: Op::done(3, 30, 40, List::Read { start: 0, len: 2 }), node: 1 },
    ];
    write_group(&mut file, b"key:1", &ops, &[7, 8]).unwrap();
    write_group::<List>(&mut file, b"", &[], &[]).unwrap();
    file
}

fn read_all<K: BinKind>(file: &[u8]) -> Result<Vec<Group<K>>, BinError> {
    let mut reader = BinReader::open(file)?;
    std::iter::from_fn(|| reader.next_group::<K>().transpose()).collect()
}

#[test]
fn what_was_written_is_read() {
    let groups = read_all::<List>(&group_of_lists()).unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0].key, b"key:1");
    assert_eq!(groups[0].nodes, [3, 0, 1]);
    assert_eq!(groups[0].elements, [7, 8]);
    assert_eq!(groups[0].ops[1].ret, NEVER);
    assert_eq!(groups[0].ops[2].kind, List::Read { start: 0, len: 2 });
    assert_eq!(crate::linear::list(&groups[0].ops, &groups[0].elements), crate::answer::Answer::Holds);
}

#[test]
fn a_lost_element_of_a_run_is_seen_by_the_check_of_one_object() {
    let mut scene = Scene::new("set");
    let (kept, lost) = (Scene::key(0, 0), Scene::key(1, 0));
    scene.at(1.0).add(&kept, 1, "n1").add(&lost, 2, "n2").add(&lost, 3, "n2");
    scene.at(2.0).forgets("n2", &lost, 2);
    let record = scene.finish();
    let mut file = Vec::new();
    write_bin(&record, &mut file).unwrap();
    let groups = read_all::<linear::Set>(&file).unwrap();
    let holds = |key: &str| {
        let group = groups.iter().find(|group| group.key == key.as_bytes()).unwrap();
        linear::set(&group.ops, &group.elements) == Answer::Holds
    };
    assert!(holds(&kept) && !holds(&lost));
}

#[test]
fn every_register_operation_survives() {
    let kinds = [
        Register::Read(1),
        Register::Write(2),
        Register::Cas { from: 2, to: 3 },
        Register::CasLost { from: 4, seen: UNSEEN },
        Register::Swap { to: 5, seen: 3 },
        Register::Delete,
    ];
    let ops = kinds.map(|kind| BinOp { op: Op::failed(9, 1, 2, kind), node: 65535 });
    let mut file = Vec::new();
    write_header(&mut file).unwrap();
    write_group(&mut file, b"k", &ops, &[]).unwrap();
    assert_eq!(file.len(), 16 + 40 + 8 + 6 * RECORD_BYTES);
    let groups = read_all::<Register>(&file).unwrap();
    assert_eq!(groups[0].ops, ops.map(|record| record.op));
}

#[test]
fn a_file_cut_anywhere_is_an_error_with_its_place() {
    let file = group_of_lists();
    // Only between groups the end is the end.
    let first_group = 16 + 40 + 8 + 3 * RECORD_BYTES + 16;
    for cut in 0..file.len() {
        let result = read_all::<List>(&file[..cut]);
        assert_eq!(result.is_ok(), cut == 16 || cut == first_group, "cut at {cut}: {result:?}");
    }
}

#[test]
fn a_read_of_elements_that_are_not_there_is_refused() {
    let mut file = group_of_lists();
    let read = 16 + 40 + 8 + 2 * RECORD_BYTES;
    file[read + 24] = 3;
    let error = read_all::<List>(&file).unwrap_err().to_string();
    assert!(error.starts_with(&format!("byte {read}: ")), "{error}");
}

#[test]
fn another_object_is_refused() {
    let error = read_all::<Register>(&group_of_lists()).unwrap_err().to_string();
    assert_eq!(error, "byte 64: a group of another object");
    let version_1 = b"slotstrm\x01\0\0\0\x03\0\0\0";
    assert!(matches!(read_all::<List>(version_1), Err(BinError::Header(_))));
}

fn int(int: i64) -> Datum {
    Datum::Int(int)
}

fn list<const N: usize>(items: [i64; N]) -> Datum {
    Datum::List(items.map(Datum::Int).into())
}

fn micro(f: &str, seen: Datum) -> Datum {
    Datum::List(vec![Datum::List(vec![f.into(), "k".into(), seen])])
}

/// An object of every kind, each under a key of its own; the last operation of each is wrong if that is asked for.
fn a_run_of_everything(is_wrong: bool) -> Record {
    let wrong = |right: Datum, wrong: Datum| if is_wrong { wrong } else { right };
    let stories = [
        vec![(OpKind::Write, int(1), Nil), (OpKind::Get, Nil, wrong(int(1), int(2)))],
        vec![(OpKind::WriteFor, list([1, 60_000]), Nil), (OpKind::Get, Nil, wrong(int(1), Nil))],
        vec![(OpKind::WriteAll, int(1), Nil), (OpKind::GetAll, Nil, wrong(list([1, 1]), list([1, 2])))],
        vec![(OpKind::Increment, Nil, int(1)), (OpKind::Count, Nil, wrong(int(1), int(0)))],
        vec![
            (OpKind::Increment, Nil, int(1)),
            (OpKind::CountAtReplica, Nil, int(1)),
            (OpKind::CountAtReplica, Nil, wrong(int(1), int(0))),
        ],
        vec![(OpKind::Enqueue, int(1), int(1)), (OpKind::Dequeue, Nil, wrong(int(1), int(2)))],
        vec![
            (OpKind::Acquire, list([1, 60_000]), int(1)),
            (OpKind::Acquire, list([2, 60_000]), wrong(Nil, int(1))),
        ],
        vec![
            (OpKind::Transfer, list([0, 1, 5]), Nil),
            (OpKind::Balances, Nil, wrong(list([-5, 5]), list([-5, 6]))),
        ],
        vec![
            (OpKind::TxnAppend, Nil, micro("append", int(1))),
            (OpKind::TxnAppend, Nil, micro("r", wrong(list([1]), list([])))),
        ],
        vec![
            (OpKind::TxnRegister, Nil, micro("w", int(1))),
            (OpKind::TxnRegister, Nil, micro("r", wrong(int(1), Nil))),
        ],
    ];
    let mut scene = Scene::new("mixed");
    scene.at(1.5);
    for (number, story) in (0..).zip(stories) {
        for (kind, asked, answer) in story {
            scene.call(kind, &Scene::key(0, number), asked, answer, "n1");
        }
    }
    scene.finish()
}

#[test]
fn every_object_of_a_run_is_judged_from_its_file() {
    for is_wrong in [false, true] {
        let mut file = Vec::new();
        write_bin(&a_run_of_everything(is_wrong), &mut file).unwrap();
        let judged = judge_bin(file.as_slice(), &ForeignOptions::of(Workload::Register)).unwrap();
        let parts = &judged.judgement.parts;
        let violated: Vec<_> =
            parts.iter().filter(|part| matches!(part.answer, Answer::Violated { .. })).collect();
        // A counter is judged apart by what masters and by what replicas said: the master said nothing wrong.
        assert_eq!(parts.len(), 11);
        assert_eq!(violated.len(), if is_wrong { 10 } else { 0 }, "{parts:?}");
        for part in violated {
            let Answer::Violated { witnesses, .. } = &part.answer else { continue };
            let calls = witnesses[0].ops.iter().map(|op| &judged.calls[op.0 as usize]);
            assert!(calls.into_iter().all(|call| call.invoked > 0), "{part:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), keep in 0..200_usize) {
        let file = group_of_lists();
        let mut mixed = file[..keep.min(file.len())].to_vec();
        mixed.append(&mut bytes);
        let _ = read_all::<List>(&mixed);
        drop(judge_bin(mixed.as_slice(), &ForeignOptions::of(Workload::Register)));
    }
}
