//! One frame of the cluster bus, Redis 6.2 and 7.0 (REDIS cluster.h, `clusterMsg`): a header of 2256 bytes, then what
//! its type carries. Integers are big-endian, strings padded with NUL.

use std::fmt;

use crate::slots;

/// Length of the header.
pub(super) const HEADER: usize = 2256;
const GOSSIP: usize = 104;
const BITMAP: usize = 2048;
const ID: usize = 40;
/// Of the message flags: extensions follow.
const EXTENSIONS: u8 = 4;

/// A frame's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Ping,
    Pong,
    Meet,
    Fail,
    Publish,
    AuthReq,
    AuthAck,
    Update,
    MfStart,
    Module,
    PublishShard,
    /// A type that neither version has, as it stands there.
    Other(u16),
}

const NAMES: [&str; 11] = [
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
const KINDS: [Kind; 11] = [
    Kind::Ping,
    Kind::Pong,
    Kind::Meet,
    Kind::Fail,
    Kind::Publish,
    Kind::AuthReq,
    Kind::AuthAck,
    Kind::Update,
    Kind::MfStart,
    Kind::Module,
    Kind::PublishShard,
];

impl Kind {
    /// The type with this number.
    pub fn of(number: u16) -> Self {
        KINDS.get(usize::from(number)).copied().unwrap_or(Self::Other(number))
    }

    /// The name that CLUSTER INFO gives it; `other` for what neither version has.
    pub fn name(self) -> &'static str {
        KINDS.iter().position(|&kind| kind == self).map_or("other", |at| NAMES[at])
    }

    /// The type of this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().position(|&known| known == name).map(|at| KINDS[at])
    }
}

/// Flag bits of nodes, in headers and in gossip.
pub mod flag {
    pub const MASTER: u16 = 1;
    pub const REPLICA: u16 = 2;
    pub const PFAIL: u16 = 4;
    pub const FAIL: u16 = 8;
    pub const HANDSHAKE: u16 = 32;
    pub const NO_ADDRESS: u16 = 64;
    pub const NO_FAILOVER: u16 = 512;
}

/// What stands in front of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The sender's currentEpoch.
    pub current_epoch: u64,
    /// Its configEpoch; a replica's: its master's.
    pub config_epoch: u64,
    pub offset: u64,
    pub sender: &'a str,
    /// Slot s is bit s % 8 of byte s / 8. A replica shows its master's.
    pub bitmap: &'a [u8],
    /// Whose replica it is; `None` makes it a master, whatever its flags say.
    pub master: Option<&'a str>,
    pub flags: u16,
    /// Its cluster_state.
    pub ok: bool,
    /// It is a master whose clients wait for a manual failover.
    pub paused: bool,
    /// Votes are asked for although the master is up.
    pub force_ack: bool,
}

impl Header<'_> {
    /// The slots as inclusive ranges.
    pub fn slots(&self) -> Vec<(u16, u16)> {
        ranges(self.bitmap)
    }
}

/// One node as another gossips about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gossip<'a> {
    pub id: &'a str,
    /// Unix seconds of the ping that waits for its pong; 0: none does.
    pub ping_sent: u32,
    pub pong_received: u32,
    pub ip: &'a [u8],
    pub port: u16,
    pub bus_port: u16,
    pub flags: u16,
}

/// A ping extension (7.0): its type and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    pub kind: u16,
    pub data: &'a [u8],
}

/// What follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// PING, PONG, MEET.
    Gossip { nodes: Vec<Gossip<'a>>, extensions: Vec<Extension<'a>> },
    /// FAIL.
    Fail { subject: &'a str },
    /// PUBLISH, PUBLISHSHARD; lengths only, since a long payload is not kept.
    Publish { channel: u32, message: u32 },
    /// UPDATE: what the sender knows of another's claim.
    Update { subject: &'a str, config_epoch: u64, bitmap: &'a [u8] },
    /// MODULE.
    Module { id: u64, kind: u8, len: u32 },
    /// AUTH_REQUEST, AUTH_ACK, MFSTART, and types that neither version has.
    Empty,
}

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub header: Header<'a>,
    pub body: Body<'a>,
}

/// Why a frame says nothing: a real node skips it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// No `RCmb`, or shorter than any header.
    NoHeader,
    /// Another protocol version.
    Version(u16),
    /// A node id that is none.
    Id,
    /// Its length is not what its type and counts make.
    Length,
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str("no header"),
            Self::Version(version) => write!(f, "protocol version {version}"),
            Self::Id => f.write_str("a malformed node id"),
            Self::Length => f.write_str("a length that does not fit its type"),
        }
    }
}

/// Decodes one frame. `bytes` may be cut short of the length that stands in the header where the rest is payload that
/// nobody looks at (PUBLISH, MODULE).
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameFault> {
    if bytes.len() < HEADER || bytes[..4] != *b"RCmb" {
        return Err(FrameFault::NoHeader);
    }
    let total = be(bytes, 4, 4);
    let version = be(bytes, 8, 2) as u16;
    if version != 1 {
        return Err(FrameFault::Version(version));
    }
    let header = header(bytes)?;
    let kind = kind(bytes);
    let payload = &bytes[HEADER..];
    let exactly = |len: usize| {
        if total == (HEADER + len) as u64 && payload.len() == len { Ok(()) } else { Err(FrameFault::Length) }
    };
    let body = match kind {
        Kind::Ping | Kind::Pong | Kind::Meet => {
            exactly(payload.len())?;
            gossip(bytes, payload)?
        }
        Kind::Fail => {
            exactly(ID)?;
            Body::Fail { subject: id(payload)? }
        }
        Kind::Publish | Kind::PublishShard => {
            let fixed = payload.get(..8).ok_or(FrameFault::Length)?;
            let (channel, message) = (be(fixed, 0, 4), be(fixed, 4, 4));
            if total != HEADER as u64 + 8 + channel + message {
                return Err(FrameFault::Length);
            }
            Body::Publish { channel: channel as u32, message: message as u32 }
        }
        Kind::Update => {
            exactly(8 + ID + BITMAP)?;
            Body::Update {
                config_epoch: be(payload, 0, 8),
                subject: id(&payload[8..8 + ID])?,
                bitmap: &payload[8 + ID..],
            }
        }
        Kind::Module => {
            let fixed = payload.get(..13).ok_or(FrameFault::Length)?;
            let len = be(fixed, 8, 4);
            if total != HEADER as u64 + 13 + len {
                return Err(FrameFault::Length);
            }
            // The module's id is in the sender's own byte order.
            let id = fixed[..8].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            Body::Module { id, kind: fixed[12], len: len as u32 }
        }
        Kind::AuthReq | Kind::AuthAck | Kind::MfStart => {
            exactly(0)?;
            Body::Empty
        }
        Kind::Other(_) => Body::Empty,
    };
    Ok(Frame { kind, header, body })
}

/// The type of a frame with a whole header.
pub(super) fn kind(bytes: &[u8]) -> Kind {
    Kind::of(be(bytes, 12, 2) as u16)
}

/// True if a frame certainly has nothing that was not said before: its header is `known`, that of an earlier PING or PONG of
/// its sender, but for lengths and offset, and it gossips of nobody who fails. Nearly all frames are such, and cost a comparison.
pub(super) fn repeats(bytes: &[u8], known: &[u8]) -> bool {
    let Some((header, payload)) = bytes.split_at_checked(HEADER) else { return false };
    let healthy =
        |entry: &[u8]| is_id(&entry[..ID]) && be(entry, 98, 2) as u16 & (flag::FAIL | flag::PFAIL) == 0;
    known.len() == HEADER
        && header[..4] == known[..4]
        && header[8..14] == known[8..14]
        && header[16..32] == known[16..32]
        && header[40..] == known[40..]
        && header[2253] & EXTENSIONS == 0
        && be(header, 4, 4) == bytes.len() as u64
        && be(header, 14, 2) as usize * GOSSIP == payload.len()
        && payload.chunks_exact(GOSSIP).all(healthy)
}

fn header(bytes: &[u8]) -> Result<Header<'_>, FrameFault> {
    let master = &bytes[2128..2168];
    Ok(Header {
        current_epoch: be(bytes, 16, 8),
        config_epoch: be(bytes, 24, 8),
        offset: be(bytes, 32, 8),
        sender: id(&bytes[40..80])?,
        bitmap: &bytes[80..80 + BITMAP],
        master: if master.iter().all(|&byte| byte == 0) { None } else { Some(id(master)?) },
        flags: be(bytes, 2250, 2) as u16,
        ok: bytes[2252] == 0,
        paused: bytes[2253] & 1 != 0,
        force_ack: bytes[2253] & 2 != 0,
    })
}

fn gossip<'a>(bytes: &[u8], payload: &'a [u8]) -> Result<Body<'a>, FrameFault> {
    let count = be(bytes, 14, 2) as usize;
    let entries = payload.get(..count * GOSSIP).ok_or(FrameFault::Length)?;
    let mut nodes = Vec::with_capacity(count);
    for entry in entries.chunks_exact(GOSSIP) {
        let ip = &entry[48..94];
        nodes.push(Gossip {
            id: id(&entry[..ID])?,
            ping_sent: be(entry, 40, 4) as u32,
            pong_received: be(entry, 44, 4) as u32,
            ip: &ip[..ip.iter().position(|&byte| byte == 0).unwrap_or(ip.len())],
            port: be(entry, 94, 2) as u16,
            bus_port: be(entry, 96, 2) as u16,
            flags: be(entry, 98, 2) as u16,
        });
    }
    let mut rest = &payload[count * GOSSIP..];
    let announced = be(bytes, 2214, 2);
    let has_extensions = bytes[2253] & EXTENSIONS != 0;
    let mut extensions = Vec::new();
    if has_extensions {
        for _ in 0..announced {
            if rest.len() < 8 {
                return Err(FrameFault::Length);
            }
            let len = be(rest, 0, 4) as usize;
            if len < 8 || !len.is_multiple_of(8) || len > rest.len() {
                return Err(FrameFault::Length);
            }
            extensions.push(Extension { kind: be(rest, 4, 2) as u16, data: &rest[8..len] });
            rest = &rest[len..];
        }
    }
    if rest.is_empty() { Ok(Body::Gossip { nodes, extensions }) } else { Err(FrameFault::Length) }
}

fn id(bytes: &[u8]) -> Result<&str, FrameFault> {
    std::str::from_utf8(bytes).ok().filter(|_| is_id(bytes)).ok_or(FrameFault::Id)
}

fn is_id(bytes: &[u8]) -> bool {
    let Ok(all) = <&[u8; ID]>::try_from(bytes) else { return false };
    // All of them, whatever the first ones are, and in numbers of one byte: so many are looked at together.
    let wrong = |byte: &u8| u8::from(!(byte.is_ascii_lowercase() | byte.is_ascii_digit()));
    all.iter().fold(0, |wrongs, byte| wrongs | wrong(byte)) == 0
}

#[inline]
fn be(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// A bitmap's slots as inclusive ranges: 64 at a time where all or none of them are there, as nearly everywhere.
pub(super) fn ranges(bitmap: &[u8]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    let mut add = |first: u16, last: u16| match ranges.last_mut() {
        Some((_, end)) if *end + 1 == first => *end = last,
        _ => ranges.push((first, last)),
    };
    for (first, eight) in (0..slots::SLOTS).step_by(64).zip(bitmap.chunks(8)) {
        match eight {
            [0, 0, 0, 0, 0, 0, 0, 0] => {}
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => add(first, first + 63),
            _ => (first..slots::SLOTS)
                .zip(eight.iter().flat_map(|byte| (0..8).map(move |bit| byte & (1 << bit) != 0)))
                .filter(|(_, there)| *there)
                .for_each(|(slot, _)| add(slot, slot)),
        }
    }
    ranges
}
