//! What a person sees at the end of a night.

use std::fmt::Write;

use super::{again, counted, number, percent};
use crate::campaign::night::StoredNight;
use crate::campaign::summary::Summary;

/// The lines.
pub fn screen(night: &StoredNight, summary: &Summary) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}  {}", summary.campaign, counted(summary));
    for finding in &summary.findings {
        let _ = writeln!(
            text,
            "  {:<8} {}  {}  {} of {} runs ({} to {}), first seen {}{}",
            finding.state.word(),
            finding.signature,
            finding.server,
            finding.hits,
            finding.runs,
            percent(finding.rate.0),
            percent(finding.rate.1),
            finding.first_seen,
            if finding.known { "  known" } else { "" }
        );
        if let Some(outcome) = finding.tasks.first().and_then(|&task| night.outcome(task)) {
            let _ = writeln!(text, "           {}", again(&night.path, outcome));
        }
        if let Some(small) = &finding.smallest {
            let _ = writeln!(
                text,
                "           {} ({} of {} faults)",
                small.again, small.faults, small.faults_before
            );
        }
    }
    for trend in summary.trends.iter().filter(|trend| trend.fails()) {
        let _ = writeln!(
            text,
            "  worse    {}  {}: {}{}",
            trend.server,
            trend.measure.name(),
            number(trend.median),
            trend.over_limit.map(|limit| format!(" (limit {})", number(limit))).unwrap_or_default()
        );
    }
    for missed in &summary.canaries.missed {
        let _ = writeln!(text, "  BLIND    {missed}");
    }
    for damaged in &summary.damaged {
        let _ = writeln!(text, "  damaged  {damaged}");
    }
    let word = ["PASS", "FAIL", "UNKNOWN", "BROKEN"][usize::from(summary.exit_code.min(3))];
    let _ = writeln!(text, "{word}  {}", summary.sentence);
    let _ = writeln!(text, "{}", night.path.join("report.html").display());
    text
}
