//! The smallest storm that shows a failure, and how it is told: shrunk, its times tied to events, with its story.

use super::{Judged, moments, shrink, story};
use crate::plan::{Plan, StormFile};

/// A failure made small.
pub struct Small {
    pub plan: Plan,
    /// The last run of it.
    pub judged: Judged,
}

/// How a smaller storm is tried, and who hears of it.
pub struct Trial<'a> {
    /// Storms at most.
    pub budget: u32,
    /// Runs one; its judgement if it shows the failure.
    pub shows: &'a mut dyn FnMut(&Plan) -> Option<Judged>,
    /// What was made smaller.
    pub progress: &'a mut dyn FnMut(&str, &Plan),
}

/// Makes `plan` small, whose failure `judged` is.
pub fn small(plan: &Plan, judged: Judged, trial: Trial<'_>) -> Small {
    let Trial { budget, shows, progress } = trial;
    let mut last = Small { plan: plan.clone(), judged };
    let mut left = budget;
    let plan = shrink::shrink(
        plan,
        budget,
        &mut |plan| {
            left -= 1;
            let Some(judged) = shows(plan) else { return false };
            last = Small { plan: plan.clone(), judged };
            true
        },
        progress,
    );
    debug_assert!(plan == last.plan);
    for at in 0..last.plan.faults.len() {
        for fault in moments::in_place_of_time(&last.plan, &last.judged.record, at) {
            if left == 0 {
                return last;
            }
            left -= 1;
            let mut plan = last.plan.clone();
            plan.faults[at] = fault;
            if let Some(judged) = shows(&plan) {
                progress("an event for a time", &plan);
                last = Small { plan, judged };
                break;
            }
        }
    }
    last
}

/// Where a failure was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Else in the simulator.
    pub on_processes: bool,
    /// What it is a part of, such as a night; empty: of nothing.
    pub of: String,
}

impl Small {
    /// The file of it: all that a replay needs, and what happened.
    pub fn text(&self, signature: &str, origin: &Origin) -> String {
        let fingerprint = Some(self.judged.fingerprint.as_str()).filter(|print| !print.is_empty());
        let mut text = repro_text(&self.plan, signature, fingerprint, origin);
        text.push_str("\n# What happened:\n");
        for line in story::tell(&self.judged.record, &self.judged.verdict) {
            text.extend(["# ", &line, "\n"]);
        }
        text
    }
}

/// A finding's file: all that a replay needs.
pub fn repro_text(plan: &Plan, signature: &str, fingerprint: Option<&str>, origin: &Origin) -> String {
    let file = StormFile {
        signature: Some(signature.to_owned()),
        fingerprint: fingerprint.map(str::to_owned),
        ..plan.to_file()
    };
    let (option, place) = if origin.on_processes {
        ("--backend process ", "on real processes")
    } else {
        ("", "in its simulator")
    };
    let of = if origin.of.is_empty() { String::new() } else { format!(", {}", origin.of) };
    let comment = format!(
        "{signature}\nReplay it: slotstorm repro {option}THIS-FILE\n\
         Make it smaller: slotstorm shrink {option}THIS-FILE\nFound by slotstorm {} {place}{of}.",
        env!("CARGO_PKG_VERSION")
    );
    file.to_toml(&comment)
}
