//! Clients that wait for keys: BLPOP, BLMOVE, BZPOPMIN and their like.
//!
//! A command that finds nothing is kept with its arguments. When a key that it waits for has changed, it is run
//! again, for that key alone, at the end of the command or transaction that changed it; who waits longest is first.

use std::collections::BTreeSet;
use std::ops::Range;

use super::client::{Blocked, Client, ConnKind, NOW_A_REPLICA, ReplyMode};
use super::{Node, flag};
use crate::cluster::{BlockedQuery, Route};
use crate::command::{Blocking, Spec, Wait};
use crate::io::{ConnId, Mono};
use crate::keyspace::Slot;
use crate::resp::{Args, OwnedArgs, Reply};

/// A command that waits for keys.
#[derive(Debug)]
pub struct Waiting {
    spec: &'static Spec,
    args: OwnedArgs,
    /// Number of the database.
    db: u32,
    /// The arguments that are the keys it waits for.
    keys: Range<usize>,
    /// It is run again too when a key is no more.
    minds_absence: bool,
    deadline: Option<Mono>,
}

impl Waiting {
    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let args = self.args.view();
        self.keys.clone().filter_map(move |index| args.get(index))
    }
}

/// When waits end.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Mono, ConnId)>);

impl Deadlines {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn next(&self) -> Option<Mono> {
        self.0.first().map(|(deadline, _)| *deadline)
    }
}

impl Node {
    /// The client that is being served waits from now on.
    pub(super) fn wait_for_keys(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        spec: &'static Spec,
        args: Args<'_>,
        wait: Wait,
    ) {
        let deadline = (wait.timeout_ms > 0)
            .then(|| Mono(self.now.mono.0.saturating_add(wait.timeout_ms.saturating_mul(1000))));
        let Wait { keys, minds_absence, .. } = wait;
        let args = wait.args.unwrap_or_else(|| args.to_owned());
        let waiting = Waiting { spec, args, db: client.db, keys, minds_absence, deadline };
        for key in waiting.keys() {
            self.db.waits.add(conn, client.db, key);
        }
        self.deadlines.0.extend(deadline.map(|deadline| (deadline, conn)));
        client.blocked = Some(Blocked::Keys);
        client.awaits_mute = client.reply_mode != ReplyMode::On;
        client.waiting = Some(Box::new(waiting));
    }

    /// A command or transaction is over: serves who waited for keys that it changed.
    pub(super) fn serve_waiting(&mut self) {
        if self.scripts.is_under_way() {
            return;
        }
        while self.db.waits.has_changed() {
            for (db, key) in self.db.waits.take_changed() {
                self.db.select(db);
                self.db.expiry = self.expiry_mode();
                // To look at a key whose time has come is to delete it.
                self.db.find(&key, self.now);
                self.hand_on(true);
                for conn in self.db.waits.waiting(db, &key) {
                    self.try_again(conn, &key);
                }
            }
        }
    }

    /// Runs the command of a client that waits, for a key that changed.
    fn try_again(&mut self, conn: ConnId, key: &[u8]) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let ConnKind::Client(place) = &mut state.kind else { return };
        let Some(mut client) = place.take() else { return };
        if let Some(waiting) = client.waiting.take() {
            let hears = waiting.minds_absence || self.db.is_there(key, self.now);
            if hears && self.run_waiting(conn, &mut client, &waiting, key) {
                self.stop_waiting(conn, &waiting);
                client.blocked = None;
                self.wake.push(conn);
            } else {
                client.waiting = Some(waiting);
            }
        }
        if let Some(state) = self.conns.get_mut(&conn) {
            state.kind = ConnKind::Client(Some(client));
        }
        if std::mem::take(&mut self.served_ends) {
            self.close(conn, true);
        }
    }

    /// True if the command has its answer.
    fn run_waiting(&mut self, conn: ConnId, client: &mut Client, waiting: &Waiting, key: &[u8]) -> bool {
        let args = waiting.args.view();
        // A key on its way to another server cannot change now; when it is back or gone, all look again.
        if waiting.spec.keys(&args).any(|key| self.db.frozen.contains(key)) {
            return false;
        }
        let other = std::mem::take(&mut self.scratch);
        self.db.select(waiting.db);
        let began_ns = self.stopwatch.read();
        self.db.expiry = self.expiry_mode();
        let done = match self.run_call(waiting.spec, args, client.protocol, Blocking::Woken(key)) {
            Ok(None) => true,
            Ok(Some(_)) => false,
            Err(fault) => {
                self.scratch.clear();
                Reply::new(&mut self.scratch, client.protocol).error(&fault.0);
                self.count_error(0);
                true
            }
        };
        self.hand_on(true);
        let reply = std::mem::replace(&mut self.scratch, other);
        if done {
            self.command_done(client, waiting.spec, args, began_ns, reply.first() == Some(&b'-'));
            client.last_write_offset = self.replication.offset();
            if !std::mem::take(&mut client.awaits_mute) {
                self.send(conn, self.tickets.reply_gate(), &reply);
            }
        }
        done
    }

    fn stop_waiting(&mut self, conn: ConnId, waiting: &Waiting) {
        self.db.waits.remove(conn, waiting.db, waiting.keys());
        if let Some(deadline) = waiting.deadline {
            self.deadlines.0.remove(&(deadline, conn));
        }
    }

    /// A client goes, waiting or not.
    pub(super) fn forget_waiting(&mut self, conn: ConnId, client: &mut Client) {
        if let Some(waiting) = client.waiting.take() {
            self.stop_waiting(conn, &waiting);
        }
    }

    /// Ends a client's wait with this answer; false if it waits for no key.
    pub(super) fn end_wait(&mut self, conn: ConnId, write: impl FnOnce(&mut Reply<'_>)) -> bool {
        let Some(state) = self.conns.get_mut(&conn) else { return false };
        let ConnKind::Client(Some(client)) = &mut state.kind else { return false };
        let Some(waiting) = client.waiting.take() else { return false };
        client.blocked = None;
        let mut reply = Vec::new();
        write(&mut Reply::new(&mut reply, client.protocol));
        self.stats.count_error(&reply);
        let stat = self.stats.per_command.of(waiting.spec);
        stat.calls += 1;
        stat.failed += u64::from(reply.first() == Some(&b'-'));
        let mute = std::mem::take(&mut client.awaits_mute);
        self.stop_waiting(conn, &waiting);
        if !mute {
            self.send(conn, self.tickets.reply_gate(), &reply);
        }
        self.wake.push(conn);
        true
    }

    /// Ends the waits whose time is over.
    pub(super) fn end_waits_due(&mut self) {
        while let Some(&(deadline, conn)) = self.deadlines.0.first()
            && deadline <= self.now.mono
        {
            self.deadlines.0.pop_first();
            #[allow(clippy::redundant_closure_for_method_calls)] // the method is not general enough
            self.end_wait(conn, |reply| reply.null_array());
        }
    }

    /// This node becomes a replica: who waits is told so, and its connection closed.
    pub(super) fn end_all_waits(&mut self) {
        for conn in self.db.waits.all() {
            if self.end_wait(conn, |reply| reply.error(NOW_A_REPLICA)) {
                self.wake.retain(|other| *other != conn);
                self.close(conn, true);
            }
        }
    }

    /// Sends away who waits for keys that are not this node's any more, or while the cluster is down.
    pub(super) fn redirect_waiting(&mut self) {
        if self.db.waits.is_empty() {
            return;
        }
        let Some(cluster) = &self.cluster else { return };
        let mut away = Vec::new();
        for conn in self.db.waits.all() {
            let Some(ConnKind::Client(Some(client))) = self.conns.get(&conn).map(|state| &state.kind) else {
                continue;
            };
            let Some(waiting) = &client.waiting else { continue };
            let routes = waiting.keys().map(|key| {
                cluster.route_blocked(BlockedQuery {
                    slot: Slot::of_key(key).0,
                    readonly_client: client.readonly,
                    read_only_command: waiting.spec.has(flag::READONLY),
                })
            });
            if let Some(error) = routes.into_iter().find_map(|route: Route| route.error()) {
                away.push((conn, error));
            }
        }
        for (conn, error) in away {
            self.end_wait(conn, |reply| reply.error(&error));
        }
    }
}
