//! `stream.jsonl`: what the proxy saw on the replication links, so that a write's offset in its master's history is known.

use serde::{Deserialize, Serialize};

use super::Nanos;

/// One line: the base of a stream, or elements that passed on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamLine {
    /// When the bytes were read from the master.
    pub time: Nanos,
    /// The master.
    pub from: String,
    /// The replica.
    pub to: String,
    /// The proxy's number of the connection: elements belong to the latest base with the same number.
    pub conn: u64,
    /// What passed.
    #[serde(flatten)]
    pub what: StreamWhat,
}

/// What passed on a replication link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum StreamWhat {
    /// `+FULLRESYNC replid offset`: the command stream that follows the payload starts at `offset` + 1.
    Full { replid: String, offset: u64 },
    /// `+CONTINUE [replid]` to `PSYNC asked offset+1`: the stream goes on after `offset`.
    Continue { replid: String, offset: u64 },
    /// Commands whose argument is one of our unique elements, each with the offset of the command's last byte.
    Elements { elements: Vec<(u64, u64)> },
    /// Whole keys came by RESTORE (as MIGRATE brings them) or went by DEL or UNLINK, each with the offset of the command's
    /// last byte.
    Keys {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        came: Vec<(String, u64)>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        went: Vec<(String, u64)>,
    },
    /// The stream could not be followed any further, and why; later elements of this connection are missing.
    Lost { why: String },
    /// The connection ended; `offset` is the last byte of it that was read from the master.
    End { offset: u64 },
}
