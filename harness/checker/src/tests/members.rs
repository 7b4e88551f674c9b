//! Who was told to forget a node does not take it back by itself.

use crate::check::members::FORGOTTEN;
use crate::judge;
use crate::scene::Scene;

/// n2 forgets n6 at 2 s and has it in its table again from `back` on; all meet it at 6 s.
fn story(back: f64) -> bool {
    let mut scene = Scene::new("set");
    scene.at(2.0).asks("n2", &format!("CLUSTER FORGET {:040x}", 6));
    scene.at(6.0).asks("n6", "CLUSTER MEET 127.1.1.2 6379").at(8.0);
    let back = (back * 1e9) as u64;
    for view in scene.views.iter_mut().filter(|view| view.node == "n2" && view.sent >= 1_950_000_000) {
        if view.time < back
            && let Some(seen) = &mut view.seen
        {
            seen.table.retain(|row| row.node != "n6");
        }
    }
    let verdict = judge(&scene.finish());
    assert_eq!(verdict.checks.invariants.watched[FORGOTTEN], 1);
    verdict.checks.invariants.violations.iter().any(|one| one.what == FORGOTTEN)
}

#[test]
fn who_was_forgotten_comes_back_when_it_is_met_and_not_before() {
    assert!(!story(6.1));
    assert!(story(4.0));
}
