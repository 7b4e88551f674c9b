//! `txn`: transactions of one to four steps inside a slot, in MULTI/EXEC: of list appends and list reads in every other slot, of
//! register writes (`SET .. GET`, which is a read, too) and reads in the others.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Datum, OpKind};

use super::reply::{answer, asked, call, element_or_nil, elements, executed, text};
use super::{Command, Draw, Invocation, Load, Next, WorkloadOptions, command};

/// Keys of one slot.
const KEYS: u32 = 4;

#[derive(Debug)]
pub(super) struct Txns {
    options: WorkloadOptions,
}

impl Txns {
    pub const fn new(options: WorkloadOptions) -> Self {
        Self { options }
    }

    fn key(index: u32) -> String {
        format!("txn:{{t{index}}}")
    }

    fn kind(index: u32) -> OpKind {
        if index.is_multiple_of(2) { OpKind::TxnAppend } else { OpKind::TxnRegister }
    }

    fn read(kind: OpKind, key: &str) -> (Command, Datum) {
        let command = if kind == OpKind::TxnAppend {
            command(&["LRANGE", key, "0", "-1"])
        } else {
            command(&["GET", key])
        };
        (command, Datum::List(vec!["r".into(), key.into(), Datum::Nil]))
    }

    fn write(kind: OpKind, key: &str, element: u64) -> (Command, Datum) {
        let value = text(element);
        let (command, f) = if kind == OpKind::TxnAppend {
            (command(&["RPUSH", key, &value]), "append")
        } else {
            (command(&["SET", key, &value, "GET"]), "w")
        };
        (command, Datum::List(vec![f.into(), key.into(), element.into()]))
    }
}

impl Load for Txns {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let index = draw.below(self.options.keys);
        let kind = Self::kind(index);
        let group = Self::key(index);
        let steps = 1 + draw.below(4);
        let (commands, micros): (Vec<Command>, Vec<Datum>) = (0..steps)
            .map(|_| {
                let key = format!("{group}:{}", draw.below(KEYS));
                if draw.chance(self.options.read_percent + 20) {
                    Self::read(kind, &key)
                } else {
                    Self::write(kind, &key, draw.element())
                }
            })
            .unzip();
        Invocation::transaction(call(kind, group, micros), commands)
    }

    fn final_reads(&self) -> Vec<Invocation> {
        let each = |index: u32| {
            let (kind, group) = (Self::kind(index), Self::key(index));
            (0..KEYS).map(move |key| {
                let (command, micro) = Self::read(kind, &format!("{group}:{key}"));
                Invocation {
                    is_write: false,
                    ..Invocation::new(call(kind, group.clone(), vec![micro]), command)
                }
            })
        };
        (0..self.options.keys).flat_map(each).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        let is_single = invocation.commands.len() == 1;
        let replies = if is_single {
            std::slice::from_ref(reply)
        } else {
            executed(reply)?.ok_or("EXEC answered nil, though nothing was watched")?
        };
        let micros = asked(invocation).items();
        if micros.len() != replies.len() {
            return Err(format!("EXEC of {} commands answered {}", micros.len(), replies.len()));
        }
        let mut told = Vec::with_capacity(micros.len());
        for (micro, reply) in micros.iter().zip(replies) {
            let [f, key, _] = micro.items() else { return Err("no step of a transaction".into()) };
            let saw = |seen: Datum| Datum::List(vec!["r".into(), key.clone(), seen]);
            match (f.text(), invocation.body.kind()) {
                (Some("append"), _) => told.push(micro.clone()),
                (Some("w"), _) => told.extend([saw(element_or_nil(reply)?), micro.clone()]),
                (_, Some(OpKind::TxnAppend)) => told.push(saw(Datum::List(elements(reply)?))),
                _ => told.push(saw(element_or_nil(reply)?)),
            }
        }
        Ok(Next::Done(answer(invocation, told)))
    }
}
