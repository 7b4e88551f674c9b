//! For terminals.

use std::fmt::Write;

use super::Drawing;
use super::layout::{Layout, caption};

/// The title, a timeline, and the arrows with their evidence. Lines may be longer than a terminal is wide.
pub fn text(drawing: &Drawing) -> String {
    let layout = Layout::of(&drawing.ops);
    let margin = layout.lanes.iter().map(|lane| lane.chars().count()).max().unwrap_or(0);
    let mut rows: Vec<Vec<char>> = Vec::new();
    let mut row_lane: Vec<usize> = Vec::new();
    for (op, bar) in drawing.ops.iter().zip(&layout.bars) {
        let free = |row: &Vec<char>| row[bar.start..bar.end].iter().all(|c| *c == ' ');
        let at =
            (0..rows.len()).find(|at| row_lane[*at] == bar.lane && free(&rows[*at])).unwrap_or_else(|| {
                // Operations of one lane that overlap (a process that went on under its number) get rows of their own.
                let at = row_lane.partition_point(|lane| *lane <= bar.lane);
                row_lane.insert(at, bar.lane);
                rows.insert(at, vec![' '; layout.columns]);
                at
            });
        let row = &mut rows[at][bar.start..bar.end];
        row.fill('-');
        row[0] = '|';
        for (place, c) in row[2..].iter_mut().zip(caption(op).chars()) {
            *place = c;
        }
        if let Some(last) = row.last_mut() {
            *last = if op.to.is_some() { '|' } else { '>' };
        }
    }
    let mut out = format!("{}\n", drawing.title);
    for (lane, row) in row_lane.iter().zip(&rows) {
        let line: String = row.iter().collect();
        let _ = writeln!(out, "  {:<margin$}  {}", layout.lanes[*lane], line.trim_end());
    }
    for arrow in &drawing.arrows {
        let (from, to) = (&drawing.ops[arrow.from].name, &drawing.ops[arrow.to].name);
        let _ = writeln!(out, "  {from} before {to} ({}): {}", arrow.label, arrow.why);
    }
    out
}
