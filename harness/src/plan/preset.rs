//! Schedules made from a preset and a seed. Pure: the same seed gives the same schedule text. Times are
//! relative to the node timeout (NT), and between two faults the cluster gets the time it needs to be whole
//! again.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use slotstorm_fabric::{OnHeal, Plane, Policy};

use super::fault::{ClientSide, Down, Fault, Kind, Restart, Shape, When};
use super::seed;
use super::selector::Selector;
use super::span::Span;

/// A preset's name and what it does, for people.
pub struct Preset {
    pub name: &'static str,
    pub about: &'static str,
    templates: &'static [Template],
}

/// What kinds of faults presets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Template {
    KillMaster,
    KillReplica,
    TermMaster,
    PauseMaster,
    IsolateMaster,
    Halves,
    OneWay,
    RefuseMaster,
    ResetMaster,
    DelayMaster,
    HalfCloseMaster,
}

use Template::{
    DelayMaster, HalfCloseMaster, Halves, IsolateMaster, KillMaster, KillReplica, OneWay, PauseMaster,
    RefuseMaster, ResetMaster, TermMaster,
};

/// All presets.
pub const PRESETS: [Preset; 7] = [
    Preset {
        name: "failover",
        about: "kill -9 of a master and its restart, pause of a master and isolation of a master with some of its \
                clients for more than 2 NT",
        templates: &[KillMaster, PauseMaster, IsolateMaster],
    },
    Preset { name: "calm", about: "no faults: the cluster and the harness alone", templates: &[] },
    Preset {
        name: "kill",
        about: "masters and replicas are ended (kill -9, SIGTERM) and come back",
        templates: &[KillMaster, TermMaster, KillReplica],
    },
    Preset {
        name: "pause",
        about: "masters are stopped (SIGSTOP) for more than 2 NT",
        templates: &[PauseMaster],
    },
    Preset {
        name: "partition",
        about: "isolated masters, halves, one-way cuts",
        templates: &[IsolateMaster, Halves, OneWay],
    },
    Preset {
        name: "flaky",
        about: "links that are slow, reset, refused or half closed",
        templates: &[DelayMaster, ResetMaster, RefuseMaster, HalfCloseMaster],
    },
    Preset {
        name: "everything",
        about: "all of the above in turn",
        templates: &[
            KillMaster,
            PauseMaster,
            IsolateMaster,
            TermMaster,
            Halves,
            OneWay,
            KillReplica,
            DelayMaster,
            ResetMaster,
            RefuseMaster,
            HalfCloseMaster,
        ],
    },
];

/// Finds a preset.
pub fn find(name: &str) -> Result<&'static Preset, String> {
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
}

/// Quiet after a fault, in NT: a returned node is a replica again and has synced, FAIL flags are gone. Redis'
/// own delays behind it: FAIL is cleared within 2 NT, a healed minority waits up to NT to rejoin, a replica
/// reconnects in about 1 s.
const RECOVERY_NT: f64 = 2.5;
/// Below small node timeouts Redis' fixed delays (1 s crons, elections of 0.5 to 1 s) rule: recovery is never
/// shorter.
const RECOVERY_MIN_S: f64 = 4.0;

impl Preset {
    /// Makes the schedule: rounds of the preset's faults, each round in a random order, until the next would
    /// not end, with its recovery, before the storm does.
    pub fn generate(&self, frame: Frame) -> Vec<Fault> {
        let mut rng = seed::rng(frame.seed, "plan");
        let node_timeout_s = frame.node_timeout_ms as f64 / 1000.0;
        let recovery_s = (RECOVERY_NT * node_timeout_s).max(RECOVERY_MIN_S);
        let mut faults: Vec<Fault> = Vec::new();
        if self.templates.is_empty() {
            return faults;
        }
        let mut at_s = frame.load_s + rng.random_range(0.0..0.25) * node_timeout_s;
        loop {
            let mut round = self.templates.to_vec();
            round.shuffle(&mut rng);
            for template in round {
                let kind = template.draw(&mut rng, node_timeout_s);
                let lasts_s = kind.duration().map_or(0.0, |span| span.secs(frame.node_timeout_ms));
                // A storm too short for even one fault gets one all the same: its end is healed with
                // everything.
                if at_s + lasts_s + recovery_s > frame.duration_s && !faults.is_empty() {
                    return faults;
                }
                faults.push(Fault { when: When::At(rounded(at_s)), target: template.target(), kind });
                at_s += lasts_s + recovery_s + rng.random_range(0.0..0.5) * node_timeout_s;
                if at_s >= frame.duration_s {
                    return faults;
                }
            }
        }
    }
}

impl Template {
    fn target(self) -> Selector {
        match self {
            KillReplica => Selector::RandomReplica,
            Halves => Selector::All,
            _ => Selector::RandomMaster,
        }
    }

    fn draw(self, rng: &mut ChaCha8Rng, node_timeout_s: f64) -> Kind {
        // Long enough for a failover: PFAIL at up to 1.5 NT + 0.2 s, an election of 0.5 to 1 s and gossip.
        let mut longer_than_failover = || rounded(rng.random_range(2.4..3.0) * node_timeout_s + 0.5);
        let restart = |span| Restart::After(span);
        let network = |shape, policy, duration| Kind::Network {
            shape,
            policy,
            planes: Plane::ALL.to_vec(),
            clients: ClientSide::Side,
            duration,
        };
        let hole = Policy::Blackhole { on_heal: OnHeal::Resume };
        match self {
            KillMaster | KillReplica => {
                Kind::Down { how: Down::Kill, restart: restart(longer_than_failover()), wipe: false }
            }
            TermMaster => {
                Kind::Down { how: Down::Term, restart: restart(longer_than_failover()), wipe: false }
            }
            PauseMaster => Kind::Pause { duration: longer_than_failover() },
            IsolateMaster => network(Shape::Around, hole, longer_than_failover()),
            Halves => network(Shape::Halves, hole, longer_than_failover()),
            OneWay => {
                let duration = longer_than_failover();
                let shape = if rng.random() { Shape::Outgoing } else { Shape::Incoming };
                network(shape, hole, duration)
            }
            RefuseMaster => network(Shape::Around, Policy::Refuse, longer_than_failover()),
            ResetMaster => network(Shape::Around, Policy::Reset, Span::Secs(0.0)),
            DelayMaster => {
                let duration = longer_than_failover();
                let delay_ms = rng.random_range(20..=200);
                network(Shape::Around, Policy::Delay { delay_ms, jitter_ms: delay_ms / 2 }, duration)
            }
            HalfCloseMaster => network(Shape::Around, Policy::HalfClose, longer_than_failover()),
        }
    }
}

/// Milliseconds are enough, and read better.
fn rounded(secs: f64) -> Span {
    Span::Secs((secs * 1000.0).round() / 1000.0)
}
