//! nodes.conf, read strictly.

use super::*;

const REAL: &str = "a7d6277a3f64dfb45879b64b735a284631d33ddc 127.0.0.1:21001@21011 myself,master - 0 \
1795423988000 4 connected 0-5460 7000 [100->-1b50ec87c06d89467b33219a4d247dec98ad1619]\n\
1b50ec87c06d89467b33219a4d247dec98ad1619 127.0.0.1:21002@21012,h.example master - 0 1795423989994 2 \
connected 5461-6999\n\
2b50ec87c06d89467b33219a4d247dec98ad1619 :21003@21013 slave,fail 1b50ec87c06d89467b33219a4d247dec98ad1619 17 \
0 2 disconnected\n\
vars currentEpoch 4 lastVoteEpoch 3\n";

fn read(text: &str) -> Result<Option<NodesConf>, String> {
    nodes_conf::parse(text.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn a_real_file_is_read_and_written_again_alike() {
    let conf = read(REAL).unwrap().unwrap();
    assert_eq!((conf.current_epoch, conf.last_vote_epoch), (4, 3));
    let facts = bench::NodeFacts::default();
    let mut actions = Vec::new();
    let now = Now { mono: Mono(5_000_000), wall: crate::io::WallMs(1_795_423_999_000) };
    let mut turn = Turn { now, facts: &facts, next_conn: &mut ConnId(1), actions: &mut actions };
    let mut settings = ClusterSettings { port: 21001, bus_port: 21011, ..ClusterSettings::default() };
    settings.node_timeout_ms = 1000;
    let cluster = Cluster::new(settings, Some(conf.clone()), 1, &mut turn);
    let text = cluster.nodes_conf_text(&turn);
    let mut again = read(&text).unwrap().unwrap();
    let mut before = conf;
    for conf in [&mut again, &mut before] {
        conf.nodes.sort_by_key(|line| line.id);
    }
    assert_eq!(again, before);
}

#[test]
fn an_empty_file_is_no_configuration() {
    assert_eq!(read(""), Ok(None));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    // F-48: 7.0.15 starts with half a table and a forgotten vote.
    for len in 1..REAL.len() {
        assert!(read(&REAL[..len]).is_err(), "accepted when cut at {len}");
    }
}

#[test]
fn each_kind_of_damage_is_named() {
    let damage = [
        ("vars", "varz", "a node needs 8 fields"),
        ("myself,", "", "0 lines say 'myself'"),
        ("slave,fail", "slave,fool", "unknown flag 'fool'"),
        ("0-5460", "0-16384", "no slot or range"),
        ("0-5460", "5460-0", "no slot or range"),
        ("21001@21011", "x@21011", "no address"),
        (" connected 0", " conn 0", "no link state"),
        ("2b50ec87", "1b50ec87", "appears twice"),
        ("currentEpoch 4", "currentEpoch -4", "currentEpoch is no epoch"),
        ("[100->-1b", "[100->-Zb", "no slot or range"),
        ("a7d6277a3", "A7d6277a3", "no node id"),
    ];
    for (from, to, reason) in damage {
        let error = read(&REAL.replacen(from, to, 1)).expect_err(to);
        assert!(error.starts_with("Unrecoverable error: corrupted cluster config file"), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn valkeys_additions_and_missing_bus_ports_are_read() {
    let text = REAL
        .replace("21002@21012,h.example", "21002,,tls-port=0,shard-id=abc")
        .replace("master - 0 1795423989994", "primary - 0 1");
    let conf = read(&text).unwrap().unwrap();
    assert_eq!((conf.nodes[1].port, conf.nodes[1].cport), (21002, 31002));
    assert!(conf.nodes[1].flags.any(NodeFlags::MASTER));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        let _ = nodes_conf::parse(&bytes);
    }

    #[test]
    fn no_damage_makes_the_parser_panic(at in 0..REAL.len(), byte: u8) {
        let mut bytes = REAL.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = nodes_conf::parse(&bytes);
    }
}
