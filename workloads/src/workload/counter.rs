//! `counter`: INCR, DECR and GET. Most keys only count up or only down, which is judged exactly without a search; each tenth
//! goes both ways.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Datum, OpKind};

use super::reply::{answer, call, int_or_nil};
use super::{Draw, Invocation, Load, Next, WorkloadOptions, command};

#[derive(Debug)]
pub(super) struct Counters {
    options: WorkloadOptions,
}

impl Counters {
    pub const fn new(options: WorkloadOptions) -> Self {
        Self { options }
    }

    fn count(index: u32) -> Invocation {
        let key = format!("counter:{index}");
        let command = command(&["GET", &key]);
        Invocation::new(call(OpKind::Count, key, Datum::Nil), command)
    }
}

impl Load for Counters {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let index = draw.below(self.options.keys);
        if draw.chance(self.options.read_percent) {
            return Self::count(index);
        }
        let down = match index % 10 {
            0 => draw.chance(50),
            n => n > 5,
        };
        let key = format!("counter:{index}");
        let (kind, name) = if down { (OpKind::Decrement, "DECR") } else { (OpKind::Increment, "INCR") };
        let command = command(&[name, &key]);
        Invocation::new(call(kind, key, Datum::Nil), command)
    }

    fn final_reads(&self) -> Vec<Invocation> {
        (0..self.options.keys).map(Self::count).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        Ok(Next::Done(answer(invocation, int_or_nil(reply)?)))
    }
}
