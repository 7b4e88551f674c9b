//! One number for everything that happened: two runs that differ in one byte or nanosecond have, but for an accident of
//! 1 in 2^64, different ones. Fast rather than secret: nobody chooses events to deceive it.

/// A hash that grows with the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// Where the four parts of a long text begin.
const LANES: [u64; 4] =
    [0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB, 0x8EBC_6AF0_9C88_C6E3, 0x5899_65CC_7537_4CC3];

/// Takes 16 bytes in by one multiplication: both halves of the product depend on all of them.
#[inline]
fn folded(before: u64, pair: [u8; 16]) -> u64 {
    let pair = u128::from_le_bytes(pair);
    let (low, high) = (before ^ pair as u64, (pair >> 64) as u64 ^ 0xC4CE_B9FE_1A85_EC53);
    let product = u128::from(low) * u128::from(high);
    product as u64 ^ (product >> 64) as u64 ^ before.rotate_left(29)
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Fingerprint {
    /// Takes a number in.
    #[inline]
    pub fn number(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        self.0 = (mixed ^ (mixed >> 32)).wrapping_mul(0xC4CE_B9FE_1A85_EC53).rotate_left(29);
    }

    /// Takes bytes in, with their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (blocks, rest) = bytes.as_chunks::<64>();
        if !blocks.is_empty() {
            // Four side by side: none waits for the product of the one before.
            let mut lanes = LANES.map(|lane| self.0 ^ lane);
            for block in blocks {
                let (pairs, _) = block.as_chunks::<16>();
                for (lane, pair) in lanes.iter_mut().zip(pairs) {
                    *lane = folded(*lane, *pair);
                }
            }
            for lane in lanes {
                self.number(lane);
            }
        }
        let (pairs, rest) = rest.as_chunks::<16>();
        for pair in pairs {
            self.number(folded(self.0, *pair));
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        self.number(folded(self.0, last));
    }

    /// The number so far.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_length_and_every_byte_count() {
        let of = |parts: &[&[u8]]| {
            let mut fingerprint = Fingerprint::default();
            for part in parts {
                fingerprint.bytes(part);
            }
            fingerprint
        };
        let all = [
            of(&[]),
            of(&[b""]),
            of(&[b"ab", b"c"]),
            of(&[b"a", b"bc"]),
            of(&[b"c", b"ab"]),
            of(&[b"abcdefgh"]),
            of(&[b"abcdefgh\0"]),
            of(&[b"abcdefgi"]),
            of(&[&[b'a'; 200]]),
            of(&[&[b'a'; 199], b"b"]),
            of(&[&[b"a".repeat(64), b"b".repeat(64)].concat()]),
            of(&[&[b"b".repeat(64), b"a".repeat(64)].concat()]),
            of(&[&[b"a".repeat(16), b"b".repeat(16), b"a".repeat(32)].concat()]),
            of(&[&[b"b".repeat(16), b"a".repeat(48)].concat()]),
            of(&[&[0; 64]]),
            of(&[&[0; 128]]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(at));
        }
    }
}
