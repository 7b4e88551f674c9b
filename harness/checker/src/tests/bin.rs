//! `history.bin`: what was written is read; what is no such file is an error with its place, never a panic.

use proptest::prelude::*;

use crate::answer::Answer;
use crate::linear::{self, List, NEVER, Op, Register, UNSEEN};
use crate::record::Grouped;
use crate::record::bin::*;
use crate::scene::Scene;

fn group_of_lists() -> Vec<u8> {
    let mut file = Vec::new();
    write_header::<List>(&mut file).unwrap();
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
    let mut reader = BinReader::open::<K>(file)?;
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
    Grouped::of(&record).unwrap().write(&mut file).unwrap();
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
    write_header::<Register>(&mut file).unwrap();
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
    assert!(matches!(read_all::<Register>(&group_of_lists()), Err(BinError::Header(_))));
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), keep in 0..200_usize) {
        let file = group_of_lists();
        let mut mixed = file[..keep.min(file.len())].to_vec();
        mixed.append(&mut bytes);
        let _ = read_all::<List>(&mixed);
    }
}
