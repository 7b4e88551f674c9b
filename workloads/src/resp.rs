//! RESP2 replies, decoded without the detour of a tree of ranges: most of what clients and the observer read. Whatever is not
//! whole, not plain or wrong goes to redis-protocol, so that both always agree.

use bytes::{Bytes, BytesMut};
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

/// Deeper arrays are left to redis-protocol.
const MAX_DEPTH: u8 = 8;

/// Takes the next reply off what has come; none while it is not whole.
pub fn next_reply(incoming: &mut BytesMut) -> Result<Option<BytesFrame>, RedisProtocolError> {
    match end_of(incoming, 0, MAX_DEPTH) {
        Some(end) => {
            let whole = incoming.split_to(end).freeze();
            Ok(Some(build(&whole, &mut 0)))
        }
        None => Ok(decode_bytes_mut(incoming)?.map(|(frame, _, _)| frame)),
    }
}

/// Where the reply that begins at `at` ends, if it is whole and of a kind that [`build`] knows.
fn end_of(bytes: &[u8], at: usize, depth: u8) -> Option<usize> {
    let kind = *bytes.get(at)?;
    let (line, behind) = line_at(bytes, at + 1)?;
    match kind {
        b'+' => Some(behind),
        b':' => integer(line).map(|_| behind),
        b'$' => {
            let len = length(line)?;
            if len < 0 {
                return Some(behind);
            }
            let end = behind.checked_add(len as usize)?;
            (bytes.get(end..end.checked_add(2)?)? == b"\r\n").then_some(end + 2)
        }
        b'*' if depth > 0 => (0..length(line)?).try_fold(behind, |at, _| end_of(bytes, at, depth - 1)),
        _ => None,
    }
}

/// Builds the reply at `at`, whose end is known.
fn build(whole: &Bytes, at: &mut usize) -> BytesFrame {
    let kind = whole.get(*at).copied().unwrap_or_default();
    let begin = *at + 1;
    let Some((line, behind)) = line_at(whole, begin) else { return BytesFrame::Null };
    *at = behind;
    match kind {
        b'+' => BytesFrame::SimpleString(whole.slice(begin..begin + line.len())),
        b':' => BytesFrame::Integer(integer(line).unwrap_or_default()),
        b'$' => match length(line) {
            Some(len @ 0..) => {
                let end = behind + len as usize;
                *at = end + 2;
                BytesFrame::BulkString(whole.slice(behind..end))
            }
            _ => BytesFrame::Null,
        },
        _ => match length(line) {
            Some(count @ 0..) => BytesFrame::Array((0..count).map(|_| build(whole, at)).collect()),
            _ => BytesFrame::Null,
        },
    }
}

/// The line at `at` without its end, and what is behind it. A carriage return within it is not plain.
fn line_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let len = rest.iter().position(|byte| *byte == b'\r')?;
    (rest.get(len + 1) == Some(&b'\n')).then(|| (&rest[..len], at + len + 2))
}

/// A number of up to 18 digits: those fit for certain.
fn integer(line: &[u8]) -> Option<i64> {
    let (digits, sign) = match line.strip_prefix(b"-") {
        Some(digits) => (digits, -1),
        None => (line, 1),
    };
    let all_digits = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    all_digits.then(|| sign * digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// A length; -1: that of nothing.
fn length(line: &[u8]) -> Option<i64> {
    if line == b"-1" { Some(-1) } else { integer(line).filter(|len| *len >= 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What redis-protocol makes of the same bytes, and what it leaves of them.
    fn agrees(bytes: &[u8]) {
        let (mut ours, mut theirs) = (BytesMut::from(bytes), BytesMut::from(bytes));
        loop {
            let frame = next_reply(&mut ours);
            let expected = decode_bytes_mut(&mut theirs).map(|found| found.map(|(frame, _, _)| frame));
            assert_eq!(frame, expected, "{:?}", String::from_utf8_lossy(bytes));
            assert_eq!(ours, theirs, "{:?}", String::from_utf8_lossy(bytes));
            if !matches!(frame, Ok(Some(_))) {
                return;
            }
        }
    }

    const REPLIES: [&[u8]; 22] = [
        b"+OK\r\n",
        b"+\r\n",
        b"+a\rb\r\n",
        b"-ERR what\r\n",
        b":1\r\n",
        b":-1\r\n",
        b":007\r\n",
        b":+7\r\n",
        b":\r\n",
        b":9223372036854775807\r\n",
        b":99999999999999999999\r\n",
        b"$0\r\n\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"$-1\r\n",
        b"$-2\r\n",
        b"$2\r\nabcd\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*2\r\n:1\r\n*2\r\n$1\r\nx\r\n$-1\r\n",
        b"*2\r\n-ERR no\r\n:1\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        b"!3\r\nabc\r\n",
    ];

    #[test]
    fn replies_are_what_redis_protocol_reads_whole_or_cut_anywhere() {
        for one in REPLIES {
            for cut in 0..=one.len() {
                agrees(&one[..cut]);
            }
            for other in REPLIES {
                agrees(&[one, other].concat());
            }
        }
    }
}
