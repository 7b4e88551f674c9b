//! Debian's redis-cli as a person would use it, but with an end: `--cluster` verbs wait without bound for a cluster
//! that never agrees.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, dead_code)] // a real process

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::servers::{Servers, program};

pub const REDIS_CLI: &str = "/usr/bin/redis-cli";
/// Far more than any verb of the tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What redis-cli said (both streams) and how it ended.
#[derive(Debug)]
pub struct Said {
    pub text: String,
    pub status: ExitStatus,
}

/// `redis-cli --cluster VERB ARGS...`; whatever comes of it. It is told `yes` whenever it asks: some of its questions
/// come even with `--cluster-yes`.
#[track_caller]
pub fn attempt(verb: &str, args: &[&str]) -> Said {
    let mut all = vec!["--cluster", verb];
    all.extend(args);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = Command::new(program(REDIS_CLI));
    command.args(&all).stdin(Stdio::piped());
    command.stdout(writer.try_clone().expect("a pipe")).stderr(writer);
    let mut child = command.spawn().expect("redis-cli runs");
    drop(command); // and with it the pipe's other end
    // Fits into the pipe's buffer; a verb that asks nothing may have ended already.
    let _ = child.stdin.take().expect("a pipe").write_all("yes\n".repeat(20).as_bytes());
    let output = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = reader.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("redis-cli {all:?} does not end:\n{}", output.join().expect("no panic"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Said { text: output.join().expect("no panic"), status }
}

/// `redis-cli --cluster VERB ARGS...` that must succeed without an error line; what it said.
#[track_caller]
pub fn cluster(verb: &str, args: &[&str]) -> String {
    let said = attempt(verb, args);
    let fine = said.status.success() && !said.text.contains("[ERR]") && !said.text.contains("*** ERROR");
    assert!(fine, "redis-cli --cluster {verb} {args:?}: {}\n{}", said.status, said.text);
    said.text
}

/// `check` that finds nothing wrong, tried again while word of the last change is still on its way; what it said.
#[track_caller]
pub fn check(address: &str) -> String {
    match checked(address) {
        Ok(said) => said,
        Err(said) => panic!("redis-cli --cluster check {address}\n{said}"),
    }
}

/// As `check`; `Err` is what it said of what is wrong.
pub fn checked(address: &str) -> Result<String, String> {
    let begun = Instant::now();
    loop {
        let Said { text, status } = attempt("check", &[address]);
        let agreed = "[OK] All nodes agree about slots configuration.";
        let fine = [agreed, "[OK] All 16384 slots covered."].iter().all(|line| text.contains(line));
        if status.success() && fine && !text.contains("[WARNING]") {
            return Ok(text);
        }
        if text.contains(agreed) || begun.elapsed() > Duration::from_secs(10) {
            return Err(text);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Moves slots between two nodes, by their places among the servers, once all epochs have settled.
#[track_caller]
pub fn reshard(servers: &Servers, from: usize, to: usize, count: usize) {
    servers.until_settled();
    let [id_from, id_to] = [from, to].map(|node| servers.nodes[node].id());
    let (entry, count) = (servers.nodes[0].address(), count.to_string());
    let wish = ["--cluster-from", &id_from, "--cluster-to", &id_to, "--cluster-slots", &count];
    cluster("reshard", &[&[entry.as_str()], &wish[..], &["--cluster-yes"]].concat());
}
