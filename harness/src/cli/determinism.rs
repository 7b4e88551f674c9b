//! `--verify-determinism`: the same storm again in another process, in another directory, with another environment and
//! with other storms beside it, must have the same fingerprint.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;

use anyhow::{Context, bail};

use super::BROKEN;
use crate::backend::process::SELF_EXE;
use crate::backend::sim::{Keep, SimStorm, simulate};
use crate::driver::Silent;
use crate::plan::{Plan, StormFile};

/// Storms that run beside each other in the second process.
const JOBS: usize = 2;

/// Runs `plan` in a second process and compares.
pub fn verify(plan: &Plan, fingerprint: &str) -> anyhow::Result<()> {
    let elsewhere = tempdir().context("no other directory to run in")?;
    let mut child = Command::new(SELF_EXE)
        .arg("__fingerprint")
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("TZ", "Pacific/Chatham")
        .env("LC_ALL", "C")
        .env("SLOTSTORM_OF_ANOTHER_ENVIRONMENT", fingerprint)
        .current_dir(&elsewhere)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a second process")?;
    let text = plan.to_file().to_toml("to be run again");
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).context("the second process does not read")?;
    }
    let output = child.wait_with_output().context("the second process was lost")?;
    let _ = std::fs::remove_dir(&elsewhere);
    let said = String::from_utf8_lossy(&output.stdout);
    let all: Vec<&str> = said.lines().collect();
    if all.len() != JOBS || all.iter().any(|one| *one != fingerprint) {
        bail!("not deterministic: seed {} gave {fingerprint} here, and elsewhere {all:?}", plan.seed);
    }
    Ok(())
}

/// The second process: reads a storm file, runs it several times at once, prints each fingerprint.
pub fn second_process() -> ExitCode {
    match fingerprints() {
        Ok(all) => {
            println!("{}", all.join("\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("slotstorm: {error:#}");
            ExitCode::from(BROKEN)
        }
    }
}

fn fingerprints() -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let threads: Vec<_> = (0..JOBS)
        .map(|_| {
            let text = text.clone();
            std::thread::spawn(move || fingerprint(&text))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a storm panicked"))).collect()
}

fn fingerprint(text: &str) -> anyhow::Result<String> {
    let file = StormFile::parse("standard input", text).map_err(|error| anyhow::anyhow!("{error}"))?;
    let plan = Plan::from_file(file, 0).map_err(anyhow::Error::msg)?;
    let simulated = simulate(SimStorm {
        plan: Rc::new(plan),
        keep: Keep::Record,
        listener: Rc::new(Silent),
        interrupted: Rc::new(|| false),
    })?;
    Ok(simulated.info.fingerprint.unwrap_or_default())
}

/// A fresh, empty directory.
fn tempdir() -> std::io::Result<std::path::PathBuf> {
    let path = std::env::temp_dir().join(format!("slotstorm-elsewhere-{}", std::process::id()));
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
