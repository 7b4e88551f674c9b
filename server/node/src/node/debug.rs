//! DEBUG subcommands about data: digests, a reload, the looks of a value, replication ids.

use super::client::{Blocked, Client};
use super::{Node, text};
use crate::command::{Fault, dataset_digest, hex, key_digest, shown};
use crate::io::{ConnId, Effect};
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
                let idle_s = (self.now.wall.0 / 1000).saturating_sub(u64::from(entry.accessed_s()));
                // No address: it would tell of this process's memory what nobody needs, and differ between runs.
                let line = format!(
                    "Value at:0x0 refcount:{} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_s}",
                    entry.value().references(),
                    entry.value().encoding(),
                    dump::value_bytes(entry.value().view()),
                    entry.accessed_s() & 0x00ff_ffff,
                );
                self.reply(client).simple(&line);
            }
            b"reload" => {
                if let Some(option) = args.get(2) {
                    let option = shown(option, 32);
                    return Err(Fault::new(format!(
                        "ERR DEBUG RELOAD {option} is not supported by this server"
                    )));
                }
                self.debug_reload()?;
                self.reply(client).ok();
            }
            b"change-repl-id" if args.len() == 2 => {
                self.log(
                    crate::io::LogLevel::Notice,
                    "Changing replication IDs after receiving change-repl-id",
                );
                self.replication.change_id();
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
                    "DIGEST",
                    "DIGEST-VALUE <key> [<key> ...]",
                    "DROP-CLUSTER-PACKET-FILTER <packet-type>",
                    "ERROR <string>",
                    "LOADAOF",
                    "LOG <message>",
                    "OBJECT <key>",
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
        let Some(aof) = self.files.aof() else {
            return Err(text("ERR the append only file is off (appendonly no)"));
        };
        if aof.status().rewriting {
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

    /// Saves the dataset and reads back what was saved: the very bytes that go to the file are decoded. The reply
    /// waits for the file.
    fn debug_reload(&mut self) -> Result<(), Fault> {
        if self.tickets.is_saving() {
            return Err(text("ERR Background save already in progress"));
        }
        let failed = |error: &dyn std::fmt::Display| {
            Fault::new(format!("ERR Error trying to load the RDB dump, check server logs: {error}"))
        };
        let aux = aux_fields(SnapshotUse::Rdb, self.now.wall, self.db.used_memory(), None);
        let mut encoder = SnapshotEncoder::new(self.db.snapshot(), aux);
        let mut decoder = RdbDecoder::new();
        let mut dataset = self.db.fresh_dataset();
        let mut number = 0;
        let mut failure = None;
        loop {
            let piece = encoder.next_chunk(PIECE_BYTES);
            let read = decoder.feed(&piece.bytes, &mut |event| match event {
                RdbEvent::SelectDb(selected) => number = u32::try_from(selected).unwrap_or(u32::MAX),
                RdbEvent::Key(key) => {
                    if let Err(error) = super::replication_glue::keep_key(dataset.database(number), &key) {
                        failure.get_or_insert(error);
                    }
                }
                _ => {}
            });
            read.map_err(|error| failed(&error))?;
            if piece.last {
                break;
            }
        }
        if let Some(failure) = failure {
            return Err(failed(&failure));
        }
        self.dump(None);
        // `dump` asked for the last ticket there is.
        self.batch_gate = self.batch_gate.max(self.tickets.last);
        self.db.replace_all(dataset, self.now.wall);
        self.effects.push(Effect::Log {
            level: crate::io::LogLevel::Warning,
            text: "DB reloaded by DEBUG RELOAD".to_owned(),
        });
        Ok(())
    }
}
