//! What is asked, and what the answers mean: a file a workload.
//!
//! A workload is a source of operations from a generator of random numbers, and the meaning of their replies; it knows
//! nothing of sockets, times and clusters. Every element is unique in the whole run: the number of its write, as the text
//! `e<number>`, so that one element names one operation wherever it turns up (a read, the replication stream, an
//! append-only file). Replies carry as much evidence as Redis gives (lengths, counts, the value before), so that the checks
//! are exact. An operation is never asked twice: what certainly did not happen is a failure, and the next operation is another.

mod counter;
mod expiry;
mod growing;
mod kind;
mod lock;
mod mixed;
mod pubsub;
mod queue;
mod register;
mod replica_reads;
mod reply;
#[cfg(test)]
mod tests;
mod together;
mod transfer;
mod txn;

use rand::RngCore;
use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Body, Op};

pub use kind::{WorkloadKind, WorkloadOptions};

use crate::client::{Route, Subscription};

/// A command and its arguments.
pub type Command = Vec<Vec<u8>>;

/// An operation to invoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What goes into the history.
    pub body: Body,
    /// Sent together on one connection; the last one's reply is the answer.
    pub commands: Vec<Command>,
    /// Who is asked.
    pub route: Route,
    /// True if it changes something (and may be followed by WAIT).
    pub is_write: bool,
    /// Of `mixed`: which of its workloads asked.
    part: u8,
}

impl Invocation {
    /// A single command to the master.
    fn new(body: Body, command: Command) -> Self {
        let is_write = body.kind().is_some_and(slotstorm_checker::record::OpKind::writes);
        Self { body, commands: vec![command], route: Route::Master, is_write, part: 0 }
    }

    /// `commands` in MULTI and EXEC.
    fn transaction(body: Body, commands: Vec<Command>) -> Self {
        let mut whole = vec![command(&["MULTI"])];
        whole.extend(commands);
        whole.push(command(&["EXEC"]));
        Self { commands: whole, ..Self::new(body, Vec::new()) }
    }

    /// The operation inside the body.
    pub fn op(&self) -> &Op {
        self.body.op().expect("an invocation's body is an operation's: it is made here")
    }

    /// For the reads at the end.
    fn last(mut self) -> Self {
        if let Some(op) = self.body.op_mut() {
            op.is_final = true;
        }
        self
    }
}

/// What a reply means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // it lives for one call, and is nearly always the large one
pub enum Next {
    /// It happened: the body of the completion.
    Done(Body),
    /// So far it only looked, on a connection of its own: these commands follow on the same.
    Then(Vec<Command>),
    /// The server's answer says that it did not happen.
    Refused(String),
}

/// What a workload may use to make an operation.
struct Draw<'a> {
    rng: &'a mut dyn RngCore,
    /// The next element.
    next_element: &'a mut u64,
}

impl Draw<'_> {
    fn element(&mut self) -> u64 {
        *self.next_element += 1;
        *self.next_element - 1
    }

    fn below(&mut self, bound: u32) -> u32 {
        rand::Rng::random_range(&mut *self.rng, 0..bound)
    }

    /// True `percent` times of a hundred.
    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

/// One workload.
trait Load: std::fmt::Debug {
    /// The next operation.
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation;

    /// Reads of everything, for the end of the run; each is one command, which replicas are asked, too.
    fn final_reads(&self) -> Vec<Invocation>;

    /// What some clients listen to.
    fn subscriptions(&self) -> Vec<Subscription> {
        Vec::new()
    }

    /// What `reply` means; `stage` counts how often commands followed before. An error if no such reply is possible (the
    /// server's fault).
    fn answered(&mut self, invocation: &Invocation, stage: u8, reply: &BytesFrame) -> Result<Next, String>;
}

/// The workload of a run, shared by all clients.
#[derive(Debug)]
pub struct Workload {
    load: Box<dyn Load>,
    next_element: u64,
}

impl Workload {
    /// A workload at its beginning.
    pub fn new(options: WorkloadOptions) -> Self {
        Self { load: kind::load(options), next_element: 1 }
    }

    /// The next operation.
    pub fn next(&mut self, rng: &mut dyn RngCore) -> Invocation {
        self.load.next(&mut Draw { rng, next_element: &mut self.next_element })
    }

    /// One read of everything, for the end of the run.
    pub fn final_reads(&self) -> Vec<Invocation> {
        self.load.final_reads().into_iter().map(Invocation::last).collect()
    }

    /// What some clients listen to, all the time.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.load.subscriptions()
    }

    /// The body of the operation by which a client got a message.
    pub fn message(channel: &str, payload: &[u8]) -> Body {
        pubsub::message(channel, payload)
    }

    /// What the server's reply means; `stage` counts the [`Next::Then`] before. An error if no such reply is possible (the
    /// server's fault).
    pub fn answered(
        &mut self,
        invocation: &Invocation,
        stage: u8,
        reply: &BytesFrame,
    ) -> Result<Next, String> {
        self.load.answered(invocation, stage, reply)
    }
}

fn command(words: &[&str]) -> Command {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}
