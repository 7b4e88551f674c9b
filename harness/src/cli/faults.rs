//! `slotstorm run --list-faults`: the pages of the kinds of faults.

use std::process::ExitCode;

use super::Failure;
use crate::plan::{KINDS, Page, page};

/// One line a kind, or the whole page of one.
pub fn list(kind: &str) -> Result<ExitCode, Failure> {
    if kind != "all" {
        print(page(kind).map_err(Failure::Usage)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut family = None;
    for page in KINDS {
        if family.replace(page.family) != Some(page.family) {
            println!("{}", format!("{:?}", page.family).to_lowercase());
        }
        let first = page.does.split_inclusive(". ").next().unwrap_or(page.does);
        println!("  {:<19} {}", page.name, first.trim_end());
    }
    println!("\nThe whole page of one: slotstorm run --list-faults KIND");
    Ok(ExitCode::SUCCESS)
}

fn print(page: &Page) {
    println!("{} ({})\n", page.name, format!("{:?}", page.family).to_lowercase());
    println!("does       {}", page.does);
    println!("does not   {}", page.does_not);
    println!("undone by  {}", page.undone_by);
    if !page.voids.is_empty() {
        println!("voids      {}", page.voided().collect::<Vec<_>>().join(", "));
    }
    println!("presets    {}, everything", page.presets.join(", "));
    println!("\n  [[fault]]\n  at = 5\n  kind = \"{}\"", page.name);
    for line in page.example.lines() {
        println!("  {line}");
    }
}
