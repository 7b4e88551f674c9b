//! The elements of a listpack, Redis' packed sequence of strings and integers: written, read, walked both ways and
//! replaced in place. The bytes are Redis' own, so that what holds them can be saved as it is.

use super::Element;
use super::number::parse_i64;

/// Bytes before the first element: the total length and the number of elements.
pub const HEAD_BYTES: usize = 6;
/// The byte behind the last element.
pub const END: u8 = 0xff;

/// Appends an element: as an integer when it is the canonical text of one.
pub fn put(bytes: &mut Vec<u8>, element: &[u8]) {
    if let Some(number) = parse_i64(element) {
        return put_integer(bytes, number);
    }
    let before = bytes.len();
    put_string_body(bytes, element);
    put_back_len(bytes, before);
}

/// Appends an integer in the shortest of its forms.
pub fn put_integer(bytes: &mut Vec<u8>, number: i64) {
    let before = bytes.len();
    put_integer_body(bytes, number);
    put_back_len(bytes, before);
}

/// The element at `at` and where the next one begins; `None` at the end, and where there is no element.
pub fn read(bytes: &[u8], at: usize) -> Option<(Element<'_>, usize)> {
    let rest = bytes.get(at..)?;
    let little = |from: usize, len: usize| -> Option<i64> {
        let text = rest.get(from..from + len)?;
        let mut wide = [if text[len - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
        wide[..len].copy_from_slice(text);
        Some(i64::from_le_bytes(wide))
    };
    let string =
        |head: usize, len: usize| Some((Element::Bytes(rest.get(head..head.checked_add(len)?)?), head + len));
    let first = *rest.first()?;
    let (element, len) = match first {
        END => return None,
        0x00..=0x7f => (Element::Int(i64::from(first)), 1),
        0x80..=0xbf => string(1, usize::from(first & 0x3f))?,
        0xc0..=0xdf => {
            let unsigned = i64::from(first & 0x1f) << 8 | i64::from(*rest.get(1)?);
            (Element::Int(if unsigned >= 1 << 12 { unsigned - (1 << 13) } else { unsigned }), 2)
        }
        0xe0..=0xef => string(2, usize::from(first & 0x0f) << 8 | usize::from(*rest.get(1)?))?,
        0xf0 => {
            let len = rest.get(1..5)?;
            string(5, u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize)?
        }
        0xf1 => (Element::Int(little(1, 2)?), 3),
        0xf2 => (Element::Int(little(1, 3)?), 4),
        0xf3 => (Element::Int(little(1, 4)?), 5),
        0xf4 => (Element::Int(little(1, 8)?), 9),
        _ => return None,
    };
    Some((element, at + len + back_len_bytes(len)))
}

/// Where the element before the one at `at` begins; `None` at the first.
pub fn before(bytes: &[u8], at: usize) -> Option<usize> {
    // Its length stands before `at`: 7 bits a byte, the least significant last; the first byte has bit 7 clear.
    let mut len = 0;
    for index in 0..5 {
        let byte = *bytes.get(at.checked_sub(index + 1)?)?;
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let start = at.checked_sub(len + index + 1)?;
            return (start >= HEAD_BYTES).then_some(start);
        }
    }
    None
}

/// Replaces the element at `at` by an integer.
pub fn replace_integer(bytes: &mut Vec<u8>, at: usize, number: i64) {
    let Some((_, next)) = read(bytes, at) else { return };
    let mut element = Vec::with_capacity(10);
    put_integer(&mut element, number);
    if element.len() == next - at {
        bytes[at..next].copy_from_slice(&element);
    } else {
        bytes.splice(at..next, element);
    }
}

/// How many bytes tell the length of an entry of `len` bytes behind it. (The bounds are Redis' own, one short.)
pub const fn back_len_bytes(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

fn put_integer_body(bytes: &mut Vec<u8>, number: i64) {
    let little = number.to_le_bytes();
    let (mark, len) = match number {
        0..=127 => return bytes.push(number as u8),
        -4096..=4095 => {
            let thirteen = number as u16 & 0x1fff;
            return bytes.extend_from_slice(&(0xc000 | thirteen).to_be_bytes());
        }
        -0x8000..=0x7fff => (0xf1, 2),
        -0x80_0000..=0x7f_ffff => (0xf2, 3),
        -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
        _ => (0xf4, 8),
    };
    bytes.push(mark);
    bytes.extend_from_slice(&little[..len]);
}

fn put_string_body(bytes: &mut Vec<u8>, string: &[u8]) {
    match string.len() {
        len @ 0..=63 => bytes.push(0x80 | len as u8),
        len @ 64..=4095 => bytes.extend_from_slice(&(0xe000 | len as u16).to_be_bytes()),
        len => {
            bytes.push(0xf0);
            bytes.extend_from_slice(&(len as u32).to_le_bytes());
        }
    }
    bytes.extend_from_slice(string);
}

/// Appends the length of the entry that begins at `start`: 7 bits a byte, the most significant first, bit 7 set on
/// all but the first.
fn put_back_len(bytes: &mut Vec<u8>, start: usize) {
    let len = bytes.len() - start;
    for index in (0..back_len_bytes(len)).rev() {
        let seven = (len >> (7 * index)) as u8 & 0x7f;
        let first = index + 1 == back_len_bytes(len);
        bytes.push(if first { seven } else { seven | 0x80 });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn elements_are_walked_both_ways_and_replaced(
            strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
            numbers in proptest::collection::vec(any::<i64>(), 1..20), shift in 0..63_u32, long in 4000..17_000_usize,
            new: i64, place: usize,
        ) {
            let mut all = strings;
            all.extend(numbers.iter().map(|number| (number >> shift).to_string().into_bytes()));
            all.push(vec![b'x'; long]);
            let mut bytes = vec![0; HEAD_BYTES];
            for element in &all {
                put(&mut bytes, element);
            }
            bytes.push(END);
            let walk = |bytes: &[u8]| {
                let (mut at, mut starts, mut elements) = (HEAD_BYTES, Vec::new(), Vec::new());
                while let Some((element, next)) = read(bytes, at) {
                    starts.push(at);
                    elements.push(element.to_vec());
                    at = next;
                }
                (at, starts, elements)
            };
            let (end, starts, elements) = walk(&bytes);
            prop_assert_eq!(&elements, &all);
            prop_assert_eq!(end, bytes.len() - 1);
            let mut at = end;
            for start in starts.iter().rev() {
                at = before(&bytes, at).unwrap();
                prop_assert_eq!(at, *start);
            }
            prop_assert_eq!(before(&bytes, at), None);
            let place = place % all.len();
            replace_integer(&mut bytes, starts[place], new);
            all[place] = new.to_string().into_bytes();
            prop_assert_eq!(walk(&bytes).2, all);
        }
    }
}
