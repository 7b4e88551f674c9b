//! `views.jsonl`: what each node believes, polled over its real address, never through the proxy.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Nanos;

/// One node's answer to one poll. The answer was true at some moment in `[sent, time]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// When the answer arrived, or when it was given up.
    pub time: Nanos,
    /// When the question was sent.
    pub sent: Nanos,
    /// Who was asked.
    pub node: String,
    /// What it said; absent: no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A node's own word about itself, and its table of the others (CLUSTER NODES, CLUSTER INFO, INFO replication).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its node id.
    pub id: String,
    /// True if it believes itself a master.
    pub master: bool,
    /// `cluster_state:ok`.
    pub ok: bool,
    /// Its own configEpoch (a replica's: its master's).
    pub epoch: u64,
    /// Its currentEpoch.
    pub current_epoch: u64,
    /// The slots it believes its own, as inclusive ranges; empty for a replica.
    pub slots: Vec<(u16, u16)>,
    /// Slots it is migrating or importing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_slots: Vec<u16>,
    /// Those of them that it is migrating: by the name of the node that they go to, as inclusive ranges.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub migrating_to: BTreeMap<String, Vec<(u16, u16)>>,
    /// The node it replicates, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_name: Option<String>,
    /// A replica's `master_link_status:up`.
    #[serde(default)]
    pub link_up: bool,
    /// `master_replid`.
    pub replid: String,
    /// `master_repl_offset` (a replica's: what it has applied).
    pub offset: u64,
    /// `master_replid2`; forty zeros if none.
    pub replid2: String,
    /// `second_repl_offset`; -1 if none.
    pub second_offset: i64,
    /// INFO's `process_id` or `run_id`: changes with each start.
    pub run_id: String,
    /// Its table of all nodes, itself included, sorted by name.
    pub table: Table,
}

/// A node's table. Most polls show the one of the poll before: then both share it.
#[derive(Clone, Debug, Default, Eq)]
pub struct Table(Arc<Vec<Row>>);

impl From<Vec<Row>> for Table {
    fn from(rows: Vec<Row>) -> Self {
        Self(Arc::new(rows))
    }
}

impl Deref for Table {
    type Target = Vec<Row>;
    fn deref(&self) -> &Vec<Row> {
        &self.0
    }
}

impl DerefMut for Table {
    fn deref_mut(&mut self) -> &mut Vec<Row> {
        Arc::make_mut(&mut self.0)
    }
}

impl<'a> IntoIterator for &'a Table {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_slice().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

/// One row of a node's table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The node's name; its id if the harness does not know it.
    pub node: String,
    /// Comma-separated flags as CLUSTER NODES prints them, without `myself`.
    pub flags: String,
    /// The name of its master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Its configEpoch in this table.
    pub epoch: u64,
    /// Its slots in this table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<(u16, u16)>,
}
