//! Schedules made from a preset and a seed. Pure: the same seed gives the same schedule text. Times are
//! relative to the node timeout (NT), and between two episodes the cluster gets the time it needs to be whole
//! again. Every fault keeps the budget (it is `careful`): it never takes the last sound copy of a shard.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::fault::{Draw, Drawn, Fault, KINDS, Page, When, aimed, rounded};
use super::seed;

/// A preset's name and what it does, for people.
pub struct Preset {
    pub name: &'static str,
    pub about: &'static str,
}

/// All presets. What they are made of stands on the pages of the kinds.
pub const PRESETS: [Preset; 10] = [
    Preset {
        name: "failover",
        about: "kill -9 of a master and its restart, pause of a master and isolation of a master with some of its \
                clients for more than 2 NT",
    },
    Preset { name: "calm", about: "no faults: the cluster and the harness alone" },
    Preset {
        name: "partitions",
        about: "nodes, halves and rings cut off, one way or both, on all planes or one; slow, lossy, flapping, refused \
                and reset links; replicas' links that overflow",
    },
    Preset {
        name: "restarts",
        about: "servers end (kill -9, SIGTERM) and come back, once, in a loop, or all at once; bursts and floods",
    },
    Preset {
        name: "elections",
        about: "votes, FAILs and updates dropped, late, doubled or out of order; voters that pause after their vote, slow, \
                sleeping and killed masters, failovers by hand",
    },
    Preset {
        name: "resharding",
        about: "slots move under load, with big values, while masters are killed, paused and isolated",
    },
    Preset {
        name: "membership",
        about: "failovers by hand, nodes that leave, are forgotten and come back, slots that move, settings that change",
    },
    Preset {
        name: "disk",
        about: "data wiped, nodes.conf rolled back, files cut and corrupted, disks full and read-only (outside the model: \
                what a broken promise of the disk explains is listed, not invalid)",
    },
    Preset { name: "clocks", about: "wall clocks that jump and drift, with failovers in between" },
    Preset {
        name: "everything",
        about: "all kinds of faults (also those outside the model, see disk), many of them in the middle of an election, a \
                promotion, a full sync or a slot's migration",
    },
];

/// Presets of earlier versions.
const FORMER: [(&str, &str); 3] =
    [("kill", "restarts"), ("partition", "partitions"), ("flaky", "partitions")];

/// Finds a preset.
pub fn find(name: &str) -> Result<&'static Preset, String> {
    let name = FORMER.iter().find(|(former, _)| *former == name).map_or(name, |(_, now)| now);
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        format!("no such preset: \"{name}\"; expected one of {}", names.join(", "))
    })
}

/// What generation depends on besides the preset.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub seed: u64,
    pub node_timeout_ms: u64,
    /// Load and storm together, in seconds.
    pub duration_s: f64,
    /// The warm-up without faults, in seconds.
    pub load_s: f64,
    /// Only a subset of the kinds, drawn by seed.
    pub swarm: bool,
}

/// Quiet after a fault, in NT: a returned node is a replica again and has synced, FAIL flags are gone. Redis'
/// own delays behind it: FAIL is cleared within 2 NT, a healed minority waits up to NT to rejoin, a replica
/// reconnects in about 1 s.
const RECOVERY_NT: f64 = 2.5;
/// Below small node timeouts Redis' fixed delays (1 s crons, elections of 0.5 to 1 s) rule: recovery is never
/// shorter.
const RECOVERY_MIN_S: f64 = 4.0;
/// What a fault without a known end is given.
const WORK_S: f64 = 5.0;

impl Preset {
    /// What its storms are made of.
    fn pages(&self) -> Vec<&'static Page> {
        let all = self.is_everything();
        KINDS.iter().filter(|page| all || page.presets.contains(&self.name)).collect()
    }

    fn is_everything(&self) -> bool {
        self.name == "everything"
    }

    /// Makes the schedule: rounds of the preset's kinds, each round in a random order, until the next would
    /// not end, with its recovery, before the storm does.
    pub fn generate(&self, frame: Frame) -> Vec<Fault> {
        let mut rng = seed::rng(frame.seed, "plan");
        let node_timeout_s = frame.node_timeout_ms as f64 / 1000.0;
        let recovery_s = (RECOVERY_NT * node_timeout_s).max(RECOVERY_MIN_S);
        let plain = self.name == PRESETS[0].name;
        let mut faults: Vec<Fault> = Vec::new();
        let mut pages = self.pages();
        if frame.swarm {
            pages = subset(&pages, &mut rng);
        }
        if pages.is_empty() {
            return faults;
        }
        let mut at_s = frame.load_s + rng.random_range(0.0..0.25) * node_timeout_s;
        loop {
            let mut round = pages.clone();
            round.shuffle(&mut rng);
            for page in round {
                let mut draw = Draw { rng: &mut rng, node_timeout_s, plain };
                let mut episode = (page.draw)(&mut draw);
                if self.is_everything() {
                    episode = aimed(&mut draw, episode);
                }
                let lasts_s =
                    episode.iter().map(|one| ends_s(one, frame.node_timeout_ms)).fold(0.0, f64::max);
                // A storm too short for even one fault gets one all the same: its end is healed with
                // everything.
                if at_s + lasts_s + recovery_s > frame.duration_s && !faults.is_empty() {
                    return faults;
                }
                faults.extend(episode.into_iter().map(|one| placed(one, at_s)));
                at_s += lasts_s + recovery_s + rng.random_range(0.0..0.5) * node_timeout_s;
                if at_s >= frame.duration_s {
                    return faults;
                }
            }
        }
    }
}

/// Each with probability one half, and at least one.
fn subset(pages: &[&'static Page], rng: &mut ChaCha8Rng) -> Vec<&'static Page> {
    let mut some: Vec<&'static Page> = pages.iter().copied().filter(|_| rng.random()).collect();
    if some.is_empty() && !pages.is_empty() {
        some.push(pages[rng.random_range(0..pages.len())]);
    }
    some
}

/// When a fault of an episode is over, in seconds after the episode's begin.
fn ends_s(one: &Drawn, node_timeout_ms: u64) -> f64 {
    let lasts = one.kind.duration().map_or(WORK_S, |span| span.secs(node_timeout_ms));
    let waits = if one.on.is_some() { 1.0 } else { 0.0 };
    one.at_s + waits + one.delay_s + lasts
}

fn placed(one: Drawn, begin_s: f64) -> Fault {
    let at = rounded(begin_s + one.at_s);
    let when = match one.on {
        None => When::At(at),
        // Armed a little early, so that what the episode's first fault causes is not missed.
        Some(trigger) => {
            let after = rounded((begin_s + one.at_s - 0.05).max(0.0));
            When::On { trigger, delay: rounded(one.delay_s), after, times: 1 }
        }
    };
    Fault { name: None, when, target: one.target, kind: one.kind, careful: one.careful }
}
