//! Commands on the entries of streams, and what all commands on streams share: ids and how entries are shown.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::call::{Call, is};
use super::db::{Db, ExpiryMode};
use super::fault::{Fault, NO_SUCH_KEY, NOT_INTEGER, Outcome, SYNTAX, WRONG_TYPE, text};
use super::notify::class;
use crate::io::Now;
use crate::keyspace::Value;
use crate::keyspace::number::parse_i64;
use crate::keyspace::stream::{
    AppendError, Entry, GivenId, GivenSeq, IdText, Keep, NewId, Stream, StreamId, Trim,
};
use crate::resp::{Args, Reply};

const INVALID_ID: Fault = text("ERR Invalid stream ID specified as stream command argument");

// ---- ids

/// An id; without its second part it has `0` there.
pub(super) fn strict_id(arg: &[u8]) -> Result<StreamId, Fault> {
    GivenId::parse(arg).and_then(|id| id.with_seq(0)).ok_or(INVALID_ID)
}

/// An id, or `-` for the least and `+` for the greatest.
pub(super) fn lax_id(arg: &[u8], missing_seq: u64) -> Result<StreamId, Fault> {
    match arg {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => GivenId::parse(arg).and_then(|id| id.with_seq(missing_seq)).ok_or(INVALID_ID),
    }
}

/// The first id of an interval; behind `(` one that is not part of it.
pub(super) fn interval_start(arg: &[u8]) -> Result<StreamId, Fault> {
    match arg {
        [b'(', id @ ..] if !id.is_empty() => {
            strict_id(id)?.next().ok_or(text("ERR invalid start ID for the interval"))
        }
        _ => lax_id(arg, 0),
    }
}

/// The last id of an interval; behind `(` one that is not part of it.
pub(super) fn interval_end(arg: &[u8]) -> Result<StreamId, Fault> {
    match arg {
        [b'(', id @ ..] if !id.is_empty() => {
            let id = GivenId::parse(id).and_then(|id| id.with_seq(u64::MAX)).ok_or(INVALID_ID)?;
            id.previous().ok_or(text("ERR invalid end ID for the interval"))
        }
        _ => lax_id(arg, u64::MAX),
    }
}

/// The arguments from `first` on as ids.
pub(super) fn ids_from(args: Args<'_>, first: usize) -> Result<Vec<StreamId>, Fault> {
    args.from(first).iter().map(strict_id).collect()
}

// ---- replies

pub(super) fn put_id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(&IdText::from(id));
}

/// An entry: its id and its fields with their values.
pub(super) fn put_entry(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    reply.array(2);
    put_id(reply, entry.id);
    reply.array(entry.len() * 2);
    for (field, value) in entry.pairs() {
        reply.element(field);
        reply.element(value);
    }
}

/// An array of entries; gives their number.
pub(super) fn put_entries<'s>(reply: &mut Reply<'_>, entries: impl Iterator<Item = Entry<'s>>) -> usize {
    let mark = reply.mark();
    let mut len = 0;
    for entry in entries {
        put_entry(reply, &entry);
        len += 1;
    }
    reply.array_from(mark, len);
    len
}

// ---- keys

/// Changes the stream of a key in place, if there is one.
pub(super) fn change<R>(
    db: &mut Db,
    key: &[u8],
    now: Now,
    change: impl FnOnce(&mut Stream) -> R,
) -> Result<Option<R>, Fault> {
    match db.find_value(key, now) {
        None => return Ok(None),
        Some(Value::Stream(_)) => {}
        Some(_) => return Err(WRONG_TYPE),
    }
    let changed = db.keys.update(key, |value, _| match value {
        Value::Stream(stream) => Some(change(Arc::make_mut(stream))),
        _ => None,
    });
    Ok(changed.flatten())
}

/// The keys of `XREAD` and `XREADGROUP`: the first half of what follows `STREAMS`.
pub(super) fn keys_behind_streams(args: &Args<'_>) -> Range<i32> {
    // Names of groups and consumers are not looked at.
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        match () {
            () if is(arg, "STREAMS") => {
                let first = at + 1;
                return first as i32..(first + (args.len() - first) / 2) as i32;
            }
            () if is(arg, "BLOCK") || is(arg, "COUNT") => at += 2,
            () if is(arg, "GROUP") => at += 3,
            () => at += 1,
        }
    }
    0..0
}

// ---- adding and trimming

/// The options of `XADD` and `XTRIM`.
struct AddOrTrim {
    no_make: bool,
    trim: Option<Trim>,
    /// Where the argument stands that says what to keep.
    keep_at: usize,
    /// `XADD`: where the id stands, or would.
    id_at: usize,
    id: NewId,
}

impl AddOrTrim {
    fn parse(call: &Call<'_>, adds: bool) -> Result<Self, Fault> {
        let len = call.args.len();
        let mut keep = None;
        let (mut limit, mut whole_nodes, mut no_make, mut keep_at) = (None, false, false, 0);
        let mut id = NewId::At(call.now.wall.0);
        let mut at = 2;
        while at < len {
            let (option, left) = (call.arg(at), len - at - 1);
            match () {
                () if adds && option == b"*" => break,
                () if left > 0 && (is(option, "MAXLEN") || is(option, "MINID")) => {
                    if keep.is_some() {
                        return Err(text(
                            "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                        ));
                    }
                    let mark = call.arg(at + 1);
                    whole_nodes = left >= 2 && mark == b"~";
                    at += if left >= 2 && (mark == b"~" || mark == b"=") { 2 } else { 1 };
                    keep_at = at;
                    keep = Some(if is(option, "MAXLEN") {
                        let len = u64::try_from(call.int(at)?);
                        Keep::Len(len.map_err(|_| text("ERR The MAXLEN argument must be >= 0."))?)
                    } else {
                        Keep::From(strict_id(call.arg(at))?)
                    });
                }
                () if left > 0 && is(option, "LIMIT") => {
                    at += 1;
                    let given = u64::try_from(call.int(at)?);
                    limit = Some(given.map_err(|_| text("ERR The LIMIT argument must be >= 0."))?);
                }
                () if adds && is(option, "NOMKSTREAM") => no_make = true,
                () if adds => {
                    let given = GivenId::parse(option).ok_or(INVALID_ID)?;
                    id = match given.seq {
                        GivenSeq::Any => NewId::In(given.ms),
                        GivenSeq::Missing => NewId::Exactly(StreamId { ms: given.ms, seq: 0 }),
                        GivenSeq::Number(seq) => NewId::Exactly(StreamId { ms: given.ms, seq }),
                    };
                    break;
                }
                () => return Err(SYNTAX),
            }
            at += 1;
        }
        let trim = trim_rule(call, adds, keep, whole_nodes, limit)?;
        Ok(Self { no_make, trim, keep_at, id_at: at, id })
    }

    /// What is decided here and nowhere else: the id, and where a trim stops that may stop early.
    fn decided(&self, id: Option<StreamId>, stream: &Stream) -> Decided {
        let keep = self.trim.filter(|trim| trim.whole_nodes).map(|trim| match trim.keep {
            Keep::Len(_) => stream.len().to_string().into_bytes(),
            Keep::From(_) => IdText::from(stream.first_stored_id().unwrap_or(StreamId::MAX)).to_vec(),
        });
        Decided { id: id.map(IdText::from), keep }
    }

    /// Hands the call on with what was decided in it.
    fn hand_on(&self, call: &mut Call<'_>, decided: &Decided) {
        let mut args: Vec<&[u8]> = call.args.iter().collect();
        if let Some(keep) = &decided.keep {
            args[self.keep_at - 1] = b"=";
            args[self.keep_at] = keep;
        }
        if let Some(id) = &decided.id {
            args[self.id_at] = id;
        }
        call.propagate(&args);
    }
}

/// What replicas and files are told in place of what the client asked for.
#[derive(Default)]
struct Decided {
    id: Option<IdText>,
    keep: Option<Vec<u8>>,
}

/// What is trimmed, and how much at most.
fn trim_rule(
    call: &Call<'_>,
    adds: bool,
    keep: Option<Keep>,
    whole_nodes: bool,
    limit: Option<u64>,
) -> Result<Option<Trim>, Fault> {
    let none = keep.is_none();
    if none && limit.is_some_and(|limit| limit > 0) {
        return Err(text("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"));
    }
    if none && !adds {
        return Err(text("ERR syntax error, XTRIM must be called with a trimming strategy"));
    }
    // What the master or a file says was decided there.
    let is_told = call.db.expiry == ExpiryMode::Ignore;
    if limit.is_some() && !whole_nodes && !is_told {
        return Err(text("ERR syntax error, LIMIT cannot be used without the special ~ option"));
    }
    let limit = match limit {
        _ if is_told || !whole_nodes => 0,
        Some(limit) => limit,
        None => match call.db.keys.env().limits.stream_node.max_entries.saturating_mul(100) {
            0 => 10_000,
            a_hundred_nodes => a_hundred_nodes.min(1_000_000),
        },
    };
    Ok(keep.map(|keep| Trim { keep, whole_nodes, limit }))
}

pub(super) fn xadd(call: &mut Call<'_>) -> Outcome {
    let options = AddOrTrim::parse(call, true)?;
    let parts: Vec<&[u8]> = call.args.from(options.id_at + 1).iter().collect();
    if parts.len() < 2 || parts.len() % 2 == 1 {
        return Err(Fault::arity("xadd"));
    }
    if options.id == NewId::Exactly(StreamId::MIN) {
        return Err(text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let (key, now) = (call.arg(1), call.now);
    let limits = call.db.keys.env().limits.stream_node;
    let add = |stream: &mut Stream| {
        let id = stream.append(options.id, &parts, limits).map_err(append_fault)?;
        let trimmed = options.trim.map_or(0, |trim| stream.trim(trim));
        let new_id = if matches!(options.id, NewId::Exactly(_)) { None } else { Some(id) };
        Ok::<_, Fault>((id, trimmed, options.decided(new_id, stream)))
    };
    let added = match change(call.db, key, now, add)? {
        Some(added) => added?,
        None if options.no_make => {
            call.reply.null();
            return Ok(());
        }
        None => {
            let mut stream = Stream::default();
            let added = add(&mut stream)?;
            call.db.keys.set(key, Value::Stream(Arc::new(stream)), None, now.wall);
            added
        }
    };
    let (id, trimmed, decided) = added;
    call.db.changed(key);
    call.db.notify(class::STREAM, "xadd", key);
    if trimmed > 0 {
        call.db.notify(class::STREAM, "xtrim", key);
    }
    if decided.id.is_some() || decided.keep.is_some() {
        options.hand_on(call, &decided);
    }
    put_id(&mut call.reply, id);
    Ok(())
}

fn append_fault(error: AppendError) -> Fault {
    text(match error {
        AppendError::Exhausted => {
            "ERR The stream has exhausted the last possible ID, unable to add more items"
        }
        AppendError::NotAbove => {
            "ERR The ID specified in XADD is equal or smaller than the target stream top item"
        }
        AppendError::TooLarge => "ERR Elements are too large to be stored",
    })
}

pub(super) fn xtrim(call: &mut Call<'_>) -> Outcome {
    let options = AddOrTrim::parse(call, false)?;
    let key = call.arg(1);
    let trimmed = change(call.db, key, call.now, |stream| {
        let trimmed = options.trim.map_or(0, |trim| stream.trim(trim));
        (trimmed, options.decided(None, stream))
    })?;
    let (trimmed, decided) = trimmed.unwrap_or_default();
    if trimmed > 0 {
        call.db.notify(class::STREAM, "xtrim", key);
        call.db.changed(key);
        call.db.dirty += trimmed - 1;
        if decided.keep.is_some() {
            options.hand_on(call, &decided);
        }
    }
    call.reply.int(trimmed as i64);
    Ok(())
}

pub(super) fn xdel(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let args = call.args;
    let deleted = change(call.db, key, call.now, |stream| {
        let ids = ids_from(args, 2)?;
        Ok::<_, Fault>(ids.into_iter().filter(|id| stream.delete(*id)).count())
    })?;
    let deleted = deleted.transpose()?.unwrap_or(0);
    if deleted > 0 {
        call.db.changed(key);
        call.db.dirty += deleted as u64 - 1;
        call.db.notify(class::STREAM, "xdel", key);
    }
    call.reply.int(deleted as i64);
    Ok(())
}

pub(super) fn xsetid(call: &mut Call<'_>) -> Outcome {
    let last_id = strict_id(call.arg(2))?;
    let (mut entries_added, mut max_deleted_id) = (None, None);
    let mut at = 3;
    while at < call.args.len() {
        let (option, has_more) = (call.arg(at), at + 1 < call.args.len());
        if has_more && is(option, "ENTRIESADDED") {
            let added = u64::try_from(call.int(at + 1)?);
            entries_added = Some(added.map_err(|_| text("ERR entries_added must be positive"))?);
        } else if has_more && is(option, "MAXDELETEDID") {
            let id = strict_id(call.arg(at + 1))?;
            if last_id < id {
                return Err(text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            max_deleted_id = Some(id).filter(|id| *id != StreamId::MIN);
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let key = call.arg(1);
    let set = change(call.db, key, call.now, |stream| {
        if stream.last_entry_id().is_some_and(|top| last_id < top) {
            return Err(text("ERR The ID specified in XSETID is smaller than the target stream top item"));
        }
        if !stream.is_empty() && entries_added.is_some_and(|added| (stream.len() as u64) > added) {
            return Err(text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        stream.set_last_id(last_id, entries_added, max_deleted_id);
        Ok(())
    })?;
    set.ok_or(NO_SUCH_KEY)??;
    call.db.dirty += 1;
    call.db.notify(class::STREAM, "xsetid", key);
    call.reply.ok();
    Ok(())
}

// ---- reading

pub(super) fn xlen(call: &mut Call<'_>) -> Outcome {
    let len = call.stream(call.arg(1))?.map_or(0, Stream::len);
    call.reply.int(len as i64);
    Ok(())
}

pub(super) fn xrange(call: &mut Call<'_>) -> Outcome {
    range(call, false)
}

pub(super) fn xrevrange(call: &mut Call<'_>) -> Outcome {
    range(call, true)
}

fn range(call: &mut Call<'_>, back: bool) -> Outcome {
    let (start_at, end_at) = if back { (3, 2) } else { (2, 3) };
    let (start, end) = (interval_start(call.arg(start_at))?, interval_end(call.arg(end_at))?);
    let mut count = usize::MAX;
    let mut at = 4;
    while at < call.args.len() {
        if !is(call.arg(at), "COUNT") || at + 1 >= call.args.len() {
            return Err(SYNTAX);
        }
        count = usize::try_from(parse_i64(call.arg(at + 1)).ok_or(NOT_INTEGER)?).unwrap_or(0);
        at += 2;
    }
    match call.db.read(call.arg(1), call.now) {
        None => call.reply.array(0),
        Some(Value::Stream(_)) if count == 0 => call.reply.null_array(),
        Some(Value::Stream(stream)) if back => {
            put_entries(&mut call.reply, stream.range_back(start, end).take(count));
        }
        Some(Value::Stream(stream)) => {
            put_entries(&mut call.reply, stream.range(start, end).take(count));
        }
        Some(_) => return Err(WRONG_TYPE),
    }
    Ok(())
}

/// A client's text in an error, as C shows it: up to a zero byte.
pub(super) fn c_text(arg: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(arg.split(|&byte| byte == 0).next().unwrap_or_default())
}
