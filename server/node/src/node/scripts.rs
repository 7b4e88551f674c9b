//! EVAL and FCALL: which script, with which keys, and whether it may run at all. How it runs is in [`script_runs`],
//! what it calls in [`script_calls`].
//!
//! [`script_runs`]: super::script_runs
//! [`script_calls`]: super::script_calls

use std::collections::BTreeMap;

use mlua::Function;

use super::client::Client;
use super::dispatch::Step;
use super::script_runs::Running;
use super::{Node, text};
use crate::command::{Fault, Spec, Verb, flag};
use crate::config::Key;
use crate::io::ConnId;
use crate::keyspace::Slot;
use crate::keyspace::number::parse_i64;
use crate::replication::commands::CommandBatch;
use crate::resp::Args;
use crate::script::{Interpreter, Job, Kind, Libraries, ScriptFlags, ScriptRandom, of_script, script_name};

/// Scripts and functions of a node.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    /// For scripts, once there was one.
    pub eval: Option<Interpreter>,
    /// For functions, once there was one.
    pub functions: Option<Interpreter>,
    /// Scripts by name.
    pub cache: BTreeMap<String, Cached>,
    pub libraries: Libraries,
    /// The one that runs, or waits for its next turn.
    pub running: Option<Box<Running>>,
    /// Memory was short when the command began that is being executed.
    pub memory_is_short: bool,
    /// The errors in the reply of the last script are in the statistics already.
    pub errors_are_counted: bool,
    /// How many errors were counted when its last command ended: it fails if there are more when it ends.
    pub errors_before: u64,
    /// For `math.random` of all of them; it goes on from script to script.
    random: ScriptRandom,
    /// What a master sent while a script ran.
    pub held_batches: Vec<(u32, CommandBatch)>,
    /// `DEBUG SET-DISABLE-DENY-SCRIPTS`
    pub calls_anything: bool,
}

/// A script that was seen.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    pub body: Function,
    pub flags: ScriptFlags,
    pub bytes: usize,
}

impl Scripts {
    /// True while a script has begun and not ended.
    pub const fn is_under_way(&self) -> bool {
        self.running.is_some()
    }

    /// The interpreter of this kind; made if it is the first time.
    pub fn interpreter(&mut self, kind: Kind) -> Result<&mut Interpreter, Fault> {
        let place = match kind {
            Kind::Scripts => &mut self.eval,
            Kind::Functions => &mut self.functions,
        };
        if place.is_none() {
            *place = Some(
                Interpreter::new(kind, self.random.clone())
                    .map_err(|error| Fault::new(format!("ERR {error}")))?,
            );
        }
        place.as_mut().ok_or(text("ERR no interpreter"))
    }

    /// The script of this text, compiled if it was not seen before.
    pub fn script(&mut self, name: &str, body: &[u8]) -> Result<Cached, Fault> {
        if let Some(cached) = self.cache.get(name) {
            return Ok(cached.clone());
        }
        let (flags, code_at) = of_script(body).map_err(|error| Fault::new(format!("ERR {error}")))?;
        let compiled = self.interpreter(Kind::Scripts)?.compile(&body[code_at..], "@user_script");
        let compiled = compiled
            .map_err(|error| Fault::new(format!("ERR Error compiling script (new function): {error}")))?;
        let cached = Cached { body: compiled, flags, bytes: body.len() };
        self.cache.insert(name.to_owned(), cached.clone());
        Ok(cached)
    }

    /// Bytes of the texts of scripts.
    pub fn cached_bytes(&self) -> usize {
        self.cache.iter().map(|(name, cached)| name.len() + cached.bytes + size_of::<Cached>()).sum()
    }

    /// Bytes in the interpreters: of scripts, and of functions.
    pub fn interpreter_bytes(&self) -> (usize, usize) {
        let bytes =
            |interpreter: &Option<Interpreter>| interpreter.as_ref().map_or(0, Interpreter::used_memory);
        (bytes(&self.eval), bytes(&self.functions))
    }

    /// The flags of this call's command: those of the script, if it declares any.
    pub fn flags_of_call(&self, spec: &Spec, args: Args<'_>) -> u32 {
        let Some(first) = args.get(1) else { return spec.flags };
        let declared = match () {
            () if spec.run.is(Verb::Fcall) => self.libraries.flags(first),
            () if !spec.run.is(Verb::Eval) => None,
            () if spec.name.starts_with("evalsha") => {
                let name = String::from_utf8_lossy(first).to_ascii_lowercase();
                self.cache.get(&name).map(|cached| cached.flags)
            }
            () if first.starts_with(b"#!") => of_script(first).ok().map(|(flags, _)| flags),
            () => None,
        };
        declared.map_or(spec.flags, |declared| declared.of_command(spec.flags))
    }
}

/// A script that is about to run.
pub(super) struct Start {
    pub kind: Kind,
    pub name: String,
    pub body: Function,
    pub flags: ScriptFlags,
    pub keys: usize,
}

impl Node {
    /// `EVAL`, `EVALSHA` and their forms that only read.
    pub(super) fn eval(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        spec: &'static Spec,
        args: Args<'_>,
    ) -> Result<Step, Fault> {
        self.scripts.errors_before = self.stats.error_replies;
        // Before the commands of the script.
        self.show_to_monitors(client, args);
        let by_name = spec.name.starts_with("evalsha");
        const NO_SCRIPT: Fault = text("NOSCRIPT No matching script. Please use EVAL.");
        if by_name && args[1].len() != 40 {
            return Err(NO_SCRIPT);
        }
        let keys = parse_i64(&args[2]).ok_or(crate::command::NOT_INTEGER)?;
        let keys = key_count(keys, args)?;
        let (name, cached) = if by_name {
            let name = String::from_utf8_lossy(&args[1]).to_ascii_lowercase();
            let cached = self.scripts.cache.get(&name).cloned().ok_or(NO_SCRIPT)?;
            (name, cached)
        } else {
            let name = script_name(&args[1]);
            let cached = self.scripts.script(&name, &args[1])?;
            (name, cached)
        };
        let start = Start { kind: Kind::Scripts, name, body: cached.body, flags: cached.flags, keys };
        self.start_script(conn, client, spec, args, start)
    }

    /// `FCALL` and `FCALL_RO`
    pub(super) fn fcall(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        spec: &'static Spec,
        args: Args<'_>,
    ) -> Result<Step, Fault> {
        self.scripts.errors_before = self.stats.error_replies;
        self.show_to_monitors(client, args);
        let found = self.scripts.libraries.find(&args[1]).ok_or(text("ERR Function not found"))?;
        let keys = parse_i64(&args[2]).ok_or(text("ERR Bad number of keys provided"))?;
        let keys = key_count(keys, args)?;
        let crate::script::Found { name, function } = found;
        let start = Start { kind: Kind::Functions, name, body: function.body, flags: function.flags, keys };
        self.start_script(conn, client, spec, args, start)
    }

    fn start_script(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        spec: &'static Spec,
        args: Args<'_>,
        start: Start,
    ) -> Result<Step, Fault> {
        let reads = spec.has(flag::READONLY);
        self.may_start(&start, reads)?;
        let Start { kind, name, body, flags, keys } = start;
        let owned = |args: Args<'_>| args.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut keys: Vec<Vec<u8>> = owned(args.from(3)).into_iter().take(keys).collect();
        let rest = owned(args.from(3 + keys.len()));
        let slot = keys.first().filter(|_| self.cluster.is_some()).map(|key| Slot::of_key(key).0);
        let keys = std::mem::take(&mut keys);
        let (job_name, protocol) = (name.clone(), client.protocol);
        let job = match kind {
            Kind::Scripts => Job::Script { name: job_name, body, keys, args: rest, protocol },
            Kind::Functions => Job::Function { name: job_name, body, keys, args: rest, protocol },
        };
        let session = self.scripts.interpreter(kind)?.session(job);
        let session = session.map_err(|error| Fault::new(format!("ERR {error}")))?;
        let declared = !flags.has(ScriptFlags::UNDECLARED);
        let mut running = Running::new(conn, kind, name, session, self.now);
        running.read_only = reads || declared && flags.has(ScriptFlags::NO_WRITES);
        running.allows_oom = declared && flags.has(ScriptFlags::ALLOW_OOM);
        running.any_slots = !declared || flags.has(ScriptFlags::ALLOW_CROSS_SLOT);
        running.memory_is_short = self.scripts.memory_is_short;
        running.slot = slot;
        Ok(self.begin_run(conn, client, (spec, args), running))
    }

    /// The checks before a script that Redis makes on what it declares.
    fn may_start(&self, start: &Start, reads: bool) -> Result<(), Fault> {
        let flags = start.flags;
        let link_down = self.replication.link_status().is_some_and(|link| !link.up);
        let is_stale = link_down && !self.config.flag(Key::ReplicaServeStaleData);
        if flags.has(ScriptFlags::UNDECLARED) {
            return if is_stale {
                Err(text("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."))
            } else {
                Ok(())
            };
        }
        if flags.has(ScriptFlags::NO_CLUSTER) && self.config.flag(Key::ClusterEnabled) {
            return Err(text("ERR Can not run script on cluster, 'no-cluster' flag is set."));
        }
        if is_stale && !flags.has(ScriptFlags::ALLOW_STALE) {
            return Err(text(
                "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag \
                 is not set on the script.",
            ));
        }
        if !flags.has(ScriptFlags::NO_WRITES) {
            if self.is_replica() && self.config.flag(Key::ReplicaReadOnly) {
                return Err(text("READONLY Can not run script with write flag on readonly replica"));
            }
            self.files.check_scripts_may_write(&self.config)?;
            if reads {
                return Err(text("ERR Can not execute a script with write flag using *_ro command."));
            }
            self.check_good_replicas()?;
        }
        let may_exceed = flags.has(ScriptFlags::ALLOW_OOM) || flags.has(ScriptFlags::NO_WRITES);
        if self.scripts.memory_is_short && !may_exceed {
            return Err(text(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            ));
        }
        Ok(())
    }
}

fn key_count(keys: i64, args: Args<'_>) -> Result<usize, Fault> {
    if keys > args.len() as i64 - 3 {
        return Err(text("ERR Number of keys can't be greater than number of args"));
    }
    usize::try_from(keys).map_err(|_| text("ERR Number of keys can't be negative"))
}
