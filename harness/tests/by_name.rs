//! The binary called redis-server and redis-cli: its client side by side with Debian's redis-cli 7.0.15 on the same
//! server, its server with the flags that only it takes.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // real processes

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::REDIS_SERVER;
use common::lock::real_processes;
use common::servers::{Connection, Kind, Reply, Servers, program};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};

/// Debian's; `scripts/test` installs it.
const REDIS_CLI: &str = "/usr/bin/redis-cli";
const PORT: &str = "7000";

/// A folder with the binary under its two other names, and servers that end with it.
struct Bench {
    folder: tempfile::TempDir,
    ip: String,
    servers: Vec<Child>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["redis-server", "redis-cli"] {
            symlink(env!("CARGO_BIN_EXE_slotstorm"), folder.path().join(name)).expect("a link");
        }
        Self { folder, ip: format!("127.58.{}.1", std::process::id() % 250 + 1), servers: Vec::new() }
    }

    fn link(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a server in the folder; what it says goes to `log`.
    fn start(&mut self, program: &Path, args: &[&str]) {
        let log = File::create(self.folder.path().join("log")).expect("a log file");
        let child = Command::new(program)
            .args(["--bind", &self.ip, "--port", PORT])
            .args(args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.servers.push(child);
        let begun = Instant::now();
        while !matches!(self.ask(&["PING"]), Some(Reply::SimpleString(_))) {
            assert!(begun.elapsed() < Duration::from_secs(10), "no answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn start_redis(&mut self) {
        self.start(Path::new(program(REDIS_SERVER)), &["--save", "", "--enable-debug-command", "yes"]);
    }

    fn stop(&mut self) {
        for mut server in self.servers.drain(..) {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    fn ask(&self, words: &[&str]) -> Option<Reply> {
        Connection::open(&format!("{}:{PORT}", self.ip)).ok()?.ask(words).ok()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs both clients, original first.
    fn both(&self, run: impl Fn(&Path) -> Outcome) -> [Outcome; 2] {
        [Path::new(program(REDIS_CLI)), &self.link("redis-cli")].map(run)
    }

    /// Both clients with these arguments and standard input must do the same.
    fn same(&self, args: &[&str], input: &[u8]) {
        let [original, ours] = self.both(|client| {
            let mut command = Command::new(client);
            command.args(["-h", &self.ip, "-p", PORT]).args(args);
            piped(command, input)
        });
        assert_eq!(ours, original, "redis-cli {args:?}");
    }

    /// The same with standard output on a terminal.
    fn same_on_terminal(&self, args: &[&str], input: &[u8]) {
        let [original, ours] = self.both(|client| {
            let mut command = Command::new(client);
            command.args(["-h", &self.ip, "-p", PORT]).args(args);
            on_terminal(command, input)
        });
        assert_eq!(ours, original, "redis-cli {args:?} on a terminal");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a program printed and its exit code.
#[derive(PartialEq)]
struct Outcome {
    out: Vec<u8>,
    err: Vec<u8>,
    code: Option<i32>,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { out, err, code } = self;
        write!(f, "{code:?} out \"{}\" err \"{}\"", out.escape_ascii(), err.escape_ascii())
    }
}

fn piped(mut command: Command, input: &[u8]) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // A program that does not read its input closes it.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    Outcome { out: output.stdout, err: output.stderr, code: output.status.code() }
}

/// What was last written to a terminal may be lost to its reader when the writer ends; so the terminal is held open here,
/// and the screen read up to a mark that follows everything.
fn on_terminal(mut command: Command, input: &[u8]) -> Outcome {
    const END: &[u8] = b"\0the end\0";
    let (mut screen, terminal) = terminal();
    let mut held = File::from(terminal.try_clone().expect("a descriptor"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(terminal).stderr(Stdio::piped()).spawn().expect("it starts");
    let reader = std::thread::spawn(move || {
        let mut out = Vec::new();
        let mut piece = [0; 4096];
        while !out.ends_with(END) {
            let count = screen.read(&mut piece).expect("the mark comes first");
            out.extend_from_slice(&piece[..count]);
        }
        out.truncate(out.len() - END.len());
        out
    });
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    held.write_all(END).expect("the terminal is open");
    Outcome { out: reader.join().expect("all was read"), err: output.stderr, code: output.status.code() }
}

/// A pseudo terminal that changes nothing: the side of the person, the side of the program.
fn terminal() -> (File, std::os::fd::OwnedFd) {
    let pair = openpty(None, None).expect("a pseudo terminal");
    let mut modes = tcgetattr(&pair.slave).expect("a terminal");
    modes.output_flags.remove(OutputFlags::OPOST);
    modes.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &modes).expect("a terminal");
    (File::from(pair.master), pair.slave)
}

const STYLES: &[&[&str]] = &[
    &[],
    &["--no-raw"],
    &["--csv"],
    &["--json"],
    &["--quoted-json", "-2"],
    &["-3"],
    &["-3", "--no-raw"],
    &["-3", "--csv"],
    &["--raw", "-d", ";", "-D", "!"],
];

/// Commands whose replies have every shape, and that can be repeated.
const COMMANDS: &[&str] = &[
    "GET nosuch",
    "GET text",
    "LRANGE list 0 -1",
    "HGETALL hash",
    "HGETALL nosuch",
    "ZRANGE zset 0 -1 WITHSCORES",
    "SMEMBERS set",
    "INCRBY n 0",
    "NOSUCHCOMMAND x",
    "LPUSH text x",
    "INFO replication",
    "CONFIG GET s*e",
    "MGET text nosuch list",
    "XRANGE stream - +",
    "EVAL return{1,{2,{3,'x'},4},'y',{err='bad'}} 0",
    "COMMAND INFO get nosuch",
    "COMMAND DOCS get",
    "DEBUG PROTOCOL map",
    "DEBUG PROTOCOL set",
    "DEBUG PROTOCOL double",
    "DEBUG PROTOCOL true",
    "DEBUG PROTOCOL verbatim",
    "DEBUG PROTOCOL push",
    "DEBUG PROTOCOL null",
];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn fill(bench: &Bench) {
    for line in [
        "SET text ü\"\\\u{1}\r\n\u{7}",
        "RPUSH list a b c d e f g h i j k l",
        "HSET hash f1 v1 f2 2",
        "ZADD zset 1.5 a 2 b",
        "SADD set x",
        "XADD stream 1-1 f v",
    ] {
        assert!(!matches!(bench.ask(&words(line)), None | Some(Reply::Error(_))), "{line}");
    }
}

#[test]
fn replies_are_printed_as_redis_cli_prints_them() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    bench.start_redis();
    fill(&bench);
    for style in STYLES {
        for command in COMMANDS {
            bench.same(&[*style, &words(command)].concat(), b"");
        }
    }
    for command in COMMANDS {
        bench.same_on_terminal(&words(command), b"");
    }
    bench.same_on_terminal(&["-3", "HGETALL", "hash"], b"");
    bench.same_on_terminal(&["--scan"], b"");
}

#[test]
fn options_and_exit_codes_are_those_of_redis_cli() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    bench.start_redis();
    fill(&bench);
    let ip = bench.ip.clone();
    let uri = format!("redis://{ip}:{PORT}/2");
    let bad_login = format!("redis://bob:x@{ip}:{PORT}");
    let lines: &[&[&str]] = &[
        &["-e", "GET"],
        &["-e", "GET", "text"],
        &["-n", "3", "SET", "a", "1"],
        &["-n", "99", "GET", "a"],
        &["-r", "3", "STRLEN", "text"],
        &["-r", "2", "-i", "0.01", "PING"],
        &["-a", "wrong", "GET", "text"],
        &["--no-auth-warning", "-a", "wrong", "GET", "text"],
        &["--user", "bob", "--pass", "x", "GET", "text"],
        &["-u", &uri, "GET", "text"],
        &["-u", &bad_login, "GET", "text"],
        &["-u", "http://x", "GET", "text"],
        &["-p", "7999", "GET", "text"],
        &["--nonsense"],
        &["-p"],
        &["-2", "-3", "GET", "text"],
        &["-x", "-X", "tag", "GET"],
        &["-X", "tag", "GET", "text"],
        &["--scan", "--pattern", "*s*"],
        &["--quoted-input", "GET", "\"\\x74ext\""],
        &["--quoted-input", "GET", "\"text"],
        &["--quoted-pattern", "\"lis\\x74\"", "--scan"],
        &["-s", "/nosuch", "GET", "text"],
        &["-c", "-s", "/x", "GET", "text"],
        &["--eval", "/nosuch"],
        &["SUBSCRIBE"],
    ];
    for line in lines {
        bench.same(line, b"");
    }
    bench.same(&["-x", "SET", "piped"], b"from\0stdin\r\n");
    bench.same(&["-X", "it", "SET", "it", "it"], b"tagged");
    bench.same(&["GET", "piped"], b"");
    let script = bench.link("script.lua");
    std::fs::write(&script, "return {KEYS[1], ARGV[1], #KEYS}").unwrap();
    bench.same(&["--eval", script.to_str().unwrap(), "k1", "k2", ",", "a1"], b"");
    bench.same(&["--pipe"], b"SET piped 1\r\n*2\r\n$3\r\nGET\r\n$5\r\npiped\r\n");
    bench.same(&["--pipe"], b"SET piped\r\n");
}

#[test]
fn lines_from_a_pipe_are_a_session() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    bench.start_redis();
    fill(&bench);
    let sessions: &[&str] = &[
        "SET a 1\nMULTI\nINCRBY a 0\nEXEC\n3 STRLEN a\n\"unbalanced\n\n-1 GET a\nHGET\nexit\nGET a\n",
        "SET text 1\nHGETALL hash\n CLIENT  TRACKING on\nGET text\nSET text 'it\\'s'\nPING\n",
        "SELECT 3\nMULTI\nSELECT 4\nNOSUCH\nEXEC\nGET a\nMULTI\nDISCARD\nRESET\nPING\n",
        ":set hints\n:set foo\n:foo\nrestart\nCONNECT 127.0.0.1 1\nPING\nquit\n",
    ];
    for session in sessions {
        for protocol in ["-2", "-3"] {
            bench.same(&[protocol], session.as_bytes());
            bench.same_on_terminal(&[protocol], session.as_bytes());
        }
    }
}

#[test]
fn redirections_are_followed_and_told() {
    let _lock = real_processes();
    let servers = Servers::start(&[Kind::Embedded, Kind::Redis], 5000);
    let [first, second] = servers.nodes.as_slice() else { unreachable!() };
    first.must(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    second.must(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    first.must(&["CLUSTER", "MEET", &second.ip, "7000"]);
    servers.until("the cluster is whole", Duration::from_secs(20), |s| s.all_ok(2).then_some(()));
    // foo is in slot 12182, hello in 866.
    let bench = Bench::new();
    let [original, ours] = bench.both(|client| {
        let mut command = Command::new(client);
        command.args(["-c", "-h", &first.ip, "-p", "7000"]);
        piped(command, b"SET foo 1\nSET hello 2\n2 GET foo\nMGET foo hello\n")
    });
    assert_eq!(ours, original);
    let told = format!("-> Redirected to slot [12182] located at {}:7000\n", second.ip);
    assert!(String::from_utf8_lossy(&ours.out).starts_with(&told), "{ours:?}");
    // A slot on its way: the key is not here, ASK says where.
    second.must(&["CLUSTER", "SETSLOT", "866", "IMPORTING", &first.id()]);
    first.must(&["CLUSTER", "SETSLOT", "866", "MIGRATING", &second.id()]);
    let [original, ours] = bench.both(|client| {
        let mut command = Command::new(client);
        command.args(["-c", "-h", &first.ip, "-p", "7000", "SET", "{hello}new", "there"]);
        piped(command, b"")
    });
    assert_eq!(ours, original);
    assert_eq!(ours.out, b"OK\n");
}

/// A person at a terminal.
struct Person {
    keys: File,
    screen: std::sync::mpsc::Receiver<Vec<u8>>,
    seen: String,
    client: Child,
}

impl Person {
    fn sits_down(bench: &Bench) -> Self {
        let (keys, terminal) = terminal();
        let client = Command::new(bench.link("redis-cli"))
            .args(["-h", &bench.ip, "-p", PORT])
            .env("REDISCLI_HISTFILE", bench.link("history"))
            .env("TERM", "xterm")
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal)
            .spawn()
            .expect("it starts");
        let mut reader = keys.try_clone().unwrap();
        let (pieces, screen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                if pieces.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keys, screen, seen: String::new(), client }
    }

    fn types(&mut self, text: &str) {
        self.seen.clear();
        self.keys.write_all(text.as_bytes()).expect("somebody reads");
    }

    #[track_caller]
    fn sees(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.seen.contains(text) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{text:?} is not in {:?}", self.seen);
            if let Ok(piece) = self.screen.recv_timeout(Duration::from_millis(100)) {
                self.seen.push_str(&String::from_utf8_lossy(&piece));
            }
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
fn the_prompt_says_where_one_is() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    bench.start_redis();
    let place = format!("{}:{PORT}", bench.ip);
    let mut person = Person::sits_down(&bench);
    person.sees(&format!("{place}> "));
    person.types("select 3\r");
    person.sees(&format!("{place}[3]> "));
    person.types("multi\r");
    person.sees(&format!("{place}[3](TX)> "));
    person.types("discard\r");
    person.sees(&format!("{place}[3]> "));
    person.types("2 echo \"a b\"\r");
    person.sees("\"a b\"\n\"a b\"\n");
    person.types("auth secret\r");
    person.sees("ERR AUTH");
    bench.stop();
    person.types("ping\r");
    person.sees("not connected> ");
    bench.start_redis();
    person.types("ping\r");
    person.sees("PONG");
    person.types("\u{1b}[A\r"); // the line before: ping again
    person.sees("PONG");
    person.types("exit\r");
    assert!(person.client.wait().unwrap().success());
    let history = std::fs::read_to_string(bench.link("history")).unwrap();
    assert_eq!(history, "select 3\nmulti\ndiscard\n2 echo \"a b\"\nping\nexit\n");
}

#[test]
fn a_dump_fetched_from_our_server_is_loaded_by_redis() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    let server = bench.link("redis-server");
    bench.start(&server, &["--save", "", "--repl-diskless-sync-delay", "0"]);
    for i in 0..1000 {
        bench.ask(&["SET", &format!("key:{i}"), &i.to_string()]);
    }
    let mut command = Command::new(bench.link("redis-cli"));
    command.args(["-h", &bench.ip, "-p", PORT, "--rdb"]).arg(bench.link("fetched.rdb"));
    let fetched = piped(command, b"");
    assert_eq!(fetched.code, Some(0), "{fetched:?}");
    bench.stop();
    bench.start(Path::new(program(REDIS_SERVER)), &["--dbfilename", "fetched.rdb"]);
    assert_eq!(bench.ask(&["DBSIZE"]), Some(Reply::Integer(1000)));
}

#[test]
fn redis_server_is_a_cluster_node_where_a_cluster_file_is_named() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    let server = bench.link("redis-server");
    bench.start(&server, &["--cluster-config-file", "nodes-7000.conf", "--cluster-save-config"]);
    let saved = || std::fs::read_to_string(bench.link("nodes-7000.conf")).unwrap_or_default();
    let begun = Instant::now();
    while !(saved().contains("myself,master") && saved().contains("vars currentEpoch")) {
        assert!(begun.elapsed() < Duration::from_secs(2), "not saved at the start: {:?}", saved());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(bench.log().contains("cluster-enabled is not: running in cluster mode"), "{}", bench.log());
    assert!(matches!(bench.ask(&["CLUSTER", "MYID"]), Some(Reply::BulkString(_))));
    bench.stop();

    bench.start(&server, &["--appendonly", "no"]);
    assert!(matches!(bench.ask(&["CLUSTER", "MYID"]), Some(Reply::Error(_))));
}

#[test]
fn both_names_say_what_they_are() {
    let bench = Bench::new();
    let said = |name: &str, flag: &str| {
        let mut command = Command::new(bench.link(name));
        command.arg(flag);
        let outcome = piped(command, b"");
        assert_eq!(outcome.code, Some(0), "{name} {flag}: {outcome:?}");
        String::from_utf8(outcome.out).unwrap()
    };
    assert!(said("redis-server", "--version").starts_with("Redis server v=7.0.15 "));
    assert!(said("redis-server", "--help").contains("--cluster-save-config"));
    assert!(said("redis-cli", "--version").starts_with("redis-cli 7.0.15"));
    assert!(said("redis-cli", "--help").contains("--quoted-input"));
}
