//! Consumer groups: `XGROUP`, `XACK`, `XPENDING`.

use std::sync::Arc;

use super::call::{Call, is};
use super::fault::{Fault, NOT_INTEGER, Outcome, SYNTAX, WRONG_TYPE, text};
use super::help::write_help;
use super::notify::class;
use super::stream_reads::consumer_created;
use super::streams::{c_text, change, ids_from, interval_end, interval_start, lax_id, put_id, strict_id};
use crate::keyspace::Value;
use crate::keyspace::number::{IntText, parse_i64};
use crate::keyspace::stream::{Group, Stream, StreamId, UNKNOWN_READ};
use crate::resp::Reply;

/// `XGROUP CREATE|SETID|DESTROY|CREATECONSUMER|DELCONSUMER|HELP`
pub(super) fn xgroup(call: &mut Call<'_>) -> Outcome {
    match &call.arg(1).to_ascii_lowercase()[..] {
        b"help" if call.args.len() == 2 => {
            write_help(&mut call.reply, "XGROUP", &HELP);
            Ok(())
        }
        b"create" if (5..=8).contains(&call.args.len()) => create(call),
        b"setid" if matches!(call.args.len(), 5 | 7) => set_id(call),
        b"destroy" if call.args.len() == 4 => destroy(call),
        b"createconsumer" if call.args.len() == 5 => create_consumer(call),
        b"delconsumer" if call.args.len() == 5 => delete_consumer(call),
        _ => Err(subcommand_fault(call)),
    }
}

const HELP: [&str; 14] = [
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
];

/// Redis' word for a sub-command whose arguments it cannot use.
pub(super) fn subcommand_fault(call: &Call<'_>) -> Fault {
    let container = c_text(&call.arg(0).to_ascii_uppercase()).into_owned();
    Fault::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{:.128}'. Try {container} HELP.",
        c_text(call.arg(1))
    ))
}

/// A group that is not there, in the words of those that name the key last.
pub(super) fn no_group_for_key(key: &[u8], group: &[u8]) -> Fault {
    Fault::new(format!("NOGROUP No such consumer group '{}' for key name '{}'", c_text(group), c_text(key)))
}

/// A key or group that is not there.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> Fault {
    Fault::new(format!("NOGROUP No such key '{}' or consumer group '{}'", c_text(key), c_text(group)))
}

/// The options of `XGROUP CREATE` and `XGROUP SETID`.
struct GroupOptions {
    makes_stream: bool,
    entries_read: i64,
}

fn group_options(call: &Call<'_>, creates: bool) -> Result<GroupOptions, Fault> {
    let mut options = GroupOptions { makes_stream: false, entries_read: UNKNOWN_READ };
    let mut at = 5;
    while at < call.args.len() {
        if creates && is(call.arg(at), "MKSTREAM") {
            options.makes_stream = true;
            at += 1;
        } else if is(call.arg(at), "ENTRIESREAD") && at + 1 < call.args.len() {
            options.entries_read = call.int(at + 1)?;
            if options.entries_read < 0 && options.entries_read != UNKNOWN_READ {
                return Err(text("ERR value for ENTRIESREAD must be positive or -1"));
            }
            at += 2;
        } else {
            return Err(subcommand_fault(call));
        }
    }
    Ok(options)
}

/// Is there a stream at the key? One is needed unless it may be made.
fn has_stream(call: &mut Call<'_>, may_be_made: bool) -> Result<bool, Fault> {
    match call.db.find_value(call.arg(2), call.now) {
        Some(Value::Stream(_)) => Ok(true),
        Some(_) => Err(WRONG_TYPE),
        None if may_be_made => Ok(false),
        None => Err(text(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
             MKSTREAM option to create an empty stream automatically.",
        )),
    }
}

/// Changes the group that the call names, which must be there.
fn change_group<R>(
    call: &mut Call<'_>,
    change_it: impl FnOnce(&mut Group, StreamId) -> Result<R, Fault>,
) -> Result<R, Fault> {
    has_stream(call, false)?;
    let (key, name) = (call.arg(2), call.arg(3));
    let changed = change(call.db, key, call.now, |stream| {
        stream.change_group(name, |group, extent| change_it(group, extent.last_id))
    })?;
    changed.flatten().ok_or_else(|| no_group_for_key(key, name))?
}

fn create(call: &mut Call<'_>) -> Outcome {
    let options = group_options(call, true)?;
    let is_there = has_stream(call, options.makes_stream)?;
    let (key, name, id) = (call.arg(2), call.arg(3), call.arg(4));
    let given = if id == b"$" { None } else { Some(strict_id(id)?) };
    if !is_there {
        call.db.keys.set(key, Value::Stream(Arc::default()), None, call.now.wall);
        call.db.changed(key);
        // What counts is that a group was made.
        call.db.dirty -= 1;
    }
    let created = change(call.db, key, call.now, |stream| {
        let last_id = given.unwrap_or(stream.extent().last_id);
        stream.create_group(name, Group::new(last_id, options.entries_read))
    })?;
    if created != Some(true) {
        return Err(text("BUSYGROUP Consumer Group name already exists"));
    }
    call.db.dirty += 1;
    call.db.notify(class::STREAM, "xgroup-create", key);
    call.reply.ok();
    Ok(())
}

fn set_id(call: &mut Call<'_>) -> Outcome {
    let options = group_options(call, false)?;
    let id = call.arg(4);
    change_group(call, |group, stream_last_id| {
        group.last_id = if id == b"$" { stream_last_id } else { lax_id(id, 0)? };
        group.entries_read = options.entries_read;
        Ok(())
    })?;
    call.db.dirty += 1;
    call.db.notify(class::STREAM, "xgroup-setid", call.arg(2));
    call.reply.ok();
    Ok(())
}

fn destroy(call: &mut Call<'_>) -> Outcome {
    has_stream(call, false)?;
    let (key, name) = (call.arg(2), call.arg(3));
    let destroyed = change(call.db, key, call.now, |stream| stream.destroy_group(name))? == Some(true);
    if destroyed {
        call.db.dirty += 1;
        call.db.notify(class::STREAM, "xgroup-destroy", key);
        // Who waits for the group is told.
        let db = call.db.selected();
        call.db.waits.note(db, key);
    }
    call.reply.bool(destroyed);
    Ok(())
}

fn create_consumer(call: &mut Call<'_>) -> Outcome {
    let (consumer, now_ms) = (call.arg(4), call.now.wall.0 as i64);
    let created = change_group(call, |group, _| Ok(group.create_consumer(consumer, now_ms)))?;
    if created {
        consumer_created(call.db, call.arg(2));
    }
    call.reply.bool(created);
    Ok(())
}

fn delete_consumer(call: &mut Call<'_>) -> Outcome {
    let consumer = call.arg(4);
    let pending = change_group(call, |group, _| Ok(group.delete_consumer(consumer)))?;
    if pending.is_some() {
        call.db.dirty += 1;
        call.db.notify(class::STREAM, "xgroup-delconsumer", call.arg(2));
    }
    call.reply.int(pending.unwrap_or(0) as i64);
    Ok(())
}

/// `XACK key group id [id ...]`
pub(super) fn xack(call: &mut Call<'_>) -> Outcome {
    let (key, name, args) = (call.arg(1), call.arg(2), call.args);
    if call.stream(key)?.and_then(|stream| stream.group(name)).is_none() {
        call.reply.int(0);
        return Ok(());
    }
    let ids = ids_from(args, 3)?;
    let acknowledged = change(call.db, key, call.now, |stream| {
        stream.change_group(name, |group, _| ids.into_iter().filter(|id| group.release(*id)).count())
    })?;
    let acknowledged = acknowledged.flatten().unwrap_or(0);
    call.db.dirty += acknowledged as u64;
    call.reply.int(acknowledged as i64);
    Ok(())
}

/// What `XPENDING` lists.
struct PendingRange<'a> {
    min_idle_ms: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

/// `XPENDING key group [[IDLE ms] start end count [consumer]]`
pub(super) fn xpending(call: &mut Call<'_>) -> Outcome {
    let range = pending_range(call)?;
    let (key, name, now_ms) = (call.arg(1), call.arg(2), call.now.wall.0 as i64);
    let stream = match call.db.read(key, call.now) {
        None => None,
        Some(Value::Stream(stream)) => Some(stream),
        Some(_) => return Err(WRONG_TYPE),
    };
    let group =
        stream.and_then(|stream: &Arc<Stream>| stream.group(name)).ok_or_else(|| no_group(key, name))?;
    match range {
        None => put_summary(&mut call.reply, group),
        Some(range) => put_pending(&mut call.reply, group, &range, now_ms),
    }
    Ok(())
}

fn pending_range<'a>(call: &Call<'a>) -> Result<Option<PendingRange<'a>>, Fault> {
    let len = call.args.len();
    if len == 3 {
        return Ok(None);
    }
    if !(6..=9).contains(&len) {
        return Err(SYNTAX);
    }
    let (mut at, mut min_idle_ms) = (3, 0);
    if is(call.arg(3), "IDLE") {
        min_idle_ms = call.int(4)?;
        if len < 8 {
            return Err(SYNTAX);
        }
        at = 5;
    }
    let count = usize::try_from(parse_i64(call.arg(at + 2)).ok_or(NOT_INTEGER)?).unwrap_or(0);
    let (start, end) = (interval_start(call.arg(at))?, interval_end(call.arg(at + 1))?);
    Ok(Some(PendingRange { min_idle_ms, start, end, count, consumer: call.args.get(at + 3) }))
}

fn put_summary(reply: &mut Reply<'_>, group: &Group) {
    let pending = group.pending();
    reply.array(4);
    reply.int(pending.len() as i64);
    let (Some((first, _)), Some((last, _))) = (pending.first(), pending.last()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    put_id(reply, first);
    put_id(reply, last);
    let busy = || group.consumers().filter(|(_, consumer)| consumer.pending_len() > 0);
    reply.array(busy().count());
    for (name, consumer) in busy() {
        reply.array(2);
        reply.bulk(name);
        reply.bulk(&IntText::new(consumer.pending_len() as i64));
    }
}

fn put_pending(reply: &mut Reply<'_>, group: &Group, range: &PendingRange<'_>, now_ms: i64) {
    let owner = range.consumer.map(|name| group.consumer(name));
    let ids: Box<dyn Iterator<Item = StreamId> + '_> = match owner {
        Some(None) => Box::new(std::iter::empty()),
        Some(Some(consumer)) => Box::new(consumer.pending_from(range.start)),
        None => Box::new(group.pending().iter_from(range.start).map(|(id, _)| id)),
    };
    let those = ids
        .take_while(|id| *id <= range.end)
        .filter_map(|id| group.pending().get(id).map(|pending| (id, pending)))
        .map(|(id, pending)| (id, pending, now_ms.saturating_sub(pending.delivered_ms)))
        .filter(|(_, _, idle_ms)| range.min_idle_ms == 0 || *idle_ms >= range.min_idle_ms);
    let mark = reply.mark();
    let mut len = 0;
    for (id, pending, idle_ms) in those.take(range.count) {
        reply.array(4);
        put_id(reply, id);
        reply.bulk(&pending.consumer);
        reply.int(idle_ms.max(0));
        reply.int(pending.deliveries as i64);
        len += 1;
    }
    reply.array_from(mark, len);
}
