//! HyperLogLogs: the estimate of how many different elements a string has seen, in Redis' own bytes, so that what
//! GET gives of one is a HyperLogLog for every other server.
//!
//! 16384 registers of six bits; each holds the longest run of zeros seen in the hashes that chose it. Dense: the
//! registers, packed. Sparse: runs of equal registers, which is short while few are set. The header is 16 bytes:
//! `HYLL`, the encoding, three zeros, and the last estimate (its highest bit: no longer true).

use std::fmt::Write as _;

/// How many there are.
pub const REGISTERS: usize = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 14;
const RUN_BITS: u32 = 64 - INDEX_BITS;
const HEADER: usize = 16;
const DENSE_BYTES: usize = HEADER + REGISTERS * 6 / 8;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// What the sparse form can say of a register.
const SPARSE_MAX: u8 = 32;
const VALUES_MAX: usize = 4;
const ZEROS_MAX: usize = 64;

/// One byte a register, the form in which several are merged.
pub type Registers = [u8; REGISTERS];

/// The bytes have the header of a HyperLogLog, and what follows it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("corrupt HyperLogLog")]
pub struct Corrupt;

/// An empty one, sparse.
pub fn empty() -> Vec<u8> {
    let mut bytes = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    push_zeros(&mut bytes, REGISTERS);
    bytes
}

/// Do the bytes look like one? The registers may be corrupt still.
pub fn has_header(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER
        && bytes.starts_with(b"HYLL")
        && bytes[4] <= SPARSE
        && (bytes[4] != DENSE || bytes.len() == DENSE_BYTES)
}

/// True for the sparse form.
pub fn is_sparse(bytes: &[u8]) -> bool {
    bytes.get(4) == Some(&SPARSE)
}

/// The estimate that was kept, while it is true.
pub fn kept_estimate(bytes: &[u8]) -> Option<u64> {
    let kept = bytes.get(8..HEADER)?;
    let kept = kept.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    (kept >> 63 == 0).then_some(kept)
}

/// Keeps an estimate.
pub fn keep_estimate(bytes: &mut [u8], estimate: u64) {
    bytes[8..HEADER].copy_from_slice(&estimate.to_le_bytes());
}

/// What was kept is no longer true.
pub fn forget_estimate(bytes: &mut [u8]) {
    bytes[HEADER - 1] |= 0x80;
}

/// The register that an element chooses, and the run of zeros (and the one behind it) of its hash.
pub fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, 0xadc8_3b19);
    let rest = hash >> INDEX_BITS | 1 << RUN_BITS;
    ((hash as usize) & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

/// Raises a register to `run` if it is lower; true if it was. A sparse one that cannot say so, or would grow over
/// `sparse_max_bytes`, becomes dense.
pub fn raise(bytes: &mut Vec<u8>, index: usize, run: u8, sparse_max_bytes: usize) -> Result<bool, Corrupt> {
    if is_sparse(bytes) {
        if run <= SPARSE_MAX
            && let Some(raised) = raise_sparse(bytes, index, run, sparse_max_bytes)?
        {
            return Ok(raised);
        }
        make_dense(bytes)?;
    }
    let registers = &mut bytes[HEADER..];
    let raised = run > dense(registers, index);
    if raised {
        set_dense(registers, index, run);
    }
    Ok(raised)
}

/// Makes a sparse one dense; false if it was.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<bool, Corrupt> {
    if !is_sparse(bytes) {
        return Ok(false);
    }
    let mut new = vec![0; DENSE_BYTES];
    new[..HEADER].copy_from_slice(&bytes[..HEADER]);
    new[4] = DENSE;
    let mut index = 0;
    for run in runs(&bytes[HEADER..]) {
        if run.value > 0 {
            if index + run.len > REGISTERS {
                return Err(Corrupt);
            }
            for at in index..index + run.len {
                set_dense(&mut new[HEADER..], at, run.value);
            }
        }
        index += run.len;
    }
    if index != REGISTERS {
        return Err(Corrupt);
    }
    *bytes = new;
    Ok(true)
}

/// Raises `registers` to those of a HyperLogLog.
pub fn merge(registers: &mut Registers, bytes: &[u8]) -> Result<(), Corrupt> {
    if !is_sparse(bytes) {
        for (index, register) in registers.iter_mut().enumerate() {
            *register = (*register).max(dense(&bytes[HEADER..], index));
        }
        return Ok(());
    }
    let mut index = 0;
    for run in runs(&bytes[HEADER..]) {
        if run.value > 0 {
            let covered = registers.get_mut(index..index + run.len).ok_or(Corrupt)?;
            for register in covered {
                *register = (*register).max(run.value);
            }
        }
        index += run.len;
    }
    if index == REGISTERS { Ok(()) } else { Err(Corrupt) }
}

/// The estimate for one.
pub fn estimate(bytes: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram = [0; 64];
    if is_sparse(bytes) {
        for run in runs(&bytes[HEADER..]) {
            histogram[usize::from(run.value)] += run.len;
        }
        if histogram.iter().sum::<usize>() != REGISTERS {
            return Err(Corrupt);
        }
    } else {
        // Three bytes are four registers.
        for three in bytes[HEADER..].chunks_exact(3) {
            let word = u32::from(three[0]) | u32::from(three[1]) << 8 | u32::from(three[2]) << 16;
            for shift in [0, 6, 12, 18] {
                histogram[(word >> shift) as usize & 63] += 1;
            }
        }
    }
    Ok(estimate_of(&histogram))
}

/// The estimate for merged ones.
pub fn estimate_merged(registers: &Registers) -> u64 {
    let mut histogram = [0; 64];
    for &register in registers {
        histogram[usize::from(register & 63)] += 1;
    }
    estimate_of(&histogram)
}

/// The registers of a dense one, in order.
pub fn dense_registers(bytes: &[u8]) -> impl Iterator<Item = u8> {
    (0..REGISTERS).map(move |index| dense(&bytes[HEADER..], index))
}

/// The runs of a sparse one as `PFDEBUG DECODE` shows them.
pub fn describe_sparse(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in runs(&bytes[HEADER..]) {
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = match run.value {
            0 if run.bytes == 1 => write!(text, "{space}z:{}", run.len),
            0 => write!(text, "{space}Z:{}", run.len),
            value => write!(text, "{space}v:{value},{}", run.len),
        };
    }
    text
}

/// Equal registers of a sparse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    value: u8,
    len: usize,
    /// That it takes; one of two may lack its second byte at the end of a corrupt one.
    bytes: usize,
}

/// The run that begins with these bytes.
fn run_at(bytes: &[u8]) -> Option<Run> {
    let first = *bytes.first()?;
    Some(match first >> 6 {
        0 => Run { value: 0, len: usize::from(first & 0x3f) + 1, bytes: 1 },
        1 => {
            let second = bytes.get(1).copied().unwrap_or(0);
            Run { value: 0, len: (usize::from(first & 0x3f) << 8 | usize::from(second)) + 1, bytes: 2 }
        }
        _ => Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, bytes: 1 },
    })
}

fn runs(mut bytes: &[u8]) -> impl Iterator<Item = Run> {
    std::iter::from_fn(move || {
        let run = run_at(bytes)?;
        bytes = bytes.get(run.bytes..).unwrap_or_default();
        Some(run)
    })
}

fn push_zeros(out: &mut Vec<u8>, len: usize) {
    match len.checked_sub(1) {
        None => {}
        Some(less) if len > ZEROS_MAX => out.extend([0x40 | (less >> 8) as u8, less as u8]),
        Some(less) => out.push(less as u8),
    }
}

fn push_values(out: &mut Vec<u8>, value: u8, len: usize) {
    if let Some(less) = len.checked_sub(1) {
        out.push(0x80 | (value - 1) << 2 | less as u8);
    }
}

/// `None` if it should become dense.
fn raise_sparse(
    bytes: &mut Vec<u8>,
    index: usize,
    run: u8,
    sparse_max_bytes: usize,
) -> Result<Option<bool>, Corrupt> {
    let (mut at, mut first, mut before) = (HEADER, 0, HEADER);
    let old = loop {
        let old = run_at(&bytes[at..]).ok_or(Corrupt)?;
        if index < first + old.len {
            break old;
        }
        before = at;
        at += old.bytes;
        first += old.len;
        if at >= bytes.len() {
            return Err(Corrupt);
        }
    };
    if old.value >= run {
        return Ok(Some(false));
    }
    let end = at + old.bytes;
    if end > bytes.len() {
        return Err(Corrupt);
    }
    // What it was before the register, the register, what it was behind it.
    let mut new = Vec::with_capacity(5);
    let (ahead, behind) = (index - first, first + old.len - 1 - index);
    if old.value == 0 {
        push_zeros(&mut new, ahead);
        push_values(&mut new, run, 1);
        push_zeros(&mut new, behind);
    } else {
        push_values(&mut new, old.value, ahead);
        push_values(&mut new, run, 1);
        push_values(&mut new, old.value, behind);
    }
    let grown = bytes.len() + new.len() - old.bytes;
    if grown > bytes.len() && grown > sparse_max_bytes {
        return Ok(None);
    }
    bytes.splice(at..end, new);
    join_equal(bytes, before);
    forget_estimate(bytes);
    Ok(Some(true))
}

/// Joins neighbours of equal value among the five runs from `at` on, as far as Redis looks.
fn join_equal(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        let Some(run) = bytes.get(at..).and_then(run_at) else { return };
        if run.value > 0
            && let Some(next) = run_at(&bytes[at + 1..])
            && next.value == run.value
            && run.len + next.len <= VALUES_MAX
        {
            let mut joined = Vec::with_capacity(1);
            push_values(&mut joined, run.value, run.len + next.len);
            bytes.splice(at..at + 2, joined);
            continue;
        }
        at += run.bytes;
    }
}

fn dense(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * 6 / 8, index * 6 % 8);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    ((u16::from(next) << 8 | u16::from(registers[byte])) >> shift) as u8 & 63
}

fn set_dense(registers: &mut [u8], index: usize, value: u8) {
    let (byte, shift) = (index * 6 / 8, index * 6 % 8);
    let (mask, value) = (63_u16 << shift, u16::from(value) << shift);
    registers[byte] = registers[byte] & !(mask as u8) | value as u8;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = *next & !((mask >> 8) as u8) | (value >> 8) as u8;
    }
}

/// The improved estimator of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches"
/// (arXiv:1702.01284), from the number of registers that hold each value.
fn estimate_of(histogram: &[usize; 64]) -> u64 {
    /// 0.5 / ln 2
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let longest = RUN_BITS as usize + 1;
    let mut z = m * tau((m - histogram[longest] as f64) / m);
    for &count in histogram[1..longest].iter().rev() {
        z = (z + count as f64) * 0.5;
    }
    z += m * sigma(histogram[0] as f64 / m);
    let estimate = (ALPHA * m * m / z).round();
    // Of registers that no hash can make Redis says what the processor makes of the infinite.
    if estimate < i64::MAX as f64 { estimate as u64 } else { 1 << 63 }
}

#[allow(clippy::float_cmp)] // until it does not change any more
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

#[allow(clippy::float_cmp)] // until it does not change any more
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

/// Austin Appleby's MurmurHash64A, which is public domain.
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mut word = little_endian(word).wrapping_mul(M);
        word ^= word >> R;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    if !words.remainder().is_empty() {
        hash = (hash ^ little_endian(words.remainder())).wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registers(bytes: &[u8]) -> Result<Vec<u8>, Corrupt> {
        let mut all = [0; REGISTERS];
        merge(&mut all, bytes)?;
        Ok(all.to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn both_forms_hold_what_a_plain_array_holds(
            raises in prop::collection::vec((0usize..REGISTERS, 1u8..=51), 0..1500),
            near in 1usize..REGISTERS, sparse_max_bytes in 18usize..4000, low: bool,
        ) {
            let (mut bytes, mut model) = (empty(), vec![0; REGISTERS]);
            for (index, run) in raises {
                // Close to each other, so that runs are split and joined.
                let (index, run) = (index % near, if low { run % 3 + 1 } else { run });
                let raised = raise(&mut bytes, index, run, sparse_max_bytes);
                prop_assert_eq!(raised, Ok(run > model[index]));
                model[index] = run.max(model[index]);
            }
            prop_assert!(has_header(&bytes));
            prop_assert!(!is_sparse(&bytes) || bytes.len() <= sparse_max_bytes.max(18));
            prop_assert_eq!(registers(&bytes), Ok(model.clone()));
            let before = estimate(&bytes);
            make_dense(&mut bytes).unwrap();
            prop_assert_eq!(registers(&bytes), Ok(model.clone()));
            prop_assert_eq!(dense_registers(&bytes).collect::<Vec<_>>(), model.clone());
            prop_assert_eq!(estimate(&bytes), before);
            let mut merged = [0; REGISTERS];
            merged.copy_from_slice(&model);
            prop_assert_eq!(Ok(estimate_merged(&merged)), before);
        }

        #[test]
        fn no_bytes_make_it_panic(
            tail in prop::collection::vec(any::<u8>(), 0..400), encoding in 0u8..3, index in 0usize..REGISTERS,
            run in 1u8..=51, dense_len: bool,
        ) {
            let mut bytes = b"HYLL".to_vec();
            bytes.push(encoding);
            bytes.extend(&tail);
            if dense_len {
                bytes.resize(DENSE_BYTES, 0xff);
            }
            if has_header(&bytes) {
                let _ = (estimate(&bytes), registers(&bytes), kept_estimate(&bytes));
                if is_sparse(&bytes) {
                    let _ = describe_sparse(&bytes);
                }
                let _ = raise(&mut bytes.clone(), index, run, 3000);
                let _ = make_dense(&mut bytes);
            }
        }
    }

    #[test]
    fn the_estimate_is_near_what_was_added() {
        let mut bytes = empty();
        for element in 0..100_000u32 {
            let (index, run) = place(&element.to_le_bytes());
            raise(&mut bytes, index, run, 3000).unwrap();
        }
        let error = estimate(&bytes).unwrap().abs_diff(100_000);
        assert!(error < 100_000 * 6 * 81 / 10_000, "off by {error}");
    }
}
