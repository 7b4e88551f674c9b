//! Queues, in order or not, between which elements may move.

use super::{Side, View, elements_of};
use crate::foreign::calls::Ending;
use crate::foreign::value::Value;
use crate::foreign::values::Values;
use crate::foreign::workload::WorkloadError;
use crate::linear::{NIL, Queue};

/// A move between two queues is a pop of the one and a push of the other in the same interval.
pub(super) fn queue(view: View<'_>, values: &mut Values) -> Result<Vec<Queue>, WorkloadError> {
    match (view.f(), view.call.ending, view.side) {
        ("enqueue", _, _) => Ok(vec![Queue::Enqueue(values.number(view.asked))]),
        ("move", Ending::Ok, Side::Target) => match view.answered {
            Value::Nil => Ok(Vec::new()),
            element => Ok(vec![Queue::Enqueue(values.number(element))]),
        },
        // Of unknown outcome: see `Object::silent_moves`.
        ("move", _, Side::Target) => Ok(Vec::new()),
        ("dequeue" | "move", Ending::Ok, _) if *view.answered == Value::Nil => Ok(vec![Queue::Empty]),
        ("dequeue" | "move", Ending::Ok, _) => Ok(vec![Queue::Dequeue(values.number(view.answered))]),
        ("dequeue" | "move", Ending::Info, _) => Ok(vec![Queue::Dequeue(NIL)]),
        ("dequeue" | "move" | "drain", Ending::Fail, _) => Ok(Vec::new()),
        // Who drains a queue goes on until it is empty.
        ("drain", Ending::Ok, _) => {
            let taken = elements_of(&view)?.iter().map(|value| Queue::Dequeue(values.number(value)));
            Ok(taken.chain([Queue::Empty]).collect())
        }
        ("drain", Ending::Info, _) => {
            Err(view.wrong("a :drain that ended (what an unfinished one took is not known)", view.answered))
        }
        _ => Err(view.unknown_f(":enqueue, :dequeue, :move or :drain")),
    }
}

/// In no order: that a single dequeue found nothing says nothing, as in Jepsen's total-queue.
pub(super) fn bag(view: View<'_>, values: &mut Values) -> Result<Vec<Queue>, WorkloadError> {
    let mut kinds = queue(view, values)?;
    if view.f() != "drain" {
        kinds.retain(|kind| *kind != Queue::Empty);
    }
    Ok(kinds)
}
