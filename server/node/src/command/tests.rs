//! Commands as a client sees them, on a dataset alone.

use super::call::Blocking;
use super::*;
use crate::io::{Mono, Now, WallMs};
use crate::keyspace::{EncodingLimits, HashSeed};
use crate::random::Random;
use crate::resp::{OwnedArgs, Protocol, Reply};

/// A dataset and a clock.
struct Bench {
    db: Db,
    wall: u64,
}

impl Bench {
    fn new() -> Self {
        let db = Db::new(HashSeed(1, 2), EncodingLimits::default(), Random::seeded(3), 16);
        Self { db, wall: 1_000_000 }
    }

    /// Runs one command line; gives the raw reply.
    fn run(&mut self, line: &str) -> String {
        let args: OwnedArgs = line.split(' ').map(|word| word.replace('_', " ").into_bytes()).collect();
        let spec = lookup(&args.view()[0]).unwrap_or_else(|| panic!("no command {line}"));
        assert!(spec.accepts(args.view().len()), "arity of {line}");
        let Run::Data(handler) = spec.run else { panic!("{line} needs a node") };
        let mut out = Vec::new();
        let dirty = self.db.dirty;
        let mut call = Call {
            now: Now { mono: Mono(0), wall: WallMs(self.wall) },
            args: args.view(),
            reply: Reply::new(&mut out, Protocol::Resp2),
            db: &mut self.db,
            name: spec.name,
            max_string_bytes: 1 << 29,
            in_cluster: false,
            rewritten: false,
            blocking: Blocking::Never,
            wait: None,
        };
        let outcome = handler(&mut call);
        let rewritten = call.rewritten;
        if let Err(fault) = outcome {
            Reply::new(&mut out, Protocol::Resp2).error(&fault.0);
        } else if self.db.dirty > dirty && !rewritten {
            self.db.propagated.push(args.view().iter().collect::<Vec<_>>().into_iter());
        }
        String::from_utf8_lossy(&out).replace("\r\n", "|")
    }

    /// What was handed on since the last call, as command lines.
    fn handed_on(&mut self) -> Vec<String> {
        let lines = self
            .db
            .propagated
            .iter()
            .map(|command| {
                let text = String::from_utf8_lossy(command.bytes).into_owned();
                let words =
                    text.split("\r\n").filter(|word| !word.is_empty() && !word.starts_with(['$', '*']));
                words.collect::<Vec<_>>().join(" ")
            })
            .collect();
        self.db.propagated.clear();
        lines
    }
}

#[test]
fn the_table_is_sorted() {
    assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
    assert!(TABLE.iter().all(|spec| lookup(spec.name.to_uppercase().as_bytes()).is_some()));
    assert!(lookup(&[b'x'; 100]).is_none());
}

#[test]
fn replies_are_those_of_redis() {
    let mut bench = Bench::new();
    for (line, reply) in [
        ("set k v", "+OK|"),
        ("get k", "$1|v|"),
        ("get nope", "$-1|"),
        ("set k w nx", "$-1|"),
        ("set k w xx get", "$1|v|"),
        ("set k v ex 0", "-ERR invalid expire time in 'set' command|"),
        ("set k v ex x", "-ERR value is not an integer or out of range|"),
        ("set k v nx xx", "-ERR syntax error|"),
        ("incr k", "-ERR value is not an integer or out of range|"),
        ("incrby n 41", ":41|"),
        ("incr n", ":42|"),
        ("object encoding n", "$3|int|"),
        ("append n x", ":3|"),
        ("object encoding n", "$3|raw|"),
        ("getrange n 0 -2", "$2|42|"),
        ("setrange k 3 !!", ":5|"),
        ("lpush k a", "-WRONGTYPE Operation against a key holding the wrong kind of value|"),
        ("rpush l a b c", ":3|"),
        ("lrange l 0 -1", "*3|$1|a|$1|b|$1|c|"),
        ("lpos l c", ":2|"),
        ("linsert l before b x", ":4|"),
        ("lrem l -1 x", ":1|"),
        ("lset l 9 x", "-ERR index out of range|"),
        ("lset nope 0 x", "-ERR no such key|"),
        ("lpop l 2", "*2|$1|a|$1|b|"),
        ("lpop nope 2", "*-1|"),
        ("lpop l -1", "-ERR value is out of range, must be positive|"),
        ("rpoplpush l m", "$1|c|"),
        ("exists l m", ":1|"),
        ("sadd s 3 1 2 1", ":3|"),
        ("smembers s", "*3|$1|1|$1|2|$1|3|"),
        ("sismember s 2", ":1|"),
        ("sadd t 2 3 4", ":3|"),
        ("sinter s t", "*2|$1|2|$1|3|"),
        ("sdiff s t", "*1|$1|1|"),
        ("sintercard 2 s t limit 1", ":1|"),
        ("sunionstore u s t", ":4|"),
        ("object encoding u", "$6|intset|"),
        ("hset h a 1 b 2", ":2|"),
        ("hset h a 1 b", "-ERR wrong number of arguments for 'hset' command|"),
        ("hgetall h", "*4|$1|a|$1|1|$1|b|$1|2|"),
        ("hincrby h a 9", ":10|"),
        ("hincrbyfloat h a 0.5", "$4|10.5|"),
        ("hincrby h a 1", "-ERR hash value is not an integer|"),
        ("hdel h a b", ":2|"),
        ("exists h", ":0|"),
        ("type s", "+set|"),
        ("type nope", "+none|"),
        ("rename nope x", "-ERR no such key|"),
        ("object encoding nope", "$-1|"),
        ("expire k 10 nx gt", "-ERR NX and XX, GT or LT options at the same time are not compatible|"),
        ("scan x", "-ERR invalid cursor|"),
    ] {
        assert_eq!(bench.run(line), reply, "{line}");
    }
}

#[test]
fn what_is_handed_on_does_not_depend_on_the_clock_or_on_chance() {
    let mut bench = Bench::new();
    for (line, stream) in [
        ("set k v ex 10", &["SET k v PXAT 1010000"][..]),
        ("setex k 10 v", &["SET k v PXAT 1010000"]),
        ("expire k 20", &["PEXPIREAT k 1020000"]),
        ("pexpireat k 5", &["DEL k"]),
        ("set k 1", &["set k 1"]),
        ("getex k px 5", &["PEXPIREAT k 1000005"]),
        ("getex k persist", &["PERSIST k"]),
        ("getex k", &[]),
        ("incrbyfloat k 0.5", &["SET k 1.5 KEEPTTL"]),
        ("getdel k", &["DEL k"]),
        ("sadd s a", &["sadd s a"]),
        ("sadd s a", &[]),
        ("spop s", &["SREM s a"]),
        ("sadd s a", &["sadd s a"]),
        ("spop s 1", &["DEL s"]),
        ("srem s a", &[]),
        ("hincrbyfloat h f 1", &["HSET h f 1"]),
        ("rpush l a b", &["rpush l a b"]),
        ("lmpop 1 l left", &["LPOP l 1"]),
    ] {
        bench.run(line);
        assert_eq!(bench.handed_on(), stream, "{line}");
    }
}

#[test]
fn a_key_whose_time_has_come_is_gone_and_replicas_are_told() {
    let mut bench = Bench::new();
    bench.run("set k v px 100");
    bench.handed_on();
    bench.wall += 100;
    assert_eq!(bench.run("get k"), "$-1|");
    assert_eq!(bench.handed_on(), ["DEL k"]);
}

#[test]
fn a_replica_hides_an_expired_key_but_keeps_it() {
    let mut bench = Bench::new();
    bench.run("set k v px 100");
    bench.handed_on();
    bench.wall += 100;
    bench.db.expiry = ExpiryMode::Hide;
    assert_eq!(bench.run("get k"), "$-1|");
    assert_eq!((bench.db.keys.len(), bench.handed_on().len()), (1, 0));
    bench.db.expiry = ExpiryMode::Ignore;
    assert_eq!(bench.run("append k w"), ":2|", "the master's commands see it");
}

#[test]
fn a_scan_gives_every_key_once_though_others_come_and_go() {
    let mut bench = Bench::new();
    for number in 0..1000 {
        bench.run(&format!("set stay:{number} v"));
    }
    let mut cursor = "0".to_owned();
    let mut seen = std::collections::BTreeSet::new();
    for round in 0.. {
        let reply = bench.run(&format!("scan {cursor} match stay:* count 20"));
        let mut words = reply.split('|').filter(|word| !word.starts_with(['$', '*']) && !word.is_empty());
        cursor = words.next().unwrap().to_owned();
        assert!(cursor.parse::<u64>().unwrap() < 1 << 31);
        for key in words {
            assert!(seen.insert(key.to_owned()), "{key} twice");
        }
        bench.run(&format!("set come:{round} v"));
        bench.run(&format!("del come:{}", round / 2));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 1000);
}
