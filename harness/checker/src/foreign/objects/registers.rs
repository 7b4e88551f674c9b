//! Registers, plain and with times to live.

use super::{Object, View};
use crate::foreign::calls::Ending;
use crate::foreign::value::Value;
use crate::foreign::values::Values;
use crate::foreign::workload::WorkloadError;
use crate::linear::{Expiring, NEVER, NIL, Register, UNSEEN};

impl Object<'_> {
    pub(super) fn register(
        &self,
        view: View<'_>,
        values: &mut Values,
    ) -> Result<Vec<Register>, WorkloadError> {
        let mut number = |value: &Value| if *value == Value::Nil { NIL } else { values.number(value) };
        let ending = view.call.ending;
        Ok(match view.f() {
            "read" | "r" => match ending {
                Ending::Ok => vec![Register::Read(number(view.answered))],
                Ending::Fail | Ending::Info => Vec::new(),
            },
            "write" | "w" | "set" => match view.asked {
                Value::Nil => vec![Register::Delete],
                asked => vec![Register::Write(number(asked))],
            },
            "swap" => match (ending, view.answered.vector()) {
                (Ending::Ok, Some([to, seen])) => {
                    vec![Register::Swap { to: number(to), seen: number(seen) }]
                }
                (Ending::Ok, _) => {
                    return Err(view.wrong("what a :swap wrote and saw, [to seen]", view.answered));
                }
                _ => vec![Register::Write(number(view.asked))],
            },
            "cas" => {
                let Some([from, to]) = view.asked.vector() else {
                    return Err(view.wrong("the value of :cas, [from to]", view.asked));
                };
                let (from, to) = (number(from), number(to));
                match (ending, &view.call.reply) {
                    (Ending::Fail, Some(seen)) => vec![Register::CasLost { from, seen: number(seen) }],
                    (Ending::Fail, None) if self.tells_by_failing(view) => {
                        vec![Register::CasLost { from, seen: UNSEEN }]
                    }
                    _ => vec![Register::Cas { from, to }],
                }
            }
            _ => return Err(view.unknown_f(":read, :write, :swap or :cas")),
        })
    }
}

pub(super) fn expiring(view: View<'_>, values: &mut Values) -> Result<Vec<Expiring>, WorkloadError> {
    let mut number = |value: &Value| if *value == Value::Nil { NIL } else { values.number(value) };
    Ok(match (view.f(), view.asked) {
        ("read" | "r", _) if view.call.ending != Ending::Ok => Vec::new(),
        ("read" | "r", _) => vec![Expiring::Read(number(view.answered))],
        ("write" | "w" | "set", Value::Nil) => vec![Expiring::Delete],
        ("write" | "w" | "set", asked) => {
            vec![Expiring::Write { value: number(asked), ttl_nanos: NEVER }]
        }
        ("write-for", asked) => {
            let ttl = asked.vector().and_then(|pair| Some((pair.first()?, millis(pair.get(1)?)?)));
            let Some((value, ttl_nanos)) = ttl else {
                return Err(view.wrong("the value of :write-for, [value milliseconds]", asked));
            };
            vec![Expiring::Write { value: number(value), ttl_nanos }]
        }
        _ => return Err(view.unknown_f(":read, :write or :write-for")),
    })
}

/// A time to live in nanoseconds.
pub(super) fn millis(value: &Value) -> Option<u64> {
    const NANOS_PER_MILLI: u64 = 1_000_000;
    Some(u64::try_from(value.int()?).ok()?.saturating_mul(NANOS_PER_MILLI))
}
