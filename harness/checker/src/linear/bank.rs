//! Transfers between accounts, and snapshots of all balances: whatever the order, the total never changes.
//!
//! The total, the number of accounts and the sign of every balance are judged read by read ([`totals`]); whether the
//! snapshots also fit one order of the transfers is a search ([`bank`]).

use super::findings::{Findings, witness};
use super::op::{Op, Status, numbered};
use super::search::{self, Limits, Model, uniform};
use crate::answer::{Answer, Unknown};

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
    /// The balance of every account at the beginning; None: nobody told, and any will do that explains the reads.
    pub initial: Option<&'a [i64]>,
    /// Balances may go below zero.
    pub overdraft: bool,
}

/// Does every snapshot alone make sense? Without known beginnings the first one says how many accounts there are, and what
/// they hold together.
pub fn totals(ops: &[Op<Bank>], balances: &[i64], rules: BankRules<'_>) -> Answer {
    let sum = |balances: &[i64]| balances.iter().map(|&balance| i128::from(balance)).sum::<i128>();
    let mut findings = Findings::default();
    let mut initial = rules.initial;
    for (id, op) in numbered(ops).filter(|(_, op)| op.status == Status::Done) {
        let Bank::Read { start, accounts } = op.kind else { continue };
        let snapshot = &balances[start as usize..][..accounts as usize];
        let initial = *initial.get_or_insert(snapshot);
        let mut report = |class, sentence| findings.add(class, || witness(ops, class, &[id], sentence));
        if snapshot.len() != initial.len() {
            let sentence = format!("{} accounts were read, there are {}", snapshot.len(), initial.len());
            report("wrong-accounts", sentence);
        } else if sum(snapshot) != sum(initial) {
            let sentence = format!("the balances summed up to {}, not {}", sum(snapshot), sum(initial));
            report("wrong-total", sentence);
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
    let decide = |initial: &[i64]| {
        search::decide(&BankModel::new(initial, rules.overdraft, balances), ops, None, limits)
    };
    if let Some(initial) = rules.initial {
        return decide(initial);
    }
    let Some(openings) = openings(ops, balances) else {
        let reason = format!(
            "every total is right; the order is not decided: more than {MOST_CONCURRENT} transfers are concurrent with the \
             first snapshot, which tells what the accounts began with"
        );
        return Answer::Unknown(Unknown { reason, checked_until: None });
    };
    let mut last = Answer::Holds;
    for opening in openings {
        match decide(&opening) {
            Answer::Holds => return Answer::Holds,
            // One that is not decided might have held.
            unknown @ Answer::Unknown(_) => last = unknown,
            violated @ Answer::Violated { .. } if last == Answer::Holds => last = violated,
            Answer::Violated { .. } => {}
        }
    }
    last
}

/// Transfers that may or may not be in the first snapshot: each doubles the beginnings that are tried.
const MOST_CONCURRENT: usize = 10;

/// What the accounts may have begun with, so that the snapshot that returned first is right: likeliest first, at least
/// one. Empty without a snapshot; None: too many.
fn openings(ops: &[Op<Bank>], balances: &[i64]) -> Option<Vec<Vec<i64>>> {
    let reads = ops.iter().filter(|op| op.status == Status::Done);
    let reads = reads.filter_map(|op| match op.kind {
        Bank::Read { start, accounts } => Some((op, &balances[start as usize..][..accounts as usize])),
        Bank::Transfer { .. } => None,
    });
    let Some((first, snapshot)) = reads.min_by_key(|(op, _)| op.ret) else { return Some(Vec::new()) };
    let mut openings = vec![snapshot.to_vec()];
    let mut concurrent = 0;
    for op in ops.iter().filter(|op| op.status != Status::Failed && op.call <= first.ret) {
        let Bank::Transfer { from, to, amount } = op.kind else { continue };
        let mut without = openings.clone();
        for opening in &mut without {
            give_back(opening, from, to, amount);
        }
        if op.precedes(first) {
            openings = without;
        } else {
            concurrent += 1;
            if concurrent > MOST_CONCURRENT {
                return None;
            }
            openings.append(&mut without);
        }
    }
    Some(openings)
}

/// The balances before this transfer.
fn give_back(balances: &mut [i64], from: u32, to: u32, amount: i64) {
    for (account, change) in [(from, amount), (to, amount.wrapping_neg())] {
        if let Some(balance) = balances.get_mut(account as usize) {
            *balance = balance.wrapping_add(change);
        }
    }
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
    pub fn new(initial: &[i64], overdraft: bool, balances: &'a [i64]) -> Self {
        let mut model = Self { now: initial.to_vec(), balances, overdraft, fingerprint: 0 };
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
