//! Swarm testing: each seed turns options on or off, so that a thousand storms are not one storm a thousand times. One
//! preset, workload, topology and persistence a storm; no storm has them all, and over many seeds all combinations come.

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::plan::{Directive, PRESETS, StormFile, seed};

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
    let duration_s = [30.0, 60.0][rng.random_range(0..2)];
    let replicas = [1, 1, 2][rng.random_range(0..3)];
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
        set: [("appendfsync".to_owned(), Directive::Text(appendfsync))].into(),
        ..StormFile::default()
    }
}
