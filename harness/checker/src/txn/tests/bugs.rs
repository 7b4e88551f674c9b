//! What earlier checkers got wrong, and corners that this one must get right.

use super::words::{Script, witnesses};
use crate::answer::{Answer, Relation};

/// A prototype called this an intermediate read: the transaction's own read of its own append.
#[test]
fn reading_ones_own_append_before_appending_again_is_fine() {
    let report =
        Script::lists().together(&["a x 1, r x 1, a x 2"]).then(9, "r x 1 2").check("strict-serializable");
    assert_eq!(report.answer, Answer::Holds);
    assert!(report.counts.is_empty());
}

/// The other bug of that prototype, in the words of transactions: a chain of indeterminate writers whose first never
/// took effect. Nobody saw its append, so the second may have committed, the third was seen and must have.
#[test]
fn a_chain_of_indeterminate_transactions_counts_from_what_was_seen() {
    let unseen =
        Script::lists().unknown("a x 1").unknown("u x, a x 2").unknown("u x, a x 3").then(7, "r x 3");
    assert_eq!(unseen.check("strict-serializable").answer, Answer::Holds);
    // What the seen one wrote elsewhere happened too: a later read without it is one write short.
    let half = Script::lists().unknown("a x 3, a y 1").then(7, "r x 3").then(8, "r y");
    assert_eq!(half.violations("strict-serializable"), ["G-single-realtime"]);
    let half = Script::lists().unknown("a x 3, a y 1").together(&["r x 3, r y"]);
    assert_eq!(half.violations("serializable"), ["G-single"]);
}

#[test]
fn an_indeterminate_transaction_may_commit_long_after() {
    let late = Script::lists().unknown("a x 1").then(7, "r x").then(7, "r x 1");
    assert_eq!(late.check("strict-serializable").answer, Answer::Holds);
    let gone = Script::lists().unknown("a x 1").then(7, "r x 1").then(8, "r x");
    assert_eq!(gone.violations("strict-serializable"), ["G-single-realtime"]);
}

#[test]
fn equal_times_are_concurrent() {
    let touching = Script::lists()
        .at(0, 0, 5, crate::txn::Outcome::Ok, "a x 1")
        .at(1, 5, 9, crate::txn::Outcome::Ok, "r x")
        .at(2, 20, 30, crate::txn::Outcome::Ok, "r x 1");
    assert_eq!(touching.check("strict-serializable").answer, Answer::Holds);
}

/// What nobody saw stands after all reads of its key, even if nothing was ever read there.
#[test]
fn appends_that_nobody_saw_come_last() {
    let skew = Script::lists().together(&["r x, a y 1", "r y, a x 1"]);
    assert_eq!(skew.violations("serializable"), ["G2-item"]);
    let fine = Script::lists().together(&["r x, a x 1", "r y, a y 1"]);
    assert_eq!(fine.check("serializable").answer, Answer::Holds);
    let lost = Script::lists().together(&["r x, a x 1", "r x, a x 2"]);
    assert_eq!(lost.violations("serializable"), ["G2-item", "lost-update"]);
}

#[test]
fn a_transaction_applied_in_parts_or_out_of_order_is_seen() {
    let torn = Script::lists().together(&["a x 1, a x 2", "r x 2"]);
    assert_eq!(torn.violations("read-committed"), ["incompatible-order"]);
    let swapped = Script::lists().together(&["a x 1, a x 2", "r x 2 1"]);
    assert_eq!(swapped.violations("read-committed"), ["G1b", "incompatible-order"]);
}

/// Many readers of the last version before many unseen writers: the pairs go over hubs, and whoever reads and writes
/// does not come before itself.
#[test]
fn crowds_of_readers_and_unseen_writers_are_no_cycle() {
    let readers = vec!["r x"; 30];
    let writers: Vec<String> = (0..30).map(|value| format!("a x {value}")).collect();
    let writers: Vec<&str> = writers.iter().map(String::as_str).collect();
    let crowd = [&readers[..], &writers, &["r x, a x 99"]].concat();
    assert_eq!(Script::lists().together(&crowd).check("serializable").answer, Answer::Holds);
    let two = [&readers[..], &writers, &["r x, a x 98", "r x, a x 99"]].concat();
    let report = Script::lists().together(&two).check("serializable");
    let cycle = witnesses(&report).into_iter().find(|witness| witness.class == "G2-item").expect("a cycle");
    assert_eq!(cycle.ops.len(), 2, "{cycle:?}");
    assert!(
        cycle.links.iter().all(|link| link.relation == Relation::ReadWrite && !link.why.is_empty()),
        "{cycle:?}"
    );
    // And over a hub a longer way back is found too.
    let back = [&readers[..], &writers, &["r x, a y 1", "r y 1, a x 97"]].concat();
    assert_eq!(Script::lists().together(&back).check("serializable").answer, Answer::Holds);
    let back = [&readers[..], &writers, &["r x, r y 1", "a y 1, a x 97"]].concat();
    assert_eq!(Script::lists().together(&back).violations("serializable"), ["G-single"]);
}

#[test]
fn a_value_written_twice_voids_the_check() {
    let report = Script::lists().together(&["a x 1", "a x 1", "r x 1"]).check("serializable");
    let Answer::Unknown(unknown) = report.answer else { panic!("{report:?}") };
    assert_eq!(
        unknown.reason,
        "T0 and T1 both write 1 to x: a read of it names no writer, and nothing can be concluded"
    );
}

#[test]
fn at_most_ten_of_a_class_are_listed_and_all_are_counted() {
    let skews: Vec<String> =
        (0..25).flat_map(|n| [format!("r a{n}, a b{n} 1"), format!("r b{n}, a a{n} 1")]).collect();
    let skews: Vec<&str> = skews.iter().map(String::as_str).collect();
    let report = Script::lists().together(&skews).check("serializable");
    let Answer::Violated { witnesses, unlisted } = &report.answer else { panic!("{report:?}") };
    assert_eq!((witnesses.len(), *unlisted), (10, 15));
    assert_eq!(report.counts, [("G2-item", 25)]);
}
