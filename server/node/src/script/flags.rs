//! What scripts and functions declare of themselves: `#!lua flags=no-writes,allow-oom`, or the `flags` of a function.

use super::session::latin;
use crate::command::flag;
use crate::words;

/// Flags of a script or function, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags(pub u8);

impl ScriptFlags {
    pub const NO_WRITES: Self = Self(1);
    pub const ALLOW_OOM: Self = Self(1 << 1);
    pub const ALLOW_STALE: Self = Self(1 << 2);
    pub const NO_CLUSTER: Self = Self(1 << 3);
    pub const ALLOW_CROSS_SLOT: Self = Self(1 << 4);
    /// A script without a first line that says so: what it may do is found out when it does it.
    pub const UNDECLARED: Self = Self(1 << 5);

    const NAMES: [(Self, &str); 5] = [
        (Self::NO_WRITES, "no-writes"),
        (Self::ALLOW_OOM, "allow-oom"),
        (Self::ALLOW_STALE, "allow-stale"),
        (Self::NO_CLUSTER, "no-cluster"),
        (Self::ALLOW_CROSS_SLOT, "allow-cross-slot-keys"),
    ];

    /// True if all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flag of this name; functions may write it in capitals.
    pub fn named(name: &[u8], any_case: bool) -> Option<Self> {
        let fits = |known: &str| {
            if any_case { name.eq_ignore_ascii_case(known.as_bytes()) } else { name == known.as_bytes() }
        };
        Self::NAMES.iter().find(|(_, known)| fits(known)).map(|(flag, _)| *flag)
    }

    /// Names of the flags that are set.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| *name).collect()
    }

    /// Flags of the command that runs it: what is declared counts, not what the command might do.
    pub const fn of_command(self, command: u32) -> u32 {
        if self.has(Self::UNDECLARED) {
            return command;
        }
        let mut flags = command & !(flag::STALE | flag::DENYOOM | flag::WRITE | flag::MAY_REPLICATE);
        if !self.has(Self::ALLOW_OOM) && !self.has(Self::NO_WRITES) {
            flags |= flag::DENYOOM;
        }
        if !self.has(Self::NO_WRITES) {
            flags |= flag::WRITE;
        }
        if self.has(Self::ALLOW_STALE) {
            flags |= flag::STALE;
        }
        flags
    }
}

/// The flags of a script's first line, and where its code begins: the end of that line stays, so that lines keep
/// their numbers.
pub fn of_script(body: &[u8]) -> Result<(ScriptFlags, usize), String> {
    if !body.starts_with(b"#!") {
        return Ok((ScriptFlags::UNDECLARED, 0));
    }
    let end = body.iter().position(|&byte| byte == b'\n').ok_or("Invalid script shebang")?;
    let words = words::split(&body[..end]).ok_or("Invalid engine in script shebang")?;
    let (engine, options) = words.split_first().ok_or("Invalid engine in script shebang")?;
    if engine != b"#!lua" {
        return Err(format!("Unexpected engine in script shebang: {}", latin(engine)));
    }
    let mut flags = ScriptFlags::default();
    for word in options {
        let Some(names) = word.strip_prefix(b"flags=") else {
            return Err(format!("Unknown lua shebang option: {}", latin(word)));
        };
        if names.is_empty() {
            continue;
        }
        for name in names.split(|&byte| byte == b',') {
            let known = ScriptFlags::named(name, false);
            flags = flags
                .with(known.ok_or_else(|| format!("Unexpected flag in script shebang: {}", latin(name)))?);
        }
    }
    Ok((flags, end))
}
