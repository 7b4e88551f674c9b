//! The little statistics that nights need: rates with their intervals, medians, and whether two samples differ.

/// 95 % two-sided.
const Z95: f64 = 1.959_964;

/// Wilson's interval (95 %) of a rate: also right where nothing, or everything, was hit.
pub fn wilson(hits: u64, trials: u64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (trials as f64, hits as f64 / trials as f64);
    let z2 = Z95 * Z95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// How likely it is that `trials` runs show nothing that has this rate.
pub fn unseen(rate: f64, trials: u64) -> f64 {
    (1.0 - rate.clamp(0.0, 1.0)).powf(trials as f64)
}

/// The median; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// A quantile by linear interpolation; `None` of nothing.
pub fn quantile(values: &[f64], at: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = at.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// Mann and Whitney's test, one-sided: how likely values of `now` are as great beside `before` as they are if both are
/// from one distribution. By ranks, so that outliers count no more than any great value; ties are corrected for. 1 if
/// either has fewer than 8, where the normal approximation says nothing.
pub fn greater(now: &[f64], before: &[f64]) -> f64 {
    const ENOUGH: usize = 8;
    if now.len() < ENOUGH || before.len() < ENOUGH {
        return 1.0;
    }
    let mut all: Vec<(f64, bool)> =
        now.iter().map(|&value| (value, true)).chain(before.iter().map(|&value| (value, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let same = all[at..].iter().take_while(|(value, _)| value.total_cmp(&all[at].0).is_eq()).count();
        let rank = at as f64 + f64::midpoint(same as f64, 1.0);
        rank_sum += rank * all[at..at + same].iter().filter(|(_, ours)| *ours).count() as f64;
        ties += (same as f64).powi(3) - same as f64;
        at += same;
    }
    let (n, m) = (now.len() as f64, before.len() as f64);
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (u - n * m / 2.0 - 0.5) / variance.sqrt();
    upper_tail(z)
}

/// Of the standard normal distribution, by Abramowitz and Stegun 26.2.17 (error below 7.5e-8).
fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = series.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    sum * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn an_interval_holds_its_rate_and_shrinks_with_more_runs() {
        let (low, high) = wilson(0, 10);
        assert!(low == 0.0 && (0.27..0.28).contains(&high), "{high}"); // 0.2775 in the tables
        let (low, high) = wilson(5, 10);
        assert!((low - 0.2366).abs() < 1e-3 && (high - 0.7634).abs() < 1e-3, "{low} {high}");
        assert!(wilson(50, 100).0 > low && wilson(50, 100).1 < high);
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn the_normal_tail_is_that_of_the_tables() {
        for (z, tail) in
            [(0.0, 0.5), (1.0, 0.158_655), (1.959_964, 0.025), (3.0, 0.001_35), (-1.0, 0.841_345)]
        {
            assert!((upper_tail(z) - tail).abs() < 1e-5, "{z}");
        }
    }

    #[test]
    fn quantiles_lie_between_the_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[]), None);
        assert_eq!(quantile(&[0.0, 10.0], 0.9), Some(9.0));
    }

    #[test]
    fn a_shift_is_seen_and_the_same_distribution_alarms_as_rarely_as_it_says() {
        let mut rng = crate::plan::seed::rng(7, "statistics");
        // Skewed, with outliers, as failover times are.
        let mut sample = |count: usize, factor: f64| -> Vec<f64> {
            (0..count).map(|_| factor * -rng.random_range(1e-6..1.0_f64).ln()).collect()
        };
        let alarms = (0..1000).filter(|_| greater(&sample(40, 1.0), &sample(200, 1.0)) < 0.01).count();
        assert!(alarms <= 25, "{alarms} of 1000 at 1 %");
        let seen = (0..100).filter(|_| greater(&sample(40, 2.5), &sample(200, 1.0)) < 0.01).count();
        assert!(seen >= 95, "{seen} of 100 seen");
        assert!((greater(&[1.0; 3], &[0.0; 50]) - 1.0).abs() < f64::EPSILON, "too few to say");
        assert!((greater(&[1.0; 20], &[1.0; 20]) - 1.0).abs() < f64::EPSILON, "all the same");
    }
}
