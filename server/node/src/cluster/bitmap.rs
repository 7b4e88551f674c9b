//! A set of hash slots in the wire's own layout: slot s is bit s%8 (least significant first) of byte s/8.

use std::fmt;

/// Hash slots of a cluster.
pub const SLOTS: u16 = 16384;

/// A set of slots, 2048 bytes as they stand in bus headers.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotBitmap {
    bytes: Box<[u8; SlotBitmap::BYTES]>,
    count: u16,
}

impl SlotBitmap {
    /// Bytes on the wire.
    pub const BYTES: usize = SLOTS as usize / 8;

    /// No slot.
    pub fn new() -> Self {
        Self { bytes: Box::new([0; Self::BYTES]), count: 0 }
    }

    /// From the wire; every pattern of 2048 bytes is a valid set. Bytes that are missing count as zero.
    pub fn from_wire(wire: &[u8]) -> Self {
        let mut bytes = Box::new([0; Self::BYTES]);
        let given = wire.len().min(Self::BYTES);
        bytes[..given].copy_from_slice(&wire[..given]);
        let (words, _) = bytes.as_chunks::<8>();
        // Most words are empty or full, and not every processor counts bits by itself.
        let count = words.iter().map(|word| match u64::from_le_bytes(*word) {
            0 => 0,
            u64::MAX => 64,
            word => word.count_ones() as u16,
        });
        let count = count.sum();
        Self { bytes, count }
    }

    /// The wire's bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.bytes
    }

    /// Slots in the set.
    pub const fn len(&self) -> u16 {
        self.count
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Is `slot` in the set?
    pub fn contains(&self, slot: u16) -> bool {
        self.bytes[usize::from(slot / 8) % Self::BYTES] & (1 << (slot % 8)) != 0
    }

    /// Adds a slot; false if it was there.
    pub fn insert(&mut self, slot: u16) -> bool {
        let byte = &mut self.bytes[usize::from(slot / 8) % Self::BYTES];
        let mask = 1 << (slot % 8);
        let new = *byte & mask == 0;
        *byte |= mask;
        self.count += u16::from(new);
        new
    }

    /// Removes a slot; false if it was not there.
    pub fn remove(&mut self, slot: u16) -> bool {
        let byte = &mut self.bytes[usize::from(slot / 8) % Self::BYTES];
        let mask = 1 << (slot % 8);
        let was = *byte & mask != 0;
        *byte &= !mask;
        self.count -= u16::from(was);
        was
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.runs().flat_map(|(first, last)| first..=last)
    }

    /// Maximal runs of neighbouring slots, ascending, ends included.
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        self.runs().collect()
    }

    /// As [`Self::ranges`]. Steps over 64 slots at a time: every header is compared and every table printed
    /// by it.
    pub fn runs(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let mut from = if self.is_empty() { SLOTS } else { 0 };
        std::iter::from_fn(move || {
            let first = self.next_from(from, false)?;
            let end = self.next_from(first, true).unwrap_or(SLOTS);
            from = end;
            Some((first, end - 1))
        })
    }

    /// The first slot at or after `from` that is in the set, or, `inverted`, that is not.
    fn next_from(&self, from: u16, inverted: bool) -> Option<u16> {
        let mut at = from;
        while at < SLOTS {
            let (words, _) = self.bytes.as_chunks::<8>();
            let mut word = u64::from_le_bytes(*words.get(usize::from(at / 64))?);
            if inverted {
                word = !word;
            }
            let rest = word >> (at % 64);
            if rest != 0 {
                return Some(at + rest.trailing_zeros() as u16);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

impl Default for SlotBitmap {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SlotBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn runs_are_the_slots_that_were_put_in(
            ranges in proptest::collection::vec((0..SLOTS, 0_u16..200), 0..20),
        ) {
            let mut map = SlotBitmap::new();
            let mut set = std::collections::BTreeSet::new();
            for (first, len) in ranges {
                for slot in first..(first + len).min(SLOTS) {
                    proptest::prop_assert_eq!(map.insert(slot), set.insert(slot));
                }
            }
            let put_in: Vec<u16> = set.iter().copied().collect();
            proptest::prop_assert_eq!(map.iter().collect::<Vec<_>>(), put_in);
            proptest::prop_assert_eq!(usize::from(map.len()), set.len());
            let ranges = map.ranges();
            proptest::prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let again = SlotBitmap::from_wire(map.as_bytes());
            proptest::prop_assert_eq!(again, map);
        }
    }

    #[test]
    fn the_ends_and_the_whole_are_runs() {
        let whole = SlotBitmap::from_wire(&[0xff; SlotBitmap::BYTES]);
        assert_eq!(whole.ranges(), [(0, 16383)]);
        let mut ends = SlotBitmap::new();
        ends.insert(0);
        ends.insert(16383);
        assert_eq!(ends.ranges(), [(0, 0), (16383, 16383)]);
    }
}
