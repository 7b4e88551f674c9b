//! Where things stand: lanes in order of their first operation, moments in columns of one character.

use super::Shown;

/// Places in characters.
pub(super) struct Layout<'a> {
    pub lanes: Vec<&'a str>,
    /// By operation: its lane, its first column, and the one after its last.
    pub bars: Vec<Bar>,
    pub columns: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub lane: usize,
    pub start: usize,
    pub end: usize,
}

/// What stands in an operation's bar.
pub(super) fn caption(op: &Shown) -> String {
    format!("{} {}", op.name, op.words)
}

impl<'a> Layout<'a> {
    pub fn of(ops: &'a [Shown]) -> Self {
        let mut lanes: Vec<&str> = Vec::new();
        for op in ops {
            if !lanes.contains(&op.lane.as_str()) {
                lanes.push(&op.lane);
            }
        }
        // Each moment once, in order; an end that never came is behind all of them.
        let mut moments: Vec<u64> = ops.iter().flat_map(|op| [op.from, op.to.unwrap_or(u64::MAX)]).collect();
        moments.sort_unstable();
        moments.dedup();
        let rank = |moment: u64| moments.partition_point(|known| *known < moment);
        let mut column = vec![0; moments.len()];
        for at in 0..moments.len() {
            let after_last = if at == 0 { 0 } else { column[at - 1] + 2 };
            let ending =
                ops.iter().filter(|op| rank(op.to.unwrap_or(u64::MAX)) == at && op.from <= moments[at]);
            let wide = ending.map(|op| column[rank(op.from)] + caption(op).chars().count() + 4).max();
            column[at] = after_last.max(wide.unwrap_or(0));
        }
        let bars: Vec<Bar> = ops
            .iter()
            .map(|op| {
                let lane = lanes.iter().position(|lane| *lane == op.lane).unwrap_or(0);
                let start = column[rank(op.from)];
                let end = column[rank(op.to.unwrap_or(u64::MAX))];
                Bar { lane, start, end: end.max(start + caption(op).chars().count() + 4) }
            })
            .collect();
        let columns = bars.iter().map(|bar| bar.end).max().unwrap_or(0);
        Self { lanes, bars, columns }
    }
}
