//! Who is a member. A node that an operator told to forget another takes no word about it from anybody for a minute
//! (`nodes_black_list`, cluster-blacklist-ttl): it does not take it back by itself (redis#3948).

use super::rules::{Broken, Report};
use crate::record::{Action, Nanos, Phase, Record};
use crate::timeline::{SECOND, seconds};

/// Who was forgotten stays forgotten until it is met again.
pub const FORGOTTEN: &str = "forgotten-stays-forgotten";

/// Half of the minute: neither side's clock has to be right.
const STAYS_AWAY: Nanos = 30 * SECOND;

/// Looks at the tables of those who were told to forget somebody, until anybody is met or other work may have it back.
pub(super) fn check(record: &Record) -> Report {
    let mut report = Report::default();
    for event in &record.faults {
        for action in &event.step.actions {
            let Some((node, id)) = told_to_forget(action) else { continue };
            let Some(gone) =
                record.views.iter().find(|view| view.seen.as_ref().is_some_and(|it| it.id == id))
            else {
                continue;
            };
            let (gone, since) = (gone.node.as_str(), event.time);
            let until = (since + STAYS_AWAY).min(met_again(record, since));
            let asked = record.views.iter().filter(|view| view.node == node && view.sent >= since);
            let mut told = asked
                .take_while(|view| view.time <= until)
                .filter_map(|view| Some((view, view.seen.as_ref()?)));
            let Some((first, seen)) = told.next() else { continue };
            report.watch(FORGOTTEN);
            // What it is told is kept in memory only.
            let process = seen.run_id.clone();
            let same = told.take_while(|(_, seen)| seen.run_id == process);
            let back = std::iter::once((first, seen))
                .chain(same)
                .find(|(_, seen)| seen.table.iter().any(|row| row.node == gone));
            if let Some((view, _)) = back {
                let text = format!(
                    "{node} was told to forget {gone} at {}, and had it in its table again by {}, though nobody had met it",
                    seconds(since),
                    seconds(view.time)
                );
                let nodes = record.node_id(node).into_iter().collect();
                report.broken.push(Broken { rule: FORGOTTEN, text, span: (since, view.time), nodes });
            }
        }
    }
    report
}

/// Who agreed to forget whom (by id).
fn told_to_forget(action: &Action) -> Option<(&str, &str)> {
    let Action::Asked { node, command, answer } = action else { return None };
    let id = command.strip_prefix("CLUSTER FORGET ")?;
    (answer == "OK").then_some((node.as_str(), id))
}

/// When, after `since`, somebody was met, or work began or ended that meets nodes; the end of the storm at the latest.
fn met_again(record: &Record, since: Nanos) -> Nanos {
    let meets = |action: &Action| match action {
        Action::Asked { command, .. } => command.starts_with("CLUSTER MEET"),
        Action::Work { .. } => true,
        _ => false,
    };
    let later = record.faults.iter().filter(|event| event.time > since);
    let met = later.filter(|event| event.step.actions.iter().any(meets)).map(|event| event.time).min();
    met.unwrap_or(Nanos::MAX).min(record.phase(Phase::Converge).unwrap_or(record.end))
}
