//! FAIL is said by a node that holds the subject for unreachable and was told so by enough masters to make a majority
//! (its own opinion counts if it is a master). Reports hold for two node timeouts.

use std::collections::BTreeMap;

use super::{Broken, Heard, Node, Rule, WireJudge, names};
use crate::record::Nanos;
use crate::timeline::seconds;

/// A master told someone that the subject fails.
#[derive(Clone, Copy, Debug)]
struct Report {
    /// When it was told, or, by someone who did not run then, when it can have been read.
    time: Nanos,
    line: u64,
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    /// By receiver and subject: who told it.
    reports: BTreeMap<(String, Node), BTreeMap<Node, Report>>,
    /// By sender and subject: when FAIL was last said (one broadcast is many frames).
    said: BTreeMap<(Node, Node), Nanos>,
}

impl Failures {
    /// The node ran again: what it was told meanwhile counts from now.
    pub fn woke(&mut self, node: &str, time: Nanos) {
        let of_node = self.reports.iter_mut().filter(|((to, _), _)| to == node);
        of_node.flat_map(|(_, reports)| reports.values_mut()).for_each(|report| report.time = time);
    }

    pub fn all_woke(&mut self, time: Nanos) {
        self.reports.values_mut().flat_map(BTreeMap::values_mut).for_each(|report| {
            report.time = report.time.max(time);
        });
    }
}

impl WireJudge {
    /// Reports are noted for their receiver. That a node is called fine again takes the report away, but not at once:
    /// the receiver may have counted it before.
    pub(super) fn on_gossip(&mut self, heard: &Heard<'_>) {
        let report = Report { time: heard.time, line: heard.line };
        for id in heard.frame.fail.iter().chain(&heard.frame.pfail) {
            let subject = self.members.node(id);
            let reports = self.failures.reports.entry((heard.to.to_owned(), subject)).or_default();
            reports.insert(heard.now.node, report);
        }
        self.note_opinions(heard);
    }

    pub(super) fn on_fail(&mut self, heard: &Heard<'_>) {
        let Some(id) = &heard.frame.subject else { return };
        let (node, subject) = (heard.now.node, self.members.node(id));
        self.note_failed(heard, subject);
        let memory = self.memory();
        let last = self.failures.said.insert((node, subject), heard.time);
        if last.is_some_and(|at| heard.time < at.saturating_add(self.options.node_timeout)) {
            return; // the same broadcast
        }
        self.report.failures += 1;
        let since = heard.made_after.saturating_sub(memory);
        let settled =
            self.members.all[node].joined.saturating_add(self.options.node_timeout) < heard.made_after;
        if !settled || !self.knows_all_owners(heard.from, node) {
            return self.unknown(Rule::Failure, "the sender may just have joined, and known few masters");
        }
        if self.lost.iter().any(|(_, to)| to == heard.from) {
            return self.unknown(Rule::Failure, "what the sender was told could not be followed");
        }
        let Some(majority) = self.members.majority(since) else {
            return self.unknown(Rule::Failure, "not all slots had an owner");
        };
        let none = BTreeMap::new();
        let reports = self.failures.reports.get(&(heard.from.to_owned(), subject)).unwrap_or(&none);
        let told: Vec<(Node, u64)> = reports
            .iter()
            .filter(|&(&reporter, report)| {
                reporter != node && report.time >= since && self.members.all[reporter].was_master(since)
            })
            .map(|(&reporter, report)| (reporter, report.line))
            .collect();
        let own = usize::from(self.members.all[node].was_master(since));
        self.count(Rule::Failure);
        if told.len() + own < majority {
            let text = format!(
                "{} said at {} in epoch {} that {} failed; {} of at least {majority} masters held that: {}{}",
                heard.from,
                seconds(heard.time),
                heard.now.current,
                self.members.name(subject),
                told.len() + own,
                names(&self.members, told.iter().map(|&(node, _)| node)),
                if own == 1 { " and itself" } else { "" },
            );
            let nodes = vec![heard.from.to_owned(), self.members.name(subject).to_owned()];
            let lines = told.iter().map(|&(_, line)| line).chain([heard.line]).collect();
            let broken = Broken { text, from: heard.time, to: heard.time, nodes, lines };
            self.broken(Rule::Failure, broken);
        }
    }

    /// It has spoken to every node that owns slots: they are in its table.
    fn knows_all_owners(&self, name: &str, node: Node) -> bool {
        self.members.owners().filter(|&owner| owner != node).all(|owner| {
            let to = &self.members.all[owner].name;
            self.links.contains_key(&(name.to_owned(), to.clone()))
        })
    }
}
