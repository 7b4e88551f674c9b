//! A small seeded generator (xoshiro256**), because a pure node may not ask the machine for randomness and
//! one seed must replay bit for bit.

/// Deterministic pseudo-random numbers. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// A generator whose whole output follows from `seed`.
    pub fn seeded(seed: u64) -> Self {
        // SplitMix64 spreads a small seed over the state, which must not be all zero.
        let mut z = seed;
        let state = std::array::from_fn(|_| {
            z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = z;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        });
        Self { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..n`; 0 if `n` is 0. The bias of the widening multiply is below `n / 2^64`.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// `N` characters of `0-9a-f`: node ids, replication ids, transfer marks.
    pub fn hex<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for piece in out.chunks_mut(16) {
            let mut bits = self.next_u64();
            for c in piece {
                *c = b"0123456789abcdef"[(bits & 15) as usize];
                bits >>= 4;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_replays_and_another_seed_differs() {
        let draw = |seed| {
            let mut random = Random::seeded(seed);
            (0..8).map(|_| random.below(1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut random = Random::seeded(1);
        let mut seen = [0_u32; 5];
        for _ in 0..1000 {
            seen[random.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|n| *n > 100), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
