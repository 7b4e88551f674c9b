//! A run's operations as the objects that they acted on, in the shapes that the `linear` and `txn` rooms take.

mod accounts;
mod counters;
mod growing;
mod leases;
mod queues;
mod registers;
mod txns;

use std::collections::BTreeMap;

use super::{Datum, KeyId, OpKind, Operation, Outcome, Record};
use crate::linear::{NEVER, NIL, Op, Status};

pub use accounts::Accounts;
pub use txns::Txns;

/// What a key (or the keys of a slot that one operation touches) holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A set that only grows.
    Set,
    /// A list that only grows.
    List,
    Register,
    /// A register whose values have a time to live.
    ExpiringRegister,
    /// Several keys that are written and read together: one register, of which no half may be seen.
    KeysTogether,
    Counter,
    /// The same counter as replicas show it.
    CounterAtReplicas,
    Queue,
    /// A lock with fencing tokens and what it protects.
    Lease,
    Accounts,
    ListTxns,
    RegisterTxns,
}

impl Object {
    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::List => "list",
            Self::Register => "register",
            Self::ExpiringRegister => "expiring register",
            Self::KeysTogether => "keys written together",
            Self::Counter => "counter",
            Self::CounterAtReplicas => "counter at replicas",
            Self::Queue => "queue",
            Self::Lease => "lock",
            Self::Accounts => "accounts",
            Self::ListTxns => "transactions of lists",
            Self::RegisterTxns => "transactions of registers",
        }
    }

    /// What an operation says of its key; None: it could be one of several.
    pub fn told_by(kind: OpKind) -> Option<Self> {
        match kind {
            OpKind::Add => Some(Self::Set),
            OpKind::Append => Some(Self::List),
            OpKind::Write | OpKind::Cas | OpKind::Swap => Some(Self::Register),
            OpKind::WriteFor => Some(Self::ExpiringRegister),
            OpKind::WriteAll | OpKind::GetAll => Some(Self::KeysTogether),
            OpKind::Increment | OpKind::Decrement | OpKind::Count => Some(Self::Counter),
            OpKind::CountAtReplica => Some(Self::CounterAtReplicas),
            OpKind::Enqueue | OpKind::Dequeue | OpKind::Move | OpKind::Rest => Some(Self::Queue),
            OpKind::Acquire | OpKind::Release | OpKind::Guarded => Some(Self::Lease),
            OpKind::Transfer | OpKind::Balances => Some(Self::Accounts),
            OpKind::TxnAppend => Some(Self::ListTxns),
            OpKind::TxnRegister => Some(Self::RegisterTxns),
            OpKind::Read | OpKind::Get | OpKind::Publish | OpKind::Message => None,
        }
    }
}

/// One object and the operations on it, as indexes into the record's, in the order of invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub key: KeyId,
    pub object: Object,
    pub ops: Vec<u32>,
}

/// All objects of a run.
pub fn parts(record: &Record) -> Vec<Part> {
    let mut of_key: Vec<Vec<u32>> = vec![Vec::new(); record.keys.len()];
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    if record.ops.iter().any(|op| op.kind == OpKind::Move) {
        names = record.keys.iter().enumerate().map(|(at, key)| (key.name.as_str(), at)).collect();
    }
    for (number, op) in (0..).zip(&record.ops) {
        of_key[op.key.0 as usize].push(number);
        if op.kind == OpKind::Move
            && let Some(&to) = op.asked().text().and_then(|to| names.get(to))
        {
            of_key[to].push(number);
        }
    }
    let mut parts = Vec::new();
    for (key, ops) in (0..).zip(of_key) {
        let mut told: Vec<Object> =
            ops.iter().filter_map(|&at| Object::told_by(record.ops[at as usize].kind)).collect();
        told.sort_unstable();
        told.dedup();
        if told.is_empty() && ops.iter().any(|&at| record.ops[at as usize].kind == OpKind::Get) {
            told.push(Object::Register); // it was only read
        }
        // A counter is judged apart by what masters and by what replicas said.
        if told.contains(&Object::CounterAtReplicas) && !told.contains(&Object::Counter) {
            told.push(Object::Counter);
        }
        parts.extend(told.into_iter().map(|object| Part { key: KeyId(key), object, ops: ops.clone() }));
    }
    parts
}

/// Operations as a check takes them, and the record's operations that they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted<K> {
    pub ops: Vec<Op<K>>,
    /// By operation: its index in the record.
    pub from: Vec<u32>,
    /// What reads refer to.
    pub elements: Vec<u64>,
}

/// Converts the operations of a part.
#[derive(Clone, Copy)]
pub struct Converter<'a> {
    pub record: &'a Record,
    /// Operations (by index in the record) that are to be taken as of unknown outcome whatever was answered: reads among
    /// them say nothing, writes may have happened or not.
    pub doubted: &'a (dyn Fn(u32) -> bool + Sync),
}

impl<'a> Converter<'a> {
    /// Takes every operation at its word.
    pub fn trusting(record: &'a Record) -> Self {
        Self { record, doubted: &|_| false }
    }

    fn outcome(&self, number: u32) -> Outcome {
        let op = self.op(number);
        if op.outcome == Outcome::Ok && (self.doubted)(number) { Outcome::Info } else { op.outcome }
    }

    fn op(&self, number: u32) -> &'a Operation {
        &self.record.ops[number as usize]
    }

    /// The operation's times and outcome with what it did.
    fn as_op<K>(&self, number: u32, kind: K) -> Op<K> {
        let op = self.op(number);
        let (status, ret) = match (self.outcome(number), op.completed) {
            (Outcome::Ok, Some(at)) => (Status::Done, at),
            (Outcome::Fail, Some(at)) => (Status::Failed, at),
            _ => (Status::Unknown, NEVER),
        };
        Op { call: op.invoked, ret, process: process(op), status, kind }
    }

    /// Converts each operation into one, or none if it says nothing.
    fn each<K>(&self, ops: &[u32], mut kind: impl FnMut(&Operation, Outcome) -> Option<K>) -> Converted<K> {
        let mut converted = Converted { ops: Vec::new(), from: Vec::new(), elements: Vec::new() };
        for &number in ops {
            if let Some(kind) = kind(self.op(number), self.outcome(number)) {
                converted.push(self.as_op(number, kind), number);
            }
        }
        converted
    }
}

impl<K> Converted<K> {
    fn push(&mut self, op: Op<K>, from: u32) {
        self.ops.push(op);
        self.from.push(from);
    }
}

/// Speakers that are no clients have numbers of 64 bits, at the very top.
fn process(op: &Operation) -> u32 {
    u32::try_from(op.process).unwrap_or(op.process as u32)
}

/// An element that was read, nil, or a number of its own for what no client ever writes.
fn value(datum: &Datum) -> u64 {
    const FOREIGN: u64 = 1 << 62;
    match datum {
        Datum::Nil => NIL,
        Datum::Int(int) if *int >= 0 => *int as u64,
        other => {
            // FNV-1a.
            let text = format!("{other:?}");
            let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            FOREIGN | hash >> 4
        }
    }
}
