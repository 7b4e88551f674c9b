//! Sorted sets, and commands that wait for keys, beside a real redis-server 7.0: the same replies, the same DUMPs
//! and digests, the same append-only files, in RESP2 and RESP3, byte for byte.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

mod side_by_side;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use side_by_side::pair::{self, Pair, a_moment, both_ask};
use side_by_side::{Client, Kind, Server};

const ARGS: [&str; 12] = [
    "--cluster-enabled",
    "no",
    "--save",
    "",
    "--appendonly",
    "yes",
    "--zset-max-listpack-entries",
    "12",
    "--zset-max-listpack-value",
    "20",
    "--enable-debug-command",
    "yes",
];
/// The order of a big sorted set's ZSCAN is each server's own, and random is random: as many, but which?
fn in_any_order(line: &str, reply: &str) -> String {
    if line.starts_with("ZRANDMEMBER ") && !reply.starts_with('-') {
        let head = reply.split('|').next().unwrap_or_default();
        return if head.starts_with(['$', '_']) { head[..1].to_owned() } else { head.to_owned() };
    }
    let mut parts: Vec<&str> = reply.split('|').collect();
    if line.starts_with("ZSCAN ") {
        parts.sort_unstable();
    }
    parts.join("|")
}

/// Dice that throw requests on sorted sets.
struct Dice(pair::Dice);

impl std::ops::Deref for Dice {
    type Target = pair::Dice;
    fn deref(&self) -> &pair::Dice {
        &self.0
    }
}

impl std::ops::DerefMut for Dice {
    fn deref_mut(&mut self) -> &mut pair::Dice {
        &mut self.0
    }
}

impl Dice {
    const fn new(seed: u64) -> Self {
        Self(pair::Dice(seed))
    }

    /// Often a sorted set, sometimes nothing, sometimes something else.
    fn key(&mut self) -> &'static str {
        self.one_of(&["z1", "z1", "z2", "z2", "z3", "z4", "set", "none", "list"])
    }

    fn member(&mut self) -> String {
        match self.below(12) {
            0 => "a-member-that-is-longer-than-what-is-packed".to_owned(),
            1 => self.below(300).to_string(),
            _ => format!("m{}", self.below(25)),
        }
    }

    fn score(&mut self) -> String {
        match self.below(20) {
            0 => self
                .one_of(&[
                    "nan",
                    "x",
                    "1e400",
                    "\"\"",
                    "0x1p3",
                    "-0",
                    "+1.",
                    "1e-7",
                    "1e17",
                    "\" 1\"",
                    "-Infinity",
                ])
                .to_owned(),
            1 => self.one_of(&["inf", "-inf", "3.1", "-1e22", "0.1", "123456789012345678"]).to_owned(),
            2..=6 => format!("{}.5", self.below(30) as i64 - 10),
            _ => (self.below(40) as i64 - 15).to_string(),
        }
    }

    fn score_end(&mut self) -> String {
        let open = if self.one_in(4) { "(" } else { "" };
        format!("{open}{}", self.score())
    }

    fn lex_end(&mut self) -> String {
        let member = self.member();
        match self.below(6) {
            0 => "-".to_owned(),
            1 => "+".to_owned(),
            2 => format!("({member}"),
            3 if self.one_in(5) => member,
            _ => format!("[{member}"),
        }
    }

    fn rank(&mut self) -> String {
        if self.one_in(40) { "x".to_owned() } else { (self.below(40) as i64 - 15).to_string() }
    }

    fn limit(&mut self) -> String {
        match self.below(4) {
            0 => format!(" LIMIT {} {}", self.below(8) as i64 - 1, self.below(10) as i64 - 2),
            1 if self.one_in(10) => " LIMIT 1".to_owned(),
            _ => String::new(),
        }
    }

    /// `n key ...`, sometimes with a wrong n.
    fn counted_keys(&mut self) -> (usize, String) {
        let count = 1 + self.below(3);
        let keys: Vec<&str> = (0..count).map(|_| self.key()).collect();
        let said = if self.one_in(40) { self.below(6) } else { count };
        (count, format!("{said} {}", keys.join(" ")))
    }

    fn weights(&mut self, keys: usize) -> String {
        let mut text = String::new();
        if self.one_in(3) {
            text.push_str(" WEIGHTS");
            for _ in 0..keys {
                let _ = write!(text, " {}", self.one_of(&["1", "2", "-1.5", "0", "inf", "0.1"]));
            }
        }
        if self.one_in(3) {
            let _ = write!(text, " AGGREGATE {}", self.one_of(&["SUM", "MIN", "MAX", "max", "AVG"]));
        }
        text
    }

    fn request(&mut self) -> String {
        let key = self.key();
        match self.below(46) {
            0..=9 => {
                let mut line = format!("ZADD {key}");
                for word in [" NX", " XX", " GT", " LT", " CH", " INCR"] {
                    line.push_str(self.maybe(9, word));
                }
                for _ in 0..=self.below(4) {
                    let _ = write!(line, " {} {}", self.score(), self.member());
                }
                line
            }
            10 => {
                let pairs: Vec<String> = (0..12).map(|_| format!("0 {}", self.member())).collect();
                format!("ZADD lex {}", pairs.join(" "))
            }
            11 => format!("ZINCRBY {key} {} {}", self.score(), self.member()),
            12 | 13 => format!("ZREM {key} {} {} {}", self.member(), self.member(), self.member()),
            14 => format!("ZCARD {key}"),
            15 => format!("ZSCORE {key} {}", self.member()),
            16 => format!("ZMSCORE {key} {} {}", self.member(), self.member()),
            17 => format!("{} {key} {}", self.one_of(&["ZRANK", "ZREVRANK"]), self.member()),
            18 => format!("ZCOUNT {key} {} {}", self.score_end(), self.score_end()),
            19 => format!("ZLEXCOUNT lex {} {}", self.lex_end(), self.lex_end()),
            20 | 21 => {
                let scores = self.maybe(2, " WITHSCORES");
                format!(
                    "{} {key} {} {}{scores}",
                    self.one_of(&["ZRANGE", "ZREVRANGE"]),
                    self.rank(),
                    self.rank()
                )
            }
            22 | 23 => {
                let (verb, scores) =
                    (self.one_of(&["ZRANGEBYSCORE", "ZREVRANGEBYSCORE"]), self.maybe(2, " WITHSCORES"));
                format!("{verb} {key} {} {}{scores}{}", self.score_end(), self.score_end(), self.limit())
            }
            24 | 25 => {
                let verb = self.one_of(&["ZRANGEBYLEX", "ZREVRANGEBYLEX"]);
                format!("{verb} lex {} {}{}", self.lex_end(), self.lex_end(), self.limit())
            }
            26..=28 => {
                let verb = if self.one_in(3) { "ZRANGESTORE z4" } else { "ZRANGE" };
                let (reverse, limit) = (self.maybe(2, " REV"), self.limit());
                let scores = self.maybe(4, " WITHSCORES");
                match self.below(3) {
                    0 => format!("{verb} {key} {} {}{reverse}{limit}{scores}", self.rank(), self.rank()),
                    1 => format!(
                        "{verb} {key} {} {} BYSCORE{reverse}{limit}{scores}",
                        self.score_end(),
                        self.score_end()
                    ),
                    _ => format!(
                        "{verb} lex {} {}{limit} BYLEX{reverse}{scores}",
                        self.lex_end(),
                        self.lex_end()
                    ),
                }
            }
            29 if self.one_in(3) => format!("ZREMRANGEBYRANK {key} {} {}", self.rank(), self.rank()),
            29 => format!("ZREMRANGEBYRANK {key} -2 -1"),
            30 if self.one_in(3) => {
                format!("ZREMRANGEBYSCORE {key} {} {}", self.score_end(), self.score_end())
            }
            30 => format!("ZREMRANGEBYLEX lex {} {}", self.lex_end(), self.lex_end()),
            31 => {
                let (verb, count) =
                    (self.one_of(&["ZPOPMIN", "ZPOPMAX"]), self.one_of(&["", " 2", " 0", " -1"]));
                format!("{verb} {key}{count}")
            }
            32 => {
                let (_, keys) = self.counted_keys();
                let end = self.one_of(&["MIN", "MAX", "max", "MID"]);
                format!("ZMPOP {keys} {end}{}", self.one_of(&["", " COUNT 2", " COUNT 0"]))
            }
            33..=36 => {
                let (count, keys) = self.counted_keys();
                let verb = self.one_of(&["UNION", "INTER", "DIFF"]);
                let weights =
                    if verb != "DIFF" || self.one_in(20) { self.weights(count) } else { String::new() };
                if self.one_in(2) {
                    format!("Z{verb}STORE z3 {keys}{weights}")
                } else {
                    format!("Z{verb} {keys}{weights}{}", self.maybe(2, " WITHSCORES"))
                }
            }
            37 => {
                let (_, keys) = self.counted_keys();
                format!("ZINTERCARD {keys}{}", self.one_of(&["", " LIMIT 2", " LIMIT 0", " LIMIT -1"]))
            }
            38 => format!("ZRANDMEMBER {key}{}", self.one_of(&["", " 3", " -3", " 100 WITHSCORES", " x"])),
            39 => format!("ZSCAN {key} 0 COUNT 1000{}", self.maybe(3, " MATCH m1*")),
            40 => format!("OBJECT ENCODING {}", if self.one_in(5) { "lex" } else { key }),
            41 => format!(
                "DUMP {}",
                if self.one_in(5) {
                    "lex"
                } else if key == "set" {
                    "z1"
                } else {
                    key
                }
            ),
            42 => format!("DEBUG DIGEST-VALUE {key}"),
            43 => {
                let (_, keys) = self.counted_keys();
                match self.below(4) {
                    0 => format!("BZPOPMIN {} {} 0.001", self.key(), self.key()),
                    1 => format!("BZMPOP 0.001 {keys} MAX COUNT 2"),
                    2 => format!("BLMPOP 0.001 {keys} LEFT COUNT 2"),
                    _ => format!("BRPOP {} {} 0.001", self.key(), self.key()),
                }
            }
            44 => match self.below(6) {
                0 => "SADD set m1 m2 3 4 m5".to_owned(),
                1 => "RPUSH list a b c".to_owned(),
                2 => format!("BLMOVE list {} LEFT RIGHT 0.001", self.one_of(&["list", "l2", "z1"])),
                3 => format!("BRPOPLPUSH {} l2 0.001", self.one_of(&["list", "none", "l2"])),
                4 => "HELLO 3".to_owned(),
                _ => "HELLO 2".to_owned(),
            },
            _ => match self.below(12) {
                0 => format!("DEL {key}"),
                1 => "RENAME z3 z2".to_owned(),
                2 => "COPY z1 z4 REPLACE".to_owned(),
                3 => "DEBUG DIGEST".to_owned(),
                _ => format!("TYPE {key}"),
            },
        }
    }
}

fn fuzz(number: u8, seed: u64, requests: usize) {
    let mut pair = Pair::start(number, &ARGS, in_any_order);
    let mut dice = Dice::new(seed);
    let mut errors = 0;
    for _ in 0..requests {
        let line = dice.request();
        if line.starts_with("HELLO") {
            // What it answers besides is the connection's id.
            both_ask(&mut pair.clients, &line);
            continue;
        }
        errors += usize::from(pair.ask(&line).starts_with('-'));
    }
    assert!(errors * 2 < requests, "most requests should do something: {errors} of {requests} failed");
    pair.ask("DEBUG DIGEST");
    pair.assert_equal();
}

#[test]
fn random_requests_get_the_same_replies_and_leave_the_same_data_and_log() {
    fuzz(30, 1, 12_000);
}

#[test]
#[ignore = "many seeds; run by hand"]
fn random_requests_of_many_seeds() {
    for seed in 2..30 {
        println!("seed {seed}");
        fuzz(32, seed, 20_000);
    }
}

#[test]
fn written_requests_get_the_same_replies() {
    let mut pair = Pair::start(34, &ARGS, in_any_order);
    for protocol in ["2", "3"] {
        both_ask(&mut pair.clients, &format!("HELLO {protocol}"));
        pair.ask("DEL z lex s l");
        pair.ask_written(include_str!("sorted-sets.txt"));
    }
    pair.assert_equal();
}

#[test]
fn clients_that_wait_for_keys_are_served_alike() {
    // Each: what several connections begin to wait with, one after the other, and what the first one then does.
    let scripts: &[(&[&str], &[&str])] = &[
        (&["BLPOP k 0", "BLPOP k 0"], &["RPUSH k a b c", "LRANGE k 0 -1"]),
        (&["BRPOP k1 k2 0"], &["RPUSH k2 a b", "LRANGE k2 0 -1"]),
        (&["BLPOP a b 0"], &["MULTI", "RPUSH b 1", "RPUSH a 2", "EXEC", "LLEN a", "LLEN b"]),
        (&["BLPOP k 0"], &["MULTI", "RPUSH k 1", "DEL k", "EXEC", "RPUSH k 2"]),
        (&["BLPOP k 0"], &["MULTI", "RPUSH k 1", "LPUSH k 0", "EXEC", "LRANGE k 0 -1"]),
        (&["BLPOP k 0"], &["SET k x", "DEL k", "SADD k x", "RENAME k other", "RPUSH l 1 2", "RENAME l k"]),
        (&["BLMOVE s d LEFT RIGHT 0"], &["RPUSH s 1 2", "LRANGE d 0 -1", "LRANGE s 0 -1"]),
        (&["BRPOPLPUSH s d 0", "BLPOP d 0"], &["RPUSH s 1", "LLEN d", "LLEN s"]),
        (&["BLPOP d 0", "BRPOPLPUSH s d 0"], &["RPUSH s 1", "LLEN d", "LLEN s"]),
        (&["BLMOVE s d LEFT RIGHT 0"], &["SET d x", "RPUSH s 1", "LLEN s"]),
        (&["BRPOPLPUSH s s 0"], &["RPUSH s 1 2 3", "LRANGE s 0 -1"]),
        (&["BLMPOP 0 2 a b LEFT COUNT 2"], &["RPUSH b 1 2 3", "LRANGE b 0 -1"]),
        (&["BLMPOP 0 1 a RIGHT COUNT 10"], &["RPUSH a 1 2 3", "EXISTS a"]),
        (&["BZPOPMIN z 0", "BZPOPMAX z 0"], &["ZADD z 1 a 2 b 3 c", "ZRANGE z 0 -1"]),
        (&["BZMPOP 0 2 y z MIN COUNT 2", "BZPOPMAX z y 0"], &["ZADD z 1 a 2 b 3 c 4 d", "ZRANGE z 0 -1"]),
        (&["BZPOPMIN k 0", "BLPOP k 0"], &["RPUSH k 1", "DEL k", "ZADD k 1 a"]),
        (&["BZPOPMIN z 0"], &["ZADD x 1 a", "ZUNIONSTORE z 1 x", "EXISTS z"]),
        (&["BZPOPMIN z 0"], &["ZADD x 1 a 2 b", "ZRANGESTORE z x 0 -1", "ZRANGE z 0 -1"]),
        (&["BZPOPMIN z 0"], &["ZINCRBY z 5 a", "EXISTS z"]),
        (&["BLPOP k 0.05", "BLMOVE k d LEFT LEFT 0.05", "BZPOPMAX k 0.05"], &["EXISTS k"]),
        (&["BLPOP k k k 0"], &["RPUSH k 1 2"]),
        (&["BLPOP k 0"], &["RPUSH other x", "COPY other k", "EXISTS k"]),
    ];
    let mut pair = Pair::start(36, &ARGS, in_any_order);
    for (waits, actions) in scripts {
        for protocol in ["2", "3"] {
            pair.ask("FLUSHALL");
            both_ask(&mut pair.clients, &format!("HELLO {protocol}"));
            // Who waits still is told so in the same words.
            let actions: Vec<&str> = actions.iter().chain(&["RPUSH k end end end"]).copied().collect();
            pair.ask_while_waiting(protocol, waits, &actions);
        }
    }
    pair.assert_equal();
}

#[test]
fn a_waiting_client_can_be_unblocked_by_another() {
    let mut pair = Pair::start(38, &ARGS, in_any_order);
    for (reason, command) in
        [("", "BLPOP k 0"), (" TIMEOUT", "BLMOVE k d LEFT LEFT 0"), (" ERROR", "BZPOPMIN z 0")]
    {
        let mut waiting = pair.connect();
        let ids =
            waiting.each_mut().map(|client| client.ask("CLIENT ID").trim_matches([':', '|']).to_owned());
        assert!(waiting.iter_mut().all(|client| client.begin(command)));
        a_moment();
        let done = [0, 1].map(|which: usize| {
            let line = format!("CLIENT UNBLOCK {}{reason}", ids[which]);
            [pair.clients[which].ask(&line), pair.clients[which].ask(&line)].concat()
        });
        pair.compare("CLIENT UNBLOCK", done);
        let replies = waiting.each_mut().map(Client::finish);
        assert!(!replies[0].is_empty());
        pair.compare(command, replies);
    }
    pair.ask("SET k v");
    pair.ask("APPEND k 0123456789012345678901234567890123456789");
    pair.assert_equal();
}

/// Writes to one server, makes the other its replica, writes on: both hold the same in the end.
fn replicate(master: &Server, replica: &Server) {
    let mut writer = Client::connect(&master.ip).unwrap();
    let mut reader = Client::connect(&replica.ip).unwrap();
    let mut dice = Dice::new(99);
    let mut write = |requests: usize| {
        for _ in 0..requests {
            let line = dice.request();
            if !line.starts_with('B') && !line.starts_with("HELLO") {
                writer.ask(&line);
            }
        }
        // Some that are big.
        for from in 0..50 {
            let pairs: Vec<String> =
                (0..40).map(|n| format!("{}.25 big{}", n * from, requests + n + 40 * from)).collect();
            writer.ask(&format!("ZADD big {}", pairs.join(" ")));
        }
        writer.ask("DEBUG DIGEST")
    };
    write(3000);
    assert_eq!(reader.ask(&format!("REPLICAOF {} {}", master.ip, side_by_side::PORT)), "+OK|");
    let until = Instant::now() + Duration::from_secs(60);
    while !reader.ask("INFO replication").contains("master_link_status:up") {
        assert!(Instant::now() < until, "the replica is not in sync");
        std::thread::sleep(Duration::from_millis(100));
    }
    let wanted = write(3000);
    while reader.ask("DEBUG DIGEST") != wanted {
        assert!(Instant::now() < until, "the replica holds something else");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(reader.ask("ZCARD big"), ":2000|");
}

#[test]
fn sorted_sets_are_replicated_to_a_real_server_and_from_one() {
    let args: Vec<&str> = ARGS.into_iter().chain(["--repl-diskless-sync-delay", "0"]).collect();
    for (master, replica, number) in [(Kind::Ours, Kind::Redis, 40), (Kind::Redis, Kind::Ours, 42)] {
        let master = Server::start(master, number, &args);
        let replica = Server::start(replica, number + 1, &args);
        replicate(&master, &replica);
    }
}
