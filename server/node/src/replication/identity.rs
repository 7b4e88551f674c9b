//! Which history a dataset belongs to: replication ids, the second id that is kept after a promotion, and the
//! randomness that makes new ones.

use std::fmt;

/// The name of one history of writes: 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplId([u8; 40]);

impl ReplId {
    /// What Redis prints where there is no second id.
    pub const NONE: Self = Self([b'0'; 40]);

    /// Reads 40 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; 40] = text.try_into().ok()?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(Self(digits))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A node's place in the histories that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The history that is being written.
    pub id: ReplId,
    /// The one before it, and the offset up to which both are the same. A peer may continue from the old history
    /// up to there and no further: what it has beyond was never part of this one.
    pub earlier: Option<(ReplId, u64)>,
}

impl History {
    /// True if a peer that holds history `id` up to `offset` holds nothing that this history does not.
    pub fn contains(&self, id: ReplId, offset: u64) -> bool {
        id == self.id
            || self.earlier.is_some_and(|(earlier, shared_until)| id == earlier && offset <= shared_until)
    }

    /// Goes on under a new id, the same as the old one up to `offset`.
    pub const fn branch(&mut self, id: ReplId, offset: u64) {
        self.earlier = Some((self.id, offset));
        self.id = id;
    }
}

/// SplitMix64 from a seed given at boot: ids and transfer marks need to differ, not to be secret.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that always gives the same from the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Forty hexadecimal digits.
    pub fn hex40(&mut self) -> [u8; 40] {
        let mut digits = [0; 40];
        for digit in &mut digits {
            *digit = b"0123456789abcdef"[(self.next() >> 60) as usize];
        }
        digits
    }

    /// A new history's name.
    pub fn repl_id(&mut self) -> ReplId {
        ReplId(self.hex40())
    }
}
