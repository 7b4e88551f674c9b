//! Counters, at their masters and at replicas.

use super::View;
use crate::foreign::calls::Ending;
use crate::foreign::value::Value;
use crate::foreign::workload::WorkloadError;
use crate::linear::{Counter, SILENT, Session};

pub(super) fn counter(view: View<'_>) -> Result<Vec<Counter>, WorkloadError> {
    let add = |sign: i64| {
        let by = match view.asked {
            Value::Nil => sign,
            Value::Int(by) => by.saturating_mul(sign),
            other => return Err(view.wrong("the number to add", other)),
        };
        Ok(vec![Counter::Add { by, reply: view.reply().unwrap_or(SILENT) }])
    };
    match view.f() {
        "add" | "inc" | "incr" | "increment" => add(1),
        "dec" | "decr" | "decrement" => add(-1),
        // Replicas lag.
        "read-at-replica" => Ok(Vec::new()),
        "read" if view.call.ending != Ending::Ok => Ok(Vec::new()),
        "read" => Ok(vec![Counter::Get(count(view)?)]),
        _ => Err(view.unknown_f(":add or :read")),
    }
}

/// What each client did, and saw at its replica.
pub(super) fn session(view: View<'_>) -> Result<Vec<Session>, WorkloadError> {
    match view.f() {
        "add" | "inc" | "incr" | "increment" => {
            let version = view.reply().and_then(|count| u64::try_from(count).ok());
            Ok(version.map(Session::Wrote).into_iter().collect())
        }
        "dec" | "decr" | "decrement" => Err(view.unknown_f("a counter that only grows: :add")),
        // What a master said is no replica's promise.
        "read" => Ok(Vec::new()),
        "read-at-replica" if view.call.ending != Ending::Ok => Ok(Vec::new()),
        "read-at-replica" => {
            let version = u64::try_from(count(view)?)
                .map_err(|_| view.wrong("a count that is not negative", view.answered))?;
            Ok(vec![Session::Read(version)])
        }
        _ => Err(view.unknown_f(":add, :read or :read-at-replica")),
    }
}

fn count(view: View<'_>) -> Result<i64, WorkloadError> {
    match view.answered {
        Value::Nil => Ok(0),
        Value::Int(seen) => Ok(*seen),
        other => Err(view.wrong("the number that the read saw", other)),
    }
}
