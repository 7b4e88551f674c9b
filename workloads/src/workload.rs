//! What is asked, and what the answers mean: the `set` and `append` workloads.
//!
//! Every element is unique in the whole run: the number of its write, as the text `e<number>`, so that one element
//! names one operation wherever it turns up (a read, the replication stream, an append-only file).

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Body, Op};

/// Which workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// Unique SADDs over many keys and slots, some SMEMBERS, final read.
    #[default]
    Set,
    /// RPUSH of unique elements, LRANGE reads.
    Append,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Set, Self::Append];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Append => "append",
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WorkloadKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("no workload is called {text:?}; there are {}", names.join(", "))
        })
    }
}

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadOptions {
    /// Which.
    pub kind: WorkloadKind,
    /// Keys, spread evenly over the slots by hashing.
    pub keys: u32,
    /// Share of reads, 0 to 1.
    pub read_share: f64,
}

impl WorkloadOptions {
    /// The storm's defaults: enough keys that each shard has many and that each key's final read stays small.
    pub fn new(kind: WorkloadKind) -> Self {
        match kind {
            WorkloadKind::Set => Self { kind, keys: 400, read_share: 0.1 },
            WorkloadKind::Append => Self { kind, keys: 400, read_share: 0.2 },
        }
    }
}

/// A workload: a source of operations, and the meaning of their replies. One per run, shared by all clients.
#[derive(Debug)]
pub struct Workload {
    options: WorkloadOptions,
    next_element: u64,
}

/// An operation to invoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What goes into the history (`Body::Add`, `Append` or `Read`).
    pub body: Body,
    /// The command.
    pub args: Vec<Vec<u8>>,
    /// True if it changes something (and may be followed by WAIT).
    pub is_write: bool,
}

impl Invocation {
    /// The operation inside the body.
    pub fn op(&self) -> &Op {
        match &self.body {
            Body::Add(op) | Body::Append(op) | Body::Read(op) => op,
            Body::Fault(_) | Body::ReplicaCompare(_) | Body::Phase { .. } | Body::Stall { .. } => {
                unreachable!("an invocation's body is an operation's: it is made here")
            }
        }
    }
}

impl Workload {
    /// A workload at its beginning.
    pub fn new(options: WorkloadOptions) -> Self {
        Self { options, next_element: 1 }
    }

    /// The next operation.
    pub fn next(&mut self, rng: &mut impl Rng) -> Invocation {
        let key = self.key(rng.random_range(0..self.options.keys));
        if rng.random_bool(self.options.read_share) {
            return self.read(key, false);
        }
        let element = self.next_element;
        self.next_element += 1;
        let op = Op { key: key.clone(), value: Some(element), ..Op::default() };
        let (command, body) = match self.options.kind {
            WorkloadKind::Set => ("SADD", Body::Add(op)),
            WorkloadKind::Append => ("RPUSH", Body::Append(op)),
        };
        let args = vec![command.into(), key.into_bytes(), format!("e{element}").into_bytes()];
        Invocation { body, args, is_write: true }
    }

    /// One read of every key, for the end of the run.
    pub fn final_reads(&self) -> Vec<Invocation> {
        (0..self.options.keys).map(|index| self.read(self.key(index), true)).collect()
    }

    /// The body of the completion that belongs to `invocation` when the server replied `reply`; an error if no such
    /// reply is possible (the server's fault).
    pub fn completed(invocation: &Invocation, reply: &BytesFrame) -> Result<Body, String> {
        let mut body = invocation.body.clone();
        match (&mut body, reply) {
            (Body::Add(op) | Body::Append(op), BytesFrame::Integer(reply)) => {
                op.reply = Some(*reply);
                op.intended = None;
            }
            (Body::Read(op), BytesFrame::Array(members)) => {
                let mut elements = Vec::with_capacity(members.len());
                for member in members {
                    match member {
                        BytesFrame::BulkString(bytes) => match element(bytes) {
                            Some(element) => elements.push(element),
                            None => op.foreign.push(String::from_utf8_lossy(bytes).into_owned()),
                        },
                        other => return Err(format!("a member that is no bulk string: {other:?}")),
                    }
                }
                op.elements = Some(elements);
                op.intended = None;
            }
            (_, reply) => return Err(format!("a reply of the wrong type: {reply:?}")),
        }
        Ok(body)
    }

    fn read(&self, key: String, is_final: bool) -> Invocation {
        let args = match self.options.kind {
            WorkloadKind::Set => vec!["SMEMBERS".into(), key.clone().into_bytes()],
            WorkloadKind::Append => {
                vec!["LRANGE".into(), key.clone().into_bytes(), b"0".to_vec(), b"-1".to_vec()]
            }
        };
        Invocation { body: Body::Read(Op { key, is_final, ..Op::default() }), args, is_write: false }
    }

    fn key(&self, index: u32) -> String {
        format!("{}:{index}", self.options.kind.name())
    }
}

/// The number in `e<number>`.
fn element(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b"e")?;
    if digits.is_empty() || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_same_seed_asks_the_same() {
        let ask = || {
            let mut workload = Workload::new(WorkloadOptions::new(WorkloadKind::Append));
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            (0..100).map(|_| workload.next(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(ask(), ask());
    }

    #[test]
    fn what_no_client_wrote_is_foreign() {
        let workload = Workload::new(WorkloadOptions::new(WorkloadKind::Set));
        let read = workload.final_reads().remove(0);
        let members = ["e12", "e012", "e", "x", "e99999999999999999999"];
        let reply =
            BytesFrame::Array(members.iter().map(|m| BytesFrame::BulkString(Bytes::from(*m))).collect());
        let Ok(Body::Read(op)) = Workload::completed(&read, &reply) else {
            panic!("a read's reply is a read")
        };
        assert_eq!((op.elements, op.foreign.len()), (Some(vec![12]), 4));
    }

    #[test]
    fn a_reply_of_the_wrong_type_is_the_servers_fault() {
        let workload = Workload::new(WorkloadOptions::new(WorkloadKind::Set));
        let read = workload.final_reads().remove(0);
        assert!(Workload::completed(&read, &BytesFrame::Integer(3)).is_err());
    }
}
