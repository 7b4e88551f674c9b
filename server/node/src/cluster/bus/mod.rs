//! The cluster bus on the wire: what a packet holds. Byte for byte that of Redis 7.0.
//!
//! [`decode`] and [`encode`] are each other's inverse on every packet that a sane peer sends; [`FrameReader`]
//! cuts a byte stream into packets. Nothing here knows what a packet means.

mod decode;
mod encode;
mod stream;

pub use decode::{Malformed, decode, decode_knowing};
pub use encode::encode;
pub use stream::{FrameReader, StreamError};

use super::bitmap::SlotBitmap;
use super::flags::NodeFlags;
use super::id::NodeId;

/// Bytes of the header, and the smallest legal packet.
pub const HEADER_LEN: usize = 2256;
/// Bytes of one gossip entry.
pub const GOSSIP_LEN: usize = 104;
/// The only protocol version there is.
pub const VERSION: u16 = 1;

/// `mflags` byte 0: the sender is a master inside a manual failover.
pub const MFLAG_PAUSED: u8 = 1;
/// `mflags` byte 0: vote even if the master is up.
pub const MFLAG_FORCEACK: u8 = 2;
/// `mflags` byte 0: ping extensions follow the gossip section.
pub const MFLAG_EXT_DATA: u8 = 4;

/// Packet types, with their names in `CLUSTER INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum PacketType {
    Ping = 0,
    Pong = 1,
    Meet = 2,
    Fail = 3,
    Publish = 4,
    AuthRequest = 5,
    AuthAck = 6,
    Update = 7,
    MfStart = 8,
    Module = 9,
    PublishShard = 10,
}

impl PacketType {
    /// All of them, by number.
    pub const ALL: [Self; 11] = [
        Self::Ping,
        Self::Pong,
        Self::Meet,
        Self::Fail,
        Self::Publish,
        Self::AuthRequest,
        Self::AuthAck,
        Self::Update,
        Self::MfStart,
        Self::Module,
        Self::PublishShard,
    ];

    /// The type with this number.
    pub fn from_wire(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// As in `cluster_stats_messages_<name>_sent`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Meet => "meet",
            Self::Fail => "fail",
            Self::Publish => "publish",
            Self::AuthRequest => "auth-req",
            Self::AuthAck => "auth-ack",
            Self::Update => "update",
            Self::MfStart => "mfstart",
            Self::Module => "module",
            Self::PublishShard => "publishshard",
        }
    }
}

/// What every packet says about its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender.
    pub sender: NodeId,
    /// Announced client port.
    pub port: u16,
    /// Plaintext client port if `port` is a TLS port, else 0 (valkey 8: the other port).
    pub pport: u16,
    /// Announced bus port.
    pub cport: u16,
    /// Announced address; empty: use the connection's peer address.
    pub ip: String,
    /// The sender's clock of epochs.
    pub current_epoch: u64,
    /// The sender's epoch, or its master's if it is a replica.
    pub config_epoch: u64,
    /// Replication offset: produced (master) or applied (replica).
    pub offset: u64,
    /// The sender's slots, or its master's if it is a replica.
    pub slots: SlotBitmap,
    /// `None`: the sender is a master. This field, not the flags, decides the role.
    pub master: Option<NodeId>,
    /// The sender's node flags.
    pub flags: NodeFlags,
    /// 0 ok, 1 fail; informational.
    pub state: u8,
    /// [`MFLAG_PAUSED`], [`MFLAG_FORCEACK`], [`MFLAG_EXT_DATA`].
    pub mflags: [u8; 3],
}

/// One entry of a ping's gossip section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gossip {
    /// The node spoken of; `None` if the bytes are no id (such an entry is ignored).
    pub id: Option<NodeId>,
    /// Unix seconds of the outstanding ping, 0 if none.
    pub ping_sent_s: u32,
    /// Unix seconds of the last pong.
    pub pong_received_s: u32,
    /// Its address as text.
    pub ip: String,
    /// Its client port.
    pub port: u16,
    /// Its bus port.
    pub cport: u16,
    /// Its other client port, see [`Header::pport`].
    pub pport: u16,
    /// Its flags in the sender's view.
    pub flags: NodeFlags,
}

/// One ping extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Type 0: the sender's announced host name.
    Hostname(String),
    /// Type 2, of 7.2 and valkey: the sender has forgotten this node, for so many seconds. `None`: the bytes are no id.
    Forgotten { node: Option<NodeId>, ttl_s: u64 },
    /// Any other type, kept as it came, padding included.
    Other { kind: u16, data: Vec<u8> },
}

/// What follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// PING, PONG, MEET.
    Ping { kind: PingKind, gossip: Vec<Gossip>, extensions: Vec<Extension> },
    /// FAIL: this node failed, says a majority. `None`: the bytes are no id.
    Fail { failed: Option<NodeId> },
    /// PUBLISH and PUBLISHSHARD.
    Publish { sharded: bool, channel: Vec<u8>, message: Vec<u8> },
    /// FAILOVER_AUTH_REQUEST: vote for me.
    AuthRequest,
    /// FAILOVER_AUTH_ACK: you have my vote.
    AuthAck,
    /// UPDATE: this is the newest I know of `node`.
    Update { node: Option<NodeId>, config_epoch: u64, slots: SlotBitmap },
    /// MFSTART: pause your clients, I want to take over.
    MfStart,
    /// MODULE: carried by others, of no use to us.
    Module { module: [u8; 8], kind: u8, data: Vec<u8> },
    /// A type from the future.
    Unknown { number: u16, payload: Vec<u8> },
}

/// The three packets with a gossip section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingKind {
    Ping,
    Pong,
    Meet,
}

impl PingKind {
    /// The packet type.
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::Ping => PacketType::Ping,
            Self::Pong => PacketType::Pong,
            Self::Meet => PacketType::Meet,
        }
    }
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// About the sender.
    pub header: Header,
    /// The message.
    pub body: Body,
}

impl Body {
    /// The number at offset 12.
    pub const fn type_number(&self) -> u16 {
        match self {
            Self::Ping { kind, .. } => kind.packet_type() as u16,
            Self::Fail { .. } => PacketType::Fail as u16,
            Self::Publish { sharded: false, .. } => PacketType::Publish as u16,
            Self::Publish { sharded: true, .. } => PacketType::PublishShard as u16,
            Self::AuthRequest => PacketType::AuthRequest as u16,
            Self::AuthAck => PacketType::AuthAck as u16,
            Self::Update { .. } => PacketType::Update as u16,
            Self::MfStart => PacketType::MfStart as u16,
            Self::Module { .. } => PacketType::Module as u16,
            Self::Unknown { number, .. } => *number,
        }
    }
}

/// The packet type of a whole frame, known or not, without decoding the rest.
pub fn type_of(frame: &[u8]) -> u16 {
    frame.get(12..14).map_or(u16::MAX, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}
