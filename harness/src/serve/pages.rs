//! The overview, one run, two runs beside each other, and files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use askama::Template;
use axum::extract::{Path as Asked, Query, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;
use slotstorm_checker::record::RunInfo;
use slotstorm_checker::record::verdict::{Validity, Verdict};

use super::{Site, Trouble, reading};
use crate::campaign::night::StoredNight;
use crate::campaign::outcome::{Outcome, from_json};
use crate::campaign::summary::summarise;

/// Single runs on the overview.
const RUNS_SHOWN: usize = 50;
/// Nights of a campaign on the overview.
const NIGHTS_SHOWN: usize = 30;
/// A file that is larger is not shown as a whole.
const FILE_MAX: u64 = 256 << 20;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    campaigns: Vec<Campaign>,
    runs: Vec<RunRow>,
    runs_left_out: usize,
    notes: Vec<String>,
}

struct Campaign {
    name: String,
    nights: Vec<NightRow>,
    /// Heads of the heat map's columns.
    columns: Vec<String>,
    rows: Vec<HeatRow>,
}

struct NightRow {
    id: String,
    started: String,
    badge: &'static str,
    word: &'static str,
    sentence: String,
    runs: u64,
    new: usize,
}

struct HeatRow {
    server: String,
    preset: String,
    cells: Vec<Heat>,
}

/// Failing runs of a cell in one night.
struct Heat {
    text: String,
    /// 0 none, to 4; 5: no run.
    level: u8,
    title: String,
}

struct RunRow {
    path: String,
    name: String,
    badge: &'static str,
    reason: String,
}

/// `/`
pub async fn home(State(site): State<Site>) -> Result<Html<String>, Trouble> {
    reading(move || {
        let (nights, notes) = StoredNight::all(site.results.root());
        let mut by_campaign: BTreeMap<String, Vec<StoredNight>> = BTreeMap::new();
        for night in nights {
            by_campaign.entry(night.info.campaign.clone()).or_default().push(night);
        }
        let campaigns = by_campaign.into_iter().map(|(name, nights)| campaign(name, &nights)).collect();
        let mut runs = run_folders(site.results.root());
        let runs_left_out = runs.len().saturating_sub(RUNS_SHOWN);
        runs.truncate(RUNS_SHOWN);
        let runs = runs.iter().map(|path| run_row(&site.results.name(path), path)).collect();
        Ok(Html(Home { campaigns, runs, runs_left_out, notes }.render()?))
    })
    .await
}

fn campaign(name: String, nights: &[StoredNight]) -> Campaign {
    let mut rows = Vec::new();
    for last in (0..nights.len()).rev().take(NIGHTS_SHOWN) {
        let Some(summary) = summarise(&nights[..=last], None) else { continue };
        let (word, badge) = match (nights[last].info.over.is_none(), summary.exit_code) {
            (true, _) => ("not over", "unknown"),
            (_, 0) => ("passed", "valid"),
            (_, 1) => ("failed", "invalid"),
            (_, 2) => ("unknown", "unknown"),
            _ => ("broke", "unknown"),
        };
        let new = summary.findings.iter().filter(|finding| finding.state.word() == "new").count();
        rows.push(NightRow {
            id: summary.night,
            started: summary.started,
            badge,
            word,
            sentence: summary.sentence,
            runs: summary.counts.runs,
            new,
        });
    }
    let drawn = &nights[nights.len().saturating_sub(NIGHTS_SHOWN)..];
    Campaign {
        name,
        nights: rows,
        columns: drawn.iter().map(|night| night.info.short_start()).collect(),
        rows: heat(drawn),
    }
}

/// Failing runs by server and preset (rows) and night (columns).
fn heat(nights: &[StoredNight]) -> Vec<HeatRow> {
    let counted = |night: &'_ StoredNight| -> Vec<Outcome> {
        night.outcomes.iter().filter(|outcome| outcome.counts()).cloned().collect()
    };
    let by_night: Vec<Vec<Outcome>> = nights.iter().map(counted).collect();
    let cells: BTreeSet<(String, String)> = by_night
        .iter()
        .flatten()
        .map(|outcome| (outcome.task.cell.subject(), outcome.task.cell.preset.clone()))
        .collect();
    cells
        .into_iter()
        .map(|(server, preset)| {
            let of_cell = |outcome: &&Outcome| {
                outcome.task.cell.subject() == server && outcome.task.cell.preset == preset
            };
            let cells = by_night
                .iter()
                .map(|night| {
                    let runs = night.iter().filter(of_cell).count();
                    let failing = night.iter().filter(of_cell).filter(|outcome| outcome.fails()).count();
                    let level = match (runs, failing) {
                        (0, _) => 5,
                        (_, 0) => 0,
                        (runs, failing) => (failing * 4).div_ceil(runs).min(4) as u8,
                    };
                    let text = if runs == 0 { "-".to_owned() } else { format!("{failing}/{runs}") };
                    Heat { text, level, title: format!("{failing} of {runs} runs failed") }
                })
                .collect();
            HeatRow { server, preset, cells }
        })
        .collect()
}

/// Folders of single runs, the newest first.
fn run_folders(results: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(results.join("runs")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders.reverse();
    folders
}

fn run_row(name: &str, path: &Path) -> RunRow {
    let verdict: Option<Verdict> = from_json(&path.join("verdict.json")).ok();
    RunRow {
        path: name.to_owned(),
        name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        badge: verdict.as_ref().map_or("unjudged", |verdict| word(verdict.valid)),
        reason: verdict.map(|verdict| verdict.reason).unwrap_or_default(),
    }
}

const fn word(valid: Validity) -> &'static str {
    match valid {
        Validity::Valid => "valid",
        Validity::Invalid => "invalid",
        Validity::Unknown => "unknown",
    }
}

#[derive(Template)]
#[template(path = "run.html")]
struct Run {
    path: String,
    name: String,
    badge: &'static str,
    reason: String,
    facts: Vec<(&'static str, String)>,
    /// Flags of the command that repeats it.
    again: &'static str,
    files: Vec<(String, String)>,
    has_report: bool,
    has_history: bool,
}

/// `/run/{path}`
pub async fn run(State(site): State<Site>, Asked(asked): Asked<String>) -> Result<Html<String>, Trouble> {
    reading(move || {
        let dir = site.results.find(&asked).ok_or(Trouble::NotFound)?;
        let info: RunInfo = from_json(&dir.join("run.json")).map_err(|_| Trouble::NotFound)?;
        let row = run_row(&site.results.name(&dir), &dir);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&dir)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let size = entry.metadata().map_or(0, |meta| meta.len());
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            files.push((
                if is_dir { format!("{name}/") } else { name },
                if is_dir { String::new() } else { bytes(size) },
            ));
        }
        files.sort();
        let has = |name: &str| files.iter().any(|(file, _)| file == name);
        let page = Run {
            has_report: has("report.html"),
            has_history: has("history.jsonl"),
            facts: facts(&info),
            again: if info.backend == "sim" { "--backend sim " } else { "" },
            path: row.path,
            name: row.name,
            badge: row.badge,
            reason: row.reason,
            files,
        };
        Ok(Html(page.render()?))
    })
    .await
}

fn facts(info: &RunInfo) -> Vec<(&'static str, String)> {
    vec![
        ("server", info.sut.clone()),
        ("seed", info.seed.to_string()),
        ("started", info.started.clone()),
        ("backend", if info.backend.is_empty() { "process".to_owned() } else { info.backend.clone() }),
        ("topology", format!("{}+{}: masters, and replicas of each", info.masters, info.replicas)),
        ("node timeout", format!("{} ms", info.node_timeout_ms)),
        (
            "workload",
            format!(
                "{} at {}/s by {} clients for {} s",
                info.workload, info.rate, info.clients, info.duration_s
            ),
        ),
        ("expectation", info.expect.to_string()),
    ]
}

/// Two runs.
#[derive(Deserialize)]
pub struct Pair {
    a: String,
    b: String,
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Compare {
    names: [String; 2],
    paths: [String; 2],
    rows: Vec<CompareRow>,
}

struct CompareRow {
    name: &'static str,
    values: [String; 2],
    differ: bool,
}

/// `/compare?a=PATH&b=PATH`
pub async fn compare(State(site): State<Site>, Query(pair): Query<Pair>) -> Result<Html<String>, Trouble> {
    reading(move || {
        let sides: Vec<(PathBuf, RunInfo, Verdict)> = [&pair.a, &pair.b]
            .into_iter()
            .map(|asked| {
                let dir = site.results.find(asked.trim().trim_matches('/')).ok_or(Trouble::NotFound)?;
                let info = from_json(&dir.join("run.json")).map_err(|_| Trouble::NotFound)?;
                let verdict = from_json(&dir.join("verdict.json"))
                    .map_err(|_| Trouble::Asked(format!("{asked} was not judged")))?;
                Ok((dir, info, verdict))
            })
            .collect::<Result<_, Trouble>>()?;
        let [one, other] = &sides[..] else { return Err(Trouble::NotFound) };
        let rows = numbers(&one.1, &one.2)
            .into_iter()
            .zip(numbers(&other.1, &other.2))
            .map(|((name, a), (_, b))| CompareRow { name, differ: a != b, values: [a, b] })
            .collect();
        let of =
            |dir: &Path| dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let page = Compare {
            names: [of(&one.0), of(&other.0)],
            paths: [site.results.name(&one.0), site.results.name(&other.0)],
            rows,
        };
        Ok(Html(page.render()?))
    })
    .await
}

fn numbers(info: &RunInfo, verdict: &Verdict) -> Vec<(&'static str, String)> {
    let checks = &verdict.checks;
    let classes: Vec<String> = checks
        .lost_writes
        .by_class
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(class, n)| format!("{class} {n}"))
        .collect();
    let mut recoveries: Vec<f64> =
        checks.availability.recoveries.iter().filter_map(|recovery| recovery.took_s).collect();
    recoveries.sort_by(f64::total_cmp);
    let recoveries: Vec<String> = recoveries.iter().map(|seconds| format!("{seconds:.2}")).collect();
    let mut rows = facts(info);
    rows.extend([
        ("verdict", word(verdict.valid).to_owned()),
        ("in words", verdict.reason.clone()),
        ("acknowledged", verdict.acknowledged.to_string()),
        ("failovers", verdict.failovers.to_string()),
        ("lost writes", format!("{} ({})", checks.lost_writes.lost, classes.join(" "))),
        ("available", format!("{:.2} %", checks.availability.overall_pct)),
        ("longest outage", format!("{:.2} s", checks.availability.longest_outage_s)),
        ("from fault to first success (s)", recoveries.join(" ")),
        ("two claims", checks.split_brain.two_claims.len().to_string()),
        ("two writers", checks.split_brain.two_writers.len().to_string()),
        ("invariants broken", checks.invariants.violations.len().to_string()),
    ]);
    rows
}

#[derive(Template)]
#[template(path = "listing.html")]
struct Listing {
    path: String,
    /// If the folder is a run's: its path, for the run's page.
    run: String,
    entries: Vec<(String, String)>,
}

/// `/files/`
pub async fn root(site: State<Site>) -> Result<Response, Trouble> {
    file(site, Asked(String::from("/"))).await
}

/// `/files/{path}`
pub async fn file(State(site): State<Site>, Asked(asked): Asked<String>) -> Result<Response, Trouble> {
    reading(move || {
        let path = site.results.find(asked.trim_end_matches('/')).ok_or(Trouble::NotFound)?;
        let meta = std::fs::metadata(&path)?;
        if meta.is_dir() {
            // Links on the page are relative to a folder.
            if !asked.ends_with('/') {
                return Ok(Redirect::permanent(&format!("/files/{asked}/")).into_response());
            }
            let mut entries: Vec<(String, String)> = std::fs::read_dir(&path)?
                .flatten()
                .map(|entry| {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let is_dir = entry.path().is_dir();
                    let size = entry.metadata().map(|meta| bytes(meta.len())).unwrap_or_default();
                    if is_dir { (format!("{name}/"), String::new()) } else { (name, size) }
                })
                .collect();
            entries.sort();
            let is_run = path.join("run.json").exists();
            let run = if is_run { site.results.name(&path) } else { String::new() };
            return Ok(Html(Listing { path: asked, run, entries }.render()?).into_response());
        }
        if !meta.is_file() || meta.len() > FILE_MAX {
            return Err(Trouble::NotFound);
        }
        Ok(([(header::CONTENT_TYPE, media_type(&path))], std::fs::read(&path)?).into_response())
    })
    .await
}

fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("json") => "application/json",
        Some("xml") => "application/xml",
        Some("bin" | "hlog" | "rdb" | "aof") => "application/octet-stream",
        _ => "text/plain; charset=utf-8",
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}
