//! The web pages as people use them: real clicks in a headless Chromium, beside a storm that is going on.
//!
//! `browser_clicks.py` is the person. With SLOTSTORM_SCREENSHOTS set to a folder, it leaves a picture of every page there, light
//! and dark.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const NIGHT: &str = "name = 'clicks'\nseed = 5\nduration_s = 15\nrate = 50\nclients = 3\nsim_niceness = 0\ncanary = []\n[matrix]\nbackend = ['sim']\n\
                     preset = ['failover', 'partitions']\nnode_timeout_ms = [1000]\n[guard]\nmin_free_mb = 1\n";
/// A cut link and a dead node within seconds: the live view shows both.
const STORM: &str = "name = 'live'\nnode_timeout_ms = 1000\nduration_s = 16\nrate = 100\nclients = 4\nseed = 7\n\
                     [[fault]]\nat = 2\nkind = 'isolate'\ntarget = 'master of slot 42'\nduration = 4\n\
                     [[fault]]\nat = 7\nkind = 'kill'\ntarget = 'master of slot 16000'\nrestart_after = 5\n";

fn slotstorm(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slotstorm"));
    command.args(words).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn from_a_running_storm_to_the_history_of_one_key_by_clicks() {
    for program in ["/usr/bin/chromium", "/usr/bin/chromedriver"] {
        assert!(Path::new(program).exists(), "{program} is missing: scripts/test installs it");
    }
    let _lock = common::lock::real_processes();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("clicks.toml"), NIGHT).unwrap();
    std::fs::write(folder.path().join("live.toml"), STORM).unwrap();
    for night in [["--runs", "3"], ["--runs", "2"]] {
        let made = slotstorm(folder.path(), &["campaign", "run", "clicks.toml", night[0], night[1]]).output();
        let code = made.unwrap().status.code();
        assert!(code.is_some_and(|code| code <= 2), "{code:?}");
    }
    for seed in ["1", "2"] {
        let words = ["run", "--backend", "sim", "--duration", "10", "--rate", "50", "--seed", seed];
        assert!(
            slotstorm(folder.path(), &words).output().unwrap().status.code().is_some_and(|code| code <= 2)
        );
    }
    let mut served = Kill(slotstorm(folder.path(), &["serve", "--bind", "127.0.0.1:0"]).spawn().unwrap());
    let mut address = String::new();
    BufReader::new(served.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let storm = Kill(slotstorm(folder.path(), &["run", "--json", "live.toml"]).spawn().unwrap());

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser_clicks.py");
    let clicked = Command::new(common::servers::python()).arg(script).arg(address.trim()).output().unwrap();
    drop(storm);
    assert!(
        clicked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&clicked.stdout),
        String::from_utf8_lossy(&clicked.stderr)
    );
}
