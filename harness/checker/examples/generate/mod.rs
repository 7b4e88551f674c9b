//! Long histories of objects that really ran, for benchmarks: clients one operation at a time, latencies exponential
//! around a millisecond, the moment of effect anywhere in the call. An operation that times out takes effect with probability
//! one half, maybe later; its client goes on under another process number.

// Each program uses a part of it.
#![allow(dead_code)]

use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use slotstorm_checker::linear::{Counter, List, NEVER, NIL, Op, Queue, Register, Set, Status, UNSEEN};

/// What is generated.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Operations on one key.
    pub ops: usize,
    pub clients: u32,
    /// Of a thousand operations so many have an unknown outcome.
    pub unknown_permille: u32,
    pub seed: u64,
    /// The first value is this plus one: keys of one run share no values.
    pub first_value: u64,
}

/// One key's operations, and what its reads saw.
pub type Made<K> = (Vec<Op<K>>, Vec<u64>);

/// One call before anybody knows its reply.
struct Slot {
    call: u64,
    effect: u64,
    ret: u64,
    client: u32,
    process: u32,
    status: Status,
    happens: bool,
}

/// The calls of all clients in order of their effects.
fn slots(load: &Load, rng: &mut SmallRng) -> Vec<Slot> {
    let mut slots = Vec::with_capacity(load.ops);
    let mut processes = load.clients;
    for client in 0..load.clients {
        let mut now = rng.random_range(0..1_000_000);
        let mut process = client;
        let share = load.ops / load.clients as usize
            + usize::from((client as usize) < load.ops % load.clients as usize);
        for _ in 0..share {
            let latency = (-rng.random_range(1e-9..1.0_f64).ln() * 1e6) as u64 + 1;
            let unknown = rng.random_range(0..1000) < load.unknown_permille;
            let within = if unknown { latency * 10 } else { latency };
            slots.push(Slot {
                call: now,
                effect: now + rng.random_range(0..=within),
                ret: now + latency,
                client,
                process,
                status: if unknown { Status::Unknown } else { Status::Done },
                happens: !unknown || rng.random_bool(0.5),
            });
            now += latency + 1;
            if unknown {
                process = processes;
                processes += 1;
            }
        }
    }
    slots.sort_unstable_by_key(|slot| slot.effect);
    slots
}

/// Runs the object over the calls: `act(rng, slot's client, happens)` says what was done and answered.
fn run<K>(load: &Load, mut act: impl FnMut(&mut SmallRng, u32, bool) -> K) -> Vec<Op<K>> {
    let mut rng = SmallRng::seed_from_u64(load.seed);
    let slots = slots(load, &mut rng);
    let mut ops: Vec<Op<K>> = slots
        .iter()
        .map(|slot| {
            let kind = act(&mut rng, slot.client, slot.happens);
            let ret = if slot.status == Status::Unknown { NEVER } else { slot.ret };
            Op { call: slot.call, ret, process: slot.process, status: slot.status, kind }
        })
        .collect();
    ops.sort_by_key(|op| op.call);
    ops
}

/// What a register's clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Half reads, half writes of unique values.
    Unique,
    /// 40 % reads, 20 % writes, 40 % compare-and-sets from the value seen last; unique values, failures say nothing.
    Cas,
    /// The same; failures answer the value.
    CasTells,
    /// Reads, writes and compare-and-sets in equal parts, five values.
    FiveValues,
}

pub fn registers(load: &Load, mix: Mix) -> Vec<Op<Register>> {
    let mut state = NIL;
    let mut next = load.first_value;
    let mut seen = vec![NIL; load.clients as usize];
    run(load, |rng, client, happens| {
        let client = client as usize;
        let mut fresh = |rng: &mut SmallRng| {
            next += 1;
            if mix == Mix::FiveValues { rng.random_range(1..=5) } else { next }
        };
        let dice = rng.random_range(0..30);
        let kind = match mix {
            Mix::Unique if dice < 15 => Register::Write(fresh(rng)),
            Mix::Unique => Register::Read(state),
            Mix::Cas | Mix::CasTells if dice < 6 => Register::Write(fresh(rng)),
            Mix::FiveValues if dice < 10 => Register::Write(fresh(rng)),
            Mix::Cas | Mix::CasTells | Mix::FiveValues if dice < 18 => Register::Read(state),
            _ => {
                let from = if mix == Mix::FiveValues { rng.random_range(1..=5) } else { seen[client] };
                let shown = if mix == Mix::CasTells { state } else { UNSEEN };
                if from == state {
                    Register::Cas { from, to: fresh(rng) }
                } else {
                    Register::CasLost { from, seen: shown }
                }
            }
        };
        if happens {
            state = match kind {
                Register::Write(to) | Register::Cas { to, .. } => to,
                _ => state,
            };
            seen[client] = state;
        }
        kind
    })
}

/// Makes a read in the middle answer a value that was replaced long before. False if there is no such read.
pub fn make_stale(ops: &mut [Op<Register>]) -> bool {
    let middle = ops.len() / 2;
    let done_read = |op: &Op<Register>| op.status == Status::Done && matches!(op.kind, Register::Read(_));
    let Some(old) = ops[..middle.saturating_sub(200)].iter().rev().find(|op| done_read(op)).map(|op| op.kind)
    else {
        return false;
    };
    let Some(read) = ops[middle..].iter_mut().find(|op| done_read(op) && op.kind != old) else {
        return false;
    };
    read.kind = old;
    true
}

/// Unique adds, one read of everything at the end.
pub fn sets(load: &Load) -> Made<Set> {
    let mut next = load.first_value;
    let mut state = Vec::new();
    let mut ops = run(load, |_, _, happens| {
        next += 1;
        if happens {
            state.push(next);
        }
        Set::Add(next)
    });
    ops.push(final_read(&ops, Set::Read { start: 0, len: state.len() as u32 }));
    (ops, state)
}

/// Unique appends that answer the length, one read of everything at the end.
pub fn lists(load: &Load) -> Made<List> {
    let mut next = load.first_value;
    let mut state = Vec::new();
    let mut ops = run(load, |_, _, happens| {
        next += 1;
        if happens {
            state.push(next);
        }
        List::Append { element: next, length: state.len() as u32 }
    });
    ops.push(final_read(&ops, List::Read { start: 0, len: state.len() as u32 }));
    (ops, state)
}

fn final_read<K>(ops: &[Op<K>], kind: K) -> Op<K> {
    let end = ops.iter().map(|op| op.call).max().unwrap_or(0) + 1_000_000_000;
    Op::done(u32::MAX, end, end + 1, kind)
}

/// 70 % INCR with its answer, 30 % GET.
pub fn counters(load: &Load) -> Vec<Op<Counter>> {
    let mut state = 0;
    run(load, |rng, _, happens| {
        if rng.random_bool(0.3) {
            return Counter::Get(state);
        }
        state += i64::from(happens);
        Counter::Add { by: 1, reply: state }
    })
}

/// Half puts, half takes.
pub fn queues(load: &Load) -> Vec<Op<Queue>> {
    let mut next = load.first_value;
    let mut state = VecDeque::new();
    run(load, |rng, _, happens| {
        if rng.random_bool(0.5) {
            next += 1;
            if happens {
                state.push_back(next);
            }
            return Queue::Enqueue(next);
        }
        let taken = if happens { state.pop_front() } else { None };
        taken.map_or(Queue::Empty, Queue::Dequeue)
    })
}
