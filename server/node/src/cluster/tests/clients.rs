//! What clients are told: redirections, texts and errors of 7.0.15.

use super::bench::{Bench, slots_of};
use super::*;

const NT: u64 = 2000;

struct Ask<'a> {
    keys: &'a [(u16, &'a [u8])],
    here: &'a [&'a [u8]],
    write: bool,
    asking: bool,
    readonly: bool,
    migrate: bool,
    shard_pubsub: bool,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            keys: &[(0, b"a")],
            here: &[],
            write: false,
            asking: false,
            readonly: false,
            migrate: false,
            shard_pubsub: false,
        }
    }
}

fn route(bench: &Bench, node: usize, ask: &Ask<'_>) -> String {
    let here = ask.here;
    let route = bench.at(node).route(&Query {
        keys: ask.keys,
        exists: &|key| here.contains(&key),
        write: ask.write,
        asking: ask.asking,
        readonly_client: ask.readonly,
        migrate: ask.migrate,
        shard_pubsub: ask.shard_pubsub,
    });
    route.error().unwrap_or_else(|| "local".to_owned())
}

#[test]
fn keys_are_served_by_their_owner_only() {
    let bench = Bench::cluster(3, 1, NT);
    assert_eq!(route(&bench, 0, &Ask::default()), "local");
    assert_eq!(route(&bench, 1, &Ask::default()), "MOVED 0 127.22.0.1:6379");
    assert_eq!(route(&bench, 0, &Ask { keys: &[], ..Ask::default() }), "local");
    let two = Ask { keys: &[(0, b"a"), (1, b"b")], ..Ask::default() };
    assert_eq!(route(&bench, 0, &two), "CROSSSLOT Keys in request don't hash to the same slot");
}

#[test]
fn a_replica_serves_reads_to_readonly_clients() {
    let bench = Bench::cluster(3, 1, NT);
    assert_eq!(route(&bench, 3, &Ask { readonly: true, ..Ask::default() }), "local");
    let moved = "MOVED 0 127.22.0.1:6379";
    assert_eq!(route(&bench, 3, &Ask::default()), moved);
    assert_eq!(route(&bench, 3, &Ask { readonly: true, write: true, ..Ask::default() }), moved);
    assert_eq!(route(&bench, 4, &Ask { readonly: true, ..Ask::default() }), moved);
}

#[test]
fn an_open_slot_asks_and_tries_again() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (from, to) = (bench.id(0), bench.id(1));
    bench.ok(1, &format!("SETSLOT 0 IMPORTING {from}"));
    bench.ok(0, &format!("SETSLOT 0 MIGRATING {to}"));
    let pair: &[(u16, &[u8])] = &[(0, b"a"), (0, b"b")];
    let ask = "ASK 0 127.22.0.2:6379";
    let again = "TRYAGAIN Multiple keys request during rehashing of slot";
    assert_eq!(route(&bench, 0, &Ask::default()), ask);
    assert_eq!(route(&bench, 0, &Ask { here: &[b"a"], ..Ask::default() }), "local");
    assert_eq!(route(&bench, 0, &Ask { keys: pair, here: &[b"a"], ..Ask::default() }), again);
    assert_eq!(route(&bench, 0, &Ask { keys: pair, ..Ask::default() }), ask);
    assert_eq!(route(&bench, 1, &Ask::default()), "MOVED 0 127.22.0.1:6379");
    assert_eq!(route(&bench, 1, &Ask { asking: true, ..Ask::default() }), "local");
    assert_eq!(route(&bench, 1, &Ask { asking: true, keys: pair, ..Ask::default() }), again);
    let same: &[(u16, &[u8])] = &[(0, b"a"), (0, b"a")];
    assert_eq!(route(&bench, 1, &Ask { asking: true, keys: same, ..Ask::default() }), "local");
}

#[test]
fn a_cluster_that_is_down_says_how() {
    let mut bench = Bench::strangers(1, NT);
    assert_eq!(route(&bench, 0, &Ask::default()), "CLUSTERDOWN Hash slot not served");
    bench.ok(0, "ADDSLOTS 0");
    assert_eq!(route(&bench, 0, &Ask::default()), "CLUSTERDOWN The cluster is down");
    bench.set(0, |settings| settings.allow_reads_when_down = true);
    assert_eq!(route(&bench, 0, &Ask::default()), "local");
    let write = Ask { write: true, ..Ask::default() };
    assert_eq!(route(&bench, 0, &write), "CLUSTERDOWN The cluster is down and only accepts read commands");
}

#[test]
fn endpoints_follow_the_preferred_type() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.set(1, |settings| settings.preferred_endpoint = EndpointType::Hostname);
    assert_eq!(route(&bench, 1, &Ask::default()), "MOVED 0 ?:6379");
    bench.set(1, |settings| settings.preferred_endpoint = EndpointType::Unknown);
    assert_eq!(route(&bench, 1, &Ask::default()), "MOVED 0 :6379");
}

#[test]
fn a_blocked_client_is_sent_after_its_slot() {
    let mut bench = Bench::cluster(3, 1, NT);
    let query = BlockedQuery { slot: 0, readonly_client: false, read_only_command: false };
    assert_eq!(bench.at(0).route_blocked(query), Route::Local);
    let to = bench.id(1);
    bench.ok(0, &format!("SETSLOT 0 NODE {to}"));
    assert!(matches!(bench.at(0).route_blocked(query), Route::Moved { slot: 0, .. }));
}

#[test]
fn errors_are_those_of_redis() {
    let mut bench = Bench::cluster(3, 1, NT);
    let (replica, other) = (bench.id(3), bench.id(1));
    let free = slots_of(1, 3).0;
    let cases: Vec<(usize, String, String)> = [
        (0, "NOSUCH", "unknown subcommand 'NOSUCH'. Try CLUSTER HELP."),
        (0, "MEET localhost 1", "Invalid node address specified: localhost:1"),
        (0, "MEET 127.0.0.1 x", "Invalid TCP base port specified: x"),
        (0, "MEET 127.0.0.1 1 x", "Invalid TCP bus port specified: x"),
        (0, "ADDSLOTS 16384", "Invalid or out of range slot"),
        (0, "ADDSLOTS 0", "Slot 0 is already busy"),
        (0, "ADDSLOTS", "wrong number of arguments for 'cluster|addslots' command"),
        (0, "ADDSLOTSRANGE 1 2 3", "wrong number of arguments for 'cluster|addslotsrange' command"),
        (0, "DELSLOTSRANGE 5 3", "start slot number 5 is greater than end slot number 3"),
        (0, "DELSLOTS 1 1", "Slot 1 specified multiple times"),
        (3, "SETSLOT 0 STABLE", "Please use SETSLOT only with masters."),
        (0, "SETSLOT 0 NODE abc", "Unknown node abc"),
        (0, "SETSLOT 0 MIGRATING abc", "I don't know about node abc"),
        (0, "SETSLOT 0 WHAT", "Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP"),
        (0, "REPLICATE abc", "Unknown node abc"),
        (0, "FORGET abc", "Unknown node abc"),
        (0, "FAILOVER", "You should send CLUSTER FAILOVER to a replica"),
        (3, "FAILOVER NOW", "syntax error"),
        (0, "SET-CONFIG-EPOCH -1", "Invalid config epoch specified: -1"),
        (0, "COUNTKEYSINSLOT -1", "Invalid slot"),
        (0, "GETKEYSINSLOT 1 -1", "Invalid slot or number of keys"),
    ]
    .map(|(node, words, error)| (node, words.to_owned(), error.to_owned()))
    .into();
    let made = [
        (0, format!("SETSLOT {free} MIGRATING {other}"), format!("I'm not the owner of hash slot {free}")),
        (0, format!("SETSLOT 0 IMPORTING {other}"), "I'm already the owner of hash slot 0".to_owned()),
        (0, format!("SETSLOT 0 NODE {replica}"), "Target node is not a master".to_owned()),
        (3, format!("REPLICATE {replica}"), "Can't replicate myself".to_owned()),
        (4, format!("REPLICATE {replica}"), "I can only replicate a master, not a replica.".to_owned()),
        (
            0,
            format!("REPLICATE {other}"),
            "To set a master the node must be empty and without assigned slots.".to_owned(),
        ),
        (3, format!("FORGET {replica}"), "I tried hard but I can't forget myself...".to_owned()),
        (3, format!("FORGET {}", bench.id(0)), "Can't forget my master!".to_owned()),
        (0, format!("REPLICAS {replica}"), "The specified node is not a master".to_owned()),
    ];
    for (node, words, error) in cases.into_iter().chain(made) {
        assert_eq!(bench.command(node, &words), Reply::err(error), "{words}");
    }
}

#[test]
fn slots_lists_masters_and_synced_replicas() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[0].facts.offset = 10;
    bench.run(NT);
    let Reply::Array(ranges) = bench.command(1, "SLOTS") else { panic!("no array") };
    assert_eq!(ranges.len(), 3);
    let members = |range: &Reply| match range {
        Reply::Array(fields) => fields.len() - 2,
        other => panic!("{other:?}"),
    };
    // Only node 3 has a replication offset.
    assert_eq!(ranges.iter().map(members).collect::<Vec<_>>(), [2, 1, 1]);
}

#[test]
fn info_counts_what_went_over_the_bus() {
    let mut bench = Bench::cluster(3, 0, NT);
    let Reply::Text(text) = bench.command(1, "INFO") else { panic!("no text") };
    for line in [
        "cluster_state:ok\r\n",
        "cluster_slots_assigned:16384\r\n",
        "cluster_slots_ok:16384\r\n",
        "cluster_known_nodes:3\r\ncluster_size:3\r\n",
        "cluster_stats_messages_meet_sent:1\r\n",
    ] {
        assert!(text.contains(line), "{line:?} not in {text}");
    }
}

#[test]
fn publish_reaches_everyone_and_spublish_the_shard() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.with(0, |cluster, turn| cluster.publish(false, b"c", b"m", turn));
    bench.with(0, |cluster, turn| cluster.publish(true, b"s", b"m", turn));
    bench.run(10);
    let heard = |node: usize, sharded: bool| {
        bench.nodes[node]
            .seen
            .iter()
            .any(|a| matches!(a, Action::Publish { sharded: s, .. } if *s == sharded))
    };
    assert_eq!((1..6).filter(|n| heard(*n, false)).count(), 5);
    assert_eq!((1..6).filter(|n| heard(*n, true)).collect::<Vec<_>>(), [3]);
}

#[test]
fn migrate_works_on_an_open_slot_from_either_end() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (from, to) = (bench.id(0), bench.id(1));
    let migrate = Ask { migrate: true, ..Ask::default() };
    assert_eq!(route(&bench, 1, &migrate), "MOVED 0 127.22.0.1:6379");
    bench.ok(1, &format!("SETSLOT 0 IMPORTING {from}"));
    bench.ok(0, &format!("SETSLOT 0 MIGRATING {to}"));
    assert_eq!([route(&bench, 0, &migrate), route(&bench, 1, &migrate)], ["local", "local"]);
}

#[test]
fn shard_messages_are_served_by_the_shard_and_while_down_if_they_may() {
    let mut bench = Bench::cluster(3, 1, NT);
    let ask = Ask { shard_pubsub: true, ..Ask::default() };
    assert_eq!(route(&bench, 3, &ask), "local");
    assert_eq!(route(&bench, 4, &ask), "MOVED 0 127.22.0.1:6379");
    let to = bench.id(1);
    bench.ok(0, &format!("SETSLOT 0 MIGRATING {to}"));
    assert_eq!(route(&bench, 0, &ask), "local", "a channel is no key that could have moved");
    bench.ok(0, "DELSLOTS 1");
    assert_eq!(route(&bench, 0, &ask), "local");
    bench.set(0, |settings| settings.allow_pubsubshard_when_down = false);
    assert_eq!(route(&bench, 0, &ask), "CLUSTERDOWN The cluster is down");
}

#[test]
fn a_blocked_reader_of_a_replica_stays_only_for_its_own_masters_slots() {
    let mut bench = Bench::cluster(3, 1, NT);
    let blocked = |bench: &Bench, node: usize, slot, readonly_client, read_only_command| {
        bench.at(node).route_blocked(BlockedQuery { slot, readonly_client, read_only_command })
    };
    let other = slots_of(1, 3).0;
    assert_eq!(blocked(&bench, 3, 0, true, true), Route::Local);
    assert!(matches!(blocked(&bench, 3, other, true, true), Route::Moved { .. }));
    assert!(matches!(blocked(&bench, 3, 0, true, false), Route::Moved { .. }));
    assert!(matches!(blocked(&bench, 3, 0, false, true), Route::Moved { .. }));
    bench.set(0, |settings| settings.require_full_coverage = false);
    bench.ok(0, "DELSLOTS 0");
    assert_eq!(blocked(&bench, 0, 0, false, false), Route::NotServed);
    bench.set(0, |settings| settings.require_full_coverage = true);
    bench.with(0, |_, _| {});
    assert_eq!(blocked(&bench, 0, 1, false, false), Route::Down);
}
