//! Ids of stream entries: a time in milliseconds and a number within it, in the texts that clients use.

use std::fmt;

use crate::keyspace::number::parse_i64;

/// An entry's id. The order is that of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    /// Unix time in milliseconds, or what the client gave for it.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

impl StreamId {
    /// `0-0`, which no entry has.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// The greatest id.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The id after this one; `None` after the greatest.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_add(1).map(|ms| Self { ms, seq: 0 }),
        }
    }

    /// The id before this one; `None` before `0-0`.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_sub(1).map(|ms| Self { ms, seq: u64::MAX }),
        }
    }

    /// As it stands in an RDB file: 128 bits, the most significant first.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// What [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        Self { ms: (number >> 64) as u64, seq: number as u64 }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The text of an id, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct IdText {
    bytes: [u8; 41],
    start: u8,
}

impl From<StreamId> for IdText {
    fn from(id: StreamId) -> Self {
        let mut bytes = [0; 41];
        let mut start = bytes.len();
        let mut put = |byte: u8| {
            start -= 1;
            bytes[start] = byte;
        };
        for (mut number, before) in [(id.seq, Some(b'-')), (id.ms, None)] {
            loop {
                put(b'0' + (number % 10) as u8);
                number /= 10;
                if number == 0 {
                    break;
                }
            }
            if let Some(byte) = before {
                put(byte);
            }
        }
        Self { bytes, start: start as u8 }
    }
}

impl std::ops::Deref for IdText {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// An id as a client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenId {
    /// The time.
    pub ms: u64,
    /// The number within it, if there is one.
    pub seq: GivenSeq,
}

/// The second part of an id as a client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenSeq {
    /// `5`
    Missing,
    /// `5-*`
    Any,
    /// `5-1`
    Number(u64),
}

impl GivenId {
    /// Reads `<ms>`, `<ms>-<seq>` or `<ms>-*`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        const MAX_BYTES: usize = 127;
        if text.len() > MAX_BYTES {
            return None;
        }
        // Redis looks at it as a C string.
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        let (ms, seq) = match text.iter().position(|&byte| byte == b'-') {
            None => (text, GivenSeq::Missing),
            Some(dash) if &text[dash + 1..] == b"*" => (&text[..dash], GivenSeq::Any),
            Some(dash) => (&text[..dash], GivenSeq::Number(parse_u64(&text[dash + 1..])?)),
        };
        Some(Self { ms: parse_u64(ms)?, seq })
    }

    /// The whole id: what is missing is `missing_seq`; `None` for `5-*`.
    pub const fn with_seq(self, missing_seq: u64) -> Option<StreamId> {
        let seq = match self.seq {
            GivenSeq::Missing => missing_seq,
            GivenSeq::Any => return None,
            GivenSeq::Number(seq) => seq,
        };
        Some(StreamId { ms: self.ms, seq })
    }
}

/// As Redis' `string2ull`: a canonical integer, or else what C's `strtoull` makes of it (spaces and a sign before
/// it, leading zeros; a negative number wraps around).
fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(number) = parse_i64(text) {
        return u64::try_from(number).ok();
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let text = &text[text.iter().take_while(|byte| is_space(byte)).count()..];
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    Some(if negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_redis_reads() {
        let whole = |text: &str| GivenId::parse(text.as_bytes()).and_then(|id| id.with_seq(7));
        let id = |ms, seq| Some(StreamId { ms, seq });
        assert_eq!(whole("5"), id(5, 7));
        assert_eq!(whole("5-1"), id(5, 1));
        assert_eq!(whole("18446744073709551615-18446744073709551615"), Some(StreamId::MAX));
        assert_eq!(whole("007-+3"), id(7, 3));
        assert_eq!(whole("5\0-junk"), id(5, 7));
        for bad in ["", "-", "-5", "5-", "5--3", "a", "5-1-", "18446744073709551616", "5- "] {
            assert_eq!(whole(bad), None, "{bad}");
        }
        assert_eq!(GivenId::parse(b"5-*").map(|id| id.seq), Some(GivenSeq::Any));
    }

    #[test]
    fn neighbours_cross_milliseconds() {
        let last = StreamId { ms: 4, seq: u64::MAX };
        assert_eq!(last.next(), Some(StreamId { ms: 5, seq: 0 }));
        assert_eq!(last.next().and_then(StreamId::previous), Some(last));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.previous()), (None, None));
        assert_eq!(StreamId::from_bytes(last.to_bytes()), last);
        assert_eq!(last.to_string(), "4-18446744073709551615");
        for id in [last, StreamId::MIN, StreamId::MAX, StreamId { ms: 1_700_000_000_000, seq: 10 }] {
            assert_eq!(*IdText::from(id), *id.to_string().as_bytes());
        }
    }
}
