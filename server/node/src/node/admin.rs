//! Commands about the node: INFO, CONFIG, COMMAND, DEBUG, saving, shutting down, roles.

use super::client::{Blocked, Client};
use super::cluster_glue::{settings as cluster_settings, write_reply};
use super::dispatch::Step;
use super::replication_glue::settings as replication_settings;
use super::{LOADING, Node, encoding_limits, text};
use crate::command::{Fault, NOT_INTEGER, SYNTAX, Spec, Verb, class, is, shown, write_help};
use crate::config::Key;
use crate::io::{ConnId, Effect, LogLevel};
use crate::keyspace::number::parse_i64;
use crate::replication::{MasterAddr, RoleView};
use crate::resp::Args;

const CONFIG_HELP: [&str; 8] = [
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
];

impl Node {
    pub(super) fn run_admin(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        verb: Verb,
        spec: &'static Spec,
        args: Args<'_>,
    ) -> Result<Step, Fault> {
        match verb {
            Verb::Info => {
                let sections: Vec<String> =
                    args.from(1).iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
                let info = self.info(&sections);
                self.reply(client).verbatim(&info);
            }
            Verb::Config => return self.config_command(conn, client, args),
            Verb::Command => self.command_command(client, args)?,
            Verb::Time => {
                let ms = self.now.wall.0;
                let mut reply = self.reply(client);
                reply.array(2);
                reply.bulk((ms / 1000).to_string().as_bytes());
                reply.bulk((ms % 1000 * 1000).to_string().as_bytes());
            }
            Verb::Debug if is(&args[1], "LOADAOF") => self.debug_loadaof(conn, client)?,
            Verb::Debug if is(&args[1], "RELOAD") => self.debug_reload(conn, client, args)?,
            Verb::Debug if is(&args[1], "CONFIG-REWRITE-FORCE-ALL") && args.len() == 2 => {
                return self.rewrite_config(conn, client, true);
            }
            Verb::Debug => self.debug(client, args)?,
            Verb::Shutdown => self.shutdown(conn, client, args)?,
            Verb::LastSave => {
                let at = self.files.saves.last.0 / 1000;
                self.reply(client).int(at as i64);
            }
            Verb::Save => {
                self.save(conn)?;
                client.blocked = Some(Blocked::Disk);
            }
            Verb::BgSave => {
                let schedule = match args.len() {
                    1 => false,
                    2 if is(&args[1], "SCHEDULE") => true,
                    _ => return Err(SYNTAX),
                };
                let answer = self.background_save(schedule, client.in_exec)?;
                self.reply(client).simple(answer);
            }
            Verb::BgRewriteAof => {
                let answer = self.background_rewrite(client.in_exec)?;
                self.reply(client).simple(answer);
            }
            Verb::Role => self.role(client),
            Verb::ReplConf | Verb::PSync | Verb::Sync => self.replica_command(conn, client, args),
            Verb::ReplicaOf => {
                if self.config.flag(Key::ClusterEnabled) {
                    return Err(text("ERR REPLICAOF not allowed in cluster mode."));
                }
                self.replicaof(client, args)?;
            }
            Verb::Failover => {
                if self.config.flag(Key::ClusterEnabled) {
                    return Err(text(
                        "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.",
                    ));
                }
                self.failover(args)?;
                self.reply(client).ok();
            }
            Verb::Cluster => {
                let words: Vec<&[u8]> = args.from(1).iter().collect();
                let loading = self.files.is_loading();
                let value = self.cluster_command(&words, loading)?;
                write_reply(&mut self.reply(client), &value);
            }
            Verb::Migrate => self.begin_migrate(conn, client, args)?,
            Verb::Memory => self.memory(client, args)?,
            other => {
                debug_assert!(false, "{other:?} is a session command");
                return Err(Fault::new(format!("ERR '{}' is not supported by this server", spec.name)));
            }
        }
        Ok(Step::Done)
    }

    fn replica_command(&mut self, conn: ConnId, client: &Client, args: Args<'_>) {
        // The room writes its replies itself, behind what stands before them.
        self.flush_scratch(conn);
        let words: Vec<&[u8]> = args.iter().collect();
        let peer = client.peer.ip();
        self.replicate(|replication, now, actions| {
            replication.client_command(conn, peer, &words, now, actions);
        });
    }

    fn replicaof(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let peer = client.peer;
        if is(&args[1], "NO") && is(&args[2], "ONE") {
            if self.is_replica() {
                self.replicate(super::super::replication::Replication::promote);
                self.log(LogLevel::Notice, format!("MASTER MODE enabled (user request from '{peer}')"));
            }
        } else {
            let port = parse_i64(&args[2]).and_then(|port| u16::try_from(port).ok());
            let port = port.ok_or(text("ERR Invalid master port"))?;
            let host = std::str::from_utf8(&args[1]).map_err(|_| text("ERR Invalid master host"))?;
            let master = MasterAddr::new(host, port);
            if self.replication.link_status().is_some_and(|link| link.master == master) {
                self.reply(client).simple("OK Already connected to specified master");
                return Ok(());
            }
            self.abort_migrations();
            self.end_all_waits();
            self.follow(master);
            self.log(
                LogLevel::Notice,
                format!("REPLICAOF {host}:{port} enabled (user request from '{peer}')"),
            );
        }
        self.note_master();
        self.db.expiry = self.expiry_mode();
        self.reply(client).ok();
        Ok(())
    }

    fn role(&mut self, client: &Client) {
        let role = self.replication.role();
        let mut reply = self.reply(client);
        match role {
            RoleView::Master { offset, replicas } => {
                reply.array(3);
                reply.bulk(b"master");
                reply.int(offset as i64);
                reply.array(replicas.len());
                for (ip, port, offset) in replicas {
                    reply.array(3);
                    reply.bulk(ip.as_bytes());
                    reply.bulk(port.to_string().as_bytes());
                    reply.bulk(offset.to_string().as_bytes());
                }
            }
            RoleView::Replica { master, state, offset } => {
                reply.array(5);
                reply.bulk(b"slave");
                reply.bulk(master.host().as_bytes());
                reply.int(i64::from(master.port()));
                reply.bulk(state.as_bytes());
                reply.int(offset.map_or(-1, |offset| offset as i64));
            }
        }
    }

    fn config_command(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<Step, Fault> {
        let verb = args[1].to_ascii_lowercase();
        let arity = |fits: bool| {
            let name = format!("config|{}", String::from_utf8_lossy(&args[1]).to_lowercase());
            if fits { Ok(()) } else { Err(Fault::arity(&name)) }
        };
        match &verb[..] {
            b"get" => {
                arity(args.len() >= 3)?;
                let patterns: Vec<&[u8]> = args.from(2).iter().collect();
                let found = self.config.get(&patterns);
                let mut reply = self.reply(client);
                reply.map(found.len());
                for (name, value) in found {
                    reply.bulk(name.as_bytes());
                    reply.bulk(value.as_bytes());
                }
            }
            b"set" => {
                arity(args.len() >= 4)?;
                if self.unsettled.is_some() {
                    return Ok(Step::Later(Blocked::Paused));
                }
                if !args.len().is_multiple_of(2) {
                    return Err(Fault::arity("config|set"));
                }
                let pairs: Vec<(&[u8], &[u8])> =
                    (2..args.len()).step_by(2).map(|index| (&args[index], &args[index + 1])).collect();
                if self.files.is_loading() && pairs.iter().any(|(name, _)| is_fixed_while_loading(name)) {
                    return Err(text(LOADING));
                }
                let before = self.config.clone();
                let may_set_protected = self.allows(Key::EnableProtectedConfigs, client);
                let changed = self.config.set(&pairs, may_set_protected);
                let changed = changed.map_err(|error| Fault::new(format!("ERR {error}")))?;
                self.config_changed(&changed);
                if changed.contains(&Key::Dir) {
                    // Whether it can be entered is not known yet.
                    let waiting = (!client.in_exec).then_some(conn);
                    self.change_dir(waiting, before.text(Key::Dir).to_owned());
                    if waiting.is_some() {
                        client.blocked = Some(Blocked::Disk);
                        return Ok(Step::Done);
                    }
                } else if self.settle_outside(conn, client, before, &changed) {
                    return Ok(Step::Done);
                }
                self.reply(client).ok();
            }
            b"resetstat" => {
                arity(args.len() == 2)?;
                self.stats = super::Stats::default();
                (self.db.hits, self.db.misses) = (0, 0);
                (self.db.expired, self.db.evicted) = (0, 0);
                self.replication.reset_counts();
                self.peak_memory = 0;
                self.db.keys.reset_freed();
                self.reply(client).ok();
            }
            b"rewrite" => {
                arity(args.len() == 2)?;
                return self.rewrite_config(conn, client, false);
            }
            b"help" => {
                arity(args.len() == 2)?;
                write_help(&mut self.reply(client), "CONFIG", &CONFIG_HELP);
            }
            _ => return Err(Fault::subcommand(&args[1], "CONFIG")),
        }
        Ok(Step::Done)
    }

    /// CONFIG REWRITE; `all`: with the defaults.
    pub(super) fn rewrite_config(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        all: bool,
    ) -> Result<Step, Fault> {
        let Some(path) = self.config.file.clone() else {
            return Err(text("ERR The server is running without a config file"));
        };
        if client.in_exec {
            return Err(text("ERR CONFIG REWRITE inside MULTI is not supported by this server"));
        }
        if self.is_rewriting_config() {
            return Ok(Step::Later(Blocked::Paused));
        }
        self.begin_config_rewrite(conn, path, all);
        client.blocked = Some(Blocked::Disk);
        Ok(Step::Done)
    }

    /// Directives changed: rooms take their new settings.
    pub(super) fn config_changed(&mut self, changed: &[Key]) {
        self.db.set_limits(encoding_limits(&self.config));
        self.slow.follow(&self.config);
        self.output_limits_changed();
        if changed.contains(&Key::Requirepass) {
            self.take_requirepass();
        }
        self.db.want_notifications(class::wanted(self.config.text(Key::NotifyKeyspaceEvents)));
        self.memory_settings_changed();
        self.tracks_latency = self.config.flag(Key::LatencyTracking);
        self.replication.set_settings(replication_settings(&self.config));
        let settings = cluster_settings(&self.config);
        self.with_cluster(|cluster, _| cluster.set_settings(settings));
        if changed.iter().any(|key| matches!(key, Key::Appendonly | Key::Appendfsync)) {
            self.aof_settings_changed();
        }
    }

    fn debug(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        match &args[1].to_ascii_lowercase()[..] {
            b"sleep" if args.len() == 3 => {
                let seconds: Option<f64> =
                    std::str::from_utf8(&args[2]).ok().and_then(|text| text.parse().ok());
                let seconds = seconds
                    .filter(|seconds| *seconds >= 0.0)
                    .ok_or(text("ERR value is not a valid float"))?;
                self.effects.push(Effect::Busy { us: (seconds * 1e6) as u64 });
                // What follows in this turn happens after the sleep.
                let ms = (seconds * 1e3) as u64;
                self.now.mono = self.now.mono.plus_ms(ms);
                self.now.wall.0 = self.now.wall.0.saturating_add(ms);
                self.asked_busy_ns += (seconds * 1e9) as u64;
                self.reply(client).ok();
            }
            b"pause-cron" if args.len() == 3 => {
                self.cron_paused = parse_i64(&args[2]).ok_or(NOT_INTEGER)? != 0;
                self.reply(client).ok();
            }
            // Tables here are not resized as a whole, and replies have buffers of their own size: nothing to hold back.
            b"dict-resizing" if args.len() == 3 => self.reply(client).ok(),
            b"replybuffer" if args.len() == 4 => self.reply(client).ok(),
            b"set-active-expire" if args.len() == 3 => {
                self.active_expire = parse_i64(&args[2]).ok_or(NOT_INTEGER)? != 0;
                self.reply(client).ok();
            }
            b"drop-cluster-packet-filter" if args.len() == 3 => {
                let filter = parse_i64(&args[2]).ok_or(NOT_INTEGER)?;
                self.with_cluster(|cluster, _| cluster.set_drop_filter(u16::try_from(filter).ok()));
                self.reply(client).ok();
            }
            b"clusterlink" if args.len() == 5 && is(&args[2], "KILL") => {
                let (to, from) = match &args[3].to_ascii_lowercase()[..] {
                    b"to" => (true, false),
                    b"from" => (false, true),
                    b"all" => (true, true),
                    _ => return Err(Fault::new(format!("ERR Unknown direction {}", shown(&args[3], 128)))),
                };
                let id = &args[4];
                let known = self.with_cluster(|cluster, turn| cluster.kill_links(id, to, from, turn));
                if known != Some(true) {
                    return Err(Fault::new(format!("ERR Unknown node {}", shown(id, 128))));
                }
                self.reply(client).ok();
            }
            b"log" if args.len() >= 3 => {
                self.log(crate::io::LogLevel::Warning, format!("DEBUG LOG: {}", shown(&args[2], 1024)));
                self.reply(client).ok();
            }
            b"populate" if args.len() >= 3 => {
                let count = parse_i64(&args[2]).filter(|&count| count >= 0).ok_or(NOT_INTEGER)?;
                let prefix = args.get(3).unwrap_or(b"key");
                let size = args.get(4).map(|size| parse_i64(size).ok_or(NOT_INTEGER)).transpose()?;
                for number in 0..count {
                    let key = [prefix, format!(":{number}").as_bytes()].concat();
                    if self.db.keys.get(&key).is_none() {
                        let mut value = format!("value:{number}").into_bytes();
                        if let Some(size) = size {
                            value.resize(size.max(0) as usize, 0);
                        }
                        self.db.keys.set(&key, crate::keyspace::Value::string(&value), None, self.now.wall);
                    }
                }
                self.reply(client).ok();
            }
            b"protocol" if args.len() == 3 => self.debug_protocol(client, &args[2])?,
            _ => return self.debug_data(client, args),
        }
        Ok(())
    }

    fn shutdown(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        let words: Vec<&[u8]> = args.from(1).iter().collect();
        let has = |name: &str| words.iter().any(|word| is(word, name));
        let known = ["SAVE", "NOSAVE", "NOW", "FORCE", "ABORT"];
        let all_known = words.iter().all(|word| known.iter().any(|known| is(word, known)));
        let contradicts = has("SAVE") && has("NOSAVE") || has("ABORT") && words.len() > 1;
        if !all_known || contradicts {
            return Err(SYNTAX);
        }
        if has("ABORT") {
            if !std::mem::take(&mut self.terminate_wanted) && !std::mem::take(&mut self.exiting) {
                return Err(text("ERR No shutdown in progress."));
            }
            self.log(crate::io::LogLevel::Notice, "Shutdown manually aborted.");
            self.refuse_shutdown();
            self.reply(client).ok();
            return Ok(());
        }
        if let Some(running) = self.scripts.running.as_ref().filter(|_| !has("NOSAVE")) {
            return Err(running.busy());
        }
        let save = has("SAVE") || !has("NOSAVE") && !self.config.save_points().is_empty();
        self.shut_down(save);
        // It is answered only if it fails.
        client.blocked = Some(Blocked::Disk);
        self.files.saves.shutdown_by = Some(conn);
        Ok(())
    }
}

/// Settings that would move the files from under a load that is going on.
fn is_fixed_while_loading(name: &[u8]) -> bool {
    ["appendonly", "dir", "repl-diskless-load"].iter().any(|fixed| is(name, fixed))
}
