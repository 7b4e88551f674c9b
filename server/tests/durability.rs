//! `appendfsync always` keeps its promise: what was acknowledged is there after kill -9, whatever else was going on,
//! and every acknowledgement comes after the bytes were written and synced, as the kernel saw it.
//!
//! `SLOTSTORM_SOAK_KILLS=500` makes the first one long; `scripts/soak-durability` does that.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a test of processes, sockets and files

mod side_by_side;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use side_by_side::PORT;
use tempfile::TempDir;

const CLIENTS: usize = 6;
const KEYS: u64 = 50;
const DIRECTIVES: [&str; 12] = [
    "--cluster-enabled",
    "no",
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--auto-aof-rewrite-min-size",
    "65536",
    "--save",
    "",
    "--protected-mode",
    "no",
];

// ---- The bench

fn address(last: u8) -> String {
    format!("127.23.{}.{last}", std::process::id() % 250 + 1)
}

fn node() -> std::path::PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("node")
}

/// A server in a directory that outlives it.
struct Server {
    child: Child,
    ip: String,
}

impl Server {
    fn start(dir: &Path, ip: &str, wrapper: &[&str]) -> Self {
        let node = node();
        let mut words: Vec<&std::ffi::OsStr> = wrapper.iter().map(std::ffi::OsStr::new).collect();
        words.push(node.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(DIRECTIVES).args(["--bind", ip, "--port", &PORT.to_string()]);
        command.arg("--dir").arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("the example `node`, built by cargo"), ip: ip.to_owned() }
    }

    /// Waits until it answers; gives a connection.
    fn ready(&self) -> Connection {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(mut connection) = Connection::open(&self.ip)
                && connection.ask(&["PING"]).is_some_and(|reply| reply == "+PONG\r\n")
            {
                return connection;
            }
            assert!(Instant::now() < until, "the server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection; `None` from whatever ends it.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(ip: &str) -> Option<Self> {
        let stream = TcpStream::connect((ip, PORT)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream, buffer: Vec::new() })
    }

    fn send(&mut self, args: &[&str]) -> Option<()> {
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            // Writing to a string cannot fail.
            let _ = write!(request, "${}\r\n{arg}\r\n", arg.len());
        }
        self.stream.write_all(request.as_bytes()).ok()
    }

    /// A reply of one line, or a bulk string.
    fn receive(&mut self) -> Option<String> {
        loop {
            if let Some(end) = reply_end(&self.buffer) {
                let reply: Vec<u8> = self.buffer.drain(..end).collect();
                return String::from_utf8(reply).ok();
            }
            let mut piece = [0; 8192];
            let len = self.stream.read(&mut piece).ok().filter(|&len| len > 0)?;
            self.buffer.extend_from_slice(&piece[..len]);
        }
    }

    fn ask(&mut self, args: &[&str]) -> Option<String> {
        self.send(args)?;
        self.receive()
    }
}

fn reply_end(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    if bytes[0] != b'$' || bytes.starts_with(b"$-1") {
        return Some(line);
    }
    let len: usize = std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse().ok()?;
    (bytes.len() >= line + len + 2).then_some(line + len + 2)
}

/// Noise that a seed repeats.
struct Noise(u64);

impl Noise {
    const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What one client knows of its own keys.
#[derive(Default)]
struct Ledger {
    /// The number of the last acknowledged SET of each key, and of those sent after it.
    sets: BTreeMap<u64, (u64, Vec<u64>)>,
    /// INCRs acknowledged, and sent without an answer.
    counted: u64,
    uncertain: u64,
    next: u64,
    acknowledged: u64,
}

impl Ledger {
    /// Writes until the server is gone.
    fn write(&mut self, client: usize, ip: &str, noise: &mut Noise) {
        let Some(mut connection) = Connection::open(ip) else { return };
        loop {
            let depth = 1 + noise.below(4);
            let mut sent = Vec::new();
            for _ in 0..depth {
                let key = noise.below(KEYS);
                self.next += 1;
                self.sets.entry(key).or_default().1.push(self.next);
                self.uncertain += 1;
                sent.push((key, self.next));
                let (name, value) = (format!("c{client}:k{key}"), format!("{:0>40}", self.next));
                let counter = format!("c{client}:n");
                if connection.send(&["SET", &name, &value]).is_none()
                    || connection.send(&["INCR", &counter]).is_none()
                {
                    return;
                }
            }
            for (key, number) in sent {
                let Some(reply) = connection.receive() else { return };
                assert_eq!(reply, "+OK\r\n");
                let (acknowledged, uncertain) = self.sets.get_mut(&key).unwrap();
                *acknowledged = number;
                uncertain.retain(|&other| other > number);
                let Some(reply) = connection.receive() else { return };
                assert!(reply.starts_with(':'), "{reply}");
                (self.counted, self.uncertain) = (self.counted + 1, self.uncertain - 1);
                self.acknowledged += 2;
            }
        }
    }

    /// Every acknowledged write is there, and nothing that was never sent. What is found is what is known then.
    fn check(&mut self, client: usize, connection: &mut Connection) {
        for (key, (acknowledged, uncertain)) in &mut self.sets {
            let name = format!("c{client}:k{key}");
            let reply = connection.ask(&["GET", &name]).expect("a reply");
            let found: u64 = reply.lines().nth(1).map_or(0, |value| value.trim().parse().unwrap());
            assert!(
                found == *acknowledged || uncertain.contains(&found),
                "{name}: {found} is there, {acknowledged} was acknowledged, {uncertain:?} were sent after it"
            );
            *acknowledged = found;
            uncertain.clear();
        }
        let reply = connection.ask(&["GET", &format!("c{client}:n")]).expect("a reply");
        let found: u64 = reply.lines().nth(1).map_or(0, |value| value.trim().parse().unwrap());
        let range = self.counted..=self.counted + self.uncertain;
        assert!(range.contains(&found), "c{client}:n is {found}, not within {range:?}");
        (self.counted, self.uncertain) = (found, 0);
    }
}

// ---- The stories

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let kills: u64 =
        std::env::var("SLOTSTORM_SOAK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let seed = std::env::var("SLOTSTORM_SOAK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let dir = TempDir::new().unwrap();
    let ip = address(1);
    let mut noise = Noise(seed);
    let mut ledgers: Vec<Ledger> = (0..CLIENTS).map(|_| Ledger::default()).collect();
    for kill in 0..=kills {
        let mut server = Server::start(dir.path(), &ip, &[]);
        if noise.below(8) == 0 {
            // Some die while they load.
            std::thread::sleep(Duration::from_millis(noise.below(40)));
            server.kill();
            server = Server::start(dir.path(), &ip, &[]);
        }
        let mut connection = server.ready();
        for (client, ledger) in ledgers.iter_mut().enumerate() {
            ledger.check(client, &mut connection);
        }
        if kill == kills {
            break;
        }
        let is_over = Arc::new(AtomicBool::new(false));
        std::thread::scope(|threads| {
            for (client, ledger) in ledgers.iter_mut().enumerate() {
                let (ip, mut noise) = (&ip, Noise(seed ^ (kill << 8) ^ client as u64));
                threads.spawn(move || ledger.write(client, ip, &mut noise));
            }
            let (over, mut whims) = (Arc::clone(&is_over), Noise(seed + kill));
            threads.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let order = ["BGREWRITEAOF", "BGSAVE", "PING"][whims.below(3) as usize];
                    if connection.ask(&[order]).is_none() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(whims.below(60)));
                }
            });
            std::thread::sleep(Duration::from_millis(40 + noise.below(260)));
            server.kill();
            is_over.store(true, Ordering::Relaxed);
        });
        if (kill + 1) % 25 == 0 {
            let total: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
            println!("{} kills, {total} acknowledged writes, nothing lost", kill + 1);
        }
    }
    let total: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    println!("{kills} kills, {total} acknowledged writes, nothing lost");
    assert!(total > kills * 10, "too little was written to prove anything: {total}");
}

/// What a line of the trace says: the write of commands to the file, the end of a sync, the start of an answer.
#[derive(Debug)]
enum Seen {
    Commands { count: u64 },
    Synced,
    Answer { at: usize, number: u64 },
}

/// Reads a trace of all threads. A call that another thread's line interrupts counts where it began if it is an answer
/// (what leaves must be durable by then), and where it ended if it writes or syncs.
fn read_trace(trace: &str) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut commands: BTreeMap<&str, u64> = BTreeMap::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let is_end = call.starts_with("<...");
        let is_start = call.ends_with("<unfinished ...>");
        let text = if is_end { begun.remove(thread).unwrap_or_default() } else { call };
        if is_start {
            begun.insert(thread, text);
        }
        let on_file = text.contains(".incr.aof>");
        if text.contains("socket:") || text.contains("TCP:") {
            if !is_end {
                for number in text.split("\":").skip(1).chain(text.split("\\n:").skip(1)) {
                    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
                    if let Ok(number) = digits.parse() {
                        seen.push(Seen::Answer { at, number });
                    }
                }
            }
        } else if on_file && text.starts_with("write") {
            if !is_start {
                let count = text.matches("RPUSH").count() as u64;
                *commands.entry("file").or_default() += count;
                seen.push(Seen::Commands { count });
            }
        } else if on_file && text.starts_with("fdatasync") && !is_start {
            assert!(call.contains("= 0"), "a sync that failed: {call}");
            seen.push(Seen::Synced);
        }
    }
    seen
}

#[test]
fn the_kernel_sees_write_then_sync_then_answer_for_every_acknowledged_write() {
    let dir = TempDir::new().unwrap();
    let ip = address(2);
    let trace = dir.path().join("trace");
    let trace_name = trace.to_string_lossy().into_owned();
    let calls = "trace=write,writev,sendto,sendmsg,fdatasync,fsync";
    let wrapper = ["strace", "-f", "-yy", "-s", "100000", "-e", calls, "-o", &trace_name];
    assert!(
        Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok(),
        "strace is needed (Debian: apt install strace)"
    );
    let mut server = Server::start(dir.path(), &ip, &wrapper);
    server.ready();
    std::thread::scope(|threads| {
        for client in 0..4 {
            let ip = &ip;
            threads.spawn(move || {
                let mut connection = Connection::open(ip).unwrap();
                for number in 0..60 {
                    let element = format!("{client}.{number}");
                    assert!(connection.ask(&["RPUSH", "list", &element]).unwrap().starts_with(':'));
                }
            });
        }
    });
    let mut connection = server.ready();
    // strace ends with the server; killed itself it would leave the server behind.
    connection.send(&["SHUTDOWN", "NOSAVE"]);
    server.child.wait().unwrap();
    let text = std::fs::read_to_string(&trace).unwrap();
    let (mut written, mut synced, mut answered) = (0, 0, 0);
    for event in read_trace(&text) {
        match event {
            Seen::Commands { count } => written += count,
            Seen::Synced => synced = written,
            Seen::Answer { at, number } => {
                // The n-th RPUSH is answered with n.
                assert!(number <= synced, "line {at}: {number} was answered, {synced} were synced");
                answered += 1;
            }
        }
    }
    assert_eq!((written, answered), (240, 240), "the trace shows all of it");
}
