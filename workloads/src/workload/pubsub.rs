//! `pubsub` and `spubsub`: unique messages on a few channels. Nobody promises that they arrive; how many do not is counted.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Body, Call, Datum, Op, OpKind};

use super::reply::{answer, call, element_or_nil, int_or_nil, text};
use super::{Draw, Invocation, Load, Next, WorkloadKind, WorkloadOptions, command};
use crate::client::Subscription;

#[derive(Debug)]
pub(super) struct Pubsub {
    options: WorkloadOptions,
    sharded: bool,
}

impl Pubsub {
    pub fn new(options: WorkloadOptions) -> Self {
        Self { options, sharded: options.kind == WorkloadKind::Spubsub }
    }

    fn channel(&self, index: u32) -> String {
        format!("{}:{index}", self.options.kind.name())
    }
}

impl Load for Pubsub {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let (channel, element) = (self.channel(draw.below(self.options.keys)), draw.element());
        let name = if self.sharded { "SPUBLISH" } else { "PUBLISH" };
        let command = command(&[name, &channel, &text(element)]);
        Invocation::new(call(OpKind::Publish, channel, element), command)
    }

    /// Nothing stays.
    fn final_reads(&self) -> Vec<Invocation> {
        Vec::new()
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        let listen = |index| Subscription { channel: self.channel(index), sharded: self.sharded };
        (0..self.options.keys).map(listen).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        Ok(Next::Done(answer(invocation, int_or_nil(reply)?)))
    }
}

/// A client got this message.
pub(super) fn message(channel: &str, payload: &[u8]) -> Body {
    let payload = BytesFrame::BulkString(payload.to_vec().into());
    let answer = element_or_nil(&payload).unwrap_or(Datum::Nil);
    let op = Op { key: channel.to_owned(), ..Op::default() };
    Body::Call(Call { f: OpKind::Message, answer, op, ..Call::default() })
}
