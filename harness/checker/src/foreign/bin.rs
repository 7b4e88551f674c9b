//! A `history.bin` as a history: each group through its check, a few at a time, so that memory follows the largest object
//! and not the file. What witnesses name is told as calls.

use std::io::Read;

use super::calls::{Call, Ending};
use super::judge::{ForeignOptions, Judgement, Part};
use super::objects::renumbered;
use super::value::Value;
use crate::answer::{Answer, OpId};
use crate::linear::{self, BankRules, Op, Status, keyed};
use crate::record::bin::{AnyGroup, BinError, BinKind, BinReader, BinTxn, Group};
use crate::txn;

/// Groups are read ahead up to so many operations: enough to keep all cores busy.
const AHEAD: usize = 1_000_000;

/// A file's judgement, and the operations that its witnesses name.
pub struct BinJudgement {
    pub judgement: Judgement,
    pub calls: Vec<Call>,
}

/// Judges a whole file. The objects say themselves what they are: of the options only limits, clocks, the model of
/// transactions and threads matter.
pub fn judge_bin(input: impl Read, options: &ForeignOptions<'_>) -> Result<BinJudgement, BinError> {
    let mut reader = BinReader::open(input)?;
    let judgement = Judgement { parts: Vec::new(), permitted: Vec::new(), passed_over: 0 };
    let mut whole = BinJudgement { judgement, calls: Vec::new() };
    loop {
        let (mut groups, mut operations) = (Vec::new(), 0);
        while operations < AHEAD
            && let Some(group) = reader.next_any()?
        {
            operations += group.len();
            groups.push(group);
        }
        if groups.is_empty() {
            return Ok(whole);
        }
        let sizes: Vec<u64> = groups.iter().map(|group| group.len() as u64).collect();
        let judged = keyed(&sizes, options.threads, |at| judge_group(&groups[at], options));
        for judged in judged {
            whole.add(judged?);
        }
    }
}

impl BinJudgement {
    /// Calls are numbered anew behind those of earlier groups.
    fn add(&mut self, (mut part, calls): Judged) {
        let before = self.calls.len() as u32;
        let numbers: Vec<u32> = (before..).take(calls.len()).collect();
        part.answer = renumbered(part.answer, &numbers);
        self.judgement.parts.push(part);
        self.calls.extend(calls);
    }
}

type Judged = (Part, Vec<Call>);

fn judge_group(group: &AnyGroup, options: &ForeignOptions<'_>) -> Result<Judged, BinError> {
    let limits = &options.limits;
    Ok(match group {
        AnyGroup::Register(group) => told(group, linear::register(&group.ops, limits)),
        AnyGroup::Set(group) => told(group, linear::set(&group.ops, &group.elements)),
        AnyGroup::List(group) => told(group, linear::list(&group.ops, &group.elements)),
        AnyGroup::Counter(group) => told(group, linear::counter(&group.ops, limits)),
        AnyGroup::Queue(group) => told(group, linear::queue(&group.ops, limits)),
        AnyGroup::Lock(group) => told(group, linear::lock(&group.ops, limits)),
        AnyGroup::Lease(group) => told(group, linear::lease(&group.ops, options.clock)),
        AnyGroup::Expiring(group) => told(group, linear::expiring(&group.ops, options.clock, limits)),
        AnyGroup::Sessions(group) => told(group, linear::monotonic(&group.ops)),
        AnyGroup::Bank(group) => {
            let balances: Vec<i64> = group.elements.iter().map(|&balance| balance as i64).collect();
            let initial = vec![0; accounts(group)];
            let rules = BankRules { initial: Some(&initial), overdraft: true };
            told(group, linear::totals(&group.ops, &balances, rules))
        }
        AnyGroup::ListTxns(group) => told(group, txns(group, options)?),
        AnyGroup::RegisterTxns(group) => told(group, txns(group, options)?),
    })
}

/// Our accounts begin empty; reads say how many there are.
fn accounts(group: &Group<linear::Bank>) -> usize {
    let of_reads = group.ops.iter().filter_map(|op| match op.kind {
        linear::Bank::Read { accounts, .. } => Some(accounts as usize),
        linear::Bank::Transfer { .. } => None,
    });
    of_reads.max().unwrap_or(0)
}

fn txns<const REGISTERS: bool>(
    group: &Group<BinTxn<REGISTERS>>,
    options: &ForeignOptions<'_>,
) -> Result<Answer, BinError> {
    let key = || String::from_utf8_lossy(&group.key).into_owned();
    let history = group.history().ok_or_else(|| BinError::Txn { key: key() })?;
    let expected = txn::Options { expected: options.model, ..txn::Options::default() };
    Ok(txn::check(&history, &expected).answer)
}

/// The part, and its witnesses' operations in the order of their numbers.
fn told<K: BinKind + std::fmt::Debug>(group: &Group<K>, mut answer: Answer) -> (Part, Vec<Call>) {
    let mut named: Vec<u32> = Vec::new();
    if let Answer::Violated { witnesses, .. } = &mut answer {
        named = witnesses.iter().flat_map(|witness| &witness.ops).map(|op| op.0).collect();
        named.extend(
            witnesses.iter().flat_map(|witness| &witness.links).flat_map(|link| [link.from.0, link.to.0]),
        );
        named.sort_unstable();
        named.dedup();
        let place = |op: &mut OpId| op.0 = named.partition_point(|&other| other < op.0) as u32;
        for witness in witnesses {
            let links = witness.links.iter_mut().flat_map(|link| [&mut link.from, &mut link.to]);
            witness.ops.iter_mut().chain(links).for_each(place);
        }
    }
    let calls = named.iter().map(|&at| call(group, &group.ops[at as usize])).collect();
    let key = Some(String::from_utf8_lossy(&group.key).into_owned());
    (Part { key, operations: group.ops.len() as u64, answer, legend: Vec::new() }, calls)
}

fn call<K: BinKind + std::fmt::Debug>(group: &Group<K>, op: &Op<K>) -> Call {
    /// Of what a read saw so much is shown.
    const SHOWN: usize = 20;
    let (ending, returned) = match op.status {
        Status::Done => (Ending::Ok, op.ret),
        Status::Failed => (Ending::Fail, op.ret),
        Status::Unknown => (Ending::Info, u64::MAX),
    };
    let seen = op
        .kind
        .elements()
        .map_or(&[][..], |(start, count)| &group.elements[start as usize..][..count as usize]);
    let shown = seen.iter().take(SHOWN).map(|&element| Value::Int(element as i64)).collect();
    let answered = if seen.is_empty() { Value::Nil } else { Value::Vector(shown) };
    Call {
        process: op.process,
        named_process: Some(i64::from(op.process)),
        invoked: op.call,
        returned,
        ending,
        f: format!("{:?}", op.kind),
        key: None,
        asked: Value::Nil,
        answered,
        reply: None,
        client: None,
        own: None,
        lines: (0, 0),
        times: (Some(op.call), Some(op.ret).filter(|_| op.status != Status::Unknown)),
    }
}
