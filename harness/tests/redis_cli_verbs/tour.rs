//! One cluster's life under load: create, look, grow, reshard, rebalance, back up, shrink.

use std::time::Duration;

use redis_protocol::redis_keyslot;

use crate::common::formed::until_equal;
use crate::common::load::{Load, LoadOptions, keys_in};
use crate::common::lock::beside_another;
use crate::common::redis_cli::{self, attempt, check, cluster};
use crate::common::servers::{Kind, Reply, Server, Servers, run, texts};
use crate::{Mix, busy_slots};

const REDIS_CHECK_RDB: &str = "/usr/bin/redis-check-rdb";
const FIRST_SIX: [usize; 6] = [0, 1, 2, 3, 4, 5];
const ALL: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn real_servers_go_through_every_verb_under_load() {
    tour(Mix::Real);
}

#[test]
fn our_nodes_go_through_every_verb_under_load() {
    tour(Mix::Ours);
}

#[test]
fn a_mixed_cluster_goes_through_every_verb_under_load() {
    tour(Mix::Mixed);
}

fn tour(mix: Mix) {
    let _lock = beside_another();
    let servers = mix.servers(8);
    let keys = keys_in(busy_slots(120), 5);
    let load = Load::start(&servers.addresses()[..6], &keys, &LoadOptions::default());

    create(&servers);
    load.until_more(keys.len() as u64);
    look(&servers);
    set_timeout(&servers);
    reshard(&servers);
    hold_a_slot_open(&servers, &load, &keys);
    add_nodes(&servers);
    back_up(&servers, &keys);
    shrink(&servers);

    load.until_more(500);
    let report = load.stop();
    check(&servers.nodes[0].address());
    report.assert_flawless(&format!("tour of {mix:?}"), &servers);
    assert!(report.trouble.moved > 0, "no writer was redirected: nothing was moved under it");
    assert!(report.trouble.ask > 0, "no writer was told ASK: no key was on its way when it was written");
    until_equal(&servers, &[3, 4, 5]);
}

/// create: 0-5460, 5461-10922, 10923-16383, a replica each.
fn create(servers: &Servers) {
    let addresses = servers.addresses();
    let mut args: Vec<&str> = addresses[..6].iter().map(String::as_str).collect();
    args.extend(["--cluster-replicas", "1"]); // and `yes` at its prompt
    let said = cluster("create", &args);
    for line in [
        "Master[0] -> Slots 0 - 5460",
        "Master[1] -> Slots 5461 - 10922",
        "Master[2] -> Slots 10923 - 16383",
        "[OK] All nodes agree about slots configuration.",
        "[OK] All 16384 slots covered.",
    ] {
        assert!(said.contains(line), "{said}");
    }
    servers.until_one(&FIRST_SIX);
    servers.until_in_sync(&[3, 4, 5]);
    let again = attempt("create", &args);
    assert!(again.text.contains("is not empty. Either the node already knows other nodes"), "{}", again.text);
}

/// check, info and call, from a master and from a replica.
fn look(servers: &Servers) {
    for node in [0, 1, 3, 5] {
        let address = servers.nodes[node].address();
        check(&address);
        let said = cluster("info", &[&address]);
        assert!(said.contains("keys in 3 masters."), "{said}");
        for id in [0, 1, 2].map(|master| servers.nodes[master].id()) {
            assert!(said.contains(&format!("({}...)", &id[..8])), "{said}");
        }
        assert_eq!(cluster("call", &[&address, "PING"]).matches(": PONG").count(), 6);
        assert_eq!(
            cluster("call", &["--cluster-only-masters", &address, "DBSIZE"]).matches(":7000: ").count(),
            3
        );
        let replicas = cluster("call", &["--cluster-only-replicas", &address, "CLUSTER", "MYID"]);
        for replica in [3, 4, 5] {
            assert!(replicas.contains(&servers.nodes[replica].id()), "{replicas}");
        }
    }
    let found = attempt("check", &[&servers.nodes[0].address(), "--cluster-search-multiple-owners"]);
    assert!(found.status.success() && !found.text.contains("multiple owners:"), "{}", found.text);
}

/// set-timeout reaches every node and its file.
fn set_timeout(servers: &Servers) {
    let said = cluster("set-timeout", &[&servers.nodes[1].address(), "1500"]);
    assert!(said.contains("New node timeout set. 6 OK, 0 ERR."), "{said}");
    for node in &servers.nodes[..6] {
        assert_eq!(node.config("cluster-node-timeout").as_deref(), Some("1500"));
        let file = std::fs::read_to_string(node.dir().join("node.conf")).expect("its file");
        assert!(file.contains("\ncluster-node-timeout 1500\n"), "{file}");
    }
}

/// reshard: from one master to another in all directions between the kinds, then from all to one.
fn reshard(servers: &Servers) {
    let id = |node: usize| servers.nodes[node].id();
    for (from, to, count) in [(0, 1, 120), (1, 2, 200), (2, 0, 100)] {
        servers.until_settled();
        let before = [servers.nodes[from].slots(), servers.nodes[to].slots()];
        let ids = [id(from), id(to)];
        let slots = count.to_string();
        cluster(
            "reshard",
            &[
                &servers.nodes[3].address(),
                "--cluster-from",
                &ids[0],
                "--cluster-to",
                &ids[1],
                "--cluster-slots",
                &slots,
                "--cluster-yes",
                "--cluster-pipeline",
                "2",
            ],
        );
        let after = [servers.nodes[from].slots(), servers.nodes[to].slots()];
        assert_eq!(after, [before[0] - count, before[1] + count]);
        check(&servers.nodes[to].address());
    }
    servers.until_settled();
    let before = servers.nodes[1].slots();
    cluster(
        "reshard",
        &[
            &servers.nodes[1].address(),
            "--cluster-from",
            "all",
            "--cluster-to",
            &id(1),
            "--cluster-slots",
            "101",
            "--cluster-yes",
        ],
    );
    assert_eq!(servers.nodes[1].slots(), before + 101);
    check(&servers.nodes[0].address());
}

/// A slot stays half moved while every key is written: its writers are sent on by ASK, a request about keys here and
/// there is told TRYAGAIN; then fix closes the slot.
fn hold_a_slot_open(servers: &Servers, load: &Load, keys: &[String]) {
    let Some((owner, slot, here)) = servers.masters().into_iter().find_map(|owner| {
        keys.iter().find_map(|key| {
            let slot = redis_keyslot(key.as_bytes()).to_string();
            let here = texts(&servers.nodes[owner].must(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]));
            (here.len() > 4).then_some((owner, slot, here))
        })
    }) else {
        panic!("no slot has keys")
    };
    let target = (owner + 1) % 3;
    let [from, to] = [&servers.nodes[owner], &servers.nodes[target]];
    to.must(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.id()]);
    from.must(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.id()]);
    let port = to.port.to_string();
    let [first, second] = [here[0].as_str(), here[1].as_str()];
    from.must(&["MIGRATE", &to.ip, &port, "", "0", "5000", "KEYS", first, second]);
    load.until_more(keys.len() as u64 * 3 / 2);
    let error = |node: &Server, args: &[&str]| match node.ask(args) {
        Some(Reply::Error(error)) => error.to_string(),
        other => panic!("{args:?}: {other:?}"),
    };
    assert_eq!(error(from, &["TYPE", first]), format!("ASK {slot} {}", to.address()));
    assert_eq!(error(to, &["TYPE", first]), format!("MOVED {slot} {}", from.address()));
    let both = ["EXISTS", first, &here[2]];
    assert!(error(from, &both).starts_with("TRYAGAIN "), "a key here and a key there");
    let mut importer = to.connect().expect("it answers");
    importer.ask(&["ASKING"]).expect("an answer");
    let reply = importer.ask(&both).expect("an answer");
    assert!(matches!(&reply, Reply::Error(error) if error.starts_with("TRYAGAIN ")), "{reply:?}");
    importer.ask(&["ASKING"]).expect("an answer");
    assert_eq!(importer.ask(&["EXISTS", first, second]).expect("an answer"), Reply::Integer(2));

    let before = to.slots();
    servers.until_settled();
    {
        // redis-cli closes the slot at its owner before it has brought the keys back: a write in between makes a second copy,
        // and it refuses ("having different values").
        let _quiet = load.hold();
        cluster("fix", &[&from.address()]);
    }
    assert_eq!(to.slots(), before, "redis-cli gives it to the one with the most keys");
    check(&from.address());
}

/// add-node as a master, rebalance onto it, add-node as its replica.
fn add_nodes(servers: &Servers) {
    let entry = servers.nodes[0].address();
    let [six, seven] = [6, 7].map(|node| servers.nodes[node].address());
    cluster("add-node", &[&six, &entry]);
    servers.until_one(&[0, 1, 2, 3, 4, 5, 6]);
    let id = servers.nodes[6].id();
    // Too small an imbalance for the default threshold: nothing is to be done without the empty master.
    servers.until_settled();
    let weight = format!("{id}=0.1");
    let simulated = cluster(
        "rebalance",
        &[&entry, "--cluster-use-empty-masters", "--cluster-weight", &weight, "--cluster-simulate"],
    );
    assert!(simulated.contains("#####"), "{simulated}");
    assert_eq!(servers.nodes[6].slots(), 0, "a simulation changes nothing");
    cluster("rebalance", &[&entry, "--cluster-use-empty-masters", "--cluster-weight", &weight]);
    let slots = servers.nodes[6].slots();
    assert!((500..560).contains(&slots), "16384 * 0.1 / 3.1 slots, not {slots}");
    check(&entry);

    cluster("add-node", &[&seven, &entry, "--cluster-slave", "--cluster-master-id", &id]);
    servers.until_one(&ALL);
    servers.until_in_sync(&[7]);
    assert_eq!(servers.nodes[7].follows(), Some(id));
    check(&servers.nodes[7].address());
}

/// backup: a file for each master that Debian's tools accept and a real server loads.
fn back_up(servers: &Servers, keys: &[String]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_str().expect("text");
    cluster("backup", &[&servers.nodes[0].address(), path]);
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    let layout = std::fs::read_to_string(folder.path().join("nodes.json")).expect("nodes.json");
    let layout: serde_json::Value = serde_json::from_str(&layout).expect("JSON");
    assert_eq!(layout.as_array().map(Vec::len), Some(8));

    let mut copied = std::collections::BTreeSet::new();
    for master in servers.masters() {
        let id = servers.nodes[master].id();
        let name =
            names.iter().find(|name| name.contains(&id)).unwrap_or_else(|| panic!("no {id}: {names:?}"));
        let file = folder.path().join(name);
        let said = run(REDIS_CHECK_RDB, &[&file]);
        assert!(said.contains("\\o/ RDB looks OK! \\o/"), "{said}");
        copied.extend(keys_of_a_real_server_on(&file));
    }
    let lacking: Vec<&String> = keys.iter().filter(|key| !copied.contains(*key)).collect();
    assert!(lacking.is_empty(), "the backup lacks {lacking:?}");
}

fn keys_of_a_real_server_on(rdb: &std::path::Path) -> Vec<String> {
    let mut reader = Servers::none();
    let folder = rdb.parent().and_then(std::path::Path::to_str).expect("text");
    let name = rdb.file_name().and_then(std::ffi::OsStr::to_str).expect("text");
    reader.add(Kind::Redis, &["--appendonly", "no", "--dir", folder, "--dbfilename", name]);
    reader.nodes[0].wait_ready();
    reader.until("the file is loaded", Duration::from_secs(20), |s| {
        (s.nodes[0].info("loading").as_deref() == Some("0")).then_some(())
    });
    texts(&reader.nodes[0].must(&["KEYS", "*"]))
}

/// rebalance away from the seventh node, then del-node of its replica and of itself.
fn shrink(servers: &Servers) {
    let entry = servers.nodes[0].address();
    let [six, seven] = [6, 7].map(|node| servers.nodes[node].id());
    let refused = attempt("del-node", &[&entry, &six]);
    assert!(refused.text.contains("is not empty! Reshard data away and try again."), "{}", refused.text);
    servers.until_settled();
    cluster("rebalance", &[&entry, "--cluster-weight", &format!("{six}=0")]);
    assert_eq!(servers.nodes[6].slots(), 0);
    cluster("del-node", &[&entry, &seven]);
    cluster("del-node", &[&entry, &six]);
    servers.until_one(&FIRST_SIX);
    for node in [6, 7] {
        let line = servers.nodes[node].text(&["CLUSTER", "NODES"]).expect("it goes on alone");
        assert_eq!(line.lines().count(), 1, "it forgot the others: {line}");
    }
    redis_cli::check(&entry);
}
