//! After the storm: wait until the cluster is whole, read every key from its master, compare every replica
//! with its master at equal offset.

use std::collections::BTreeSet;
use std::rc::Rc;

use redis_protocol::redis_keyslot;
use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Body, Kind, Nanos, Process, ReplicaCompare, Speaker};
use slotstorm_workloads::workload::Invocation;

use super::client::Requests;
use super::{MS, Shared};
use crate::admin::parse;
use crate::admin::resp::{AskError, Connection, connection, text_of};
use crate::backend::{SeenBy, World};
use crate::observer::{ClusterModel, Observer, holds, node_name, whole};

/// How often a final read is tried again.
const READ_ATTEMPTS: u32 = 5;
/// Final reads in flight at once.
const READS_AT_ONCE: usize = 32;
/// How long one node may take for one batch of questions.
const PATIENCE: Nanos = 5000 * MS;
/// How long a replica may take to reach its master's offset when nobody writes.
const CATCH_UP: Nanos = 10_000 * MS;
/// Longer than any workload lets a value live.
const LONGEST_TTL: Nanos = 1500 * MS;
/// Keys compared in one batch.
const BATCH: usize = 100;
/// How many differing keys a comparison names.
const EXAMPLES: usize = 100;

/// Waits until all nodes tell one whole story, twice in a row; an error says what was still missing at
/// `until`.
pub(super) async fn converge<W: World>(
    world: &W,
    observer: &Observer,
    until: Nanos,
    interrupted: &dyn Fn() -> bool,
) -> Result<(), String> {
    let since = world.now();
    let mut agreed_at: Option<Nanos> = None;
    loop {
        let now = world.now();
        let missing = match whole(&observer.model(world), since) {
            Ok(()) => match agreed_at {
                // All nodes have been asked again since.
                Some(at) if now >= at + 250 * MS => return Ok(()),
                _ => {
                    agreed_at = Some(agreed_at.unwrap_or(now));
                    "the views agree only just now".to_owned()
                }
            },
            Err(missing) => {
                agreed_at = None;
                missing
            }
        };
        if now >= until || interrupted() {
            return Err(missing);
        }
        world.sleep_until(now + 50 * MS).await;
    }
}

/// Reads every key from its master. A read that fails is tried again, as a new operation.
pub(super) async fn final_reads<W: World>(world: &W, shared: &Rc<Shared>, reads: &[Invocation]) {
    let mut requests = Requests::new(world, 0, Rc::clone(shared), 1);
    let mut due: Vec<Invocation> = reads.to_vec();
    for attempt in 0..READ_ATTEMPTS {
        if attempt > 0 {
            world.sleep_until(world.now() + 500 * MS).await;
        }
        let mut queue = due.into_iter();
        loop {
            while requests.in_flight.len() < READS_AT_ONCE {
                let Some(read) = queue.next() else { break };
                let now = world.now();
                requests.invoke(read, Some(now));
            }
            if requests.in_flight.is_empty() {
                break;
            }
            requests.wait(world.now() + 100 * MS).await;
        }
        due = std::mem::take(&mut requests.failed);
        if due.is_empty() {
            return;
        }
    }
}

/// Compares every live replica with its master and records the result.
pub(super) async fn compare_replicas<W: World>(world: &W, model: &ClusterModel, reads: &[Invocation]) {
    for master in model.masters() {
        for replica in model.replicas_of(master) {
            let mut comparison = ReplicaCompare {
                master: node_name(master),
                replica: node_name(replica),
                ..ReplicaCompare::default()
            };
            let slots = model.slots_of(master);
            let keys: Vec<&Invocation> =
                reads.iter().filter(|read| holds(&slots, redis_keyslot(read.op().key.as_bytes()))).collect();
            if let Err(why) = compare(world, master, replica, &keys, &mut comparison).await {
                comparison.error = Some(why);
            }
            world.record(Kind::Ok, Process::Other(Speaker::Harness), Body::ReplicaCompare(comparison));
        }
    }
}

async fn compare<W: World>(
    world: &W,
    master: u16,
    replica: u16,
    keys: &[&Invocation],
    comparison: &mut ReplicaCompare,
) -> Result<(), String> {
    let mut of_master = connection(world, world.address(master, SeenBy::Controller));
    let mut of_replica = connection(world, world.address(replica, SeenBy::Controller));
    of_replica.ask(&["READONLY"], world.now() + PATIENCE).await.map_err(said)?;
    let give_up = world.now() + CATCH_UP;
    loop {
        comparison.master_offset = offset(world, &mut of_master).await?;
        comparison.replica_offset = offset(world, &mut of_replica).await?;
        if comparison.master_offset == comparison.replica_offset {
            break;
        }
        if world.now() >= give_up {
            return Err(format!("it did not reach its master's offset in {} s", CATCH_UP / 1_000_000_000));
        }
        world.sleep_until(world.now() + 20 * MS).await;
    }
    let mut differing: Vec<&Invocation> = Vec::new();
    for batch in keys.chunks(BATCH) {
        let commands: Vec<Vec<&str>> = batch.iter().map(|read| words(read)).collect();
        let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
        let at_master = of_master.pipeline(&commands, world.now() + PATIENCE).await.map_err(said)?;
        let at_replica = of_replica.pipeline(&commands, world.now() + PATIENCE).await.map_err(said)?;
        comparison.keys += batch.len() as u64;
        for ((read, master_says), replica_says) in batch.iter().zip(&at_master).zip(&at_replica) {
            if let (BytesFrame::Error(error), _) | (_, BytesFrame::Error(error)) = (master_says, replica_says)
            {
                return Err(format!("{}: {error}", read.op().key));
            }
            if !same(read, master_says, replica_says) {
                differing.push(read);
            }
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    // What ended its time to live between the two questions does not differ any more.
    world.sleep_until(world.now() + LONGEST_TTL).await;
    for read in differing {
        let command = words(read);
        let master_says = of_master.ask(&command, world.now() + PATIENCE).await.map_err(said)?;
        let replica_says = of_replica.ask(&command, world.now() + PATIENCE).await.map_err(said)?;
        if !same(read, &master_says, &replica_says) {
            comparison.differing += 1;
            if comparison.examples.len() < EXAMPLES {
                comparison.examples.push(read.op().key.clone());
            }
        }
    }
    Ok(())
}

async fn offset<W: World>(world: &W, node: &mut Connection<W::Mailbox>) -> Result<u64, String> {
    let reply = node.ask(&["INFO", "replication"], world.now() + PATIENCE).await.map_err(said)?;
    let text = text_of(&reply).ok_or("INFO replication answers no text")?;
    parse::replication_info(&text).map(|info| info.offset).map_err(|error| error.to_string())
}

#[allow(clippy::needless_pass_by_value)] // the shape that map_err wants
fn said(error: AskError) -> String {
    error.to_string()
}

/// Commands of ours are all text.
fn words(read: &Invocation) -> Vec<&str> {
    let command = read.commands.first().map_or(&[][..], Vec::as_slice);
    command.iter().map(|word| std::str::from_utf8(word).unwrap_or_default()).collect()
}

/// Lists are compared in order, sets as sets.
fn same(read: &Invocation, a: &BytesFrame, b: &BytesFrame) -> bool {
    let is_set = words(read).first() == Some(&"SMEMBERS");
    match (a, b) {
        (BytesFrame::Array(a), BytesFrame::Array(b)) if is_set => members(a) == members(b),
        (a, b) => a == b,
    }
}

fn members(frames: &[BytesFrame]) -> BTreeSet<&[u8]> {
    frames
        .iter()
        .map(|frame| match frame {
            BytesFrame::BulkString(bytes) | BytesFrame::SimpleString(bytes) => bytes.as_ref(),
            _ => b"?",
        })
        .collect()
}
