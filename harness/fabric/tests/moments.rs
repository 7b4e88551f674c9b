//! Single bus messages under rules, and moments that hold what matched until they are released.

use std::collections::BTreeSet;

use slotstorm_fabric::{
    ConnId, Dir, End, Endpoint, Ends, Fabric, FabricOptions, Fate, LinkChange, Listener, MessageRule,
    Messages, Moment, Output, Plane, Policy, Trap, message_type,
};

const N1: Endpoint = Endpoint::Node(1);
const N2: Endpoint = Endpoint::Node(2);
const N3: Endpoint = Endpoint::Node(3);
const C0: Endpoint = Endpoint::Client(0);
const MS: u64 = 1_000_000;

/// A bus message as a node sends it: `master` with slots or a replica.
fn message(kind: &str, sender: Endpoint, epoch: u64, master: bool, about: Option<Endpoint>) -> Vec<u8> {
    let mut bytes = vec![0; if about.is_some() { 2296 } else { 2256 }];
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(b"RCmb");
    bytes[4..8].copy_from_slice(&len.to_be_bytes());
    bytes[12..14].copy_from_slice(&message_type(kind).unwrap().to_be_bytes());
    bytes[16..24].copy_from_slice(&epoch.to_be_bytes());
    bytes[40..80].copy_from_slice(&id(sender));
    bytes[80] = u8::from(master);
    bytes[2251] = if master { 1 } else { 2 };
    if let Some(about) = about {
        bytes[2256..2296].copy_from_slice(&id(about));
    }
    bytes
}

fn id(node: Endpoint) -> [u8; 40] {
    let Endpoint::Node(number) = node else { panic!("a node") };
    [b'a' + number as u8; 40]
}

fn ping(sender: Endpoint) -> Vec<u8> {
    message("ping", sender, 5, true, None)
}

struct Bench {
    fabric: Fabric,
    /// What arrived, by connection and direction.
    arrived: Vec<(ConnId, Dir, Vec<u8>)>,
    ended: Vec<ConnId>,
}

impl Bench {
    fn new() -> Self {
        Self { fabric: Fabric::new(FabricOptions::default()), arrived: Vec::new(), ended: Vec::new() }
    }

    fn open(&mut self, from: Endpoint, to: Endpoint, listener: Listener) -> ConnId {
        let id = self.fabric.open(0, from, to, listener);
        self.fabric.connected(id);
        self.run(0);
        id
    }

    fn push(&mut self, now: u64, conn: ConnId, bytes: &[u8]) {
        self.fabric.push(now, conn, Dir::Up, bytes);
        self.run(now);
    }

    fn run(&mut self, now: u64) {
        while let Some(output) = self.fabric.poll(now) {
            match output {
                Output::Deliver { conn, dir, bytes } => match self.arrived.last_mut() {
                    Some((last, way, have)) if (*last, *way) == (conn, dir) => have.extend(bytes),
                    _ => self.arrived.push((conn, dir, bytes)),
                },
                Output::Abort(conn) | Output::Closed(conn) => self.ended.push(conn),
                _ => {}
            }
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.arrived).into_iter().flat_map(|(_, _, bytes)| bytes).collect()
    }
}

fn only(end: Endpoint) -> Ends {
    Ends::Only(BTreeSet::from([end]))
}

fn of_type(kind: &str) -> Messages {
    Messages { types: vec![message_type(kind).unwrap()], ..Messages::default() }
}

fn trap(on: Moment, nth: u64, hold: bool) -> Trap {
    Trap { id: 7, on, nth, hold }
}

#[test]
fn a_message_is_dropped_and_the_stream_goes_on() {
    let mut bench = Bench::new();
    let bus = bench.open(N1, N2, Listener::Bus);
    let which = Messages { to: only(N2), epochs: Some((5, 9)), ..of_type("fail") };
    bench.fabric.filter(vec![MessageRule { id: 1, which, fate: Fate::Drop, percent: 100 }]);
    let stream =
        [ping(N1), message("fail", N1, 6, true, Some(N3)), message("fail", N1, 4, true, Some(N3))].concat();
    for piece in stream.chunks(1000) {
        bench.push(MS, bus, piece);
    }
    assert_eq!(bench.bytes(), [ping(N1), message("fail", N1, 4, true, Some(N3))].concat());
    assert_eq!(bench.fabric.filtered().get(&1), Some(&1));
}

#[test]
fn delayed_means_behind_nothing_and_reordered_means_behind_what_passed_meanwhile() {
    for (fate, first) in [(Fate::Delay { ms: 30 }, "update"), (Fate::Reorder { ms: 30 }, "ping")] {
        let mut bench = Bench::new();
        let bus = bench.open(N1, N2, Listener::Bus);
        bench.fabric.filter(vec![MessageRule { id: 1, which: of_type("update"), fate, percent: 100 }]);
        bench.push(MS, bus, &[message("update", N1, 6, true, None), ping(N1)].concat());
        bench.run(32 * MS);
        let whole = bench.bytes();
        assert_eq!(whole.len(), 2 * 2256, "{fate:?}");
        assert_eq!(whole[13], message_type(first).unwrap() as u8, "{fate:?}");
    }
}

#[test]
fn a_doubled_message_arrives_twice() {
    let mut bench = Bench::new();
    let bus = bench.open(N1, N2, Listener::Bus);
    let which = of_type("auth-ack");
    bench.fabric.filter(vec![MessageRule { id: 1, which, fate: Fate::Duplicate, percent: 100 }]);
    let ack = message("auth-ack", N1, 6, true, None);
    bench.push(MS, bus, &ack);
    assert_eq!(bench.bytes(), [ack.clone(), ack].concat());
}

#[test]
fn rules_that_end_in_the_middle_of_a_message_lose_nothing() {
    let mut bench = Bench::new();
    let bus = bench.open(N1, N2, Listener::Bus);
    let (one, two) = (ping(N1), message("update", N1, 6, true, None));
    bench.push(1, bus, &one[..700]);
    bench.fabric.filter(vec![MessageRule {
        id: 1,
        which: of_type("update"),
        fate: Fate::Drop,
        percent: 100,
    }]);
    bench.push(2, bus, &[&one[700..], &two[..900]].concat());
    bench.fabric.filter(Vec::new());
    bench.push(3, bus, &two[900..]);
    assert_eq!(bench.bytes(), [one, two].concat());
}

#[test]
fn a_match_is_held_with_all_that_follows_and_what_came_before_is_not() {
    let mut bench = Bench::new();
    let bus = bench.open(N1, N2, Listener::Bus);
    let messages = Messages { from: only(N1), ..of_type("auth-ack") };
    bench.fabric.watch(0, vec![trap(Moment::Message(messages), 2, true)]);
    let ack = message("auth-ack", N1, 6, true, None);
    bench.push(MS, bus, &[ping(N1), ack.clone(), ack.clone(), ping(N1)].concat());
    assert_eq!(bench.bytes(), [ping(N1), ack.clone()].concat(), "up to the first ack");
    let found = bench.fabric.take_matches();
    assert_eq!((found.len(), found[0].trap, found[0].from, found[0].to, found[0].epoch), (1, 7, N1, N2, 6));
    assert_eq!(bench.fabric.next_deadline(), None, "held for as long as it takes");
    bench.fabric.push_end(2 * MS, bus, Dir::Up, End::Rst);
    bench.run(500 * MS);
    assert!(bench.ended.is_empty(), "a reset waits behind what is held");
    bench.fabric.release(600 * MS, 7);
    bench.run(600 * MS);
    assert_eq!(bench.bytes(), [ack, ping(N1)].concat());
    assert_eq!(bench.ended, [bus]);
}

#[test]
fn a_trap_that_is_taken_away_lets_go_and_one_that_stays_counts_on() {
    let mut bench = Bench::new();
    let bus = bench.open(N1, N2, Listener::Bus);
    let update = message("update", N1, 6, true, None);
    bench.fabric.watch(0, vec![trap(Moment::Message(of_type("update")), 2, true)]);
    bench.push(1, bus, &update);
    bench.fabric.watch(2, vec![trap(Moment::Message(of_type("update")), 2, true)]);
    bench.push(3, bus, &update);
    assert_eq!((bench.fabric.take_matches().len(), bench.bytes().len()), (1, 2256));
    bench.fabric.watch(4, Vec::new());
    bench.run(4);
    assert_eq!(bench.bytes().len(), 2256);
}

#[test]
fn a_promotion_a_failure_and_a_new_epoch_are_moments() {
    let mut bench = Bench::new();
    let bus = bench.open(N2, N1, Listener::Bus);
    let back = bench.open(N1, N3, Listener::Bus);
    let traps = [Moment::Promotion(Ends::Any), Moment::Failure(only(N1)), Moment::Epoch];
    let traps = traps.into_iter().zip(1..).map(|(on, id)| Trap { id, on, nth: 1, hold: false }).collect();
    bench.fabric.watch(0, traps);
    bench.push(1, back, &ping(N1));
    bench.push(2, bus, &message("ping", N2, 5, false, None));
    assert!(bench.fabric.take_matches().is_empty());
    bench.push(3, bus, &message("fail", N2, 5, false, Some(N1)));
    bench.push(4, bus, &message("pong", N2, 6, true, None));
    let found = bench.fabric.take_matches();
    let told: Vec<(u32, u64)> = found.iter().map(|found| (found.trap, found.time)).collect();
    assert_eq!(told, [(2, 3), (1, 4), (3, 4)]);
    assert_eq!(found[0].subject, Some(N1));
}

#[test]
fn the_nth_command_of_a_plane_is_held_where_it_begins() {
    let mut bench = Bench::new();
    let word = Some("RESTORE-ASKING".to_owned());
    let on = Moment::Command { plane: Plane::Migrate, word, from: Ends::Any, to: only(N2) };
    bench.fabric.watch(0, vec![trap(on, 3, true)]);
    let conn = bench.open(N1, N2, Listener::Data);
    let restore = b"*2\r\n$14\r\nRESTORE-ASKING\r\n$1\r\nx\r\n";
    bench.push(1, conn, &[&restore[..], restore, restore, restore].concat());
    assert_eq!(bench.bytes(), [&restore[..], restore].concat());
    let on = Moment::Command { plane: Plane::Client, word: None, from: Ends::Any, to: Ends::Any };
    bench.fabric.watch(2, vec![Trap { id: 8, on, nth: 2, hold: false }]);
    let client = bench.open(C0, N2, Listener::Data);
    bench.push(3, client, b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(bench.fabric.take_matches().last().unwrap().what, "PING c0 to n2, number 2");
}

#[test]
fn the_first_byte_of_a_full_sync_is_held() {
    let mut bench = Bench::new();
    let on = Moment::FullSync { from: only(N1), to: Ends::Any };
    bench.fabric.watch(0, vec![trap(on, 1, true)]);
    let link = bench.open(N2, N1, Listener::Data);
    bench.push(1, link, b"*1\r\n$4\r\nPING\r\n");
    bench.bytes();
    let say = |bench: &mut Bench, bytes: &[u8]| {
        bench.fabric.push(2, link, Dir::Down, bytes);
        bench.run(2);
        bench.bytes()
    };
    let line = b"+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 0\r\n";
    assert_eq!(say(&mut bench, line), line);
    assert_eq!(say(&mut bench, b"\n"), b"\n");
    assert_eq!(say(&mut bench, b"$5\r\nREDIS"), b"");
    assert_eq!(bench.fabric.take_matches().len(), 1);
}

fn on_the_bus(policy: Policy) -> [LinkChange; 1] {
    [LinkChange { from: N1, to: N2, planes: vec![Plane::Bus], policy }]
}

#[test]
fn a_rate_limit_spaces_pieces_and_a_stall_holds_some_in_order() {
    let mut bench = Bench::new();
    let bus = bench.open(N1, N2, Listener::Bus);
    bench.fabric.apply(0, &on_the_bus(Policy::Rate { bytes_per_s: 1000 }));
    bench.push(0, bus, &[1; 100]);
    bench.push(0, bus, &[2; 100]);
    bench.run(100 * MS);
    assert_eq!(bench.bytes(), [1; 100]);
    bench.run(200 * MS);
    assert_eq!(bench.bytes(), [2; 100]);

    bench.fabric.apply(MS, &on_the_bus(Policy::Stall { permille: 500, stall_ms: 200 }));
    let sent: Vec<u8> = (0..100).collect();
    for (byte, at) in sent.iter().zip(1..) {
        bench.push(at * MS, bus, &[*byte]);
    }
    assert!(bench.bytes().len() < 20, "what follows a stalled piece waits behind it");
    bench.run(400 * MS);
    let late = bench.bytes();
    assert_eq!(sent[sent.len() - late.len()..], late[..]);
}

#[test]
fn what_waits_behind_a_rate_limit_comes_when_it_is_lifted() {
    let mut bench = Bench::new();
    let bus = bench.open(N1, N2, Listener::Bus);
    bench.fabric.apply(0, &on_the_bus(Policy::Rate { bytes_per_s: 1 }));
    bench.push(0, bus, &[1; 100]);
    bench.run(MS);
    assert_eq!(bench.bytes(), []);
    bench.fabric.apply(2 * MS, &on_the_bus(Policy::Pass));
    bench.push(2 * MS, bus, &[2; 100]);
    bench.run(2 * MS);
    assert_eq!(bench.bytes(), [[1; 100], [2; 100]].concat());
    // Nor does the next limit begin with the old one's debts.
    bench.fabric.apply(3 * MS, &on_the_bus(Policy::Rate { bytes_per_s: 1000 }));
    bench.push(3 * MS, bus, &[3; 10]);
    bench.run(13 * MS);
    assert_eq!(bench.bytes(), [3; 10]);
}
