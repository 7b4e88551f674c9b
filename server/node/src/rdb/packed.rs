//! The packed forms in which a real server saves small collections (listpack, ziplist, intset) and the LZF
//! compression of strings. Every function reads foreign bytes and refuses what does not add up.

use super::RdbError;
use crate::keyspace::listpack;
use crate::keyspace::score::{Score, parse_bound};

type Elements = Vec<Vec<u8>>;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A reader over one blob that never reads past its end.
struct Cursor<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], RdbError> {
        let (head, rest) =
            self.bytes.split_at_checked(len).ok_or(RdbError::Packed(self.what, "ends early"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, RdbError> {
        Ok(self.take(1)?[0])
    }

    /// A signed little-endian integer of `len` (1 to 8) bytes.
    fn signed_le(&mut self, len: usize) -> Result<i64, RdbError> {
        let bytes = self.take(len)?;
        let fill = if bytes[len - 1] & 0x80 == 0 { 0 } else { 0xff };
        let mut wide = [fill; 8];
        wide[..len].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(wide))
    }

    fn u16_le(&mut self) -> Result<u16, RdbError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32_le(&mut self) -> Result<u32, RdbError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn fail<T>(&self, why: &'static str) -> Result<T, RdbError> {
        Err(RdbError::Packed(self.what, why))
    }
}

fn text(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// The elements of a listpack.
pub fn listpack(blob: &[u8]) -> Result<Elements, RdbError> {
    let mut cursor = Cursor { bytes: blob, what: "listpack" };
    let total = cursor.u32_le()?;
    let announced = cursor.u16_le()?;
    if total as usize != blob.len() {
        return cursor.fail("has a wrong total length");
    }
    let mut elements = Vec::new();
    let mut at = listpack::HEAD_BYTES;
    while let Some((element, next)) = listpack::read(blob, at) {
        elements.push(element.to_vec());
        at = next;
    }
    if blob.get(at) != Some(&listpack::END) {
        return cursor.fail("has an element that cannot be");
    }
    cursor.bytes = &blob[at + 1..];
    if !cursor.bytes.is_empty() || (announced != u16::MAX && usize::from(announced) != elements.len()) {
        return cursor.fail("has a wrong element count");
    }
    Ok(elements)
}

/// The elements of a ziplist, the listpack's predecessor.
pub fn ziplist(blob: &[u8]) -> Result<Elements, RdbError> {
    let mut cursor = Cursor { bytes: blob, what: "ziplist" };
    let total = cursor.u32_le()?;
    let _tail_offset = cursor.u32_le()?;
    let announced = cursor.u16_le()?;
    if total as usize != blob.len() {
        return cursor.fail("has a wrong total length");
    }
    let mut elements = Vec::new();
    loop {
        // First the previous entry's length: one byte, or FE and four; FF ends the list.
        match cursor.byte()? {
            0xff => break,
            0xfe => {
                cursor.take(4)?;
            }
            _ => {}
        }
        let first = cursor.byte()?;
        elements.push(match first {
            0x00..=0x3f => cursor.take(usize::from(first))?.to_vec(),
            0x40..=0x7f => {
                let len = usize::from(first & 0x3f) << 8 | usize::from(cursor.byte()?);
                cursor.take(len)?.to_vec()
            }
            0x80 => {
                let len = cursor.take(4)?;
                let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]);
                cursor.take(len as usize)?.to_vec()
            }
            0xc0 => text(cursor.signed_le(2)?),
            0xd0 => text(cursor.signed_le(4)?),
            0xe0 => text(cursor.signed_le(8)?),
            0xf0 => text(cursor.signed_le(3)?),
            0xfe => text(cursor.signed_le(1)?),
            0xf1..=0xfd => text(i64::from(first & 0x0f) - 1),
            _ => return cursor.fail("has an unknown encoding"),
        });
    }
    if !cursor.bytes.is_empty() || (announced != u16::MAX && usize::from(announced) != elements.len()) {
        return cursor.fail("has a wrong element count");
    }
    Ok(elements)
}

/// The members of an intset, as decimal texts.
pub fn intset(blob: &[u8]) -> Result<Elements, RdbError> {
    let mut cursor = Cursor { bytes: blob, what: "intset" };
    let width = cursor.u32_le()? as usize;
    let count = cursor.u32_le()? as usize;
    if !matches!(width, 2 | 4 | 8) {
        return cursor.fail("has an unknown integer width");
    }
    if count.checked_mul(width) != Some(cursor.bytes.len()) {
        return cursor.fail("has a wrong element count");
    }
    (0..count).map(|_| cursor.signed_le(width).map(text)).collect()
}

/// The fields and values of a zipmap, the small hash of Redis 2.4 and before.
pub fn zipmap(blob: &[u8]) -> Result<Pairs, RdbError> {
    let mut cursor = Cursor { bytes: blob, what: "zipmap" };
    // The number of pairs, if it is small; the end is marked all the same.
    cursor.byte()?;
    let mut pairs = Vec::new();
    let len = |cursor: &mut Cursor<'_>, first: u8| {
        if first < 254 { Ok::<_, RdbError>(usize::from(first)) } else { Ok(cursor.u32_le()? as usize) }
    };
    loop {
        let first = cursor.byte()?;
        if first == 255 {
            return if cursor.bytes.is_empty() { Ok(pairs) } else { cursor.fail("goes on behind its end") };
        }
        let field_len = len(&mut cursor, first)?;
        let field = cursor.take(field_len)?.to_vec();
        let first = cursor.byte()?;
        if first == 255 {
            return cursor.fail("has a field without a value");
        }
        let value_len = len(&mut cursor, first)?;
        let unused = usize::from(cursor.byte()?);
        let value = cursor.take(value_len)?.to_vec();
        cursor.take(unused)?;
        pairs.push((field, value));
    }
}

/// Pairs up elements that stand for field, value, field, value.
pub fn pairs(elements: Elements) -> Result<Pairs, RdbError> {
    if elements.len() % 2 == 1 {
        return Err(RdbError::Packed("hash", "has a field without a value"));
    }
    let mut pairs = Vec::with_capacity(elements.len() / 2);
    let mut elements = elements.into_iter();
    while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
        pairs.push((field, value));
    }
    Ok(pairs)
}

/// Pairs up elements that stand for member, score, member, score.
pub fn scored(elements: Elements) -> Result<Vec<(Vec<u8>, Score)>, RdbError> {
    let pairs =
        pairs(elements).map_err(|_| RdbError::Packed("sorted set", "has a member without a score"))?;
    let scored = pairs.into_iter().map(|(member, score)| {
        let score =
            parse_bound(&score).ok_or(RdbError::Packed("sorted set", "has a score that is no number"))?;
        Ok((member, Score(score)))
    });
    scored.collect()
}

/// Expands LZF-compressed bytes to exactly `len` bytes.
pub fn lzf(compressed: &[u8], len: usize) -> Result<Vec<u8>, RdbError> {
    let mut cursor = Cursor { bytes: compressed, what: "compressed string" };
    // Memory follows what really comes out, not what was announced: three bytes give at most 264.
    let mut out = Vec::with_capacity(len.min(compressed.len().saturating_mul(4)));
    while !cursor.bytes.is_empty() {
        let control = usize::from(cursor.byte()?);
        if control < 32 {
            out.extend_from_slice(cursor.take(control + 1)?);
        } else {
            let mut run = control >> 5;
            if run == 7 {
                run += usize::from(cursor.byte()?);
            }
            run += 2;
            let distance = (control & 31) << 8 | usize::from(cursor.byte()?);
            let Some(mut from) = out.len().checked_sub(distance + 1) else {
                return cursor.fail("refers to before its start");
            };
            // The source may overlap what is being written, so byte by byte.
            for _ in 0..run {
                out.push(out[from]);
                from += 1;
            }
        }
        if out.len() > len {
            return cursor.fail("is longer than announced");
        }
    }
    if out.len() != len {
        return cursor.fail("is shorter than announced");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expands_an_overlapping_run() {
        // One literal "a", then 9 more copies of it: run 7 + 0 + 2, distance 1.
        assert_eq!(lzf(&[0, b'a', 0xe0, 0, 0], 10).unwrap(), b"aaaaaaaaaa");
        assert!(lzf(&[0, b'a', 0xe0, 0, 5], 10).is_err(), "reaches before the start");
        assert!(lzf(&[0, b'a', 0xe0, 0, 0], 9).is_err(), "longer than announced");
    }

    #[test]
    fn reads_every_integer_width_of_an_intset() {
        let blob = [4, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0];
        assert_eq!(intset(&blob).unwrap(), [b"-1".to_vec(), b"65536".to_vec()]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), fix_len: bool) {
            if fix_len && bytes.len() >= 4 {
                let len = bytes.len() as u32;
                bytes[..4].copy_from_slice(&len.to_le_bytes());
            }
            let _ = (listpack(&bytes), ziplist(&bytes), zipmap(&bytes), intset(&bytes), lzf(&bytes, 300));
        }
    }
}
