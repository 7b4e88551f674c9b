//! `queue`: unique elements pushed at the left, popped at the right, some moved by LMOVE to a second queue of the same slot
//! first. Total order, each at most once.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Datum, OpKind};

use super::reply::{answer, call, element_or_nil, elements, int_or_nil, text};
use super::{Draw, Invocation, Load, Next, WorkloadOptions, command};

#[derive(Debug)]
pub(super) struct Queues {
    options: WorkloadOptions,
}

impl Queues {
    pub const fn new(options: WorkloadOptions) -> Self {
        Self { options }
    }

    fn first(index: u32) -> String {
        format!("queue:{{q{index}}}")
    }

    fn second(index: u32) -> String {
        format!("queue:{{q{index}}}:next")
    }

    fn pop(key: String) -> Invocation {
        let command = command(&["RPOP", &key]);
        Invocation::new(call(OpKind::Dequeue, key, Datum::Nil), command)
    }

    fn rest(key: String) -> Invocation {
        let command = command(&["LRANGE", &key, "0", "-1"]);
        Invocation::new(call(OpKind::Rest, key, Datum::Nil), command)
    }
}

impl Load for Queues {
    /// As many leave each queue as come, so that they stay short and are empty now and then.
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let index = draw.below(self.options.keys);
        let key = Self::first(index);
        match draw.below(100) {
            0..40 => {
                let element = draw.element();
                let command = command(&["LPUSH", &key, &text(element)]);
                Invocation::new(call(OpKind::Enqueue, key, element), command)
            }
            40..65 => Self::pop(key),
            65..82 => {
                let to = Self::second(index);
                let command = command(&["LMOVE", &key, &to, "RIGHT", "LEFT"]);
                Invocation::new(call(OpKind::Move, key, to), command)
            }
            _ => Self::pop(Self::second(index)),
        }
    }

    fn final_reads(&self) -> Vec<Invocation> {
        let keys = (0..self.options.keys).flat_map(|index| [Self::first(index), Self::second(index)]);
        keys.map(Self::rest).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        let said = match invocation.body.kind() {
            Some(OpKind::Enqueue) => int_or_nil(reply)?,
            Some(OpKind::Rest) => {
                // From the right end on: the next to leave first.
                Datum::List(elements(reply)?.into_iter().rev().collect())
            }
            _ => element_or_nil(reply)?,
        };
        Ok(Next::Done(answer(invocation, said)))
    }
}
