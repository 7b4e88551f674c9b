//! Bitmaps: strings as arrays of bits, the most significant bit of a byte first.

use std::borrow::Cow;
use std::sync::Arc;

use super::call::{Call, is};
use super::fault::{Fault, NOT_INTEGER, Outcome, SYNTAX, WRONG_TYPE, text};
use super::notify::class;
use super::strings::in_place;
use crate::keyspace::Value;
use crate::keyspace::number::parse_i64;

const WRONG_OFFSET: Fault = text("ERR bit offset is not an integer or out of range");

pub(super) fn setbit(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let offset = bit_offset(call, call.arg(2))?;
    let on = match call.arg(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(text("ERR bit is not an integer or out of range")),
    };
    must_be_string_or_nothing(call, key)?;
    let (byte, mask) = (offset / 8, 0x80 >> (offset % 8));
    let fresh = || Value::Raw(Arc::default());
    let (old, grown) = call.db.keys.update_or_insert(key, fresh, call.now.wall, |value, _| {
        let bytes = in_place(value);
        let grown = bytes.len() <= byte;
        if grown {
            bytes.resize(byte + 1, 0);
        }
        let old = bytes[byte] & mask != 0;
        if on {
            bytes[byte] |= mask;
        } else {
            bytes[byte] &= !mask;
        }
        (old, grown)
    });
    if grown || old != on {
        call.changed(key, class::STRING, "setbit");
    }
    call.reply.bool(old);
    Ok(())
}

pub(super) fn getbit(call: &mut Call<'_>) -> Outcome {
    let offset = bit_offset(call, call.arg(2))?;
    let on = call.string(call.arg(1))?.is_some_and(|text| {
        text.with(|bytes| bytes.get(offset / 8).is_some_and(|byte| byte & (0x80 >> (offset % 8)) != 0))
    });
    call.reply.bool(on);
    Ok(())
}

fn bit_offset(call: &Call<'_>, arg: &[u8]) -> Result<usize, Fault> {
    parse_i64(arg).and_then(|offset| allowed_offset(call, offset)).ok_or(WRONG_OFFSET)
}

fn allowed_offset(call: &Call<'_>, offset: i64) -> Option<usize> {
    usize::try_from(offset).ok().filter(|offset| offset / 8 < call.max_string_bytes)
}

fn must_be_string_or_nothing(call: &mut Call<'_>, key: &[u8]) -> Outcome {
    match call.db.find_value(key, call.now) {
        Some(value) if value.as_string().is_none() => Err(WRONG_TYPE),
        _ => Ok(()),
    }
}

pub(super) fn bitcount(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let count = call.string(call.arg(1))?.map(|text| {
        text.with(|bytes| {
            let bits = match args.len() {
                2 => Some((0, bytes.len() as i64 * 8 - 1)),
                4 | 5 => {
                    let (start, end) = (int(args.get(2))?, int(args.get(3))?);
                    // Redis looks at the unit only if the range may hold something.
                    if start < 0 && end < 0 && start > end {
                        return Ok(0);
                    }
                    let in_bits = args.get(4).map_or(Ok(false), bit_unit)?;
                    bit_range(start, end, bytes.len(), in_bits)
                }
                _ => return Err(SYNTAX),
            };
            Ok(bits.map_or(0, |(first, last)| count_bits(bytes, first, last)))
        })
    });
    let count = count.transpose()?.unwrap_or(0);
    call.reply.int(count as i64);
    Ok(())
}

fn int(arg: Option<&[u8]>) -> Result<i64, Fault> {
    arg.and_then(parse_i64).ok_or(NOT_INTEGER)
}

fn bit_unit(arg: &[u8]) -> Result<bool, Fault> {
    match () {
        () if is(arg, "BIT") => Ok(true),
        () if is(arg, "BYTE") => Ok(false),
        () => Err(SYNTAX),
    }
}

/// The first and the last bit of a range whose ends may count from the end of the string; `None` if it is empty.
fn bit_range(start: i64, end: i64, bytes: usize, in_bits: bool) -> Option<(i64, i64)> {
    let unit = if in_bits { 1 } else { 8 };
    let total = bytes as i64 * 8 / unit;
    let from_begin = |index: i64| if index < 0 { total.saturating_add(index).max(0) } else { index };
    let (start, end) = (from_begin(start), from_begin(end).min(total - 1));
    (start <= end).then(|| (start * unit, end * unit + unit - 1))
}

/// The set bits among those from `first` to `last`.
fn count_bits(bytes: &[u8], first: i64, last: i64) -> u64 {
    let Some((head, middle, tail)) = split(bytes, first, last) else { return 0 };
    let ends = u64::from(head.count_ones() + tail.count_ones());
    let (words, rest) = middle.as_chunks();
    let sum: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    ends + sum + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// The bits from `first` to `last`: those of the first byte (the others of it are 0), whole bytes, and those of the
/// last byte.
fn split(bytes: &[u8], first: i64, last: i64) -> Option<(u8, &[u8], u8)> {
    let (from, to) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
    let (head, tail) = (0xff >> (from % 8), 0xff_u8 << (7 - to % 8));
    let (head_at, tail_at) = (from / 8, to / 8);
    if head_at == tail_at {
        return Some((bytes.get(head_at)? & head & tail, &[], 0));
    }
    Some((bytes.get(head_at)? & head, bytes.get(head_at + 1..tail_at)?, bytes.get(tail_at)? & tail))
}

pub(super) fn bitpos(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let wanted = match call.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(text("ERR The bit argument must be 1 or 0.")),
    };
    let Some(string) = call.string(call.arg(1))? else {
        call.reply.int(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let found = string.with(|bytes| {
        if args.len() > 6 {
            return Err(SYNTAX);
        }
        let start = args.get(3).map_or(Ok(0), |start| int(Some(start)))?;
        let in_bits = args.get(5).map_or(Ok(false), bit_unit)?;
        let end = args.get(4).map_or(Ok(-1), |end| int(Some(end)))?;
        let Some((first, last)) = bit_range(start, end, bytes.len(), in_bits) else { return Ok(-1) };
        Ok(match find_bit(bytes, wanted, first, last) {
            Some(position) => position,
            // Behind a string without a given end there are zeros.
            None if !wanted && args.len() < 5 => last + 1,
            None => -1,
        })
    })?;
    call.reply.int(found);
    Ok(())
}

/// The first bit that is `wanted` among those from `first` to `last`.
fn find_bit(bytes: &[u8], wanted: bool, first: i64, last: i64) -> Option<i64> {
    let (from, to) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
    // With the bits turned over if zeros are wanted, so that ones are looked for.
    let flip = if wanted { 0 } else { 0xff };
    let in_byte = |at: usize| {
        let mut byte = bytes.get(at)? ^ flip;
        if at == from / 8 {
            byte &= 0xff >> (from % 8);
        }
        if at == to / 8 {
            byte &= 0xff << (7 - to % 8);
        }
        (byte != 0).then(|| at as i64 * 8 + i64::from(byte.leading_zeros()))
    };
    if let Some(found) = in_byte(from / 8) {
        return Some(found);
    }
    let middle = bytes.get(from / 8 + 1..to / 8).unwrap_or_default();
    let dull = if wanted { 0 } else { u64::MAX };
    let mut at = from / 8 + 1;
    let (words, _) = middle.as_chunks();
    at += words.iter().take_while(|word| u64::from_ne_bytes(**word) == dull).count() * 8;
    while at <= to / 8 {
        if let Some(found) = in_byte(at) {
            return Some(found);
        }
        at += 1;
    }
    None
}

/// An operation of BITOP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

pub(super) fn bitop(call: &mut Call<'_>) -> Outcome {
    let operation = match call.arg(1) {
        word if is(word, "AND") => Operation::And,
        word if is(word, "OR") => Operation::Or,
        word if is(word, "XOR") => Operation::Xor,
        word if is(word, "NOT") => Operation::Not,
        _ => return Err(SYNTAX),
    };
    if operation == Operation::Not && call.args.len() != 4 {
        return Err(text("ERR BITOP NOT must be called with a single source key."));
    }
    let (target, sources) = (call.arg(2), call.args.from(3));
    for source in sources.iter() {
        call.string(source)?;
    }
    let result = {
        let db = &*call.db;
        let strings: Vec<Cow<'_, [u8]>> = sources.iter().map(|key| db.peek_string(key, call.now)).collect();
        combine(operation, &strings)
    };
    let len = result.len();
    if result.is_empty() {
        if call.db.find(target, call.now).is_some() {
            call.delete(target);
        }
    } else {
        call.db.keys.set(target, Value::Raw(Arc::new(result)), None, call.now.wall);
        call.changed(target, class::STRING, "set");
    }
    call.reply.int(len as i64);
    Ok(())
}

/// Short strings count as if zeros followed them.
fn combine(operation: Operation, strings: &[Cow<'_, [u8]>]) -> Vec<u8> {
    let len = strings.iter().map(|string| string.len()).max().unwrap_or(0);
    let mut result = Vec::with_capacity(len);
    let Some((first, others)) = strings.split_first() else { return result };
    if operation == Operation::Not {
        result.extend(first.iter().map(|byte| !byte));
        return result;
    }
    result.extend_from_slice(first);
    result.resize(len, 0);
    for other in others {
        let pairs = result.iter_mut().zip(&**other);
        match operation {
            Operation::And => {
                pairs.for_each(|(mine, other)| *mine &= other);
                result[other.len()..].fill(0);
            }
            Operation::Or => pairs.for_each(|(mine, other)| *mine |= other),
            Operation::Xor | Operation::Not => pairs.for_each(|(mine, other)| *mine ^= other),
        }
    }
    result
}

/// What happens to a number that does not fit its bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// Bits that are a number.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    /// 1 to 64, 63 if it is not signed.
    bits: u32,
    /// Of the first and most significant one.
    offset: usize,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

#[derive(Clone, Copy)]
struct FieldOperation {
    field: Field,
    action: Action,
    overflow: Overflow,
}

pub(super) fn bitfield(call: &mut Call<'_>) -> Outcome {
    let operations = field_operations(call)?;
    let writes = |operation: &&FieldOperation| !matches!(operation.action, Action::Get);
    let end = operations.iter().filter(writes).map(|it| it.field.offset + it.field.bits as usize).max();
    let Some(end) = end else { return read_fields(call, &operations) };
    if call.name == "bitfield_ro" {
        return Err(text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let key = call.arg(1);
    must_be_string_or_nothing(call, key)?;
    let fresh = || Value::Raw(Arc::default());
    let (results, grown, changes) = call.db.keys.update_or_insert(key, fresh, call.now.wall, |value, _| {
        let bytes = in_place(value);
        let grown = bytes.len() < end.div_ceil(8);
        if grown {
            bytes.resize(end.div_ceil(8), 0);
        }
        let mut changes = 0;
        let run = |operation: &FieldOperation| {
            let (result, changed) = operation.run(bytes);
            changes += u64::from(changed || grown && result.is_some() && writes(&operation));
            result
        };
        (operations.iter().map(run).collect::<Vec<_>>(), grown, changes)
    });
    if grown || changes > 0 {
        // Redis forgets to hand on what only grew (OVERFLOW FAIL); replicas must not differ.
        call.db.changed(key);
        call.db.dirty += changes.saturating_sub(1);
    }
    if changes > 0 {
        call.db.notify(class::STRING, "setbit", key);
    }
    answer_fields(call, &results);
    Ok(())
}

fn read_fields(call: &mut Call<'_>, operations: &[FieldOperation]) -> Outcome {
    let read = |bytes: &[u8]| -> Vec<Option<i64>> {
        operations.iter().map(|operation| Some(operation.field.get(bytes))).collect()
    };
    let results = call.string(call.arg(1))?.map_or_else(|| read(&[]), |text| text.with(read));
    answer_fields(call, &results);
    Ok(())
}

fn answer_fields(call: &mut Call<'_>, results: &[Option<i64>]) {
    call.reply.array(results.len());
    for result in results {
        match result {
            Some(value) => call.reply.int(*value),
            None => call.reply.null(),
        }
    }
}

fn field_operations(call: &Call<'_>) -> Result<Vec<FieldOperation>, Fault> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut index = 2;
    while index < call.args.len() {
        let (word, left) = (call.arg(index), call.args.len() - index - 1);
        if is(word, "OVERFLOW") && left >= 1 {
            overflow = match call.arg(index + 1) {
                word if is(word, "WRAP") => Overflow::Wrap,
                word if is(word, "SAT") => Overflow::Saturate,
                word if is(word, "FAIL") => Overflow::Fail,
                _ => return Err(text("ERR Invalid OVERFLOW type specified")),
            };
            index += 2;
            continue;
        }
        let with_value = match () {
            () if is(word, "GET") && left >= 2 => false,
            () if (is(word, "SET") || is(word, "INCRBY")) && left >= 3 => true,
            () => return Err(SYNTAX),
        };
        let field = field(call, call.arg(index + 1), call.arg(index + 2))?;
        let action = match () {
            () if !with_value => Action::Get,
            () if is(word, "SET") => Action::Set(call.int(index + 3)?),
            () => Action::Add(call.int(index + 3)?),
        };
        operations.push(FieldOperation { field, action, overflow });
        index += if with_value { 4 } else { 3 };
    }
    Ok(operations)
}

fn field(call: &Call<'_>, kind: &[u8], offset: &[u8]) -> Result<Field, Fault> {
    let (signed, bits) = match kind {
        [b'i', bits @ ..] => (true, bits),
        [b'u', bits @ ..] => (false, bits),
        _ => (false, &[][..]),
    };
    let bits = parse_i64(bits).filter(|bits| (1..=if signed { 64 } else { 63 }).contains(bits)).ok_or(text(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    ))?;
    let offset = match offset {
        [b'#', number @ ..] => parse_i64(number).map(|number| number.wrapping_mul(bits)),
        _ => parse_i64(offset),
    };
    let offset = offset.and_then(|offset| allowed_offset(call, offset)).ok_or(WRONG_OFFSET)?;
    Ok(Field { signed, bits: bits as u32, offset })
}

impl FieldOperation {
    /// Carries it out on a string that is long enough for it; gives the result and whether something changed.
    fn run(&self, bytes: &mut [u8]) -> (Option<i64>, bool) {
        let old = self.field.get(bytes);
        let (base, by) = match self.action {
            Action::Get => return (Some(old), false),
            Action::Set(value) => (value, 0),
            Action::Add(by) => (old, by),
        };
        let new = match self.field.excess(base, by) {
            Excess::None => base.wrapping_add(by),
            _ if self.overflow == Overflow::Fail => return (None, false),
            _ if self.overflow == Overflow::Wrap => self.field.cut(base.wrapping_add(by)),
            Excess::Above => self.field.max(),
            Excess::Below => self.field.min(),
        };
        self.field.set(bytes, new);
        let result = if matches!(self.action, Action::Set(_)) { old } else { new };
        (Some(result), old != new)
    }
}

/// On which side of what fits its bits a number is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Excess {
    None,
    Above,
    Below,
}

impl Field {
    /// The number; what is behind the end of the string is 0.
    fn get(self, bytes: &[u8]) -> i64 {
        let (window, shift) = self.window(bytes);
        self.cut((window >> shift) as i64)
    }

    /// Writes the low bits of `value`; the string must be long enough.
    fn set(self, bytes: &mut [u8], value: i64) {
        let (window, shift) = self.window(bytes);
        let mask = (u128::MAX >> (128 - self.bits)) << shift;
        let window = window & !mask | (u128::from(value as u64) << shift) & mask;
        let first = self.offset / 8;
        for (byte, new) in bytes.iter_mut().skip(first).zip((window << 56).to_be_bytes()).take(9) {
            *byte = new;
        }
    }

    /// The nine bytes from the one with the first bit on, and how many bits of them stand behind the field.
    fn window(self, bytes: &[u8]) -> (u128, u32) {
        let first = self.offset / 8;
        let nine = (first..first + 9).map(|at| bytes.get(at).copied().unwrap_or(0));
        let window = nine.fold(0, |sum, byte| sum << 8 | u128::from(byte));
        (window, 72 - (self.offset % 8) as u32 - self.bits)
    }

    /// The number that the low bits of `value` are.
    const fn cut(self, value: i64) -> i64 {
        let up = 64 - self.bits;
        if self.signed { (value << up) >> up } else { (((value as u64) << up) >> up) as i64 }
    }

    const fn max(self) -> i64 {
        if self.signed { i64::MAX >> (64 - self.bits) } else { (u64::MAX >> (64 - self.bits)) as i64 }
    }

    const fn min(self) -> i64 {
        if self.signed { i64::MIN >> (64 - self.bits) } else { 0 }
    }

    /// Does `base + by` fit? As Redis computes it: the differences wrap, so that SET of a signed number that is far
    /// too small counts as too great.
    const fn excess(self, base: i64, by: i64) -> Excess {
        let (max, min) = (self.max(), self.min());
        let (up, down) = (max.wrapping_sub(base), min.wrapping_sub(base));
        if self.signed {
            let small = self.bits < 64;
            if base > max || small && by > up || base >= 0 && by > 0 && by > up {
                Excess::Above
            } else if base < min || small && by < down || base < 0 && by < 0 && by < down {
                Excess::Below
            } else {
                Excess::None
            }
        } else if base as u64 > max as u64 || by > 0 && by > up {
            Excess::Above
        } else if by < 0 && by < down {
            Excess::Below
        } else {
            Excess::None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bit(bytes: &[u8], at: usize) -> bool {
        bytes.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
    }

    proptest! {
        #[test]
        fn bits_are_counted_and_found_as_one_by_one(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..60),
            start in -500i64..500, end in -500i64..500, in_bits: bool, wanted: bool,
        ) {
            let unit = if in_bits { 1 } else { 8 };
            let total = bytes.len() as i64 * 8 / unit;
            let place = |index: i64| if index < 0 { (index + total).max(0) } else { index };
            let (from, to) = (place(start) * unit, (place(end).min(total - 1) + 1) * unit);
            let model: Vec<i64> = (from..to).filter(|&at| bit(&bytes, at as usize)).collect();
            let range = bit_range(start, end, bytes.len(), in_bits);
            prop_assert_eq!(range.is_none(), from >= to);
            if let Some((first, last)) = range {
                prop_assert_eq!(count_bits(&bytes, first, last), model.len() as u64);
                let first_wanted = (from..to).find(|&at| bit(&bytes, at as usize) == wanted);
                prop_assert_eq!(find_bit(&bytes, wanted, first, last), first_wanted);
            }
        }

        #[test]
        fn a_field_is_its_bits(
            bytes in prop::collection::vec(any::<u8>(), 20), offset in 0usize..96, bits in 1u32..=64,
            signed: bool, value: i64,
        ) {
            let field = Field { signed, bits: bits.min(if signed { 64 } else { 63 }), offset };
            let mut model = 0u64;
            for at in offset..offset + field.bits as usize {
                model = model << 1 | u64::from(bit(&bytes, at));
            }
            prop_assert_eq!(field.get(&bytes), field.cut(model as i64));
            let mut written = bytes.clone();
            field.set(&mut written, value);
            prop_assert_eq!(field.get(&written), field.cut(value));
            let untouched = |at: &usize| !(offset..offset + field.bits as usize).contains(at);
            for at in (0..160).filter(untouched) {
                prop_assert_eq!(bit(&written, at), bit(&bytes, at));
            }
        }
    }
}
