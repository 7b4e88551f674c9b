//! Failures over nights: which are new, which were known, which are gone. A failure that is not seen is called gone only if
//! its rate so far would have shown it; one that comes and goes as its rate says is rare, not back.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::statistics::{unseen, wilson};

/// Less likely than this is no accident.
const SURPRISE: f64 = 0.05;

/// What one night saw of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Runs that count.
    pub runs: u64,
    /// By signature: tasks that show it, the first ones first.
    pub hits: BTreeMap<String, Vec<u64>>,
}

/// A night's failures, by server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NightSeen {
    pub night: String,
    pub by_server: BTreeMap<String, Seen>,
}

/// How a failure stands beside the nights before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Never seen before tonight.
    New,
    /// It was gone, and is seen again.
    Back,
    /// Seen tonight, and the night before.
    Ongoing,
    /// It comes and goes, as seldom as its rate says.
    Rare,
    /// Not seen tonight, though its rate would have shown it.
    Gone,
}

impl State {
    /// As it stands in files and on pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Back => "back",
            Self::Ongoing => "ongoing",
            Self::Rare => "rare",
            Self::Gone => "gone",
        }
    }
}

/// One failure of one server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub signature: String,
    pub server: String,
    pub state: State,
    /// The campaign's file lists it: it does not fail the night.
    pub known: bool,
    /// The night that saw it first.
    pub first_seen: String,
    /// The last that saw it.
    pub last_seen: String,
    /// Nights that saw it, of those since it was first seen.
    pub nights: (u64, u64),
    /// Tonight.
    pub hits: u64,
    pub runs: u64,
    /// Tonight's rate, between these (95 %).
    pub rate: (f64, f64),
    /// Tasks that show it; of a failure that is not seen tonight none.
    pub tasks: Vec<u64>,
    /// The smallest storm that shows it, of tonight or an earlier night: its path from the folder of all nights, and how to see
    /// it again.
    pub smallest: Option<Smallest>,
}

/// A failure made small.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Smallest {
    pub path: String,
    pub again: String,
    pub faults: usize,
    pub faults_before: usize,
}

impl Finding {
    /// True if it fails the night.
    pub fn fails(&self) -> bool {
        self.hits > 0 && !self.known
    }
}

/// All failures of the last night and of the nights before it (oldest first), worst first. Failures that have been gone
/// for longer than one night are left out.
pub fn compare(nights: &[NightSeen], known: &BTreeSet<String>) -> Vec<Finding> {
    let Some((tonight, before)) = nights.split_last() else { return Vec::new() };
    let mut names: BTreeSet<(&str, &str)> = BTreeSet::new();
    for night in nights {
        for (server, seen) in &night.by_server {
            names.extend(seen.hits.keys().map(|signature| (server.as_str(), signature.as_str())));
        }
    }
    let mut findings: Vec<Finding> = names
        .into_iter()
        .filter_map(|(server, signature)| one(tonight, before, server, signature, known))
        .collect();
    findings.sort_by(|a, b| {
        (a.known, a.state, std::cmp::Reverse(a.hits)).cmp(&(b.known, b.state, std::cmp::Reverse(b.hits)))
    });
    findings
}

/// A night's share of one failure: its name, hits and runs.
type Share<'a> = (&'a str, u64, u64);

fn one(
    tonight: &NightSeen,
    before: &[NightSeen],
    server: &str,
    signature: &str,
    known: &BTreeSet<String>,
) -> Option<Finding> {
    let share = |night: &'_ NightSeen| -> (u64, u64) {
        let seen = night.by_server.get(server);
        let hits = seen.and_then(|seen| seen.hits.get(signature)).map_or(0, |tasks| tasks.len() as u64);
        (hits, seen.map_or(0, |seen| seen.runs))
    };
    let (hits, runs) = share(tonight);
    // Nights that did not run this server say nothing of it.
    let earlier: Vec<Share<'_>> = before
        .iter()
        .map(|night| (night.night.as_str(), share(night)))
        .filter(|(_, (_, runs))| *runs > 0)
        .map(|(name, (hits, runs))| (name, hits, runs))
        .skip_while(|(_, hits, _)| *hits == 0)
        .collect();
    let state = state(hits, runs, &earlier)?;
    let last = earlier.iter().rev().find(|(_, hits, _)| *hits > 0).map(|(name, ..)| *name);
    let first_seen = earlier.first().map_or(tonight.night.as_str(), |(name, ..)| name);
    let nights_seen = earlier.iter().filter(|(_, hits, _)| *hits > 0).count() as u64;
    let tasks = tonight.by_server.get(server).and_then(|seen| seen.hits.get(signature)).cloned();
    Some(Finding {
        signature: signature.to_owned(),
        server: server.to_owned(),
        state,
        known: known.contains(signature),
        first_seen: first_seen.to_owned(),
        last_seen: if hits > 0 { tonight.night.clone() } else { last.unwrap_or_default().to_owned() },
        nights: (nights_seen + u64::from(hits > 0), earlier.len() as u64 + 1),
        hits,
        runs,
        rate: wilson(hits, runs),
        tasks: tasks.unwrap_or_default(),
        smallest: None,
    })
}

/// `earlier` begins with the night that saw it first. `None`: it has been gone for longer, or is not known at all.
fn state(hits: u64, runs: u64, earlier: &[Share<'_>]) -> Option<State> {
    let Some(last) = earlier.last() else { return (hits > 0).then_some(State::New) };
    // The rate while it was there: up to the last night that saw it, cautiously (one more run without it).
    let end = earlier.iter().rposition(|(_, hits, _)| *hits > 0).map_or(0, |at| at + 1);
    let (seen, of) = earlier[..end].iter().fold((0, 0), |(h, r), (_, hits, runs)| (h + hits, r + runs));
    let rate = seen as f64 / (of as f64 + 1.0);
    let silent: u64 = earlier[end..].iter().map(|(_, _, runs)| runs).sum();
    if hits > 0 {
        return Some(match silent {
            _ if last.1 > 0 => State::Ongoing,
            silent if unseen(rate, silent) < SURPRISE => State::Back,
            _ => State::Rare,
        });
    }
    if unseen(rate, silent) < SURPRISE {
        return None; // gone before tonight
    }
    Some(if unseen(rate, silent + runs) < SURPRISE { State::Gone } else { State::Rare })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUG: &str = "lost-writes: unexplained";

    /// Nights of `runs` runs, each with so many hits.
    fn nights(shares: &[(u64, u64)]) -> Vec<NightSeen> {
        let night = |(number, &(hits, runs)): (usize, &(u64, u64))| {
            let mut seen = Seen { runs, ..Seen::default() };
            if hits > 0 {
                seen.hits.insert(BUG.into(), (0..hits).collect());
            }
            NightSeen { night: format!("night {number}"), by_server: [("embedded".to_owned(), seen)].into() }
        };
        shares.iter().enumerate().map(night).collect()
    }

    fn last_state(shares: &[(u64, u64)]) -> Option<State> {
        compare(&nights(shares), &BTreeSet::new()).first().map(|finding| finding.state)
    }

    #[test]
    fn a_failure_is_new_then_ongoing_then_gone_then_back() {
        assert_eq!(last_state(&[(0, 100)]), None);
        assert_eq!(last_state(&[(0, 100), (20, 100)]), Some(State::New));
        assert_eq!(last_state(&[(0, 100), (20, 100), (25, 100)]), Some(State::Ongoing));
        assert_eq!(last_state(&[(20, 100), (25, 100), (0, 100)]), Some(State::Gone));
        assert_eq!(last_state(&[(20, 100), (25, 100), (0, 100), (0, 100)]), None, "gone for longer");
        assert_eq!(last_state(&[(20, 100), (25, 100), (0, 100), (0, 100), (3, 100)]), Some(State::Back));
    }

    #[test]
    fn a_rare_failure_is_neither_gone_nor_back_by_chance() {
        assert_eq!(last_state(&[(1, 100), (0, 100)]), Some(State::Rare));
        assert_eq!(last_state(&[(1, 100), (0, 100), (1, 100)]), Some(State::Rare));
        assert_eq!(last_state(&[(1, 100), (0, 100), (0, 100), (0, 100), (0, 100)]), Some(State::Gone));
    }

    #[test]
    fn a_short_night_says_little() {
        assert_eq!(last_state(&[(20, 100), (0, 3)]), Some(State::Rare));
        assert_eq!(last_state(&[(20, 100), (0, 30)]), Some(State::Gone));
    }

    #[test]
    fn nights_without_the_server_say_nothing_of_it() {
        let mut all = nights(&[(20, 100), (0, 100), (20, 100)]);
        all[1].by_server.clear();
        assert_eq!(compare(&all, &BTreeSet::new())[0].state, State::Ongoing);
    }

    #[test]
    fn servers_are_judged_apart_and_known_failures_do_not_fail_a_night() {
        let mut all = nights(&[(2, 10), (2, 10)]);
        let mut other = Seen { runs: 10, ..Seen::default() };
        other.hits.insert(BUG.into(), vec![7]);
        all[1].by_server.insert("redis-server".into(), other);
        let found = compare(&all, &BTreeSet::new());
        let states: Vec<(&str, State)> = found.iter().map(|f| (f.server.as_str(), f.state)).collect();
        assert_eq!(states, [("redis-server", State::New), ("embedded", State::Ongoing)]);
        assert!(found.iter().all(Finding::fails));
        assert_eq!((found[0].tasks.as_slice(), found[1].nights), (&[7][..], (2, 2)));
        let known = compare(&all, &[BUG.to_owned()].into());
        assert!(known.iter().all(|finding| finding.known && !finding.fails()));
    }
}
