//! Beside a real redis-server 7.0: the same requests get the same bytes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PORT: u16 = 7000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Redis,
}

/// The first redis-server 7.0 on the PATH; there may be others before it.
fn redis_7_0() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("redis-server")).find(|program| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("v=7.0."))
    });
    found.expect("a redis-server 7.0 on the PATH is needed (Debian: apt install redis-server)")
}

/// A server process on an address of its own.
struct Server {
    kind: Kind,
    ip: String,
    dir: TempDir,
    child: Child,
}

impl Server {
    /// Starts a server on the `number`-th address of this process.
    fn start(kind: Kind, number: u8, args: &[&str]) -> Self {
        let ip = &format!("127.21.{}.{number}", std::process::id() % 250 + 1);
        let dir = TempDir::new().unwrap();
        let port = PORT.to_string();
        let mut all: Vec<String> =
            ["--bind", ip, "--bind-source-addr", ip, "--port", &port, "--protected-mode", "no"]
                .into_iter()
                .chain(args.iter().copied())
                .map(str::to_owned)
                .collect();
        all.extend(["--dir".to_owned(), dir.path().to_string_lossy().into_owned()]);
        let child = Self::spawn(kind, &all);
        let server = Self { kind, ip: ip.clone(), dir, child };
        server.wait_until_it_answers();
        server
    }

    fn spawn(kind: Kind, args: &[String]) -> Child {
        let program = match kind {
            Kind::Redis => redis_7_0(),
            Kind::Ours => {
                let tests = std::env::current_exe().unwrap();
                tests.parent().unwrap().with_file_name("examples").join("node")
            }
        };
        let spawned = Command::new(&program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        spawned.unwrap_or_else(|error| {
            panic!(
                "{} is needed: {error} (Debian: redis-server; ours: cargo build --example node)",
                program.display()
            )
        })
    }

    fn wait_until_it_answers(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while Client::connect(&self.ip).is_none_or(|mut client| client.ask("PING") != "+PONG|") {
            assert!(Instant::now() < until, "{:?} does not answer on {}", self.kind, self.ip);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = &self.dir;
    }
}

struct Client {
    stream: TcpStream,
    in_multi: bool,
}

impl Client {
    fn connect(ip: &str) -> Option<Self> {
        let address = format!("{ip}:{PORT}").parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(Self { stream, in_multi: false })
    }

    /// Sends a line and reads what comes until a PING behind it is answered (with or without a subscription);
    /// between MULTI and EXEC, where all replies are one line, until that is there. `|` stands for a line's end.
    fn ask(&mut self, line: &str) -> String {
        self.in_multi = match line {
            "MULTI" => true,
            "EXEC" | "DISCARD" => false,
            _ => self.in_multi,
        };
        let mark = "mark-of-the-end";
        let (request, end) = if self.in_multi {
            (format!("{line}\r\n"), "\r\n".to_owned())
        } else {
            (format!("{line}\r\nPING {mark}\r\n"), format!("${}\r\n{mark}\r\n", mark.len()))
        };
        let mut got = Vec::new();
        let mut buffer = [0; 16384];
        if self.stream.write_all(request.as_bytes()).is_err() {
            return "(closed)".to_owned();
        }
        while !got.ends_with(end.as_bytes()) {
            match self.stream.read(&mut buffer) {
                Ok(read) if read > 0 => got.extend_from_slice(&buffer[..read]),
                _ => return format!("{}(closed)", String::from_utf8_lossy(&got).replace("\r\n", "|")),
            }
        }
        got.truncate(got.len() - end.len());
        String::from_utf8_lossy(&got).replace("\r\n", "|")
    }
}

#[test]
fn replies_are_the_same_byte_for_byte() {
    let args = ["--cluster-enabled", "no", "--save", ""];
    let ours = Server::start(Kind::Ours, 1, &args);
    let redis = Server::start(Kind::Redis, 2, &args);
    let mut ours = Client::connect(&ours.ip).unwrap();
    let mut redis = Client::connect(&redis.ip).unwrap();
    let mut differences = String::new();
    for line in include_str!("requests.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (expected, got) = (redis.ask(line), ours.ask(line));
        if in_any_order(line, &expected) != in_any_order(line, &got) {
            // Writing to a string cannot fail.
            let _ = write!(differences, "\n{line}\n  redis {expected}\n  ours  {got}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// A set's members come in no particular order: those replies are compared sorted.
fn in_any_order(line: &str, reply: &str) -> String {
    let unordered = ["SMEMBERS ", "SINTER ", "SUNION ", "SDIFF "].iter().any(|verb| line.starts_with(verb));
    let mut parts: Vec<&str> = reply.split('|').collect();
    if unordered {
        parts.sort_unstable();
    }
    parts.join("|")
}

#[test]
fn broken_requests_get_the_same_errors() {
    let args = ["--cluster-enabled", "no", "--save", ""];
    let ours = Server::start(Kind::Ours, 3, &args);
    let redis = Server::start(Kind::Redis, 4, &args);
    let long = "x".repeat(70_000);
    for bytes in [
        "*x\r\n",
        "*3000000000\r\n",
        "*1\r\nPING\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$536870913\r\n",
        "SET \"a\r\n",
        "SET 'a'b\r\n",
        &long,
        &format!("*{long}"),
        &format!("*1\r\n${long}"),
    ] {
        let replies = [&redis, &ours].map(|server| {
            let mut client = Client::connect(&server.ip).unwrap();
            client.stream.write_all(bytes.as_bytes()).unwrap();
            let mut reply = Vec::new();
            let _ = client.stream.read_to_end(&mut reply);
            String::from_utf8_lossy(&reply).into_owned()
        });
        assert_eq!(replies[0], replies[1], "{}", &bytes[..20.min(bytes.len())]);
        assert!(replies[0].starts_with("-ERR Protocol error"), "{replies:?}");
    }
}
