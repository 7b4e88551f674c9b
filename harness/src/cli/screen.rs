//! The last screen: what was found, where, and how to see it again. What is wrong comes last, where the eye
//! rests.

use std::path::Path;

use slotstorm_checker::record::RunInfo;
use slotstorm_checker::record::verdict::{Validity, Verdict};

use super::terminal::{Paint, ranges};
use crate::plan::nanos_to_secs;

/// A check's line.
struct Line {
    valid: Validity,
    name: &'static str,
    text: String,
    /// Why it is not valid.
    reason: String,
}

/// Prints the last screen.
pub fn print(folder: &Path, verdict: &Verdict) {
    let paint = Paint::of_stdout();
    let mut lines = lines(verdict);
    lines.sort_by_key(|line| line.valid);
    println!();
    for line in &lines {
        println!("{}  {:<12} {}", mark(paint, line.valid), line.name, line.text);
        if line.valid != Validity::Valid && !line.reason.is_empty() {
            println!("                       {}", line.reason);
        }
    }
    for loss in verdict.checks.lost_writes.losses.iter().take(3) {
        println!(
            "         lost: e{} of {} (slot {}), acknowledged by {} at {:.3} s: {}",
            loss.element,
            loss.key,
            loss.slot,
            if loss.acked_by.is_empty() { "nobody, but read" } else { &loss.acked_by },
            nanos_to_secs(loss.acked),
            loss.class
        );
    }
    for vacuous in &verdict.vacuous_faults {
        println!("         vacuous: {vacuous}");
    }
    cover(verdict);
    println!("──");
    let word = match verdict.valid {
        Validity::Valid => paint.style("1;32", "VALID"),
        Validity::Invalid => paint.style("1;31", "INVALID"),
        Validity::Unknown => paint.style("1;33", "UNKNOWN"),
    };
    // The reason is a sentence that may begin with the word that was just said.
    let reason = ["Valid", "Invalid", "Unknown"]
        .iter()
        .find_map(|word| verdict.reason.strip_prefix(word)?.get(2..))
        .unwrap_or(&verdict.reason);
    println!("{word}  {reason}");
    println!(
        "  {} operations acknowledged, {} failovers, expectation {}, seed {}, exit {}",
        verdict.acknowledged, verdict.failovers, verdict.expect, verdict.seed, verdict.exit_code
    );
    let backend = if is_simulated(folder) { "--backend sim " } else { "" };
    let folder = folder.display();
    println!("  look     {folder}/report.html");
    println!("  again    slotstorm run {backend}{folder}/repro.toml");
    println!("  judge    slotstorm check {folder}");
}

/// A storm file does not say where the storm happened.
fn is_simulated(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join("run.json")).unwrap_or_default();
    serde_json::from_str::<RunInfo>(&text).is_ok_and(|info| info.backend == "sim")
}

/// What the storm reached: a line a fault and role, with the phases.
fn cover(verdict: &Verdict) {
    let mut rows: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for cell in &verdict.coverage {
        let phase =
            if cell.count == 1 { cell.phase.clone() } else { format!("{} {}", cell.phase, cell.count) };
        match rows.last_mut() {
            Some((fault, role, phases)) if (*fault, *role) == (&*cell.fault, &*cell.role) => {
                phases.push(phase);
            }
            _ => rows.push((&cell.fault, &cell.role, vec![phase])),
        }
    }
    for (fault, role, phases) in rows {
        println!("         reached: {fault} on {role} in {}", phases.join(", "));
    }
}

fn lines(verdict: &Verdict) -> Vec<Line> {
    let checks = &verdict.checks;
    let lost = &checks.lost_writes;
    let classes: Vec<String> = lost
        .by_class
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(class, count)| format!("{class} {count}"))
        .collect();
    let by_class = if classes.is_empty() { String::new() } else { format!(" ({})", classes.join(", ")) };
    let brain = &checks.split_brain;
    let longest = |overlaps: &[slotstorm_checker::record::verdict::Overlap]| {
        overlaps.iter().map(|overlap| overlap.to.saturating_sub(overlap.from)).max().unwrap_or(0)
    };
    let lasting = brain.lasting.first().map_or(String::new(), |overlap| {
        format!(": {} and {} over {}", overlap.nodes.0, overlap.nodes.1, ranges(&overlap.slots))
    });
    let converged = match checks.convergence.took_s {
        Some(took) => format!("one view {took:.1} s after healing"),
        None => "no one view".to_owned(),
    };
    vec![
        Line {
            valid: lost.valid,
            name: "lost writes",
            text: format!("{} of {}{by_class}", lost.lost, lost.judged),
            reason: lost.reason.clone(),
        },
        Line {
            valid: checks.elements.valid,
            name: "elements",
            text: format!(
                "{} duplicated, {} phantom, {} misordered",
                checks.elements.duplicated, checks.elements.phantom, checks.elements.misordered
            ),
            reason: checks.elements.reason.clone(),
        },
        Line {
            valid: checks.consistency.valid,
            name: "consistency",
            text: checks.consistency.told(),
            reason: checks.consistency.reason.clone(),
        },
        Line {
            valid: brain.valid,
            name: "split brain",
            text: format!(
                "{} of two claims (longest {:.1} s), {} of two writers (longest {:.1} s), {} lasting{lasting}",
                brain.two_claims.len(),
                nanos_to_secs(longest(&brain.two_claims)),
                brain.two_writers.len(),
                nanos_to_secs(longest(&brain.two_writers)),
                brain.lasting.len()
            ),
            reason: brain.reason.clone(),
        },
        Line {
            valid: checks.convergence.valid,
            name: "convergence",
            text: format!(
                "{converged} (bound {:.0} s), {} replicas differ",
                checks.convergence.bound_s, checks.convergence.replica_differences
            ),
            reason: checks.convergence.reason.clone(),
        },
        Line {
            valid: checks.availability.valid,
            name: "availability",
            text: format!(
                "{:.2} % overall, longest outage of a shard {:.1} s",
                checks.availability.overall_pct, checks.availability.longest_outage_s
            ),
            reason: checks.availability.reason.clone(),
        },
        Line {
            valid: checks.invariants.valid,
            name: "invariants",
            text: format!(
                "{} violated, {} crashes, {} takeovers; {}",
                checks.invariants.violations.len(),
                checks.invariants.crashes,
                checks.invariants.takeovers.len(),
                checks.invariants.bus()
            ),
            reason: checks.invariants.reason.clone(),
        },
    ]
}

fn mark(paint: Paint, valid: Validity) -> String {
    match valid {
        Validity::Valid => paint.style("32", "PASS   "),
        Validity::Invalid => paint.style("31", "FAIL   "),
        Validity::Unknown => paint.style("33", "UNKNOWN"),
    }
}
