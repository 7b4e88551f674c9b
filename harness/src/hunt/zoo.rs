//! What became of the hunts for one bug of the zoo: a page that is kept in a file, so that hunting can go on another day,
//! and its row of the table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slotstorm_sim::zoo::Specimen;

/// Between the first seeds of two hunts for one bug: each hunt has storms of its own.
const STRIDE: u64 = 1_000_000;
/// Storms of a check that the catalogue does not name are told, but not all.
const OTHERS_KEPT: usize = 5;

/// All that is known of one bug (or of the node without any).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    pub bug: String,
    /// Of the binary and of the storms: with others everything is hunted anew.
    pub binary_sha256: String,
    pub storms_sha256: String,
    pub hunts: Vec<Hunt>,
    /// The first finding made small.
    pub small: Option<Small>,
    pub on_processes: Tally,
}

/// One hunt: storms of growing seeds until the bug is found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hunt {
    pub first_seed: u64,
    /// Storms that were run, all from the first seed on.
    pub storms: u64,
    pub found: Option<Found>,
    /// Storms in which only checks fired that the catalogue does not name: how many, and the first of them.
    pub others: u64,
    pub first_others: BTreeMap<u64, Vec<String>>,
    /// Storms that could not be made.
    pub broken: u64,
}

/// The storm that showed a bug.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Counted from 1.
    pub storm: u64,
    pub seed: u64,
    pub signatures: Vec<String>,
}

/// What shrinking left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Small {
    pub file: String,
    pub signature: String,
    /// Kinds of its faults, in order.
    pub faults: Vec<String>,
}

/// How often it was reproduced on real processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub seen: u32,
    pub tried: u32,
}

/// What one storm of a hunt came to.
pub enum Storm {
    /// What fired; mostly nothing.
    Judged(Vec<String>),
    /// A bug may keep the cluster from being made, which is no finding of a check.
    Broken,
}

/// The checks that the catalogue names for a bug; none for what must be silent.
pub fn wanted(specimen: Option<&'static Specimen>) -> Vec<&'static str> {
    specimen.map_or("", |specimen| specimen.fires).split(", ").filter(|check| !check.is_empty()).collect()
}

/// The first signature that one of these checks gave.
pub fn right<'s>(signatures: &'s [String], wanted: &[&str]) -> Option<&'s String> {
    signatures.iter().find(|signature| wanted.iter().any(|check| signature.starts_with(check)))
}

impl Hunt {
    /// The hunt of this number, counted from 0.
    pub fn new(number: u64, first_seed: u64) -> Self {
        Self { first_seed: first_seed + number * STRIDE, ..Self::default() }
    }

    /// The next storm's seed.
    pub fn next_seed(&self) -> u64 {
        self.first_seed + self.storms
    }

    /// Notes the next storm; true if the bug is found.
    pub fn note(&mut self, storm: Storm, wanted: &[&str]) -> bool {
        let seed = self.next_seed();
        self.storms += 1;
        match storm {
            Storm::Broken => self.broken += 1,
            Storm::Judged(signatures) if right(&signatures, wanted).is_some() => {
                self.found = Some(Found { storm: self.storms, seed, signatures });
            }
            Storm::Judged(signatures) if signatures.is_empty() => {}
            Storm::Judged(signatures) => {
                self.others += 1;
                if self.first_others.len() < OTHERS_KEPT {
                    self.first_others.insert(seed, signatures);
                }
            }
        }
        self.found.is_some()
    }
}

impl Page {
    /// A bug that nobody has hunted yet.
    pub fn new(bug: &str, binary_sha256: &str, storms_sha256: &str) -> Self {
        Self {
            bug: bug.to_owned(),
            binary_sha256: binary_sha256.to_owned(),
            storms_sha256: storms_sha256.to_owned(),
            ..Self::default()
        }
    }

    /// The first storm that found it, of all hunts.
    pub fn found(&self) -> Option<&Found> {
        self.hunts.iter().find_map(|hunt| hunt.found.as_ref())
    }

    /// Storms in which something fired that should not have.
    pub fn others(&self) -> u64 {
        self.hunts.iter().map(|hunt| hunt.others).sum()
    }

    /// Storms until it was found, over all hunts: the median, and each; a hunt that found nothing counts as longer than
    /// all others.
    pub fn storms_needed(&self) -> (Option<u64>, Vec<Option<u64>>) {
        let mut each: Vec<Option<u64>> =
            self.hunts.iter().map(|hunt| hunt.found.as_ref().map(|found| found.storm)).collect();
        each.sort_by_key(|storms| storms.unwrap_or(u64::MAX));
        // Of an even number the worse of the two in the middle.
        (each.get(each.len() / 2).copied().flatten(), each)
    }

    /// It is as it should be: found by a check that the catalogue names, or silent if it has to be.
    pub fn is_right(&self, specimen: Option<&'static Specimen>) -> bool {
        if wanted(specimen).is_empty() { self.others() == 0 } else { self.storms_needed().0.is_some() }
    }

    /// Its row of the table.
    pub fn row(&self, specimen: Option<&'static Specimen>) -> String {
        let (median, each) = self.storms_needed();
        let storms: u64 = self.hunts.iter().map(|hunt| hunt.storms).sum();
        let needed = if wanted(specimen).is_empty() {
            format!(
                "{} in {storms}",
                if self.others() == 0 { "none".into() } else { self.others().to_string() }
            )
        } else {
            let word = |storms: Option<u64>| storms.map_or("not".to_owned(), |storms| storms.to_string());
            let all: Vec<String> = each.into_iter().map(word).collect();
            format!("{} ({})", word(median), all.join(", "))
        };
        let mut fired = self.found().map_or_else(String::new, |found| found.signatures.join("; "));
        if self.others() > 0 {
            let first = self.hunts.iter().find_map(|hunt| hunt.first_others.first_key_value());
            let first =
                first.map_or_else(String::new, |(seed, told)| format!(": seed {seed}: {}", told.join("; ")));
            fired = format!("{fired} ({} storms fired otherwise{first})", self.others());
        }
        let small = self
            .small
            .as_ref()
            .map_or_else(String::new, |small| format!("{}: {}", small.faults.len(), small.faults.join(", ")));
        let Tally { seen, tried } = self.on_processes;
        let processes = if tried == 0 { String::new() } else { format!("{seen} of {tried}") };
        let (source, fires) = specimen.map_or(("control", ""), |it| (it.source, it.fires));
        format!("| {} | {source} | {fires} | {needed} | {} | {small} | {processes} |", self.bug, fired.trim())
    }
}

/// The table's head.
pub const TABLE: &str = "| bug | source | must fire | storms needed: median (each hunt) | fired | faults after shrinking | on processes |\n\
                         |---|---|---|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use slotstorm_checker::record::verdict::{Validity, Verdict};
    use slotstorm_sim::zoo::SPECIMENS;

    use super::*;

    fn judged(signatures: &[&str]) -> Storm {
        Storm::Judged(signatures.iter().map(|&text| text.to_owned()).collect())
    }

    #[test]
    fn a_bug_is_found_by_a_check_that_the_catalogue_names_and_by_no_other() {
        let mut hunt = Hunt::new(1, 5);
        assert_eq!(hunt.next_seed(), STRIDE + 5);
        let wanted = ["lost-writes", "split-brain"];
        assert!(!hunt.note(judged(&[]), &wanted));
        assert!(!hunt.note(judged(&["convergence: no-convergence"]), &wanted));
        assert!(!hunt.note(Storm::Broken, &wanted));
        assert!(hunt.note(judged(&["convergence: no-convergence", "split-brain: lasting"]), &wanted));
        let found = hunt.found.clone().unwrap();
        assert_eq!((found.storm, found.seed, hunt.others, hunt.broken), (4, STRIDE + 8, 1, 1));
    }

    #[test]
    fn the_resharders_bug_is_in_the_table_under_the_name_by_which_the_driver_knows_it() {
        use slotstorm_sim::zoo::Mutation;
        let found = SPECIMENS.iter().find(|one| one.mutation == Mutation::TellsSourceFirst).unwrap();
        assert_eq!(found.name, crate::driver::TELLS_SOURCE_FIRST);
    }

    #[test]
    fn every_bug_must_be_shown_by_a_check_that_has_this_name() {
        let invalid = Verdict { valid: Validity::Invalid, ..Verdict::default() };
        let checks = serde_json::to_value(&invalid.checks).unwrap();
        let names: Vec<String> =
            checks.as_object().unwrap().keys().map(|name| name.replace('_', "-")).collect();
        for one in SPECIMENS {
            for check in wanted(Some(one)) {
                assert!(names.iter().any(|name| name == check), "{}: {check}", one.name);
            }
        }
    }

    #[test]
    fn the_median_counts_a_hunt_without_success_as_the_longest() {
        let mut page = Page::new("x", "", "");
        for storm in [Some(7), None, Some(3)] {
            let found = storm.map(|storm| Found { storm, seed: 0, signatures: Vec::new() });
            page.hunts.push(Hunt { found, ..Hunt::default() });
        }
        assert_eq!(page.storms_needed(), (Some(7), vec![Some(3), Some(7), None]));
        page.hunts.push(Hunt::default());
        assert_eq!(page.storms_needed().0, None);
    }

    #[test]
    fn a_control_is_right_if_it_is_silent() {
        let silent = SPECIMENS.iter().find(|specimen| specimen.fires.is_empty());
        let mut page = Page::new("inert", "", "");
        page.hunts.push(Hunt::new(0, 0));
        assert!(page.is_right(silent) && page.is_right(None));
        page.hunts[0].note(judged(&["invariants: crash"]), &[]);
        assert!(!page.is_right(silent));
        assert!(page.row(silent).contains("seed 0: invariants: crash"));
    }
}
