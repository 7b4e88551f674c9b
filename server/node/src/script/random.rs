//! The pseudo-random numbers of `math.random` in scripts: the 48-bit linear congruential generator of the C library's
//! `lrand48`, with Redis' start, so that scripts get the same numbers here as there.

/// The generator.
#[derive(Clone, Debug)]
pub struct Rand48(u64);

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
/// Numbers are below this.
pub const LIMIT: i32 = i32::MAX;

impl Default for Rand48 {
    fn default() -> Self {
        Self(0x1234_ABCD_330E)
    }
}

impl Rand48 {
    /// Begins anew; the numbers follow from `seed`.
    pub fn seed(&mut self, seed: i32) {
        self.0 = u64::from(seed as u32) << 16 | 0x330E;
    }

    /// The next number, below 2^31.
    pub fn next(&mut self) -> i32 {
        self.0 = (self.0.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT)) & MASK;
        (self.0 >> 17) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_numbers_of_the_c_library() {
        // srand48(0), then lrand48() three times.
        let mut random = Rand48::default();
        random.seed(0);
        assert_eq!([random.next(), random.next(), random.next()], [366_850_414, 1_610_402_240, 206_956_554]);
    }
}
