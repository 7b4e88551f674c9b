//! One call of a data command: its arguments, the dataset and the reply, with what every handler needs.

use std::ops::Range;
use std::sync::Arc;

use super::db::Db;
use super::fault::{Fault, NOT_INTEGER, WRONG_TYPE, text};
use super::notify::class;
use crate::io::Now;
use crate::keyspace::hashtable::Hash;
use crate::keyspace::list::List;
use crate::keyspace::number::parse_i64;
use crate::keyspace::set::Set;
use crate::keyspace::stream::Stream;
use crate::keyspace::zset::Zset;
use crate::keyspace::{Element, Env, Value, score};
use crate::resp::{Args, OwnedArgs, Reply};

/// May a command wait for keys that have nothing for it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking<'a> {
    /// No: in a transaction, or told by a master or a file.
    Never,
    /// No, and it is an error to ask for it where that can be told: in a script.
    InScript,
    /// Yes.
    May,
    /// It has waited, and runs again because this key changed; it looks at no other.
    Woken(&'a [u8]),
}

/// A command has nothing to answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The arguments that are the keys to wait for.
    pub keys: Range<usize>,
    /// How long; 0: for ever.
    pub timeout_ms: u64,
    /// The command runs with these arguments when a key has changed, not with those it was called with.
    pub args: Option<OwnedArgs>,
    /// It also wants to know when a key is no more.
    pub minds_absence: bool,
}

/// The call.
#[derive(Debug)]
pub struct Call<'a> {
    /// Both clocks.
    pub now: Now,
    /// The arguments, the command's name first; their number fits the arity.
    pub args: Args<'a>,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// The dataset.
    pub db: &'a mut Db,
    /// Name of the command, as the table has it.
    pub name: &'static str,
    /// `proto-max-bulk-len`.
    pub max_string_bytes: usize,
    /// The node is one of a cluster: keys that are no arguments may be elsewhere.
    pub in_cluster: bool,
    /// The handler said itself what is handed on.
    pub rewritten: bool,
    /// May it wait?
    pub blocking: Blocking<'a>,
    /// It wants to; it has written no reply then.
    pub wait: Option<Wait>,
}

impl<'a> Call<'a> {
    /// The argument at `index`, which must be within the arity.
    pub fn arg(&self, index: usize) -> &'a [u8] {
        self.args.get(index).unwrap_or_default()
    }

    /// The argument at `index` as an integer.
    pub fn int(&self, index: usize) -> Result<i64, Fault> {
        parse_i64(self.arg(index)).ok_or(NOT_INTEGER)
    }

    /// This key was changed; subscribers are told of `event`.
    pub fn changed(&mut self, key: &[u8], class: u16, event: &'static str) {
        self.db.changed(key);
        self.db.notify(class, event, key);
    }

    /// As [`Self::changed`], by taking elements: if they were the last, the key is gone too.
    pub fn shrunk(&mut self, key: &[u8], class: u16, event: &'static str) {
        self.changed(key, class, event);
        if self.db.notifications.wanted != 0 && self.db.keys.get(key).is_none() {
            self.db.notify(class::GENERIC, "del", key);
        }
    }

    /// This key is removed, whatever it held.
    pub fn delete(&mut self, key: &[u8]) {
        self.db.keys.remove(key);
        self.changed(key, class::GENERIC, "del");
    }

    /// Something else than the call itself is handed on (nothing counts too, if this is never called again).
    pub fn propagate(&mut self, args: &[&[u8]]) {
        self.rewritten = true;
        self.db.propagated.push(args.iter());
    }

    /// True if a command that has waited runs again.
    pub const fn is_woken(&self) -> bool {
        matches!(self.blocking, Blocking::Woken(_))
    }

    /// False if the command runs again because of another key than this one.
    pub fn may_try(&self, key: &[u8]) -> bool {
        !matches!(self.blocking, Blocking::Woken(changed) if changed != key)
    }

    /// Has the key a value that `fits`? One of another type is the caller's error, or nothing yet for a command that
    /// has waited.
    pub fn has_or_waits(&mut self, key: &[u8], fits: fn(&Value) -> bool) -> Result<bool, Fault> {
        let woken = self.is_woken();
        match self.db.find_value(key, self.now) {
            None => Ok(false),
            Some(value) if fits(value) => Ok(true),
            Some(_) if woken => Ok(false),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// Nothing is there: waits for these keys, or answers so where it may not wait.
    pub fn wait_for(&mut self, keys: Range<usize>, timeout_ms: u64, answer_nothing: fn(&mut Reply<'a>)) {
        if matches!(self.blocking, Blocking::Never | Blocking::InScript) {
            answer_nothing(&mut self.reply);
        } else {
            self.wait = Some(Wait { keys, timeout_ms, args: None, minds_absence: false });
        }
    }

    /// The argument at `index` as a timeout in seconds; gives milliseconds, 0 for none.
    pub fn timeout_ms(&self, index: usize) -> Result<u64, Fault> {
        let seconds = score::parse(self.arg(index));
        let ms = (seconds.ok_or(text("ERR timeout is not a float or out of range"))? * 1000.0).ceil();
        // What is too great for Redis' integers comes out negative there.
        if ms < 0.0 || ms >= i64::MAX as f64 {
            return Err(text("ERR timeout is negative"));
        }
        if ms > (i64::MAX as u64 - self.now.wall.0) as f64 {
            return Err(text("ERR timeout is out of range"));
        }
        Ok(ms as u64)
    }

    /// The string of a key, for reading.
    pub fn string(&mut self, key: &[u8]) -> Result<Option<Element<'_>>, Fault> {
        match self.db.read(key, self.now) {
            None => Ok(None),
            Some(value) => value.as_string().map(Some).ok_or(WRONG_TYPE),
        }
    }

    /// The list of a key, for reading.
    pub fn list(&mut self, key: &[u8]) -> Result<Option<&List>, Fault> {
        match self.db.read(key, self.now) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The set of a key, for reading.
    pub fn set(&mut self, key: &[u8]) -> Result<Option<&Set>, Fault> {
        match self.db.read(key, self.now) {
            None => Ok(None),
            Some(Value::Set(set)) => Ok(Some(set)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The hash of a key, for reading.
    pub fn hash(&mut self, key: &[u8]) -> Result<Option<&Hash>, Fault> {
        match self.db.read(key, self.now) {
            None => Ok(None),
            Some(Value::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The sorted set of a key, for reading.
    pub fn zset(&mut self, key: &[u8]) -> Result<Option<&Zset>, Fault> {
        match self.db.read(key, self.now) {
            None => Ok(None),
            Some(Value::Zset(zset)) => Ok(Some(zset)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The stream of a key, for reading.
    pub fn stream(&mut self, key: &[u8]) -> Result<Option<&Stream>, Fault> {
        match self.db.read(key, self.now) {
            None => Ok(None),
            Some(Value::Stream(stream)) => Ok(Some(stream)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// Changes the list of a key in place, if there is one.
    pub fn change_list<R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut List) -> R,
    ) -> Result<Option<R>, Fault> {
        match self.db.find_value(key, self.now) {
            None => return Ok(None),
            Some(Value::List(_)) => {}
            Some(_) => return Err(WRONG_TYPE),
        }
        Ok(self.db.keys.update(key, |value, _| as_list(value, change)).flatten())
    }

    /// Changes the set of a key in place, if there is one.
    pub fn change_set<R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Set, Env) -> R,
    ) -> Result<Option<R>, Fault> {
        match self.db.find_value(key, self.now) {
            None => return Ok(None),
            Some(Value::Set(_)) => {}
            Some(_) => return Err(WRONG_TYPE),
        }
        Ok(self.db.keys.update(key, |value, env| as_set(value, env, change)).flatten())
    }

    /// Changes the hash of a key in place, if there is one.
    pub fn change_hash<R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Hash, Env) -> R,
    ) -> Result<Option<R>, Fault> {
        match self.db.find_value(key, self.now) {
            None => return Ok(None),
            Some(Value::Hash(_)) => {}
            Some(_) => return Err(WRONG_TYPE),
        }
        Ok(self.db.keys.update(key, |value, env| as_hash(value, env, change)).flatten())
    }

    /// Changes the sorted set of a key in place, if there is one.
    pub fn change_zset<R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Zset, Env) -> R,
    ) -> Result<Option<R>, Fault> {
        match self.db.find_value(key, self.now) {
            None => return Ok(None),
            Some(Value::Zset(_)) => {}
            Some(_) => return Err(WRONG_TYPE),
        }
        Ok(self.db.keys.update(key, |value, env| as_zset(value, env, change)).flatten())
    }

    /// Changes the sorted set of a key, an empty one if there is none.
    pub fn make_zset<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Zset, Env) -> R) -> Result<R, Fault> {
        if let Some(Value::Zset(_)) | None = self.db.find_value(key, self.now) {
            let fresh = || Value::Zset(Zset::default());
            let wall = self.now.wall;
            let made =
                self.db.keys.update_or_insert(key, fresh, wall, |value, env| as_zset(value, env, change));
            return made.ok_or(WRONG_TYPE);
        }
        Err(WRONG_TYPE)
    }

    /// Changes the list of a key, an empty one if there is none.
    pub fn make_list<R>(&mut self, key: &[u8], change: impl FnOnce(&mut List) -> R) -> Result<R, Fault> {
        if let Some(Value::List(_)) | None = self.db.find_value(key, self.now) {
            let fresh = || Value::List(Arc::default());
            let made =
                self.db.keys.update_or_insert(key, fresh, self.now.wall, |value, _| as_list(value, change));
            return made.ok_or(WRONG_TYPE);
        }
        Err(WRONG_TYPE)
    }

    /// Changes the set of a key, an empty one if there is none.
    pub fn make_set<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Set, Env) -> R) -> Result<R, Fault> {
        if let Some(Value::Set(_)) | None = self.db.find_value(key, self.now) {
            let fresh = || Value::Set(Set::default());
            let wall = self.now.wall;
            let made =
                self.db.keys.update_or_insert(key, fresh, wall, |value, env| as_set(value, env, change));
            return made.ok_or(WRONG_TYPE);
        }
        Err(WRONG_TYPE)
    }

    /// Changes the hash of a key, an empty one if there is none.
    pub fn make_hash<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Hash, Env) -> R) -> Result<R, Fault> {
        if let Some(Value::Hash(_)) | None = self.db.find_value(key, self.now) {
            let fresh = || Value::Hash(Hash::default());
            let wall = self.now.wall;
            let made =
                self.db.keys.update_or_insert(key, fresh, wall, |value, env| as_hash(value, env, change));
            return made.ok_or(WRONG_TYPE);
        }
        Err(WRONG_TYPE)
    }
}

fn as_list<R>(value: &mut Value, change: impl FnOnce(&mut List) -> R) -> Option<R> {
    match value {
        Value::List(list) => Some(change(Arc::make_mut(list))),
        _ => None,
    }
}

fn as_set<R>(value: &mut Value, env: Env, change: impl FnOnce(&mut Set, Env) -> R) -> Option<R> {
    match value {
        Value::Set(set) => Some(change(set, env)),
        _ => None,
    }
}

fn as_zset<R>(value: &mut Value, env: Env, change: impl FnOnce(&mut Zset, Env) -> R) -> Option<R> {
    match value {
        Value::Zset(zset) => Some(change(zset, env)),
        _ => None,
    }
}

fn as_hash<R>(value: &mut Value, env: Env, change: impl FnOnce(&mut Hash, Env) -> R) -> Option<R> {
    match value {
        Value::Hash(hash) => Some(change(hash, env)),
        _ => None,
    }
}

/// True if `arg` is `word`, whatever the case.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// `start` and `end` as Redis' ranges have them (negative: from the end), as a half-open range of `0..len`.
pub fn range(start: i64, end: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let start = if start < 0 { (start + len).max(0) } else { start };
    let end = if end < 0 { end.saturating_add(len) } else { end };
    if start > end || start >= len || end < 0 {
        return (0, 0);
    }
    (start as usize, (end.min(len - 1) + 1) as usize)
}
