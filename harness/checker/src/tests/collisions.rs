//! Of two masters under one epoch the one that served stays.

use crate::check::collisions::COLLISION;
use crate::record::verdict::Verdict;
use crate::scene::Scene;
use crate::{judge, record::Record};

/// n1 is cut off and can serve nobody, n4 claims its slots under the same epoch; after the cut one of them takes another.
fn collision(winner: &str, by_hand: bool) -> Record {
    let mut scene = Scene::new("set");
    scene.at(2.0).isolate("n1").at(4.5).fails("n1").at(5.0).promote_with("n4", 1).at(8.0).heal("n1");
    if by_hand {
        scene.at(8.15).asks(winner, "CLUSTER BUMPEPOCH");
    }
    let loser = if winner == "n1" { "n4" } else { "n1" };
    scene.at(8.2).promote_with(winner, 9).learns(loser).at(8.4).learns(winner).at(10.0).finish()
}

fn broken(record: &Record) -> (bool, Verdict) {
    let verdict = judge(record);
    (verdict.checks.invariants.violations.iter().any(|one| one.what == COLLISION), verdict)
}

#[test]
fn who_served_keeps_the_slots() {
    let (served, verdict) = broken(&collision("n4", false));
    assert!(!served, "{}", verdict.reason);
    let (came_back, verdict) = broken(&collision("n1", false));
    assert!(came_back, "{}", verdict.reason);
    let (told, verdict) = broken(&collision("n1", true));
    assert!(!told && verdict.checks.invariants.watched[COLLISION] == 1, "{}", verdict.reason);
}
