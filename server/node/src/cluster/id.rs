//! Node ids: 40 characters that name a node for life (`CLUSTER RESET HARD` gives a new one).

use std::fmt;

use crate::random::Random;

/// 40 characters of `[a-z0-9]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 40]);

impl NodeId {
    /// Bytes of an id.
    pub const LEN: usize = 40;

    /// A new id, as a real node makes them: hexadecimal, lower case.
    pub fn random(random: &mut Random) -> Self {
        Self(random.hex())
    }

    /// An id from text or from the wire; `None` unless it is exactly 40 of `[a-z0-9]`.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let id: [u8; 40] = bytes.try_into().ok()?;
        // All of them, whatever the first ones are, and in numbers of one byte: so many are looked at together.
        let wrong = |c: &u8| u8::from(!(c.is_ascii_lowercase() | c.is_ascii_digit()));
        let wrongs = id.iter().fold(0, |wrongs, c| wrongs | wrong(c));
        (wrongs == 0).then_some(Self(id))
    }

    /// The 40 bytes.
    pub const fn as_bytes(&self) -> &[u8; 40] {
        &self.0
    }

    /// The 40 characters.
    pub fn as_str(&self) -> &str {
        // Only ASCII passes `parse` and `random`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str()[..8])
    }
}
