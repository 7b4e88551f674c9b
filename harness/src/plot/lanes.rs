//! Our own two pictures: who could write when (a strip per shard), and who believed to be what (a lane per node).
//!
//! Colours are Okabe and Ito's, told apart by colour-blind people; outages are also marked by a heavy line.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Figure;
use super::data::{Belief, Bin, Condition, Lane, Story};
use super::frame::{FAINT, INK, SOFT, font, px};

/// A strip per shard.
pub(super) struct Availability<'a> {
    pub story: &'a Story,
}

/// A lane per node.
pub(super) struct Roles<'a> {
    pub story: &'a Story,
}

const SHARD_COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0xD5, 0x5E, 0x00),
];
const GOOD: RGBColor = RGBColor(0xBF, 0xDD, 0xF2);
const PARTIAL: RGBColor = RGBColor(0xF0, 0xC0, 0x4A);
const OUT: RGBColor = RGBColor(0xB0, 0x3A, 0x00);

const LEFT: f64 = 150.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 62.0;

/// Pixel geometry of a lane picture.
struct Grid {
    scale: f64,
    left: i32,
    width: f64,
    end_s: f64,
    row: f64,
    rows: usize,
}

impl Grid {
    fn x(&self, at_s: f64) -> i32 {
        self.left + (at_s.clamp(0.0, self.end_s) / self.end_s * self.width).round() as i32
    }

    fn y(&self, row: usize) -> i32 {
        px(TOP + self.row * row as f64, self.scale)
    }

    /// Title, time axis, row names.
    fn draw<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        title: &str,
        names: &[String],
    ) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let scale = self.scale;
        root.draw_text(title, &font(15.0, scale, &INK), (px(10.0, scale), px(8.0, scale)))?;
        let bottom = self.y(self.rows);
        let step = super::data::bucket_s(self.end_s, 12.0).max(1.0);
        let centre = font(11.0, scale, &INK).pos(Pos::new(HPos::Center, VPos::Top));
        let mut at_s = 0.0;
        while at_s <= self.end_s {
            let x = self.x(at_s);
            root.draw(&PathElement::new(vec![(x, self.y(0)), (x, bottom)], FAINT))?;
            root.draw_text(&format!("{at_s:.0}"), &centre, (x, bottom + px(4.0, scale)))?;
            at_s += step;
        }
        let middle = self.left + (self.width / 2.0) as i32;
        root.draw_text("Time (s)", &centre, (middle, bottom + px(19.0, scale)))?;
        let right = font(11.0, scale, &INK).pos(Pos::new(HPos::Right, VPos::Center));
        for (row, name) in names.iter().enumerate() {
            let y = self.y(row) + px(self.row / 2.0, scale);
            root.draw_text(name, &right, (self.left - px(8.0, scale), y))?;
        }
        Ok(())
    }

    /// Coloured squares with words, under the axis.
    fn draw_key<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        entries: &[(RGBColor, f64, String)],
    ) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let scale = self.scale;
        let y = self.y(self.rows) + px(46.0, scale);
        let mut x = self.left;
        let style = font(11.0, scale, &INK).pos(Pos::new(HPos::Left, VPos::Center));
        let r = px(5.0, scale);
        for (colour, opacity, words) in entries {
            root.draw(&Rectangle::new([(x - r, y - r), (x + r, y + r)], colour.mix(*opacity).filled()))?;
            root.draw_text(words, &style, (x + 2 * r, y))?;
            x += px(26.0 + 6.6 * words.chars().count() as f64, scale);
        }
        Ok(())
    }
}

fn grid<DB: DrawingBackend>(
    root: &DrawingArea<DB, Shift>,
    scale: f64,
    end_s: f64,
    row: f64,
    rows: usize,
) -> Grid {
    let (width, _) = root.dim_in_pixel();
    let left = px(LEFT, scale);
    Grid { scale, left, width: f64::from(width) - (LEFT + RIGHT) * scale, end_s, row, rows }
}

fn height(row: f64, rows: usize) -> u32 {
    (TOP + BOTTOM + row * rows as f64) as u32
}

const STRIP_ROW: f64 = 30.0;
const LANE_ROW: f64 = 34.0;

impl Figure for Availability<'_> {
    fn name(&self) -> &'static str {
        "availability"
    }

    fn height(&self) -> u32 {
        height(STRIP_ROW, self.story.shards.len() + 1)
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let story = self.story;
        let grid = grid(root, scale, story.end_s, STRIP_ROW, story.shards.len() + 1);
        let mut names: Vec<String> = vec!["faults".to_owned()];
        names.extend(story.shards.iter().map(|s| format!("shard {}  {}", s.number, s.slots)));
        let title = format!("{} · availability by shard, {} s bins", story.title, story.bin_s);
        grid.draw(root, &title, &names)?;
        let pad = px(4.0, scale);
        for band in &story.bands {
            let colour = if band.vacuous { band.kind.colour().mix(0.3) } else { band.kind.colour().mix(0.9) };
            let corners = [(grid.x(band.from_s), grid.y(0) + pad), (grid.x(band.to_s), grid.y(1) - pad)];
            root.draw(&Rectangle::new(corners, colour.filled()))?;
            let words = format!("{} {}", band.name, band.targets.join(" "));
            let room = f64::from(corners[1].0 - corners[0].0) / scale;
            if room > 6.4 * words.chars().count() as f64 {
                let style = font(11.0, scale, &INK).pos(Pos::new(HPos::Left, VPos::Center));
                let y = grid.y(0) + px(STRIP_ROW / 2.0, scale);
                root.draw_text(&words, &style, (corners[0].0 + pad, y))?;
            }
        }
        let right = font(11.0, scale, &INK).pos(Pos::new(HPos::Left, VPos::Center));
        for (index, shard) in story.shards.iter().enumerate() {
            let row = index + 1;
            for (i, bin) in shard.bins.iter().enumerate() {
                let Some(colour) = bin_colour(*bin) else { continue };
                let from = grid.x(i as f64 * story.bin_s);
                let to = grid.x(((i + 1) as f64 * story.bin_s).min(story.quiet_s));
                let inset = if colour == OUT { pad / 2 } else { pad };
                let corners = [(from, grid.y(row) + inset), (to, grid.y(row + 1) - inset)];
                root.draw(&Rectangle::new(corners, colour.filled()))?;
            }
            let total: u32 = shard.bins.iter().map(|bin| bin.ok + bin.not_ok).sum();
            let ok: u32 = shard.bins.iter().map(|bin| bin.ok).sum();
            if total > 0 {
                let words = format!("{:.1} % ok", 100.0 * f64::from(ok) / f64::from(total));
                let y = grid.y(row) + px(STRIP_ROW / 2.0, scale);
                root.draw_text(&words, &right, (grid.x(story.end_s) + pad, y))?;
            }
        }
        let key = [
            (GOOD, 1.0, "all operations ok".to_owned()),
            (PARTIAL, 1.0, "some failed or unknown".to_owned()),
            (OUT, 1.0, "none ok".to_owned()),
        ];
        grid.draw_key(root, &key)
    }
}

fn bin_colour(bin: Bin) -> Option<RGBColor> {
    match (bin.ok, bin.not_ok) {
        (0, 0) => None,
        (_, 0) => Some(GOOD),
        (0, _) => Some(OUT),
        _ => Some(PARTIAL),
    }
}

impl Figure for Roles<'_> {
    fn name(&self) -> &'static str {
        "roles"
    }

    fn height(&self) -> u32 {
        height(LANE_ROW, self.story.lanes.len().max(1))
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let story = self.story;
        let grid = grid(root, scale, story.end_s, LANE_ROW, story.lanes.len().max(1));
        let names: Vec<String> = story.lanes.iter().map(|lane| lane.node.clone()).collect();
        let title = format!("{} · who believes itself master of which shard", story.title);
        grid.draw(root, &title, &names)?;
        for (row, lane) in story.lanes.iter().enumerate() {
            draw_lane(root, &grid, row, lane)?;
        }
        let mut key: Vec<(RGBColor, f64, String)> = story
            .shards
            .iter()
            .take(SHARD_COLOURS.len())
            .map(|s| (shard_colour(Some(s.number)), 1.0, format!("master of shard {}", s.number)))
            .collect();
        key.push((INK, 1.0, "down".to_owned()));
        key.push((RGBColor(0x7A, 0x8F, 0xE0), 1.0, "paused".to_owned()));
        key.push((RGBColor(0xC9, 0xA8, 0x20), 1.0, "cut off".to_owned()));
        grid.draw_key(root, &key)
    }
}

fn shard_colour(shard: Option<u32>) -> RGBColor {
    shard.map_or(SOFT, |shard| SHARD_COLOURS[shard as usize % SHARD_COLOURS.len()])
}

/// Master: a full bar with its epoch. Replica: a thin line in its shard's colour. State fail: a pale bar.
fn draw_lane<DB: DrawingBackend>(
    root: &DrawingArea<DB, Shift>,
    grid: &Grid,
    row: usize,
    lane: &Lane,
) -> anyhow::Result<()>
where
    DB::ErrorType: 'static,
{
    let scale = grid.scale;
    let middle = grid.y(row) + px(LANE_ROW / 2.0, scale);
    let mut said: Option<(bool, u64)> = None;
    for Belief { from_s, to_s, shard, master, epoch, ok } in &lane.beliefs {
        let half = if *master { px(8.0, scale) } else { px(2.0, scale) };
        let colour = shard_colour(*shard).mix(if *master && *ok { 1.0 } else { 0.45 });
        let (from, to) = (grid.x(*from_s), grid.x(*to_s).max(grid.x(*from_s) + 1));
        root.draw(&Rectangle::new([(from, middle - half), (to, middle + half)], colour.filled()))?;
        if *master && said != Some((true, *epoch)) {
            let words = format!("e{epoch}");
            if f64::from(to - from) / scale > 7.0 * words.len() as f64 {
                let style = font(10.0, scale, &WHITE).pos(Pos::new(HPos::Left, VPos::Center));
                root.draw_text(&words, &style, (from + px(3.0, scale), middle))?;
            }
        }
        said = Some((*master, *epoch));
    }
    for (condition, from_s, to_s) in &lane.conditions {
        let (from, to) = (grid.x(*from_s), grid.x(*to_s).max(grid.x(*from_s) + 2));
        let (colour, offset) = match condition {
            Condition::Down => (INK, 11.0),
            Condition::Paused => (RGBColor(0x7A, 0x8F, 0xE0), 11.0),
            Condition::Cut => (RGBColor(0xC9, 0xA8, 0x20), 13.5),
        };
        let y = middle + px(offset, scale);
        let half = px(1.5, scale);
        root.draw(&Rectangle::new([(from, y - half), (to, y + half)], colour.filled()))?;
    }
    Ok(())
}
