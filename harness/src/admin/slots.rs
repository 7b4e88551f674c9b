//! Slots as ranges and as lists, the way people write them.

/// Every slot of inclusive ranges, ascending.
pub fn expand(ranges: &[(u16, u16)]) -> Vec<u16> {
    let mut slots: Vec<u16> = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// The fewest inclusive ranges that hold exactly `slots`.
pub fn compress(slots: &[u16]) -> Vec<(u16, u16)> {
    let mut sorted = slots.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// Whether `slot` lies in one of the ranges.
pub fn holds(ranges: &[(u16, u16)], slot: u16) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot))
}

/// `0-2,7`: for sentences.
pub fn sentence(slots: &[u16]) -> String {
    let ranges = compress(slots);
    ranges.iter().map(|range| range_text(*range)).collect::<Vec<_>>().join(",")
}

/// `[0-2],[7]`: as redis-cli prints a node's slots.
pub fn bracketed(ranges: &[(u16, u16)]) -> String {
    ranges.iter().map(|range| format!("[{}]", range_text(*range))).collect::<Vec<_>>().join(",")
}

fn range_text((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_are_written_as_redis_cli_writes_them() {
        assert_eq!(bracketed(&[(0, 2), (7, 7)]), "[0-2],[7]");
        assert_eq!(sentence(&[7, 1, 0, 2]), "0-2,7");
        assert_eq!(sentence(&[]), "");
    }

    proptest! {
        #[test]
        fn ranges_hold_exactly_the_slots_they_were_made_of(slots in proptest::collection::btree_set(0u16..16384, 0..200)) {
            let list: Vec<u16> = slots.iter().copied().collect();
            let ranges = compress(&list);
            prop_assert_eq!(&expand(&ranges), &list);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            prop_assert!(list.iter().all(|slot| holds(&ranges, *slot)));
        }
    }
}
