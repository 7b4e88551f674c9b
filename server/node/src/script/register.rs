//! `redis.register_function`: what a library calls to say which functions it has.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mlua::{Function, Lua, MultiValue, Result, Table, Value};

use super::flags::ScriptFlags;
use super::line::Shared;
use super::raise::table as raise;

/// A function of a library.
#[derive(Clone, Debug)]
pub struct LibraryFunction {
    pub body: Function,
    pub description: Option<Vec<u8>>,
    pub flags: ScriptFlags,
}

/// The functions that a library has registered so far, by name.
pub type Registering = BTreeMap<Vec<u8>, LibraryFunction>;

/// Names of libraries and functions are words.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// What Redis says of other names, whether of libraries or of functions.
pub const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one \
                            character long";

/// The function itself.
pub fn register_function(
    lua: &Lua,
    registry: &RefCell<Registering>,
    shared: &Shared,
    args: &MultiValue,
) -> Result<()> {
    if shared.running.get() {
        return Err(raise("redis.register_function can only be called on FUNCTION LOAD command"));
    }
    let (name, function) = match (args.len(), args.front()) {
        (1, Some(Value::Table(named))) => named_arguments(lua, named)?,
        (1, _) => {
            return Err(raise(
                "calling redis.register_function with a single argument is only applicable to Lua table (representing \
                 named arguments).",
            ));
        }
        (2, Some(name)) => positional_arguments(lua, name, args.get(1))?,
        _ => return Err(raise("wrong number of arguments to redis.register_function")),
    };
    if !is_name(&name) {
        return Err(raise(BAD_NAME));
    }
    let mut registry = registry.borrow_mut();
    if registry.contains_key(&name) {
        return Err(raise("Function already exists in the library"));
    }
    registry.insert(name, function);
    Ok(())
}

/// A string, or a number as one.
fn string(lua: &Lua, value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(_) | Value::Integer(_) | Value::Number(_) => {
            let string = lua.coerce_string(value.clone()).ok().flatten()?;
            Some(string.as_bytes().to_vec())
        }
        _ => None,
    }
}

fn positional_arguments(lua: &Lua, name: &Value, body: Option<&Value>) -> Result<(Vec<u8>, LibraryFunction)> {
    let name = string(lua, name)
        .ok_or_else(|| raise("first argument to redis.register_function must be a string"))?;
    let Some(Value::Function(body)) = body else {
        return Err(raise("second argument to redis.register_function must be a function"));
    };
    Ok((name, LibraryFunction { body: body.clone(), description: None, flags: ScriptFlags::default() }))
}

fn named_arguments(lua: &Lua, named: &Table) -> Result<(Vec<u8>, LibraryFunction)> {
    let (mut name, mut description, mut body, mut flags) = (None, None, None, ScriptFlags::default());
    for pair in named.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let key = string(lua, &key)
            .ok_or_else(|| raise("named argument key given to redis.register_function is not a string"))?;
        match &key.to_ascii_lowercase()[..] {
            b"function_name" => {
                let given = string(lua, &value).ok_or_else(|| {
                    raise("function_name argument given to redis.register_function must be a string")
                })?;
                name = Some(given);
            }
            b"description" => {
                let given = string(lua, &value).ok_or_else(|| {
                    raise("description argument given to redis.register_function must be a string")
                })?;
                description = Some(given);
            }
            b"callback" => {
                let Value::Function(given) = value else {
                    return Err(raise(
                        "callback argument given to redis.register_function must be a function",
                    ));
                };
                body = Some(given);
            }
            b"flags" => {
                let Value::Table(given) = value else {
                    return Err(raise(
                        "flags argument to redis.register_function must be a table representing function flags",
                    ));
                };
                flags = function_flags(lua, &given)?;
            }
            _ => return Err(raise("unknown argument given to redis.register_function")),
        }
    }
    let name = name.ok_or_else(|| raise("redis.register_function must get a function name argument"))?;
    let body = body.ok_or_else(|| raise("redis.register_function must get a callback argument"))?;
    Ok((name, LibraryFunction { body, description, flags }))
}

fn function_flags(lua: &Lua, given: &Table) -> Result<ScriptFlags> {
    let mut flags = ScriptFlags::default();
    for index in 1.. {
        let value: Value = given.get(index)?;
        if value.is_nil() {
            break;
        }
        let flag = string(lua, &value).and_then(|name| ScriptFlags::named(&name, true));
        flags = flags.with(flag.ok_or_else(|| raise("unknown flag given"))?);
    }
    Ok(flags)
}
