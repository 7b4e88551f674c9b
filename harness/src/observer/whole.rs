//! When is a cluster whole? Every node runs, says so itself since a given time, and all tell one story.

use slotstorm_checker::record::{Nanos, Seen};

use super::model::ClusterModel;

/// Answers what is missing until the cluster is whole, by what nodes said after `since`: every node runs, its state
/// is ok, every slot is owned once, no flag of failure is left, every replica's link is up, and all tables agree.
pub fn whole(model: &ClusterModel, since: Nanos) -> Result<(), String> {
    let mut words: Vec<(String, &Seen)> = Vec::new();
    for node in model.nodes() {
        let name = node.name();
        if !node.live() {
            return Err(format!("{name} is not running"));
        }
        match &node.seen {
            Some((at, seen)) if *at >= since => words.push((name, seen)),
            _ => return Err(format!("{name} has not answered")),
        }
    }
    let mut owned = vec![0u8; 16384];
    for (name, seen) in &words {
        if !seen.ok {
            return Err(format!("{name} says cluster_state:fail"));
        }
        if !seen.open_slots.is_empty() {
            return Err(format!("{name} has open slots"));
        }
        if !seen.master && !seen.link_up {
            return Err(format!("{name} has no link to its master"));
        }
        for (first, last) in &seen.slots {
            for slot in *first..=*last {
                owned[usize::from(slot)] = owned[usize::from(slot)].saturating_add(1);
            }
        }
        for row in &seen.table {
            if let Some(flag) =
                row.flags.split(',').find(|f| matches!(*f, "fail" | "fail?" | "handshake" | "noaddr"))
            {
                return Err(format!("{name} marks {} as {flag}", row.node));
            }
        }
    }
    if let Some(slot) = owned.iter().position(|count| *count != 1) {
        return Err(format!("slot {slot} has {} owners", owned[slot]));
    }
    let story = |seen: &Seen| -> Vec<_> {
        seen.table.iter().map(|row| (row.node.clone(), row.master.clone(), row.slots.clone())).collect()
    };
    let Some((first, seen)) = words.first() else { return Err("there are no nodes".into()) };
    let reference = story(seen);
    match words.iter().find(|(_, seen)| story(seen) != reference) {
        Some((name, _)) => Err(format!("the tables of {first} and {name} differ")),
        None => Ok(()),
    }
}
