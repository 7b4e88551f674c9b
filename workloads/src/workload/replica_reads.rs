//! `replica-reads`: counters whose number is a version, read from replicas by clients that stay with one of them.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Datum, OpKind};

use super::reply::{answer, call, int_or_nil};
use super::{Draw, Invocation, Load, Next, WorkloadOptions, command};
use crate::client::Route;

#[derive(Debug)]
pub(super) struct ReplicaReads {
    options: WorkloadOptions,
}

impl ReplicaReads {
    pub const fn new(options: WorkloadOptions) -> Self {
        Self { options }
    }

    fn read(kind: OpKind, index: u32) -> Invocation {
        let key = format!("version:{index}");
        let command = command(&["GET", &key]);
        Invocation::new(call(kind, key, Datum::Nil), command)
    }
}

impl Load for ReplicaReads {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let index = draw.below(self.options.keys);
        if draw.chance(self.options.read_percent) {
            return Invocation { route: Route::Replica, ..Self::read(OpKind::CountAtReplica, index) };
        }
        let key = format!("version:{index}");
        let command = command(&["INCR", &key]);
        Invocation::new(call(OpKind::Increment, key, Datum::Nil), command)
    }

    fn final_reads(&self) -> Vec<Invocation> {
        (0..self.options.keys).map(|index| Self::read(OpKind::Count, index)).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        Ok(Next::Done(answer(invocation, int_or_nil(reply)?)))
    }
}
