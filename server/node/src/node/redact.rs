//! Arguments that MONITOR and SLOWLOG must not show: passwords.

use crate::command::is;
use crate::resp::Args;

/// What stands in their place.
pub(super) const REDACTED: &[u8] = b"(redacted)";

/// Places of arguments that are secret.
pub(super) fn redacted(args: Args<'_>) -> Vec<usize> {
    let sub = args.get(1).unwrap_or_default();
    match &args[0].to_ascii_lowercase()[..] {
        b"auth" => (1..args.len().min(3)).collect(),
        b"acl" if is(sub, "SETUSER") => (2..args.len()).collect(),
        b"hello" => behind(args, 2, "AUTH", 2),
        b"migrate" => [behind(args, 6, "AUTH", 1), behind(args, 6, "AUTH2", 2)].concat(),
        b"config" if is(sub, "SET") => {
            let secret = |at: &usize| {
                ["requirepass", "masterauth", "masteruser"].iter().any(|name| is(&args[at - 1], name))
            };
            (3..args.len()).step_by(2).filter(secret).collect()
        }
        _ => Vec::new(),
    }
}

/// The places of the `count` arguments behind a word.
fn behind(args: Args<'_>, from: usize, word: &str, count: usize) -> Vec<usize> {
    let at = (from..args.len()).find(|&at| is(&args[at], word));
    at.map_or(Vec::new(), |at| (at + 1..(at + 1 + count).min(args.len())).collect())
}
