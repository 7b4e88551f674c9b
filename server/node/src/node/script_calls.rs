//! What a script asks of the node: to run commands, with the checks of Redis' `scriptCall` in their order.

use std::borrow::Cow;

use super::access::{Context, not_for_script};
use super::client::{Client, Origin};
use super::script_runs::Running;
use super::{Node, flag};
use crate::cluster::{Query, Route};
use crate::command::catalog::resolve;
use crate::command::{Blocking, Fault, Run, Spec, Verb};
use crate::config::Key;
use crate::keyspace::Slot;
use crate::resp::{Args, Protocol, Reply};
use crate::script::{Answer, Asked, Calling, HandedOn};

/// Why a command is not run: without a code, or with one behind a dash.
type Refusal = Cow<'static, str>;

impl Node {
    /// The answer to what a script asks.
    pub(super) fn answer_script(&mut self, client: &Client, running: &mut Running, asked: Asked) -> Answer {
        match asked {
            Asked::Pause => Answer::Go,
            Asked::Log(level, line) => {
                self.log(level, String::from_utf8_lossy(&line).into_owned());
                Answer::Go
            }
            Asked::MayCall(args) => {
                let args = args.view();
                let spec = resolve(args).ok();
                Answer::Allowed(spec.map(|spec| self.acl.check(client.user, spec, args).is_ok()))
            }
            Asked::Call(calling) => self.call_of_script(client, running, &calling),
        }
    }

    fn call_of_script(&mut self, client: &Client, running: &mut Running, calling: &Calling) -> Answer {
        let args = calling.args.view();
        let spec = match self.check_script_call(client, running, args) {
            Ok(spec) => spec,
            Err((spec, refusal)) => {
                // Counted as an error reply would be.
                let reply = if refusal.starts_with('-') { refusal.to_string() } else { "-ERR ".to_owned() };
                self.stats.count_error(reply.as_bytes());
                if let Some(spec) = spec {
                    self.stats.per_command.of(spec).rejected += 1;
                }
                return Answer::Refused(refusal);
            }
        };
        let began_ns = self.last_reading_ns;
        let now = self.now;
        if !spec.run.is(Verb::Time) {
            // No key expires while a script runs.
            self.now.wall = running.wall;
        }
        let outer = std::mem::take(&mut self.scratch);
        let before = self.db.propagated.len();
        let db = running.db(client);
        self.db.select(db);
        self.db.expiry = self.expiry_mode();
        let outcome = match spec.run {
            Run::Data(_) => self.run_call(spec, args, calling.protocol, Blocking::InScript).map(|_| ()),
            Run::Node(verb) => self.verb_of_script(client, running, (verb, spec), args, calling.protocol),
        };
        if let Err(fault) = outcome {
            self.scratch.clear();
            Reply::new(&mut self.scratch, calling.protocol).error(&fault.0);
        }
        if calling.handed_on != HandedOn::ALL {
            let HandedOn { file, replicas } = calling.handed_on;
            self.db.propagated.restrict_from(before, file, replicas);
        }
        self.now = now;
        let reply = std::mem::replace(&mut self.scratch, outer);
        self.stats.count_error(&reply);
        self.stats.commands += 1;
        if !self.monitors.is_empty() {
            self.feed_monitors_from("lua", db, spec, args);
        }
        self.command_done(client, spec, args, began_ns, reply.first() == Some(&b'-'));
        self.scripts.errors_before = self.stats.error_replies;
        Answer::Reply(reply)
    }

    /// A command of the node's own.
    fn verb_of_script(
        &mut self,
        client: &Client,
        running: &mut Running,
        (verb, spec): (Verb, &'static Spec),
        args: Args<'_>,
        protocol: Protocol,
    ) -> Result<(), Fault> {
        if verb == Verb::Migrate {
            return Err(super::text("ERR MIGRATE inside a script is not supported by this server"));
        }
        let conn = running.conn;
        let mut caller = running.caller.take().unwrap_or_else(|| Box::new(caller_for(client, self.now.mono)));
        caller.protocol = protocol;
        caller.user = client.user;
        let outcome = self.run_verb(conn, &mut caller, verb, spec, args);
        caller.blocked = None;
        running.caller = Some(caller);
        outcome.map(|_| ())
    }

    fn check_script_call(
        &mut self,
        client: &Client,
        running: &mut Running,
        args: Args<'_>,
    ) -> Result<&'static Spec, (Option<&'static Spec>, Refusal)> {
        let Ok(spec) = resolve(args) else {
            return Err((None, "Unknown Redis command called from script".into()));
        };
        self.may_call(client, running, spec, args).map_err(|refusal| (Some(spec), refusal))?;
        Ok(spec)
    }

    fn may_call(
        &mut self,
        client: &Client,
        running: &mut Running,
        spec: &'static Spec,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        if !spec.accepts(args.len()) {
            return Err("Wrong number of args calling Redis command from script".into());
        }
        let is_script = matches!(spec.run, Run::Node(Verb::Eval | Verb::Fcall));
        if spec.has(flag::NOSCRIPT) && (!self.scripts.calls_anything || is_script) {
            return Err("This Redis command is not allowed from script".into());
        }
        let link_down = self.replication.link_status().is_some_and(|link| !link.up);
        if link_down && !self.config.flag(Key::ReplicaServeStaleData) && !spec.has(flag::STALE) {
            return Err("Can not execute the command on a stale replica".into());
        }
        self.db.refuses_patterns = false;
        if !self.acl.is_unrestricted(client.user) {
            self.permit(running.conn, client, spec, args, Context::Lua).map_err(not_for_script)?;
        }
        self.may_write(running, spec)?;
        let short = running.memory_is_short && !running.allows_oom && !running.has_written;
        if short && spec.has(flag::DENYOOM) {
            return Err("-OOM command not allowed when used memory > 'maxmemory'.".into());
        }
        if spec.has(flag::WRITE) {
            if self.touches_frozen(client, spec, args) {
                return Err("-TRYAGAIN A key is on its way to another server".into());
            }
            running.has_written = true;
        }
        self.check_script_slot(client, running, spec, args)
    }

    fn may_write(&self, running: &Running, spec: &Spec) -> Result<(), Refusal> {
        let writes = spec.has(flag::WRITE);
        if running.read_only && (writes || spec.has(flag::MAY_REPLICATE)) {
            return Err("Write commands are not allowed from read-only scripts.".into());
        }
        // A node that has become a replica meanwhile must not go on: its data would no more be its master's.
        if writes && self.is_replica() && self.config.flag(Key::ReplicaReadOnly) {
            return Err("-READONLY You can't write against a read only replica.".into());
        }
        if !writes || running.has_written {
            return Ok(());
        }
        let allowed = self.files.check_writable(&self.config).and_then(|()| self.check_good_replicas());
        allowed.map_err(|fault| format!("-{}", fault.0).into())
    }

    /// Cluster mode: are its keys here, and all in one slot?
    fn check_script_slot(
        &self,
        client: &Client,
        running: &mut Running,
        spec: &Spec,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let keys: Vec<(u16, &[u8])> = spec.keys(&args).map(|key| (Slot::of_key(key).0, key)).collect();
        let Some((slot, _)) = keys.first().copied() else { return Ok(()) };
        let exists = |key: &[u8]| self.db.is_there(key, self.now);
        let query = Query {
            keys: &keys,
            exists: &exists,
            write: spec.has(flag::WRITE),
            asking: client.asking || spec.has(flag::ASKING),
            readonly_client: client.readonly,
            migrate: false,
            shard_pubsub: matches!(spec.run, Run::Node(Verb::SPublish)),
        };
        match cluster.route(&query) {
            Route::Local => {}
            Route::DownForWrites => {
                return Err(
                    "Script attempted to execute a write command while the cluster is down and readonly"
                        .into(),
                );
            }
            Route::Down => {
                return Err("Script attempted to execute a command while the cluster is down".into());
            }
            _ => return Err("Script attempted to access a non local key in a cluster node".into()),
        }
        if !running.any_slots && *running.slot.get_or_insert(slot) != slot {
            return Err("Script attempted to access keys that do not hash to the same slot".into());
        }
        Ok(())
    }

    /// `min-replicas-to-write`
    pub(super) fn check_good_replicas(&self) -> Result<(), Fault> {
        let wanted = self.config.uint(Key::MinReplicasToWrite) as usize;
        let max_lag = self.config.uint(Key::MinReplicasMaxLag);
        let short = wanted > 0
            && max_lag > 0
            && !self.is_replica()
            && self.replication.good_replicas(max_lag, self.now.mono) < wanted;
        if short { Err(super::text("NOREPLICAS Not enough good replicas to write.")) } else { Ok(()) }
    }
}

impl Running {
    /// The database that its commands are for.
    fn db(&self, client: &Client) -> u32 {
        self.caller.as_ref().map_or(client.db, |caller| caller.db)
    }
}

/// The client that a script's commands are called by: it has its own database, and does not wait.
fn caller_for(client: &Client, now: crate::io::Mono) -> Client {
    let origin = Origin { id: client.id, peer: client.peer, local: client.peer, unix_path: None };
    let mut caller = Client::new(origin, now, true);
    caller.db = client.db;
    caller.in_exec = true;
    caller
}
