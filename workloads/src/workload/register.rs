//! `register`: unique writes, reads, `SET .. GET`, and compare-and-set by script and by WATCH/MULTI.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Body, Datum, OpKind};

use super::reply::{answer, asked, call, element_or_nil, executed, okay, text};
use super::{Draw, Invocation, Load, Next, WorkloadOptions, command};
use crate::client::Route;

/// Answers what it saw; the empty text stands for an absent key.
const COMPARE_AND_SET: &str = "local seen = redis.call('GET', KEYS[1]) \
    if (seen or '') == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end return seen";

#[derive(Debug)]
pub(super) struct Registers {
    options: WorkloadOptions,
    /// By key: the latest element that anybody was told of, so that many compare-and-sets win.
    latest: Vec<Datum>,
}

impl Registers {
    pub fn new(options: WorkloadOptions) -> Self {
        Self { options, latest: vec![Datum::Nil; options.keys as usize] }
    }

    fn key(index: u32) -> String {
        format!("register:{index}")
    }

    fn get(index: u32) -> Invocation {
        let key = Self::key(index);
        let command = command(&["GET", &key]);
        Invocation::new(call(OpKind::Get, key, Datum::Nil), command)
    }

    fn saw(&mut self, invocation: &Invocation, element: &Datum) {
        let key = &invocation.op().key;
        let index = key.rsplit(':').next().and_then(|index| index.parse::<usize>().ok());
        if let Some(latest) = index.and_then(|index| self.latest.get_mut(index)) {
            latest.clone_from(element);
        }
    }

    /// The script's answer; or of WATCH and GET (stage 0) and then of EXEC.
    fn compared(&mut self, invocation: &Invocation, stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        let [from, to] = asked(invocation).items() else { return Err("no compare-and-set".into()) };
        if stage > 0 {
            let Some(replies) = executed(reply)? else {
                return Ok(Next::Refused("the key changed between WATCH and EXEC".into()));
            };
            replies.first().map_or(Err("EXEC of nothing".to_owned()), okay)?;
            self.saw(invocation, to);
            return Ok(Next::Done(answer(invocation, from.clone())));
        }
        let seen = element_or_nil(reply)?;
        let wins = seen == *from;
        if wins && invocation.route == Route::Alone {
            let key = &invocation.op().key;
            let write = vec![command(&["MULTI"]), command(&["SET", key, &wire(to)]), command(&["EXEC"])];
            return Ok(Next::Then(write));
        }
        self.saw(invocation, if wins { to } else { &seen });
        Ok(Next::Done(answer(invocation, seen)))
    }

    fn compare_and_set(&self, index: u32, to: u64, draw: &mut Draw<'_>) -> Invocation {
        let key = Self::key(index);
        let from = self.latest[index as usize].clone();
        let asked = Datum::List(vec![from.clone(), to.into()]);
        let body = call(OpKind::Cas, key.clone(), asked);
        if draw.chance(40) {
            // A watch of an earlier operation that was not followed by EXEC must not spoil this one.
            let look = vec![command(&["UNWATCH"]), command(&["WATCH", &key]), command(&["GET", &key])];
            return Invocation { commands: look, route: Route::Alone, ..Invocation::new(body, Vec::new()) };
        }
        let from = wire(&from);
        let command = command(&["EVAL", COMPARE_AND_SET, "1", &key, &from, &text(to)]);
        Invocation::new(body, command)
    }
}

/// An element as the server holds it.
fn wire(element: &Datum) -> String {
    element.number().map_or(String::new(), text)
}

impl Load for Registers {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let index = draw.below(self.options.keys);
        if draw.chance(self.options.read_percent) {
            return Self::get(index);
        }
        let element = draw.element();
        let key = Self::key(index);
        let value = text(element);
        match draw.below(10) {
            0..=2 => {
                let command = command(&["SET", &key, &value]);
                Invocation::new(call(OpKind::Write, key, element), command)
            }
            3..=5 => {
                let command = command(&["SET", &key, &value, "GET"]);
                Invocation::new(call(OpKind::Swap, key, element), command)
            }
            _ => self.compare_and_set(index, element, draw),
        }
    }

    fn final_reads(&self) -> Vec<Invocation> {
        (0..self.options.keys).map(Self::get).collect()
    }

    fn answered(&mut self, invocation: &Invocation, stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        let Body::Call(asked_for) = &invocation.body else { return Err("no register's operation".into()) };
        match asked_for.f {
            OpKind::Write => {
                okay(reply)?;
                self.saw(invocation, &asked_for.asked);
                Ok(Next::Done(invocation.body.clone()))
            }
            OpKind::Swap => {
                let before = element_or_nil(reply)?;
                self.saw(invocation, &asked_for.asked);
                Ok(Next::Done(answer(invocation, before)))
            }
            OpKind::Cas => self.compared(invocation, stage, reply),
            _ => {
                let seen = element_or_nil(reply)?;
                self.saw(invocation, &seen);
                Ok(Next::Done(answer(invocation, seen)))
            }
        }
    }
}
