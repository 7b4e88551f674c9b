//! The `bit` library of scripts: operations on 32-bit integers, with the semantics of LuaJIT's BitOp.

use mlua::{Lua, MultiValue, Result, Table};

use super::raise::Given;

/// A Lua number as BitOp takes it: rounded to the nearest even integer, modulo 2^32.
fn bits(given: &Given<'_>, position: usize) -> Result<u32> {
    let number = given.number(position)?;
    // Adding 2^52 + 2^51 leaves the integer in the low bits of the mantissa.
    Ok((number + 6_755_399_441_055_744.0).to_bits() as u32)
}

fn signed(bits: u32) -> f64 {
    f64::from(bits as i32)
}

type Unary = fn(u32) -> u32;
type Binary = fn(u32, u32) -> u32;

/// The table `bit`.
pub fn library(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let unary: [(&str, Unary); 3] =
        [("tobit", |bits| bits), ("bnot", |bits| !bits), ("bswap", u32::swap_bytes)];
    for (name, operation) in unary {
        let call = move |lua: &Lua, args: MultiValue| Ok(signed(operation(bits(&Given::new(lua, args), 1)?)));
        table.raw_set(name, lua.create_function(call)?)?;
    }
    let folds: [(&str, Binary); 3] = [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];
    for (name, operation) in folds {
        let call = move |lua: &Lua, args: MultiValue| {
            let given = Given::new(lua, args);
            let mut result = bits(&given, 1)?;
            for position in (2..=given.len()).rev() {
                result = operation(result, bits(&given, position)?);
            }
            Ok(signed(result))
        };
        table.raw_set(name, lua.create_function(call)?)?;
    }
    let shifts: [(&str, Binary); 5] = [
        ("lshift", |bits, by| bits << by),
        ("rshift", |bits, by| bits >> by),
        ("arshift", |bits, by| (bits as i32 >> by) as u32),
        ("rol", u32::rotate_left),
        ("ror", u32::rotate_right),
    ];
    for (name, operation) in shifts {
        let call = move |lua: &Lua, args: MultiValue| {
            let given = Given::new(lua, args);
            let number = bits(&given, 1)?;
            Ok(signed(operation(number, bits(&given, 2)? & 31)))
        };
        table.raw_set(name, lua.create_function(call)?)?;
    }
    table.raw_set("tohex", lua.create_function(|lua, args| to_hex(&Given::new(lua, args)))?)?;
    Ok(table)
}

/// Eight digits, or as many as asked for; in capitals if that number is negative.
fn to_hex(given: &Given<'_>) -> Result<String> {
    let number = bits(given, 1)?;
    let digits = if given.len() < 2 { 8 } else { bits(given, 2)? as i32 };
    let keep = digits.unsigned_abs().min(8) as usize;
    let text = if digits < 0 { format!("{number:08X}") } else { format!("{number:08x}") };
    Ok(text[8 - keep..].to_owned())
}
