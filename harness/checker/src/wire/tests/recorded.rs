//! The bus of six servers of redis 7.0.15, whole, from their first meeting: a master (n3) is stopped for 6.5 s, its
//! replica is elected, and the master comes back. Recorded by `slotstorm run --seed 3 --duration 25 --sut
//! /usr/bin/redis-server`. What real servers do breaks no rule; one frame less or more does.

use crate::record::verdict::Wire;
use crate::record::{BusFrame, BusLine, BusWhat};
use crate::timeline::SECOND;
use crate::wire::{Fact, RULES, Rule, WireJudge, WireOptions};

pub const STOPPED: u64 = 4_904_715_420;
pub const RESUMED: u64 = 11_375_627_155;

/// The recording.
pub fn lines() -> Vec<BusLine> {
    let lines = include_str!("failover-7.0.15.jsonl").lines();
    lines.map(|text| serde_json::from_str(text).expect("a line of bus.jsonl")).collect()
}

/// The recording, each frame changed as `change` says.
fn judged(mut change: impl FnMut(&mut BusLine, &mut BusFrame)) -> Wire {
    let mut judge = WireJudge::new(WireOptions { node_timeout: 2 * SECOND });
    let mut facts =
        [(STOPPED, Fact::Paused { node: "n3".into() }), (RESUMED, Fact::Resumed { node: "n3".into() })]
            .into_iter()
            .peekable();
    for (at, mut line) in lines().into_iter().enumerate() {
        if let BusWhat::Frame(frame) = &line.what {
            let mut frame = frame.clone();
            change(&mut line, &mut frame);
            line.what = BusWhat::Frame(frame);
        }
        while let Some((time, fact)) = facts.next_if(|(time, _)| *time <= line.time) {
            judge.fact(time, &fact);
        }
        judge.on(at as u64 + 1, &line);
    }
    judge.finish()
}

fn broken(wire: &Wire) -> Vec<(&str, &str)> {
    wire.findings.iter().map(|finding| (finding.what.as_str(), finding.text.as_str())).collect()
}

#[test]
fn real_servers_keep_every_rule() {
    let wire = judged(|_, _| {});
    assert_eq!(broken(&wire), []);
    assert_eq!((wire.votes, wire.elections, wire.promotions, wire.failures), (2, 1, 1, 1));
    // No voter was started again.
    for rule in RULES.into_iter().filter(|rule| *rule != Rule::VoteKept) {
        let count = &wire.rules[rule.name()];
        assert!(count.judged > 0 && count.unknown == 0, "{}: {count:?}", rule.name());
    }
    assert!(wire.frames["ping"] > 700 && wire.bytes > 4_000_000, "{:?}", wire.frames);
}

#[test]
fn a_vote_less_is_a_promotion_without_a_majority() {
    let mut votes = 0;
    let wire = judged(|_, frame| {
        if frame.kind == "auth-ack" {
            votes += 1;
            if votes == 2 {
                frame.kind = "ping".into();
            }
        }
    });
    assert!(
        matches!(broken(&wire)[..], [("promotion-by-a-majority", text)] if text.contains("(a majority is 2)"))
    );
}

#[test]
fn a_request_less_is_a_vote_that_nobody_asked_for() {
    let wire = judged(|line, frame| {
        if frame.kind == "auth-req" && line.to == "n1" {
            frame.kind = "ping".into();
        }
    });
    assert!(matches!(broken(&wire)[..], [(rule, _)] if rule == Rule::Entitled.name()), "{:?}", broken(&wire));
}

#[test]
fn no_reports_make_a_fail_that_nobody_agreed_to() {
    // The recording is short: who counts as a master is looked up so far back that the cluster was still being made.
    let later = |time: &mut u64| *time += if *time > 3 * SECOND { 10 * SECOND } else { 0 };
    let wire = judged(|line, frame| {
        later(&mut line.time);
        frame.opened.iter_mut().for_each(later);
        frame.pfail.clear();
        frame.fail.clear();
    });
    assert!(
        matches!(broken(&wire)[..], [(rule, _)] if rule == Rule::Failure.name()),
        "{:?} {:?}",
        broken(&wire),
        wire.rules
    );
}

#[test]
fn no_fail_makes_votes_against_a_master_in_good_health() {
    let wire = judged(|_, frame| {
        frame.fail.clear();
        if frame.kind == "fail" {
            frame.kind = "ping".into();
        }
    });
    let rules: Vec<&str> = broken(&wire).into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(rules, [Rule::Entitled.name(); 2], "both voters");
}

#[test]
fn a_vote_in_an_epoch_before_the_last_takes_the_epoch_back() {
    let wire = judged(|_, frame| {
        if frame.kind == "auth-ack" {
            frame.current = Some(1);
        }
    });
    let back = broken(&wire).into_iter().filter(|(rule, _)| *rule == Rule::EpochsBack.name()).count();
    assert_eq!(back, 2, "{:?}", broken(&wire));
}

/// A master may take an epoch alone (a bump, an import), and may meet one that was elected: the protocol itself repairs that, so it
/// is counted and no finding.
#[test]
fn an_old_master_that_returns_with_the_winners_epoch_is_a_collision() {
    let wire = judged(|line, frame| {
        if line.from == "n3" && line.time > RESUMED && frame.of.is_some() {
            frame.of = Some(String::new());
        }
    });
    assert_eq!((broken(&wire), wire.collisions), (vec![], 1));
}
