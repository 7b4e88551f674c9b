//! Markdown, for the summary of a CI job: what failed first, then how to see it again, then the numbers.

use std::fmt::Write;

use super::{again, counted, number, percent};
use crate::campaign::night::StoredNight;
use crate::campaign::summary::Summary;

/// The text.
pub fn page(night: &StoredNight, summary: &Summary) -> String {
    let word = match summary.exit_code {
        0 => "passed",
        1 => "FAILED",
        2 => "says nothing",
        _ => "broke",
    };
    let counts = &summary.counts;
    let mut text = format!("## {}: {word}\n\n{}.\n\n", cell(&summary.campaign), cell(&summary.sentence));
    let _ = writeln!(
        text,
        "{}; {} acknowledged, {} failovers, {} lost.\n",
        counted(summary),
        counts.acknowledged,
        counts.failovers,
        counts.lost,
    );
    if !summary.findings.is_empty() {
        text.push_str("| failure | server | state | tonight | rate (95 %) | nights | first seen | again |\n|---|---|---|---|---|---|---|---|\n");
    }
    for finding in &summary.findings {
        let first = finding.tasks.first().and_then(|&task| night.outcome(task));
        let _ = writeln!(
            text,
            "| {} | {} | {}{} | {} of {} | {} to {} | {} of {} | {} | {} |",
            cell(&finding.signature),
            cell(&finding.server),
            finding.state.word(),
            if finding.known { " (known)" } else { "" },
            finding.hits,
            finding.runs,
            percent(finding.rate.0),
            percent(finding.rate.1),
            finding.nights.0,
            finding.nights.1,
            cell(&finding.first_seen),
            match (&finding.smallest, first) {
                (Some(small), _) => format!("`{}`", small.again),
                (None, Some(outcome)) => format!("`{}`", again(&night.path, outcome)),
                (None, None) => String::new(),
            },
        );
    }
    for missed in &summary.canaries.missed {
        let _ = writeln!(text, "\nCanary not caught: {}", cell(missed));
    }
    if !summary.trends.is_empty() {
        text.push_str("\n| number | server | median | before | change | |\n|---|---|---|---|---|---|\n");
    }
    for trend in &summary.trends {
        let before: Vec<String> =
            trend.medians_before.iter().rev().take(5).rev().map(|&m| number(m)).collect();
        let verdict = match (trend.worse, trend.over_limit) {
            (_, Some(limit)) => format!("over its limit of {}", number(limit)),
            (true, None) => format!("worse (p = {:.1e})", trend.p),
            (false, None) => String::new(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {verdict} |",
            trend.measure.name(),
            cell(&trend.server),
            number(trend.median),
            before.join(" "),
            trend.change_pct.map(|change| format!("{change:+.0} %")).unwrap_or_default(),
        );
    }
    text
}

/// Text that ends no table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
