//! The `cjson` library of scripts: JSON to and from Lua values, with the limits, settings and error texts of
//! lua-cjson 2.1.0 as Redis carries it.
#![allow(clippy::float_cmp)] // whether a number is an integer is exactly the question

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Lua, LuaString, MultiValue, Result, Table, Value};

use super::raise::{Given, number, text, type_name};

/// Settings of one `cjson` table.
#[derive(Clone, Debug)]
struct Settings {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_max_depth: i32,
    decode_max_depth: i32,
    /// 0: refused, 1: written as the C library does, 2: null.
    encode_invalid_numbers: usize,
    decode_invalid_numbers: bool,
    keep_buffer: bool,
    precision: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            encode_invalid_numbers: 0,
            decode_invalid_numbers: true,
            keep_buffer: true,
            precision: 14,
        }
    }
}

type Shared = Rc<RefCell<Settings>>;

/// A new table `cjson` with settings of its own.
pub fn library(lua: &Lua) -> Result<Table> {
    let settings = Shared::default();
    let table = lua.create_table()?;
    let own = settings.clone();
    table.raw_set(
        "encode",
        lua.create_function(move |lua, args| {
            let given = one_argument(lua, args)?;
            let mut encoder = Encoder { lua, settings: &own.borrow(), out: Vec::new() };
            encoder.value(given.get(1).unwrap_or(&Value::Nil), 0)?;
            lua.create_string(encoder.out)
        })?,
    )?;
    let own = settings.clone();
    table.raw_set(
        "decode",
        lua.create_function(move |lua, args| {
            let given = one_argument(lua, args)?;
            decode(lua, &own.borrow(), &given.string(1)?)
        })?,
    )?;
    table.raw_set("new", lua.create_function(|lua, _: MultiValue| library(lua))?)?;
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    add_settings(lua, &table, &settings)?;
    Ok(table)
}

fn one_argument(lua: &Lua, args: MultiValue) -> Result<Given<'_>> {
    let given = Given::new(lua, args);
    if given.len() != 1 {
        return Err(given.bad(1, "expected 1 argument"));
    }
    Ok(given)
}

// ---- settings

fn add_settings(lua: &Lua, table: &Table, settings: &Shared) -> Result<()> {
    type Option = (&'static str, usize, fn(&Lua, &mut Settings, &Given<'_>) -> Result<MultiValue>);
    const OPTIONS: [Option; 7] = [
        ("encode_sparse_array", 3, |lua, settings, given| {
            let convert = switch(lua, given, &mut settings.sparse_convert)?;
            let ratio = integer(given, 2, &mut settings.sparse_ratio, 0, i32::MAX)?;
            let safe = integer(given, 3, &mut settings.sparse_safe, 0, i32::MAX)?;
            Ok(MultiValue::from_vec(vec![convert, ratio, safe]))
        }),
        ("encode_max_depth", 1, |_, settings, given| {
            Ok(one(integer(given, 1, &mut settings.encode_max_depth, 1, i32::MAX)?))
        }),
        ("decode_max_depth", 1, |_, settings, given| {
            Ok(one(integer(given, 1, &mut settings.decode_max_depth, 1, i32::MAX)?))
        }),
        ("encode_number_precision", 1, |_, settings, given| {
            Ok(one(integer(given, 1, &mut settings.precision, 1, 14)?))
        }),
        ("encode_keep_buffer", 1, |lua, settings, given| {
            Ok(one(switch(lua, given, &mut settings.keep_buffer)?))
        }),
        ("encode_invalid_numbers", 1, |lua, settings, given| {
            let chosen = choice(given, &["off", "on", "null"])?;
            settings.encode_invalid_numbers = chosen.unwrap_or(settings.encode_invalid_numbers);
            Ok(one(match settings.encode_invalid_numbers {
                2 => Value::String(lua.create_string("null")?),
                other => Value::Boolean(other == 1),
            }))
        }),
        ("decode_invalid_numbers", 1, |lua, settings, given| {
            Ok(one(switch(lua, given, &mut settings.decode_invalid_numbers)?))
        }),
    ];
    for (name, most, option) in OPTIONS {
        let settings = settings.clone();
        let call = move |lua: &Lua, args: MultiValue| {
            let given = Given::new(lua, args);
            if given.len() > most {
                return Err(given.bad(most + 1, "found too many arguments"));
            }
            option(lua, &mut settings.borrow_mut(), &given)
        };
        table.raw_set(name, lua.create_function(call)?)?;
    }
    Ok(())
}

fn one(value: Value) -> MultiValue {
    MultiValue::from_vec(vec![value])
}

fn integer(given: &Given<'_>, position: usize, setting: &mut i32, min: i32, max: i32) -> Result<Value> {
    if !matches!(given.get(position), None | Some(Value::Nil)) {
        let value = given.integer(position)? as i32;
        if value < min || value > max {
            return Err(given.bad(1, format!("expected integer between {min} and {max}")));
        }
        *setting = value;
    }
    Ok(Value::Integer(i64::from(*setting)))
}

fn choice(given: &Given<'_>, options: &[&str]) -> Result<Option<usize>> {
    match given.get(1) {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::Boolean(on)) => Ok(Some(usize::from(*on))),
        Some(_) => {
            let word = given.string(1)?.to_string_lossy();
            match options.iter().position(|option| **option == word) {
                Some(index) => Ok(Some(index)),
                None => Err(given.bad(1, format!("invalid option '{word}'"))),
            }
        }
    }
}

fn switch(_: &Lua, given: &Given<'_>, setting: &mut bool) -> Result<Value> {
    if let Some(chosen) = choice(given, &["off", "on"])? {
        *setting = chosen == 1;
    }
    Ok(Value::Boolean(*setting))
}

// ---- encoding

struct Encoder<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    out: Vec<u8>,
}

impl Encoder<'_> {
    fn refuse(&self, value: &Value, why: &str) -> mlua::Error {
        text(self.lua, format!("Cannot serialise {}: {why}", type_name(value)))
    }

    fn value(&mut self, value: &Value, depth: i32) -> Result<()> {
        match value {
            Value::String(string) => self.string(string),
            Value::Boolean(is) => self.out.extend_from_slice(if *is { b"true" } else { b"false" }),
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => self.out.extend_from_slice(b"null"),
            Value::Integer(_) | Value::Number(_) => self.number(value)?,
            Value::Table(table) => {
                let depth = depth + 1;
                if depth > self.settings.encode_max_depth {
                    let problem = format!("Cannot serialise, excessive nesting ({depth})");
                    return Err(text(self.lua, problem));
                }
                match self.array_len(table)? {
                    Some(len) if len > 0 => self.array(table, len, depth)?,
                    _ => self.object(table, depth)?,
                }
            }
            other => return Err(self.refuse(other, "type not supported")),
        }
        Ok(())
    }

    /// The greatest index of a table that has only positive integers as keys.
    fn array_len(&self, table: &Table) -> Result<Option<i64>> {
        let (mut max, mut items) = (0_i64, 0_i64);
        for pair in table.pairs::<Value, Value>() {
            let (key, _) = pair?;
            match number(&key) {
                Some(index) if index >= 1.0 && index.floor() == index => {
                    max = max.max(index as i64);
                    items += 1;
                }
                _ => return Ok(None),
            }
        }
        let ratio = i64::from(self.settings.sparse_ratio);
        if ratio > 0 && max > items.saturating_mul(ratio) && max > i64::from(self.settings.sparse_safe) {
            if !self.settings.sparse_convert {
                return Err(self.refuse(&Value::Table(table.clone()), "excessively sparse array"));
            }
            return Ok(None);
        }
        Ok(Some(max))
    }

    fn array(&mut self, table: &Table, len: i64, depth: i32) -> Result<()> {
        self.out.push(b'[');
        for index in 1..=len {
            if index > 1 {
                self.out.push(b',');
            }
            self.value(&table.raw_get(index)?, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: i32) -> Result<()> {
        self.out.push(b'{');
        let mut is_first = true;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut is_first) {
                self.out.push(b',');
            }
            match &key {
                Value::Integer(_) | Value::Number(_) => {
                    self.out.push(b'"');
                    self.number(&key)?;
                    self.out.push(b'"');
                }
                Value::String(string) => self.string(string),
                other => return Err(self.refuse(other, "table key must be a number or string")),
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn number(&mut self, value: &Value) -> Result<()> {
        let plain = number(value).unwrap_or_default();
        if !plain.is_finite() {
            match self.settings.encode_invalid_numbers {
                0 => return Err(self.refuse(value, "must not be NaN or Inf")),
                1 if plain.is_nan() => self.out.extend_from_slice(b"nan"),
                1 => self.out.extend_from_slice(if plain > 0.0 { b"inf" } else { b"-inf" }),
                _ => self.out.extend_from_slice(b"null"),
            }
            return Ok(());
        }
        self.out.extend_from_slice(general(plain, self.settings.precision as usize).as_bytes());
        Ok(())
    }

    fn string(&mut self, string: &LuaString) {
        self.out.push(b'"');
        for &byte in &*string.as_bytes() {
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'/' => self.out.extend_from_slice(b"\\/"),
                8 => self.out.extend_from_slice(b"\\b"),
                9 => self.out.extend_from_slice(b"\\t"),
                10 => self.out.extend_from_slice(b"\\n"),
                12 => self.out.extend_from_slice(b"\\f"),
                13 => self.out.extend_from_slice(b"\\r"),
                0..32 | 127 => self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                other => self.out.push(other),
            }
        }
        self.out.push(b'"');
    }
}

/// A finite number as C's `%.{digits}g` prints it.
fn general(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{:.*e}", digits - 1, value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{:.*}", (digits as i32 - 1 - exponent).max(0) as usize, value))
}

// ---- decoding

#[derive(Clone, Debug, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    const fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String(_) => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Error(what) => what,
        }
    }
}

struct Decoder<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    bytes: &'a [u8],
    at: usize,
    /// Where the last token began, or was found to be wrong.
    token_at: usize,
    depth: i32,
}

fn decode(lua: &Lua, settings: &Settings, json: &LuaString) -> Result<Value> {
    let bytes = json.as_bytes();
    if bytes.len() >= 2 && (bytes[0] == 0 || bytes[1] == 0) {
        return Err(text(lua, "JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut decoder = Decoder { lua, settings, bytes: &bytes, at: 0, token_at: 0, depth: 0 };
    let first = decoder.next();
    let value = decoder.value(first)?;
    match decoder.next() {
        Token::End => Ok(value),
        other => Err(decoder.unexpected("the end", &other)),
    }
}

impl Decoder<'_> {
    /// The byte at `at`; a zero behind the end, as a C string has it.
    fn peek(&self, offset: usize) -> u8 {
        self.bytes.get(self.at + offset).copied().unwrap_or(0)
    }

    fn unexpected(&self, wanted: &str, found: &Token) -> mlua::Error {
        let (found, at) = (found.name(), self.token_at + 1);
        text(self.lua, format!("Expected {wanted} but found {found} at character {at}"))
    }

    fn wrong(&mut self, what: &'static str) -> Token {
        self.token_at = self.at;
        Token::Error(what)
    }

    fn next(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.peek(0) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            0 => return Token::End,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => {
                if !self.settings.decode_invalid_numbers && self.is_invalid_number() {
                    return self.wrong("invalid number");
                }
                return self.number();
            }
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+' => return self.word(),
            _ => return self.wrong("invalid token"),
        };
        self.at += 1;
        single
    }

    fn word(&mut self) -> Token {
        let rest = &self.bytes[self.at..];
        for (word, token) in
            [("true", Token::Boolean(true)), ("false", Token::Boolean(false)), ("null", Token::Null)]
        {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return token;
            }
        }
        if self.settings.decode_invalid_numbers && self.is_invalid_number() {
            return self.number();
        }
        self.wrong("invalid token")
    }

    /// Numbers that C reads and JSON does not have.
    fn is_invalid_number(&self) -> bool {
        if self.peek(0) == b'+' {
            return true;
        }
        let sign = usize::from(self.peek(0) == b'-');
        let first = self.peek(sign);
        if first == b'0' {
            let second = self.peek(sign + 1);
            return second | 0x20 == b'x' || second.is_ascii_digit();
        }
        if first <= b'9' {
            return false;
        }
        let rest = self.bytes.get(self.at + sign..self.at + sign + 3).unwrap_or_default();
        rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"nan")
    }

    fn number(&mut self) -> Token {
        let rest = &self.bytes[self.at..];
        match c_number(rest) {
            Some((number, len)) => {
                self.at += len;
                Token::Number(number)
            }
            None => self.wrong("invalid number"),
        }
    }

    fn string(&mut self) -> Token {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            match self.peek(0) {
                b'"' => break,
                0 => return self.wrong("unexpected end of string"),
                b'\\' => {
                    let plain = match self.peek(1) {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 8,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 12,
                        b'r' => b'\r',
                        b'u' => {
                            if !self.unicode(&mut out) {
                                return self.wrong("invalid unicode escape code");
                            }
                            continue;
                        }
                        _ => return self.wrong("invalid escape code"),
                    };
                    out.push(plain);
                    self.at += 2;
                }
                byte => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Token::String(out)
    }

    fn hex4(&self, offset: usize) -> Option<u32> {
        (0..4).try_fold(0, |sum, index| Some(sum << 4 | char::from(self.peek(offset + index)).to_digit(16)?))
    }

    /// A `\uXXXX` escape, or two that make one character.
    fn unicode(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(mut code) = self.hex4(2) else { return false };
        let mut len = 6;
        if code & 0xF800 == 0xD800 {
            let low = if self.peek(6) == b'\\' && self.peek(7) == b'u' { self.hex4(8) } else { None };
            let Some(low) = low.filter(|low| code & 0x400 == 0 && low & 0xFC00 == 0xDC00) else {
                return false;
            };
            code = ((code & 0x3FF) << 10 | low & 0x3FF) + 0x1_0000;
            len = 12;
        }
        let Some(character) = char::from_u32(code) else { return false };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += len;
        true
    }

    fn descend(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > self.settings.decode_max_depth {
            let (depth, at) = (self.depth, self.at);
            let problem = format!("Found too many nested data structures ({depth}) at character {at}");
            return Err(text(self.lua, problem));
        }
        Ok(())
    }

    fn value(&mut self, token: Token) -> Result<Value> {
        Ok(match token {
            Token::String(bytes) => Value::String(self.lua.create_string(bytes)?),
            Token::Number(number) => Value::Number(number),
            Token::Boolean(is) => Value::Boolean(is),
            Token::Null => Value::NULL,
            Token::ObjectBegin => Value::Table(self.object()?),
            Token::ArrayBegin => Value::Table(self.array()?),
            other => return Err(self.unexpected("value", &other)),
        })
    }

    fn object(&mut self) -> Result<Table> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if token != Token::ObjectEnd {
            loop {
                let Token::String(key) = token else {
                    return Err(self.unexpected("object key string", &token));
                };
                let key = self.lua.create_string(key)?;
                let colon = self.next();
                if colon != Token::Colon {
                    return Err(self.unexpected("colon", &colon));
                }
                let first = self.next();
                table.raw_set(key, self.value(first)?)?;
                match self.next() {
                    Token::ObjectEnd => break,
                    Token::Comma => token = self.next(),
                    other => return Err(self.unexpected("comma or object end", &other)),
                }
            }
        }
        self.depth -= 1;
        Ok(table)
    }

    fn array(&mut self) -> Result<Table> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if token != Token::ArrayEnd {
            for index in 1_i64.. {
                table.raw_set(index, self.value(token)?)?;
                match self.next() {
                    Token::ArrayEnd => break,
                    Token::Comma => token = self.next(),
                    other => return Err(self.unexpected("comma or array end", &other)),
                }
            }
        }
        self.depth -= 1;
        Ok(table)
    }
}

/// The number at the start of `bytes` as C's `strtod` reads it, and how many bytes it takes.
fn c_number(bytes: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let negative = bytes.first() == Some(&b'-');
    let signed = |value: f64| if negative { -value } else { value };
    let rest = &bytes[sign..];
    let starts = |word: &[u8]| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    if starts(b"infinity") {
        return Some((signed(f64::INFINITY), sign + 8));
    }
    if starts(b"inf") {
        return Some((signed(f64::INFINITY), sign + 3));
    }
    if starts(b"nan") {
        return Some((signed(f64::NAN), sign + 3));
    }
    let digits = |from: usize| rest[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if starts(b"0x") {
        let len = rest[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if len > 0 {
            let fold =
                |sum: f64, byte: &u8| sum * 16.0 + f64::from(char::from(*byte).to_digit(16).unwrap_or(0));
            return Some((signed(rest[2..2 + len].iter().fold(0.0, fold)), sign + 2 + len));
        }
    }
    let whole = digits(0);
    let mut end = whole;
    if rest.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if whole + fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    } else if whole == 0 {
        return None;
    }
    if matches!(rest.get(end), Some(b'e' | b'E')) {
        let exponent_sign = usize::from(matches!(rest.get(end + 1), Some(b'-' | b'+')));
        let exponent = digits(end + 1 + exponent_sign);
        if exponent > 0 {
            end += 1 + exponent_sign + exponent;
        }
    }
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse::<f64>().ok()?;
    Some((signed(number), sign + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_the_c_library_prints_them() {
        for (value, digits, text) in [
            (0.1, 14, "0.1"),
            (1e14, 14, "1e+14"),
            (123_456_789.0, 14, "123456789"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (1e-5, 14, "1e-05"),
            (123_456.0, 3, "1.23e+05"),
            (-2.5, 14, "-2.5"),
        ] {
            assert_eq!(general(value, digits), text);
        }
    }

    #[test]
    fn numbers_are_read_as_the_c_library_reads_them() {
        assert_eq!(c_number(b"-12.5e1x"), Some((-125.0, 7)));
        assert_eq!(c_number(b"1e"), Some((1.0, 1)));
        assert_eq!(c_number(b"0x1F,"), Some((31.0, 4)));
        assert_eq!(c_number(b"-inf"), Some((f64::NEG_INFINITY, 4)));
        assert_eq!(c_number(b"-"), None);
        assert_eq!(c_number(b"."), None);
    }
}
