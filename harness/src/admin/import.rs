//! Bringing the keys of a server without cluster mode into a cluster.

use std::net::SocketAddr;

use slotstorm_checker::slots::slot_of;

use super::fleet::{Fleet, expect_number, expect_text};
use super::migrate::credentials;
use super::note::{Note, Teller, line};
use super::parse::info_field;
use super::resp::{AskError, Connection, Reply};
use super::{Login, Reach, ms};

/// Keys of one SCAN.
const SCAN_COUNT: &str = "1000";
/// MIGRATEs of one write: each holds up the source for a moment.
const IN_ONE_WRITE: usize = 20;

/// What is imported, and how.
#[derive(Clone, Debug)]
pub struct ImportPlan {
    pub source: SocketAddr,
    /// How to log in there.
    pub login: Option<Login>,
    /// The source keeps its keys.
    pub copy: bool,
    /// The source's values win.
    pub replace: bool,
    /// MIGRATE's own time-out, milliseconds.
    pub timeout_ms: u64,
}

/// Why it ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("The source node {0} should not be a cluster node.")]
    IsCluster(SocketAddr),
    #[error("slot {0} has no owner (slotstorm cluster fix)")]
    NoOwner(u16),
    #[error("Migrating {key} to {target}: Source {source_at} replied with error:\n{text}")]
    Migrate { key: String, target: String, source_at: SocketAddr, text: String },
}

/// Carries every key; how many, and why it ended early if it did: a repetition carries the others.
pub async fn import<R: Reach>(
    fleet: &mut Fleet<R>,
    plan: &ImportPlan,
    tell: Teller<'_>,
) -> (u64, Result<(), ImportError>) {
    let mut source = Connection::new(fleet.reach.mailbox(), plan.source, plan.login.clone());
    let mut done = 0;
    let result = run(fleet, &mut source, plan, tell, &mut done).await;
    (done, result)
}

async fn run<R: Reach>(
    fleet: &mut Fleet<R>,
    source: &mut Connection<R::Mailbox>,
    plan: &ImportPlan,
    tell: Teller<'_>,
    done: &mut u64,
) -> Result<(), ImportError> {
    let info = source.ask(&["INFO"], fleet.deadline()).await?;
    if info_field(&expect_text(plan.source, "INFO", &info)?, "cluster_enabled") == Some("1") {
        return Err(ImportError::IsCluster(plan.source));
    }
    let size = source.ask(&["DBSIZE"], fleet.deadline()).await?;
    let size = expect_number(plan.source, "DBSIZE", &size)?;
    tell(Note::Stop(format!("Importing {size} keys from DB 0")));
    let mut cursor = "0".to_owned();
    loop {
        let reply = source.ask(&["SCAN", &cursor, "COUNT", SCAN_COUNT], fleet.deadline()).await?;
        let (next, keys) = page(plan.source, reply)?;
        for some in keys.chunks(IN_ONE_WRITE) {
            carry(fleet, source, plan, some, tell, done).await?;
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}

async fn carry<R: Reach>(
    fleet: &mut Fleet<R>,
    source: &mut Connection<R::Mailbox>,
    plan: &ImportPlan,
    keys: &[Vec<u8>],
    tell: Teller<'_>,
    done: &mut u64,
) -> Result<(), ImportError> {
    let mut commands = Vec::with_capacity(keys.len());
    let mut targets = Vec::with_capacity(keys.len());
    for key in keys {
        let slot = slot_of(key);
        let owner = fleet.masters().into_iter().find(|it| fleet.nodes[*it].owns(slot));
        let owner = &fleet.nodes[owner.ok_or(ImportError::NoOwner(slot))?];
        let mut words: Vec<Vec<u8>> =
            vec!["MIGRATE".into(), owner.host.clone().into(), owner.port.to_string().into(), key.clone()];
        words.extend(["0".into(), plan.timeout_ms.to_string().into()]);
        words.extend(fleet.reach.login().as_ref().map(credentials).unwrap_or_default());
        if plan.copy {
            words.push("COPY".into());
        }
        if plan.replace {
            words.push("REPLACE".into());
        }
        commands.push(words);
        targets.push(owner.label());
    }
    let commands: Vec<&[Vec<u8>]> = commands.iter().map(Vec::as_slice).collect();
    let deadline = fleet.deadline() + ms(2 * plan.timeout_ms);
    let replies = source.pipeline(&commands, deadline).await?;
    let mut failure = None;
    for ((key, target), reply) in keys.iter().zip(targets).zip(replies) {
        let key = String::from_utf8_lossy(key).into_owned();
        match reply {
            Reply::SimpleString(_) => {
                *done += 1;
                line(tell, format!("Migrating {key} to {target}: OK"));
            }
            other => {
                let text =
                    if let Reply::Error(text) = other { text.to_string() } else { format!("{other:?}") };
                failure =
                    failure.or(Some(ImportError::Migrate { key, target, source_at: plan.source, text }));
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// The next cursor and the keys of a SCAN's reply.
fn page(address: SocketAddr, reply: Reply) -> Result<(String, Vec<Vec<u8>>), AskError> {
    let nonsense =
        |why: &str| AskError::Nonsense { address, command: "SCAN".to_owned(), why: why.to_owned() };
    let Reply::Array(parts) = reply else { return Err(nonsense("no list")) };
    let [cursor, Reply::Array(keys)] = &parts[..] else { return Err(nonsense("no cursor and list")) };
    let cursor = super::resp::text_of(cursor).ok_or_else(|| nonsense("no cursor"))?;
    let key = |item: &Reply| match item {
        Reply::BulkString(key) => Ok(key.to_vec()),
        _ => Err(nonsense("an item is no key")),
    };
    Ok((cursor, keys.iter().map(key).collect::<Result<_, _>>()?))
}
