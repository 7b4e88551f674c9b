//! The words that a node and its shell speak: time, inputs, effects, outboxes and the durability gate.
//!
//! The contract, in one turn of the shell's loop:
//! 1. feed every event that is ready with `Node::input`;
//! 2. call `Node::end_of_batch` once (Redis' "before sleep");
//! 3. carry out the drained [`Effects`];
//! 4. for each dirty connection write what [`Outbox::sendable`] allows: no byte whose gate is above
//!    `Node::durable()` may leave;
//! 5. sleep until `Node::next_deadline()` or the next event.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::keyspace::Snapshot;

/// Monotonic time in microseconds since an arbitrary origin chosen by the shell. Deadlines are made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant plus `ms` milliseconds.
    #[must_use]
    #[inline]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// The first of these instants, as far as there are any.
    #[inline]
    pub fn earliest<const N: usize>(of: [Option<Self>; N]) -> Option<Self> {
        let mut first = None;
        for at in of {
            first = match (first, at) {
                (Some(first), Some(at)) => Some(Self::min(first, at)),
                (None, at) => at,
                (first, None) => first,
            };
        }
        first
    }

    /// Whole milliseconds from `earlier` to this instant; 0 if `earlier` is later.
    #[inline]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }

    /// Whole milliseconds since the origin.
    pub const fn ms(self) -> u64 {
        self.0 / 1000
    }
}

/// Wall-clock time in milliseconds since the Unix epoch. Used for expiry and for what Redis prints or gossips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallMs(pub u64);

/// Both clocks, read once per event by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and measured durations.
    pub mono: Mono,
    /// For expiry and printed times.
    pub wall: WallMs,
}

/// A clock for the durations of commands: nanoseconds since some moment, never going back. The shell gives it at
/// start, because a command has no event of its own to bring the time; a simulator gives [`Stopwatch::STOPPED`] or one
/// of its own. What it says is shown to people (INFO commandstats, SLOWLOG, LATENCY) and must decide nothing.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(pub fn() -> u64);

impl Stopwatch {
    /// Everything takes no time.
    pub const STOPPED: Self = Self(|| 0);

    /// Reads it, in nanoseconds.
    pub fn read(self) -> u64 {
        (self.0)()
    }
}

/// What the shell knows of its process and machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VitalSigns {
    /// Processor time of the process in user mode, us.
    pub user_us: u64,
    /// The same in the kernel.
    pub system_us: u64,
    /// Of the thread that serves clients, in user mode.
    pub main_user_us: u64,
    /// The same in the kernel.
    pub main_system_us: u64,
    /// Resident memory of the process, bytes.
    pub rss_bytes: u64,
    /// Memory of the machine, bytes.
    pub total_memory_bytes: u64,
    /// Kernel, its release and the machine's architecture, as INFO shows them.
    pub os: String,
    /// Path of the running program.
    pub executable: String,
}

/// Asks the shell for [`VitalSigns`]; as with [`Stopwatch`], what it says is shown and decides nothing.
#[derive(Clone, Copy, Debug)]
pub struct Vitals(pub fn() -> VitalSigns);

impl Vitals {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self(VitalSigns::default);

    /// Asks.
    pub fn read(self) -> VitalSigns {
        (self.0)()
    }
}

/// A connection's name between node and shell. The shell names accepted connections with even numbers, the
/// node names those it asks for with odd ones; a number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// True for a connection that the node asked for.
    pub const fn is_outbound(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Which listener accepted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// The client port: RESP from clients and replicas.
    Client,
    /// The unix socket (`unixsocket`): RESP too; both addresses are loopback's, with port 0.
    Unix,
    /// The cluster bus port.
    Bus,
}

/// The position of one disk effect in the node's sequence of them. Tickets are issued in increasing order and the
/// disk thread completes them in that order, but for a sync beside other work. Zero means "nothing to wait for".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names one snapshot being turned into RDB bytes by the shell's disk thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

/// One event.
#[derive(Debug)]
pub enum Input<'a> {
    /// A listener accepted a connection.
    Accepted { conn: ConnId, plane: Plane, peer: SocketAddr, local: SocketAddr },
    /// A connection asked for with [`Effect::Connect`] is up.
    Connected { conn: ConnId, local: SocketAddr, peer: SocketAddr },
    /// A connection asked for could not be made.
    ConnectFailed { conn: ConnId, error: String },
    /// Bytes arrived.
    Received { conn: ConnId, bytes: &'a [u8] },
    /// The shell has written `bytes` more bytes of the connection's outbox to the kernel.
    Flushed { conn: ConnId, bytes: usize },
    /// The connection ended (end of stream or error); its outbox is gone.
    Closed { conn: ConnId },
    /// A disk effect finished.
    DiskDone { ticket: Ticket, result: Result<(), DiskError> },
    /// The next piece of a file asked for with [`Effect::Read`], in order. An absent file is one empty piece with
    /// `eof` and `missing`. `total_bytes` is the file's length when it was opened.
    FileChunk { name: &'a str, bytes: &'a [u8], eof: bool, missing: bool, total_bytes: u64 },
    /// The next piece of a snapshot's RDB bytes, or of a file being sent, answering one [`Effect::SnapshotPull`].
    SnapshotChunk { id: SnapshotId, bytes: Arc<[u8]>, last: bool },
    /// A file begun with [`Effect::Save`] is in its place (with its length), or could not be put there.
    Saved { id: SnapshotId, result: Result<u64, DiskError> },
    /// A file begun with [`Effect::FileStart`] cannot be read on; no chunk follows.
    FileFailed { id: SnapshotId, error: DiskError },
    /// A setting is in force, or could not be put in force: then all is as before.
    Applied { setting: Setting, well: bool },
    /// The process was asked to stop (SIGTERM or SIGINT).
    Terminate,
}

/// Why a disk effect failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What the operating system said, for logs and error replies.
    pub message: String,
    /// True for ENOSPC, EDQUOT and EFBIG.
    pub no_space: bool,
}

/// Work on files of the data directory. Names are relative to it.
#[derive(Debug)]
pub enum DiskOp {
    /// Write at the end of the file, creating it; then fdatasync if `sync`.
    Append { name: String, bytes: Vec<u8>, sync: bool },
    /// Put `bytes` in place of the whole file so that a crash at any step leaves the old or the new content:
    /// temporary file, lock it if the old one was locked, fsync if `sync`, rename, fsync the directory.
    Replace { name: String, bytes: Vec<u8>, sync: bool },
    /// fdatasync only. With `beside` no other work waits for it, and its answer may come after those of later tickets: a disk
    /// may take seconds for it, in which writes to the file go on.
    Sync { name: String, beside: bool },
    /// Cut the file to `len` bytes.
    Truncate { name: String, len: u64 },
    /// Remove the file if it is there.
    Remove { name: String },
    /// Give the file another name, in a directory that is there.
    Rename { from: String, to: String },
    /// Make this directory (absolute, or relative to the present one) the data directory (`CONFIG SET dir`).
    ChangeDir { path: String },
}

/// A snapshot to be written to a file, beside all other disk work: it may take long, and nothing is gated by it.
/// Done like [`DiskOp::Replace`] with `sync`: a crash at any step leaves the old or the new file.
#[derive(Debug)]
pub struct SaveJob {
    /// The file, relative to the data directory.
    pub name: String,
    /// What to write.
    pub snapshot: Snapshot,
    /// Auxiliary fields of an RDB.
    pub rdb_aux: Vec<(String, String)>,
    /// In which form.
    pub format: SnapshotFormat,
    /// Encode it as commands (an AOF without RDB preamble) and not as RDB.
    pub as_commands: bool,
    /// Commands begin with this time as an annotation, in Unix seconds.
    pub annotate_s: Option<u64>,
}

/// How snapshots are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFormat {
    /// `rdbcompression`
    pub compress: bool,
    /// `rdbchecksum`
    pub checksum: bool,
    /// `rdb-key-save-delay` of Redis' tests: microseconds of sleep per key; negative: keys per microsecond.
    pub key_delay_us: i64,
}

impl Default for SnapshotFormat {
    fn default() -> Self {
        Self { compress: true, checksum: true, key_delay_us: 0 }
    }
}

/// What the node wants done outside itself. Drained by the shell after `end_of_batch`, in order.
#[derive(Debug)]
pub enum Effect {
    /// Dial `addr`, from `source` if given; answer with `Connected` or `ConnectFailed`.
    Connect { conn: ConnId, addr: SocketAddr, source: Option<IpAddr> },
    /// The same where the host is a name, which has to be looked up.
    ConnectByName { conn: ConnId, host: String, port: u16, source: Option<IpAddr> },
    /// Close the connection; with `flush` after its outbox is written. No `Closed` follows.
    Close { conn: ConnId, flush: bool },
    /// Do this on the disk thread; answer `DiskDone` with this ticket.
    Disk { ticket: Ticket, op: DiskOp },
    /// Read the file in pieces, answering `FileChunk`s.
    Read { name: String },
    /// Begin to encode a snapshot as RDB; nothing is sent before a pull.
    SnapshotStart {
        id: SnapshotId,
        snapshot: Snapshot,
        rdb_aux: Vec<(String, String)>,
        format: SnapshotFormat,
    },
    /// Open a file to be sent; nothing is sent before a pull. `id` is a name like a snapshot's.
    FileStart { id: SnapshotId, name: String },
    /// Answer with the next `SnapshotChunk` (at most 1 MiB).
    SnapshotPull { id: SnapshotId },
    /// Write a snapshot to a file beside all else; answered with `Saved`.
    Save { id: SnapshotId, job: Box<SaveJob> },
    /// Nobody wants the rest of a snapshot, a file or a save: no answer follows, and no file is changed from now on.
    SnapshotCancel { id: SnapshotId },
    /// The node is deaf for so long (a slow command, `DEBUG SLEEP`): the shell sleeps, the simulator defers.
    Busy { us: u64 },
    /// One line for the log.
    Log { level: LogLevel, text: String },
    /// Put a setting in force that is the shell's business; answer with `Applied`.
    Apply { setting: Setting },
    /// End the process with this code, after outboxes are flushed (best effort).
    Exit { code: i32 },
}

/// A setting that the shell puts in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The client port and the addresses (`port`, `bind`).
    Listening,
    /// `oom-score-adj` and its values.
    OomScore,
}

/// Redis' four log levels; printed as `.`, `-`, `*`, `#`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `.`
    Debug,
    /// `-`
    Verbose,
    /// `*`
    Notice,
    /// `#`
    Warning,
}

/// The effects of one batch; a buffer that is reused, so that the hot path allocates nothing.
#[derive(Debug, Default)]
pub struct Effects {
    /// In the order in which they were asked for.
    pub list: Vec<Effect>,
}

impl Effects {
    /// Adds one effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Adds a log line.
    pub fn log(&mut self, level: LogLevel, text: impl Into<String>) {
        self.list.push(Effect::Log { level, text: text.into() });
    }
}

/// Bytes to send on one connection, in order: owned bytes, and ranges of chunks shared with other outboxes (the
/// replication log, a snapshot). Each byte carries the ticket that must be durable before it leaves.
#[derive(Debug, Default)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    len: usize,
}

#[derive(Debug)]
struct Segment {
    gate: Ticket,
    bytes: SegmentBytes,
    /// Bytes of this segment that have been sent.
    sent: usize,
}

#[derive(Debug)]
enum SegmentBytes {
    Owned(Vec<u8>),
    Shared { chunk: Arc<[u8]>, start: usize, end: usize },
}

impl Segment {
    #[inline]
    fn rest(&self) -> &[u8] {
        match &self.bytes {
            SegmentBytes::Owned(bytes) => &bytes[self.sent..],
            SegmentBytes::Shared { chunk, start, end } => &chunk[start + self.sent..*end],
        }
    }
}

impl Outbox {
    /// Bytes waiting.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated for what waits; shared ranges count as long as they are.
    pub fn allocated(&self) -> usize {
        let of = |segment: &Segment| match &segment.bytes {
            SegmentBytes::Owned(bytes) => bytes.capacity(),
            SegmentBytes::Shared { start, end, .. } => end - start,
        };
        self.segments.iter().map(of).sum()
    }

    /// True when nothing waits.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a copy of `bytes`, gated by `gate`.
    pub fn write(&mut self, gate: Ticket, bytes: &[u8]) {
        self.with_owned(gate, |buffer| buffer.extend_from_slice(bytes));
    }

    /// Lets `fill` append to an owned buffer in place; gated by `gate`.
    pub fn with_owned<R>(&mut self, gate: Ticket, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let reusable = match self.segments.back_mut() {
            Some(Segment { gate: last, bytes: SegmentBytes::Owned(buffer), .. }) => {
                if buffer.is_empty() {
                    *last = gate;
                }
                *last == gate
            }
            _ => false,
        };
        if !reusable {
            self.segments.push_back(Segment { gate, bytes: SegmentBytes::Owned(Vec::new()), sent: 0 });
        }
        let Some(Segment { bytes: SegmentBytes::Owned(buffer), .. }) = self.segments.back_mut() else {
            unreachable!("the last segment is owned: it was checked or pushed above")
        };
        let before = buffer.len();
        let result = fill(buffer);
        self.len += buffer.len() - before;
        result
    }

    /// Appends `bytes` without copying them, if they are many.
    pub fn write_vec(&mut self, gate: Ticket, bytes: Vec<u8>) {
        const MANY: usize = 16 * 1024;
        if bytes.len() < MANY {
            return self.write(gate, &bytes);
        }
        self.len += bytes.len();
        self.segments.push_back(Segment { gate, bytes: SegmentBytes::Owned(bytes), sent: 0 });
    }

    /// Appends a range of a shared chunk without copying it.
    pub fn write_shared(&mut self, gate: Ticket, chunk: Arc<[u8]>, start: usize, end: usize) {
        debug_assert!(start <= end && end <= chunk.len());
        self.len += end - start;
        self.segments.push_back(Segment { gate, bytes: SegmentBytes::Shared { chunk, start, end }, sent: 0 });
    }

    /// Raises the gate of every waiting byte to at least `gate`.
    pub fn raise_gate(&mut self, gate: Ticket) {
        for segment in &mut self.segments {
            segment.gate = segment.gate.max(gate);
        }
    }

    /// The slices that may be written now, in order, given what is durable; at most `limit` of them.
    #[inline]
    pub fn sendable(&self, durable: Ticket, limit: usize) -> impl Iterator<Item = &[u8]> {
        self.segments
            .iter()
            .take_while(move |segment| segment.gate <= durable)
            .map(Segment::rest)
            .filter(|rest| !rest.is_empty())
            .take(limit)
    }

    /// Forgets the first `sent` bytes: they were written.
    pub fn advance(&mut self, mut sent: usize) {
        debug_assert!(sent <= self.len);
        self.len -= sent;
        while let Some(mut first) = self.segments.pop_front() {
            let rest = first.rest().len();
            if sent < rest {
                first.sent += sent;
                self.segments.push_front(first);
                return;
            }
            sent -= rest;
            if self.segments.is_empty() {
                // Keep the last owned buffer: the next reply will want it.
                if let SegmentBytes::Owned(buffer) = &mut first.bytes
                    && buffer.capacity() <= 64 * 1024
                {
                    buffer.clear();
                    first.sent = 0;
                    self.segments.push_front(first);
                }
                return;
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.len = 0;
    }
}
