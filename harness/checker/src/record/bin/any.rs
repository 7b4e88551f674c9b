//! A group of whatever object.

use std::io::Read;

use super::{BinError, BinKind, BinReader, BinTxn, Group, Head};
use crate::linear::{Bank, Counter, Expiring, Lease, List, Lock, Queue, Register, Session, Set};

/// One object's operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyGroup {
    Register(Group<Register>),
    Set(Group<Set>),
    List(Group<List>),
    Counter(Group<Counter>),
    Queue(Group<Queue>),
    Lock(Group<Lock>),
    Lease(Group<Lease>),
    Bank(Group<Bank>),
    Expiring(Group<Expiring>),
    Sessions(Group<Session>),
    ListTxns(Group<BinTxn<false>>),
    RegisterTxns(Group<BinTxn<true>>),
}

impl AnyGroup {
    pub(super) fn read<R: Read>(reader: &mut BinReader<R>, head: Head) -> Result<Self, BinError> {
        Ok(match head.object {
            Register::OBJECT => Self::Register(reader.group(head)?),
            Set::OBJECT => Self::Set(reader.group(head)?),
            List::OBJECT => Self::List(reader.group(head)?),
            Counter::OBJECT => Self::Counter(reader.group(head)?),
            Queue::OBJECT => Self::Queue(reader.group(head)?),
            Lock::OBJECT => Self::Lock(reader.group(head)?),
            Lease::OBJECT => Self::Lease(reader.group(head)?),
            Bank::OBJECT => Self::Bank(reader.group(head)?),
            Expiring::OBJECT => Self::Expiring(reader.group(head)?),
            Session::OBJECT => Self::Sessions(reader.group(head)?),
            BinTxn::<false>::OBJECT => Self::ListTxns(reader.group(head)?),
            BinTxn::<true>::OBJECT => Self::RegisterTxns(reader.group(head)?),
            _ => return Err(reader.malformed("a group of an object that nobody knows")),
        })
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Register(group) => group.ops.len(),
            Self::Set(group) => group.ops.len(),
            Self::List(group) => group.ops.len(),
            Self::Counter(group) => group.ops.len(),
            Self::Queue(group) => group.ops.len(),
            Self::Lock(group) => group.ops.len(),
            Self::Lease(group) => group.ops.len(),
            Self::Bank(group) => group.ops.len(),
            Self::Expiring(group) => group.ops.len(),
            Self::Sessions(group) => group.ops.len(),
            Self::ListTxns(group) => group.ops.len(),
            Self::RegisterTxns(group) => group.ops.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
