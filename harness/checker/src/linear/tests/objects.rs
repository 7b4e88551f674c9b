//! Sets, lists, counters, queues, locks, leases, accounts and expiring keys against the reference.

use std::collections::{BTreeSet, VecDeque};

use rand::Rng;
use rand::rngs::SmallRng;

use super::random::{self, Tally, histories};
use super::reference::{Step, has_order, verdict};
use crate::answer::{Answer, Witness};
use crate::linear::*;

/// A random history of each seed: `check` and the reference must agree, and `alone` must find that no order explains
/// the operations of a witness alone.
fn compare<S: Clone, K: std::fmt::Debug>(
    initial: &S,
    step: Step<S, K>,
    make: impl Fn(&mut SmallRng) -> Vec<Op<K>>,
    check: impl Fn(&[Op<K>]) -> Answer,
    alone: impl Fn(&[Op<K>], &Witness) -> Option<Vec<Op<K>>>,
) {
    let mut tally = Tally::default();
    for seed in 0..histories() {
        let ops = make(&mut random::rng(seed));
        let answer = check(&ops);
        let legal = has_order(&ops, initial, step);
        assert_eq!(verdict(&answer, &ops), legal, "seed {seed}: {ops:?}\n{answer:?}");
        if let Answer::Violated { witnesses, .. } = &answer {
            // A value from nowhere spoils the other witnesses of its history: its write is in none of them.
            let nowhere = witnesses.iter().any(|witness| witness.class == "garbage-read");
            for witness in witnesses.iter().filter(|witness| !nowhere || witness.class == "garbage-read") {
                let Some(part) = alone(&ops, witness) else { continue };
                assert!(!has_order(&part, initial, step), "seed {seed}: {ops:?}\n{witness:?}");
            }
        }
        tally.add(legal);
    }
    tally.assert_both();
}

/// The operations of the witness as they are.
fn as_they_are<K: Copy>(ops: &[Op<K>], witness: &Witness) -> Vec<Op<K>> {
    witness.ops.iter().map(|id| ops[id.0 as usize]).collect()
}

/// How much of a history lies, in tenths, how much is unknown.
fn mood(rng: &mut SmallRng) -> (f64, u32) {
    let lies = if rng.random_bool(0.5) { 0.0 } else { 0.2 };
    (lies, rng.random_range(0..4))
}

/// Whether an operation that ended so changed the state.
fn happens(rng: &mut SmallRng, status: Status) -> bool {
    status == Status::Done || (status == Status::Unknown && rng.random_bool(0.5))
}

// Sets and lists: the reference's operations carry their elements.

#[derive(Clone, Debug)]
enum Grow {
    Add(u64, u32),
    Read(Vec<u64>),
}

fn growing(rng: &mut SmallRng, with_lengths: bool, shuffled: bool) -> Vec<Op<Grow>> {
    let (lies, unknown) = mood(rng);
    let mut state: Vec<u64> = Vec::new();
    let mut ops = Vec::new();
    for (process, interval) in (0..).zip(random::intervals(rng)) {
        let status = random::status(rng, unknown);
        if rng.random_bool(0.55) {
            let element = u64::from(process) + 1;
            let mut length = state.len() as u32 + 1;
            if rng.random_bool(lies) {
                length = rng.random_range(1..=5);
            }
            let told = with_lengths && rng.random_bool(0.6);
            ops.push(random::op(
                process,
                interval,
                status,
                Grow::Add(element, if told { length } else { 0 }),
            ));
            if happens(rng, status) {
                state.push(element);
            }
        } else {
            let mut seen = state.clone();
            if rng.random_bool(lies) {
                match rng.random_range(0..5) {
                    0 => drop(seen.pop()),
                    1 if !seen.is_empty() => drop(seen.remove(rng.random_range(0..seen.len()))),
                    2 => seen.push(rng.random_range(1..=u64::from(process) + 2)),
                    3 => seen.reverse(),
                    _ => seen.truncate(1),
                }
            }
            if shuffled {
                let by = rng.random_range(0..=seen.len());
                seen.rotate_left(by);
            }
            ops.push(random::op(process, interval, status, Grow::Read(seen)));
        }
    }
    ops
}

fn list_step(state: &Vec<u64>, kind: &Grow, known: bool) -> Option<Vec<u64>> {
    match kind {
        Grow::Add(element, length) => {
            let mut next = state.clone();
            next.push(*element);
            (!known || *length == 0 || *length as usize == next.len()).then_some(next)
        }
        Grow::Read(seen) => (!known || seen == state).then(|| state.clone()),
    }
}

fn set_step(state: &BTreeSet<u64>, kind: &Grow, known: bool) -> Option<BTreeSet<u64>> {
    match kind {
        Grow::Add(element, _) => Some(state.iter().copied().chain([*element]).collect()),
        Grow::Read(seen) => {
            let equal =
                seen.len() == state.len() && seen.iter().copied().collect::<BTreeSet<u64>>() == *state;
            (!known || equal).then(|| state.clone())
        }
    }
}

/// The history as the checks take it.
fn flat<K>(ops: &[Op<Grow>], add: fn(u64, u32) -> K, read: fn(u64, u32) -> K) -> (Vec<Op<K>>, Vec<u64>) {
    let mut elements = Vec::new();
    let flat = ops.iter().map(|op| {
        let kind = match &op.kind {
            Grow::Add(element, length) => add(*element, *length),
            Grow::Read(seen) => {
                let start = elements.len() as u64;
                elements.extend(seen);
                read(start, seen.len() as u32)
            }
        };
        Op { call: op.call, ret: op.ret, process: op.process, status: op.status, kind }
    });
    (flat.collect(), elements)
}

/// The witness, as if nothing but its elements had ever been there.
fn projected(ops: &[Op<Grow>], witness: &Witness) -> Option<Vec<Op<Grow>>> {
    let chosen = || witness.ops.iter().map(|id| &ops[id.0 as usize]);
    let lengths = chosen().any(|op| matches!(op.kind, Grow::Add(_, length) if length > 0));
    if lengths || matches!(witness.class, "garbage-read" | "gap") {
        return None;
    }
    let named: BTreeSet<u64> = chosen()
        .filter_map(|op| if let Grow::Add(element, _) = op.kind { Some(element) } else { None })
        .collect();
    Some(
        chosen()
            .map(|op| match &op.kind {
                Grow::Add(..) => op.clone(),
                Grow::Read(seen) => {
                    let seen = seen.iter().copied().filter(|element| named.contains(element)).collect();
                    Op { kind: Grow::Read(seen), ..*op }
                }
            })
            .collect(),
    )
}

#[test]
fn sets_agree_with_the_reference() {
    let check = |ops: &[Op<Grow>]| {
        let (ops, elements) =
            flat(ops, |element, _| Set::Add(element), |start, len| Set::Read { start, len });
        set(&ops, &elements)
    };
    compare(&BTreeSet::new(), set_step, |rng| growing(rng, false, true), check, projected);
}

#[test]
fn lists_agree_with_the_reference() {
    let check = |ops: &[Op<Grow>]| {
        let add = |element, length| List::Append { element, length };
        let (ops, elements) = flat(ops, add, |start, len| List::Read { start, len });
        list(&ops, &elements)
    };
    compare(&Vec::new(), list_step, |rng| growing(rng, false, false), check, projected);
    compare(&Vec::new(), list_step, |rng| growing(rng, true, false), check, projected);
}

// Counters.

fn counter_step(state: &i64, kind: &Counter, known: bool) -> Option<i64> {
    match *kind {
        Counter::Add { by, reply } => {
            (!known || reply == SILENT || reply == state + by).then_some(state + by)
        }
        Counter::Get(value) => (!known || value == *state).then_some(*state),
    }
}

fn counting(rng: &mut SmallRng, silent: f64, steps: &[i64]) -> Vec<Op<Counter>> {
    let (lies, unknown) = mood(rng);
    let mut state = 0;
    let mut ops = Vec::new();
    for (process, interval) in (0..).zip(random::intervals(rng)) {
        let status = random::status(rng, unknown);
        let error = if rng.random_bool(lies) { rng.random_range(-2..=2) } else { 0 };
        if rng.random_bool(0.6) {
            let by = steps[rng.random_range(0..steps.len())];
            let reply = if rng.random_bool(silent) { SILENT } else { state + by + error };
            ops.push(random::op(process, interval, status, Counter::Add { by, reply }));
            if happens(rng, status) {
                state += by;
            }
        } else {
            ops.push(random::op(process, interval, status, Counter::Get(state + error)));
        }
    }
    ops
}

#[test]
fn counters_agree_with_the_reference() {
    for silent in [0.0, 0.4, 1.0] {
        let check = |ops: &[Op<Counter>]| counter(ops, &Limits::default());
        compare(&0, counter_step, |rng| counting(rng, silent, &[1]), check, |_, _| None);
    }
}

#[test]
fn counters_with_steps_of_several_sizes_agree_with_the_reference() {
    let check = |ops: &[Op<Counter>]| counter(ops, &Limits::default());
    compare(&0, counter_step, |rng| counting(rng, 0.3, &[1, 2, -1]), check, |_, _| None);
    compare(&0, counter_step, |rng| counting(rng, 0.3, &[3]), check, |_, _| None);
}

// Queues.

fn queue_step(state: &VecDeque<u64>, kind: &Queue, known: bool) -> Option<VecDeque<u64>> {
    let mut next = state.clone();
    match *kind {
        Queue::Enqueue(element) => next.push_back(element),
        Queue::Dequeue(element) => {
            let taken = next.pop_front();
            if known && taken != Some(element) {
                return None;
            }
        }
        Queue::Empty if known && !next.is_empty() => return None,
        Queue::Empty => {}
    }
    Some(next)
}

fn queueing(rng: &mut SmallRng, lost_pops: bool) -> Vec<Op<Queue>> {
    let (lies, unknown) = mood(rng);
    let mut state = VecDeque::new();
    let mut ops = Vec::new();
    for (process, interval) in (0..).zip(random::intervals(rng)) {
        let mut status = random::status(rng, unknown);
        if rng.random_bool(0.5) {
            let element = u64::from(process) + 1;
            ops.push(random::op(process, interval, status, Queue::Enqueue(element)));
            if happens(rng, status) {
                state.push_back(element);
            }
            continue;
        }
        if status == Status::Unknown && !lost_pops {
            status = Status::Done;
        }
        let real = if happens(rng, status) { state.pop_front() } else { state.front().copied() };
        let told =
            if rng.random_bool(lies) { Some(rng.random_range(1..=u64::from(process) + 1)) } else { real };
        let kind = told.filter(|_| !rng.random_bool(lies / 2.0)).map_or(Queue::Empty, Queue::Dequeue);
        let kind = if status == Status::Unknown { Queue::Dequeue(0) } else { kind };
        ops.push(random::op(process, interval, status, kind));
    }
    ops
}

#[test]
fn queues_agree_with_the_reference() {
    let check = |ops: &[Op<Queue>]| queue(ops, &Limits::default());
    compare(
        &VecDeque::new(),
        queue_step,
        |rng| queueing(rng, false),
        check,
        |ops, witness| Some(as_they_are(ops, witness)),
    );
}

#[test]
fn queues_with_lost_pops_agree_with_the_reference() {
    let check = |ops: &[Op<Queue>]| queue(ops, &Limits::default());
    compare(&VecDeque::new(), queue_step, |rng| queueing(rng, true), check, |_, _| None);
}

/// The same without an order: what a pop of unknown outcome took, if anything, is tried out.
#[test]
fn bags_agree_with_the_reference() {
    let step: Step<BTreeSet<u64>, Queue> = |state, kind, _| {
        let mut next = state.clone();
        match kind {
            Queue::Enqueue(element) => next.insert(*element).then_some(next),
            Queue::Dequeue(element) => next.remove(element).then_some(next),
            Queue::Empty => next.is_empty().then_some(next),
        }
    };
    let (mut tally, mut undecided) = (Tally::default(), 0);
    for seed in 0..histories() {
        let ops = queueing(&mut random::rng(seed), seed % 2 == 0);
        let answer = bag(&ops);
        if matches!(answer, Answer::Unknown(_)) {
            undecided += 1;
            continue;
        }
        let legal = any_taken(ops.clone(), 0, &|ops| has_order(ops, &BTreeSet::new(), step));
        assert_eq!(verdict(&answer, &ops), legal, "seed {seed}: {ops:?}\n{answer:?}");
        tally.add(legal);
    }
    tally.assert_both();
    assert!(undecided < histories() / 20, "{undecided} undecided");
}

/// Is it so for some element that each pop of unknown outcome from `at` on may have taken?
fn any_taken(mut ops: Vec<Op<Queue>>, at: usize, is_so: &dyn Fn(&[Op<Queue>]) -> bool) -> bool {
    let is_open = |op: &Op<Queue>| op.status == Status::Unknown && matches!(op.kind, Queue::Dequeue(_));
    let Some(pop) = (at..ops.len()).find(|&at| is_open(&ops[at])) else { return is_so(&ops) };
    let put: Vec<u64> = ops
        .iter()
        .filter_map(|op| if let Queue::Enqueue(element) = op.kind { Some(element) } else { None })
        .collect();
    put.is_empty() && any_taken(ops.clone(), pop + 1, is_so)
        || put.into_iter().any(|element| {
            ops[pop].kind = Queue::Dequeue(element);
            any_taken(ops.clone(), pop + 1, is_so)
        })
}

// Locks.

fn lock_step(state: &u64, kind: &Lock, known: bool) -> Option<u64> {
    let next = match *kind {
        Lock::Acquire(token) => (*state == NIL).then_some(token),
        Lock::Busy(holder) => (*state != NIL && (holder == NIL || holder == *state)).then_some(*state),
        Lock::Free => (*state == NIL).then_some(NIL),
        Lock::Release(token) => (*state == token).then_some(NIL),
        Lock::NotHeld(token) => (*state != token).then_some(*state),
    };
    if known { next } else { Some(next.unwrap_or(*state)) }
}

fn locking(rng: &mut SmallRng, silent: bool) -> Vec<Op<Lock>> {
    let (lies, unknown) = mood(rng);
    let mut state = NIL;
    let mut last = 1;
    let mut released = BTreeSet::new();
    let mut ops = Vec::new();
    for (process, interval) in (0..).zip(random::intervals(rng)) {
        let status = random::status(rng, unknown);
        let told = if rng.random_bool(lies) { last } else { state };
        let token = u64::from(process) + 1;
        let kind = match rng.random_range(0..10) {
            0..2 if silent => {
                [Lock::Busy(NIL), Lock::Free, Lock::NotHeld(last)][rng.random_range(0..3_usize)]
            }
            2 if silent && told == NIL => Lock::Free,
            0..4 if told != NIL => Lock::Busy(told),
            4..8 if told != NIL && released.insert(told) => Lock::Release(told),
            _ if told == NIL || rng.random_bool(lies) => Lock::Acquire(token),
            _ => Lock::Busy(told),
        };
        let status = match kind {
            Lock::Release(_) if status == Status::Failed => Status::Done,
            _ => status,
        };
        ops.push(random::op(process, interval, status, kind));
        if happens(rng, status) {
            state = lock_step(&state, &kind, false).unwrap_or(state);
        }
        if let Lock::Acquire(token) = kind {
            last = token;
        }
    }
    ops
}

#[test]
fn locks_agree_with_the_reference() {
    let check = |ops: &[Op<Lock>]| lock(ops, &Limits::default());
    compare(
        &NIL,
        lock_step,
        |rng| locking(rng, false),
        check,
        |ops, witness| Some(as_they_are(ops, witness)),
    );
    compare(&NIL, lock_step, |rng| locking(rng, true), check, |_, _| None);
}

// Leases: the grants' order and the protected resource, in one state.

fn lease_step(state: &(u64, u64), kind: &Lease, known: bool) -> Option<(u64, u64)> {
    let (granted, accepted) = *state;
    match *kind {
        Lease::Grant { token, .. } if known => (token > granted).then_some((token, accepted)),
        Lease::Accepted { token } if token >= accepted => Some((granted, token)),
        Lease::Accepted { .. } => (!known).then_some(*state),
        Lease::Rejected { token } => (!known || token < accepted).then_some(*state),
        _ => Some(*state),
    }
}

fn leasing(rng: &mut SmallRng) -> Vec<Op<Lease>> {
    let (lies, unknown) = mood(rng);
    let (mut granted, mut accepted) = (0, 0);
    let mut ops = Vec::new();
    for (process, interval) in (0..).zip(random::intervals(rng)) {
        let status = random::status(rng, unknown);
        let lie = rng.random_bool(lies);
        let token = rng.random_range(0..=granted);
        let kind = if rng.random_bool(0.3) {
            let token = if lie { token } else { granted + 1 };
            // Without a time to live: holds in time are another matter.
            Lease::Grant { token: token + 1, ttl_nanos: 0 }
        } else if (token >= accepted) != lie {
            Lease::Accepted { token }
        } else {
            Lease::Rejected { token }
        };
        ops.push(random::op(process, interval, status, kind));
        if happens(rng, status) {
            match kind {
                Lease::Grant { token, .. } => granted = granted.max(token),
                Lease::Accepted { token } => accepted = accepted.max(token),
                _ => {}
            }
        }
    }
    ops
}

#[test]
fn leases_agree_with_the_reference() {
    // Grants before their use are judged by a rule of their own; here tokens are used whether granted or not.
    let check = |ops: &[Op<Lease>]| without(lease(ops, ClockError::default()), "future-read");
    compare(&(0, 0), lease_step, leasing, check, |_, _| None);
}

/// The answer, had the class not been looked for.
fn without(answer: Answer, class: &str) -> Answer {
    let Answer::Violated { mut witnesses, unlisted } = answer else { return answer };
    witnesses.retain(|witness| witness.class != class);
    if witnesses.is_empty() { Answer::Holds } else { Answer::Violated { witnesses, unlisted } }
}

// Accounts: three of them with 10 each.

fn bank_step(state: &[i64; 3], kind: &Money, known: bool) -> Option<[i64; 3]> {
    let mut next = *state;
    match *kind {
        Money::Transfer { from, to, amount } if state[from as usize] >= amount => {
            next[from as usize] -= amount;
            next[to as usize] += amount;
        }
        Money::Transfer { .. } if known => return None,
        Money::Read(seen) if known && seen != *state => return None,
        _ => {}
    }
    Some(next)
}

#[derive(Clone, Debug)]
enum Money {
    Transfer { from: u32, to: u32, amount: i64 },
    Read([i64; 3]),
}

fn banking(rng: &mut SmallRng) -> Vec<Op<Money>> {
    let (lies, unknown) = mood(rng);
    let mut state = [10; 3];
    let mut ops = Vec::new();
    for (process, interval) in (0..).zip(random::intervals(rng)) {
        let status = random::status(rng, unknown);
        if rng.random_bool(0.6) {
            let (from, to) = (rng.random_range(0..3), rng.random_range(0..3));
            let kind = Money::Transfer { from, to, amount: rng.random_range(1..12) };
            let enough = bank_step(&state, &kind, true);
            let status = if enough.is_none() && !rng.random_bool(lies) { Status::Failed } else { status };
            ops.push(random::op(process, interval, status, kind));
            if happens(rng, status) {
                state = enough.unwrap_or(state);
            }
        } else {
            let mut seen = state;
            if rng.random_bool(lies) {
                seen.swap(0, rng.random_range(1..3));
                seen[2] += rng.random_range(0..2);
            }
            ops.push(random::op(process, interval, status, Money::Read(seen)));
        }
    }
    ops
}

/// The operations as the check takes them, and the balances that reads saw.
fn told(ops: &[Op<Money>]) -> (Vec<Op<Bank>>, Vec<i64>) {
    let mut balances = Vec::new();
    let ops = ops.iter().map(|op| {
        let kind = match op.kind {
            Money::Transfer { from, to, amount } => Bank::Transfer { from, to, amount },
            Money::Read(seen) => {
                balances.extend(seen);
                Bank::Read { start: balances.len() as u64 - 3, accounts: 3 }
            }
        };
        Op { call: op.call, ret: op.ret, process: op.process, status: op.status, kind }
    });
    (ops.collect(), balances)
}

#[test]
fn accounts_agree_with_the_reference() {
    let check = |ops: &[Op<Money>]| {
        let (ops, balances) = told(ops);
        let rules = BankRules { initial: Some(&[10; 3]), overdraft: false };
        bank(&ops, &balances, rules, &Limits::default())
    };
    compare(&[10; 3], bank_step, banking, check, |_, _| None);
}

/// If nobody says what the accounts began with, some beginning must do.
#[test]
fn banks_of_unknown_beginnings_agree_with_the_reference() {
    let mut tally = Tally::default();
    for seed in 0..histories() {
        let history = banking(&mut random::rng(seed));
        let (ops, balances) = told(&history);
        let rules = BankRules { initial: None, overdraft: false };
        let answer = bank(&ops, &balances, rules, &Limits::default());
        // What a read saw, less any of the transfers.
        let seen = history.iter().find_map(|op| match op.kind {
            Money::Read(seen) if op.status == Status::Done => Some(seen),
            _ => None,
        });
        let mut beginnings: BTreeSet<[i64; 3]> = seen.into_iter().collect();
        for op in &history {
            let Money::Transfer { from, to, amount } = op.kind else { continue };
            for mut without in beginnings.clone() {
                without[from as usize] += amount;
                without[to as usize] -= amount;
                beginnings.insert(without);
            }
        }
        let legal =
            seen.is_none() || beginnings.iter().any(|initial| has_order(&history, initial, bank_step));
        assert_eq!(verdict(&answer, &ops), legal, "seed {seed}: {ops:?} {balances:?}\n{answer:?}");
        tally.add(legal);
    }
    tally.assert_both();
}

// Keys that expire. A state is the write that is there, and which writes have happened.

type Expiry = (Option<usize>, u32);

#[derive(Clone, Debug)]
enum Timed {
    Read(u64),
    Write {
        value: u64,
        ttl_nanos: u64,
        number: usize,
    },
    Delete,
    /// The end of a write.
    End(usize),
}

/// The reference has no values: the number of a write is its value less one.
fn expiry_step(state: &Expiry, kind: &Timed, known: bool) -> Option<Expiry> {
    let (now, born) = *state;
    match *kind {
        Timed::Read(value) => {
            (!known || now.map_or(NIL, |number| number as u64 + 1) == value).then_some(*state)
        }
        Timed::Write { number, .. } => Some((Some(number), born | 1 << number)),
        Timed::Delete => Some((None, born)),
        Timed::End(number) if born & 1 << number == 0 => None,
        Timed::End(number) => Some((now.filter(|&there| there != number), born)),
    }
}

fn expiring_keys(rng: &mut SmallRng) -> Vec<Op<Timed>> {
    let (lies, unknown) = mood(rng);
    let mut ops = Vec::new();
    let mut state: Option<(usize, u64)> = None;
    for (process, interval) in (0..).zip(random::intervals(rng).into_iter().take(6)) {
        let status = random::status(rng, unknown);
        let now = u64::midpoint(interval.0, interval.1);
        state = state.filter(|&(_, end)| end > now);
        let number = ops.len();
        let kind = match rng.random_range(0..10) {
            0..4 => {
                let ttl_nanos = if rng.random_bool(0.3) { NEVER } else { rng.random_range(1..20) };
                Timed::Write { value: number as u64 + 1, ttl_nanos, number }
            }
            4 => Timed::Delete,
            _ if rng.random_bool(lies) => {
                Timed::Read(if number > 0 { rng.random_range(1..=number as u64) } else { NIL })
            }
            _ => Timed::Read(state.map_or(NIL, |(number, _)| number as u64 + 1)),
        };
        if happens(rng, status) {
            match kind {
                Timed::Write { ttl_nanos, .. } => state = Some((number, now.saturating_add(ttl_nanos))),
                Timed::Delete => state = None,
                _ => {}
            }
        }
        ops.push(random::op(process, interval, status, kind));
    }
    ops
}

#[test]
fn expiring_keys_agree_with_the_reference() {
    let mut tally = Tally::default();
    for seed in 0..histories() {
        let timed = expiring_keys(&mut random::rng(seed));
        let ops: Vec<Op<Expiring>> = timed
            .iter()
            .map(|op| {
                let kind = match op.kind {
                    Timed::Read(value) => Expiring::Read(value),
                    Timed::Write { value, ttl_nanos, .. } => Expiring::Write { value, ttl_nanos },
                    Timed::Delete | Timed::End(_) => Expiring::Delete,
                };
                Op { call: op.call, ret: op.ret, process: op.process, status: op.status, kind }
            })
            .collect();
        // By the definition: each write's end lies as far behind its call and its return as it lives.
        let mut with_ends = timed.clone();
        for op in timed.iter().filter(|op| op.status != Status::Failed) {
            let Timed::Write { ttl_nanos, number, .. } = op.kind else { continue };
            if ttl_nanos != NEVER {
                let (call, ret) = (op.call + ttl_nanos, op.ret.saturating_add(ttl_nanos));
                with_ends.push(Op { call, ret, kind: Timed::End(number), ..*op });
            }
        }
        let answer = expiring(&ops, ClockError::default(), &Limits::default());
        let legal = has_order(&with_ends, &(None, 0), expiry_step);
        assert_eq!(verdict(&answer, &ops), legal, "seed {seed}: {ops:?}\n{answer:?}");
        tally.add(legal);
    }
    tally.assert_both();
}
