//! MIGRATE: keys on their way to another server, over connections that are kept for a while.
//!
//! Redis stands still for the whole of a MIGRATE; this node goes on. So the keys in flight are *frozen*: commands
//! that may write them wait, and so do their expiry and a second MIGRATE of them; reads go on. Each key is decided
//! by the target's reply to its RESTORE: accepted, it is deleted here in the event that brings the reply; refused,
//! or without a reply before the end of the talk, it stays. Either way it thaws at that moment. Nothing else
//! deletes a key, so whatever dies when, a key is in one place or (its RESTORE done, the reply lost) in both.
//!
//! Values are serialised while the connection takes them, not before: they cannot change, and a gigabyte on its
//! way is in memory once more, not ten times.
//!
//! Pure: what to dial, send, delete and answer are [`Action`]s.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::command::MigrateRequest;
use crate::io::{ConnId, Mono};
use crate::resp::write_command;

/// A connection that nobody used for so long is closed.
const IDLE_MS: u64 = 10_000;
/// At most so many unused connections are kept.
const MAX_IDLE: usize = 64;
/// No further value is serialised while more than this waits to be sent.
const WINDOW_BYTES: usize = 1 << 20;
/// A reply line of more bytes is no reply.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// A MIGRATE that may begin: its keys are there, and nobody else's.
#[derive(Debug)]
pub struct Start {
    /// What was asked for; `keys` are those that are there.
    pub request: MigrateRequest,
    /// Where the target listens.
    pub target: SocketAddr,
    /// Who waits for the answer.
    pub client: ConnId,
    /// Number of the database that the keys are in.
    pub db: u32,
    /// This node is part of a cluster: the target must take keys of a slot that it imports.
    pub asking: bool,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial; answer with `connected` or `connect_failed`.
    Dial { conn: ConnId, addr: SocketAddr },
    /// Send bytes; report with `flushed` when they have left.
    Send { conn: ConnId, bytes: Vec<u8> },
    /// Close the connection and forget its outbox. No `closed` is expected.
    Close { conn: ConnId },
    /// The target has these keys: delete them, and tell replicas and file so.
    Arrived { db: u32, keys: Vec<Vec<u8>> },
    /// These keys are decided: they may be written again.
    Thaw { keys: Vec<Vec<u8>> },
    /// End of a MIGRATE: `+OK`, or the error's text with its code.
    Answer { client: ConnId, outcome: Result<(), String> },
}

/// Gives what RESTORE needs of a key of a database: the milliseconds that it has left (0: for ever) and its payload.
pub type Payload<'a> = &'a dyn Fn(u32, &[u8]) -> Option<(u64, Vec<u8>)>;

/// One call's surroundings.
pub struct Turn<'a> {
    /// The clock.
    pub now: Mono,
    /// Writes are held back (a manual failover, CLIENT PAUSE): nothing may be sent or deleted. What arrives is
    /// looked at when [`Migrations::resume`] says so.
    pub held: bool,
    /// A bug of the zoo: keys are deleted when they are sent.
    pub deletes_on_send: bool,
    /// Values.
    pub payload: Payload<'a>,
    /// The number of the next connection asked for; advanced by two for each.
    pub next_conn: &'a mut ConnId,
    /// Where actions go.
    pub actions: &'a mut Vec<Action>,
}

/// All of a node.
#[derive(Debug, Default)]
pub struct Migrations {
    flights: BTreeMap<ConnId, Flight>,
    idle: BTreeMap<ConnId, Idle>,
}

/// A connection that waits for work.
#[derive(Clone, Copy, Debug)]
struct Idle {
    target: SocketAddr,
    db: i64,
    since: Mono,
}

/// What a reply of the target is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Auth,
    Select,
    /// Index of the key.
    Restore(usize),
}

/// One MIGRATE under way.
#[derive(Debug)]
struct Flight {
    start: Start,
    /// The connection served another MIGRATE before; it may have died meanwhile.
    reused: bool,
    connected: bool,
    /// Keys before this one have been serialised.
    next_key: usize,
    /// Which keys are decided.
    decided: Vec<bool>,
    expected: VecDeque<Expected>,
    /// Any byte of the target was read.
    heard: bool,
    /// AUTH or SELECT was refused: what follows does not count, whatever the target says of it.
    not_admitted: bool,
    /// The first error of the target.
    error: Option<String>,
    input: Vec<u8>,
    queued_bytes: usize,
    /// The connection ended while writes were held back.
    ended: bool,
    deadline: Mono,
}

/// How a talk broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Ended,
    Timeout,
    Nonsense,
}

impl Migrations {
    /// Begins. The caller has frozen the keys.
    pub fn start(&mut self, start: Start, turn: &mut Turn<'_>) {
        let deadline = turn.now.plus_ms(start.request.timeout_ms);
        let kept = self.idle.iter().find(|(_, idle)| idle.target == start.target).map(|(conn, _)| *conn);
        let kept = kept.and_then(|conn| self.idle.remove(&conn).map(|idle| (conn, idle)));
        let mut flight = Flight {
            decided: vec![false; start.request.keys.len()],
            start,
            reused: kept.is_some(),
            connected: kept.is_some(),
            next_key: 0,
            expected: VecDeque::new(),
            heard: false,
            not_admitted: false,
            error: None,
            input: Vec::new(),
            queued_bytes: 0,
            ended: false,
            deadline,
        };
        match kept {
            Some((conn, idle)) => {
                flight.greet(conn, Some(idle.db), turn);
                flight.fill(conn, turn);
                self.flights.insert(conn, flight);
                self.settle(conn, turn);
            }
            None => self.dial(flight, turn),
        }
    }

    fn dial(&mut self, flight: Flight, turn: &mut Turn<'_>) {
        let conn = *turn.next_conn;
        turn.next_conn.0 += 2;
        turn.actions.push(Action::Dial { conn, addr: flight.start.target });
        self.flights.insert(conn, flight);
    }

    /// A connection is up.
    pub fn connected(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        let Some(flight) = self.flights.get_mut(&conn) else { return };
        flight.connected = true;
        flight.progress(turn.now);
        flight.greet(conn, None, turn);
        flight.fill(conn, turn);
        self.settle(conn, turn);
    }

    /// A connection could not be made.
    pub fn connect_failed(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        if let Some(flight) = self.flights.remove(&conn) {
            // What Redis says when the target refuses: it notices when it writes.
            flight.conclude(Some("IOERR error or timeout writing to target instance"), turn);
        }
    }

    /// Bytes of a target.
    pub fn received(&mut self, conn: ConnId, bytes: &[u8], turn: &mut Turn<'_>) {
        if self.idle.remove(&conn).is_some() {
            // Nobody asked it anything.
            turn.actions.push(Action::Close { conn });
            return;
        }
        let Some(flight) = self.flights.get_mut(&conn) else { return };
        flight.progress(turn.now);
        flight.input.extend_from_slice(bytes);
        self.settle(conn, turn);
    }

    /// Bytes have left.
    pub fn flushed(&mut self, conn: ConnId, bytes: usize, turn: &mut Turn<'_>) {
        let Some(flight) = self.flights.get_mut(&conn) else { return };
        flight.queued_bytes = flight.queued_bytes.saturating_sub(bytes);
        flight.progress(turn.now);
        flight.fill(conn, turn);
        self.settle(conn, turn);
    }

    /// A connection ended.
    pub fn closed(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        self.idle.remove(&conn);
        let Some(flight) = self.flights.get_mut(&conn) else { return };
        if turn.held {
            flight.ended = true;
        } else {
            self.broke_off(conn, Break::Ended, turn);
        }
    }

    /// Writes may go on: what came meanwhile is looked at.
    pub fn resume(&mut self, turn: &mut Turn<'_>) {
        for conn in self.flights.keys().copied().collect::<Vec<_>>() {
            let Some(flight) = self.flights.get_mut(&conn) else { continue };
            flight.progress(turn.now);
            flight.fill(conn, turn);
            self.settle(conn, turn);
            if self.flights.get(&conn).is_some_and(|flight| flight.ended) {
                self.broke_off(conn, Break::Ended, turn);
            }
        }
    }

    /// Gives all up with this error, deleting nothing: this node's data is about to be another's.
    pub fn abort(&mut self, why: &str, turn: &mut Turn<'_>) {
        for conn in std::mem::take(&mut self.idle).into_keys() {
            turn.actions.push(Action::Close { conn });
        }
        for (conn, flight) in std::mem::take(&mut self.flights) {
            turn.actions.push(Action::Close { conn });
            flight.conclude(Some(why), turn);
        }
    }

    /// When to call [`Self::tick`].
    #[inline]
    pub fn next_deadline(&self, held: bool) -> Option<Mono> {
        if self.idle.is_empty() && self.flights.is_empty() {
            return None;
        }
        let idle = self.idle.values().map(|idle| idle.since.plus_ms(IDLE_MS));
        let flights = self.flights.values().filter(|_| !held).map(|flight| flight.deadline);
        idle.chain(flights).min()
    }

    /// Timeouts.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let unused = self.idle.iter().filter(|(_, idle)| idle.since.plus_ms(IDLE_MS) <= now);
        let unused: Vec<ConnId> = unused.map(|(conn, _)| *conn).collect();
        self.idle.retain(|conn, _| !unused.contains(conn));
        turn.actions.extend(unused.into_iter().map(|conn| Action::Close { conn }));
        if turn.held {
            return;
        }
        let late = self.flights.iter().filter(|(_, flight)| flight.deadline <= now).map(|(conn, _)| *conn);
        for conn in late.collect::<Vec<_>>() {
            self.broke_off(conn, Break::Timeout, turn);
        }
    }

    /// Connections that are kept, for INFO.
    pub fn cached_connections(&self) -> usize {
        self.idle.len() + self.flights.values().filter(|flight| flight.connected).count()
    }

    /// Takes the replies that are there; ends the flight if they were all.
    fn settle(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        if turn.held {
            return;
        }
        let Some(flight) = self.flights.get_mut(&conn) else { return };
        let sane = flight.take_replies(turn);
        if !sane {
            return self.broke_off(conn, Break::Nonsense, turn);
        }
        let done = flight.connected && flight.next_key == flight.decided.len() && flight.expected.is_empty();
        if !done {
            return;
        }
        let Some(flight) = self.flights.remove(&conn) else { return };
        if flight.ended || !flight.input.is_empty() {
            turn.actions.push(Action::Close { conn });
        } else {
            // After an error it is not known which database the target has chosen.
            let db = if flight.error.is_some() { -1 } else { flight.start.request.db };
            self.keep(conn, Idle { target: flight.start.target, db, since: turn.now }, turn);
        }
        flight.conclude(None, turn);
    }

    fn keep(&mut self, conn: ConnId, idle: Idle, turn: &mut Turn<'_>) {
        if self.idle.len() >= MAX_IDLE {
            let oldest =
                self.idle.iter().min_by_key(|(conn, idle)| (idle.since, **conn)).map(|(conn, _)| *conn);
            if let Some(oldest) = oldest {
                self.idle.remove(&oldest);
                turn.actions.push(Action::Close { conn: oldest });
            }
        }
        self.idle.insert(conn, idle);
    }

    /// The talk cannot go on. A connection that was kept and died unheard is replaced once.
    fn broke_off(&mut self, conn: ConnId, how: Break, turn: &mut Turn<'_>) {
        let Some(mut flight) = self.flights.remove(&conn) else { return };
        turn.actions.push(Action::Close { conn });
        if flight.reused && !flight.heard && how == Break::Ended {
            flight.reused = false;
            flight.connected = false;
            flight.next_key = 0;
            flight.expected.clear();
            flight.input.clear();
            flight.queued_bytes = 0;
            flight.ended = false;
            flight.deadline = turn.now.plus_ms(flight.start.request.timeout_ms);
            return self.dial(flight, turn);
        }
        let why = match () {
            () if !flight.connected => "IOERR error or timeout connecting to the client",
            () if flight.queued_bytes > 0 => "IOERR error or timeout writing to target instance",
            () => "IOERR error or timeout reading to target instance",
        };
        flight.conclude(Some(why), turn);
    }
}

impl Flight {
    fn progress(&mut self, now: Mono) {
        self.deadline = now.plus_ms(self.start.request.timeout_ms);
    }

    /// AUTH if the request has it, SELECT if the connection is at another database.
    fn greet(&mut self, conn: ConnId, db: Option<i64>, turn: &mut Turn<'_>) {
        let request = &self.start.request;
        let mut bytes = Vec::new();
        if let Some(auth) = &request.auth {
            let words = [Some(&b"AUTH"[..]), auth.user.as_deref(), Some(&auth.password)];
            let words: Vec<&[u8]> = words.into_iter().flatten().collect();
            write_command(&mut bytes, words.iter());
            self.expected.push_back(Expected::Auth);
        }
        if db != Some(request.db) {
            write_command(&mut bytes, [b"SELECT", request.db.to_string().as_bytes()].iter());
            self.expected.push_back(Expected::Select);
        }
        self.send(conn, bytes, turn);
    }

    /// Serialises keys until enough waits to be sent.
    fn fill(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        while !turn.held && self.connected && self.queued_bytes < WINDOW_BYTES {
            let index = self.next_key;
            let Some(key) = self.start.request.keys.get(index) else { return };
            self.next_key += 1;
            if self.decided[index] {
                // The talk began anew; this one is not ours any more.
                continue;
            }
            let Some((ttl_ms, payload)) = (turn.payload)(self.start.db, key) else {
                // Its slot was taken away with all its keys.
                self.decide(index, turn);
                continue;
            };
            let name: &[u8] = if self.start.asking { b"RESTORE-ASKING" } else { b"RESTORE" };
            let replace = self.start.request.replace;
            let mut head = format!("*{}\r\n", if replace { 5 } else { 4 }).into_bytes();
            for word in [name, key, ttl_ms.to_string().as_bytes()] {
                head.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                head.extend_from_slice(word);
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(format!("${}\r\n", payload.len()).as_bytes());
            self.send(conn, head, turn);
            self.send(conn, payload, turn);
            let tail = if replace { &b"\r\n$7\r\nREPLACE\r\n"[..] } else { b"\r\n" };
            self.send(conn, tail.to_vec(), turn);
            self.expected.push_back(Expected::Restore(index));
            if turn.deletes_on_send && !self.start.request.copy {
                let keys = vec![self.start.request.keys[index].clone()];
                turn.actions.push(Action::Arrived { db: self.start.db, keys });
            }
        }
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>, turn: &mut Turn<'_>) {
        if !bytes.is_empty() {
            self.queued_bytes += bytes.len();
            turn.actions.push(Action::Send { conn, bytes });
        }
    }

    /// Takes whole reply lines; false if what came is no reply.
    fn take_replies(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut arrived = Vec::new();
        let mut refused = Vec::new();
        let mut used = 0;
        let sane = loop {
            let rest = &self.input[used..];
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                break rest.len() <= MAX_LINE_BYTES;
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let Some(expected) = self.expected.front().copied() else { break true };
            let well = match line.first() {
                Some(b'+') => true,
                Some(b'-') => false,
                _ => break false,
            };
            if !well && self.error.is_none() {
                self.error = Some(String::from_utf8_lossy(&line[1..]).into_owned());
            }
            self.heard = true;
            self.expected.pop_front();
            used += end + 1;
            match expected {
                Expected::Auth | Expected::Select => self.not_admitted |= !well,
                Expected::Restore(index) if well && !self.not_admitted => arrived.push(index),
                Expected::Restore(index) => refused.push(index),
            }
        };
        self.input.drain(..used);
        if !arrived.is_empty() && !self.start.request.copy {
            let keys = arrived.iter().map(|&index| self.start.request.keys[index].clone()).collect();
            turn.actions.push(Action::Arrived { db: self.start.db, keys });
        }
        let decided: Vec<usize> = arrived.into_iter().chain(refused).collect();
        self.thaw(&decided, turn);
        sane
    }

    fn decide(&mut self, index: usize, turn: &mut Turn<'_>) {
        self.thaw(&[index], turn);
    }

    fn thaw(&mut self, indices: &[usize], turn: &mut Turn<'_>) {
        if indices.is_empty() {
            return;
        }
        let keys = indices.iter().map(|&index| self.start.request.keys[index].clone()).collect();
        for &index in indices {
            self.decided[index] = true;
        }
        turn.actions.push(Action::Thaw { keys });
    }

    /// Thaws what is left and answers: with the target's first error, else with `why`, else well.
    fn conclude(mut self, why: Option<&str>, turn: &mut Turn<'_>) {
        let left: Vec<usize> = (0..self.decided.len()).filter(|&index| !self.decided[index]).collect();
        self.thaw(&left, turn);
        let told = self.error.map(|error| format!("ERR Target instance replied with error: {error}"));
        let outcome = match told.or_else(|| why.map(str::to_owned)) {
            Some(error) => Err(error),
            None => Ok(()),
        };
        turn.actions.push(Action::Answer { client: self.start.client, outcome });
    }
}
