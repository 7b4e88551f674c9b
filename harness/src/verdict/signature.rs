//! What a failure is called: the check that failed and what it found, without seeds, times, nodes and counts, so that the
//! same failure of another storm or another night has the same name.

use std::collections::BTreeSet;

use slotstorm_checker::check::proofs::UNEXPLAINED;
use slotstorm_checker::record::verdict::{
    Anomaly, Checks, Consistency, Convergence, Finding, LostWrites, SplitBrain, Validity, Verdict,
};

/// A run that had to be ended.
pub const HUNG: &str = "run: did not end";

/// The failures of a verdict, the gravest check first. None for one that is not invalid.
pub fn of(verdict: &Verdict) -> Vec<String> {
    if verdict.valid != Validity::Invalid {
        return Vec::new();
    }
    // Every check by its name: one that is added later has to be named here.
    let Checks { lost_writes, elements, consistency, split_brain, convergence, availability, invariants } =
        &verdict.checks;
    let broken = [
        ("invariants", invariants.valid, findings(&invariants.violations)),
        ("lost-writes", lost_writes.valid, losses(lost_writes)),
        ("split-brain", split_brain.valid, overlaps(split_brain)),
        ("elements", elements.valid, findings(&elements.findings)),
        ("consistency", consistency.valid, contradictions(consistency)),
        ("convergence", convergence.valid, apart(convergence)),
        ("availability", availability.valid, BTreeSet::new()),
    ];
    let failed = broken.into_iter().filter(|(_, valid, _)| *valid == Validity::Invalid);
    let names: Vec<String> = failed.flat_map(|(check, _, kinds)| named(check, &kinds)).collect();
    if names.is_empty() { vec!["invalid".to_owned()] } else { names }
}

/// The name of today for one that an older version may have written into a storm or campaign file.
pub fn of_today(name: &str) -> String {
    let (check, kind) = name.split_once(": ").unwrap_or((name, ""));
    match (check, kind) {
        ("lost writes", kind) => format!("lost-writes: {kind}"),
        ("split brain", kind) => format!("split-brain: {kind}"),
        ("convergence", "not whole") => "convergence: no-convergence".to_owned(),
        ("convergence", "replica differs") => "convergence: replica-differs".to_owned(),
        ("invariants", "crash") => "invariants: no-crash".to_owned(),
        ("availability", _) => "availability".to_owned(),
        _ => name.to_owned(),
    }
}

/// A name as that of a file.
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').to_owned()
}

fn named(check: &str, kinds: &BTreeSet<&str>) -> Vec<String> {
    if kinds.is_empty() {
        return vec![check.to_owned()];
    }
    kinds.iter().map(|kind| format!("{check}: {kind}")).collect()
}

fn findings(findings: &[Finding]) -> BTreeSet<&str> {
    findings.iter().filter(|finding| !finding.excused).map(|finding| finding.what.as_str()).collect()
}

fn losses(lost: &LostWrites) -> BTreeSet<&str> {
    let some = |class: &str| lost.by_class.get(class).is_some_and(|count| *count > 0);
    let mut kinds = BTreeSet::new();
    if some(UNEXPLAINED) {
        kinds.insert(UNEXPLAINED);
    }
    if lost.protected_lost > 0 {
        kinds.insert("protected by WAIT");
    }
    if kinds.is_empty() {
        // All of them lie in documented windows, and the run was not to lose any.
        kinds.extend(lost.by_class.keys().map(String::as_str).filter(|class| some(class)));
    }
    kinds
}

fn overlaps(brain: &SplitBrain) -> BTreeSet<&str> {
    if !brain.lasting.is_empty() {
        ["lasting"].into()
    } else if !brain.two_writers.is_empty() {
        ["two writers"].into()
    } else {
        BTreeSet::new()
    }
}

/// Excused ones count only where nothing is allowed.
fn contradictions(consistency: &Consistency) -> BTreeSet<&str> {
    let all = || consistency.findings.iter();
    let of = |anomaly: &'_ Anomaly| !anomaly.excused;
    let mut kinds: BTreeSet<&str> = all().filter(|one| of(one)).map(|one| one.what.as_str()).collect();
    if consistency.messages.is_some_and(|messages| messages.never_published > 0) {
        kinds.insert("never-published");
    }
    if kinds.is_empty() {
        kinds.extend(all().map(|one| one.what.as_str()));
    }
    kinds
}

/// A replica that could not be compared, or lagged, is no failure by itself.
fn apart(convergence: &Convergence) -> BTreeSet<&str> {
    let mut kinds = findings(&convergence.findings);
    kinds.retain(|kind| !matches!(*kind, "replica-unread" | "replica-behind"));
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use slotstorm_checker::record::verdict::{Messages, Overlap};

    use super::*;

    fn invalid() -> Verdict {
        Verdict { valid: Validity::Invalid, ..Verdict::default() }
    }

    fn finding(what: &str, excused: bool) -> Finding {
        Finding { what: what.into(), excused, ..Finding::default() }
    }

    #[test]
    fn a_valid_run_has_no_signature() {
        let mut verdict = Verdict::default();
        verdict.checks.lost_writes.by_class.insert("W3".into(), 5);
        assert_eq!(of(&verdict), [""; 0]);
    }

    #[test]
    fn every_check_that_fails_alone_has_a_name() {
        // The list of checks is the verdict's own, as it is written into its file.
        let checks = serde_json::to_value(Checks::default()).unwrap();
        let names: Vec<&String> = checks.as_object().unwrap().keys().collect();
        assert!(names.len() >= 7, "{names:?}");
        for name in names {
            let mut alone = checks.clone();
            alone[name]["valid"] = json!(false);
            let checks: Checks = serde_json::from_value(alone).unwrap();
            assert_eq!(of(&Verdict { checks, ..invalid() }), [name.replace('_', "-")]);
            // What it does not call a failure is none.
            let mut unknown = serde_json::to_value(Checks::default()).unwrap();
            unknown[name]["valid"] = Value::from("unknown");
            let checks: Checks = serde_json::from_value(unknown).unwrap();
            assert_eq!(of(&Verdict { checks, ..invalid() }), ["invalid"]);
        }
    }

    #[test]
    fn the_same_failure_has_the_same_name_whatever_the_numbers() {
        let mut one = invalid();
        one.checks.lost_writes.valid = Validity::Invalid;
        one.checks.lost_writes.by_class.extend([("unexplained".into(), 3), ("W3".into(), 1)]);
        let mut other = one.clone();
        other.seed = 9;
        other.checks.lost_writes.by_class.insert("unexplained".into(), 70);
        assert_eq!(of(&one), ["lost-writes: unexplained"]);
        assert_eq!(of(&one), of(&other));
        one.checks.lost_writes.by_class.clear();
        one.checks.lost_writes.by_class.insert("W1".into(), 2);
        assert_eq!(of(&one), ["lost-writes: W1"], "a strict run allows no window");
        one.checks.lost_writes.protected_lost = 1;
        assert_eq!(of(&one), ["lost-writes: protected by WAIT"]);
    }

    #[test]
    fn the_gravest_check_is_named_first_and_those_that_held_are_not() {
        let mut verdict = invalid();
        verdict.checks.invariants.valid = Validity::Invalid;
        verdict.checks.invariants.violations = vec![finding("no-crash", false), finding("no-crash", false)];
        verdict.checks.elements.findings = vec![finding("phantom", false)];
        verdict.checks.split_brain.valid = Validity::Invalid;
        verdict.checks.split_brain.lasting = vec![Overlap::default()];
        verdict.checks.split_brain.two_writers = vec![Overlap::default()];
        verdict.checks.availability.valid = Validity::Invalid;
        assert_eq!(of(&verdict), ["invariants: no-crash", "split-brain: lasting", "availability"]);
    }

    #[test]
    fn what_is_excused_or_only_unknown_is_no_failure() {
        let mut verdict = invalid();
        verdict.checks.elements.valid = Validity::Invalid;
        verdict.checks.elements.findings = vec![finding("stale", true), finding("phantom", false)];
        verdict.checks.convergence.valid = Validity::Invalid;
        verdict.checks.convergence.findings =
            vec![finding("replica-behind", false), finding("replica-differs", false)];
        assert_eq!(of(&verdict), ["elements: phantom", "convergence: replica-differs"]);
    }

    #[test]
    fn contradictions_are_called_by_their_class() {
        let mut verdict = invalid();
        let anomaly = |what: &str, excused| Anomaly { what: what.into(), excused, ..Anomaly::default() };
        let consistency = &mut verdict.checks.consistency;
        consistency.valid = Validity::Invalid;
        consistency.findings = vec![anomaly("lost-update", true)];
        assert_eq!(of(&verdict), ["consistency: lost-update"], "under strict nothing is excused");
        verdict.checks.consistency.findings.push(anomaly("stale-read", false));
        verdict.checks.consistency.messages = Some(Messages { never_published: 1, ..Messages::default() });
        assert_eq!(of(&verdict), ["consistency: never-published", "consistency: stale-read"]);
    }

    #[test]
    fn names_of_older_versions_are_understood() {
        for (old, new) in [
            ("lost writes: unexplained", "lost-writes: unexplained"),
            ("split brain: two writers", "split-brain: two writers"),
            ("convergence: not whole", "convergence: no-convergence"),
            ("convergence: replica differs", "convergence: replica-differs"),
            ("invariants: crash", "invariants: no-crash"),
            ("availability: outage", "availability"),
            ("invariants: one-vote-per-epoch", "invariants: one-vote-per-epoch"),
        ] {
            assert_eq!(of_today(old), new);
            assert_eq!(of_today(new), new, "what is of today stays");
        }
        assert_eq!(slug("invariants: one vote"), "invariants-one-vote");
    }
}
