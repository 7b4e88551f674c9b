//! A full resync: what announces it, the dataset as it comes in, and putting it in place.

use super::super::identity::{History, ReplId};
use super::super::log::ReplicationLog;
use super::super::{Action, Actions, Replication};
use super::stream::{Stream, ack};
use super::{Fault, MasterLink, State, take_line};
use crate::io::{LogLevel, Mono};
use crate::rdb::{RdbDecoder, RdbError, RdbEvent, RdbKey};

/// Keys handed over at a time while loading.
const KEYS_PER_ACTION: usize = 256;
const MARK_BYTES: usize = 40;

/// A full resync that is coming in.
#[derive(Debug)]
pub(super) struct Transfer {
    /// What the stream after it is; none after SYNC.
    identity: Option<(ReplId, u64)>,
    pub body: Body,
    decoder: RdbDecoder,
    pub received_bytes: u64,
    /// Number of the database whose keys are coming.
    db: u32,
    /// The database that the stream after it has selected, if the master says so.
    stream_db: u32,
}

#[derive(Debug)]
pub(super) enum Body {
    /// The `$` line is not here yet.
    Announcement {
        line: Vec<u8>,
    },
    Length {
        total: u64,
        left: u64,
    },
    /// `tail`: the last bytes received, at most a mark's worth, held back because they may be it.
    Marked {
        mark: [u8; MARK_BYTES],
        tail: Vec<u8>,
    },
}

impl Replication {
    pub(super) fn expect_transfer(&mut self, identity: Option<(ReplId, u64)>) {
        if let Some(link) = &mut self.link {
            link.state = State::Transfer(Box::new(Transfer {
                identity,
                body: Body::Announcement { line: Vec::new() },
                decoder: RdbDecoder::new(),
                received_bytes: 0,
                db: 0,
                stream_db: 0,
            }));
        }
    }

    pub(super) fn transfer_bytes(&mut self, mut bytes: &[u8], actions: &mut Actions) -> Result<(), Fault> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let State::Transfer(transfer) = &mut link.state else { return Ok(()) };
        if let Body::Announcement { line } = &mut transfer.body {
            line.extend_from_slice(bytes);
            let Some((body, rest)) = announcement(line)? else { return Ok(()) };
            transfer.body = body;
            actions.push(Action::LoadBegin);
            return self.transfer_bytes(&rest, actions);
        }
        let mut keys = Keys {
            databases: self.settings.databases,
            db: transfer.db,
            stream_db: transfer.stream_db,
            ..Keys::default()
        };
        let mut feed = |part: &[u8]| {
            transfer.received_bytes += part.len() as u64;
            transfer
                .decoder
                .feed(part, &mut |event| keys.take(event, actions))
                .map_err(|error| broken(&error))
        };
        let complete = match &mut transfer.body {
            Body::Announcement { .. } => false,
            Body::Length { left, .. } => {
                let (part, rest) =
                    bytes.split_at(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                feed(part)?;
                *left -= part.len() as u64;
                bytes = rest;
                *left == 0
            }
            Body::Marked { mark, tail } => {
                // The mark is looked for only as the very last bytes received, never inside the data.
                let keep = MARK_BYTES.saturating_sub(bytes.len()).min(tail.len());
                feed(&tail[..tail.len() - keep])?;
                tail.drain(..tail.len() - keep);
                let (part, last) = bytes.split_at(bytes.len().saturating_sub(MARK_BYTES));
                feed(part)?;
                tail.extend_from_slice(last);
                bytes = &[];
                tail[..] == mark[..]
            }
        };
        if let Some(why) = keys.refused {
            return Err(Fault::Retry(why));
        }
        keys.hand_over(actions);
        (transfer.db, transfer.stream_db) = (keys.db, keys.stream_db);
        if transfer.decoder.is_done() && !transfer.decoder.take_rest().is_empty() {
            return Err(broken(&RdbError::Trailing));
        }
        if complete {
            if !transfer.decoder.is_done() {
                return Err(broken(&RdbError::Corrupt("it ends early")));
            }
            link.state = State::Committing {
                identity: transfer.identity,
                stream_db: transfer.stream_db,
                rest: bytes.to_vec(),
            };
            actions.push(Action::LoadCommit);
        }
        Ok(())
    }

    /// The new keyspace is in place: this node now holds what the master announced. Its own replicas hold another
    /// history and must ask anew (F-34).
    pub fn loaded(&mut self, now: Mono, actions: &mut Actions) {
        let Some(link) = &mut self.link else { return };
        let Some(conn) = link.conn else { return };
        let State::Committing { identity, stream_db, rest } = &mut link.state else { return };
        let (identity, rest) = (*identity, std::mem::take(rest));
        self.stream_db = *stream_db;
        let sends_acks = identity.is_some();
        link.state = State::Streaming(Box::new(Stream::new(sends_acks)));
        link.can_resume = sends_acks;
        link.down_since = None;
        link.last_io = now;
        // A SYNC master names no history: ours gets a name that nobody else has.
        let (id, offset) = identity.unwrap_or_else(|| (self.random.repl_id(), 0));
        self.history = History { id, earlier: None };
        self.log = ReplicationLog::new(offset, self.settings.backlog_bytes);
        self.log_active = true;
        self.drop_replicas(actions);
        actions
            .push(Action::Log(LogLevel::Notice, "MASTER <-> REPLICA sync: Finished with success".to_owned()));
        if sends_acks {
            actions.push(ack(conn, offset));
        }
        let result = self.stream_bytes(conn, &rest, actions);
        self.end_on_fault(result, now, actions);
    }

    /// The new keyspace could not be built: the old one stays, and everything is asked for again later.
    pub fn load_failed(&mut self, why: &str, now: Mono, actions: &mut Actions) {
        if let Some(MasterLink { state: State::Transfer(_) | State::Committing { .. }, .. }) = self.link {
            self.give_up_link(
                &format!("Failed trying to load the MASTER synchronization DB: {why}"),
                now,
                actions,
            );
        }
    }
}

fn broken(error: &RdbError) -> Fault {
    Fault::Retry(format!("Failed trying to load the MASTER synchronization DB from socket: {error}"))
}

/// Reads the line that announces a transfer; gives its form and what came after it.
fn announcement(buffer: &mut Vec<u8>) -> Result<Option<(Body, Vec<u8>)>, Fault> {
    let unclear = |line: &[u8]| {
        let line = line[..line.len().min(100)].escape_ascii();
        Fault::Retry(format!("Bad protocol from MASTER, the first byte is not '$' (we received '{line}')"))
    };
    loop {
        let Some(line) = take_line(buffer).map_err(|()| unclear(buffer))? else { return Ok(None) };
        if line.is_empty() {
            continue;
        }
        if line.starts_with(b"-") {
            let text = String::from_utf8_lossy(&line).into_owned();
            return Err(Fault::Retry(format!("MASTER aborted replication with an error: {text}")));
        }
        let body = match line.strip_prefix(b"$") {
            None => return Err(unclear(&line)),
            Some(form) => {
                if let Some(mark) = form.strip_prefix(b"EOF:") {
                    let mark = mark.try_into().map_err(|_| unclear(&line))?;
                    Body::Marked { mark, tail: Vec::new() }
                } else {
                    let total = std::str::from_utf8(form).ok().and_then(|total| total.parse().ok());
                    let total = total.ok_or_else(|| unclear(&line))?;
                    Body::Length { total, left: total }
                }
            }
        };
        return Ok(Some((body, std::mem::take(buffer))));
    }
}

/// Gathers decoded keys into actions of a fair size.
#[derive(Default)]
struct Keys {
    /// How many databases there are here.
    databases: u32,
    /// The one that they belong to.
    db: u32,
    /// The one that the stream after them has selected.
    stream_db: u32,
    gathered: Vec<RdbKey>,
    refused: Option<String>,
}

impl Keys {
    fn take(&mut self, event: RdbEvent, actions: &mut Actions) {
        match event {
            RdbEvent::Key(key) => {
                self.gathered.push(key);
                if self.gathered.len() == KEYS_PER_ACTION {
                    self.hand_over(actions);
                }
            }
            RdbEvent::SelectDb(db) => {
                if let Some(db) = u32::try_from(db).ok().filter(|&db| db < self.databases) {
                    self.hand_over(actions);
                    self.db = db;
                } else {
                    let last = self.databases.saturating_sub(1);
                    self.refused = Some(format!(
                        "The master's dataset has keys in database {db}; the last one here is {last}"
                    ));
                }
            }
            RdbEvent::Aux { name, value } => {
                if name == b"repl-stream-db" {
                    let db = std::str::from_utf8(&value).ok().and_then(|db| db.parse().ok());
                    self.stream_db = db.filter(|&db| db < self.databases).unwrap_or(0);
                }
            }
            RdbEvent::Function(code) => actions.push(Action::LoadLibrary(code)),
            RdbEvent::ResizeDb { .. } | RdbEvent::End => {}
        }
    }

    fn hand_over(&mut self, actions: &mut Actions) {
        if !self.gathered.is_empty() {
            actions.push(Action::LoadKeys { db: self.db, keys: std::mem::take(&mut self.gathered) });
        }
    }
}
