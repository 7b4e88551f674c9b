//! Accounts, between which money moves.

use std::collections::BTreeMap;

use super::View;
use crate::foreign::calls::Ending;
use crate::foreign::value::Value;
use crate::foreign::workload::WorkloadError;
use crate::linear::Bank;

/// Accounts by name, numbered as they come.
#[derive(Default)]
pub(super) struct Accounts {
    numbers: BTreeMap<String, u32>,
    /// What reads saw: a balance for each account that was known by then.
    pub balances: Vec<i64>,
}

impl Accounts {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Gives all accounts their numbers, so that every snapshot has the same order.
    pub fn collect(&mut self, view: View<'_>) {
        let named = ["from", "to"].into_iter().filter_map(|name| view.asked.entry(name));
        let read = match view.answered {
            Value::Map(entries) if view.f() == "read" => entries.as_slice(),
            _ => &[],
        };
        for name in read.iter().map(|(name, _)| name).chain(named) {
            let next = self.numbers.len() as u32;
            self.numbers.entry(name.to_string()).or_insert(next);
        }
    }

    pub fn bank(&mut self, view: View<'_>) -> Result<Vec<Bank>, WorkloadError> {
        match view.f() {
            "read" if view.call.ending != Ending::Ok => Ok(Vec::new()),
            "read" => self.read(view).map(|read| vec![read]),
            "transfer" => {
                let account = |name: &str| {
                    let account = view.asked.entry(name).map(Value::to_string);
                    account
                        .and_then(|account| self.numbers.get(&account).copied())
                        .ok_or_else(|| view.wrong("a map with :from, :to and :amount", view.asked))
                };
                let (from, to) = (account("from")?, account("to")?);
                let Some(amount) = view.asked.entry("amount").and_then(Value::int) else {
                    return Err(view.wrong("a map with :from, :to and :amount", view.asked));
                };
                Ok(vec![Bank::Transfer { from, to, amount }])
            }
            _ => Err(view.unknown_f(":transfer or :read")),
        }
    }

    /// An account that a read does not name held nothing; one that it names twice is no account.
    fn read(&mut self, view: View<'_>) -> Result<Bank, WorkloadError> {
        let Value::Map(entries) = view.answered else {
            return Err(view.wrong("a map of accounts to balances", view.answered));
        };
        let start = self.balances.len();
        self.balances.resize(start + self.numbers.len(), 0);
        for (account, balance) in entries {
            let Value::Int(balance) = balance else { return Err(view.wrong("a balance", balance)) };
            let number = self.numbers.get(&account.to_string()).copied().unwrap_or_default();
            self.balances[start + number as usize] = *balance;
        }
        Ok(Bank::Read { start: start as u64, accounts: self.numbers.len() as u32 })
    }
}
