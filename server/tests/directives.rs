//! The table of directives against a real redis-server 7.0.15: same names, same defaults.
//! Needs Debian's `redis-server` (at /usr/bin, so that an older one on PATH does not take its place).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets, files and processes

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use slotstorm_node::config::{Config, DIRECTIVES, HIDDEN};
use tempfile::TempDir;

const REDIS_SERVER: &str = "/usr/bin/redis-server";
const REDIS_CLI: &str = "/usr/bin/redis-cli";

struct Redis {
    child: Child,
    dir: TempDir,
}

impl Redis {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("socket");
        let child = Command::new(REDIS_SERVER)
            .args(["--port", "0", "--unixsocket", socket.to_str().unwrap()])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn();
        let redis =
            Self { child: child.expect("Debian's redis-server is installed: apt install redis-server"), dir };
        let started = Instant::now();
        while redis.ask(&["ping"]) != ["PONG"] {
            assert!(started.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        redis
    }

    fn ask(&self, words: &[&str]) -> Vec<String> {
        let output =
            Command::new(REDIS_CLI).arg("-s").arg(self.dir.path().join("socket")).args(words).output();
        let text = String::from_utf8(output.expect("redis-cli is installed: apt install redis-tools").stdout)
            .unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn names_and_defaults_are_those_of_redis_7_0_15() {
    let redis = Redis::start();
    let answer = redis.ask(&["config", "get", "*"]);
    let theirs: BTreeMap<&str, &str> =
        answer.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let config = Config::default();
    let ours: BTreeMap<&str, String> = config.get(&["*"]).into_iter().collect();

    // Said on its command line above, or taken from where it was started.
    let differ = ["port", "unixsocket", "dir"];
    for (name, value) in &ours {
        if !differ.contains(name) {
            assert_eq!(theirs.get(name), Some(&value.as_str()), "{name}: left theirs, right ours");
        }
    }
    let unknown: Vec<_> = theirs.keys().filter(|name| !ours.contains_key(**name)).collect();
    assert!(
        unknown.iter().all(|name| name.starts_with("tls-")),
        "directives of Redis missing here: {unknown:?}"
    );
}

#[test]
fn hidden_names_that_redis_has_too_have_its_defaults() {
    let redis = Redis::start();
    let config = Config::default();
    let mut compared = 0;
    for directive in DIRECTIVES.iter().filter(|directive| directive.has(HIDDEN)) {
        // Those of valkey and our own are not known there.
        if let [name, value] = redis.ask(&["config", "get", directive.name]).as_slice() {
            assert_eq!(config.get(&[name]), [(directive.name, value.clone())]);
            compared += 1;
        }
    }
    assert!(compared >= 5, "{compared}");
}

#[test]
fn refusals_of_config_set_have_redis_words() {
    let redis = Redis::start();
    let mut config = Config::default();
    let values =
        ["@bogus@", "-999999999999999", "010", "1x", "101%", "1 2", "a/b", "YES", "99999999999999999999"];
    // Not settable to nonsense there without losing the connection, or checked by what only their process
    // knows.
    let skipped = [
        "port",
        "requirepass",
        "maxclients",
        "bind",
        "activedefrag",
        "tls-port",
        "tls-cluster",
        "tls-replication",
    ];
    let mut differences = Vec::new();
    for directive in DIRECTIVES.iter().filter(|directive| !skipped.contains(&directive.name)) {
        // Those of valkey and our own are not known there (the answer is an empty line).
        if redis.ask(&["config", "get", directive.name]).len() < 2 {
            continue;
        }
        for value in values {
            // Bytes are signed here: more than 2^63 of them are out of range, where these two take 2^64.
            if ["maxmemory", "cluster-link-sendbuf-limit"].contains(&directive.name)
                && value.starts_with("9999")
            {
                continue;
            }
            let theirs = redis.ask(&["config", "set", directive.name, value]).join("\n");
            let ours = match config.set(&[(directive.name, value)], false) {
                Ok(_) => "OK".to_owned(),
                Err(error) => format!("ERR {error}"),
            };
            if ours.trim() != theirs.trim() {
                differences.push(format!("{} '{value}'\n   ours: {ours}\n theirs: {theirs}", directive.name));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
