//! Writes listpacks, the packed form of small collections and of a list's nodes; element for element the bytes
//! that Redis 7.0 writes.

use crate::keyspace::number::parse_i64;

/// Bytes of a listpack without elements: its head and its end.
const EMPTY_BYTES: usize = 7;

/// A listpack in the making.
pub struct ListpackWriter {
    bytes: Vec<u8>,
    count: usize,
}

impl ListpackWriter {
    pub fn new() -> Self {
        Self { bytes: vec![0; EMPTY_BYTES - 1], count: 0 }
    }

    /// How long it is, with its end.
    pub fn len(&self) -> usize {
        self.bytes.len() + 1
    }

    /// How many elements it has.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Adds an element: as an integer when it is the canonical text of one.
    pub fn push(&mut self, element: &[u8]) {
        let before = self.bytes.len();
        match parse_i64(element) {
            Some(number) => self.put_integer(number),
            None => self.put_string(element),
        }
        put_back_len(&mut self.bytes, before);
        self.count += 1;
    }

    /// The finished bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(0xff);
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        // A count that does not fit is left open.
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        self.bytes[4..6].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }

    fn put_integer(&mut self, number: i64) {
        let little = number.to_le_bytes();
        let (mark, len) = match number {
            0..=127 => return self.bytes.push(number as u8),
            -4096..=4095 => {
                let thirteen = number as u16 & 0x1fff;
                return self.bytes.extend_from_slice(&(0xc000 | thirteen).to_be_bytes());
            }
            -0x8000..=0x7fff => (0xf1, 2),
            -0x80_0000..=0x7f_ffff => (0xf2, 3),
            -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
            _ => (0xf4, 8),
        };
        self.bytes.push(mark);
        self.bytes.extend_from_slice(&little[..len]);
    }

    fn put_string(&mut self, string: &[u8]) {
        match string.len() {
            len @ 0..=63 => self.bytes.push(0x80 | len as u8),
            len @ 64..=4095 => self.bytes.extend_from_slice(&(0xe000 | len as u16).to_be_bytes()),
            len => {
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(string);
    }
}

/// How many bytes tell the length of an entry of `len` bytes behind it. (The bounds are Redis' own, one short.)
pub const fn back_len_bytes(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Appends the length of the entry that begins at `start`: 7 bits a byte, the most significant first, bit 7 set on
/// all but the first.
fn put_back_len(bytes: &mut Vec<u8>, start: usize) {
    let len = bytes.len() - start;
    for index in (0..back_len_bytes(len)).rev() {
        let seven = (len >> (7 * index)) as u8 & 0x7f;
        let first = index + 1 == back_len_bytes(len);
        bytes.push(if first { seven } else { seven | 0x80 });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ListpackWriter;
    use crate::rdb::packed::listpack;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            numbers in proptest::collection::vec(any::<i64>(), 0..20), shift in 0..63_u32, long in 4000..17_000_usize,
        ) {
            let mut all = strings;
            all.extend(numbers.iter().map(|number| (number >> shift).to_string().into_bytes()));
            all.push(vec![b'x'; long]);
            let mut writer = ListpackWriter::new();
            for element in &all {
                writer.push(element);
            }
            let len = writer.len();
            let bytes = writer.finish();
            prop_assert_eq!(bytes.len(), len);
            prop_assert_eq!(listpack(&bytes).unwrap(), all);
        }
    }
}
