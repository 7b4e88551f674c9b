//! One object's operations through the check that fits it.

use crate::answer::{Answer, MAX_WITNESSES, OpId, Witness};
use crate::linear::{self, BankRules, ClockError, Limits};
use crate::record::objects::{Accounts, Converted, Converter, Object, Part, Txns};
use crate::txn::{self, Objects};

/// How wrong the clocks of servers on one host may be beside each other: they read one clock, though not at one moment.
const CLOCK_ERROR: ClockError = ClockError { drift_nanos_per_second: 1_000_000, jump_nanos: 100_000_000 };

/// What a check said, in its own numbers, and the record's operations that these stand for.
pub(super) struct Judged {
    pub answer: Answer,
    pub from: Vec<u32>,
}

/// Judges a part.
pub(super) fn judge(part: &Part, converter: Converter<'_>, limits: &Limits<'_>) -> Judged {
    let ops = &part.ops;
    match part.object {
        Object::Set => with(converter.set(ops), |c| linear::set(&c.ops, &c.elements)),
        Object::List => with(converter.list(ops), |c| linear::list(&c.ops, &c.elements)),
        Object::Register => with(converter.register(ops), |c| linear::register(&c.ops, limits)),
        Object::ExpiringRegister => {
            with(converter.expiring(ops), |c| linear::expiring(&c.ops, CLOCK_ERROR, limits))
        }
        Object::KeysTogether => together(ops, converter, limits),
        Object::Counter => with(converter.counter(ops), |c| linear::counter(&c.ops, limits)),
        Object::CounterAtReplicas => with(converter.sessions(ops), |c| linear::monotonic(&c.ops)),
        Object::Queue => with(converter.queue(part.key, ops), |c| linear::queue(&c.ops, limits)),
        Object::Lease => with(converter.lease(ops), |c| linear::lease(&c.ops, CLOCK_ERROR)),
        Object::Accounts => {
            let Accounts { converted, balances, initial } = converter.accounts(ops);
            let rules = BankRules { initial: Some(&initial), overdraft: true };
            with(converted, |c| linear::totals(&c.ops, &balances, rules))
        }
        Object::ListTxns => txns(converter.txns(Objects::Lists, ops)),
        Object::RegisterTxns => txns(converter.txns(Objects::Registers, ops)),
    }
}

fn with<K>(converted: Converted<K>, check: impl FnOnce(&Converted<K>) -> Answer) -> Judged {
    let answer = check(&converted);
    Judged { answer, from: converted.from }
}

fn txns(txns: Txns) -> Judged {
    let answer = txn::check(&txns.history, &txn::Options::default()).answer;
    Judged { answer, from: txns.from }
}

/// Half of a write is worse than any order.
fn together(ops: &[u32], converter: Converter<'_>, limits: &Limits<'_>) -> Judged {
    let (converted, halves) = converter.together(ops);
    let mut judged = with(converted, |c| linear::register(&c.ops, limits));
    if halves.is_empty() {
        return judged;
    }
    let first = judged.from.len();
    let half = |at: usize| Witness {
        class: "half-result",
        sentence: "a read of several keys that are only ever written together saw different elements in them"
            .to_owned(),
        ops: vec![OpId((first + at) as u32)],
        links: Vec::new(),
    };
    let mut witnesses: Vec<Witness> = (0..halves.len().min(MAX_WITNESSES)).map(half).collect();
    let mut unlisted = (halves.len() - witnesses.len()) as u64;
    if let Answer::Violated { witnesses: others, unlisted: more } = judged.answer {
        witnesses.extend(others);
        unlisted += more;
    }
    judged.answer = Answer::Violated { witnesses, unlisted };
    judged.from.extend(halves);
    judged
}
