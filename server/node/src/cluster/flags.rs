//! Node flags: the bits of bus headers and gossip, and their words in `CLUSTER NODES` and nodes.conf.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of flag bits. Bits that we do not know are carried along, as Redis 7.0 does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeFlags(pub u16);

impl NodeFlags {
    /// Master.
    pub const MASTER: Self = Self(1);
    /// Replica.
    pub const REPLICA: Self = Self(2);
    /// Suspected by me alone.
    pub const PFAIL: Self = Self(4);
    /// Failed by agreement.
    pub const FAIL: Self = Self(8);
    /// Myself.
    pub const MYSELF: Self = Self(16);
    /// Met, not yet known by its own word.
    pub const HANDSHAKE: Self = Self(32);
    /// Its address is not known.
    pub const NOADDR: Self = Self(64);
    /// A MEET is to be sent.
    pub const MEET: Self = Self(128);
    /// A master that has or had replicas: other shards may lend it one.
    pub const MIGRATE_TO: Self = Self(256);
    /// cluster-replica-no-failover is on.
    pub const NOFAILOVER: Self = Self(512);

    /// Words, in the order in which they are printed.
    const WORDS: [(Self, &'static str); 8] = [
        (Self::MYSELF, "myself"),
        (Self::MASTER, "master"),
        (Self::REPLICA, "slave"),
        (Self::PFAIL, "fail?"),
        (Self::FAIL, "fail"),
        (Self::HANDSHAKE, "handshake"),
        (Self::NOADDR, "noaddr"),
        (Self::NOFAILOVER, "nofailover"),
    ];

    /// Is any of these bits set?
    pub const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// Sets or clears bits.
    pub const fn set(&mut self, bits: Self, on: bool) {
        if on {
            self.0 |= bits.0;
        } else {
            self.0 &= !bits.0;
        }
    }

    /// Without these bits.
    #[must_use]
    pub const fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }

    /// Without a role if both are claimed: a node is one or the other, and its next header says which.
    #[must_use]
    pub const fn one_role(self) -> Self {
        if self.any(Self::MASTER) && self.any(Self::REPLICA) {
            Self(self.0 & !(Self::MASTER.0 | Self::REPLICA.0))
        } else {
            self
        }
    }

    /// Appends the comma list.
    pub fn put_words(self, text: &mut Vec<u8>) {
        let before = text.len();
        for (_, word) in Self::WORDS.iter().filter(|(flag, _)| self.any(*flag)) {
            if text.len() > before {
                text.push(b',');
            }
            text.extend_from_slice(word.as_bytes());
        }
        if text.len() == before {
            text.extend_from_slice(b"noflags");
        }
    }

    /// From the comma list of a nodes.conf line; the unknown word if there is one. valkey's words are
    /// accepted.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        for word in list.split(',') {
            let known = Self::WORDS.iter().find(|(_, name)| *name == word).map(|(flag, _)| *flag);
            flags |= match (known, word) {
                (Some(flag), _) => flag,
                (None, "primary") => Self::MASTER,
                (None, "replica") => Self::REPLICA,
                (None, "noflags") => Self::default(),
                (None, _) => return Err(word.to_owned()),
            };
        }
        Ok(flags)
    }
}

impl BitOr for NodeFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for NodeFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for NodeFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        self.put_words(&mut words);
        f.write_str(std::str::from_utf8(&words).unwrap_or_default())
    }
}
