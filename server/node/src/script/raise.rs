//! Errors that the server's functions raise inside scripts, and the arguments that those functions take: texts and
//! positions are those of Lua's auxiliary library, because scripts and their users see them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use mlua::{Error, Lua, LuaString, MultiValue, Value};

/// An error as a script sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raised {
    /// A string.
    Text(Vec<u8>),
    /// A table with `err`; `counted`: the server's statistics have it already.
    Table { err: Vec<u8>, counted: bool },
    /// The script is to end; no protected call inside it may go on.
    Killed(&'static str),
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Table { err: text, .. } => f.write_str(&String::from_utf8_lossy(text)),
            Self::Killed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Raised {}

impl Raised {
    /// What mlua hands through Lua.
    pub fn error(self) -> Error {
        Error::ExternalError(Arc::new(self))
    }

    /// The error behind what mlua wrapped around it; other errors as their text.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::CallbackError { cause, .. } => Self::of(cause),
            Error::ExternalError(inner) => match inner.downcast_ref::<Self>() {
                Some(raised) => raised.clone(),
                None => Self::Text(inner.to_string().into_bytes()),
            },
            Error::MemoryError(_) => Self::Text(b"not enough memory".to_vec()),
            Error::RuntimeError(text) => Self::Text(text.clone().into_bytes()),
            other => Self::Text(other.to_string().into_bytes()),
        }
    }
}

/// An error table, as Redis' functions raise it: `err` with a generic code in front.
pub fn table(text: &str) -> Error {
    Raised::Table { err: format!("ERR {text}").into_bytes(), counted: false }.error()
}

/// A string error at the place of the caller (`luaL_error`).
pub fn text(lua: &Lua, message: impl AsRef<[u8]>) -> Error {
    let mut text = place(lua, 1).into_bytes();
    text.extend_from_slice(message.as_ref());
    Raised::Text(text).error()
}

/// `source:line: ` of the function at `level`, empty for one that is not Lua (`luaL_where`).
fn place(lua: &Lua, level: usize) -> String {
    let place = lua.inspect_stack(level, |debug| {
        let line = debug.current_line()?;
        Some(format!("{}:{line}: ", debug.source().short_src.unwrap_or_default()))
    });
    place.flatten().unwrap_or_default()
}

/// The name of a value's type in Lua 5.1.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        _ => "userdata",
    }
}

/// A number of Lua, which mlua splits in two kinds.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(int) => Some(*int as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// The arguments of a call.
pub struct Given<'a> {
    lua: &'a Lua,
    values: MultiValue,
}

impl<'a> Given<'a> {
    pub const fn new(lua: &'a Lua, values: MultiValue) -> Self {
        Self { lua, values }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Argument `position`, from 1.
    pub fn get(&self, position: usize) -> Option<&Value> {
        self.values.get(position - 1)
    }

    /// `bad argument #1 to 'name' (message)`.
    pub fn bad(&self, position: usize, message: impl fmt::Display) -> Error {
        let names = self.lua.inspect_stack(0, |debug| {
            let names = debug.names();
            (names.name.map_or_else(|| "?".to_owned(), Cow::into_owned), names.name_what == Some("method"))
        });
        let (name, is_method) = names.unwrap_or_else(|| ("?".to_owned(), false));
        let position = if is_method { position.saturating_sub(1) } else { position };
        if is_method && position == 0 {
            return text(self.lua, format!("calling '{name}' on bad self ({message})"));
        }
        text(self.lua, format!("bad argument #{position} to '{name}' ({message})"))
    }

    fn expected(&self, position: usize, what: &str) -> Error {
        let got = self.get(position).map_or("no value", type_name);
        self.bad(position, format!("{what} expected, got {got}"))
    }

    pub fn number(&self, position: usize) -> Result<f64, Error> {
        let value = self.get(position).cloned().unwrap_or(Value::Nil);
        if let Some(number) = number(&value) {
            return Ok(number);
        }
        match self.lua.coerce_number(value) {
            Ok(Some(number)) => Ok(number),
            _ => Err(self.expected(position, "number")),
        }
    }

    /// A number, cut to an integer as C cuts it.
    pub fn integer(&self, position: usize) -> Result<i64, Error> {
        self.number(position).map(|number| number as i64)
    }

    pub fn integer_or(&self, position: usize, default: i64) -> Result<i64, Error> {
        match self.get(position) {
            None | Some(Value::Nil) => Ok(default),
            Some(_) => self.integer(position),
        }
    }

    /// A string, or a number as one.
    pub fn string(&self, position: usize) -> Result<LuaString, Error> {
        match self.get(position) {
            Some(Value::String(string)) => Ok(string.clone()),
            Some(value @ (Value::Integer(_) | Value::Number(_))) => {
                match self.lua.coerce_string(value.clone())? {
                    Some(string) => Ok(string),
                    None => Err(self.expected(position, "string")),
                }
            }
            _ => Err(self.expected(position, "string")),
        }
    }
}
