//! What of a night stays on the disk: failing runs whole, of the others what says what they were.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;

use super::night::Night;
use super::outcome::Outcome;

/// Files of a run's folder that stay when it is thinned: what a replay needs, what was found, and the page.
const KEPT: [&str; 6] =
    ["run.json", "storm.toml", "repro.toml", "verdict.json", "latency.hlog", "report.html"];

/// Thins the runs that need not stay whole. What is thinned once is left alone.
pub fn thin(night: &mut Night) -> anyhow::Result<()> {
    for number in surplus(night) {
        let dir = night.task_dir(number);
        let Some(outcome) = night.done.get_mut(&number) else { continue };
        if let Some(run) = outcome.folder.as_ref().map(|folder| dir.join(folder)) {
            thin_folder(&run).with_context(|| format!("cannot thin {}", run.display()))?;
        }
        outcome.thinned = true;
        outcome.write(&dir)?;
    }
    Ok(())
}

/// Tasks whose runs have had their time whole.
fn surplus(night: &Night) -> Vec<u64> {
    let rules = &night.file.retention;
    let mut of_finding: BTreeMap<&str, usize> = BTreeMap::new();
    let mut plain: Vec<u64> = Vec::new();
    let mut surplus = Vec::new();
    for (&number, outcome) in &night.done {
        if outcome.signatures.is_empty() || outcome.task.canary {
            plain.push(number);
            continue;
        }
        // Failing runs stay, the first ones of each finding; a finding of every run would fill any disk.
        let counts: Vec<usize> = outcome
            .signatures
            .iter()
            .map(|signature| {
                let count = of_finding.entry(signature).or_default();
                *count += 1;
                *count
            })
            .collect();
        if counts.iter().all(|&count| count > rules.keep_of_finding) {
            surplus.push(number);
        }
    }
    surplus.extend(&plain[..plain.len().saturating_sub(rules.keep_valid)]);
    let is_whole = |number: &u64| night.done.get(number).is_some_and(|outcome: &Outcome| !outcome.thinned);
    surplus.retain(is_whole);
    surplus
}

/// Removes all but the few small files.
fn thin_folder(run: &Path) -> io::Result<()> {
    for entry in fs::read_dir(run)? {
        let entry = entry?;
        if KEPT.iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
