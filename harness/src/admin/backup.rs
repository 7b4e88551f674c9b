//! A snapshot of every master, and a list of the nodes, as redis-cli's backup leaves them.

use serde::Serialize;

use super::Reach;
use super::fleet::Fleet;
use super::note::{Teller, line, step};
use super::parse::count_slots;
use super::resp::{AskError, Snapshot};

/// A master may prepare its file this long between two signs of life, milliseconds (it sends an empty line each
/// tenth of a second or so).
const QUIET_MS: u64 = 30_000;

/// Where the files go; errors are the sink's own words.
pub trait Shelf {
    /// Begins a file.
    fn open(&mut self, name: &str) -> Result<String, String>;
    /// Appends to it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// It is whole.
    fn close(&mut self) -> Result<(), String>;
}

/// Why the backup is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    #[error("{label}: {error}")]
    Ask { label: String, error: AskError },
    #[error("{0}")]
    Shelf(String),
}

/// What was saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Each file and its length.
    pub files: Vec<(String, u64)>,
}

/// nodes.json's entry.
#[derive(Serialize)]
struct Entry {
    name: String,
    host: String,
    port: u16,
    replicate: Option<String>,
    slots: Vec<(u16, u16)>,
    slots_count: u32,
    flags: String,
    current_epoch: u64,
}

/// Saves one master after the other. What was saved before an error stays, and is named in `saved`.
pub async fn backup<R: Reach>(
    fleet: &mut Fleet<R>,
    shelf: &mut impl Shelf,
    saved: &mut Saved,
    tell: Teller<'_>,
) -> Result<(), BackupError> {
    for master in fleet.masters() {
        let node = &fleet.nodes[master];
        let label = node.label();
        let name = format!("redis-node-{}-{}-{}.rdb", node.host, node.port, node.id);
        step(tell, format!("Node {label} -> Saving RDB..."));
        let path = shelf.open(&name).map_err(BackupError::Shelf)?;
        let reach = fleet.reach.clone();
        let taken = fleet.links[master].snapshot(
            || reach.now(),
            QUIET_MS,
            |piece| match piece {
                Snapshot::Length(Some(length)) => {
                    line(tell, format!("SYNC sent to master, writing {length} bytes to '{path}'"));
                    Ok(())
                }
                Snapshot::Length(None) => {
                    line(tell, format!("SYNC sent to master, writing to '{path}'"));
                    Ok(())
                }
                Snapshot::Piece(bytes) => shelf.write(bytes),
            },
        );
        let length = taken.await.map_err(|error| BackupError::Ask { label, error })?;
        shelf.close().map_err(BackupError::Shelf)?;
        line(tell, "Transfer finished with success.");
        saved.files.push((name, length));
    }
    let path = shelf.open("nodes.json").map_err(BackupError::Shelf)?;
    line(tell, format!("Saving cluster configuration to: {path}"));
    let text = nodes_json(fleet);
    shelf.write(text.as_bytes()).map_err(BackupError::Shelf)?;
    shelf.close().map_err(BackupError::Shelf)?;
    saved.files.push(("nodes.json".to_owned(), text.len() as u64));
    Ok(())
}

fn nodes_json<R: Reach>(fleet: &Fleet<R>) -> String {
    let entries: Vec<Entry> = fleet
        .nodes
        .iter()
        .map(|node| Entry {
            name: node.id.clone(),
            host: node.host.clone(),
            port: node.port,
            replicate: node.own.master_id.clone(),
            slots: node.own.slots.clone(),
            slots_count: count_slots(&node.own.slots),
            flags: if node.master() { "master" } else { "slave" }.to_owned(),
            current_epoch: node.own.epoch,
        })
        .collect();
    serde_json::to_string_pretty(&entries).expect("plain data") + "\n"
}
