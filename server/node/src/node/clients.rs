//! The CLIENT command, and the limits that clients are held to.

use super::access::check_name;
use super::client::{Blocked, Client, ConnKind, LineContext, ReplyMode};
use super::{Node, Pause, text};
use crate::acl::UserId;
use crate::command::{Fault, NOT_INTEGER, SYNTAX, is, shown, write_help};
use crate::config::{Key, OutputClass, OutputLimit};
use crate::io::{ConnId, LogLevel, Mono, Outbox};
use crate::keyspace::number::parse_i64;
use crate::resp::Args;

const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
/// `maxmemory-clients` is not taken to mean less: nobody could speak to the server.
const LEAST_CLIENT_MEMORY: usize = 128 * 1024;

const HELP: [&str; 42] = [
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
    "         [OPTIN] [OPTOUT] [NOLOOP]",
    "    Control server assisted client side caching.",
    "TRACKINGINFO",
];
const HELP_TAIL: [&str; 3] = [
    "    Report tracking status for the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
];

/// What CLIENT KILL and CLIENT LIST tell clients apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientType {
    Normal,
    Master,
    Replica,
    Pubsub,
}

impl ClientType {
    fn named(name: &[u8]) -> Result<Self, Fault> {
        match &name.to_ascii_lowercase()[..] {
            b"normal" => Ok(Self::Normal),
            b"master" => Ok(Self::Master),
            b"replica" | b"slave" => Ok(Self::Replica),
            b"pubsub" => Ok(Self::Pubsub),
            _ => Err(Fault::new(format!("ERR Unknown client type '{}'", shown(name, 128)))),
        }
    }
}

/// Who CLIENT KILL means.
#[derive(Debug, Default)]
struct Wanted<'a> {
    id: Option<i64>,
    kind: Option<ClientType>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    user: Option<UserId>,
}

impl Node {
    pub(super) fn client_command(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        args: Args<'_>,
    ) -> Result<(), Fault> {
        client.request_bytes.1 = args.iter().map(<[u8]>::len).sum();
        let on_off = |word: &[u8]| match () {
            () if is(word, "ON") => Ok(true),
            () if is(word, "OFF") => Ok(false),
            () => Err(SYNTAX),
        };
        match &args[1].to_ascii_lowercase()[..] {
            b"id" => self.reply(client).int(client.id as i64),
            b"getname" => {
                let name = (!client.name.is_empty()).then(|| client.name.clone());
                self.reply(client).optional(name.as_deref());
            }
            b"setname" => {
                check_name(&args[2])?;
                client.name = args[2].to_vec();
                self.reply(client).ok();
            }
            b"info" => {
                let line = self.client_line(conn, client);
                self.reply(client).verbatim(&(line + "\n"));
            }
            b"list" => self.client_list(conn, client, args)?,
            b"kill" => self.client_kill(conn, client, args)?,
            b"reply" => match () {
                () if is(&args[2], "ON") => {
                    client.reply_mode = ReplyMode::On;
                    self.reply(client).ok();
                }
                () if is(&args[2], "OFF") => client.reply_mode = ReplyMode::Off,
                () if is(&args[2], "SKIP") => {
                    if client.reply_mode != ReplyMode::Off {
                        client.reply_mode = ReplyMode::SkipNext;
                    }
                }
                () => return Err(SYNTAX),
            },
            b"no-evict" => {
                client.no_evict = on_off(&args[2])?;
                self.reply(client).ok();
            }
            b"pause" if args.len() <= 4 => self.client_pause(client, args)?,
            b"unpause" => {
                self.client_pause = None;
                self.resume_paused();
                self.reply(client).ok();
            }
            b"unblock" if args.len() <= 4 => self.client_unblock(client, args)?,
            b"tracking" => {
                if on_off(&args[2])? {
                    return Err(text(
                        "ERR client side caching (CLIENT TRACKING) is not supported by this server",
                    ));
                }
                self.reply(client).ok();
            }
            b"caching" => {
                return Err(text(
                    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT \
                     mode enabled",
                ));
            }
            b"getredir" => self.reply(client).int(-1),
            b"trackinginfo" => {
                let mut reply = self.reply(client);
                reply.map(3);
                reply.bulk(b"flags");
                reply.set(1);
                reply.bulk(b"off");
                reply.bulk(b"redirect");
                reply.int(-1);
                reply.bulk(b"prefixes");
                reply.array(0);
            }
            b"help" => {
                let lines = [&HELP[..], &HELP_TAIL].concat();
                write_help(&mut self.reply(client), "CLIENT", &lines);
            }
            _ => return Err(Fault::misused(&args[1], "CLIENT")),
        }
        Ok(())
    }

    fn client_pause(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let all = match args.get(3) {
            None => true,
            Some(mode) if is(mode, "ALL") => true,
            Some(mode) if is(mode, "WRITE") => false,
            Some(_) => return Err(text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        };
        let ms = parse_i64(&args[2]).ok_or(text("ERR timeout is not an integer or out of range"))?;
        let ms = u64::try_from(ms).map_err(|_| text("ERR timeout is negative"))?;
        if i64::try_from(self.now.wall.0.saturating_add(ms)).is_err() {
            return Err(text("ERR timeout is out of range"));
        }
        let until = self.now.mono.plus_ms(ms);
        let old = self.client_pause;
        self.client_pause = Some(Pause {
            until: old.map_or(until, |old| old.until.max(until)),
            all: all || old.is_some_and(|old| old.all),
        });
        self.replicate(|replication, now, actions| replication.hold_stream(true, now, actions));
        self.reply(client).ok();
        Ok(())
    }

    fn client_unblock(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let with_error = match args.get(3) {
            None => false,
            Some(reason) if is(reason, "TIMEOUT") => false,
            Some(reason) if is(reason, "ERROR") => true,
            Some(_) => return Err(text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        };
        let id = parse_i64(&args[2]).ok_or(NOT_INTEGER)?;
        let found = self.conns.iter().find_map(|(conn, state)| match &state.kind {
            ConnKind::Client(Some(other)) if other.id as i64 == id => Some((*conn, other.blocked)),
            _ => None,
        });
        let done = match found {
            Some((other, Some(Blocked::Wait))) => {
                let acked = self.acked_for(other);
                self.replication.cancel_wait(other);
                self.unblock(other, |reply| {
                    if with_error {
                        reply.error(UNBLOCKED);
                    } else {
                        reply.int(acked as i64);
                    }
                });
                true
            }
            Some((other, Some(Blocked::Keys))) => self.end_wait(other, |reply| {
                if with_error {
                    reply.error(UNBLOCKED);
                } else {
                    reply.null_array();
                }
            }),
            _ => false,
        };
        self.reply(client).bool(done);
        Ok(())
    }

    fn acked_for(&self, conn: ConnId) -> usize {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Client(Some(client))) => self.replication.count_acked(client.last_write_offset),
            _ => 0,
        }
    }

    /// A client's line of CLIENT LIST; it need not be in its place.
    pub(super) fn client_line(&self, conn: ConnId, client: &Client) -> String {
        let outbox = self.conns.get(&conn).map(|state| &state.outbox);
        let user = self.acl.name(client.user);
        client.line(&LineContext {
            now: self.now.mono,
            outbox_bytes: outbox.map_or(0, Outbox::len),
            outbox_allocated: outbox.map_or(0, Outbox::allocated),
            is_replica: self.replication.is_replica(conn),
            is_master: self.replication.is_link(conn),
            user: &String::from_utf8_lossy(user),
        })
    }

    fn client_type(&self, conn: ConnId, client: &Client) -> ClientType {
        match () {
            () if self.replication.is_link(conn) => ClientType::Master,
            () if self.replication.is_replica(conn) => ClientType::Replica,
            () if !client.subscriptions.is_empty() => ClientType::Pubsub,
            () => ClientType::Normal,
        }
    }

    /// All clients, and the master once its stream is applied; the one that is served now is not in its place.
    fn each_client<'a>(
        &'a self,
        conn: ConnId,
        client: &'a Client,
    ) -> impl Iterator<Item = (ConnId, &'a Client)> {
        let follows = self.replication.link_status().is_some_and(|link| link.up);
        self.conns.iter().filter_map(move |(other, state)| match &state.kind {
            ConnKind::Client(Some(entry)) => Some((*other, &**entry)),
            ConnKind::Client(None) if *other == conn => Some((conn, client)),
            ConnKind::MasterLink(Some(entry)) if follows => Some((*other, &**entry)),
            _ => None,
        })
    }

    fn client_list(&mut self, conn: ConnId, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let mut lines = Vec::new();
        let line_of = |(other, entry): (ConnId, &Client)| self.client_line(other, entry) + "\n";
        match args.get(2) {
            None => lines.extend(self.each_client(conn, client).map(line_of)),
            Some(option) if is(option, "TYPE") && args.len() == 4 => {
                let kind = ClientType::named(&args[3])?;
                let fits = |&(other, entry): &(ConnId, &Client)| self.client_type(other, entry) == kind;
                lines.extend(self.each_client(conn, client).filter(fits).map(line_of));
            }
            Some(option) if is(option, "ID") && args.len() > 3 => {
                for id in args.from(3).iter() {
                    let id = parse_i64(id).ok_or(text("ERR Invalid client ID"))?;
                    let mut found = self.each_client(conn, client);
                    lines.extend(found.find(|(_, entry)| entry.id as i64 == id).map(line_of));
                }
            }
            Some(_) => return Err(SYNTAX),
        }
        self.reply(client).verbatim(&lines.concat());
        Ok(())
    }

    fn client_kill(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        let old_form = args.len() == 3;
        let mut wanted = Wanted::default();
        let mut skip_me = !old_form;
        if old_form {
            wanted.address = Some(args.get(2).unwrap_or_default());
        }
        let mut at = if old_form { 3 } else { 2 };
        while at < args.len() {
            let value = args.get(at + 1).ok_or(SYNTAX)?;
            match &args[at].to_ascii_lowercase()[..] {
                b"skipme" if is(value, "yes") => skip_me = true,
                b"skipme" if is(value, "no") => skip_me = false,
                b"id" => {
                    let id = parse_i64(value).filter(|&id| id > 0);
                    wanted.id = Some(id.ok_or(text("ERR client-id should be greater than 0"))?);
                }
                b"addr" => wanted.address = Some(value),
                b"laddr" => wanted.local_address = Some(value),
                b"type" => wanted.kind = Some(ClientType::named(value)?),
                b"user" => {
                    let missing = || Fault::new(format!("ERR No such user '{}'", shown(value, 128)));
                    wanted.user = Some(self.acl.find(value).ok_or_else(missing)?);
                }
                _ => return Err(SYNTAX),
            }
            at += 2;
        }
        let killed: Vec<ConnId> = self
            .each_client(conn, client)
            .filter(|&(other, entry)| {
                wanted.id.is_none_or(|id| entry.id as i64 == id)
                    && wanted.kind.is_none_or(|kind| self.client_type(other, entry) == kind)
                    && wanted.address.is_none_or(|address| entry.address.as_bytes() == address)
                    && wanted.local_address.is_none_or(|address| entry.local_address.as_bytes() == address)
                    && wanted.user.is_none_or(|user| entry.user == user)
                    && !(skip_me && other == conn)
            })
            .map(|(other, _)| other)
            .collect();
        if old_form && killed.is_empty() {
            return Err(text("ERR No such client"));
        }
        for &other in &killed {
            if other == conn {
                client.closing = true;
            } else {
                self.end_client(other);
            }
        }
        let mut reply = self.reply(client);
        if old_form {
            reply.ok();
        } else {
            reply.int(killed.len() as i64);
        }
        Ok(())
    }

    // ---- limits

    /// Closes clients that read too slowly, and those that say nothing for too long.
    pub(super) fn close_slow_and_idle_clients(&mut self) {
        let timeout_s = self.config.uint(Key::Timeout);
        let now = self.now.mono;
        let limits = self.output_limits();
        let mut goodbye = Vec::new();
        for (&conn, state) in &mut self.conns {
            let ConnKind::Client(Some(client)) = &mut state.kind else { continue };
            if self.replication.is_replica(conn) {
                // Replication has limits of its own.
                continue;
            }
            let over = reads_too_slowly(client, state.outbox.len(), limits, now);
            let idle = timeout_s > 0
                && client.blocked.is_none()
                && client.subscriptions.is_empty()
                && !client.is_monitor
                && now.ms_since(client.last_active) > timeout_s * 1000;
            if over || idle {
                goodbye.push((conn, over));
            }
        }
        for (conn, over) in goodbye {
            if over {
                self.close_for_output(conn);
            } else {
                self.log(LogLevel::Verbose, "Closing idle client");
                self.close(conn, false);
            }
        }
    }

    /// The settings changed: how much waiting output makes a client worth a look, and how long a reply may become.
    pub(super) fn output_limits_changed(&mut self) {
        let bytes = |limit: u64| (limit > 0).then_some(limit as usize);
        let limits = self.output_limits();
        let all = limits.iter().flat_map(|limit| [limit.hard_bytes, limit.soft_bytes]);
        self.output_alarm = all.filter_map(bytes).min().unwrap_or(usize::MAX);
        self.db.reply_limit = bytes(limits[0].hard_bytes).unwrap_or(usize::MAX);
    }

    /// Closes the clients whose output has become too much in this batch.
    pub(super) fn close_alarming_clients(&mut self) {
        if self.alarming.is_empty() {
            return;
        }
        let mut alarming = std::mem::take(&mut self.alarming);
        alarming.sort_unstable_by_key(|conn| conn.0);
        alarming.dedup();
        let limits = self.output_limits();
        for conn in alarming {
            let Some(state) = self.conns.get_mut(&conn) else { continue };
            let ConnKind::Client(Some(client)) = &mut state.kind else { continue };
            if !self.replication.is_replica(conn)
                && reads_too_slowly(client, state.outbox.len(), limits, self.now.mono)
            {
                self.close_for_output(conn);
            }
        }
    }

    /// Of clients that take replies, and of those that subscribe.
    fn output_limits(&self) -> [OutputLimit; 2] {
        [OutputClass::Normal, OutputClass::Pubsub].map(|class| self.config.output_limit(class))
    }

    fn close_for_output(&mut self, conn: ConnId) {
        let line = self.line_of(conn);
        self.log(
            LogLevel::Warning,
            format!("Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."),
        );
        self.stats.closed_for_output += 1;
        self.close(conn, false);
    }

    /// `maxmemory-clients`: the clients that use most memory go until the rest has room.
    pub(super) fn evict_clients(&mut self) {
        let limit = match self.config.int(Key::MaxmemoryClients) {
            0 => return,
            percent @ ..0 => {
                let max = self.config.uint(Key::Maxmemory);
                if max == 0 {
                    return;
                }
                (max as f64 * -percent as f64 / 100.0) as usize
            }
            bytes => bytes as usize,
        };
        let limit = limit.max(LEAST_CLIENT_MEMORY);
        let mut sizes: Vec<(usize, bool, ConnId)> = Vec::new();
        for (&conn, state) in &self.conns {
            if let ConnKind::Client(Some(client)) = &state.kind
                && !self.replication.is_replica(conn)
            {
                sizes.push((client.memory(state.outbox.allocated()), client.no_evict, conn));
            }
        }
        let mut used: usize = sizes.iter().map(|(size, ..)| size).sum();
        if used < limit {
            return;
        }
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        for (size, _, conn) in sizes.into_iter().filter(|(_, stays, _)| !stays) {
            if used < limit {
                return;
            }
            let line = self.line_of(conn);
            self.log(LogLevel::Notice, format!("Evicting client: {line}"));
            self.stats.evicted_clients += 1;
            used -= size;
            self.end_client(conn);
        }
    }

    fn line_of(&self, conn: ConnId) -> String {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Client(Some(client))) => self.client_line(conn, client),
            _ => String::new(),
        }
    }
}

/// More output waits for a client than its hard limit, or more than the soft one for too long.
fn reads_too_slowly(client: &mut Client, waiting_bytes: usize, limits: [OutputLimit; 2], now: Mono) -> bool {
    let limit = limits[usize::from(!client.subscriptions.is_empty())];
    let waiting_bytes = waiting_bytes as u64;
    if limit.hard_bytes > 0 && waiting_bytes >= limit.hard_bytes {
        return true;
    }
    if limit.soft_bytes == 0 || waiting_bytes < limit.soft_bytes {
        client.over_soft_limit = None;
        return false;
    }
    let since = *client.over_soft_limit.get_or_insert(now);
    now.ms_since(since) > limit.soft_s * 1000
}
