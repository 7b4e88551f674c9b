//! Each workload: a good history holds, a bad one is violated in the right class.

use std::fmt::Write;

use super::calls;
use crate::answer::Answer;
use crate::foreign::{ForeignOptions, Format, Judgement, Workload, WorkloadError, judge};

fn options(workload: &str) -> ForeignOptions<'static> {
    ForeignOptions::of(Workload::parse(workload).expect("a known workload"))
}

/// `0 write 3` invokes, `0 ok write 3` completes, `0 ok add 1 -> 7` with a reply; one a line or parted by `;`.
fn script(text: &str) -> String {
    let mut lines = String::new();
    for line in text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(2, ' ');
        let process = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        let ended = ["ok ", "fail ", "info "].iter().find(|kind| rest.starts_with(**kind));
        let (kind, rest) = ended.map_or(("invoke", rest), |kind| (kind.trim(), &rest[kind.len()..]));
        let (rest, reply) = rest.split_once(" -> ").map_or((rest, None), |(rest, reply)| (rest, Some(reply)));
        let (f, value) = rest.split_once(' ').unwrap_or((rest, "nil"));
        let reply = reply.map_or(String::new(), |reply| format!(", :reply {reply}"));
        let time = lines.lines().count() * 1_000_000;
        let _ = writeln!(
            lines,
            "{{:type :{kind}, :process {process}, :f :{f}, :value {value}{reply}, :time {time}, :client {process}}}"
        );
    }
    lines
}

fn judged(text: &str, options: &ForeignOptions<'_>) -> Result<Judgement, WorkloadError> {
    let (calls, _) = calls(&script(text), Format::Edn);
    judge(&calls, options)
}

fn classes(workload: &str, text: &str) -> Vec<&'static str> {
    let judgement = judged(text, &options(workload)).expect("sound operations");
    let mut classes = Vec::new();
    for part in judgement.parts {
        match part.answer {
            Answer::Holds => {}
            Answer::Violated { witnesses, .. } => {
                classes.extend(witnesses.iter().map(|witness| witness.class));
            }
            Answer::Unknown(unknown) => panic!("{unknown:?}"),
        }
    }
    classes
}

#[test]
fn registers() {
    let good =
        "0 write 1; 0 ok write 1; 1 read; 1 ok read 1; 0 cas [1 2]; 0 info cas [1 2]; 1 read; 1 ok read 2";
    assert!(classes("cas-register", good).is_empty());
    let stale = "0 write 1; 0 ok write 1; 0 write 2; 0 ok write 2; 1 read; 1 ok read 1";
    assert_eq!(classes("register", stale).len(), 1);
    let words = "0 write :a; 0 ok write :a; 1 read; 1 ok read :b";
    assert_eq!(classes("register", words), ["garbage-read"]);
    assert!(
        classes("register", "1 read; 1 ok read nil; 0 write 1; 0 fail write 1; 1 read; 1 ok read nil")
            .is_empty()
    );
}

/// Porcupine's logs tell that a compare-and-set found something else; Jepsen's `:fail` only that nothing happened.
#[test]
fn failed_compare_and_set() {
    let text = "0 write 1; 0 ok write 1; 1 cas [1 2]; 1 fail cas [1 2]";
    assert!(classes("cas-register", text).is_empty());
    let telling = ForeignOptions { failed_cas_tells: true, ..options("cas-register") };
    let judgement = judged(text, &telling).expect("sound operations");
    assert!(matches!(judgement.parts[0].answer, Answer::Violated { .. }));
}

#[test]
fn keys_are_judged_apart() {
    let text = "0 write [:x 1]; 0 ok write [:x 1]; 0 write [:y 2]; 0 ok write [:y 2]; 1 read [:x nil]; 1 ok read [:x 1]; 1 read [:y nil]; 1 ok read [:y nil]";
    let keyed = ForeignOptions { keyed: true, threads: 2, ..options("register") };
    let judgement = judged(text, &keyed).expect("sound operations");
    let holds: Vec<_> =
        judgement.parts.iter().map(|part| (part.key.as_deref(), part.answer == Answer::Holds)).collect();
    assert_eq!(holds, [(Some(":x"), true), (Some(":y"), false)]);
    // Witnesses name operations of the whole history.
    let Answer::Violated { witnesses, .. } = &judgement.parts[1].answer else { panic!("{judgement:?}") };
    assert!(witnesses[0].ops.iter().all(|op| op.0 == 1 || op.0 == 3), "{witnesses:?}");
}

#[test]
fn sets() {
    let lost = "0 add 1; 0 ok add 1; 0 add 2; 0 info add 2; 1 read; 1 ok read #{2}";
    assert_eq!(classes("set", lost).len(), 1);
    let recovered = "0 add 1; 0 ok add 1; 1 read; 1 ok read []; 1 read; 1 ok read [1]";
    assert!(classes("set", recovered).is_empty());
    assert_eq!(classes("set-full", recovered).len(), 1);
    // Jepsen's own set-full lets an element that is there twice pass.
    assert_eq!(classes("set-full", "0 add 1; 0 ok add 1; 1 read; 1 ok read [1 1]").len(), 1);
}

#[test]
fn lists_counters_queues_locks_banks() {
    assert!(classes("list", "0 append 1; 0 ok append 1; 1 read; 1 ok read [1]").is_empty());
    assert_eq!(classes("list", "0 append 1; 0 ok append 1; 1 read; 1 ok read []").len(), 1);
    assert!(classes("counter", "0 add 2; 0 ok add 2; 0 add 3; 1 read; 1 ok read 5; 0 info add 3").is_empty());
    assert_eq!(classes("counter", "0 add 2; 0 ok add 2; 1 read; 1 ok read 1").len(), 1);
    assert!(classes("queue", "0 enqueue 1; 0 ok enqueue 1; 1 drain; 1 ok drain [1]").is_empty());
    let twice = "0 enqueue 1; 0 ok enqueue 1; 1 dequeue; 1 ok dequeue 1; 1 dequeue; 1 ok dequeue 1";
    assert_eq!(classes("queue", twice).len(), 1);
    let shared = "0 acquire; 0 ok acquire; 1 acquire; 1 ok acquire; 0 release; 0 ok release";
    assert_eq!(classes("lock", shared).len(), 1);
    let turns =
        "0 acquire; 0 ok acquire; 1 acquire; 0 release; 0 ok release; 1 ok acquire; 1 release; 1 ok release";
    assert!(classes("mutex", turns).is_empty());
    let bank = "0 read; 0 ok read {0 60, 1 40}; 1 transfer {:from 0, :to 1, :amount 5}; 1 ok transfer {:from 0, :to 1, :amount 5}; 0 read; 0 ok read {0 55, 1 45}";
    assert!(classes("bank", bank).is_empty());
    assert_eq!(classes("bank", &bank.replace("1 45", "1 44")), ["wrong-total"]);
}

/// What a reply adds to Jepsen's words.
#[test]
fn evidence_in_replies() {
    let text = "0 add 1; 0 ok add 1 -> 1; 0 add 1; 0 ok add 1 -> 1";
    assert_eq!(classes("counter", text).len(), 1);
    let text = "0 append 1; 0 ok append 1 -> 1; 0 append 2; 0 ok append 2 -> 1; 1 read; 1 ok read []";
    assert!(!classes("list", text).is_empty());
    let text = "0 write 1; 0 ok write 1; 0 cas [1 2]; 0 fail cas [1 2] -> 1";
    assert_eq!(classes("cas-register", text), ["lost-though-equal"]);
    let text = "0 cas [1 2]; 0 fail cas [1 2] -> nil; 0 write 1; 0 ok write 1";
    assert!(classes("cas-register", text).is_empty());
}

#[test]
fn elements_move_between_queues() {
    let queues = |text: &str| {
        let keyed = ForeignOptions { keyed: true, ..options("queue") };
        let parts = judged(text, &keyed).expect("sound operations").parts;
        parts.iter().map(|part| part.answer == Answer::Holds).collect::<Vec<_>>()
    };
    let moved = "0 enqueue [a 1]; 0 ok enqueue [a 1]; 0 move [a [b nil]]; 0 ok move [a [b 1]]
        1 dequeue [b nil]; 1 ok dequeue [b 1]; 1 dequeue [a nil]; 1 ok dequeue [a nil]";
    assert_eq!(queues(moved), [true, true]);
    // Nobody was told what the move took.
    assert_eq!(queues(&moved.replace("0 ok move", "0 info move")), [true, true]);
    assert_eq!(queues(&moved.replace("ok dequeue [b 1]", "ok dequeue [b nil]")), [true, false]);
    assert_eq!(queues(&moved.replace("ok move [a [b 1]]", "ok move [a [b nil]]")), [false, false]);
}

#[test]
fn a_queue_in_no_order() {
    let text = "0 enqueue 1; 0 ok enqueue 1; 0 enqueue 2; 0 ok enqueue 2; 1 dequeue; 1 ok dequeue 2
        0 dequeue; 0 info dequeue; 1 drain; 1 ok drain []";
    assert!(classes("total-queue", text).is_empty());
    assert_eq!(classes("queue", text).len(), 1);
    let lost = text.replace("0 dequeue; 0 info dequeue;", "");
    assert_eq!(classes("total-queue", &lost), ["false-empty"]);
    // Jepsen counts what comes out twice, and lets it pass.
    let twice = text.replace("drain []", "drain [1 1]");
    assert_eq!(classes("total-queue", &twice), ["duplicate-effect"]);
}

#[test]
fn accounts_are_more_than_their_total() {
    let bank = "0 read; 0 ok read {:a 60, :b 40}; 1 transfer {:from :b, :to :a, :amount 5}; 1 ok transfer {:from :b, :to :a, :amount 5}
        0 read; 0 ok read {:b 35, :a 65}";
    assert!(classes("bank", bank).is_empty());
    let stale = bank.replace("{:b 35, :a 65}", "{:b 40, :a 60}");
    assert_eq!(classes("bank", &stale), ["stale-read"]);
    assert!(classes("bank-totals", &stale).is_empty());
    let owes = bank.replace("amount 5", "amount 50").replace("{:b 35, :a 65}", "{:b -10, :a 110}");
    assert_eq!(classes("bank", &owes), ["negative-balance"]);
    let may_owe = ForeignOptions { negative_balances: true, ..options("bank") };
    assert_eq!(judged(&owes, &may_owe).expect("sound").parts[0].answer, Answer::Holds);
}

/// An event is a millisecond.
#[test]
fn times_to_live_are_judged_by_the_clock() {
    let lock = "0 acquire [1 5]; 0 ok acquire [1 5] -> 1; 1 acquire [2 5]; 1 ok acquire [2 5] -> 2";
    assert_eq!(classes("lease", lock), ["mutual-exclusion"]);
    let released = "0 acquire [1 5]; 0 ok acquire [1 5] -> 1; 0 release [1 1]; 0 ok release [1 1] -> 1
        1 acquire [2 5]; 1 ok acquire [2 5] -> 2; 0 guarded 1; 0 ok guarded 1 -> 1; 1 guarded 2; 1 ok guarded 2 -> 1
        0 guarded 1; 0 fail guarded 1 -> 0";
    assert!(classes("lease", released).is_empty());
    assert_eq!(classes("lease", &released.replace("fail guarded 1 -> 0", "ok guarded 1 -> 1")), ["fencing"]);
    let expiry = "0 write-for [7 4]; 0 ok write-for [7 4]; 0 read; 0 ok read 7; 1 read; 1 ok read nil; 1 read; 1 ok read nil";
    assert!(classes("expiry", expiry).is_empty());
    assert_eq!(classes("expiry", &expiry.replace("[7 4]", "[7 40]")).len(), 1);
    let untimed = judged(expiry, &options("expiry")).expect("times");
    assert_eq!(untimed.parts.len(), 1);
    let (mut calls, _) = calls(&script(expiry), Format::Edn);
    calls[1].times.0 = None;
    let error = judge(&calls, &options("expiry")).expect_err("no time").to_string();
    assert!(error.starts_with("line 3: expected the :time of each event"), "{error}");
}

#[test]
fn clients_of_replicas_do_not_go_back() {
    let text = "0 add 1; 0 ok add 1 -> 1; 0 add 1; 0 ok add 1 -> 2; 1 read-at-replica; 1 ok read-at-replica 2
        2 read-at-replica; 2 ok read-at-replica 1";
    assert!(classes("replica-reads", text).is_empty());
    assert_eq!(
        classes("replica-reads", &text.replace("        2 ", "        1 ").replace("; 2 ", "; 1 ")),
        ["non-monotonic-read"]
    );
    assert!(classes("counter", text).is_empty());
}

#[test]
fn transactions() {
    let text = |y: &str| {
        format!(
            "0 txn [[:append :x 1] [:r :y nil]]; 1 txn [[:append :x 2] [:append :y 1]]
            0 ok txn [[:append :x 1] [:r :y {y}]]; 1 ok txn [[:append :x 2] [:append :y 1]]
            2 txn [[:r :x nil]]; 2 ok txn [[:r :x [1 2]]]"
        )
    };
    assert!(classes("append", &text("[]")).is_empty());
    assert_eq!(classes("list-append", &text("[1]")), ["G1c"]);
    let judgement = judged(&text("[1]"), &options("append")).expect("sound operations");
    let Answer::Violated { witnesses, .. } = &judgement.parts[0].answer else { panic!("{judgement:?}") };
    assert!(
        witnesses[0].sentence.contains("T0 read 1 in :y, which T1 appended"),
        "{}",
        witnesses[0].sentence
    );
    let registers = "0 txn [[:w x 1] [:r y nil]]; 1 txn [[:w y 1] [:r x nil]]
        0 ok txn [[:w x 1] [:r y 1]]; 1 ok txn [[:w y 1] [:r x 1]]";
    assert_eq!(classes("rw-register", registers), ["G1c"]);
}

#[test]
fn what_does_not_fit_is_said_with_its_line() {
    let wrong = |workload: &str, text: &str| judged(text, &options(workload)).expect_err(text).to_string();
    assert_eq!(
        wrong("register", "0 enqueue 1"),
        "line 1: expected :read, :write, :swap or :cas, found :enqueue"
    );
    assert_eq!(
        wrong("append", "0 txn [[:r x]]; 0 ok txn [[:r x]]"),
        "line 1: expected a micro-operation [f key value], found [:r :x]"
    );
    assert_eq!(
        wrong("bank", "0 transfer {:from 1}; 0 ok transfer {:from 1}"),
        "line 1: expected a map with :from, :to and :amount, found {:from 1}"
    );
    assert_eq!(
        wrong("lock", "0 acquire [1 500]"),
        "line 1: expected a lock without a time to live (with one it is --workload lease), found [1 500]"
    );
}
