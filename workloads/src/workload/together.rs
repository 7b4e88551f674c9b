//! `multi-key`: three keys of a slot, written by MSET and read by MGET only. While their slot migrates the server answers
//! TRYAGAIN if they are not all in one place; it never shows half of a write.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Datum, OpKind};

use super::reply::{answer, call, elements, okay, text};
use super::{Draw, Invocation, Load, Next, WorkloadOptions, command};

#[derive(Debug)]
pub(super) struct Together {
    options: WorkloadOptions,
}

impl Together {
    pub const fn new(options: WorkloadOptions) -> Self {
        Self { options }
    }

    fn key(index: u32) -> String {
        format!("together:{{m{index}}}")
    }

    fn names(key: &str) -> [String; 3] {
        ["a", "b", "c"].map(|name| format!("{key}:{name}"))
    }

    fn get(index: u32) -> Invocation {
        let key = Self::key(index);
        let [a, b, c] = Self::names(&key);
        let command = command(&["MGET", &a, &b, &c]);
        Invocation::new(call(OpKind::GetAll, key, Datum::Nil), command)
    }
}

impl Load for Together {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let index = draw.below(self.options.keys);
        if draw.chance(self.options.read_percent) {
            return Self::get(index);
        }
        let (key, element) = (Self::key(index), draw.element());
        let [a, b, c] = Self::names(&key);
        let value = text(element);
        let command = command(&["MSET", &a, &value, &b, &value, &c, &value]);
        Invocation::new(call(OpKind::WriteAll, key, element), command)
    }

    fn final_reads(&self) -> Vec<Invocation> {
        (0..self.options.keys).map(Self::get).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        if invocation.is_write {
            okay(reply)?;
            return Ok(Next::Done(invocation.body.clone()));
        }
        Ok(Next::Done(answer(invocation, elements(reply)?)))
    }
}
