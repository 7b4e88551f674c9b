//! Events in place of times. In the simulator a time is exact; on real processes no election comes at the same moment
//! twice. So a fault that came after a promotion, a FAIL or a vote which an earlier fault had caused waits for that
//! there, and comes as long after it as it did when it was found.

use slotstorm_checker::record::{BusWhat, FaultPhase, Nanos, Record};
use slotstorm_checker::timeline::Timeline;

use crate::plan::{Fault, Plan, Planned, Span, When};

/// What is never waited for less than, in nanoseconds: a trigger without delay holds its message back, which the time
/// in its place did not.
const LEAST_DELAY: Nanos = 1_000_000;

/// The fault at this place of the schedule with a moment in place of its time: the most telling one first; none if it
/// has no time, is the first, or nothing happened between it and the one before.
pub fn in_place_of_time(plan: &Plan, record: &Record, at: usize) -> Vec<Fault> {
    let fault = &plan.faults[at];
    let Some(begin) = begin_of(plan, record, fault) else { return Vec::new() };
    // The last one before it that has a time of its own: from then on events count.
    let before = plan
        .faults
        .iter()
        .filter(|other| !std::ptr::eq(*other, fault) && matches!(other.when, When::At(_)))
        .filter_map(|other| Some((planned(plan, other)?.at, begin_of(plan, record, other)?)))
        .filter(|(_, began)| *began < begin)
        .max();
    let Some((after, armed)) = before else { return Vec::new() };
    let mut moments: Vec<(u8, Nanos, String)> = Vec::new();
    let mut add = |rank, times: Vec<Nanos>, what: &str| {
        let times: Vec<Nanos> =
            times.into_iter().filter(|time| *time >= armed && time + LEAST_DELAY <= begin).collect();
        if let Some(last) = times.last() {
            let nth = times.len();
            let ordinal = match nth {
                1 => String::new(),
                2 => "2nd ".into(),
                3 => "3rd ".into(),
                nth => format!("{nth}th "),
            };
            moments.push((rank, *last, format!("{ordinal}{what}")));
        }
    };
    add(0, promotions(record), "promotion");
    add(1, messages(record, "auth-ack"), "auth-ack");
    add(2, messages(record, "fail").into_iter().take(1).collect(), "failure");
    // The latest tells most; of two that came together, the rarer one.
    moments.sort_by_key(|(rank, time, _)| ((begin - time) / 100_000_000, *rank));
    let with = |(_, time, what): (u8, Nanos, String)| {
        let trigger = what.parse().ok()?;
        let delay = Span::Secs(((begin - time) as f64 / 1e6).round() / 1e3);
        let when = When::On { trigger, delay, after: Span::Secs(after as f64 / 1e9), times: 1 };
        Some(Fault { when, ..fault.clone() })
    };
    moments.into_iter().filter_map(with).collect()
}

fn planned(plan: &Plan, fault: &Fault) -> Option<Planned> {
    matches!(fault.when, When::At(_)).then(|| plan.schedule().into_iter().find(|one| one.fault == *fault))?
}

/// When it began in the run.
fn begin_of(plan: &Plan, record: &Record, fault: &Fault) -> Option<Nanos> {
    let number = planned(plan, fault)?.number;
    let starts = |step: &slotstorm_checker::record::FaultStep| {
        step.fault == Some(number) && step.phase == FaultPhase::Start && step.vacuous.is_none()
    };
    record.faults.iter().find(|event| starts(&event.step)).map(|event| event.time)
}

/// When a promoted node first said on the bus that it is a master.
fn promotions(record: &Record) -> Vec<Nanos> {
    let said = |node: &str, since: Nanos| {
        let lines = record.bus.iter().flatten().filter(|line| line.from == node && line.time >= since);
        let mut masters = lines
            .filter(|line| matches!(&line.what, BusWhat::Frame(frame) if frame.of.as_deref() == Some("")));
        masters.next().map(|line| line.time)
    };
    let promotions = Timeline::of(record).promotions;
    let mut times: Vec<Nanos> = promotions
        .iter()
        .filter_map(|promotion| said(record.node_name(promotion.node), promotion.earliest))
        .collect();
    times.sort_unstable();
    times
}

fn messages(record: &Record, kind: &str) -> Vec<Nanos> {
    let of_kind = |what: &BusWhat| matches!(what, BusWhat::Frame(frame) if frame.kind == kind);
    record.bus.iter().flatten().filter(|line| of_kind(&line.what)).map(|line| line.time).collect()
}
