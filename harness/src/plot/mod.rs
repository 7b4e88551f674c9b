//! The pictures of a run, as SVG and PNG: Jepsen's three (`latency-raw`, `latency-quantiles`, `rate`), an availability
//! strip per shard, and role lanes.
//!
//! Drawn by plotters with a font of our own: a fresh machine has neither fontconfig nor fonts.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // writes files

pub mod data;
mod frame;
mod jepsen;
mod lanes;
pub mod nights;

use std::path::Path;
use std::sync::Once;

use anyhow::Context;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use data::Story;

/// Width of every picture in pixels (of the SVG; the PNG has twice as many).
const WIDTH: u32 = 900;
/// How many PNG pixels one SVG pixel is.
const PNG_SCALE: u32 = 2;

static FONT: &[u8] = include_bytes!("../../assets/DejaVuSans.ttf");

/// One picture.
trait Figure {
    /// File name without extension.
    fn name(&self) -> &'static str;
    /// Height in SVG pixels.
    fn height(&self) -> u32;
    /// Draws on `root`, every length multiplied by `scale`.
    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static;
}

/// Draws every picture into `dir`; answers their names without extension, in the report's order.
pub fn draw_all(story: &Story, dir: &Path) -> anyhow::Result<Vec<&'static str>> {
    register();
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(vec![
        save(&lanes::Availability { story }, dir)?,
        save(&lanes::Roles { story }, dir)?,
        save(&jepsen::LatencyRaw { story }, dir)?,
        save(&jepsen::LatencyQuantiles { story }, dir)?,
        save(&jepsen::Rate { story }, dir)?,
    ])
}

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if register_font("sans-serif", FontStyle::Normal, FONT).is_err() {
            // Compiled in and tested: without it the pictures have no words, and each draw reports that error.
            tracing::error!("the built-in font cannot be read");
        }
    });
}

fn save(figure: &impl Figure, dir: &Path) -> anyhow::Result<&'static str> {
    let name = figure.name();
    let (width, height) = (WIDTH, figure.height());
    let svg = dir.join(format!("{name}.svg"));
    {
        let root = SVGBackend::new(&svg, (width, height)).into_drawing_area();
        root.fill(&WHITE)?;
        figure.draw(&root, 1.0)?;
        root.present().with_context(|| format!("cannot write {}", svg.display()))?;
    }
    let png = dir.join(format!("{name}.png"));
    let root = BitMapBackend::new(&png, (width * PNG_SCALE, height * PNG_SCALE)).into_drawing_area();
    root.fill(&WHITE)?;
    figure.draw(&root, f64::from(PNG_SCALE))?;
    root.present().with_context(|| format!("cannot write {}", png.display()))?;
    Ok(name)
}
