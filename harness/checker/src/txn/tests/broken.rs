//! Long good histories hold; broken in a known way, exactly that is found.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::random::{Step, Tiny};
use super::words::{classes, witnesses};
use crate::answer::Answer;
use crate::txn::{Objects, Options, Outcome, Report, check};

fn good(seed: u64) -> Tiny {
    Tiny::legal(&mut ChaCha8Rng::seed_from_u64(seed), Objects::Lists, 400, 6, 5)
}

fn judge(tiny: &Tiny) -> Report {
    check(&tiny.history(), &Options::default())
}

/// Breaks 50 good histories; each must show the class (in any of its orders of time).
/// `break_it` says whether it found something to break.
fn breaking_shows(class: &str, mut break_it: impl FnMut(&mut Tiny) -> bool) {
    let mut broken = 0;
    for seed in 0..50 {
        let mut tiny = good(seed);
        if break_it(&mut tiny) {
            broken += 1;
            let report = judge(&tiny);
            let found = classes(&witnesses(&report));
            assert!(
                found.iter().any(|found| found.starts_with(class)),
                "seed {seed}: {class} is not among {found:?}"
            );
        }
    }
    assert!(broken > 30, "only {broken} could be broken");
}

/// Steps of completed transactions from the middle on, with their transaction.
fn reads(tiny: &mut Tiny) -> impl Iterator<Item = (usize, u32, &mut Vec<u64>)> {
    tiny.txns.iter_mut().enumerate().skip(200).filter(|(_, (span, _))| span.outcome == Outcome::Ok).flat_map(
        |(at, (_, steps))| {
            steps.iter_mut().filter_map(move |step| match step {
                Step::Read(key, seen) => Some((at, *key, seen)),
                Step::Write(..) => None,
            })
        },
    )
}

#[test]
fn good_histories_hold() {
    for seed in 0..50 {
        let report = judge(&good(seed));
        assert_eq!(report.answer, Answer::Holds, "seed {seed}");
        assert!(report.counts.is_empty(), "seed {seed}: {:?}", report.counts);
    }
}

#[test]
fn a_stale_read_shows() {
    breaking_shows("G-single", |tiny| {
        let alone = |steps: &Vec<Step>| matches!(&steps[..], [Step::Read(_, seen)] if seen.len() > 20);
        let stale =
            tiny.txns.iter_mut().skip(200).find(|(span, steps)| span.outcome == Outcome::Ok && alone(steps));
        let Some((_, steps)) = stale else { return false };
        let Step::Read(_, seen) = &mut steps[0] else { return false };
        seen.truncate(seen.len() - 10);
        true
    });
}

#[test]
fn a_foreign_element_shows() {
    breaking_shows("garbage-read", |tiny| {
        reads(tiny).last().map(|(_, _, seen)| seen.push(1_000_000)).is_some()
    });
}

#[test]
fn an_element_twice_shows() {
    breaking_shows("duplicate-elements", |tiny| {
        reads(tiny).find(|(_, _, seen)| seen.len() > 3).map(|(_, _, seen)| seen.insert(2, seen[0])).is_some()
    });
}

#[test]
fn a_lost_element_shows() {
    breaking_shows("incompatible-order", |tiny| {
        reads(tiny).find(|(_, _, seen)| seen.len() > 5).map(|(_, _, seen)| seen.remove(2)).is_some()
    });
}

#[test]
fn an_aborted_append_that_stays_shows() {
    breaking_shows("G1a", |tiny| {
        let Some(seen) = reads(tiny).map(|(_, _, seen)| seen.clone()).max_by_key(Vec::len) else {
            return false;
        };
        let writer = tiny.txns.iter_mut().find(|(span, steps)| {
            span.outcome == Outcome::Ok
                && steps.iter().any(|step| matches!(step, Step::Write(_, v) if *v == seen[3]))
        });
        writer.map(|(span, _)| span.outcome = Outcome::Fail).is_some()
    });
}

#[test]
fn an_own_append_that_is_not_seen_shows() {
    breaking_shows("internal", |tiny| {
        for (span, steps) in tiny.txns.iter_mut().filter(|(span, _)| span.outcome == Outcome::Ok) {
            let _ = span;
            if let [Step::Write(wrote, _), Step::Read(read, seen), ..] = &mut steps[..]
                && wrote == read
            {
                seen.pop();
                return true;
            }
        }
        false
    });
}
