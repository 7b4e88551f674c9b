//! Operations on one object into the input of its check, and the check. A file a family.

mod accounts;
mod counters;
mod growing;
mod locks;
mod queues;
mod registers;

use self::accounts::Accounts;
use self::locks::Holds;
use super::calls::{Call, Ending};
use super::judge::ForeignOptions;
use super::value::Value;
use super::values::Values;
use super::workload::{Workload, WorkloadError};
use crate::answer::{Answer, Witness};
use crate::linear::{self, BankRules, NEVER, Op, Queue, Status};

/// One object's operations, numbered as in the whole history.
pub(super) struct Object<'a> {
    pub calls: Vec<(u32, View<'a>)>,
    /// A `cas` that failed says that the register held something else (Porcupine's reading); else a failure without a reply
    /// says nothing (Jepsen's).
    pub failed_cas_tells: bool,
}

/// An operation without its key.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub call: &'a Call,
    pub asked: &'a Value,
    pub answered: &'a Value,
    pub side: Side,
}

/// Which of its objects is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It has one only, or this is the one that it takes from.
    Source,
    /// The one that it moves to.
    Target,
}

/// Ops and the numbers of the calls that they came from.
type Ops<K> = (Vec<Op<K>>, Vec<u32>);

/// A check's answer in the history's numbers, and what its values stand for.
pub(super) struct Judged {
    pub answer: Answer,
    pub legend: Vec<(u64, String)>,
}

impl Object<'_> {
    pub fn judge(&self, options: &ForeignOptions<'_>) -> Result<Judged, WorkloadError> {
        let limits = &options.limits;
        let mut values = Values::default();
        let mut elements = Vec::new();
        let (answer, numbers) = match options.workload {
            Workload::Register => {
                let (ops, numbers) = self.each(|view| self.register(view, &mut values))?;
                (linear::register(&ops, limits), numbers)
            }
            Workload::Expiring => {
                let (mut ops, numbers) = self.each(|view| registers::expiring(view, &mut values))?;
                self.by_the_clock(&mut ops, &numbers)?;
                (linear::expiring(&ops, options.clock, limits), numbers)
            }
            Workload::Set | Workload::SetFull => {
                let last = self.last_read().filter(|_| options.workload == Workload::Set);
                let (ops, numbers) =
                    self.each(|view| growing::set(view, last, &mut values, &mut elements))?;
                (linear::set(&ops, &elements), numbers)
            }
            Workload::List => {
                let (ops, numbers) = self.each(|view| growing::list(view, &mut values, &mut elements))?;
                (linear::list(&ops, &elements), numbers)
            }
            Workload::Counter => {
                let (ops, numbers) = self.each(counters::counter)?;
                (linear::counter(&ops, limits), numbers)
            }
            Workload::ReplicaReads => {
                let (mut ops, numbers) = self.each(counters::session)?;
                self.by_client(&mut ops, &numbers);
                (linear::monotonic(&ops), numbers)
            }
            Workload::Queue => {
                let mut converted = self.each(|view| queues::queue(view, &mut values))?;
                self.silent_moves(&mut converted);
                (linear::queue(&converted.0, limits), converted.1)
            }
            Workload::TotalQueue => {
                let mut converted = self.each(|view| queues::bag(view, &mut values))?;
                self.silent_moves(&mut converted);
                (linear::bag(&converted.0), converted.1)
            }
            Workload::Lock => {
                let mut holds = Holds::default();
                let (ops, numbers) = self.each(|view| holds.lock(view, &mut values))?;
                (linear::lock(&ops, limits), numbers)
            }
            Workload::Lease => {
                let (mut ops, numbers) = self.each(locks::lease)?;
                self.by_the_clock(&mut ops, &numbers)?;
                (linear::lease(&ops, options.clock), numbers)
            }
            Workload::Bank | Workload::BankTotals => self.bank(options)?,
            // All keys together: see `txns`.
            Workload::ListAppend | Workload::RwRegister => (Answer::Holds, Vec::new()),
        };
        let legend = values.legend().map(|(number, text)| (number, text.to_owned())).collect();
        Ok(Judged { answer: renumbered(answer, &numbers), legend })
    }

    fn bank(&self, options: &ForeignOptions<'_>) -> Result<(Answer, Vec<u32>), WorkloadError> {
        let mut accounts = Accounts::default();
        for (_, view) in &self.calls {
            accounts.collect(*view);
        }
        let (ops, numbers) = self.each(|view| accounts.bank(view))?;
        // Our accounts begin empty, and owe what they like.
        let is_ours = self.calls.iter().any(|(_, view)| view.call.own.is_some());
        let nothing = vec![0; accounts.len()];
        let rules = BankRules {
            initial: is_ours.then_some(&nothing),
            overdraft: is_ours || options.negative_balances,
        };
        let answer = if options.workload == Workload::BankTotals {
            linear::totals(&ops, &accounts.balances, rules)
        } else {
            linear::bank(&ops, &accounts.balances, rules, &options.limits)
        };
        Ok((answer, numbers))
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
                if self.tells_by_failing(*view) {
                    op.status = Status::Done;
                }
                ops.push(op);
                numbers.push(*number);
            }
        }
        Ok((ops, numbers))
    }

    /// The object itself refused, and that says something of it.
    fn tells_by_failing(&self, view: View<'_>) -> bool {
        let refused = self.failed_cas_tells && view.f() == "cas" && view.answered.vector().is_some();
        view.call.ending == Ending::Fail && (refused || view.call.reply.is_some())
    }

    fn last_read(&self) -> Option<u64> {
        let reads =
            self.calls.iter().filter(|(_, view)| view.f() == "read" && view.call.ending == Ending::Ok);
        reads.map(|(_, view)| view.call.returned).max()
    }

    /// Moves to this queue whose element nobody was told.
    fn silent_moves(&self, (ops, numbers): &mut Ops<Queue>) {
        let is_silent = |view: &View<'_>| {
            view.side == Side::Target && view.f() == "move" && view.call.ending == Ending::Info
        };
        let silent: Vec<(u32, Op<()>)> = self
            .calls
            .iter()
            .filter(|(_, view)| is_silent(view))
            .map(|(number, view)| (*number, view.op(())))
            .collect();
        let moves: Vec<Op<()>> = silent.iter().map(|&(_, op)| op).collect();
        for (at, op) in linear::arrivals(ops, &moves) {
            ops.push(op);
            numbers.push(silent[at].0);
        }
    }

    /// Places in the history are enough for an order, not for times to live.
    fn by_the_clock<K>(&self, ops: &mut [Op<K>], numbers: &[u32]) -> Result<(), WorkloadError> {
        let mut calls = self.calls.iter().peekable();
        for (op, number) in ops.iter_mut().zip(numbers) {
            while calls.next_if(|(other, _)| other < number).is_some() {}
            let Some((_, view)) = calls.peek() else { break };
            let Call { invoked, returned, times, .. } = view.call;
            let missing =
                || view.wrong("the :time of each event (times to live are judged by the clock)", &Value::Nil);
            if *invoked > 0 {
                op.call = times.0.ok_or_else(missing)?;
            }
            if *returned < NEVER && op.ret < NEVER {
                op.ret = times.1.ok_or_else(missing)?.max(op.call);
            }
        }
        Ok(())
    }

    /// A client outlives its processes.
    fn by_client<K>(&self, ops: &mut [Op<K>], numbers: &[u32]) {
        let mut calls = self.calls.iter().peekable();
        for (op, number) in ops.iter_mut().zip(numbers) {
            while calls.next_if(|(other, _)| other < number).is_some() {}
            let client = calls.peek().and_then(|(_, view)| u32::try_from(view.call.client?).ok());
            op.process = client.unwrap_or(op.process);
        }
    }
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

    /// The number that an operation which ended well was answered.
    fn reply(&self) -> Option<i64> {
        self.call.reply.as_ref().filter(|_| self.call.ending == Ending::Ok)?.int()
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

fn elements_of<'a>(view: &View<'a>) -> Result<&'a [Value], WorkloadError> {
    match view.answered {
        Value::Nil => Ok(&[]),
        Value::Vector(items) => Ok(items),
        other => Err(view.wrong("all elements that the read saw", other)),
    }
}

/// The answer with the history's numbers.
pub(super) fn renumbered(mut answer: Answer, numbers: &[u32]) -> Answer {
    if let Answer::Violated { witnesses, .. } = &mut answer {
        for witness in witnesses {
            renumber(witness, numbers);
        }
    }
    answer
}

pub(super) fn renumber(witness: &mut Witness, numbers: &[u32]) {
    let links = witness.links.iter_mut().flat_map(|link| [&mut link.from, &mut link.to]);
    for op in witness.ops.iter_mut().chain(links) {
        op.0 = numbers[op.0 as usize];
    }
}
