//! One number for everything that happened: two runs that differ in one byte or nanosecond have, but for an accident of
//! 1 in 2^64, different ones. Fast rather than secret: nobody chooses events to deceive it.

/// A hash that grows with the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Fingerprint {
    /// Takes a number in.
    pub fn number(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        self.0 = (mixed ^ (mixed >> 32)).wrapping_mul(0xC4CE_B9FE_1A85_EC53).rotate_left(29);
    }

    /// Takes bytes in, with their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            self.pair(u128::from_le_bytes(*pair));
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        self.pair(u128::from_le_bytes(last));
    }

    /// Takes 16 bytes in by one multiplication: both halves of the product depend on all of them.
    fn pair(&mut self, pair: u128) {
        let (low, high) = (self.0 ^ pair as u64, (pair >> 64) as u64 ^ 0xC4CE_B9FE_1A85_EC53);
        let product = u128::from(low) * u128::from(high);
        self.0 = (product as u64 ^ (product >> 64) as u64).rotate_left(29)
            ^ self.0.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
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
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(at));
        }
    }
}
