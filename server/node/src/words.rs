//! Words and quotes as Redis reads and writes them wherever a person may type: inline requests, configuration
//! lines, the manifest of the append-only file, headers of function libraries.

use std::fmt::Write as _;

/// Splits a line into words, by the rules of Redis' `sdssplitargs`: a NUL ends the line; double quotes take
/// `\n \r \t \a \b \xNN` and `\` before any other byte; single quotes take `\'` only; a closing quote ends the word and
/// must be followed by a space or the end. `None` for unbalanced quotes.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = line.split(|&byte| byte == 0).next().unwrap_or_default();
    let mut words = Vec::new();
    loop {
        let start = rest.iter().position(|&byte| !is_space(byte));
        let Some(start) = start else { return Some(words) };
        let mut word = Vec::new();
        rest = read_word(&rest[start..], &mut word)?;
        words.push(word);
    }
}

/// [`split`] of text; `None`, too, if an escape makes a word that is no UTF-8.
pub fn split_text(line: impl AsRef<[u8]>) -> Option<Vec<String>> {
    split(line.as_ref())?.into_iter().map(|word| String::from_utf8(word).ok()).collect()
}

/// The bytes in double quotes, so that [`split`] gives them back (Redis' `sdscatrepr`).
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend(['\\', char::from(byte)]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(out, "\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// Reads one word and returns what follows it.
fn read_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            // Fewer bytes end a word than may stand between words: so it is in Redis.
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(rest),
            [quote @ (b'"' | b'\''), tail @ ..] => {
                let rest = read_quoted(tail, *quote, word)?;
                return rest.first().is_none_or(|&next| is_space(next)).then_some(rest);
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Reads up to the closing quote and returns what follows it.
fn read_quoted<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let double = quote == b'"';
    loop {
        let (byte, tail) = match rest {
            [] => return None,
            [byte, tail @ ..] if *byte == quote => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if double && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), tail)
            }
            [b'\\', escaped, tail @ ..] if double => (unescaped(*escaped), tail),
            [b'\\', b'\'', tail @ ..] if !double => (b'\'', tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        word.push(byte);
        rest = tail;
    }
}

const fn unescaped(letter: u8) -> u8 {
    match letter {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// C's `isspace`.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let text = |word: Vec<u8>| String::from_utf8_lossy(&word).into_owned();
        Some(split(line.as_bytes())?.into_iter().map(text).collect())
    }

    #[test]
    fn lines_are_split_as_redis_splits_them() {
        for (line, expected) in [
            ("", &[] as &[&str]),
            (" \t\u{b}\u{c} ", &[]),
            ("set a  1\r", &["set", "a", "1"]),
            (r#"a"b c" d"#, &["ab c", "d"]),
            (r#""\x41\n\q" 'it\'s \n'"#, &["A\nq", r"it's \n"]),
            ("\"\" ''", &["", ""]),
            ("a\u{b}b c\u{c}", &["a\u{b}b", "c\u{c}"]),
            ("a\0 b", &["a"]),
            ("\"a\"\0b", &["a"]),
            (r#""\x4""#, &["x4"]),
        ] {
            let expected = expected.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(words(line), Some(expected), "{line:?}");
        }
        for line in ["\"a", "'a", "\"a\"b", "'a'\"b\"", "\"a\\", "a'", "\"a\0\""] {
            assert_eq!(words(line), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(words in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
            let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(line.as_bytes()), Some(words));
        }
    }
}
