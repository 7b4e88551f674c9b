//! Bare servers, without harness and proxy, that stop with the test; and a small RESP client.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, dead_code)] // real sockets, files, processes

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::REDIS_SERVER;
use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
pub use redis_protocol::resp2::types::BytesFrame as Reply;
use redis_protocol::resp2::types::Resp2Frame;

/// The path of a program that the tests need; a missing one fails the test.
pub fn program(path: &str) -> &str {
    assert!(Path::new(path).exists(), "{path} is missing: scripts/test installs it");
    path
}

/// Which server a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `slotstorm server` of this build.
    Embedded,
    /// Debian's redis-server.
    Redis,
}

/// A group of servers on loopback addresses of their own; all are killed when it is dropped.
pub struct Servers {
    net: u8,
    dir: tempfile::TempDir,
    pub nodes: Vec<Server>,
}

/// One server process.
pub struct Server {
    pub kind: Kind,
    pub ip: String,
    pub port: u16,
    dir: PathBuf,
    extra: Vec<String>,
    child: Option<Child>,
}

impl Servers {
    /// Starts cluster nodes of these kinds, not yet joined, with a node timeout in milliseconds.
    pub fn start(kinds: &[Kind], node_timeout_ms: u32) -> Self {
        Self::start_with(kinds, node_timeout_ms, |_| Vec::new())
    }

    /// As `start`, with further arguments that depend on the kind of server.
    pub fn start_with(
        kinds: &[Kind],
        node_timeout_ms: u32,
        further: impl Fn(Kind) -> Vec<&'static str>,
    ) -> Self {
        let mut servers = Self::none();
        for kind in kinds {
            let timeout = node_timeout_ms.to_string();
            let mut extra = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", &timeout];
            extra.extend(further(*kind));
            servers.add(*kind, &extra);
        }
        for node in &servers.nodes {
            node.wait_ready();
        }
        servers
    }

    /// A group without servers.
    pub fn none() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let net = 60 + NEXT.fetch_add(1, Ordering::Relaxed);
        Self { net, dir: tempfile::tempdir().expect("a temporary directory"), nodes: Vec::new() }
    }

    /// Starts one more server; does not wait for it.
    pub fn add(&mut self, kind: Kind, extra: &[&str]) {
        let number = self.nodes.len() + 1;
        let dir = self.dir.path().join(format!("n{number}"));
        std::fs::create_dir(&dir).expect("a data directory");
        std::fs::write(dir.join("node.conf"), "# of a test\n").expect("a configuration file");
        let mut server = Server {
            kind,
            ip: format!("127.{}.{}.{number}", self.net, std::process::id() % 250 + 1),
            port: 7000,
            dir,
            extra: extra.iter().map(|arg| (*arg).to_owned()).collect(),
            child: None,
        };
        server.spawn();
        self.nodes.push(server);
    }

    /// `ip:port` of every node.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Server::address).collect()
    }

    /// Polls until `condition` answers something; what it answered.
    #[track_caller]
    pub fn until<T>(&self, what: &str, within: Duration, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = condition(self) {
                return found;
            }
            assert!(start.elapsed() < within, "{what}: not within {within:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until these nodes, and no others, are one cluster, and each of them says so.
    #[track_caller]
    pub fn until_one(&self, members: &[usize]) {
        let whole = format!("cluster_known_nodes:{}\r", members.len());
        self.until("the members are one cluster", Duration::from_secs(30), |s| {
            let fine = |&index: &usize| {
                let info = s.nodes[index].text(&["CLUSTER", "INFO"]).unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains(&whole)
            };
            members.iter().all(fine).then_some(())
        });
    }

    /// Waits until all members of the cluster know the same configuration epochs, and no two owners of slots share one.
    ///
    /// Until then a slot can be lost by moving it, with 7.0.15 too: the target takes it without a higher epoch, because it
    /// has not heard of the source's, and gives it back at the source's next ping, which was sent before the source gave
    /// it away. Then nobody has it, and the target has deleted its keys.
    #[track_caller]
    pub fn until_settled(&self) {
        self.until("all know the same epochs", Duration::from_secs(30), |s| {
            let views = s.nodes.iter().filter(|node| node.runs()).map(Server::epochs);
            let views: Vec<_> = views.filter(|view| view.len() > 1).collect();
            let alike = views.iter().all(|view| *view == views[0]);
            let epochs: BTreeSet<&String> = views.first()?.values().collect();
            (alike && epochs.len() == views[0].len()).then_some(())
        });
    }

    /// Waits until these nodes are replicas with their master's data.
    #[track_caller]
    pub fn until_in_sync(&self, replicas: &[usize]) {
        self.until("the replicas are in sync", Duration::from_secs(30), |s| {
            let up = |&index: &usize| s.nodes[index].info("master_link_status").as_deref() == Some("up");
            replicas.iter().all(up).then_some(())
        });
    }

    /// Waits until every node that runs knows that `replica` follows the node of this id. Before that a master does
    /// not listen to its wish for a manual failover, and nobody votes for it.
    #[track_caller]
    pub fn until_known(&self, replica: usize, master_id: &str) {
        let id = self.nodes[replica].id();
        self.until("all know the replica", Duration::from_secs(30), |s| {
            let knows = |node: &Server| {
                let view = node.text(&["CLUSTER", "NODES"]).unwrap_or_default();
                view.lines().any(|line| line.starts_with(&id) && line.contains(&format!("slave {master_id}")))
            };
            s.nodes.iter().filter(|node| node.runs()).all(knows).then_some(())
        });
    }

    /// The node of this id.
    #[track_caller]
    pub fn by_id(&self, id: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.text(&["CLUSTER", "MYID"]).as_deref() == Some(id));
        found.unwrap_or_else(|| panic!("nobody is {id}"))
    }

    /// The nodes that hold themselves masters with slots.
    pub fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].slots() > 0).collect()
    }

    /// True if every node that runs says `cluster_state:ok` and knows `count` nodes.
    pub fn all_ok(&self, count: usize) -> bool {
        self.nodes.iter().filter(|node| node.child.is_some()).all(|node| {
            let info = node.text(&["CLUSTER", "INFO"]).unwrap_or_default();
            info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{count}\r"))
        })
    }

    fn logs(&self) -> String {
        let tail = |node: &Server| {
            let text = std::fs::read_to_string(node.dir.join("log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!(
                "--- {} {:?}\n{}",
                node.address(),
                node.kind,
                lines[lines.len().saturating_sub(15)..].join("\n")
            )
        };
        self.nodes.iter().map(tail).collect::<Vec<_>>().join("\n")
    }
}

impl Server {
    /// `ip:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.ip, self.port)
    }

    /// Starts the process (again) on its data directory.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.address());
        // Through `__exec` the server dies with the thread that runs the test, whatever that dies of.
        let slotstorm = env!("CARGO_BIN_EXE_slotstorm");
        let mut command = Command::new(slotstorm);
        command.args(["__exec", &std::process::id().to_string()]);
        match self.kind {
            Kind::Embedded => command.args([slotstorm, "server"]),
            Kind::Redis => command.arg(program(REDIS_SERVER)),
        };
        command.arg(self.dir.join("node.conf"));
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("a log file");
        command
            .args(["--bind", &self.ip, "--bind-source-addr", &self.ip])
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(&self.dir)
            .args([
                "--appendonly",
                "yes",
                "--save",
                "",
                "--repl-diskless-sync-delay",
                "0",
                "--protected-mode",
                "no",
            ])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        self.child = Some(command.spawn().expect("the server starts"));
    }

    /// Waits until it answers PING.
    pub fn wait_ready(&self) {
        let start = Instant::now();
        while self.text(&["PING"]).as_deref() != Some("PONG") {
            let log = || std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{} does not answer\n{}",
                self.address(),
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// A connection of its own.
    pub fn connect(&self) -> std::io::Result<Connection> {
        Connection::open(&self.address())
    }

    /// One command on a fresh connection; `None` if nobody answers.
    pub fn ask(&self, args: &[&str]) -> Option<Reply> {
        self.connect().ok()?.ask(args).ok()
    }

    /// As `ask`, for replies that are text.
    pub fn text(&self, args: &[&str]) -> Option<String> {
        match self.ask(args)? {
            Reply::BulkString(bytes) | Reply::SimpleString(bytes) => String::from_utf8(bytes.to_vec()).ok(),
            _ => None,
        }
    }

    /// One command that must be answered by anything but an error.
    #[track_caller]
    pub fn must(&self, args: &[&str]) -> Reply {
        match self.ask(args) {
            Some(Reply::Error(error)) => panic!("{}: {args:?}: {error}", self.address()),
            Some(reply) => reply,
            None => panic!("{}: {args:?}: no answer", self.address()),
        }
    }

    /// The value of a line `name:value` of INFO.
    pub fn info(&self, name: &str) -> Option<String> {
        let info = self.text(&["INFO"])?;
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
    }

    /// The value of a directive, as CONFIG GET has it.
    pub fn config(&self, name: &str) -> Option<String> {
        match self.ask(&["CONFIG", "GET", name])? {
            Reply::Array(pair) => String::from_utf8(pair.get(1)?.as_bytes()?.to_vec()).ok(),
            _ => None,
        }
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// True if the process was started and not killed.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its own line of CLUSTER NODES, in fields.
    pub fn own_line(&self) -> Option<Vec<String>> {
        let nodes = self.text(&["CLUSTER", "NODES"])?;
        let own = nodes.lines().find(|line| line.contains("myself"))?;
        Some(own.split(' ').map(str::to_owned).collect())
    }

    /// The configuration epochs of the owners of slots, as it sees them.
    fn epochs(&self) -> BTreeMap<String, String> {
        let view = self.text(&["CLUSTER", "NODES"]).unwrap_or_default();
        let owner = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields.len() > 8).then(|| (fields[0].to_owned(), fields[6].to_owned()))
        };
        view.lines().filter_map(owner).collect()
    }

    /// How many slots it claims.
    pub fn slots(&self) -> usize {
        let line = self.own_line().unwrap_or_default();
        let size = |range: &String| -> Option<usize> {
            let (start, end) = range.split_once('-').unwrap_or((range, range));
            Some(end.parse::<usize>().ok()? + 1 - start.parse::<usize>().ok()?)
        };
        line.iter().skip(8).filter_map(size).sum()
    }

    /// The master that it follows, by its own view.
    pub fn follows(&self) -> Option<String> {
        self.own_line()?.get(3).filter(|id| *id != "-").cloned()
    }

    /// Its node id.
    #[track_caller]
    pub fn id(&self) -> String {
        self.text(&["CLUSTER", "MYID"]).expect("a node id")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The texts of an array reply.
#[track_caller]
pub fn texts(reply: &Reply) -> Vec<String> {
    let Reply::Array(list) = reply else { panic!("not an array: {reply:?}") };
    list.iter().map(|element| element.as_str().expect("text").to_owned()).collect()
}

/// A blocking RESP2 connection.
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// Dials; every read and write has five seconds.
    pub fn open(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::new() })
    }

    /// Sends raw bytes.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// One command, one reply.
    pub fn ask(&mut self, args: &[&str]) -> std::io::Result<Reply> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n{arg}\r\n", arg.len()).as_bytes());
        }
        self.send(&bytes)?;
        self.reply()
    }

    /// The next reply.
    pub fn reply(&mut self) -> std::io::Result<Reply> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match decode_bytes_mut(&mut self.buffer) {
                Ok(Some((frame, _, _))) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(std::io::Error::other(error)),
            }
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }
}

/// Runs a program to its end and insists that it succeeds; its output.
#[track_caller]
pub fn run(program: &str, args: &[impl AsRef<std::ffi::OsStr> + Debug]) -> String {
    let output = output(program, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{text}\n{errors}", output.status);
    text
}

/// Runs a program to its end.
pub fn output(program: &str, args: &[impl AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{program}: {error} (scripts/test installs it)"))
}

/// The python that has redis-py.
pub fn python() -> String {
    std::env::var("SLOTSTORM_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}
