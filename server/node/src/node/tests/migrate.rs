//! MIGRATE on the pure node: a target that says what the test wants, or a second node, in virtual time.

use super::*;

const TARGET: &str = "127.0.0.2 7000";

impl Bench {
    /// The connection that was asked for last; it is up now.
    fn target_accepts(&mut self) -> ConnId {
        let (conn, _) = self.dials.pop().expect("the node dials");
        let input = Input::Connected { conn, local: addr(50_001), peer: addr(7000) };
        self.node.input(self.now, input, &mut self.effects);
        self.settle();
        conn
    }

    fn target_says(&mut self, conn: ConnId, bytes: &str) {
        self.send(conn, bytes);
    }

    fn connection_ends(&mut self, conn: ConnId) {
        self.node.input(self.now, Input::Closed { conn }, &mut self.effects);
        self.settle();
    }

    /// The words of the commands that wait to be sent to the target, payloads left out.
    fn sent(&mut self, conn: ConnId) -> Vec<String> {
        let outbox = self.node.outbox(conn).expect("an open connection");
        let bytes: Vec<u8> = outbox.sendable(Ticket(u64::MAX), usize::MAX).flatten().copied().collect();
        outbox.advance(bytes.len());
        let input = Input::Flushed { conn, bytes: bytes.len() };
        self.node.input(self.now, input, &mut self.effects);
        self.settle();
        let mut parser = crate::replication::commands::CommandParser::default();
        parser.feed(&bytes);
        let mut sent = Vec::new();
        while let Some(command) = parser.next_command().unwrap() {
            let words = command.args().map(|word| match std::str::from_utf8(word) {
                Ok(text) if text.len() < 20 && text.chars().all(|c| c.is_ascii_graphic()) => text.to_owned(),
                _ => "~".to_owned(),
            });
            sent.push(words.collect::<Vec<_>>().join(" "));
        }
        sent
    }
}

/// A node that owns all slots and gives away the one of these keys, which it has.
fn giving_away(keys: &str, slot: u16) -> Bench {
    let (mut bench, other) = Bench::one_of_two();
    let admin = bench.connect();
    assert_eq!(bench.ask(admin, &format!("MSET {keys}")), "+OK|");
    bench.send(admin, &format!("CLUSTER SETSLOT {slot} MIGRATING {other}\r\n"));
    bench.disk_works();
    assert_eq!(bench.sendable(admin), "+OK|");
    bench.dials.clear();
    bench
}

/// A value is put and its MIGRATE begun, up to the RESTORE that has left.
fn under_way(bench: &mut Bench, caller: ConnId) -> ConnId {
    assert_eq!(bench.ask(caller, "SET k v"), "+OK|");
    assert_eq!(bench.ask(caller, &format!("MIGRATE {TARGET} k 0 1000")), "");
    let target = bench.target_accepts();
    bench.sent(target);
    target
}

#[test]
fn a_parked_writer_is_sent_after_the_key() {
    let slot = crate::keyspace::Slot::of_key(b"k").0;
    let mut bench = giving_away("k v", slot);
    let [caller, writer, reader, flusher, transaction] = [(); 5].map(|()| bench.connect());
    assert_eq!(bench.ask(caller, &format!("MIGRATE {TARGET} \"\" 0 1000 KEYS k {{k}}none")), "");
    let target = bench.target_accepts();
    assert_eq!(bench.sent(target), ["SELECT 0", "RESTORE-ASKING k 0 ~"]);

    assert_eq!(bench.ask(writer, "APPEND k w"), "", "a write waits");
    assert_eq!(bench.ask(flusher, "FLUSHALL"), "", "so does what would write all keys");
    bench.ask(transaction, "MULTI");
    bench.ask(transaction, "INCR k");
    assert_eq!(bench.ask(transaction, "EXEC"), "", "so does a transaction with a write");
    assert_eq!(bench.ask(reader, "GET k"), "$1|v|", "a read goes on");

    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.sendable(caller), "+OK|");
    let ask = format!("-ASK {slot} 127.0.0.2:7000|");
    assert_eq!(bench.sendable(writer), ask);
    assert_eq!(bench.sendable(transaction), ask);
    assert_eq!(bench.ask(reader, "GET k"), ask);
    assert_eq!(bench.sendable(flusher), "+OK|");
}

#[test]
fn some_keys_here_and_some_there_is_try_again() {
    let slot = crate::keyspace::Slot::of_key(b"{k}1").0;
    let mut bench = giving_away("{k}1 a {k}2 b", slot);
    let (caller, client) = (bench.connect(), bench.connect());
    assert_eq!(bench.ask(client, "MGET {k}1 {k}2"), "*2|$1|a|$1|b|");
    bench.ask(caller, &format!("MIGRATE {TARGET} {{k}}1 0 1000"));
    let target = bench.target_accepts();
    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.sendable(caller), "+OK|");
    assert_eq!(
        bench.ask(client, "MGET {k}1 {k}2"),
        "-TRYAGAIN Multiple keys request during rehashing of slot|"
    );
    assert_eq!(bench.ask(client, "MGET {k}1 {k}3"), format!("-ASK {slot} 127.0.0.2:7000|"));
    // On an open slot MIGRATE is for this node even without its key.
    assert_eq!(bench.ask(caller, &format!("MIGRATE {TARGET} {{k}}1 0 1000")), "+NOKEY|");
}

#[test]
fn the_file_hears_of_the_deletion_before_the_caller_does() {
    let mut bench =
        Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes"), ("appendfsync", "always")]);
    let caller = bench.connect();
    bench.send(caller, "SET k v\r\n");
    bench.disk_works();
    assert_eq!(bench.sendable(caller), "+OK|");
    bench.send(caller, &format!("MIGRATE {TARGET} k 0 1000\r\n"));
    let target = bench.target_accepts();
    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.sendable(caller), "", "the DEL is not durable yet");
    assert!(bench.disk.iter().any(|(_, op)| {
        matches!(op, DiskOp::Append { bytes, .. } if bytes.ends_with(b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"))
    }));
    bench.disk_works();
    assert_eq!(bench.sendable(caller), "+OK|");
}

#[test]
fn only_what_the_target_took_is_deleted() {
    let mut bench = Bench::alone();
    let caller = bench.connect();
    bench.ask(caller, "MSET a 1 b 2 c 3");
    bench.ask(caller, &format!("MIGRATE {TARGET} \"\" 0 1000 KEYS a b c"));
    let target = bench.target_accepts();
    assert_eq!(bench.sent(target), ["SELECT 0", "RESTORE a 0 ~", "RESTORE b 0 ~", "RESTORE c 0 ~"]);
    bench.target_says(target, "+OK\r\n+OK\r\n-BUSYKEY Target key name already exists.\r\n+O");
    assert_eq!(bench.ask(caller, ""), "", "a reply is still to come");
    bench.target_says(target, "K\r\n");
    let error = "-ERR Target instance replied with error: BUSYKEY Target key name already exists.|";
    assert_eq!(bench.sendable(caller), error);
    assert_eq!(bench.ask(caller, "MGET a b c"), "*3|$-1|$1|2|$-1|");
    // The connection is kept, its database is not known.
    bench.ask(caller, &format!("MIGRATE {TARGET} b 0 1000 REPLACE"));
    assert!(bench.dials.is_empty());
    assert_eq!(bench.sent(target), ["SELECT 0", "RESTORE b 0 ~ REPLACE"]);
}

#[test]
fn a_copy_stays_here() {
    let mut bench = Bench::alone();
    let caller = bench.connect();
    bench.ask(caller, "SET k v");
    bench.ask(caller, &format!("MIGRATE {TARGET} k 3 1000 COPY"));
    let target = bench.target_accepts();
    assert_eq!(bench.sent(target), ["SELECT 3", "RESTORE k 0 ~"]);
    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.sendable(caller), "+OK|");
    assert_eq!(bench.ask(caller, "GET k"), "$1|v|");
}

#[test]
fn a_login_goes_first_and_without_it_nothing_counts() {
    let mut bench = Bench::alone();
    let caller = bench.connect();
    bench.ask(caller, "SET k v");
    for _ in 0..2 {
        bench.ask(caller, &format!("MIGRATE {TARGET} k 0 1000 AUTH2 keys KEYS"));
        let target = bench.target_accepts();
        assert_eq!(bench.sent(target), ["AUTH keys KEYS", "SELECT 0", "RESTORE k 0 ~"]);
        bench.target_says(target, "-WRONGPASS no\r\n+OK\r\n+OK\r\n");
        assert_eq!(bench.sendable(caller), "-ERR Target instance replied with error: WRONGPASS no|");
        assert_eq!(bench.ask(caller, "GET k"), "$1|v|");
        bench.connection_ends(target);
    }
}

#[test]
fn connections_are_kept_for_ten_seconds() {
    let mut bench = Bench::alone();
    let caller = bench.connect();
    let target = under_way(&mut bench, caller);
    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.sendable(caller), "+OK|");
    bench.pass_ms(9_999);
    bench.ask(caller, "SET k v");
    bench.ask(caller, &format!("MIGRATE {TARGET} k 0 1000 AUTH pw"));
    assert!(bench.dials.is_empty(), "the connection is used again");
    assert_eq!(bench.sent(target), ["AUTH pw", "RESTORE k 0 ~"], "AUTH each time, SELECT once");
    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.sendable(caller), "+OK|");
    bench.pass_ms(9_999);
    assert!(!bench.closes.contains(&target));
    bench.pass_ms(1);
    assert!(bench.closes.contains(&target));
}

#[test]
fn a_kept_connection_that_died_is_replaced_once() {
    let mut bench = Bench::alone();
    let caller = bench.connect();
    let first = under_way(&mut bench, caller);
    bench.target_says(first, "+OK\r\n+OK\r\n");
    bench.sendable(caller);
    bench.ask(caller, "MSET k v l w");
    bench.ask(caller, &format!("MIGRATE {TARGET} \"\" 0 1000 KEYS k l"));
    bench.sent(first);
    bench.connection_ends(first);
    assert_eq!(bench.sendable(caller), "", "it is tried again");
    let second = bench.target_accepts();
    assert_eq!(bench.sent(second), ["SELECT 0", "RESTORE k 0 ~", "RESTORE l 0 ~"]);
    bench.target_says(second, "+OK\r\n+OK\r\n");
    bench.connection_ends(second);
    assert_eq!(bench.sendable(caller), "-IOERR error or timeout reading to target instance|");
    assert!(bench.dials.is_empty(), "a fresh connection is not replaced");
    assert_eq!(bench.ask(caller, "MGET k l"), "*2|$-1|$1|w|", "one was acknowledged");
}

#[test]
fn every_way_to_wait_in_vain_ends_at_the_timeout() {
    let mut bench = Bench::alone();
    let (caller, writer) = (bench.connect(), bench.connect());
    bench.ask(caller, "SET k v");
    let request = format!("MIGRATE {TARGET} k 0 1000");
    let connecting = "-IOERR error or timeout connecting to the client|";
    let writing = "-IOERR error or timeout writing to target instance|";
    let reading = "-IOERR error or timeout reading to target instance|";

    bench.ask(caller, &request);
    bench.ask(writer, "APPEND k w");
    bench.pass_ms(999);
    assert_eq!(bench.sendable(caller), "");
    bench.pass_ms(1);
    assert_eq!(bench.sendable(caller), connecting);
    assert_eq!(bench.sendable(writer), ":2|", "the key may be written again");

    bench.dials.clear();
    bench.ask(caller, &request);
    let (conn, _) = bench.dials.pop().unwrap();
    let error = "refused".to_owned();
    bench.node.input(bench.now, Input::ConnectFailed { conn, error }, &mut bench.effects);
    bench.settle();
    assert_eq!(bench.sendable(caller), writing);

    bench.ask(caller, &request);
    bench.target_accepts();
    bench.pass_ms(1000);
    assert_eq!(bench.sendable(caller), writing);

    bench.ask(caller, &request);
    let target = bench.target_accepts();
    bench.pass_ms(600);
    bench.sent(target);
    bench.pass_ms(999);
    assert_eq!(bench.sendable(caller), "", "progress puts the end off");
    bench.pass_ms(1);
    assert_eq!(bench.sendable(caller), reading);
    assert!(bench.closes.contains(&target), "a late reply must not be taken for the next one's");

    bench.ask(caller, &request);
    let target = bench.target_accepts();
    bench.sent(target);
    bench.target_says(target, "$3\r\nfoo\r\n");
    assert_eq!(bench.sendable(caller), reading, "what is no status is no yes");
    assert_eq!(bench.ask(caller, "GET k"), "$2|vw|");
}

#[test]
fn a_replica_to_be_gives_up_and_deletes_nothing() {
    let mut bench = Bench::alone();
    let (caller, writer, admin) = (bench.connect(), bench.connect(), bench.connect());
    let target = under_way(&mut bench, caller);
    bench.ask(writer, "APPEND k w");
    assert_eq!(bench.ask(admin, "REPLICAOF 127.0.0.9 7009"), "+OK|");
    assert!(bench.sendable(caller).starts_with("-UNBLOCKED force unblock from blocking operation"));
    assert_eq!(bench.sendable(writer), "-READONLY You can't write against a read only replica.|");
    assert!(bench.closes.contains(&target));
    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.ask(admin, "GET k"), "$1|v|");
}

#[test]
fn while_writes_are_paused_an_arrival_is_not_looked_at() {
    let mut bench = Bench::alone();
    let (caller, admin) = (bench.connect(), bench.connect());
    let target = under_way(&mut bench, caller);
    assert_eq!(bench.ask(admin, "CLIENT PAUSE 5000 WRITE"), "+OK|");
    bench.target_says(target, "+OK\r\n+OK\r\n");
    bench.connection_ends(target);
    bench.pass_ms(4_999);
    assert_eq!(bench.sendable(caller), "", "not even its timeout counts");
    assert_eq!(bench.ask(admin, "GET k"), "$1|v|");
    bench.pass_ms(1);
    assert_eq!(bench.sendable(caller), "+OK|");
    assert_eq!(bench.ask(admin, "GET k"), "$-1|");
}

#[test]
fn two_migrates_of_one_key_go_one_after_the_other() {
    let mut bench = Bench::alone();
    let (first, second, third) = (bench.connect(), bench.connect(), bench.connect());
    let target = under_way(&mut bench, first);
    bench.ask(third, "SET other v");
    assert_eq!(bench.ask(second, "MIGRATE 127.0.0.3 7000 k 0 1000"), "");
    assert!(bench.dials.is_empty(), "it waits");
    bench.ask(third, "MIGRATE 127.0.0.3 7000 other 0 1000");
    assert_eq!(bench.dials.len(), 1, "another key's does not");
    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.sendable(first), "+OK|");
    assert_eq!(bench.sendable(second), "+NOKEY|");
}

#[test]
fn it_goes_on_when_nobody_waits_for_it() {
    let mut bench = Bench::alone();
    let (caller, other) = (bench.connect(), bench.connect());
    let target = under_way(&mut bench, caller);
    bench.connection_ends(caller);
    bench.target_says(target, "+OK\r\n+OK\r\n");
    assert_eq!(bench.ask(other, "EXISTS k"), ":0|");
}

#[test]
fn a_key_in_flight_does_not_expire() {
    let mut bench = Bench::alone();
    let (caller, other) = (bench.connect(), bench.connect());
    bench.ask(caller, "SET k v PX 500");
    bench.pass_ms(100);
    bench.ask(caller, &format!("MIGRATE {TARGET} k 0 1000"));
    bench.pass_ms(100);
    let target = bench.target_accepts();
    assert_eq!(bench.sent(target)[1], "RESTORE k 300 ~", "what is left when it is sent");
    bench.pass_ms(900);
    assert_eq!(bench.ask(other, "GET k"), "$-1|");
    assert_eq!(bench.ask(other, "DBSIZE"), ":1|", "it is hidden and it is there");
    bench.connection_ends(target);
    assert_eq!(bench.sendable(caller), "-IOERR error or timeout reading to target instance|");
    bench.pass_ms(100);
    assert_eq!(bench.ask(other, "DBSIZE"), ":0|");
}

#[test]
fn what_would_wait_for_another_server_is_not_queued() {
    let mut bench = Bench::alone();
    let caller = bench.connect();
    bench.ask(caller, "MULTI");
    let refused = bench.ask(caller, &format!("MIGRATE {TARGET} k 0 1000"));
    assert_eq!(refused, "-ERR MIGRATE inside MULTI is not supported by this server|");
    assert_eq!(bench.ask(caller, "EXEC"), "-EXECABORT Transaction discarded because of previous errors.|");
}

#[test]
fn big_values_are_made_as_they_are_sent() {
    let mut bench = Bench::alone();
    let caller = bench.connect();
    // Noise, so that it cannot be compressed.
    let mut random = Random::seeded(1);
    let noise: String = (0..2 << 20).map(|_| char::from(b'0' + random.below(75) as u8)).collect();
    for key in ["a", "b", "c"] {
        bench.send(caller, &format!("*3\r\n$3\r\nSET\r\n$1\r\n{key}\r\n${}\r\n{noise}\r\n", noise.len()));
        assert_eq!(bench.sendable(caller), "+OK|");
    }
    bench.ask(caller, &format!("MIGRATE {TARGET} \"\" 0 1000 KEYS a b c"));
    let target = bench.target_accepts();
    let mut sent = 0;
    for _ in 0..3 {
        let waiting = bench.node.outbox(target).unwrap().len();
        assert!(waiting < 3 << 20, "{waiting} bytes of one value at a time");
        sent += bench.sent(target).len();
    }
    assert_eq!(sent, 4);
    bench.target_says(target, "+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
    assert_eq!(bench.sendable(caller), "+OK|");
}

/// Two nodes back to back.
struct Pair {
    source: Bench,
    target: Bench,
    /// The connection at its two ends.
    wire: (ConnId, ConnId),
}

impl Pair {
    fn connected(mut source: Bench, mut target: Bench) -> Self {
        let wire = (source.target_accepts(), target.connect());
        Self { source, target, wire }
    }

    fn requests_arrive(&mut self) {
        let outbox = self.source.node.outbox(self.wire.0).unwrap();
        let bytes: Vec<u8> = outbox.sendable(Ticket(u64::MAX), usize::MAX).flatten().copied().collect();
        outbox.advance(bytes.len());
        let left = Input::Flushed { conn: self.wire.0, bytes: bytes.len() };
        self.source.node.input(self.source.now, left, &mut self.source.effects);
        let input = Input::Received { conn: self.wire.1, bytes: &bytes };
        self.target.node.input(self.target.now, input, &mut self.target.effects);
        self.target.settle();
    }

    fn replies_arrive(&mut self) {
        let replies = self.target.sendable(self.wire.1).replace('|', "\r\n");
        self.source.target_says(self.wire.0, &replies);
    }
}

#[test]
fn a_target_that_dies_before_it_replies_leaves_the_key_in_both_places() {
    for replies in [false, true] {
        let (mut source, target) = (Bench::alone(), Bench::alone());
        let caller = source.connect();
        source.ask(caller, "HSET k f v");
        source.ask(caller, "EXPIRE k 100");
        source.ask(caller, &format!("MIGRATE {TARGET} k 0 1000"));
        let mut pair = Pair::connected(source, target);
        pair.requests_arrive();
        if replies {
            pair.replies_arrive();
        }
        pair.source.connection_ends(pair.wire.0);
        let reader = pair.target.connect();
        assert_eq!(pair.target.ask(reader, "HGETALL k"), "*2|$1|f|$1|v|");
        assert_eq!(pair.target.ask(reader, "TTL k"), ":100|");
        let (answer, here) = if replies {
            ("+OK|", ":0|")
        } else {
            ("-IOERR error or timeout reading to target instance|", ":1|")
        };
        assert_eq!(pair.source.sendable(caller), answer);
        assert_eq!(pair.source.ask(caller, "EXISTS k"), here);
    }
}
