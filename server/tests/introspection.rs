//! What the server tells of its commands, its clients and itself, beside a real redis-server 7.0.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

mod side_by_side;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};

use side_by_side::{Client, Kind, Server};

const STANDALONE: [&str; 4] = ["--cluster-enabled", "no", "--save", ""];

/// One reply as text; parts that come in the order of a hash table are sorted.
struct Replies {
    stream: BufReader<std::net::TcpStream>,
}

impl Replies {
    fn of(server: &Server) -> Self {
        Self { stream: BufReader::new(Client::connect(&server.ip).unwrap().stream) }
    }

    fn ask(&mut self, words: &[&str]) -> String {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(request, "${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        self.reply()
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let (mark, rest) = line.trim_end().split_at(1);
        let number: i64 = rest.parse().unwrap_or(-1);
        match mark {
            "$" if number >= 0 => {
                let mut bytes = vec![0; number as usize + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                format!("${}", String::from_utf8_lossy(&bytes[..number as usize]))
            }
            "*" | "~" | ">" if number >= 0 => {
                let mut items: Vec<String> = (0..number).map(|_| self.reply()).collect();
                // Sub-commands: an array of entries that begin with `container|name`.
                if !items.is_empty() && items.iter().all(|item| item.starts_with("*[$") && item.contains('|'))
                {
                    items.sort();
                }
                format!("{mark}[{}]", items.join(", "))
            }
            "%" => {
                let mut pairs: Vec<String> =
                    (0..number).map(|_| format!("{} => {}", self.reply(), self.reply())).collect();
                if pairs.iter().all(|pair| pair.split(" =>").next().is_some_and(|key| key.contains('|'))) {
                    pairs.sort();
                }
                format!("%{{{}}}", pairs.join(", "))
            }
            _ => line.trim_end().to_owned(),
        }
    }
}

#[test]
fn every_command_is_described_as_a_redis_server_describes_it() {
    let (ours, redis) =
        (Server::start(Kind::Ours, 1, &STANDALONE), Server::start(Kind::Redis, 2, &STANDALONE));
    let (mut ours, mut redis) = (Replies::of(&ours), Replies::of(&redis));
    let list = ours.ask(&["COMMAND", "LIST"]);
    let names: Vec<&str> =
        list.split(['[', ']', ' ', ',', '$', '*']).filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 200, "{names:?}");
    let mut differences = String::new();
    for protocol in ["2", "3"] {
        ours.ask(&["HELLO", protocol]);
        redis.ask(&["HELLO", protocol]);
        for name in &names {
            // In RESP2 the order of a map's sub-commands cannot be told from its keys.
            let is_container = names.iter().any(|other| other.starts_with(&format!("{name}|")));
            for verb in ["INFO", "DOCS"] {
                if protocol == "2" && verb == "DOCS" && is_container {
                    continue;
                }
                let (got, expected) =
                    (ours.ask(&["COMMAND", verb, name]), redis.ask(&["COMMAND", verb, name]));
                if got != expected {
                    let _ =
                        write!(differences, "\n{protocol} {verb} {name}\n redis {expected}\n ours  {got}");
                }
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
