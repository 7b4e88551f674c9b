//! The shell as a process, around a small machine that obeys lines of text: what the loop, the disk thread
//! and the start-up promise whatever the node does.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets, files and processes

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotstorm_node::config::{Config, Key};
use tempfile::TempDir;

const CLIENT_PORT: u16 = 7000;

// ---- The bench

/// The example program `obedient`, which cargo builds beside the tests.
fn server_command(dir: &Path, args: &[&str]) -> Command {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join("obedient");
    assert!(
        program.exists(),
        "cargo build -p slotstorm-server --example obedient, or run all tests of the crate"
    );
    let mut command = Command::new(program);
    command.args(args).current_dir(dir);
    command
}

/// A server that must refuse to start.
fn refused(dir: &Path, args: &[&str]) -> Output {
    let output = server_command(dir, args).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    output
}

struct Server {
    child: Child,
    dir: TempDir,
    ip: &'static str,
}

impl Server {
    fn start(ip: &'static str) -> Self {
        Self::start_in(TempDir::new().unwrap(), ip, &[])
    }

    fn start_in(dir: TempDir, ip: &'static str, more: &[&str]) -> Self {
        let port = CLIENT_PORT.to_string();
        let mut args =
            vec!["--bind", ip, "--port", &port, "--logfile", "server.log", "--pidfile", "server.pid"];
        args.extend(more);
        let child = server_command(dir.path(), &args).stdout(Stdio::null()).spawn().unwrap();
        let server = Self { child, dir, ip };
        server.wait_for_log("Ready to accept connections");
        server
    }

    fn wait_for_log(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < Duration::from_secs(20), "no '{text}' in the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect((self.ip, CLIENT_PORT)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }

    fn tell(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

// ---- Serving

#[test]
fn lines_come_back_in_order_also_when_many_are_sent_at_once_and_the_sender_closes_his_side() {
    let server = Server::start("127.24.0.1");
    let mut client = server.connect();
    let lines: String = "a line that comes back\n".repeat(50_000);
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn({
        let lines = lines.clone();
        move || {
            sender.write_all(lines.as_bytes()).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        }
    });
    let mut back = String::new();
    client.reader.read_to_string(&mut back).unwrap();
    sending.join().unwrap();
    assert!(lines.starts_with(&back), "what came back is what was sent, in order");
    assert!(back.len() > lines.len() / 2, "the answers to what was read before the end left: {}", back.len());
}

#[test]
fn who_does_not_read_is_not_read_and_nobody_else_suffers() {
    let server = Server::start("127.24.0.2");
    let flood = server.connect();
    // 400 MB are asked for and none of it is read.
    let mut sender = flood.stream.try_clone().unwrap();
    std::thread::spawn(move || sender.write_all("give 2000\n".repeat(200_000).as_bytes()));
    let mut other = server.connect();
    let started = Instant::now();
    for number in 0..100 {
        let line = format!("still there {number}");
        assert_eq!(other.ask(&line), line);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    std::thread::sleep(Duration::from_millis(300));
    let most: usize = other.ask("most").parse().unwrap();
    assert!((1_000_000..100_000_000).contains(&most), "{most} bytes waited for one client");
    drop(flood);
}

#[test]
fn an_answer_waits_until_its_write_is_on_disk_and_later_answers_wait_behind_it() {
    let server = Server::start("127.24.0.3");
    let mut client = server.connect();
    for round in 0..50 {
        client.tell(&format!("append {round},"));
        client.tell("after");
        assert_eq!(client.hear(), "appended");
        let on_disk = fs::read_to_string(server.dir.path().join("log")).unwrap();
        assert!(on_disk.ends_with(&format!("{round},")), "{on_disk}");
        assert_eq!(client.hear(), "after");
    }
}

#[test]
fn a_dial_comes_from_its_source_address_and_a_refused_one_says_so() {
    let server = Server::start("127.24.0.4");
    let peer = TcpListener::bind("127.24.0.40:7001").unwrap();
    let mut client = server.connect();
    assert_eq!(client.ask("dial 127.24.0.40:7001"), "connected from 127.24.9.9");
    let (mut accepted, from) = peer.accept().unwrap();
    assert_eq!(from.ip().to_string(), "127.24.9.9");
    let mut heard = String::new();
    accepted.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello\n", "it was closed after its outbox was written");
    drop(peer);
    assert!(client.ask("dial 127.24.0.40:7001").starts_with("failed: Connection refused"));
}

#[test]
fn a_close_with_flush_writes_all_and_then_ends() {
    let server = Server::start("127.24.0.5");
    let mut client = server.connect();
    client.tell("bye 5000000");
    let mut all = Vec::new();
    client.reader.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 5_000_001);
}

#[test]
fn a_deadline_wakes_the_machine_and_a_busy_machine_is_deaf() {
    let server = Server::start("127.24.0.6");
    let mut client = server.connect();
    let started = Instant::now();
    assert_eq!(client.ask("timer 150"), "ring");
    assert!((150..2000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    client.tell("busy 300");
    let started = Instant::now();
    assert_eq!(client.ask("x"), "x");
    assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
}

#[test]
fn a_file_comes_in_pieces_and_an_absent_one_is_told() {
    let server = Server::start("127.24.0.7");
    fs::write(server.dir.path().join("big"), vec![7; 600_000]).unwrap();
    let mut client = server.connect();
    assert_eq!(client.ask("read big"), "3 pieces, 600000 bytes, missing false");
    assert_eq!(client.ask("read none"), "1 pieces, 0 bytes, missing true");
}

// ---- Ends

#[test]
fn sigterm_ends_with_code_0_and_removes_the_pid_file_and_sighup_does_nothing() {
    let mut server = Server::start("127.24.0.8");
    let pid_file = server.dir.path().join("server.pid");
    assert_eq!(fs::read_to_string(&pid_file).unwrap().trim(), server.child.id().to_string());
    server.signal(Signal::SIGHUP);
    assert_eq!(server.connect().ask("there?"), "there?");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(!pid_file.exists());
    assert!(server.log().contains("Received SIGTERM scheduling shutdown..."));
}

#[test]
fn a_second_sigint_ends_a_machine_that_does_not_want_to() {
    let mut server = Server::start("127.24.0.9");
    let mut client = server.connect();
    assert_eq!(client.ask("hold"), "held");
    server.signal(Signal::SIGINT);
    server.wait_for_log("Received SIGINT");
    assert_eq!(client.ask("still"), "still");
    server.signal(Signal::SIGINT);
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
}

#[test]
fn what_was_given_to_the_disk_is_done_before_the_process_ends_and_its_answers_leave() {
    let mut server = Server::start("127.24.0.10");
    let mut client = server.connect();
    client.stream.write_all("append x\n".repeat(500).as_bytes()).unwrap();
    client.tell("exit 0");
    let mut answers = String::new();
    client.reader.read_to_string(&mut answers).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert_eq!(answers.lines().count(), 500);
    assert_eq!(fs::read(server.dir.path().join("log")).unwrap().len(), 500);
}

// ---- Starts

#[test]
fn a_taken_port_is_named_and_ends_with_code_1() {
    let dir = TempDir::new().unwrap();
    for (taken, name) in [(7100, "TCP"), (17100, "cluster")] {
        let _holder = TcpListener::bind(("127.24.0.11", taken)).unwrap();
        let output = refused(dir.path(), &["--bind", "127.24.0.11", "--port", "7100"]);
        let log = String::from_utf8(output.stdout).unwrap();
        assert!(log.contains("bind: Address already in use"), "{log}");
        assert!(log.contains(&format!("Failed listening on port {taken} ({name}), aborting.")), "{log}");
    }
}

#[test]
fn a_second_server_on_the_same_nodes_conf_is_refused_and_leaves_the_first_alone() {
    let server = Server::start("127.24.0.12");
    let args = ["--bind", "127.24.0.13", "--port", "7000", "--dir", server.dir.path().to_str().unwrap()];
    let output = refused(server.dir.path(), &args);
    let log = String::from_utf8(output.stdout).unwrap();
    let said =
        "Sorry, the cluster configuration file nodes.conf is already used by a different Redis Cluster node";
    assert!(log.contains(said), "{log}");
    assert_eq!(server.connect().ask("there?"), "there?");
}

#[test]
fn wrong_configuration_is_shown_as_redis_shows_it() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("my.conf"), "port 7000\nhz abc\n").unwrap();
    let said = |args: &[&str]| String::from_utf8(refused(dir.path(), args).stderr).unwrap();
    let error = said(&["my.conf"]);
    assert!(error.contains("*** FATAL CONFIG FILE ERROR ("), "{error}");
    let rest = "Reading the configuration file, at line 2\n>>> 'hz abc'\n\
                argument couldn't be parsed into an integer\n";
    assert!(error.ends_with(rest), "{error}");
    assert!(said(&["--prot", "1"]).contains(">>> 'prot \"1\"'\nBad directive or wrong number of arguments"));
    assert!(said(&["none.conf"]).contains("can't open config file"));
    assert!(
        said(&["--dir", "/nonexistent"]).contains("Can't chdir to '/nonexistent': No such file or directory")
    );
    assert!(
        said(&["--logfile", "/nonexistent/x"]).contains("Can't open the log file: No such file or directory")
    );
    assert!(said(&["--port", "60000"]).contains("port number too high"));
}

#[test]
fn includes_are_expanded_and_an_optional_address_may_be_missing() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    fs::write(dir.path().join("conf.d/1.conf"), "port 1\nbind 127.24.0.14 -192.0.2.1 -::ffff\n").unwrap();
    fs::write(dir.path().join("conf.d/2.conf"), "port 7000\n").unwrap();
    fs::write(dir.path().join("my.conf"), "include conf.d/*.conf\nlogfile server.log\n").unwrap();
    let child = server_command(dir.path(), &["my.conf"]).stdout(Stdio::null()).spawn().unwrap();
    let server = Server { child, dir, ip: "127.24.0.14" };
    server.wait_for_log("Ready to accept connections");
    assert_eq!(server.connect().ask("there?"), "there?");
    assert!(server.log().contains("Running mode=cluster, port=7000."), "{}", server.log());
}

#[test]
fn the_default_configuration_is_the_one_of_a_default_server() {
    // What `Boot` hands to the machine: cluster mode without a word about it.
    let config = Config::load(slotstorm_node::config::Source::default(), &mut |_| Ok(Vec::new())).unwrap();
    assert!(config.flag(Key::ClusterEnabled));
    assert_eq!(config.bus_port(), 16_379);
}
