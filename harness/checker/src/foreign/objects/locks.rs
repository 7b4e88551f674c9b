//! Locks without and with a time to live.

use std::collections::BTreeMap;

use super::View;
use super::registers::millis;
use crate::foreign::calls::Ending;
use crate::foreign::value::Value;
use crate::foreign::values::Values;
use crate::foreign::workload::WorkloadError;
use crate::linear::{Lease, Lock};

/// Without tokens a process' hold is named after its number in the history.
#[derive(Default)]
pub(super) struct Holds {
    count: i64,
    by_process: BTreeMap<u32, u64>,
}

impl Holds {
    pub fn lock(&mut self, view: View<'_>, values: &mut Values) -> Result<Vec<Lock>, WorkloadError> {
        if view.asked.vector().is_some() {
            return Err(
                view.wrong("a lock without a time to live (with one it is --workload lease)", view.asked)
            );
        }
        let mut token = |values: &mut Values| {
            let told = view.told();
            if *told == Value::Nil {
                self.count += 1;
                values.number(&Value::Int(self.count))
            } else {
                values.number(told)
            }
        };
        match (view.f(), view.call.ending) {
            ("acquire", Ending::Fail) => Ok(Vec::new()),
            ("acquire", _) => {
                let token = token(values);
                self.by_process.insert(view.call.process, token);
                Ok(vec![Lock::Acquire(token)])
            }
            ("release", Ending::Fail) => Ok(Vec::new()),
            ("release", _) if *view.told() != Value::Nil => Ok(vec![Lock::Release(token(values))]),
            ("release", _) => {
                let held = self.by_process.remove(&view.call.process);
                Ok(held.map(Lock::Release).into_iter().collect())
            }
            _ => Err(view.unknown_f(":acquire or :release")),
        }
    }
}

/// `:acquire [owner milliseconds]` answers its token as `:reply`; `:release [owner token]`; `:guarded token` is a write to what
/// the lease protects, refused (`:fail` with a `:reply`) if a larger token came before.
pub(super) fn lease(view: View<'_>) -> Result<Vec<Lease>, WorkloadError> {
    let second = || view.asked.vector().and_then(|pair| pair.get(1));
    let token =
        |value: Option<&Value>| value.and_then(Value::int).and_then(|token| u64::try_from(token).ok());
    Ok(match (view.f(), view.call.ending) {
        ("acquire", Ending::Ok) => {
            let Some(ttl_nanos) = second().and_then(millis) else {
                return Err(view.wrong("the value of :acquire, [owner milliseconds]", view.asked));
            };
            let Some(token) = token(view.call.reply.as_ref()) else {
                let found = view.call.reply.as_ref().unwrap_or(&Value::Nil);
                return Err(view.wrong("the :reply of :acquire, a fencing token", found));
            };
            vec![Lease::Grant { token, ttl_nanos }]
        }
        // A grant that nobody answered has no token; its fence leaves a gap.
        ("acquire", _) => Vec::new(),
        ("release", Ending::Fail) => Vec::new(),
        ("release", _) => {
            let Some(token) = token(second()) else {
                return Err(view.wrong("the value of :release, [owner token]", view.asked));
            };
            vec![Lease::Release { token }]
        }
        ("guarded", ending) => {
            let Some(token) = token(Some(view.asked)) else {
                return Err(view.wrong("the value of :guarded, a fencing token", view.asked));
            };
            match (ending, &view.call.reply) {
                (Ending::Fail, Some(_)) => vec![Lease::Rejected { token }],
                (Ending::Fail, None) => Vec::new(),
                _ => vec![Lease::Accepted { token }],
            }
        }
        _ => return Err(view.unknown_f(":acquire, :release or :guarded")),
    })
}
