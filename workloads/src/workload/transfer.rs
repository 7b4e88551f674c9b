//! `transfer`: money moved between the accounts of a slot in MULTI/EXEC, and snapshots of all of them: the total is zero for
//! ever.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Datum, OpKind};

use super::reply::{answer, call, executed, int_or_nil, items};
use super::{Draw, Invocation, Load, Next, WorkloadOptions, command};

const ACCOUNTS: u32 = 5;

#[derive(Debug)]
pub(super) struct Transfers {
    options: WorkloadOptions,
}

impl Transfers {
    pub const fn new(options: WorkloadOptions) -> Self {
        Self { options }
    }

    fn key(index: u32) -> String {
        format!("account:{{a{index}}}")
    }

    fn balances(index: u32) -> Invocation {
        let key = Self::key(index);
        let accounts: Vec<String> = (0..ACCOUNTS).map(|account| format!("{key}:{account}")).collect();
        let mut words = vec!["MGET"];
        words.extend(accounts.iter().map(String::as_str));
        let command = command(&words);
        Invocation::new(call(OpKind::Balances, key, Datum::Nil), command)
    }
}

impl Load for Transfers {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let index = draw.below(self.options.keys);
        if draw.chance(self.options.read_percent) {
            return Self::balances(index);
        }
        let key = Self::key(index);
        let from = draw.below(ACCOUNTS);
        let to = (from + 1 + draw.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = (1 + draw.below(100)).to_string();
        let commands = vec![
            command(&["DECRBY", &format!("{key}:{from}"), &amount]),
            command(&["INCRBY", &format!("{key}:{to}"), &amount]),
        ];
        let amount: i64 = amount.parse().unwrap_or(0);
        let asked = Datum::List(vec![i64::from(from).into(), i64::from(to).into(), amount.into()]);
        Invocation::transaction(call(OpKind::Transfer, key, asked), commands)
    }

    fn final_reads(&self) -> Vec<Invocation> {
        (0..self.options.keys).map(Self::balances).collect()
    }

    fn answered(&mut self, invocation: &Invocation, _stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        let said = if invocation.is_write {
            let replies = executed(reply)?.ok_or("EXEC answered nil, though nothing was watched")?;
            replies.iter().map(int_or_nil).collect::<Result<Vec<Datum>, String>>()?
        } else {
            items(reply)?.iter().map(int_or_nil).collect::<Result<Vec<Datum>, String>>()?
        };
        Ok(Next::Done(answer(invocation, said)))
    }
}
