//! Each way in which a correct history is known to break, by its class; and what checks once got wrong.

use crate::answer::{Answer, OpId, Witness};
use crate::linear::*;

/// One operation after the other, ten nanoseconds each.
fn in_sequence<K: Copy>(kinds: &[K]) -> Vec<Op<K>> {
    (0..).zip(kinds).map(|(at, &kind)| Op::done(0, at * 100, at * 100 + 10, kind)).collect()
}

/// The classes of the violations, and the operations of the first.
fn found(answer: &Answer) -> (Vec<&'static str>, Vec<u32>) {
    let Answer::Violated { witnesses, .. } = answer else { return (Vec::new(), Vec::new()) };
    let classes = witnesses.iter().map(|witness| witness.class).collect();
    (classes, witnesses[0].ops.iter().map(|id| id.0).collect())
}

fn register_says(ops: &[Op<Register>]) -> (Vec<&'static str>, Vec<u32>) {
    found(&register(ops, &Limits::default()))
}

#[test]
fn an_acknowledged_write_that_nobody_saw_while_the_old_value_lived_on_is_lost() {
    use Register::{Read, Write};
    let ops = in_sequence(&[Write(1), Read(1), Write(2), Read(1), Read(1)]);
    assert_eq!(register_says(&ops), (vec!["lost-write"], vec![0, 2, 4]));
}

#[test]
fn a_value_seen_again_after_its_successor_was_seen_is_resurrected() {
    use Register::{Read, Write};
    let ops = in_sequence(&[Write(1), Write(2), Read(2), Read(1)]);
    assert_eq!(register_says(&ops).0, ["resurrected-value"]);
}

#[test]
fn a_read_of_the_old_value_before_anybody_saw_the_new_one_is_stale() {
    use Register::{Read, Write};
    let ops = in_sequence(&[Write(1), Write(2), Read(1), Read(2)]);
    assert_eq!(register_says(&ops).0, ["stale-read"]);
}

#[test]
fn values_from_nowhere_from_refused_writes_and_from_the_future_are_told_apart() {
    use Register::{Read, Write};
    assert_eq!(register_says(&in_sequence(&[Write(1), Read(7)])), (vec!["garbage-read"], vec![1]));
    let mut refused = in_sequence(&[Write(1), Write(2), Read(2)]);
    refused[1].status = Status::Failed;
    assert_eq!(register_says(&refused), (vec!["read-of-failed-write"], vec![1, 2]));
    assert_eq!(register_says(&in_sequence(&[Read(1), Write(1)])), (vec!["future-read"], vec![0, 1]));
}

#[test]
fn two_winners_from_one_value_are_a_double_win() {
    use Register::{Cas, Swap, Write};
    let ops = in_sequence(&[Write(1), Cas { from: 1, to: 2 }, Cas { from: 1, to: 3 }]);
    assert_eq!(register_says(&ops), (vec!["double-cas-win"], vec![0, 1, 2]));
    let ops = in_sequence(&[Write(1), Swap { to: 2, seen: 1 }, Swap { to: 3, seen: 1 }]);
    assert_eq!(register_says(&ops).0, ["lost-update"]);
}

#[test]
fn a_write_that_timed_out_explains_a_read_at_any_later_time_and_no_earlier_one() {
    use Register::{Read, Write};
    let mut ops = in_sequence(&[Write(1), Read(1), Read(2), Read(2)]);
    ops.push(Op::unknown(1, 150, Write(2)));
    assert_eq!(register(&ops, &Limits::default()), Answer::Holds);
    ops[2].kind = Read(1);
    assert_eq!(register(&ops, &Limits::default()), Answer::Holds);
    (ops[1].kind, ops[2].kind) = (Read(2), Read(2));
    assert_eq!(register_says(&ops).0, ["future-read"]);
}

#[test]
fn intervals_that_touch_are_concurrent() {
    use Register::{Read, Write};
    let ops = [Op::done(0, 0, 10, Write(1)), Op::done(1, 10, 20, Read(NIL)), Op::done(2, 11, 20, Read(1))];
    assert_eq!(register(&ops, &Limits::default()), Answer::Holds);
    let late = [ops[0], Op { call: 11, ..ops[1] }, ops[2]];
    assert!(matches!(register(&late, &Limits::default()), Answer::Violated { .. }));
}

#[test]
fn ten_of_a_class_are_shown_and_the_rest_counted() {
    use Register::{Read, Write};
    let ops = in_sequence(&[vec![Write(1)], (100..150).map(Read).collect()].concat());
    let Answer::Violated { witnesses, unlisted } = register(&ops, &Limits::default()) else {
        panic!("it holds")
    };
    assert_eq!((witnesses.len(), unlisted), (10, 40));
}

#[test]
fn a_search_that_may_not_go_on_says_up_to_when_all_is_explained() {
    use Register::{Read, Write};
    // Twenty concurrent writes of two values, then reads that alternate: many orders, none legal.
    let mut ops: Vec<Op<Register>> = in_sequence(&[Write(1), Read(1)]);
    for at in 0..24 {
        ops.push(Op::done(10 + at as u32, 300 + at, 5_000 + at, Write(10 + at)));
        ops.push(Op::done(50 + at as u32, 300 + at, 5_000 + at, Write(10 + at)));
    }
    ops.extend((0..2).map(|at| Op::done(99, 6_000 + at * 10, 6_005 + at * 10, Read(10 + at))));
    let few = Limits { configurations: 5_000, ..Limits::default() };
    let Answer::Unknown(unknown) = register(&ops, &few) else { panic!("it was decided") };
    assert!(unknown.reason.contains("configurations"), "{}", unknown.reason);
    // Both first operations are explained, the reads at the end cannot be.
    assert!(unknown.checked_until.is_some_and(|until| (300..=6_015).contains(&until)), "{unknown:?}");
    let stopped = Limits { go_on: &|| false, ..Limits::default() };
    assert!(matches!(register(&ops, &stopped), Answer::Unknown(_)));
}

#[test]
fn a_long_history_of_repeated_values_gives_a_short_witness() {
    use Register::{Read, Write};
    let mut kinds: Vec<Register> = (0..2_000).flat_map(|at| [Write(at % 5 + 1), Read(at % 5 + 1)]).collect();
    kinds[3_001] = Read(3);
    let ops = in_sequence(&kinds);
    let Answer::Violated { witnesses, .. } = register(&ops, &Limits::default()) else { panic!("it holds") };
    assert!(witnesses[0].ops.len() <= 3, "{:?}", witnesses[0]);
    assert!(witnesses[0].ops.contains(&OpId(3_001)));
}

#[test]
fn sets_lose_fork_and_duplicate() {
    let add = |at: u64, element| Op::done(0, at, at + 5, Set::Add(element));
    let read = |at: u64, start, len| Op::done(1, at, at + 5, Set::Read { start, len });
    let says = |ops: &[Op<Set>], elements: &[u64]| found(&set(ops, elements)).0;
    let both = [add(0, 1), add(1, 2)];
    assert_eq!(says(&[both[0], both[1], read(10, 0, 1)], &[1]), ["lost-write"]);
    assert_eq!(says(&[both[0], both[1], read(3, 0, 1), read(4, 1, 1)], &[1, 2]), ["long-fork"]);
    assert_eq!(says(&[both[0], both[1], read(10, 0, 3)], &[1, 2, 2]), ["duplicate-effect"]);
    assert_eq!(says(&[both[0], both[1], read(10, 0, 1), read(20, 1, 2)], &[1, 1, 2]), ["stale-read"]);
    assert_eq!(says(&[read(0, 0, 1), add(10, 1)], &[1]), ["future-read"]);
}

#[test]
fn lists_lose_reorder_and_duplicate() {
    let append = |at: u64, element, length| Op::done(0, at, at + 5, List::Append { element, length });
    let read = |at: u64, start, len| Op::done(1, at, at + 5, List::Read { start, len });
    let says = |ops: &[Op<List>], elements: &[u64]| found(&list(ops, elements)).0;
    let both = [append(0, 1, 0), append(10, 2, 0)];
    assert_eq!(says(&[both[0], both[1], read(20, 0, 1)], &[1]), ["lost-write"]);
    assert_eq!(says(&[both[0], both[1], read(20, 0, 2)], &[2, 1]), ["incompatible-order"]);
    assert_eq!(says(&[both[0], both[1], read(20, 0, 3)], &[1, 2, 1]), ["duplicate-effect"]);
    assert_eq!(says(&[both[0], both[1], read(20, 0, 2), read(30, 2, 1)], &[1, 2, 1]), ["stale-read"; 2]);
    assert_eq!(says(&[append(0, 1, 1), append(10, 2, 1)], &[]), ["lost-write"]);
    assert_eq!(says(&[append(0, 1, 2)], &[]), ["gap"]);
    // An append that timed out may be what is missing.
    let lost_reply = Op::unknown(2, 0, List::Append { element: 9, length: 0 });
    assert_eq!(list(&[lost_reply, append(0, 1, 2)], &[]), Answer::Holds);
}

#[test]
fn counters_lose_repeat_and_skip() {
    let says = |ops: &[Op<Counter>]| found(&counter(ops, &Limits::default())).0;
    let add = |reply| Counter::Add { by: 1, reply };
    assert_eq!(says(&in_sequence(&[add(1), add(1)])), ["lost-write"]);
    assert_eq!(says(&in_sequence(&[add(1), add(2), Counter::Get(1)])), ["stale-read"]);
    assert_eq!(says(&in_sequence(&[add(SILENT), add(SILENT), Counter::Get(1)])), ["lost-write"]);
    assert_eq!(says(&in_sequence(&[add(2), add(SILENT)])), ["gap"]);
    assert_eq!(says(&in_sequence(&[add(1), Counter::Get(9)])), ["garbage-read"]);
}

#[test]
fn queues_lose_repeat_reorder_and_deny() {
    use Queue::{Dequeue, Empty, Enqueue};
    let says = |kinds: &[Queue]| found(&queue(&in_sequence(kinds), &Limits::default())).0;
    assert_eq!(says(&[Enqueue(1), Enqueue(2), Dequeue(2)]), ["lost-write"]);
    assert_eq!(says(&[Enqueue(1), Enqueue(2), Dequeue(2), Dequeue(1)]), ["misordered"]);
    assert_eq!(says(&[Enqueue(1), Dequeue(1), Dequeue(1)]), ["duplicate-effect"]);
    assert_eq!(says(&[Enqueue(1), Empty, Dequeue(1)]), ["false-empty"]);
    assert_eq!(says(&[Dequeue(4)]), ["garbage-read"]);
}

#[test]
fn two_holders_at_one_time_are_found_by_locks_and_leases() {
    use Lock::{Acquire, Release};
    let ops = in_sequence(&[Acquire(1), Acquire(2), Release(1), Release(2)]);
    assert_eq!(found(&lock(&ops, &Limits::default())).0, ["mutual-exclusion"]);
    let ops = in_sequence(&[Acquire(1), Release(1), Acquire(2), Release(2)]);
    assert_eq!(lock(&ops, &Limits::default()), Answer::Holds);

    let grant = |token, ttl_nanos| Lease::Grant { token, ttl_nanos };
    let ops = in_sequence(&[grant(1, 150), grant(2, 150)]);
    let exact = ClockError::default();
    assert_eq!(found(&lease(&ops, exact)).0, ["mutual-exclusion"]);
    // With clocks that may jump by 60 ns nobody is certain of a lease for 100 ns.
    assert_eq!(lease(&ops, ClockError { jump_nanos: 60, ..exact }), Answer::Holds);
    let ops = in_sequence(&[grant(1, 150), Lease::Release { token: 1 }, grant(2, 150)]);
    assert_eq!(lease(&ops, exact), Answer::Holds);
    assert_eq!(found(&lease(&in_sequence(&[grant(2, 0), grant(1, 0)]), exact)).0, ["token-order"]);
    let (new, old) = (Lease::Accepted { token: 2 }, Lease::Accepted { token: 1 });
    assert_eq!(found(&lease(&in_sequence(&[new, old]), exact)).0, ["fencing"]);
    assert_eq!(
        found(&lease(&in_sequence(&[Lease::Rejected { token: 1 }, new]), exact)).0,
        ["refused-without-cause"]
    );
}

#[test]
fn money_does_not_appear() {
    let rules = BankRules { initial: Some(&[10, 10]), overdraft: false };
    let read = Bank::Read { start: 0, accounts: 2 };
    let says = |balances: &[i64]| found(&totals(&in_sequence(&[read]), balances, rules)).0;
    assert_eq!(says(&[10, 11]), ["wrong-total"]);
    assert_eq!(says(&[21, -1]), ["negative-balance"]);
    assert_eq!(says(&[5, 15]), Vec::<&str>::new());
    // The sum is right, but nobody moved anything.
    assert!(matches!(
        bank(&in_sequence(&[read]), &[5, 15], rules, &Limits::default()),
        Answer::Violated { .. }
    ));
}

#[test]
fn sessions_see_time_go_forward() {
    use Session::{Read, Wrote};
    assert_eq!(found(&sessions(&in_sequence(&[Read(2), Read(1)]))), (vec!["non-monotonic-read"], vec![0, 1]));
    assert_eq!(found(&sessions(&in_sequence(&[Wrote(2), Read(1)]))), (vec!["read-your-writes"], vec![0, 1]));
    // Another process may be behind.
    let mut ops = in_sequence(&[Wrote(2), Read(1), Read(2)]);
    ops[1].process = 7;
    assert_eq!(sessions(&ops), Answer::Holds);
}

#[test]
fn a_value_ends_when_its_time_is_over_and_not_before() {
    use Expiring::{Read, Write};
    let exact = ClockError::default();
    let write = Op::done(0, 0, 10, Write { value: 1, ttl_nanos: 1_000 });
    let says = |at: u64, value: u64, clock: ClockError| {
        expiring(&[write, Op::done(0, at, at + 5, Read(value))], clock, &Limits::default()) == Answer::Holds
    };
    assert!(says(500, 1, exact) && !says(500, NIL, exact), "it lives");
    assert!(says(1_005, 1, exact) && says(1_005, NIL, exact), "it may have ended");
    assert!(!says(1_100, 1, exact) && says(1_100, NIL, exact), "it has ended");
    let unsure = ClockError { jump_nanos: 100, ..exact };
    assert!(says(1_100, 1, unsure) && says(950, NIL, unsure), "the clock may be wrong");
}

#[test]
fn keys_are_judged_on_all_threads_and_answered_in_their_order() {
    use Register::{Read, Write};
    let keys: Vec<Vec<Op<Register>>> =
        (0..50).map(|key| in_sequence(&[Write(1), Read(if key % 7 == 0 { 2 } else { 1 })])).collect();
    let sizes: Vec<u64> = (0..50).map(|key| key % 11).collect();
    let answers = keyed(&sizes, 3, |key| register(&keys[key], &Limits::default()) == Answer::Holds);
    assert_eq!(answers, (0..50).map(|key| key % 7 != 0).collect::<Vec<_>>());
    assert!(keyed(&[], 4, |_| ()).is_empty());
}

/// Once the number of an operation was also that of an element at the head of the queue, and the two cancelled out.
#[test]
fn regression_a_lost_pop_explains_an_empty_queue() {
    let ops = [
        Op::done(0, 4, 17, Queue::Empty),
        Op::unknown(1, 9, Queue::Enqueue(2)),
        Op::done(2, 12, 24, Queue::Enqueue(3)),
        Op::unknown(3, 19, Queue::Dequeue(0)),
        Op::done(5, 29, 38, Queue::Empty),
    ];
    assert_eq!(queue(&ops, &Limits::default()), Answer::Holds);
}

/// Once a refusal was said to need all writes of the larger token before it.
#[test]
fn regression_a_refusal_needs_only_one_write_with_a_larger_token() {
    let ops = [
        Op::done(0, 7, 22, Lease::Rejected { token: 0 }),
        Op::done(1, 19, 25, Lease::Accepted { token: 2 }),
        Op::done(2, 23, 27, Lease::Accepted { token: 2 }),
    ];
    assert_eq!(lease(&ops, ClockError::default()), Answer::Holds);
}

/// A chain of lost compare-and-sets whose first source never existed.
#[test]
fn regression_a_chain_of_unknown_wins_needs_its_first_value() {
    let ops = [
        Op::unknown(0, 0, Register::Cas { from: 5, to: 6 }),
        Op::unknown(1, 0, Register::Cas { from: 6, to: 7 }),
        Op::done(2, 50, 60, Register::Read(7)),
    ];
    let Answer::Violated { witnesses, .. } = register(&ops, &Limits::default()) else { panic!("it holds") };
    let Witness { class, ops: shown, .. } = &witnesses[0];
    assert_eq!((*class, shown.len()), ("garbage-read", 3));
}
