//! The keyed hash of all tables: SipHash-1-3 with a seed given at boot, so that no client can choose keys that
//! collide and a simulated node repeats bit for bit.

/// The key of the hash; from the shell's randomness, or the run's in the simulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashSeed(pub u64, pub u64);

impl HashSeed {
    /// The position of `bytes` in hash order: the upper half of SipHash-1-3.
    #[inline]
    pub fn hash(self, bytes: &[u8]) -> u32 {
        self.both(bytes).0
    }

    /// The position of `bytes` in hash order, and another hash that has nothing to do with it.
    #[inline]
    pub fn both(self, bytes: &[u8]) -> (u32, u32) {
        let hash = self.sip13(bytes);
        ((hash >> 32) as u32, hash as u32)
    }

    fn sip13(self, bytes: &[u8]) -> u64 {
        let mut v = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            let word = u64::from_le_bytes(*word);
            v[3] ^= word;
            round(&mut v);
            v[0] ^= word;
        }
        // The rest is the upper part of the last eight bytes, if there are so many: one load instead of a copy.
        let tail = match (rest.len() as u32, bytes.last_chunk()) {
            (0, _) => 0,
            (len, Some(eight)) => u64::from_le_bytes(*eight) >> (64 - 8 * len),
            (_, None) => rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u64::from(byte)),
        };
        let last = tail | u64::from(bytes.len() as u8) << 56;
        v[3] ^= last;
        round(&mut v);
        v[0] ^= last;
        v[2] ^= 0xff;
        round(&mut v);
        round(&mut v);
        round(&mut v);
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

#[inline]
const fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn it_is_siphash_1_3_of_any_length() {
        let bytes: Vec<u8> = (100..140).collect();
        for len in 0..=bytes.len() {
            // Which is what std's hasher is, with a key of zeros.
            let mut theirs = DefaultHasher::new();
            theirs.write(&bytes[..len]);
            assert_eq!(HashSeed(0, 0).sip13(&bytes[..len]), theirs.finish(), "{len} bytes");
        }
    }

    #[test]
    fn the_seed_and_every_byte_matter() {
        let seed = HashSeed(1, 2);
        assert_eq!(seed.hash(b"key:1"), seed.hash(b"key:1"));
        assert_ne!(seed.hash(b"key:1"), HashSeed(1, 3).hash(b"key:1"));
        assert_ne!(seed.hash(b"key:1"), seed.hash(b"key:2"));
        assert_ne!(seed.hash(b""), seed.hash(b"\0"));
        assert_ne!(seed.hash(b"12345678"), seed.hash(b"12345678\0"));
    }
}
