//! What the night's pictures show.

use std::collections::{BTreeMap, BTreeSet};

use crate::campaign::night::StoredNight;
use crate::campaign::outcome::Outcome;
use crate::campaign::regression::Measure;
use crate::campaign::statistics::median;
use crate::plot::nights::{Group, Pictures, Series, Trend};

/// Nights of a trend line.
const NIGHTS_DRAWN: usize = 60;
/// Lines over nights: the measure, the file, the title, the axis.
const TRENDS: [(Measure, &str, &str, &str); 4] = [
    (Measure::RecoveryS, "trend-failover", "Failover time over nights", "Median over runs (s)"),
    (
        Measure::UnavailabilityPct,
        "trend-unavailability",
        "Unavailability over nights",
        "Median over runs (%)",
    ),
    (Measure::LostPerMillion, "trend-lost", "Lost writes over nights", "Median over runs (per million)"),
    (Measure::P99Ms, "trend-latency", "Latency over nights", "Median over runs of p99 (ms)"),
];

/// A picture's place on the page.
pub struct Caption {
    pub title: &'static str,
    pub text: &'static str,
}

/// What stands under a picture.
pub fn caption(name: &str) -> Caption {
    let (title, text) = match name {
        "failover-times" => (
            "Failover time",
            "The part of the failovers that took at most so long, by server; the mark is the median.",
        ),
        "availability-by-preset" => {
            ("Availability", "A mark is a run, the bar the median of a preset's runs.")
        }
        "lost-by-class" => {
            ("Lost writes", "By the documented window that explains them; each loss counts once.")
        }
        _ => ("Over nights", "Each point is a night's median over its runs."),
    };
    Caption { title, text }
}

/// All pictures of the last of these nights.
pub fn of(nights: &[StoredNight]) -> Pictures {
    let Some(tonight) = nights.last() else { return Pictures::default() };
    let runs = by_subject(tonight);
    Pictures {
        failovers: series(&runs, |outcome| outcome.numbers.recoveries_s.clone()),
        availability: availability(&runs),
        losses: losses(&runs),
        trends: trends(&nights[nights.len().saturating_sub(NIGHTS_DRAWN)..]),
    }
}

type BySubject<'a> = BTreeMap<String, Vec<&'a Outcome>>;

fn by_subject(night: &StoredNight) -> BySubject<'_> {
    let mut runs = BySubject::new();
    for outcome in night.outcomes.iter().filter(|outcome| outcome.counts()) {
        runs.entry(outcome.task.cell.subject()).or_default().push(outcome);
    }
    runs
}

fn series(runs: &BySubject<'_>, values: impl Fn(&Outcome) -> Vec<f64>) -> Vec<Series> {
    runs.iter()
        .map(|(subject, all)| Series {
            label: subject.clone(),
            values: all.iter().flat_map(|outcome| values(outcome)).collect(),
        })
        .collect()
}

fn availability(runs: &BySubject<'_>) -> Vec<Group> {
    let presets: BTreeSet<&str> = runs.values().flatten().map(|o| o.task.cell.preset.as_str()).collect();
    let of = |preset: &str| {
        series(runs, |outcome| {
            let judged = outcome.task.cell.preset == preset && outcome.numbers.acknowledged > 0;
            if judged { vec![outcome.numbers.availability_pct] } else { Vec::new() }
        })
    };
    presets.into_iter().map(|preset| Group { name: preset.to_owned(), series: of(preset) }).collect()
}

fn losses(runs: &BySubject<'_>) -> Vec<Group> {
    let classes: BTreeSet<&str> =
        runs.values().flatten().flat_map(|o| o.numbers.by_class.keys()).map(String::as_str).collect();
    let per_million = |all: &[&Outcome], class: &str| {
        let lost: u64 = all.iter().filter_map(|outcome| outcome.numbers.by_class.get(class)).sum();
        let acknowledged: u64 = all.iter().map(|outcome| outcome.numbers.acknowledged).sum();
        lost as f64 * 1e6 / acknowledged.max(1) as f64
    };
    let of = |class: &str| {
        let one = |(subject, all): (&String, &Vec<&Outcome>)| Series {
            label: subject.clone(),
            values: vec![per_million(all, class)],
        };
        runs.iter().map(one).collect()
    };
    classes.into_iter().map(|class| Group { name: class.to_owned(), series: of(class) }).collect()
}

/// One night is no trend.
fn trends(nights: &[StoredNight]) -> Vec<Trend> {
    if nights.len() < 2 {
        return Vec::new();
    }
    let by_night: Vec<BySubject<'_>> = nights.iter().map(by_subject).collect();
    let subjects: BTreeSet<&String> = by_night.iter().flat_map(BTreeMap::keys).collect();
    let value = |night: &BySubject<'_>, subject: &String, measure: Measure| {
        let runs = night.get(subject).map(Vec::as_slice).unwrap_or_default();
        let values: Vec<f64> = runs.iter().filter_map(|outcome| measure.of(outcome)).collect();
        median(&values).unwrap_or(f64::NAN)
    };
    TRENDS
        .into_iter()
        .map(|(measure, name, title, y_label)| Trend {
            name,
            title,
            y_label,
            nights: nights.iter().map(|night| night.info.short_start()).collect(),
            series: subjects
                .iter()
                .map(|subject| Series {
                    label: (*subject).clone(),
                    values: by_night.iter().map(|night| value(night, subject, measure)).collect(),
                })
                .collect(),
        })
        .collect()
}
