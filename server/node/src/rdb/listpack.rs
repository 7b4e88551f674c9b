//! Writes listpacks, the packed form of small collections and of a list's nodes; element for element the bytes
//! that Redis 7.0 writes.

use crate::keyspace::listpack;

/// A listpack in the making.
pub struct ListpackWriter {
    bytes: Vec<u8>,
    count: usize,
}

impl ListpackWriter {
    pub fn new() -> Self {
        Self { bytes: vec![0; listpack::HEAD_BYTES], count: 0 }
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
        listpack::put(&mut self.bytes, element);
        self.count += 1;
    }

    /// The finished bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(listpack::END);
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        // A count that does not fit is left open.
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        self.bytes[4..6].copy_from_slice(&count.to_le_bytes());
        self.bytes
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
