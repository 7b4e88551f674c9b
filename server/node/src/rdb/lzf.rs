//! LZF compression of strings, with the hash and the choices of the library that Redis uses, so that what a real
//! server compresses comes out the same byte for byte.

/// Bits of the table's index.
const HASH_LOG: u32 = 16;
const MAX_LITERALS: usize = 32;
const MAX_OFFSET: usize = 1 << 13;
const MAX_REFERENCE: usize = (1 << 8) + (1 << 3);

/// Inputs from here on are left as they are: positions in them do not fit beside those of earlier inputs.
const TOO_LONG: usize = 1 << 31;

/// Compresses strings, one after another with one table: clearing it for each would cost more than the work.
#[derive(Debug, Default)]
pub struct Compressor {
    /// By the hash of three bytes: `base` and the last position of such bytes. Empty until it is needed.
    table: Vec<u32>,
    /// What is at most this was noted for an earlier input.
    base: u32,
}

impl Compressor {
    /// The compressed form, if it is at least four bytes shorter than `input`.
    pub fn compress(&mut self, input: &[u8]) -> Option<Vec<u8>> {
        // Redis tries nothing below this.
        let limit = input.len().checked_sub(4).filter(|&limit| limit > 0)?;
        if input.len() >= TOO_LONG {
            return None;
        }
        if self.table.is_empty() || self.base as usize + input.len() >= u32::MAX as usize {
            self.table.clear();
            self.table.resize(1 << HASH_LOG, 0);
            self.base = 0;
        }
        let base = self.base;
        self.base += input.len() as u32;
        pack(input, limit, &mut self.table, base)
    }
}

fn pack(input: &[u8], limit: usize, table: &mut [u32], base: u32) -> Option<Vec<u8>> {
    let mut run = Output { bytes: Vec::with_capacity(limit.min(1 << 20)), literals: 0, limit };
    run.begin();
    let end = input.len();
    let mut at = 0;
    while at + 2 < end {
        let slot = &mut table[index(input, at)];
        // 0 is "none": the library never refers to its first byte either.
        let before = slot.saturating_sub(base) as usize;
        *slot = base + at as u32;
        let matches = before > 0
            && before < at
            && at - before - 1 < MAX_OFFSET
            && input[before..before + 3] == input[at..at + 3];
        if !matches {
            run.literal(input[at])?;
            at += 1;
            continue;
        }
        let len = match_len(input, before, at);
        run.reference(at - before - 1, len)?;
        at += len;
        if at + 2 >= end {
            break;
        }
        // The last two positions of what was skipped are noted.
        for noted in [at - 2, at - 1] {
            table[index(input, noted)] = base + noted as u32;
        }
    }
    if run.bytes.len() + 3 > limit {
        return None;
    }
    for &byte in &input[at..] {
        run.literal_unchecked(byte);
    }
    run.end();
    Some(run.bytes)
}

fn index(input: &[u8], at: usize) -> usize {
    let three = u32::from(input[at]) << 16 | u32::from(input[at + 1]) << 8 | u32::from(input[at + 2]);
    ((three >> (24 - HASH_LOG)).wrapping_sub(three.wrapping_mul(5)) & ((1 << HASH_LOG) - 1)) as usize
}

/// Bytes that agree at two positions that are known to agree in three; counted as the library does, which looks at
/// the first sixteen without regard to the limit if that is above sixteen.
fn match_len(input: &[u8], before: usize, at: usize) -> usize {
    let limit = (input.len() - at - 2).min(MAX_REFERENCE);
    let agree = |len: usize| input[before + len] == input[at + len];
    let mut len = 2;
    if limit > 16 {
        for _ in 0..16 {
            len += 1;
            if !agree(len) {
                return len;
            }
        }
    }
    loop {
        len += 1;
        if len >= limit || !agree(len) {
            return len;
        }
    }
}

/// What was written so far; a run of literals is preceded by its length, filled in at its end.
struct Output {
    bytes: Vec<u8>,
    literals: usize,
    limit: usize,
}

impl Output {
    fn begin(&mut self) {
        self.literals = 0;
        self.bytes.push(0);
    }

    fn end(&mut self) {
        let head = self.bytes.len() - self.literals - 1;
        if self.literals == 0 {
            self.bytes.pop();
        } else {
            self.bytes[head] = (self.literals - 1) as u8;
        }
    }

    fn literal(&mut self, byte: u8) -> Option<()> {
        if self.bytes.len() >= self.limit {
            return None;
        }
        self.literal_unchecked(byte);
        Some(())
    }

    fn literal_unchecked(&mut self, byte: u8) {
        self.literals += 1;
        self.bytes.push(byte);
        if self.literals == MAX_LITERALS {
            self.end();
            self.begin();
        }
    }

    fn reference(&mut self, offset: usize, len: usize) -> Option<()> {
        if self.bytes.len() - usize::from(self.literals == 0) + 4 >= self.limit {
            return None;
        }
        self.end();
        let code = len - 2;
        let high = (offset >> 8) as u8;
        if code < 7 {
            self.bytes.push(high + ((code as u8) << 5));
        } else {
            self.bytes.push(high + (7 << 5));
            self.bytes.push((code - 7) as u8);
        }
        self.bytes.push(offset as u8);
        self.begin();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Compressor;
    use crate::rdb::packed::lzf;

    #[test]
    fn a_run_becomes_a_reference() {
        let input = [b'a'; 100];
        let mut compressor = Compressor::default();
        let packed = compressor.compress(&input).unwrap();
        assert!(packed.len() < 10, "{packed:?}");
        assert_eq!(lzf(&packed, 100).unwrap(), input);
        assert_eq!(compressor.compress(b"abcdefghijklmnopqrstuvwxyz"), None, "nothing repeats");
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            pieces in proptest::collection::vec((0..4_u8, 1..400_usize), 0..40), noise: u64,
        ) {
            let mut random = noise | 1;
            let mut input = Vec::new();
            for (letter, len) in pieces {
                for _ in 0..len {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let noisy = if letter == 3 { (random >> 60) as u8 } else { 0 };
                    input.push(b'a' + letter + noisy);
                }
            }
            let fresh = Compressor::default().compress(&input);
            let mut used = Compressor::default();
            used.compress(&input[input.len() / 2..]);
            prop_assert_eq!(&used.compress(&input), &fresh, "what came before does not matter");
            if let Some(packed) = fresh {
                prop_assert!(packed.len() + 4 <= input.len());
                prop_assert_eq!(lzf(&packed, input.len()).unwrap(), input);
            }
        }
    }
}
