//! From a value to the place that a check gave it.

use rustc_hash::FxHashMap;

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// A map from values to places. Workloads number their values densely, so that a plain array usually does.
pub(super) enum ValueIndex {
    Dense { lowest: u64, places: Vec<u32> },
    Sparse(FxHashMap<u64, u32>),
}

impl ValueIndex {
    /// An empty index that will be asked about these values, of which only those inserted are in it.
    pub fn over(values: impl Iterator<Item = u64>) -> Self {
        let (mut lowest, mut highest, mut count) = (u64::MAX, 0, 0_u64);
        for value in values {
            (lowest, highest, count) = (lowest.min(value), highest.max(value), count + 1);
        }
        let span = highest.saturating_sub(lowest);
        if count == 0 || span / 4 > count + 256 {
            return Self::Sparse(FxHashMap::with_capacity_and_hasher(
                count as usize,
                rustc_hash::FxBuildHasher,
            ));
        }
        Self::Dense { lowest, places: vec![NONE; span as usize + 1] }
    }

    /// Gives the value a place, unless it has one: then that is returned.
    pub fn insert(&mut self, value: u64, place: u32) -> Option<u32> {
        match self {
            Self::Dense { lowest, places } => {
                let slot = &mut places[(value - *lowest) as usize];
                if *slot != NONE {
                    return Some(*slot);
                }
                *slot = place;
                None
            }
            Self::Sparse(map) => match map.entry(value) {
                std::collections::hash_map::Entry::Occupied(entry) => Some(*entry.get()),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(place);
                    None
                }
            },
        }
    }

    pub fn get(&self, value: u64) -> Option<u32> {
        match self {
            Self::Dense { lowest, places } => {
                let place = *places.get(usize::try_from(value.checked_sub(*lowest)?).ok()?)?;
                (place != NONE).then_some(place)
            }
            Self::Sparse(map) => map.get(&value).copied(),
        }
    }
}
