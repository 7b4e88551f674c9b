//! `set`, `append` and `wait`: collections that only grow, so that the final read tells what was lost.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Body, Op};

use super::reply::{element, items, text, wrong};
use super::{Draw, Invocation, Load, Next, WorkloadKind, WorkloadOptions, command};

#[derive(Debug)]
pub(super) struct Growing {
    options: WorkloadOptions,
    lists: bool,
}

impl Growing {
    pub fn new(options: WorkloadOptions) -> Self {
        Self { options, lists: options.kind == WorkloadKind::Append }
    }

    fn key(&self, index: u32) -> String {
        [self.options.kind.name(), ":", &index.to_string()].concat()
    }

    fn read(&self, key: String) -> Invocation {
        let command =
            if self.lists { command(&["LRANGE", &key, "0", "-1"]) } else { command(&["SMEMBERS", &key]) };
        Invocation::new(Body::Read(Op { key, ..Op::default() }), command)
    }
}

impl Load for Growing {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let key = self.key(draw.below(self.options.keys));
        if draw.chance(self.options.read_percent) {
            return self.read(key);
        }
        let value = draw.element();
        let name = if self.lists { "RPUSH" } else { "SADD" };
        let command = command(&[name, &key, &text(value)]);
        let op = Op { key, value: Some(value), ..Op::default() };
        Invocation::new(if self.lists { Body::Append(op) } else { Body::Add(op) }, command)
    }

    fn final_reads(&self) -> Vec<Invocation> {
        (0..self.options.keys).map(|index| self.read(self.key(index))).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        let mut body = invocation.body.clone();
        match (&mut body, reply) {
            (Body::Add(op) | Body::Append(op), BytesFrame::Integer(reply)) => op.reply = Some(*reply),
            (Body::Read(op), reply) => {
                let members = items(reply)?;
                let mut elements = Vec::with_capacity(members.len());
                for member in members {
                    let BytesFrame::BulkString(bytes) = member else {
                        return Err(format!("a member that is no bulk string: {member:?}"));
                    };
                    match element(bytes) {
                        Some(element) => elements.push(element),
                        None => op.foreign.push(String::from_utf8_lossy(bytes).into_owned()),
                    }
                }
                op.elements = Some(elements);
            }
            (_, reply) => return Err(wrong(reply)),
        }
        Ok(Next::Done(body))
    }
}
