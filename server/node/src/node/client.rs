//! What the node knows of one connection, and of the client behind it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::blocking::Waiting;
use crate::acl::UserId;
use crate::command::{Spec, Watched};
use crate::io::{Mono, Outbox};
use crate::pubsub::Kind;
use crate::resp::{OwnedArgs, Protocol, RequestParser};

/// A connection.
#[derive(Debug)]
pub struct Conn {
    pub kind: ConnKind,
    pub outbox: Outbox,
    /// In the list of connections that the shell should write.
    pub listed: bool,
    /// Of the client, for messages that others send it.
    pub protocol: Protocol,
}

/// What a connection is for.
#[derive(Debug)]
pub enum ConnKind {
    /// A client or a replica; `None` while its commands run.
    Client(Option<Box<Client>>),
    /// The cluster bus, in either direction.
    Bus,
    /// To the master; once connected, CLIENT LIST and CLIENT KILL treat it as a client, as in Redis.
    MasterLink(Option<Box<Client>>),
    /// To the target of a MIGRATE.
    Migrate,
    /// Closed by this node; its last bytes are still on their way.
    Closing { since: Mono },
}

/// Whether replies are sent (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The command after this one is not answered.
    SkipNext,
    /// This command is not answered.
    Skip,
}

/// What all hear that block when this node becomes a replica: Redis' words.
pub const NOW_A_REPLICA: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

/// Why a client's commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// In WAIT.
    Wait,
    /// For the end of a pause; the command that waits is still in the input.
    Paused,
    /// Its own script runs.
    Running,
    /// Until the script of another ends; the command that waits is still in the input.
    Script,
    /// Until it has read some of its replies.
    Output,
    /// For a file: SAVE or CONFIG REWRITE.
    Disk,
    /// For keys that have nothing for it yet.
    Keys,
    /// In MIGRATE.
    Migrate,
    /// For a key that is on its way to another server; the command that waits is still in the input.
    Frozen,
}

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Transaction {
    pub commands: Vec<(&'static Spec, OwnedArgs)>,
    /// A command was refused: EXEC will be too.
    pub failed: bool,
    pub bytes: usize,
}

/// A transaction that is being executed.
#[derive(Debug)]
pub struct Executing {
    pub transaction: Transaction,
    /// Number of the next command.
    pub next: usize,
    /// How EXEC was called.
    pub call: Option<(&'static Spec, OwnedArgs)>,
    pub began_ns: u64,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub name: Vec<u8>,
    pub peer: SocketAddr,
    /// Its address as text; a unix socket's path with port 0.
    pub address: String,
    pub local_address: String,
    /// It came by the unix socket.
    pub is_unix: bool,
    pub user: UserId,
    /// It is told of every command.
    pub is_monitor: bool,
    /// Bytes of the request that runs and of what came behind it, and bytes of its arguments.
    pub request_bytes: (usize, usize),
    pub created: Mono,
    pub last_active: Mono,
    pub last_command: &'static str,
    pub protocol: Protocol,
    /// Number of the database that it selected.
    pub db: u32,
    pub authenticated: bool,
    pub readonly: bool,
    /// One-shot, or until the end of the transaction if MULTI came next.
    pub asking: bool,
    pub no_evict: bool,
    pub parser: RequestParser,
    /// What has arrived and was not yet executed.
    pub input: Vec<u8>,
    pub transaction: Option<Transaction>,
    /// EXEC is running its commands: nothing may block.
    pub in_exec: bool,
    /// The rest of its transaction, while a script of it runs.
    pub exec: Option<Box<Executing>>,
    pub watching: Vec<Watched>,
    pub reply_mode: ReplyMode,
    pub subscriptions: BTreeSet<(Kind, Vec<u8>)>,
    pub blocked: Option<Blocked>,
    /// The command that waits for keys.
    pub waiting: Option<Box<Waiting>>,
    /// What it is blocked in is not to be answered (`CLIENT REPLY`).
    pub awaits_mute: bool,
    /// The replication offset after its last write, for WAIT.
    pub last_write_offset: u64,
    /// Close when its replies are written.
    pub closing: bool,
    /// Since when its outbox is over the soft limit.
    pub over_soft_limit: Option<Mono>,
}

impl Client {
    pub fn new(origin: Origin<'_>, now: Mono, authenticated: bool) -> Self {
        let Origin { id, peer, local, unix_path } = origin;
        let shown = |address: SocketAddr| match unix_path {
            Some(path) => format!("{path}:0"),
            None => address.to_string(),
        };
        Self {
            id,
            name: Vec::new(),
            peer,
            address: shown(peer),
            local_address: shown(local),
            is_unix: unix_path.is_some(),
            user: UserId::DEFAULT,
            is_monitor: false,
            request_bytes: (0, 0),
            created: now,
            last_active: now,
            last_command: "NULL",
            protocol: Protocol::Resp2,
            db: 0,
            authenticated,
            readonly: false,
            asking: false,
            no_evict: false,
            parser: RequestParser::default(),
            input: Vec::new(),
            transaction: None,
            in_exec: false,
            exec: None,
            watching: Vec::new(),
            reply_mode: ReplyMode::On,
            subscriptions: BTreeSet::new(),
            blocked: None,
            waiting: None,
            awaits_mute: false,
            last_write_offset: 0,
            closing: false,
            over_soft_limit: None,
        }
    }

    /// Bytes that the argument which is arriving still lacks.
    pub fn missing_bytes(&self) -> usize {
        self.parser.arriving().map_or(0, |(start, len)| (start + len + 2).saturating_sub(self.input.len()))
    }

    /// Subscriptions of a kind.
    pub fn subscribed(&self, kind: Kind) -> usize {
        self.subscriptions.iter().filter(|(other, _)| *other == kind).count()
    }

    /// The path of the unix socket that it came by.
    pub fn unix_path(&self) -> &str {
        self.address.strip_suffix(":0").filter(|_| self.is_unix).unwrap_or_default()
    }

    /// Bytes that it costs.
    pub fn memory(&self, outbox_bytes: usize) -> usize {
        let multi = self.transaction.as_ref().map_or(0, |transaction| transaction.bytes);
        let names: usize = self.subscriptions.iter().map(|(_, name)| name.len() + size_of::<Vec<u8>>()).sum();
        let watched: usize = self.watching.iter().map(|watched| watched.key.len()).sum();
        let request = self.input.capacity().max(self.request_bytes.0);
        size_of::<Self>() + request + outbox_bytes + multi + names + watched + self.request_bytes.1
    }

    /// The line of `CLIENT LIST` and `CLIENT INFO`, without a line end.
    pub fn line(&self, context: &LineContext<'_>) -> String {
        let LineContext { now, outbox_bytes, outbox_allocated, is_replica, is_master, user } = *context;
        let mut flags = String::new();
        for (set, letter) in [
            (self.is_monitor, 'O'),
            (is_replica, 'S'),
            (is_master, 'M'),
            (!self.subscriptions.is_empty(), 'P'),
            (self.transaction.is_some() || self.in_exec, 'x'),
            (
                matches!(
                    self.blocked,
                    Some(Blocked::Wait | Blocked::Keys | Blocked::Migrate | Blocked::Paused)
                ),
                'b',
            ),
            (self.closing, 'c'),
            (self.is_unix, 'U'),
            (self.readonly, 'r'),
            (self.no_evict, 'e'),
        ] {
            if set {
                flags.push(letter);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let multi = self.transaction.as_ref().map_or(-1, |transaction| transaction.commands.len() as i64);
        let multi_mem = self.transaction.as_ref().map_or(0, |transaction| transaction.bytes);
        // What fits in Redis' static buffer is told apart from what does not.
        let (fixed, listed) =
            if outbox_bytes <= REPLY_BUFFER { (outbox_bytes, 0) } else { (0, outbox_bytes) };
        let (request, arguments) = self.request_bytes;
        let arrived = match self.parser.arriving() {
            // Redis keeps the bytes of a long argument without what announced them.
            Some((start, len)) if len >= BIG_ARGUMENT => self.input.len().saturating_sub(start),
            _ => self.input.len(),
        };
        let waiting = request.max(arrived);
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} \
             multi={multi} qbuf={waiting} qbuf-free={} argv-mem={arguments} multi-mem={multi_mem} rbs={REPLY_BUFFER} \
             rbp={REPLY_BUFFER} obl={fixed} oll={} omem={listed} tot-mem={} events={} cmd={} user={user} redir=-1 \
             resp={}",
            self.id,
            self.address,
            self.local_address,
            self.id + 7,
            String::from_utf8_lossy(&self.name),
            now.ms_since(self.created) / 1000,
            now.ms_since(self.last_active) / 1000,
            self.db,
            self.subscribed(Kind::Channel),
            self.subscribed(Kind::Pattern),
            self.subscribed(Kind::Shard),
            self.input.capacity().saturating_sub(waiting),
            listed.div_ceil(REPLY_BUFFER),
            self.memory(outbox_allocated),
            if outbox_bytes > 0 { "rw" } else { "r" },
            self.last_command,
            if self.protocol == Protocol::Resp2 { 2 } else { 3 },
        )
    }
}

/// An argument of so many bytes is long.
const BIG_ARGUMENT: usize = 32 * 1024;

/// Bytes of a reply that CLIENT LIST counts as `obl`; more is `omem`.
const REPLY_BUFFER: usize = 16 * 1024;

/// Where a client comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub id: u64,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// Of the unix socket, if it came by that.
    pub unix_path: Option<&'a str>,
}

/// What a client's line tells that the client does not know itself.
#[derive(Clone, Copy, Debug)]
pub struct LineContext<'a> {
    pub now: Mono,
    pub outbox_bytes: usize,
    /// What its outbox costs: buffers are kept for the next reply.
    pub outbox_allocated: usize,
    pub is_replica: bool,
    /// The link to the master.
    pub is_master: bool,
    /// Name of its user.
    pub user: &'a str,
}
