//! Sets and lists that only grow.

use super::{View, elements_of};
use crate::foreign::calls::Ending;
use crate::foreign::value::Value;
use crate::foreign::values::Values;
use crate::foreign::workload::WorkloadError;
use crate::linear::{List, Set};

/// Appends what was read, and says where.
fn keep(seen: &[Value], values: &mut Values, elements: &mut Vec<u64>) -> (u64, u32) {
    let start = elements.len() as u64;
    elements.extend(seen.iter().map(|value| values.number(value)));
    (start, seen.len() as u32)
}

/// `only_read`: the return of the one read that counts.
pub(super) fn set(
    view: View<'_>,
    only_read: Option<u64>,
    values: &mut Values,
    elements: &mut Vec<u64>,
) -> Result<Vec<Set>, WorkloadError> {
    match view.f() {
        "add" => Ok(vec![Set::Add(values.number(view.asked))]),
        "read" if view.call.ending != Ending::Ok => Ok(Vec::new()),
        "read" if only_read.is_some_and(|returned| returned != view.call.returned) => Ok(Vec::new()),
        "read" => {
            let (start, len) = keep(elements_of(&view)?, values, elements);
            Ok(vec![Set::Read { start, len }])
        }
        _ => Err(view.unknown_f(":add or :read")),
    }
}

pub(super) fn list(
    view: View<'_>,
    values: &mut Values,
    elements: &mut Vec<u64>,
) -> Result<Vec<List>, WorkloadError> {
    match view.f() {
        "append" | "rpush" => {
            let length = view.reply().and_then(|length| u32::try_from(length).ok()).unwrap_or(0);
            Ok(vec![List::Append { element: values.number(view.asked), length }])
        }
        "read" if view.call.ending != Ending::Ok => Ok(Vec::new()),
        "read" => {
            let (start, len) = keep(elements_of(&view)?, values, elements);
            Ok(vec![List::Read { start, len }])
        }
        _ => Err(view.unknown_f(":append or :read")),
    }
}
