//! `latency-raw`, `latency-quantiles` and `rate`, recognisable as Jepsen's (`jepsen.checker.perf`).

use std::collections::BTreeSet;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Figure;
use super::data::{Outcome, Point, Story, bucket_s, quantile};
use super::frame::{Frame, KeyEntry, Linear, Log, Mark, draw_mark};

impl Outcome {
    /// Jepsen's colour.
    pub(super) const fn colour(self) -> RGBColor {
        match self {
            Self::Ok => RGBColor(0x81, 0xBF, 0xFC),
            Self::Info => RGBColor(0xFF, 0xA4, 0x00),
            Self::Fail => RGBColor(0xFF, 0x1E, 0x90),
        }
    }
}

/// Each call: its latency over the time of its intended start.
pub(super) struct LatencyRaw<'a> {
    pub story: &'a Story,
}

/// Where a bucket's point stands; the last bucket may reach beyond the end.
fn middle(bucket: usize, width_s: f64, story: &Story) -> f64 {
    ((bucket as f64 + 0.5) * width_s).min(story.end_s)
}

/// Quantiles of the latency, bucket by bucket.
pub(super) struct LatencyQuantiles<'a> {
    pub story: &'a Story,
}

/// Completions per second, bucket by bucket.
pub(super) struct Rate<'a> {
    pub story: &'a Story,
}

/// Quantiles drawn, with Jepsen's colours.
const QUANTILES: [(f64, RGBColor); 4] = [
    (0.5, RGBColor(0x00, 0x00, 0xFF)),
    (0.95, RGBColor(0x80, 0x00, 0x80)),
    (0.99, RGBColor(0xFF, 0xA5, 0x00)),
    (1.0, RGBColor(0xFF, 0x00, 0x00)),
];

impl Figure for LatencyRaw<'_> {
    fn name(&self) -> &'static str {
        "latency-raw"
    }

    fn height(&self) -> u32 {
        400
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let story = self.story;
        let axis = latency_axis(&story.points);
        let frame =
            Frame { title: format!("{} · latency", story.title), y_label: "Latency (ms)", story, scale };
        let key = series_key(story);
        let range = (axis.bottom..axis.top).log_scale();
        frame.draw(root, range, axis, &|ms| milliseconds(*ms), &key, |chart, area| {
            // Dense series below, sparse ones on top. Points that would fall on the same pixel are drawn once: the
            // picture is the same, and a million operations stay a picture.
            let mut order = series(story);
            order.sort_by_cached_key(|(function, outcome)| {
                let of = |p: &&Point| p.function == *function && p.outcome == *outcome;
                std::cmp::Reverse(story.points.iter().filter(of).count())
            });
            for (function, outcome) in order {
                let mut taken: BTreeSet<(i32, i32)> = BTreeSet::new();
                for point in story.points.iter().filter(|p| p.function == function && p.outcome == outcome) {
                    let pixel = chart.backend_coord(&(point.at_s, point.latency_ms));
                    if taken.insert(pixel) {
                        draw_mark(area, Mark::of_rank(function), pixel, 1.4 * scale, outcome.colour())?;
                    }
                }
            }
            Ok(())
        })
    }
}

impl Figure for LatencyQuantiles<'_> {
    fn name(&self) -> &'static str {
        "latency-quantiles"
    }

    fn height(&self) -> u32 {
        400
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let story = self.story;
        let bucket = bucket_s(story.quiet_s, 30.0);
        let axis = latency_axis(&story.points);
        let title = format!("{} · latency quantiles, {bucket} s buckets", story.title);
        let frame = Frame { title, y_label: "Latency (ms)", story, scale };
        let key = QUANTILES.map(|(q, colour)| KeyEntry { label: format!("{q}"), colour, mark: Mark::Circle });
        let mut buckets: Vec<Vec<f64>> = vec![Vec::new(); (story.end_s / bucket).ceil() as usize + 1];
        for point in &story.points {
            if let Some(bucket) = buckets.get_mut((point.at_s / bucket) as usize) {
                bucket.push(point.latency_ms);
            }
        }
        for latencies in &mut buckets {
            latencies.sort_by(f64::total_cmp);
        }
        let range = (axis.bottom..axis.top).log_scale();
        frame.draw(root, range, axis, &|ms| milliseconds(*ms), &key, |chart, area| {
            for (q, colour) in QUANTILES {
                let line: Vec<(f64, f64)> = buckets
                    .iter()
                    .enumerate()
                    .filter_map(|(i, sorted)| Some((middle(i, bucket, story), quantile(sorted, q)?)))
                    .collect();
                chart
                    .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(scale as u32)))?;
                for point in line {
                    draw_mark(area, Mark::Circle, chart.backend_coord(&point), 2.5 * scale, colour)?;
                }
            }
            Ok(())
        })
    }
}

impl Figure for Rate<'_> {
    fn name(&self) -> &'static str {
        "rate"
    }

    fn height(&self) -> u32 {
        400
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let story = self.story;
        let bucket = bucket_s(story.quiet_s, 60.0);
        let title = format!("{} · rate, {bucket} s buckets", story.title);
        let frame = Frame { title, y_label: "Throughput (Hz)", story, scale };
        let count = (story.quiet_s / bucket).ceil().max(1.0) as usize;
        let lines: Vec<((usize, Outcome), Vec<f64>)> = series(story)
            .into_iter()
            .map(|(function, outcome)| {
                let mut counts = vec![0.0; count];
                for point in story.points.iter().filter(|p| p.function == function && p.outcome == outcome) {
                    if let Some(count) = counts.get_mut((point.done_s / bucket) as usize) {
                        *count += 1.0 / bucket;
                    }
                }
                ((function, outcome), counts)
            })
            .collect();
        let top = lines.iter().flat_map(|(_, counts)| counts).copied().fold(1.0, f64::max) * 1.1;
        let key = series_key(story);
        frame.draw(root, 0.0..top, Linear { top }, &|hz| format!("{hz:.0}"), &key, |chart, area| {
            for ((function, outcome), counts) in &lines {
                let colour = outcome.colour();
                let line: Vec<(f64, f64)> =
                    counts.iter().enumerate().map(|(i, hz)| (middle(i, bucket, story), *hz)).collect();
                chart
                    .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(scale as u32)))?;
                for point in line {
                    let pixel = chart.backend_coord(&point);
                    draw_mark(area, Mark::of_rank(*function), pixel, 2.5 * scale, colour)?;
                }
            }
            Ok(())
        })
    }
}

/// The series that have points, sorted by function, then outcome.
fn series(story: &Story) -> Vec<(usize, Outcome)> {
    let found: BTreeSet<(usize, Outcome)> = story.points.iter().map(|p| (p.function, p.outcome)).collect();
    found.into_iter().collect()
}

/// The key's lines for them, in the same order.
fn series_key(story: &Story) -> Vec<KeyEntry> {
    let entry = |(function, outcome): (usize, Outcome)| KeyEntry {
        label: format!("{} {}", story.functions[function], outcome.name()),
        colour: outcome.colour(),
        mark: Mark::of_rank(function),
    };
    series(story).into_iter().map(entry).collect()
}

/// Whole powers of ten around the latencies.
fn latency_axis(points: &[Point]) -> Log {
    let (low, high) =
        points.iter().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.latency_ms), h.max(p.latency_ms)));
    if points.is_empty() {
        return Log { bottom: 0.1, top: 1000.0 };
    }
    let bottom = 10_f64.powf(low.log10().floor());
    // A little air above the highest point: timeouts would sit on the edge.
    Log { bottom, top: 10_f64.powf((high * 1.2).log10().ceil()).max(bottom * 10.0) }
}

fn milliseconds(ms: f64) -> String {
    if ms >= 1.0 { format!("{ms:.0}") } else { format!("{ms}") }
}
