//! `XCLAIM` and `XAUTOCLAIM`: pending entries become another consumer's.

use super::call::{Call, is};
use super::fault::{Fault, Outcome, SYNTAX, text};
use super::stream_groups::no_group;
use super::stream_reads::{Claimed, consumer_created, propagate_claim, propagate_group_id};
use super::streams::{c_text, change, interval_start, put_entry, put_id, strict_id};
use crate::keyspace::number::parse_i64;
use crate::keyspace::stream::{IdText, Pending, Stream, StreamId};
use crate::resp::Reply;

/// How entries change hands.
#[derive(Clone, Copy, Debug)]
struct Terms<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    min_idle_ms: i64,
    now_ms: i64,
    /// When they count as given.
    delivered_ms: i64,
    /// How often they count as given; otherwise once more than before.
    deliveries: Option<u64>,
    /// Entries that nobody has are made pending.
    force: bool,
    /// Only ids are told, and that does not count as given.
    just_ids: bool,
}

/// What became of an entry.
enum Outcomes {
    /// It is the consumer's.
    Taken(Pending),
    /// It is not in the stream any more, nor pending: this is what it was.
    Gone(Pending),
    /// Nothing.
    Left,
}

/// The claims of one call, to be handed on.
#[derive(Default)]
struct Ledger {
    /// The consumer was heard of, and made if it was not there.
    met: Option<bool>,
    claims: Vec<(Vec<u8>, Pending)>,
}

/// `XCLAIM key group consumer min-idle-time id [id ...] [options]`
pub(super) fn xclaim(call: &mut Call<'_>) -> Outcome {
    let (key, group) = (call.arg(1), call.arg(2));
    if call.stream(key)?.and_then(|stream| stream.group(group)).is_none() {
        return Err(no_group(key, group));
    }
    let (ids, terms, last_id) = claim_options(call)?;
    call.rewritten = true;
    let mut ledger = Ledger::default();
    let (args, now, reply) = (call.args, call.now, &mut call.reply);
    let progress = change(call.db, key, now, |stream| {
        let moved = stream.change_group(group, |group, _| {
            let moves = last_id > group.last_id;
            group.last_id = group.last_id.max(last_id);
            moves
        });
        let mark = reply.mark();
        let mut len = 0;
        for (nth, id) in ids.into_iter().enumerate() {
            match claim(stream, id, &terms, &mut ledger) {
                Outcomes::Taken(pending) => {
                    put_claimed(reply, stream, id, &terms);
                    len += 1;
                    ledger.claims.push((args[5 + nth].to_vec(), pending));
                }
                Outcomes::Gone(pending) => ledger.claims.push((args[5 + nth].to_vec(), pending)),
                Outcomes::Left => {}
            }
        }
        reply.array_from(mark, len);
        let group = stream.group(group)?;
        Some((moved == Some(true), group.last_id, group.entries_read))
    })?;
    let Some((moved, last_id, entries_read)) = progress.flatten() else { return Ok(()) };
    let claims = hand_on(call, key, group, &ledger, last_id);
    if moved && claims == 0 {
        propagate_group_id(call.db, key, group, last_id, entries_read);
        call.db.dirty += 1;
    }
    Ok(())
}

/// `XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]`
pub(super) fn xautoclaim(call: &mut Call<'_>) -> Outcome {
    /// Entries looked at for each one asked for.
    const ATTEMPTS: i64 = 10;
    const ID_BYTES: i64 = 16;
    let min_idle_ms =
        parse_i64(call.arg(4)).ok_or(text("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?.max(0);
    let start = interval_start(call.arg(5))?;
    let (mut count, mut just_ids) = (100, false);
    let mut at = 6;
    while at < call.args.len() {
        if is(call.arg(at), "COUNT") && at + 1 < call.args.len() {
            let fits = |count: &i64| (1..=i64::MAX / ID_BYTES).contains(count);
            count = parse_i64(call.arg(at + 1)).filter(fits).ok_or(text("ERR COUNT must be > 0"))?;
            at += 1;
        } else if is(call.arg(at), "JUSTID") {
            just_ids = true;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    let (key, group, now_ms) = (call.arg(1), call.arg(2), call.now.wall.0 as i64);
    if call.stream(key)?.and_then(|stream| stream.group(group)).is_none() {
        return Err(no_group(key, group));
    }
    let terms = Terms {
        group,
        consumer: call.arg(3),
        min_idle_ms,
        now_ms,
        delivered_ms: now_ms,
        deliveries: None,
        force: false,
        just_ids,
    };
    call.rewritten = true;
    let mut ledger = Ledger::default();
    let (now, reply) = (call.now, &mut call.reply);
    let last_id = change(call.db, key, now, |stream| {
        let next_from = |stream: &Stream, id: Option<StreamId>| {
            let pending = stream.group(group)?.pending();
            pending.iter_from(id?).next().map(|(id, _)| id)
        };
        let (mut gone, mut len, mut attempts) = (Vec::new(), 0, count.saturating_mul(ATTEMPTS));
        let mut next = next_from(stream, Some(start));
        let mark = reply.mark();
        while let Some(id) = next.filter(|_| attempts > 0 && count > 0) {
            attempts -= 1;
            match claim(stream, id, &terms, &mut ledger) {
                Outcomes::Taken(pending) => {
                    put_claimed(reply, stream, id, &terms);
                    len += 1;
                    count -= 1;
                    ledger.claims.push((IdText::from(id).to_vec(), pending));
                }
                Outcomes::Gone(pending) => {
                    gone.push(id);
                    count -= 1;
                    ledger.claims.push((IdText::from(id).to_vec(), pending));
                }
                Outcomes::Left => {}
            }
            next = next_from(stream, id.next());
        }
        reply.array_from(mark, len);
        put_around(reply, mark, next, &gone);
        stream.group(group).map_or(StreamId::MIN, |group| group.last_id)
    })?;
    hand_on(call, key, group, &ledger, last_id.unwrap_or_default());
    Ok(())
}

/// Puts the next id to begin with before what stands behind `mark`, and the ids that are gone behind it.
fn put_around(reply: &mut Reply<'_>, mark: usize, next: Option<StreamId>, gone: &[StreamId]) {
    let middle = reply.mark() - mark;
    put_id(reply, next.unwrap_or_default());
    reply.buffer()[mark..].rotate_left(middle);
    reply.array(gone.len());
    for id in gone {
        put_id(reply, *id);
    }
    reply.array_from(mark, 3);
}

/// Reads the arguments behind the group: the ids, how they are claimed, and how far the group is to have read.
fn claim_options<'a>(call: &Call<'a>) -> Result<(Vec<StreamId>, Terms<'a>, StreamId), Fault> {
    let min_idle_ms =
        parse_i64(call.arg(4)).ok_or(text("ERR Invalid min-idle-time argument for XCLAIM"))?.max(0);
    let ids: Vec<StreamId> = call.args.from(5).iter().map_while(|arg| strict_id(arg).ok()).collect();
    let now_ms = call.now.wall.0 as i64;
    let (mut force, mut just_ids, mut last_id) = (false, false, StreamId::MIN);
    let (mut delivered_ms, mut deliveries) = (None, None);
    let mut at = 5 + ids.len();
    while at < call.args.len() {
        let (option, has_more) = (call.arg(at), at + 1 < call.args.len());
        let int = |fault: &'static str| parse_i64(call.arg(at + 1)).ok_or(text(fault));
        match () {
            () if is(option, "FORCE") => force = true,
            () if is(option, "JUSTID") => just_ids = true,
            () if is(option, "IDLE") && has_more => {
                let idle_ms = int("ERR Invalid IDLE option argument for XCLAIM")?;
                delivered_ms = Some(now_ms.wrapping_sub(idle_ms));
                at += 1;
            }
            () if is(option, "TIME") && has_more => {
                delivered_ms = Some(int("ERR Invalid TIME option argument for XCLAIM")?);
                at += 1;
            }
            () if is(option, "RETRYCOUNT") && has_more => {
                // Redis takes a negative one for none.
                deliveries = u64::try_from(int("ERR Invalid RETRYCOUNT option argument for XCLAIM")?).ok();
                at += 1;
            }
            () if is(option, "LASTID") && has_more => {
                last_id = strict_id(call.arg(at + 1))?;
                at += 1;
            }
            () => {
                return Err(Fault::new(format!("ERR Unrecognized XCLAIM option '{}'", c_text(option))));
            }
        }
        at += 1;
    }
    let terms = Terms {
        group: call.arg(2),
        consumer: call.arg(3),
        min_idle_ms,
        now_ms,
        // A time that cannot be is taken for now: clocks differ.
        delivered_ms: delivered_ms.filter(|ms| (0..=now_ms).contains(ms)).unwrap_or(now_ms),
        deliveries,
        force,
        just_ids,
    };
    Ok((ids, terms, last_id))
}

/// Tries to make an entry the consumer's.
fn claim(stream: &mut Stream, id: StreamId, terms: &Terms<'_>, ledger: &mut Ledger) -> Outcomes {
    let is_there = stream.contains(id);
    let outcome = stream.change_group(terms.group, |group, _| {
        let old = group.pending().get(id).cloned();
        if !is_there {
            group.release(id);
            return old.map_or(Outcomes::Left, Outcomes::Gone);
        }
        let is_due = match &old {
            Some(old) => {
                terms.min_idle_ms == 0 || terms.now_ms.saturating_sub(old.delivered_ms) >= terms.min_idle_ms
            }
            None => terms.force,
        };
        if !is_due {
            return Outcomes::Left;
        }
        if ledger.met.is_none() {
            ledger.met = Some(group.meet_consumer(terms.consumer, terms.now_ms));
        }
        let before = old.map_or(1, |old| old.deliveries);
        let deliveries =
            terms.deliveries.unwrap_or(if terms.just_ids { before } else { before.wrapping_add(1) });
        group.assign(id, terms.consumer, terms.delivered_ms, deliveries);
        group.pending().get(id).cloned().map_or(Outcomes::Left, Outcomes::Taken)
    });
    outcome.unwrap_or(Outcomes::Left)
}

fn put_claimed(reply: &mut Reply<'_>, stream: &Stream, id: StreamId, terms: &Terms<'_>) {
    match stream.get(id) {
        Some(entry) if !terms.just_ids => put_entry(reply, &entry),
        _ => put_id(reply, id),
    }
}

/// Notes and hands on what was claimed; gives how much that is.
fn hand_on(call: &mut Call<'_>, key: &[u8], group: &[u8], ledger: &Ledger, last_id: StreamId) -> usize {
    if ledger.met == Some(true) {
        consumer_created(call.db, key);
    }
    for (id, pending) in &ledger.claims {
        call.db.dirty += 1;
        propagate_claim(
            call.db,
            key,
            group,
            &Claimed {
                id,
                consumer: &pending.consumer,
                delivered_ms: pending.delivered_ms,
                deliveries: pending.deliveries,
                last_id,
            },
        );
    }
    ledger.claims.len()
}
