//! MONITOR: clients that are told of every command.

use super::Node;
use super::client::Client;
use super::redact::{REDACTED, redacted};
use crate::command::catalog::catalog;
use crate::command::{Fault, Spec, flag, text};
use crate::io::ConnId;
use crate::resp::Args;
use crate::words;

impl Node {
    pub(super) fn monitor(&mut self, conn: ConnId, client: &mut Client) -> Result<(), Fault> {
        if client.in_exec {
            return Err(text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
        }
        if !client.is_monitor && !self.replication.is_replica(conn) {
            client.is_monitor = true;
            self.monitors.push(conn);
            self.reply(client).ok();
        }
        Ok(())
    }

    /// Tells the monitors of a command, unless it is the business of administrators.
    pub(super) fn feed_monitors(&mut self, client: &Client, db: u32, spec: &'static Spec, args: Args<'_>) {
        if !self.monitors.is_empty() && !self.files.is_loading() {
            let from =
                if client.is_unix { format!("unix:{}", client.unix_path()) } else { client.address.clone() };
            self.feed_monitors_from(&from, db, spec, args);
        }
    }

    /// Tells the monitors of a call that runs a script, before what the script calls.
    pub(super) fn show_to_monitors(&mut self, client: &Client, args: Args<'_>) {
        if !self.monitors.is_empty() {
            let from =
                if client.is_unix { format!("unix:{}", client.unix_path()) } else { client.address.clone() };
            self.write_to_monitors(&from, client.db, args);
        }
    }

    /// As [`Self::feed_monitors`]; `from` is an address, or `lua` for what a script calls.
    pub(super) fn feed_monitors_from(&mut self, from: &str, db: u32, spec: &'static Spec, args: Args<'_>) {
        let skips = spec.has(flag::ADMIN)
            || catalog().entry(spec).is_some_and(|(_, entry)| entry.is_flagged("skip_monitor"));
        if !self.monitors.is_empty() && !skips {
            self.write_to_monitors(from, db, args);
        }
    }

    fn write_to_monitors(&mut self, from: &str, db: u32, args: Args<'_>) {
        let ms = self.now.wall.0;
        let mut line = format!("+{}.{:06} [{db} {from}]", ms / 1000, ms % 1000 * 1000).into_bytes();
        let secret = redacted(args);
        for (at, arg) in args.iter().enumerate() {
            line.push(b' ');
            line.extend_from_slice(
                words::quoted(if secret.contains(&at) { REDACTED } else { arg }).as_bytes(),
            );
        }
        line.extend_from_slice(b"\r\n");
        let gate = self.tickets.reply_gate();
        for conn in self.monitors.clone() {
            self.send(conn, gate, &line);
        }
    }
}
