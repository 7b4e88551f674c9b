//! A real redis-server 7.0 and our node, each a process on an address of its own, asked the same things.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What the PING behind a request says.
const MARK: &str = "mark-of-the-end";

/// Client port of every server.
pub const PORT: u16 = 7000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
/// Whose program.
pub enum Kind {
    Ours,
    Redis,
}

/// The first redis-server 7.0 on the PATH; there may be others before it.
pub fn redis_7_0() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("redis-server")).find(|program| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("v=7.0."))
    });
    found.expect("a redis-server 7.0 on the PATH is needed (Debian: apt install redis-server)")
}

/// A server process on an address of its own.
pub struct Server {
    kind: Kind,
    pub ip: String,
    dir: TempDir,
    child: Child,
}

impl Server {
    /// Starts a server on the `number`-th address of this process.
    pub fn start(kind: Kind, number: u8, args: &[&str]) -> Self {
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

    /// A file in its directory, empty if it is not there.
    #[allow(dead_code)] // not every test that has this module reads files
    pub fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(name)).unwrap_or_default()
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
        let answers = |mut client: Client| {
            // While it loads, it answers the PING that ends a reply with an error: no end would come.
            let timeout = Some(Duration::from_millis(500));
            client.stream.set_read_timeout(timeout).is_ok() && client.ask("PING") == "+PONG|"
        };
        while !Client::connect(&self.ip).is_some_and(answers) {
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

pub struct Client {
    pub stream: TcpStream,
    in_multi: bool,
}

impl Client {
    pub fn connect(ip: &str) -> Option<Self> {
        let address = format!("{ip}:{PORT}").parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        // Disks of busy machines stop for seconds, and with them the servers that sync.
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        Some(Self { stream, in_multi: false })
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
        let mut got = Vec::new();
        let mut buffer = [0; 16384];
        while !got.ends_with(end.as_bytes()) {
            match self.stream.read(&mut buffer) {
                Ok(read) if read > 0 => got.extend_from_slice(&buffer[..read]),
                // A read with a timeout is interrupted when the process is stopped and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return format!("{}(closed)", String::from_utf8_lossy(&got).replace("\r\n", "|")),
            }
        }
        got.truncate(got.len() - end.len());
        String::from_utf8_lossy(&got).replace("\r\n", "|")
    }
}
