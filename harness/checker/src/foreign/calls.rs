//! Invocations and completions paired into operations.

use std::collections::BTreeMap;

use super::event::{Event, Kind, Speaker};
use super::value::Value;
use crate::record::OpKind;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Ok,
    Fail,
    /// No completion, or one that says nothing.
    Info,
}

/// One operation of a client. Its moments are places in the history (from 1): their order is what a Jepsen history
/// vouches for, while times may be missing or equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// One operation at a time: a number that was used again after an unknown outcome counts as a new process.
    pub process: u32,
    /// What the history calls it.
    pub named_process: Option<i64>,
    /// 0 if the history does not hold the invocation: it may have begun at any time.
    pub invoked: u64,
    /// [`u64::MAX`] unless it ended.
    pub returned: u64,
    pub ending: Ending,
    pub f: String,
    pub key: Option<String>,
    /// The invocation's value.
    pub asked: Value,
    /// The completion's value.
    pub answered: Value,
    /// What the server answered beside that ([`Event::reply`]).
    pub reply: Option<Value>,
    /// Who asked, if that is told apart from processes.
    pub client: Option<i64>,
    /// What it was in a run of ours.
    pub own: Option<OpKind>,
    /// The file's lines of both (0: not there).
    pub lines: (u64, u64),
    /// The history's times of both, in nanoseconds.
    pub times: (Option<u64>, Option<u64>),
}

/// What a reader should know about a history before believing a verdict on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lint {
    /// Completions that no invocation precedes.
    pub completions_alone: u64,
    /// Invocations that nothing completes: taken as unknown.
    pub invocations_alone: u64,
    /// Processes that went on under their number after an unknown outcome.
    pub processes_reused: u64,
}

/// Pairs events as they come.
#[derive(Debug, Default)]
pub struct Pairing {
    calls: Vec<Call>,
    lint: Lint,
    place: u64,
    processes: BTreeMap<Option<i64>, Process>,
    next_process: u32,
}

#[derive(Clone, Copy, Debug)]
struct Process {
    number: u32,
    /// The operation that is under way.
    open: Option<usize>,
    /// It must not go on after an unknown outcome.
    retired: bool,
}

impl Pairing {
    /// The next event of the history.
    pub fn event(&mut self, event: Event) {
        let Speaker::Client(name) = event.speaker else { return };
        self.place += 1;
        let place = self.place;
        let process = self.processes.get(&name).copied();
        let open = process.and_then(|process| process.open);
        match (event.kind, open) {
            (Kind::Invoke, open) => {
                if open.is_some() {
                    self.lint.invocations_alone += 1;
                }
                let number = match process {
                    Some(process) if !process.retired && open.is_none() => process.number,
                    known => {
                        self.lint.processes_reused += u64::from(known.is_some());
                        self.next_process += 1;
                        self.next_process - 1
                    }
                };
                self.processes.insert(name, Process { number, open: Some(self.calls.len()), retired: false });
                self.calls.push(Call {
                    process: number,
                    named_process: name,
                    invoked: place,
                    returned: u64::MAX,
                    ending: Ending::Info,
                    f: event.f,
                    key: event.key,
                    asked: event.value,
                    answered: Value::Nil,
                    reply: None,
                    client: event.client,
                    own: event.own,
                    lines: (event.line, 0),
                    times: (event.time, None),
                });
            }
            (kind, Some(at)) => {
                let call = &mut self.calls[at];
                call.lines.1 = event.line;
                call.times.1 = event.time;
                call.answered = event.value;
                call.reply = event.reply;
                (call.ending, call.returned) = ending(kind, place);
                let retired = kind == Kind::Info;
                self.processes.insert(name, Process { number: call.process, open: None, retired });
            }
            (kind, None) => self.completion_alone(name, kind, event, place),
        }
    }

    /// The invocation may have been at any time before. Such an operation is a process of its own.
    fn completion_alone(&mut self, name: Option<i64>, kind: Kind, event: Event, place: u64) {
        self.lint.completions_alone += 1;
        let (ending, returned) = ending(kind, place);
        self.calls.push(Call {
            process: self.next_process,
            named_process: name,
            invoked: 0,
            returned,
            ending,
            f: event.f,
            key: event.key,
            asked: event.value.clone(),
            answered: event.value,
            reply: event.reply,
            client: event.client,
            own: event.own,
            lines: (0, event.line),
            times: (None, event.time),
        });
        self.next_process += 1;
    }

    /// All operations, in order of invocation as far as it is known.
    pub fn finish(mut self) -> (Vec<Call>, Lint) {
        self.lint.invocations_alone +=
            self.processes.values().filter(|process| process.open.is_some()).count() as u64;
        (self.calls, self.lint)
    }
}

fn ending(kind: Kind, place: u64) -> (Ending, u64) {
    match kind {
        Kind::Ok => (Ending::Ok, place),
        Kind::Fail => (Ending::Fail, place),
        Kind::Info | Kind::Invoke => (Ending::Info, u64::MAX),
    }
}

impl Lint {
    /// A sentence for each thing that was seen.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut say = |count: u64, what: &str| {
            if count > 0 {
                sentences.push(format!("{count} {what}"));
            }
        };
        say(self.completions_alone, "completions without an invocation: taken as begun at any time before");
        say(self.invocations_alone, "invocations without a completion: taken as of unknown outcome");
        say(
            self.processes_reused,
            "processes went on under their number after an unknown outcome: taken as new processes",
        );
        sentences
    }
}
