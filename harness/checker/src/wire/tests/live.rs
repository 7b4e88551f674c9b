//! While a storm runs its facts come late and in pieces; what is found then is what the record shows.

use super::recorded::{RESUMED, STOPPED, lines};
use crate::record::verdict::Wire;
use crate::record::{Action, BusLine, BusWhat, FailoverMode, MESSAGES, Nanos};
use crate::timeline::{MILLI, SECOND};
use crate::wire::{Fact, LiveJudge, Rule, StormFacts, WireOptions};

const OPTIONS: WireOptions = WireOptions { node_timeout: 2 * SECOND };

fn storm() -> [(Nanos, Fact); 2] {
    [(STOPPED, Fact::Paused { node: "n3".into() }), (RESUMED, Fact::Resumed { node: "n3".into() })]
}

/// All facts are known before the first line, as they are of a stored run.
fn stored(lines: &[BusLine]) -> Wire {
    let mut judge = LiveJudge::new(OPTIONS);
    for (time, fact) in storm() {
        judge.fact(time, fact);
    }
    for line in lines {
        judge.line(line);
    }
    judge.finish().0
}

/// Facts arrive `late` after they happened, and the history is known to be whole `late` ago. Answers also when each
/// finding was told.
fn live(lines: &[BusLine], late: Nanos) -> (Wire, Vec<(Nanos, String)>) {
    let mut judge = LiveJudge::new(OPTIONS);
    let mut facts = storm().into_iter().peekable();
    let mut told = Vec::new();
    for line in lines {
        judge.line(line);
        let known = line.time.saturating_sub(late);
        while let Some((time, fact)) = facts.next_if(|(time, _)| *time <= known) {
            judge.fact(time, fact);
        }
        told.extend(judge.known_up_to(known).into_iter().map(|finding| (line.time, finding.what)));
    }
    facts.for_each(|(time, fact)| judge.fact(time, fact));
    let (wire, hasty) = judge.finish();
    assert_eq!(hasty, 0);
    (wire, told)
}

fn same(live: &Wire, stored: &Wire) {
    assert_eq!(live.rules, stored.rules);
    let texts = |wire: &Wire| wire.findings.iter().map(|finding| finding.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(live), texts(stored));
    assert_eq!(
        (live.votes, live.elections, live.promotions, live.failures),
        (stored.votes, stored.elections, stored.promotions, stored.failures)
    );
}

#[test]
fn what_is_judged_as_it_goes_is_what_the_record_says() {
    for late in [0, 50 * MILLI, 3 * SECOND, 100 * SECOND] {
        same(&live(&lines(), late).0, &stored(&lines()));
    }
}

#[test]
fn a_broken_rule_is_told_soon_after_it_happened() {
    let mut lines = lines();
    let asked = lines
        .iter_mut()
        .find_map(|line| match &mut line.what {
            BusWhat::Frame(frame) if frame.kind == "auth-req" && line.to == "n1" => Some((line.time, frame)),
            _ => None,
        })
        .map(|(time, frame)| {
            frame.kind = "ping".into();
            time
        })
        .expect("n1 was asked for its vote");
    let (wire, told) = live(&lines, 300 * MILLI);
    same(&wire, &stored(&lines));
    let [(at, rule)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(rule, Rule::Entitled.name());
    assert!(*at < asked + SECOND, "told at {at}, asked at {asked}");
}

#[test]
fn a_promotion_without_votes_is_told_when_no_takeover_can_explain_it_any_more() {
    let mut lines = lines();
    for line in &mut lines {
        if let BusWhat::Frame(frame) = &mut line.what
            && frame.kind == "auth-ack"
        {
            frame.kind = "ping".into();
        }
    }
    let last = lines.last().unwrap().time;
    let (wire, told) = live(&lines, 300 * MILLI);
    same(&wire, &stored(&lines));
    let promotion = told.iter().find(|(_, rule)| rule == Rule::Promotion.name());
    assert!(promotion.is_some_and(|(at, _)| *at < last), "{told:?}");
}

#[test]
fn a_storm_is_told_as_what_it_means_for_the_bus() {
    let bus = || vec!["client".to_owned(), "bus".to_owned()];
    let (n1, n2) = (|| "n1".to_owned(), || "n2".to_owned());
    let cut = |policy: &str| Action::Cut { from: n1(), to: n2(), planes: bus(), policy: policy.into() };
    let actions = [
        Action::Paused { node: n1() },
        Action::Killed { node: n1(), signal: "KILL".into() },
        Action::Exited { node: n1(), status: "signal 9".into() },
        cut("blackhole"),
        cut("reset"),
        cut("delay 100"),
        Action::Healed { from: n1(), to: n2(), planes: vec!["client".into()] },
        Action::Cut {
            from: n1(),
            to: n2(),
            planes: vec![MESSAGES.to_owned()],
            policy: "messages: drop".into(),
        },
        Action::Healed { from: n1(), to: n2(), planes: bus() },
        Action::Healed { from: n1(), to: n2(), planes: vec![MESSAGES.to_owned()] },
        Action::ManualFailover { node: n2(), mode: FailoverMode::Force },
        Action::ManualFailover { node: n2(), mode: FailoverMode::Takeover },
    ];
    let (mut storm, mut facts) = (StormFacts::default(), Vec::new());
    for action in &actions {
        storm.action(action, |fact| facts.push(fact));
    }
    let (held, healed) = (Fact::Cut { from: n1(), to: n2() }, Fact::Healed { from: n1(), to: n2() });
    assert_eq!(
        facts,
        [
            Fact::Paused { node: n1() },
            Fact::Ended { node: n1() },
            held.clone(),
            healed.clone(),
            held.clone(),
            held,
            healed,
            Fact::Takeover { node: n2() },
        ]
    );
    assert_eq!(storm.stall(0, 50 * MILLI), None);
    assert_eq!(storm.stall(SECOND, 2 * SECOND), Some(Fact::Stalled { since: SECOND }));
}

#[test]
fn a_server_that_counts_its_epoch_up_without_end_does_not_fill_the_memory() {
    let recorded = lines();
    let template = recorded
        .iter()
        .find(|line| match &line.what {
            BusWhat::Frame(frame) => {
                frame.opened.is_some() && frame.of.as_deref() == Some("") && frame.slots.is_some()
            }
            _ => false,
        })
        .expect("someone claims slots");
    let mut judge = LiveJudge::new(OPTIONS);
    for turn in 0..40_000_u64 {
        let mut line = template.clone();
        line.time = turn * 10 * MILLI;
        line.conn = turn / 10;
        let BusWhat::Frame(frame) = &mut line.what else { unreachable!("chosen above") };
        (frame.current, frame.config, frame.slots) = (Some(turn), Some(turn), Some(vec![(0, 5460)]));
        judge.line(&line);
        judge.known_up_to(line.time);
    }
    let kept = judge.size();
    assert!(kept < 10_000, "{kept} entries are kept");
    let (wire, _) = judge.finish();
    let judged = wire.rules[Rule::EqualEpochs.name()].judged;
    assert!(judged > 30_000, "{judged} claims were judged");
}
