//! How presets make a fault of each kind: whom, how long, and what else happens around it.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use slotstorm_checker::record::FailoverMode;
use slotstorm_fabric::{Fate, OnHeal, Plane, Policy, message_type};

use super::trigger::Trigger;
use super::{ClientSide, Down, Flap, Kind, Load, Network, Restart, Shape};
use crate::backend::{ClockShift, Damage, DataFile, Disk};
use crate::plan::{Placed, Selector, Span};

/// What drawing depends on.
pub struct Draw<'r> {
    pub rng: &'r mut ChaCha8Rng,
    pub node_timeout_s: f64,
    /// One fault at a time, as the default storm has them.
    pub plain: bool,
}

/// A fault of an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Seconds after the episode's begin.
    pub at_s: f64,
    /// It waits for this from then on,
    pub on: Option<Trigger>,
    /// and so many seconds longer.
    pub delay_s: f64,
    /// It is left out where it could take the last sound copy of a shard.
    pub careful: bool,
    pub target: Selector,
    pub kind: Kind,
}

impl Drawn {
    pub(super) fn new(target: Selector, kind: Kind) -> Self {
        Self { at_s: 0.0, on: None, delay_s: 0.0, careful: true, target, kind }
    }

    /// So much later.
    pub(super) fn after(mut self, at_s: f64) -> Self {
        self.at_s = at_s;
        self
    }

    /// When this happens, from the begin on.
    pub(super) fn on(mut self, moment: &str) -> Self {
        self.on = Some(moment.parse().expect("a moment of this file"));
        self
    }

    /// Also where that copy is the last one: what is lost then lies in a documented window.
    fn reckless(mut self) -> Self {
        self.careful = false;
        self
    }
}

/// Milliseconds are enough, and read better.
pub fn rounded(secs: f64) -> Span {
    Span::Secs((secs * 1000.0).round() / 1000.0)
}

impl Draw<'_> {
    fn between(&mut self, least: f64, most: f64) -> f64 {
        self.rng.random_range(least..most)
    }

    /// Long enough for a failover: PFAIL at up to 1.5 NT + 0.2 s, an election of 0.5 to 1 s and gossip.
    pub(super) fn long(&mut self) -> Span {
        rounded(self.between(2.4, 3.0) * self.node_timeout_s + 0.5)
    }

    /// Too short for one.
    fn short(&mut self) -> Span {
        rounded(self.between(0.1, 0.8) * self.node_timeout_s)
    }

    fn slot(&mut self) -> u16 {
        self.rng.random_range(0..16384)
    }

    /// True once in so many times; never in the default storm.
    fn one_in(&mut self, times: u32) -> bool {
        !self.plain && self.rng.random_range(0..times) == 0
    }

    fn either(&mut self) -> Span {
        if self.rng.random() { self.long() } else { self.short() }
    }

    fn network(&mut self, target: Selector, shape: Shape, policy: Policy) -> Drawn {
        let duration = if policy == Policy::Reset { Span::Secs(0.0) } else { self.long() };
        let planes = match self.rng.random_range(0..6) {
            0 => vec![Plane::Bus],
            1 => vec![Plane::Replication],
            _ => Plane::ALL.to_vec(),
        };
        let clients = ClientSide::Side;
        Drawn::new(target, Kind::Network(Network { shape, policy, planes, clients, duration, flap: None }))
    }

    /// The whole of a node, as the default storm has it.
    fn whole(&mut self, target: Selector, shape: Shape, policy: Policy) -> Drawn {
        let mut drawn = self.network(target, shape, policy);
        if let Kind::Network(network) = &mut drawn.kind {
            network.planes = Plane::ALL.to_vec();
            if matches!(shape, Shape::MajorityRing | Shape::Bridge) {
                network.clients = ClientSide::Both;
            }
        }
        drawn
    }

    /// Of these sets of types one; on all links of the target, or only on those to one node or to replicas.
    fn messages(&mut self, fate: Fate, sets: &[&[&str]]) -> Vec<Drawn> {
        let kinds = sets.choose(self.rng).expect("some");
        let target = *[Selector::RandomMaster, Selector::RandomReplica, Selector::All]
            .choose(self.rng)
            .expect("three");
        let to = *[None, None, Some(Selector::RandomNode), Some(Selector::AllReplicas)]
            .choose(self.rng)
            .expect("four");
        let duration = self.long();
        let of_them = Drawn::new(target, message_fault(fate, kinds, to, duration));
        // Without a failover in it there is little to hit.
        let failover = if self.rng.random_range(0..3) == 0 {
            Drawn::new(Selector::RandomReplica, Kind::Failover { mode: FailoverMode::Plain })
        } else {
            Drawn::new(Selector::RandomMaster, dead(self.long()))
        };
        vec![of_them, failover.after(0.1)]
    }

    fn damaged(&mut self, target: Selector, damage: Damage) -> Vec<Drawn> {
        let restart = Restart::After(self.either());
        vec![Drawn::new(target, Kind::Down { how: Down::Kill, restart, wipe: false, damage: Some(damage) })]
    }

    /// Now and then the work is disturbed while it goes on: at some time, or in the middle of a key's way and shortly after.
    fn disturbed(&mut self, mut work: Vec<Drawn>) -> Vec<Drawn> {
        let trouble = self.rng.random_range(0..6);
        if trouble < 2 {
            return work;
        }
        let kind = match self.rng.random_range(0..3) {
            0 => dead(self.either()),
            1 => Kind::Pause { duration: self.either() },
            _ => self.whole(Selector::It, Shape::Around, HOLE).kind,
        };
        work.push(if trouble < 4 {
            // Small moves are over within some tens of milliseconds, big ones take seconds.
            let at_s = match trouble {
                2 => self.between(0.002, 0.06),
                _ => self.between(0.05, 0.6) * self.node_timeout_s,
            };
            Drawn::new(Selector::RandomMaster, kind).after(at_s)
        } else {
            let target = if self.rng.random() { Selector::Sender } else { Selector::Receiver };
            let nth = *[1, 1, 1, 2, 3, 8].choose(self.rng).expect("six");
            let mut fault = Drawn::new(target, kind).on(&format!("{nth} RESTORE-ASKING on migrate"));
            fault.delay_s = if self.rng.random() { 0.0 } else { self.between(0.0, 0.03) };
            fault
        });
        work
    }

    /// The replica of a slot gets its master's stream late, slowly or not at all.
    fn lagging(&mut self, slot: u16) -> Drawn {
        let policy = match self.rng.random_range(0..4) {
            0 => Policy::Delay { delay_ms: self.rng.random_range(100..=2000), jitter_ms: 50 },
            1 => Policy::Rate { bytes_per_s: self.rng.random_range(500..=5000) },
            _ => HOLE,
        };
        let mut lag = self.network(Selector::ReplicaOfSlot(slot), Shape::Around, policy);
        if let Kind::Network(network) = &mut lag.kind {
            network.planes = vec![Plane::Replication];
            network.clients = ClientSide::Both;
        }
        lag
    }
}

fn message_fault(fate: Fate, kinds: &[&str], to: Option<Selector>, duration: Span) -> Kind {
    let which = kinds.iter().filter_map(|kind| message_type(kind)).collect();
    Kind::Messages { fate, which, to, epochs: None, percent: 100, duration }
}

const HOLE: Policy = Policy::Blackhole { on_heal: OnHeal::Resume };

pub(super) fn dead(back_after: Span) -> Kind {
    Kind::Down { how: Down::Kill, restart: Restart::After(back_after), wipe: false, damage: None }
}

pub(super) fn kill(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let one = Drawn::new(Selector::RandomMaster, dead(draw.long()));
    if draw.one_in(3) {
        // Two shards elect at once, and a voter comes back without knowing whom it voted for, if it forgets that.
        let at_s = draw.between(0.0, 0.05);
        let other = Drawn::new(Selector::RandomMaster, dead(draw.long())).after(at_s);
        let back = rounded(draw.between(0.0, 0.1) * draw.node_timeout_s);
        let mut all = vec![one, other, Drawn::new(Selector::Sender, dead(back)).on("auth-ack")];
        if draw.rng.random() {
            // They hear late of each other's epoch, and both ask in the same one.
            let late = Fate::Delay { ms: draw.rng.random_range(50..=600) };
            let duration = draw.long();
            all.push(Drawn::new(Selector::All, message_fault(late, &["auth-req"], None, duration)));
        }
        return all;
    }
    if draw.one_in(2) {
        // A replica is behind when its master dies: for long enough it may not be elected at all.
        let slot = draw.slot();
        let mut lag = draw.lagging(slot);
        let (least, most) = if draw.rng.random() { (0.2, 3.0) } else { (3.0, 8.0) };
        let at_s = draw.between(least, most) * draw.node_timeout_s;
        if let Kind::Network(network) = &mut lag.kind {
            network.duration = rounded(at_s + draw.between(1.5, 3.0) * draw.node_timeout_s);
        }
        return vec![lag, Drawn::new(Selector::MasterOfSlot(slot), dead(draw.long())).after(at_s).reckless()];
    }
    vec![one]
}

pub(super) fn term(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let restart = Restart::After(draw.long());
    let target = *[Selector::RandomMaster, Selector::RandomReplica].choose(draw.rng).expect("two");
    vec![Drawn::new(target, Kind::Down { how: Down::Term, restart, wipe: false, damage: None })]
}

pub(super) fn restart(_: &mut Draw<'_>) -> Vec<Drawn> {
    let restart = Restart::After(Span::Secs(0.0));
    vec![Drawn::new(
        Selector::RandomMaster,
        Kind::Down { how: Down::Restart, restart, wipe: false, damage: None },
    )]
}

pub(super) fn restart_loop(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let (up, down) = (draw.between(0.2, 0.8), draw.between(0.05, 0.4));
    let kind = Kind::RestartLoop {
        up: rounded(up * draw.node_timeout_s),
        down: rounded(down * draw.node_timeout_s),
        duration: draw.long(),
    };
    vec![Drawn::new(Selector::RandomNode, kind)]
}

pub(super) fn crash_all(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let restart = Restart::After(draw.short());
    vec![Drawn::new(Selector::All, Kind::Down { how: Down::CrashAll, restart, wipe: false, damage: None })]
}

pub(super) fn pause(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let duration = draw.long();
    if draw.one_in(2) {
        // A replica sleeps through a failover, of its own master or another, and wakes among old and new messages.
        let slot = draw.slot();
        let asleep = Drawn::new(Selector::ReplicaOfSlot(slot), Kind::Pause { duration });
        let master = if draw.one_in(3) { Selector::RandomMaster } else { Selector::MasterOfSlot(slot) };
        let at_s = draw.between(0.05, 0.5);
        return vec![asleep, Drawn::new(master, dead(draw.long())).after(at_s)];
    }
    vec![Drawn::new(Selector::RandomMaster, Kind::Pause { duration })]
}

pub(super) fn slow(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let (run, stop) = (rounded(draw.between(0.01, 0.05)), rounded(draw.between(0.05, 0.3)));
    vec![Drawn::new(Selector::RandomMaster, Kind::Slow { run, stop, duration: draw.long() })]
}

pub(super) fn wipe(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let restart = Restart::After(draw.either());
    vec![Drawn::new(
        Selector::RandomReplica,
        Kind::Down { how: Down::Kill, restart, wipe: true, damage: None },
    )]
}

pub(super) fn roll_back_config(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let mut all = draw.damaged(Selector::RandomNode, Damage::RollBackConfig);
    let after = draw.long();
    all.insert(0, Drawn::new(Selector::RandomMaster, dead(after)));
    all[1].at_s = after.secs(0) + 1.0;
    all
}

pub(super) fn truncate(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let file = *[DataFile::Config, DataFile::Aof].choose(draw.rng).expect("two");
    let permille = draw.rng.random_range(1..=200);
    draw.damaged(Selector::RandomReplica, Damage::Truncate { file, permille })
}

pub(super) fn corrupt(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let file = *[DataFile::Config, DataFile::Aof].choose(draw.rng).expect("two");
    let bytes = draw.rng.random_range(1..=8);
    draw.damaged(Selector::RandomReplica, Damage::Corrupt { file, bytes })
}

pub(super) fn read_only(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let kind = Kind::Disk { disk: Disk::ReadOnly, duration: draw.long() };
    let failover = Kind::Failover { mode: FailoverMode::Plain };
    vec![Drawn::new(Selector::RandomNode, kind), Drawn::new(Selector::RandomReplica, failover).after(0.3)]
}

pub(super) fn disk_full(draw: &mut Draw<'_>) -> Vec<Drawn> {
    vec![Drawn::new(Selector::RandomNode, Kind::Disk { disk: Disk::Full, duration: draw.long() })]
}

pub(super) fn isolate(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let target = match draw.rng.random_range(0..8) {
        0 => Selector::Minority(Placed::With(draw.rng.random_range(0..16384))),
        _ => Selector::RandomMaster,
    };
    vec![draw.whole(target, Shape::Around, HOLE)]
}

pub(super) fn halves(draw: &mut Draw<'_>) -> Vec<Drawn> {
    vec![draw.whole(Selector::All, Shape::Halves, HOLE)]
}

pub(super) fn majority_ring(draw: &mut Draw<'_>) -> Vec<Drawn> {
    vec![draw.whole(Selector::All, Shape::MajorityRing, HOLE)]
}

pub(super) fn bridge(draw: &mut Draw<'_>) -> Vec<Drawn> {
    vec![draw.whole(Selector::RandomNode, Shape::Bridge, HOLE)]
}

pub(super) fn one_way(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let shape = if draw.rng.random() { Shape::Outgoing } else { Shape::Incoming };
    vec![draw.network(Selector::RandomMaster, shape, HOLE)]
}

pub(super) fn flapping(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let mut drawn = draw.network(Selector::RandomMaster, Shape::Around, HOLE);
    let (down, up) = (draw.between(0.3, 1.2), draw.between(0.1, 0.6));
    if let Kind::Network(network) = &mut drawn.kind {
        network.flap =
            Some(Flap { down: rounded(down * draw.node_timeout_s), up: rounded(up * draw.node_timeout_s) });
    }
    vec![drawn]
}

pub(super) fn refuse(draw: &mut Draw<'_>) -> Vec<Drawn> {
    vec![draw.network(Selector::RandomMaster, Shape::Around, Policy::Refuse)]
}

pub(super) fn reset(draw: &mut Draw<'_>) -> Vec<Drawn> {
    vec![draw.network(Selector::RandomMaster, Shape::Around, Policy::Reset)]
}

pub(super) fn delay(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let delay_ms = draw.rng.random_range(20..=200);
    let policy = Policy::Delay { delay_ms, jitter_ms: delay_ms / 2 };
    vec![draw.network(Selector::RandomMaster, Shape::Around, policy)]
}

pub(super) fn half_close(draw: &mut Draw<'_>) -> Vec<Drawn> {
    vec![draw.network(Selector::RandomMaster, Shape::Around, Policy::HalfClose)]
}

pub(super) fn dead_connections(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let mut dead = draw.whole(Selector::RandomNode, Shape::Around, Policy::Dead);
    if let Kind::Network(network) = &mut dead.kind {
        // A replica would only notice after repl-timeout, and clients after their own.
        network.planes = vec![Plane::Bus];
        network.clients = ClientSide::Both;
        network.duration = rounded(1.5 * draw.node_timeout_s);
    }
    vec![dead]
}

pub(super) fn stall(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let policy = Policy::Stall { permille: draw.rng.random_range(20..=300), stall_ms: 200 };
    vec![draw.network(Selector::RandomNode, Shape::Around, policy)]
}

pub(super) fn rate(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let policy = Policy::Rate { bytes_per_s: draw.rng.random_range(10_000..=100_000) };
    vec![draw.network(Selector::RandomNode, Shape::Around, policy)]
}

pub(super) fn drop_messages(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let sets: [&[&str]; 5] =
        [&["auth-ack"], &["auth-req"], &["fail"], &["update", "fail"], &["ping", "pong", "update"]];
    draw.messages(Fate::Drop, &sets)
}

pub(super) fn delay_messages(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let ms = draw.rng.random_range(50..=600);
    let sets: [&[&str]; 3] = [&["pong", "update", "auth-ack"], &["ping", "pong", "update"], &["auth-req"]];
    draw.messages(Fate::Delay { ms }, &sets)
}

pub(super) fn duplicate_messages(draw: &mut Draw<'_>) -> Vec<Drawn> {
    draw.messages(Fate::Duplicate, &[&["auth-req", "auth-ack", "fail", "update"]])
}

pub(super) fn reorder_messages(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let ms = draw.rng.random_range(50..=600);
    draw.messages(Fate::Reorder { ms }, &[&["pong", "update", "auth-ack", "fail"]])
}

pub(super) fn clock_jump(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let offset_ms = *[-3_600_000, -5000, -500, 500, 5000, 3_600_000].choose(draw.rng).expect("six");
    let shift = ClockShift { offset_ms, drift_ppm: 0 };
    let (duration, back) = (draw.long(), draw.long());
    vec![
        Drawn::new(Selector::RandomNode, Kind::Clock { shift, duration }),
        Drawn::new(Selector::RandomMaster, dead(back)).after(0.2),
    ]
}

pub(super) fn clock_drift(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let drift_ppm = *[-200_000, -10_000, 10_000, 200_000].choose(draw.rng).expect("four");
    let shift = ClockShift { offset_ms: 0, drift_ppm };
    let duration = Span::Secs(draw.long().secs(0) * 1.5);
    let back = draw.long();
    vec![
        Drawn::new(Selector::RandomNode, Kind::Clock { shift, duration: rounded(duration.secs(0)) }),
        Drawn::new(Selector::RandomMaster, dead(back)).after(0.2),
    ]
}

pub(super) fn failover(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let by_hand = |mode| Kind::Failover { mode };
    let (slot, duration) = (draw.slot(), draw.long());
    let replica = Selector::ReplicaOfSlot(slot);
    match draw.rng.random_range(0..7) {
        // There and back again, before voters may vote for that shard once more; or after, and the last has to catch up.
        0 => {
            let lags = draw.rng.random();
            let (least, most) = if lags { (1.05, 1.6) } else { (0.25, 0.8) };
            let every_s = draw.between(least, most) * draw.node_timeout_s;
            let again = |time: u32| {
                Drawn::new(replica, by_hand(FailoverMode::Plain)).after(f64::from(time) * every_s)
            };
            let mut all: Vec<Drawn> = (0..3).map(again).collect();
            if lags {
                let lag = draw.lagging(slot).after(1.2 * every_s);
                all.insert(2, lag);
            }
            all
        }
        // The replica is behind and has to catch up first.
        1 => {
            let lag = draw.lagging(slot);
            let at_s = draw.between(0.1, 1.0);
            vec![lag, Drawn::new(replica, by_hand(FailoverMode::Plain)).after(at_s)]
        }
        // Both sides of a cut take an epoch alone.
        2 => {
            let cut = draw.whole(Selector::MasterOfSlot(slot), Shape::Around, HOLE);
            let bump = Kind::Command { command: "CLUSTER BUMPEPOCH".to_owned() };
            let (one, other) = (draw.between(0.05, 0.6), draw.between(0.65, 1.0));
            vec![
                cut,
                Drawn::new(Selector::MasterOfSlot(slot), bump).after(one),
                Drawn::new(replica, by_hand(FailoverMode::Takeover)).after(other),
            ]
        }
        // Some hear late of the new master, or not for a while: the old one and the others are heard before.
        3 => {
            let ms = draw.rng.random_range(50..=600);
            let fate =
                *[Fate::Drop, Fate::Delay { ms }, Fate::Reorder { ms }].choose(draw.rng).expect("three");
            let to = if draw.rng.random() { Selector::AllReplicas } else { Selector::RandomNode };
            let deaf = message_fault(fate, &["ping", "pong", "update"], Some(to), duration);
            let at_s = draw.between(0.05, 0.3);
            let failover = Drawn::new(Selector::It, by_hand(FailoverMode::Plain)).after(at_s);
            vec![Drawn::new(replica, deaf), failover]
        }
        // What hides behind exact moments.
        _ => {
            let modes =
                [FailoverMode::Plain, FailoverMode::Plain, FailoverMode::Force, FailoverMode::Takeover];
            let mode = *modes.choose(draw.rng).expect("four");
            let mut all = vec![Drawn::new(Selector::RandomReplica, by_hand(mode))];
            match draw.rng.random_range(0..4) {
                0 => all.push(Drawn::new(Selector::Sender, Kind::Pause { duration }).on("auth-ack")),
                1 => all.push(Drawn::new(Selector::NewMaster, dead(duration)).on("promotion")),
                2 => all.push(Drawn::new(Selector::Receiver, dead(draw.short())).on("2nd auth-req")),
                _ => {}
            }
            all
        }
    }
}

pub(super) fn del_node(_: &mut Draw<'_>) -> Vec<Drawn> {
    vec![Drawn::new(Selector::RandomReplica, Kind::DelNode)]
}

pub(super) fn add_node(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let after = draw.between(3.0, 5.0);
    let mut all = del_node(draw);
    all.push(Drawn::new(Selector::All, Kind::AddNode).after(after));
    all
}

pub(super) fn reshard(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let kind = Kind::Reshard { slots: draw.rng.random_range(20..=1500), slot: None, to: None };
    draw.disturbed(vec![Drawn::new(Selector::RandomMaster, kind)])
}

pub(super) fn rebalance(draw: &mut Draw<'_>) -> Vec<Drawn> {
    draw.disturbed(vec![Drawn::new(Selector::All, Kind::Rebalance)])
}

pub(super) fn forget(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let duration = draw.long();
    let forgotten = Drawn::new(Selector::RandomReplica, Kind::Forget { duration });
    if draw.one_in(2) {
        return vec![forgotten];
    }
    // One is not there to be told, and speaks of the forgotten later.
    let away = rounded(draw.between(0.1, 0.8) * draw.node_timeout_s);
    let asleep = Drawn::new(Selector::RandomNode, Kind::Pause { duration: away });
    vec![asleep, forgotten.after(0.05)]
}

pub(super) fn config(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let settings = [
        ("repl-backlog-size", "16384"),
        ("cluster-replica-validity-factor", "0"),
        ("appendfsync", "always"),
        ("min-replicas-to-write", "1"),
        ("cluster-allow-replica-migration", "no"),
    ];
    let (option, value) = *settings.choose(draw.rng).expect("some");
    let (option, value, duration) = (option.to_owned(), value.to_owned(), draw.long());
    vec![Drawn::new(Selector::RandomMaster, Kind::Config { option, value, duration })]
}

pub(super) fn command(draw: &mut Draw<'_>) -> Vec<Drawn> {
    if draw.one_in(2) {
        return stolen_slot(draw);
    }
    let commands = ["BGREWRITEAOF", "BGSAVE", "CLUSTER SAVECONFIG", "CLUSTER BUMPEPOCH"];
    let command = (*commands.choose(draw.rng).expect("four")).to_owned();
    vec![Drawn::new(Selector::RandomMaster, Kind::Command { command })]
}

/// A master claims a slot of another by hand, with keys in it, and later the slot goes back.
fn stolen_slot(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let workload = *["set", "append"].choose(draw.rng).expect("two");
    let key = format!("{workload}:{}", draw.rng.random_range(0..100));
    let slot = redis_protocol::redis_keyslot(key.as_bytes());
    // Neighbours have one master.
    let (thief, owner) = (draw.slot(), if slot == 0 { 1 } else { slot - 1 });
    let back_s = draw.between(0.3, 1.5) * draw.node_timeout_s;
    let said = |master: u16, at_s: f64, command: String| {
        Drawn::new(Selector::MasterOfSlot(master), Kind::Command { command }).after(at_s)
    };
    let claim = |master: u16| format!("CLUSTER SETSLOT {slot} NODE {{id of master of slot {master}}}");
    let bump = || "CLUSTER BUMPEPOCH".to_owned();
    // The epoch first: an owner whose epoch is smaller than the last one's breaks a rule by itself.
    vec![
        said(thief, 0.0, bump()),
        said(thief, 0.01, claim(thief)),
        said(owner, back_s, bump()),
        said(owner, back_s + 0.01, claim(owner)),
    ]
}

pub(super) fn burst(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let rate = draw.rng.random_range(2000..=10_000);
    load(Load::Burst { rate }, Span::Secs(3.0))
}

pub(super) fn big_values(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let (count, bytes) = (draw.rng.random_range(5..=20), draw.rng.random_range(100_000..=2_000_000));
    load(Load::BigValues { count, bytes }, Span::Secs(4.0))
}

pub(super) fn slow_command(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let factor = draw.between(0.3, 1.6);
    load(Load::SlowCommand, rounded(factor * draw.node_timeout_s))
}

pub(super) fn flood(draw: &mut Draw<'_>) -> Vec<Drawn> {
    load(Load::Flood { count: draw.rng.random_range(50..=300) }, Span::Secs(3.0))
}

pub(super) fn overflow(_: &mut Draw<'_>) -> Vec<Drawn> {
    load(Load::Overflow { bytes: 30_000_000 }, Span::Secs(4.0))
}

fn load(load: Load, duration: Span) -> Vec<Drawn> {
    vec![Drawn::new(Selector::RandomMaster, Kind::Load { load, duration })]
}
