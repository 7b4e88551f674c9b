//! `expiry`: values with a time to live: none ends early, none comes back after its end, whoever is master then.
//!
//! Keys are written for about a second and then left alone, so that each has a short history, which a search decides; some are
//! looked at much later.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Datum, OpKind};

use super::reply::{answer, call, element_or_nil, okay, text};
use super::{Draw, Invocation, Load, Next, WorkloadOptions, command};

/// Operations on a key while it is in use, on average.
const USES: u32 = 10;
/// Keys read at the end.
const READ_AT_THE_END: u32 = 1000;

#[derive(Debug)]
pub(super) struct Expiry {
    /// `keys` are in use at one time.
    options: WorkloadOptions,
    asked: u32,
}

impl Expiry {
    pub const fn new(options: WorkloadOptions) -> Self {
        Self { options, asked: 0 }
    }

    /// The first key that is in use.
    const fn oldest(&self) -> u32 {
        self.asked / (self.options.keys * USES) * self.options.keys
    }

    fn get(index: u32) -> Invocation {
        let key = format!("expiry:{index}");
        let command = command(&["GET", &key]);
        Invocation::new(call(OpKind::Get, key, Datum::Nil), command)
    }
}

impl Load for Expiry {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let oldest = self.oldest();
        self.asked += 1;
        if oldest > 0 && draw.chance(10) {
            return Self::get(draw.below(oldest));
        }
        let index = oldest + draw.below(self.options.keys);
        if draw.chance(self.options.read_percent) {
            return Self::get(index);
        }
        let (key, element) = (format!("expiry:{index}"), draw.element());
        let millis = u64::from(200 + draw.below(800));
        let command = command(&["SET", &key, &text(element), "PX", &millis.to_string()]);
        let asked = Datum::List(vec![element.into(), millis.into()]);
        Invocation::new(call(OpKind::WriteFor, key, asked), command)
    }

    fn final_reads(&self) -> Vec<Invocation> {
        let end = self.oldest() + self.options.keys;
        (end.saturating_sub(READ_AT_THE_END)..end).map(Self::get).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        if invocation.is_write {
            okay(reply)?;
            return Ok(Next::Done(invocation.body.clone()));
        }
        Ok(Next::Done(answer(invocation, element_or_nil(reply)?)))
    }
}
