//! A cluster under test: the built binary as `slotstorm cluster up`, its console, and a look at what it leaves behind.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell
#![allow(dead_code)] // each test binary uses its part

pub mod formed;
pub mod load;
pub mod lock;
pub mod redis_cli;
pub mod routed;
pub mod servers;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Debian's; `scripts/test` installs it.
pub const REDIS_SERVER: &str = "/usr/bin/redis-server";

/// A running `slotstorm cluster up`. Killed when dropped.
pub struct Cluster {
    controller: Child,
    console: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What it said when it was ready; null before.
    pub ready: Value,
    /// Its working folder: every process of this cluster has its own working folder below.
    pub folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts the controller; does not wait.
    pub fn launch(sut: &str) -> Self {
        Self::launch_verb(&["cluster", "up", "--json", "--sut", sut, "--out", "results"])
    }

    /// Starts any verb that has a cluster of its own; does not wait.
    pub fn launch_verb(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut controller = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
            .args(args)
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let console = controller.stdin.take();
        let answers = BufReader::new(controller.stdout.take().expect("a pipe"));
        Self { controller, console, answers, ready: Value::Null, folder }
    }

    /// Starts a cluster of three masters and three replicas and waits until it is whole.
    pub fn up(sut: &str) -> Self {
        let mut cluster = Self::launch(sut);
        let line = cluster.line();
        cluster.ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        cluster
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the controller speaks UTF-8");
        line
    }

    /// One command of the console and its one line of answer.
    pub fn say(&mut self, command: &str) -> String {
        let console = self.console.as_mut().expect("the console is open");
        writeln!(console, "{command}").expect("the controller listens");
        let answer = self.line();
        answer.trim().to_owned()
    }

    /// Ends it as a person would; its exit status.
    pub fn quit(&mut self) -> ExitStatus {
        drop(self.console.take());
        self.controller.wait().expect("it ends")
    }

    /// Waits for an end that it was not asked for.
    pub fn wait(&mut self) -> ExitStatus {
        self.controller.wait().expect("it ends")
    }

    /// kill -9.
    pub fn kill_controller(&mut self) {
        self.controller.kill().expect("it runs");
        self.controller.wait().expect("it ends");
    }

    /// What a terminal does at Ctrl-C, or a supervisor at the end; its exit status.
    pub fn interrupt(&mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.controller.id() as i32), signal).expect("it runs");
        self.controller.wait().expect("it ends")
    }

    /// kill -9 of the keeper.
    pub fn kill_keeper(&self) {
        let pid = self.ready["keeper"].as_i64().expect("the keeper's pid") as i32;
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the keeper runs");
    }

    /// Process ids of the servers, n1 first.
    pub fn pids(&self) -> Vec<u64> {
        let nodes = self.ready["nodes"].as_array().expect("nodes");
        nodes.iter().map(|node| node["pid"].as_u64().expect("a pid")).collect()
    }

    /// A node's address, `real` or `announced`.
    pub fn address(&self, node: usize, which: &str) -> SocketAddr {
        self.ready["nodes"][node - 1][which].as_str().expect("an address").parse().expect("an address")
    }

    /// A connection from a client's own address to what the cluster announces of a node.
    pub fn client(&self, node: usize) -> Client {
        let t = self.ready["network"].as_u64().expect("the network") as u8;
        Client::dial(Ipv4Addr::new(127, t, 4, 1), self.address(node, "announced"))
    }

    /// Processes of this cluster that exist, controller and keeper included: they work below its folder.
    pub fn processes(&self) -> Vec<(u64, PathBuf)> {
        processes_below(&self.folder.path().canonicalize().expect("the folder exists"))
    }

    /// Waits until no process is left; panics with their names after `patience`. How long it took.
    pub fn assert_gone(&self, patience: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < patience, "left after {patience:?}: {left:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.controller.kill();
        let _ = self.controller.wait();
        let begun = Instant::now();
        while !self.processes().is_empty() && begun.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Processes whose working folder is `folder` or below (a zombie has none).
fn processes_below(folder: &Path) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(cwd) = std::fs::read_link(entry.path().join("cwd"))
            && cwd.starts_with(folder)
        {
            found.push((pid, cwd));
        }
    }
    found
}

/// A blocking connection that speaks just enough RESP for a test.
pub struct Client {
    stream: TcpStream,
    inbox: Vec<u8>,
}

impl Client {
    /// From an address of one's own.
    pub fn dial(source: Ipv4Addr, to: SocketAddr) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("the source address can be had");
        socket.connect_timeout(&to.into(), Duration::from_secs(2)).expect("somebody listens");
        Self { stream: socket.into(), inbox: Vec::new() }
    }

    /// Sends an inline command.
    pub fn send(&mut self, command: &str) {
        self.stream.write_all(format!("{command}\r\n").as_bytes()).expect("the peer takes it");
    }

    /// The next line within `patience`; `None` if it did not come.
    pub fn line(&mut self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.inbox.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.inbox.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.stream.set_read_timeout(Some(left)).expect("a timeout");
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => panic!("the peer closed"),
                Ok(count) => self.inbox.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A command whose reply is one line.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.line(Duration::from_secs(5)).unwrap_or_else(|| panic!("no answer to {command:?}"))
    }
}
