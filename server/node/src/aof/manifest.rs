//! The manifest: which files make up the append-only file, and in which order.

use crate::words;

/// What `appendfilename` and `appenddirname` say; all other names follow from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AofNames {
    /// `appenddirname`
    pub dir: String,
    /// `appendfilename`
    pub file: String,
}

impl Default for AofNames {
    fn default() -> Self {
        Self { dir: "appendonlydir".into(), file: "appendonly.aof".into() }
    }
}

impl AofNames {
    /// The manifest's path, relative to the data directory.
    pub fn manifest(&self) -> String {
        self.path(&format!("{}.manifest", self.file))
    }

    /// The path of a file that the manifest names.
    pub fn path(&self, name: &str) -> String {
        [&self.dir, "/", name].concat()
    }

    /// A new base file, in RDB form or made of commands.
    pub fn base(&self, seq: u64, as_commands: bool) -> AofFile {
        let form = if as_commands { "aof" } else { "rdb" };
        AofFile { name: format!("{}.{seq}.base.{form}", self.file), seq }
    }

    /// A new incremental file.
    pub fn incremental(&self, seq: u64) -> AofFile {
        AofFile { name: format!("{}.{seq}.incr.aof", self.file), seq }
    }
}

/// One file of the AOF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AofFile {
    /// Its name within the directory.
    pub name: String,
    /// Its number among files of its kind.
    pub seq: u64,
}

/// All files of the AOF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The dataset at one moment.
    pub base: Option<AofFile>,
    /// The commands since then, oldest file first.
    pub incremental: Vec<AofFile>,
    /// Files that are of no more use and may still be there.
    pub history: Vec<AofFile>,
}

/// Why a manifest cannot be used. The file was damaged or edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A type that is none of the three.
    #[error("Unknown AOF file type (line {line})")]
    UnknownType {
        /// Counted from 1.
        line: usize,
    },
    /// A line of more than 1024 bytes.
    #[error("The AOF manifest file contains too long line (line {line})")]
    TooLong {
        /// Counted from 1.
        line: usize,
    },
    /// A line that is not `file NAME seq N type b|h|i`.
    #[error("Invalid AOF manifest file format (line {line})")]
    Format {
        /// Counted from 1.
        line: usize,
    },
    /// A name with a slash.
    #[error("File can't be a path, just a filename (line {line})")]
    Path {
        /// Counted from 1.
        line: usize,
    },
    /// Two base files.
    #[error("Found duplicate base file information (line {line})")]
    DuplicateBase {
        /// Counted from 1.
        line: usize,
    },
    /// Incremental files out of order.
    #[error("Found a non-monotonic sequence number (line {line})")]
    Order {
        /// Counted from 1.
        line: usize,
    },
    /// No line at all.
    #[error("Found an empty AOF manifest")]
    Empty,
}

/// Redis' longest line of a manifest.
const MAX_LINE_BYTES: usize = 1024;

impl Manifest {
    /// Reads a manifest's text.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let mut manifest = Self::default();
        let mut seen = false;
        let lines = text.split(|&byte| byte == b'\n').count();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let number = index + 1;
            if line.starts_with(b"#") || line.is_empty() && index + 1 == lines {
                continue;
            }
            if line.len() > MAX_LINE_BYTES {
                return Err(ManifestError::TooLong { line: number });
            }
            seen = true;
            let words = words::split_text(line).ok_or(ManifestError::Format { line: number })?;
            let (file, kind) = parse_line(&words).ok_or(ManifestError::Format { line: number })?;
            if file.name.contains('/') {
                return Err(ManifestError::Path { line: number });
            }
            // Found by fuzzing: quoted, a name of control characters is longer than it was, and a manifest with it would
            // be written that nobody reads again.
            if written(&file, kind).len() > MAX_LINE_BYTES {
                return Err(ManifestError::TooLong { line: number });
            }
            match kind {
                'b' if manifest.base.is_some() => return Err(ManifestError::DuplicateBase { line: number }),
                'b' => manifest.base = Some(file),
                'h' => manifest.history.push(file),
                'i' => {
                    if manifest.incremental.last().is_some_and(|last| last.seq >= file.seq) {
                        return Err(ManifestError::Order { line: number });
                    }
                    manifest.incremental.push(file);
                }
                _ => return Err(ManifestError::UnknownType { line: number }),
            }
        }
        if seen { Ok(manifest) } else { Err(ManifestError::Empty) }
    }

    /// The manifest as text: base, history, incremental files, as Redis orders them.
    pub fn to_text(&self) -> String {
        let base = self.base.iter().map(|file| (file, 'b'));
        let history = self.history.iter().map(|file| (file, 'h'));
        let incremental = self.incremental.iter().map(|file| (file, 'i'));
        let mut text = String::new();
        for (file, kind) in base.chain(history).chain(incremental) {
            text.push_str(&written(file, kind));
            text.push('\n');
        }
        text
    }
}

/// A file's line.
fn written(file: &AofFile, kind: char) -> String {
    format!("file {} seq {} type {kind}", quoted(&file.name), file.seq)
}

/// Pairs of key and value, in any order; unknown keys are passed over.
fn parse_line(words: &[String]) -> Option<(AofFile, char)> {
    let (mut name, mut seq, mut kind) = (None, None, None);
    for pair in words.chunks(2) {
        let [key, value] = pair else { return None };
        match key.as_str() {
            "file" => name = Some(value.clone()),
            "seq" => seq = value.parse().ok(),
            "type" => kind = Some(value.as_str()),
            // Of a later version: this one does without.
            _ => {}
        }
    }
    let kind = kind?.chars().next()?;
    Some((AofFile { name: name?, seq: seq? }, kind))
}

/// A name as Redis writes it: plain if it can be, else quoted.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\'' && c != '\\';
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    words::quoted(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a redis-server 7.0.15 wrote.
    const REAL: &str =
        "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n";

    #[test]
    fn reads_and_writes_what_a_real_server_wrote() {
        let manifest = Manifest::parse(REAL.as_bytes()).unwrap();
        let names = AofNames::default();
        assert_eq!(manifest.base, Some(names.base(2, false)));
        assert_eq!(manifest.incremental, [names.incremental(2)]);
        assert_eq!(manifest.to_text(), REAL);
    }

    #[test]
    fn refuses_what_redis_refuses() {
        let line = "file a seq 1 type";
        for (text, error) in [
            (String::new(), ManifestError::Empty),
            (format!("{line} x\n"), ManifestError::UnknownType { line: 1 }),
            (format!("{line} b\n\n"), ManifestError::Format { line: 2 }),
            (format!("file {} seq 1 type b\n", "a".repeat(1100)), ManifestError::TooLong { line: 1 }),
            ("file a seq 1\n".into(), ManifestError::Format { line: 1 }),
            ("file ../a seq 1 type b\n".into(), ManifestError::Path { line: 1 }),
            (format!("# note\n{line} b\n{line} b\n"), ManifestError::DuplicateBase { line: 3 }),
            (format!("{line} i\n{line} i\n"), ManifestError::Order { line: 2 }),
        ] {
            assert_eq!(Manifest::parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in "[^/\n]{1,20}", seq: u64) {
            let manifest = Manifest { base: Some(AofFile { name, seq }), ..Manifest::default() };
            prop_assert_eq!(Manifest::parse(manifest.to_text().as_bytes()), Ok(manifest));
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&text);
        }
    }
}
