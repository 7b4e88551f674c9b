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
        for (to, from) in bytes.iter_mut().zip(wire) {
            *to = *from;
        }
        let count = bytes.iter().map(|byte| byte.count_ones() as u16).sum();
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

    /// The slots, ascending; costs 2048 steps plus one per slot.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.bytes.iter().zip(0_u16..).filter(|(byte, _)| **byte != 0).flat_map(|(byte, at)| {
            let byte = *byte;
            (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at * 8 + bit)
        })
    }

    /// Maximal runs of neighbouring slots, ascending, ends included.
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == slot => *end = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
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
