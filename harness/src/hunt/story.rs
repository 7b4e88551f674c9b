//! What happened in a failing storm, in words: the faults, the votes and promotions, and what the checks found, in the
//! order of time; few enough lines to read.

use std::collections::BTreeMap;

use slotstorm_checker::check::proofs::UNEXPLAINED;
use slotstorm_checker::record::verdict::{Anomaly, Validity, Verdict};
use slotstorm_checker::record::{Action, BusWhat, FaultPhase, Nanos, Record};
use slotstorm_checker::timeline::Timeline;

/// Lines of a story; what is most telling stays if there are more.
const MAX_LINES: usize = 60;
/// Findings of one check in it.
const TOLD: usize = 3;

struct Line {
    at: Nanos,
    /// Smaller is more telling.
    rank: u8,
    text: String,
}

/// Tells it, a line each.
pub fn tell(record: &Record, verdict: &Verdict) -> Vec<String> {
    let mut lines = Vec::new();
    faults(record, &mut lines);
    bus(record, &mut lines);
    promotions(record, &mut lines);
    findings(verdict, &mut lines);
    lines.sort_by_key(|line| line.at);
    let mut worst = u8::MAX;
    while lines.iter().filter(|line| line.rank <= worst).count() > MAX_LINES && worst > 0 {
        worst = lines.iter().map(|line| line.rank).filter(|rank| *rank < worst).max().unwrap_or(0);
    }
    let told = lines.iter().filter(|line| line.rank <= worst).take(2 * MAX_LINES);
    told.map(|line| format!("{:>9.3} s  {}", line.at as f64 / 1e9, line.text)).collect()
}

fn faults(record: &Record, lines: &mut Vec<Line>) {
    for event in &record.faults {
        let step = &event.step;
        let phase = if step.phase == FaultPhase::Start { "begins" } else { "ends" };
        let deeds: Vec<String> = step.actions.iter().filter_map(deed).collect();
        let mut text = format!("{} {phase}", step.name);
        if !step.note.is_empty() {
            text = format!("{text} ({})", step.note);
        }
        if !deeds.is_empty() {
            text = format!("{text}: {}", deeds.join(", "));
        }
        lines.push(Line { at: event.time, rank: 1, text });
    }
}

fn deed(action: &Action) -> Option<String> {
    match action {
        Action::Killed { node, signal } => Some(format!("{node} gets SIG{signal}")),
        Action::Paused { node } => Some(format!("{node} is stopped")),
        Action::Resumed { node } => Some(format!("{node} goes on")),
        Action::Started { node, .. } => Some(format!("{node} starts")),
        Action::Wiped { node } => Some(format!("{node} loses its data")),
        Action::Exited { node, status } => Some(format!("{node} ended: {status}")),
        // Too many to read; the fault's own words say whom it is about.
        _ => None,
    }
}

/// Requests, votes and FAILs, once per sender and epoch.
fn bus(record: &Record, lines: &mut Vec<Line>) {
    let names: BTreeMap<&str, &str> =
        record.info.nodes.iter().map(|node| (node.id.as_str(), node.name.as_str())).collect();
    let mut epochs: BTreeMap<(String, u64, bool), u64> = BTreeMap::new();
    let mut said = std::collections::BTreeSet::new();
    for (number, line) in (1..).zip(record.bus.iter().flatten()) {
        let BusWhat::Frame(frame) = &line.what else { continue };
        // A header says only what has changed on its connection.
        let current = epochs.entry((line.from.clone(), line.conn, true)).or_default();
        if let Some(epoch) = frame.current {
            *current = epoch;
        }
        let epoch = *current;
        let from = &line.from;
        let text = match frame.kind.as_str() {
            "auth-req" => format!("{from} asks for votes in epoch {epoch}"),
            "auth-ack" => format!("{from} votes for {} in epoch {epoch}", line.to),
            "fail" => {
                let subject = frame.subject.as_deref().unwrap_or_default();
                format!("{from} declares {} failed", names.get(subject).unwrap_or(&subject))
            }
            "mfstart" => format!("{from} asks {} for a manual failover", line.to),
            _ => continue,
        };
        if said.insert(text.clone()) {
            lines.push(Line { at: line.time, rank: 2, text: format!("{text} (bus.jsonl:{number})") });
        }
    }
}

fn promotions(record: &Record, lines: &mut Vec<Line>) {
    let timeline = Timeline::of(record);
    for promotion in &timeline.promotions {
        let takeover = timeline.takeover(record, promotion);
        let text =
            format!("{} is master in place of {}, epoch {}", takeover.node, takeover.from, takeover.epoch);
        lines.push(Line { at: takeover.time, rank: 1, text });
    }
}

fn findings(verdict: &Verdict, lines: &mut Vec<Line>) {
    let checks = &verdict.checks;
    let mut found = |at: Nanos, text: String| {
        lines.push(Line { at, rank: 0, text: format!("FOUND {text}") });
    };
    for (check, findings) in [
        ("invariants", &checks.invariants.violations),
        ("elements", &checks.elements.findings),
        ("convergence", &checks.convergence.findings),
    ] {
        // Told where it is complete: behind what led to it.
        let told = findings.iter().filter(|finding| !finding.excused).take(TOLD);
        told.for_each(|one| found(one.to, format!("{check}: {}: {}", one.what, one.text)));
    }
    for anomaly in checks.consistency.findings.iter().filter(|anomaly| !anomaly.excused).take(TOLD) {
        let Anomaly { what, text, object, key, .. } = anomaly;
        found(anomaly.from, format!("consistency: {what} ({object} {key}): {text}"));
    }
    for overlap in checks.split_brain.lasting.iter().take(TOLD) {
        let text = format!(
            "split-brain: {} (epoch {}) and {} (epoch {}) both master until {:.3} s",
            overlap.nodes.0,
            overlap.epochs.0,
            overlap.nodes.1,
            overlap.epochs.1,
            overlap.to as f64 / 1e9
        );
        found(overlap.from, text);
    }
    // Where some are unexplained, the documented ones are none of the story.
    let lost = &checks.lost_writes;
    let unexplained = lost.losses.iter().any(|loss| loss.class == UNEXPLAINED);
    let counts = |class: &str| class == UNEXPLAINED || !unexplained;
    let failed = lost.valid == Validity::Invalid;
    for loss in lost.losses.iter().filter(|loss| failed && counts(&loss.class)).take(TOLD) {
        let text = format!(
            "lost-writes: e{} of {} (slot {}), acknowledged by {}: {}: {}",
            loss.element, loss.key, loss.slot, loss.acked_by, loss.class, loss.proof
        );
        found(loss.acked, text);
    }
    if checks.availability.valid == Validity::Invalid {
        let longest = checks
            .availability
            .shards
            .iter()
            .flat_map(|shard| {
                shard.outages.iter().map(move |outage| (outage.1 - outage.0, outage.0, shard.shard))
            })
            .max();
        if let Some((lasted, at, shard)) = longest {
            found(at, format!("availability: shard {shard} answers nobody for {:.3} s", lasted as f64 / 1e9));
        }
    }
}
