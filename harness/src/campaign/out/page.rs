//! The night's page: one self-contained file, with links to the runs' own pages beside it.

use std::collections::BTreeMap;

use anyhow::Context;
use askama::Template;

use super::{PLOTS, again, name, number, percent, pictures, place};
use crate::campaign::findings::State;
use crate::campaign::night::StoredNight;
use crate::campaign::outcome::{End, Outcome};
use crate::campaign::statistics::median;
use crate::campaign::summary::Summary;

/// Runs of one finding that are linked.
const LINKED: usize = 8;

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
    first_seen: String,
    last_seen: String,
    runs: Vec<(String, String)>,
    again: String,
    /// Made small: link, words, command.
    small: Option<(String, String, String)>,
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

/// The page's text, with the pictures of these names.
pub fn html(nights: &[StoredNight], summary: &Summary, drawn: &[&'static str]) -> anyhow::Result<String> {
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
        sentence: capitalised(&summary.sentence),
        facts: facts(summary),
        notes,
        findings: findings(tonight, summary),
        trends: summary.trends.iter().map(trend).collect(),
        pictures: pictures(nights, drawn)?,
        cells: cells(tonight),
        runs: tonight.outcomes.iter().map(|outcome| run(tonight, outcome)).collect(),
        file: toml::to_string(&tonight.file).context("the campaign's file")?,
        version: tonight.info.version.clone(),
        seed: tonight.info.seed,
        host: tonight.info.host.clone(),
    };
    page.render().context("the night's template")
}

fn capitalised(sentence: &str) -> String {
    let mut rest = sentence.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

fn facts(summary: &Summary) -> Vec<(&'static str, String)> {
    let counts = &summary.counts;
    let hours = summary.ran_s / 3600.0;
    let per_hour = if hours > 0.0 { counts.runs as f64 / hours } else { 0.0 };
    vec![
        ("runs", format!("{} in {:.0} min ({per_hour:.0} an hour)", counts.runs, hours * 60.0)),
        ("valid, invalid, unknown", format!("{}, {}, {}", counts.valid, counts.invalid, counts.unknown)),
        ("hung, broken, starved", format!("{}, {}, {}", counts.hung, counts.broken, counts.starved)),
        ("canaries caught", format!("{} of {}", summary.canaries.caught, summary.canaries.runs)),
        ("acknowledged", counts.acknowledged.to_string()),
        ("failovers", counts.failovers.to_string()),
        ("lost inside windows", counts.lost.to_string()),
    ]
}

fn findings(tonight: &StoredNight, summary: &Summary) -> Vec<FindingRow> {
    summary
        .findings
        .iter()
        .map(|finding| {
            let runs: Vec<&Outcome> =
                finding.tasks.iter().filter_map(|&task| tonight.outcome(task)).collect();
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
                first_seen: when(&finding.first_seen),
                last_seen: when(&finding.last_seen),
                runs: runs
                    .iter()
                    .take(LINKED)
                    .map(|outcome| (link(outcome), format!("seed {}", outcome.task.seed)))
                    .collect(),
                again: runs.first().map(|outcome| again(&tonight.path, outcome)).unwrap_or_default(),
                small: finding.smallest.as_ref().map(|small| {
                    let words = format!("{} of {} faults", small.faults, small.faults_before);
                    (format!("../{}", small.path), words, small.again.clone())
                }),
            }
        })
        .collect()
}

/// A night's name begins with its moment, `20261128T220000Z-...`; month, day, hour and minute tell it from the others.
fn when(night: &str) -> String {
    match (night.get(4..6), night.get(6..8), night.get(9..11), night.get(11..13)) {
        (Some(month), Some(day), Some(hour), Some(minute)) => format!("{month}-{day} {hour}:{minute}"),
        _ => night.to_owned(),
    }
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
    let mut cells: BTreeMap<(String, &str), Vec<&Outcome>> = BTreeMap::new();
    for outcome in tonight.outcomes.iter().filter(|outcome| !outcome.task.canary) {
        let cell = &outcome.task.cell;
        cells.entry((cell.subject(), &cell.preset)).or_default().push(outcome);
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
                server,
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

/// The pictures that were drawn, in the page.
fn pictures(nights: &[StoredNight], drawn: &[&'static str]) -> anyhow::Result<Vec<Picture>> {
    let Some(tonight) = nights.last() else { return Ok(Vec::new()) };
    drawn
        .iter()
        .map(|name| {
            let path = tonight.path.join(PLOTS).join(format!("{name}.svg"));
            let caption = pictures::caption(name);
            Ok(Picture {
                title: caption.title,
                alt: format!("{}: {}", caption.title, caption.text),
                caption: caption.text,
                markup: std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?,
            })
        })
        .collect()
}
