//! What the fabric promises of every stream, under any order of bytes, policies, heals, back pressure and
//! time: what comes out is a prefix of what went in, and all of it comes out once the links pass, unless the
//! connection was reset.

use proptest::prelude::*;
use slotstorm_fabric::{
    ConnId, Dir, End, Endpoint, Fabric, FabricOptions, LinkChange, Listener, OnHeal, Output, Plane, Policy,
    StreamWhat,
};

const A: Endpoint = Endpoint::Node(1);
const B: Endpoint = Endpoint::Node(2);
const C: Endpoint = Endpoint::Client(0);
const MS: u64 = 1_000_000;
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const HELD: Policy = Policy::Blackhole { on_heal: OnHeal::Resume };

/// The two ends of every connection, in virtual time.
struct Bench {
    fabric: Fabric,
    now: u64,
    conns: Vec<Peer>,
    /// Sinks take at most this many bytes of a delivery, then are blocked until `unblock`.
    takes: usize,
}

struct Peer {
    id: ConnId,
    sent: [Vec<u8>; 2],
    got: [Vec<u8>; 2],
    fin: [bool; 2],
    blocked: [bool; 2],
    dialled: bool,
    reset: bool,
    closed: bool,
}

impl Bench {
    fn new() -> Self {
        let options = FabricOptions { seed: 1, queue_bytes: 4096, tape_bus: false };
        Self { fabric: Fabric::new(options), now: 0, conns: Vec::new(), takes: usize::MAX }
    }

    fn open(&mut self, caller: Endpoint, callee: Endpoint, listener: Listener) -> usize {
        let id = self.fabric.open(self.now, caller, callee, listener);
        let none = || [Vec::new(), Vec::new()];
        let (sent, got) = (none(), none());
        let (fin, blocked) = ([false; 2], [false; 2]);
        self.conns.push(Peer { id, sent, got, fin, blocked, dialled: false, reset: false, closed: false });
        self.run();
        self.conns.len() - 1
    }

    fn send(&mut self, conn: usize, dir: Dir, bytes: &[u8]) {
        let peer = &mut self.conns[conn];
        if dir == Dir::Down && !peer.dialled {
            return; // nobody is there
        }
        peer.sent[dir.index()].extend_from_slice(bytes);
        self.fabric.push(self.now, peer.id, dir, bytes);
        self.run();
    }

    fn end(&mut self, conn: usize, dir: Dir, end: End) {
        self.fabric.push_end(self.now, self.conns[conn].id, dir, end);
        self.run();
    }

    fn apply(&mut self, changes: &[(Endpoint, Endpoint, Policy)]) {
        let change = |&(from, to, policy): &_| LinkChange { from, to, planes: Plane::ALL.to_vec(), policy };
        let changes: Vec<_> = changes.iter().map(change).collect();
        self.fabric.apply(self.now, &changes);
        self.run();
    }

    fn pass(&mut self, nanos: u64) {
        let until = self.now + nanos;
        while let Some(at) = self.fabric.next_deadline().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.run();
        }
        self.now = until;
        self.run();
    }

    fn unblock(&mut self) {
        for i in 0..self.conns.len() {
            for dir in Dir::BOTH {
                if std::mem::take(&mut self.conns[i].blocked[dir.index()]) {
                    self.fabric.sink_ready(self.conns[i].id, dir);
                }
            }
        }
        self.run();
    }

    fn run(&mut self) {
        while let Some(output) = self.fabric.poll(self.now) {
            let (Output::Dial(id)
            | Output::Abort(id)
            | Output::Closed(id)
            | Output::Deliver { conn: id, .. }
            | Output::Fin { conn: id, .. }
            | Output::Reading { conn: id, .. }) = output;
            let Some(peer) = self.conns.iter_mut().find(|peer| peer.id == id) else {
                // The first outputs of a connection come out while it is being opened.
                panic!("an output for a connection that is not known");
            };
            assert!(!peer.reset && !peer.closed, "something came after the end");
            match output {
                Output::Dial(id) => {
                    assert!(!std::mem::replace(&mut peer.dialled, true), "dialled twice");
                    self.fabric.connected(id);
                }
                Output::Deliver { dir, bytes, .. } => {
                    assert!(!bytes.is_empty() && !peer.blocked[dir.index()] && !peer.fin[dir.index()]);
                    let taken = bytes.len().min(self.takes);
                    peer.got[dir.index()].extend_from_slice(&bytes[..taken]);
                    if taken < bytes.len() {
                        peer.blocked[dir.index()] = true;
                        self.fabric.give_back(id, dir, &bytes[taken..]);
                    }
                }
                Output::Fin { dir, .. } => peer.fin[dir.index()] = true,
                Output::Abort(_) => peer.reset = true,
                Output::Closed(_) => peer.closed = true,
                Output::Reading { .. } => {}
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Open(bool),
    Send { conn: usize, up: bool, len: usize },
    End { conn: usize, up: bool, rst: bool },
    Policy { up: bool, policy: Policy },
    Pass(u64),
    Takes(usize),
    Unblock,
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        4 => Just(Policy::Pass),
        3 => Just(HELD),
        1 => Just(Policy::Blackhole { on_heal: OnHeal::Reset }),
        3 => (0u32..50, 0u32..50).prop_map(|(delay_ms, jitter_ms)| Policy::Delay { delay_ms, jitter_ms }),
        1 => Just(Policy::Refuse),
        1 => Just(Policy::Reset),
        1 => Just(Policy::HalfClose),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => any::<bool>().prop_map(Act::Open),
        8 => (0usize..8, any::<bool>(), 1usize..6000).prop_map(|(conn, up, len)| Act::Send { conn, up, len }),
        1 => (0usize..8, any::<bool>(), any::<bool>()).prop_map(|(conn, up, rst)| Act::End { conn, up, rst }),
        4 => (any::<bool>(), policy()).prop_map(|(up, policy)| Act::Policy { up, policy }),
        4 => (0u64..60 * MS).prop_map(Act::Pass),
        1 => prop_oneof![Just(usize::MAX), 1usize..3000].prop_map(Act::Takes),
        2 => Just(Act::Unblock),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_stream_is_never_torn_and_is_whole_after_the_heal(acts in prop::collection::vec(act(), 1..80)) {
        let mut bench = Bench::new();
        bench.open(A, B, Listener::Data);
        let mut next = 0u8;
        // Who ended a direction sends no more; who was half-closed by policy is heard no more.
        let mut ended = std::collections::BTreeSet::new();
        // Who reset sends and hears no more; who finished by itself.
        let (mut resets, mut finished) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut half_closed = false;
        for act in acts {
            match act {
                Act::Open(bus) => {
                    bench.open(A, B, if bus { Listener::Bus } else { Listener::Data });
                }
                Act::Send { conn, up, len } => {
                    let (conn, dir) = (conn % bench.conns.len(), if up { Dir::Up } else { Dir::Down });
                    if !ended.contains(&(conn, dir)) {
                        let bytes: Vec<u8> = (0..len).map(|i| next.wrapping_add((i * 31 / 7) as u8)).collect();
                        next = next.wrapping_mul(5).wrapping_add(3);
                        if up && bench.conns[conn].sent[0].is_empty() {
                            bench.send(conn, dir, PING);
                        }
                        bench.send(conn, dir, &bytes);
                    }
                }
                Act::End { conn, up, rst } => {
                    let (conn, dir) = (conn % bench.conns.len(), if up { Dir::Up } else { Dir::Down });
                    if up || bench.conns[conn].dialled {
                        bench.end(conn, dir, if rst { End::Rst } else { End::Fin });
                        ended.insert((conn, dir));
                        if rst {
                            ended.insert((conn, dir.reverse()));
                            resets.insert((conn, dir));
                        } else {
                            finished.insert((conn, dir));
                        }
                    }
                }
                Act::Policy { up, policy } => {
                    half_closed |= policy == Policy::HalfClose;
                    bench.apply(&[if up { (A, B, policy) } else { (B, A, policy) }]);
                }
                Act::Pass(nanos) => bench.pass(nanos),
                Act::Takes(takes) => bench.takes = takes,
                Act::Unblock => bench.unblock(),
            }
            for peer in &bench.conns {
                for dir in 0..2 {
                    prop_assert!(peer.sent[dir].starts_with(&peer.got[dir]));
                }
            }
        }
        bench.apply(&[(A, B, Policy::Pass), (B, A, Policy::Pass)]);
        bench.takes = usize::MAX;
        bench.unblock();
        bench.pass(1_000 * MS);
        for (i, peer) in bench.conns.iter().enumerate() {
            for dir in Dir::BOTH {
                let (sent, got) = (&peer.sent[dir.index()], &peer.got[dir.index()]);
                prop_assert!(sent.starts_with(got));
                if !peer.reset && !half_closed && resets.contains(&(i, dir)) {
                    // Only who has read the end and has ended, too, is not told of a reset.
                    prop_assert!(peer.fin[dir.index()] && ended.contains(&(i, dir.reverse())));
                    prop_assert!(finished.contains(&(i, dir.reverse())) || resets.contains(&(i, dir.reverse())));
                } else if !peer.reset && !half_closed && !resets.contains(&(i, dir.reverse())) {
                    prop_assert_eq!(sent.len(), got.len(), "connection {} {:?}", i, dir);
                    prop_assert_eq!(ended.contains(&(i, dir)), peer.fin[dir.index()]);
                }
            }
            prop_assert!(peer.reset || peer.dialled);
        }
        prop_assert_eq!(bench.fabric.next_deadline(), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_jitter(sends in prop::collection::vec((0u64..20, 1usize..100), 1..30)) {
        let play = || {
            let mut bench = Bench::new();
            bench.open(C, B, Listener::Data);
            bench.apply(&[(C, B, Policy::Delay { delay_ms: 5, jitter_ms: 40 })]);
            let mut arrivals = Vec::new();
            for &(gap, len) in &sends {
                bench.send(0, Dir::Up, &vec![1; len]);
                bench.pass(gap * MS);
                arrivals.push(bench.conns[0].got[0].len());
            }
            arrivals
        };
        prop_assert_eq!(play(), play());
    }
}

#[test]
fn a_cut_is_directed_whoever_dialled() {
    let mut bench = Bench::new();
    let (by_a, by_b) = (bench.open(A, B, Listener::Bus), bench.open(B, A, Listener::Bus));
    bench.apply(&[(A, B, HELD)]);
    for (conn, dir) in [(by_a, Dir::Up), (by_a, Dir::Down), (by_b, Dir::Up), (by_b, Dir::Down)] {
        bench.send(conn, dir, b"x");
    }
    let got = |conn: usize, dir: Dir| bench.conns[conn].got[dir.index()].len();
    assert_eq!((got(by_a, Dir::Up), got(by_a, Dir::Down)), (0, 1));
    assert_eq!((got(by_b, Dir::Up), got(by_b, Dir::Down)), (1, 0));
    let held = bench.fabric.touched(&[(A, B)], false);
    assert_eq!((held.held_bytes, held.passed_bytes), (2, 0));
}

#[test]
fn a_delayed_piece_arrives_at_its_time_and_not_before() {
    let mut bench = Bench::new();
    bench.open(C, B, Listener::Data);
    bench.apply(&[(C, B, Policy::Delay { delay_ms: 30, jitter_ms: 0 })]);
    bench.send(0, Dir::Up, b"late");
    bench.end(0, Dir::Up, End::Fin);
    bench.pass(30 * MS - 1);
    assert!(bench.conns[0].got[0].is_empty());
    bench.pass(1);
    assert_eq!((bench.conns[0].got[0].as_slice(), bench.conns[0].fin[0]), (&b"late"[..], true));
}

#[test]
fn over_the_bound_reading_stops_and_goes_on_when_there_is_room() {
    let mut bench = Bench::new();
    bench.open(C, B, Listener::Data);
    bench.apply(&[(C, B, Policy::Delay { delay_ms: 10, jitter_ms: 0 })]);
    let id = bench.conns[0].id;
    bench.send(0, Dir::Up, &[0; 5000]);
    assert!(!bench.fabric.wants_read(id, Dir::Up) && bench.fabric.wants_read(id, Dir::Down));
    bench.pass(10 * MS);
    assert!(bench.fabric.wants_read(id, Dir::Up));
}

#[test]
fn a_connection_is_counted_once_for_both_its_directions_and_anew_after_a_reset_of_the_counters() {
    let mut bench = Bench::new();
    bench.apply(&[(B, A, Policy::Refuse)]);
    let refused = bench.open(A, B, Listener::Bus);
    assert!(bench.conns[refused].reset && !bench.conns[refused].dialled);
    for pairs in [&[(A, B)][..], &[(B, A)], &[(A, B), (B, A)]] {
        assert_eq!(bench.fabric.touched(pairs, false).connects, 1, "{pairs:?}");
    }
    assert_eq!(bench.fabric.touched(&[(A, B), (B, A)], true).resets, 1);
    assert_eq!(bench.fabric.touched(&[(A, B), (B, A)], false), slotstorm_fabric::Touched::default());
}

#[test]
fn an_undecided_call_waits_for_its_first_command_when_the_planes_differ() {
    let mut bench = Bench::new();
    let cut = |plane| LinkChange { from: B, to: A, planes: vec![plane], policy: HELD };
    bench.fabric.apply(0, &[cut(Plane::Replication)]);
    let (replica, migrate) = (bench.open(A, B, Listener::Data), bench.open(A, B, Listener::Data));
    assert!(!bench.conns[replica].dialled && !bench.conns[migrate].dialled);
    bench.send(replica, Dir::Up, &PING[..9]);
    bench.send(replica, Dir::Up, &PING[9..]);
    bench.send(migrate, Dir::Up, b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
    assert!(!bench.conns[replica].dialled && bench.conns[migrate].dialled);
    assert_eq!(bench.conns[migrate].got[0].len(), 23);
}

#[test]
fn the_tap_sees_what_a_delay_still_holds() {
    let mut bench = Bench::new();
    bench.open(A, B, Listener::Data);
    bench.send(0, Dir::Up, b"*3\r\n$5\r\nPSYNC\r\n$2\r\nid\r\n$3\r\n101\r\n");
    bench.apply(&[(B, A, Policy::Delay { delay_ms: 1000, jitter_ms: 0 })]);
    let command = b"*3\r\n$4\r\nSADD\r\n$1\r\nk\r\n$2\r\ne7\r\n";
    bench.pass(5 * MS);
    bench.send(0, Dir::Down, b"+CONTINUE\r\n");
    bench.send(0, Dir::Down, command);
    bench.end(0, Dir::Up, End::Rst);
    let seen = bench.fabric.take_stream_events();
    let offset = 100 + command.len() as u64;
    let what: Vec<_> = seen.iter().map(|event| event.what.clone()).collect();
    assert_eq!(
        what,
        [
            StreamWhat::Continue { replid: "id".to_owned(), offset: 100 },
            StreamWhat::Elements { elements: vec![(7, offset)] },
            StreamWhat::End { offset },
        ]
    );
    assert_eq!((seen[1].from, seen[1].to, seen[1].time), (B, A, 5 * MS));
}
