//! A typed line into words and back, as Redis' `sdssplitargs` and `sdscatrepr` do; and numbers as C's `atoi`.

/// Splits a line. Double quotes take `\n \r \t \b \a \xNN` and `\` before anything else, single quotes take `\'`; a
/// closing quote ends the word and must be followed by a space or the end. `None` if the quotes are unbalanced.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [space, tail @ ..] = rest
            && is_space(*space)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// The one word that a quoted text stands for; `None` if it is not exactly one.
pub fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let mut words = split(text)?;
    (words.len() == 1).then(|| words.remove(0))
}

fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match *rest {
            [] => return Some(rest),
            [b' ' | b'\n' | b'\r' | b'\t' | 0, ref tail @ ..] => return Some(tail),
            [quote @ (b'"' | b'\''), ref tail @ ..] => return take_quoted(tail, quote, word),
            [byte, ref tail @ ..] => {
                word.push(byte);
                rest = tail;
            }
        }
    }
}

fn take_quoted<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let is_double = quote == b'"';
    loop {
        rest = match *rest {
            [] => return None,
            [end, ref tail @ ..] if end == quote => {
                return tail.first().is_none_or(|next| is_space(*next)).then_some(tail);
            }
            [b'\\', b'x', high, low, ref tail @ ..]
                if is_double && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(high) << 4 | digit(low));
                tail
            }
            [b'\\', escaped, ref tail @ ..] if is_double => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                tail
            }
            [b'\\', b'\'', ref tail @ ..] if !is_double => {
                word.push(b'\'');
                tail
            }
            [byte, ref tail @ ..] => {
                word.push(byte);
                tail
            }
        };
    }
}

/// The bytes in double quotes, so that [`split`] gives them back.
pub fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            7 => out.extend(b"\\a"),
            8 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    out.push(b'"');
}

/// The number that a text begins with, as `atoi`: 0 if there is none; clamped instead of overflowing.
pub fn leading_int(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number =
        digits.fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -number } else { number }
}

/// The decimal fraction that a text begins with, as `atof` (without exponents): 0 if there is none.
pub fn leading_float(text: &str) -> f64 {
    let text = text.trim_start();
    let end = text.find(|letter: char| !matches!(letter, '0'..='9' | '.' | '-' | '+')).unwrap_or(text.len());
    text[..end].parse().unwrap_or(0.0)
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split(line.as_bytes())?;
        Some(words.iter().map(|word| word.escape_ascii().to_string()).collect())
    }

    #[test]
    fn lines_are_split_as_sdssplitargs_does() {
        assert_eq!(words("  set  a\t1 \n").unwrap(), ["set", "a", "1"]);
        assert_eq!(words(r#""\x00\xfF\n\q" 'it\'s' x"y z""#).unwrap(), ["\\x00\\xff\\nq", "it\\'s", "xy z"]);
        assert_eq!(words(r#""" ''"#).unwrap(), ["", ""]);
        assert_eq!(words(r"'\x41'").unwrap(), [r"\\x41"]);
        assert_eq!(words("").unwrap(), [""; 0]);
        for unbalanced in [r#""a"#, "'a", r#""a"b"#, r"'a'b", r#""a\"#] {
            assert_eq!(words(unbalanced), None, "{unbalanced}");
        }
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        assert_eq!([b"12x".as_slice(), b" -3", b"x", b""].map(leading_int), [12, -3, 0, 0]);
        assert_eq!(leading_int(b"99999999999999999999"), i64::MAX);
        assert!((leading_float("0.5s") - 0.5).abs() < 1e-9 && leading_float("x") == 0.0);
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut line = Vec::new();
            quote(&bytes, &mut line);
            prop_assert_eq!(split(&line), Some(vec![bytes]));
        }

        #[test]
        fn any_bytes_can_be_split(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = split(&bytes);
        }
    }
}
