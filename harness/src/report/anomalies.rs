//! Contradictions between answers, drawn: the operations that show one on a timeline, and what must come before what.

use slotstorm_checker::record::verdict::{Anomaly, Verdict};
use slotstorm_checker::witness::{Drawing, graph_svg, timeline_svg};

/// Drawn in full; the rest is counted.
const DRAWN: usize = 12;

/// One of them, as the page shows it.
pub struct AnomalyRow {
    pub heading: String,
    pub sentence: String,
    /// Why it does not count against the server; empty if it does.
    pub excuse: String,
    /// Inline SVG.
    pub timeline: String,
    /// The same, of the order in which they must be; empty without evidence for one.
    pub graph: String,
}

/// The first ones of a verdict, and how many are left out. Those that count against the server come first.
pub fn rows(verdict: &Verdict) -> (Vec<AnomalyRow>, u64) {
    let entry = &verdict.checks.consistency;
    let rows: Vec<AnomalyRow> = entry.findings.iter().take(DRAWN).map(row).collect();
    let left_out = entry.anomalies.saturating_sub(rows.len() as u64);
    (rows, left_out)
}

fn row(anomaly: &Anomaly) -> AnomalyRow {
    // The sentence stands above: inside the picture it would only make it wide.
    let drawing = Drawing { title: anomaly.what.clone(), ..Drawing::from(anomaly) };
    AnomalyRow {
        heading: format!("{} of {} {}", anomaly.what, anomaly.object, anomaly.key),
        sentence: anomaly.text.clone(),
        excuse: anomaly.excuse.clone(),
        timeline: timeline_svg(&drawing),
        graph: if drawing.arrows.is_empty() { String::new() } else { graph_svg(&drawing) },
    }
}
