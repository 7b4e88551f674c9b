//! A script's turns. It runs until it ends or has done a good deal; then the node serves others and it goes on at the
//! end of the next batch. Nobody else may touch the data meanwhile: other commands wait, or are told BUSY once it has
//! run for `busy-reply-threshold`.

use super::client::{Blocked, Client, ConnKind, ReplyMode};
use super::dispatch::Step;
use super::{Node, text};
use crate::command::{Fault, Spec};
use crate::config::Key;
use crate::io::{ConnId, LogLevel, Now, WallMs};
use crate::resp::{Args, OwnedArgs};
use crate::script::{Answer, Asked, Ended, Kind, Progress, Session};

/// What a script may do in one turn, in Lua's instructions: some tens of milliseconds.
const UNITS_AT_ONCE: u32 = 3_000_000;
/// Instructions between two pauses.
const PAUSE_UNITS: u32 = 10_000;
/// What a command counts for.
const CALL_UNITS: u32 = 300;

/// A script that has begun and not ended.
#[derive(Debug)]
pub struct Running {
    pub conn: ConnId,
    pub kind: Kind,
    /// The script's hash, or the function's name.
    pub name: String,
    /// It may not write.
    pub read_only: bool,
    /// It may write though memory is short.
    pub allows_oom: bool,
    /// Keys that it did not declare may be in any slot.
    pub any_slots: bool,
    /// Memory was short when it began.
    pub memory_is_short: bool,
    /// The slot of its keys, once it is known.
    pub slot: Option<u16>,
    /// It has called a command that writes: it cannot be killed, and must not fail for what happens outside.
    pub has_written: bool,
    /// Time stands still for it.
    pub wall: WallMs,
    /// The client that its commands are called by.
    pub caller: Option<Box<Client>>,
    /// Its own client, if that has gone meanwhile.
    pub orphan: Option<Box<Client>>,
    session: Session,
    began: Now,
    began_ns: u64,
    /// The call that runs it, once that had to wait.
    call: Option<(&'static Spec, OwnedArgs)>,
    answer: Option<Answer>,
    is_slow: bool,
    is_killed: bool,
}

impl Running {
    pub fn new(conn: ConnId, kind: Kind, name: String, session: Session, now: Now) -> Self {
        Self {
            conn,
            kind,
            name,
            read_only: false,
            allows_oom: false,
            any_slots: false,
            memory_is_short: false,
            slot: None,
            has_written: false,
            wall: now.wall,
            caller: None,
            orphan: None,
            session,
            began: now,
            began_ns: 0,
            call: None,
            answer: None,
            is_slow: false,
            is_killed: false,
        }
    }

    /// What others are told who come while it runs.
    pub fn busy(&self) -> Fault {
        match self.kind {
            Kind::Scripts => {
                text("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")
            }
            Kind::Functions => text(
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
            ),
        }
    }

    /// The arguments of the call that runs it.
    pub fn args(&self) -> Option<Args<'_>> {
        self.call.as_ref().map(|(_, args)| args.view())
    }

    /// For how long it has been running.
    pub fn duration_ms(&self, now: Now) -> u64 {
        now.mono.ms_since(self.began.mono)
    }
}

impl Node {
    /// The first turn of a script.
    pub(super) fn begin_run(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        (spec, args): (&'static Spec, Args<'_>),
        mut running: Running,
    ) -> Step {
        running.began_ns = self.last_reading_ns;
        self.scripts.errors_before = self.stats.error_replies;
        if let Some(ended) = self.take_turn(client, &mut running) {
            self.end_run(client, running, &ended);
            return Step::Done;
        }
        running.call = Some((spec, args.to_owned()));
        self.scripts.running = Some(Box::new(running));
        client.awaits_mute = client.reply_mode != ReplyMode::On;
        client.blocked = Some(Blocked::Running);
        debug_assert!(self.conns.contains_key(&conn));
        Step::Done
    }

    /// Runs until the script ends, or for a turn.
    fn take_turn(&mut self, client: &Client, running: &mut Running) -> Option<Ended> {
        let mut answer = running.answer.take().unwrap_or(Answer::Go);
        if running.is_killed {
            answer = Answer::End("Script killed by user with SCRIPT KILL...");
            self.log(LogLevel::Warning, "Lua script killed by user with SCRIPT KILL.");
        }
        let mut units = 0;
        loop {
            let asked = match running.session.resume(answer) {
                Progress::Ended(ended) => break Some(ended),
                Progress::Asks(asked) => asked,
            };
            units += if matches!(asked, Asked::Pause) { PAUSE_UNITS } else { CALL_UNITS };
            answer = self.answer_script(client, running, asked);
            if units >= UNITS_AT_ONCE {
                running.answer = Some(answer);
                break None;
            }
        }
    }

    /// It has ended: its reply goes to the scratch buffer.
    fn end_run(&mut self, client: &Client, running: Running, ended: &Ended) {
        let Running { kind, session, .. } = running;
        if let Ok(interpreter) = self.scripts.interpreter(kind) {
            interpreter.recover(session);
        }
        self.last_reading_ns = running.began_ns;
        self.db.select(client.db);
        for error in &ended.errors {
            self.stats.count_error(format!("-{error}").as_bytes());
        }
        self.scripts.errors_are_counted = true;
        self.scratch.extend_from_slice(&ended.reply);
    }

    /// The next turn of a script that is under way.
    pub(super) fn go_on_with_script(&mut self) {
        let Some(mut running) = self.scripts.running.take() else { return };
        let conn = running.conn;
        let threshold_ms = self.config.uint(Key::BusyReplyThreshold);
        let elapsed_ms = running.duration_ms(self.now);
        if !running.is_slow && threshold_ms > 0 && elapsed_ms >= threshold_ms {
            running.is_slow = true;
            let how = if running.kind == Kind::Scripts { "SCRIPT KILL" } else { "FUNCTION KILL" };
            let name = &running.name;
            self.log(
                LogLevel::Warning,
                format!(
                    "Slow script detected: still in execution after {elapsed_ms} milliseconds. You can try killing the \
                     script using the {how} command. Script name is: {name}."
                ),
            );
            self.resume(Blocked::Script);
        }
        let here = self.conns.get_mut(&conn).and_then(|state| match &mut state.kind {
            ConnKind::Client(client) => client.take(),
            _ => None,
        });
        let is_here = here.is_some();
        let Some(mut client) = here.or_else(|| running.orphan.take()) else { return };
        self.db.expiry = self.expiry_mode();
        debug_assert!(self.scratch.is_empty());
        match self.take_turn(&client, &mut running) {
            None => {
                if !is_here {
                    running.orphan = Some(client);
                    self.scripts.running = Some(running);
                    return;
                }
                self.scripts.running = Some(running);
            }
            Some(ended) => self.finish_call(conn, &mut client, *running, &ended),
        }
        if is_here {
            self.flush_scratch(conn);
            client.closing |= std::mem::take(&mut self.served_ends);
            let closing = client.closing && client.blocked.is_none();
            if client.blocked.is_none() {
                self.wake.push(conn);
            }
            if let Some(state) = self.conns.get_mut(&conn) {
                state.protocol = client.protocol;
                state.kind = ConnKind::Client(Some(client));
            }
            if closing {
                self.close(conn, true);
            }
        }
        self.scratch.clear();
        if !self.scripts.is_under_way() {
            self.others_go_on();
        }
    }

    /// What is done behind every command, for one whose script had to wait; then the rest of its transaction.
    fn finish_call(&mut self, conn: ConnId, client: &mut Client, mut running: Running, ended: &Ended) {
        let call = running.call.take();
        let began_ns = running.began_ns;
        self.end_run(client, running, ended);
        client.blocked = None;
        if let Some((spec, args)) = call {
            self.script_call_done(client, spec, args.view(), began_ns, 0);
        }
        if client.exec.is_some() {
            self.exec_rest(conn, client);
        }
        if client.blocked.is_none() {
            self.after_command(client);
            self.stats.commands += 1;
            client.asking = false;
        }
        if client.awaits_mute {
            self.scratch.clear();
            client.awaits_mute = client.blocked.is_some();
        }
    }

    /// Statistics of a script's call, whose reply begins at `reply_at` of the scratch buffer.
    pub(super) fn script_call_done(
        &mut self,
        client: &Client,
        spec: &'static Spec,
        args: Args<'_>,
        began_ns: u64,
        reply_at: usize,
    ) {
        if !std::mem::take(&mut self.scripts.errors_are_counted) {
            self.count_error(reply_at);
        }
        let failed = self.stats.error_replies > self.scripts.errors_before;
        self.command_done(client, spec, args, began_ns, failed);
    }

    /// A script has ended, after others had to wait for it.
    fn others_go_on(&mut self) {
        self.resume(Blocked::Script);
        let held = std::mem::take(&mut self.scripts.held_batches);
        for (db, batch) in held {
            self.apply(db, &batch);
        }
    }

    /// Must this command wait, because a script runs? It is told BUSY once that takes long.
    pub(super) fn yields_to_script(&self, allows_busy: bool) -> Result<bool, Fault> {
        let Some(running) = &self.scripts.running else { return Ok(false) };
        match (running.is_slow, allows_busy) {
            (false, _) => Ok(true),
            (true, true) => Ok(false),
            (true, false) => Err(running.busy()),
        }
    }

    /// `SCRIPT KILL`, `FUNCTION KILL`
    pub(super) fn kill_script(&mut self, kind: Kind) -> Result<(), Fault> {
        let Some(running) = &mut self.scripts.running else {
            return Err(text("NOTBUSY No scripts in execution right now."));
        };
        if running.has_written {
            return Err(text(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait \
                 the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
            ));
        }
        if running.kind != kind {
            return Err(running.busy());
        }
        running.is_killed = true;
        Ok(())
    }
}
