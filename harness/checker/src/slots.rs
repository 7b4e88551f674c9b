//! Which slot a key belongs to: CRC16 (XMODEM) of the key, or of its hash tag, modulo 16384. The judge's own code,
//! so that a node that hashes wrongly is not judged by its own mistake.

/// How many slots a cluster has.
pub const SLOTS: u16 = 16384;

/// The slot of a key.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// True if `slot` is in one of the inclusive ranges.
pub fn contains(ranges: &[(u16, u16)], slot: u16) -> bool {
    ranges.iter().any(|&(first, last)| first <= slot && slot <= last)
}

/// The slots in both lists of inclusive ranges, as ranges.
pub fn overlap(a: &[(u16, u16)], b: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut both: Vec<(u16, u16)> = a
        .iter()
        .flat_map(|&(a_first, a_last)| {
            b.iter().map(move |&(b_first, b_last)| (a_first.max(b_first), a_last.min(b_last)))
        })
        .filter(|(first, last)| first <= last)
        .collect();
    both.sort_unstable();
    both
}

/// The slots of the first list that are not in the second, as ranges.
pub fn without(a: &[(u16, u16)], b: &[(u16, u16)]) -> Vec<(u16, u16)> {
    if b.is_empty() {
        return a.to_vec();
    }
    let all = a.iter().flat_map(|&(first, last)| first..=last);
    ranges_of(all.filter(|&slot| !contains(b, slot)))
}

/// A sorted list of single slots as inclusive ranges.
pub fn ranges_of(slots: impl IntoIterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if slot == *last => {}
            Some((_, last)) if u32::from(slot) == u32::from(*last) + 1 => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// The part of the key between the first `{` and the next `}`, if it is not empty; else the whole key.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let inside = &key[open + 1..];
    match inside.iter().position(|&byte| byte == b'}') {
        Some(length) if length > 0 => &inside[..length],
        _ => key,
    }
}

/// CRC16, polynomial 0x1021, initial value 0, as the cluster specification says.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_check_value_and_known_slots() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn only_the_first_non_empty_tag_counts() {
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn ranges_meet_and_are_made() {
        assert_eq!(overlap(&[(0, 10), (20, 30)], &[(5, 25)]), vec![(5, 10), (20, 25)]);
        assert_eq!(ranges_of([1, 2, 3, 7, 7, 8]), vec![(1, 3), (7, 8)]);
        assert_eq!(without(&[(0, 10), (20, 30)], &[(5, 25)]), vec![(0, 4), (26, 30)]);
    }
}
