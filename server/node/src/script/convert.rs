//! Replies to Lua values and Lua values to replies, with Redis' choices: a status is a table with `ok`, an error one
//! with `err`, null is false in RESP2 and nil in RESP3.

use mlua::{Lua, LuaString, Result, Table, Value};

use super::raise::number;
use super::session::{cut_at_zero, latin};
use crate::resp::{Protocol, Reply};

/// Tables in tables are written so deep; there Redis' stack of Lua values is full.
const MAX_DEPTH: usize = 7997;

/// For whom a reply is written.
#[derive(Clone, Copy, Debug)]
pub struct ReplyForm {
    /// What the client speaks.
    pub client: Protocol,
    /// What the script chose (`redis.setresp`).
    pub script: Protocol,
}

/// The table of an error: `err`, and a mark that statistics have it already.
pub fn error_table(lua: &Lua, err: &[u8], is_counted: bool) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(err)?)?;
    if is_counted {
        table.raw_set("ignore_error_stats_update", true)?;
    }
    Ok(table)
}

/// The `err` of an error's text: `-CODE text` without the dash, anything else behind a generic code.
pub fn error_text(text: &[u8]) -> Vec<u8> {
    let Some(text) = text.strip_prefix(b"-") else { return [b"ERR ", trimmed(text)].concat() };
    match text.iter().position(|&byte| byte == b' ') {
        None => [b"ERR ", trimmed(text)].concat(),
        Some(space) => [&text[..space], b" ", trimmed(&text[space + 1..])].concat(),
    }
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] | [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

/// Reads a reply of the server's own.
pub fn read_reply(lua: &Lua, reply: &[u8]) -> Result<Value> {
    Reader { lua, rest: reply }.value()
}

struct Reader<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> &'a [u8] {
        let end = self.rest.windows(2).position(|two| two == b"\r\n").unwrap_or(self.rest.len());
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 2..).unwrap_or_default();
        line
    }

    fn bytes(&mut self, len: i64) -> &'a [u8] {
        let len = usize::try_from(len).unwrap_or(0).min(self.rest.len());
        let bytes = &self.rest[..len];
        self.rest = self.rest.get(len + 2..).unwrap_or_default();
        bytes
    }

    fn named(&self, name: &str, value: impl mlua::IntoLua) -> Result<Value> {
        let table = self.lua.create_table()?;
        table.raw_set(name, value)?;
        Ok(Value::Table(table))
    }

    fn value(&mut self) -> Result<Value> {
        let line = self.line();
        let Some((&mark, text)) = line.split_first() else { return Ok(Value::Nil) };
        let int = || std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        Ok(match mark {
            b':' => Value::Number(int() as f64),
            b'+' => self.named("ok", self.lua.create_string(text)?)?,
            b'-' => Value::Table(error_table(self.lua, &error_text(line), true)?),
            b'$' | b'*' if int() < 0 => Value::Boolean(false),
            b'$' => Value::String(self.lua.create_string(self.bytes(int()))?),
            b'*' | b'>' => {
                let table = self.lua.create_table()?;
                for index in 1..=int() {
                    table.raw_set(index, self.value()?)?;
                }
                Value::Table(table)
            }
            b'%' => {
                let table = self.lua.create_table()?;
                for _ in 0..int() {
                    let (key, value) = (self.value()?, self.value()?);
                    table.raw_set(key, value)?;
                }
                self.named("map", table)?
            }
            b'~' => {
                let table = self.lua.create_table()?;
                for _ in 0..int() {
                    table.raw_set(self.value()?, true)?;
                }
                self.named("set", table)?
            }
            b'|' => {
                // Scripts do not see attributes.
                for _ in 0..int().saturating_mul(2) {
                    self.value()?;
                }
                self.value()?
            }
            b'#' => Value::Boolean(text == b"t"),
            b',' => {
                let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
                self.named("double", number.unwrap_or_default())?
            }
            b'(' => self.named("big_number", self.lua.create_string(text)?)?,
            b'=' => {
                let bytes = self.bytes(int());
                let inner = self.lua.create_table()?;
                inner.raw_set("string", self.lua.create_string(bytes.get(4..).unwrap_or_default())?)?;
                inner.raw_set("format", self.lua.create_string(bytes.get(..3).unwrap_or_default())?)?;
                self.named("verbatim_string", inner)?
            }
            _ => Value::Nil,
        })
    }
}

/// Writes what a script returned; gives the errors in it that statistics do not have yet.
pub fn write_reply(out: &mut Vec<u8>, value: &Value, form: ReplyForm) -> Vec<String> {
    let mut writer = Writer { reply: Reply::new(out, form.client), form, errors: Vec::new() };
    writer.value(value, 0);
    writer.errors
}

struct Writer<'a> {
    reply: Reply<'a>,
    form: ReplyForm,
    errors: Vec<String>,
}

impl Writer<'_> {
    /// What was fetched from a table. Nothing here calls into scripts: it fails when the stack or memory is at its end,
    /// and the reply must be whole then too.
    fn fetched(&mut self, value: Result<Value>, depth: usize) {
        match value {
            Ok(value) if depth < MAX_DEPTH => self.value(&value, depth),
            _ => self.reply.error("ERR reached lua stack limit"),
        }
    }

    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(string) => self.reply.bulk(&string.as_bytes()),
            Value::Boolean(is) if self.form.script == Protocol::Resp2 => {
                if *is {
                    self.reply.int(1);
                } else {
                    self.reply.null();
                }
            }
            Value::Boolean(is) if self.form.client == Protocol::Resp2 => self.reply.int(i64::from(*is)),
            Value::Boolean(is) => {
                self.reply.buffer().extend_from_slice(if *is { b"#t\r\n" } else { b"#f\r\n" });
            }
            Value::Integer(_) | Value::Number(_) => self.reply.int(cut(number(value).unwrap_or_default())),
            Value::Table(table) => match self.special(table, depth) {
                Ok(true) => {}
                Ok(false) => self.array(table, depth),
                Err(_) => self.reply.error("ERR reached lua stack limit"),
            },
            _ => self.reply.null(),
        }
    }

    fn array(&mut self, table: &Table, depth: usize) {
        let is_there = |index: usize| table.raw_get::<Value>(index).is_ok_and(|value| !value.is_nil());
        let mut len = 0;
        while is_there(len + 1) {
            len += 1;
        }
        self.reply.array(len);
        for index in 1..=len {
            self.fetched(table.raw_get(index), depth + 1);
        }
    }

    /// A table that stands for something else than an array; false if it does not.
    fn special(&mut self, table: &Table, depth: usize) -> Result<bool> {
        if let Value::String(_) = table.raw_get("err")? {
            let err: LuaString = table.raw_get("err")?;
            let err = latin(cut_at_zero(&err.as_bytes()));
            let err = err.trim_matches(['\r', '\n']);
            self.reply.error(err);
            if table.raw_get::<Value>("ignore_error_stats_update")? != Value::Boolean(true) {
                self.errors.push(err.to_owned());
            }
            return Ok(true);
        }
        if let Value::String(ok) = table.raw_get("ok")? {
            let out = self.reply.buffer();
            out.push(b'+');
            out.extend(cut_at_zero(&ok.as_bytes()).iter().map(|&byte| one_line(byte)));
            out.extend_from_slice(b"\r\n");
            return Ok(true);
        }
        let double: Value = table.raw_get("double")?;
        if let Some(double) = number(&double) {
            self.reply.double(double);
            return Ok(true);
        }
        if let Value::String(big) = table.raw_get("big_number")? {
            let big: Vec<u8> = big.as_bytes().iter().map(|&byte| one_line(byte)).collect();
            match self.form.client {
                Protocol::Resp2 => self.reply.bulk(&big),
                Protocol::Resp3 => {
                    let out = self.reply.buffer();
                    out.push(b'(');
                    out.extend_from_slice(&big);
                    out.extend_from_slice(b"\r\n");
                }
            }
            return Ok(true);
        }
        if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
            && let (Value::String(format), Value::String(string)) =
                (verbatim.raw_get("format")?, verbatim.raw_get("string")?)
        {
            self.verbatim(cut_at_zero(&format.as_bytes()), &string.as_bytes());
            return Ok(true);
        }
        if let Value::Table(map) = table.raw_get("map")? {
            self.reply.map(map.pairs::<Value, Value>().count());
            for pair in map.pairs::<Value, Value>() {
                let (key, value) = pair.map_or_else(
                    |error| (Err(error.clone()), Err(error)),
                    |(key, value)| (Ok(key), Ok(value)),
                );
                self.fetched(key, depth + 4);
                self.fetched(value, depth + 3);
            }
            return Ok(true);
        }
        if let Value::Table(set) = table.raw_get("set")? {
            self.reply.set(set.pairs::<Value, Value>().count());
            for pair in set.pairs::<Value, Value>() {
                self.fetched(pair.map(|(key, _)| key), depth + 3);
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// A string with a format of three letters.
    fn verbatim(&mut self, format: &[u8], string: &[u8]) {
        if self.form.client == Protocol::Resp2 {
            return self.reply.bulk(string);
        }
        let out = self.reply.buffer();
        out.extend_from_slice(format!("={}\r\n", string.len() + 4).as_bytes());
        out.extend((0..3).map(|index| format.get(index).copied().unwrap_or(b' ')));
        out.push(b':');
        out.extend_from_slice(string);
        out.extend_from_slice(b"\r\n");
    }
}

const fn one_line(byte: u8) -> u8 {
    if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }
}

/// A number as an integer, as C on the common processors cuts it: what does not fit is the smallest one.
pub fn cut(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}
