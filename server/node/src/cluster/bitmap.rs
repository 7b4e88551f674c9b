//! A set of hash slots in the wire's own layout: slot s is bit s%8 (least significant first) of byte s/8.

use std::fmt;

use triomphe::Arc;

/// Hash slots of a cluster.
pub const SLOTS: u16 = 16384;

/// A set of slots, 2048 bytes as they stand in bus headers. Clones share them until one is changed: every packet carries
/// its sender's set, which nearly always is the one that is known.
#[derive(Clone)]
pub struct SlotBitmap {
    bytes: Arc<[u8; SlotBitmap::BYTES]>,
    count: u16,
}

impl SlotBitmap {
    /// Bytes on the wire.
    pub const BYTES: usize = SLOTS as usize / 8;

    /// No slot.
    pub fn new() -> Self {
        Self { bytes: Arc::new([0; Self::BYTES]), count: 0 }
    }

    /// This one slot.
    pub fn of(slot: u16) -> Self {
        let mut slots = Self::new();
        slots.insert(slot);
        slots
    }

    /// From the wire; every pattern of 2048 bytes is a valid set. Bytes that are missing count as zero.
    pub fn from_wire(wire: &[u8]) -> Self {
        let mut bytes = [0; Self::BYTES];
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
        Self { bytes: Arc::new(bytes), count }
    }

    /// As [`Self::from_wire`], but shared with `known` if it is the same set.
    pub fn from_wire_like(wire: &[u8], known: &Self) -> Self {
        if *wire == known.bytes[..] { known.clone() } else { Self::from_wire(wire) }
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
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        self.bytes[usize::from(slot / 8) % Self::BYTES] & (1 << (slot % 8)) != 0
    }

    /// Adds a slot; false if it was there.
    #[inline]
    pub fn insert(&mut self, slot: u16) -> bool {
        let new = !self.contains(slot);
        if new {
            Arc::make_mut(&mut self.bytes)[usize::from(slot / 8) % Self::BYTES] |= 1 << (slot % 8);
            self.count += 1;
        }
        new
    }

    /// Removes a slot; false if it was not there.
    #[inline]
    pub fn remove(&mut self, slot: u16) -> bool {
        let was = self.contains(slot);
        if was {
            Arc::make_mut(&mut self.bytes)[usize::from(slot / 8) % Self::BYTES] &= !(1 << (slot % 8));
            self.count -= 1;
        }
        was
    }

    /// Adds all these slots.
    pub fn insert_all(&mut self, slots: &Self) {
        self.change_words(|at, old| old | slots.word(at));
    }

    /// Removes all these slots.
    pub fn remove_all(&mut self, slots: &Self) {
        if !self.is_empty() {
            self.change_words(|at, old| old & !slots.word(at));
        }
    }

    /// Of the slots in `within`, holds from now on exactly those that are not in `without`.
    pub fn set_within(&mut self, within: &Self, without: &Self) {
        self.change_words(|at, old| {
            let mask = within.word(at);
            (old & !mask) | (mask & !without.word(at))
        });
    }

    fn change_words(&mut self, change: impl Fn(usize, u64) -> u64) {
        for at in 0..usize::from(SLOTS / 64) {
            let old = self.word(at);
            let new = change(at, old);
            if new != old {
                Arc::make_mut(&mut self.bytes)[at * 8..at * 8 + 8].copy_from_slice(&new.to_le_bytes());
                self.count = self.count + new.count_ones() as u16 - old.count_ones() as u16;
            }
        }
    }

    /// The slots that are not in `other`, ascending.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u16> + 'a {
        (0..SLOTS / 64).flat_map(move |at| {
            let mut rest = self.word(usize::from(at)) & !other.word(usize::from(at));
            std::iter::from_fn(move || {
                let slot = (rest != 0).then(|| at * 64 + rest.trailing_zeros() as u16)?;
                rest &= rest - 1;
                Some(slot)
            })
        })
    }

    /// Slots `at * 64` to `at * 64 + 63`; none beyond the last one.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        let (words, _) = self.bytes.as_chunks::<8>();
        words.get(at).map_or(0, |word| u64::from_le_bytes(*word))
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
            let mut word = self.word(usize::from(at / 64));
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

impl PartialEq for SlotBitmap {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) || (self.count == other.count && self.bytes == other.bytes)
    }
}

impl Eq for SlotBitmap {}

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
            proptest::prop_assert_eq!(&SlotBitmap::from_wire_like(map.as_bytes(), &SlotBitmap::new()), &map);
            proptest::prop_assert_eq!(again, map);
        }

        #[test]
        fn sets_are_combined_as_their_slots_are(
            sets in proptest::collection::vec(proptest::collection::vec(0..SLOTS, 0..300), 3),
        ) {
            let sets: Vec<std::collections::BTreeSet<u16>> =
                sets.into_iter().map(|slots| slots.into_iter().map(|slot| slot % 700).collect()).collect();
            let map_of = |set: &std::collections::BTreeSet<u16>| {
                let mut map = SlotBitmap::new();
                for slot in set {
                    map.insert(*slot);
                }
                map
            };
            let [first, within, without] = [0, 1, 2].map(|at| map_of(&sets[at]));
            proptest::prop_assert!(first.difference(&within).eq(sets[0].difference(&sets[1]).copied()));
            let mut changed = first.clone();
            changed.set_within(&within, &without);
            let (mut more, mut fewer) = (first.clone(), first.clone());
            more.insert_all(&within);
            proptest::prop_assert_eq!(&more, &map_of(&sets[0].union(&sets[1]).copied().collect()));
            fewer.remove_all(&within);
            proptest::prop_assert_eq!(&fewer, &map_of(&sets[0].difference(&sets[1]).copied().collect()));
            let expected = sets[0].difference(&sets[1]).chain(sets[1].difference(&sets[2])).copied().collect();
            proptest::prop_assert_eq!(&changed, &map_of(&expected));
            proptest::prop_assert_eq!(usize::from(changed.len()), expected.len());
            proptest::prop_assert_eq!(first, map_of(&sets[0]), "a clone is a set of its own");
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
