//! Reads the append-only file at start: manifest, base, incremental files, in that order. A last file that ends
//! within a command or a transaction is cut there, as after any crash, unless `aof-load-truncated` is off. A single
//! file of a Redis before 7.0 is moved into the directory and becomes the base.

use std::collections::VecDeque;

use super::{AofFile, AofNames, DiskQueue, Manifest, ManifestError};
use crate::io::{DiskOp, Effect, LogLevel};
use crate::rdb::{RdbDecoder, RdbError, RdbEvent, RdbKey};
use crate::replication::commands::{Command, CommandBatch, CommandError, CommandParser, selected_by};

/// How an RDB file begins; anything else is commands.
const RDB_SIGNATURE: &[u8] = b"REDIS";

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadWhat {
    /// Everything: the node starts with `appendonly yes`.
    Everything,
    /// The manifest only: the AOF is to be begun anew, and old files must be known.
    ManifestOnly,
}

/// Something to put in the keyspace.
#[derive(Debug)]
pub enum AofItem<'a> {
    /// What follows belongs to the database of this number. Each file begins with 0.
    Database(u32),
    /// A key of a base in RDB form.
    Key(RdbKey),
    /// The code of a library of functions, of a base in RDB form.
    Library(Vec<u8>),
    /// A command to execute, without redirection, reply or propagation. Never SELECT, MULTI or EXEC.
    Command(Command<'a>),
}

/// What was found on disk, for [`super::AofWriter::open`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedAof {
    /// None: there was no AOF.
    pub manifest: Option<Manifest>,
    /// Length of the base file.
    pub base_bytes: u64,
    /// Length of all incremental files, after any cut.
    pub incremental_bytes: u64,
    /// Length of the last incremental file, after any cut.
    pub last_incremental_bytes: u64,
}

/// Why the AOF cannot be loaded; the node must not start (it would serve less than it promised to keep).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AofLoadError {
    /// The manifest is damaged.
    #[error("{name}: {error}")]
    Manifest {
        /// The manifest's path.
        name: String,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// A file that the manifest names is gone.
    #[error("The append log file {0} doesn't exist: No such file or directory")]
    Missing(String),
    /// The base is damaged.
    #[error("Error reading the RDB base file {name}, AOF loading aborted: {error}")]
    Rdb {
        /// The file.
        name: String,
        /// What is wrong with it.
        error: RdbError,
    },
    /// Bytes that are no command.
    #[error(
        "Bad file format reading the append only file {name}: make a backup of your AOF file, then use \
         ./redis-check-aof --fix <filename.manifest> (offset {offset}: {error})"
    )]
    Command {
        /// The file.
        name: String,
        /// Offset of the bad command.
        offset: u64,
        /// What is wrong with it.
        error: CommandError,
    },
    /// The last file ends within a command or a transaction, and `aof-load-truncated` is off.
    #[error(
        "Unexpected end of file reading the append only file {0}. You can: 1) Make a backup of your AOF file, then use \
         ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' \
         configuration option to yes and restart the server."
    )]
    Truncated(String),
    /// A file before the last one ends within a command.
    #[error("Fatal error: the truncated file is not the last file ({0})")]
    TruncatedBeforeLast(String),
    /// A SELECT that names no database.
    #[error("The AOF file {0} has a SELECT of no database")]
    NoDatabase(String),
}

/// The loader: begin with [`AofLoader::new`], then give it every `FileChunk` for which [`AofLoader::wants`].
#[derive(Debug)]
pub struct AofLoader {
    names: AofNames,
    what: LoadWhat,
    /// `aof-load-truncated`
    load_truncated: bool,
    stage: Stage,
    loaded: LoadedAof,
}

#[derive(Debug)]
enum Stage {
    Manifest {
        text: Vec<u8>,
    },
    /// There is no manifest, or one of a move that did not end; is there an old-style file?
    OldStyle {
        /// What is wrong if there is none.
        otherwise: Option<AofLoadError>,
    },
    Files {
        current: Box<LoadingFile>,
        rest: VecDeque<String>,
    },
    Done,
}

#[derive(Debug)]
struct LoadingFile {
    path: String,
    is_base: bool,
    /// Bytes until it is known what the file is.
    head: Vec<u8>,
    form: Option<Form>,
    received_bytes: u64,
    /// Everything before this offset is complete commands outside of transactions.
    valid_bytes: u64,
    transaction: Option<CommandBatch>,
}

#[derive(Debug)]
enum Form {
    Rdb(Box<RdbDecoder>),
    Commands(CommandParser),
}

impl AofLoader {
    /// Begins by asking for the manifest.
    pub fn new(names: AofNames, what: LoadWhat, load_truncated: bool, disk: &mut DiskQueue<'_>) -> Self {
        disk.effect(Effect::Read { name: names.manifest() });
        Self {
            names,
            what,
            load_truncated,
            stage: Stage::Manifest { text: Vec::new() },
            loaded: LoadedAof::default(),
        }
    }

    /// True if a `FileChunk` of this name is the one waited for.
    pub fn wants(&self, name: &str) -> bool {
        match &self.stage {
            Stage::Manifest { .. } => name == self.names.manifest(),
            Stage::OldStyle { .. } => name == self.names.file,
            Stage::Files { current, .. } => name == current.path,
            Stage::Done => false,
        }
    }

    /// The next piece of the file that is being read. Work is bounded by the piece. Gives what was found once
    /// everything is loaded; a cut, where one is needed, has been queued by then.
    pub fn file_chunk(
        &mut self,
        bytes: &[u8],
        eof: bool,
        missing: bool,
        disk: &mut DiskQueue<'_>,
        sink: &mut dyn FnMut(AofItem<'_>),
    ) -> Result<Option<LoadedAof>, AofLoadError> {
        match &mut self.stage {
            Stage::Manifest { .. } if missing => {
                self.look_for_old_style(None, disk);
                Ok(None)
            }
            Stage::Manifest { text } => {
                text.extend_from_slice(bytes);
                if eof { self.begin_files(disk) } else { Ok(None) }
            }
            Stage::OldStyle { otherwise } if missing => match otherwise.take() {
                None => Ok(Some(self.finish())),
                Some(error) => Err(error),
            },
            Stage::OldStyle { .. } if !eof => Ok(None),
            Stage::OldStyle { .. } => Ok(self.upgrade(disk)),
            Stage::Files { current, rest } if missing => {
                let error = AofLoadError::Missing(current.name().to_owned());
                if current.is_base && rest.is_empty() && current.name() == self.names.file {
                    self.look_for_old_style(Some(error), disk);
                    return Ok(None);
                }
                Err(error)
            }
            Stage::Files { current, rest } => {
                current.feed(bytes, sink)?;
                if !eof {
                    return Ok(None);
                }
                let valid_bytes = current.finish(rest.is_empty(), self.load_truncated, disk)?;
                if current.is_base {
                    self.loaded.base_bytes = valid_bytes;
                } else {
                    self.loaded.incremental_bytes += valid_bytes;
                    self.loaded.last_incremental_bytes = valid_bytes;
                }
                Ok(self.next_file(disk))
            }
            Stage::Done => Ok(None),
        }
    }

    fn look_for_old_style(&mut self, otherwise: Option<AofLoadError>, disk: &mut DiskQueue<'_>) {
        self.stage = Stage::OldStyle { otherwise };
        disk.effect(Effect::Read { name: self.names.file.clone() });
    }

    /// The file of a Redis before 7.0 becomes the base: first the manifest that names it, then the move.
    fn upgrade(&mut self, disk: &mut DiskQueue<'_>) -> Option<LoadedAof> {
        let name = self.names.file.clone();
        let base = AofFile { name: name.clone(), seq: 1 };
        let manifest = Manifest { base: Some(base), ..Manifest::default() };
        let bytes = manifest.to_text().into_bytes();
        disk.op(DiskOp::Replace { name: self.names.manifest(), bytes, sync: true });
        let path = self.names.path(&name);
        disk.op(DiskOp::Rename { from: name.clone(), to: path.clone() });
        let text = format!(
            "Successfully migrated an old-style AOF file ({name}) into the AOF directory ({}).",
            self.names.dir
        );
        disk.effect(Effect::Log { level: LogLevel::Notice, text });
        self.loaded.manifest = Some(manifest);
        if self.what == LoadWhat::ManifestOnly {
            return Some(self.finish());
        }
        disk.effect(Effect::Read { name: path.clone() });
        self.stage = Stage::Files { current: Box::new(LoadingFile::new(path, true)), rest: VecDeque::new() };
        None
    }

    fn begin_files(&mut self, disk: &mut DiskQueue<'_>) -> Result<Option<LoadedAof>, AofLoadError> {
        let Stage::Manifest { text } = &self.stage else { return Ok(None) };
        let manifest = Manifest::parse(text)
            .map_err(|error| AofLoadError::Manifest { name: self.names.manifest(), error })?;
        let files = manifest.base.iter().map(|file| (file, true));
        let files = files.chain(manifest.incremental.iter().map(|file| (file, false)));
        let mut files = files.map(|(file, is_base)| (self.names.path(&file.name), is_base));
        let first = files.next();
        let rest = files.map(|(path, _)| path).collect();
        self.loaded.manifest = Some(manifest.clone());
        match first {
            Some((path, is_base)) if self.what == LoadWhat::Everything => {
                disk.effect(Effect::Read { name: path.clone() });
                self.stage = Stage::Files { current: Box::new(LoadingFile::new(path, is_base)), rest };
                Ok(None)
            }
            _ => Ok(Some(self.finish())),
        }
    }

    fn next_file(&mut self, disk: &mut DiskQueue<'_>) -> Option<LoadedAof> {
        if let Stage::Files { current, rest } = &mut self.stage
            && let Some(path) = rest.pop_front()
        {
            disk.effect(Effect::Read { name: path.clone() });
            **current = LoadingFile::new(path, false);
            return None;
        }
        Some(self.finish())
    }

    fn finish(&mut self) -> LoadedAof {
        self.stage = Stage::Done;
        std::mem::take(&mut self.loaded)
    }
}

impl LoadingFile {
    const fn new(path: String, is_base: bool) -> Self {
        Self {
            path,
            is_base,
            head: Vec::new(),
            form: None,
            received_bytes: 0,
            valid_bytes: 0,
            transaction: None,
        }
    }

    /// Without the directory.
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(AofItem<'_>)) -> Result<(), AofLoadError> {
        if self.received_bytes == 0 && self.head.is_empty() && self.form.is_none() {
            sink(AofItem::Database(0));
        }
        self.received_bytes += bytes.len() as u64;
        match &mut self.form {
            Some(Form::Rdb(_)) => self.feed_rdb(bytes, sink),
            Some(Form::Commands(_)) => self.feed_commands(bytes, sink),
            None => {
                self.head.extend_from_slice(bytes);
                let known = self.head.len().min(RDB_SIGNATURE.len());
                if self.head[..known] != RDB_SIGNATURE[..known] {
                    self.form = Some(Form::Commands(CommandParser::for_aof()));
                } else if known == RDB_SIGNATURE.len() {
                    self.form = Some(Form::Rdb(Box::default()));
                } else {
                    return Ok(());
                }
                let head = std::mem::take(&mut self.head);
                self.received_bytes -= head.len() as u64;
                self.feed(&head, sink)
            }
        }
    }

    fn feed_rdb(&mut self, bytes: &[u8], sink: &mut dyn FnMut(AofItem<'_>)) -> Result<(), AofLoadError> {
        let Some(Form::Rdb(decoder)) = &mut self.form else { return Ok(()) };
        let mut no_database = false;
        let fed = decoder.feed(bytes, &mut |event| match event {
            RdbEvent::Key(key) => sink(AofItem::Key(key)),
            RdbEvent::SelectDb(db) => match u32::try_from(db) {
                Ok(db) => sink(AofItem::Database(db)),
                Err(_) => no_database = true,
            },
            RdbEvent::Function(code) => sink(AofItem::Library(code)),
            RdbEvent::Aux { .. } | RdbEvent::ResizeDb { .. } | RdbEvent::End => {}
        });
        fed.map_err(|error| AofLoadError::Rdb { name: self.path.clone(), error })?;
        if no_database {
            return Err(AofLoadError::NoDatabase(self.path.clone()));
        }
        if decoder.is_done() {
            self.valid_bytes = decoder.parsed_bytes();
            let rest = decoder.take_rest();
            sink(AofItem::Database(0));
            self.form = Some(Form::Commands(CommandParser::for_aof()));
            return self.feed_commands(&rest, sink);
        }
        Ok(())
    }

    fn feed_commands(&mut self, bytes: &[u8], sink: &mut dyn FnMut(AofItem<'_>)) -> Result<(), AofLoadError> {
        let Some(Form::Commands(parser)) = &mut self.form else { return Ok(()) };
        parser.feed(bytes);
        // Counts commands of a transaction too, which `valid_bytes` does only at its end.
        let mut parsed = self.valid_bytes
            + self.transaction.as_ref().map_or(0, |transaction| transaction.raw().len() as u64);
        loop {
            let command = match parser.next_command() {
                Ok(Some(command)) => command,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let name = self.path.clone();
                    return Err(AofLoadError::Command { name, offset: parsed, error });
                }
            };
            parsed += command.raw.len() as u64;
            if command.is("SELECT") {
                let Some(db) = selected_by(command) else {
                    return Err(AofLoadError::NoDatabase(self.path.clone()));
                };
                if self.transaction.is_none() {
                    sink(AofItem::Database(db));
                    self.valid_bytes = parsed;
                    continue;
                }
            }
            if let Some(transaction) = &mut self.transaction {
                transaction.push(command);
                if command.is("EXEC") {
                    let inside = |command: &Command<'_>| !command.is("MULTI") && !command.is("EXEC");
                    for command in transaction.iter().filter(inside) {
                        sink(selected_by(command).map_or(AofItem::Command(command), AofItem::Database));
                    }
                    self.transaction = None;
                    self.valid_bytes = parsed;
                }
            } else if command.is("MULTI") {
                let mut transaction = CommandBatch::default();
                transaction.push(command);
                self.transaction = Some(transaction);
            } else {
                sink(AofItem::Command(command));
                self.valid_bytes = parsed;
            }
        }
    }

    /// The file has ended; gives how much of it stays.
    fn finish(
        &mut self,
        is_last: bool,
        load_truncated: bool,
        disk: &mut DiskQueue<'_>,
    ) -> Result<u64, AofLoadError> {
        if let Some(Form::Rdb(_)) = self.form {
            let error = RdbError::Corrupt("it ends early");
            return Err(AofLoadError::Rdb { name: self.path.clone(), error });
        }
        if self.valid_bytes < self.received_bytes {
            if self.transaction.is_some() {
                let text = format!("Revert incomplete MULTI/EXEC transaction in AOF file {}", self.path);
                disk.effect(Effect::Log { level: LogLevel::Warning, text });
            }
            if !load_truncated {
                return Err(AofLoadError::Truncated(self.path.clone()));
            }
            if !is_last {
                return Err(AofLoadError::TruncatedBeforeLast(self.path.clone()));
            }
            let Self { path, valid_bytes: len, .. } = &*self;
            for text in [
                format!("!!! Warning: short read while loading the AOF file {path}!!!"),
                format!("!!! Truncating the AOF {path} at offset {len} !!!"),
                format!("AOF {path} loaded anyway because aof-load-truncated is enabled"),
            ] {
                disk.effect(Effect::Log { level: LogLevel::Warning, text });
            }
            disk.op(DiskOp::Truncate { name: path.clone(), len: *len });
        }
        Ok(self.valid_bytes)
    }
}
