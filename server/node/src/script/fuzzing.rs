//! The decoders that scripts have, fed with foreign bytes: what they read is written, and read again the same.

use mlua::{Function, Lua, LuaOptions, StdLib};

use super::{json, msgpack, structs};

const ROUND_TRIPS: &str = include_str!("fuzzing.lua");
const MEMORY_LIMIT_BYTES: usize = 64 << 20;

/// The first byte says which decoder; the rest is what it reads (for `struct`: the format, a NUL, the bytes).
pub fn script_values(bytes: &[u8]) {
    thread_local!(static ROUND_TRIP: (Lua, Function) = round_trips().expect("a Lua with the libraries"));
    let Some((which, bytes)) = bytes.split_first() else { return };
    ROUND_TRIP.with(|(lua, round_trip)| {
        let bytes = lua.create_string(bytes).expect("a string");
        round_trip.call::<()>((which % 3, bytes)).expect("the round trip holds");
        lua.gc_collect().expect("no finalizer fails");
    });
}

fn round_trips() -> mlua::Result<(Lua, Function)> {
    let lua = Lua::new_with(StdLib::STRING | StdLib::TABLE, LuaOptions::default())?;
    lua.set_memory_limit(MEMORY_LIMIT_BYTES)?;
    lua.globals().set("cjson", json::library(&lua)?)?;
    lua.globals().set("cmsgpack", msgpack::library(&lua)?)?;
    lua.globals().set("struct", structs::library(&lua)?)?;
    let round_trip = lua.load(ROUND_TRIPS).set_name("=(round trips)").eval()?;
    Ok((lua, round_trip))
}
