//! Commands about the connection: HELLO, CLIENT, transactions, subscriptions.

use super::client::{Blocked, Client, ConnKind, ReplyMode};
use super::dispatch::Step;
use super::{Node, Pause, text};
use crate::command::{DB_OUT_OF_RANGE, Fault, NOT_INTEGER, SYNTAX, Spec, Verb, int32, is, shown};
use crate::config::{Key, glob_matches};
use crate::io::ConnId;
use crate::keyspace::Slot;
use crate::keyspace::number::parse_i64;
use crate::pubsub::Kind;
use crate::resp::{Args, Protocol, Reply};

impl Node {
    /// Carries out a command of the node's own.
    pub(super) fn run_verb(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        verb: Verb,
        spec: &'static Spec,
        args: Args<'_>,
    ) -> Result<Step, Fault> {
        match verb {
            Verb::Ping => self.ping(client, args)?,
            Verb::Echo => self.reply(client).bulk(&args[1]),
            Verb::Select => self.select(client, args)?,
            Verb::Quit => {
                self.reply(client).ok();
                client.closing = true;
            }
            Verb::Reset => {
                self.reset(conn, client);
                Reply::new(&mut self.scratch, client.protocol).simple("RESET");
            }
            Verb::Auth => self.auth(client, args)?,
            Verb::Hello => self.hello(client, args)?,
            Verb::Client => self.client_command(conn, client, args)?,
            Verb::Multi => self.multi(client)?,
            Verb::Exec => self.exec(conn, client)?,
            Verb::Discard => {
                if client.transaction.is_none() {
                    return Err(text("ERR DISCARD without MULTI"));
                }
                self.discard(conn, client);
                self.reply(client).ok();
            }
            Verb::Watch => {
                if client.transaction.is_some() {
                    return Err(text("ERR WATCH inside MULTI is not allowed"));
                }
                for key in args.from(1).iter() {
                    let (db, now) = (client.db, self.now.wall);
                    if !client.watching.iter().any(|other| other.db == db && other.key == key) {
                        client.watching.push(self.db.watch(conn, key, now));
                    }
                }
                self.reply(client).ok();
            }
            Verb::Unwatch => {
                self.unwatch(conn, client);
                self.reply(client).ok();
            }
            Verb::Asking => {
                self.needs_cluster()?;
                client.asking = true;
                self.reply(client).ok();
            }
            Verb::ReadOnly | Verb::ReadWrite => {
                self.needs_cluster()?;
                client.readonly = verb == Verb::ReadOnly;
                self.reply(client).ok();
            }
            Verb::Subscribe => self.subscribe(conn, client, Kind::Channel, args)?,
            Verb::PSubscribe => self.subscribe(conn, client, Kind::Pattern, args)?,
            Verb::SSubscribe => self.subscribe(conn, client, Kind::Shard, args)?,
            Verb::Unsubscribe => self.unsubscribe(conn, client, Kind::Channel, args),
            Verb::PUnsubscribe => self.unsubscribe(conn, client, Kind::Pattern, args),
            Verb::SUnsubscribe => self.unsubscribe(conn, client, Kind::Shard, args),
            Verb::Publish => self.publish(conn, client, false, args),
            Verb::SPublish => self.publish(conn, client, true, args),
            Verb::PubSub => self.pubsub_command(client, args)?,
            Verb::Wait => return self.wait(conn, client, args),
            _ => return self.run_admin(conn, client, verb, spec, args),
        }
        Ok(Step::Done)
    }

    /// A writer for the reply of the client that is being served.
    pub(super) const fn reply(&mut self, client: &Client) -> Reply<'_> {
        Reply::new(&mut self.scratch, client.protocol)
    }

    pub(super) fn needs_cluster(&self) -> Result<(), Fault> {
        if self.config.flag(Key::ClusterEnabled) { Ok(()) } else { Err(crate::command::CLUSTER_DISABLED) }
    }

    fn select(&mut self, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        let number =
            parse_i64(&args[1]).filter(|&number| i32::try_from(number).is_ok()).ok_or(NOT_INTEGER)?;
        if number != 0 && self.db.is_cluster {
            return Err(text("ERR SELECT is not allowed in cluster mode"));
        }
        let number = u32::try_from(number).ok().filter(|&number| number < self.db.databases());
        client.db = number.ok_or(DB_OUT_OF_RANGE)?;
        self.db.select(client.db);
        self.reply(client).ok();
        Ok(())
    }

    fn ping(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        if args.len() > 2 {
            return Err(Fault::arity("ping"));
        }
        let message = args.get(1);
        let mut reply = self.reply(client);
        if !client.subscriptions.is_empty() && client.protocol == Protocol::Resp2 {
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(message.unwrap_or_default());
        } else if let Some(message) = message {
            reply.bulk(message);
        } else {
            reply.simple("PONG");
        }
        Ok(())
    }

    fn reset(&mut self, conn: ConnId, client: &mut Client) {
        self.discard(conn, client);
        for (kind, name) in std::mem::take(&mut client.subscriptions) {
            self.pubsub.unsubscribe(kind, conn, &name);
        }
        client.readonly = false;
        client.db = 0;
        client.name.clear();
        client.reply_mode = ReplyMode::On;
        client.no_evict = false;
        client.protocol = Protocol::Resp2;
        client.authenticated = self.config.some_text(Key::Requirepass).is_none();
    }

    fn auth(&mut self, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        if args.len() > 3 {
            return Err(SYNTAX);
        }
        if args.len() == 2 && self.config.some_text(Key::Requirepass).is_none() {
            return Err(text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        let (user, password) =
            if args.len() == 2 { (&b"default"[..], &args[1]) } else { (&args[1], &args[2]) };
        self.authenticate(client, user, password)?;
        self.reply(client).ok();
        Ok(())
    }

    fn authenticate(&self, client: &mut Client, user: &[u8], password: &[u8]) -> Result<(), Fault> {
        let wanted = self.config.text(Key::Requirepass).as_bytes();
        // All of it is compared whatever differs first, so that time tells nothing.
        let differs = wanted.len() != password.len()
            || wanted.iter().zip(password).fold(0, |differs, (a, b)| differs | (a ^ b)) != 0;
        if user != b"default" || (!wanted.is_empty() && differs) {
            return Err(text("WRONGPASS invalid username-password pair or user is disabled."));
        }
        client.authenticated = true;
        Ok(())
    }

    fn hello(&mut self, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        let mut protocol = client.protocol;
        let mut name = None;
        let mut index = 1;
        if let Some(version) = args.get(1) {
            let version = parse_i64(version);
            protocol = match version.ok_or(text("ERR Protocol version is not an integer or out of range"))? {
                2 => Protocol::Resp2,
                3 => Protocol::Resp3,
                _ => return Err(text("NOPROTO unsupported protocol version")),
            };
            index = 2;
        }
        while index < args.len() {
            let left = args.len() - index - 1;
            if is(&args[index], "AUTH") && left >= 2 {
                self.authenticate(client, &args[index + 1], &args[index + 2])?;
                index += 3;
            } else if is(&args[index], "SETNAME") && left >= 1 {
                check_name(&args[index + 1])?;
                name = Some(args[index + 1].to_vec());
                index += 2;
            } else {
                let option = shown(&args[index], 128);
                return Err(Fault::new(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        }
        if !client.authenticated {
            return Err(text(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            ));
        }
        client.protocol = protocol;
        if let Some(name) = name {
            client.name = name;
        }
        let mode: &[u8] = if self.config.flag(Key::ClusterEnabled) { b"cluster" } else { b"standalone" };
        let role: &[u8] = if self.is_replica() { b"replica" } else { b"master" };
        let mut reply = self.reply(client);
        reply.map(7);
        for (name, value) in [(&b"server"[..], &b"redis"[..]), (b"version", b"7.0.15")] {
            reply.bulk(name);
            reply.bulk(value);
        }
        reply.bulk(b"proto");
        reply.int(if protocol == Protocol::Resp2 { 2 } else { 3 });
        reply.bulk(b"id");
        reply.int(client.id as i64);
        for (name, value) in [(&b"mode"[..], mode), (b"role", role)] {
            reply.bulk(name);
            reply.bulk(value);
        }
        reply.bulk(b"modules");
        reply.array(0);
        Ok(())
    }

    fn client_command(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        let verb = args[1].to_ascii_lowercase();
        let arity = |fits: bool| {
            let name = format!("client|{}", String::from_utf8_lossy(&args[1]).to_lowercase());
            if fits { Ok(()) } else { Err(Fault::arity(&name)) }
        };
        match &verb[..] {
            b"id" => {
                arity(args.len() == 2)?;
                self.reply(client).int(client.id as i64);
            }
            b"getname" => {
                arity(args.len() == 2)?;
                let name = (!client.name.is_empty()).then(|| client.name.clone());
                self.reply(client).optional(name.as_deref());
            }
            b"setname" => {
                arity(args.len() == 3)?;
                check_name(&args[2])?;
                client.name = args[2].to_vec();
                self.reply(client).ok();
            }
            b"info" => {
                arity(args.len() == 2)?;
                let line = client.line(self.now.mono, self.scratch.len(), self.replication.is_replica(conn));
                self.reply(client).verbatim(&(line + "\n"));
            }
            b"list" => self.client_list(conn, client, args)?,
            b"kill" => self.client_kill(conn, client, args)?,
            b"reply" => {
                arity(args.len() == 3)?;
                match () {
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
                }
            }
            b"no-evict" => {
                arity(args.len() == 3)?;
                client.no_evict = match () {
                    () if is(&args[2], "ON") => true,
                    () if is(&args[2], "OFF") => false,
                    () => return Err(SYNTAX),
                };
                self.reply(client).ok();
            }
            b"pause" => {
                arity(args.len() == 3 || args.len() == 4)?;
                let all = match args.get(3) {
                    None => true,
                    Some(mode) if is(mode, "ALL") => true,
                    Some(mode) if is(mode, "WRITE") => false,
                    Some(_) => return Err(text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
                };
                let wrong = text("ERR timeout is not an integer or out of range");
                let ms = parse_i64(&args[2]).ok_or(wrong)?;
                let ms = u64::try_from(ms).map_err(|_| text("ERR timeout is negative"))?;
                let until = self.now.mono.plus_ms(ms);
                let old = self.client_pause;
                self.client_pause = Some(Pause {
                    until: old.map_or(until, |old| old.until.max(until)),
                    all: all || old.is_some_and(|old| old.all),
                });
                self.reply(client).ok();
            }
            b"unpause" => {
                arity(args.len() == 2)?;
                self.client_pause = None;
                self.resume_paused();
                self.reply(client).ok();
            }
            b"unblock" => {
                arity(args.len() == 3 || args.len() == 4)?;
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
                const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
                let done = match found {
                    Some((other, Some(Blocked::Wait))) => {
                        let offset_acked = self.acked_for(other);
                        self.replication.cancel_wait(other);
                        self.unblock(other, |reply| {
                            if with_error {
                                reply.error(UNBLOCKED);
                            } else {
                                reply.int(offset_acked as i64);
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
            }
            b"getredir" => {
                arity(args.len() == 2)?;
                self.reply(client).int(-1);
            }
            b"help" => {
                let mut reply = self.reply(client);
                reply.array(2);
                reply.simple("CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
                reply.simple("GETNAME, GETREDIR, ID, INFO, KILL, LIST, NO-EVICT, PAUSE, REPLY, SETNAME, UNBLOCK, UNPAUSE");
            }
            _ => return Err(Fault::subcommand(&args[1], "CLIENT")),
        }
        Ok(())
    }

    fn acked_for(&self, conn: ConnId) -> usize {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Client(Some(client))) => self.replication.count_acked(client.last_write_offset),
            _ => 0,
        }
    }

    fn client_list(&mut self, conn: ConnId, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let mut ids: Option<Vec<u64>> = None;
        let mut kind: Option<String> = None;
        match args.get(2) {
            None => {}
            Some(option) if is(option, "TYPE") && args.len() == 4 => {
                let name = shown(&args[3], 128).to_lowercase();
                if !["normal", "master", "replica", "slave", "pubsub"].contains(&&*name) {
                    return Err(Fault::new(format!("ERR Unknown client type '{}'", shown(&args[3], 128))));
                }
                kind = Some(name);
            }
            Some(option) if is(option, "ID") && args.len() > 3 => {
                let parsed: Option<Vec<u64>> = args
                    .from(3)
                    .iter()
                    .map(|id| parse_i64(id).and_then(|id| u64::try_from(id).ok()))
                    .collect();
                ids = Some(parsed.ok_or(text("ERR Invalid client ID"))?);
            }
            Some(_) => return Err(SYNTAX),
        }
        let mut list = String::new();
        let now = self.now.mono;
        for (other, state) in &self.conns {
            let ConnKind::Client(entry) = &state.kind else { continue };
            // The client that asks is not in its place while it is served.
            let Some(entry) = entry.as_deref().or((*other == conn).then_some(client)) else { continue };
            let is_replica = self.replication.is_replica(*other);
            let type_name = match () {
                () if is_replica => "replica",
                () if !entry.subscriptions.is_empty() => "pubsub",
                () => "normal",
            };
            let wanted = ids.as_ref().is_none_or(|ids| ids.contains(&entry.id))
                && kind.as_deref().is_none_or(|kind| kind.replace("slave", "replica") == type_name);
            if wanted {
                list.push_str(&entry.line(now, state.outbox.len(), is_replica));
                list.push('\n');
            }
        }
        self.reply(client).verbatim(&list);
        Ok(())
    }

    fn client_kill(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        let old_form = args.len() == 3;
        let mut filters: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut skip_me = !old_form;
        if old_form {
            filters.push((b"addr".to_vec(), args[2].to_vec()));
        } else if args.len() > 3 && args.len().is_multiple_of(2) {
            for index in (2..args.len()).step_by(2) {
                let (name, value) = (args[index].to_ascii_lowercase(), &args[index + 1]);
                match &name[..] {
                    b"skipme" if is(value, "yes") => skip_me = true,
                    b"skipme" if is(value, "no") => skip_me = false,
                    b"id" => {
                        let id = parse_i64(value).filter(|&id| id > 0);
                        id.ok_or(text("ERR client-id should be greater than 0"))?;
                        filters.push((name, value.to_vec()));
                    }
                    b"addr" | b"laddr" | b"user" => filters.push((name, value.to_vec())),
                    b"type"
                        if ["normal", "master", "replica", "slave", "pubsub"]
                            .iter()
                            .any(|kind| is(value, kind)) =>
                    {
                        filters.push((name, value.to_ascii_lowercase()));
                    }
                    b"type" => {
                        return Err(Fault::new(format!("ERR Unknown client type '{}'", shown(value, 128))));
                    }
                    _ => return Err(SYNTAX),
                }
            }
        } else {
            return Err(SYNTAX);
        }
        let mut killed = Vec::new();
        for (other, state) in &self.conns {
            let entry = match &state.kind {
                ConnKind::Client(Some(entry)) => &**entry,
                ConnKind::Client(None) if *other == conn => &*client,
                _ => continue,
            };
            let kind: &[u8] = match () {
                () if self.replication.is_replica(*other) => b"replica",
                () if !entry.subscriptions.is_empty() => b"pubsub",
                () => b"normal",
            };
            let fits = filters.iter().all(|(name, value)| match &name[..] {
                b"addr" => entry.peer.to_string().as_bytes() == value,
                b"laddr" => entry.local.to_string().as_bytes() == value,
                b"id" => entry.id.to_string().as_bytes() == value,
                b"user" => value == b"default",
                _ => kind == value || (kind == b"replica" && value == b"slave"),
            });
            if fits && !(skip_me && *other == conn) {
                killed.push(*other);
            }
        }
        if old_form && killed.is_empty() {
            return Err(text("ERR No such client"));
        }
        for other in &killed {
            if *other == conn {
                client.closing = true;
            } else {
                self.replicate(|replication, now, actions| replication.closed(*other, now, actions));
                self.close(*other, false);
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

    // ---- subscriptions

    fn subscribe(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        kind: Kind,
        args: Args<'_>,
    ) -> Result<(), Fault> {
        if client.transaction.is_some() && client.protocol == Protocol::Resp2 {
            return Err(text("ERR Command not allowed inside a transaction"));
        }
        for name in args.from(1).iter() {
            if client.subscriptions.insert((kind, name.to_vec())) {
                self.pubsub.subscribe(kind, conn, name);
            }
            self.subscription_notice(client, kind, kind.words().0, Some(name));
        }
        Ok(())
    }

    fn unsubscribe(&mut self, conn: ConnId, client: &mut Client, kind: Kind, args: Args<'_>) {
        let names: Vec<Vec<u8>> = if args.len() > 1 {
            args.from(1).iter().map(<[u8]>::to_vec).collect()
        } else {
            let mine = client.subscriptions.iter().filter(|(other, _)| *other == kind);
            mine.map(|(_, name)| name.clone()).collect()
        };
        if names.is_empty() {
            self.subscription_notice(client, kind, kind.words().1, None);
        }
        for name in names {
            client.subscriptions.remove(&(kind, name.clone()));
            self.pubsub.unsubscribe(kind, conn, &name);
            self.subscription_notice(client, kind, kind.words().1, Some(&name));
        }
    }

    fn subscription_notice(&mut self, client: &Client, kind: Kind, word: &str, name: Option<&[u8]>) {
        let count = match kind {
            Kind::Shard => client.subscribed(Kind::Shard),
            _ => client.subscribed(Kind::Channel) + client.subscribed(Kind::Pattern),
        };
        let mut reply = self.reply(client);
        reply.push(3);
        reply.bulk(word.as_bytes());
        reply.optional(name);
        reply.int(count as i64);
    }

    fn publish(&mut self, conn: ConnId, client: &Client, sharded: bool, args: Args<'_>) {
        // A client that listens to its own channel gets the message before the reply.
        self.flush_scratch(conn);
        let receivers = self.deliver(sharded, &args[1], &args[2]);
        if self.cluster.is_some() {
            self.with_cluster(|cluster, turn| cluster.publish(sharded, &args[1], &args[2], turn));
        } else {
            let all: Vec<&[u8]> = args.iter().collect();
            self.db.propagated.push_for_replicas(all.into_iter());
        }
        self.reply(client).int(receivers as i64);
    }

    /// Gives a message to local subscribers; gives their number.
    pub(super) fn deliver(&mut self, sharded: bool, channel: &[u8], message: &[u8]) -> usize {
        let receivers = self.pubsub.receivers(sharded, channel);
        for receiver in &receivers {
            self.tell(receiver.conn, |reply| {
                let kind = match (&receiver.pattern, sharded) {
                    (Some(_), _) => Kind::Pattern,
                    (None, true) => Kind::Shard,
                    (None, false) => Kind::Channel,
                };
                reply.push(if receiver.pattern.is_some() { 4 } else { 3 });
                reply.bulk(kind.words().2.as_bytes());
                if let Some(pattern) = &receiver.pattern {
                    reply.bulk(pattern);
                }
                reply.bulk(channel);
                reply.bulk(message);
            });
        }
        receivers.len()
    }

    /// A slot left this shard: listeners of its channels are told that they listen no more.
    pub(super) fn slot_left(&mut self, slot: u16) {
        let gone: Vec<(Vec<u8>, Vec<ConnId>)> = self
            .pubsub
            .of(Kind::Shard)
            .iter()
            .filter(|(channel, _)| Slot::of_key(channel).0 == slot)
            .map(|(channel, conns)| (channel.clone(), conns.iter().copied().collect()))
            .collect();
        for (channel, conns) in gone {
            for conn in conns {
                self.pubsub.unsubscribe(Kind::Shard, conn, &channel);
                let mut left = 0;
                if let Some(ConnKind::Client(Some(client))) =
                    self.conns.get_mut(&conn).map(|state| &mut state.kind)
                {
                    client.subscriptions.remove(&(Kind::Shard, channel.clone()));
                    left = client.subscribed(Kind::Shard);
                }
                self.tell(conn, |reply| {
                    reply.push(3);
                    reply.bulk(b"sunsubscribe");
                    reply.bulk(&channel);
                    reply.int(left as i64);
                });
            }
        }
    }

    fn pubsub_command(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let verb = args[1].to_ascii_lowercase();
        let kind = if verb.starts_with(b"shard") { Kind::Shard } else { Kind::Channel };
        match &verb[..] {
            b"channels" | b"shardchannels" if args.len() <= 3 => {
                let pattern = args.get(2);
                let names: Vec<Vec<u8>> = self
                    .pubsub
                    .of(kind)
                    .keys()
                    .filter(|name| pattern.is_none_or(|pattern| glob_matches(pattern, name, false)))
                    .cloned()
                    .collect();
                let mut reply = self.reply(client);
                reply.array(names.len());
                for name in &names {
                    reply.bulk(name);
                }
            }
            b"numsub" | b"shardnumsub" => {
                let counts: Vec<i64> = args
                    .from(2)
                    .iter()
                    .map(|name| self.pubsub.of(kind).get(name).map_or(0, |conns| conns.len() as i64))
                    .collect();
                let mut reply = self.reply(client);
                // Of both protocols: no map.
                reply.array(counts.len() * 2);
                for (name, count) in args.from(2).iter().zip(counts) {
                    reply.bulk(name);
                    reply.int(count);
                }
            }
            b"numpat" if args.len() == 2 => {
                let patterns = self.pubsub.of(Kind::Pattern).len();
                self.reply(client).int(patterns as i64);
            }
            _ => return Err(Fault::subcommand(&args[1], "PUBSUB")),
        }
        Ok(())
    }

    fn wait(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<Step, Fault> {
        if self.is_replica() {
            return Err(text(
                "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica \
                 is configured to be writable (which is not the default) writes to replicas are just local and are \
                 not propagated.",
            ));
        }
        let needed = parse_i64(&args[1]).ok_or(NOT_INTEGER)?;
        let wrong = text("ERR timeout is not an integer or out of range");
        let timeout = parse_i64(&args[2]).ok_or(wrong)?;
        let timeout = u64::try_from(timeout).map_err(|_| text("ERR timeout is negative"))?;
        let offset = client.last_write_offset;
        let needed = usize::try_from(needed).unwrap_or(0);
        let have = self.replication.count_acked(offset);
        if have >= needed || client.in_exec {
            self.reply(client).int(have as i64);
            return Ok(Step::Done);
        }
        let deadline = (timeout > 0).then(|| self.now.mono.plus_ms(timeout));
        match self.replication.wait(conn, offset, needed, deadline) {
            Some(have) => self.reply(client).int(have as i64),
            None => client.blocked = Some(Blocked::Wait),
        }
        Ok(Step::Done)
    }
}

fn check_name(name: &[u8]) -> Result<(), Fault> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        Ok(())
    } else {
        Err(text("ERR Client names cannot contain spaces, newlines or special characters."))
    }
}
