//! What a member's word does when it is forged: one lie at a time, and what became of the cluster's views. Not a test
//! of a rule but a measurement, for ours and for redis-server (`scripts/soak-bus-frames lies`).

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use slotstorm_node::cluster::bus::{Body, Gossip, Packet, PingKind, encode};
use slotstorm_node::cluster::{NodeFlags, NodeId, SlotBitmap};

use crate::frames::Forger;
use crate::servers::{BUS_PORT, Cluster, NODE_TIMEOUT_MS, NODES, PORT};
use slotstorm_node::random::Random;

const LIES: [(&str, Lie); 8] = [
    ("FAIL of a healthy master", |packet, forger| {
        packet.body = Body::Fail { failed: Some(forger.members[2].id) }
    }),
    ("\"I am a replica now\"", |packet, forger| packet.header.master = Some(forger.members[0].id)),
    ("another bus port", |packet, _| packet.header.cport = 1),
    ("a node that does not exist, gossiped", |packet, forger| {
        packet.body =
            Body::Ping { kind: PingKind::Ping, gossip: vec![ghost(forger.home)], extensions: vec![] };
    }),
    ("all slots, under the next epoch", |packet, _| {
        packet.header.current_epoch += 1;
        packet.header.config_epoch = packet.header.current_epoch;
        packet.header.slots = SlotBitmap::from_wire(&[0xff; SlotBitmap::BYTES]);
    }),
    ("UPDATE: another master has no slots, under the next epoch", |packet, forger| {
        let config_epoch = packet.header.current_epoch + 1;
        packet.body =
            Body::Update { node: Some(forger.members[2].id), config_epoch, slots: SlotBitmap::new() };
    }),
    ("the clock of epochs at 2^64 - 1", |packet, _| packet.header.current_epoch = u64::MAX),
    ("config epoch 2^64 - 1", |packet, _| packet.header.config_epoch = u64::MAX),
];

type Lie = fn(&mut Packet, &Forger<'_>);

fn ghost(ip: &str) -> Gossip {
    Gossip {
        id: NodeId::parse(&[b'9'; 40]),
        ping_sent_s: 0,
        pong_received_s: 0,
        ip: ip.to_owned(),
        port: PORT,
        cport: BUS_PORT,
        pport: 0,
        flags: NodeFlags::MASTER,
    }
}

#[test]
#[ignore = "a measurement of some minutes: scripts/soak-bus-frames lies"]
fn lies() {
    let redis = std::env::var_os("SLOTSTORM_BUS_REDIS").map(PathBuf::from);
    println!(
        "| lie, sent once to every node | redis-server, from anywhere | ours, from elsewhere | ours, from the member's own address |"
    );
    println!("|---|---|---|---|");
    let setups = [(redis.as_ref(), false), (None, false), (None, true)];
    let mut clusters: Vec<Option<Cluster>> = vec![None, None, None];
    let only = std::env::var("SLOTSTORM_BUS_LIE").unwrap_or_default();
    for (name, lie) in LIES.into_iter().filter(|(name, _)| name.contains(&only)) {
        let mut cells = vec![name.to_owned()];
        for (number, (program, from_home)) in (0_u8..).zip(setups) {
            let slot = &mut clusters[usize::from(number)];
            if number == 0 && program.is_none() {
                cells.push("not measured".to_owned());
                continue;
            }
            let cluster = slot.get_or_insert_with(|| Cluster::start(program, number));
            let (effect, healed) = tell(cluster, lie, from_home);
            cells.push(effect);
            if !healed {
                *slot = None;
            }
        }
        println!("| {} |", cells.join(" | "));
    }
}

/// Tells a lie under the second master's id and says what came of it; and whether all views are as before.
fn tell(cluster: &Cluster, lie: Lie, from_home: bool) -> (String, bool) {
    let before = cluster.views();
    let speaker = &cluster.members[1];
    let network = speaker.ip.rsplit_once('.').unwrap().0;
    let elsewhere = format!("{network}.199");
    let forger = Forger { random: Random::seeded(1), members: &cluster.members, home: &elsewhere };
    let body = Body::Ping { kind: PingKind::Ping, gossip: Vec::new(), extensions: Vec::new() };
    let mut packet = Packet { header: forger.header_of(speaker, speaker.id), body };
    lie(&mut packet, &forger);
    let frame = encode(&packet);
    let mut links = Vec::new();
    for server in cluster.servers.iter().filter(|server| server.ip != speaker.ip) {
        let from = if from_home { &speaker.ip } else { &elsewhere };
        let mut link = crate::dial(from, &server.ip, false);
        link.write_all(&frame).unwrap();
        links.push(link);
    }
    let started = Instant::now();
    let (mut changed, mut down, mut same_since) = (0, false, None);
    let patience = Duration::from_millis(3 * NODE_TIMEOUT_MS + 3000);
    while started.elapsed() < patience {
        let views = cluster.views();
        let differing = views.iter().filter(|(ip, view)| before[*ip] != **view).count();
        changed = changed.max(differing);
        down |= views.values().any(|view| view.state != "ok");
        if differing > 0 {
            same_since = None;
        } else {
            same_since.get_or_insert_with(|| started.elapsed());
        }
        if changed == 0 && started.elapsed() > Duration::from_secs(3) {
            return ("nothing".to_owned(), true);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = cluster.views();
    if same_since.is_none() {
        for (ip, view) in &after {
            for (id, line) in view.nodes.iter().filter(|(id, line)| before[ip].nodes.get(*id) != Some(line)) {
                eprintln!("{ip} ({}) now holds of {id}: {line:?}", view.state);
            }
        }
    }
    let state = if down { ", cluster down" } else { "" };
    let up = after.values().all(|view| view.state == "ok");
    let end = match same_since {
        Some(at) => format!("for {:.1} s", at.as_secs_f64()),
        None if up => "for good, up again".to_owned(),
        None => "for good, down".to_owned(),
    };
    (format!("{changed} of {NODES} views{state}, {end}"), same_since.is_some())
}
