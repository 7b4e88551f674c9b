//! When is a cluster whole? Every node runs, says so itself since a given time, and all tell one story.

use slotstorm_checker::record::{Nanos, Row, Seen};

use super::model::ClusterModel;

/// Answers what is missing until the cluster is whole, by what nodes said after `since`: every node runs, its
/// state is ok, every slot is owned once, no flag of failure is left, every replica's link to a master of slots is
/// up, and all tables agree.
pub fn whole(model: &ClusterModel, since: Nanos) -> Result<(), String> {
    let mut words: Vec<(String, &Seen)> = Vec::new();
    for node in model.nodes() {
        let name = node.name();
        if !node.live() {
            return Err(format!("{name} is not running"));
        }
        match &node.seen {
            Some((at, seen)) if *at >= since => words.push((name, &**seen)),
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
        let leader = if seen.master { Some(name) } else { seen.master_name.as_ref() };
        let is_leader = |row: &Row| Some(&row.node) == leader && !row.slots.is_empty();
        if !seen.table.iter().any(is_leader) {
            let leader = leader.map_or("an unknown node", String::as_str);
            return Err(format!("{name} is led by {leader}, which owns no slots"));
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

#[cfg(test)]
mod tests {
    use slotstorm_checker::record::Table;

    use super::*;
    use crate::backend::ProcessState;

    /// One master of everything and its replica, who agree.
    fn pair() -> [Seen; 2] {
        let row = |node: &str, master: Option<&str>, slots| Row {
            node: node.into(),
            flags: if master.is_some() { "slave" } else { "master" }.into(),
            master: master.map(str::to_owned),
            slots,
            ..Row::default()
        };
        let all = vec![(0, 16383)];
        let table = Table::from(vec![row("n1", None, all.clone()), row("n2", Some("n1"), Vec::new())]);
        let master = Seen { ok: true, master: true, slots: all, table: table.clone(), ..Seen::default() };
        let replica =
            Seen { ok: true, link_up: true, master_name: Some("n1".into()), table, ..Seen::default() };
        [master, replica]
    }

    fn missing(seen: [Seen; 2], at: Nanos) -> Result<(), String> {
        let mut model = ClusterModel::new(2);
        for (number, seen) in (1..).zip(seen) {
            model.set_process(number, ProcessState::Running { pid: 1 });
            model.set_seen(number, at, seen);
        }
        whole(&model, 100)
    }

    #[test]
    fn two_nodes_that_agree_are_whole_but_not_by_what_they_said_before() {
        assert_eq!(missing(pair(), 100), Ok(()));
        assert!(missing(pair(), 99).unwrap_err().contains("has not answered"));
    }

    #[test]
    fn each_thing_that_can_be_missing_is_named() {
        let without = |spoil: fn(&mut [Seen; 2])| {
            let mut seen = pair();
            spoil(&mut seen);
            missing(seen, 100).unwrap_err()
        };
        assert!(without(|seen| seen[1].ok = false).contains("cluster_state:fail"));
        assert!(without(|seen| seen[1].link_up = false).contains("no link to its master"));
        let sub_replica = without(|seen| seen[1].master_name = Some("n2".into()));
        assert!(sub_replica.contains("n2 is led by n2, which owns no slots"));
        assert!(without(|seen| seen[0].open_slots = vec![7]).contains("open slots"));
        assert!(without(|seen| seen[0].slots = vec![(0, 16382)]).contains("slot 16383 has 0 owners"));
        assert!(without(|seen| seen[1].table[0].flags = "master,fail?".into()).contains("fail?"));
        assert!(without(|seen| seen[1].table[0].slots = vec![(0, 5)]).contains("differ"));
    }
}
