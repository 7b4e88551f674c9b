//! The arithmetic of INCRBYFLOAT and HINCRBYFLOAT: Redis adds 80-bit floats (`long double` of x86-64) and prints them
//! with 17 digits behind the point, and what it prints is stored. So these are floats with 64 bits of mantissa, read
//! from and printed to decimal text exactly, rounded to even.

/// A number, or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LongDouble {
    negative: bool,
    /// Its highest bit is set, except for zero.
    mantissa: u64,
    /// Of two, for the lowest bit of the mantissa.
    exponent: i32,
    infinite: bool,
}

const ZERO: LongDouble = LongDouble { negative: false, mantissa: 0, exponent: 0, infinite: false };
/// Of the lowest bit of the greatest number, and of the least.
const EXPONENTS: std::ops::RangeInclusive<i64> = -16_445 - 63..=16_383 - 63;
/// Redis' buffer for a text.
const TEXT_MAX_BYTES: usize = 5 * 1024;

impl LongDouble {
    /// Reads what `strtold` reads, as Redis allows it: no spaces, not NaN, nothing that overflows or vanishes.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_MAX_BYTES {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Self { negative, infinite: true, ..ZERO });
        }
        let read = match digits {
            [b'0', b'x' | b'X', hexadecimal @ ..] => Digits::read(hexadecimal, 16, b'p')?.hexadecimal_value(),
            _ => Digits::read(digits, 10, b'e')?.decimal_value(),
        }?;
        Some(Self { negative, ..read })
    }

    pub(super) const fn is_finite(self) -> bool {
        !self.infinite
    }

    /// The sum, rounded; `None` if it is none, or infinite.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        /// Bits below the mantissas' lowest, while they are added.
        const GUARD: u32 = 62;
        if self.infinite || other.infinite {
            return None;
        }
        let key = |number: &Self| (number.mantissa != 0, number.exponent, number.mantissa);
        let (big, small) = if key(&self) >= key(&other) { (self, other) } else { (other, self) };
        if small.mantissa == 0 {
            return Some(if big.mantissa == 0 { ZERO } else { big });
        }
        let apart = big.exponent.abs_diff(small.exponent);
        let wide = u128::from(small.mantissa) << GUARD;
        let shifted = wide.checked_shr(apart).unwrap_or(0);
        let lost = shifted.checked_shl(apart).unwrap_or(0) != wide;
        let wide = u128::from(big.mantissa) << GUARD;
        let sum =
            if big.negative == small.negative { wide + shifted } else { wide - shifted - u128::from(lost) };
        let bits = [(sum >> 96) as u32, (sum >> 64) as u32, (sum >> 32) as u32, sum as u32];
        let sum = Natural(bits.into_iter().rev().collect());
        let rounded = sum.rounded(i64::from(big.exponent) - i64::from(GUARD), lost)?;
        Some(Self { negative: big.negative && rounded.mantissa != 0, ..rounded })
    }

    /// `%.17Lf` without the zeros at its end; an integer has no point.
    pub(super) fn text(self) -> String {
        const PLACES: u32 = 17;
        let unit = 10_u128.pow(PLACES);
        let (whole, fraction) = if self.exponent >= 0 {
            let mut whole = Natural::from(self.mantissa);
            whole.shift_up(self.exponent.unsigned_abs());
            (whole.decimal(), 0)
        } else {
            let (scaled, down) = (u128::from(self.mantissa) * unit, self.exponent.unsigned_abs());
            let below = scaled & 1_u128.checked_shl(down).map_or(u128::MAX, |bit| bit - 1);
            let half = 1_u128.checked_shl(down - 1).unwrap_or(u128::MAX);
            let floor = scaled.checked_shr(down).unwrap_or(0);
            let up = below > half || below == half && floor & 1 == 1;
            let scaled = floor + u128::from(up);
            ((scaled / unit).to_string(), scaled % unit)
        };
        let fraction = format!("{fraction:017}");
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        let sign = if self.negative && !(whole == "0" && fraction.is_empty()) { "-" } else { "" };
        format!("{sign}{whole}{point}{fraction}")
    }
}

/// The digits of a text as one integer, and what it is to be multiplied with.
struct Digits {
    number: Natural,
    /// Digits behind the point.
    behind: i64,
    exponent: i64,
}

impl Digits {
    /// Digits of a radix with an optional point, and an optional decimal exponent behind a mark.
    fn read(text: &[u8], radix: u32, mark: u8) -> Option<Self> {
        let end = text.iter().position(|byte| byte.eq_ignore_ascii_case(&mark)).unwrap_or(text.len());
        let (mut number, mut behind, mut point, mut some) = (Natural(Vec::new()), 0, false, false);
        for &byte in &text[..end] {
            if byte == b'.' && !point {
                point = true;
                continue;
            }
            let digit = char::from(byte).to_digit(radix)?;
            number.multiply_and_add(radix, digit);
            some = true;
            behind += i64::from(point);
        }
        let exponent = match text.get(end + 1..) {
            None => 0,
            Some(text) => {
                let (negative, digits) = match text {
                    [b'-', rest @ ..] => (true, rest),
                    [b'+', rest @ ..] => (false, rest),
                    _ => (false, text),
                };
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return None;
                }
                let add = |sum: i64, digit: &u8| (sum * 10 + i64::from(digit - b'0')).min(1 << 40);
                let value = digits.iter().fold(0, add);
                if negative { -value } else { value }
            }
        };
        some.then_some(Self { number, behind, exponent })
    }

    fn hexadecimal_value(self) -> Option<LongDouble> {
        self.number.rounded(self.exponent - 4 * self.behind, false)
    }

    fn decimal_value(mut self) -> Option<LongDouble> {
        /// Farther there is nothing, however long the text.
        const FAR: i64 = 5_000 + TEXT_MAX_BYTES as i64;
        /// Bits to be right about before the result is rounded.
        const BITS: u32 = 67;
        let power = self.exponent - self.behind;
        if self.number.is_zero() {
            return Some(ZERO);
        }
        if power.abs() > FAR {
            return None;
        }
        if power >= 0 {
            (0..power).for_each(|_| self.number.multiply_and_add(10, 0));
            return self.number.rounded(0, false);
        }
        let power = power.unsigned_abs() as u32;
        // More than log2(10) bits go with every division.
        let up = (BITS + power * 10 / 3 + 2).saturating_sub(self.number.bits());
        self.number.shift_up(up);
        let mut inexact = false;
        for _ in 0..power {
            inexact |= self.number.divide(10) != 0;
        }
        self.number.rounded(-i64::from(up), inexact)
    }
}

/// A natural number of any size: 32 bits a word, the lowest first.
struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(value: u64) -> Self {
        Self(vec![value as u32, (value >> 32) as u32])
    }
}

impl Natural {
    fn is_zero(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn bits(&self) -> u32 {
        let top = self.0.iter().rposition(|word| *word != 0);
        top.map_or(0, |at| at as u32 * 32 + 32 - self.0[at].leading_zeros())
    }

    fn multiply_and_add(&mut self, by: u32, add: u32) {
        let mut carry = u64::from(add);
        for word in &mut self.0 {
            carry += u64::from(*word) * u64::from(by);
            *word = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Divides; gives the remainder.
    fn divide(&mut self, by: u32) -> u32 {
        let mut rest = 0_u64;
        for word in self.0.iter_mut().rev() {
            rest = rest << 32 | u64::from(*word);
            *word = (rest / u64::from(by)) as u32;
            rest %= u64::from(by);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        rest as u32
    }

    fn shift_up(&mut self, bits: u32) {
        self.multiply_and_add(1 << (bits % 32), 0);
        self.0.splice(0..0, std::iter::repeat_n(0, bits as usize / 32));
    }

    fn bit(&self, at: u32) -> bool {
        self.0.get(at as usize / 32).is_some_and(|word| word >> (at % 32) & 1 == 1)
    }

    /// Itself times 2^`exponent`, and a little more if it is `inexact`, as the nearest of 64 bits.
    fn rounded(&self, exponent: i64, inexact: bool) -> Option<LongDouble> {
        let bits = self.bits();
        if bits == 0 {
            return Some(ZERO);
        }
        let bit_or_none = |at: i64| u32::try_from(at).is_ok_and(|at| self.bit(at));
        let lowest = i64::from(bits) - 64;
        let mantissa = (lowest..lowest + 64).rev().fold(0, |sum, at| sum << 1 | u64::from(bit_or_none(at)));
        let half = bit_or_none(lowest - 1);
        let rest = inexact || (0..lowest - 1).any(bit_or_none);
        let up = half && (rest || mantissa & 1 == 1);
        let (mantissa, exponent) = match mantissa.checked_add(u64::from(up)) {
            Some(mantissa) => (mantissa, exponent + lowest),
            None => (1 << 63, exponent + lowest + 1),
        };
        let fits = EXPONENTS.contains(&exponent);
        fits.then_some(LongDouble { mantissa, exponent: exponent as i32, ..ZERO })
    }

    fn decimal(mut self) -> String {
        let mut pieces = Vec::new();
        while !self.is_zero() {
            pieces.push(self.divide(1_000_000_000));
        }
        let Some(first) = pieces.pop() else { return "0".to_owned() };
        pieces.iter().rev().fold(first.to_string(), |text, piece| text + &format!("{piece:09}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        Some(LongDouble::parse(a.as_bytes())?.plus(LongDouble::parse(b.as_bytes())?)?.text())
    }

    #[test]
    fn sums_are_those_of_a_redis_server() {
        for (a, b, redis) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-1.5", "0.25", "-1.25"),
            ("0", "0.00000000000000001", "0.00000000000000001"),
            ("-9223372036854775800.5", "1e3", "-9223372036854774800.5"),
            ("-9223372036854774800.5", "0.1", "-9223372036854774800.5"),
            ("-9223372036854774800.5", "1.23456789012345678", "-9223372036854774799.5"),
            ("-9223372036854774799.5", "1234567890123456.5", "-9222137468964651343"),
            ("-9222137468964651343", "-1e17", "-9322137468964651343"),
            ("300004.25", "0.00000000001", "300004.25000000001000444"),
            ("0x1.8p1", "0", "3"),
            ("1e20", "0", "100000000000000000000"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(redis), "{a} + {b}");
        }
        for wrong in
            ["", "x", " 1", "1 ", "nan", ".", "1e", "1e5000", "1e-5000", "1e99999999999999999999", "0x"]
        {
            assert_eq!(LongDouble::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert!(LongDouble::parse(b"-inf").is_some_and(|number| !number.is_finite()));
        assert_eq!(sum("inf", "1"), None);
    }

    proptest! {
        #[test]
        fn integers_add_up_exactly(a in -(1_i64 << 62)..1 << 62, b in -(1_i64 << 62)..1 << 62) {
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Some((a + b).to_string()));
        }

        #[test]
        fn a_double_is_read_exactly(value in -1e30..1e30) {
            // A double has fewer bits, so that its text has all digits of it; and 17 behind the point are shown.
            let shown = format!("{value:.17}");
            let shown = shown.trim_end_matches('0').trim_end_matches('.');
            let exact = format!("{value:e}");
            let read = LongDouble::parse(exact.as_bytes()).map(LongDouble::text);
            let near = read.as_deref().and_then(|text| text.parse::<f64>().ok());
            prop_assert_eq!(near, shown.parse().ok());
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+]?(0x)?[0-9a-f.]{0,30}(e|p)?[-+]?[0-9]{0,6}", other in "[0-9.]{1,9}e-?[0-9]{1,4}") {
            let _ = sum(&text, &other);
        }
    }
}
