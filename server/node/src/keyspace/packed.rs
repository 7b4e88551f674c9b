//! A sequence of short byte strings in one buffer: what a small hash or sorted set is made of. One
//! allocation, no pointers; searched from the front, as Redis' listpack.

/// The sequence.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    bytes: Vec<u8>,
    len: usize,
}

#[allow(clippy::len_without_is_empty, clippy::iter_without_into_iter)] // used by values only, which need neither
impl Packed {
    /// Number of strings.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Size of the buffer.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds a string at the end.
    pub fn push(&mut self, item: &[u8]) {
        write_len(&mut self.bytes, item.len());
        self.bytes.extend_from_slice(item);
        self.len += 1;
    }

    /// The strings, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.bytes }
    }

    /// The value that follows `field` in a sequence of pairs.
    pub fn pair_value(&self, field: &[u8]) -> Option<&[u8]> {
        let mut iter = self.iter();
        while let (Some(name), Some(value)) = (iter.next(), iter.next()) {
            if name == field {
                return Some(value);
            }
        }
        None
    }

    /// Replaces the value that follows `field`; false if the field is not there.
    pub fn replace_pair(&mut self, field: &[u8], value: &[u8]) -> bool {
        let Some((_, from, to)) = self.locate(field) else { return false };
        let mut record = Vec::with_capacity(value.len() + 5);
        write_len(&mut record, value.len());
        record.extend_from_slice(value);
        self.bytes.splice(from..to, record);
        true
    }

    /// Removes `field` and its value; false if it is not there.
    pub fn remove_pair(&mut self, field: &[u8]) -> bool {
        let Some((from, _, to)) = self.locate(field) else { return false };
        self.bytes.drain(from..to);
        self.len -= 2;
        true
    }

    /// Puts a pair before the one at `rank`, or at the end.
    pub fn insert_pair(&mut self, rank: usize, field: &[u8], value: &[u8]) {
        let mut iter = self.iter();
        for _ in 0..rank * 2 {
            iter.next();
        }
        let at = self.bytes.len() - iter.rest.len();
        let mut record = Vec::with_capacity(field.len() + value.len() + 10);
        for item in [field, value] {
            write_len(&mut record, item.len());
            record.extend_from_slice(item);
        }
        self.bytes.reserve_exact(record.len());
        self.bytes.splice(at..at, record);
        self.len += 2;
    }

    /// Offsets of the pair's begin, of its value record, and of its end.
    fn locate(&self, field: &[u8]) -> Option<(usize, usize, usize)> {
        let mut iter = self.iter();
        loop {
            let begin = self.bytes.len() - iter.rest.len();
            let name = iter.next()?;
            let middle = self.bytes.len() - iter.rest.len();
            iter.next()?;
            if name == field {
                return Some((begin, middle, self.bytes.len() - iter.rest.len()));
            }
        }
    }
}

/// Strings of a [`Packed`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = read_len(self.rest)?;
        let (item, rest) = rest.split_at(len);
        self.rest = rest;
        Some(item)
    }
}

fn write_len(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn read_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut len = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((len, &bytes[index + 1..]));
        }
    }
    None
}
