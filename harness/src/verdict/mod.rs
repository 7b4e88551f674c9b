//! Puts a stored run before the judge, and writes down what follows from its record: verdict, latency log and `history.bin`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: it reads and writes a run's folder

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter};
use std::path::Path;

use anyhow::Context;
use slotstorm_checker::JudgeOptions;
use slotstorm_checker::record::Record;
use slotstorm_checker::record::verdict::Verdict;

mod latency;
pub mod signature;

/// Judges what a run's folder holds; `options` tell what the record does not: how the run ended. Writes `history.bin` beside
/// it, since the record is at hand.
pub fn judge_folder(folder: &Path, options: &JudgeOptions) -> anyhow::Result<Verdict> {
    judge_record(folder, &read_folder(folder)?, options)
}

/// The record of a run's folder.
pub fn read_folder(folder: &Path) -> anyhow::Result<Record> {
    let run = fs::read_to_string(folder.join("run.json"))
        .with_context(|| format!("cannot read {}", folder.join("run.json").display()))?;
    slotstorm_checker::record::read_folder(slotstorm_checker::record::Sources {
        run: &run,
        history: open(folder, "history.jsonl")?,
        views: open_or_empty(folder, "views.jsonl")?,
        stream: open_or_empty(folder, "stream.jsonl")?,
        bus: if folder.join("bus.jsonl").exists() { Some(open(folder, "bus.jsonl")?) } else { None },
    })
    .with_context(|| format!("{} cannot be judged", folder.display()))
}

/// As [`judge_folder`], of a folder that was read already.
pub fn judge_record(folder: &Path, record: &Record, options: &JudgeOptions) -> anyhow::Result<Verdict> {
    write_bin(folder, record)?;
    let mut options = options.clone();
    options.consistency.threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(slotstorm_checker::judge_with(record, &options))
}

fn write_bin(folder: &Path, record: &slotstorm_checker::record::Record) -> anyhow::Result<()> {
    let path = folder.join("history.bin");
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(&path)?);
        slotstorm_checker::record::write_bin(record, &mut out)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_data()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes `verdict.json`.
pub fn write(folder: &Path, verdict: &Verdict) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(verdict)?;
    text.push('\n');
    fs::write(folder.join("verdict.json"), text).context("cannot write verdict.json")
}

/// Writes `latency.hlog` from the history.
pub fn write_latency(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("latency.hlog");
    let out = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    latency::write(open(folder, "history.jsonl")?, BufWriter::new(out))
}

fn open(folder: &Path, name: &str) -> anyhow::Result<BufReader<File>> {
    let path = folder.join(name);
    Ok(BufReader::new(File::open(&path).with_context(|| format!("cannot read {}", path.display()))?))
}

fn open_or_empty(folder: &Path, name: &str) -> anyhow::Result<Box<dyn BufRead>> {
    if folder.join(name).exists() {
        Ok(Box::new(open(folder, name)?))
    } else {
        Ok(Box::new(std::io::empty()))
    }
}
