//! DEBUG subcommands about data: digests, a reload, the looks of a value, replication ids.

use super::client::{Blocked, Client};
use super::{Node, text};
use crate::command::{Fault, dataset_digest, hex, key_digest, shown};
use crate::io::{ConnId, Effect};
use crate::keyspace::Usage;
use crate::rdb::{RdbDecoder, RdbEvent, SnapshotEncoder, SnapshotUse, aux_fields, dump};
use crate::resp::Args;

/// Bytes encoded and decoded at a time.
const PIECE_BYTES: usize = 1 << 20;

impl Node {
    /// The subcommands that `debug` does not know.
    pub(super) fn debug_data(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        match &args[1].to_ascii_lowercase()[..] {
            b"digest" if args.len() == 2 => {
                let digest = dataset_digest(&self.db);
                self.reply(client).simple(&hex(&digest));
            }
            b"digest-value" if args.len() >= 2 => {
                let digests: Vec<_> =
                    args.from(2).iter().map(|key| key_digest(self.db.keys.get(key))).collect();
                let mut reply = self.reply(client);
                reply.array(digests.len());
                for digest in &digests {
                    reply.simple(&hex(digest));
                }
            }
            b"object" if args.len() == 3 => {
                let entry = self.db.keys.get(&args[2]).ok_or(crate::command::NO_SUCH_KEY)?;
                let idle_s = Usage::idle_s(entry.usage_bits(), self.now.wall);
                // No address: it would tell of this process's memory what nobody needs, and differ between runs.
                let line = format!(
                    "Value at:0x0 refcount:{} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_s}",
                    entry.value().references(),
                    entry.value().encoding(),
                    dump::value_bytes(entry.value().view()),
                    entry.usage_bits() & 0x00ff_ffff,
                );
                self.reply(client).simple(&line);
            }
            b"change-repl-id" if args.len() == 2 => {
                self.log(
                    crate::io::LogLevel::Notice,
                    "Changing replication IDs after receiving change-repl-id",
                );
                self.replication.change_id();
                self.reply(client).ok();
            }
            b"aof-flush-sleep" if args.len() == 3 => {
                let us = crate::keyspace::number::parse_i64(&args[2]).ok_or(crate::command::NOT_INTEGER)?;
                self.files.flush_sleep_us = u64::try_from(us).unwrap_or(0);
                self.reply(client).ok();
            }
            b"set-disable-deny-scripts" if args.len() == 3 => {
                let set = crate::keyspace::number::parse_i64(&args[2]).unwrap_or(0);
                self.scripts.calls_anything = set != 0;
                self.reply(client).ok();
            }
            b"error" if args.len() == 3 => {
                let error = shown(&args[2], 1024);
                self.reply(client).error(&error);
            }
            b"stringmatch-len" if args.len() == 4 => {
                let len =
                    crate::keyspace::number::parse_i64(&args[2]).and_then(|len| usize::try_from(len).ok());
                let len = len.filter(|&len| len <= 1 << 24).ok_or(crate::command::NOT_INTEGER)?;
                let found = crate::config::glob_matches(&args[3], &vec![b'a'; len], false);
                self.reply(client).bool(found);
            }
            b"quicklist-packed-threshold" if args.len() == 3 => {
                let bytes = std::str::from_utf8(&args[2]).ok().and_then(crate::config::memory);
                let bytes = bytes.ok_or(text("ERR argument must be a memory value"))?;
                if bytes > 1 << 32 {
                    return Err(text(
                        "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
                    ));
                }
                // No element of a list is packed with others here, whatever its size: there is nothing to set.
                self.reply(client).ok();
            }
            b"jmap" => return Err(text("ERR this server has no memory map to show")),
            b"help" => {
                let lines = [
                    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                    "CHANGE-REPL-ID",
                    "CLUSTERLINK KILL <to|from|all> <node-id>",
                    "CONFIG-REWRITE-FORCE-ALL",
                    "DICT-RESIZING <0|1>",
                    "DIGEST",
                    "DIGEST-VALUE <key> [<key> ...]",
                    "DROP-CLUSTER-PACKET-FILTER <packet-type>",
                    "ERROR <string>",
                    "LOADAOF",
                    "LOG <message>",
                    "OBJECT <key>",
                    "PAUSE-CRON <0|1>",
                    "POPULATE <count> [<prefix>] [<size>]",
                    "QUICKLIST-PACKED-THRESHOLD <size>",
                    "RELOAD",
                    "SET-ACTIVE-EXPIRE <0|1>",
                    "SLEEP <seconds>",
                    "STRINGMATCH-LEN <len> <pattern>",
                    "HELP",
                ];
                let mut reply = self.reply(client);
                reply.array(lines.len());
                for line in lines {
                    reply.simple(line);
                }
            }
            _ => {
                return Err(Fault::new(format!(
                    "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
                    shown(&args[1], 128)
                )));
            }
        }
        Ok(())
    }

    /// Loads the append-only file in place of what is in memory: a test of what is in the file.
    pub(super) fn debug_loadaof(&mut self, conn: ConnId, client: &mut Client) -> Result<(), Fault> {
        if self.files.is_rewriting() {
            return Err(text("ERR Background append only file rewriting already in progress"));
        }
        if client.in_exec || self.is_replica() {
            return Err(text(
                "ERR DEBUG LOADAOF on a replica or inside MULTI is not supported by this server",
            ));
        }
        self.abort_migrations();
        client.blocked = Some(Blocked::Disk);
        self.reload_aof(conn);
        Ok(())
    }

    /// `DEBUG RELOAD`: saves the dataset and reads back what was saved, or what the file holds (`NOSAVE`), in place of
    /// what is in memory or to it (`NOFLUSH`, `MERGE`).
    pub(super) fn debug_reload(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        args: Args<'_>,
    ) -> Result<(), Fault> {
        let (mut save, mut flush, mut merge) = (true, true, false);
        for option in args.from(2).iter() {
            match &option.to_ascii_lowercase()[..] {
                b"merge" => merge = true,
                b"noflush" => flush = false,
                b"nosave" => save = false,
                _ => {
                    return Err(text(
                        "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                    ));
                }
            }
        }
        let waiting = (!client.in_exec).then_some(conn);
        if save && flush {
            self.reload_in_memory(waiting)?;
            if waiting.is_some() {
                client.blocked = Some(Blocked::Disk);
            } else {
                self.reply(client).ok();
            }
            return Ok(());
        }
        let Some(conn) = waiting.filter(|_| !save && !self.is_replica()) else {
            return Err(text(
                "ERR DEBUG RELOAD with options is not supported by this server inside MULTI, on a replica, or with \
                 NOFLUSH and without NOSAVE",
            ));
        };
        self.abort_migrations();
        client.blocked = Some(Blocked::Disk);
        self.reload_rdb(conn, flush, merge);
        Ok(())
    }

    /// The very bytes that go to the file are decoded. `waiting` is answered when the file is there.
    fn reload_in_memory(&mut self, waiting: Option<ConnId>) -> Result<(), Fault> {
        if self.is_saving_rdb() || self.files.saves.running.is_some() {
            return Err(text("ERR Background save already in progress"));
        }
        let failed = |error: &dyn std::fmt::Display| {
            Fault::new(format!("ERR Error trying to load the RDB dump, check server logs: {error}"))
        };
        let aux = aux_fields(SnapshotUse::Rdb, self.now.wall, self.db.used_memory(), None);
        let mut encoder = SnapshotEncoder::new(self.db.snapshot(self.now.wall), aux);
        let mut decoder = RdbDecoder::new();
        let wall = self.now.wall;
        let mut dataset = self.db.fresh_dataset();
        let mut number = 0;
        let mut failure = None;
        let mut libraries = Vec::new();
        loop {
            let piece = encoder.next_chunk(PIECE_BYTES);
            let read = decoder.feed(&piece.bytes, &mut |event| match event {
                RdbEvent::SelectDb(selected) => number = u32::try_from(selected).unwrap_or(u32::MAX),
                RdbEvent::Key(key) => {
                    if let Err(error) =
                        super::replication_glue::keep_key(dataset.database(number), &key, wall)
                    {
                        failure.get_or_insert(error);
                    }
                }
                RdbEvent::Function(code) => libraries.push(code),
                RdbEvent::Aux { .. } | RdbEvent::ResizeDb { .. } | RdbEvent::End => {}
            });
            read.map_err(|error| failed(&error))?;
            if piece.last {
                break;
            }
        }
        if let Some(failure) = failure {
            return Err(failed(&failure));
        }
        self.take_libraries(&libraries).map_err(|error| failed(&error))?;
        self.dump(waiting, true);
        self.db.replace_all(dataset, self.now.wall);
        self.effects.push(Effect::Log {
            level: crate::io::LogLevel::Warning,
            text: "DB reloaded by DEBUG RELOAD".to_owned(),
        });
        Ok(())
    }
}
