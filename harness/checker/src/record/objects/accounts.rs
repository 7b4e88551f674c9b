//! Accounts of one slot, between which money moves.

use super::{Converted, Converter};
use crate::linear::Bank;
use crate::record::{Datum, OpKind, Outcome};

/// The operations, all balances that were read, and what the accounts began with: nothing.
pub struct Accounts {
    pub converted: Converted<Bank>,
    pub balances: Vec<i64>,
    pub initial: Vec<i64>,
}

impl Converter<'_> {
    pub fn accounts(&self, ops: &[u32]) -> Accounts {
        let mut balances: Vec<i64> = Vec::new();
        let mut most = 0;
        let converted = self.each(ops, |op, outcome| match (op.kind, outcome) {
            (OpKind::Transfer, _) => {
                let [from, to, amount] = op.asked().items() else { return None };
                let account = |datum: &Datum| datum.number().and_then(|n| u32::try_from(n).ok());
                Some(Bank::Transfer { from: account(from)?, to: account(to)?, amount: amount.int()? })
            }
            (OpKind::Balances, Outcome::Ok) => {
                let start = balances.len() as u64;
                let seen = op.answer().items();
                balances.extend(seen.iter().map(|balance| balance.int().unwrap_or(0)));
                most = most.max(seen.len());
                Some(Bank::Read { start, accounts: seen.len() as u32 })
            }
            _ => None,
        });
        Accounts { converted, balances, initial: vec![0; most] }
    }
}
