//! The programs that tests start: ours, and real servers on the PATH.
#![allow(dead_code)] // each test binary uses a part

use std::path::PathBuf;
use std::process::Command;

/// The first redis-server on the PATH whose `--version` contains `version`; there may be others before it.
pub fn redis(version: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join("redis-server")).find(|program| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version))
    })
}

/// The redis-server that ours is compared with.
pub fn redis_7_0() -> PathBuf {
    redis("v=7.0.").expect("a redis-server 7.0 on the PATH is needed (Debian: apt install redis-server)")
}

/// Our node as a program of its own: an example that cargo builds beside the tests.
pub fn ours() -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a program");
    let built = tests.parent().expect("in a folder").with_file_name("examples").join("node");
    assert!(built.exists(), "{}: cargo build -p slotstorm-server --example node", built.display());
    built
}
