//! The client against scripted servers: what it sends, where it goes, what it calls ok, fail and info.

use std::net::SocketAddr;

use super::*;

const MS: Nanos = 1_000_000;

/// A client and the wire as the test plays it.
struct Bench {
    client: ClusterClient,
    now: Nanos,
    sent: Vec<(Link, String)>,
    dialled: Vec<(Link, SocketAddr)>,
    looked: Vec<Completion>,
    messages: Vec<Message>,
    done: Vec<Completion>,
}

fn node(i: u8) -> SocketAddr {
    SocketAddr::from(([127, 1, 1, i], 6379))
}

/// CLUSTER SLOTS with two masters, split at 8192.
fn slots(first: u8, second: u8) -> String {
    format!(
        "*2\r\n*3\r\n:0\r\n:8191\r\n*3\r\n$9\r\n127.1.1.{first}\r\n:6379\r\n$1\r\na\r\n\
         *3\r\n:8192\r\n:16383\r\n*3\r\n$9\r\n127.1.1.{second}\r\n:6379\r\n$1\r\nb\r\n"
    )
}

impl Bench {
    /// A client that knows that node 1 owns the lower and node 2 the upper half.
    fn new() -> Self {
        let mut bench = Self {
            client: ClusterClient::new(ClientOptions::new(vec![node(1)], 1)),
            now: 0,
            sent: Vec::new(),
            dialled: Vec::new(),
            looked: Vec::new(),
            messages: Vec::new(),
            done: Vec::new(),
        };
        bench.client.tick(0);
        bench.run();
        let (link, _) = bench.dialled[0];
        bench.open(link);
        bench.on(Event::Received(link, slots(1, 2).as_bytes()));
        bench.sent.clear();
        bench
    }

    fn run(&mut self) {
        while let Some(step) = self.client.next_step() {
            match step {
                Step::Connect { link, to } => self.dialled.push((link, to)),
                Step::Send { link, bytes } => self.sent.push((link, String::from_utf8(bytes).unwrap())),
                Step::Close { .. } => {}
                Step::Message(message) => self.messages.push(message),
                Step::Looked(completion) => self.looked.push(completion),
                Step::Done(completion) => self.done.push(completion),
            }
        }
    }

    /// The dial succeeds and the server answers the greeting.
    fn open(&mut self, link: Link) {
        self.on(Event::Connected(link));
        self.on(Event::Received(link, b"+PONG\r\n"));
    }

    fn on(&mut self, event: Event<'_>) {
        self.client.on(self.now, event);
        self.run();
    }

    fn add(&mut self, id: u64, key: &str, wait: Option<Wait>) {
        self.request(id, key, &[&["SADD", key, "e1"]], Route::Master, wait);
    }

    fn request(&mut self, id: u64, key: &str, commands: &[&[&str]], route: Route, wait: Option<Wait>) {
        let commands = commands.iter().map(|words| words.iter().map(|&word| word.into()).collect()).collect();
        self.client.request(self.now, Request { id, key: key.into(), commands, route, wait });
        self.run();
    }

    fn at(&mut self, now: Nanos) {
        self.now = now;
        self.client.tick(now);
        self.run();
    }

    fn link(&self, to: SocketAddr) -> Link {
        self.dialled.iter().rev().find(|(_, address)| *address == to).expect("dialled").0
    }
}

// "a" hashes to 15495 (upper half), "b" to 3300 (lower half).

#[test]
fn an_answer_is_ok_and_names_the_node() {
    let mut bench = Bench::new();
    bench.add(1, "b", None);
    let link = bench.link(node(1));
    bench.on(Event::Received(link, b":1\r\n"));
    let ok =
        Completion { id: 1, outcome: Outcome::Ok(BytesFrame::Integer(1)), node: Some(node(1)), wait: None };
    assert_eq!(bench.done, [ok]);
}

#[test]
fn moved_is_followed_and_remembered() {
    let mut bench = Bench::new();
    bench.add(1, "b", None);
    let first = bench.link(node(1));
    bench.on(Event::Received(first, b"-MOVED 3300 127.1.1.4:6379\r\n"));
    let second = bench.link(node(4));
    bench.open(second);
    bench.on(Event::Received(second, b":1\r\n"));
    assert_eq!(bench.done[0].node, Some(node(4)));
    bench.add(2, "b", None);
    assert_eq!(bench.sent.last().unwrap().0, second);
}

#[test]
fn ask_sends_asking_first_and_is_not_remembered() {
    let mut bench = Bench::new();
    bench.add(1, "b", None);
    let first = bench.link(node(1));
    bench.on(Event::Received(first, b"-ASK 3300 127.1.1.4:6379\r\n"));
    let second = bench.link(node(4));
    bench.open(second);
    assert!(bench.sent.last().unwrap().1.starts_with("*1\r\n$6\r\nASKING\r\n*3\r\n"));
    bench.on(Event::Received(second, b"+OK\r\n:1\r\n"));
    assert!(matches!(bench.done[0].outcome, Outcome::Ok(_)));
    bench.add(2, "b", None);
    assert_eq!(bench.sent.last().unwrap().0, first);
}

#[test]
fn sent_and_unanswered_is_info_and_a_late_answer_belongs_to_nobody() {
    let mut bench = Bench::new();
    bench.add(1, "b", None);
    bench.at(999 * MS);
    assert!(bench.done.is_empty());
    bench.at(1000 * MS);
    assert!(matches!(bench.done[0].outcome, Outcome::Info(_)));
    bench.add(2, "b", None);
    let link = bench.link(node(1));
    // 1's answer, then that of the CLUSTER SLOTS asked on the timeout if it went here, then 2's.
    let asked = bench.sent.iter().filter(|(to, text)| *to == link && text.contains("SLOTS")).count();
    bench.on(Event::Received(link, b":7\r\n"));
    for _ in 0..asked {
        bench.on(Event::Received(link, slots(1, 2).as_bytes()));
    }
    assert_eq!(bench.done.len(), 1);
    bench.on(Event::Received(link, b":8\r\n"));
    assert_eq!(bench.done[1].outcome, Outcome::Ok(BytesFrame::Integer(8)));
}

#[test]
fn a_connection_lost_after_sending_is_info() {
    let mut bench = Bench::new();
    bench.add(1, "b", None);
    let link = bench.link(node(1));
    bench.on(Event::Closed(link, "reset"));
    assert!(matches!(bench.done[0].outcome, Outcome::Info(_)));
}

#[test]
fn an_error_reply_is_fail() {
    let mut bench = Bench::new();
    bench.add(1, "b", None);
    let link = bench.link(node(1));
    bench.on(Event::Received(link, b"-CLUSTERDOWN The cluster is down\r\n"));
    assert_eq!(bench.done[0].outcome, Outcome::Fail("CLUSTERDOWN The cluster is down".into()));
}

#[test]
fn a_refused_dial_waits_for_a_newer_map_and_goes_to_the_new_owner() {
    let mut bench = Bench::new();
    bench.at(200 * MS);
    bench.add(1, "a", None); // node 2: not dialled before
    let dead = bench.link(node(2));
    bench.on(Event::Refused(dead, "connection refused"));
    assert!(bench.done.is_empty());
    let asked = bench.sent.last().unwrap().clone();
    assert!(asked.1.contains("SLOTS"));
    bench.on(Event::Received(asked.0, slots(1, 5).as_bytes()));
    let new = bench.link(node(5));
    bench.open(new);
    bench.on(Event::Received(new, b":1\r\n"));
    assert!(matches!(bench.done[0].outcome, Outcome::Ok(_)));
}

#[test]
fn a_refused_dial_fails_when_the_newer_map_has_the_same_owner() {
    let mut bench = Bench::new();
    bench.at(200 * MS);
    bench.add(1, "a", None);
    let dead = bench.link(node(2));
    bench.on(Event::Refused(dead, "connection refused"));
    let asked = bench.sent.last().unwrap().0;
    bench.on(Event::Received(asked, slots(1, 2).as_bytes()));
    assert!(matches!(bench.done[0].outcome, Outcome::Fail(_)));
}

#[test]
fn never_sent_is_fail_even_at_the_deadline() {
    let mut bench = Bench::new();
    bench.add(1, "a", None); // node 2 is being dialled and never answers
    bench.at(1000 * MS);
    assert!(matches!(bench.done[0].outcome, Outcome::Fail(_)));
    let link = bench.link(node(2));
    bench.sent.clear();
    bench.open(link);
    assert!(
        bench.sent.iter().all(|(_, text)| !text.contains("SADD")),
        "a failed request is never sent later"
    );
}

#[test]
fn a_connection_that_ends_before_the_greeting_is_a_refused_dial() {
    let mut bench = Bench::new();
    bench.at(200 * MS);
    bench.add(1, "a", None);
    let dead = bench.link(node(2));
    bench.on(Event::Connected(dead)); // by a proxy: the server behind it is down
    assert!(bench.sent.iter().all(|(_, text)| !text.contains("SADD")));
    bench.on(Event::Closed(dead, "reset"));
    let asked = bench.sent.last().unwrap().0;
    bench.on(Event::Received(asked, slots(1, 2).as_bytes()));
    assert!(matches!(bench.done[0].outcome, Outcome::Fail(_)));
}

#[test]
fn wait_is_reported_beside_the_write() {
    let mut bench = Bench::new();
    bench.add(1, "b", Some(Wait { replicas: 1, timeout_ms: 500 }));
    let link = bench.link(node(1));
    assert!(bench.sent.last().unwrap().1.ends_with("*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$3\r\n500\r\n"));
    bench.on(Event::Received(link, b":1\r\n"));
    assert!(bench.done.is_empty());
    bench.on(Event::Received(link, b":1\r\n"));
    assert_eq!(bench.done[0].wait, Some(1));
}

#[test]
fn a_write_whose_wait_is_not_answered_is_still_ok() {
    let mut bench = Bench::new();
    bench.add(1, "b", Some(Wait { replicas: 1, timeout_ms: 500 }));
    let link = bench.link(node(1));
    bench.on(Event::Received(link, b":1\r\n"));
    bench.on(Event::Closed(link, "reset"));
    assert_eq!(
        (bench.done[0].outcome.clone(), bench.done[0].wait),
        (Outcome::Ok(BytesFrame::Integer(1)), None)
    );
}

/// Met in a run against redis-server 7.0.15: the answer of the first node's WAIT made a write that was on its way to the second
/// one look unsent, and its time-out a certain failure.
#[test]
fn after_a_redirection_the_first_nodes_wait_says_nothing_of_the_write() {
    let redirected = || {
        let mut bench = Bench::new();
        bench.add(1, "b", Some(Wait { replicas: 1, timeout_ms: 100 }));
        let first = bench.link(node(1));
        bench.on(Event::Received(first, b"-MOVED 3300 127.1.1.4:6379\r\n"));
        let second = bench.link(node(4));
        bench.open(second);
        (bench, first, second)
    };
    let (mut bench, first, _) = redirected();
    bench.on(Event::Received(first, b":0\r\n"));
    bench.at(1000 * MS);
    assert!(matches!(bench.done[0].outcome, Outcome::Info(_)), "it was sent to the second: {:?}", bench.done);

    let (mut bench, first, second) = redirected();
    bench.on(Event::Received(second, b":1\r\n"));
    bench.on(Event::Received(first, b":7\r\n"));
    assert!(bench.done.is_empty());
    bench.on(Event::Received(second, b":1\r\n"));
    assert_eq!(bench.done[0].wait, Some(1));
}

/// A lost connection that only a stale WAIT was out on says nothing of a write that waits for another connection.
#[test]
fn a_write_that_waits_for_its_second_connection_stays_unsent() {
    let mut bench = Bench::new();
    bench.add(1, "b", Some(Wait { replicas: 1, timeout_ms: 100 }));
    let first = bench.link(node(1));
    bench.on(Event::Received(first, b"-MOVED 3300 127.1.1.4:6379\r\n"));
    bench.on(Event::Closed(first, "reset"));
    bench.at(1000 * MS);
    assert!(matches!(bench.done[0].outcome, Outcome::Fail(_)), "{:?}", bench.done);
}

#[test]
fn foreign_bytes_close_the_connection() {
    let mut bench = Bench::new();
    bench.add(1, "b", None);
    let link = bench.link(node(1));
    bench.on(Event::Received(link, b"HTTP/1.1 400 Bad Request\r\n"));
    assert!(matches!(bench.done[0].outcome, Outcome::Info(_)));
}

const TRANSACTION: &[&[&str]] = &[&["MULTI"], &["INCR", "b"], &["EXEC"]];

#[test]
fn a_transaction_is_answered_by_its_last_command() {
    let mut bench = Bench::new();
    bench.request(1, "b", TRANSACTION, Route::Master, None);
    let link = bench.link(node(1));
    bench.on(Event::Received(link, b"+OK\r\n+QUEUED\r\n*1\r\n:7\r\n"));
    assert_eq!(bench.done[0].outcome, Outcome::Ok(BytesFrame::Array(vec![BytesFrame::Integer(7)])));
}

#[test]
fn a_transaction_is_redirected_by_what_its_commands_were_told() {
    let mut bench = Bench::new();
    bench.request(1, "b", TRANSACTION, Route::Master, None);
    let first = bench.link(node(1));
    let aborted = b"+OK\r\n-ASK 3300 127.1.1.4:6379\r\n-EXECABORT Transaction discarded\r\n";
    bench.on(Event::Received(first, aborted));
    let second = bench.link(node(4));
    bench.open(second);
    let sent = &bench.sent.last().unwrap().1;
    assert!(sent.find("ASKING") < sent.find("MULTI") && sent.contains("EXEC"), "{sent}");
    bench.on(Event::Received(second, b"+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n"));
    assert!(matches!(bench.done[0].outcome, Outcome::Ok(_)), "{:?}", bench.done);
}

#[test]
fn try_again_is_tried_again_and_fails_at_the_deadline_without_having_happened() {
    let mut bench = Bench::new();
    bench.request(1, "b", &[&["MGET", "b", "b"]], Route::Master, None);
    let link = bench.link(node(1));
    for round in 1..=3 {
        bench.on(Event::Received(link, b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"));
        bench.at(round * 20 * MS);
        assert_eq!(bench.sent.len(), round as usize + 1, "once more");
    }
    bench.on(Event::Received(link, b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"));
    bench.client.tick(1000 * MS);
    bench.run();
    assert!(matches!(&bench.done[0].outcome, Outcome::Fail(why) if why.starts_with("TRYAGAIN")));
}

const LOOK: &[&[&str]] = &[&["WATCH", "b"], &["GET", "b"]];

#[test]
fn who_looks_first_has_a_connection_to_himself_and_goes_on_there() {
    let mut bench = Bench::new();
    bench.request(1, "b", LOOK, Route::Alone, None);
    bench.request(2, "b", LOOK, Route::Alone, None);
    bench.add(3, "b", None);
    let links: Vec<Link> = bench.dialled.iter().map(|(link, _)| *link).collect();
    assert_eq!(links.len(), 3, "the shared one and one each");
    bench.open(links[1]);
    bench.on(Event::Received(links[1], b"+OK\r\n$2\r\ne5\r\n"));
    assert!(bench.looked[0].id == 1 && bench.done.is_empty());
    let commands = vec![vec![b"MULTI".to_vec()], vec![b"EXEC".to_vec()]];
    bench.client.go_on(bench.now, 1, commands);
    bench.run();
    assert_eq!(bench.sent.last().unwrap().0, links[1]);
    bench.on(Event::Received(links[1], b"+OK\r\n*0\r\n"));
    assert_eq!(bench.done[0].id, 1);
    bench.request(4, "b", LOOK, Route::Alone, None);
    assert_eq!(bench.sent.last().unwrap().0, links[1], "it is free again");
}

#[test]
fn who_only_looked_did_nothing_and_who_went_on_may_have() {
    for (goes_on, happened) in [(false, false), (true, true)] {
        let mut bench = Bench::new();
        bench.request(1, "b", LOOK, Route::Alone, None);
        let link = bench.link(node(1));
        bench.open(link);
        if goes_on {
            bench.on(Event::Received(link, b"+OK\r\n$2\r\ne5\r\n"));
            bench.client.go_on(bench.now, 1, vec![vec![b"EXEC".to_vec()]]);
        }
        bench.on(Event::Closed(link, "reset"));
        assert_eq!(matches!(bench.done[0].outcome, Outcome::Info(_)), happened, "{:?}", bench.done);
    }
}

#[test]
fn a_watch_ends_where_it_was_set() {
    let mut bench = Bench::new();
    bench.request(1, "b", LOOK, Route::Alone, None);
    let link = bench.link(node(1));
    bench.open(link);
    bench.on(Event::Received(link, b"+OK\r\n$2\r\ne5\r\n"));
    bench.client.go_on(bench.now, 1, TRANSACTION.iter().map(|_| vec![b"EXEC".to_vec()]).collect());
    bench.run();
    bench.on(Event::Received(link, b"+OK\r\n-MOVED 3300 127.1.1.4:6379\r\n-EXECABORT discarded\r\n"));
    assert_eq!(bench.done[0].outcome, Outcome::Fail("MOVED 3300 127.1.1.4:6379".into()));
}

#[test]
fn a_replica_is_asked_after_readonly_and_its_redirection_is_not_followed() {
    let mut bench = Bench::new();
    bench.request(1, "b", &[&["GET", "b"]], Route::Replica, None);
    let shared = bench.link(node(1));
    // It knows no replica yet, and asks.
    let answer = "*1\r\n*4\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.1.1.1\r\n:6379\r\n$1\r\na\r\n\
                  *3\r\n$9\r\n127.1.1.7\r\n:6379\r\n$1\r\nc\r\n";
    bench.at(100 * MS);
    bench.on(Event::Received(shared, answer.as_bytes()));
    let replica = bench.link(node(7));
    bench.on(Event::Connected(replica));
    assert!(bench.sent.last().unwrap().1.contains("READONLY"));
    bench.on(Event::Received(replica, b"+PONG\r\n+OK\r\n-MOVED 3300 127.1.1.1:6379\r\n"));
    assert_eq!(bench.done[0].outcome, Outcome::Fail("MOVED 3300 127.1.1.1:6379".into()));
}

fn push(kind: &str, channel: &str, last: &str) -> String {
    format!("*3\r\n${}\r\n{kind}\r\n${}\r\n{channel}\r\n{last}", kind.len(), channel.len())
}

#[test]
fn a_subscription_is_made_again_where_its_connection_was_lost() {
    let mut bench = Bench::new();
    let subscription = Subscription { channel: "news".into(), sharded: false };
    bench.client.subscribe(bench.now, subscription);
    bench.run();
    let (first, _) = *bench.dialled.last().unwrap();
    bench.open(first);
    assert!(bench.sent.last().unwrap().1.contains("SUBSCRIBE"));
    bench.on(Event::Received(first, push("subscribe", "news", ":1\r\n").as_bytes()));
    bench.on(Event::Received(first, push("message", "news", "$2\r\ne5\r\n").as_bytes()));
    assert_eq!(bench.messages[0].payload, b"e5");
    bench.on(Event::Closed(first, "reset"));
    bench.at(500 * MS);
    let (second, _) = *bench.dialled.last().unwrap();
    assert_ne!(second, first, "it dials again");
    bench.open(second);
    assert!(bench.sent.last().unwrap().1.contains("SUBSCRIBE"));
}

#[test]
fn a_sharded_subscription_follows_its_slot() {
    let mut bench = Bench::new();
    bench.client.subscribe(bench.now, Subscription { channel: "b".into(), sharded: true });
    bench.run();
    let (link, to) = *bench.dialled.last().unwrap();
    assert_eq!(to, node(1));
    bench.open(link);
    bench.on(Event::Received(link, push("ssubscribe", "b", ":1\r\n").as_bytes()));
    // The slot moves: another request learns it first.
    bench.add(1, "b", None);
    let shared = bench.link(node(1));
    let shared = bench.dialled.iter().map(|(link, _)| *link).find(|link| *link != shared).unwrap_or(shared);
    bench.on(Event::Received(shared, b"-MOVED 3300 127.1.1.4:6379\r\n"));
    bench.at(10 * MS);
    let to: Vec<SocketAddr> = bench.dialled.iter().map(|(_, to)| *to).collect();
    assert_eq!(
        to.iter().filter(|to| **to == node(4)).count(),
        2,
        "for requests and for the subscription: {to:?}"
    );
}
