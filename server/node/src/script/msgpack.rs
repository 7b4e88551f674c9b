//! The `cmsgpack` library of scripts: MessagePack to and from Lua values, with the choices and error texts of
//! lua-cmsgpack 0.4.0 as Redis carries it.
#![allow(clippy::float_cmp)] // whether a number is an integer is exactly the question

use mlua::{Lua, LuaString, MultiValue, Result, Table, Value};

use super::raise::{Given, number, text};

/// Deeper tables are packed as nil.
const MAX_NESTING: usize = 16;
/// Deeper ones are not unpacked: the stack has an end.
const MAX_DECODE_NESTING: usize = 4000;

/// The table `cmsgpack`.
pub fn library(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(|lua, args| pack(lua, &Given::new(lua, args)))?)?;
    table.raw_set("unpack", lua.create_function(|lua, args| unpack(lua, &Given::new(lua, args), 0, 0))?)?;
    let one = |lua: &Lua, args: MultiValue| {
        let given = Given::new(lua, args);
        let offset = given.integer_or(2, 0)?;
        unpack(lua, &given, 1, offset)
    };
    table.raw_set("unpack_one", lua.create_function(one)?)?;
    let limited = |lua: &Lua, args: MultiValue| {
        let given = Given::new(lua, args);
        let (limit, offset) = (given.integer(2)?, given.integer_or(3, 0)?);
        unpack(lua, &given, limit, offset)
    };
    table.raw_set("unpack_limit", lua.create_function(limited)?)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(table)
}

// ---- packing

fn pack(lua: &Lua, given: &Given<'_>) -> Result<LuaString> {
    if given.len() == 0 {
        return Err(given.bad(0, "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for position in 1..=given.len() {
        put(&mut out, given.get(position).unwrap_or(&Value::Nil), 0)?;
    }
    lua.create_string(out)
}

fn put(out: &mut Vec<u8>, value: &Value, level: usize) -> Result<()> {
    match value {
        Value::String(string) => put_bytes(out, &string.as_bytes()),
        Value::Boolean(is) => out.push(if *is { 0xc3 } else { 0xc2 }),
        Value::Integer(_) | Value::Number(_) => put_number(out, number(value).unwrap_or_default()),
        Value::Table(table) if level < MAX_NESTING => put_table(out, table, level)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, number: f64) {
    let int = number as i64;
    if number.is_finite() && int as f64 == number {
        return put_integer(out, int);
    }
    if f64::from(number as f32) == number {
        out.push(0xca);
        out.extend_from_slice(&(number as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn put_integer(out: &mut Vec<u8>, int: i64) {
    match int {
        -32..=127 => out.push(int as u8),
        128..=0xff => out.extend_from_slice(&[0xcc, int as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(int as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(int as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&int.to_be_bytes());
        }
        -128..=-33 => out.extend_from_slice(&[0xd0, int as u8]),
        -32768..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(int as i16).to_be_bytes());
        }
        -2_147_483_648..=-32769 => {
            out.push(0xd2);
            out.extend_from_slice(&(int as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&int.to_be_bytes());
        }
    }
}

fn put_count(out: &mut Vec<u8>, len: usize, short: u8, medium: u8) {
    match len {
        0..=15 => out.push(short | len as u8),
        16..=0xffff => {
            out.push(medium);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(medium + 1);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn put_table(out: &mut Vec<u8>, table: &Table, level: usize) -> Result<()> {
    let (mut count, mut max, mut is_array) = (0_usize, 0.0_f64, true);
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        count += 1;
        match number(&key) {
            Some(index) if index > 0.0 && f64::from(index as i32) == index => max = max.max(index),
            _ => is_array = false,
        }
    }
    if is_array && max == count as f64 {
        let len = table.raw_len();
        put_count(out, len, 0x90, 0xdc);
        for index in 1..=len {
            put(out, &table.get(index)?, level + 1)?;
        }
        return Ok(());
    }
    put_count(out, count, 0x80, 0xde);
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        put(out, &key, level + 1)?;
        put(out, &value, level + 1)?;
    }
    Ok(())
}

// ---- unpacking

enum Bad {
    Short,
    Format,
    Lua(mlua::Error),
}

impl From<mlua::Error> for Bad {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error)
    }
}

struct Input<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

/// At most `limit` values from `offset` on; both 0: all of them, and no offset is given back.
fn unpack(lua: &Lua, given: &Given<'_>, limit: i64, offset: i64) -> Result<MultiValue> {
    let bytes = given.string(1)?;
    let bytes = bytes.as_bytes();
    let len = bytes.len();
    if offset < 0 || limit < 0 {
        let problem = format!("Invalid request to unpack with offset of {offset} and limit of {len}.");
        return Err(text(lua, problem));
    }
    if offset as u64 > len as u64 {
        return Err(text(lua, format!("Start offset {offset} greater than input length {len}.")));
    }
    let everything = limit == 0 && offset == 0;
    let limit = if everything { i64::from(i32::MAX) } else { limit };
    let mut input = Input { lua, bytes: &bytes, at: offset as usize, depth: 0 };
    let mut results = Vec::new();
    while input.at < len && (results.len() as i64) < limit {
        results.push(input.value().map_err(|bad| match bad {
            Bad::Short => text(lua, "Missing bytes in input."),
            Bad::Format => text(lua, "Bad data format in input."),
            Bad::Lua(error) => error,
        })?);
    }
    if !everything {
        let next = if input.at == len { -1 } else { input.at as i64 };
        results.insert(0, Value::Integer(next));
    }
    Ok(MultiValue::from_vec(results))
}

impl Input<'_> {
    fn take(&mut self, len: usize) -> std::result::Result<&[u8], Bad> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len()).ok_or(Bad::Short)?;
        let part = &self.bytes[self.at..end];
        self.at = end;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> std::result::Result<[u8; N], Bad> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn string(&mut self, len: usize) -> std::result::Result<Value, Bad> {
        let lua = self.lua;
        Ok(Value::String(lua.create_string(self.take(len)?)?))
    }

    fn value(&mut self) -> std::result::Result<Value, Bad> {
        let [mark] = self.array()?;
        Ok(match mark {
            0..=0x7f => Value::Integer(i64::from(mark)),
            0xe0..=0xff => Value::Integer(i64::from(mark as i8)),
            0xa0..=0xbf => self.string(usize::from(mark & 0x1f))?,
            0x90..=0x9f => self.sequence(usize::from(mark & 0xf))?,
            0x80..=0x8f => self.map(usize::from(mark & 0xf))?,
            0xc0 => Value::Nil,
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xca => Value::Number(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Value::Number(f64::from_be_bytes(self.array()?)),
            0xcc => Value::Integer(i64::from(self.array::<1>()?[0])),
            0xcd => Value::Integer(i64::from(u16::from_be_bytes(self.array()?))),
            0xce => Value::Integer(i64::from(u32::from_be_bytes(self.array()?))),
            // Integers of Lua 5.1's interface are signed.
            0xcf | 0xd3 => Value::Number(i64::from_be_bytes(self.array()?) as f64),
            0xd0 => Value::Integer(i64::from(self.array::<1>()?[0] as i8)),
            0xd1 => Value::Integer(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Value::Integer(i64::from(i32::from_be_bytes(self.array()?))),
            0xd9 => {
                let [len] = self.array()?;
                self.string(usize::from(len))?
            }
            0xda => {
                let len = u16::from_be_bytes(self.array()?);
                self.string(usize::from(len))?
            }
            0xdb => {
                let len = u32::from_be_bytes(self.array()?);
                self.string(len as usize)?
            }
            0xdc => {
                let len = u16::from_be_bytes(self.array()?);
                self.sequence(usize::from(len))?
            }
            0xdd => {
                let len = u32::from_be_bytes(self.array()?);
                self.sequence(len as usize)?
            }
            0xde => {
                let len = u16::from_be_bytes(self.array()?);
                self.map(usize::from(len))?
            }
            0xdf => {
                let len = u32::from_be_bytes(self.array()?);
                self.map(len as usize)?
            }
            _ => return Err(Bad::Format),
        })
    }

    fn descend(&mut self) -> std::result::Result<Table, Bad> {
        self.depth += 1;
        if self.depth > MAX_DECODE_NESTING {
            return Err(Bad::Format);
        }
        Ok(self.lua.create_table()?)
    }

    fn sequence(&mut self, len: usize) -> std::result::Result<Value, Bad> {
        let table = self.descend()?;
        for index in 1..=len {
            let value = self.value()?;
            table.raw_set(index, value)?;
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn map(&mut self, len: usize) -> std::result::Result<Value, Bad> {
        let table = self.descend()?;
        for _ in 0..len {
            let key = self.value()?;
            let value = self.value()?;
            if matches!(key, Value::Nil) || matches!(key, Value::Number(number) if number.is_nan()) {
                return Err(Bad::Format);
            }
            table.raw_set(key, value)?;
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }
}
