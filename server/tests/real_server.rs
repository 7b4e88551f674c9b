//! Beside a real redis-server 7.0: the same requests get the same bytes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

mod side_by_side;

use std::fmt::Write as _;
use std::io::{Read, Write};

use side_by_side::{Client, Kind, Server};

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
