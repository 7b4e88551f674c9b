//! What `--help` and the prompt's `help` say.

use std::fmt::Write as _;

use super::link::Link;
use super::reply::Reply;
use super::session::{Session, emit};

/// The client that this one stands in for.
const CLIENT_VERSION: &str = "7.0.15";

/// What `--version` prints.
pub fn version() -> String {
    format!("redis-cli {CLIENT_VERSION} (slotstorm {})", env!("CARGO_PKG_VERSION"))
}

/// What `--help` prints.
pub fn usage() -> String {
    format!("{}\n\n{OPTIONS}", version())
}

const OPTIONS: &str = "\
Usage: redis-cli [OPTIONS] [COMMAND [ARG...]]

Slotstorm acting as redis-cli: the same options, output and exit codes. Without a command it prompts for commands.

Server
  -h HOST  -p PORT     127.0.0.1 and 6379 if not said
  -s SOCKET            A unix socket instead
  -u URI               redis://[[USER:]PASSWORD@]HOST[:PORT][/DB]
  -a, --pass PASSWORD  Or in the environment: REDISCLI_AUTH
  --user NAME          With -a: AUTH NAME PASSWORD
  --askpass            Type the password
  --no-auth-warning    Do not say that a password on the command line may be seen by others
  -n DB                Database
  -2, -3               RESP2, RESP3
  -c                   Follow MOVED and ASK

Command
  -r COUNT             Send it COUNT times; negative: for ever
  -i SECONDS           Wait after each; may be a fraction
  -x                   Its last argument is standard input
  -X TAG               The argument TAG is replaced by standard input
  --quoted-input       Its arguments are quoted: '\"\\x00\"'
  --eval FILE [KEY...] [, ARG...]
  -e                   An error reply is exit code 1

Output
  --raw, --no-raw      For programs (usual if it is no terminal), for people
  --csv, --json, --quoted-json
  -d TEXT, -D TEXT     What stands between values, after replies, in raw output
  --show-pushes YES|NO Messages that come unasked

Modes
  --scan               All keys; with --pattern GLOB or --quoted-pattern
  --stat               A line of numbers each second (-i)
  --latency            Time of PING; --latency-history: a line each 15 seconds (-i)
  --pipe               Raw protocol from standard input; --pipe-timeout SECONDS (30)
  --rdb FILE           Fetch a dump (- is standard output); --functions-rdb FILE: its functions only
  --cluster VERB ...   Work on a whole cluster: see --cluster help

Not supported: TLS, --bigkeys, --memkeys, --hotkeys, --replica, --lru-test, --latency-dist, --intrinsic-latency, --ldb
";

/// What `--cluster help` prints.
pub const CLUSTER: &str = "\
Cluster Manager Commands:
  create         host1:port1 ... hostN:portN
                 --cluster-replicas <arg>
  check          <host:port> or <host> <port> - separated by either colon or space
                 --cluster-search-multiple-owners
  info           <host:port> or <host> <port> - separated by either colon or space
  fix            <host:port> or <host> <port> - separated by either colon or space
                 --cluster-search-multiple-owners
                 --cluster-fix-with-unreachable-masters
  reshard        <host:port> or <host> <port> - separated by either colon or space
                 --cluster-from <arg>
                 --cluster-to <arg>
                 --cluster-slots <arg>
                 --cluster-yes
                 --cluster-timeout <arg>
                 --cluster-pipeline <arg>
                 --cluster-replace
  rebalance      <host:port> or <host> <port> - separated by either colon or space
                 --cluster-weight <node1=w1...nodeN=wN>
                 --cluster-use-empty-masters
                 --cluster-timeout <arg>
                 --cluster-simulate
                 --cluster-pipeline <arg>
                 --cluster-threshold <arg>
                 --cluster-replace
  add-node       new_host:new_port existing_host:existing_port
                 --cluster-slave
                 --cluster-master-id <arg> (or --cluster-master-node <arg>)
  del-node       host:port node_id
  call           host:port command arg arg .. arg
                 --cluster-only-masters
                 --cluster-only-replicas
  set-timeout    host:port milliseconds
  import         host:port
                 --cluster-from <arg>
                 --cluster-from-user <arg>
                 --cluster-from-pass <arg>
                 --cluster-from-askpass
                 --cluster-copy
                 --cluster-replace
  backup         host:port backup_directory
  help

Only here, not in Redis' own redis-cli:
  failover       host:port | node_id   a master (its best replica takes over), or the replica that shall
                 --force or --takeover
                 --via <host:port>     any node, if the first is an id or is down
  nodes          host:port             all nodes as a table

For check, fix, reshard, del-node, set-timeout, info, rebalance, call, import, backup, failover, nodes you can specify
the host and port of any working node in the cluster.

Cluster Manager Options:
  --cluster-yes  Automatic yes to cluster commands prompts
";

/// `help`, `help SET`, `help CLUSTER NODES`, `help @group` at the prompt. The server's COMMAND DOCS knows the rest.
pub fn show(topics: &[Vec<u8>], session: &mut Session) {
    if topics.is_empty() {
        emit(
            format!(
                "{}\nTo get help about Redis commands type:\n      \"help <command>\" for help on <command>\n      \
                 \"quit\" to exit\n",
                version()
            )
            .as_bytes(),
        );
        return;
    }
    let topic: Vec<String> = topics.iter().map(|word| String::from_utf8_lossy(word).to_lowercase()).collect();
    let described = session.link().map(|link| describe(link, &topic));
    let text = match described {
        None => "not connected: the server's COMMAND DOCS would know\n".to_owned(),
        Some(None) => format!("\r\n  the server has no help on {}\r\n\r\n", topic.join(" ")),
        Some(Some(text)) => text,
    };
    emit(text.as_bytes());
}

fn describe(link: &mut Link, topic: &[String]) -> Option<String> {
    let command = topic.first()?;
    let docs = fields(link.ask(&["COMMAND", "DOCS", command]).ok()?)?;
    let mut doc = fields(docs.into_iter().next()?.1)?;
    if let [_, _, ..] = topic {
        let subcommands = fields(take(&mut doc, "subcommands")?)?;
        let wanted = topic.join("|");
        doc = fields(subcommands.into_iter().find(|(name, _)| *name == wanted)?.1)?;
    }
    let mut line = |name: &str| text(&take(&mut doc, name)?);
    let summary = line("summary")?;
    let mut out = format!(
        "\r\n  \x1b[1m{}\x1b[0m\r\n  \x1b[33msummary:\x1b[0m {summary}\r\n",
        topic.join(" ").to_uppercase()
    );
    for name in ["since", "group"] {
        if let Some(value) = line(name) {
            // Writing to a string cannot fail.
            let _ = write!(out, "  \x1b[33m{name}:\x1b[0m {value}\r\n");
        }
    }
    out.push_str("\r\n");
    Some(out)
}

/// A map, or in RESP2 the list of its names and values.
fn fields(reply: Reply) -> Option<Vec<(String, Reply)>> {
    match reply {
        Reply::Map(pairs) => pairs.into_iter().map(|(name, value)| Some((text(&name)?, value))).collect(),
        Reply::Array(items) => {
            let mut items = items.into_iter();
            let mut pairs = Vec::new();
            while let (Some(name), Some(value)) = (items.next(), items.next()) {
                pairs.push((text(&name)?, value));
            }
            Some(pairs)
        }
        _ => None,
    }
}

fn take(fields: &mut Vec<(String, Reply)>, name: &str) -> Option<Reply> {
    let at = fields.iter().position(|(field, _)| field == name)?;
    Some(fields.swap_remove(at).1)
}

fn text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Bulk(bytes) | Reply::Status(bytes) | Reply::Verbatim(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => None,
    }
}
