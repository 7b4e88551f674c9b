//! The proxy on real sockets: every policy with plain peers, then a redis-server pair behind it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use slotstorm_fabric::{Endpoint, LinkChange, OnHeal, Plane, Policy, Touched};
use socket2::{Domain, SockRef, Socket, Type};

use super::{Proxy, ProxyHandle, ProxyOptions, Route};

mod redis;

const N1: Endpoint = Endpoint::Node(1);
const N2: Endpoint = Endpoint::Node(2);
const C0: Endpoint = Endpoint::Client(0);
const BLACKHOLE: Policy = Policy::Blackhole { on_heal: OnHeal::Resume };
/// Long enough for anything that will happen at all on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must happen.
const QUIET: Duration = Duration::from_millis(150);

/// n2's data and bus port behind a proxy; n1 and c0 may call. Each test has a network 127.25.`net`.x of its
/// own.
struct Bench {
    proxy: ProxyHandle,
    clock: Instant,
    net: u8,
    server: TcpListener,
    bus: TcpListener,
    listen: SocketAddr,
    listen_bus: SocketAddr,
}

impl Bench {
    fn new(net: u8) -> Self {
        let server = TcpListener::bind((ip(net, 2), 0)).unwrap();
        let bus = TcpListener::bind((ip(net, 2), 0)).unwrap();
        let (listen, listen_bus) = (free(ip(net, 102)), free(ip(net, 102)));
        let routes = vec![
            Route { listen, target: server.local_addr().unwrap(), to: N2, bus: false },
            Route { listen: listen_bus, target: bus.local_addr().unwrap(), to: N2, bus: true },
        ];
        let callers = [(ip(net, 1), N1), (ip(net, 2), N2), (ip(net, 200), C0)];
        let callers = callers.map(|(ip, end)| (IpAddr::V4(ip), end)).into();
        let clock = Instant::now();
        let proxy = Proxy::start(ProxyOptions { routes, callers, seed: 7, clock, bus: None }).unwrap();
        Self { proxy, clock, net, server, bus, listen, listen_bus }
    }

    /// c0 connected to n2.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.dial(200, self.listen);
        (client, self.accept())
    }

    fn dial(&self, host: u8, to: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((ip(self.net, host), 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        patient(socket.into())
    }

    fn accept(&self) -> TcpStream {
        patient(self.server.accept().unwrap().0)
    }

    /// Nobody is waiting to be accepted, nor comes.
    fn nobody_dials(&self) -> bool {
        std::thread::sleep(QUIET);
        self.server.set_nonblocking(true).unwrap();
        let nobody = matches!(self.server.accept(), Err(e) if e.kind() == ErrorKind::WouldBlock);
        self.server.set_nonblocking(false).unwrap();
        nobody
    }

    fn apply(&self, changes: Vec<LinkChange>) -> u64 {
        wait(self.proxy.apply(changes)).unwrap()
    }

    /// One policy on both directions between c0 and n2.
    fn both(&self, policy: Policy) {
        self.apply(vec![change(C0, N2, policy), change(N2, C0, policy)]);
    }

    fn touched(&self) -> Touched {
        wait(self.proxy.touched(&[(C0, N2), (N2, C0)], false)).unwrap()
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "{what}; pairs {:?}", wait(self.proxy.pairs()));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn ip(net: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 25, net, host)
}

fn free(ip: Ipv4Addr) -> SocketAddr {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn change(from: Endpoint, to: Endpoint, policy: Policy) -> LinkChange {
    LinkChange { from, to, planes: Plane::ALL.to_vec(), policy }
}

fn send(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
}

fn expect(mut stream: &TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == bytes, "{} bytes came, but not these", got.len());
}

fn silent(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(read, Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn is_reset(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Err(e) if e.kind() == ErrorKind::ConnectionReset)
}

fn is_ended(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

#[test]
fn bytes_pass_both_ways_and_the_target_sees_the_true_caller() {
    let bench = Bench::new(1);
    let (client, server) = bench.pair();
    assert_eq!(server.peer_addr().unwrap().ip(), IpAddr::V4(ip(1, 200)));
    send(&client, b"ping");
    expect(&server, b"ping");
    send(&server, b"pong!");
    expect(&client, b"pong!");
    let touched = bench.touched();
    assert_eq!(touched, Touched { passed_bytes: 9, held_bytes: 0, connects: 1, resets: 0 });
    let conns = wait(bench.proxy.conns()).unwrap();
    assert_eq!((conns[0].info.caller, conns[0].info.plane), (C0, Some(Plane::Client)));
}

#[test]
fn a_big_stream_to_a_slow_reader_arrives_whole() {
    let bench = Bench::new(2);
    let (client, mut server) = bench.pair();
    let sent = pattern(24 * 1024 * 1024);
    let expected = sent.clone();
    let writer = std::thread::spawn(move || {
        send(&client, &sent);
        client.shutdown(Shutdown::Write).unwrap();
        assert!(is_ended(&client));
    });
    std::thread::sleep(QUIET); // every buffer on the way fills up
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    drop(server);
    writer.join().unwrap();
}

#[test]
fn a_one_way_cut_holds_one_direction_and_a_heal_delivers_all_of_it_in_order() {
    let bench = Bench::new(3);
    let (client, server) = bench.pair();
    bench.apply(vec![change(C0, N2, BLACKHOLE)]);
    let sent = pattern(50_000);
    send(&client, &sent);
    assert!(silent(&server));
    send(&server, b"the other way");
    expect(&client, b"the other way");
    bench.until("held", || bench.touched().held_bytes == 50_000);
    bench.apply(vec![change(C0, N2, Policy::Pass)]);
    expect(&server, &sent);
    assert_eq!(bench.touched().held_bytes, 50_000);
}

#[test]
fn a_heal_that_resets_resets_both_ends() {
    let bench = Bench::new(4);
    let (client, server) = bench.pair();
    bench.both(Policy::Blackhole { on_heal: OnHeal::Reset });
    send(&client, b"lost");
    assert!(silent(&server));
    bench.both(Policy::Pass);
    assert!(is_reset(&client) && is_reset(&server));
    assert_eq!(bench.touched().resets, 1);
    let (client, server) = bench.pair();
    send(&client, b"new ones pass");
    expect(&server, b"new ones pass");
}

#[test]
fn refuse_resets_what_exists_and_what_comes() {
    let bench = Bench::new(5);
    let (client, server) = bench.pair();
    bench.apply(vec![change(C0, N2, Policy::Refuse)]);
    assert!(is_reset(&client) && is_reset(&server));
    assert!(is_reset(&bench.dial(200, bench.listen)));
    assert!(bench.nobody_dials());
    bench.until("counted", || bench.touched().resets == 2);
    bench.apply(vec![change(C0, N2, Policy::Pass)]);
    bench.pair();
}

#[test]
fn reset_ends_what_exists_once() {
    let bench = Bench::new(6);
    let (client, server) = bench.pair();
    bench.apply(vec![change(N2, C0, Policy::Reset)]);
    assert!(is_reset(&client) && is_reset(&server));
    let (client, server) = bench.pair();
    send(&client, b"passes");
    expect(&server, b"passes");
}

#[test]
fn a_dead_server_looks_refused() {
    let mut bench = Bench::new(7);
    bench.server = TcpListener::bind((ip(7, 2), 0)).unwrap();
    assert!(is_reset(&bench.dial(200, bench.listen)));
    assert_eq!(bench.proxy.troubles(), Vec::<String>::new());
}

#[test]
fn a_peers_half_close_leaves_the_other_direction_open() {
    let bench = Bench::new(8);
    let (client, server) = bench.pair();
    send(&client, b"question");
    client.shutdown(Shutdown::Write).unwrap();
    expect(&server, b"question");
    assert!(is_ended(&server));
    send(&server, b"answer");
    drop(server);
    expect(&client, b"answer");
    assert!(is_ended(&client));
    bench.until("forgotten", || wait(bench.proxy.conns()).unwrap().is_empty());
}

#[test]
fn the_half_close_policy_ends_one_direction_only() {
    let bench = Bench::new(9);
    let (client, server) = bench.pair();
    send(&client, b"before");
    expect(&server, b"before");
    bench.apply(vec![change(C0, N2, Policy::HalfClose)]);
    assert!(is_ended(&server));
    send(&client, b"nobody hears it");
    send(&server, b"still there");
    expect(&client, b"still there");
    assert!(silent(&client));
}

#[test]
fn a_reset_by_either_end_reaches_the_other() {
    let bench = Bench::new(10);
    let (client, server) = bench.pair();
    reset(client);
    assert!(is_reset(&server));
    let (client, server) = bench.pair();
    send(&server, b"last words");
    expect(&client, b"last words");
    reset(server);
    assert!(is_reset(&client));
}

#[test]
fn a_reset_after_a_half_close_is_told_too() {
    let bench = Bench::new(11);
    let (client, server) = bench.pair();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(is_ended(&server));
    reset(client);
    bench.until("reset", || (&server).write(b"x").is_err());
}

#[test]
fn fin_and_rst_are_held_too() {
    let bench = Bench::new(12);
    let (fin, fin_server) = bench.pair();
    let (rst, rst_server) = bench.pair();
    bench.apply(vec![change(C0, N2, BLACKHOLE)]);
    send(&fin, b"tail");
    drop(fin);
    reset(rst);
    assert!(silent(&fin_server) && silent(&rst_server));
    // The dead client's host would answer with a reset, but that is held as well.
    send(&rst_server, b"anyone?");
    assert!(silent(&rst_server));
    bench.apply(vec![change(C0, N2, Policy::Pass)]);
    expect(&fin_server, b"tail");
    assert!(is_ended(&fin_server));
    assert!(is_reset(&rst_server));
}

#[test]
fn a_connection_made_under_a_blackhole_is_dialled_at_heal_unless_its_caller_has_left() {
    let bench = Bench::new(13);
    bench.apply(vec![change(N2, C0, BLACKHOLE)]);
    let patient = bench.dial(200, bench.listen);
    let hasty = bench.dial(200, bench.listen);
    send(&patient, b"hello");
    send(&hasty, b"never executed");
    assert!(bench.nobody_dials());
    drop(hasty);
    bench.until("forgotten", || wait(bench.proxy.conns()).unwrap().len() == 1);
    assert_eq!(bench.touched().connects, 2);
    bench.apply(vec![change(N2, C0, Policy::Pass)]);
    expect(&bench.accept(), b"hello");
    assert!(bench.nobody_dials());
}

#[test]
fn a_delay_delays_each_way_and_keeps_the_order() {
    let bench = Bench::new(14);
    let (client, server) = bench.pair();
    bench.both(Policy::Delay { delay_ms: 40, jitter_ms: 30 });
    let begun = Instant::now();
    for i in 0..50 {
        send(&client, &[i; 100]);
    }
    expect(&server, &(0..50).flat_map(|i| [i; 100]).collect::<Vec<_>>());
    send(&server, b"back");
    expect(&client, b"back");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(80), "{took:?}");
}

#[test]
fn all_links_change_in_one_step_and_nothing_passes_after_its_stamp() {
    let bench = Bench::new(15);
    let pairs: Vec<_> = (0..20).map(|_| bench.pair()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let readers: Vec<_> = pairs
            .iter()
            .map(|(client, server)| {
                let (mut client, mut server) = (client, server);
                client.set_write_timeout(Some(QUIET)).unwrap();
                scope.spawn(move || while !stop.load(Relaxed) && client.write_all(&[7; 512]).is_ok() {});
                server.set_read_timeout(Some(QUIET)).unwrap();
                scope.spawn(move || {
                    let (mut total, mut buffer) = (0, vec![0; 65536]);
                    loop {
                        // Asked first: after the step a whole quiet time must pass without a byte.
                        let cut = stop.load(Relaxed);
                        match server.read(&mut buffer) {
                            Ok(n) => total += n as u64,
                            Err(_) if cut => return total,
                            Err(_) => {}
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(QUIET);
        let called = u64::try_from(bench.clock.elapsed().as_nanos()).unwrap();
        let stamp = bench.apply(vec![change(C0, N2, BLACKHOLE), change(N2, C0, BLACKHOLE)]);
        stop.store(true, Relaxed);
        let passed = bench.touched().passed_bytes;
        let received: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(stamp >= called && passed > 0);
        // The receivers got what had passed at the step, and nothing more.
        assert_eq!(received, passed);
        assert_eq!(bench.touched().passed_bytes, passed);
        assert!(bench.touched().held_bytes > 0);
    });
}

#[test]
fn a_plane_can_be_cut_alone() {
    let bench = Bench::new(16);
    let cut = |planes: &[Plane], policy| {
        let planes = planes.to_vec();
        bench.apply(vec![LinkChange { from: N1, to: N2, planes, policy }]);
    };
    cut(&[Plane::Replication], BLACKHOLE);
    let bus = bench.dial(1, bench.listen_bus);
    let bus_server = patient(bench.bus.accept().unwrap().0);
    send(&bus, b"RCmb");
    expect(&bus_server, b"RCmb");
    // Which plane it is shows in its first command only, and the PING of a replica goes no further.
    let replica = bench.dial(1, bench.listen);
    send(&replica, b"*1\r\n$4\r\nPING\r\n");
    assert!(bench.nobody_dials());
    let source = bench.dial(1, bench.listen);
    send(&source, b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
    expect(&bench.accept(), b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
    cut(&[Plane::Replication], Policy::Pass);
    expect(&bench.accept(), b"*1\r\n$4\r\nPING\r\n");
    let pairs = wait(bench.proxy.pairs()).unwrap();
    let counts: BTreeMap<_, _> =
        pairs.iter().filter(|p| p.from == N1).map(|p| (p.plane, (p.dialled, p.bytes))).collect();
    assert_eq!(counts[&Plane::Bus], (1, 4));
    assert_eq!(counts[&Plane::Replication], (1, 14));
    assert_eq!(counts[&Plane::Migrate], (1, 23));
}

#[test]
fn a_caller_without_an_address_is_known_by_its_process() {
    let bench = Bench::new(17);
    let outsider = bench.dial(66, bench.listen);
    bench.until("accepted", || wait(bench.proxy.conns()).unwrap().len() == 1);
    bench.proxy.set_pid(std::process::id(), N1);
    let migrate = bench.dial(66, bench.listen);
    send(&migrate, b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
    bench.until("known", || {
        let conns = wait(bench.proxy.conns()).unwrap();
        conns.iter().any(|c| (c.info.caller, c.info.plane) == (N1, Some(Plane::Migrate)))
            && conns.iter().any(|c| c.info.caller == Endpoint::Controller)
    });
    drop(outsider);
}

#[test]
fn stopping_resets_everything_and_frees_the_addresses() {
    let bench = Bench::new(18);
    let (client, server) = bench.pair();
    bench.proxy.stop();
    assert!(is_reset(&client) && is_reset(&server));
    TcpListener::bind(bench.listen).unwrap();
}

#[test]
fn a_taken_address_is_a_clear_error() {
    let bench = Bench::new(19);
    let route = Route { listen: bench.listen, target: bench.listen_bus, to: N2, bus: false };
    let options = ProxyOptions {
        routes: vec![route],
        callers: BTreeMap::new(),
        seed: 0,
        clock: Instant::now(),
        bus: None,
    };
    let error = Proxy::start(options).err().unwrap().to_string();
    assert!(error.contains(&bench.listen.to_string()), "{error}");
}
