//! What the node knows of one connection, and of the client behind it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::blocking::Waiting;
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
    /// To the master.
    MasterLink,
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

/// A client.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub name: Vec<u8>,
    pub peer: SocketAddr,
    pub local: SocketAddr,
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
    pub fn new(id: u64, peer: SocketAddr, local: SocketAddr, now: Mono, authenticated: bool) -> Self {
        Self {
            id,
            name: Vec::new(),
            peer,
            local,
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

    /// Subscriptions of a kind.
    pub fn subscribed(&self, kind: Kind) -> usize {
        self.subscriptions.iter().filter(|(other, _)| *other == kind).count()
    }

    /// The line of `CLIENT LIST` and `CLIENT INFO`, without a line end.
    pub fn line(&self, now: Mono, outbox_bytes: usize, is_replica: bool) -> String {
        let mut flags = String::new();
        for (set, letter) in [
            (is_replica, 'S'),
            (self.transaction.is_some(), 'x'),
            (matches!(self.blocked, Some(Blocked::Wait | Blocked::Keys | Blocked::Migrate)), 'b'),
            (!self.subscriptions.is_empty(), 'P'),
            (self.readonly, 'r'),
            (self.closing, 'c'),
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
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} \
             multi={multi} qbuf={} qbuf-free=0 argv-mem=0 multi-mem={multi_mem} rbs=1024 rbp=0 obl=0 oll={} omem={} \
             tot-mem={} events=r cmd={} user=default redir=-1 resp={}",
            self.id,
            self.peer,
            self.local,
            self.id + 7,
            String::from_utf8_lossy(&self.name),
            now.ms_since(self.created) / 1000,
            now.ms_since(self.last_active) / 1000,
            self.db,
            self.subscribed(Kind::Channel),
            self.subscribed(Kind::Pattern),
            self.subscribed(Kind::Shard),
            self.input.len(),
            usize::from(outbox_bytes > 0),
            outbox_bytes,
            self.input.capacity() + outbox_bytes + multi_mem + size_of::<Self>(),
            self.last_command,
            if self.protocol == Protocol::Resp2 { 2 } else { 3 },
        )
    }
}
