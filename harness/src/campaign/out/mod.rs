//! A night's result in every shape that somebody reads: terminal, JSON lines, JUnit, Markdown, pictures, a latency log, a
//! page. All are made from the summary and the outcomes, and can be made again.

mod junit;
mod latency;
mod lines;
mod markdown;
mod page;
mod pictures;
mod terminal;

use std::path::Path;

use anyhow::Context;

use super::night::StoredNight;
use super::outcome::{Outcome, write_whole};
use super::summary::Summary;

pub use terminal::screen;

/// The folder of a night's pictures.
const PLOTS: &str = "plots";

/// Writes all files of a night into its folder.
pub fn write(nights: &[StoredNight], summary: &Summary) -> anyhow::Result<()> {
    let Some(tonight) = nights.last() else { return Ok(()) };
    let mut summary_json = serde_json::to_vec_pretty(summary)?;
    summary_json.push(b'\n');
    let drawn = pictures::of(nights).draw(&tonight.path.join(PLOTS))?;
    let files: [(&str, Vec<u8>); 6] = [
        ("summary.json", summary_json),
        ("runs.jsonl", lines::runs(tonight)?.into_bytes()),
        ("junit.xml", junit::xml(tonight, summary).into_bytes()),
        ("summary.md", markdown::page(tonight, summary).into_bytes()),
        ("report.html", page::html(nights, summary, &drawn)?.into_bytes()),
        ("latency.hlog", latency::log(tonight)?),
    ];
    for (name, bytes) in files {
        let path = tonight.path.join(name);
        write_whole(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The folder of a task's run, from the night's folder.
fn place(outcome: &Outcome) -> String {
    let task = format!("tasks/{:06}", outcome.task.number);
    outcome.folder.as_ref().map_or(task.clone(), |folder| format!("{task}/{}", folder.display()))
}

/// How to see a run again.
fn again(night: &Path, outcome: &Outcome) -> String {
    let backend = if outcome.task.cell.is_simulated() { "--backend sim " } else { "" };
    format!("slotstorm run {backend}{}/{}/repro.toml", night.display(), place(outcome))
}

/// How many runs there were, and how they ended.
fn counted(summary: &Summary) -> String {
    let counts = &summary.counts;
    format!(
        "{} runs in {:.0} min: {} valid, {} invalid, {} unknown, {} hung, {} broken, {} starved; canaries {} of {}",
        counts.runs,
        summary.ran_s / 60.0,
        counts.valid,
        counts.invalid,
        counts.unknown,
        counts.hung,
        counts.broken,
        counts.starved,
        summary.canaries.caught,
        summary.canaries.runs
    )
}

/// What a run was, in one line.
fn name(outcome: &Outcome) -> String {
    let cell = &outcome.task.cell;
    format!(
        "{} {} {} {} nt={} {} seed={}",
        cell.subject(),
        cell.preset,
        cell.workload,
        cell.topology,
        cell.node_timeout_ms,
        cell.expect,
        outcome.task.seed
    )
}

/// `12 %`, `0.3 %`.
fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    if percent >= 10.0 || percent == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// A number with as many digits as it needs.
fn number(value: f64) -> String {
    match value.abs() {
        big if big >= 100.0 => format!("{value:.0}"),
        middle if middle >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
