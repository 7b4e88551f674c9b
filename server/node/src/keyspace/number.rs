//! Integers as Redis reads and writes them: decimal, no plus sign, no leading zeros, no spaces.

/// Text of an integer, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct IntText {
    bytes: [u8; 20],
    start: u8,
}

impl IntText {
    /// The decimal text of `value`.
    #[inline]
    pub fn new(value: i64) -> Self {
        // Nearly all that is written are lengths and counts of one digit.
        if let Ok(digit @ 0..10) = u8::try_from(value) {
            let mut bytes = [0; 20];
            bytes[19] = b'0' + digit;
            return Self { bytes, start: 19 };
        }
        Self::longer(value)
    }

    fn longer(value: i64) -> Self {
        let mut text = Self::unsigned(value.unsigned_abs());
        if value < 0 {
            text.start -= 1;
            text.bytes[usize::from(text.start)] = b'-';
        }
        text
    }

    /// The decimal text of what may be greater than any `i64`.
    pub fn unsigned(value: u64) -> Self {
        let mut bytes = [0; 20];
        let mut start = bytes.len();
        let mut rest = value;
        while rest >= 100 {
            start -= 2;
            bytes[start..start + 2].copy_from_slice(&two_digits((rest % 100) as u8));
            rest /= 100;
        }
        start -= 1;
        let [tens, ones] = two_digits(rest as u8);
        bytes[start] = ones;
        if rest >= 10 {
            start -= 1;
            bytes[start] = tens;
        }
        Self { bytes, start: start as u8 }
    }
}

/// Appends the decimal text of a number.
pub fn put_unsigned(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

const fn two_digits(below_100: u8) -> [u8; 2] {
    [b'0' + below_100 / 10, b'0' + below_100 % 10]
}

impl std::ops::Deref for IntText {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// The integer whose canonical text is exactly `text`, as Redis' `string2ll`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative {
        (magnitude <= 1 << 63).then(|| (magnitude as i64).wrapping_neg())
    } else {
        i64::try_from(magnitude).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_canonical_text_is_an_integer() {
        for bad in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
        ] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_integer_agree(value in prop_oneof![any::<i64>(), -1000i64..1000, Just(i64::MIN), Just(i64::MAX)]) {
            let (text, ours) = (value.to_string(), IntText::new(value));
            prop_assert_eq!(text.as_bytes(), &*ours);
            prop_assert_eq!(parse_i64(text.as_bytes()), Some(value));
        }
    }
}
