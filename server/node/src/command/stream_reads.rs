//! `XREAD` and `XREADGROUP`: what came after an id, of several streams at once, or the next that comes.

use super::call::{Blocking, Call, Wait, is};
use super::db::Db;
use super::fault::{Fault, NOT_INTEGER, Outcome, SYNTAX, WRONG_TYPE, shown, text};
use super::notify::class;
use super::streams::{c_text, change, put_entries, put_entry, put_id, strict_id};
use crate::keyspace::Value;
use crate::keyspace::number::parse_i64;
use crate::keyspace::stream::{IdText, Stream, StreamId};
use crate::resp::{Args, OwnedArgs, Protocol};

/// A reader that waited without a COUNT is given no more entries than this.
const WOKEN_COUNT: usize = 1000;

/// Who reads for a group.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    /// What it is given counts as acknowledged.
    noack: bool,
}

/// The options of a call.
#[derive(Clone, Copy, Debug)]
struct Options<'a> {
    block_ms: Option<u64>,
    /// 0: all.
    count: usize,
    reader: Option<Reader<'a>>,
    /// Where the first key stands.
    keys_at: usize,
    streams: usize,
}

/// From where a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Id(StreamId),
    /// `>`: what no consumer of the group was given yet.
    Group,
}

pub(super) fn xread(call: &mut Call<'_>) -> Outcome {
    read(call, false)
}

pub(super) fn xreadgroup(call: &mut Call<'_>) -> Outcome {
    read(call, true)
}

fn read(call: &mut Call<'_>, for_group: bool) -> Outcome {
    let options = Options::parse(call.args, for_group, call.blocking == Blocking::InScript)?;
    // Reading for a group is handed on as the changes that it makes.
    call.rewritten = true;
    if let Blocking::Woken(key) = call.blocking {
        return serve_woken(call, options, key);
    }
    let afters = afters(call, options)?;
    let mark = call.reply.mark();
    let mut served = 0;
    for (index, &after) in afters.iter().enumerate() {
        let key = call.arg(options.keys_at + index);
        let Some(Value::Stream(stream)) = call.db.find_value(key, call.now) else { continue };
        let from = match (options.reader, after) {
            (Some(_), After::Id(id)) => {
                call.db.dirty += 1;
                served += 1;
                put_key(call, key);
                give_history(call, options, key, id)?;
                continue;
            }
            (Some(reader), After::Group) => stream.group(reader.group).map(|group| group.last_id),
            (None, After::Id(id)) => Some(id),
            (None, After::Group) => None,
        };
        let Some(from) = from.filter(|from| stream.last_entry_id().is_some_and(|last| last > *from)) else {
            continue;
        };
        call.db.dirty += u64::from(for_group);
        served += 1;
        give(call, options, key, from)?;
    }
    if served > 0 {
        call.reply.map_from(mark, served);
        return Ok(());
    }
    match options.block_ms {
        Some(timeout_ms) if !matches!(call.blocking, Blocking::Never | Blocking::InScript) => {
            call.wait = Some(Wait {
                keys: options.keys_at..options.keys_at + options.streams,
                timeout_ms,
                args: Some(args_with_ids(call.args, options, &afters)),
                minds_absence: for_group,
            });
        }
        _ => call.reply.null_array(),
    }
    Ok(())
}

/// One of the streams that the caller waits for has changed.
fn serve_woken(call: &mut Call<'_>, options: Options<'_>, key: &[u8]) -> Outcome {
    let index = (0..options.streams).find(|index| call.arg(options.keys_at + index) == key).unwrap_or(0);
    let after = call.arg(options.keys_at + options.streams + index);
    let from = match (call.db.find_value(key, call.now), options.reader) {
        (Some(Value::Stream(stream)), reader) => {
            let from = match reader {
                Some(reader) => {
                    let group = stream.group(reader.group).ok_or(text(
                        "NOGROUP the consumer group this client was blocked on no longer exists",
                    ))?;
                    group.last_id
                }
                None => strict_id(after)?,
            };
            Some(from).filter(|from| stream.extent().last_id > *from)
        }
        (_, Some(_)) => return Err(text("UNBLOCKED the stream key no longer exists")),
        (_, None) => None,
    };
    let Some(from) = from else {
        // The old wait goes on.
        call.wait_for(0..0, 0, |_| {});
        return Ok(());
    };
    let count = if options.count == 0 { WOKEN_COUNT } else { options.count };
    let mark = call.reply.mark();
    give(call, Options { count, ..options }, key, from)?;
    call.reply.map_from(mark, 1);
    Ok(())
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, for_group: bool, in_script: bool) -> Result<Self, Fault> {
        let arg = |at: usize| args.get(at).unwrap_or_default();
        let (mut block_ms, mut count, mut group, mut noack) = (None, 0, None, false);
        let mut at = 1;
        while at < args.len() {
            let (option, left) = (arg(at), args.len() - at - 1);
            match () {
                () if is(option, "BLOCK") && left > 0 => {
                    if in_script {
                        let name = shown(arg(0), 128);
                        return Err(Fault::new(format!(
                            "ERR {name} command is not allowed with BLOCK option from scripts"
                        )));
                    }
                    at += 1;
                    block_ms = Some(block_timeout(arg(at))?);
                }
                () if is(option, "COUNT") && left > 0 => {
                    at += 1;
                    count = usize::try_from(parse_i64(arg(at)).ok_or(NOT_INTEGER)?).unwrap_or(0);
                }
                () if is(option, "STREAMS") && left > 0 => {
                    if left % 2 == 1 {
                        return Err(text(
                            "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                        ));
                    }
                    let reader = group.map(|(group, consumer)| Reader { group, consumer, noack });
                    if for_group && reader.is_none() {
                        return Err(text("ERR Missing GROUP option for XREADGROUP"));
                    }
                    return Ok(Self { block_ms, count, reader, keys_at: at + 1, streams: left / 2 });
                }
                () if is(option, "GROUP") && left >= 2 => {
                    if !for_group {
                        return Err(text(
                            "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                        ));
                    }
                    group = Some((arg(at + 1), arg(at + 2)));
                    at += 2;
                }
                () if is(option, "NOACK") => {
                    if !for_group {
                        return Err(text(
                            "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                        ));
                    }
                    noack = true;
                }
                () => return Err(SYNTAX),
            }
            at += 1;
        }
        Err(SYNTAX)
    }
}

fn block_timeout(arg: &[u8]) -> Result<u64, Fault> {
    let ms = parse_i64(arg).ok_or(text("ERR timeout is not an integer or out of range"))?;
    u64::try_from(ms).map_err(|_| text("ERR timeout is negative"))
}

/// From where each stream is read; fails where that cannot be.
fn afters(call: &mut Call<'_>, options: Options<'_>) -> Result<Vec<After>, Fault> {
    (0..options.streams).map(|index| after(call, options, index)).collect()
}

fn after(call: &mut Call<'_>, options: Options<'_>, index: usize) -> Result<After, Fault> {
    let key = call.arg(options.keys_at + index);
    let id = call.arg(options.keys_at + options.streams + index);
    let stream = call.stream(key)?;
    if let Some(reader) = options.reader
        && stream.and_then(|stream| stream.group(reader.group)).is_none()
    {
        return Err(Fault::new(format!(
            "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
            c_text(key),
            c_text(reader.group)
        )));
    }
    match (id, options.reader) {
        (b"$", Some(_)) => Err(text(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer \
             by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty \
             result set.",
        )),
        (b"$", None) => Ok(After::Id(stream.map_or(StreamId::MIN, |stream| stream.extent().last_id))),
        (b">", Some(_)) => Ok(After::Group),
        (b">", None) => Err(text(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
        )),
        // Redis has the greatest id stand for `>`.
        _ => match strict_id(id)? {
            StreamId::MAX if options.reader.is_some() => Ok(After::Group),
            id => Ok(After::Id(id)),
        },
    }
}

/// The arguments, with the last id of a stream at this moment in place of `$`.
fn args_with_ids(args: Args<'_>, options: Options<'_>, afters: &[After]) -> OwnedArgs {
    let ids_at = options.keys_at + options.streams;
    let mut kept: OwnedArgs = args.iter().take(ids_at).collect();
    for after in afters {
        match after {
            After::Id(id) => kept.push(&IdText::from(*id)),
            After::Group => kept.push(b">"),
        }
    }
    kept
}

/// A stream's name before its entries: a pair, or half of one.
fn put_key(call: &mut Call<'_>, key: &[u8]) {
    if call.reply.protocol() == Protocol::Resp2 {
        call.reply.array(2);
    }
    call.reply.bulk(key);
}

/// A stream's name and its entries behind `from`, which are the reader's from now on.
fn give(call: &mut Call<'_>, options: Options<'_>, key: &[u8], from: StreamId) -> Outcome {
    let count = if options.count == 0 { usize::MAX } else { options.count };
    let start = from.next().unwrap_or_default();
    put_key(call, key);
    let Some(reader) = options.reader else {
        if let Some(Value::Stream(stream)) = call.db.find_value(key, call.now) {
            put_entries(&mut call.reply, stream.range(start, StreamId::MAX).take(count));
        }
        return Ok(());
    };
    let now_ms = call.now.wall.0 as i64;
    meet(call, key, reader)?;
    let Some(Value::Stream(stream)) = call.db.find_value(key, call.now) else { return Err(WRONG_TYPE) };
    let mut ids = Vec::new();
    let entries = stream.range(start, StreamId::MAX).take(count).inspect(|entry| ids.push(entry.id));
    put_entries(&mut call.reply, entries);
    // Of each entry, how far the group had read with it.
    let mut read = Vec::with_capacity(ids.len());
    let group = change(call.db, key, call.now, |stream| {
        stream.change_group(reader.group, |group, extent| {
            let before = group.last_id;
            for id in ids {
                group.advance(id, extent);
                if !reader.noack {
                    group.assign(id, reader.consumer, now_ms, 1);
                    read.push((id, group.last_id));
                }
            }
            (group.last_id > before, group.last_id, group.entries_read)
        })
    })?;
    for (id, last_id) in read {
        propagate_claim(
            call.db,
            key,
            reader.group,
            &Claimed {
                id: &IdText::from(id),
                consumer: reader.consumer,
                delivered_ms: now_ms,
                deliveries: 1,
                last_id,
            },
        );
    }
    if let Some((true, last_id, entries_read)) = group.flatten().filter(|_| reader.noack) {
        propagate_group_id(call.db, key, reader.group, last_id, entries_read);
    }
    Ok(())
}

/// The entries behind `from` that the reader was given before and has not acknowledged.
fn give_history(call: &mut Call<'_>, options: Options<'_>, key: &[u8], from: StreamId) -> Outcome {
    let Some(reader) = options.reader else { return Ok(()) };
    let count = if options.count == 0 { usize::MAX } else { options.count };
    let (start, now_ms) = (from.next().unwrap_or_default(), call.now.wall.0 as i64);
    meet(call, key, reader)?;
    let reply = &mut call.reply;
    change(call.db, key, call.now, |stream| {
        let pending = pending_of(stream, reader, start, count);
        reply.array(pending.len());
        for &id in &pending {
            if let Some(entry) = stream.get(id) {
                put_entry(reply, &entry);
            } else {
                reply.array(2);
                put_id(reply, id);
                reply.null_array();
            }
        }
        let there: Vec<StreamId> = pending.into_iter().filter(|id| stream.contains(*id)).collect();
        stream.change_group(reader.group, |group, _| {
            for id in there {
                group.deliver_again(id, now_ms);
            }
        });
    })?;
    Ok(())
}

fn pending_of(stream: &Stream, reader: Reader<'_>, start: StreamId, count: usize) -> Vec<StreamId> {
    let consumer = stream.group(reader.group).and_then(|group| group.consumer(reader.consumer));
    consumer.into_iter().flat_map(|consumer| consumer.pending_from(start)).take(count).collect()
}

/// The group hears of the reader's consumer. Nothing else will tell replicas of a new one that acknowledges nothing.
fn meet(call: &mut Call<'_>, key: &[u8], reader: Reader<'_>) -> Outcome {
    let now_ms = call.now.wall.0 as i64;
    let is_new = change(call.db, key, call.now, |stream| {
        stream.change_group(reader.group, |group, _| group.meet_consumer(reader.consumer, now_ms))
    })?;
    if is_new.flatten() == Some(true) {
        consumer_created(call.db, key);
        if reader.noack {
            let args: [&[u8]; 5] = [b"XGROUP", b"CREATECONSUMER", key, reader.group, reader.consumer];
            call.db.propagated.push(args.iter());
        }
    }
    Ok(())
}

/// A consumer was made as a side effect.
pub(super) fn consumer_created(db: &mut Db, key: &[u8]) {
    db.dirty += 1;
    db.notify(class::STREAM, "xgroup-createconsumer", key);
}

/// An entry that became a consumer's.
pub(super) struct Claimed<'a> {
    pub id: &'a [u8],
    pub consumer: &'a [u8],
    pub delivered_ms: i64,
    pub deliveries: u64,
    /// How far its group has read.
    pub last_id: StreamId,
}

/// Hands on that an entry is a consumer's now.
pub(super) fn propagate_claim(db: &mut Db, key: &[u8], group: &[u8], claimed: &Claimed<'_>) {
    let time = claimed.delivered_ms.to_string();
    let count = claimed.deliveries.to_string();
    let last_id = IdText::from(claimed.last_id);
    let args: [&[u8]; 14] = [
        b"XCLAIM",
        key,
        group,
        claimed.consumer,
        b"0",
        claimed.id,
        b"TIME",
        time.as_bytes(),
        b"RETRYCOUNT",
        count.as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        &last_id,
    ];
    db.propagated.push(args.iter());
}

/// Hands on how far a group has read.
pub(super) fn propagate_group_id(
    db: &mut Db,
    key: &[u8],
    group: &[u8],
    last_id: StreamId,
    entries_read: i64,
) {
    let (last_id, entries_read) = (IdText::from(last_id), entries_read.to_string());
    let args: [&[u8]; 7] =
        [b"XGROUP", b"SETID", key, group, &last_id, b"ENTRIESREAD", entries_read.as_bytes()];
    db.propagated.push(args.iter());
}
