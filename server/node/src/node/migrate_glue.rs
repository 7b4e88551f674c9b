//! Wires the room of MIGRATE: begins one, carries out what the room wants, and tells which commands must wait for
//! keys in flight.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Node;
use super::client::{Blocked, Client, ConnKind, NOW_A_REPLICA, ReplyMode};
use crate::command::{Fault, MigrateRequest, Spec, class, flag, migrate_payload, shown};
use crate::config::Key;
use crate::io::{ConnId, Effect};
use crate::migrate::{Action, Migrations, Start, Turn};
use crate::resp::Args;
use crate::zoo::Mutation;

impl Node {
    /// `MIGRATE`: answers at once, or blocks the client until the target has spoken.
    pub(super) fn begin_migrate(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        args: Args<'_>,
    ) -> Result<(), Fault> {
        let mut request = MigrateRequest::parse(args)?;
        let now = self.now;
        request.keys.retain(|key| self.db.read(key, now).is_some());
        if request.keys.is_empty() {
            self.reply(client).simple("NOKEY");
            return Ok(());
        }
        let target = self.migrate_target(&request)?;
        self.db.frozen.extend(request.keys.iter().cloned());
        let asking = self.config.flag(Key::ClusterEnabled);
        client.blocked = Some(Blocked::Migrate);
        client.awaits_mute = client.reply_mode != ReplyMode::On;
        let start = Start { request, target, client: conn, db: client.db, asking };
        self.migrate(|migrations, turn| migrations.start(start, turn));
        Ok(())
    }

    /// The address of a MIGRATE's target. Names are for the shell's resolver, which there is none of: an address, or
    /// a name that this node knows without asking anybody.
    fn migrate_target(&self, request: &MigrateRequest) -> Result<SocketAddr, Fault> {
        let host = shown(&request.host, 256);
        let known = |cluster: &crate::cluster::Cluster| cluster.ip_of_hostname(&host);
        let ip = match host.parse() {
            Ok(ip) => Some(ip),
            Err(_) if host.eq_ignore_ascii_case("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Err(_) => self.cluster.as_ref().and_then(known),
        };
        let port = shown(&request.port, 16).parse().ok().filter(|&port: &u16| port != 0);
        match (ip, port) {
            (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
            (None, _) => Err(Fault::new(format!(
                "ERR Can't connect to target node: '{host}' is neither an IP address nor the announced host name of a \
                 known node"
            ))),
            (_, None) => Err(Fault::new("ERR Can't connect to target node: invalid port")),
        }
    }

    /// True while nothing may change that replicas would have to be told of.
    pub(super) const fn holds_writes(&self) -> bool {
        self.failover_pause.is_some() || self.client_pause.is_some()
    }

    /// Must a writing command (or a transaction with one) wait for keys in flight?
    pub(super) fn touches_frozen(&self, client: &Client, spec: &Spec, args: Args<'_>) -> bool {
        let frozen = &self.db.frozen;
        if frozen.is_empty() {
            return false;
        }
        let touches = |spec: &Spec, args: &Args<'_>| {
            if !spec.has(flag::WRITE) {
                return false;
            }
            // A write that names no key (FLUSHALL) means all of them.
            let mut keys = spec.keys(args).peekable();
            keys.peek().is_none() || keys.any(|key| frozen.contains(key))
        };
        match &client.transaction {
            Some(transaction) => transaction.commands.iter().any(|(spec, args)| touches(spec, &args.view())),
            None => touches(spec, &args),
        }
    }

    /// Calls the room and carries out what it wants.
    pub(super) fn migrate(&mut self, call: impl FnOnce(&mut Migrations, &mut Turn<'_>)) {
        let mut actions = Vec::new();
        let held = self.holds_writes();
        let (db, wall) = (&self.db, self.now.wall);
        let payload =
            |number: u32, key: &[u8]| db.database(number)?.get(key).map(|entry| migrate_payload(entry, wall));
        let mut turn = Turn {
            now: self.now.mono,
            held,
            deletes_on_send: self.config.zoo.has(Mutation::DeletesOnSend),
            payload: &payload,
            next_conn: &mut self.next_conn,
            actions: &mut actions,
        };
        call(&mut self.migrations, &mut turn);
        for action in actions {
            self.carry_out_migration(action);
        }
    }

    fn carry_out_migration(&mut self, action: Action) {
        match action {
            Action::Dial { conn, addr } => {
                self.add_conn(conn, ConnKind::Migrate);
                let source = self.config.text(Key::BindSourceAddr).parse().ok();
                let source = source.filter(|source: &IpAddr| source.is_ipv4() == addr.is_ipv4());
                self.effects.push(Effect::Connect { conn, addr, source });
            }
            Action::Send { conn, bytes } => {
                // What could be lost here must not be seen there.
                let gate = self.tickets.reply_gate();
                if let Some(state) = self.conns.get_mut(&conn) {
                    state.outbox.write_vec(gate, bytes);
                    self.list(conn);
                }
            }
            Action::Close { conn } => self.close(conn, false),
            Action::Arrived { db, keys } => {
                self.db.select(db);
                let mut command = vec![&b"DEL"[..]];
                for key in &keys {
                    if self.db.keys.remove(key) {
                        self.db.changed(key);
                        self.db.notify(class::GENERIC, "del", key);
                        command.push(key);
                    }
                }
                if command.len() > 1 {
                    self.db.propagated.push(command.into_iter());
                    self.hand_on(false);
                }
            }
            Action::Thaw { keys } => {
                for key in &keys {
                    self.db.frozen.remove(key);
                }
                self.resume(Blocked::Frozen);
                self.db.waits.note_all();
                self.serve_waiting();
            }
            Action::Answer { client, outcome } => {
                let offset = self.replication.offset();
                let mut mute = false;
                if let Some(state) = self.conns.get_mut(&client)
                    && let ConnKind::Client(Some(client)) = &mut state.kind
                {
                    client.last_write_offset = offset;
                    mute = std::mem::take(&mut client.awaits_mute);
                }
                self.unblock(client, |reply| match outcome {
                    _ if mute => {}
                    Ok(()) => reply.ok(),
                    Err(error) => reply.error(&error),
                });
            }
        }
    }

    /// A pause ended: replies of targets that came meanwhile are looked at.
    pub(super) fn resume_migrations(&mut self) {
        if self.holds_writes() {
            return;
        }
        // The end of a manual failover: the data is another's now.
        if self.is_replica() || self.cluster.as_ref().is_some_and(crate::cluster::Cluster::i_am_replica) {
            self.abort_migrations();
        } else {
            self.migrate(Migrations::resume);
        }
    }

    /// This node becomes a replica, or loses all its data: what is under way is given up, and nothing is deleted.
    pub(super) fn abort_migrations(&mut self) {
        self.migrate(|migrations, turn| migrations.abort(NOW_A_REPLICA, turn));
    }
}
