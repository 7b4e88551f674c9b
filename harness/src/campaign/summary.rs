//! One night's result: what its runs came to, what is new, what has become worse, and whether the night counts at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::findings::{Finding, NightSeen, Seen, Smallest, State, compare};
use super::night::StoredNight;
use super::outcome::{End, Outcome};
use super::regression::{MEASURES, Trend, trends};
use crate::verdict::signature;

/// A night, summed up.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub night: String,
    pub campaign: String,
    pub started: String,
    pub ran_s: f64,
    /// Why it ended before its time.
    pub trouble: Option<String>,
    pub counts: Counts,
    pub findings: Vec<Finding>,
    pub trends: Vec<Trend>,
    pub canaries: Canaries,
    /// What could not be read of it.
    pub damaged: Vec<String>,
    /// 0 as it should be, 1 something failed, 2 nothing can be said, 3 it broke.
    pub exit_code: u8,
    /// One sentence a person would say.
    pub sentence: String,
}

/// Runs by how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub runs: u64,
    pub valid: u64,
    pub invalid: u64,
    pub unknown: u64,
    pub hung: u64,
    pub broken: u64,
    /// The host did not let them run: not counted against the server.
    pub starved: u64,
    pub acknowledged: u64,
    pub failovers: u64,
    pub lost: u64,
    pub by_class: BTreeMap<String, u64>,
}

/// Runs that had to be found invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Canaries {
    pub runs: u64,
    pub caught: u64,
    /// What those were that were not caught.
    pub missed: Vec<String>,
}

/// Sums up the last of these nights (of one campaign, oldest first).
pub fn summarise(nights: &[StoredNight], trouble: Option<String>) -> Option<Summary> {
    let tonight = nights.last()?;
    let seen: Vec<NightSeen> = nights.iter().map(seen).collect();
    let known: BTreeSet<String> = tonight.file.known.iter().map(|name| signature::of_today(name)).collect();
    let mut summary = Summary {
        night: tonight.id.clone(),
        campaign: tonight.info.campaign.clone(),
        started: tonight.info.started.clone(),
        ran_s: tonight.info.ran_s,
        trouble: trouble.or_else(|| tonight.info.over.clone().filter(|over| over != "done")),
        counts: counts(&tonight.outcomes),
        findings: compare(&seen, &known).into_iter().map(|finding| with_smallest(nights, finding)).collect(),
        trends: all_trends(nights),
        canaries: canaries(&tonight.outcomes),
        damaged: tonight.damaged.clone(),
        exit_code: 0,
        sentence: String::new(),
    };
    (summary.exit_code, summary.sentence) = judge(&summary);
    Some(summary)
}

/// With the newest storm that was made small of it.
fn with_smallest(nights: &[StoredNight], mut finding: Finding) -> Finding {
    finding.smallest = nights.iter().rev().find_map(|night| {
        let small = night.smalls.iter().find(|small| small.is_of(&finding.server, &finding.signature))?;
        let path = Path::new(&night.id).join(small.path()?);
        Some(Smallest {
            path: path.display().to_string(),
            again: small.again(&night.path)?,
            faults: small.faults,
            faults_before: small.faults_before,
        })
    });
    finding
}

/// What a night's runs show, by server.
pub fn seen(night: &StoredNight) -> NightSeen {
    let mut by_server: BTreeMap<String, Seen> = BTreeMap::new();
    for outcome in night.outcomes.iter().filter(|outcome| outcome.counts()) {
        let seen = by_server.entry(outcome.task.cell.subject()).or_default();
        seen.runs += 1;
        for signature in &outcome.signatures {
            seen.hits.entry(signature.clone()).or_default().push(outcome.task.number);
        }
    }
    NightSeen { night: night.id.clone(), by_server }
}

fn counts(outcomes: &[Outcome]) -> Counts {
    let mut counts = Counts::default();
    for outcome in outcomes.iter().filter(|outcome| !outcome.task.canary) {
        counts.runs += 1;
        if outcome.starved.is_some() {
            counts.starved += 1;
            continue;
        }
        let of_end = match outcome.end {
            End::Valid => &mut counts.valid,
            End::Invalid => &mut counts.invalid,
            End::Unknown => &mut counts.unknown,
            End::Broken => &mut counts.broken,
            End::Hung => &mut counts.hung,
        };
        *of_end += 1;
        counts.acknowledged += outcome.numbers.acknowledged;
        counts.failovers += outcome.numbers.failovers;
        counts.lost += outcome.numbers.lost;
        for (class, count) in &outcome.numbers.by_class {
            *counts.by_class.entry(class.clone()).or_default() += count;
        }
    }
    counts
}

fn canaries(outcomes: &[Outcome]) -> Canaries {
    let mut canaries = Canaries::default();
    for outcome in outcomes.iter().filter(|outcome| outcome.task.canary) {
        canaries.runs += 1;
        let shown = outcome.task.must_show.as_ref();
        let named =
            shown.is_none_or(|part| outcome.signatures.iter().any(|name| name.contains(part.as_str())));
        if outcome.end == End::Invalid && named {
            canaries.caught += 1;
        } else {
            let cell = &outcome.task.cell;
            canaries.missed.push(format!(
                "task {}: {} on {} was {} ({})",
                outcome.task.number,
                cell.preset,
                cell.subject(),
                outcome.end.word(),
                outcome.reason
            ));
        }
    }
    canaries
}

fn all_trends(nights: &[StoredNight]) -> Vec<Trend> {
    let Some(tonight) = nights.last() else { return Vec::new() };
    let of_server = |night: &StoredNight, server: &str| -> Vec<usize> {
        let counts = |outcome: &&Outcome| outcome.counts() && outcome.task.cell.subject() == server;
        (0..night.outcomes.len()).filter(|&at| counts(&&night.outcomes[at])).collect()
    };
    let servers: BTreeSet<String> =
        tonight.outcomes.iter().filter(|o| o.counts()).map(|o| o.task.cell.subject()).collect();
    let comparisons = servers.len() * MEASURES.len();
    let mut found = Vec::new();
    for server in servers {
        let runs: Vec<Vec<&Outcome>> = nights
            .iter()
            .map(|night| of_server(night, &server).into_iter().map(|at| &night.outcomes[at]).collect())
            .collect();
        found.extend(trends(&server, &runs, &tonight.file.regression, &tonight.file.limits, comparisons));
    }
    found
}

/// Failure outranks all: what was proven stands, whatever else went wrong.
fn judge(summary: &Summary) -> (u8, String) {
    let failing: Vec<&Finding> = summary.findings.iter().filter(|finding| finding.fails()).collect();
    let worse = summary.trends.iter().filter(|trend| trend.fails()).count();
    let mut parts = Vec::new();
    if !failing.is_empty() {
        let of = |state: State| failing.iter().filter(|finding| finding.state == state).count();
        let states = [State::New, State::Back, State::Ongoing, State::Rare];
        let words: Vec<String> = states
            .into_iter()
            .filter(|&state| of(state) > 0)
            .map(|state| format!("{} {}", of(state), state.word()))
            .collect();
        parts.push(format!("failures: {}", words.join(", ")));
    }
    if worse > 0 {
        parts.push(format!("{worse} numbers worse than before or over their limit"));
    }
    let missed = summary.canaries.missed.len();
    if missed > 0 {
        parts.push(format!("{missed} canaries were not caught: the night is blind"));
    }
    let ran = summary.counts.valid + summary.counts.invalid + summary.counts.unknown + summary.counts.hung;
    let trouble = summary.trouble.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
    if !parts.is_empty() {
        return (1, format!("{}{trouble}", parts.join("; ")));
    }
    if summary.trouble.is_some() || (summary.counts.broken > 0 && ran == 0) {
        let why = summary.trouble.clone().unwrap_or_else(|| "no run could be made".into());
        return (3, format!("nothing failed in {ran} runs, but {why}"));
    }
    if summary.counts.valid + summary.counts.invalid == 0 {
        return (2, "no run says anything of a server".into());
    }
    if summary.canaries.runs == 0 {
        return (2, "no canary ran: what this night would have seen is not known".into());
    }
    let gone = summary.findings.iter().filter(|finding| finding.state == State::Gone).count();
    let gone = if gone > 0 { format!(", {gone} failures gone") } else { String::new() };
    (0, format!("nothing failed in {ran} runs{gone}"))
}
