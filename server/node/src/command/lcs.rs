//! LCS: the longest common subsequence of two strings.

use super::call::{Call, is};
use super::fault::{Fault, Outcome, SYNTAX, text};
use crate::keyspace::Value;

/// What the arguments ask for.
#[derive(Default)]
struct Wish {
    len: bool,
    ranges: bool,
    range_lens: bool,
    /// Shorter ranges are not told.
    min_len: usize,
}

/// Where both strings are the same, first and last byte.
struct Range {
    a: (usize, usize),
    b: (usize, usize),
}

pub(super) fn lcs(call: &mut Call<'_>) -> Outcome {
    for index in [1, 2] {
        if call.db.read(call.arg(index), call.now).map(Value::as_string) == Some(None) {
            return Err(text("ERR The specified keys must contain string values"));
        }
    }
    let wish = wish(call)?;
    let db = &*call.db;
    let (a, b) = (db.peek_string(call.arg(1), call.now), db.peek_string(call.arg(2), call.now));
    let table = Table::new(&a, &b, call.max_string_bytes)?;
    let len = table.len(a.len(), b.len());
    if wish.len {
        call.reply.int(len as i64);
        return Ok(());
    }
    if !wish.ranges {
        let common: Vec<u8> =
            table.ranges(&a, &b).iter().rev().flat_map(|range| &a[range.a.0..=range.a.1]).copied().collect();
        call.reply.bulk(&common);
        return Ok(());
    }
    let mut ranges = table.ranges(&a, &b);
    ranges.retain(|range| range.len() >= wish.min_len);
    call.reply.map(2);
    call.reply.bulk(b"matches");
    call.reply.array(ranges.len());
    for range in ranges {
        call.reply.array(2 + usize::from(wish.range_lens));
        for (first, last) in [range.a, range.b] {
            call.reply.array(2);
            call.reply.int(first as i64);
            call.reply.int(last as i64);
        }
        if wish.range_lens {
            call.reply.int(range.len() as i64);
        }
    }
    call.reply.bulk(b"len");
    call.reply.int(len as i64);
    Ok(())
}

fn wish(call: &Call<'_>) -> Result<Wish, Fault> {
    let mut wish = Wish::default();
    let mut index = 3;
    while index < call.args.len() {
        match call.arg(index) {
            word if is(word, "IDX") => wish.ranges = true,
            word if is(word, "LEN") => wish.len = true,
            word if is(word, "WITHMATCHLEN") => wish.range_lens = true,
            word if is(word, "MINMATCHLEN") && index + 1 < call.args.len() => {
                index += 1;
                wish.min_len = call.int(index)?.max(0) as usize;
            }
            _ => return Err(SYNTAX),
        }
        index += 1;
    }
    if wish.len && wish.ranges {
        return Err(text("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(wish)
}

/// The lengths for all beginnings of both strings.
struct Table {
    lens: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8], max_bytes: usize) -> Result<Self, Fault> {
        let too_long = |len: usize| len >= u32::MAX as usize - 1;
        if too_long(a.len()) || too_long(b.len()) {
            return Err(text("ERR String too long for LCS"));
        }
        let (width, height) = (b.len() + 1, a.len() + 1);
        let cells = width.checked_mul(height).filter(|cells| *cells <= max_bytes / 4);
        let cells = cells
            .ok_or(text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"))?;
        let mut lens: Vec<u32> = Vec::new();
        if lens.try_reserve_exact(cells).is_err() {
            return Err(text("ERR Insufficient memory, failed allocating transient memory for LCS"));
        }
        lens.resize(width, 0);
        for &byte in a {
            let above = lens.len() - width;
            let mut left = 0;
            lens.push(0);
            for (at, &other) in b.iter().enumerate() {
                left = if byte == other { lens[above + at] + 1 } else { left.max(lens[above + at + 1]) };
                lens.push(left);
            }
        }
        Ok(Self { lens, width })
    }

    /// The length for the first `a` and `b` bytes.
    fn len(&self, a: usize, b: usize) -> usize {
        self.lens[a * self.width + b] as usize
    }

    /// The ranges that make the common subsequence, from the last to the first.
    fn ranges(&self, a: &[u8], b: &[u8]) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        let mut open = false;
        while i > 0 && j > 0 {
            if a[i - 1] != b[j - 1] {
                if self.len(i - 1, j) > self.len(i, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
                open = false;
                continue;
            }
            (i, j) = (i - 1, j - 1);
            match ranges.last_mut() {
                Some(range) if open => (range.a.0, range.b.0) = (i, j),
                _ => ranges.push(Range { a: (i, i), b: (j, j) }),
            }
            open = true;
        }
        ranges
    }
}

impl Range {
    const fn len(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }
}
