//! All checks of a run under its declared expectation: the verdict, its reason and its exit code.

use crate::check::{
    Index, availability,
    consistency::{self, ConsistencyOptions},
    convergence, elements, invariants, lost_writes,
    proofs::UNEXPLAINED,
    split_brain,
};
use crate::coverage::{Hit, Requirement, coverage, hits};
use crate::record::verdict::{Checks, Validity, Verdict};
use crate::record::{Expect, FaultEvent, FaultPhase, Nanos, Outcome, Phase, Record};
use crate::timeline::Timeline;

/// The version of `verdict.json`.
pub const SCHEMA: u32 = 1;

/// What the judge cannot read from the record.
#[derive(Clone, Debug, Default)]
pub struct JudgeOptions {
    /// The harness broke, or the run could not be made: exit code 3 unless a violation is proven.
    pub harness_error: Option<String>,
    /// The run was stopped early: unknown at best.
    pub interrupted: bool,
    /// Promotions that the storm was meant to cause; fewer are vacuous.
    pub required_failovers: u64,
    /// What the checks of consistency may spend.
    pub consistency: ConsistencyOptions,
}

/// Judges a record.
pub fn judge(record: &Record) -> Verdict {
    judge_with(record, &JudgeOptions::default())
}

/// Judges a record, with what its maker knows besides.
pub fn judge_with(record: &Record, options: &JudgeOptions) -> Verdict {
    judge_timeline(record, &Timeline::of(record), options)
}

/// The same, for callers that need the timeline, too.
pub fn judge_timeline(record: &Record, timeline: &Timeline, options: &JudgeOptions) -> Verdict {
    let index = Index::of(record);
    let lost = lost_writes::check(record, timeline, &index);
    let elements = elements::check(record, timeline, &index, &lost);
    let split_brain = split_brain::check(record, timeline);
    let invariants = invariants::check(record, timeline, &split_brain);
    let checks = Checks {
        lost_writes: lost.entry,
        elements,
        consistency: consistency::check(record, timeline, &index, &options.consistency),
        split_brain,
        convergence: convergence::check(record, timeline),
        availability: availability::check(record, timeline),
        invariants,
    };
    let hits = hits(record, timeline, &|event: &FaultEvent| took_effect(record, event));
    let mut verdict = Verdict {
        schema: SCHEMA,
        seed: record.info.seed,
        sut: record.info.sut.clone(),
        expect: record.info.expect,
        acknowledged: record.ops.iter().filter(|op| op.outcome == Outcome::Ok).count() as u64,
        failovers: timeline.promotions.len() as u64,
        vacuous_faults: vacuous_faults(record),
        coverage: coverage(&hits),
        checks,
        ..Verdict::default()
    };
    let mut broken = options.harness_error.clone();
    if let Some(element) = index.written_twice.first() {
        broken.get_or_insert_with(|| format!("element {element} was written more than once"));
    }
    let vacuous = vacuity(record, timeline, options).or_else(|| unmet(record, &hits, verdict.failovers));
    decide(&mut verdict, broken, vacuous);
    verdict
}

/// Rank: 1 over 3 over 2 over 0.
fn decide(verdict: &mut Verdict, broken: Option<String>, vacuous: Option<String>) {
    let entries = entries(&verdict.checks);
    let with = |wanted: Validity| {
        let reasons: Vec<String> = entries
            .iter()
            .filter(|(_, valid, _)| *valid == wanted)
            .map(|(name, _, reason)| format!("{name}: {reason}"))
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    };
    let (valid, exit_code, reason) = if let Some(reasons) = with(Validity::Invalid) {
        (Validity::Invalid, 1, format!("Invalid. {reasons}."))
    } else if let Some(broken) = broken {
        (Validity::Unknown, 3, format!("The run could not be made: {broken}."))
    } else if let Some(vacuous) = vacuous {
        (Validity::Unknown, 2, format!("Unknown: {vacuous}."))
    } else if let Some(reasons) = with(Validity::Unknown) {
        (Validity::Unknown, 2, format!("Unknown. {reasons}."))
    } else {
        (Validity::Valid, 0, praise(verdict))
    };
    verdict.valid = valid;
    verdict.exit_code = exit_code;
    verdict.reason = reason;
}

fn entries(checks: &Checks) -> [(&'static str, Validity, &str); 7] {
    [
        ("lost writes", checks.lost_writes.valid, &checks.lost_writes.reason),
        ("elements", checks.elements.valid, &checks.elements.reason),
        ("consistency", checks.consistency.valid, &checks.consistency.reason),
        ("split-brain", checks.split_brain.valid, &checks.split_brain.reason),
        ("invariants", checks.invariants.valid, &checks.invariants.reason),
        ("convergence", checks.convergence.valid, &checks.convergence.reason),
        ("availability", checks.availability.valid, &checks.availability.reason),
    ]
}

/// The sentence of a valid run.
fn praise(verdict: &Verdict) -> String {
    let lost = &verdict.checks.lost_writes;
    let acked = verdict.acknowledged;
    let failovers = count(verdict.failovers, "failover");
    if lost.lost == 0 {
        return format!("Valid: {acked} acknowledged operations, {failovers}, no write lost.");
    }
    let classes: Vec<String> = lost
        .by_class
        .iter()
        .filter(|(class, number)| **number > 0 && *class != UNEXPLAINED)
        .map(|(class, number)| format!("{class} {number}"))
        .collect();
    let allows = match verdict.expect {
        Expect::Wait => "none of them protected by WAIT",
        Expect::Redis | Expect::Strict => "as Redis Cluster documents",
    };
    format!(
        "Valid: {acked} acknowledged operations, {failovers}, {} lost inside documented windows ({}), {allows}.",
        count(lost.lost, "write"),
        classes.join(", ")
    )
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What had to happen and did not.
fn unmet(record: &Record, hits: &[Hit], failovers: u64) -> Option<String> {
    record.info.require.iter().find_map(|text| {
        let required: Requirement = match text.parse() {
            Ok(required) => required,
            Err(why) => return Some(why),
        };
        let seen = required.missed(hits, failovers)?;
        Some(format!("vacuous: {required} were required, and {seen} happened"))
    })
}

/// Why the run shows nothing.
fn vacuity(record: &Record, timeline: &Timeline, options: &JudgeOptions) -> Option<String> {
    if options.interrupted || record.phase(Phase::End).is_none() {
        return Some("the run did not come to its end".into());
    }
    if !record.ops.iter().any(|op| op.outcome == Outcome::Ok && !op.is_final) {
        return Some("no operation was acknowledged".into());
    }
    if (timeline.promotions.len() as u64) < options.required_failovers {
        return Some(format!(
            "the storm was meant to cause {} failovers, and caused {}",
            options.required_failovers,
            timeline.promotions.len()
        ));
    }
    if record.info.faults_planned == Some(0) {
        return None; // a calm run
    }
    let effective: Vec<Nanos> =
        record.faults.iter().filter(|event| took_effect(record, event)).map(|event| event.time).collect();
    if effective.is_empty() {
        return Some("no fault took effect".into());
    }
    let acknowledged_during = effective.iter().any(|&from| {
        // A command is over as soon as it is said; what it set off goes on.
        let to = fault_end(record, from).saturating_add(timeline.node_timeout());
        let by_clients = record.ops.iter().filter(|op| op.outcome == Outcome::Ok && !op.is_final);
        by_clients.filter_map(|op| op.completed).any(|at| from <= at && at <= to)
    });
    (!acknowledged_during).then(|| "nothing was acknowledged during any fault".into())
}

fn took_effect(record: &Record, event: &FaultEvent) -> bool {
    let step = &event.step;
    step.phase == FaultPhase::Start
        && step.fault.is_some()
        && !step.actions.is_empty()
        && step.vacuous.is_none()
        && end_of(record, event).is_none_or(|end| !touched_nothing(end))
}

/// The step that undoes this one.
fn end_of<'a>(record: &'a Record, start: &FaultEvent) -> Option<&'a FaultEvent> {
    record.faults.iter().find(|event| {
        event.step.phase == FaultPhase::End
            && event.step.fault == start.step.fault
            && event.time >= start.time
    })
}

fn touched_nothing(end: &FaultEvent) -> bool {
    let touched = |t: crate::record::Touched| t.passed_bytes + t.held_bytes + t.connects + t.resets > 0;
    end.step.vacuous.is_some() || end.step.touched.is_some_and(|t| !touched(t))
}

fn fault_end(record: &Record, from: Nanos) -> Nanos {
    let start =
        record.faults.iter().find(|event| event.time == from && event.step.phase == FaultPhase::Start);
    start.and_then(|start| end_of(record, start)).map_or_else(|| record.working_time().1, |end| end.time)
}

/// One line for each fault that touched nothing.
fn vacuous_faults(record: &Record) -> Vec<String> {
    record
        .faults
        .iter()
        .filter(|event| {
            event.step.vacuous.is_some() || (event.step.phase == FaultPhase::End && touched_nothing(event))
        })
        .map(|event| {
            let number = event.step.fault.map(|fault| format!("fault {fault}, ")).unwrap_or_default();
            let why = event.step.vacuous.as_deref().unwrap_or("its links carried nothing while it held");
            format!("{number}{}: {why}", event.step.name)
        })
        .collect()
}
