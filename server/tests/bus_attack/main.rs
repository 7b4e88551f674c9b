//! Forged bus frames at a live cluster: six processes, three masters with a replica each, all under attack at once.
//!
//! Signature and length of every frame are right, the other fields are mutated. What may happen depends on who speaks
//! and from where:
//!
//! | class | sender's id | source address | fields | allowed |
//! |---|---|---|---|---|
//! | strangers | of no member | not a member's | any | pings are answered, a MEET makes a handshake that passes; no view changes |
//! | impostors | a member's | not a member's | any, lies about epochs, slots, roles, failures too | the same: an id speaks from one place |
//! | namesakes | a member's | that member's own | all but the claims below, epochs that nobody can have minted too | the same |
//!
//! The bus has no authentication, so what comes from a member's own address under its id *is* that member, for Redis
//! and for us: a FAIL, a slot claim or an UPDATE under a higher epoch, a change of role or address, a node gossiped,
//! a vote, MFSTART, PUBLISH. Those claims are left out of the third class; `lies` below shows what each does to a
//! cluster, ours and redis-server's.
//!
//! During all of it: no process ends, memory is bounded, the members' own links stay the ones they were, clients
//! are served.
//!
//! `scripts/soak-bus-frames` runs it with a million frames (`SLOTSTORM_BUS_FRAMES`).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

mod frames;
mod lies;
#[path = "../side_by_side/programs.rs"]
mod programs;
mod servers;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use frames::Forger;
use servers::{Answer, BUS_PORT, Client, Cluster, Member, Server, eventually};
use slotstorm_node::cluster::bus;
use slotstorm_node::random::Random;

/// Frames of one run of `cargo test`.
const FRAMES: u64 = 21_000;
/// A node may grow by this much under attack.
const GROWTH_MAX_KB: u64 = 96 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Strangers,
    Impostors,
    Namesakes,
}

/// What a class did.
#[derive(Debug, Default)]
struct Outcome {
    frames: AtomicU64,
    /// Frames of types that a node counts.
    of_known_types: AtomicU64,
    /// Links that the node closed on the attacker.
    closed: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
    slowest_ms: AtomicU64,
    views_read: AtomicU64,
    memory_kb: AtomicU64,
}

#[test]
fn forged_frames_change_no_view_and_harm_nobody() {
    let frames = std::env::var("SLOTSTORM_BUS_FRAMES").map_or(FRAMES, |text| text.parse().unwrap());
    let mut cluster = Cluster::start(None, 0);
    println!(
        "| class | frames | a second | views read, all unchanged | requests served | slowest | links closed | memory before, most |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for class in [Class::Strangers, Class::Impostors, Class::Namesakes] {
        let (views, links, memory_kb) = (cluster.views(), cluster.links(), cluster.memory_kb());
        let started = Instant::now();
        let outcome = storm(&cluster, class, frames / 3, &views);
        let seconds = started.elapsed().as_secs_f64();
        let seen = |number: &AtomicU64| number.load(Ordering::Relaxed);
        println!(
            "| {class:?} | {} | {:.0} | {} | {} | {} ms | {} | {} MB, {} MB |",
            seen(&outcome.frames),
            seen(&outcome.frames) as f64 / seconds,
            seen(&outcome.views_read),
            seen(&outcome.requests),
            seen(&outcome.slowest_ms),
            seen(&outcome.closed),
            memory_kb / 1024,
            seen(&outcome.memory_kb) / 1024,
        );
        for server in &mut cluster.servers {
            assert!(server.is_alive(), "{class:?}: {} ended", server.ip);
        }
        eventually("the handshakes of strangers have passed", || {
            cluster
                .servers
                .iter()
                .all(|server| server.ask("CLUSTER INFO").text().contains("cluster_known_nodes:6\r\n"))
        });
        for (ip, view) in cluster.views() {
            assert_eq!(view, views[&ip], "{class:?}: the view of {ip} afterwards");
        }
        let kept = cluster.links();
        for (ip, before) in &links {
            let gone: Vec<_> = before.symmetric_difference(&kept[ip]).collect();
            assert!(gone.is_empty(), "{class:?}: the members' own links at {ip} changed: {gone:?}");
        }
        assert_eq!(seen(&outcome.closed), 0, "{class:?}: frames are skipped, links are kept");
        assert_eq!(seen(&outcome.refused), 0, "{class:?}: clients were refused");
        assert!(seen(&outcome.requests) > 0, "{class:?}: no client was served");
        let grown = seen(&outcome.memory_kb).saturating_sub(memory_kb);
        assert!(grown < GROWTH_MAX_KB, "{class:?}: a node grew by {grown} kB");
    }
}

/// Attacks every node at once while clients work and the views are watched.
fn storm(
    cluster: &Cluster,
    class: Class,
    frames: u64,
    views: &std::collections::BTreeMap<String, servers::View>,
) -> Outcome {
    let (outcome, over) = (Outcome::default(), AtomicBool::new(false));
    let received = cluster.packets_received();
    std::thread::scope(|scope| {
        let (outcome, over) = (&outcome, &over);
        for server in &cluster.servers[..3] {
            scope.spawn(move || serve_clients(server, outcome, over));
        }
        let watch = scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                for (ip, view) in cluster.views() {
                    assert_eq!(view, views[&ip], "{class:?}: the view of {ip} under attack");
                    outcome.views_read.fetch_add(1, Ordering::Relaxed);
                }
                outcome.memory_kb.fetch_max(cluster.memory_kb(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let share = frames / cluster.servers.len() as u64;
        let attackers: Vec<_> = (0..cluster.servers.len())
            .map(|target| scope.spawn(move || attack(cluster, target, class, share, outcome)))
            .collect();
        let ended: Vec<_> = attackers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        // The nodes have taken in every frame; then one more look.
        let arrived = outcome.of_known_types.load(Ordering::Relaxed) + received;
        eventually("every frame was received", || cluster.packets_received() >= arrived);
        std::thread::sleep(Duration::from_millis(300));
        over.store(true, Ordering::Relaxed);
        watch.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for end in ended {
            for link in end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                let _ = link.shutdown(std::net::Shutdown::Both);
            }
        }
    });
    outcome
}

/// Sends a node its share, over several links, and gives them back open: what was sent last may not be read yet.
fn attack(cluster: &Cluster, target: usize, class: Class, frames: u64, outcome: &Outcome) -> Vec<TcpStream> {
    let victim = &cluster.servers[target];
    let others: Vec<&Member> = cluster.members.iter().filter(|member| member.ip != victim.ip).collect();
    let network = victim.ip.rsplit_once('.').unwrap().0;
    let home = format!("{network}.{}", 200 + target);
    let sources: Vec<&str> = match class {
        Class::Namesakes => others.iter().map(|member| &member.ip[..]).collect(),
        _ => vec![&home; 4],
    };
    let seed = 1000 * class as u64 + target as u64;
    let mut forger = Forger { random: Random::seeded(seed), members: &cluster.members, home: &home };
    // The second link of an attacker from elsewhere is deaf: what it is answered stays where it is.
    let deaf = |link: usize| link == 1 && class != Class::Namesakes;
    let mut links: Vec<TcpStream> =
        (0..sources.len()).map(|link| dial(sources[link], &victim.ip, deaf(link))).collect();
    for number in 0..frames {
        let link = number as usize % links.len();
        let frame = match class {
            Class::Strangers => {
                let id = forger.random_id();
                forger.any(id)
            }
            Class::Impostors => {
                let id = forger.member().id;
                forger.any(id)
            }
            Class::Namesakes => forger.harmless(others[link]),
        };
        while let Err(error) = links[link].write_all(&frame) {
            assert!(outcome.closed.fetch_add(1, Ordering::Relaxed) < 1000, "links do not last: {error}");
            links[link] = dial(sources[link], &victim.ip, deaf(link));
        }
        outcome.frames.fetch_add(1, Ordering::Relaxed);
        let known = usize::from(bus::type_of(&frame)) < bus::PacketType::ALL.len();
        outcome.of_known_types.fetch_add(u64::from(known), Ordering::Relaxed);
    }
    links
}

/// A bus link from a chosen address. What is answered is read and dropped, or (`deaf`) never read.
fn dial(from: &str, to: &str, deaf: bool) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address = |ip: &str, port: u16| SocketAddr::new(ip.parse().unwrap(), port).into();
    socket.bind(&address(from, 0)).unwrap();
    socket.connect(&address(to, BUS_PORT)).unwrap_or_else(|error| panic!("bus of {to}: {error}"));
    let stream = TcpStream::from(socket);
    if !deaf {
        let mut reader = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while matches!(reader.read(&mut buffer), Ok(read) if read > 0) {}
        });
    }
    stream
}

/// One client of a master, writing and reading what it wrote.
fn serve_clients(server: &Server, outcome: &Outcome, over: &AtomicBool) {
    let mut client = server.client();
    let own = |client: &mut Client| {
        let key = (0..1000).map(|n| format!("key-{n}"));
        key.into_iter()
            .find(|key| client.ask(&format!("SET {key} 0")).is_ok_and(|answer| answer.text() == "OK"))
    };
    let key = own(&mut client).expect("a master takes one key of a thousand");
    for value in 1_u64.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let started = Instant::now();
        let written = client.ask(&format!("SET {key} {value}"));
        let read = client.ask(&format!("GET {key}"));
        let good = matches!((&written, &read), (Ok(Answer::Text(ok)), Ok(Answer::Text(got)))
            if ok == "OK" && *got == value.to_string());
        if !good {
            outcome.refused.fetch_add(1, Ordering::Relaxed);
            println!("{}: {written:?}, {read:?}", server.ip);
        }
        outcome.requests.fetch_add(2, Ordering::Relaxed);
        outcome.slowest_ms.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of no protocol at the client port: every connection gets its error or waits for more, nobody else notices.
#[test]
fn garbage_at_the_client_port_harms_nobody() {
    let ip = format!("127.17.{}.150", std::process::id() % 250 + 1);
    let mut server = Server::start(None, ip, false);
    let memory_kb = server.memory_kb();
    let mut other = server.client();
    assert_eq!(other.ask("SET k v").unwrap().text(), "OK");
    let mut random = Random::seeded(7);
    let commands: [&[u8]; 10] = [
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nabc\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        b"*4\r\n$7\r\nRESTORE\r\n$1\r\nr\r\n$1\r\n0\r\n$13\r\n\x00\xc0\x0c\x0a\x00\x3c\x2a\xf8\x51\x5c\x04\xbc\xd5\r\n",
        b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n",
        b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n5\r\n",
        b"*-1\r\n*0\r\n*1\r\n$4\r\nPING\r\n",
        b"LPUSH l \"a\\x00b\" 'c d'\r\n",
        b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\nx\r\n$1\r\ny\r\n",
        b"MULTI\r\nSET a b\r\nEXEC\r\n",
        b"*2\r\n$536870913\r\n*1048577\r\n$-5\r\n",
    ];
    for round in 0..400 {
        let mut bytes = Vec::new();
        for _ in 0..random.below(6) {
            bytes.extend(commands[random.below(commands.len() as u64) as usize]);
        }
        for _ in 0..random.below(8) {
            let at = random.below(bytes.len() as u64 + 1) as usize;
            match random.below(4) {
                0 => bytes.insert(at, random.next_u64() as u8),
                1 => bytes.truncate(at),
                2 => bytes.extend(random.next_u64().to_le_bytes()),
                _ if at < bytes.len() => bytes[at] = random.next_u64() as u8,
                _ => {}
            }
        }
        let mut stream = TcpStream::connect((&server.ip[..], servers::PORT)).unwrap();
        let _ = stream.write_all(&bytes);
        if round % 2 == 0 {
            // Half of them read what they are told, the others leave at once.
            stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            let _ = stream.read(&mut [0; 4096]);
        }
        if round % 50 == 0 {
            assert_eq!(other.ask("GET k").unwrap().text(), "v", "round {round}");
        }
    }
    assert_eq!(other.ask("GET k").unwrap().text(), "v");
    assert!(server.is_alive());
    let grown = server.memory_kb().saturating_sub(memory_kb);
    assert!(grown < GROWTH_MAX_KB, "the node grew by {grown} kB");
}
