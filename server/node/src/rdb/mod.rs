//! The RDB format, version 10: what snapshots look like on disk and on a replication link.
//!
//! - [`SnapshotEncoder`] turns a keyspace snapshot into RDB bytes, a piece at a time, on whatever thread the shell
//!   (or the simulator) chooses.
//! - [`RdbDecoder`] takes bytes as they come and gives keys; it knows nothing of the node. It accepts what Redis 6.2
//!   (version 9) and 7.0 (version 10) write for strings, lists, sets, hashes, sorted sets and streams.
//! - [`dump`] holds the DUMP and RESTORE payload.

mod crc64;
mod decode;
pub mod dump;
mod encode;
mod listpack;
mod lzf;
mod packed;
mod stream;
mod write;

pub use crc64::crc64;
pub use decode::{RdbDecoder, RdbEvent, RdbKey};
pub use encode::{SnapshotEncoder, SnapshotPiece, SnapshotUse, aux_fields};

use crate::keyspace::stream::Damage;

const MAGIC: &[u8; 5] = b"REDIS";

/// The version written, and the greatest that is read: a Redis 7.0 refuses anything greater.
pub const VERSION: u32 = 10;

/// The longest string that is believed: Redis' own ceiling of `proto-max-bulk-len` is far below it.
const MAX_STRING_BYTES: u64 = 4 << 30;

/// First bytes of the records that are not keys.
mod opcode {
    pub const FUNCTION: u8 = 0xf5;
    pub const FUNCTION_PRERELEASE: u8 = 0xf6;
    pub const MODULE_AUX: u8 = 0xf7;
    pub const IDLE: u8 = 0xf8;
    pub const FREQUENCY: u8 = 0xf9;
    pub const AUX: u8 = 0xfa;
    pub const RESIZE_DB: u8 = 0xfb;
    pub const EXPIRE_MS: u8 = 0xfc;
    pub const EXPIRE_S: u8 = 0xfd;
    pub const SELECT_DB: u8 = 0xfe;
    pub const END: u8 = 0xff;
}

/// Type bytes of the values that are read; some are also written.
mod value_type {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM_LISTPACKS: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_LISTPACKS_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_LISTPACKS_3: u8 = 21;

    /// What a type that is not read is called, for the error.
    pub const fn name(value_type: u8) -> &'static str {
        match value_type {
            6 | 7 => "module value",
            22..=25 => "hash with field expiry",
            _ => "value of unknown type",
        }
    }
}

/// Why RDB bytes were refused. The fault lies with whoever made them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RdbError {
    /// The first five bytes are not `REDIS`.
    #[error("wrong signature trying to load DB from file")]
    NotRdb,
    /// Newer than this reader, or not a number.
    #[error("can't handle RDB format version {0}")]
    Version(String),
    /// A kind of value that this server has not.
    #[error("key '{key}' holds a {name} (RDB type {value_type}), which this server does not support")]
    UnsupportedType {
        /// The key, with unprintable bytes escaped.
        key: String,
        /// What the type is called.
        name: &'static str,
        /// The type byte.
        value_type: u8,
    },
    /// A record that this server cannot give a meaning to.
    #[error("RDB has an unsupported record: {0}")]
    UnsupportedRecord(&'static str),
    /// A packed collection or compressed string that does not add up.
    #[error("RDB is corrupt: a {0} {1}")]
    Packed(&'static str, &'static str),
    /// A stream that does not add up.
    #[error("RDB is corrupt: {0}")]
    Stream(#[from] Damage),
    /// Anything else that does not add up.
    #[error("RDB is corrupt: {0}")]
    Corrupt(&'static str),
    /// The file's own checksum does not match.
    #[error("RDB CRC error: wrong RDB checksum: expected {expected:016x}, got {got:016x}")]
    Checksum {
        /// What the file says.
        expected: u64,
        /// What its bytes give.
        got: u64,
    },
    /// Bytes after the end.
    #[error("RDB is corrupt: bytes follow its end")]
    Trailing,
}
