//! HyperLogLog commands; what the strings hold is in [`hll`].

use std::borrow::Cow;
use std::sync::Arc;

use super::call::{Call, is};
use super::fault::{Fault, Outcome, WRONG_TYPE, shown, text};
use super::notify::class;
use super::strings::in_place;
use crate::keyspace::hll::{self, Corrupt, REGISTERS, Registers};
use crate::keyspace::{Element, Value};

const CORRUPT: Fault = text("INVALIDOBJ Corrupted HLL object detected");

impl From<Corrupt> for Fault {
    fn from(_: Corrupt) -> Self {
        CORRUPT
    }
}

/// The string of a key must look like a HyperLogLog, if there is one; true if there is.
fn check(call: &mut Call<'_>, key: &[u8]) -> Result<bool, Fault> {
    match call.db.find_value(key, call.now) {
        None => Ok(false),
        Some(value) => match value.as_string().ok_or(WRONG_TYPE)? {
            Element::Bytes(bytes) if hll::has_header(bytes) => Ok(true),
            _ => Err(text("WRONGTYPE Key is not a valid HyperLogLog string value.")),
        },
    }
}

/// Changes the HyperLogLog of a key, an empty one if there is none.
fn change<R>(call: &mut Call<'_>, key: &[u8], change: impl FnOnce(&mut Vec<u8>, usize) -> R) -> R {
    let fresh = || Value::Raw(Arc::new(hll::empty()));
    call.db.keys.update_or_insert(key, fresh, call.now.wall, |value, env| {
        change(in_place(value), env.limits.hll_sparse_max_bytes)
    })
}

pub(super) fn pfadd(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let created = !check(call, key)?;
    let elements = call.args.from(2);
    let (raised, outcome) = change(call, key, |bytes, sparse_max_bytes| {
        let mut raised = 0;
        let add = |element: &[u8]| {
            let (index, run) = hll::place(element);
            raised += u64::from(hll::raise(bytes, index, run, sparse_max_bytes)?);
            Ok::<_, Corrupt>(())
        };
        let outcome = elements.iter().try_for_each(add);
        if created || raised > 0 {
            hll::forget_estimate(bytes);
        }
        (raised, outcome)
    });
    let changes = raised + u64::from(created);
    if changes > 0 {
        // What was added before the corruption was seen is handed on, too.
        call.db.changed(key);
        call.db.dirty += changes - 1;
        call.db.notify(class::STRING, "pfadd", key);
    }
    outcome?;
    call.reply.bool(changes > 0);
    Ok(())
}

pub(super) fn pfcount(call: &mut Call<'_>) -> Outcome {
    if call.args.len() > 2 {
        let estimate = hll::estimate_merged(&merged(call)?.0);
        call.reply.int(estimate as i64);
        return Ok(());
    }
    let key = call.arg(1);
    let there = call.db.read(key, call.now).is_some();
    if !there || !check(call, key)? {
        call.reply.int(0);
        return Ok(());
    }
    let (kept, estimate) = {
        let bytes = call.db.peek_string(key, call.now);
        let kept = hll::kept_estimate(&bytes);
        (kept, kept.map_or_else(|| hll::estimate(&bytes), Ok)?)
    };
    if kept.is_none() {
        // It only reads, and yet changes the string: replicas are told to do so, too.
        change(call, key, |bytes, _| hll::keep_estimate(bytes, estimate));
        call.db.changed(key);
    }
    call.reply.int(estimate as i64);
    Ok(())
}

/// The highest registers of all keys, and whether one of them is dense.
fn merged(call: &mut Call<'_>) -> Result<(Box<Registers>, bool), Fault> {
    let mut registers = Box::new([0; REGISTERS]);
    let mut dense = false;
    for key in call.args.from(1).iter() {
        if call.db.read(key, call.now).is_none() || !check(call, key)? {
            continue;
        }
        let bytes: Cow<'_, [u8]> = call.db.peek_string(key, call.now);
        dense |= !hll::is_sparse(&bytes);
        hll::merge(&mut registers, &bytes)?;
    }
    Ok((registers, dense))
}

pub(super) fn pfmerge(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let (registers, dense) = merged(call)?;
    change(call, key, |bytes, sparse_max_bytes| {
        if dense {
            hll::make_dense(bytes)?;
        }
        for (index, &run) in registers.iter().enumerate().filter(|(_, run)| **run > 0) {
            hll::raise(bytes, index, run, sparse_max_bytes)?;
        }
        hll::forget_estimate(bytes);
        Ok::<_, Corrupt>(())
    })?;
    call.changed(key, class::STRING, "pfadd");
    call.reply.ok();
    Ok(())
}

pub(super) fn pfdebug(call: &mut Call<'_>) -> Outcome {
    let (verb, key) = (call.arg(1), call.arg(2));
    if !check(call, key)? {
        return Err(text("ERR The specified key does not exist"));
    }
    let sparse = hll::is_sparse(&call.db.peek_string(key, call.now));
    let make_dense = |call: &mut Call<'_>| {
        change(call, key, |bytes, _| hll::make_dense(bytes))?;
        call.db.dirty += u64::from(sparse);
        Ok::<_, Fault>(())
    };
    match () {
        () if is(verb, "GETREG") => {
            make_dense(call)?;
            let bytes = call.db.peek_string(key, call.now);
            call.reply.array(REGISTERS);
            hll::dense_registers(&bytes).for_each(|register| call.reply.int(i64::from(register)));
        }
        () if is(verb, "DECODE") => {
            if !sparse {
                return Err(text("ERR HLL encoding is not sparse"));
            }
            let shown = hll::describe_sparse(&call.db.peek_string(key, call.now));
            call.reply.bulk(shown.as_bytes());
        }
        () if is(verb, "ENCODING") => call.reply.simple(if sparse { "sparse" } else { "dense" }),
        () if is(verb, "TODENSE") => {
            make_dense(call)?;
            call.reply.bool(sparse);
        }
        () => return Err(Fault::new(format!("ERR Unknown PFDEBUG subcommand '{}'", shown(verb, 128)))),
    }
    Ok(())
}

/// Tests the registers and the estimator in the running process; takes about a second.
pub(super) fn pfselftest(call: &mut Call<'_>) -> Outcome {
    let failed = |why: String| Err(Fault::new(format!("TESTFAILED {why}")));
    let sparse_max_bytes = call.db.keys.env().limits.hll_sparse_max_bytes;
    let random = &mut call.db.random;
    for _ in 0..100 {
        let mut dense = hll::empty();
        hll::make_dense(&mut dense)?;
        let runs: Vec<u8> = (0..REGISTERS).map(|_| random.below(64) as u8).collect();
        for (index, &run) in runs.iter().enumerate() {
            hll::raise(&mut dense, index, run, sparse_max_bytes)?;
        }
        let wrong = hll::dense_registers(&dense).zip(&runs).position(|(register, run)| register != *run);
        if let Some(index) = wrong {
            return failed(format!("Register {index} should be {}", runs[index]));
        }
    }
    let (mut plain, mut grown) = (hll::empty(), hll::empty());
    hll::make_dense(&mut plain)?;
    let seed = random.next_u64();
    let standard_error = 1.04 / (REGISTERS as f64).sqrt();
    let mut checkpoint = 1;
    for nth in 1..=10_000_000_u64 {
        let (index, run) = hll::place(&(nth ^ seed).to_le_bytes());
        hll::raise(&mut plain, index, run, sparse_max_bytes)?;
        hll::raise(&mut grown, index, run, sparse_max_bytes)?;
        if nth != checkpoint {
            continue;
        }
        if nth < sparse_max_bytes as u64 / 2 && !hll::is_sparse(&grown) {
            return failed("sparse encoding not used".to_owned());
        }
        let estimate = hll::estimate(&plain)?;
        if estimate != hll::estimate(&grown)? {
            return failed("dense/sparse disagree".to_owned());
        }
        let error = estimate.abs_diff(nth);
        let allowed = if nth == 10 { 1 } else { (standard_error * 6.0 * nth as f64).ceil() as u64 };
        if error > allowed {
            return failed(format!("Too big error. card:{nth} abserr:{error}"));
        }
        checkpoint *= 10;
    }
    call.reply.ok();
    Ok(())
}
