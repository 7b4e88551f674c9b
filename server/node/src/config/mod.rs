//! The configuration: one table of directives drives files, the command line and CONFIG GET, SET and REWRITE.
//!
//! [`Config::load`] makes one from text, [`parse_args`] turns a command line into such text. Values are read
//! by [`Key`]: `config.int(Key::ClusterNodeTimeout)`, `config.flag(Key::Appendonly)`,
//! `config.text(Key::Dir)`; an index into an array, so cheap enough for hot paths.

mod args;
mod glob;
mod load;
mod rewrite;
mod set;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use args::{CommandLine, ServeArgs, parse_args};
pub use glob::matches as glob_matches;
pub use load::{IncludedFile, LoadError, Source};
pub use set::SetError;
pub use table::{ACCEPTED, DIRECTIVES, Directive, Flags, HIDDEN, IMMUTABLE, KEYS, Key, NONE, PROTECTED};
pub use value::{Kind, OutputClass, OutputLimit, SavePoint, Value, memory};

use crate::zoo::Zoo;

/// All directives' values.
#[derive(Clone, Debug)]
pub struct Config {
    /// By `Key as usize`.
    values: Vec<Value>,
    /// True once a `save` line was read: more of them add up.
    saves_are_set: bool,
    /// Absolute path of the file that `CONFIG REWRITE` writes, if the server was started with one.
    pub file: Option<String>,
    /// `user` lines: a name and its rules each.
    pub users: Vec<Vec<String>>,
    /// Text of the file that `aclfile` names, read by the shell at start.
    pub acl_text: Option<Vec<u8>>,
    /// What `CONFIG REWRITE` writes behind `user`, a line each: the users of now.
    pub user_lines: Vec<String>,
    /// It is a cluster node only because a `cluster-config-file` was named: see [`Source::standalone_unless_told`].
    pub implies_cluster: bool,
    /// The bug that this node has on purpose: none, unless the shell says so.
    pub zoo: Zoo,
}

impl Default for Config {
    /// redis-server's defaults, except that `port` and the rest may still be set by [`Config::load`].
    fn default() -> Self {
        let read = |key: &Key| default_value(*key);
        Self {
            values: KEYS.iter().map(read).collect(),
            saves_are_set: false,
            file: None,
            users: Vec::new(),
            acl_text: None,
            user_lines: Vec::new(),
            implies_cluster: false,
            zoo: Zoo::default(),
        }
    }
}

/// A directive's value when nobody says otherwise.
fn default_value(key: Key) -> Value {
    let directive = key.directive();
    let blank = Value::Words(Vec::new());
    let words = std::slice::from_ref(&directive.default);
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    match directive.kind.read(directive.name, &words, &blank) {
        Ok(value) => value,
        Err(_) if directive.default.is_empty() => blank,
        Err(error) => unreachable!("the table's default of {} is wrong: {error}", directive.name),
    }
}

impl Config {
    /// The value of a directive in the form its kind has.
    pub fn value(&self, key: Key) -> &Value {
        &self.values[key as usize]
    }

    /// A `yes` or `no` directive.
    ///
    /// # Panics
    /// If the directive is of another kind: a programming error.
    pub fn flag(&self, key: Key) -> bool {
        match self.value(key) {
            Value::Flag(flag) => *flag,
            other => unreachable!("{key:?} is no flag: {other:?}"),
        }
    }

    /// A number, in the unit that the table's doc says; memory is in bytes.
    ///
    /// # Panics
    /// If the directive is of another kind: a programming error.
    pub fn int(&self, key: Key) -> i64 {
        match self.value(key) {
            Value::Int(number) => *number,
            other => unreachable!("{key:?} is no number: {other:?}"),
        }
    }

    /// A number that cannot be negative.
    pub fn uint(&self, key: Key) -> u64 {
        self.int(key).max(0) as u64
    }

    /// A text, or the chosen one of a set of words (in the table's spelling).
    ///
    /// # Panics
    /// If the directive is of another kind: a programming error.
    pub fn text(&self, key: Key) -> &str {
        match self.value(key) {
            Value::Text(text) => text,
            other => unreachable!("{key:?} is no text: {other:?}"),
        }
    }

    /// A text whose empty value means "not set".
    pub fn some_text(&self, key: Key) -> Option<&str> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// A list of words, `bind` say.
    ///
    /// # Panics
    /// If the directive is of another kind: a programming error.
    pub fn words(&self, key: Key) -> &[String] {
        match self.value(key) {
            Value::Words(words) => words,
            other => unreachable!("{key:?} is no list of words: {other:?}"),
        }
    }

    /// When to save an RDB by itself; empty = never.
    pub fn save_points(&self) -> &[SavePoint] {
        match self.value(Key::Save) {
            Value::SavePoints(points) => points,
            other => unreachable!("save is no list of save points: {other:?}"),
        }
    }

    /// The output buffer limit of a class of clients.
    pub fn output_limit(&self, class: OutputClass) -> OutputLimit {
        match self.value(Key::ClientOutputBufferLimit) {
            Value::OutputLimits(limits) => limits[class as usize],
            other => unreachable!("client-output-buffer-limit is no set of limits: {other:?}"),
        }
    }

    /// The port of the cluster bus.
    pub fn bus_port(&self) -> u16 {
        match self.int(Key::ClusterPort) {
            0 => (self.int(Key::Port) + 10_000) as u16,
            port => port as u16,
        }
    }

    /// The value as `CONFIG GET` shows it.
    pub fn shown(&self, key: Key) -> String {
        key.directive().kind.show(self.value(key))
    }

    /// `CONFIG GET`: name and value of each directive whose name or alias one of the patterns matches, each
    /// once, sorted by name. Hidden ones are found by their exact name only.
    pub fn get<P: AsRef<[u8]>>(&self, patterns: &[P]) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for key in KEYS {
            let directive = key.directive();
            for name in std::iter::once(&directive.name).chain(directive.aliases) {
                let wanted = patterns.iter().map(AsRef::as_ref).any(|pattern| {
                    let is_exact = pattern.eq_ignore_ascii_case(name.as_bytes());
                    is_exact || !directive.has(HIDDEN) && glob::matches(pattern, name.as_bytes(), true)
                });
                if wanted {
                    found.push((*name, self.shown(*key)));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Puts a value in place. Some values are bent into the range that makes sense, as Redis does.
    fn put(&mut self, key: Key, value: Value) {
        let value = match (key, value) {
            (Key::Hz, Value::Int(hz)) => Value::Int(hz.clamp(1, 500)),
            (_, value) => value,
        };
        self.values[key as usize] = value;
    }
}
