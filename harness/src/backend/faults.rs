//! What faults ask of a world beside signals and links: files of a dead node, disks that take no more, clocks that err.

use std::fmt;

use rand::Rng;
use slotstorm_checker::record::{Action, FaultPhase, FaultStep, KeptVote};

/// Who a node is, and what it knows of the others.
pub const CONFIG: &str = "nodes.conf";

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

    /// How the names of such files end.
    pub const fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Config => &[CONFIG],
            Self::Aof => &[".incr.aof", "appendonly.aof"],
            Self::Rdb => &[".rdb"],
        }
    }
}

impl Damage {
    /// Does it to the bytes of the file `name`; says what was done, or why nothing could be.
    pub fn spoil(self, name: &str, bytes: &mut Vec<u8>, rng: &mut impl Rng) -> Result<String, String> {
        let len = bytes.len();
        if len == 0 {
            return Err(format!("{name} is empty"));
        }
        match self {
            Self::RollBackConfig => Err(format!("{name} is replaced, not spoilt")),
            Self::Truncate { permille, .. } => {
                let gone = (len * usize::from(permille) / 1000).clamp(1, len);
                bytes.truncate(len - gone);
                Ok(format!("{name}: the last {gone} of {len} bytes cut off"))
            }
            Self::Corrupt { bytes: flips, .. } => {
                let tail = (len as u64 / 10).max(1);
                for _ in 0..flips {
                    let at = len - 1 - rng.random_range(0..tail) as usize;
                    bytes[at] ^= rng.random_range(1..=255u8);
                }
                Ok(format!("{name}: {flips} of its last {tail} bytes flipped"))
            }
        }
    }
}

/// What going from one nodes.conf back to an older one means, or why it would mean nothing.
pub fn rollback(now: &[u8], old: &[u8]) -> Result<String, String> {
    if old == now {
        return Err("nodes.conf has not changed since the copy was kept".to_owned());
    }
    Ok(format!("nodes.conf back from ({}) to ({})", vars(now), vars(old)))
}

/// What a node that is started on this nodes.conf knows of its last vote: a server takes a file without the line `vars`
/// (redis#10924), and then it knows of none.
pub fn kept_vote(config: &[u8]) -> KeptVote {
    let text = String::from_utf8_lossy(config);
    let myself =
        |line: &&str| line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|it| it == "myself"));
    let id = text.lines().find(myself).and_then(|line| line.split(' ').next()).unwrap_or_default();
    let vars = vars(config);
    let mut words = vars.split(' ').skip_while(|word| *word != "lastVoteEpoch");
    KeptVote { id: id.to_owned(), epoch: words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0) }
}

/// The line with currentEpoch and lastVoteEpoch.
fn vars(config: &[u8]) -> String {
    let text = String::from_utf8_lossy(config);
    text.lines().find(|line| line.starts_with("vars")).unwrap_or("no vars").to_owned()
}

/// What the record says of a process that ended unasked.
pub fn exited_unasked(node: u16, status: &str) -> FaultStep {
    let name = format!("n{node}");
    FaultStep {
        name: "exited".to_owned(),
        phase: FaultPhase::Start,
        note: format!("{name} ended unasked: {status}"),
        actions: vec![Action::Exited { node: name, status: status.to_owned() }],
        ..FaultStep::default()
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
