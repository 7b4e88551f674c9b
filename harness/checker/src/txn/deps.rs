//! Dependencies between transactions, as the analysis of a key gives them out: to the graph, or to whoever asks why.

use crate::answer::Relation;

/// Why one transaction must come before another, by what they did to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dep {
    pub from: u32,
    pub to: u32,
    /// Write-write, write-read or read-write.
    pub relation: Relation,
    /// The version that `from` wrote or read; none is the initial state.
    pub before: Option<u64>,
    /// The version that `to` wrote or read.
    pub after: u64,
}

/// Takes dependencies.
pub(super) trait Deps {
    fn dep(&mut self, dep: Dep);

    /// Every reader of version `before` comes before every writer (of that value): an anti-dependency for each pair of
    /// different transactions. Both are in ascending order.
    fn anti_deps(&mut self, before: Option<u64>, readers: &[u32], writers: &[(u32, u64)]);
}

/// Keeps the first dependency of one pair and kind.
pub(super) struct Asked {
    pub from: u32,
    pub to: u32,
    pub relation: Relation,
    pub found: Option<Dep>,
}

impl Deps for Asked {
    fn dep(&mut self, dep: Dep) {
        if self.found.is_none() && dep.from == self.from && dep.to == self.to && dep.relation == self.relation
        {
            self.found = Some(dep);
        }
    }
    fn anti_deps(&mut self, before: Option<u64>, readers: &[u32], writers: &[(u32, u64)]) {
        if self.found.is_none()
            && self.from != self.to
            && readers.contains(&self.from)
            && let Some((to, after)) = writers.iter().find(|(to, _)| *to == self.to)
        {
            self.dep(Dep { from: self.from, to: *to, relation: Relation::ReadWrite, before, after: *after });
        }
    }
}
