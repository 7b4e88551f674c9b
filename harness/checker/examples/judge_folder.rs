//! Judges a run's folder: `cargo run -p slotstorm-checker --example judge_folder -- RUN_DIR`. Prints the verdict, and how
//! long reading and judging took.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell around the pure judge

use std::error::Error;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Instant;

use slotstorm_checker::judge;
use slotstorm_checker::record::{Sources, read_folder};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("the folder of a run, please")?);
    let open = |name: &str| File::open(folder.join(name)).map(BufReader::new);
    let begun = Instant::now();
    let record = read_folder(Sources {
        run: &fs::read_to_string(folder.join("run.json"))?,
        history: open("history.jsonl")?,
        views: open("views.jsonl")?,
        stream: open("stream.jsonl")?,
        bus: open("bus.jsonl").ok(),
    })?;
    let read = begun.elapsed();
    let begun = Instant::now();
    let verdict = judge(&record);
    println!("{}", serde_json::to_string_pretty(&verdict)?);
    eprintln!("{} operations: read in {read:.2?}, judged in {:.2?}", record.ops.len(), begun.elapsed());
    Ok(())
}
