//! From a value to a number: open addressing, reused from key to key, with a fixed mixer (no random state: a check of
//! the same history takes the same steps).

#[derive(Clone, Debug, Default)]
pub(super) struct ValueMap {
    /// (value, what it maps to plus one; zero is empty). A power of two, at most half full.
    slots: Vec<(u64, u32)>,
    len: usize,
}

impl ValueMap {
    pub fn clear(&mut self) {
        // A table much larger than its content costs more to clear than to make anew.
        if self.slots.len() > 64 && self.len * 16 < self.slots.len() {
            self.slots.clear();
        } else {
            self.slots.fill((0, 0));
        }
        self.len = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, value: u64) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let (_, found) = self.slots[self.slot_of(value)];
        found.checked_sub(1)
    }

    /// Keeps what is there already, and returns it.
    pub fn insert(&mut self, value: u64, number: u32) -> Option<u32> {
        if (self.len + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let at = self.slot_of(value);
        if let Some(before) = self.slots[at].1.checked_sub(1) {
            return Some(before);
        }
        self.slots[at] = (value, number + 1);
        self.len += 1;
        None
    }

    /// Where the value is, or would be.
    fn slot_of(&self, value: u64) -> usize {
        let mask = self.slots.len() - 1;
        // Fibonacci hashing; the high half carries the mixture.
        let mut at = (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.slots[at].1 != 0 && self.slots[at].0 != value {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let larger = vec![(0, 0); (self.slots.len() * 2).max(16)];
        for (value, found) in std::mem::replace(&mut self.slots, larger) {
            if found != 0 {
                let at = self.slot_of(value);
                self.slots[at] = (value, found);
            }
        }
    }
}
