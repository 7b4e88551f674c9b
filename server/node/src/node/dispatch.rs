//! From bytes of a client to executed commands: parsing, the checks in Redis' order, transactions.

use super::access::{Context, refused, refused_at_exec};
use super::client::{Blocked, Client, ConnKind, Executing, ReplyMode, Transaction};
use super::memory::Room;
use super::{ExpiryMode, LOADING, Node, STALL_BYTES, flag, text};
use crate::cluster::{Query, Route};
use crate::command::catalog::{Unresolved, resolve};
use crate::command::{Blocking, Call, Fault, Run, Spec, Verb, Wait, shown};
use crate::config::Key;
use crate::io::{ConnId, LogLevel};
use crate::keyspace::Slot;
use crate::resp::{Args, Protocol, Reply, RequestLimits};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is done with.
    Done,
    /// It must be tried again later; nothing was done.
    Later(Blocked),
}

impl Node {
    /// Takes what a client sent and executes what is complete.
    pub(super) fn serve(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let ConnKind::Client(place) = &mut state.kind else { return };
        let Some(mut client) = place.take() else { return };
        client.last_active = self.now.mono;
        debug_assert!(self.scratch.is_empty());
        let mut input = std::mem::take(&mut client.input);
        let held = input.len();
        let used = if input.is_empty() {
            let used = self.execute_all(conn, &mut client, bytes);
            input.extend_from_slice(&bytes[used..]);
            0
        } else {
            make_room_for(&mut input, bytes.len(), client.parser.arriving());
            input.extend_from_slice(bytes);
            self.execute_all(conn, &mut client, &input)
        };
        input.drain(..used);
        if input.is_empty() && input.capacity() > 64 * 1024 {
            input = Vec::new();
        }
        if input.len() as u64 > self.config.uint(Key::ClientQueryBufferLimit) {
            let line = self.client_line(conn, &client);
            self.log(
                LogLevel::Warning,
                format!("Closing client that reached max query buffer length: {line}"),
            );
            client.closing = true;
            input.clear();
        }
        // Until all clients are added up again.
        self.client_bytes = (self.client_bytes + input.len()).saturating_sub(held);
        client.input = input;
        client.request_bytes = (0, 0);
        self.flush_scratch(conn);
        let closing = client.closing;
        if let Some(state) = self.conns.get_mut(&conn) {
            state.protocol = client.protocol;
            state.kind = ConnKind::Client(Some(client));
            if closing {
                self.replicate(|replication, now, actions| replication.closed(conn, now, actions));
                self.close(conn, true);
            }
        }
    }

    /// Executes the complete requests at the start of `buffer`; gives how many bytes they took.
    fn execute_all(&mut self, conn: ConnId, client: &mut Client, buffer: &[u8]) -> usize {
        let mut limits = RequestLimits {
            max_bulk_bytes: self.config.uint(Key::ProtoMaxBulkLen) as usize,
            ..RequestLimits::default()
        };
        let mut used = 0;
        self.last_reading_ns = self.stopwatch.read();
        let mut parser = std::mem::take(&mut client.parser);
        while client.blocked.is_none() && !client.closing && used < buffer.len() {
            let rest = &buffer[used..];
            limits.unauthenticated = !client.authenticated && !self.acl.is_open();
            match parser.parse(rest, limits) {
                Ok(None) => break,
                Ok(Some(consumed)) => {
                    let args = parser.args(rest);
                    let step = if args.is_empty() {
                        if self.replication.is_replica(conn) {
                            self.replication.keepalive(conn, self.now.mono);
                        }
                        Step::Done
                    } else {
                        client.request_bytes = (rest.len(), 0);
                        self.execute(conn, client, args)
                    };
                    parser.next();
                    client.closing |= std::mem::take(&mut self.served_ends);
                    match step {
                        Step::Done => used += consumed,
                        Step::Later(why) => client.blocked = Some(why),
                    }
                    if self.scratch.len() > 64 * 1024 {
                        let waiting = self.flush_scratch(conn);
                        if waiting > STALL_BYTES
                            && client.blocked.is_none()
                            && !self.replication.is_replica(conn)
                        {
                            client.blocked = Some(Blocked::Output);
                        }
                    }
                }
                Err(error) => {
                    self.log(LogLevel::Verbose, format!("Protocol error from client: {error}"));
                    Reply::new(&mut self.scratch, client.protocol).error(&format!("ERR {error}"));
                    client.closing = true;
                }
            }
        }
        client.parser = parser;
        if client.closing { buffer.len() } else { used }
    }

    /// Moves the replies so far to the outbox; gives how many bytes wait there.
    pub(super) fn flush_scratch(&mut self, conn: ConnId) -> usize {
        let mut scratch = std::mem::take(&mut self.scratch);
        let waiting = self.send(conn, self.tickets.reply_gate(), &scratch);
        scratch.clear();
        if scratch.capacity() > 1 << 20 {
            scratch = Vec::new();
        }
        self.scratch = scratch;
        waiting
    }

    /// One request: run it, and put its reply, if it is to have one, in the scratch buffer.
    fn execute(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Step {
        let reply_at = self.scratch.len();
        if client.reply_mode == ReplyMode::SkipNext {
            client.reply_mode = ReplyMode::Skip;
        }
        let mode = client.reply_mode;
        let resolved = resolve(args);
        let spec = resolved.ok();
        if let Some(spec) = spec {
            client.last_command = spec.name;
        }
        let asked_for_asking = spec.is_some_and(|spec| matches!(spec.run, Run::Node(Verb::Asking)));
        let begins = spec.is_some_and(|spec| matches!(spec.run, Run::Node(Verb::Multi)));
        let (began_ns, db) = (self.last_reading_ns, client.db);
        let (handled, outcome) = self.check_and_run(conn, client, resolved, args);
        // What tells of a subscription is no reply: CLIENT REPLY does not silence it.
        let pushes = outcome.is_ok() && handled == Handled::Run && spec.is_some_and(tells_of_subscriptions);
        let step = match outcome {
            Ok(step) => step,
            Err(fault) => {
                self.scratch.truncate(reply_at);
                Reply::new(&mut self.scratch, client.protocol).error(&fault.0);
                Step::Done
            }
        };
        if let (Step::Done, Some(spec)) = (step, spec) {
            if handled == Handled::Run && !self.monitors.is_empty() {
                self.feed_monitors(client, db, spec, args);
            }
            match handled {
                Handled::Rejected => self.stats.per_command.of(spec).rejected += 1,
                // What waits for keys is counted when it has its answer.
                Handled::Run if matches!(spec.run, Run::Node(Verb::Eval | Verb::Fcall)) => {
                    // Or when its script has ended; it counts its error itself.
                    if client.blocked != Some(Blocked::Running) {
                        self.script_call_done(client, spec, args, began_ns, reply_at);
                    }
                }
                Handled::Run if !matches!(client.blocked, Some(Blocked::Keys | Blocked::Running)) => {
                    let failed = self.scratch.get(reply_at) == Some(&b'-');
                    self.command_done(client, spec, args, began_ns, failed);
                }
                Handled::Run | Handled::Queued => {}
            }
        }
        if step == Step::Done && client.blocked != Some(Blocked::Running) {
            self.stats.commands += 1;
            // ASKING holds for one command; before MULTI it holds until the transaction ends.
            if !(asked_for_asking || begins || client.transaction.is_some()) {
                client.asking = false;
            }
            if handled != Handled::Run || !spec.is_some_and(runs_script) {
                self.count_error(reply_at);
            }
        }
        let mute = matches!(mode, ReplyMode::Off | ReplyMode::Skip) && client.reply_mode != ReplyMode::On;
        if mute && !pushes {
            self.scratch.truncate(reply_at);
        }
        if client.reply_mode == ReplyMode::Skip && step == Step::Done {
            client.reply_mode = ReplyMode::On;
        }
        step
    }

    pub(super) fn count_error(&mut self, reply_at: usize) {
        if let Some(reply) = self.scratch.get(reply_at..) {
            self.stats.count_error(reply);
        }
    }

    /// The checks of Redis' `processCommand`, in its order, then the command or its place in the queue.
    fn check_and_run(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        resolved: Result<&'static Spec, Unresolved>,
        args: Args<'_>,
    ) -> (Handled, Result<Step, Fault>) {
        self.db.select(client.db);
        self.db.refuses_patterns = false;
        let spec = resolved.ok();
        let outcome = self.check(conn, client, resolved, args);
        match outcome {
            Ok(Checked::Run(spec)) => {
                let queues = client.transaction.is_some() && !is_immediate(spec);
                if queues {
                    if let Some(transaction) = &mut client.transaction {
                        let owned = args.to_owned();
                        transaction.bytes += owned.heap_bytes();
                        transaction.commands.push((spec, owned));
                    }
                    Reply::new(&mut self.scratch, client.protocol).simple("QUEUED");
                    return (Handled::Queued, Ok(Step::Done));
                }
                let step = self.run(conn, client, spec, args);
                // What these find expired is no transaction: it has nothing to do with what they were asked.
                self.hand_on(!matches!(spec.name, "scan" | "randomkey"));
                if self.db.waits.has_changed() {
                    self.serve_waiting();
                }
                let may_write = spec.has(flag::WRITE) || spec.run.is(Verb::Exec) || runs_script(spec);
                if self.db.dirty != 0 && may_write {
                    client.last_write_offset = self.replication.offset();
                }
                (Handled::Run, step)
            }
            Ok(Checked::Later(why)) => (Handled::Run, Ok(Step::Later(why))),
            Err(fault) => {
                self.hand_on(true);
                let at_exec = spec.is_some_and(|spec| matches!(spec.run, Run::Node(Verb::Exec)));
                if at_exec {
                    self.discard(conn, client);
                    return (Handled::Rejected, Err(exec_aborted(fault)));
                }
                if let Some(transaction) = &mut client.transaction {
                    transaction.failed = true;
                }
                (Handled::Rejected, Err(fault))
            }
        }
    }

    /// What a script or its transaction did is handed on, once it has ended after its turns.
    pub(super) fn after_command(&mut self, client: &mut Client) {
        self.hand_on(true);
        if self.db.waits.has_changed() {
            self.serve_waiting();
        }
        client.last_write_offset = self.replication.offset();
    }

    fn check(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        resolved: Result<&'static Spec, Unresolved>,
        args: Args<'_>,
    ) -> Result<Checked, Fault> {
        let waits = resolved.map_or(true, |spec| !spec.run.is(Verb::ReplConf));
        let allows_busy = resolved.is_ok_and(|spec| spec.has(flag::ALLOW_BUSY));
        // A script that is not slow yet holds up everything; what is wrong with a command is told before BUSY.
        if waits && self.scripts.is_under_way() && self.yields_to_script(true)? {
            return Ok(Checked::Later(Blocked::Script));
        }
        let spec = resolved.map_err(|why| unknown(why, args))?;
        if !spec.accepts(args.len()) {
            if spec.run.is(Verb::Exec) {
                // Redis ends a transaction by the way it is asked to.
                return Err(text("wrong number of arguments for 'exec' command"));
            }
            return Err(Fault::arity(spec.name));
        }
        if matches!(spec.run, Run::Node(Verb::Cluster)) {
            super::cluster_glue::check_usage(args)?;
        }
        if matches!(spec.run, Run::Node(Verb::Debug)) && !self.may_debug(client) {
            return Err(text(
                "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run \
                 it from a local connection, otherwise you need to set this option in the configuration file, and \
                 then restart the server.",
            ));
        }
        if !client.authenticated && !spec.has(flag::NO_AUTH) && !self.acl.is_open() {
            return Err(text("NOAUTH Authentication required."));
        }
        let is_exec = matches!(spec.run, Run::Node(Verb::Exec));
        if spec.has(flag::NO_MULTI) && client.transaction.is_some() {
            return Err(text("ERR Command not allowed inside a transaction"));
        }
        if !self.acl.is_unrestricted(client.user) {
            let context = if client.transaction.is_some() { Context::Multi } else { Context::TopLevel };
            self.permit(conn, client, spec, args, context).map_err(|denied| refused(denied, spec))?;
        }
        if spec.run.is(Verb::Migrate) && client.transaction.is_some() {
            // EXEC must not wait for another server.
            return Err(text("ERR MIGRATE inside MULTI is not supported by this server"));
        }
        // Scripts say themselves what they may do.
        let flags = self.scripts.flags_of_call(spec, args);
        let all_flags = flags | if is_exec { self.queued_flags(client) } else { 0 };
        let has = |flag: u32| all_flags & flag != 0;
        let writes = has(flag::WRITE);
        let may_replicate = writes || has(flag::MAY_REPLICATE);
        self.db.expiry = self.expiry_mode();
        self.check_slots(client, spec, args, is_exec, writes)?;
        self.scripts.memory_is_short = false;
        if self.config.uint(Key::Maxmemory) > 0 {
            let room = self.make_room();
            // A queue may grow without end too.
            let queues = client.transaction.is_some() && !is_exec && !is_immediate(spec);
            self.scripts.memory_is_short = room == Room::None;
            if room == Room::None && (has(flag::DENYOOM) || queues) {
                return Err(text("OOM command not allowed when used memory > 'maxmemory'."));
            }
        }
        if writes && !self.is_replica() {
            self.files.check_writable(&self.config)?;
            self.check_good_replicas()?;
        }
        if writes && self.is_replica() && self.config.flag(Key::ReplicaReadOnly) {
            return Err(text("READONLY You can't write against a read only replica."));
        }
        if !client.subscriptions.is_empty()
            && client.protocol == Protocol::Resp2
            && !matches!(
                spec.run,
                Run::Node(
                    Verb::Ping
                        | Verb::Subscribe
                        | Verb::SSubscribe
                        | Verb::PSubscribe
                        | Verb::Unsubscribe
                        | Verb::SUnsubscribe
                        | Verb::PUnsubscribe
                        | Verb::Quit
                        | Verb::Reset
                )
            )
        {
            return Err(Fault::new(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context",
                spec.name
            )));
        }
        // What was queued is judged as the server is now.
        let lacks = |needed: u32| {
            let queued = client.transaction.as_ref().filter(|_| is_exec);
            flags & needed == 0
                || queued.is_some_and(|queued| queued.commands.iter().any(|(spec, _)| !spec.has(needed)))
        };
        let link_down = self.replication.link_status().is_some_and(|link| !link.up);
        if link_down && !self.config.flag(Key::ReplicaServeStaleData) && lacks(flag::STALE) {
            return Err(text(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            ));
        }
        if self.files.is_loading() && lacks(flag::LOADING) {
            return Err(text(LOADING));
        }
        if waits && self.scripts.is_under_way() {
            self.yields_to_script(allows_busy)?;
        }
        if self.holds_back(conn, client, spec, may_replicate, is_exec) {
            return Ok(Checked::Later(Blocked::Paused));
        }
        if writes && (client.transaction.is_none() || is_exec) && self.touches_frozen(client, spec, args) {
            return Ok(Checked::Later(Blocked::Frozen));
        }
        Ok(Checked::Run(spec))
    }

    /// Flags of the commands that wait for EXEC, all together.
    fn queued_flags(&self, client: &Client) -> u32 {
        let queued = client.transaction.iter().flat_map(|transaction| &transaction.commands);
        queued.fold(0, |flags, (spec, args)| flags | self.scripts.flags_of_call(spec, args.view()))
    }

    /// Must the command wait for the end of a pause?
    fn holds_back(
        &self,
        conn: ConnId,
        client: &Client,
        spec: &Spec,
        may_replicate: bool,
        is_exec: bool,
    ) -> bool {
        if self.replication.is_replica(conn) || client.transaction.is_some() && !is_exec {
            return false;
        }
        let is_client_command = matches!(spec.run, Run::Node(Verb::Client));
        let all = self.client_pause.is_some_and(|pause| pause.all) && !is_client_command;
        let some = self.client_pause.is_some() || self.failover_pause.is_some();
        all || some && may_replicate
    }

    fn may_debug(&self, client: &Client) -> bool {
        self.allows(Key::EnableDebugCommand, client)
    }

    /// A directive of the kind no, yes, local.
    pub(super) fn allows(&self, key: Key, client: &Client) -> bool {
        match self.config.text(key) {
            "yes" => true,
            "local" => client.peer.ip().to_canonical().is_loopback(),
            _ => false,
        }
    }

    /// Cluster mode: is this node the one to ask?
    fn check_slots(
        &self,
        client: &Client,
        spec: &Spec,
        args: Args<'_>,
        is_exec: bool,
        writes: bool,
    ) -> Result<(), Fault> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let mut many = Vec::new();
        let one;
        let keys: &[(u16, &[u8])] = if is_exec {
            let queued = client.transaction.iter().flat_map(|transaction| &transaction.commands);
            for (spec, args) in queued {
                many.extend(spec.keys(&args.view()).map(|key| (Slot::of_key(key).0, key)));
            }
            &many
        } else {
            let mut keys = spec.keys(&args);
            let Some(first) = keys.next() else { return Ok(()) };
            one = [(Slot::of_key(first).0, first)];
            many.extend(keys.map(|key| (Slot::of_key(key).0, key)));
            if many.is_empty() {
                &one
            } else {
                many.insert(0, one[0]);
                &many
            }
        };
        let exists = |key: &[u8]| self.db.is_there(key, self.now);
        let query = Query {
            keys,
            exists: &exists,
            write: writes,
            asking: client.asking || spec.has(flag::ASKING),
            readonly_client: client.readonly,
            migrate: spec.run.is(Verb::Migrate),
            shard_pubsub: matches!(
                spec.run,
                Run::Node(Verb::SPublish | Verb::SSubscribe | Verb::SUnsubscribe)
            ),
        };
        match cluster.route(&query) {
            Route::Local => Ok(()),
            other => Err(Fault::new(other.error().unwrap_or_default())),
        }
    }

    /// Runs a command that passed all checks.
    pub(super) fn run(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        spec: &'static Spec,
        args: Args<'_>,
    ) -> Result<Step, Fault> {
        match spec.run {
            Run::Data(_) => {
                let blocking = if client.in_exec { Blocking::Never } else { Blocking::May };
                let reply_at = self.scratch.len();
                if let Some(wait) = self.run_call(spec, args, client.protocol, blocking)? {
                    self.wait_for_keys(conn, client, spec, args, wait);
                }
                if self.db.flushed_all && !client.in_exec && self.save_flushed(Some(conn)) {
                    // The answer waits for the dump, as in Redis.
                    self.scratch.truncate(reply_at);
                    client.blocked = Some(Blocked::Disk);
                }
                Ok(Step::Done)
            }
            Run::Node(verb) => self.run_verb(conn, client, verb, spec, args),
        }
    }

    /// Runs a data command; its reply goes to the scratch buffer.
    pub(super) fn run_data(
        &mut self,
        spec: &'static Spec,
        args: Args<'_>,
        protocol: Protocol,
    ) -> Result<(), Fault> {
        self.run_call(spec, args, protocol, Blocking::Never).map(|_| ())
    }

    /// As [`Self::run_data`]; gives what the command waits for instead of an answer.
    pub(super) fn run_call(
        &mut self,
        spec: &'static Spec,
        args: Args<'_>,
        protocol: Protocol,
        blocking: Blocking<'_>,
    ) -> Result<Option<Wait>, Fault> {
        let Run::Data(handler) = spec.run else { return Ok(None) };
        let dirty = self.db.dirty;
        self.db.propagated.unwanted = !self.replication.wants_commands() && !self.files.wants_commands();
        let mut call = Call {
            now: self.now,
            args,
            reply: Reply::new(&mut self.scratch, protocol),
            db: &mut self.db,
            name: spec.name,
            max_string_bytes: self.config.uint(Key::ProtoMaxBulkLen) as usize,
            in_cluster: self.cluster.is_some(),
            rewritten: false,
            blocking,
            wait: None,
        };
        let outcome = handler(&mut call);
        let (rewritten, wait) = (call.rewritten, call.wait.take());
        if self.db.dirty > dirty && self.is_replica() && blocking != Blocking::Never {
            self.note_own_expiries(spec, args);
        }
        if self.db.dirty > dirty && !rewritten && !self.db.propagated.unwanted {
            let all: Vec<&[u8]> = args.iter().collect();
            self.db.propagated.push(all.into_iter());
        }
        self.db.propagated.unwanted = false;
        outcome.map(|()| wait)
    }

    /// `MULTI`
    pub(super) fn multi(&mut self, client: &mut Client) -> Result<(), Fault> {
        if client.transaction.is_some() {
            return Err(text("ERR MULTI calls can not be nested"));
        }
        client.transaction = Some(Transaction::default());
        Reply::new(&mut self.scratch, client.protocol).ok();
        Ok(())
    }

    /// `EXEC`
    pub(super) fn exec(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        (spec, args): (&'static Spec, Args<'_>),
    ) -> Result<(), Fault> {
        let Some(transaction) = client.transaction.take() else { return Err(text("ERR EXEC without MULTI")) };
        let watched_gone =
            !client.watching.is_empty() && self.db.is_broken(conn, &client.watching, self.now.wall);
        self.unwatch(conn, client);
        client.asking = false;
        if transaction.failed {
            return Err(text("EXECABORT Transaction discarded because of previous errors."));
        }
        if watched_gone {
            Reply::new(&mut self.scratch, client.protocol).null_array();
            return Ok(());
        }
        Reply::new(&mut self.scratch, client.protocol).array(transaction.commands.len());
        client.in_exec = true;
        let began_ns = self.last_reading_ns;
        client.exec = Some(Box::new(Executing { transaction, next: 0, call: None, began_ns }));
        self.exec_commands(conn, client);
        if let Some(executing) = &mut client.exec {
            executing.call = Some((spec, args.to_owned()));
        }
        Ok(())
    }

    /// The rest of a transaction, behind a script that had to wait.
    pub(super) fn exec_rest(&mut self, conn: ConnId, client: &mut Client) {
        self.exec_commands(conn, client);
        if client.blocked.is_none()
            && let Some(executing) = client.exec.take()
            && let Some((spec, args)) = executing.call
        {
            self.command_done(client, spec, args.view(), executing.began_ns, false);
        }
    }

    /// Executes what is left of a transaction, until the end or a script that has to wait.
    fn exec_commands(&mut self, conn: ConnId, client: &mut Client) {
        let Some(mut executing) = client.exec.take() else { return };
        while let Some((spec, args)) = executing.transaction.commands.get(executing.next) {
            executing.next += 1;
            let reply_at = self.scratch.len();
            let flags_before = client.reply_mode;
            let began_ns = self.last_reading_ns;
            self.db.refuses_patterns = false;
            let permitted = if self.acl.is_unrestricted(client.user) {
                Ok(())
            } else {
                self.permit(conn, client, spec, args.view(), Context::Multi)
            };
            let db = client.db;
            let outcome = match permitted {
                Ok(()) => self.run(conn, client, spec, args.view()),
                Err(denied) => Err(refused_at_exec(denied)),
            };
            self.feed_monitors(client, db, spec, args.view());
            client.reply_mode = flags_before;
            if client.blocked == Some(Blocked::Running) {
                client.exec = Some(executing);
                return;
            }
            let fails = outcome.is_err();
            if let Err(fault) = outcome {
                self.scratch.truncate(reply_at);
                Reply::new(&mut self.scratch, client.protocol).error(&fault.0);
            }
            if runs_script(spec) {
                self.script_call_done(client, spec, args.view(), began_ns, reply_at);
                continue;
            }
            if fails {
                self.count_error(reply_at);
            }
            let failed = self.scratch.get(reply_at) == Some(&b'-');
            self.command_done(client, spec, args.view(), began_ns, failed);
        }
        client.in_exec = false;
        if executing.call.is_some() {
            client.exec = Some(executing);
        }
    }

    /// Ends a transaction without executing it.
    pub(super) fn discard(&mut self, conn: ConnId, client: &mut Client) {
        client.transaction = None;
        client.asking = false;
        self.unwatch(conn, client);
    }

    pub(super) fn unwatch(&mut self, conn: ConnId, client: &mut Client) {
        let keys = std::mem::take(&mut client.watching);
        self.db.unwatch(conn, &keys);
    }

    /// Lets the clients go on that a pause held back.
    pub(super) fn resume_paused(&mut self) {
        self.db.expiry = ExpiryMode::Delete;
        let held = self.client_pause.is_some();
        self.replicate(|replication, now, actions| replication.hold_stream(held, now, actions));
        self.resume_migrations();
        self.resume(Blocked::Paused);
    }

    /// Lets the clients go on that wait for this.
    pub(super) fn resume(&mut self, why: Blocked) {
        let mut waiting = Vec::new();
        for (conn, state) in &mut self.conns {
            if let ConnKind::Client(Some(client)) = &mut state.kind
                && client.blocked == Some(why)
            {
                client.blocked = None;
                waiting.push((client.last_active, *conn));
            }
        }
        waiting.sort_unstable();
        self.wake.extend(waiting.into_iter().map(|(_, conn)| conn));
    }

    /// Ends what a client is blocked in, and serves what it sent meanwhile.
    pub(super) fn unblock(&mut self, conn: ConnId, write: impl FnOnce(&mut Reply<'_>)) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let ConnKind::Client(Some(client)) = &mut state.kind else { return };
        if !matches!(client.blocked, Some(Blocked::Wait | Blocked::Disk | Blocked::Migrate)) {
            return;
        }
        client.blocked = None;
        self.tell(conn, write);
        self.wake.push(conn);
    }

    /// The same with `+OK`.
    pub(super) fn unblock_ok(&mut self, conn: ConnId) {
        self.unblock(conn, |reply: &mut Reply<'_>| reply.simple("OK"));
    }
}

/// EVAL, FCALL and their like.
const fn runs_script(spec: &Spec) -> bool {
    matches!(spec.run, Run::Node(Verb::Eval | Verb::Fcall))
}

/// True for what is executed at once between MULTI and EXEC too.
const fn is_immediate(spec: &Spec) -> bool {
    matches!(
        spec.run,
        Run::Node(Verb::Exec | Verb::Discard | Verb::Multi | Verb::Watch | Verb::Quit | Verb::Reset)
    )
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handled {
    /// It was executed, or must be tried again later.
    Run,
    /// It waits for EXEC.
    Queued,
    /// It was refused before it could be executed.
    Rejected,
}

/// The outcome of the checks.
enum Checked {
    Run(&'static Spec),
    Later(Blocked),
}

/// Redis' words for a command that does not exist.
fn unknown(why: Unresolved, args: Args<'_>) -> Fault {
    if why == Unresolved::Subcommand {
        return Fault::subcommand(&args[1], &shown(&args[0], 128).to_uppercase());
    }
    let mut list = String::new();
    for arg in args.from(1).iter() {
        if list.len() >= 128 {
            break;
        }
        let word = shown(arg, 128 - list.len());
        list.extend(["'", &word, "' "]);
    }
    let name = shown(&args[0], 128);
    Fault::new(format!("ERR unknown command '{name}', with args beginning with: {list}"))
}

/// What EXEC is refused with when it is refused for what it would do. A redirection stays one: the client follows it.
fn exec_aborted(fault: Fault) -> Fault {
    let redirects = ["MOVED ", "ASK ", "CROSSSLOT ", "TRYAGAIN ", "CLUSTERDOWN "];
    if redirects.iter().any(|word| fault.0.starts_with(word)) {
        return fault;
    }
    Fault::new(format!("EXECABORT Transaction discarded because of: {}", fault.0))
}

/// Room for `more` bytes of input. Where a long argument is arriving, the last step takes just what it needs: memory
/// never is more than twice what has come, and a whole argument has nothing to spare.
fn make_room_for(input: &mut Vec<u8>, more: usize, arriving: Option<(usize, usize)>) {
    let needed = input.len() + more;
    let Some((start, len)) = arriving else { return };
    let whole = start + len + 2;
    if needed > input.capacity() && (needed..=needed * 2).contains(&whole) {
        input.reserve_exact(whole - input.len());
    }
}

const fn tells_of_subscriptions(spec: &Spec) -> bool {
    matches!(
        spec.run,
        Run::Node(
            Verb::Subscribe
                | Verb::PSubscribe
                | Verb::SSubscribe
                | Verb::Unsubscribe
                | Verb::PUnsubscribe
                | Verb::SUnsubscribe
        )
    )
}
