//! What faults ask of a world beside signals and links: files of a dead node, disks that take no more, clocks that err.

use std::fmt;

/// Damage to the files of a node that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// nodes.conf goes back to the copy that [`super::World::keep_config`] took.
    RollBackConfig,
    /// The file's last bytes are cut off: so many of a thousand of them, at least one.
    Truncate { file: DataFile, permille: u16 },
    /// So many bytes, spread by seed over the file's last tenth, are flipped.
    Corrupt { file: DataFile, bytes: u16 },
}

/// A file in a node's data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFile {
    /// nodes.conf.
    Config,
    /// The append-only file, its newest part.
    Aof,
    /// The newest snapshot.
    Rdb,
}

impl DataFile {
    /// The word of storm files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Aof => "aof",
            Self::Rdb => "rdb",
        }
    }
}

/// How a node's disk answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disk {
    #[default]
    Sound,
    /// Nothing can be opened for writing, made or renamed in the data directory; what is open can still be written.
    ReadOnly,
    /// No file grows beyond the size that nodes.conf has now.
    Full,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sound => "sound",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
        })
    }
}

/// How a node's wall clock errs, from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClockShift {
    /// Ahead of the host's clock (behind, if negative), in milliseconds.
    pub offset_ms: i64,
    /// Runs so many millionths too fast (too slow, if negative).
    pub drift_ppm: i32,
}
