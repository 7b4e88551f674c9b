//! The set of commands of a selector, a bit each by the catalog's numbers, and one more for commands to come.

use crate::command::catalog::catalog;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandBits(Vec<u64>);

impl CommandBits {
    pub fn none() -> Self {
        Self(vec![0; catalog().entries().len() / 64 + 1])
    }

    /// With the one for commands to come: only `+@all` sets it, so it tells how a user was made.
    pub fn all() -> Self {
        let mut bits = Self::none();
        bits.0.fill(u64::MAX);
        bits
    }

    pub fn has(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & 1 << (index % 64) != 0)
    }

    pub fn set(&mut self, index: usize, value: bool) {
        if let Some(word) = self.0.get_mut(index / 64) {
            let bit = 1 << (index % 64);
            *word = if value { *word | bit } else { *word & !bit };
        }
    }

    /// True if commands to come are in it.
    pub fn has_future(&self) -> bool {
        self.has(catalog().entries().len())
    }
}
