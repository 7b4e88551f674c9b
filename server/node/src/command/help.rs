//! The replies to `X HELP`.

use crate::resp::Reply;

/// Redis' head, the command's own lines, and the lines on HELP itself. `container` in capitals.
pub fn write_help(reply: &mut Reply<'_>, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Prints this help.");
}
