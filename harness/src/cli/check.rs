//! `slotstorm check` and `slotstorm report`: a stored run is judged or drawn again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use slotstorm_checker::JudgeOptions;

use super::{Failure, FolderArgs, history, screen};
use crate::verdict;

/// `slotstorm check`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  slotstorm check results/latest                                   a run of ours\n  \
                        slotstorm check history.edn --workload list-append               a history of Jepsen's\n  \
                        slotstorm check etcd_000.log --format porcupine-log --model cas-register\n  \
                        slotstorm check ops.jsonl --workload register --keyed --json\n  \
                        slotstorm check results/latest/history.bin                       each object by the checks alone\n\n\
                        Exit codes: 0 valid, 1 invalid, 2 unknown, 254 the history cannot be understood (with line and column)"
)]
pub struct CheckArgs {
    /// The folder of a run, such as results/latest, or a history's file
    #[arg(value_name = "RUN_DIR|FILE")]
    pub run_dir: PathBuf,
    #[command(flatten)]
    pub history: history::HistoryArgs,
    /// Print the verdict only, as JSON
    #[arg(long)]
    pub json: bool,
}

/// Judges a run again, or a history that others recorded.
pub fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    if args.run_dir.is_file() {
        return history::check(args);
    }
    must_be_a_run(&args.run_dir)?;
    let verdict = verdict::judge_folder(&args.run_dir, &JudgeOptions::default())?;
    verdict::write(&args.run_dir, &verdict)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&verdict)?);
    } else {
        screen::print(&args.run_dir, &verdict);
    }
    Ok(ExitCode::from(verdict.exit_code as u8))
}

/// Draws again.
pub fn report(args: &FolderArgs) -> Result<ExitCode, Failure> {
    must_be_a_run(&args.run_dir)?;
    verdict::write_latency(&args.run_dir)?;
    crate::report::write(&args.run_dir)?;
    println!("{}", args.run_dir.join("report.html").display());
    Ok(ExitCode::SUCCESS)
}

fn must_be_a_run(folder: &Path) -> Result<(), Failure> {
    if folder.join("run.json").is_file() {
        return Ok(());
    }
    Err(Failure::Usage(format!("{} is no run's folder: it has no run.json", folder.display())))
}
