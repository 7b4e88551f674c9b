//! What a failure is called: the check that fired and the shape of what it found, without times, nodes or numbers, so
//! that two storms that show the same failure have the same word for it.

use std::collections::BTreeSet;

use slotstorm_checker::record::verdict::{Validity, Verdict};

/// The signatures of an invalid verdict, the gravest check first.
pub fn of(verdict: &Verdict) -> Vec<String> {
    let checks = &verdict.checks;
    let mut all = Vec::new();
    let mut add = |check: &str, shapes: BTreeSet<&str>| {
        all.extend(shapes.into_iter().map(|shape| format!("{check}: {shape}")));
    };
    let invariants = &checks.invariants;
    if invariants.valid == Validity::Invalid {
        let mut shapes: BTreeSet<&str> = invariants
            .violations
            .iter()
            .filter(|finding| !finding.excused)
            .map(|finding| finding.what.as_str())
            .collect();
        if invariants.crashes > 0 {
            shapes.insert("crash");
        }
        add("invariants", shapes);
    }
    let lost = &checks.lost_writes;
    if lost.valid == Validity::Invalid {
        let mut shapes = BTreeSet::new();
        if lost.by_class.get("unexplained").is_some_and(|count| *count > 0) {
            shapes.insert("unexplained");
        }
        if lost.protected_lost > 0 {
            shapes.insert("protected by WAIT");
        }
        if shapes.is_empty() {
            shapes.insert("not allowed");
        }
        add("lost writes", shapes);
    }
    let brain = &checks.split_brain;
    if brain.valid == Validity::Invalid {
        let shape = if brain.lasting.is_empty() { "two writers" } else { "lasting" };
        add("split brain", [shape].into());
    }
    if checks.elements.valid == Validity::Invalid {
        let findings = checks.elements.findings.iter().filter(|finding| !finding.excused);
        add("elements", findings.map(|finding| finding.what.as_str()).collect());
    }
    let convergence = &checks.convergence;
    if convergence.valid == Validity::Invalid {
        let shape = if convergence.replica_differences > 0 { "replica differs" } else { "not whole" };
        add("convergence", [shape].into());
    }
    if checks.availability.valid == Validity::Invalid {
        add("availability", ["outage"].into());
    }
    all
}

/// A signature as a file's name.
pub fn slug(signature: &str) -> String {
    let mut slug = String::new();
    for c in signature.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use slotstorm_checker::record::verdict::Finding;

    use super::*;

    #[test]
    fn a_valid_verdict_has_no_signature_and_an_invalid_one_names_check_and_shape() {
        let mut verdict = Verdict::default();
        assert!(of(&verdict).is_empty());
        verdict.checks.convergence.valid = Validity::Invalid;
        verdict.checks.convergence.replica_differences = 3;
        verdict.checks.invariants.valid = Validity::Invalid;
        let finding = |what: &str, excused| Finding { what: what.into(), excused, ..Finding::default() };
        verdict.checks.invariants.violations = vec![finding("one vote", false), finding("other", true)];
        assert_eq!(of(&verdict), ["invariants: one vote", "convergence: replica differs"]);
        assert_eq!(slug("invariants: one vote"), "invariants-one-vote");
    }
}
