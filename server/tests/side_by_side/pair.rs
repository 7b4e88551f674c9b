//! Both servers with a connection to each, and what they said differently.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{Client, Kind, Server};

const LOG: &str = "appendonlydir/appendonly.aof.1.incr.aof";

/// A reply, of a request, as far as both servers must agree.
pub type Comparable = fn(&str, &str) -> String;

/// Both servers, and a connection to each: the real one first.
pub struct Pair {
    pub servers: [Server; 2],
    pub clients: [Client; 2],
    comparable: Comparable,
    differences: String,
}

impl Pair {
    /// Starts both, on the addresses `number` and the next.
    pub fn start(number: u8, args: &[&str], comparable: Comparable) -> Self {
        let servers = [Server::start(Kind::Redis, number, args), Server::start(Kind::Ours, number + 1, args)];
        let clients = [0, 1].map(|which: usize| Client::connect(&servers[which].ip).unwrap());
        Self { servers, clients, comparable, differences: String::new() }
    }

    /// Another connection to each.
    pub fn connect(&self) -> [Client; 2] {
        [0, 1].map(|which: usize| Client::connect(&self.servers[which].ip).unwrap())
    }

    /// Asks both; notes what differs. Gives what the real one says.
    pub fn ask(&mut self, line: &str) -> String {
        let replies = self.clients.each_mut().map(|client| client.ask(line));
        self.compare(line, replies)
    }

    /// Asks both what they need not answer alike.
    pub fn ask_only(&mut self, line: &str) {
        both_ask(&mut self.clients, line);
    }

    /// Notes it if two replies differ; gives the real one's.
    pub fn compare(&mut self, what: &str, replies: [String; 2]) -> String {
        let [redis, ours] = replies;
        if (self.comparable)(what, &redis) != (self.comparable)(what, &ours) {
            // Writing to a string cannot fail.
            let _ = write!(self.differences, "\n{what}\n  redis {redis:.400}\n  ours  {ours:.400}");
        }
        redis
    }

    /// Asks both each request of a written file; empty lines and those that begin with `#` are none.
    pub fn ask_written(&mut self, requests: &str) {
        for line in requests.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            self.ask(line);
        }
    }

    /// Several connections begin to wait, one after the other; the first one acts; then those that wait were told the
    /// same, or nothing.
    pub fn ask_while_waiting(&mut self, protocol: &str, waits: &[&str], actions: &[&str]) {
        let mut waiting = Vec::new();
        for line in waits {
            let mut both = self.connect();
            both_ask(&mut both, &format!("HELLO {protocol}"));
            assert!(both.iter_mut().all(|client| client.begin(line)));
            waiting.push(both);
            a_moment();
        }
        for line in actions {
            self.ask(line);
        }
        for (both, line) in waiting.iter_mut().zip(waits) {
            for client in both.iter_mut() {
                client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            }
            let replies = both.each_mut().map(Client::finish);
            self.compare(&format!("{line} (RESP{protocol}) after {actions:?}"), replies);
        }
    }

    /// No reply differed so far.
    pub fn assert_same_replies(&self) {
        assert!(self.differences.is_empty(), "{:.20000}", self.differences);
    }

    /// No reply differed so far, and the same was written to the append-only files.
    pub fn assert_equal(&self) {
        self.assert_same_replies();
        let logs = || {
            self.servers
                .each_ref()
                .map(|server| String::from_utf8_lossy(&server.file(LOG)).replace("\r\n", "|"))
                .map(|log| (self.comparable)("", &log))
        };
        // Both may put a write off while they sync.
        let until = Instant::now() + Duration::from_secs(10);
        let mut both = logs();
        while both[0] != both[1] && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            both = logs();
        }
        let [redis, ours] = both;
        let at = redis.bytes().zip(ours.bytes()).take_while(|(a, b)| a == b).count();
        let near = |text: &str| {
            let bytes = &text.as_bytes()[at.saturating_sub(200).min(text.len())..(at + 200).min(text.len())];
            String::from_utf8_lossy(bytes).into_owned()
        };
        assert!(
            redis == ours,
            "append-only files differ:\n  redis {}\n  ours  {}",
            near(&redis),
            near(&ours)
        );
        assert!(redis.len() > 50, "something was written");
    }
}

/// A moment for a command to be waiting on both servers.
pub fn a_moment() {
    std::thread::sleep(Duration::from_millis(60));
}

/// Asks both what they need not answer alike.
pub fn both_ask(clients: &mut [Client; 2], line: &str) {
    for client in clients {
        client.ask(line);
    }
}

/// A small generator of numbers, so that a seed gives the same requests for ever.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }

    pub fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    pub fn maybe(&mut self, sides: usize, word: &'static str) -> &'static str {
        if self.one_in(sides) { word } else { "" }
    }
}
