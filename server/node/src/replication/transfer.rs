//! Full resync, the master's end: one snapshot on its way to the replicas that waited for it.
//!
//! Two forms. `$EOF:` sends pieces as they are made and ends with a random mark. `$<length>` is for replicas that do
//! not understand the mark, or for all with `repl-diskless-sync no`: its length must come first, so the snapshot goes
//! to dump.rdb, and then from there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::replicas::Stage;
use super::{Action, Actions, Replication};
use crate::io::{ConnId, LogLevel, Mono, SnapshotId};

/// More pieces are asked for when every receiver has less than this in its outbox.
const PULL_BELOW_BYTES: usize = 2 << 20;
/// Pieces that are asked for at a time: one is made while another is sent.
const PULLS: usize = 2;

/// A snapshot being sent.
#[derive(Debug)]
pub(super) struct Transfer {
    pub id: SnapshotId,
    /// The stream goes on from here.
    offset: u64,
    form: Form,
    receivers: BTreeSet<ConnId>,
    /// Pieces that were asked for and are not here yet.
    pulling: usize,
}

#[derive(Debug)]
enum Form {
    Marked {
        mark: [u8; 40],
    },
    /// `bytes`: the file's length, once it is written.
    File {
        bytes: Option<u64>,
    },
}

impl Transfer {
    /// True while nothing of snapshot `id` has been sent, so that receivers need keepalives.
    pub fn is_collecting(&self, id: SnapshotId) -> bool {
        self.id == id && matches!(self.form, Form::File { bytes: None })
    }
}

impl Replication {
    /// True if the snapshot's pieces belong to replication.
    pub fn owns_snapshot(&self, id: SnapshotId) -> bool {
        self.replicas.transfer.as_ref().is_some_and(|transfer| transfer.id == id)
    }

    /// True while a snapshot is encoded for replicas and for nothing else: Redis would have a child for it.
    pub fn is_encoding(&self) -> bool {
        self.replicas.transfer.as_ref().is_some_and(|transfer| matches!(transfer.form, Form::Marked { .. }))
    }

    /// No snapshot begins while another is being saved.
    pub const fn hold_snapshots(&mut self, held: bool) {
        self.replicas.snapshots_held = held;
    }

    /// When the waiting replicas' snapshot is due; none if nobody waits or one is on its way.
    pub(super) fn snapshot_due(&self) -> Option<Mono> {
        if self.replicas.transfer.is_some() || self.replicas.snapshot_asked || self.replicas.snapshots_held {
            return None;
        }
        let waiting = || self.replicas.map.values().filter(|replica| replica.is_waiting());
        let first = waiting()
            .filter_map(|replica| match replica.stage {
                Stage::WaitSnapshot { since } => Some(since),
                _ => None,
            })
            .min()?;
        let enough = self.settings.diskless_sync_max_replicas;
        let delay_s = if !self.marked_form_for_all() || (enough > 0 && waiting().count() >= enough) {
            0
        } else {
            self.settings.diskless_sync_delay_s
        };
        Some(first.plus_ms(delay_s * 1000))
    }

    /// The marked form is used if all who wait understand it.
    fn marked_form_for_all(&self) -> bool {
        self.settings.diskless_sync
            && self
                .replicas
                .map
                .values()
                .filter(|replica| replica.is_waiting())
                .all(|replica| replica.hints.capa_eof && !replica.old_protocol)
    }

    pub(super) fn start_snapshot_if_due(&mut self, now: Mono, actions: &mut Actions) {
        if self.snapshot_due().is_some_and(|due| due <= now) {
            self.replicas.snapshot_asked = true;
            let to_file = !self.marked_form_for_all();
            let target = if to_file { "disk" } else { "replicas sockets" };
            actions.push(Action::Log(
                LogLevel::Notice,
                format!("Starting BGSAVE for SYNC with target: {target}"),
            ));
            actions.push(Action::TakeSnapshot { to_file });
        }
    }

    /// The keyspace's snapshot was taken just now, before any other event: announces the offset of this moment to
    /// all who wait. `to_file` as [`Action::TakeSnapshot`] said; then [`Self::file_saved`] follows.
    pub fn snapshot_taken(&mut self, id: SnapshotId, to_file: bool, now: Mono, actions: &mut Actions) {
        self.replicas.snapshot_asked = false;
        let form =
            if to_file { Form::File { bytes: None } } else { Form::Marked { mark: self.random.hex40() } };
        // Each replica begins with database 0 unknown.
        self.selected = None;
        let offset = self.log.end();
        let receivers: BTreeSet<ConnId> = self
            .replicas
            .map
            .iter()
            .filter(|(_, replica)| replica.is_waiting())
            .map(|(&conn, _)| conn)
            .collect();
        let mut transfer = Transfer { id, offset, form, receivers: BTreeSet::new(), pulling: 0 };
        for conn in receivers {
            self.receive_transfer(&mut transfer, conn, now, actions);
        }
        if transfer.receivers.is_empty() {
            // The file is of use without them.
            if !to_file {
                actions.push(Action::CancelSnapshot(id));
            }
            return;
        }
        actions.push(Action::Log(
            LogLevel::Notice,
            format!("Starting full resync of {} replica(s) from offset {offset}", transfer.receivers.len()),
        ));
        self.replicas.transfer = Some(transfer);
        self.pull_if_room(actions);
    }

    /// The snapshot is in its file, of this length, or could not be written: now it is sent.
    pub fn file_saved(&mut self, id: SnapshotId, bytes: Option<u64>, now: Mono, actions: &mut Actions) {
        let Some(transfer) = self.replicas.transfer.as_mut().filter(|transfer| transfer.id == id) else {
            return;
        };
        let Some(bytes) = bytes else {
            return self.end_transfer("SYNC failed. BGSAVE child returned an error", now, actions);
        };
        transfer.form = Form::File { bytes: Some(bytes) };
        let head = format!("${bytes}\r\n");
        for &conn in &transfer.receivers {
            if let Some(replica) = self.replicas.map.get_mut(&conn) {
                replica.queued_bytes += head.len();
                replica.progress_at = now;
                actions.push(Action::Send { conn, bytes: head.clone().into_bytes() });
            }
        }
        actions.push(Action::StartFile(id));
        self.pull_if_room(actions);
    }

    /// The file cannot be read on.
    pub fn file_failed(&mut self, id: SnapshotId, why: &str, now: Mono, actions: &mut Actions) {
        if self.owns_snapshot(id) {
            self.end_transfer(&format!("Read error sending DB to replica: {why}"), now, actions);
        }
    }

    fn end_transfer(&mut self, why: &str, now: Mono, actions: &mut Actions) {
        let Some(transfer) = self.replicas.transfer.take() else { return };
        actions.push(Action::Log(LogLevel::Warning, why.to_owned()));
        for conn in transfer.receivers {
            self.drop_replica(conn, why, now, actions);
        }
    }

    /// A replica that comes while the file is still being written shares it: the log has been kept since.
    pub(super) fn join_transfer(&mut self, conn: ConnId, now: Mono, actions: &mut Actions) {
        let Some(mut transfer) = self.replicas.transfer.take() else { return };
        if matches!(transfer.form, Form::File { bytes: None }) {
            self.receive_transfer(&mut transfer, conn, now, actions);
        }
        self.replicas.transfer = Some(transfer);
    }

    fn receive_transfer(&mut self, transfer: &mut Transfer, conn: ConnId, now: Mono, actions: &mut Actions) {
        let Some(replica) = self.replicas.map.get_mut(&conn) else { return };
        replica.stage = Stage::Transfer(transfer.id);
        (replica.base, replica.cursor) = (transfer.offset, transfer.offset);
        replica.progress_at = now;
        transfer.receivers.insert(conn);
        let mut head = Vec::new();
        if !replica.old_protocol {
            head.extend_from_slice(
                format!("+FULLRESYNC {} {}\r\n", self.history.id, transfer.offset).as_bytes(),
            );
        }
        if let Form::Marked { mark } = &transfer.form {
            head.extend_from_slice(b"$EOF:");
            head.extend_from_slice(mark);
            head.extend_from_slice(b"\r\n");
        }
        if !head.is_empty() {
            replica.queued_bytes += head.len();
            actions.push(Action::Send { conn, bytes: head });
        }
    }

    /// Asks for the next piece unless one is on its way or a receiver still has much to take.
    pub(super) fn pull_if_room(&mut self, actions: &mut Actions) {
        let Some(transfer) = &mut self.replicas.transfer else { return };
        if transfer.is_collecting(transfer.id) {
            return;
        }
        let queued = |conn| self.replicas.map.get(conn).map_or(0, |replica| replica.queued_bytes);
        let most = transfer.receivers.iter().map(queued).max();
        while transfer.pulling < PULLS && most < Some(PULL_BELOW_BYTES) {
            transfer.pulling += 1;
            actions.push(Action::PullSnapshot(transfer.id));
        }
    }

    /// The next piece of the snapshot is here.
    pub fn snapshot_chunk(
        &mut self,
        id: SnapshotId,
        bytes: &Arc<[u8]>,
        last: bool,
        now: Mono,
        actions: &mut Actions,
    ) {
        let Some(transfer) = self.replicas.transfer.as_mut().filter(|transfer| transfer.id == id) else {
            return;
        };
        transfer.pulling = transfer.pulling.saturating_sub(1);
        let mark = match &transfer.form {
            Form::Marked { mark } => last.then_some(*mark),
            Form::File { .. } => None,
        };
        let receivers = transfer.receivers.clone();
        if last {
            self.replicas.transfer = None;
        }
        for conn in receivers {
            let Some(replica) = self.replicas.map.get_mut(&conn) else { continue };
            replica.queued_bytes += bytes.len();
            let (chunk, end) = (Arc::clone(bytes), bytes.len());
            actions.push(Action::SendShared { conn, chunk, start: 0, end });
            if let Some(mark) = mark {
                replica.queued_bytes += mark.len();
                actions.push(Action::Send { conn, bytes: mark.to_vec() });
            }
            if last {
                replica.ack_at = now;
                replica.progress_at = now;
                replica.stage = match (replica.hints.rdb_only, mark) {
                    (true, _) => Stage::Served,
                    (false, Some(_)) => Stage::WaitAck,
                    (false, None) => Stage::Online,
                };
            }
        }
        self.pull_if_room(actions);
    }

    pub(super) fn leave_transfer(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(transfer) = &mut self.replicas.transfer else { return };
        transfer.receivers.remove(&conn);
        if transfer.receivers.is_empty() {
            // A file that is being written is of use without them.
            if !transfer.is_collecting(transfer.id) {
                let text = "Diskless rdb transfer, last replica dropped, killing fork child.";
                actions.push(Action::Log(LogLevel::Notice, text.to_owned()));
                actions.push(Action::CancelSnapshot(transfer.id));
            }
            self.replicas.transfer = None;
        } else {
            self.pull_if_room(actions);
        }
    }
}
