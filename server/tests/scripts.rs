//! Scripts and functions beside a real redis-server 7.0: the same replies, errors with their places included, the same
//! data and append-only files, in RESP2 and RESP3; functions in files that both read.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

mod side_by_side;

use side_by_side::pair::{Dice, Pair};
use side_by_side::{Client, Kind, Server};

const ARGS: [&str; 8] =
    ["--cluster-enabled", "no", "--save", "", "--appendonly", "yes", "--enable-debug-command", "yes"];

/// Functions of a library stand in the order of a hash table there.
fn comparable(line: &str, reply: &str) -> String {
    let mut parts: Vec<&str> = reply.split('|').collect();
    if line.starts_with("FUNCTION LIST") || line.starts_with("COMMAND INFO") {
        parts.sort_unstable();
    }
    parts.join("|")
}

#[test]
fn written_requests_get_the_same_replies() {
    let mut pair = Pair::start(60, &ARGS, comparable);
    pair.ask("CONFIG RESETSTAT");
    for protocol in ["2", "3"] {
        pair.ask_only(&format!("HELLO {protocol}"));
        pair.ask("FLUSHALL");
        pair.ask_written(include_str!("scripts.txt"));
    }
    pair.ask("DEBUG DIGEST");
    pair.ask("INFO errorstats");
    pair.assert_equal();
}

#[test]
fn random_scripts_get_the_same_replies_and_leave_the_same_data_and_log() {
    fuzz(62, 1, 4000);
}

#[test]
#[ignore = "many seeds; run by hand"]
fn random_scripts_of_many_seeds() {
    for seed in 2..20 {
        println!("seed {seed}");
        fuzz(64, seed, 10_000);
    }
}

fn fuzz(number: u8, seed: u64, scripts: usize) {
    let mut pair = Pair::start(number, &ARGS, comparable);
    pair.ask("CONFIG RESETSTAT");
    let mut dice = Dice(seed);
    let mut errors = 0;
    for _ in 0..scripts {
        if dice.one_in(200) {
            // What it answers besides is the connection's id.
            pair.ask_only(&format!("HELLO {}", 2 + dice.below(2)));
        }
        let body: Vec<String> = (0..dice.below(4)).map(|_| statement(&mut dice)).collect();
        let line =
            format!("EVAL \"{} return {}\" 1 {} 7 x", body.join(" "), value(&mut dice, 3), key(&mut dice));
        errors += usize::from(pair.ask(&line).starts_with('-'));
    }
    assert!(errors * 3 < scripts * 2, "most scripts should do something: {errors} of {scripts} failed");
    pair.ask("DEBUG DIGEST");
    pair.ask("INFO errorstats");
    pair.assert_equal();
}

fn key(dice: &mut Dice) -> &'static str {
    dice.one_of(&["k1", "k2", "k3", "list", "hash", "none"])
}

fn statement(dice: &mut Dice) -> String {
    let call = dice.one_of(&["redis.call", "redis.pcall", "redis.pcall"]);
    match dice.below(9) {
        0 => format!("{call}('set', '{}', {})", key(dice), value(dice, 0)),
        1 => format!("{call}('incr', KEYS[1])"),
        2 => format!("{call}('rpush', 'list', {})", value(dice, 0)),
        3 => format!("{call}('hset', 'hash', {}, {})", value(dice, 0), value(dice, 0)),
        4 => format!("{call}('del', '{}')", key(dice)),
        5 => format!("redis.setresp({})", 2 + dice.below(2)),
        6 => format!("redis.set_repl({})", dice.below(4)),
        7 => format!("local x = {}", value(dice, 2)),
        _ => format!("{call}('append', KEYS[1], ARGV[{}])", 1 + dice.below(3)),
    }
}

fn value(dice: &mut Dice, depth: usize) -> String {
    let sides = if depth == 0 { 7 } else { 17 };
    match dice.below(sides) {
        0 => dice.one_of(&["1", "-7", "3.5", "0.1", "1e15", "1e16", "2^31", "1/3", "1/0", "-0"]).to_owned(),
        1 => "'text'".to_owned(),
        2 => "KEYS[1]".to_owned(),
        3 => "ARGV[1]".to_owned(),
        4 => dice.one_of(&["true", "false", "nil"]).to_owned(),
        5 => "'12'".to_owned(),
        6 => "tostring(math.random())".to_owned(),
        7 => format!("{{{}, {}}}", value(dice, depth - 1), value(dice, depth - 1)),
        8 => {
            format!("{{{}={}}}", dice.one_of(&["ok", "err", "double", "map", "set"]), value(dice, depth - 1))
        }
        9 => format!("cjson.encode({})", value(dice, depth - 1)),
        10 => format!("cjson.decode(cjson.encode({}))", value(dice, depth - 1)),
        11 => format!("cmsgpack.pack({})", value(dice, depth - 1)),
        12 => format!("cmsgpack.unpack(cmsgpack.pack({}))", value(dice, depth - 1)),
        13 => format!("redis.pcall('get', '{}')", key(dice)),
        14 => format!("redis.pcall('hgetall', '{}')", key(dice)),
        15 => format!("tostring({})", value(dice, 0)),
        _ => format!("select(2, pcall(redis.call, 'lrange', '{}', 0, {}))", key(dice), value(dice, 0)),
    }
}

const LIBRARY: &str = "FUNCTION LOAD \"#!lua name=lib\\nredis.register_function{function_name='f', callback=function(keys, \
                       args) return redis.call('incrby', keys[1], args[1]) end, description='adds'}\"";

#[test]
fn functions_are_in_the_files_that_both_read() {
    for (number, (writer, reader)) in
        [(Kind::Ours, Kind::Redis), (Kind::Redis, Kind::Ours)].into_iter().enumerate()
    {
        for (form, args) in [
            ("rdb", &["--cluster-enabled", "no", "--appendonly", "no", "--save", ""][..]),
            ("aof", &["--cluster-enabled", "no", "--appendonly", "yes", "--save", ""]),
            (
                "commands",
                &[
                    "--cluster-enabled",
                    "no",
                    "--appendonly",
                    "yes",
                    "--save",
                    "",
                    "--aof-use-rdb-preamble",
                    "no",
                ],
            ),
        ] {
            let number = 66 + number as u8 * 2;
            let server = Server::start(writer, number, args);
            let mut client = Client::connect(&server.ip).unwrap();
            assert_eq!(client.ask(LIBRARY), "$3|lib|");
            assert_eq!(client.ask("FCALL f 1 n 5"), ":5|");
            let dump = client.ask("FUNCTION DUMP");
            if form == "rdb" {
                assert_eq!(client.ask("SAVE"), "+OK|");
            } else {
                client.ask("BGREWRITEAOF");
                while !client.ask("INFO persistence").contains("aof_rewrite_in_progress:0") {}
                while !client.ask("INFO persistence").contains("aof_rewrite_scheduled:0") {}
            }
            let other = Server::start_on_files_of(reader, number + 1, args, &server);
            let mut client = Client::connect(&other.ip).unwrap();
            assert_eq!(client.ask("FCALL f 1 n 5"), ":10|", "{form}");
            assert_eq!(client.ask("FUNCTION DUMP"), dump, "{form}");
        }
    }
}

#[test]
fn functions_and_effects_of_scripts_reach_replicas_of_both_kinds() {
    let args = ["--cluster-enabled", "no", "--save", "", "--repl-diskless-sync-delay", "0"];
    for (number, (master, replica)) in
        [(Kind::Ours, Kind::Redis), (Kind::Redis, Kind::Ours)].into_iter().enumerate()
    {
        let number = 72 + number as u8 * 2;
        let (master, replica) =
            (Server::start(master, number, &args), Server::start(replica, number + 1, &args));
        let mut writer = Client::connect(&master.ip).unwrap();
        let mut reader = Client::connect(&replica.ip).unwrap();
        assert_eq!(writer.ask(LIBRARY), "$3|lib|");
        assert_eq!(reader.ask(&format!("REPLICAOF {} {}", master.ip, side_by_side::PORT)), "+OK|");
        while !reader.ask("INFO replication").contains("master_link_status:up") {
            side_by_side::pair::a_moment();
        }
        assert!(reader.ask("FUNCTION LIST").contains("adds"), "the full resync brings functions");
        assert_eq!(writer.ask("FCALL f 1 n 5"), ":5|");
        assert_eq!(writer.ask("EVAL \"redis.call('set','a',1) return redis.call('incr','a')\" 0"), ":2|");
        let more = LIBRARY.replace("=lib", "=more").replace("'f'", "'g'");
        assert_eq!(writer.ask(&more), "$4|more|");
        writer.ask("WAIT 1 5000");
        assert_eq!(reader.ask("MGET n a"), "*2|$1|5|$1|2|");
        assert!(reader.ask("FCALL g 1 n 5").starts_with("-READONLY"));
        assert_eq!(writer.ask("FUNCTION FLUSH"), "+OK|");
        writer.ask("WAIT 1 5000");
        assert_eq!(reader.ask("FUNCTION LIST"), "*0|");
    }
}
