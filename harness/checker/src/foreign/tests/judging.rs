//! Each workload: a good history holds, a bad one is violated in the right class.

use std::fmt::Write;

use super::calls;
use crate::answer::Answer;
use crate::foreign::{ForeignOptions, Format, Judgement, Workload, WorkloadError, judge};
use crate::linear::Limits;
use crate::txn::Model;

fn options(workload: &str) -> ForeignOptions<'static> {
    ForeignOptions {
        workload: Workload::parse(workload).expect("a known workload"),
        keyed: false,
        failed_cas_tells: false,
        model: Model::STRICT_SERIALIZABLE,
        limits: Limits::default(),
        threads: 1,
    }
}

/// `0 write 3` invokes, `0 ok write 3` completes; one a line or parted by `;`.
fn script(text: &str) -> String {
    let mut lines = String::new();
    for line in text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(2, ' ');
        let process = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        let ended = ["ok ", "fail ", "info "].iter().find(|kind| rest.starts_with(**kind));
        let (kind, rest) = ended.map_or(("invoke", rest), |kind| (kind.trim(), &rest[kind.len()..]));
        let (f, value) = rest.split_once(' ').unwrap_or((rest, "nil"));
        let _ = writeln!(lines, "{{:type :{kind}, :process {process}, :f :{f}, :value {value}}}");
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
}
