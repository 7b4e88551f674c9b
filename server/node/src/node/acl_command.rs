//! The ACL command.

use super::client::{Blocked, Client};
use super::dispatch::Step;
use super::tickets::Purpose;
use super::{Node, text};
use crate::acl::{Changed, Denied};
use crate::command::catalog::{CATEGORIES, catalog, category, resolve};
use crate::command::{Fault, NOT_INTEGER, is, shown, write_help};
use crate::config::Key;
use crate::io::{ConnId, DiskError, DiskOp, Effect, LogLevel};
use crate::keyspace::number::parse_i64;
use crate::resp::{Args, Reply};

/// Bits of the longest password that is made.
const GENPASS_MAX_BITS: i64 = 4096;

const HELP: [&str; 26] = [
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "DELUSER <username> [<username> ...]",
    "    Delete a list of users.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Returns whether the user can execute the given command without executing the command.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "LOAD",
    "    Reload users from the ACL file.",
    "LOG [<count> | RESET]",
    "    Show the ACL log entries.",
    "SAVE",
    "    Save the current config to the ACL file.",
    "SETUSER <username> <attribute> [<attribute> ...]",
    "    Create or modify a user with the specified attributes.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
];

impl Node {
    pub(super) fn acl_command(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        args: Args<'_>,
    ) -> Result<Step, Fault> {
        let verb = args[1].to_ascii_lowercase();
        let len = args.len();
        match &verb[..] {
            b"setuser" => self.acl_setuser(conn, client, args)?,
            b"deluser" => self.acl_deluser(conn, client, args)?,
            b"getuser" => self.acl_getuser(client, &args[2]),
            b"list" => {
                let lines = self.acl.lines();
                let mut reply = self.reply(client);
                reply.array(lines.len());
                for line in lines {
                    reply.bulk(&[b"user ", &line[..]].concat());
                }
            }
            b"users" => {
                let mut reply = Reply::new(&mut self.scratch, client.protocol);
                reply.array(self.acl.users().len());
                for (name, _) in self.acl.users() {
                    reply.bulk(name);
                }
            }
            b"whoami" => {
                let name = self.acl.name(client.user);
                Reply::new(&mut self.scratch, client.protocol).bulk(name);
            }
            b"cat" if len <= 3 => self.acl_cat(client, args.get(2))?,
            b"genpass" if len <= 3 => self.acl_genpass(client, args.get(2))?,
            b"log" if len <= 3 => self.acl_log(client, args.get(2))?,
            b"dryrun" => self.acl_dryrun(client, args)?,
            b"load" | b"save" => return self.acl_file(conn, client, &verb == b"load"),
            b"help" => write_help(&mut self.reply(client), "ACL", &HELP),
            _ => return Err(Fault::misused(&args[1], "ACL")),
        }
        Ok(Step::Done)
    }

    fn acl_setuser(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        if crate::acl::check_spaces(&args[2]).is_err() {
            return Err(text("ERR Usernames can't contain spaces or null characters"));
        }
        let rules: Vec<&[u8]> = args.from(3).iter().collect();
        let changed = self.acl.set_user(&args[2], &rules, self.acl_defaults());
        let changed = changed.map_err(|error| Fault::new(format!("ERR {error}")))?;
        self.users_changed(conn, client, &changed);
        self.reply(client).ok();
        Ok(())
    }

    fn acl_deluser(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        if args.from(2).iter().any(|name| name == b"default") {
            return Err(text("ERR The 'default' user cannot be removed"));
        }
        let gone: Vec<_> = args.from(2).iter().filter_map(|name| self.acl.remove(name)).collect();
        let deleted = gone.len();
        self.users_changed(conn, client, &Changed { gone, fewer_channels: None });
        self.reply(client).int(deleted as i64);
        Ok(())
    }

    fn acl_getuser(&mut self, client: &Client, name: &[u8]) {
        let mut reply = Reply::new(&mut self.scratch, client.protocol);
        let Some(user) = self.acl.find(name).and_then(|id| self.acl.user(id)) else { return reply.null() };
        reply.map(6);
        reply.bulk(b"flags");
        let flags = user.flags();
        reply.set(flags.len());
        for flag in flags {
            reply.bulk(flag.as_bytes());
        }
        reply.bulk(b"passwords");
        reply.array(user.passwords().len());
        for hash in user.passwords() {
            reply.bulk(hash.as_bytes());
        }
        let others = user.selectors().len() - 1;
        for (index, parts) in user.selectors().enumerate() {
            if index > 0 {
                reply.map(3);
            }
            for (name, part) in ["commands", "keys", "channels"].iter().zip(parts) {
                reply.bulk(name.as_bytes());
                reply.bulk(&part);
            }
            if index == 0 {
                reply.bulk(b"selectors");
                reply.array(others);
            }
        }
    }

    fn acl_cat(&mut self, client: &Client, name: Option<&[u8]>) -> Result<(), Fault> {
        let names: Vec<&str> = match name {
            None => CATEGORIES.to_vec(),
            Some(name) => {
                let unknown = || Fault::new(format!("ERR Unknown category '{}'", shown(name, 128)));
                let bit = category(name).ok_or_else(unknown)?;
                let entries = catalog().entries().iter().filter(|entry| entry.categories & bit != 0);
                entries.map(|entry| entry.spec.name).collect()
            }
        };
        let mut reply = self.reply(client);
        reply.array(names.len());
        for name in names {
            reply.bulk(name.as_bytes());
        }
        Ok(())
    }

    fn acl_genpass(&mut self, client: &Client, bits: Option<&[u8]>) -> Result<(), Fault> {
        let bits = bits.map_or(Ok(256), |bits| parse_i64(bits).ok_or(NOT_INTEGER))?;
        if !(1..=GENPASS_MAX_BITS).contains(&bits) {
            return Err(Fault::new(format!(
                "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
                 {GENPASS_MAX_BITS}"
            )));
        }
        let digits = (bits as usize).div_ceil(4);
        let mut password = Vec::with_capacity(digits + 40);
        while password.len() < digits {
            password.extend_from_slice(&self.secrets.draw());
        }
        password.truncate(digits);
        self.reply(client).bulk(&password);
        Ok(())
    }

    fn acl_log(&mut self, client: &Client, option: Option<&[u8]>) -> Result<(), Fault> {
        if option.is_some_and(|option| is(option, "RESET")) {
            self.acl.log.clear();
            self.reply(client).ok();
            return Ok(());
        }
        let count = option.map_or(Ok(10), |count| parse_i64(count).ok_or(NOT_INTEGER))?;
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        let mut reply = Reply::new(&mut self.scratch, client.protocol);
        let entries = self.acl.log.entries();
        reply.array(entries.len().min(count));
        for entry in entries.iter().take(count) {
            reply.map(7);
            reply.bulk(b"count");
            reply.int(entry.count as i64);
            let texts: [(&str, &[u8]); 4] = [
                ("reason", entry.reason.as_bytes()),
                ("context", entry.context.as_bytes()),
                ("object", &entry.object),
                ("username", &entry.username),
            ];
            for (name, value) in texts {
                reply.bulk(name.as_bytes());
                reply.bulk(value);
            }
            reply.bulk(b"age-seconds");
            reply.double(self.now.wall.0.saturating_sub(entry.at.0) as f64 / 1000.0);
            reply.bulk(b"client-info");
            reply.bulk(entry.client.as_bytes());
        }
        Ok(())
    }

    fn acl_dryrun(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let user = self.acl.find(&args[2]);
        let user =
            user.ok_or_else(|| Fault::new(format!("ERR User '{}' not found", shown(&args[2], 128))))?;
        let call = args.from(3);
        let missing = |_| Fault::new(format!("ERR Command '{}' not found", shown(&call[0], 128)));
        let spec = resolve(call).map_err(missing)?;
        if !spec.accepts(call.len()) {
            return Err(Fault::arity(spec.name));
        }
        let (what, at) = match self.acl.check(user, spec, call) {
            Ok(()) => {
                self.reply(client).ok();
                return Ok(());
            }
            Err(Denied::Command) => {
                let text = format!("This user has no permissions to run the '{}' command", spec.name);
                self.reply(client).bulk(text.as_bytes());
                return Ok(());
            }
            Err(Denied::Key(at)) => ("key", at),
            Err(Denied::Channel(at)) => ("channel", at),
        };
        let text =
            [b"This user has no permissions to access the '", &call[at], b"' ", what.as_bytes()].concat();
        self.reply(client).bulk(&text);
        Ok(())
    }

    fn acl_file(&mut self, conn: ConnId, client: &mut Client, loads: bool) -> Result<Step, Fault> {
        let Some(name) = self.config.some_text(Key::Aclfile).map(str::to_owned) else {
            return Err(text(
                "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the \
                 ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file \
                 set) in order to store users in the Redis configuration.",
            ));
        };
        if client.in_exec {
            return Err(text("ERR ACL LOAD and SAVE inside MULTI are not supported by this server"));
        }
        if loads {
            if self.acl_reading.is_some() {
                return Ok(Step::Later(Blocked::Paused));
            }
            self.acl_reading = Some((conn, Vec::new()));
            self.effects.push(Effect::Read { name });
        } else {
            let ticket = self.tickets.issue(Purpose::AclFile { waiting: conn });
            let op = DiskOp::Replace { name, bytes: self.acl.file_text(), sync: true };
            self.effects.push(Effect::Disk { ticket, op });
        }
        client.blocked = Some(Blocked::Disk);
        Ok(Step::Done)
    }

    /// A piece of the ACL file, if it is this file that came.
    pub(super) fn acl_chunk(&mut self, name: &str, bytes: &[u8], eof: bool, missing: bool) -> bool {
        let Some((_, read)) = self.acl_reading.as_mut().filter(|_| name == self.config.text(Key::Aclfile))
        else {
            return false;
        };
        read.extend_from_slice(bytes);
        if !eof {
            return true;
        }
        let Some((waiting, read)) = self.acl_reading.take() else { return true };
        let loaded = if missing {
            Err(format!("Error loading ACLs, opening file '{name}': No such file or directory"))
        } else {
            self.acl.load(name, &read, self.acl_defaults())
        };
        // Another LOAD may wait for this one.
        self.resume(Blocked::Paused);
        match loaded {
            Err(error) => self.unblock(waiting, |reply| reply.error(&format!("ERR {error}"))),
            Ok(changed) => {
                self.unblock_ok(waiting);
                self.after_load(&changed);
            }
        }
        true
    }

    /// The clients of the users of before go; who asked hears the answer first.
    fn after_load(&mut self, changed: &Changed) {
        let goodbye: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, state)| {
                matches!(&state.kind, super::ConnKind::Client(Some(other)) if changed.gone.contains(&other.user))
            })
            .map(|(conn, _)| *conn)
            .collect();
        for conn in goodbye {
            self.replicate(|replication, now, actions| replication.closed(conn, now, actions));
            self.close(conn, true);
        }
    }

    pub(super) fn acl_saved(&mut self, waiting: ConnId, result: Result<(), DiskError>) {
        match result {
            Ok(()) => self.unblock_ok(waiting),
            Err(error) => {
                self.log(LogLevel::Warning, format!("Writing ACL file for ACL SAVE: {}", error.message));
                self.unblock(waiting, |reply| {
                    reply.error(
                        "ERR There was an error trying to save the ACLs. Please check the server logs for more \
                         information",
                    );
                });
            }
        }
    }
}
