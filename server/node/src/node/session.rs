//! Commands about the connection: transactions, subscriptions, WAIT.

use super::client::{Blocked, Client, ConnKind};
use super::dispatch::Step;
use super::{Node, text};
use crate::cluster::SlotBitmap;
use crate::command::{DB_OUT_OF_RANGE, Fault, NOT_INTEGER, Spec, Verb, int32, write_help};
use crate::config::{Key, glob_matches};
use crate::io::ConnId;
use crate::keyspace::Slot;
use crate::keyspace::number::parse_i64;
use crate::pubsub::Kind;
use crate::resp::{Args, Protocol, Reply};

const PUBSUB_HELP: [&str; 11] = [
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
];

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
            Verb::Reset => self.reset(conn, client)?,
            Verb::Auth => self.auth(conn, client, args)?,
            Verb::Hello => self.hello(conn, client, args)?,
            Verb::Acl => return self.acl_command(conn, client, args),
            Verb::Monitor => self.monitor(conn, client)?,
            Verb::SlowLog => self.slowlog_command(client, args)?,
            Verb::Latency => self.latency_command(client, args)?,
            Verb::Client => self.client_command(conn, client, args)?,
            Verb::Multi => self.multi(client)?,
            Verb::Exec => self.exec(conn, client, (spec, args))?,
            Verb::Eval => return self.eval(conn, client, spec, args),
            Verb::Fcall => return self.fcall(conn, client, spec, args),
            Verb::Script => self.script_command(client, args)?,
            Verb::Function => self.function_command(client, args)?,
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
        let number = int32(&args[1])?;
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

    /// Slots left this shard: listeners of their channels are told that they listen no more.
    pub(super) fn slots_left(&mut self, slots: &SlotBitmap) {
        let mut gone: Vec<(u16, Vec<u8>, Vec<ConnId>)> = self
            .pubsub
            .of(Kind::Shard)
            .iter()
            .map(|(channel, conns)| (Slot::of_key(channel).0, channel, conns))
            .filter(|(slot, ..)| slots.contains(*slot))
            .map(|(slot, channel, conns)| (slot, channel.clone(), conns.iter().copied().collect()))
            .collect();
        gone.sort_by_key(|(slot, ..)| *slot);
        for (_, channel, conns) in gone {
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
            b"help" if args.len() == 2 => write_help(&mut self.reply(client), "PUBSUB", &PUBSUB_HELP),
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
