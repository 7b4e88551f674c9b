//! The page: draws a run's pictures and writes `report.html`, one self-contained file, from what is stored in the run's
//! folder only. What is missing or torn is named on the page; nothing here judges.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // reads and writes a run's folder

mod anomalies;
mod page;
mod stored;

use std::path::Path;

use anyhow::Context;
use askama::Template;

use crate::plot::{self, data::Story};
use page::Page;
use stored::Stored;

/// Draws all plots into `run_dir/plots` and writes `run_dir/report.html`.
pub fn write(run_dir: &Path) -> anyhow::Result<()> {
    let stored = Stored::read(run_dir)?;
    let story = Story::new(&stored.info, &stored.history, &stored.views);
    let plots = run_dir.join("plots");
    let names = plot::draw_all(&story, &plots)?;
    let page = Page::new(&stored, &story, &plots, &names)?;
    let html = page.render().context("the report's template")?;
    let path = run_dir.join("report.html");
    std::fs::write(&path, html).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
