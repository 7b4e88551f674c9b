//! Intervals on the time axis.

use crate::record::Nanos;

/// One second.
pub const SECOND: Nanos = 1_000_000_000;
/// One millisecond.
pub const MILLI: Nanos = 1_000_000;

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub from: Nanos,
    /// `Nanos::MAX` while it is still open.
    pub to: Nanos,
}

impl Span {
    /// True if both have a moment in common.
    pub fn meets(self, from: Nanos, to: Nanos) -> bool {
        self.from <= to && from <= self.to
    }

    /// True if the moment lies in it.
    pub fn holds(self, at: Nanos) -> bool {
        self.from <= at && at <= self.to
    }
}

/// Disjoint intervals in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// Merges what touches.
    pub fn of(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
                _ => merged.push(span),
            }
        }
        Self(merged)
    }

    /// Begins an interval, unless one is open.
    pub(super) fn open(&mut self, at: Nanos) {
        if self.0.last().is_none_or(|last| last.to != Nanos::MAX) {
            self.0.push(Span { from: at, to: Nanos::MAX });
        }
    }

    /// Ends the open interval, if there is one.
    pub(super) fn close(&mut self, at: Nanos) {
        if let Some(last) = self.0.last_mut().filter(|last| last.to == Nanos::MAX) {
            last.to = at;
        }
    }

    /// The interval that holds this moment.
    pub fn at(&self, at: Nanos) -> Option<Span> {
        let after = self.0.partition_point(|span| span.from <= at);
        after.checked_sub(1).map(|i| self.0[i]).filter(|span| span.holds(at))
    }

    /// True if some interval has a moment in common with this one.
    pub fn meets(&self, from: Nanos, to: Nanos) -> bool {
        let first = self.0.partition_point(|span| span.to < from);
        self.0.get(first).is_some_and(|span| span.meets(from, to))
    }

    /// How much of `from..to` is covered.
    pub fn covered(&self, from: Nanos, to: Nanos) -> Nanos {
        let first = self.0.partition_point(|span| span.to < from);
        self.0[first..]
            .iter()
            .take_while(|span| span.from < to)
            .map(|span| span.to.min(to).saturating_sub(span.from.max(from)))
            .sum()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Span> {
        self.0.iter()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Spans {
    type Item = &'a Span;
    type IntoIter = std::slice::Iter<'a, Span>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Seconds since the start of the run, for sentences.
pub fn seconds(at: Nanos) -> String {
    format!("{:.3} s", at as f64 / SECOND as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covered_time_counts_each_moment_once() {
        let spans = Spans::of(vec![
            Span { from: 10, to: 20 },
            Span { from: 15, to: 25 },
            Span { from: 40, to: Nanos::MAX },
        ]);
        assert_eq!(spans.covered(0, 50), 15 + 10);
        assert_eq!(spans.covered(22, 30), 3);
        assert!(spans.meets(25, 30) && !spans.meets(26, 39) && spans.meets(41, 41));
        assert_eq!(spans.at(30), None);
    }
}
