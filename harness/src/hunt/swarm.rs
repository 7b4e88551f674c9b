//! Swarm testing: each seed turns options on or off, so that a thousand storms are not one storm a thousand times. One
//! preset, workload, topology and persistence a storm; no storm has them all, and over many seeds all combinations come.

use std::fmt::Write as _;

use rand::Rng;
use rand::seq::IndexedRandom;
use sha2::{Digest, Sha256};
use slotstorm_checker::record::Expect;

use crate::plan::{Directive, PRESETS, Plan, StormFile, seed};

/// The name under which it is asked for in place of a preset.
pub const SWARM: &str = "swarm";

/// The storm of a seed.
pub fn storm(number: u64) -> StormFile {
    let mut rng = seed::rng(number, "swarm");
    let presets: Vec<&str> =
        PRESETS.iter().map(|preset| preset.name).filter(|name| *name != "calm").collect();
    let mut pick = |of: &[&str]| (*of.choose(&mut rng).unwrap_or(&"")).to_owned();
    let preset = pick(&presets);
    let workload = pick(&["set", "append"]);
    let appendfsync = pick(&["everysec", "everysec", "always"]);
    let failover_timing = pick(&["fast", "fast", "redis"]);
    // Stale data is refused after this time: a long one is never reached in a storm.
    let (validity_factor, ping_period) = if pick(&["long", "short"]) == "short" { (1, 1) } else { (10, 10) };
    let expect = if pick(&["redis", "redis", "wait"]) == "wait" { Expect::Wait } else { Expect::Redis };
    let duration_s = [30.0, 60.0][rng.random_range(0..2)];
    let replicas = [1, 2][rng.random_range(0..2)];
    let masters = [3, 3, 4, 5][rng.random_range(0..4)];
    let node_timeout_ms = [1000, 2000, 2000, 4000][rng.random_range(0..4)];
    StormFile {
        name: Some(format!("{SWARM}-{preset}")),
        preset: Some(preset),
        seed: Some(number),
        workload: Some(workload),
        duration_s: Some(duration_s),
        rate: Some(200.0),
        clients: Some(5),
        masters: Some(masters),
        replicas: Some(replicas),
        node_timeout_ms: Some(node_timeout_ms),
        expect: Some(expect),
        set: [
            ("appendfsync", Directive::Text(appendfsync)),
            ("failover-timing", Directive::Text(failover_timing)),
            ("cluster-replica-validity-factor", Directive::Number(validity_factor)),
            ("repl-ping-replica-period", Directive::Number(ping_period)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        ..StormFile::default()
    }
}

/// Storms that [`sha256`] is made of.
pub const HASHED: u64 = 1000;

/// Of the schedules of the first storms: whoever changes a preset changes it.
pub fn sha256() -> String {
    let mut hash = Sha256::new();
    for seed in 0..HASHED {
        let text = Plan::from_file(storm(seed), seed).map(|plan| plan.to_file().to_toml(""));
        hash.update(text.unwrap_or_else(|error| error));
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it stands in `results/baselines/zoo.md`. No bug of the zoo may be put in with a look at the storms that hunt it, so
    /// these are frozen: whoever changes a preset changes this hash and says in that file why, before any further bug is made.
    const FROZEN: &str = "141b1f885a8d7eade9bff64b42d8aaea5943f777a237629177a3b42a7f9428ef";

    #[test]
    fn the_storms_that_hunt_the_zoo_are_frozen() {
        assert_eq!(sha256(), FROZEN);
    }
}
