//! For pages: complete SVG documents without script, font files or anything from a network.

use std::f64::consts::TAU;
use std::fmt::Write;

use super::Drawing;
use super::layout::{Layout, caption};

const CHAR: f64 = 7.3;
const LANE: f64 = 30.0;
const BAR: f64 = 22.0;
const TOP: f64 = 34.0;
const STYLE: &str = "font-family=\"monospace\" font-size=\"12\"";

/// Lanes by process, a bar an operation.
pub fn timeline_svg(drawing: &Drawing) -> String {
    let layout = Layout::of(&drawing.ops);
    let longest = layout.lanes.iter().map(|lane| lane.chars().count()).max().unwrap_or(0);
    let margin = (longest + 2) as f64 * CHAR;
    let title = drawing.title.chars().count() as f64 * CHAR;
    let width = (margin + (layout.columns + 1) as f64 * CHAR).max(title + 2.0 * CHAR);
    let height = TOP + layout.lanes.len() as f64 * LANE + 8.0;
    let mut out = open(width, height, &drawing.title);
    for (at, lane) in layout.lanes.iter().enumerate() {
        let middle = TOP + at as f64 * LANE + BAR / 2.0;
        let _ = write!(out, "<text x=\"8\" y=\"{:.1}\" fill=\"#555\">{}</text>", middle + 4.0, escaped(lane));
        let _ = write!(
            out,
            "<line x1=\"{margin:.1}\" y1=\"{middle:.1}\" x2=\"{width:.1}\" y2=\"{middle:.1}\" stroke=\"#eee\"/>"
        );
    }
    for (op, bar) in drawing.ops.iter().zip(&layout.bars) {
        let x = margin + bar.start as f64 * CHAR;
        let y = TOP + bar.lane as f64 * LANE;
        let wide = (bar.end - bar.start) as f64 * CHAR;
        // Jepsen's colours: ok, and unknown.
        let (fill, dash) = if op.to.is_some() { ("#6DB6FE", "none") } else { ("#FFAA26", "4 3") };
        let _ = write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{BAR}\" rx=\"3\" fill=\"{fill}\" \
             fill-opacity=\"0.55\" stroke=\"#345\" stroke-dasharray=\"{dash}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + CHAR,
            y + BAR / 2.0 + 4.0,
            escaped(&caption(op))
        );
    }
    out + "</svg>\n"
}

/// Operations in a circle, an arrow a link.
pub fn graph_svg(drawing: &Drawing) -> String {
    let count = drawing.ops.len().max(1);
    let widest = drawing.ops.iter().map(|op| caption(op).chars().count()).max().unwrap_or(0) as f64;
    let box_width = (widest + 2.0) * CHAR;
    let radius = (count as f64 * 34.0).max(90.0);
    let (across, down) = (radius + box_width / 2.0 + 60.0, radius + 50.0);
    let title = drawing.title.chars().count() as f64 * CHAR + 16.0;
    let width = (2.0 * across).max(title);
    let middle = (width / 2.0, TOP + down);
    let mut out = open(width, TOP + 2.0 * down, &drawing.title);
    out += "<defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" \
            orient=\"auto\"><path d=\"M0 0 10 5 0 10z\" fill=\"#333\"/></marker></defs>";
    let place = |at: usize| {
        let angle = TAU * at as f64 / count as f64 - TAU / 4.0;
        (middle.0 + radius * angle.cos(), middle.1 + radius * angle.sin())
    };
    for arrow in &drawing.arrows {
        let (from, to) = (place(arrow.from), place(arrow.to));
        let (start, end) = (edge_of_box(from, to, box_width), edge_of_box(to, from, box_width));
        // Bent to one side, so that two arrows between the same operations stand apart.
        let (dx, dy) = (end.0 - start.0, end.1 - start.1);
        let bend = (f64::midpoint(start.0, end.0) - dy * 0.18, f64::midpoint(start.1, end.1) + dx * 0.18);
        let colour = colour(&arrow.label);
        let _ = write!(
            out,
            "<path d=\"M{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
             marker-end=\"url(#tip)\"><title>{}</title></path><text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            start.0,
            start.1,
            bend.0,
            bend.1,
            end.0,
            end.1,
            escaped(&arrow.why),
            bend.0 + 3.0,
            bend.1,
            arrow.label
        );
    }
    for (at, op) in drawing.ops.iter().enumerate() {
        let (x, y) = place(at);
        let _ = write!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{box_width:.1}\" height=\"{BAR}\" rx=\"3\" fill=\"#fff\" \
             stroke=\"#345\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x - box_width / 2.0,
            y - BAR / 2.0,
            y + 4.0,
            escaped(&caption(op))
        );
    }
    out + "</svg>\n"
}

/// Where the line between two boxes' middles leaves the first.
fn edge_of_box(from: (f64, f64), to: (f64, f64), width: f64) -> (f64, f64) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let scale = (width / 2.0 / dx.abs().max(1e-9)).min(BAR / 2.0 / dy.abs().max(1e-9)).min(1.0);
    (from.0 + dx * scale, from.1 + dy * scale)
}

fn colour(label: &str) -> &'static str {
    match label {
        "ww" => "#C02428",
        "wr" => "#C05124",
        "rw" => "#5B2C8A",
        "realtime" => "#0050A0",
        _ => "#00786A",
    }
}

fn open(width: f64, height: f64, title: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" {STYLE}><title>{title}</title>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><text x=\"8\" y=\"18\">{title}</text>"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no place for these.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
