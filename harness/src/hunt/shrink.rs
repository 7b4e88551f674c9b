//! Delta debugging of a storm: fewer faults, simpler faults, fewer clients, less load, a shorter run, fewer nodes, as
//! long as the same signature fires. Pure: the caller says whether a smaller plan still fails.

use crate::plan::{Fault, Kind, Plan, Restart, Selector, Span, When};

/// Clients run so long before the first fault.
const CALM_S: f64 = 3.0;

/// Tries to make `plan` smaller with at most `budget` trials. `fails` runs a plan and says whether it still shows the
/// failure; `progress` hears of each step that did.
pub fn shrink(
    plan: &Plan,
    budget: u32,
    fails: &mut dyn FnMut(&Plan) -> bool,
    progress: &mut dyn FnMut(&str, &Plan),
) -> Plan {
    let mut search = Search { best: plan.clone(), left: budget, fails, progress };
    loop {
        let before = search.best.clone();
        search.drop_faults();
        search.come_earlier();
        search.cut_the_end();
        search.fewer_nodes();
        search.less_load();
        search.simpler_faults();
        if search.best == before || search.left == 0 {
            return search.best;
        }
    }
}

struct Search<'a> {
    best: Plan,
    left: u32,
    fails: &'a mut dyn FnMut(&Plan) -> bool,
    progress: &'a mut dyn FnMut(&str, &Plan),
}

impl Search<'_> {
    /// Takes `change` if the failure survives it.
    fn attempt(&mut self, what: &str, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.best.clone();
        change(&mut plan);
        if plan == self.best || self.left == 0 {
            return false;
        }
        self.left -= 1;
        let holds = (self.fails)(&plan);
        if holds {
            self.best = plan;
            (self.progress)(what, &self.best);
        }
        holds
    }

    /// Zeller's ddmin over the schedule: leave out halves, then quarters, down to single faults.
    fn drop_faults(&mut self) {
        let mut pieces = 2;
        while self.best.faults.len() > 1 && self.left > 0 {
            let len = self.best.faults.len();
            let size = len.div_ceil(pieces);
            let mut dropped = false;
            let mut from = 0;
            while from < self.best.faults.len() {
                let to = (from + size).min(self.best.faults.len());
                if self.attempt("fewer faults", |plan| drop(plan.faults.drain(from..to))) {
                    dropped = true;
                } else {
                    from = to;
                }
            }
            if size == 1 && !dropped {
                return;
            }
            pieces = if dropped { 2 } else { pieces * 2 };
        }
    }

    /// Faults begin after [`CALM_S`], and follow each other soon: on real processes a second of quiet takes a second.
    fn come_earlier(&mut self) {
        for at in 0..self.best.faults.len() {
            let time = |place: usize| begins_s(&self.best.faults[place], self.best.node_timeout_ms);
            let before = if at == 0 { CALM_S } else { time(at - 1) };
            let gap = time(at) - before;
            for by in [gap - 0.5, gap / 2.0] {
                let by = (by * 10.0).floor() / 10.0;
                if by >= 0.5 && self.attempt("earlier", |plan| earlier(plan, at, by)) {
                    break;
                }
            }
        }
    }

    /// The storm ends soon after its last fault.
    fn cut_the_end(&mut self) {
        let node_timeout_ms = self.best.node_timeout_ms;
        let end = |fault: &Fault| match fault.when {
            When::At(at) => {
                let lasts = fault.kind.duration().map_or(0.0, |span| span.secs(node_timeout_ms));
                at.secs(node_timeout_ms) + lasts
            }
            When::Every { .. } | When::On { .. } => f64::INFINITY,
        };
        let last = self.best.faults.iter().map(end).fold(1.0, f64::max);
        for after in [1.0, 4.0, 10.0] {
            let wanted = (last + after).ceil().max(2.0);
            if wanted < self.best.duration_s && self.attempt("shorter", |plan| plan.duration_s = wanted) {
                return;
            }
        }
    }

    fn fewer_nodes(&mut self) {
        while self.best.replicas > 1 && self.attempt("fewer replicas", |plan| plan.replicas -= 1) {}
        while self.best.masters > 3 && self.attempt("fewer masters", |plan| plan.masters -= 1) {}
    }

    fn less_load(&mut self) {
        for clients in [1, 2, 3, 5] {
            if clients < self.best.clients && self.attempt("fewer clients", |plan| plan.clients = clients) {
                break;
            }
        }
        for rate in [5.0, 20.0, 50.0, 100.0] {
            if rate < self.best.rate && self.attempt("less load", |plan| plan.rate = rate) {
                break;
            }
        }
    }

    /// Round times, shorter faults, all clients on the side of the rest, named targets.
    fn simpler_faults(&mut self) {
        let nodes = self.best.nodes();
        for at in 0..self.best.faults.len() {
            self.attempt("rounder times", |plan| {
                if let When::At(Span::Secs(secs)) = &mut plan.faults[at].when {
                    *secs = (*secs * 2.0).round() / 2.0;
                }
            });
            self.attempt("rounder times", |plan| {
                if let Some(Span::Secs(secs)) = duration_mut(&mut plan.faults[at].kind) {
                    *secs = (*secs).ceil();
                }
            });
            if matches!(self.best.faults[at].target, Selector::RandomMaster | Selector::RandomReplica) {
                for node in 1..=nodes {
                    if self.attempt("a named target", |plan| plan.faults[at].target = Selector::Node(node)) {
                        break;
                    }
                }
            }
        }
    }
}

/// When it comes, or begins to wait for its moment.
fn begins_s(fault: &Fault, node_timeout_ms: u64) -> f64 {
    let (When::At(span) | When::Every { offset: span, .. } | When::On { after: span, .. }) = fault.when;
    span.secs(node_timeout_ms)
}

/// The faults from this place on come so many seconds earlier.
fn earlier(plan: &mut Plan, from: usize, by_s: f64) {
    let node_timeout_ms = plan.node_timeout_ms;
    for fault in &mut plan.faults[from..] {
        let (When::At(span) | When::Every { offset: span, .. } | When::On { after: span, .. }) =
            &mut fault.when;
        *span = Span::Secs(((span.secs(node_timeout_ms) - by_s).max(0.0) * 1000.0).round() / 1000.0);
    }
}

fn duration_mut(kind: &mut Kind) -> Option<&mut Span> {
    match kind {
        Kind::Down { restart: Restart::After(span), .. } => Some(span),
        Kind::RestartLoop { duration, .. }
        | Kind::Pause { duration }
        | Kind::Slow { duration, .. }
        | Kind::Messages { duration, .. }
        | Kind::Disk { duration, .. }
        | Kind::Clock { duration, .. }
        | Kind::Forget { duration }
        | Kind::Config { duration, .. }
        | Kind::Load { duration, .. } => Some(duration),
        Kind::Network(network) => Some(&mut network.duration),
        Kind::Down { restart: Restart::Never, .. }
        | Kind::Failover { .. }
        | Kind::Command { .. }
        | Kind::DelNode
        | Kind::AddNode
        | Kind::Reshard { .. }
        | Kind::Rebalance => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StormFile;

    #[test]
    fn of_many_faults_the_two_that_matter_are_left_and_everything_else_is_small() {
        let text = "preset = 'everything'\nduration_s = 300\nreplicas = 2\n";
        let plan = Plan::from_file(StormFile::parse("x", text).unwrap(), 4).unwrap();
        assert!(plan.faults.len() > 10);
        let names = |plan: &Plan| plan.faults.iter().map(|f| f.kind.name()).collect::<Vec<_>>();
        let all = names(&plan);
        let (first, second) = (all[2], all[7]);
        let mut trials = 0;
        let mut fails = |plan: &Plan| {
            trials += 1;
            let left = names(plan);
            let at = left.iter().position(|name| *name == first);
            at.is_some_and(|at| left[at..].contains(&second)) && plan.rate >= 20.0
        };
        let small = shrink(&plan, 500, &mut fails, &mut |_, _| {});
        assert_eq!(names(&small), [first, second]);
        assert_eq!((small.clients, small.rate, small.replicas), (1, 20.0, 1));
        let begins: Vec<f64> = small.faults.iter().map(|it| begins_s(it, small.node_timeout_ms)).collect();
        assert!(
            begins[0] < CALM_S + 2.0 && begins[1] < begins[0] + 2.0 && small.duration_s < 30.0,
            "{begins:?}"
        );
        assert!(trials < 200, "{trials}");
    }

    #[test]
    fn the_budget_is_kept() {
        let plan = Plan::from_file(StormFile::default(), 4).unwrap();
        let mut trials = 0;
        let same = shrink(
            &plan,
            7,
            &mut |_| {
                trials += 1;
                false
            },
            &mut |_, _| {},
        );
        assert_eq!((same, trials), (plan, 7));
    }
}
