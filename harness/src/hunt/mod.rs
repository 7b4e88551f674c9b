//! Looking for failures in many simulated storms, and making the found ones small.
//!
//! `swarm` which storms · `shrink` fewer and simpler faults · `moments` events in place of times · `story` what happened, in
//! words · `small` these three · `zoo` what became of the bugs that were put in on purpose.

mod moments;
mod shrink;
mod small;
mod story;
pub mod swarm;
pub mod zoo;

pub use small::{Origin, Trial, repro_text, small};

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slotstorm_checker::JudgeOptions;
use slotstorm_checker::record::Record;
use slotstorm_checker::record::verdict::Verdict;

use crate::backend::process::StartError;
use crate::backend::sim::{Keep, SimStorm, simulate};
use crate::driver::Silent;
use crate::plan::Plan;
use crate::verdict::signature;

/// A storm and its verdict.
pub struct Judged {
    pub verdict: Verdict,
    /// What the checks found, the gravest first; empty: nothing.
    pub signatures: Vec<String>,
    /// Of the simulated run; empty: it was a real one.
    pub fingerprint: String,
    pub record: Record,
}

impl Judged {
    /// A real run's.
    pub fn of(verdict: Verdict, record: Record) -> Self {
        Self { signatures: signature::of(&verdict), verdict, fingerprint: String::new(), record }
    }

    /// True if this is among what the checks found.
    pub fn shows(&self, signature: &str) -> bool {
        self.signatures.iter().any(|one| one == signature)
    }
}

/// Runs `plan` in the simulator, in memory, and judges it.
pub fn judge(plan: &Plan, stop: &Arc<AtomicBool>) -> Result<Judged, StartError> {
    let stop = Arc::clone(stop);
    let simulated = simulate(SimStorm {
        plan: Rc::new(plan.clone()),
        keep: Keep::Record,
        listener: Rc::new(Silent),
        interrupted: Rc::new(move || stop.load(Ordering::Relaxed)),
    })?;
    let fingerprint = simulated.info.fingerprint.clone().unwrap_or_default();
    let options = JudgeOptions { harness_error: simulated.broken, ..JudgeOptions::default() };
    let record = simulated.tape.into_record().unwrap_or_default();
    let verdict = slotstorm_checker::judge_with(&record, &options);
    Ok(Judged { fingerprint, ..Judged::of(verdict, record) })
}

#[cfg(test)]
mod tests {
    use slotstorm_checker::record::{Sources, read_folder};

    use super::*;

    /// The verdict on the folder that `run --backend sim` leaves, as `check` gives it.
    fn judged_from_its_folder(plan: &Plan) -> Verdict {
        let simulated = simulate(SimStorm {
            plan: Rc::new(plan.clone()),
            keep: Keep::Folder,
            listener: Rc::new(Silent),
            interrupted: Rc::new(|| false),
        })
        .unwrap();
        let files = simulated.tape.files();
        let file = |name: &str| files.iter().find(|file| file.0 == name).unwrap().1.concat();
        let (history, views) = (file("history.jsonl"), file("views.jsonl"));
        let (stream, bus) = (file("stream.jsonl"), file("bus.jsonl"));
        let record = read_folder(Sources {
            run: &serde_json::to_string(&simulated.info).unwrap(),
            history: &history[..],
            views: &views[..],
            stream: &stream[..],
            bus: Some(&bus[..]),
        });
        slotstorm_checker::judge(&record.unwrap())
    }

    #[test]
    fn a_storm_is_judged_in_memory_as_from_its_folder() {
        // Among them restarts on an append-only file, which the judge must know of, and failovers with losses.
        for seed in 0..8 {
            let plan = Plan::from_file(swarm::storm(seed), seed).unwrap();
            let in_memory = judge(&plan, &Arc::default()).unwrap();
            let text = |verdict: &Verdict| serde_json::to_string_pretty(verdict).unwrap();
            assert!(in_memory.verdict.checks.lost_writes.judged > 0);
            assert_eq!(text(&in_memory.verdict), text(&judged_from_its_folder(&plan)), "seed {seed}");
            assert!(!in_memory.record.info.directives.is_empty());
        }
    }
}
