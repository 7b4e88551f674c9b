//! Operations on one object into the input of its check, and the check.

use std::collections::BTreeMap;

use super::calls::{Call, Ending};
use super::value::Value;
use super::values::Values;
use super::workload::{Workload, WorkloadError};
use crate::answer::Answer;
use crate::linear::{
    self, Bank, BankRules, Counter, Limits, List, Lock, NEVER, NIL, Op, Queue, Register, SILENT, Set, Status,
    UNSEEN,
};

/// One object's operations, numbered as in the whole history.
pub(super) struct Object<'a> {
    pub calls: Vec<(u32, View<'a>)>,
    /// A `cas` that failed says that the register held something else (Porcupine's reading); else a failure says
    /// nothing (Jepsen's).
    pub failed_cas_tells: bool,
}

/// An operation without its key.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub call: &'a Call,
    pub asked: &'a Value,
    pub answered: &'a Value,
}

impl View<'_> {
    fn f(&self) -> &str {
        &self.call.f
    }

    /// Of an operation that ended well, where that is told at all: what it answered, else what was asked.
    fn told(&self) -> &Value {
        if self.call.ending == Ending::Ok && *self.answered != Value::Nil {
            self.answered
        } else {
            self.asked
        }
    }

    pub fn wrong(&self, expected: &str, found: &Value) -> WorkloadError {
        let line = if self.call.lines.0 == 0 { self.call.lines.1 } else { self.call.lines.0 };
        WorkloadError { line, expected: expected.to_owned(), found: found.to_string() }
    }

    fn unknown_f(&self, expected: &str) -> WorkloadError {
        self.wrong(expected, &Value::Word(self.call.f.clone()))
    }

    fn op<K>(&self, kind: K) -> Op<K> {
        let Call { invoked, returned, process, ending, .. } = *self.call;
        match ending {
            Ending::Ok => Op::done(process, invoked, returned, kind),
            Ending::Fail => Op::failed(process, invoked, returned, kind),
            Ending::Info => Op { call: invoked, ret: NEVER, process, status: Status::Unknown, kind },
        }
    }
}

/// Ops and the numbers of the calls that they came from.
type Ops<K> = (Vec<Op<K>>, Vec<u32>);

/// A check's answer in the history's numbers, and what its values stand for.
pub(super) struct Judged {
    pub answer: Answer,
    pub legend: Vec<(u64, String)>,
}

impl Object<'_> {
    pub fn judge(&self, workload: Workload, limits: &Limits<'_>) -> Result<Judged, WorkloadError> {
        let mut values = Values::default();
        let mut elements = Vec::new();
        let (answer, numbers) = match workload {
            Workload::Register => {
                let (ops, numbers) = self.each(|view| self.register(view, &mut values))?;
                (linear::register(&ops, limits), numbers)
            }
            Workload::Set | Workload::SetFull => {
                let last = self.last_read().filter(|_| workload == Workload::Set);
                let (ops, numbers) = self.each(|view| set(view, last, &mut values, &mut elements))?;
                (linear::set(&ops, &elements), numbers)
            }
            Workload::List => {
                let (ops, numbers) = self.each(|view| list(view, &mut values, &mut elements))?;
                (linear::list(&ops, &elements), numbers)
            }
            Workload::Counter => {
                let (ops, numbers) = self.each(counter)?;
                (linear::counter(&ops, limits), numbers)
            }
            Workload::Queue => {
                let (ops, numbers) = self.each(|view| queue(view, &mut values))?;
                (linear::queue(&ops, limits), numbers)
            }
            Workload::Lock => {
                let mut holds = Holds::default();
                let (ops, numbers) = self.each(|view| holds.lock(view, &mut values))?;
                (linear::lock(&ops, limits), numbers)
            }
            Workload::Bank => {
                let mut accounts = Accounts::default();
                let (ops, numbers) = self.each(|view| accounts.bank(view))?;
                let rules = BankRules { initial: &accounts.initial, overdraft: false };
                (linear::totals(&ops, &accounts.balances, rules), numbers)
            }
            Workload::ListAppend | Workload::RwRegister => (Answer::Holds, Vec::new()),
        };
        let legend = values.legend().map(|(number, text)| (number, text.to_owned())).collect();
        Ok(Judged { answer: renumbered(answer, &numbers), legend })
    }

    /// A call may be several operations, or none.
    fn each<K>(
        &self,
        mut convert: impl FnMut(View<'_>) -> Result<Vec<K>, WorkloadError>,
    ) -> Result<Ops<K>, WorkloadError> {
        let (mut ops, mut numbers) = (Vec::new(), Vec::new());
        for (number, view) in &self.calls {
            for kind in convert(*view)? {
                let mut op = view.op(kind);
                // Kinds that tell something although the call failed are done.
                if self.failed_cas_tells && view.f() == "cas" && view.call.ending == Ending::Fail {
                    op.status = Status::Done;
                }
                ops.push(op);
                numbers.push(*number);
            }
        }
        Ok((ops, numbers))
    }

    fn last_read(&self) -> Option<u64> {
        let reads =
            self.calls.iter().filter(|(_, view)| view.f() == "read" && view.call.ending == Ending::Ok);
        reads.map(|(_, view)| view.call.returned).max()
    }

    fn register(&self, view: View<'_>, values: &mut Values) -> Result<Vec<Register>, WorkloadError> {
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
                let refused =
                    self.failed_cas_tells && ending == Ending::Fail && view.answered.vector().is_some();
                if refused {
                    vec![Register::CasLost { from, seen: UNSEEN }]
                } else if self.failed_cas_tells && ending == Ending::Fail {
                    Vec::new()
                } else {
                    vec![Register::Cas { from, to }]
                }
            }
            _ => return Err(view.unknown_f(":read, :write, :swap or :cas")),
        })
    }
}

fn elements_of<'a>(view: &View<'a>) -> Result<&'a [Value], WorkloadError> {
    match view.answered {
        Value::Nil => Ok(&[]),
        Value::Vector(items) => Ok(items),
        other => Err(view.wrong("all elements that the read saw", other)),
    }
}

/// Appends what was read, and says where.
fn keep(seen: &[Value], values: &mut Values, elements: &mut Vec<u64>) -> (u64, u32) {
    let start = elements.len() as u64;
    elements.extend(seen.iter().map(|value| values.number(value)));
    (start, seen.len() as u32)
}

fn set(
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

fn list(view: View<'_>, values: &mut Values, elements: &mut Vec<u64>) -> Result<Vec<List>, WorkloadError> {
    match view.f() {
        "append" | "rpush" => Ok(vec![List::Append { element: values.number(view.asked), length: 0 }]),
        "read" if view.call.ending != Ending::Ok => Ok(Vec::new()),
        "read" => {
            let (start, len) = keep(elements_of(&view)?, values, elements);
            Ok(vec![List::Read { start, len }])
        }
        _ => Err(view.unknown_f(":append or :read")),
    }
}

fn counter(view: View<'_>) -> Result<Vec<Counter>, WorkloadError> {
    let step = |view: &View<'_>, sign: i64| match view.asked {
        Value::Nil => Ok(sign),
        Value::Int(by) => Ok(by.saturating_mul(sign)),
        other => Err(view.wrong("the number to add", other)),
    };
    match view.f() {
        "add" | "inc" | "incr" | "increment" => Ok(vec![Counter::Add { by: step(&view, 1)?, reply: SILENT }]),
        "dec" | "decr" | "decrement" => Ok(vec![Counter::Add { by: step(&view, -1)?, reply: SILENT }]),
        "read" if view.call.ending != Ending::Ok => Ok(Vec::new()),
        "read" => match view.answered {
            Value::Nil => Ok(vec![Counter::Get(0)]),
            Value::Int(seen) => Ok(vec![Counter::Get(*seen)]),
            other => Err(view.wrong("the number that the read saw", other)),
        },
        _ => Err(view.unknown_f(":add or :read")),
    }
}

fn queue(view: View<'_>, values: &mut Values) -> Result<Vec<Queue>, WorkloadError> {
    match (view.f(), view.call.ending) {
        ("enqueue", _) => Ok(vec![Queue::Enqueue(values.number(view.asked))]),
        ("dequeue", Ending::Ok) if *view.answered == Value::Nil => Ok(vec![Queue::Empty]),
        ("dequeue", Ending::Ok) => Ok(vec![Queue::Dequeue(values.number(view.answered))]),
        ("dequeue", Ending::Info) => Ok(vec![Queue::Dequeue(NIL)]),
        ("dequeue" | "drain", Ending::Fail) => Ok(Vec::new()),
        ("drain", Ending::Ok) => {
            Ok(elements_of(&view)?.iter().map(|value| Queue::Dequeue(values.number(value))).collect())
        }
        ("drain", Ending::Info) => {
            Err(view.wrong("a :drain that ended (what an unfinished one took is not known)", view.answered))
        }
        _ => Err(view.unknown_f(":enqueue, :dequeue or :drain")),
    }
}

/// Without tokens a process' hold is named after its number in the history.
#[derive(Default)]
struct Holds {
    count: i64,
    by_process: BTreeMap<u32, u64>,
}

impl Holds {
    fn lock(&mut self, view: View<'_>, values: &mut Values) -> Result<Vec<Lock>, WorkloadError> {
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
            ("release", Ending::Ok) => {
                let held = self.by_process.remove(&view.call.process);
                Ok(vec![Lock::Release(held.unwrap_or_else(|| token(values)))])
            }
            ("release", Ending::Info) => {
                let held = self.by_process.remove(&view.call.process);
                Ok(held.map(Lock::Release).into_iter().collect())
            }
            _ => Err(view.unknown_f(":acquire or :release")),
        }
    }
}

/// The first completed read tells which accounts there are and what they hold together.
#[derive(Default)]
struct Accounts {
    numbers: BTreeMap<String, u32>,
    initial: Vec<i64>,
    balances: Vec<i64>,
}

impl Accounts {
    fn bank(&mut self, view: View<'_>) -> Result<Vec<Bank>, WorkloadError> {
        match view.f() {
            "read" if view.call.ending != Ending::Ok => Ok(Vec::new()),
            "read" => {
                let Value::Map(entries) = view.answered else {
                    return Err(view.wrong("a map of accounts to balances", view.answered));
                };
                let start = self.balances.len() as u64;
                for (_, balance) in entries {
                    match balance {
                        Value::Int(balance) => self.balances.push(*balance),
                        other => return Err(view.wrong("a balance", other)),
                    }
                }
                if self.initial.is_empty() {
                    self.initial = self.balances[start as usize..].to_vec();
                }
                Ok(vec![Bank::Read { start, accounts: entries.len() as u32 }])
            }
            "transfer" => {
                let mut account = |name: &str| {
                    let Some(account) = view.asked.entry(name) else {
                        return Err(view.wrong("a map with :from, :to and :amount", view.asked));
                    };
                    let next = self.numbers.len() as u32;
                    Ok(*self.numbers.entry(account.to_string()).or_insert(next))
                };
                let (from, to) = (account("from")?, account("to")?);
                let Some(amount) = view.asked.entry("amount").and_then(Value::int) else {
                    return Err(view.wrong("a map with :from, :to and :amount", view.asked));
                };
                Ok(vec![Bank::Transfer { from, to, amount }])
            }
            _ => Err(view.unknown_f(":transfer or :read")),
        }
    }
}

fn renumbered(mut answer: Answer, numbers: &[u32]) -> Answer {
    if let Answer::Violated { witnesses, .. } = &mut answer {
        for witness in witnesses {
            let links = witness.links.iter_mut().flat_map(|link| [&mut link.from, &mut link.to]);
            for op in witness.ops.iter_mut().chain(links) {
                op.0 = numbers[op.0 as usize];
            }
        }
    }
    answer
}
