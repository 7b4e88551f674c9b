//! `slotstorm check` and `slotstorm report`: a stored run is judged or drawn again.

use std::process::ExitCode;

use slotstorm_checker::JudgeOptions;

use super::{Failure, FolderArgs, screen};
use crate::verdict;

/// Judges again.
pub fn check(args: &FolderArgs) -> Result<ExitCode, Failure> {
    must_be_a_run(args)?;
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
    must_be_a_run(args)?;
    verdict::write_latency(&args.run_dir)?;
    crate::report::write(&args.run_dir)?;
    println!("{}", args.run_dir.join("report.html").display());
    Ok(ExitCode::SUCCESS)
}

fn must_be_a_run(args: &FolderArgs) -> Result<(), Failure> {
    if args.run_dir.join("run.json").is_file() {
        return Ok(());
    }
    Err(Failure::Usage(format!("{} is no run's folder: it has no run.json", args.run_dir.display())))
}
