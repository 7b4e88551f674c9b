//! How often each command was called, how long it took, how often it failed: INFO commandstats and latencystats.
//!
//! Durations are measured by the shell's [`Stopwatch`](crate::io::Stopwatch), read once behind each command: where one
//! ends the next one begins. They are shown and nothing else.

use std::collections::BTreeMap;

use super::Node;
use super::client::Client;
use crate::command::{Spec, TABLE};
use crate::resp::Args;

/// What is known of one command.
#[derive(Clone, Debug, Default)]
pub struct CommandStat {
    /// Executed, also without success.
    pub calls: u64,
    /// In all, nanoseconds.
    pub took_ns: u64,
    /// Refused before it was executed.
    pub rejected: u64,
    /// Executed, and answered with an error.
    pub failed: u64,
    /// Of single calls, once there is one (`latency-tracking`).
    pub latency: Option<Box<Histogram>>,
}

/// Of all commands.
#[derive(Debug)]
pub struct CommandStats {
    /// By place in the command table.
    table: Vec<CommandStat>,
    /// Of sub-commands, which stand in no table, by full name.
    others: BTreeMap<&'static str, CommandStat>,
}

impl Default for CommandStats {
    fn default() -> Self {
        Self { table: vec![CommandStat::default(); TABLE.len()], others: BTreeMap::new() }
    }
}

/// The place of a line of the table: it is found by where it lies, because names would have to be compared.
fn place(spec: &'static Spec) -> Option<usize> {
    let from = std::ptr::from_ref(spec).addr().checked_sub(TABLE.as_ptr().addr())?;
    let index = from / size_of::<Spec>();
    (index < TABLE.len()).then_some(index)
}

impl CommandStats {
    /// What is known of this command.
    pub fn of(&mut self, spec: &'static Spec) -> &mut CommandStat {
        match place(spec).and_then(|index| self.table.get_mut(index)) {
            Some(stat) => stat,
            None => self.others.entry(spec.name).or_default(),
        }
    }

    /// All commands that were called or refused, sorted by name.
    pub fn all(&self) -> Vec<(&'static str, &CommandStat)> {
        let table = TABLE.iter().map(|spec| spec.name).zip(&self.table);
        let others = self.others.iter().map(|(name, stat)| (*name, stat));
        let used = |(_, stat): &(&str, &CommandStat)| stat.calls > 0 || stat.rejected > 0 || stat.failed > 0;
        let mut all: Vec<_> = table.chain(others).filter(used).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }
}

impl Node {
    /// A command was executed: the time since the last reading was its own.
    pub(super) fn command_done(
        &mut self,
        client: &Client,
        spec: &'static Spec,
        args: Args<'_>,
        began_ns: u64,
        failed: bool,
    ) {
        let now_ns = self.stopwatch.read();
        self.last_reading_ns = now_ns;
        // A command that asked the shell to be deaf for a while has not taken that time yet.
        let took_ns = now_ns.saturating_sub(began_ns) + std::mem::take(&mut self.asked_busy_ns);
        let tracks = self.tracks_latency;
        let stat = self.stats.per_command.of(spec);
        stat.calls += 1;
        stat.took_ns += took_ns;
        stat.failed += u64::from(failed);
        if tracks {
            stat.latency.get_or_insert_default().add(took_ns);
        }
        self.note_duration(client, spec, args, took_ns);
    }
}

/// Durations in classes whose width is less than one per cent of their values, up to a second.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// 128 classes for each power of two above 256; below it one a nanosecond.
    counts: Vec<u32>,
    total: u64,
    max_ns: u64,
}

/// Values up to twice this are exact.
const HALF: u64 = 128;
const MAX_NS: u64 = 1_000_000_000;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Vec::new(), total: 0, max_ns: 0 }
    }
}

impl Histogram {
    /// Adds a duration; above a second it counts as one.
    pub fn add(&mut self, ns: u64) {
        let ns = ns.clamp(1, MAX_NS);
        let class = class_of(ns);
        if class >= self.counts.len() {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] = self.counts[class].saturating_add(1);
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// How many there are.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The duration that so many per cent do not exceed, as the upper end of its class.
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        let wanted = ((percent.clamp(0.0, 100.0) / 100.0 * self.total as f64) + 0.5) as u64;
        let mut seen = 0;
        for (class, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= wanted.max(1) {
                return last_of(class);
            }
        }
        self.max_ns
    }

    /// How many do not exceed `ns` (all of its class counts).
    pub fn up_to(&self, ns: u64) -> u64 {
        let until = class_of(ns.clamp(1, MAX_NS));
        self.counts.iter().take(until + 1).map(|&count| u64::from(count)).sum()
    }
}

fn class_of(ns: u64) -> usize {
    // How often it must be halved to be within the range of exact values.
    let halvings = u64::from((ns / (2 * HALF)).checked_ilog2().map_or(0, |power| power + 1));
    (halvings * HALF + (ns >> halvings)) as usize
}

/// The greatest value of a class.
fn last_of(class: usize) -> u64 {
    let class = class as u64;
    if class < 2 * HALF {
        return class;
    }
    let doublings = class / HALF - 1;
    let top = class - doublings * HALF;
    ((top + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_less_than_a_hundredth_of_its_values() {
        let mut before = 0;
        for ns in (1..5000).chain((5000..MAX_NS).step_by(99_991)) {
            let class = class_of(ns);
            let last = last_of(class);
            assert!(class >= before && last >= ns, "{ns}: class {class} ends at {last}");
            assert!(last - ns <= ns / 100, "{ns}: class {class} ends at {last}");
            before = class;
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_added() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|n| histogram.add(n * 1000));
        let at = |percent| histogram.percentile_ns(percent) / 1000;
        assert_eq!((at(50.0), at(99.0), at(100.0)), (50, 99, 100));
        assert_eq!((histogram.up_to(10_000), histogram.total()), (10, 100));
    }
}
