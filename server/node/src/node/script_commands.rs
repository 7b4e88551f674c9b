//! `SCRIPT`: the cache of scripts.

use super::client::Client;
use super::{Node, text};
use crate::command::{Fault, is, write_help};
use crate::resp::Args;
use crate::script::{Kind, script_name};

const HELP: &[&str] = &[
    "DEBUG (YES|SYNC|NO)",
    "    Set the debug mode for subsequent scripts executed.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache. Very dangerous on replicas.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the scripts cache.",
    "    * SYNC: Synchronously flush the scripts cache.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
];

impl Node {
    /// `SCRIPT`
    pub(super) fn script_command(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        match &args[1].to_ascii_lowercase()[..] {
            b"help" if args.len() == 2 => write_help(&mut self.reply(client), "SCRIPT", HELP),
            b"flush" => {
                let known =
                    args.len() == 2 || args.len() == 3 && (is(&args[2], "SYNC") || is(&args[2], "ASYNC"));
                if !known {
                    return Err(text("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
                }
                self.scripts.cache.clear();
                self.scripts.eval = None;
                self.reply(client).ok();
            }
            b"exists" => {
                let known: Vec<bool> = args
                    .from(2)
                    .iter()
                    .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
                    .map(|name| self.scripts.cache.contains_key(&name))
                    .collect();
                let mut reply = self.reply(client);
                reply.array(known.len());
                for known in known {
                    reply.bool(known);
                }
            }
            b"load" if args.len() == 3 => {
                let name = script_name(&args[2]);
                self.scripts.script(&name, &args[2])?;
                self.reply(client).bulk(name.as_bytes());
            }
            b"kill" if args.len() == 2 => {
                self.kill_script(Kind::Scripts)?;
                self.reply(client).ok();
            }
            b"debug" if args.len() == 3 => match () {
                () if is(&args[2], "NO") => self.reply(client).ok(),
                () if is(&args[2], "YES") || is(&args[2], "SYNC") => {
                    return Err(text("ERR this server has no debugger of scripts"));
                }
                () => return Err(text("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
            },
            _ => return Err(Fault::misused(&args[1], "SCRIPT")),
        }
        Ok(())
    }
}
