//! Loading: text of files and of the command line into a [`Config`]. Includes are read by the caller.

use super::table::Key;
use super::{Config, Kind, Value};
use crate::words;

/// How deep files may include each other.
const MAX_INCLUDE_DEPTH: usize = 16;

/// The text to load, in the order in which later wins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// Text of the configuration file, if there is one.
    pub file: &'a str,
    /// Text from standard input, if it was asked for.
    pub stdin: &'a str,
    /// Lines from the command line.
    pub args: &'a str,
    /// As redis-server: `cluster-enabled no` unless the text says otherwise. But where the text names a
    /// `cluster-config-file` (or `cluster-save-config`) and says nothing of `cluster-enabled`, a cluster is meant.
    pub standalone_unless_told: bool,
}

/// A file that an `include` names, read by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncludedFile {
    /// Its path, for error messages.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Why a configuration was refused: the user's mistake, in Redis' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A line is wrong.
    #[error("Reading the configuration file, at line {number}\n>>> '{line}'\n{reason}")]
    Line {
        /// Counted from 1 through the file, standard input, and the command line's lines after it.
        number: usize,
        /// The line, without the space around it.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The values do not go together.
    #[error("{0}")]
    Whole(String),
    /// An included file cannot be read; already a sentence.
    #[error("{0}")]
    Include(String),
}

impl Config {
    /// Makes a configuration: redis-server's defaults, but (unless [`Source::standalone_unless_told`]) with
    /// `cluster-enabled yes`; then each line of `source`. `include` gives the files that an include's pattern stands for.
    ///
    /// # Errors
    /// The first line that is wrong, values that do not go together, or what `include` says.
    pub fn load(
        source: Source<'_>,
        include: &mut dyn FnMut(&str) -> Result<Vec<IncludedFile>, String>,
    ) -> Result<Self, LoadError> {
        let mut config = Self::default();
        config.put(Key::ClusterEnabled, Value::Flag(true));
        let mut text = source.file.to_owned();
        for more in [source.stdin, source.args] {
            if !more.is_empty() {
                text.push('\n');
                text.push_str(more);
            }
        }
        let mut loader = Loader { config: &mut config, include, depth: 0, named: Named::default() };
        loader.text(&text)?;
        let named = loader.named;
        if source.standalone_unless_told && !named.cluster_enabled {
            config.put(Key::ClusterEnabled, Value::Flag(named.cluster_file));
            config.implies_cluster = named.cluster_file;
        }
        config.check_whole()?;
        Ok(config)
    }

    /// What no single line can know.
    fn check_whole(&self) -> Result<(), LoadError> {
        let wrong = |text: &str| Err(LoadError::Whole(text.to_owned()));
        if self.flag(Key::ClusterEnabled) {
            if !self.words(Key::Replicaof).is_empty() {
                return wrong("replicaof directive not allowed in cluster mode");
            }
            if self.int(Key::ClusterPort) == 0 && self.int(Key::Port) > 55_535 {
                return wrong(
                    "Redis port number too high for cluster mode. The cluster bus port is 10000 higher, so the \
                     port must be 55535 or less, or cluster-port must be set.",
                );
            }
        }
        Ok(())
    }
}

struct Loader<'a> {
    config: &'a mut Config,
    include: &'a mut dyn FnMut(&str) -> Result<Vec<IncludedFile>, String>,
    depth: usize,
    named: Named,
}

/// Directives that count by being named at all.
#[derive(Clone, Copy, Default)]
struct Named {
    cluster_enabled: bool,
    cluster_file: bool,
}

impl Loader<'_> {
    fn text(&mut self, text: &str) -> Result<(), LoadError> {
        for (index, line) in text.split('\n').enumerate() {
            let line = line.trim_matches([' ', '\t', '\r', '\n']);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            self.line(line).map_err(|error| match error {
                LineError::Here(reason) => {
                    LoadError::Line { number: index + 1, line: line.to_owned(), reason }
                }
                LineError::Included(error) => error,
            })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), LineError> {
        let words = words::split_text(line).ok_or("Unbalanced quotes in configuration line")?;
        let [name, values @ ..] = words.as_slice() else { return Ok(()) };
        if let Some(key) = Key::by_name(name) {
            match key {
                Key::ClusterEnabled => self.named.cluster_enabled = true,
                Key::ClusterConfigFile | Key::ClusterSaveConfig => self.named.cluster_file = true,
                _ => {}
            }
            return self.config.read_directive(key, values).map_err(LineError::Here);
        }
        match (name.to_ascii_lowercase().as_str(), values) {
            ("include", [pattern]) => self.include(pattern),
            ("user", [user, rules @ ..]) => {
                let known: Vec<&str> = self.config.users.iter().map(|line| line[0].as_str()).collect();
                crate::acl::check_declaration(user, rules, &known)
                    .map_err(|error| LineError::Here(error.to_string()))?;
                self.config.users.push(values.to_vec());
                Ok(())
            }
            ("rename-command" | "loadmodule", [_, ..]) => {
                Err(format!("{name} is not supported by this server").as_str().into())
            }
            (name, [_, ..]) if name.starts_with("tls-") => {
                Err(format!("this server has no TLS: {name} is not supported").as_str().into())
            }
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    fn include(&mut self, pattern: &str) -> Result<(), LineError> {
        if self.depth >= MAX_INCLUDE_DEPTH {
            return Err("too many nested includes: does a file include itself?".into());
        }
        let files =
            (self.include)(pattern).map_err(|error| LineError::Included(LoadError::Include(error)))?;
        self.depth += 1;
        for file in files {
            self.text(&file.text).map_err(LineError::Included)?;
        }
        self.depth -= 1;
        Ok(())
    }
}

enum LineError {
    Here(String),
    Included(LoadError),
}

impl From<&str> for LineError {
    fn from(reason: &str) -> Self {
        Self::Here(reason.to_owned())
    }
}

impl Config {
    /// One line's values: a file may set what `CONFIG SET` may not.
    fn read_directive(&mut self, key: Key, values: &[String]) -> Result<(), String> {
        let directive = key.directive();
        // A save line adds to the save lines before it; the first one replaces the default.
        let mut value = directive.kind.read(directive.name, values, self.value(key))?;
        if let (Kind::SavePoints, Value::SavePoints(more)) = (&directive.kind, &mut value)
            && !more.is_empty()
            && self.saves_are_set
            && let Value::SavePoints(before) = self.value(key)
        {
            let mut all = before.clone();
            all.append(more);
            *more = all;
        }
        self.saves_are_set |= matches!(directive.kind, Kind::SavePoints);
        super::set::check_supported(key, &value)?;
        self.put(key, value);
        Ok(())
    }
}
