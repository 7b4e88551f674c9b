//! Sixteen databases and keyspace events beside a real redis-server 7.0: the same replies, the same append-only
//! file, the same events in the same order; each server reads the other's files and follows the other.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

mod side_by_side;

use std::time::{Duration, Instant};

use side_by_side::pair::Pair;
use side_by_side::{Client, Kind, PORT, Server};

const ARGS: [&str; 10] = [
    "--cluster-enabled",
    "no",
    "--save",
    "",
    "--repl-diskless-sync-delay",
    "0",
    "--enable-debug-command",
    "yes",
    "--appendonly",
    "yes",
];
/// Replies are to be the same as they are.
fn as_it_is(_: &str, reply: &str) -> String {
    reply.to_owned()
}

#[test]
fn databases_answer_and_are_kept_as_by_redis() {
    let mut pair = Pair::start(1, &ARGS, as_it_is);
    let mut watcher = pair.connect();
    let mut waiter = pair.connect();
    let both = |clients: &mut [Client; 2], line: &str| clients.each_mut().map(|client| client.ask(line));
    for line in [
        "SET a 0",
        "SELECT 16",
        "SELECT -1",
        "SELECT x",
        "SELECT 9999999999",
        "SELECT",
        "SELECT 3",
        "GET a",
        "SET a 3",
        "SADD s 1 2 3",
        // A fixed moment: "in 1000 s" is a millisecond apart now and then.
        "PEXPIREAT s 4102444800000",
        "MOVE s 3",
        "MOVE s 4",
        "MOVE s 4",
        "MOVE none 4",
        "MOVE a x",
        "MOVE a 99",
        "MOVE a 0",
        "EXISTS s",
        "SELECT 4",
        "SMEMBERS s",
        "COPY s t DB 5",
        "COPY s s DB 4",
        "COPY s s",
        "COPY s t DB 5",
        "COPY s t DB 5 REPLACE",
        "COPY s t DB 77",
        "COPY s t DB x",
        "COPY none t DB 2",
        "DBSIZE",
        "SWAPDB 4 5",
        "DBSIZE",
        "KEYS *",
        "SWAPDB 0 0",
        "SWAPDB 0 16",
        "SWAPDB x 1",
        "SWAPDB 1 x",
        "SWAPDB -1 1",
        "SWAPDB 0 3",
        "SELECT 0",
        "GET a",
        "MULTI",
        "SET m 0",
        "SELECT 7",
        "SET m 7",
        "INCR n",
        "SELECT 8",
        "EXEC",
        "SET m 8",
        "SELECT 0",
        "FLUSHDB",
        "DBSIZE",
        "SELECT 7",
        "DBSIZE",
        "FLUSHDB",
        "FLUSHDB",
        "FLUSHDB SYNC",
        "FLUSHDB ASYNC",
        "FLUSHDB x",
        "SELECT 8",
        "FLUSHALL",
        "SELECT 5",
        "DBSIZE",
        "FLUSHALL ASYNC",
        "FLUSHALL x y",
        "SELECT 2",
        "SET e 1",
        "PEXPIREAT e 1",
        "GET e",
        "SELECT 10",
        "RPUSH l 1 2 3",
        "SELECT 11",
        "INCR n",
        "SELECT 10",
        "LPOP l",
        "SELECT 0",
        "PUBLISH c m",
    ] {
        pair.ask(line);
    }
    // WATCH is about one database.
    for (line, watched) in [
        ("SELECT 5", "SELECT 5"),
        ("SET w 1", "WATCH w"),
        ("SELECT 6", "MULTI"),
        ("SET w 2", "PING"),
        ("SELECT 5", "EXEC"),
        ("SELECT 6", "WATCH w"),
        ("SELECT 5", "MULTI"),
        ("SET w 2", "EXEC"),
        ("PING", "WATCH w"),
        ("SWAPDB 5 7", "MULTI"),
        ("PING", "EXEC"),
        ("PING", "WATCH none"),
        ("SWAPDB 5 7", "MULTI"),
        ("FLUSHALL", "EXEC"),
        ("PING", "WATCH none"),
        ("FLUSHDB", "MULTI"),
        ("PING", "EXEC"),
    ] {
        pair.ask(line);
        let replies = both(&mut watcher, watched);
        pair.compare(&format!("{watched} (watcher, behind {line})"), replies);
    }
    // A client that waits stays in its database, and is served when a swap brings the key.
    both(&mut waiter, "SELECT 9");
    let _ = waiter.each_mut().map(|client| client.begin("BLPOP q 0"));
    for line in ["SELECT 8", "RPUSH q other", "SWAPDB 8 9", "SELECT 9", "EXISTS q", "SELECT 8", "EXISTS q"] {
        pair.ask(line);
    }
    let served = waiter.each_mut().map(Client::finish);
    pair.compare("BLPOP q 0", served);
    pair.ask("DEBUG DIGEST");
    pair.assert_equal();
}

#[test]
fn in_a_cluster_there_is_database_0_only() {
    let args = ["--cluster-enabled", "yes", "--save", ""];
    let servers = [Server::start(Kind::Redis, 11, &args), Server::start(Kind::Ours, 12, &args)];
    let mut clients = [0, 1].map(|which: usize| Client::connect(&servers[which].ip).unwrap());
    let _ = clients.each_mut().map(|client| client.ask("CLUSTER ADDSLOTSRANGE 0 16383"));
    let until = Instant::now() + Duration::from_secs(20);
    for client in &mut clients {
        while !client.ask("CLUSTER INFO").contains("cluster_state:ok") {
            assert!(Instant::now() < until, "the cluster is not ok");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    for line in [
        "SET a 1",
        "SELECT 0",
        "SELECT 1",
        "SELECT 99",
        "SELECT x",
        "MOVE a 1",
        "SWAPDB 0 1",
        "COPY a b{a} DB 1",
        "COPY a b{a} DB 0",
        "COPY a c{a} DB 99",
        "CONFIG GET databases",
    ] {
        let [redis, ours] = clients.each_mut().map(|client| client.ask(line));
        assert_eq!(ours, redis, "{line}");
    }
}

/// Fills several databases.
fn fill(client: &mut Client) {
    for line in [
        "SET zero 0",
        "SELECT 3",
        "SET three 3",
        "HSET h a 1 b 2",
        "SELECT 15",
        "ZADD z 1 a 2 b",
        "EXPIRE z 1000",
        "SELECT 4",
        "SET gone 1",
        "DEL gone",
        "SELECT 0",
    ] {
        client.ask(line);
    }
}

fn until_equal(one: &mut Client, other: &mut Client) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let digests = [one.ask("DEBUG DIGEST"), other.ask("DEBUG DIGEST")];
        if digests[0] == digests[1] && !digests[0].contains("+0000000000") {
            return;
        }
        assert!(Instant::now() < until, "{digests:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn each_follows_the_other_through_all_databases() {
    for (number, (master, replica)) in
        [(Kind::Redis, Kind::Ours), (Kind::Ours, Kind::Redis), (Kind::Ours, Kind::Ours)]
            .into_iter()
            .enumerate()
    {
        let number = 21 + 2 * number as u8;
        let servers = [Server::start(master, number, &ARGS), Server::start(replica, number + 1, &ARGS)];
        let [mut to_master, mut to_replica] =
            [0, 1].map(|which: usize| Client::connect(&servers[which].ip).unwrap());
        fill(&mut to_master);
        to_replica.ask(&format!("REPLICAOF {} {PORT}", servers[0].ip));
        until_equal(&mut to_master, &mut to_replica);
        for line in [
            "SELECT 3",
            "INCR n",
            "MULTI",
            "SET m 3",
            "SELECT 12",
            "SET m 12",
            "SELECT 0",
            "EXEC",
            "MOVE zero 9",
            "SWAPDB 3 15",
            "SELECT 15",
            "COPY h h DB 1",
            "SELECT 2",
            "SET brief 1 PX 30",
            "SET stays 2",
            "SELECT 4",
            "FLUSHDB",
            "PUBLISH c m",
            "SET four 4",
        ] {
            to_master.ask(line);
        }
        std::thread::sleep(Duration::from_millis(200));
        until_equal(&mut to_master, &mut to_replica);
        // The link breaks while another database than 0 is selected in the stream, and what follows needs no SELECT.
        let partial = |client: &mut Client| client.ask("INFO stats").contains("sync_partial_ok:1");
        let list = to_master.ask("CLIENT LIST TYPE replica");
        let address = list.split("addr=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        to_master.ask(&format!("CLIENT KILL {address}"));
        to_master.ask("SET after four");
        let until = Instant::now() + Duration::from_secs(20);
        while !partial(&mut to_master) {
            assert!(Instant::now() < until, "no partial resync: {}", to_master.ask("INFO stats"));
            std::thread::sleep(Duration::from_millis(50));
        }
        until_equal(&mut to_master, &mut to_replica);
        to_replica.ask("SELECT 4");
        assert_eq!(to_replica.ask("GET after"), "$4|four|");
    }
}

#[test]
fn each_reads_the_files_of_the_other() {
    for (number, (writer, reader)) in
        [(Kind::Redis, Kind::Ours), (Kind::Ours, Kind::Redis)].into_iter().enumerate()
    {
        let number = 31 + 4 * number as u8;
        for (offset, appendonly) in [(0, "yes"), (2, "no")] {
            let args = [
                "--cluster-enabled",
                "no",
                "--save",
                "",
                "--appendonly",
                appendonly,
                "--enable-debug-command",
                "yes",
            ];
            let first = Server::start(writer, number + offset, &args);
            let mut client = Client::connect(&first.ip).unwrap();
            fill(&mut client);
            client.ask("BGREWRITEAOF");
            let until = Instant::now() + Duration::from_secs(20);
            while appendonly == "yes" && client.ask("INFO persistence").contains("aof_rewrite_in_progress:1")
            {
                assert!(Instant::now() < until, "the rewrite does not end");
                std::thread::sleep(Duration::from_millis(20));
            }
            client.ask("SELECT 6");
            client.ask("SET behind rewrite");
            client.ask("SAVE");
            let digest = client.ask("DEBUG DIGEST");
            std::thread::sleep(Duration::from_millis(200));
            let second = Server::start_on_files_of(reader, number + offset + 1, &args, &first);
            let mut client = Client::connect(&second.ip).unwrap();
            assert_eq!(client.ask("DEBUG DIGEST"), digest, "{reader:?} on the files of {writer:?}");
            assert!(client.ask("INFO keyspace").contains("db15:keys=1,expires=1"));
        }
    }
}

#[test]
fn files_tell_how_much_keys_are_used() {
    let both = [(Kind::Redis, Kind::Ours), (Kind::Ours, Kind::Redis)];
    for (at, (writer, reader)) in both.into_iter().enumerate() {
        let number = 61 + 4 * at as u8;
        for (offset, policy, option, verb) in
            [(0, "allkeys-lru", "IDLETIME 5000", "IDLETIME"), (2, "volatile-lfu", "FREQ 77", "FREQ")]
        {
            let args = [
                "--cluster-enabled",
                "no",
                "--save",
                "",
                "--maxmemory-policy",
                policy,
                "--lfu-decay-time",
                "0",
            ];
            let first = Server::start(writer, number + offset, &args);
            let mut client = Client::connect(&first.ip).unwrap();
            // The DUMP of the string "1".
            let payload = r"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc";
            let restored = client.ask(&format!("RESTORE k 0 \"{payload}\" {option}"));
            assert_eq!(restored, "+OK|", "{writer:?}");
            client.ask("SAVE");
            let second = Server::start_on_files_of(reader, number + offset + 1, &args, &first);
            let mut client = Client::connect(&second.ip).unwrap();
            let told = client.ask(&format!("OBJECT {verb} k"));
            let value: u64 = told.trim_matches([':', '|']).parse().unwrap_or_else(|_| panic!("{told}"));
            let expected = if verb == "FREQ" { 77..=77 } else { 5000..=5030 };
            assert!(expected.contains(&value), "{verb}: {reader:?} on a file of {writer:?}: {value}");
        }
    }
}

#[test]
fn subscribers_are_told_the_same_in_the_same_order() {
    let mut pair = Pair::start(51, &ARGS, as_it_is);
    let mut listener = pair.connect();
    pair.ask("CONFIG SET notify-keyspace-events KEAmn");
    let _ = listener.each_mut().map(|client| client.ask("PSUBSCRIBE __key*"));
    let mut heard = 0;
    for line in EVENTS.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("SPOP") {
            // What is popped is chance; what is told of it is not.
            let _ = pair.clients.each_mut().map(|client| client.ask(line));
        } else {
            pair.ask(line);
        }
        if line.starts_with("PEXPIRE ") {
            // Both look for expired keys by themselves.
            std::thread::sleep(Duration::from_millis(500));
        }
        let events = listener.each_mut().map(|client| client.ask("PING"));
        heard += usize::from(pair.compare(&format!("events of {line}"), events).contains("pmessage"));
    }
    // Who waits is served at the end of the command that wakes it.
    for (wait, wake) in [
        ("BLPOP q 0", "RPUSH q a"),
        ("BRPOP q q2 0", "LPUSH q2 a b"),
        ("BLMOVE q r LEFT RIGHT 0", "RPUSH q c"),
        ("BRPOPLPUSH q r 0", "RPUSH q d"),
        ("BZPOPMIN zq 0", "ZADD zq 1 a"),
        ("BLMPOP 0 2 q q2 LEFT COUNT 5", "RPUSH q2 1 2 3"),
        ("BZMPOP 0 1 zq MAX COUNT 5", "ZADD zq 1 a 2 b"),
    ] {
        let mut waiter = pair.connect();
        let _ = waiter.each_mut().map(|client| client.begin(wait));
        std::thread::sleep(Duration::from_millis(100));
        pair.ask(wake);
        let served = waiter.each_mut().map(Client::finish);
        pair.compare(wait, served);
        let events = listener.each_mut().map(|client| client.ask("PING"));
        pair.compare(&format!("events of {wait}, {wake}"), events);
    }
    assert!(heard > 80, "{heard}");
    pair.assert_same_replies();
}

/// One command a line.
const EVENTS: &str = "
GET none
MGET none none2
EXISTS none
TTL none
TYPE none
OBJECT ENCODING none
STRLEN none
LLEN none
DUMP none
SET s 1
SET s 2 KEEPTTL
SET s 3 EX 100
SET s 4 NX
SETNX s 4
SETNX s2 4
SETEX s3 100 1
PSETEX s4 100000 1
GETSET s 5
GETEX s EX 100
GETEX s PERSIST
GETEX s
GETDEL s
MSET a 1 b 2
MSETNX a 1 c 2
MSETNX m1 1 m2 2
INCR n
DECR n
INCRBY n 5
INCRBYFLOAT n 0.5
APPEND s5 x
APPEND s5 y
SETRANGE s5 3 z
SETRANGE s5 3 ''
SETBIT s6 3 1
DEL s5 s6 none
UNLINK a b
LPUSH l 1 2 3
RPUSH l 4 5
LPUSHX none 1
RPUSHX l 6
LSET l 0 x
LINSERT l BEFORE x y
LINSERT l BEFORE none y
LREM l 0 y
LREM l 0 none
LTRIM l 0 3
LPOP l
RPOP l 1
LMOVE l l2 LEFT RIGHT
LMOVE l l2 LEFT RIGHT
RPOPLPUSH l2 l2
LMPOP 1 l2 LEFT COUNT 5
RPUSH l3 1
LTRIM l3 5 6
RPUSH l3 1
LREM l3 0 1
SADD set 1 2 3
SADD set 1
SREM set 1 9
SREM set 9
SMOVE set set2 2
SMOVE set set2 3
SMOVE set2 set2 3
SADD set 2 4
SMOVE set2 set 2
SPOP set2
SADD set2 1 2 3
SPOP set2 2
SPOP set2 2
SINTERSTORE d set set
SUNIONSTORE d set none
SDIFFSTORE d set set
HSET h a 1 b 2
HSETNX h a 1
HSETNX h c 1
HMSET h d 1
HINCRBY h a 1
HINCRBYFLOAT h a 1.5
HDEL h a none
HDEL h none
HDEL h b c d
ZADD z 1 a 2 b 3 c
ZADD z 1 a
ZADD z XX 1 none
ZADD z INCR 1 a
ZINCRBY z 1 a
ZREM z a none
ZREM z none
ZADD z 1 a 2 b 3 c 4 d 5 e 6 f
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYSCORE z 2 2
ZREMRANGEBYLEX z [c [c
ZREMRANGEBYSCORE z 100 200
ZPOPMIN z
ZPOPMAX z 1
ZRANGESTORE zd z 0 -1
ZUNIONSTORE zd 2 z zd
ZINTERSTORE zd 2 z zd
ZDIFFSTORE zd 2 z z
ZMPOP 1 z MIN COUNT 10
SET e 1
EXPIRE e 100
EXPIRE e 100 NX
PERSIST e
PERSIST e
PEXPIREAT e 99999999999999
EXPIRE e -1
SET e 1
RENAME e f
RENAME f f
SET e 1
RENAME e f
RENAMENX f f
RENAMENX f g
COPY g k
COPY g k
COPY g k REPLACE
COPY g k DB 3
MOVE g 4
SELECT 4
MOVE g 5
INCR other
SELECT 0
DUMP k
RESTORE r 0 \"\\x00\\xc0\\x01\\x0a\\x00\\x26\\x78\\xe7\\xb6\\xd1\\x01\\x11\\xfc\"
RPUSH so 3 1 2
SORT so STORE so2
SORT none STORE so2
PFADD hll a
PFMERGE hll2 hll
GEOADD geo 13 38 p
GEOSEARCHSTORE geo2 geo FROMMEMBER p BYRADIUS 10 km
MULTI
SET t 1
INCR t
LPUSH tl 1
EXEC
CONFIG SET notify-keyspace-events Kl
SET quiet 1
LPUSH loud 1
CONFIG SET notify-keyspace-events Exg
LPUSH quiet2 1
SET brief 1
PEXPIRE brief 1
GET brief
CONFIG SET notify-keyspace-events A
SET silent 1
CONFIG SET notify-keyspace-events KEAmn
FLUSHDB
FLUSHALL
";
