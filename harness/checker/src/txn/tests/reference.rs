//! The definition itself: does some order of the transactions, one after the other, explain every read?

use std::collections::BTreeMap;

use crate::answer::OpId;
use crate::txn::{MicroOp, Objects, Order, Outcome, TxnHistory};

/// By exhaustive search; for tiny histories.
pub(super) fn explainable(history: &TxnHistory, order: Order) -> bool {
    let mut search = Search { history, order, state: BTreeMap::new(), done: vec![false; history.len()] };
    search.rest()
}

struct Search<'a> {
    history: &'a TxnHistory,
    order: Order,
    state: BTreeMap<u32, Vec<u64>>,
    done: Vec<bool>,
}

impl Search<'_> {
    fn rest(&mut self) -> bool {
        let txns = || (0..self.history.len() as u32).map(OpId);
        if txns().all(|txn| self.done[txn.0 as usize] || self.history.span(txn).outcome != Outcome::Ok) {
            return true;
        }
        let next: Vec<OpId> = txns().filter(|txn| self.may_be_next(*txn)).collect();
        for txn in next {
            let before = self.state.clone();
            if self.apply(txn) {
                self.done[txn.0 as usize] = true;
                if self.rest() {
                    return true;
                }
                self.done[txn.0 as usize] = false;
            }
            self.state = before;
        }
        false
    }

    fn may_be_next(&self, txn: OpId) -> bool {
        let span = self.history.span(txn);
        if self.done[txn.0 as usize] || span.outcome == Outcome::Fail {
            return false;
        }
        (0..self.history.len() as u32).map(OpId).all(|other| {
            let before = self.history.span(other);
            let must = before.outcome == Outcome::Ok
                && before.returned < span.invoked
                && match self.order {
                    Order::Data => false,
                    Order::Process => before.process == span.process,
                    Order::Realtime => true,
                };
            !must || self.done[other.0 as usize]
        })
    }

    fn apply(&mut self, txn: OpId) -> bool {
        let known = self.history.span(txn).outcome == Outcome::Ok;
        let lists = self.history.objects() == Objects::Lists;
        self.history.micros(txn).all(|micro| match micro {
            MicroOp::Write { key, value } => {
                let content = self.state.entry(key).or_default();
                if !lists {
                    content.clear();
                }
                content.push(value);
                true
            }
            MicroOp::ReadList { key, elements } => !known || self.state.entry(key).or_default() == elements,
            MicroOp::ReadRegister { key, value } => {
                !known || self.state.entry(key).or_default().first().copied() == value
            }
            MicroOp::ReadUnknown { .. } => true,
        })
    }
}
