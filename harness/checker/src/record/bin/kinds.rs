//! The objects of a `history.bin`, and their operations as records.

use super::BinKind;
use crate::linear::{Bank, Counter, Expiring, Lease, List, Lock, Queue, Register, Session, Set};

impl BinKind for Register {
    const OBJECT: u32 = 1;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Read(value) => (0, value, 0),
            Self::Write(value) => (1, value, 0),
            Self::Cas { from, to } => (2, from, to),
            Self::CasLost { from, seen } => (3, from, seen),
            Self::Swap { to, seen } => (4, to, seen),
            Self::Delete => (5, 0, 0),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        Some(match kind {
            0 => Self::Read(a),
            1 => Self::Write(a),
            2 => Self::Cas { from: a, to: b },
            3 => Self::CasLost { from: a, seen: b },
            4 => Self::Swap { to: a, seen: b },
            5 => Self::Delete,
            _ => return None,
        })
    }
}

impl BinKind for Set {
    const OBJECT: u32 = 2;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Add(element) => (0, element, 0),
            Self::Read { start, len } => (1, start, u64::from(len)),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Add(a)),
            1 => Some(Self::Read { start: a, len: u32::try_from(b).ok()? }),
            _ => None,
        }
    }

    fn elements(self) -> Option<(u64, u64)> {
        match self {
            Self::Add(_) => None,
            Self::Read { start, len } => Some((start, u64::from(len))),
        }
    }
}

impl BinKind for List {
    const OBJECT: u32 = 3;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Append { element, length } => (0, element, u64::from(length)),
            Self::Read { start, len } => (1, start, u64::from(len)),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        let b = u32::try_from(b).ok()?;
        match kind {
            0 => Some(Self::Append { element: a, length: b }),
            1 => Some(Self::Read { start: a, len: b }),
            _ => None,
        }
    }

    fn elements(self) -> Option<(u64, u64)> {
        match self {
            Self::Append { .. } => None,
            Self::Read { start, len } => Some((start, u64::from(len))),
        }
    }
}

impl BinKind for Counter {
    const OBJECT: u32 = 4;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Add { by, reply } => (0, by as u64, reply as u64),
            Self::Get(value) => (1, value as u64, 0),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Add { by: a as i64, reply: b as i64 }),
            1 => Some(Self::Get(a as i64)),
            _ => None,
        }
    }
}

impl BinKind for Queue {
    const OBJECT: u32 = 5;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Enqueue(element) => (0, element, 0),
            Self::Dequeue(element) => (1, element, 0),
            Self::Empty => (2, 0, 0),
        }
    }

    fn decode(kind: u8, a: u64, _b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Enqueue(a)),
            1 => Some(Self::Dequeue(a)),
            2 => Some(Self::Empty),
            _ => None,
        }
    }
}

impl BinKind for Lock {
    const OBJECT: u32 = 6;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Acquire(token) => (0, token, 0),
            Self::Busy(holder) => (1, holder, 0),
            Self::Free => (2, 0, 0),
            Self::Release(token) => (3, token, 0),
            Self::NotHeld(token) => (4, token, 0),
        }
    }

    fn decode(kind: u8, a: u64, _b: u64) -> Option<Self> {
        Some(match kind {
            0 => Self::Acquire(a),
            1 => Self::Busy(a),
            2 => Self::Free,
            3 => Self::Release(a),
            4 => Self::NotHeld(a),
            _ => return None,
        })
    }
}

impl BinKind for Lease {
    const OBJECT: u32 = 7;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Grant { token, ttl_nanos } => (0, token, ttl_nanos),
            Self::Release { token } => (1, token, 0),
            Self::Accepted { token } => (2, token, 0),
            Self::Rejected { token } => (3, token, 0),
        }
    }

    fn decode(kind: u8, token: u64, b: u64) -> Option<Self> {
        Some(match kind {
            0 => Self::Grant { token, ttl_nanos: b },
            1 => Self::Release { token },
            2 => Self::Accepted { token },
            3 => Self::Rejected { token },
            _ => return None,
        })
    }
}

/// The two accounts of a transfer share a word; balances are two's complement.
impl BinKind for Bank {
    const OBJECT: u32 = 8;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Transfer { from, to, amount } => (0, u64::from(from) << 32 | u64::from(to), amount as u64),
            Self::Read { start, accounts } => (1, start, u64::from(accounts)),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Transfer { from: (a >> 32) as u32, to: a as u32, amount: b as i64 }),
            1 => Some(Self::Read { start: a, accounts: u32::try_from(b).ok()? }),
            _ => None,
        }
    }

    fn elements(self) -> Option<(u64, u64)> {
        match self {
            Self::Transfer { .. } => None,
            Self::Read { start, accounts } => Some((start, u64::from(accounts))),
        }
    }
}

impl BinKind for Expiring {
    const OBJECT: u32 = 9;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Read(value) => (0, value, 0),
            Self::Write { value, ttl_nanos } => (1, value, ttl_nanos),
            Self::Delete => (2, 0, 0),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Read(a)),
            1 => Some(Self::Write { value: a, ttl_nanos: b }),
            2 => Some(Self::Delete),
            _ => None,
        }
    }
}

impl BinKind for Session {
    const OBJECT: u32 = 10;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Wrote(version) => (0, version, 0),
            Self::Read(version) => (1, version, 0),
        }
    }

    fn decode(kind: u8, a: u64, _b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Wrote(a)),
            1 => Some(Self::Read(a)),
            _ => None,
        }
    }
}
