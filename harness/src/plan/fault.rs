//! One fault of a schedule: when, whom, what. The flat table of the storm file is checked into a typed fault
//! here, so that a word that means nothing for a kind is an error and never silently ignored.

use serde::{Deserialize, Serialize};
use slotstorm_fabric::{OnHeal, Plane, Policy};

use super::selector::Selector;
use super::span::Span;

/// A fault of the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawFault", into = "RawFault")]
pub struct Fault {
    /// When it fires.
    pub when: When,
    /// Whom it hits.
    pub target: Selector,
    /// What it does.
    pub kind: Kind,
}

/// When a fault fires, counted from the moment the clients begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// Once.
    At(Span),
    /// At `offset`, and then again every `every` while the storm lasts.
    Every { every: Span, offset: Span },
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// SIGKILL or SIGTERM, and perhaps a restart.
    Down { how: Down, restart: Restart, wipe: bool },
    /// SIGSTOP, and SIGCONT after `duration`.
    Pause { duration: Span },
    /// A change of links, undone after `duration`.
    Network { shape: Shape, policy: Policy, planes: Vec<Plane>, clients: ClientSide, duration: Span },
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// kill -9.
    Kill,
    /// SIGTERM: the server may save and say goodbye.
    Term,
    /// SIGTERM and a start as soon as it is gone.
    Restart,
}

/// When a process that was ended comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Restart {
    /// After this time.
    After(Span),
    /// Not before the storm is over.
    Never,
}

/// Which links a network fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All links between the target's side and the rest, both ways.
    Around,
    /// Only what the target sends to the rest.
    Outgoing,
    /// Only what the rest sends to the target.
    Incoming,
    /// All links between two halves of the cluster; no target.
    Halves,
}

/// Where the clients stand when the network is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientSide {
    /// Some are on the target's side and reach only it, the others reach only the rest.
    #[default]
    Side,
    /// All are with the rest.
    Rest,
    /// All reach everyone: only links between nodes are cut.
    Both,
}

impl Kind {
    /// The name used in storm files and histories.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Down { how: Down::Kill, .. } => "kill",
            Self::Down { how: Down::Term, .. } => "term",
            Self::Down { how: Down::Restart, .. } => "restart",
            Self::Pause { .. } => "pause",
            Self::Network { shape: Shape::Halves, .. } => "halves",
            Self::Network { shape: Shape::Outgoing | Shape::Incoming, .. } => "one-way",
            Self::Network { policy: Policy::Refuse, .. } => "refuse",
            Self::Network { policy: Policy::Reset, .. } => "reset",
            Self::Network { policy: Policy::Delay { .. }, .. } => "delay",
            Self::Network { policy: Policy::HalfClose, .. } => "half-close",
            Self::Network { .. } => "isolate",
        }
    }

    /// How long it lasts, if it ends by itself.
    pub fn duration(&self) -> Option<Span> {
        match self {
            Self::Down { restart: Restart::After(span), .. } => Some(*span),
            Self::Down { restart: Restart::Never, .. } => None,
            Self::Pause { duration } | Self::Network { duration, .. } => Some(*duration),
        }
    }
}

/// The names of all kinds.
pub const KINDS: [&str; 11] = [
    "kill",
    "term",
    "restart",
    "pause",
    "isolate",
    "halves",
    "one-way",
    "refuse",
    "reset",
    "delay",
    "half-close",
];

/// The table as it stands in a storm file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<Span>,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Selector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration: Option<Span>,
    /// A span, or "never".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart_after: Option<RawRestart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wipe: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    direction: Option<RawDirection>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    planes: Option<Vec<RawPlane>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clients: Option<ClientSide>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<RawPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_heal: Option<RawOnHeal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jitter_ms: Option<u32>,
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
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOnHeal {
    Resume,
    Reset,
}

impl TryFrom<RawFault> for Fault {
    type Error = String;

    fn try_from(raw: RawFault) -> Result<Self, String> {
        if !KINDS.contains(&raw.kind.as_str()) {
            return Err(format!(
                "no such kind of fault: \"{}\"; expected one of {}",
                raw.kind,
                KINDS.join(", ")
            ));
        }
        raw.refuse_strangers()?;
        let when = match (raw.at, raw.every, raw.offset) {
            (Some(at), None, None) => When::At(at),
            (None, Some(every), offset) => {
                let (Span::Secs(n) | Span::NodeTimeouts(n)) = every;
                if n <= 0.0 {
                    return Err("`every` must be longer than 0".into());
                }
                When::Every { every, offset: offset.unwrap_or(every) }
            }
            (None, None, _) => return Err("a fault needs `at`, or `every` with or without `offset`".into()),
            (Some(_), _, _) => return Err("`at` excludes `every` and `offset`".into()),
        };
        let target = match (raw.kind.as_str(), raw.target) {
            ("halves", _) => Selector::All,
            (_, Some(target)) => target,
            (kind, None) => return Err(format!("`{kind}` needs a `target`, such as \"random master\"")),
        };
        Ok(Self { when, target, kind: raw.typed_kind()? })
    }
}

impl RawFault {
    /// Words that mean nothing for this kind are errors.
    fn refuse_strangers(&self) -> Result<(), String> {
        let kind = self.kind.as_str();
        let process = matches!(kind, "kill" | "term" | "restart" | "pause");
        let network = !process;
        let given_and_known = [
            ("target", self.target.is_some(), kind != "halves"),
            ("duration", self.duration.is_some(), kind == "pause" || (network && kind != "reset")),
            ("restart_after", self.restart_after.is_some(), matches!(kind, "kill" | "term")),
            ("wipe", self.wipe.is_some(), matches!(kind, "kill" | "term" | "restart")),
            ("direction", self.direction.is_some(), kind == "one-way"),
            ("planes", self.planes.is_some(), network),
            ("clients", self.clients.is_some(), network),
            ("policy", self.policy.is_some(), matches!(kind, "isolate" | "halves" | "one-way")),
            ("on_heal", self.on_heal.is_some(), matches!(kind, "isolate" | "halves" | "one-way")),
            ("delay_ms", self.delay_ms.is_some(), network),
            ("jitter_ms", self.jitter_ms.is_some(), network),
        ];
        match given_and_known.iter().find(|(_, given, known)| *given && !known) {
            Some((word, _, _)) => Err(format!("`{word}` means nothing for a fault of kind `{kind}`")),
            None => Ok(()),
        }
    }

    fn typed_kind(&self) -> Result<Kind, String> {
        let needs_duration = || format!("`{}` needs a `duration`", self.kind);
        let restart = match self.restart_after {
            Some(RawRestart::After(span)) => Restart::After(span),
            Some(RawRestart::Never(_)) => Restart::Never,
            None => Restart::After(Span::NodeTimeouts(3.0)),
        };
        let wipe = self.wipe.unwrap_or(false);
        Ok(match self.kind.as_str() {
            "kill" => Kind::Down { how: Down::Kill, restart, wipe },
            "term" => Kind::Down { how: Down::Term, restart, wipe },
            "restart" => Kind::Down { how: Down::Restart, restart: Restart::After(Span::Secs(0.0)), wipe },
            "pause" => Kind::Pause { duration: self.duration.ok_or_else(needs_duration)? },
            kind => {
                let shape = match (kind, self.direction) {
                    ("halves", _) => Shape::Halves,
                    ("one-way", Some(RawDirection::In)) => Shape::Incoming,
                    ("one-way", _) => Shape::Outgoing,
                    _ => Shape::Around,
                };
                let duration = match kind {
                    "reset" => Span::Secs(0.0),
                    _ => self.duration.ok_or_else(needs_duration)?,
                };
                Kind::Network {
                    shape,
                    policy: self.typed_policy()?,
                    planes: self.typed_planes()?,
                    clients: self.clients.unwrap_or_default(),
                    duration,
                }
            }
        })
    }

    fn typed_policy(&self) -> Result<Policy, String> {
        let policy = match (self.kind.as_str(), self.policy) {
            ("refuse", _) => RawPolicy::Refuse,
            ("reset", _) => RawPolicy::Reset,
            ("delay", _) => RawPolicy::Delay,
            ("half-close", _) => RawPolicy::HalfClose,
            (_, policy) => policy.unwrap_or(RawPolicy::Blackhole),
        };
        if policy != RawPolicy::Delay && (self.delay_ms.is_some() || self.jitter_ms.is_some()) {
            return Err("`delay_ms` and `jitter_ms` belong to the policy `delay`".into());
        }
        if policy != RawPolicy::Blackhole && self.on_heal.is_some() {
            return Err("`on_heal` belongs to the policy `blackhole`".into());
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
                delay_ms: self.delay_ms.ok_or("a delay needs `delay_ms`")?,
                jitter_ms: self.jitter_ms.unwrap_or(0),
            },
            RawPolicy::HalfClose => Policy::HalfClose,
        })
    }

    fn typed_planes(&self) -> Result<Vec<Plane>, String> {
        let Some(planes) = &self.planes else { return Ok(Plane::ALL.to_vec()) };
        let mut typed: Vec<Plane> = planes
            .iter()
            .map(|plane| match plane {
                RawPlane::Bus => Plane::Bus,
                RawPlane::Replication => Plane::Replication,
                RawPlane::Migrate => Plane::Migrate,
                RawPlane::Client => Plane::Client,
            })
            .collect();
        typed.sort();
        typed.dedup();
        if typed.is_empty() { Err("`planes` must name at least one plane".into()) } else { Ok(typed) }
    }
}

impl From<Fault> for RawFault {
    fn from(fault: Fault) -> Self {
        let mut raw = Self { kind: fault.kind.name().into(), ..Self::default() };
        match fault.when {
            When::At(at) => raw.at = Some(at),
            When::Every { every, offset } => (raw.every, raw.offset) = (Some(every), Some(offset)),
        }
        if raw.kind != "halves" {
            raw.target = Some(fault.target);
        }
        match fault.kind {
            Kind::Down { how, restart, wipe } => {
                if how != Down::Restart {
                    raw.restart_after = Some(match restart {
                        Restart::After(span) => RawRestart::After(span),
                        Restart::Never => RawRestart::Never(Never::Never),
                    });
                }
                raw.wipe = wipe.then_some(true);
            }
            Kind::Pause { duration } => raw.duration = Some(duration),
            Kind::Network { shape, policy, planes, clients, duration } => {
                raw.duration = (raw.kind != "reset").then_some(duration);
                raw.clients = Some(clients);
                raw.direction = match shape {
                    Shape::Outgoing => Some(RawDirection::Out),
                    Shape::Incoming => Some(RawDirection::In),
                    Shape::Around | Shape::Halves => None,
                };
                if planes != Plane::ALL {
                    raw.planes = Some(planes.into_iter().map(raw_plane).collect());
                }
                let named_by_kind = matches!(raw.kind.as_str(), "refuse" | "reset" | "delay" | "half-close");
                let (name, on_heal) = match policy {
                    Policy::Pass | Policy::Blackhole { on_heal: OnHeal::Resume } => (None, None),
                    Policy::Blackhole { on_heal: OnHeal::Reset } => (None, Some(RawOnHeal::Reset)),
                    Policy::Refuse => (Some(RawPolicy::Refuse), None),
                    Policy::Reset => (Some(RawPolicy::Reset), None),
                    Policy::Delay { delay_ms, jitter_ms } => {
                        (raw.delay_ms, raw.jitter_ms) = (Some(delay_ms), Some(jitter_ms));
                        (Some(RawPolicy::Delay), None)
                    }
                    Policy::HalfClose => (Some(RawPolicy::HalfClose), None),
                };
                raw.policy = if named_by_kind { None } else { name };
                raw.on_heal = on_heal;
            }
        }
        raw
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
