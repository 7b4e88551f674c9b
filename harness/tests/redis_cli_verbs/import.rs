//! import: a standalone server's keys of every type move into a cluster, copied or for good.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::common::load::{Load, LoadOptions, keys_in};
use crate::common::lock::beside_another;
use crate::common::redis_cli::{attempt, check, cluster};
use crate::common::routed::Routed;
use crate::common::servers::{Kind, Reply, Server, Servers, texts};
use crate::{Mix, busy_slots};

#[test]
fn a_real_cluster_imports_from_a_standalone_server() {
    import(Mix::Real, Kind::Redis);
}

#[test]
fn our_cluster_imports_from_a_real_standalone_server() {
    import(Mix::Ours, Kind::Redis);
}

#[test]
fn a_mixed_cluster_imports_from_our_standalone_server() {
    import(Mix::Mixed, Kind::Embedded);
}

fn import(mix: Mix, source: Kind) {
    let _lock = beside_another();
    let servers = mix.three_masters();
    let keys = keys_in(busy_slots(40), 2);
    let load = Load::start(&servers.addresses(), &keys, &LoadOptions::default());
    let mut standalone = Servers::none();
    standalone.add(source, &["--cluster-enabled", "no", "--enable-debug-command", "yes"]);
    standalone.nodes[0].wait_ready();
    let source = &standalone.nodes[0];
    let filled = fill(source);

    let entry = servers.nodes[1].address();
    let from = source.address();
    let copy = ["--cluster-from", from.as_str(), "--cluster-copy"];
    cluster("import", &[&[entry.as_str()], &copy[..]].concat());
    assert_eq!(digests(&servers, &filled), filled, "the copies equal the originals");
    assert_eq!(own_digests(source, &filled), filled, "COPY left the originals");

    let again = attempt("import", &[&[entry.as_str()], &copy[..]].concat());
    assert!(again.text.contains("BUSYKEY"), "the keys are there already: {}", again.text);

    source.must(&["SET", "text:0", "newer"]);
    let newer = own_digests(source, &filled);
    cluster("import", &[&entry, "--cluster-from", &from, "--cluster-replace"]);
    assert_eq!(digests(&servers, &filled), newer, "REPLACE brought the newer value");
    assert_eq!(source.must(&["DBSIZE"]), Reply::Integer(0), "without COPY the keys have moved");

    load.until_more(200);
    let report = load.stop();
    check(&entry);
    report.assert_flawless(&format!("import into {mix:?}"), &servers);
}

/// Keys of all types that every kind of node has, small and big ones, some with a time to live; their digests.
fn fill(source: &Server) -> BTreeMap<String, String> {
    let mut keys = Vec::new();
    let mut add = |key: String, args: &[&str]| {
        let mut command = vec![args[0], key.as_str()];
        command.extend(&args[1..]);
        source.must(&command);
        keys.push(key);
    };
    for number in 0..50 {
        let text = "x".repeat(number * 40);
        add(format!("text:{number}"), &["SET", &text]);
        add(format!("number:{number}"), &["SET", &(number * 100_003).to_string()]);
        add(format!("list:{number}"), &["RPUSH", "a", "-5", "70000", &text, "last"]);
        add(format!("hash:{number}"), &["HSET", "field", "value", "n", "12", &text, "long"]);
        add(format!("set:{number}"), &["SADD", "one", "2", &text]);
        add(format!("integers:{number}"), &["SADD", "1", "-2", "3000000000", &number.to_string()]);
    }
    let many: Vec<String> = (0..3000).map(|number| format!("element:{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    add("list:big".into(), &[&["RPUSH"], &many[..]].concat());
    add("set:big".into(), &[&["SADD"], &many[..]].concat());
    add("hash:big".into(), &[&["HSET"], &many[..]].concat());
    add("text:big".into(), &["SET", &"0123456789".repeat(100_000)]);
    for key in ["text:1", "list:2", "hash:3", "set:4"] {
        source.must(&["PEXPIRE", key, "3600000"]);
    }
    keys.into_iter().map(|key| (digest(source, &key), key)).map(|(digest, key)| (key, digest)).collect()
}

fn digest(node: &Server, key: &str) -> String {
    texts(&node.must(&["DEBUG", "DIGEST-VALUE", key])).remove(0)
}

fn own_digests(source: &Server, of: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    of.keys().map(|key| (key.clone(), digest(source, key))).collect()
}

/// The digests of these keys at their owners, and a proof that their times to live came along.
fn digests(servers: &Servers, of: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut client = Routed::new(&servers.addresses(), 0);
    let go_on = std::sync::atomic::AtomicBool::new(false);
    let mut lives = String::new();
    let found = of.keys().map(|key| {
        let Ok(Reply::Integer(ttl)) = client.call(key.as_bytes(), &["PTTL", key], &go_on) else {
            panic!("no PTTL of {key}")
        };
        if ttl != -1 {
            write!(lives, "{key} ").expect("a string takes it");
            assert!((3_500_000..=3_600_000).contains(&ttl), "{key} lives for {ttl} ms");
        }
        let owner = client.owner_of(key.as_bytes());
        let node = servers.nodes.iter().find(|node| node.address() == owner).expect("a member");
        (key.clone(), digest(node, key))
    });
    let found = found.collect();
    assert_eq!(lives, "hash:3 list:2 set:4 text:1 ");
    found
}
