//! The register: unique values, compare-and-set that tells or hides what it saw, swaps, repeated values, deletions.

use rand::Rng;
use rand::rngs::SmallRng;

use super::random::{self, Tally, histories};
use super::reference::{has_order, verdict};
use crate::answer::{Answer, Witness};
use crate::linear::*;

fn step(state: &u64, kind: &Register, known: bool) -> Option<u64> {
    match *kind {
        Register::Read(value) => (!known || value == *state).then_some(*state),
        Register::Write(to) => Some(to),
        Register::Cas { from, to } => {
            if *state == from {
                Some(to)
            } else {
                (!known).then_some(*state)
            }
        }
        Register::CasLost { from, seen } => {
            (!known || (*state != from && (seen == UNSEEN || seen == *state))).then_some(*state)
        }
        Register::Swap { to, seen } => (!known || seen == *state).then_some(to),
        Register::Delete => Some(NIL),
    }
}

/// What the random clients do.
#[derive(Clone, Copy)]
struct Mix {
    unique: bool,
    cas: bool,
    tells: bool,
    swap: bool,
    delete: bool,
}

const PLAIN: Mix = Mix { unique: true, cas: false, tells: true, swap: false, delete: false };

/// A history of a register that really ran, of which some replies are then changed.
fn history(rng: &mut SmallRng, mix: Mix) -> Vec<Op<Register>> {
    let unknown = rng.random_range(0..4);
    let lies = rng.random_bool(0.5);
    let (mut state, mut fresh) = (NIL, 0);
    let mut values = vec![NIL];
    let mut ops = Vec::new();
    for (process, interval) in (0..).zip(random::intervals(rng)) {
        let status = random::status(rng, unknown);
        let mut to = rng.random_range(1..4);
        if mix.unique {
            fresh += 1;
            to = fresh;
        }
        let other = values[rng.random_range(0..values.len())];
        let guess = if rng.random_bool(0.6) { state } else { other };
        let seen = if lies && rng.random_bool(0.3) { other } else { state };
        let kind = match rng.random_range(0..10) {
            0..3 => Register::Write(to),
            3..5 if mix.cas && (guess == state) => Register::Cas { from: seen, to },
            3..5 if mix.cas => Register::CasLost { from: guess, seen: if mix.tells { seen } else { UNSEEN } },
            5 if mix.swap => Register::Swap { to, seen },
            6 if mix.delete => Register::Delete,
            _ => Register::Read(seen),
        };
        let effective = status == Status::Done || (status == Status::Unknown && rng.random_bool(0.5));
        values.extend(kind.wrote());
        ops.push(random::op(process, interval, status, kind));
        if effective {
            state = kind.wrote().unwrap_or(state);
        }
    }
    ops
}

fn compare(name: u64, mix: Mix) {
    let mut tally = Tally::default();
    for seed in 0..histories() {
        let mut rng = random::rng(seed << 8 | name);
        let ops = history(&mut rng, mix);
        let answer = register(&ops, &Limits::default());
        let legal = has_order(&ops, &NIL, step);
        assert_eq!(verdict(&answer, &ops), legal, "seed {seed}: {ops:?}\n{answer:?}");
        if let Answer::Violated { witnesses, .. } = &answer {
            for witness in witnesses {
                assert!(contradicts(&ops, witness), "seed {seed}: {ops:?}\n{witness:?}");
            }
        }
        tally.add(legal);
    }
    tally.assert_both();
}

/// The operations of the witness alone have no legal order.
fn contradicts(ops: &[Op<Register>], witness: &Witness) -> bool {
    let chosen: Vec<Op<Register>> = witness.ops.iter().map(|id| ops[id.0 as usize]).collect();
    if witness.sentence.contains("from any state") {
        return (0..10).chain([NIL]).all(|start| !has_order(&chosen, &start, step));
    }
    if witness.sentence.starts_with("no order of these") {
        return !has_order(&chosen, &NIL, step);
    }
    let written = |value| value == NIL || chosen.iter().any(|op| op.kind.wrote() == Some(value));
    // A write that replaced a value which is not in the witness is there as a plain write.
    let weakened: Vec<Op<Register>> = chosen
        .iter()
        .map(|op| match op.kind {
            Register::Cas { from, to } | Register::Swap { to, seen: from }
                if !written(from) && witness.class != "garbage-read" =>
            {
                Op { kind: Register::Write(to), ..*op }
            }
            _ => *op,
        })
        .collect();
    !has_order(&weakened, &NIL, step)
}

#[test]
fn unique_values_agree_with_the_reference() {
    compare(1, PLAIN);
}

#[test]
fn compare_and_set_that_tells_what_it_saw_agrees_with_the_reference() {
    compare(2, Mix { cas: true, ..PLAIN });
}

#[test]
fn compare_and_set_that_hides_what_it_saw_agrees_with_the_reference() {
    compare(3, Mix { cas: true, tells: false, ..PLAIN });
}

#[test]
fn swaps_agree_with_the_reference() {
    compare(4, Mix { cas: true, swap: true, ..PLAIN });
}

#[test]
fn repeated_values_agree_with_the_reference() {
    compare(5, Mix { unique: false, cas: true, tells: false, swap: true, ..PLAIN });
}

#[test]
fn deletions_agree_with_the_reference() {
    compare(6, Mix { unique: false, cas: true, delete: true, ..PLAIN });
}
