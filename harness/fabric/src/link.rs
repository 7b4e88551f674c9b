//! The words of the network: who talks to whom, on which plane, under which policy.

use std::fmt;

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// Node `n1` is `Node(1)`.
    Node(u16),
    /// Client `c0` is `Client(0)`.
    Client(u16),
    /// The controller and its observer; never behind the proxy.
    Controller,
}

impl Endpoint {
    /// The name that the record uses.
    pub fn name(self) -> String {
        match self {
            Self::Node(number) => ["n", &number.to_string()].concat(),
            Self::Client(number) => ["c", &number.to_string()].concat(),
            Self::Controller => "controller".to_owned(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// What a connection carries. Decided by the listener (bus) or by its first command (replication: PSYNC, SYNC
/// or REPLCONF; migrate: RESTORE, RESTORE-ASKING from a node).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    Bus,
    Replication,
    Migrate,
    Client,
}

impl Plane {
    /// All planes, in order.
    pub const ALL: [Self; 4] = [Self::Bus, Self::Replication, Self::Migrate, Self::Client];

    /// The name used in storm files and histories.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Replication => "replication",
            Self::Migrate => "migrate",
            Self::Client => "client",
        }
    }
}

/// What becomes of the bytes of one direction of a link. Bytes are never lost inside a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Policy {
    /// Forward at once.
    #[default]
    Pass,
    /// Stop reading, keep the connection, hold FIN and RST too; new connections are accepted and never read.
    Blackhole { on_heal: OnHeal },
    /// New connections are accepted and reset at once; those that exist are reset when the policy begins.
    Refuse,
    /// Existing connections are reset once, when the policy begins; new ones pass.
    Reset,
    /// Deliver each piece `delay_ms` plus a random part of `jitter_ms` later, in order.
    Delay { delay_ms: u32, jitter_ms: u32 },
    /// The direction is closed (FIN is passed on) after what was read; the other one goes on.
    HalfClose,
    /// What packet loss does to TCP: of a thousand pieces read, so many wait `stall_ms` (a retransmission timeout), and
    /// what follows on their connection waits behind them.
    Stall { permille: u16, stall_ms: u32 },
    /// At most so many bytes a second, all connections of the link and plane together. What still waits when it ends is
    /// delivered at once.
    Rate { bytes_per_s: u32 },
    /// Connections that exist when the policy begins are dead for good, also after it has ended: nothing passes on them,
    /// no FIN and no RST; new ones pass. What a firewall does that has lost its table.
    Dead,
}

/// What becomes of connections that lived through a blackhole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnHeal {
    /// What was held is delivered.
    #[default]
    Resume,
    /// They are reset, as after a retransmission timeout.
    Reset,
}

/// One change of one directed link: the bytes that `from` sends and `to` receives on these planes, on every
/// connection between them, whoever dialled.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkChange {
    pub from: Endpoint,
    pub to: Endpoint,
    /// The planes it holds for.
    pub planes: Vec<Plane>,
    pub policy: Policy,
}
