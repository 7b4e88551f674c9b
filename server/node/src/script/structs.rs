//! The `struct` library of scripts: numbers and strings to and from packed bytes, after the format strings of Roberto
//! Ierusalimschy's library as Redis carries it.

use mlua::{Error, Lua, LuaString, MultiValue, Result, Table, Value};

use super::raise::{Given, number, text};

/// Greatest size of an integer.
const MAX_INT_BYTES: usize = 32;
/// Greatest alignment that `!` without a number asks for.
const MAX_ALIGN: usize = 8;

/// The table `struct`.
pub fn library(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(|lua, args| pack(lua, &Given::new(lua, marked(args))))?)?;
    table.raw_set("unpack", lua.create_function(|lua, args| unpack(lua, &Given::new(lua, args)))?)?;
    table.raw_set("size", lua.create_function(|lua, args| size(lua, &Given::new(lua, args)))?)?;
    Ok(table)
}

/// Redis puts a nil behind the arguments before it looks at them: one that lacks is that.
fn marked(mut args: MultiValue) -> MultiValue {
    if !args.is_empty() {
        args.push_back(Value::Nil);
    }
    args
}

/// A format string while it is read, with the byte order and alignment that it has set so far.
struct Format<'a> {
    lua: &'a Lua,
    given: &'a Given<'a>,
    bytes: &'a [u8],
    at: usize,
    little: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(lua: &'a Lua, given: &'a Given<'a>, bytes: &'a [u8]) -> Self {
        // A C string ends at its first zero.
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Self { lua, given, bytes: &bytes[..end], at: 0, little: true, align: 1 }
    }

    /// The next option and its size.
    fn next(&mut self) -> Result<Option<(u8, usize)>> {
        let Some(&option) = self.bytes.get(self.at) else { return Ok(None) };
        self.at += 1;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.count(1)?,
            b'i' | b'I' => {
                let size = self.count(4)?;
                if size > MAX_INT_BYTES {
                    let problem = format!("integral size {size} is larger than limit of {MAX_INT_BYTES}");
                    return Err(text(self.lua, problem));
                }
                size
            }
            _ => 0,
        };
        Ok(Some((option, size)))
    }

    /// The number that stands next, if one does.
    fn count(&mut self, default: usize) -> Result<usize> {
        let mut count: Option<usize> = None;
        while let Some(digit) = self.bytes.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            let digit = usize::from(digit - b'0');
            let so_far = count.unwrap_or(0);
            if so_far * 10 > i32::MAX as usize - digit {
                return Err(text(self.lua, "integral size overflow"));
            }
            count = Some(so_far * 10 + digit);
            self.at += 1;
        }
        Ok(count.unwrap_or(default))
    }

    /// Bytes to skip before an element of this size at `position`.
    const fn padding(&self, position: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = if size > self.align { self.align } else { size };
        (size - (position & (size - 1))) & (size - 1)
    }

    /// An option that is no element.
    fn control(&mut self, option: u8) -> Result<()> {
        match option {
            b' ' => {}
            b'>' => self.little = false,
            b'<' => self.little = true,
            b'!' => {
                let align = self.count(MAX_ALIGN)?;
                if !align.is_power_of_two() {
                    return Err(text(self.lua, format!("alignment {align} is not a power of 2")));
                }
                self.align = align;
            }
            other => {
                return Err(self.given.bad(1, format!("invalid format option '{}'", char::from(other))));
            }
        }
        Ok(())
    }

    fn ordered<const N: usize>(&self, mut little: [u8; N]) -> [u8; N] {
        if !self.little {
            little.reverse();
        }
        little
    }
}

fn pack(lua: &Lua, given: &Given<'_>) -> Result<LuaString> {
    let format = given.string(1)?;
    let format = format.as_bytes();
    let mut format = Format::new(lua, given, &format);
    let mut out: Vec<u8> = Vec::new();
    let mut position = 2;
    let mut total = 0;
    while let Some((option, mut size)) = format.next()? {
        let padding = format.padding(total, option, size);
        total += padding;
        out.resize(out.len() + padding, 0);
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let number = given.number(position)?;
                position += 1;
                let bits = if number < 0.0 { number as i64 as u64 } else { number as u64 };
                let start = out.len();
                // Only 64 bits carry a value; Redis' shifts leave zeroes above.
                out.extend((0..size).map(|index| if index < 8 { (bits >> (8 * index)) as u8 } else { 0 }));
                if !format.little {
                    out[start..].reverse();
                }
            }
            b'x' => out.push(0),
            b'f' => {
                out.extend(format.ordered((given.number(position)? as f32).to_le_bytes()));
                position += 1;
            }
            b'd' => {
                out.extend(format.ordered(given.number(position)?.to_le_bytes()));
                position += 1;
            }
            b'c' | b's' => {
                let string = given.string(position)?;
                let bytes = string.as_bytes();
                position += 1;
                if size == 0 {
                    size = bytes.len();
                }
                let part = bytes.get(..size).ok_or_else(|| given.bad(position, "string too short"))?;
                out.extend_from_slice(part);
                if option == b's' {
                    out.push(0);
                    size += 1;
                }
            }
            other => format.control(other)?,
        }
        total += size;
    }
    lua.create_string(out)
}

fn unpack(lua: &Lua, given: &Given<'_>) -> Result<MultiValue> {
    let format = given.string(1)?;
    let format = format.as_bytes();
    let data = given.string(2)?;
    let data = data.as_bytes();
    let start = given.integer_or(3, 1)?;
    if start <= 0 {
        return Err(given.bad(3, "offset must be 1 or greater"));
    }
    let too_short = || -> Error { given.bad(2, "data string too short") };
    let mut at = start as usize - 1;
    let mut format = Format::new(lua, given, &format);
    let mut results: Vec<Value> = Vec::new();
    while let Some((option, mut size)) = format.next()? {
        at += format.padding(at, option, size);
        let end = at.checked_add(size).filter(|&end| end <= data.len()).ok_or_else(too_short)?;
        let part = &data[at..end];
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                results.push(Value::Number(integer(part, format.little, option.is_ascii_lowercase())));
            }
            b'x' => {}
            b'f' => {
                let bytes = format.ordered(part.try_into().unwrap_or_default());
                results.push(Value::Number(f64::from(f32::from_le_bytes(bytes))));
            }
            b'd' => {
                let bytes = format.ordered(part.try_into().unwrap_or_default());
                results.push(Value::Number(f64::from_le_bytes(bytes)));
            }
            b'c' => {
                if size == 0 {
                    let previous = results.pop().and_then(|value| number(&value));
                    let count = previous.ok_or_else(|| text(lua, "format 'c0' needs a previous size"))?;
                    if count < 0.0 {
                        return Err(too_short());
                    }
                    size = count as usize;
                }
                let end = at.checked_add(size).filter(|&end| end <= data.len()).ok_or_else(too_short)?;
                results.push(Value::String(lua.create_string(&data[at..end])?));
            }
            b's' => {
                let rest = data.get(at..).unwrap_or_default();
                let Some(len) = rest.iter().position(|&byte| byte == 0) else {
                    return Err(text(lua, "unfinished string in data"));
                };
                results.push(Value::String(lua.create_string(&rest[..len])?));
                size = len + 1;
            }
            other => format.control(other)?,
        }
        at += size;
    }
    results.push(Value::Integer(at as i64 + 1));
    Ok(MultiValue::from_vec(results))
}

/// An integer of any size; what does not fit in 64 bits is cut.
fn integer(bytes: &[u8], little: bool, is_signed: bool) -> f64 {
    let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let value = if little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) };
    if !is_signed {
        return value as f64;
    }
    let unused = 64_usize.saturating_sub(bytes.len() * 8).min(63);
    ((value << unused) as i64 >> unused) as f64
}

fn size(lua: &Lua, given: &Given<'_>) -> Result<i64> {
    let format = given.string(1)?;
    let format = format.as_bytes();
    let mut format = Format::new(lua, given, &format);
    let mut at = 0;
    while let Some((option, size)) = format.next()? {
        at += format.padding(at, option, size);
        if option == b's' {
            return Err(given.bad(1, "option 's' has no fixed size"));
        } else if option == b'c' && size == 0 {
            return Err(given.bad(1, "option 'c0' has no fixed size"));
        }
        if !option.is_ascii_alphanumeric() {
            format.control(option)?;
        }
        at += size;
    }
    Ok(at as i64)
}
