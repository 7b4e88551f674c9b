//! The shortest rules, as Redis finds them, that make a selector's set of commands: first the categories that fit best,
//! one after the other, then what is still different, command by command.

use super::selector::Selector;
use crate::command::catalog::{CATEGORIES, catalog};

/// The rules, from `+@all` or `-@all` on.
pub(super) fn command_rules(selector: &Selector) -> Vec<u8> {
    // What the rules so far make, and what of the selector they have not told yet.
    let mut made = Selector::new(false);
    let mut untold = selector.clone();
    let adds = !selector.commands.has_future();
    let mut rules: Vec<Vec<u8>> = Vec::new();
    let mut emit = |made: &mut Selector, rule: String| {
        // Only rules that the catalog knows come here.
        let _ = made.apply(rule.as_bytes());
        rules.push(rule.into_bytes());
    };
    emit(&mut made, if adds { "-@all" } else { "+@all" }.to_owned());
    let mut told = [false; CATEGORIES.len()];
    while let Some(best) = best_category(&untold, adds, &told) {
        told[best] = true;
        let (sign, inverse) = if adds { ('+', '-') } else { ('-', '+') };
        emit(&mut made, format!("{sign}@{}", CATEGORIES[best]));
        let _ = untold.apply(format!("{inverse}@{}", CATEGORIES[best]).as_bytes());
    }
    for (index, entry) in catalog().entries().iter().enumerate() {
        let permitted = selector.commands.has(index);
        if permitted != made.commands.has(index) {
            let sign = if permitted { '+' } else { '-' };
            rules.push(format!("{sign}{}", entry.spec.name).into_bytes());
            made.set_command(index, permitted);
        }
        for first in selector.first_args.get(&index).filter(|_| !permitted).into_iter().flatten() {
            rules.push([b"+", entry.spec.name.as_bytes(), b"|", first].concat());
        }
    }
    debug_assert_eq!(made.commands, selector.commands);
    rules.join(&b' ')
}

/// The category with the fewest commands that do not fit, and of these the one with the most that do.
fn best_category(untold: &Selector, adds: bool, told: &[bool]) -> Option<usize> {
    let mut best = None;
    let (mut least_different, mut most_alike) = (usize::MAX, 0);
    for (index, _) in told.iter().enumerate().filter(|(_, told)| !**told) {
        let (mut on, mut off) = (0, 0);
        for (number, entry) in catalog().entries().iter().enumerate() {
            if entry.categories & 1 << index != 0 {
                *if untold.commands.has(number) { &mut on } else { &mut off } += 1;
            }
        }
        let (alike, different) = if adds { (on, off) } else { (off, on) };
        if alike > different
            && (different < least_different || different == least_different && alike > most_alike)
        {
            best = Some(index);
            (least_different, most_alike) = (different, alike);
        }
    }
    best
}
