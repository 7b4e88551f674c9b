//! COMMAND: what the server tells of its commands.

use super::client::Client;
use super::{Node, text};
use crate::command::catalog::{
    Catalog, Entry, catalog, category, keys_of, resolve, write_docs, write_info, write_key_flags,
};
use crate::command::{Fault, SYNTAX, is, write_help};
use crate::config::glob_matches;
use crate::resp::Args;

const HELP: [&str; 16] = [
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
];
const HELP_TAIL: [&str; 2] =
    ["GETKEYSANDFLAGS <full-command>", "    Return the keys and the access flags from a full Redis command."];

impl Node {
    pub(super) fn command_command(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let catalog = catalog();
        let verb = args.get(1).map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
        match &verb[..] {
            b"" | b"info" if args.len() <= 2 => {
                let mut reply = self.reply(client);
                reply.array(catalog.top().len());
                for index in catalog.top() {
                    write_info(&mut reply, catalog, index);
                }
            }
            b"info" => {
                let mut reply = self.reply(client);
                reply.array(args.len() - 2);
                for name in args.from(2).iter() {
                    match catalog.find(name) {
                        Some(index) => write_info(&mut reply, catalog, index),
                        None => reply.null(),
                    }
                }
            }
            b"docs" => {
                let named = args.from(2).iter().filter_map(|name| catalog.find(name));
                let wanted: Vec<usize> =
                    if args.len() == 2 { catalog.top().collect() } else { named.collect() };
                let mut reply = self.reply(client);
                reply.map(wanted.len());
                for index in wanted {
                    write_docs(&mut reply, catalog, index);
                }
            }
            b"count" => self.reply(client).int(catalog.top().len() as i64),
            b"list" => self.command_list(client, catalog, args)?,
            b"getkeys" => self.command_keys(client, args, false)?,
            b"getkeysandflags" => self.command_keys(client, args, true)?,
            b"help" => {
                let lines = [&HELP[..], &HELP_TAIL].concat();
                write_help(&mut self.reply(client), "COMMAND", &lines);
            }
            _ => return Err(Fault::subcommand(&args[1], "COMMAND")),
        }
        Ok(())
    }

    fn command_list(&mut self, client: &Client, catalog: &Catalog, args: Args<'_>) -> Result<(), Fault> {
        let wanted: &dyn Fn(&Entry) -> bool = match args.len() {
            2 => &|_| true,
            5 if is(&args[2], "FILTERBY") => match &args[3].to_ascii_lowercase()[..] {
                // There are no modules.
                b"module" => &|_| false,
                b"aclcat" => &|entry| category(&args[4]).is_some_and(|bit| entry.categories & bit != 0),
                b"pattern" => &|entry| glob_matches(&args[4], entry.spec.name.as_bytes(), true),
                _ => return Err(SYNTAX),
            },
            _ => return Err(SYNTAX),
        };
        let names: Vec<&str> =
            catalog.entries().iter().filter(|entry| wanted(entry)).map(|entry| entry.spec.name).collect();
        let mut reply = self.reply(client);
        reply.array(names.len());
        for name in names {
            reply.bulk(name.as_bytes());
        }
        Ok(())
    }

    fn command_keys(&mut self, client: &Client, args: Args<'_>, with_flags: bool) -> Result<(), Fault> {
        let call = args.from(2);
        let spec = resolve(call).ok();
        let entry = spec.and_then(|spec| catalog().entry(spec)).map(|(_, entry)| entry);
        let entry = entry.ok_or(text("ERR Invalid command specified"))?;
        if !entry.may_have_keys() {
            return Err(text("ERR The command has no key arguments"));
        }
        if !entry.spec.accepts(call.len()) {
            return Err(text("ERR Invalid number of arguments specified for command"));
        }
        let keys = keys_of(entry, call);
        if keys.is_empty() && !entry.is_flagged("no_mandatory_keys") {
            return Err(text("ERR Invalid arguments specified for command"));
        }
        let mut reply = self.reply(client);
        reply.array(keys.len());
        for key in keys {
            if with_flags {
                reply.array(2);
                reply.bulk(&call[key.at]);
                write_key_flags(&mut reply, key.flags);
            } else {
                reply.bulk(&call[key.at]);
            }
        }
        Ok(())
    }
}
