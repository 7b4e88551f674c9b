//! Connections from their beginning to their end, and the bytes that go out on them.

use std::net::SocketAddr;

use super::client::{Blocked, Client, Conn, ConnKind, Origin};
use super::{Node, RESUME_BYTES};
use crate::config::Key;
use crate::io::{ConnId, Effect, Outbox, Plane, Ticket};
use crate::resp::{Protocol, Reply};

impl Node {
    pub(super) fn accepted(&mut self, conn: ConnId, plane: Plane, peer: SocketAddr, local: SocketAddr) {
        if plane == Plane::Bus {
            // The cluster sleeps until the data is loaded, as in Redis: a node that became a replica meanwhile would
            // get its master's data and then load its own old data over it.
            if self.cluster.is_none() || self.files.is_loading() {
                self.effects.push(Effect::Close { conn, flush: false });
                return;
            }
            self.add_conn(conn, ConnKind::Bus);
            self.with_cluster(|cluster, turn| cluster.link_accepted(conn, peer, local, turn));
            return;
        }
        self.stats.connections += 1;
        let max = self.config.uint(Key::Maxclients) as usize;
        let id = self.next_client;
        self.next_client += 1;
        let unix_path = (plane == Plane::Unix).then(|| self.config.text(Key::Unixsocket));
        let origin = Origin { id, peer, local, unix_path };
        let client = Client::new(origin, self.now.mono, self.acl.is_open());
        self.add_conn(conn, ConnKind::Client(Some(Box::new(client))));
        self.clients += 1;
        let refusal = if self.clients > max {
            Some("ERR max number of clients reached")
        } else if self.is_protected_from(peer) {
            Some(
                "DENIED Redis is running in protected mode because protected mode is enabled and no password is set \
                 for the default user. In this mode connections are only accepted from the loopback interface. If you \
                 want to connect from external computers to Redis you may adopt one of the following solutions: 1) Just \
                 disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface \
                 by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not \
                 publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) \
                 Alternatively you can just disable the protected mode by editing the Redis configuration file, and \
                 setting the protected mode option to 'no', and then restarting the server. 3) If you started the \
                 server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an \
                 authentication password for the default user. NOTE: You only need to do one of the above things in \
                 order for the server to start accepting connections from the outside.",
            )
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.stats.rejected += 1;
            self.tell(conn, |reply| reply.error(refusal));
            self.close(conn, true);
        }
    }

    pub(super) fn is_protected_from(&self, peer: SocketAddr) -> bool {
        self.config.flag(Key::ProtectedMode)
            && self.acl.default_user().needs_no_password()
            && !peer.ip().to_canonical().is_loopback()
    }

    pub(super) fn add_conn(&mut self, conn: ConnId, kind: ConnKind) {
        let state = Conn { kind, outbox: Outbox::default(), listed: false, protocol: Protocol::Resp2 };
        self.conns.insert(conn, state);
    }

    pub(super) fn connected(&mut self, conn: ConnId, local: SocketAddr, peer: SocketAddr) {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Bus) => {
                self.with_cluster(|cluster, turn| cluster.link_connected(conn, peer, local, turn));
            }
            Some(ConnKind::MasterLink(_)) => {
                self.add_master_client(conn, local, peer);
                self.replicate(|replication, now, actions| replication.connected(conn, now, actions));
            }
            Some(ConnKind::Migrate) => self.migrate(|migrations, turn| migrations.connected(conn, turn)),
            // It was given up while it was being made.
            _ => self.effects.push(Effect::Close { conn, flush: false }),
        }
    }

    pub(super) fn connect_failed(&mut self, conn: ConnId, error: &str) {
        match self.conns.remove(&conn).map(|state| state.kind) {
            Some(ConnKind::Bus) => {
                self.with_cluster(|cluster, turn| cluster.link_failed(conn, error, turn));
            }
            Some(ConnKind::MasterLink(_)) => {
                self.replicate(|replication, now, actions| {
                    replication.connect_failed(conn, error, now, actions);
                });
            }
            Some(ConnKind::Migrate) => self.migrate(|migrations, turn| migrations.connect_failed(conn, turn)),
            _ => {}
        }
    }

    pub(super) fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Client(_)) => {
                self.stats.input_bytes += bytes.len() as u64;
                self.stats.reads += 1;
                self.serve(conn, bytes);
            }
            Some(ConnKind::Bus) => {
                self.with_cluster(|cluster, turn| cluster.link_received(conn, bytes, turn));
            }
            Some(ConnKind::MasterLink(_)) => {
                self.stats.replica_input_bytes += bytes.len() as u64;
                self.note_master_heard(conn);
                self.replicate(|replication, now, actions| replication.received(conn, bytes, now, actions));
            }
            Some(ConnKind::Migrate) => {
                self.migrate(|migrations, turn| migrations.received(conn, bytes, turn));
            }
            Some(ConnKind::Closing { .. }) | None => {}
        }
    }

    pub(super) fn flushed(&mut self, conn: ConnId, bytes: usize) {
        self.stats.output_bytes += bytes as u64;
        self.stats.writes += 1;
        // What has left is held no more: keys must not be evicted for it.
        self.client_bytes = self.client_bytes.saturating_sub(bytes);
        if self.replication.owns(conn) {
            self.stats.replica_output_bytes += bytes as u64;
            self.replicate(|replication, now, actions| replication.flushed(conn, bytes, now, actions));
        }
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if matches!(state.kind, ConnKind::Migrate) {
            return self.migrate(|migrations, turn| migrations.flushed(conn, bytes, turn));
        }
        let left = state.outbox.len();
        if left == 0 && matches!(state.kind, ConnKind::Closing { .. }) {
            self.conns.remove(&conn);
            return;
        }
        if let ConnKind::Client(Some(client)) = &mut state.kind
            && client.blocked == Some(Blocked::Output)
            && left < RESUME_BYTES
        {
            client.blocked = None;
            self.wake.push(conn);
        }
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Bus) => {
                self.with_cluster(|cluster, _| cluster.link_closed(conn));
            }
            Some(ConnKind::MasterLink(_) | ConnKind::Client(_)) => {
                self.replicate(|replication, now, actions| replication.closed(conn, now, actions));
            }
            Some(ConnKind::Migrate) => self.migrate(|migrations, turn| migrations.closed(conn, turn)),
            Some(ConnKind::Closing { .. }) | None => {}
        }
        self.forget(conn);
    }

    /// Closes a connection of ours or a client's; that of a client who is being served when it has been.
    pub(super) fn close(&mut self, conn: ConnId, flush: bool) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if matches!(state.kind, ConnKind::Client(None)) {
            self.served_ends = true;
            return;
        }
        self.effects.push(Effect::Close { conn, flush });
        let is_client = matches!(state.kind, ConnKind::Client(_));
        if flush && !state.outbox.is_empty() {
            // The shell still has to read the outbox. Nothing else comes of this connection.
            if is_client {
                self.leave(conn);
            }
            if let Some(state) = self.conns.get_mut(&conn) {
                state.kind = ConnKind::Closing { since: self.now.mono };
            }
            self.list(conn);
        } else {
            self.forget(conn);
        }
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.leave(conn);
        self.conns.remove(&conn);
    }

    /// A client goes: what others know of it goes too.
    pub(super) fn leave(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let ConnKind::Client(client) = &mut state.kind else { return };
        self.clients -= 1;
        let Some(mut client) = client.take() else { return };
        self.forget_waiting(conn, &mut client);
        for (kind, name) in &client.subscriptions {
            self.pubsub.unsubscribe(*kind, conn, name);
        }
        self.db.unwatch(conn, &client.watching);
        self.monitors.retain(|other| *other != conn);
        self.replication.cancel_wait(conn);
        if let Some(running) = self.scripts.running.as_mut().filter(|running| running.conn == conn) {
            // Its script goes on all the same.
            running.orphan = Some(client);
        }
    }

    /// Notes that a connection has something to send.
    pub(super) fn list(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn)
            && !state.listed
        {
            state.listed = true;
            self.dirty.push(conn);
        }
    }

    /// Puts bytes in an outbox; gives how many wait there.
    pub(super) fn send(&mut self, conn: ConnId, gate: Ticket, bytes: &[u8]) -> usize {
        let Some(state) = self.conns.get_mut(&conn) else { return 0 };
        if !bytes.is_empty() {
            self.client_bytes += bytes.len();
            state.outbox.write(gate, bytes);
            if state.outbox.len() >= self.output_alarm {
                self.alarming.push(conn);
            }
            if !state.listed {
                state.listed = true;
                self.dirty.push(conn);
            }
        }
        state.outbox.len()
    }

    /// Writes one reply to a client that is not being served.
    pub(super) fn tell(&mut self, conn: ConnId, write: impl FnOnce(&mut Reply<'_>)) {
        let gate = self.tickets.reply_gate();
        if let Some(state) = self.conns.get_mut(&conn) {
            let protocol = state.protocol;
            state.outbox.with_owned(gate, |out| write(&mut Reply::new(out, protocol)));
            if state.outbox.len() >= self.output_alarm {
                self.alarming.push(conn);
            }
            self.list(conn);
        }
    }

    /// All that was said in this batch waits for what was promised in it.
    pub(super) fn close_gates(&mut self) {
        let gate = std::mem::take(&mut self.batch_gate);
        if gate == Ticket(0) {
            return;
        }
        for conn in &self.dirty {
            if let Some(state) = self.conns.get_mut(conn)
                && !matches!(state.kind, ConnKind::Bus)
            {
                state.outbox.raise_gate(gate);
            }
        }
    }
}
