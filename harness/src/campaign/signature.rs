//! What a run's failure is called, so that the same failure of another night has the same name: the check and what it
//! found, without seeds, times, nodes and counts.

use std::collections::BTreeSet;

use serde_json::Value;
use slotstorm_checker::record::verdict::{Validity, Verdict};

/// A run that had to be ended.
pub const HUNG: &str = "run: did not end";

/// The failures of a verdict, in order. None for one that is not invalid.
pub fn signatures(verdict: &Verdict) -> Vec<String> {
    if verdict.valid != Validity::Invalid {
        return Vec::new();
    }
    // Over the JSON, so that a check that is added later has its signatures too.
    let checks = serde_json::to_value(&verdict.checks).unwrap_or_default();
    let mut found = BTreeSet::new();
    for (name, check) in checks.as_object().into_iter().flatten() {
        if check.get("valid") == Some(&Value::Bool(false)) {
            let name = name.replace('_', "-");
            let kinds = kinds(check);
            if kinds.is_empty() {
                found.insert(name.clone());
            }
            found.extend(kinds.into_iter().map(|kind| format!("{name}: {kind}")));
        }
    }
    if found.is_empty() {
        found.insert("invalid".to_owned());
    }
    found.into_iter().collect()
}

/// What a check that failed found.
fn kinds(check: &Value) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for list in ["findings", "violations"] {
        for finding in check.get(list).and_then(Value::as_array).into_iter().flatten() {
            if finding.get("excused") != Some(&Value::Bool(true))
                && let Some(what) = finding.get("what").and_then(Value::as_str)
            {
                kinds.insert(what.to_owned());
            }
        }
    }
    let classes = check.get("by_class").and_then(Value::as_object);
    if let Some(classes) = classes {
        let some = |class: &str| classes.get(class).and_then(Value::as_u64).is_some_and(|count| count > 0);
        if some("unexplained") {
            kinds.insert("unexplained".to_owned());
        } else if check.get("protected_lost").and_then(Value::as_u64).is_some_and(|count| count > 0) {
            kinds.insert("protected by WAIT".to_owned());
        } else {
            kinds.extend(classes.keys().filter(|class| some(class)).cloned());
        }
    }
    for (list, kind) in [("lasting", "lasting"), ("two_writers", "two writers")] {
        let any = check.get(list).and_then(Value::as_array).is_some_and(|overlaps| !overlaps.is_empty());
        if any && !kinds.contains("lasting") {
            kinds.insert(kind.to_owned());
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use slotstorm_checker::record::verdict::{Finding, Overlap};

    use super::*;

    fn invalid() -> Verdict {
        Verdict { valid: Validity::Invalid, ..Verdict::default() }
    }

    #[test]
    fn a_valid_run_has_no_signature() {
        let mut verdict = Verdict::default();
        verdict.checks.lost_writes.by_class.insert("W3".into(), 5);
        assert_eq!(signatures(&verdict), [""; 0]);
    }

    #[test]
    fn the_same_failure_has_the_same_name_whatever_the_numbers() {
        let mut one = invalid();
        one.checks.lost_writes.valid = Validity::Invalid;
        one.checks.lost_writes.by_class.extend([("unexplained".into(), 3), ("W3".into(), 1)]);
        let mut other = one.clone();
        other.seed = 9;
        other.checks.lost_writes.by_class.insert("unexplained".into(), 70);
        assert_eq!(signatures(&one), ["lost-writes: unexplained"]);
        assert_eq!(signatures(&one), signatures(&other));
    }

    #[test]
    fn each_failed_check_is_named_and_those_that_held_are_not() {
        let mut verdict = invalid();
        let finding = |what: &str, excused| Finding { what: what.into(), excused, ..Finding::default() };
        verdict.checks.invariants.valid = Validity::Invalid;
        verdict.checks.invariants.violations = vec![finding("no-crash", false), finding("no-crash", false)];
        verdict.checks.elements.findings = vec![finding("phantom", false)];
        verdict.checks.split_brain.valid = Validity::Invalid;
        verdict.checks.split_brain.lasting = vec![Overlap::default()];
        verdict.checks.split_brain.two_writers = vec![Overlap::default()];
        verdict.checks.availability.valid = Validity::Invalid;
        assert_eq!(signatures(&verdict), ["availability", "invariants: no-crash", "split-brain: lasting"]);
    }

    #[test]
    fn excused_findings_are_none() {
        let mut verdict = invalid();
        verdict.checks.elements.valid = Validity::Invalid;
        let finding = |what: &str, excused| Finding { what: what.into(), excused, ..Finding::default() };
        verdict.checks.elements.findings = vec![finding("stale", true), finding("phantom", false)];
        assert_eq!(signatures(&verdict), ["elements: phantom"]);
    }
}
