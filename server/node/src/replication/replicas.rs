//! The master's end: replicas that are attached to this node, how far each is, and what they may send.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::identity::ReplId;
use super::transfer::Transfer;
use super::{Action, Actions, Replication, endpoint};
use crate::io::{ConnId, LogLevel, Mono, SnapshotId};
use crate::keyspace::Snapshot;
use crate::rdb::SnapshotEncoder;
use crate::zoo::Mutation;

/// Stream bytes put in a replica's outbox before it has taken what is there; the rest waits in the log.
const OUTBOX_WINDOW_BYTES: usize = 4 << 20;
/// Redis' limit for REPLCONF ip-address.
const MAX_ANNOUNCED_IP_BYTES: usize = 255;

/// All replicas of this node and the snapshot on its way to some of them.
#[derive(Debug, Default)]
pub struct Replicas {
    pub(super) map: BTreeMap<ConnId, Replica>,
    /// What connections said of themselves by REPLCONF before PSYNC.
    hints: BTreeMap<ConnId, Hints>,
    pub(super) transfer: Option<Transfer>,
    /// A snapshot was asked for and is not taken yet.
    pub(super) snapshot_asked: bool,
    /// Something else is being saved.
    pub(super) snapshots_held: bool,
}

/// What a replica says of itself before it asks for data.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    pub listening_port: u16,
    pub announced_ip: Option<String>,
    /// Understands the `$EOF:` form.
    pub capa_eof: bool,
    /// Understands an id after `+CONTINUE`.
    pub capa_psync2: bool,
    /// Wants a snapshot and no stream.
    pub rdb_only: bool,
    /// Wants a snapshot without keys (`redis-cli --functions-rdb`).
    pub without_keys: bool,
    /// And with functions, of such a snapshot.
    pub with_functions: bool,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for a snapshot to begin.
    WaitSnapshot { since: Mono },
    /// Its snapshot is being made or sent.
    Transfer(SnapshotId),
    /// Has all of a `$EOF:` transfer; gets no stream before its first acknowledgement, so that the mark stays the
    /// last thing that it receives.
    WaitAck,
    /// Gets the stream.
    Online,
    /// Wanted the snapshot only, and has it.
    Served,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub ip: IpAddr,
    pub hints: Hints,
    /// Came by SYNC: sends no acknowledgements and knows no offsets.
    pub old_protocol: bool,
    pub stage: Stage,
    /// Where its stream begins.
    pub base: u64,
    /// The stream up to here has been put in its outbox.
    pub cursor: u64,
    /// Bytes in its outbox.
    pub queued_bytes: usize,
    pub ack_offset: u64,
    /// Has acknowledged anything since it was attached; before, taking bytes is a sign of life too.
    pub has_acked: bool,
    pub ack_at: Mono,
    /// When it last took bytes.
    pub progress_at: Mono,
    over_soft_limit_since: Option<Mono>,
}

impl Replica {
    pub fn name(&self) -> String {
        endpoint(self.ip, self.hints.announced_ip.as_deref(), self.hints.listening_port)
    }

    /// The address at which it can be dialled, if it is one.
    pub fn addr(&self) -> Option<SocketAddr> {
        let ip = match &self.hints.announced_ip {
            Some(name) => name.parse().ok()?,
            None => self.ip,
        };
        Some(SocketAddr::new(ip, self.hints.listening_port))
    }

    pub fn is_called(&self, host: &str, port: u16) -> bool {
        let name = self.hints.announced_ip.clone().unwrap_or_else(|| self.ip.to_string());
        name == host && self.hints.listening_port == port
    }

    /// All of the stream up to `end` has left for it, and nothing is held against it.
    pub const fn has_all_up_to(&self, end: u64) -> bool {
        let is_told = matches!(self.stage, Stage::Online) && self.cursor == end && self.queued_bytes == 0;
        is_told && self.over_soft_limit_since.is_none()
    }

    pub const fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::WaitSnapshot { .. })
    }

    fn sends_acks(&self) -> bool {
        !self.old_protocol && matches!(self.stage, Stage::WaitAck | Stage::Online)
    }

    pub const fn lag_s(&self, now: Mono) -> u64 {
        now.ms_since(self.ack_at) / 1000
    }
}

impl Replicas {
    pub fn forget_hints(&mut self, conn: ConnId) {
        self.hints.remove(&conn);
    }

    /// The log must be kept from here on.
    pub fn oldest_cursor(&self) -> Option<u64> {
        self.map
            .values()
            .filter(|replica| !matches!(replica.stage, Stage::WaitSnapshot { .. } | Stage::Served))
            .map(|replica| replica.cursor)
            .min()
    }

    pub fn count_acked(&self, offset: u64) -> usize {
        self.map
            .values()
            .filter(|replica| {
                replica.stage == Stage::Online && !replica.old_protocol && replica.ack_offset >= offset
            })
            .count()
    }

    pub fn count_good(&self, max_lag_s: u64, now: Mono) -> usize {
        self.map
            .values()
            .filter(|replica| replica.stage == Stage::Online && replica.lag_s(now) <= max_lag_s)
            .count()
    }
}

impl Replication {
    /// PSYNC, SYNC or REPLCONF of a client, name and arguments. Replies are actions; REPLCONF ACK and GETACK have
    /// none. `peer` is the address that the connection came from.
    pub fn client_command(
        &mut self,
        conn: ConnId,
        peer: IpAddr,
        args: &[&[u8]],
        now: Mono,
        actions: &mut Actions,
    ) {
        let Some((name, rest)) = args.split_first() else { return };
        if name.eq_ignore_ascii_case(b"REPLCONF") {
            self.replconf(conn, rest, now, actions);
        } else {
            self.sync(conn, peer, rest, now, actions);
        }
    }

    /// An empty line from a replica: it lives, and is busy loading.
    pub fn keepalive(&mut self, conn: ConnId, now: Mono) {
        if let Some(replica) = self.replicas.map.get_mut(&conn) {
            replica.ack_at = now;
        }
    }

    fn replconf(&mut self, conn: ConnId, args: &[&[u8]], now: Mono, actions: &mut Actions) {
        if args.is_empty() || args.len() % 2 == 1 {
            return reply(conn, "-ERR syntax error", actions);
        }
        let mut hints = self.replicas.hints.get(&conn).cloned().unwrap_or_default();
        for pair in args.chunks_exact(2) {
            let (option, value) = (pair[0], pair[1]);
            let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
            if is("ack") {
                if let Some(offset) = parse_number(value) {
                    self.acknowledged(conn, offset, now, actions);
                }
                // What follows in the same command (FACK of later versions) belongs to it.
                return;
            } else if is("getack") {
                return;
            } else if is("listening-port") {
                match parse_number(value) {
                    Some(port) => hints.listening_port = port,
                    None => return reply(conn, "-ERR value is not an integer or out of range", actions),
                }
            } else if is("ip-address") {
                if value.len() > MAX_ANNOUNCED_IP_BYTES {
                    let text = format!(
                        "-ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                        value.len()
                    );
                    return reply(conn, &text, actions);
                }
                hints.announced_ip = (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned());
            } else if is("capa") {
                hints.capa_eof |= value.eq_ignore_ascii_case(b"eof");
                hints.capa_psync2 |= value.eq_ignore_ascii_case(b"psync2");
            } else if is("rdb-only") {
                match parse_number::<u8>(value) {
                    Some(only @ 0..=1) => hints.rdb_only = only == 1,
                    _ => {
                        return reply(
                            conn,
                            "-ERR value is out of range, value must between 0 and 1",
                            actions,
                        );
                    }
                }
            } else if is("rdb-filter-only") {
                // What is named is all that is wanted.
                let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                hints.with_functions = words.clone().next().is_some();
                if let Some(other) = words.find(|word| !word.eq_ignore_ascii_case(b"functions")) {
                    let other = String::from_utf8_lossy(other);
                    let text = format!("-ERR Unsupported rdb-filter-only option: {other}");
                    return reply(conn, &text, actions);
                }
                hints.without_keys = true;
            } else {
                let option = String::from_utf8_lossy(option);
                let option = option.replace(['\r', '\n'], " ");
                return reply(conn, &format!("-ERR Unrecognized REPLCONF option: {option}"), actions);
            }
        }
        if let Some(replica) = self.replicas.map.get_mut(&conn) {
            replica.hints = hints.clone();
        }
        self.replicas.hints.insert(conn, hints);
        reply(conn, "+OK", actions);
    }

    fn acknowledged(&mut self, conn: ConnId, offset: u64, now: Mono, actions: &mut Actions) {
        let Some(replica) = self.replicas.map.get_mut(&conn) else { return };
        replica.ack_at = now;
        replica.has_acked = true;
        replica.ack_offset = replica.ack_offset.max(offset);
        if replica.stage == Stage::WaitAck {
            replica.stage = Stage::Online;
            let text = format!("Synchronization with replica {} succeeded", replica.name());
            actions.push(Action::Log(LogLevel::Notice, text));
        }
        self.waits.check(&self.replicas, actions);
        self.failover_step(now, actions);
    }

    /// PSYNC (two arguments) or SYNC (none).
    fn sync(&mut self, conn: ConnId, ip: IpAddr, args: &[&[u8]], now: Mono, actions: &mut Actions) {
        if self.is_replica(conn) {
            return;
        }
        if let [id, _, word, ..] = args
            && word.eq_ignore_ascii_case(b"failover")
            && self.link.is_some()
        {
            if !id.eq_ignore_ascii_case(self.history.id.as_str().as_bytes()) {
                return reply(conn, "-ERR PSYNC FAILOVER replid must match my replid.", actions);
            }
            let text = format!("Failover request received for replid {}.", self.history.id);
            actions.push(Action::Log(LogLevel::Notice, text));
            self.promote(now, actions);
            actions.push(Action::RoleChanged);
        }
        if self.link.as_ref().is_some_and(|link| !link.is_streaming()) {
            return reply(conn, "-NOMASTERLINK Can't SYNC while not connected with my master", actions);
        }
        let hints = self.replicas.hints.get(&conn).cloned().unwrap_or_default();
        let mut replica = Replica {
            ip,
            hints,
            old_protocol: args.is_empty(),
            stage: Stage::WaitSnapshot { since: now },
            base: 0,
            cursor: 0,
            queued_bytes: 0,
            ack_offset: 0,
            has_acked: false,
            ack_at: now,
            progress_at: now,
            over_soft_limit_since: None,
        };
        if let [id, asked, ..] = args {
            let Some(asked) = parse_number::<i64>(asked) else {
                return reply(conn, "-ERR value is not an integer or out of range", actions);
            };
            match self.continue_from(id, asked) {
                Ok(offset) => {
                    replica.stage = Stage::Online;
                    (replica.base, replica.cursor) = (offset, offset);
                    let answer = if replica.hints.capa_psync2 {
                        format!("+CONTINUE {}", self.history.id)
                    } else {
                        "+CONTINUE".to_owned()
                    };
                    let text = format!(
                        "Partial resynchronization request from {} accepted. Sending {} bytes of backlog starting \
                         from offset {asked}.",
                        replica.name(),
                        self.log.end() - offset
                    );
                    self.counts.partial_ok += 1;
                    self.attach(conn, replica);
                    reply(conn, &answer, actions);
                    actions.push(Action::Log(LogLevel::Notice, text));
                    return;
                }
                Err(reason) => {
                    if *id != b"?" {
                        self.counts.partial_err += 1;
                        let text = format!(
                            "Partial resynchronization not accepted for replica {}: {reason}",
                            replica.name()
                        );
                        actions.push(Action::Log(LogLevel::Notice, text));
                    }
                }
            }
        }
        self.counts.full += 1;
        if replica.hints.without_keys {
            return self.send_empty_snapshot(conn, replica, actions);
        }
        if !self.log_active {
            // The offset did not count this node's writes so far: what follows is a history of its own.
            self.history = super::History { id: self.random.repl_id(), earlier: None };
            self.activate_log();
        }
        let text = format!("Full resync requested by replica {}", replica.name());
        actions.push(Action::Log(LogLevel::Notice, text));
        self.attach(conn, replica);
        self.join_transfer(conn, now, actions);
    }

    /// A snapshot without keys is made on the spot; no stream can follow it.
    fn send_empty_snapshot(&mut self, conn: ConnId, mut replica: Replica, actions: &mut Actions) {
        let mut bytes = Vec::new();
        if !replica.old_protocol {
            let answer = format!("+FULLRESYNC {} {}\r\n", self.history.id, self.log.end());
            bytes.extend_from_slice(answer.as_bytes());
        }
        let libraries = if replica.hints.with_functions { self.libraries.clone() } else { Arc::default() };
        let snapshot = Snapshot::default().with_libraries(libraries);
        let rdb = SnapshotEncoder::new(snapshot, Vec::new()).next_chunk(usize::MAX).bytes;
        bytes.extend_from_slice(format!("${}\r\n", rdb.len()).as_bytes());
        bytes.extend_from_slice(&rdb);
        replica.stage = Stage::Served;
        replica.queued_bytes = bytes.len();
        self.attach(conn, replica);
        actions.push(Action::Send { conn, bytes });
    }

    /// The offset from which a replica that asks for byte `asked` of history `id` may go on, or why not.
    fn continue_from(&self, id: &[u8], asked: i64) -> Result<u64, String> {
        let offset = u64::try_from(asked).ok().and_then(|asked| asked.checked_sub(1));
        let (Some(id), Some(offset)) = (ReplId::parse(id), offset) else {
            return Err("it asks for no known history".to_owned());
        };
        let is_earlier = self.history.earlier.is_some_and(|(earlier, _)| earlier == id);
        let may_fork = is_earlier && self.settings.zoo.has(Mutation::ContinuesPastFork);
        let may_be_foreign = self.settings.zoo.has(Mutation::AnyHistoryContinues);
        if !self.history.contains(id, offset) && !may_fork && !may_be_foreign {
            let mine = match self.history.earlier {
                Some((earlier, until)) if earlier == id => {
                    format!("it asks for offset {asked} of {id}, which is shared up to {until} only")
                }
                _ => format!("Replication ID mismatch (it asked for '{id}', mine is '{}')", self.history.id),
            };
            return Err(mine);
        }
        if !self.log_active || offset < self.log.first() || offset > self.log.end() {
            return Err(format!(
                "lack of backlog (it asked for {asked}, mine is {} to {})",
                self.log.first() + 1,
                self.log.end()
            ));
        }
        Ok(offset)
    }

    fn attach(&mut self, conn: ConnId, replica: Replica) {
        self.replicas.map.insert(conn, replica);
        self.no_replicas_since = None;
    }

    /// The shell wrote bytes of a replica's outbox.
    pub fn flushed(&mut self, conn: ConnId, bytes: usize, now: Mono, actions: &mut Actions) {
        if let Some(replica) = self.replicas.map.get_mut(&conn) {
            replica.queued_bytes = replica.queued_bytes.saturating_sub(bytes);
            replica.progress_at = now;
            if !replica.has_acked {
                replica.ack_at = now;
            }
            self.pull_if_room(actions);
        }
    }

    /// Puts stream bytes in the outboxes of those who may have them, and drops replicas that are too far behind.
    pub(super) fn feed_replicas(&mut self, now: Mono, actions: &mut Actions) {
        let mut too_slow = BTreeSet::new();
        for (&conn, replica) in &mut self.replicas.map {
            if replica.stage == Stage::Online {
                let room = OUTBOX_WINDOW_BYTES.saturating_sub(replica.queued_bytes);
                for range in self.log.ranges_after(replica.cursor, room) {
                    let len = range.end - range.start;
                    replica.cursor += len as u64;
                    replica.queued_bytes += len;
                    actions.push(Action::SendShared {
                        conn,
                        chunk: range.chunk,
                        start: range.start,
                        end: range.end,
                    });
                }
            }
            // The stream comes last in the outbox; the snapshot before it does not count.
            let queued_stream = (replica.queued_bytes as u64).min(replica.cursor - replica.base);
            let behind = match replica.stage {
                Stage::WaitSnapshot { .. } | Stage::Served => 0,
                _ => queued_stream + (self.log.end() - replica.cursor),
            };
            // A limit under the backlog's size could never be met by a partial resync.
            let effective =
                |limit: u64| if limit == 0 { u64::MAX } else { limit.max(self.settings.backlog_bytes) };
            if behind <= effective(self.settings.output_soft_limit_bytes) {
                replica.over_soft_limit_since = None;
            } else {
                let since = *replica.over_soft_limit_since.get_or_insert(now);
                if now.ms_since(since) > self.settings.output_soft_limit_s * 1000 {
                    too_slow.insert(conn);
                }
            }
            if behind > effective(self.settings.output_hard_limit_bytes) {
                too_slow.insert(conn);
            }
        }
        for conn in too_slow {
            self.drop_replica(
                conn,
                "scheduled to be closed ASAP for overcoming of output buffer limits",
                now,
                actions,
            );
        }
    }

    /// Once a second: keepalives for those who wait, timeouts for those who are silent.
    pub(super) fn replicas_cron(&mut self, now: Mono, actions: &mut Actions) {
        let timeout_ms = self.settings.timeout_s * 1000;
        let mut silent = Vec::new();
        for (&conn, replica) in &mut self.replicas.map {
            let collecting = matches!(replica.stage, Stage::Transfer(id)
                if self.replicas.transfer.as_ref().is_some_and(|transfer| transfer.is_collecting(id)));
            if replica.is_waiting() || collecting {
                replica.queued_bytes += 1;
                actions.push(Action::Send { conn, bytes: b"\n".to_vec() });
            } else if replica.sends_acks() && now.ms_since(replica.ack_at) > timeout_ms {
                silent.push((conn, "Disconnecting timedout replica (streaming sync)"));
            } else if matches!(replica.stage, Stage::Transfer(_))
                && replica.queued_bytes > 0
                && now.ms_since(replica.progress_at) > timeout_ms
            {
                silent.push((conn, "Disconnecting timedout replica (full sync)"));
            }
        }
        for (conn, why) in silent {
            self.drop_replica(conn, why, now, actions);
        }
    }

    pub(super) fn drop_replica(&mut self, conn: ConnId, why: &str, now: Mono, actions: &mut Actions) {
        if let Some(replica) = self.replicas.map.get(&conn) {
            actions.push(Action::Log(LogLevel::Warning, format!("Replica {}: {why}", replica.name())));
            actions.push(Action::Close { conn, flush: false });
            self.replicas.forget_hints(conn);
            self.forget_replica(conn, now, actions);
        }
    }

    /// Disconnects every replica: their histories must be compared anew.
    pub(super) fn drop_replicas(&mut self, actions: &mut Actions) {
        for &conn in self.replicas.map.keys() {
            self.replicas.hints.remove(&conn);
            actions.push(Action::Close { conn, flush: false });
        }
        self.replicas.map.clear();
        self.replicas.snapshot_asked = false;
        if let Some(transfer) = self.replicas.transfer.take()
            && !transfer.is_collecting(transfer.id)
        {
            actions.push(Action::CancelSnapshot(transfer.id));
        }
    }

    pub(super) fn forget_replica(&mut self, conn: ConnId, now: Mono, actions: &mut Actions) {
        let Some(replica) = self.replicas.map.remove(&conn) else { return };
        actions.push(Action::Log(
            LogLevel::Warning,
            format!("Connection with replica {} lost.", replica.name()),
        ));
        self.leave_transfer(conn, actions);
        if self.replicas.map.is_empty() && self.link.is_none() {
            self.no_replicas_since = Some(now);
        }
    }
}

fn parse_number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn reply(conn: ConnId, line: &str, actions: &mut Actions) {
    actions.push(Action::Send { conn, bytes: format!("{line}\r\n").into_bytes() });
}
