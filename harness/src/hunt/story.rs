//! What happened in a failing storm, in words: the faults, the votes and promotions, and what the checks found, in the
//! order of time; few enough lines to read.

use std::collections::BTreeMap;

use slotstorm_checker::record::verdict::{Finding, Verdict};
use slotstorm_checker::record::{Action, BusWhat, FaultPhase, Nanos, Record};
use slotstorm_checker::timeline::Timeline;

/// Lines of a story; what is most telling stays if there are more.
const MAX_LINES: usize = 60;

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
    let mut finding = |check: &str, finding: &Finding| {
        if !finding.excused {
            let text = format!("FOUND {check}: {}: {}", finding.what, finding.text);
            lines.push(Line { at: finding.from, rank: 0, text });
        }
    };
    checks.invariants.violations.iter().take(5).for_each(|one| finding("invariants", one));
    checks.elements.findings.iter().take(5).for_each(|one| finding("elements", one));
    checks.convergence.findings.iter().take(5).for_each(|one| finding("convergence", one));
    for overlap in checks.split_brain.lasting.iter().take(3) {
        let text = format!(
            "FOUND split brain: {} (epoch {}) and {} (epoch {}) both master until {:.3} s",
            overlap.nodes.0,
            overlap.epochs.0,
            overlap.nodes.1,
            overlap.epochs.1,
            overlap.to as f64 / 1e9
        );
        lines.push(Line { at: overlap.from, rank: 0, text });
    }
    for loss in checks.lost_writes.losses.iter().filter(|loss| loss.class == "unexplained").take(5) {
        let text = format!(
            "FOUND lost write: e{} of {} (slot {}), acknowledged by {}: {}",
            loss.element, loss.key, loss.slot, loss.acked_by, loss.proof
        );
        lines.push(Line { at: loss.acked, rank: 0, text });
    }
}
