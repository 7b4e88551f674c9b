//! `lock`: SET NX PX with fencing tokens, and writes that the tokens guard.
//!
//! Grants and guarded writes are scripts, so that a lock and its fence change together. Who holds a token may use it after
//! its lease has ended: then the guard must refuse it if a later holder was there first.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Datum, OpKind};

use super::reply::{answer, asked, call, int_or_nil, text};
use super::{Draw, Invocation, Load, Next, WorkloadOptions, command};

const ACQUIRE: &str = "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then \
    return redis.call('INCR', KEYS[2]) end return false";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
const GUARDED: &str = "if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or '0') then return 0 end \
    redis.call('SET', KEYS[1], ARGV[1]) return 1";
/// Tokens remembered for each lock.
const REMEMBERED: usize = 4;

#[derive(Debug)]
pub(super) struct Locks {
    options: WorkloadOptions,
    /// By lock: the latest grants, element and token.
    granted: Vec<Vec<(u64, u64)>>,
}

impl Locks {
    pub fn new(options: WorkloadOptions) -> Self {
        Self { options, granted: vec![Vec::new(); options.keys as usize] }
    }

    fn key(index: u32) -> String {
        format!("lock:{{l{index}}}")
    }

    fn acquire(index: u32, draw: &mut Draw<'_>) -> Invocation {
        let (key, element) = (Self::key(index), draw.element());
        let millis = u64::from(200 + draw.below(800));
        let fence = format!("{key}:fence");
        let command = command(&["EVAL", ACQUIRE, "2", &key, &fence, &text(element), &millis.to_string()]);
        let asked = Datum::List(vec![element.into(), millis.into()]);
        Invocation::new(call(OpKind::Acquire, key, asked), command)
    }
}

impl Load for Locks {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let index = draw.below(self.options.keys);
        let granted = &mut self.granted[index as usize];
        let what = draw.below(10);
        if granted.is_empty() || what < 4 {
            return Self::acquire(index, draw);
        }
        let key = Self::key(index);
        if what < 8 {
            let (_, token) = granted[draw.below(granted.len() as u32) as usize];
            let guarded = format!("{key}:guarded");
            let command = command(&["EVAL", GUARDED, "1", &guarded, &token.to_string()]);
            return Invocation::new(call(OpKind::Guarded, key, token), command);
        }
        let (element, token) = granted.remove(granted.len() - 1);
        let command = command(&["EVAL", RELEASE, "1", &key, &text(element)]);
        let asked = Datum::List(vec![element.into(), token.into()]);
        Invocation::new(call(OpKind::Release, key, asked), command)
    }

    /// The locks' values end by themselves at times that replicas need not keep to the millisecond; what they guard stays.
    fn final_reads(&self) -> Vec<Invocation> {
        let guarded = |index| {
            let key = Self::key(index);
            let command = command(&["GET", &format!("{key}:guarded")]);
            Invocation::new(call(OpKind::Get, key, Datum::Nil), command)
        };
        (0..self.options.keys).map(guarded).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        let said = int_or_nil(reply)?;
        if invocation.body.kind() == Some(OpKind::Acquire)
            && let (Some(token), Some(element)) =
                (said.number(), asked(invocation).items().first().and_then(Datum::number))
        {
            let index =
                invocation.op().key.trim_start_matches("lock:{l").trim_end_matches('}').parse::<usize>();
            if let Some(granted) = index.ok().and_then(|index| self.granted.get_mut(index)) {
                granted.push((element, token));
                if granted.len() > REMEMBERED {
                    granted.remove(0);
                }
            }
        }
        Ok(Next::Done(answer(invocation, said)))
    }
}
