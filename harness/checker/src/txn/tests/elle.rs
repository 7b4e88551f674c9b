//! Histories that Elle's README and tests tell of, by what they mean: <https://github.com/jepsen-io/elle>.

use super::words::{Script, witnesses};
use crate::answer::{Answer, Relation};

/// The README's example: T0 read what T1 wrote to y, but T1's append to x stands behind T0's.
#[test]
fn readme_circular_information_flow() {
    let history = || Script::lists().together(&["a x 1, r y 1", "a x 2, a y 1", "r x 1 2"]);
    let report = history().check("serializable");
    let witness = &witnesses(&report)[0];
    assert_eq!(witness.class, "G1c");
    assert_eq!(witness.ops.len(), 2);
    let mut why: Vec<&str> = witness.links.iter().map(|link| link.why.as_str()).collect();
    why.sort_unstable();
    assert_eq!(why, ["T0 read 1 in y, which T1 appended", "T1 appended 2 to x behind 1, which T0 appended"]);
    assert_eq!(history().violations("read-committed"), ["G1c"]);
    assert_eq!(history().check("read-uncommitted").answer, Answer::Holds);
    assert_eq!(history().check("read-uncommitted").permitted.len(), 1);
}

#[test]
fn g0_is_a_cycle_of_writes() {
    let history = || Script::lists().together(&["a x 1, a y 1", "a x 2, a y 2", "r x 1 2, r y 2 1"]);
    assert_eq!(history().violations("read-uncommitted"), ["G0"]);
}

#[test]
fn g1a_is_a_read_of_an_aborted_write() {
    let history = || Script::lists().failed("a x 1").together(&["r x 1"]);
    assert_eq!(history().check("read-uncommitted").answer, Answer::Holds);
    assert_eq!(history().violations("read-committed"), ["G1a"]);
    assert_eq!(history().violations("repeatable-read"), ["G1a"]);
    let twice = Script::lists().failed("a x 1").together(&["r x 1, a x 2", "r x 1 2, r y 3"]);
    let report = twice.check("read-committed");
    let aborted = report.counts.iter().find(|(class, _)| *class == "G1a");
    assert_eq!(aborted, Some(&("G1a", 2)));
}

#[test]
fn g1b_is_a_read_of_an_intermediate_write() {
    let history = || Script::lists().together(&["a x 1, a x 2", "r x 1"]);
    assert_eq!(history().check("read-uncommitted").answer, Answer::Holds);
    assert_eq!(history().violations("read-committed"), ["G1b"]);
    assert_eq!(history().violations("strict-serializable"), ["G-single", "G1b"]);
    let once = Script::lists().together(&["r x 1", "r x 1 2, r y", "a x 1, a x 2", "r x 1 2 3", "a x 3"]);
    assert_eq!(once.violations("read-committed"), ["G1b"]);
}

#[test]
fn g_single_has_one_anti_dependency() {
    let history = || Script::lists().together(&["a x 1, a y 1", "a x 2, r y", "r x 1 2"]);
    assert_eq!(history().check("read-committed").answer, Answer::Holds);
    assert_eq!(history().violations("snapshot-isolation"), ["G-single"]);
    assert_eq!(history().violations("serializable"), ["G-single"]);
}

#[test]
fn g2_item_is_write_skew() {
    let history = || Script::lists().together(&["a x 1, r y", "a y 1, r x"]);
    assert_eq!(history().check("read-committed").answer, Answer::Holds);
    assert_eq!(history().check("snapshot-isolation").answer, Answer::Holds);
    assert_eq!(history().violations("repeatable-read"), ["G2-item"]);
    assert_eq!(history().violations("serializable"), ["G2-item"]);
}

#[test]
fn g_nonadjacent_has_two_that_do_not_meet() {
    let history = || Script::lists().together(&["a x 1", "r x 1, r y", "a y 1", "r y 1, r x"]);
    assert_eq!(history().violations("snapshot-isolation"), ["G-nonadjacent"]);
    assert_eq!(history().violations("serializable"), ["G-nonadjacent"]);
}

#[test]
fn strong_snapshot_isolation_counts_real_time() {
    let history = || Script::lists().then(0, "a x 1").then(1, "a x 2").then(2, "r x 1").then(3, "r x 1 2");
    assert_eq!(history().check("serializable").answer, Answer::Holds);
    assert_eq!(history().violations("strict-serializable"), ["G-single-realtime"]);
    let report = history().check("strong-snapshot-isolation");
    let links = &witnesses(&report)[0].links;
    let mut relations: Vec<_> = links.iter().map(|link| link.relation).collect();
    relations.sort_unstable();
    assert_eq!(relations, [Relation::ReadWrite, Relation::Realtime]);
}

#[test]
fn strong_session_snapshot_isolation_counts_a_process() {
    let history = || Script::lists().then(0, "a x 1").then(1, "a x 2").then(1, "r x 1").then(2, "r x 1 2");
    assert_eq!(history().check("serializable").answer, Answer::Holds);
    assert_eq!(history().violations("strong-session-snapshot-isolation"), ["G-single-process"]);
}

/// <https://github.com/jepsen-io/elle/issues/17>
#[test]
fn anti_dependencies_apart_and_a_process_between() {
    let history = || Script::lists().then(0, "r x, r z 1").then(1, "a x 1").then(1, "r z").then(2, "a z 1");
    assert_eq!(history().check("serializable").answer, Answer::Holds);
    assert_eq!(history().violations("strong-session-snapshot-isolation"), ["G-nonadjacent-process"]);
}

/// <https://github.com/jepsen-io/elle/issues/21>: read, process, read.
#[test]
fn information_flow_over_a_process() {
    let history = || {
        Script::lists()
            .at(0, 0, 1, crate::txn::Outcome::Ok, "r x 1")
            .at(0, 2, 3, crate::txn::Outcome::Ok, "a y 1")
            .at(1, 0, 1, crate::txn::Outcome::Ok, "r y 1")
            .at(1, 2, 3, crate::txn::Outcome::Ok, "a x 1")
    };
    assert_eq!(history().check("serializable").answer, Answer::Holds);
    assert_eq!(history().violations("strong-session-serializable"), ["G1c-process"]);
}

#[test]
fn contradictory_read_orders() {
    let history =
        Script::lists().together(&["a x 1, r y 1", "a x 2", "a x 3, a y 1", "r x 1 3", "r x 1 2 3"]);
    assert_eq!(history.violations("read-committed"), ["G1c", "incompatible-order"]);
}

#[test]
fn dirty_updates_direct_and_over_an_unknown() {
    let none = Script::lists().failed("a x 1");
    assert_eq!(none.check("read-committed").answer, Answer::Holds);
    let direct = Script::lists().failed("a x 1").together(&["a x 2", "r x 1 2"]);
    assert_eq!(direct.violations("read-committed"), ["G1a", "dirty-update"]);
    let indirect = Script::lists().failed("a x 1").unknown("a x 2").together(&["a x 3", "r x 1 2 3"]);
    assert_eq!(indirect.violations("read-committed"), ["G1a", "dirty-update"]);
}

#[test]
fn duplicate_elements() {
    let history = Script::lists().together(&["a x 1, r y 1", "a x 2, a y 1", "r x 1 2 1"]);
    assert_eq!(history.violations("read-committed"), ["G1c", "duplicate-elements"]);
}

#[test]
fn internal_contradictions() {
    let good = Script::lists().together(&[
        "r y 5 6, a x 3, r x 1 2 3, a x 4, r x 1 2 3 4",
        "a x 1, a x 2",
        "a y 5, a y 6",
    ]);
    assert_eq!(good.check("strict-serializable").answer, Answer::Holds);
    for bad in [
        "r x 1 2, a x 3, r x 1 2",
        "r x 1 2, a x 3, r x 0 2 3",
        "r x 1 2, a x 3, r x 1 2 3 4",
        "r x 1 2, a x 3, r x 1",
        "a x 3, r x 1 2 3 4",
        "a x 3, r x",
        "r x, r x 2",
    ] {
        let history = Script::lists().together(&[bad, "a x 1, a x 2", "a x 4, a x 0"]);
        assert!(history.violations("snapshot-isolation").contains(&"internal"), "{bad}");
    }
}

#[test]
fn reads_of_the_future() {
    let outside = Script::lists().together(&["r x 0 1 2, a x 1", "a x 0", "a x 2"]);
    assert!(outside.violations("read-committed").contains(&"future-read"));
    let inside = Script::lists().together(&["a x 1, r x 0 1, a x 0, a x 3"]);
    assert!(inside.violations("read-committed").contains(&"future-read"));
}

/// An indeterminate transaction's read of nothing is no read.
#[test]
fn indeterminate_reads_say_nothing() {
    let history = Script::lists().unknown("a x 2, u y").together(&["a x 1, a y 1", "r x 1 2, r y 1"]);
    assert_eq!(history.check("strict-serializable").answer, Answer::Holds);
}

/// What was not in the longest read comes after all that was.
#[test]
fn unobserved_writes_follow_the_longest_read() {
    let history =
        || Script::lists().together(&["a x 1, a y 1", "a x 2, a y 2", "a x 3, a y 3", "r x 1 2", "r y 2"]);
    assert_eq!(history().violations("read-uncommitted"), ["G0"]);
    assert_eq!(history().violations("serializable"), ["G-single", "G0"]);
}

/// Elle's `si-without-g-single.edn`, of which an early Elle thought that it breaks snapshot isolation: its
/// anti-dependencies always meet.
#[test]
fn anti_dependencies_that_meet_leave_snapshot_isolation_alone() {
    let history =
        || Script::lists().together(&["a x9 2", "a x8 1, r x9", "r x6, r x8, a x9 5", "a x6 2, r x9 2"]);
    assert_eq!(history().check("snapshot-isolation").answer, Answer::Holds);
    assert_eq!(history().violations("repeatable-read"), ["G2-item"]);
}

/// Elle's `unfindable-g-single`, which it can only prove to exist: one cycle of a thousand transactions with a single
/// anti-dependency, among cycles of many.
#[test]
fn one_g_single_among_many_g2_items() {
    let length = 1000;
    let mut ring: Vec<String> = (0..length).map(|at| format!("a ring {at}")).collect();
    ring[0] += ", a anti 1";
    ring[length - 1] += ", r anti";
    let whole: Vec<String> = (0..length).map(|at| at.to_string()).collect();
    ring.push(format!("r ring {}", whole.join(" ")));
    let noise = 30;
    for at in 0..noise {
        ring.push(format!("r n{at}, a n{} 1, r ring", (at + 1) % noise));
    }
    let ring: Vec<&str> = ring.iter().map(String::as_str).collect();
    let report = Script::lists().together(&ring).check("snapshot-isolation");
    let found = witnesses(&report);
    assert_eq!((found.len(), found[0].class, found[0].ops.len()), (1, "G-single", length));
}

/// Elle's `paper-example.edn` (from TiDB): T3 saw T1's and T4's appends to 255 but T2 misses from T3's read of it.
#[test]
fn the_papers_read_skew() {
    let history = Script::lists().together(&[
        "a x253 1, a x253 3, a x253 4, a x255 2, a x255 3, a x255 4, a x255 5, a x256 1, a x256 2",
        "a x255 8, r x253 1 3 4",
        "a x256 4, r x255 2 3 4 5 8, r x256 1 2 4, r x253 1 3 4",
        "a x250 10, r x253 1 3 4, r x255 2 3 4 5, a x256 3",
    ]);
    assert_eq!(history.violations("serializable"), ["G-single"]);
}

mod registers {
    //! `rw_register_test.clj`. Elle's keys are blind there, so often only an assumption on each key's order helps.

    use crate::answer::Answer;
    use crate::txn::Outcome::Ok;
    use crate::txn::tests::words::Script;

    #[test]
    fn a_read_of_what_nobody_wrote() {
        // Elle calls its own silence here a bug.
        let history = Script::registers().then(0, "w x 1").then(1, "r x 2");
        assert_eq!(history.violations("strict-serializable"), ["garbage-read"]);
    }

    #[test]
    fn cyclic_versions_of_a_linearizable_key() {
        let history = || {
            let written = Script::registers().at(0, 0, 1, Ok, "w x 1").at(1, 0, 100, Ok, "w x 2");
            written.at(2, 4, 5, Ok, "r x 2").at(3, 6, 7, Ok, "r x 1").at(4, 8, 9, Ok, "r x 2")
        };
        assert_eq!(history().check("serializable").answer, Answer::Holds);
        assert_eq!(history().violations("strict-serializable"), ["cyclic-versions"]);
    }

    #[test]
    fn write_cycles_show_by_the_order_of_processes() {
        let history = Script::registers()
            .at(0, 0, 1, Ok, "w x 1, w y 2")
            .at(1, 0, 1, Ok, "w x 2, w y 1")
            .at(0, 2, 3, Ok, "r x 2")
            .at(1, 2, 3, Ok, "r y 2");
        assert!(history.violations("strong-session-serializable").contains(&"G0"));
    }

    #[test]
    fn aborted_and_intermediate_reads() {
        assert_eq!(
            Script::registers().failed("w x 1").together(&["r x 1"]).violations("read-committed"),
            ["G1a"]
        );
        let intermediate = || Script::registers().together(&["w x 1, w x 2", "r x 1"]);
        assert_eq!(intermediate().violations("read-committed"), ["G1b"]);
        assert_eq!(intermediate().check("read-uncommitted").answer, Answer::Holds);
    }

    #[test]
    fn circular_information_flow() {
        let history = || Script::registers().together(&["w x 1, r y 1", "w y 1, r x 1"]);
        assert_eq!(history().check("read-uncommitted").answer, Answer::Holds);
        assert_eq!(history().violations("read-committed"), ["G1c"]);
        assert_eq!(history().violations("serializable"), ["G1c"]);
    }

    #[test]
    fn write_skew_from_a_state_that_was_read() {
        let history = || {
            Script::registers()
                .at(9, 0, 1, Ok, "w x 1, w y 1")
                .at(0, 2, 3, Ok, "r x 1, r y 1")
                .at(1, 4, 8, Ok, "r x 1, w y 2")
                .at(2, 5, 7, Ok, "r y 1, w x 2")
        };
        assert_eq!(history().violations("strict-serializable"), ["G2-item"]);
        assert_eq!(history().check("read-committed").answer, Answer::Holds);
    }

    #[test]
    fn internal_contradictions() {
        let good = Script::registers().together(&["r y 2, w x 2, r x 2, w x 1, r x 1", "w y 2"]);
        assert_eq!(good.check("strict-serializable").answer, Answer::Holds);
        for bad in ["r x 1, w x 2, r x 1", "r x _, r x 1", "r x 1, r x 3"] {
            let history = Script::registers().together(&[bad, "w x 1", "w x 3"]);
            assert!(history.violations("snapshot-isolation").contains(&"internal"), "{bad}");
        }
    }

    #[test]
    fn nil_comes_first() {
        let history = Script::registers().together(&["r x _, r y 1", "w y 1, w x 2"]);
        assert_eq!(history.violations("serializable"), ["G-single"]);
    }

    #[test]
    fn writes_follow_reads() {
        let history = Script::registers().together(&["r y 1, w x 1, w y 2", "r x 1, r y 1", "w y 1"]);
        assert_eq!(history.violations("serializable"), ["G-single"]);
    }

    #[test]
    fn lost_update() {
        let history = || Script::registers().together(&["w x 1", "r x 1, w x 2", "r x 1, w x 3"]);
        assert_eq!(history().violations("snapshot-isolation"), ["lost-update"]);
        assert!(history().violations("serializable").contains(&"lost-update"));
        assert_eq!(history().check("read-committed").answer, Answer::Holds);
    }

    /// Blind writes to two keys, read in two orders: either order of each key can be had alone, but not together. No
    /// inference sees it, and the answer is not that all is well.
    #[test]
    fn what_is_not_seen_is_not_called_good() {
        let history =
            Script::registers().together(&["w x 1, w y 1", "w x 2, w y 2", "r x 1, r y 2", "r x 2, r y 1"]);
        assert!(matches!(history.check("serializable").answer, Answer::Unknown(_)));
    }
}
