//! The plain building blocks of an RDB file: lengths, strings, header, opcodes. They append to a buffer and know
//! nothing of where values come from.

use super::{MAGIC, VERSION, lzf, opcode};

/// Appends a length in the shortest of the four forms.
pub fn put_len(out: &mut Vec<u8>, len: u64) {
    match len {
        0..=0x3f => out.push(len as u8),
        0x40..=0x3fff => out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// Appends a string: as an integer when it is the canonical decimal text of a 32-bit one, else plain.
pub fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    if let Some(number) = canonical_i32(string) {
        put_int(out, number);
    } else {
        put_len(out, string.len() as u64);
        out.extend_from_slice(string);
    }
}

/// Writes strings, compressed where that saves bytes (`rdbcompression yes`).
#[derive(Debug)]
pub struct StringWriter {
    compressor: lzf::Compressor,
    /// Strings from this length on go as they are.
    compress_below: usize,
}

impl StringWriter {
    /// `compress_below`: 0 compresses nothing, `usize::MAX` whatever becomes shorter.
    pub fn new(compress_below: usize) -> Self {
        Self { compressor: lzf::Compressor::default(), compress_below }
    }

    /// As [`put_string`].
    pub fn put(&mut self, out: &mut Vec<u8>, string: &[u8]) {
        const NOT_BELOW: usize = 20;
        let packed = if string.len() > NOT_BELOW && string.len() < self.compress_below {
            self.compressor.compress(string)
        } else {
            None
        };
        match packed {
            Some(packed) => {
                out.push(0xc3);
                put_len(out, packed.len() as u64);
                put_len(out, string.len() as u64);
                out.extend_from_slice(&packed);
            }
            None => put_string(out, string),
        }
    }
}

/// Appends the decimal text of `number`, as an integer where the format has a form for it.
pub fn put_integer_string(out: &mut Vec<u8>, number: i64) {
    if let Ok(number) = i32::try_from(number) {
        put_int(out, number);
    } else {
        let text = number.to_string();
        put_len(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn put_int(out: &mut Vec<u8>, number: i32) {
    if let Ok(small) = i8::try_from(number) {
        out.extend_from_slice(&[0xc0, small as u8]);
    } else if let Ok(medium) = i16::try_from(number) {
        out.push(0xc1);
        out.extend_from_slice(&medium.to_le_bytes());
    } else {
        out.push(0xc2);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// The number whose `to_string` is exactly `text`, if it fits in 32 bits.
fn canonical_i32(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let plain = match digits {
        [b'0'] => !negative,
        [b'1'..=b'9', rest @ ..] => rest.len() < 10 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !plain {
        return None;
    }
    let magnitude = digits.iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    i32::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// Appends the magic and the version.
pub fn put_header(out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(format!("{VERSION:04}").as_bytes());
}

/// Appends one auxiliary field.
pub fn put_aux(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(opcode::AUX);
    put_string(out, name);
    put_string(out, value);
}

/// Appends the choice of a database and the hint of how many keys follow.
pub fn put_database(out: &mut Vec<u8>, number: u32, keys: u64, expires: u64) {
    out.push(opcode::SELECT_DB);
    put_len(out, u64::from(number));
    out.push(opcode::RESIZE_DB);
    put_len(out, keys);
    put_len(out, expires);
}

/// Appends what stands before a value: expiry, type, key.
pub fn put_key(
    out: &mut Vec<u8>,
    key: &[u8],
    expire_at_ms: Option<u64>,
    value_type: u8,
    strings: &mut StringWriter,
) {
    if let Some(at) = expire_at_ms {
        out.push(opcode::EXPIRE_MS);
        out.extend_from_slice(&at.to_le_bytes());
    }
    out.push(value_type);
    strings.put(out, key);
}

#[cfg(test)]
mod tests {
    use super::{canonical_i32, put_len, put_string};

    fn string(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, text.as_bytes());
        out
    }

    #[test]
    fn writes_integers_short_and_only_when_the_text_comes_back() {
        assert_eq!(string("12"), [0xc0, 12]);
        assert_eq!(string("-129"), [0xc1, 0x7f, 0xff]);
        assert_eq!(string("2147483647"), [0xc2, 0xff, 0xff, 0xff, 0x7f]);
        for text in ["", "-", "-0", "007", "+1", "2147483648", "99999999999", "1 "] {
            assert_eq!(canonical_i32(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn writes_lengths_in_four_forms() {
        let len = |len| {
            let mut out = Vec::new();
            put_len(&mut out, len);
            out
        };
        assert_eq!(len(63), [63]);
        assert_eq!(len(64), [0x40, 64]);
        assert_eq!(len(16383), [0x7f, 0xff]);
        assert_eq!(len(16384), [0x80, 0, 0, 0x40, 0]);
        assert_eq!(len(1 << 32), [0x81, 0, 0, 0, 1, 0, 0, 0, 0]);
    }
}
