//! The definition of linearizability, word for word: try every order.

use crate::answer::{Answer, MAX_WITNESSES};
use crate::linear::op::{Op, Status};

/// A sequential object: the state after the operation, or None if its reply is impossible. `known` is false for an
/// operation of unknown outcome, whose reply means nothing.
pub type Step<S, K> = fn(&S, &K, bool) -> Option<S>;

/// Some order of all done operations, with any of the unknown ones, fits the intervals and the object.
pub fn has_order<S: Clone, K>(ops: &[Op<K>], initial: &S, step: Step<S, K>) -> bool {
    assert!(ops.len() <= 32, "the reference is for small histories");
    place(ops, 0, initial, step)
}

fn place<S: Clone, K>(ops: &[Op<K>], placed: u32, state: &S, step: Step<S, K>) -> bool {
    let waiting = |at: usize| placed & 1 << at == 0;
    let deadline = (0..ops.len())
        .filter(|&at| waiting(at) && ops[at].status == Status::Done)
        .map(|at| ops[at].ret)
        .min();
    let Some(deadline) = deadline else { return true };
    (0..ops.len()).any(|at| {
        let op = &ops[at];
        waiting(at)
            && op.status != Status::Failed
            && op.call <= deadline
            && step(state, &op.kind, op.status == Status::Done)
                .is_some_and(|next| place(ops, placed | 1 << at, &next, step))
    })
}

/// The verdict, and whether the witnesses keep their promises.
pub fn verdict<K>(answer: &Answer, ops: &[Op<K>]) -> bool {
    match answer {
        Answer::Holds => true,
        Answer::Violated { witnesses, unlisted } => {
            assert!(!witnesses.is_empty());
            assert!(*unlisted == 0 || witnesses.len() >= MAX_WITNESSES);
            for witness in witnesses {
                assert!(!witness.ops.is_empty() && !witness.sentence.is_empty());
                assert!(witness.ops.iter().all(|id| (id.0 as usize) < ops.len()));
                assert!(witness.ops.is_sorted_by_key(|id| ops[id.0 as usize].call), "in order of invocation");
            }
            false
        }
        Answer::Unknown(unknown) => panic!("a small history was left undecided: {}", unknown.reason),
    }
}
