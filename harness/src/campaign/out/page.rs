//! The night's page: one self-contained file, with links to the runs' own pages beside it.

use std::collections::BTreeMap;

use anyhow::Context;
use askama::Template;

use super::{again, name, number, percent, place};
use crate::campaign::findings::State;
use crate::campaign::night::StoredNight;
use crate::campaign::outcome::{End, Outcome};
use crate::campaign::statistics::median;
use crate::campaign::summary::Summary;
use crate::plot::nights::{Ecdf, Line, Trend, ecdf_svg, trend_svg};

/// Runs of one finding that are linked.
const LINKED: usize = 8;
/// Nights of a trend line.
const NIGHTS_DRAWN: usize = 60;

#[derive(Template)]
#[template(path = "night.html")]
struct Page {
    word: &'static str,
    badge: &'static str,
    title: String,
    sentence: String,
    facts: Vec<(&'static str, String)>,
    notes: Vec<String>,
    findings: Vec<FindingRow>,
    trends: Vec<TrendRow>,
    pictures: Vec<Picture>,
    cells: Vec<Vec<String>>,
    runs: Vec<RunRow>,
    file: String,
    version: String,
    seed: u64,
    host: String,
}

struct FindingRow {
    state: &'static str,
    badge: &'static str,
    signature: String,
    known: bool,
    server: String,
    tonight: String,
    rate: String,
    nights: String,
    seen: String,
    runs: Vec<(String, String)>,
    again: String,
}

struct TrendRow {
    name: &'static str,
    server: String,
    runs: usize,
    median: String,
    before: String,
    change: String,
    p: String,
    verdict: String,
}

struct Picture {
    title: &'static str,
    alt: String,
    caption: &'static str,
    markup: String,
}

struct RunRow {
    task: u64,
    href: String,
    name: String,
    end: &'static str,
    badge: &'static str,
    took: String,
    reason: String,
}

/// The page's text.
pub fn html(nights: &[StoredNight], summary: &Summary) -> anyhow::Result<String> {
    let tonight = nights.last().context("there is no night")?;
    let (word, badge) = match summary.exit_code {
        0 => ("passed", "valid"),
        1 => ("failed", "invalid"),
        2 => ("unknown", "unknown"),
        _ => ("broke", "unknown"),
    };
    let mut notes: Vec<String> =
        summary.trouble.iter().map(|why| format!("The night did not end as planned: {why}.")).collect();
    notes.extend(summary.canaries.missed.iter().map(|missed| format!("Canary not caught: {missed}")));
    notes.extend(summary.damaged.iter().map(|damaged| format!("Not read: {damaged}")));
    let page = Page {
        word,
        badge,
        title: format!("{} · {}", summary.campaign, summary.started),
        sentence: summary.sentence.clone(),
        facts: facts(summary),
        notes,
        findings: findings(tonight, summary),
        trends: summary.trends.iter().map(trend).collect(),
        pictures: pictures(nights)?,
        cells: cells(tonight),
        runs: tonight.outcomes.iter().map(|outcome| run(tonight, outcome)).collect(),
        file: toml::to_string(&tonight.file).context("the campaign's file")?,
        version: tonight.info.version.clone(),
        seed: tonight.info.seed,
        host: tonight.info.host.clone(),
    };
    page.render().context("the night's template")
}

fn facts(summary: &Summary) -> Vec<(&'static str, String)> {
    let counts = &summary.counts;
    let hours = summary.ran_s / 3600.0;
    let per_hour = if hours > 0.0 { counts.runs as f64 / hours } else { 0.0 };
    vec![
        ("runs", format!("{} in {:.1} h ({per_hour:.0} an hour)", counts.runs, hours)),
        ("valid, invalid, unknown", format!("{}, {}, {}", counts.valid, counts.invalid, counts.unknown)),
        ("hung, broken, starved", format!("{}, {}, {}", counts.hung, counts.broken, counts.starved)),
        ("canaries caught", format!("{} of {}", summary.canaries.caught, summary.canaries.runs)),
        ("acknowledged", counts.acknowledged.to_string()),
        ("failovers", counts.failovers.to_string()),
        ("lost inside windows", counts.lost.to_string()),
    ]
}

fn findings(tonight: &StoredNight, summary: &Summary) -> Vec<FindingRow> {
    let find = |task: &u64| tonight.outcomes.iter().find(|outcome| outcome.task.number == *task);
    summary
        .findings
        .iter()
        .map(|finding| {
            let runs: Vec<&Outcome> = finding.tasks.iter().filter_map(find).collect();
            FindingRow {
                state: finding.state.word(),
                badge: match finding.state {
                    State::Gone => "valid",
                    State::Rare if finding.hits == 0 => "unknown",
                    _ if finding.known => "unknown",
                    _ => "invalid",
                },
                signature: finding.signature.clone(),
                known: finding.known,
                server: finding.server.clone(),
                tonight: format!("{} of {}", finding.hits, finding.runs),
                rate: format!("{} to {}", percent(finding.rate.0), percent(finding.rate.1)),
                nights: format!("{} of {}", finding.nights.0, finding.nights.1),
                seen: format!("{}, {}", finding.first_seen, finding.last_seen),
                runs: runs
                    .iter()
                    .take(LINKED)
                    .map(|outcome| (link(outcome), format!("seed {}", outcome.task.seed)))
                    .collect(),
                again: runs.first().map(|outcome| again(&tonight.path, outcome)).unwrap_or_default(),
            }
        })
        .collect()
}

fn trend(trend: &crate::campaign::regression::Trend) -> TrendRow {
    let before: Vec<String> = trend.medians_before.iter().rev().take(7).rev().map(|&m| number(m)).collect();
    TrendRow {
        name: trend.measure.name(),
        server: trend.server.clone(),
        runs: trend.runs,
        median: number(trend.median),
        before: before.join(" "),
        change: trend.change_pct.map(|change| format!("{change:+.0} %")).unwrap_or_default(),
        p: if trend.medians_before.is_empty() { String::new() } else { format!("{:.2}", trend.p) },
        verdict: match (trend.over_limit, trend.worse) {
            (Some(limit), _) => format!("over {}", number(limit)),
            (None, true) => "worse".into(),
            (None, false) => String::new(),
        },
    }
}

fn cells(tonight: &StoredNight) -> Vec<Vec<String>> {
    let mut cells: BTreeMap<(&str, &str), Vec<&Outcome>> = BTreeMap::new();
    for outcome in tonight.outcomes.iter().filter(|outcome| !outcome.task.canary) {
        let cell = &outcome.task.cell;
        cells.entry((&cell.server, &cell.preset)).or_default().push(outcome);
    }
    cells
        .into_iter()
        .map(|((server, preset), all)| {
            let runs: Vec<&&Outcome> = all.iter().filter(|outcome| outcome.counts()).collect();
            let of = |end: End| runs.iter().filter(|outcome| outcome.end == end).count();
            let available: Vec<f64> = runs.iter().map(|outcome| outcome.numbers.availability_pct).collect();
            let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
            for (class, count) in runs.iter().flat_map(|outcome| &outcome.numbers.by_class) {
                *classes.entry(class).or_default() += count;
            }
            let classes: Vec<String> =
                classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
            vec![
                server.to_owned(),
                preset.to_owned(),
                runs.len().to_string(),
                of(End::Valid).to_string(),
                runs.iter().filter(|outcome| outcome.fails()).count().to_string(),
                of(End::Unknown).to_string(),
                (all.len() - runs.len()).to_string(),
                median(&available).map(|percent| format!("{percent:.1} %")).unwrap_or_default(),
                classes.join(" "),
            ]
        })
        .collect()
}

fn run(tonight: &StoredNight, outcome: &Outcome) -> RunRow {
    let has_page = tonight.path.join(link(outcome)).exists();
    RunRow {
        task: outcome.task.number,
        href: if has_page { link(outcome) } else { String::new() },
        name: format!("{}{}", if outcome.task.canary { "canary: " } else { "" }, name(outcome)),
        end: if outcome.starved.is_some() { "starved" } else { outcome.end.word() },
        badge: match outcome.end {
            _ if outcome.starved.is_some() => "unknown",
            End::Valid => "valid",
            End::Invalid | End::Hung => "invalid",
            End::Unknown | End::Broken => "unknown",
        },
        took: format!("{:.0} s", outcome.took_s),
        reason: outcome.starved.clone().unwrap_or_else(|| outcome.reason.clone()),
    }
}

/// The run's own page.
fn link(outcome: &Outcome) -> String {
    format!("{}/report.html", place(outcome))
}

fn pictures(nights: &[StoredNight]) -> anyhow::Result<Vec<Picture>> {
    let Some(tonight) = nights.last() else { return Ok(Vec::new()) };
    let counted = |night: &StoredNight| -> Vec<Outcome> {
        night.outcomes.iter().filter(|outcome| outcome.counts()).cloned().collect()
    };
    let mut recoveries: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for outcome in counted(tonight) {
        recoveries.entry(outcome.task.cell.server.clone()).or_default().extend(&outcome.numbers.recoveries_s);
    }
    recoveries.retain(|_, values| !values.is_empty());
    let mut pictures = Vec::new();
    if !recoveries.is_empty() {
        let alt = recoveries
            .iter()
            .map(|(server, values)| {
                format!("{server}: median {:.2} s of {}", median(values).unwrap_or(0.0), values.len())
            })
            .collect::<Vec<_>>()
            .join("; ");
        let lines = recoveries.into_iter().map(|(label, values)| Line { label, values }).collect();
        pictures.push(Picture {
            title: "Failover time",
            alt,
            caption: "From a fault on a master to the first success on its shard: the part of failovers that took at most so long.",
            markup: ecdf_svg(&Ecdf { lines, unit: "seconds" })?,
        });
    }
    let drawn = &nights[nights.len().saturating_sub(NIGHTS_DRAWN)..];
    if drawn.len() > 1 {
        let mut lines: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (at, night) in drawn.iter().enumerate() {
            let mut of_night: BTreeMap<String, Vec<f64>> = BTreeMap::new();
            for outcome in counted(night) {
                of_night
                    .entry(outcome.task.cell.server.clone())
                    .or_default()
                    .push(outcome.numbers.availability_pct);
            }
            for (server, values) in of_night {
                let line = lines.entry(server).or_insert_with(|| vec![f64::NAN; drawn.len()]);
                line[at] = median(&values).unwrap_or(f64::NAN);
            }
        }
        pictures.push(Picture {
            title: "Availability over nights",
            alt: format!("medians of the runs of {} nights", drawn.len()),
            caption: "The median over a night's runs of the time in which every shard answered.",
            markup: trend_svg(&Trend {
                nights: drawn.iter().map(|night| night.info.started.chars().take(10).collect()).collect(),
                lines: lines.into_iter().map(|(label, values)| Line { label, values }).collect(),
                y_label: "available (%)",
            })?,
        });
    }
    Ok(pictures)
}
