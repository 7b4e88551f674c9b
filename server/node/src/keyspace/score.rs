//! Scores: doubles as Redis 7.0 reads and prints them, which is as the C library does (`strtod`, `%.17g`).

use super::number::IntText;

/// A score as a file gives it, never NaN; equal only if all bits are, so that what holds it can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Score(pub f64);

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Score {}

/// `%.17g`: what replies show.
pub fn text_17g(value: f64) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() { "-nan" } else { "nan" }.to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    #[allow(clippy::float_cmp)] // exactly the question
    if value == value.trunc() && value.abs() < 1e15 && !(value == 0.0 && value.is_sign_negative()) {
        return String::from_utf8_lossy(&IntText::new(value as i64)).into_owned();
    }
    let scientific = format!("{:.16e}", value.abs());
    // The form is d.dddddddddddddddde[-]x, always.
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|&digit| digit != '.').collect();
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if (-4..17).contains(&exponent) {
        if exponent < 0 {
            let zeros = "0".repeat((-exponent - 1) as usize);
            let digits = digits.trim_end_matches('0');
            return format!("{sign}0.{zeros}{digits}");
        }
        let (whole, fraction) = digits.split_at(exponent as usize + 1);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        return format!("{sign}{whole}{point}{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let rest = rest.trim_end_matches('0');
    let point = if rest.is_empty() { "" } else { "." };
    let mark = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{mark}{:02}", exponent.abs())
}

/// The integer that a score is, if it is one that Redis prints as an integer (`double2ll`); -0 counts as 0.
pub fn as_integer(value: f64) -> Option<i64> {
    const HALF: f64 = (i64::MAX / 2) as f64;
    if !(-HALF..=HALF).contains(&value) {
        return None;
    }
    let int = value as i64;
    #[allow(clippy::float_cmp)] // exactly the question
    (int as f64 == value).then_some(int)
}

/// `d2string`: what a packed sorted set holds, and shows in ZSCAN.
pub fn text_packed(value: f64) -> String {
    match as_integer(value) {
        Some(int) => String::from_utf8_lossy(&IntText::new(int)).into_owned(),
        None => text_17g(value),
    }
}

/// A number as `getDoubleFromObject` takes it: the whole text, no space before it, not NaN, nothing that
/// overflows or vanishes.
pub fn parse(text: &[u8]) -> Option<f64> {
    if text.first().is_none_or(|byte| is_space(*byte)) {
        return None;
    }
    // Fast: what most scores are.
    if text.len() <= 15 && text.iter().all(u8::is_ascii_digit) {
        return Some(text.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0')) as f64);
    }
    let read = strtod(text);
    (read.used == text.len() && !read.out_of_range && !read.value.is_nan()).then_some(read.value)
}

/// A number as the bounds of a range are read: spaces before it are skipped, an empty text is 0, what overflows is
/// infinite; not NaN. A zero byte ends the text.
pub fn parse_bound(text: &[u8]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let read = strtod(text);
    (read.used == text.len() && !read.value.is_nan()).then_some(read.value)
}

/// A number to sort by: as [`parse_bound`], but nothing that overflows or vanishes.
pub fn parse_weight(text: &[u8]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let read = strtod(text);
    (read.used == text.len() && !read.out_of_range && !read.value.is_nan()).then_some(read.value)
}

struct Read {
    value: f64,
    /// How many bytes it took, 0 if there is no number.
    used: usize,
    out_of_range: bool,
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn strtod(text: &[u8]) -> Read {
    let nothing = Read { value: 0.0, used: 0, out_of_range: false };
    let mut at = text.iter().take_while(|byte| is_space(**byte)).count();
    let negative = text.get(at) == Some(&b'-');
    if matches!(text.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    let rest = &text[at..];
    let begins =
        |word: &str| rest.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word.as_bytes()));
    let signed = |value: f64| if negative { -value } else { value };
    for word in ["infinity", "inf"] {
        if begins(word) {
            return Read { value: signed(f64::INFINITY), used: at + word.len(), out_of_range: false };
        }
    }
    if begins("nan") {
        let mut used = 3;
        if rest.get(3) == Some(&b'(')
            && let Some(end) = rest.iter().position(|&byte| byte == b')')
            && rest[4..end].iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            used = end + 1;
        }
        return Read { value: f64::NAN, used: at + used, out_of_range: false };
    }
    if begins("0x")
        && let Some((value, used)) = hexadecimal(&rest[2..])
    {
        return Read { value: signed(value), used: at + 2 + used, out_of_range: value.is_infinite() };
    }
    let whole = count_digits(rest);
    let mut used = whole;
    let mut fraction = 0;
    if rest.get(whole) == Some(&b'.') {
        fraction = count_digits(&rest[whole + 1..]);
        used += 1 + fraction;
    }
    if whole + fraction == 0 {
        return nothing;
    }
    let significant = rest[..used].iter().any(|byte| (b'1'..=b'9').contains(byte));
    used += exponent_len(&rest[used..]);
    let value: f64 =
        std::str::from_utf8(&rest[..used]).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let out_of_range = value.is_infinite() || value == 0.0 && significant;
    Read { value: signed(value), used: at + used, out_of_range }
}

fn count_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Length of `e`, a sign and digits; 0 if they are not there.
fn exponent_len(text: &[u8]) -> usize {
    if !matches!(text.first(), Some(b'e' | b'E')) {
        return 0;
    }
    let sign = usize::from(matches!(text.get(1), Some(b'-' | b'+')));
    match count_digits(&text[1 + sign..]) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

/// The number after `0x`, and its length; `None` without a digit.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let mut mantissa = 0u64;
    let mut exponent = 0i32;
    let (mut at, mut digits, mut point) = (0, 0, false);
    while let Some(&byte) = text.get(at) {
        if byte == b'.' && !point {
            point = true;
        } else if let Some(digit) = char::from(byte).to_digit(16) {
            digits += 1;
            if mantissa >> 60 == 0 {
                mantissa = mantissa << 4 | u64::from(digit);
                exponent -= if point { 4 } else { 0 };
            } else {
                // What does not fit only matters as "more than half" when it is rounded.
                mantissa |= u64::from(digit != 0);
                exponent += if point { 0 } else { 4 };
            }
        } else {
            break;
        }
        at += 1;
    }
    if digits == 0 {
        return None;
    }
    if matches!(text.get(at), Some(b'p' | b'P')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'-' | b'+')));
        let len = count_digits(&text[at + 1 + sign..]);
        if len > 0 {
            let number = &text[at + 1 + sign..at + 1 + sign + len];
            let power =
                number.iter().fold(0i32, |sum, digit| (sum * 10 + i32::from(digit - b'0')).min(100_000));
            exponent += if text[at + 1] == b'-' { -power } else { power };
            at += 1 + sign + len;
        }
    }
    Some((mantissa as f64 * 2f64.powi(exponent), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_the_c_library() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (3.1, "3.1000000000000001"),
            (-1.5, "-1.5"),
            (1e17, "1e+17"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (12_345_678_901_234_568.0, "12345678901234568"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (2f64.powi(-25), "2.9802322387695312e-08"),
            (1e300, "1.0000000000000001e+300"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(text_17g(value), text);
        }
        assert_eq!(text_packed(1e17), "100000000000000000");
        assert_eq!(text_packed(-0.0), "0");
    }

    #[test]
    fn reads_what_the_c_library_reads() {
        for (text, value) in [
            ("1", Some(1.0)),
            ("+1.", Some(1.0)),
            (".5", Some(0.5)),
            ("-1e3", Some(-1000.0)),
            ("0x1.8p1", Some(3.0)),
            ("0x10", Some(16.0)),
            ("-INF", Some(f64::NEG_INFINITY)),
            ("infinity", Some(f64::INFINITY)),
            ("nan", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1e", None),
            ("0x", None),
            (".", None),
            ("1e400", None),
            ("1e-400", None),
            ("0e-400", Some(0.0)),
        ] {
            assert_eq!(parse(text.as_bytes()), value, "{text:?}");
        }
        assert_eq!(parse_bound(b""), Some(0.0));
        assert_eq!(parse_bound(b" -1"), Some(-1.0));
        assert_eq!(parse_bound(b"1e999"), Some(f64::INFINITY));
        assert_eq!(parse_bound(b"x"), None);
    }
}
