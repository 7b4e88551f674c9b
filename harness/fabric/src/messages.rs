//! Words for single messages and moments: what is to become of messages of the cluster bus ([`MessageRule`]), and
//! what is watched for on any plane ([`Trap`]).

use std::collections::BTreeSet;

use crate::{Endpoint, Nanos, Plane};

/// The types of bus messages by number, as CLUSTER INFO names them.
pub const MESSAGE_TYPES: [&str; 11] = [
    "ping",
    "pong",
    "meet",
    "fail",
    "publish",
    "auth-req",
    "auth-ack",
    "update",
    "mfstart",
    "module",
    "publishshard",
];

/// The number of a message type.
pub fn message_type(name: &str) -> Option<u16> {
    MESSAGE_TYPES.iter().position(|known| *known == name).map(|number| number as u16)
}

/// Some endpoints, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    #[default]
    Any,
    Only(BTreeSet<Endpoint>),
}

impl Ends {
    /// Whether it is one of them.
    pub fn hold(&self, end: Endpoint) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ends) => ends.contains(&end),
        }
    }
}

/// Which bus messages are meant: all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// By number; empty: every type.
    pub types: Vec<u16>,
    pub from: Ends,
    pub to: Ends,
    /// The sender's currentEpoch, first and last.
    pub epochs: Option<(u64, u64)>,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives; the stream goes on with the next one.
    Drop,
    /// It, and what follows on its connection, arrives later.
    Delay { ms: u32 },
    /// It arrives twice, one after the other.
    Duplicate,
    /// It is taken out of the stream and put back later, behind what passed meanwhile.
    Reorder { ms: u32 },
}

/// A rule for bus messages. The first that fits decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRule {
    /// The caller's number for it, for [`crate::Fabric::filtered`].
    pub id: u32,
    pub which: Messages,
    pub fate: Fate,
    /// How many of a hundred that fit are hit, drawn by seed.
    pub percent: u8,
}

/// A moment that is waited for. It is told once ([`Match`]), at its n-th time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The caller's number for it.
    pub id: u32,
    pub on: Moment,
    /// 1 is the first.
    pub nth: u64,
    /// What matched is not delivered, nor what follows it in its direction, until [`crate::Fabric::release`].
    pub hold: bool,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A bus message.
    Message(Messages),
    /// The first bus message in which a node that was a replica says that it is a master with slots.
    Promotion(Ends),
    /// A FAIL message about one of these.
    Failure(Ends),
    /// A bus message with a currentEpoch that nobody had told before.
    Epoch,
    /// A command on a plane; the word in capitals, `None` is any.
    Command { plane: Plane, word: Option<String>, from: Ends, to: Ends },
    /// The first byte of a full synchronisation's payload, from a master to a replica.
    FullSync { from: Ends, to: Ends },
}

/// A trap's moment came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub trap: u32,
    /// When the bytes had been read from their sender.
    pub time: Nanos,
    pub from: Endpoint,
    pub to: Endpoint,
    /// Whom a FAIL is about.
    pub subject: Option<Endpoint>,
    /// The sender's currentEpoch; 0 beside the bus.
    pub epoch: u64,
    /// What it was, for people.
    pub what: String,
}
