//! Queues, between which elements may move.

use super::{Converted, Converter, value};
use crate::linear::{NIL, Op, Queue, arrivals};
use crate::record::{KeyId, OpKind, Operation, Outcome};

impl Converter<'_> {
    /// One queue. A move between two is a pop of the one and a push of the other in the same interval: less than what
    /// LMOVE promises, but all that can be said of one queue alone.
    pub fn queue(&self, key: KeyId, ops: &[u32]) -> Converted<Queue> {
        let mut converted = Converted { ops: Vec::new(), from: Vec::new(), elements: Vec::new() };
        // Moves to this queue whose element nobody was told.
        let mut silent: Vec<u32> = Vec::new();
        for &number in ops {
            let op = self.op(number);
            let outcome = self.outcome(number);
            match op.kind {
                OpKind::Enqueue => {
                    converted.push(self.as_op(number, Queue::Enqueue(value(op.asked()))), number);
                }
                OpKind::Dequeue | OpKind::Move if op.key == key => {
                    if let Some(kind) = popped(op, outcome) {
                        converted.push(self.as_op(number, kind), number);
                    }
                }
                OpKind::Move => match (outcome, value(op.answer())) {
                    (Outcome::Ok, NIL) | (Outcome::Fail, _) => {}
                    (Outcome::Ok, moved) => {
                        converted.push(self.as_op(number, Queue::Enqueue(moved)), number);
                    }
                    (Outcome::Info, _) => silent.push(number),
                },
                OpKind::Rest if outcome == Outcome::Ok => self.rest(op, number, &mut converted),
                _ => {}
            }
        }
        self.arrivals(&silent, &mut converted);
        converted
    }

    /// Whoever reads all of a queue could have popped it empty at that moment.
    fn rest(&self, op: &Operation, number: u32, converted: &mut Converted<Queue>) {
        if !op.is_final {
            return;
        }
        for element in op.answer().items() {
            converted.push(self.as_op(number, Queue::Dequeue(value(element))), number);
        }
        let whole = self.as_op(number, Queue::Empty);
        let after = whole.ret.saturating_add(1);
        converted.push(Op { call: after, ret: after, ..whole }, number);
    }

    /// What moves of unknown outcome brought.
    fn arrivals(&self, silent: &[u32], converted: &mut Converted<Queue>) {
        let moves: Vec<Op<()>> = silent.iter().map(|&number| self.as_op(number, ())).collect();
        for (at, op) in arrivals(&converted.ops, &moves) {
            converted.push(op, silent[at]);
        }
    }
}

/// What a pop took.
fn popped(op: &Operation, outcome: Outcome) -> Option<Queue> {
    match outcome {
        Outcome::Fail => None,
        Outcome::Info => Some(Queue::Dequeue(NIL)),
        Outcome::Ok if op.answer().is_nil() => Some(Queue::Empty),
        Outcome::Ok => Some(Queue::Dequeue(value(op.answer()))),
    }
}
