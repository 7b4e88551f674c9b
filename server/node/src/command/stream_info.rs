//! `XINFO`: what streams, groups and consumers are like.

use super::call::{Call, is};
use super::fault::{Fault, NO_SUCH_KEY, NOT_INTEGER, Outcome, WRONG_TYPE};
use super::help::write_help;
use super::stream_groups::{no_group_for_key, subcommand_fault};
use super::streams::{put_entries, put_entry, put_id};
use crate::keyspace::Value;
use crate::keyspace::number::parse_i64;
use crate::keyspace::stream::{Extent, Group, Stream, StreamId, UNKNOWN_READ};
use crate::resp::Reply;

/// `XINFO STREAM|GROUPS|CONSUMERS|HELP`
pub(super) fn xinfo(call: &mut Call<'_>) -> Outcome {
    let verb = call.arg(1);
    if is(verb, "HELP") && call.args.len() == 2 {
        write_help(
            &mut call.reply,
            "XINFO",
            &[
                "CONSUMERS <key> <groupname>",
                "    Show consumers of <groupname>.",
                "GROUPS <key>",
                "    Show the stream consumer groups.",
                "STREAM <key> [FULL [COUNT <count>]",
                "    Show information about the stream.",
            ],
        );
        return Ok(());
    }
    if call.args.len() < 3 {
        return Err(subcommand_fault(call));
    }
    let misused = subcommand_fault(call);
    let (key, args, now_ms) = (call.arg(2), call.args, call.now.wall.0 as i64);
    let stream = match call.db.read(key, call.now) {
        None => return Err(NO_SUCH_KEY),
        Some(Value::Stream(stream)) => stream,
        Some(_) => return Err(WRONG_TYPE),
    };
    let reply = &mut call.reply;
    match () {
        () if is(verb, "STREAM") => {
            let option = |index: usize| args.get(index).unwrap_or_default();
            match args.len() {
                3 => put_brief(reply, stream),
                4 if is(option(3), "FULL") => put_full(reply, stream, 10),
                6 if is(option(3), "FULL") && is(option(4), "COUNT") => {
                    let count = parse_i64(option(5)).ok_or(NOT_INTEGER)?;
                    put_full(reply, stream, usize::try_from(count).unwrap_or(10));
                }
                _ => return Err(misused),
            }
        }
        () if is(verb, "GROUPS") && args.len() == 3 => {
            reply.array(stream.groups().len());
            for (name, group) in stream.groups() {
                put_group(reply, stream.extent(), name, group);
            }
        }
        () if is(verb, "CONSUMERS") && args.len() == 4 => {
            let group = stream.group(&args[3]).ok_or_else(|| no_group_for_key(key, &args[3]))?;
            reply.array(group.consumers().len());
            for (name, consumer) in group.consumers() {
                reply.map(3);
                reply.bulk(b"name");
                reply.bulk(name);
                reply.bulk(b"pending");
                reply.int(consumer.pending_len() as i64);
                reply.bulk(b"idle");
                reply.int(now_ms.saturating_sub(consumer.seen_ms).max(0));
            }
        }
        () => return Err(misused),
    }
    Ok::<(), Fault>(())
}

fn put_common(reply: &mut Reply<'_>, stream: &Stream) {
    let extent = stream.extent();
    reply.bulk(b"length");
    reply.int(extent.len as i64);
    reply.bulk(b"radix-tree-keys");
    reply.int(stream.node_count() as i64);
    reply.bulk(b"radix-tree-nodes");
    reply.int(stream.radix_nodes() as i64);
    reply.bulk(b"last-generated-id");
    put_id(reply, extent.last_id);
    reply.bulk(b"max-deleted-entry-id");
    put_id(reply, extent.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.int(extent.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    put_id(reply, extent.first_id);
}

fn put_brief(reply: &mut Reply<'_>, stream: &Stream) {
    reply.map(10);
    put_common(reply, stream);
    reply.bulk(b"groups");
    reply.int(stream.groups().len() as i64);
    let first = stream.range(StreamId::MIN, StreamId::MAX).next();
    let last = stream.range_back(StreamId::MIN, StreamId::MAX).next();
    for (what, entry) in [(&b"first-entry"[..], first), (b"last-entry", last)] {
        reply.bulk(what);
        match entry {
            Some(entry) => put_entry(reply, &entry),
            None => reply.null(),
        }
    }
}

/// With at most `count` entries and pending entries of each list; 0: all.
fn put_full(reply: &mut Reply<'_>, stream: &Stream, count: usize) {
    let count = if count == 0 { usize::MAX } else { count };
    reply.map(9);
    put_common(reply, stream);
    reply.bulk(b"entries");
    put_entries(reply, stream.range(StreamId::MIN, StreamId::MAX).take(count));
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        put_full_group(reply, stream.extent(), (name, group), count);
    }
}

fn put_full_group(reply: &mut Reply<'_>, extent: &Extent, (name, group): (&[u8], &Group), count: usize) {
    reply.map(7);
    reply.bulk(b"name");
    reply.bulk(name);
    put_progress(reply, extent, group);
    let pending = group.pending();
    reply.bulk(b"pel-count");
    reply.int(pending.len() as i64);
    reply.bulk(b"pending");
    reply.array(pending.len().min(count));
    for (id, pending) in pending.iter().take(count) {
        reply.array(4);
        put_id(reply, id);
        reply.bulk(&pending.consumer);
        reply.int(pending.delivered_ms);
        reply.int(pending.deliveries as i64);
    }
    reply.bulk(b"consumers");
    reply.array(group.consumers().len());
    for (name, consumer) in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"seen-time");
        reply.int(consumer.seen_ms);
        reply.bulk(b"pel-count");
        reply.int(consumer.pending_len() as i64);
        reply.bulk(b"pending");
        reply.array(consumer.pending_len().min(count));
        for id in consumer.pending_from_rank(0).take(count) {
            let pending = group.pending().get(id);
            reply.array(3);
            put_id(reply, id);
            reply.int(pending.map_or(0, |pending| pending.delivered_ms));
            reply.int(pending.map_or(0, |pending| pending.deliveries as i64));
        }
    }
}

fn put_group(reply: &mut Reply<'_>, extent: &Extent, name: &[u8], group: &Group) {
    reply.map(6);
    reply.bulk(b"name");
    reply.bulk(name);
    reply.bulk(b"consumers");
    reply.int(group.consumers().len() as i64);
    reply.bulk(b"pending");
    reply.int(group.pending().len() as i64);
    put_progress(reply, extent, group);
}

/// How far a group has read.
fn put_progress(reply: &mut Reply<'_>, extent: &Extent, group: &Group) {
    reply.bulk(b"last-delivered-id");
    put_id(reply, group.last_id);
    let read = Some(group.entries_read).filter(|read| *read != UNKNOWN_READ);
    let lag = extent.lag(group.last_id, group.entries_read);
    for (what, number) in [(&b"entries-read"[..], read), (b"lag", lag)] {
        reply.bulk(what);
        match number {
            Some(number) => reply.int(number),
            None => reply.null(),
        }
    }
}
