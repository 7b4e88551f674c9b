//! A run's operations by object, as the checks take them, into `history.bin`.

use std::io::{self, Write};

use super::Record;
use super::bin::{BinKind, BinOp, BinTxn, Steps, write_group, write_header};
use super::objects::{Converted, Converter, Object, Part, Txns, parts};
use crate::linear::{Op, Register};
use crate::txn::{Objects, Outcome};

/// Writes all objects of the record. Messages (`pubsub`) are no objects: a run of those is an empty file.
pub fn write_bin(record: &Record, out: &mut impl Write) -> io::Result<()> {
    write_header(out)?;
    let mut file = File { record, out };
    parts(record).iter().try_for_each(|part| file.part(part))
}

struct File<'a, W> {
    record: &'a Record,
    out: &'a mut W,
}

impl<W: Write> File<'_, W> {
    fn part(&mut self, part: &Part) -> io::Result<()> {
        let (converter, ops) = (Converter::trusting(self.record), &part.ops);
        match part.object {
            Object::Set => self.group(part, converter.set(ops)),
            Object::List => self.group(part, converter.list(ops)),
            Object::Register => self.group(part, converter.register(ops)),
            Object::ExpiringRegister => self.group(part, converter.expiring(ops)),
            Object::KeysTogether => self.group(part, together(&converter, ops)),
            Object::Counter => self.group(part, converter.counter(ops)),
            Object::CounterAtReplicas => self.group(part, converter.sessions(ops)),
            Object::Queue => self.group(part, converter.queue(part.key, ops)),
            Object::Lease => self.group(part, converter.lease(ops)),
            Object::Accounts => {
                let accounts = converter.accounts(ops);
                let elements = accounts.balances.iter().map(|&balance| balance as u64).collect();
                self.group(part, Converted { elements, ..accounts.converted })
            }
            Object::ListTxns => self.group(part, steps::<false>(&converter.txns(Objects::Lists, ops))?),
            Object::RegisterTxns => {
                self.group(part, steps::<true>(&converter.txns(Objects::Registers, ops))?)
            }
        }
    }

    fn group<K: BinKind>(&mut self, part: &Part, converted: Converted<K>) -> io::Result<()> {
        let Converted { ops, from, elements } = converted;
        let node =
            |number: u32| self.record.ops[number as usize].node.map_or(0, |node| node.0.saturating_add(1));
        let ops: Vec<BinOp<K>> =
            ops.into_iter().zip(from).map(|(op, from)| BinOp { op, node: node(from) }).collect();
        write_group(self.out, self.record.key(part.key).name.as_bytes(), &ops, &elements)
    }
}

/// Half of a write is a value that nobody wrote.
fn together(converter: &Converter<'_>, ops: &[u32]) -> Converted<Register> {
    let (mut converted, halves) = converter.together(ops);
    for half in halves {
        converted.push_half(converter, half);
    }
    converted
}

fn steps<const REGISTERS: bool>(txns: &Txns) -> io::Result<Converted<BinTxn<REGISTERS>>> {
    let mut steps = Steps::default();
    let mut ops = Vec::with_capacity(txns.from.len());
    for number in (0..).take(txns.from.len()) {
        let txn = crate::answer::OpId(number);
        let span = txns.history.span(txn);
        let kind = steps
            .txn(txns.history.micros(txn))
            .ok_or_else(|| io::Error::other("a transaction of 2^32 words"))?;
        ops.push(match span.outcome {
            Outcome::Ok => Op::done(span.process, span.invoked, span.returned, kind),
            Outcome::Info => Op::unknown(span.process, span.invoked, kind),
            Outcome::Fail => Op::failed(span.process, span.invoked, span.returned, kind),
        });
    }
    Ok(Converted { ops, from: txns.from.clone(), elements: steps.elements })
}
