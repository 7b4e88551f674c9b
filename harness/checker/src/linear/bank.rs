//! Transfers between accounts, and snapshots of all balances: whatever the order, the total never changes.
//!
//! The total, the number of accounts and the sign of every balance are judged read by read ([`totals`]); whether the
//! snapshots also fit one order of the transfers is a search ([`bank`]).

use super::findings::{Findings, witness};
use super::op::{Op, Status, numbered};
use super::search::{self, Limits, Model, uniform};
use crate::answer::Answer;

/// An operation on the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bank {
    /// Moved this much.
    Transfer { from: u32, to: u32, amount: i64 },
    /// A snapshot of all accounts: `balances[start..][..accounts]`.
    Read { start: u64, accounts: u32 },
}

/// What the accounts begin with and may do.
#[derive(Clone, Copy, Debug)]
pub struct BankRules<'a> {
    /// The balance of every account at the beginning.
    pub initial: &'a [i64],
    /// Balances may go below zero.
    pub overdraft: bool,
}

/// Does every snapshot alone make sense?
pub fn totals(ops: &[Op<Bank>], balances: &[i64], rules: BankRules<'_>) -> Answer {
    let sum = |balances: &[i64]| balances.iter().map(|&balance| i128::from(balance)).sum::<i128>();
    let total = sum(rules.initial);
    let mut findings = Findings::default();
    for (id, op) in numbered(ops).filter(|(_, op)| op.status == Status::Done) {
        let Bank::Read { start, accounts } = op.kind else { continue };
        let snapshot = &balances[start as usize..][..accounts as usize];
        let mut report = |class, sentence| findings.add(class, || witness(ops, class, &[id], sentence));
        if snapshot.len() != rules.initial.len() {
            let sentence =
                format!("{} accounts were read, there are {}", snapshot.len(), rules.initial.len());
            report("wrong-accounts", sentence);
        } else if sum(snapshot) != total {
            report("wrong-total", format!("the balances summed up to {}, not {total}", sum(snapshot)));
        } else if let Some(balance) = snapshot.iter().find(|&&balance| balance < 0 && !rules.overdraft) {
            report("negative-balance", format!("an account had {balance}"));
        }
    }
    findings.answer()
}

/// Is there one order of these operations that the accounts explain?
pub fn bank(ops: &[Op<Bank>], balances: &[i64], rules: BankRules<'_>, limits: &Limits<'_>) -> Answer {
    let unsound = totals(ops, balances, rules);
    if unsound != Answer::Holds {
        return unsound;
    }
    search::decide(&BankModel::new(rules, balances), ops, None, limits)
}

/// The accounts as a sequential object.
#[derive(Clone, Debug)]
pub struct BankModel<'a> {
    now: Vec<i64>,
    balances: &'a [i64],
    overdraft: bool,
    fingerprint: u128,
}

impl<'a> BankModel<'a> {
    /// `balances` is what reads refer to.
    pub fn new(rules: BankRules<'_>, balances: &'a [i64]) -> Self {
        let mut model =
            Self { now: rules.initial.to_vec(), balances, overdraft: rules.overdraft, fingerprint: 0 };
        for account in 0..model.now.len() {
            model.toggle(account);
        }
        model
    }

    fn toggle(&mut self, account: usize) {
        self.fingerprint ^= uniform(((account as u128 + 1) << 64) | u128::from(self.now[account] as u64));
    }

    fn set(&mut self, account: usize, balance: i64) {
        self.toggle(account);
        self.now[account] = balance;
        self.toggle(account);
    }

    fn shift(&mut self, from: u32, to: u32, amount: i64) -> Option<()> {
        let (from, to) = (from as usize, to as usize);
        let left = self.now.get(from)?.checked_sub(amount)?;
        if left < 0 && !self.overdraft {
            return None;
        }
        self.now.get(to)?.checked_add(amount)?;
        self.set(from, left);
        self.set(to, self.now[to] + amount);
        Some(())
    }
}

impl Model for BankModel<'_> {
    type Kind = Bank;
    type Undo = ();

    fn apply(&mut self, kind: Bank, _known: bool) -> Option<()> {
        match kind {
            Bank::Transfer { from, to, amount } => self.shift(from, to, amount),
            Bank::Read { start, accounts } => {
                (self.balances[start as usize..][..accounts as usize] == self.now[..]).then_some(())
            }
        }
    }

    fn undo(&mut self, kind: Bank, (): ()) {
        if let Bank::Transfer { from, to, amount } = kind {
            self.set(from as usize, self.now[from as usize] + amount);
            self.set(to as usize, self.now[to as usize] - amount);
        }
    }

    fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    fn only_reads(kind: Bank) -> bool {
        matches!(kind, Bank::Read { .. })
    }
}
