//! The table `redis` of scripts, and `math.random`.

use std::rc::Rc;

use mlua::{Function, Lua, LuaString, MultiValue, Result, Table, Value};
use sha1::{Digest, Sha1};

use super::convert::{cut, error_table, error_text, read_reply};
use super::line::{Answer, Asked, Calling, HandedOn, Shared};
use super::raise::{Given, Raised, number, table as raise, text};
use super::random::LIMIT;
use crate::command::hex;
use crate::io::LogLevel;
use crate::keyspace::score::text_17g;
use crate::resp::{OwnedArgs, Protocol};

/// 7.0.15, as `REDIS_VERSION_NUM` has it.
const VERSION_NUMBER: i64 = 0x0007_000f;

/// What such a function does.
type Body = fn(&Lua, &Shared, &MultiValue) -> Result<Value>;

/// A function of the server's own.
fn function(lua: &Lua, shared: &Rc<Shared>, call: Body) -> Result<Function> {
    let shared = shared.clone();
    lua.create_function(move |lua, args: MultiValue| call(lua, &shared, &args))
}

/// The table for scripts that run; scripts that are no functions have some functions more.
pub fn running_table(lua: &Lua, shared: &Rc<Shared>, is_eval: bool) -> Result<Table> {
    let table = lua.create_table()?;
    add_common(lua, shared, &table)?;
    let functions: [(&str, Body); 8] = [
        ("call", |lua, shared, args| call(lua, shared, args, true)),
        ("pcall", |lua, shared, args| call(lua, shared, args, false)),
        ("setresp", set_resp),
        ("sha1hex", sha1hex),
        ("error_reply", error_reply),
        ("status_reply", status_reply),
        ("set_repl", set_repl),
        ("acl_check_cmd", acl_check_cmd),
    ];
    for (name, call) in functions {
        table.raw_set(name, function(lua, shared, call)?)?;
    }
    for (name, flags) in
        [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)]
    {
        table.raw_set(name, flags)?;
    }
    if is_eval {
        // There is no debugger that could stop here.
        table.raw_set("breakpoint", function(lua, shared, |_, _, _| Ok(Value::Boolean(false)))?)?;
        table.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
        table.raw_set("replicate_commands", function(lua, shared, |_, _, _| Ok(Value::Boolean(true)))?)?;
    }
    Ok(table)
}

/// What is there while a library is loaded too.
pub fn add_common(lua: &Lua, shared: &Rc<Shared>, table: &Table) -> Result<()> {
    let line = shared.clone();
    table.raw_set("log", lua.create_function(move |lua, args| log(lua, &line, args))?)?;
    for (name, level) in [("LOG_DEBUG", 0), ("LOG_VERBOSE", 1), ("LOG_NOTICE", 2), ("LOG_WARNING", 3)] {
        table.raw_set(name, level)?;
    }
    table.raw_set("REDIS_VERSION_NUM", VERSION_NUMBER)?;
    table.raw_set("REDIS_VERSION", "7.0.15")
}

/// Puts the server's generator in the place of the C library's.
pub fn replace_random(lua: &Lua, shared: &Rc<Shared>, math: &Table) -> Result<()> {
    math.raw_set("random", function(lua, shared, random)?)?;
    let line = shared.clone();
    let seed = move |lua: &Lua, args: MultiValue| {
        if !line.running.get() {
            return Err(text(lua, "math.randomseed can only be called inside a script invocation"));
        }
        let seed = Given::new(lua, args).integer(1)?;
        line.random.borrow_mut().seed(seed as i32);
        Ok(())
    };
    math.raw_set("randomseed", lua.create_function(seed)?)
}

fn random(lua: &Lua, shared: &Shared, args: &MultiValue) -> Result<Value> {
    if !shared.running.get() {
        return Err(text(lua, "math.random can only be called inside a script invocation"));
    }
    let part = f64::from(shared.random.borrow_mut().next() % LIMIT) / f64::from(LIMIT);
    let given = Given::new(lua, args.clone());
    let (low, high) = match given.len() {
        0 => return Ok(Value::Number(part)),
        1 => (1, given.integer(1)? as i32),
        2 => (given.integer(1)? as i32, given.integer(2)? as i32),
        _ => return Err(text(lua, "wrong number of arguments")),
    };
    if low > high {
        return Err(given.bad(given.len(), "interval is empty"));
    }
    let width = high.wrapping_sub(low).wrapping_add(1);
    Ok(Value::Number((part * f64::from(width)).floor() + f64::from(low)))
}

/// The arguments of a command: strings, and numbers with all their digits.
fn command(args: &MultiValue) -> std::result::Result<OwnedArgs, &'static str> {
    if args.is_empty() {
        return Err("Please specify at least one argument for this redis lib call");
    }
    let mut command = OwnedArgs::default();
    for arg in args {
        match arg {
            Value::String(string) => command.push(&string.as_bytes()),
            other => {
                let number =
                    number(other).ok_or("Lua redis lib command arguments must be strings or integers")?;
                command.push(text_17g(number).as_bytes());
            }
        }
    }
    Ok(command)
}

/// `redis.call` and `redis.pcall`.
fn call(lua: &Lua, shared: &Shared, args: &MultiValue, raises: bool) -> Result<Value> {
    if !shared.running.get() {
        return Err(raise("redis.call/pcall can only be called inside a script invocation"));
    }
    let failed = |err: Vec<u8>, counted: bool| {
        if raises {
            Err(Raised::Table { err, counted }.error())
        } else {
            Ok(Value::Table(error_table(lua, &err, counted)?))
        }
    };
    let args = match command(args) {
        Ok(args) => args,
        Err(problem) => return failed(error_text(problem.as_bytes()), false),
    };
    let calling = Calling { args, protocol: shared.protocol.get(), handed_on: shared.handed_on.get() };
    match shared.ask(lua, Asked::Call(calling))? {
        Answer::Refused(problem) => failed(error_text(problem.as_bytes()), true),
        Answer::Reply(reply) if raises && reply.first() == Some(&b'-') => {
            let line = reply.split(|&byte| byte == b'\r').next().unwrap_or_default();
            failed(error_text(line), true)
        }
        Answer::Reply(reply) => read_reply(lua, &reply),
        Answer::Go | Answer::Allowed(_) | Answer::End(_) => Ok(Value::Nil),
    }
}

fn set_resp(lua: &Lua, shared: &Shared, args: &MultiValue) -> Result<Value> {
    if !shared.running.get() {
        return Err(raise("redis.setresp can only be called inside a script invocation"));
    }
    if args.len() != 1 {
        return Err(raise("redis.setresp() requires one argument."));
    }
    shared.protocol.set(match cut(loose_number(lua, args.front())) {
        2 => Protocol::Resp2,
        3 => Protocol::Resp3,
        _ => return Err(raise("RESP version must be 2 or 3.")),
    });
    Ok(Value::Nil)
}

fn set_repl(lua: &Lua, shared: &Shared, args: &MultiValue) -> Result<Value> {
    if !shared.running.get() {
        return Err(raise("redis.set_repl can only be called inside a script invocation"));
    }
    if args.len() != 1 {
        return Err(raise("redis.set_repl() requires two arguments."));
    }
    let flags = cut(loose_number(lua, args.front())) as i32;
    if flags & !3 != 0 {
        return Err(raise("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."));
    }
    shared.handed_on.set(HandedOn { file: flags & 1 != 0, replicas: flags & 2 != 0 });
    Ok(Value::Nil)
}

/// A number, or a string that is one; anything else is 0 (`lua_tonumber`).
fn loose_number(lua: &Lua, value: Option<&Value>) -> f64 {
    value.and_then(|value| lua.coerce_number(value.clone()).ok().flatten()).unwrap_or_default()
}

fn acl_check_cmd(lua: &Lua, shared: &Shared, args: &MultiValue) -> Result<Value> {
    if !shared.running.get() {
        return Err(raise("redis.acl_check_cmd can only be called inside a script invocation"));
    }
    let args = command(args).map_err(raise)?;
    match shared.ask(lua, Asked::MayCall(args))? {
        Answer::Allowed(Some(may)) => Ok(Value::Boolean(may)),
        _ => Err(raise("Invalid command passed to redis.acl_check_cmd()")),
    }
}

fn sha1hex(lua: &Lua, _: &Shared, args: &MultiValue) -> Result<Value> {
    if args.len() != 1 {
        return Err(raise("wrong number of arguments"));
    }
    let value = args.front().cloned().unwrap_or(Value::Nil);
    let string = lua.coerce_string(value).ok().flatten();
    let bytes = string.map(|string| string.as_bytes().to_vec()).unwrap_or_default();
    Ok(Value::String(lua.create_string(script_name(&bytes))?))
}

/// The name of a script: the SHA-1 of its text, in small letters.
pub fn script_name(body: &[u8]) -> String {
    hex(&Sha1::digest(body))
}

fn one_string(args: &MultiValue) -> Option<LuaString> {
    match args.front() {
        Some(Value::String(string)) if args.len() == 1 => Some(string.clone()),
        _ => None,
    }
}

fn wrong_arguments(lua: &Lua) -> Result<Value> {
    Ok(Value::Table(error_table(lua, b"ERR wrong number or type of arguments", false)?))
}

fn error_reply(lua: &Lua, _: &Shared, args: &MultiValue) -> Result<Value> {
    let Some(string) = one_string(args) else { return wrong_arguments(lua) };
    let bytes = string.as_bytes();
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = if text.starts_with(b"-") { text.to_vec() } else { [b"-", text].concat() };
    Ok(Value::Table(error_table(lua, &error_text(&text), false)?))
}

fn status_reply(lua: &Lua, _: &Shared, args: &MultiValue) -> Result<Value> {
    let Some(string) = one_string(args) else { return wrong_arguments(lua) };
    let table = lua.create_table()?;
    table.raw_set("ok", string)?;
    Ok(Value::Table(table))
}

fn log(lua: &Lua, shared: &Shared, args: MultiValue) -> Result<()> {
    if args.len() < 2 {
        return Err(raise("redis.log() requires two arguments or more."));
    }
    let mut args = args.into_iter();
    let level = args.next().and_then(|level| lua.coerce_number(level).ok().flatten());
    let level = level.ok_or_else(|| raise("First argument must be a number (log level)."))?;
    let level = match cut(level) {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        3 => LogLevel::Warning,
        _ => return Err(raise("Invalid debug level.")),
    };
    let mut line = Vec::new();
    for (index, value) in args.enumerate() {
        let string = match value {
            Value::String(_) | Value::Integer(_) | Value::Number(_) => lua.coerce_string(value)?,
            _ => None,
        };
        if let Some(string) = string {
            if index > 0 {
                line.push(b' ');
            }
            line.extend_from_slice(&string.as_bytes());
        }
    }
    shared.ask(lua, Asked::Log(level, line)).map(|_| ())
}
