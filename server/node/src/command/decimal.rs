//! Sums of decimal texts, for INCRBYFLOAT and HINCRBYFLOAT. Redis adds 80-bit floats and prints 17 digits after
//! the point; exact decimal sums print the same wherever those are exact to that digit, without the noise.

use super::fault::{Fault, NOT_FLOAT, text};

const PLACES: u32 = 17;

/// The sum of two decimal texts, without trailing zeros.
pub(super) fn add(old: &[u8], by: &[u8]) -> Result<String, Fault> {
    let (a, b) = (float(old)?, float(by)?);
    if let (Some(a), Some(b)) = (fixed(old), fixed(by))
        && let Some(sum) = a.checked_add(b)
    {
        return Ok(fixed_text(sum));
    }
    let sum = a + b;
    if !sum.is_finite() {
        return Err(text("ERR increment would produce NaN or Infinity"));
    }
    let shown = format!("{sum:.17}");
    let shown = shown.trim_end_matches('0').trim_end_matches('.');
    Ok(if shown == "-0" { "0".to_owned() } else { shown.to_owned() })
}

fn float(bytes: &[u8]) -> Result<f64, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| NOT_FLOAT)?;
    let strange = text.is_empty() || text.starts_with(char::is_whitespace);
    text.parse().ok().filter(|float: &f64| !strange && !float.is_nan()).ok_or(NOT_FLOAT)
}

/// The number times 10^17, if it is that simple.
fn fixed(bytes: &[u8]) -> Option<i128> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    let point = digits.iter().position(|&byte| byte == b'.').unwrap_or(digits.len());
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
    if whole.len() > 19 || fraction.len() > PLACES as usize {
        return None;
    }
    let mut value = 0i128;
    for byte in whole.iter().chain(fraction) {
        value = value * 10 + i128::from(byte.is_ascii_digit().then(|| byte - b'0')?);
    }
    value *= 10i128.pow(PLACES - fraction.len() as u32);
    Some(if negative { -value } else { value })
}

fn fixed_text(value: i128) -> String {
    let unit = 10u128.pow(PLACES);
    let magnitude = value.unsigned_abs();
    let sign = if value < 0 { "-" } else { "" };
    let fraction = format!("{:017}", magnitude % unit);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", magnitude / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_short() {
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-1.5", "0.25", "-1.25"),
            ("0", "0.00000000000000001", "0.00000000000000001"),
        ] {
            assert_eq!(add(a.as_bytes(), b.as_bytes()).as_deref(), Ok(sum), "{a} + {b}");
        }
        assert_eq!(add(b"x", b"1"), Err(NOT_FLOAT));
        assert_eq!(add(b"1", b" 1"), Err(NOT_FLOAT));
        assert_eq!(add(b"1", b"inf"), Err(text("ERR increment would produce NaN or Infinity")));
    }
}
