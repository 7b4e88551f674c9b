//! The keyed hash of all tables: SipHash-1-3 with a seed given at boot, so that no client can choose keys that
//! collide and a simulated node repeats bit for bit.

/// The key of the hash; from the shell's randomness, or the run's in the simulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashSeed(pub u64, pub u64);

impl HashSeed {
    /// The position of `bytes` in hash order: the upper half of SipHash-1-3.
    pub fn hash(self, bytes: &[u8]) -> u32 {
        (self.sip13(bytes) >> 32) as u32
    }

    fn sip13(self, bytes: &[u8]) -> u64 {
        let mut v = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            let word = u64::from_le_bytes(eight);
            v[3] ^= word;
            round(&mut v);
            v[0] ^= word;
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        last[7] = bytes.len() as u8;
        let last = u64::from_le_bytes(last);
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
    use super::*;

    #[test]
    #[allow(deprecated)] // std's SipHash-2-4 is the only keyed one of std; ours is checked by its properties
    fn the_seed_and_every_byte_matter() {
        let seed = HashSeed(1, 2);
        assert_eq!(seed.hash(b"key:1"), seed.hash(b"key:1"));
        assert_ne!(seed.hash(b"key:1"), HashSeed(1, 3).hash(b"key:1"));
        assert_ne!(seed.hash(b"key:1"), seed.hash(b"key:2"));
        assert_ne!(seed.hash(b""), seed.hash(b"\0"));
        assert_ne!(seed.hash(b"12345678"), seed.hash(b"12345678\0"));
    }
}
