//! The flat table of the storm file, checked into a typed fault here, so that a word that means nothing for a kind is an
//! error and never silently ignored.

use serde::{Deserialize, Serialize};
use slotstorm_checker::record::FailoverMode;
use slotstorm_fabric::{Fate, MESSAGE_TYPES, OnHeal, Plane, Policy, message_type};

use super::kinds::{Page, page};
use super::trigger::Trigger;
use super::{ClientSide, Down, Fault, Flap, Kind, Load, Network, Restart, Shape, When};
use crate::backend::{ClockShift, Damage, DataFile, Disk};
use crate::plan::{Selector, Span};

/// The words that every fault has.
const COMMON: &str = "name kind at every offset on delay after times careful";

/// The table as it stands in a storm file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFault {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Span>,
    /// A trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    careful: Option<bool>,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<Span>,
    /// A span, or "never".
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_after: Option<RawRestart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wipe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<RawFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    down: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<RawDirection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    planes: Option<Vec<RawPlane>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<ClientSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<RawPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_heal: Option<RawOnHeal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permille: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stall_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_s: Option<u32>,
    /// Message types.
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epochs: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drift_ppm: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<FailoverMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    option: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum RawRestart {
    After(Span),
    Never(Never),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Never {
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawDirection {
    Out,
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawPlane {
    Bus,
    Replication,
    Migrate,
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawPolicy {
    Blackhole,
    Refuse,
    Reset,
    Delay,
    HalfClose,
    Stall,
    Rate,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOnHeal {
    Resume,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFile {
    Config,
    Aof,
    Rdb,
}

impl TryFrom<RawFault> for Fault {
    type Error = String;

    fn try_from(raw: RawFault) -> Result<Self, String> {
        let page = page(&raw.kind)?;
        raw.refuse_strangers(page)?;
        let kind = raw.typed_kind()?;
        let target = match raw.target {
            Some(target) => target,
            None if kind.targets_all() => Selector::All,
            None => return Err(format!("`{}` needs a `target`, such as \"random master\"", raw.kind)),
        };
        Ok(Self { when: raw.when()?, target, kind, careful: raw.careful.unwrap_or(false), name: raw.name })
    }
}

impl RawFault {
    /// Words that mean nothing for this kind are errors.
    fn refuse_strangers(&self, page: &Page) -> Result<(), String> {
        let given = toml::Table::try_from(self).map_err(|error| error.to_string())?;
        let known = |word: &str| [COMMON, page.words].iter().any(|list| list.split(' ').any(|it| it == word));
        match given.keys().find(|word| !known(word)) {
            Some(word) => Err(format!("`{word}` means nothing for a fault of kind `{}`", self.kind)),
            None => Ok(()),
        }
    }

    fn when(&self) -> Result<When, String> {
        let of_triggers = self.delay.is_some() || self.after.is_some() || self.times.is_some();
        match (self.at, self.every, self.offset, &self.on) {
            (_, _, _, None) if of_triggers => Err("`delay`, `after` and `times` belong to `on`".into()),
            (Some(at), None, None, None) => Ok(When::At(at)),
            (None, Some(every), offset, None) => {
                let (Span::Secs(n) | Span::NodeTimeouts(n)) = every;
                if n <= 0.0 {
                    return Err("`every` must be longer than 0".into());
                }
                Ok(When::Every { every, offset: offset.unwrap_or(every) })
            }
            (None, None, None, Some(on)) => Ok(When::On {
                trigger: on.parse::<Trigger>()?,
                delay: self.delay.unwrap_or(Span::Secs(0.0)),
                after: self.after.unwrap_or(Span::Secs(0.0)),
                times: self.times.unwrap_or(1).max(1),
            }),
            (None, None, _, None) => {
                Err("a fault needs `at`, `on`, or `every` with or without `offset`".into())
            }
            _ => Err("`at`, `every` (with `offset`) and `on` exclude each other".into()),
        }
    }

    fn typed_kind(&self) -> Result<Kind, String> {
        let needs = |word: &str| format!("`{}` needs a `{word}`", self.kind);
        let duration = || self.duration.ok_or_else(|| needs("duration"));
        let restart = match self.restart_after {
            Some(RawRestart::After(span)) => Restart::After(span),
            Some(RawRestart::Never(_)) => Restart::Never,
            None => Restart::After(Span::NodeTimeouts(3.0)),
        };
        let wipe = self.wipe.unwrap_or(false);
        let dead = |how| Kind::Down { how, restart, wipe, damage: None };
        let damaged = |damage| Kind::Down { how: Down::Kill, restart, wipe: false, damage: Some(damage) };
        let file = match self.file {
            Some(RawFile::Config) => DataFile::Config,
            Some(RawFile::Rdb) => DataFile::Rdb,
            Some(RawFile::Aof) | None => DataFile::Aof,
        };
        let messages = |fate| {
            let which = self.types.iter().flatten().map(|name| {
                message_type(name).ok_or_else(|| {
                    format!("no such message type: \"{name}\"; expected some of {}", MESSAGE_TYPES.join(", "))
                })
            });
            let percent = self.percent.unwrap_or(100).min(100);
            let which = which.collect::<Result<_, _>>()?;
            Ok::<_, String>(Kind::Messages {
                fate,
                which,
                to: self.to,
                epochs: self.epochs,
                percent,
                duration: duration()?,
            })
        };
        let delay_ms = || self.delay_ms.ok_or_else(|| needs("delay_ms"));
        let load = |load| Ok::<_, String>(Kind::Load { load, duration: duration()? });
        let count = || self.count.filter(|n| *n > 0).ok_or_else(|| needs("count"));
        let bytes = || self.bytes.filter(|n| *n > 0).ok_or_else(|| needs("bytes"));
        Ok(match self.kind.as_str() {
            "kill" => dead(Down::Kill),
            "term" => dead(Down::Term),
            "crash-all" => dead(Down::CrashAll),
            "restart" => {
                let restart = Restart::After(Span::Secs(0.0));
                Kind::Down { how: Down::Restart, restart, wipe, damage: None }
            }
            "wipe" => Kind::Down { how: Down::Kill, restart, wipe: true, damage: None },
            "roll-back-config" => damaged(Damage::RollBackConfig),
            "truncate" => {
                damaged(Damage::Truncate { file, permille: self.permille.unwrap_or(10).clamp(1, 1000) })
            }
            "corrupt" => damaged(Damage::Corrupt { file, bytes: count()?.min(u32::from(u16::MAX)) as u16 }),
            "restart-loop" => Kind::RestartLoop {
                up: self.up.ok_or_else(|| needs("up"))?,
                down: self.down.ok_or_else(|| needs("down"))?,
                duration: duration()?,
            },
            "pause" => Kind::Pause { duration: duration()? },
            "slow" => Kind::Slow {
                run: self.run.ok_or_else(|| needs("run"))?,
                stop: self.stop.ok_or_else(|| needs("stop"))?,
                duration: duration()?,
            },
            "read-only" => Kind::Disk { disk: Disk::ReadOnly, duration: duration()? },
            "disk-full" => Kind::Disk { disk: Disk::Full, duration: duration()? },
            "drop-messages" => messages(Fate::Drop)?,
            "delay-messages" => messages(Fate::Delay { ms: delay_ms()? })?,
            "duplicate-messages" => messages(Fate::Duplicate)?,
            "reorder-messages" => messages(Fate::Reorder { ms: delay_ms()? })?,
            "clock-jump" => {
                let offset_ms = self.offset_ms.filter(|ms| *ms != 0).ok_or_else(|| needs("offset_ms"))?;
                Kind::Clock { shift: ClockShift { offset_ms, drift_ppm: 0 }, duration: duration()? }
            }
            "clock-drift" => {
                let drift_ppm = self.drift_ppm.filter(|ppm| *ppm != 0).ok_or_else(|| needs("drift_ppm"))?;
                if drift_ppm <= -1_000_000 {
                    return Err("`drift_ppm` must be more than -1000000: a clock does not stand still".into());
                }
                Kind::Clock { shift: ClockShift { offset_ms: 0, drift_ppm }, duration: duration()? }
            }
            "failover" => Kind::Failover { mode: self.mode.unwrap_or(FailoverMode::Plain) },
            "del-node" => Kind::DelNode,
            "add-node" => Kind::AddNode,
            "reshard" => match (self.slots, self.slot) {
                (None, Some(slot)) if slot < 16384 => {
                    Kind::Reshard { slots: 1, slot: Some(slot), to: self.to }
                }
                (Some(slots), None) if (1..=16384).contains(&slots) => {
                    Kind::Reshard { slots, slot: None, to: self.to }
                }
                _ => return Err("`reshard` needs `slots` (how many) or `slot` (which, 0 to 16383)".into()),
            },
            "rebalance" => Kind::Rebalance,
            "forget" => Kind::Forget { duration: duration()? },
            "config" => Kind::Config {
                option: self.option.clone().ok_or_else(|| needs("option"))?,
                value: self.value.clone().ok_or_else(|| needs("value"))?,
                duration: duration()?,
            },
            "command" => Kind::Command { command: self.command.clone().ok_or_else(|| needs("command"))? },
            "burst" => {
                load(Load::Burst { rate: self.rate.filter(|n| *n > 0).ok_or_else(|| needs("rate"))? })?
            }
            "big-values" => load(Load::BigValues { count: count()?, bytes: bytes()? })?,
            "slow-command" => load(Load::SlowCommand)?,
            "flood" => load(Load::Flood { count: count()? })?,
            "overflow" => load(Load::Overflow { bytes: bytes()? })?,
            _ => Kind::Network(self.typed_network()?),
        })
    }

    fn typed_network(&self) -> Result<Network, String> {
        let kind = self.kind.as_str();
        let needs = |word: &str| format!("`{kind}` needs a `{word}`");
        let shape = match (kind, self.direction) {
            ("halves", _) => Shape::Halves,
            ("majority-ring", _) => Shape::MajorityRing,
            ("bridge", _) => Shape::Bridge,
            ("one-way", Some(RawDirection::In)) => Shape::Incoming,
            ("one-way", _) => Shape::Outgoing,
            _ => Shape::Around,
        };
        let duration = match kind {
            "reset" => Span::Secs(0.0),
            _ => self.duration.ok_or_else(|| needs("duration"))?,
        };
        let flap = match kind {
            "flapping" => Some(Flap {
                down: self.down.ok_or_else(|| needs("down"))?,
                up: self.up.ok_or_else(|| needs("up"))?,
            }),
            _ => None,
        };
        let clients = match shape {
            Shape::MajorityRing | Shape::Bridge => ClientSide::Both,
            _ => self.clients.unwrap_or_default(),
        };
        Ok(Network {
            shape,
            policy: self.typed_policy()?,
            planes: self.typed_planes()?,
            clients,
            duration,
            flap,
        })
    }

    fn typed_policy(&self) -> Result<Policy, String> {
        let policy = match (self.kind.as_str(), self.policy) {
            ("refuse", _) => RawPolicy::Refuse,
            ("reset", _) => RawPolicy::Reset,
            ("delay", _) => RawPolicy::Delay,
            ("half-close", _) => RawPolicy::HalfClose,
            ("stall", _) => RawPolicy::Stall,
            ("rate", _) => RawPolicy::Rate,
            ("dead-connections", _) => RawPolicy::Dead,
            (_, policy) => policy.unwrap_or(RawPolicy::Blackhole),
        };
        let strangers = [
            (
                self.delay_ms.is_some() || self.jitter_ms.is_some(),
                RawPolicy::Delay,
                "`delay_ms` and `jitter_ms` belong to the policy `delay`",
            ),
            (
                self.permille.is_some() || self.stall_ms.is_some(),
                RawPolicy::Stall,
                "`permille` and `stall_ms` belong to the policy `stall`",
            ),
            (self.bytes_per_s.is_some(), RawPolicy::Rate, "`bytes_per_s` belongs to the policy `rate`"),
            (self.on_heal.is_some(), RawPolicy::Blackhole, "`on_heal` belongs to the policy `blackhole`"),
        ];
        if let Some((_, _, why)) = strangers.iter().find(|(given, of, _)| *given && policy != *of) {
            return Err((*why).into());
        }
        Ok(match policy {
            RawPolicy::Blackhole => Policy::Blackhole {
                on_heal: match self.on_heal {
                    Some(RawOnHeal::Reset) => OnHeal::Reset,
                    _ => OnHeal::Resume,
                },
            },
            RawPolicy::Refuse => Policy::Refuse,
            RawPolicy::Reset => Policy::Reset,
            RawPolicy::Delay => Policy::Delay {
                delay_ms: self.delay_ms.unwrap_or(100),
                jitter_ms: self.jitter_ms.unwrap_or(0),
            },
            RawPolicy::HalfClose => Policy::HalfClose,
            RawPolicy::Dead => Policy::Dead,
            RawPolicy::Stall => Policy::Stall {
                permille: self.permille.unwrap_or(100).min(1000),
                stall_ms: self.stall_ms.unwrap_or(200),
            },
            RawPolicy::Rate => {
                let bytes_per_s = self.bytes_per_s.filter(|n| *n > 0);
                Policy::Rate { bytes_per_s: bytes_per_s.ok_or("the policy `rate` needs `bytes_per_s`")? }
            }
        })
    }

    fn typed_planes(&self) -> Result<Vec<Plane>, String> {
        let Some(planes) = &self.planes else { return Ok(Plane::ALL.to_vec()) };
        let mut typed: Vec<Plane> = planes.iter().map(|plane| typed_plane(*plane)).collect();
        typed.sort();
        typed.dedup();
        if typed.is_empty() { Err("`planes` must name at least one plane".into()) } else { Ok(typed) }
    }
}

impl From<Fault> for RawFault {
    fn from(fault: Fault) -> Self {
        let mut raw = Self { kind: fault.kind.name().into(), name: fault.name, ..Self::default() };
        raw.careful = fault.careful.then_some(true);
        match fault.when {
            When::At(at) => raw.at = Some(at),
            When::Every { every, offset } => (raw.every, raw.offset) = (Some(every), Some(offset)),
            When::On { trigger, delay, after, times } => {
                raw.on = Some(trigger.to_string());
                (raw.delay, raw.after, raw.times) = (Some(delay), Some(after), Some(times));
            }
        }
        raw.target = (!fault.kind.targets_all()).then_some(fault.target);
        if !matches!(fault.kind, Kind::Down { .. } | Kind::Failover { .. } | Kind::Command { .. }) {
            raw.duration = fault.kind.duration();
        }
        match fault.kind {
            Kind::Down { how, restart, wipe, damage } => {
                if how != Down::Restart {
                    raw.restart_after = Some(match restart {
                        Restart::After(span) => RawRestart::After(span),
                        Restart::Never => RawRestart::Never(Never::Never),
                    });
                }
                raw.wipe = (wipe && raw.kind != "wipe").then_some(true);
                match damage {
                    Some(Damage::Truncate { file, permille }) => {
                        (raw.file, raw.permille) = (Some(raw_file(file)), Some(permille));
                    }
                    Some(Damage::Corrupt { file, bytes }) => {
                        (raw.file, raw.count) = (Some(raw_file(file)), Some(u32::from(bytes)));
                    }
                    Some(Damage::RollBackConfig) | None => {}
                }
            }
            Kind::RestartLoop { up, down, .. } => (raw.up, raw.down) = (Some(up), Some(down)),
            Kind::Slow { run, stop, .. } => (raw.run, raw.stop) = (Some(run), Some(stop)),
            Kind::Network(network) => raw.put_network(network),
            Kind::Messages { fate, which, to, epochs, percent, .. } => {
                let name = |kind: u16| MESSAGE_TYPES[usize::from(kind)].to_owned();
                raw.types = (!which.is_empty()).then(|| which.into_iter().map(name).collect());
                (raw.to, raw.epochs) = (to, epochs);
                raw.percent = (percent < 100).then_some(percent);
                if let Fate::Delay { ms } | Fate::Reorder { ms } = fate {
                    raw.delay_ms = Some(ms);
                }
            }
            Kind::Clock { shift, .. } => {
                raw.offset_ms = (shift.drift_ppm == 0).then_some(shift.offset_ms);
                raw.drift_ppm = (shift.drift_ppm != 0).then_some(shift.drift_ppm);
            }
            Kind::Failover { mode } => raw.mode = Some(mode),
            Kind::Reshard { slots, slot, to } => {
                (raw.slot, raw.to) = (slot, to);
                raw.slots = slot.is_none().then_some(slots);
            }
            Kind::Config { option, value, .. } => (raw.option, raw.value) = (Some(option), Some(value)),
            Kind::Command { command } => raw.command = Some(command),
            Kind::Load { load, .. } => match load {
                Load::Burst { rate } => raw.rate = Some(rate),
                Load::BigValues { count, bytes } => (raw.count, raw.bytes) = (Some(count), Some(bytes)),
                Load::SlowCommand => {}
                Load::Flood { count } => raw.count = Some(count),
                Load::Overflow { bytes } => raw.bytes = Some(bytes),
            },
            Kind::Pause { .. }
            | Kind::Disk { .. }
            | Kind::Forget { .. }
            | Kind::DelNode
            | Kind::AddNode
            | Kind::Rebalance => {}
        }
        raw
    }
}

impl RawFault {
    fn put_network(&mut self, network: Network) {
        let Network { shape, policy, planes, clients, flap, .. } = network;
        if self.kind == "reset" {
            self.duration = None;
        }
        if !matches!(shape, Shape::MajorityRing | Shape::Bridge) {
            self.clients = Some(clients);
        }
        self.direction = match shape {
            Shape::Outgoing => Some(RawDirection::Out),
            Shape::Incoming => Some(RawDirection::In),
            _ => None,
        };
        if let Some(flap) = flap {
            (self.down, self.up) = (Some(flap.down), Some(flap.up));
        }
        if planes != Plane::ALL {
            self.planes = Some(planes.into_iter().map(raw_plane).collect());
        }
        let named_by_kind = matches!(
            self.kind.as_str(),
            "refuse" | "reset" | "delay" | "half-close" | "stall" | "rate" | "dead-connections"
        );
        let (name, on_heal) = match policy {
            Policy::Pass | Policy::Blackhole { on_heal: OnHeal::Resume } => (None, None),
            Policy::Blackhole { on_heal: OnHeal::Reset } => (None, Some(RawOnHeal::Reset)),
            Policy::Refuse => (Some(RawPolicy::Refuse), None),
            Policy::Reset => (Some(RawPolicy::Reset), None),
            Policy::Delay { delay_ms, jitter_ms } => {
                (self.delay_ms, self.jitter_ms) = (Some(delay_ms), Some(jitter_ms));
                (Some(RawPolicy::Delay), None)
            }
            Policy::HalfClose => (Some(RawPolicy::HalfClose), None),
            Policy::Dead => (Some(RawPolicy::Dead), None),
            Policy::Stall { permille, stall_ms } => {
                (self.permille, self.stall_ms) = (Some(permille), Some(stall_ms));
                (Some(RawPolicy::Stall), None)
            }
            Policy::Rate { bytes_per_s } => {
                self.bytes_per_s = Some(bytes_per_s);
                (Some(RawPolicy::Rate), None)
            }
        };
        self.policy = if named_by_kind { None } else { name };
        self.on_heal = on_heal;
    }
}

fn typed_plane(plane: RawPlane) -> Plane {
    match plane {
        RawPlane::Bus => Plane::Bus,
        RawPlane::Replication => Plane::Replication,
        RawPlane::Migrate => Plane::Migrate,
        RawPlane::Client => Plane::Client,
    }
}

fn raw_plane(plane: Plane) -> RawPlane {
    match plane {
        Plane::Bus => RawPlane::Bus,
        Plane::Replication => RawPlane::Replication,
        Plane::Migrate => RawPlane::Migrate,
        Plane::Client => RawPlane::Client,
    }
}

fn raw_file(file: DataFile) -> RawFile {
    match file {
        DataFile::Config => RawFile::Config,
        DataFile::Aof => RawFile::Aof,
        DataFile::Rdb => RawFile::Rdb,
    }
}
