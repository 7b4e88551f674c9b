//! A real redis-server 7.0 and our node, each a process on an address of its own, asked the same things.
#![allow(dead_code)] // each test binary uses a part

pub mod pair;
pub mod programs;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What the PING behind a request says.
const MARK: &str = "mark-of-the-end";

/// Client port of every server.
pub const PORT: u16 = 7000;

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Redis,
}

/// A server process on an address of its own.
pub struct Server {
    kind: Kind,
    pub ip: String,
    dir: TempDir,
    child: Child,
}

impl Server {
    /// As [`Self::start`], with a configuration file as its first argument.
    pub fn start_with_file(kind: Kind, number: u8, file: &str) -> Self {
        Self::start_as(kind, number, &[file], &[])
    }

    /// Starts a server on the `number`-th address of this process.
    pub fn start(kind: Kind, number: u8, args: &[&str]) -> Self {
        Self::start_as(kind, number, &[], args)
    }

    /// As [`Self::start`], with this library before all others.
    pub fn start_with_library(kind: Kind, number: u8, args: &[&str], library: &Path) -> Self {
        Self::start_in(TempDir::new().unwrap(), kind, number, &[], args, Some(library))
    }

    fn start_as(kind: Kind, number: u8, before: &[&str], args: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), kind, number, before, args, None)
    }

    fn start_in(
        dir: TempDir,
        kind: Kind,
        number: u8,
        before: &[&str],
        args: &[&str],
        library: Option<&Path>,
    ) -> Self {
        let ip = &format!("127.21.{}.{number}", std::process::id() % 250 + 1);
        let port = PORT.to_string();
        let base = ["--bind", ip, "--bind-source-addr", ip, "--port", &port, "--protected-mode", "no"];
        let words = before.iter().copied().chain(base).chain(args.iter().copied());
        let mut all: Vec<String> = words.map(str::to_owned).collect();
        all.extend(["--dir".to_owned(), dir.path().to_string_lossy().into_owned()]);
        let child = Self::spawn(kind, &all, dir.path(), library);
        let server = Self { kind, ip: ip.clone(), dir, child };
        server.wait_until_it_answers();
        server
    }

    /// Its directory.
    pub fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Starts a server on a copy of all files of another one.
    pub fn start_on_files_of(kind: Kind, number: u8, args: &[&str], other: &Self) -> Self {
        let dir = TempDir::new().unwrap();
        copy_all(other.dir.path(), dir.path());
        Self::start_in(dir, kind, number, &[], args, None)
    }

    /// A file in its directory, empty if it is not there.
    pub fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn spawn(kind: Kind, args: &[String], dir: &Path, library: Option<&Path>) -> Child {
        let program = match kind {
            Kind::Redis => programs::redis_7_0(),
            Kind::Ours => programs::ours(),
        };
        // Here a node that panics says why.
        let stderr = std::fs::File::create(dir.join("stderr")).unwrap();
        let mut command = Command::new(&program);
        command.args(args).envs(library.map(|library| ("LD_PRELOAD", library)));
        let spawned = command.stdout(Stdio::null()).stderr(stderr).spawn();
        spawned.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
    }

    fn wait_until_it_answers(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.answers() {
            assert!(Instant::now() < until, "{:?} does not answer on {}", self.kind, self.ip);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Does a PING get its PONG, and not `-LOADING`?
    fn answers(&self) -> bool {
        let Some(mut client) = Client::connect(&self.ip) else { return false };
        let mut reply = [0; 5];
        let asked = client.stream.write_all(b"PING\r\n");
        asked.is_ok() && client.stream.read_exact(&mut reply).is_ok() && &reply == b"+PONG"
    }
}

/// What the server removes meanwhile (files of an append-only file before its rewrite) is not missed.
fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            let copied = std::fs::copy(entry.path(), target);
            assert!(copied.is_ok() || !entry.path().exists(), "{}: {copied:?}", entry.path().display());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Client {
    pub stream: TcpStream,
    in_multi: bool,
    /// Came behind what was waited for.
    early: Vec<u8>,
}

impl Client {
    pub fn connect(ip: &str) -> Option<Self> {
        let address = format!("{ip}:{PORT}").parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        // Disks of busy machines stop for seconds, and with them the servers that sync.
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        Some(Self { stream, in_multi: false, early: Vec::new() })
    }

    /// Sends a line and reads what comes until a PING behind it is answered (with or without a subscription);
    /// between MULTI and EXEC, where all replies are one line, until that is there. `|` stands for a line's end.
    pub fn ask(&mut self, line: &str) -> String {
        self.in_multi = match line {
            "MULTI" => true,
            "EXEC" | "DISCARD" => false,
            _ => self.in_multi,
        };
        if !self.in_multi {
            return if self.begin(line) { self.finish() } else { "(closed)".to_owned() };
        }
        match self.stream.write_all(format!("{line}\r\n").as_bytes()) {
            Ok(()) => self.read_until("\r\n"),
            Err(_) => "(closed)".to_owned(),
        }
    }

    /// Sends a line that may block, and a PING behind it; false if the connection is closed.
    pub fn begin(&mut self, line: &str) -> bool {
        self.stream.write_all(format!("{line}\r\nPING {MARK}\r\n").as_bytes()).is_ok()
    }

    /// What came before the answer to the PING.
    pub fn finish(&mut self) -> String {
        self.read_until(&format!("${}\r\n{MARK}\r\n", MARK.len()))
    }

    fn read_until(&mut self, end: &str) -> String {
        let mut got = std::mem::take(&mut self.early);
        let mut buffer = [0; 16384];
        let at = loop {
            if let Some(at) = got.windows(end.len()).position(|window| window == end.as_bytes()) {
                break at;
            }
            match self.stream.read(&mut buffer) {
                Ok(read) if read > 0 => got.extend_from_slice(&buffer[..read]),
                // A read with a timeout is interrupted when the process is stopped and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return format!("{}(closed)", String::from_utf8_lossy(&got).replace("\r\n", "|")),
            }
        };
        // A subscriber may be sent a message right behind its PING's answer: that belongs to the next question.
        self.early = got.split_off(at + end.len());
        got.truncate(at);
        String::from_utf8_lossy(&got).replace("\r\n", "|")
    }
}
