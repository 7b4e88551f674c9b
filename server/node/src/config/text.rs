//! Words and quotes of configuration lines, as Redis reads and writes them.

use std::fmt::Write as _;

/// Splits a line into words. Double quotes take `\n \r \t \a \b \xNN` and `\` before any other character;
/// single quotes take `\'` only; a closing quote must be followed by a space or the end. `None` for
/// unbalanced quotes, and for bytes that are no UTF-8.
pub fn split_words(line: &str) -> Option<Vec<String>> {
    let bytes = line.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while at < bytes.len() && is_space(bytes[at]) {
            at += 1;
        }
        if at >= bytes.len() || bytes[at] == 0 {
            return Some(words);
        }
        let mut word = Vec::new();
        while at < bytes.len() && !is_space(bytes[at]) && bytes[at] != 0 {
            match bytes[at] {
                quote @ (b'"' | b'\'') => {
                    at = read_quoted(bytes, at + 1, quote, &mut word)?;
                    break;
                }
                plain => word.push(plain),
            }
            at += 1;
        }
        words.push(String::from_utf8(word).ok()?);
    }
}

/// Reads up to the closing quote and returns the place after it.
fn read_quoted(bytes: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        let rest = bytes.get(at..)?;
        match *rest {
            [end, ..] if end == quote => {
                let closed = rest.get(1).is_none_or(|next| is_space(*next));
                return closed.then_some(at + 1);
            }
            [b'\\', b'x', high, low, ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(high) << 4 | hex(low));
                at += 4;
            }
            [b'\\', escaped, ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            [b'\\', b'\'', ..] if quote == b'\'' => {
                word.push(b'\'');
                at += 2;
            }
            [plain, ..] => {
                word.push(plain);
                at += 1;
            }
            [] => return None,
        }
    }
}

/// The text in double quotes, so that [`split_words`] gives it back.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '\\' | '"' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            letter if letter.is_ascii_graphic() || letter == ' ' => out.push(letter),
            letter => {
                let mut buffer = [0; 4];
                for byte in letter.encode_utf8(&mut buffer).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
        }
    }
    out.push('"');
    out
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
}
