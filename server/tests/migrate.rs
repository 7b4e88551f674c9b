//! Keys on their way between our node and real servers, both ways: DUMP, RESTORE, MIGRATE, DEBUG DIGEST.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

#[path = "side_by_side/programs.rs"]
mod programs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use programs::{ours, redis, redis_7_0};
use tempfile::TempDir;

const PORT: u16 = 7000;

/// A server process on an address of its own, and a connection to it.
struct Server {
    ip: String,
    child: Child,
    stream: BufReader<TcpStream>,
    _dir: TempDir,
}

impl Server {
    fn start(program: &PathBuf, number: u8, more: &[&str]) -> Self {
        let ip = format!("127.22.{}.{number}", std::process::id() % 250 + 1);
        let dir = TempDir::new().unwrap();
        let (port, place) = (PORT.to_string(), dir.path().to_string_lossy().into_owned());
        let mut args =
            vec!["--bind", &ip, "--port", &port, "--protected-mode", "no", "--dir", &place, "--save", ""];
        args.extend(more);
        let child = Command::new(program).args(&args).stdout(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{} is needed: {error}", program.display()));
        let until = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match TcpStream::connect((ip.as_str(), PORT)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "{} on {ip}: {error}", program.display()),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut server = Self { ip, child, stream: BufReader::new(stream), _dir: dir };
        loop {
            match server.ask(&["PING"]).as_str() {
                "PONG" => break server,
                loading => assert!(loading.starts_with("-LOADING") && Instant::now() < until, "{loading}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn send(&mut self, words: &[impl AsRef<[u8]>]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    /// One reply; elements of an array one after the other, each followed by a space.
    fn hear(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).unwrap();
        line.truncate(line.len() - 2);
        let number = || std::str::from_utf8(&line[1..]).unwrap().parse::<i64>().unwrap();
        match line[0] {
            b'$' if number() < 0 => b"(nil)".to_vec(),
            b'$' => {
                let mut bytes = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                bytes
            }
            b'*' => (0..number()).flat_map(|_| [self.hear(), b" ".to_vec()].concat()).collect(),
            b'-' => line,
            _ => line.split_off(1),
        }
    }

    fn ask_bytes(&mut self, words: &[impl AsRef<[u8]>]) -> Vec<u8> {
        self.send(words);
        self.hear()
    }

    fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> String {
        String::from_utf8_lossy(&self.ask_bytes(words)).into_owned()
    }

    fn digest(&mut self) -> String {
        self.ask(&["DEBUG", "DIGEST"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Noise that is the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn text(&mut self, len: u64, letters: u64) -> Vec<u8> {
        (0..len).map(|_| b'a' + self.below(letters) as u8).collect()
    }
}

/// Makes the words that stand for one element.
type Element = Box<dyn FnMut(&mut Noise, u64) -> Vec<Vec<u8>>>;

/// The command that makes a key of every type and encoding in turn.
fn make(key: &str, index: u64, noise: &mut Noise) -> Vec<Vec<u8>> {
    let mut words = |name: &str, count: u64, mut element: Element| {
        let mut words = vec![name.as_bytes().to_vec(), key.as_bytes().to_vec()];
        (0..count).for_each(|place| words.extend(element(noise, place)));
        words
    };
    let number = |noise: &mut Noise| {
        let bits = noise.below(62) + 1;
        let number = (noise.0 >> (64 - bits)) as i64;
        if noise.below(2) == 0 { -number } else { number }.to_string().into_bytes()
    };
    let small = index / 10 % 9 + 1;
    match index % 10 {
        0 => words("SET", 1, Box::new(move |noise, _| vec![number(noise)])),
        1 => words("SET", 1, Box::new(move |noise, _| vec![noise.text(small * 9, 3)])),
        2 => words("SET", 1, Box::new(move |noise, _| vec![noise.text(small * 700, 2)])),
        3 => words("RPUSH", small, Box::new(move |noise, _| vec![number(noise)])),
        4 => words("RPUSH", small * 30, Box::new(move |noise, _| vec![noise.text(small * 20, 5)])),
        5 => words("SADD", small * 9, Box::new(move |noise, _| vec![number(noise)])),
        6 => words("SADD", small, Box::new(move |noise, _| vec![noise.text(8, 20)])),
        7 => words(
            "HSET",
            small,
            Box::new(move |noise, at| vec![format!("f{at}").into_bytes(), number(noise)]),
        ),
        8 => words(
            "HSET",
            small,
            Box::new(move |noise, at| vec![format!("f{at}").into_bytes(), noise.text(small * 20, 4)]),
        ),
        _ => words(
            "HSET",
            600,
            Box::new(move |noise, at| vec![format!("f{at}").into_bytes(), noise.text(5, 9)]),
        ),
    }
}

fn fill(server: &mut Server, keys: u64) -> Vec<String> {
    let mut noise = Noise(keys);
    let mut names = Vec::new();
    for index in 0..keys {
        let key = format!("key:{index}");
        server.send(&make(&key, index, &mut noise));
        server.hear();
        if index % 3 == 0 {
            assert_eq!(server.ask(&["PEXPIRE", &key, &(600_000 + index).to_string()]), "1");
        }
        names.push(key);
    }
    names
}

/// Moves all keys in batches; gives the time that each took to move at most.
fn move_all(from: &mut Server, to: &mut Server, keys: &[String], batch: usize) {
    let before = from.digest();
    let lives = from.ask(&["PTTL", &keys[0]]).parse::<i64>().unwrap();
    for keys in keys.chunks(batch) {
        let mut words = vec!["MIGRATE", &to.ip, "7000", "", "0", "60000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        assert_eq!(from.ask(&words), "OK");
    }
    assert_eq!(from.ask(&["DBSIZE"]), "0");
    assert_eq!(to.digest(), before);
    let left = to.ask(&["PTTL", &keys[0]]).parse::<i64>().unwrap();
    assert!((lives - 60_000..=lives).contains(&left), "{lives} ms became {left} ms");
}

const OURS: &[&str] = &["--cluster-enabled", "no", "--enable-debug-command", "yes"];

#[test]
fn ten_thousand_keys_of_all_types_go_to_a_real_server_and_back() {
    let mut ours = Server::start(&ours(), 1, OURS);
    let mut real = Server::start(&redis_7_0(), 2, &["--enable-debug-command", "yes"]);
    let keys = fill(&mut ours, 10_000);
    move_all(&mut ours, &mut real, &keys, 100);
    move_all(&mut real, &mut ours, &keys, 100);
    assert_eq!(ours.ask(&["DBSIZE"]), "10000");
}

#[test]
fn keys_come_from_an_older_server_which_refuses_what_is_newer() {
    let Some(old) = redis("v=6.2.") else {
        eprintln!("no redis-server 6.2 on the PATH: not compared with one");
        return;
    };
    let mut ours = Server::start(&ours(), 3, OURS);
    let mut old = Server::start(&old, 4, &[]);
    let keys = fill(&mut old, 1_000);
    move_all(&mut old, &mut ours, &keys, 10);
    // Newer payloads are refused there, as a real 7.0's are, and nothing is lost by that.
    let refused = ours.ask(&["MIGRATE", &old.ip, "7000", &keys[0], "0", "60000"]);
    assert_eq!(
        refused,
        "-ERR Target instance replied with error: ERR DUMP payload version or checksum are wrong"
    );
    assert_eq!(ours.ask(&["EXISTS", &keys[0]]), "1");
}

#[test]
fn the_same_value_gives_the_same_payload_and_digest() {
    let mut ours = Server::start(&ours(), 5, OURS);
    let mut real = Server::start(&redis_7_0(), 6, &["--enable-debug-command", "yes"]);
    fill(&mut ours, 300);
    for key in fill(&mut real, 300) {
        let digests = [&mut ours, &mut real].map(|server| server.ask(&["DEBUG", "DIGEST-VALUE", &key]));
        assert_eq!(digests[0], digests[1], "{key}");
        let encoding = real.ask(&["OBJECT", "ENCODING", &key]);
        if encoding != "hashtable" {
            let payloads = [&mut ours, &mut real].map(|server| server.ask_bytes(&["DUMP", &key]));
            assert_eq!(payloads[0], payloads[1], "{key} ({encoding})");
        }
    }
    assert_eq!(ours.digest(), real.digest());
    assert_eq!(ours.ask(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(ours.digest(), real.digest());
}

#[test]
fn the_same_mistakes_get_the_same_answers() {
    let mut ours = Server::start(&ours(), 7, OURS);
    let mut real = Server::start(&redis_7_0(), 8, &["--enable-debug-command", "yes"]);
    let nobody = format!("127.22.{}.250", std::process::id() % 250 + 1);
    let lines = format!(
        "SET a b|DUMP none|RESTORE a 0 x|RESTORE a 0 x REPLACE|RESTORE k -1 x|RESTORE k x x|RESTORE k 0 x FOO|\
         RESTORE k 0 x FREQ 256|RESTORE k 0 x IDLETIME -1|RESTORE k 0 x FREQ 1 IDLETIME 1|RESTORE k 0 x IDLETIME|\
         MIGRATE {nobody} 1 none 0 100|MIGRATE {nobody} 1 a 0 100|MIGRATE {nobody} 1 a 0 100 KEYS a|\
         MIGRATE {nobody} 1 a 0 x|MIGRATE {nobody} 1 a x 100|MIGRATE {nobody} 1 a 0 100 AUTH|\
         MIGRATE {nobody} 1 a 0 100 AUTH2 x|MIGRATE {nobody} 1 a 0 100 FOO|COMMAND GETKEYS DUMP a|\
         COMMAND GETKEYS MIGRATE h 1 a 0 1|DEBUG DIGEST-VALUE none|DEBUG OBJECT none|DEBUG FOO|FUNCTION LIST|\
         FUNCTION DUMP|FUNCTION RESTORE x|FUNCTION FLUSH|FUNCTION FLUSH X|FUNCTION DELETE x|FUNCTION STATS|\
         REPLCONF rdb-only 1|REPLCONF rdb-filter-only functions|REPLCONF rdb-filter-only x|REPLCONF rdb-only 2"
    );
    for line in lines.split('|') {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(ours.ask(&words), real.ask(&words), "{line}");
    }
}

#[test]
fn a_restored_key_reaches_replicas_with_its_absolute_time() {
    let mut ours = Server::start(&ours(), 9, OURS);
    let master = ours.ip.clone();
    let mut replica = Server::start(&redis_7_0(), 10, &["--enable-debug-command", "yes"]);
    assert_eq!(ours.ask(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]), "OK");
    assert_eq!(replica.ask(&["REPLICAOF", &master, "7000"]), "OK");
    ours.ask(&["SET", "a", "1"]);
    let payload = ours.ask_bytes(&["DUMP", "a"]);
    ours.ask_bytes(&[&b"RESTORE"[..], b"b", b"500000", &payload]);
    ours.ask_bytes(&[&b"RESTORE"[..], b"c", b"0", &payload]);
    // In the past: the old key goes, no new one comes.
    ours.ask_bytes(&[&b"RESTORE"[..], b"a", b"1000", &payload, b"REPLACE", b"ABSTTL"]);
    assert_eq!(ours.ask(&["MGET", "a", "b", "c"]), "(nil) 1 1 ");
    let until = Instant::now() + Duration::from_secs(30);
    while replica.digest() != ours.digest() {
        assert!(Instant::now() < until, "{}", replica.ask(&["KEYS", "*"]));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(replica.ask(&["PEXPIRETIME", "b"]), ours.ask(&["PEXPIRETIME", "b"]));
}

#[test]
fn what_is_in_the_file_is_what_was_in_memory() {
    let with_file = [OURS, &["--appendonly", "yes"]].concat();
    let mut ours = Server::start(&ours(), 11, &with_file);
    let keys = fill(&mut ours, 300);
    let payload = ours.ask_bytes(&["DUMP", &keys[4]]);
    ours.ask_bytes(&[&b"RESTORE"[..], b"again", b"500000", &payload]);
    let before = ours.digest();
    assert_eq!(ours.ask(&["DEBUG", "LOADAOF"]), "OK");
    assert_eq!(ours.ask(&["DBSIZE"]), "301");
    assert_eq!(ours.digest(), before);
    // And it goes on from there.
    ours.ask(&["SET", "one", "more"]);
    let before = ours.digest();
    assert_eq!(ours.ask(&["DEBUG", "LOADAOF"]), "OK");
    assert_eq!(ours.digest(), before);
}
