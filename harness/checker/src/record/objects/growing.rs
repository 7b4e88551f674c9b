//! Sets and lists that only grow.

use super::{Converted, Converter};
use crate::linear::{List, Set};
use crate::record::{OpKind, Operation, Outcome};

impl Converter<'_> {
    pub fn set(&self, ops: &[u32]) -> Converted<Set> {
        self.growing(ops, |op, start, len| match op.kind {
            OpKind::Add => Some(Set::Add(op.value.unwrap_or_default())),
            OpKind::Read => Some(Set::Read { start, len }),
            _ => None,
        })
    }

    pub fn list(&self, ops: &[u32]) -> Converted<List> {
        self.growing(ops, |op, start, len| match op.kind {
            OpKind::Append => {
                let length = op.reply.and_then(|length| u32::try_from(length).ok()).unwrap_or(0);
                Some(List::Append { element: op.value.unwrap_or_default(), length })
            }
            OpKind::Read => Some(List::Read { start, len }),
            _ => None,
        })
    }

    /// Elements that are none of the harness' are left out: the check of elements has them.
    fn growing<K>(&self, ops: &[u32], kind: impl Fn(&Operation, u64, u32) -> Option<K>) -> Converted<K> {
        let mut elements: Vec<u64> = Vec::new();
        let mut converted = self.each(ops, |op, outcome| {
            let seen = op.elements().filter(|_| outcome == Outcome::Ok).unwrap_or_default();
            let start = elements.len() as u64;
            elements.extend_from_slice(seen);
            kind(op, start, seen.len() as u32)
        });
        converted.elements = elements;
        converted
    }
}
