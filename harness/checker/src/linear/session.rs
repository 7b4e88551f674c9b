//! Session guarantees of replica reads: what one process saw, it does not see undone; what it wrote, it sees.
//!
//! Replicas lag, so their reads are not linearizable and need not be; but a client that stays with one replica sees
//! time go forward. Versions are numbers that grow with every write of the key: a counter's value, a list's length,
//! the number in a register that one process counts up.

use super::findings::{Findings, by_value, witness};
use super::op::{Op, Status, numbered};
use crate::answer::{Answer, Relation};

/// An operation on a versioned key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Session {
    /// An acknowledged write made this version.
    Wrote(u64),
    /// A read saw this version, 0 for nothing.
    Read(u64),
}

/// Are reads monotonic? Replication is asynchronous: that a replica has what a client just wrote is promised by nobody.
pub fn monotonic(ops: &[Op<Session>]) -> Answer {
    let answer = sessions(ops);
    let Answer::Violated { mut witnesses, unlisted } = answer else { return answer };
    witnesses.retain(|witness| witness.class != "read-your-writes");
    if witnesses.is_empty() { Answer::Holds } else { Answer::Violated { witnesses, unlisted } }
}

/// Are reads monotonic, and do they have what their process wrote?
pub fn sessions(ops: &[Op<Session>]) -> Answer {
    let mut findings = Findings::default();
    let done = numbered(ops).filter(|(_, op)| op.status == Status::Done);
    let mut order: Vec<u32> = done.map(|(id, _)| id).collect();
    order.sort_by_key(|&id| (ops[id as usize].process, ops[id as usize].call));
    for session in order.chunk_by(|&one, &other| ops[one as usize].process == ops[other as usize].process) {
        // A process that does several operations at once knows of those only that had returned.
        let mut returned: Vec<u32> = session.to_vec();
        returned.sort_by_key(|&id| ops[id as usize].ret);
        let mut returned = returned.into_iter().peekable();
        let mut seen: Option<(u64, u32)> = None;
        let mut wrote = None;
        for &id in session {
            while let Some(before) =
                returned.next_if(|&before| ops[before as usize].precedes(&ops[id as usize]))
            {
                match ops[before as usize].kind {
                    Session::Wrote(version) => wrote = wrote.max(Some((version, before))),
                    Session::Read(version) => seen = seen.max(Some((version, before))),
                }
            }
            let Session::Read(version) = ops[id as usize].kind else { continue };
            for (class, newest, relation, verb) in [
                ("non-monotonic-read", seen, Relation::Process, "seen"),
                ("read-your-writes", wrote, Relation::WriteRead, "written"),
            ] {
                let Some((newer, by)) = newest.filter(|&(newer, _)| newer > version) else { continue };
                findings.add(class, || {
                    let sentence =
                        format!("a process that had {verb} version {newer} then read version {version}");
                    let mut witness = witness(ops, class, &[by, id], sentence);
                    witness.links.push(by_value(by, id, relation, "the same process did it later"));
                    witness
                });
            }
        }
    }
    findings.answer()
}
