//! What the time plots share: the axes, the nemesis bands, the key at the right.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::data::{Band, BandKind, Story};

pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub const FAINT: RGBColor = RGBColor(0xe6, 0xe6, 0xe6);
pub const SOFT: RGBColor = RGBColor(0x77, 0x77, 0x77);

/// Room for the key at the right, in unscaled pixels.
pub const KEY_WIDTH: f64 = 168.0;

impl BandKind {
    /// Jepsen's colour (`jepsen.nemesis.combined`).
    pub const fn colour(self) -> RGBColor {
        match self {
            Self::Kill => RGBColor(0xE9, 0xA4, 0xA0),
            Self::Pause => RGBColor(0xA0, 0xB1, 0xE9),
            Self::Partition => RGBColor(0xE9, 0xDC, 0xA0),
            Self::Packet => RGBColor(0xD1, 0xE8, 0xA0),
            Self::Other => RGBColor(0xcc, 0xcc, 0xcc),
        }
    }
}

/// A length in pixels.
pub fn px(length: f64, scale: f64) -> i32 {
    (length * scale).round() as i32
}

/// Text in the built-in font.
pub fn font(size: f64, scale: f64, colour: &RGBColor) -> TextStyle<'_> {
    ("sans-serif", size * scale).into_font().color(colour)
}

/// What a time plot is.
pub struct Frame<'a> {
    pub title: String,
    pub y_label: &'a str,
    pub story: &'a Story,
    pub scale: f64,
}

/// One line of the key.
pub struct KeyEntry {
    pub label: String,
    pub colour: RGBColor,
    pub mark: Mark,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Circle,
    Square,
    Triangle,
    Cross,
    Band,
}

impl Mark {
    /// The mark of the `rank`-th function.
    pub const fn of_rank(rank: usize) -> Self {
        match rank % 4 {
            0 => Self::Circle,
            1 => Self::Square,
            2 => Self::Triangle,
            _ => Self::Cross,
        }
    }
}

/// Draws the mark around a pixel.
pub fn draw_mark<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    mark: Mark,
    (x, y): (i32, i32),
    size: f64,
    colour: RGBColor,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let r = size.round().max(1.0) as i32;
    match mark {
        Mark::Circle => area.draw(&Circle::new((x, y), r, colour.filled())),
        Mark::Square => area.draw(&Rectangle::new([(x - r, y - r), (x + r, y + r)], colour.filled())),
        Mark::Triangle => area.draw(&TriangleMarker::new((x, y), r + 1, colour.filled())),
        Mark::Cross => area.draw(&Cross::new((x, y), r, colour.stroke_width(1))),
        Mark::Band => {
            area.draw(&Rectangle::new([(x - 2 * r, y - r), (x + 2 * r, y + r)], colour.mix(0.6).filled()))
        }
    }
}

/// A value axis that can say where a fraction of its height is.
pub trait Height: Copy {
    /// The value at `fraction` of the height, counted from the top.
    fn at_depth(&self, fraction: f64) -> f64;
}

/// A linear axis from 0.
#[derive(Clone, Copy)]
pub struct Linear {
    pub top: f64,
}

impl Height for Linear {
    fn at_depth(&self, fraction: f64) -> f64 {
        self.top * (1.0 - fraction)
    }
}

/// A logarithmic axis.
#[derive(Clone, Copy)]
pub struct Log {
    pub bottom: f64,
    pub top: f64,
}

impl Height for Log {
    fn at_depth(&self, fraction: f64) -> f64 {
        self.top * (self.bottom / self.top).powf(fraction)
    }
}

impl Frame<'_> {
    /// Axes, bands and key; then `series` draws over them with the chart.
    pub fn draw<DB, Y>(
        &self,
        root: &DrawingArea<DB, Shift>,
        y_range: Y,
        height: impl Height,
        y_format: &dyn Fn(&f64) -> String,
        key: &[KeyEntry],
        series: impl FnOnce(
            &mut ChartContext<'_, DB, Cartesian2d<RangedCoordf64, Y::CoordDescType>>,
            &DrawingArea<DB, Shift>,
        ) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let scale = self.scale;
        let (width, _) = root.dim_in_pixel();
        let (left, right) = root.split_horizontally(width as i32 - px(KEY_WIDTH, scale));
        let mut chart = ChartBuilder::on(&left)
            .margin(px(8.0, scale))
            .caption(&self.title, font(15.0, scale, &INK))
            .x_label_area_size(px(36.0, scale))
            .y_label_area_size(px(62.0, scale))
            .build_cartesian_2d(0.0..self.story.end_s, y_range)?;
        chart
            .configure_mesh()
            .x_desc("Time (s)")
            .y_desc(self.y_label)
            .axis_desc_style(font(12.0, scale, &INK))
            .label_style(font(11.0, scale, &INK))
            .y_label_formatter(y_format)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(SOFT)
            .draw()?;
        for (row, band) in self.story.bands.iter().enumerate() {
            draw_band(&mut chart, height, row, band, scale)?;
        }
        series(&mut chart, &left)?;
        self.draw_key(&right, key)
    }

    fn draw_key<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        series: &[KeyEntry],
    ) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let scale = self.scale;
        let mut kinds: Vec<(BandKind, &str)> =
            self.story.bands.iter().map(|band| (band.kind, band.name.as_str())).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let bands = kinds.into_iter().map(|(kind, name)| KeyEntry {
            label: name.to_owned(),
            colour: kind.colour(),
            mark: Mark::Band,
        });
        let series = series.iter().map(|e| KeyEntry { label: e.label.clone(), ..*e });
        draw_key(area, series.chain(bands), scale)
    }
}

/// A picture's key, from the top of its room at the right.
pub fn draw_key<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    entries: impl Iterator<Item = KeyEntry>,
    scale: f64,
) -> anyhow::Result<()>
where
    DB::ErrorType: 'static,
{
    let style = font(11.0, scale, &INK).pos(Pos::new(HPos::Left, VPos::Center));
    let mut y = px(40.0, scale);
    for KeyEntry { label, colour, mark } in entries {
        draw_mark(area, mark, (px(12.0, scale), y), 4.0 * scale, colour)?;
        area.draw_text(&label, &style, (px(26.0, scale), y))?;
        y += px(17.0, scale);
    }
    Ok(())
}

/// Jepsen's band: up to 12 rows counted from the top, each 0.0834 of the graph high with 0.00615 padding; a thin line at
/// start and end; a darker stroke while nodes agreed that the target had failed.
fn draw_band<DB, Y>(
    chart: &mut ChartContext<'_, DB, Cartesian2d<RangedCoordf64, Y>>,
    height: impl Height,
    row: usize,
    band: &Band,
    scale: f64,
) -> anyhow::Result<()>
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
    Y: Ranged<ValueType = f64>,
{
    const ROW: f64 = 0.0834;
    const PADDING: f64 = 0.00615;
    let top = ROW * (row % 12) as f64 + PADDING;
    let bottom = top + ROW - 2.0 * PADDING;
    let colour = band.kind.colour();
    let fill = if band.vacuous { colour.mix(0.2) } else { colour.mix(0.6) };
    let corners = [(band.from_s, height.at_depth(top)), (band.to_s, height.at_depth(bottom))];
    chart.draw_series(std::iter::once(Rectangle::new(corners, fill.filled())))?;
    for x in [band.from_s, band.to_s] {
        let line = vec![(x, height.at_depth(0.0)), (x, height.at_depth(1.0))];
        chart.draw_series(std::iter::once(PathElement::new(line, colour.stroke_width(1))))?;
    }
    if let Some((from_s, to_s)) = band.observed_s {
        let y = height.at_depth(bottom - PADDING);
        let dark = RGBColor(
            (f64::from(colour.0) * 0.55) as u8,
            (f64::from(colour.1) * 0.55) as u8,
            (f64::from(colour.2) * 0.55) as u8,
        );
        let stroke = dark.stroke_width(px(3.0, scale) as u32);
        chart.draw_series(std::iter::once(PathElement::new(vec![(from_s, y), (to_s, y)], stroke)))?;
    }
    Ok(())
}
