//! Pictures of whole nights: how long failovers took, how available each preset left the cluster, what was lost, and how
//! numbers moved over nights. One series a server; a series has a colour that the colour-blind can tell apart, and a mark.

use std::path::Path;

use anyhow::Context;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::frame::{FAINT, INK, KEY_WIDTH, KeyEntry, Mark, SOFT, draw_key, draw_mark, font, px};
use super::{Figure, register, save};

/// Okabe and Ito's colours.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];
/// Rows of a picture with a row for each name, and of a series in it, in unscaled pixels.
const ROW_GAP: f64 = 12.0;
const ROW: f64 = 16.0;
/// Title and axis of such a picture.
const AROUND_ROWS: f64 = 84.0;
/// Room for the names at the left.
const NAMES_WIDTH: f64 = 104.0;
/// The longest label that its room holds.
const LABEL_MAX: usize = 24;

/// A named series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub label: String,
    pub values: Vec<f64>,
}

/// For each name (a preset, a class of losses) one series a server; servers come in the same order in each.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub name: String,
    pub series: Vec<Series>,
}

/// A number over nights: a value a night, NaN where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// File name without extension.
    pub name: &'static str,
    pub title: &'static str,
    /// With its unit.
    pub y_label: &'static str,
    pub nights: Vec<String>,
    pub series: Vec<Series>,
}

/// All pictures of a night; what is empty is not drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pictures {
    /// Seconds from a fault on a master to its shard's first success, by server.
    pub failovers: Vec<Series>,
    /// Percent of the time in which every shard answered, of each run, by preset.
    pub availability: Vec<Group>,
    /// Lost writes per million acknowledged (one value), by class.
    pub losses: Vec<Group>,
    pub trends: Vec<Trend>,
}

impl Pictures {
    /// Draws them into `dir` as SVG and PNG; answers their names without extension.
    pub fn draw(&self, dir: &Path) -> anyhow::Result<Vec<&'static str>> {
        register();
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut names = Vec::new();
        if self.failovers.iter().any(|series| !series.values.is_empty()) {
            names.push(save(&Failovers(&self.failovers), dir)?);
        }
        if !self.availability.is_empty() {
            names.push(save(&Availability(&self.availability), dir)?);
        }
        if !self.losses.is_empty() {
            names.push(save(&Losses(&self.losses), dir)?);
        }
        for trend in &self.trends {
            if trend.series.iter().flat_map(|series| &series.values).any(|value| value.is_finite()) {
                names.push(save(trend, dir)?);
            }
        }
        Ok(names)
    }
}

fn colour(rank: usize) -> RGBColor {
    COLOURS[rank % COLOURS.len()]
}

/// The end of a long name tells more than its beginning: most are paths.
fn short(label: &str) -> String {
    let count = label.chars().count();
    if count <= LABEL_MAX {
        return label.to_owned();
    }
    let end: String = label.chars().skip(count - LABEL_MAX + 1).collect();
    format!("\u{2026}{end}")
}

fn key<'a>(labels: impl Iterator<Item = &'a str>) -> impl Iterator<Item = KeyEntry> {
    let entry = |(rank, label): (usize, &str)| KeyEntry {
        label: short(label),
        colour: colour(rank),
        mark: Mark::of_rank(rank),
    };
    labels.enumerate().map(entry)
}

/// Splits off the room for the key and draws it.
fn with_key<'a, DB: DrawingBackend>(
    root: &DrawingArea<DB, Shift>,
    labels: impl Iterator<Item = &'a str>,
    scale: f64,
) -> anyhow::Result<DrawingArea<DB, Shift>>
where
    DB::ErrorType: 'static,
{
    let (width, _) = root.dim_in_pixel();
    let (left, right) = root.split_horizontally(width as i32 - px(KEY_WIDTH, scale));
    draw_key(&right, key(labels), scale)?;
    Ok(left)
}

/// As many digits as a distance on the axis needs.
fn tick(top: f64) -> impl Fn(&f64) -> String {
    let digits = match top {
        top if top >= 20.0 => 0,
        top if top >= 2.0 => 1,
        top if top >= 0.2 => 2,
        _ => 3,
    };
    move |value| format!("{value:.digits$}")
}

struct Failovers<'a>(&'a [Series]);

impl Figure for Failovers<'_> {
    fn name(&self) -> &'static str {
        "failover-times"
    }

    fn height(&self) -> u32 {
        340
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let greatest = self.0.iter().flat_map(|series| &series.values).copied().fold(0.1, f64::max) * 1.05;
        let left = with_key(root, self.0.iter().map(|series| series.label.as_str()), scale)?;
        let mut chart = ChartBuilder::on(&left)
            .margin(px(8.0, scale))
            .caption(
                "Failover time: from a fault on a master to its shard's first success",
                font(15.0, scale, &INK),
            )
            .x_label_area_size(px(36.0, scale))
            .y_label_area_size(px(62.0, scale))
            .build_cartesian_2d(0.0..greatest, 0.0..100.0)?;
        chart
            .configure_mesh()
            .x_desc("Time (s)")
            .y_desc("Failovers that took at most so long (%)")
            .axis_desc_style(font(12.0, scale, &INK))
            .label_style(font(11.0, scale, &INK))
            .x_label_formatter(&tick(greatest))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(SOFT)
            .draw()?;
        for (rank, series) in self.0.iter().enumerate() {
            let steps = steps(&series.values, greatest);
            chart.draw_series(LineSeries::new(steps, colour(rank).stroke_width(px(2.0, scale) as u32)))?;
            // A mark at the median, so that the lines can be told apart without colours.
            if let Some(median) = middle(&series.values) {
                let at = left.strip_coord_spec();
                draw_mark(
                    &at,
                    Mark::of_rank(rank),
                    chart.backend_coord(&(median, 50.0)),
                    4.0 * scale,
                    colour(rank),
                )?;
            }
        }
        Ok(())
    }
}

/// The corners of an empirical distribution, in percent.
fn steps(values: &[f64], end: f64) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let mut points = vec![(0.0, 0.0)];
    for (at, value) in sorted.into_iter().enumerate() {
        points.push((value, at as f64 / count * 100.0));
        points.push((value, (at + 1) as f64 / count * 100.0));
    }
    if count > 0.0 {
        points.push((end, 100.0));
    }
    points
}

/// The middle one of the values.
fn middle(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// A picture with a row for each name and one below it for each series.
struct Rows<'a> {
    title: &'static str,
    x_label: &'static str,
    x: (f64, f64),
    groups: &'a [Group],
    scale: f64,
}

/// Where a row's middle is: a fraction of the height, from above.
type Middle = f64;

impl Rows<'_> {
    fn height(groups: &[Group]) -> u32 {
        let rows: f64 = groups.iter().map(|group| group.series.len() as f64 * ROW + ROW_GAP).sum();
        (rows + AROUND_ROWS).round() as u32
    }

    /// Axes, names and key; then `draw` is given each series' area, and the middle of its row.
    fn draw<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        draw: impl Fn(
            &DrawingArea<DB, Shift>,
            usize,
            &Series,
            &dyn Fn(f64, Middle) -> (i32, i32),
        ) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let scale = self.scale;
        let labels = self.groups.first().into_iter().flat_map(|group| &group.series);
        let left = with_key(root, labels.map(|series| series.label.as_str()), scale)?;
        let mut chart = ChartBuilder::on(&left)
            .margin(px(8.0, scale))
            .caption(self.title, font(15.0, scale, &INK))
            .x_label_area_size(px(36.0, scale))
            .y_label_area_size(px(NAMES_WIDTH, scale))
            .build_cartesian_2d(self.x.0..self.x.1, 1.0..0.0)?;
        chart
            .configure_mesh()
            .x_desc(self.x_label)
            .disable_y_mesh()
            .y_labels(0)
            .axis_desc_style(font(12.0, scale, &INK))
            .label_style(font(11.0, scale, &INK))
            .x_label_formatter(&tick(self.x.1 - self.x.0))
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(SOFT)
            .draw()?;
        let all: f64 = self.groups.iter().map(|group| group.series.len() as f64 * ROW + ROW_GAP).sum();
        let area = left.strip_coord_spec();
        let place = |x: f64, y: f64| chart.backend_coord(&(x, y));
        let name_style = font(12.0, scale, &INK).pos(Pos::new(HPos::Right, VPos::Center));
        let mut from = 0.0;
        for group in self.groups {
            let height = group.series.len() as f64 * ROW + ROW_GAP;
            let (x, y) = place(self.x.0, (from + height / 2.0) / all);
            area.draw_text(&short(&group.name), &name_style, (x - px(8.0, scale), y))?;
            for (rank, series) in group.series.iter().enumerate() {
                let middle = (from + ROW_GAP / 2.0 + ROW * (rank as f64 + 0.5)) / all;
                draw(&area, rank, series, &|x, shift| place(x, middle + shift / all))?;
            }
            from += height;
        }
        Ok(())
    }
}

struct Availability<'a>(&'a [Group]);

impl Figure for Availability<'_> {
    fn name(&self) -> &'static str {
        "availability-by-preset"
    }

    fn height(&self) -> u32 {
        Rows::height(self.0)
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let values = self.0.iter().flat_map(|group| &group.series).flat_map(|series| &series.values);
        let least = values.copied().fold(99.0, f64::min);
        let rows = Rows {
            title: "Availability by preset: each run, and the median",
            x_label: "Time in which every shard answered (%)",
            x: ((least - 1.0).floor().max(0.0), 100.2),
            groups: self.0,
            scale,
        };
        rows.draw(root, |area, rank, series, place| {
            for &value in &series.values {
                draw_mark(area, Mark::of_rank(rank), place(value, 0.0), 2.5 * scale, colour(rank))?;
            }
            if let Some(median) = middle(&series.values) {
                let ends = vec![place(median, -ROW / 2.0), place(median, ROW / 2.0)];
                area.draw(&PathElement::new(ends, INK.stroke_width(px(2.0, scale) as u32)))?;
            }
            Ok(())
        })
    }
}

struct Losses<'a>(&'a [Group]);

impl Figure for Losses<'_> {
    fn name(&self) -> &'static str {
        "lost-by-class"
    }

    fn height(&self) -> u32 {
        Rows::height(self.0)
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let values = self.0.iter().flat_map(|group| &group.series).flat_map(|series| &series.values);
        let greatest = values.copied().fold(1.0, f64::max);
        let rows = Rows {
            title: "Lost writes by class",
            x_label: "Lost per million acknowledged",
            x: (0.0, greatest * 1.15),
            groups: self.0,
            scale,
        };
        let style = font(11.0, scale, &INK).pos(Pos::new(HPos::Left, VPos::Center));
        rows.draw(root, |area, rank, series, place| {
            for &value in &series.values {
                let corners = [place(0.0, -ROW * 0.36), place(value, ROW * 0.36)];
                area.draw(&Rectangle::new(corners, colour(rank).filled()))?;
                let (x, y) = place(value, 0.0);
                area.draw_text(&tick(greatest)(&value), &style, (x + px(5.0, scale), y))?;
            }
            Ok(())
        })
    }
}

impl Figure for Trend {
    fn name(&self) -> &'static str {
        self.name
    }

    fn height(&self) -> u32 {
        300
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let finite = self.series.iter().flat_map(|series| &series.values).copied().filter(|v| v.is_finite());
        let (low, high) = finite.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let room = ((high - low) * 0.15).max(high.abs() * 0.02).max(0.01);
        // None of these numbers is negative, and a small one's distance to nothing matters.
        let bottom = if low < high * 0.5 { 0.0 } else { (low - room).max(0.0) };
        let left = with_key(root, self.series.iter().map(|series| series.label.as_str()), scale)?;
        let last = self.nights.len() as f64 - 1.0;
        let mut chart = ChartBuilder::on(&left)
            .margin(px(8.0, scale))
            .caption(self.title, font(15.0, scale, &INK))
            .x_label_area_size(px(36.0, scale))
            .y_label_area_size(px(62.0, scale))
            .build_cartesian_2d(-0.5..last + 0.5, bottom..high + room)?;
        let night = |x: &f64| match self.nights.get(x.round() as usize) {
            Some(name) if *x >= 0.0 && x.fract().abs() < 1e-9 => name.clone(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .x_desc("Night (UTC)")
            .y_desc(self.y_label)
            .axis_desc_style(font(12.0, scale, &INK))
            .label_style(font(11.0, scale, &INK))
            .x_labels(self.nights.len().clamp(2, 6))
            .x_label_formatter(&night)
            .y_label_formatter(&tick(high + room - bottom))
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(SOFT)
            .draw()?;
        let area = left.strip_coord_spec();
        for (rank, series) in self.series.iter().enumerate() {
            let points: Vec<(f64, f64)> = (0..)
                .map(f64::from)
                .zip(series.values.iter().copied())
                .filter(|(_, v)| v.is_finite())
                .collect();
            let line =
                LineSeries::new(points.iter().copied(), colour(rank).stroke_width(px(2.0, scale) as u32));
            chart.draw_series(line)?;
            for point in &points {
                draw_mark(&area, Mark::of_rank(rank), chart.backend_coord(point), 4.0 * scale, colour(rank))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(label: &str, values: &[f64]) -> Series {
        Series { label: label.into(), values: values.to_vec() }
    }

    #[test]
    fn pictures_say_what_they_show_in_which_unit_and_what_is_empty_is_not_drawn() {
        let group = |name: &str, values: &[f64]| Group {
            name: name.into(),
            series: vec![series("embedded", values), series("/usr/bin/redis-server", &[])],
        };
        let trend = Trend {
            name: "trend-latency",
            title: "Latency over nights",
            y_label: "p99 (ms)",
            nights: vec!["11-27 22:00".into(), "11-28 22:00".into()],
            series: vec![series("embedded", &[9.0, f64::NAN]), series("other", &[8.0, 7.0])],
        };
        let pictures = Pictures {
            failovers: vec![series("embedded", &[1.0, 2.5]), series("none", &[])],
            availability: vec![group("failover", &[93.0, 95.5]), group("restarts", &[99.0])],
            losses: vec![group("W3", &[120.0])],
            trends: vec![trend.clone(), Trend { series: vec![series("none", &[f64::NAN])], ..trend }],
        };
        let dir = tempfile::tempdir().unwrap();
        let names = pictures.draw(dir.path()).unwrap();
        assert_eq!(names, ["failover-times", "availability-by-preset", "lost-by-class", "trend-latency"]);
        for (name, words) in names.iter().zip([
            &["Time (s)", "embedded"][..],
            &["(%)", "failover", "restarts", "/usr/bin/redis-server"],
            &["W3", "per million"],
            &["p99 (ms)", "11-27 22:00", "other"],
        ]) {
            let svg = std::fs::read_to_string(dir.path().join(format!("{name}.svg"))).unwrap();
            for word in words {
                assert!(svg.contains(word), "{name}: {word}");
            }
            let png = std::fs::read(dir.path().join(format!("{name}.png"))).unwrap();
            assert!(png.starts_with(b"\x89PNG") && png.len() > 4000, "{name}: {} bytes", png.len());
        }
        assert_eq!(Pictures::default().draw(dir.path()).unwrap(), [""; 0]);
    }

    #[test]
    fn a_distribution_climbs_to_all_and_long_names_keep_their_end() {
        assert_eq!(steps(&[2.0, 1.0], 3.0).last(), Some(&(3.0, 100.0)));
        assert_eq!(steps(&[2.0, 1.0], 3.0)[2], (1.0, 50.0));
        assert_eq!(short("/opt/servers/valkey-8.1.3/bin/valkey-server"), "\u{2026}8.1.3/bin/valkey-server");
    }
}
