//! Full resync, the master's end: one snapshot on its way to the replicas that waited for it.
//!
//! Two forms. `$EOF:` sends pieces as they are made and ends with a random mark. `$<length>` is for replicas that do
//! not understand the mark: its length must come first, so all pieces are gathered before any is sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::replicas::Stage;
use super::{Action, Actions, Replication};
use crate::io::{ConnId, LogLevel, Mono, SnapshotId};

/// The next piece is asked for when every receiver has less than this in its outbox.
const PULL_BELOW_BYTES: usize = 1 << 20;

/// A snapshot being sent.
#[derive(Debug)]
pub(super) struct Transfer {
    pub id: SnapshotId,
    /// The stream goes on from here.
    offset: u64,
    form: Form,
    receivers: BTreeSet<ConnId>,
    /// A piece was asked for and is not here yet.
    pulling: bool,
}

#[derive(Debug)]
enum Form {
    Marked { mark: [u8; 40] },
    Gathered { pieces: Vec<Arc<[u8]>> },
}

impl Transfer {
    /// True while nothing of snapshot `id` has been sent, so that receivers need keepalives.
    pub fn is_collecting(&self, id: SnapshotId) -> bool {
        self.id == id && matches!(self.form, Form::Gathered { .. })
    }
}

impl Replication {
    /// True if the snapshot's pieces belong to replication.
    pub fn owns_snapshot(&self, id: SnapshotId) -> bool {
        self.replicas.transfer.as_ref().is_some_and(|transfer| transfer.id == id)
    }

    /// When the waiting replicas' snapshot is due; none if nobody waits or one is on its way.
    pub(super) fn snapshot_due(&self) -> Option<Mono> {
        if self.replicas.transfer.is_some() || self.replicas.snapshot_asked {
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
            actions.push(Action::TakeSnapshot);
        }
    }

    /// The keyspace's snapshot was taken just now, before any other event: announces the offset of this moment to
    /// all who wait.
    pub fn snapshot_taken(&mut self, id: SnapshotId, now: Mono, actions: &mut Actions) {
        self.replicas.snapshot_asked = false;
        let form = if self.marked_form_for_all() {
            Form::Marked { mark: self.random.hex40() }
        } else {
            Form::Gathered { pieces: Vec::new() }
        };
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
        let mut transfer = Transfer { id, offset, form, receivers: BTreeSet::new(), pulling: false };
        for conn in receivers {
            self.receive_transfer(&mut transfer, conn, now, actions);
        }
        if transfer.receivers.is_empty() {
            actions.push(Action::CancelSnapshot(id));
            return;
        }
        actions.push(Action::Log(
            LogLevel::Notice,
            format!("Starting full resync of {} replica(s) from offset {offset}", transfer.receivers.len()),
        ));
        self.replicas.transfer = Some(transfer);
        self.pull_if_room(actions);
    }

    /// A replica that comes while a snapshot is still being gathered shares it: the log has been kept since.
    pub(super) fn join_transfer(&mut self, conn: ConnId, now: Mono, actions: &mut Actions) {
        let Some(mut transfer) = self.replicas.transfer.take() else { return };
        if matches!(transfer.form, Form::Gathered { .. }) {
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
        let gathering = matches!(transfer.form, Form::Gathered { .. });
        let queued = |conn| self.replicas.map.get(conn).map_or(0, |replica| replica.queued_bytes);
        if !transfer.pulling
            && (gathering || transfer.receivers.iter().map(queued).max() < Some(PULL_BELOW_BYTES))
        {
            transfer.pulling = true;
            actions.push(Action::PullSnapshot(transfer.id));
        }
    }

    /// The next piece of the snapshot is here.
    pub fn snapshot_chunk(
        &mut self,
        id: SnapshotId,
        bytes: Arc<[u8]>,
        last: bool,
        now: Mono,
        actions: &mut Actions,
    ) {
        let Some(transfer) = self.replicas.transfer.as_mut().filter(|transfer| transfer.id == id) else {
            return;
        };
        transfer.pulling = false;
        let mut head = None;
        let mut mark = None;
        let pieces = match &mut transfer.form {
            Form::Marked { mark: end } => {
                mark = last.then_some(*end);
                vec![bytes]
            }
            Form::Gathered { pieces } => {
                pieces.push(bytes);
                if last {
                    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
                    head = Some(format!("${len}\r\n"));
                    std::mem::take(pieces)
                } else {
                    Vec::new()
                }
            }
        };
        let receivers = transfer.receivers.clone();
        if last {
            self.replicas.transfer = None;
        }
        for conn in receivers {
            let Some(replica) = self.replicas.map.get_mut(&conn) else { continue };
            if let Some(head) = &head {
                replica.queued_bytes += head.len();
                actions.push(Action::Send { conn, bytes: head.clone().into_bytes() });
            }
            for chunk in &pieces {
                replica.queued_bytes += chunk.len();
                let (chunk, end) = (Arc::clone(chunk), chunk.len());
                actions.push(Action::SendShared { conn, chunk, start: 0, end });
            }
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
            actions.push(Action::CancelSnapshot(transfer.id));
            self.replicas.transfer = None;
        } else {
            self.pull_if_room(actions);
        }
    }
}
