//! Pictures of whole nights: how long failovers took, and how a number moved over nights. As SVG text, for pages that hold
//! their pictures.

use anyhow::Context;
use plotters::prelude::*;

use super::frame::{FAINT, INK, SOFT, font};
use super::{WIDTH, register};

const HEIGHT: u32 = 320;
/// Okabe and Ito's colours, which the colour-blind can tell apart; lines also differ by their dashes and names.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

/// A named series.
#[derive(Clone, Debug)]
pub struct Line {
    pub label: String,
    pub values: Vec<f64>,
}

/// Empirical distributions of positive values.
#[derive(Clone, Debug)]
pub struct Ecdf {
    pub lines: Vec<Line>,
    pub unit: &'static str,
}

/// A value a night; NaN where there is none.
#[derive(Clone, Debug)]
pub struct Trend {
    pub nights: Vec<String>,
    pub lines: Vec<Line>,
    pub y_label: &'static str,
}

/// Draws distributions.
pub fn ecdf_svg(ecdf: &Ecdf) -> anyhow::Result<String> {
    let greatest = ecdf.lines.iter().flat_map(|line| &line.values).copied().fold(0.1, f64::max);
    let series: Vec<(String, Vec<(f64, f64)>)> = ecdf
        .lines
        .iter()
        .map(|line| {
            let mut sorted = line.values.clone();
            sorted.sort_by(f64::total_cmp);
            let count = sorted.len() as f64;
            let mut points = vec![(0.0, 0.0)];
            for (at, value) in sorted.into_iter().enumerate() {
                points.push((value, at as f64 / count * 100.0));
                points.push((value, (at + 1) as f64 / count * 100.0));
            }
            points.push((greatest * 1.05, 100.0));
            (line.label.clone(), points)
        })
        .collect();
    let axes = Axes {
        x: (0.0, greatest * 1.05),
        y: (0.0, 100.0),
        x_label: ecdf.unit.to_owned(),
        y_label: "failovers (%)",
        marks: false,
        ticks: Vec::new(),
    };
    draw(&axes, &series)
}

/// Draws a number over nights.
pub fn trend_svg(trend: &Trend) -> anyhow::Result<String> {
    let finite = trend.lines.iter().flat_map(|line| &line.values).copied().filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    anyhow::ensure!(low <= high, "no night has a value");
    let room = ((high - low) * 0.1).max(0.5);
    let series: Vec<(String, Vec<(f64, f64)>)> = trend
        .lines
        .iter()
        .map(|line| {
            let points = line.values.iter().enumerate().filter(|(_, value)| value.is_finite());
            (line.label.clone(), points.map(|(at, &value)| (at as f64, value)).collect())
        })
        .collect();
    let axes = Axes {
        x: (-0.5, trend.nights.len() as f64 - 0.5),
        y: (low - room, high + room),
        x_label: "night".to_owned(),
        y_label: trend.y_label,
        marks: true,
        ticks: trend.nights.clone(),
    };
    draw(&axes, &series)
}

struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    x_label: String,
    y_label: &'static str,
    marks: bool,
    /// Names of whole numbers on the x axis; none: the numbers themselves.
    ticks: Vec<String>,
}

fn draw(axes: &Axes, series: &[(String, Vec<(f64, f64)>)]) -> anyhow::Result<String> {
    register();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(axes.x.0..axes.x.1, axes.y.0..axes.y.1)?;
        let tick = |x: &f64| match axes.ticks.get(x.round() as usize) {
            Some(name) if *x >= 0.0 && (x.fract().abs() < 1e-9) => name.clone(),
            _ if axes.ticks.is_empty() => format!("{x:.1}"),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .x_desc(axes.x_label.as_str())
            .y_desc(axes.y_label)
            .axis_style(SOFT)
            .bold_line_style(FAINT)
            .light_line_style(WHITE)
            .label_style(font(13.0, 1.0, &INK))
            .x_labels(if axes.ticks.is_empty() { 10 } else { axes.ticks.len().clamp(2, 8) })
            .x_label_formatter(&tick)
            .draw()?;
        for (number, (label, points)) in series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let drawn = chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(label.as_str());
            drawn.legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            if axes.marks {
                chart.draw_series(points.iter().map(|&at| Circle::new(at, 3, colour.filled())))?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.85))
            .border_style(FAINT)
            .label_font(font(13.0, 1.0, &INK))
            .draw()?;
        root.present().context("a picture of nights cannot be drawn")?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_name_what_they_show() {
        let line = |label: &str, values: &[f64]| Line { label: label.into(), values: values.to_vec() };
        let ecdf = ecdf_svg(&Ecdf {
            lines: vec![line("embedded", &[1.0, 2.5]), line("other", &[3.0])],
            unit: "seconds",
        });
        let ecdf = ecdf.unwrap();
        assert!(ecdf.contains("embedded") && ecdf.contains("other") && ecdf.contains("seconds"));
        let trend = Trend {
            nights: vec!["2026-11-27".into(), "2026-11-28".into()],
            lines: vec![line("embedded", &[99.0, f64::NAN]), line("other", &[98.0, 97.0])],
            y_label: "available (%)",
        };
        assert!(trend_svg(&trend).unwrap().contains("available (%)"));
        assert!(trend_svg(&Trend { lines: vec![line("none", &[f64::NAN])], ..trend }).is_err());
    }
}
