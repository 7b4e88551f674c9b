//! Numbers over nights: what has become worse, with a test that does not alarm on noise. Three things must hold: the runs of
//! tonight rank worse than those of the nights before (Mann and Whitney), the median changed by enough to matter, and
//! tonight's median lies outside of all of theirs (nights differ among each other more than chance between runs explains).

use serde::Serialize;

use super::file::{Limits, RegressionFile};
use super::outcome::Outcome;
use super::statistics::{greater, median};

/// A number of each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    RecoveryS,
    UnavailabilityPct,
    LostPerMillion,
    P50Ms,
    P99Ms,
    P999Ms,
}

/// All of them.
pub const MEASURES: [Measure; 6] = [
    Measure::RecoveryS,
    Measure::UnavailabilityPct,
    Measure::LostPerMillion,
    Measure::P50Ms,
    Measure::P99Ms,
    Measure::P999Ms,
];

impl Measure {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecoveryS => "failover, fault to first success (s)",
            Self::UnavailabilityPct => "unavailability (%)",
            Self::LostPerMillion => "lost writes per million acknowledged",
            Self::P50Ms => "latency p50 (ms)",
            Self::P99Ms => "latency p99 (ms)",
            Self::P999Ms => "latency p99.9 (ms)",
        }
    }

    /// A run's; `None`: it has none. More is worse.
    pub fn of(self, outcome: &Outcome) -> Option<f64> {
        let numbers = &outcome.numbers;
        match self {
            Self::RecoveryS => median(&numbers.recoveries_s),
            Self::UnavailabilityPct => (numbers.acknowledged > 0).then_some(100.0 - numbers.availability_pct),
            Self::LostPerMillion => {
                (numbers.acknowledged > 0).then(|| numbers.lost as f64 * 1e6 / numbers.acknowledged as f64)
            }
            Self::P50Ms => numbers.latency_ms.map(|latency| latency.p50),
            Self::P99Ms => numbers.latency_ms.map(|latency| latency.p99),
            Self::P999Ms => numbers.latency_ms.map(|latency| latency.p999),
        }
    }

    fn limit(self, limits: &Limits) -> Option<f64> {
        match self {
            Self::RecoveryS => limits.max_recovery_s,
            Self::UnavailabilityPct => limits.min_availability_pct.map(|percent| 100.0 - percent),
            Self::LostPerMillion => limits.max_lost_per_million,
            Self::P99Ms => limits.max_p99_ms,
            Self::P50Ms | Self::P999Ms => None,
        }
    }
}

/// A number of one server, tonight and before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trend {
    pub server: String,
    pub measure: Measure,
    pub runs: usize,
    /// Tonight's.
    pub median: f64,
    /// The nights' before, oldest first.
    pub medians_before: Vec<f64>,
    /// How likely tonight's runs are if nothing changed.
    pub p: f64,
    /// Of the median, against the median of all runs before, in percent.
    pub change_pct: Option<f64>,
    /// It has become worse.
    pub worse: bool,
    /// The file's threshold, if it is exceeded.
    pub over_limit: Option<f64>,
}

impl Trend {
    /// True if it fails the night.
    pub fn fails(&self) -> bool {
        self.worse || self.over_limit.is_some()
    }
}

/// All numbers of a server's runs, tonight (last) and in the nights before. `comparisons`: how many tests this night makes
/// in all, so that together they alarm as rarely as the file says.
pub fn trends(
    server: &str,
    nights: &[Vec<&Outcome>],
    rules: &RegressionFile,
    limits: &Limits,
    comparisons: usize,
) -> Vec<Trend> {
    let Some((tonight, before)) = nights.split_last() else { return Vec::new() };
    let before = &before[before.len().saturating_sub(rules.nights)..];
    let alpha = rules.alpha / comparisons.max(1) as f64;
    MEASURES
        .into_iter()
        .filter_map(|measure| {
            let values = |runs: &Vec<&Outcome>| -> Vec<f64> {
                runs.iter().filter_map(|outcome| measure.of(outcome)).collect()
            };
            let now = values(tonight);
            let nights: Vec<Vec<f64>> = before.iter().map(values).filter(|night| !night.is_empty()).collect();
            let all_before: Vec<f64> = nights.concat();
            let median_now = median(&now)?;
            let medians_before: Vec<f64> = nights.iter().filter_map(|night| median(night)).collect();
            let p = greater(&now, &all_before);
            let was = median(&all_before);
            let change_pct = was.filter(|was| *was > 0.0).map(|was| (median_now / was - 1.0) * 100.0);
            // From nothing to something is a change of any size.
            let matters = change_pct.map_or(median_now > 0.0, |change| change >= rules.min_change_pct);
            let beyond_all = medians_before.iter().all(|before| median_now > *before);
            let worse = p < alpha && matters && beyond_all;
            let over_limit = measure.limit(limits).filter(|limit| median_now > *limit);
            Some(Trend {
                server: server.to_owned(),
                measure,
                runs: now.len(),
                median: median_now,
                medians_before,
                p,
                change_pct,
                worse,
                over_limit,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::campaign::tests::outcome;

    /// A night of 30 runs whose failover takes about `median` seconds.
    fn night(rng: &mut impl Rng, seconds: f64) -> Vec<Outcome> {
        (0..30)
            .map(|number| {
                let mut run = outcome(number, "embedded", &[]);
                run.numbers.recoveries_s = vec![seconds * rng.random_range(0.5..1.8)];
                run
            })
            .collect()
    }

    fn recovery(nights: &[Vec<Outcome>], limits: &Limits) -> Trend {
        let nights: Vec<Vec<&Outcome>> = nights.iter().map(|night| night.iter().collect()).collect();
        let trends = trends("embedded", &nights, &RegressionFile::default(), limits, MEASURES.len());
        trends.into_iter().find(|trend| trend.measure == Measure::RecoveryS).unwrap()
    }

    #[test]
    fn a_failover_that_takes_twice_as_long_is_seen_and_noise_is_not() {
        let mut rng = crate::plan::seed::rng(1, "regression");
        let mut alarms = 0;
        for _ in 0..100 {
            let calm: Vec<Vec<Outcome>> = (0..8)
                .map(|_| {
                    let of_night = rng.random_range(1.9..2.1);
                    night(&mut rng, of_night)
                })
                .collect();
            alarms += u32::from(recovery(&calm, &Limits::default()).fails());
        }
        assert!(alarms <= 2, "{alarms} false alarms in 100 nights");
        let mut nights: Vec<Vec<Outcome>> = (0..7).map(|_| night(&mut rng, 2.0)).collect();
        nights.push(night(&mut rng, 4.0));
        let trend = recovery(&nights, &Limits::default());
        assert!(trend.worse && trend.change_pct.unwrap() > 50.0, "{trend:?}");
    }

    #[test]
    fn a_change_that_does_not_matter_is_no_regression_however_sure_it_is() {
        let mut rng = crate::plan::seed::rng(2, "regression");
        let many = |rng: &mut rand_chacha::ChaCha8Rng, seconds: f64| -> Vec<Outcome> {
            (0..30).flat_map(|_| night(rng, seconds)).collect()
        };
        let mut nights: Vec<Vec<Outcome>> = (0..3).map(|_| many(&mut rng, 2.0)).collect();
        nights.push(many(&mut rng, 2.1));
        let trend = recovery(&nights, &Limits::default());
        assert!(trend.p < 0.01 && !trend.worse, "{trend:?}");
    }

    #[test]
    fn the_first_night_has_no_trend_but_limits() {
        let mut rng = crate::plan::seed::rng(3, "regression");
        let nights = [night(&mut rng, 2.0)];
        assert!(!recovery(&nights, &Limits::default()).fails());
        let limits = Limits { max_recovery_s: Some(1.0), ..Limits::default() };
        assert_eq!(recovery(&nights, &limits).over_limit, Some(1.0));
    }
}
