//! `slotstorm cluster VERB` on real servers, on our nodes and on a cluster of both: every verb does what it says while
//! clients write and no acknowledged write is lost; every kind of broken slot is fixed; what cannot be done is said.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // real processes

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis_protocol::redis_keyslot;

use common::load::{Load, LoadOptions, keys_in};
use common::lock::beside_another;
use common::servers::{Kind, Reply, Servers, texts};

/// What a verb said, and how it ended.
struct Said {
    out: String,
    all: String,
    code: Option<i32>,
}

/// Runs `slotstorm cluster` with nothing, or these lines, on stdin.
fn say(args: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
        .arg("cluster")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_remove("REDISCLI_AUTH")
        .spawn()
        .expect("the binary starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{args:?}\n{out}{}", String::from_utf8_lossy(&output.stderr));
    Said { out, all, code: output.status.code() }
}

/// Runs it and insists that it succeeds.
#[track_caller]
fn done(args: &[&str]) -> String {
    let said = say(args, "");
    assert_eq!(said.code, Some(0), "{}", said.all);
    said.out
}

/// Runs it and insists that it says that it failed.
#[track_caller]
fn failed(args: &[&str]) -> String {
    let said = say(args, "");
    assert_eq!(said.code, Some(1), "{}", said.all);
    said.all
}

fn json(args: &[&str]) -> serde_json::Value {
    let said = say(args, "");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.all))
}

const E: Kind = Kind::Embedded;
const R: Kind = Kind::Redis;

/// Six nodes made a cluster by `create`, with a replica for each master, and a seventh that is empty.
fn cluster_and_a_spare(kinds: &[Kind]) -> Servers {
    let servers = Servers::start_with(kinds, 2000, |_| vec!["--enable-debug-command", "yes"]);
    let addresses = servers.addresses();
    let mut args = vec!["create"];
    args.extend(addresses[..6].iter().map(String::as_str));
    let said = done(&[&args[..], &["--cluster-replicas", "1", "--cluster-yes"]].concat());
    for line in [
        ">>> Performing hash slots allocation on 6 nodes...",
        "Master[0] -> Slots 0 - 5460",
        "[OK] All nodes agree about slots configuration.",
        "[OK] All 16384 slots covered.",
    ] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    servers
}

/// Three masters without replicas.
fn three_masters(kinds: &[Kind]) -> Servers {
    let servers = Servers::start_with(kinds, 2000, |_| vec!["--enable-debug-command", "yes"]);
    let addresses = servers.addresses();
    let nodes: Vec<&str> = addresses.iter().map(String::as_str).collect();
    done(&[&["create"], &nodes[..], &["--yes"]].concat());
    servers
}

#[test]
fn every_verb_on_real_servers() {
    tour("real servers", &[R; 7]);
}

#[test]
fn every_verb_on_our_nodes() {
    tour("our nodes", &[E; 7]);
}

#[test]
fn every_verb_on_a_cluster_of_both() {
    tour("both", &[E, R, E, R, E, R, E]);
}

/// One verb after the other, a thousand writes a second beside them.
fn tour(name: &str, kinds: &[Kind]) {
    let _lock = beside_another();
    let servers = cluster_and_a_spare(kinds);
    let at = servers.addresses();
    let entry = at[0].as_str();
    let keys = keys_in((0..60).chain(5461..5500).chain(10923..10960), 3);
    let load = Load::start(&at[..6], &keys, &LoadOptions::default());
    load.until_more(keys.len() as u64);

    let id = |node: usize| servers.nodes[node].id();
    let said = done(&[
        "reshard",
        entry,
        "--cluster-from",
        &id(0),
        "--cluster-to",
        &id(1),
        "--cluster-slots",
        "300",
        "--cluster-yes",
    ]);
    assert!(said.contains(&format!("Moving slot 299 from {entry} to {}:", at[1])), "{said}");
    assert_eq!((servers.nodes[0].slots(), servers.nodes[1].slots()), (5461 - 300, 5462 + 300));
    // Without flags it asks.
    let answers = format!("10\n{}\nnobody\n{}\ndone\nyes\n", id(0), id(1));
    let said = say(&["reshard", entry], &answers);
    assert_eq!(said.code, Some(0), "{}", said.all);
    assert!(said.out.contains("The specified node (nobody) is not known or not a master"), "{}", said.all);
    assert_eq!(servers.nodes[0].slots(), 5461 - 290);

    done(&["add-node", &at[6], entry]);
    assert_eq!(json(&["nodes", entry, "--json"]).as_array().map(Vec::len), Some(7));
    let plan = done(&["rebalance", entry, "--cluster-use-empty-masters", "--cluster-simulate"]);
    assert!(plan.contains("Rebalancing across 4 nodes. Total weight = 4.00"), "{plan}");
    assert_eq!(servers.nodes[6].slots(), 0, "a simulation moves nothing");
    done(&["rebalance", entry, "--cluster-use-empty-masters"]);
    assert_eq!([0, 1, 2, 6].map(|node| servers.nodes[node].slots()), [4096; 4]);
    assert!(done(&["rebalance", entry]).contains("No rebalancing needed"));

    let refused = failed(&["del-node", entry, &id(6)]);
    assert!(refused.contains("is not empty! Reshard data away and try again."), "{refused}");
    done(&["rebalance", entry, "--cluster-weight", &format!("{}=0", id(6))]);
    assert_eq!(servers.nodes[6].slots(), 0);
    // It may have become a replica when its last slot left; then it can go just so.
    done(&["del-node", entry, &id(6)]);
    assert_eq!(json(&["nodes", entry, "--json"]).as_array().map(Vec::len), Some(6));
    done(&["add-node", &at[6], entry, "--cluster-slave", "--cluster-master-node", &id(2)]);
    assert_eq!(servers.nodes[6].follows(), Some(id(2)));
    servers.until_in_sync(&[6]);

    let replica = (3..6).find(|node| servers.nodes[*node].follows() == Some(id(0))).expect("a replica of n1");
    servers.until_in_sync(&[replica]);
    let said = done(&["failover", entry]);
    eprintln!("{name}: {said}");
    assert!(said.contains(&format!("[OK] {} ({}) is master", at[replica], id(replica))), "{said}");
    assert_eq!(servers.nodes[0].follows(), Some(id(replica)));
    servers.until_in_sync(&[0]);
    eprintln!("{name}: {}", done(&["failover", &id(0), "--via", &at[1]]));
    assert_eq!(servers.nodes[replica].follows(), Some(id(0)));

    let called = done(&["call", entry, "--cluster-only-masters", "ECHO", "hello"]);
    assert_eq!(called.matches(": hello").count(), 3, "{called}");
    failed(&["set-timeout", entry, "50"]);
    done(&["set-timeout", entry, "2500"]);
    for node in &servers.nodes {
        assert_eq!(node.config("cluster-node-timeout").as_deref(), Some("2500"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    done(&["backup", entry, folder.path().to_str().expect("a plain path")]);
    for node in [0, 1, 2] {
        let (ip, id) = (&servers.nodes[node].ip, id(node));
        let file =
            std::fs::read(folder.path().join(format!("redis-node-{ip}-7000-{id}.rdb"))).expect("a file");
        assert!(file.starts_with(b"REDIS"), "the snapshot of n{}", node + 1);
    }
    let nodes = std::fs::read_to_string(folder.path().join("nodes.json")).expect("the list of nodes");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&nodes).expect("JSON").as_array().map(Vec::len),
        Some(7)
    );

    load.until_more(200);
    let report = load.stop();
    let checked = json(&["check", entry, "--json", "--cluster-search-multiple-owners"]);
    assert_eq!(checked["ok"], true, "{checked}");
    assert_eq!(json(&["info", entry, "--json"]).as_array().map(Vec::len), Some(3));
    report.assert_flawless(name, &servers);
}

#[test]
fn broken_slots_of_real_servers_are_fixed() {
    fix_all(&[R; 3]);
}

#[test]
fn broken_slots_of_our_nodes_are_fixed() {
    fix_all(&[E; 3]);
}

#[test]
fn broken_slots_of_a_cluster_of_both_are_fixed() {
    fix_all(&[E, R, E]);
}

/// Each case on a slot of its own, first n1 owning it, then n2: so that both kinds stand on both sides.
fn fix_all(kinds: &[Kind]) {
    let _lock = beside_another();
    let servers = three_masters(kinds);
    for (index, case) in CASES.iter().enumerate() {
        for owner in [0, 1] {
            let slot = [100, 5600][owner] + index as u16;
            Broken::new(&servers, owner, slot).repair(case);
        }
    }
    a_conflict_is_left_to_the_operator(&Broken::new(&servers, 0, 300), true);
    a_conflict_is_left_to_the_operator(&Broken::new(&servers, 0, 301), false);
    keys_that_only_a_search_finds(&Broken::new(&servers, 1, 5800));
}

/// A way to break a slot.
struct Case {
    name: &'static str,
    spoil: fn(&Broken<'_>),
    /// Who has the slot in the end, counted from the owner; `None`: whoever it is.
    end: Option<usize>,
}

const CASES: &[Case] = &[
    Case {
        name: "case 1: one migrating, one importing, no key moved",
        spoil: |slot| {
            slot.importing(1);
            slot.set(0, &["MIGRATING", &slot.id(1)]);
        },
        end: Some(1),
    },
    Case {
        name: "case 1: half of the keys moved",
        spoil: |slot| {
            slot.importing(1);
            slot.set(0, &["MIGRATING", &slot.id(1)]);
            slot.migrate_half();
        },
        end: Some(1),
    },
    Case {
        name: "case 1: a key on both sides, with the same value",
        spoil: |slot| {
            slot.importing(1);
            slot.plant(1, "0", "0");
            slot.set(0, &["MIGRATING", &slot.id(1)]);
        },
        end: Some(1),
    },
    Case {
        name: "case 2: two importing, a key at one",
        spoil: |slot| {
            slot.importing(1);
            slot.importing(2);
            slot.plant(2, "stray", "x");
        },
        end: Some(0),
    },
    // As after a failover of the source: a replica has no slots, and who imports one takes no claim of the new master.
    Case {
        name: "case 1: the importing node knows no owner",
        spoil: |slot| {
            slot.importing(1);
            slot.set(0, &["MIGRATING", &slot.id(1)]);
            slot.migrate_half();
            slot.forget_owner(1);
        },
        end: Some(1),
    },
    Case {
        name: "case 2: the importing node has a key and knows no owner",
        spoil: |slot| {
            slot.importing(1);
            slot.plant(1, "stray", "x");
            slot.forget_owner(1);
        },
        end: Some(0),
    },
    Case {
        name: "case 3: one migrating, two importing without keys",
        spoil: |slot| {
            slot.importing(1);
            slot.importing(2);
            slot.set(0, &["MIGRATING", &slot.id(2)]);
        },
        end: Some(2),
    },
    Case {
        name: "case 4: one migrating",
        spoil: |slot| slot.set(0, &["MIGRATING", &slot.id(1)]),
        end: Some(0),
    },
    Case {
        name: "case 5, which redis-cli cannot fix: one migrating, two importing, a key at the wrong one",
        spoil: |slot| {
            slot.importing(1);
            slot.importing(2);
            slot.plant(2, "stray", "x");
            slot.set(0, &["MIGRATING", &slot.id(1)]);
            slot.migrate_half();
        },
        end: Some(0),
    },
    Case {
        name: "the two marks name different nodes",
        spoil: |slot| {
            slot.set(0, &["MIGRATING", &slot.id(1)]);
            slot.importing(2);
        },
        end: Some(0),
    },
    Case { name: "no owner, keys at one master", spoil: |slot| slot.disown(), end: Some(0) },
    Case {
        name: "no owner, keys at two masters",
        spoil: |slot| {
            slot.importing(1);
            slot.plant(1, "stray", "x");
            slot.set(1, &["STABLE"]);
            slot.disown();
        },
        end: Some(0),
    },
    Case {
        name: "no owner, no keys",
        spoil: |slot| {
            for key in slot.keys_at(0) {
                slot.servers.nodes[slot.node(0)].must(&["DEL", &key]);
            }
            slot.disown();
        },
        end: None,
    },
];

/// A slot to be broken, with six keys at its owner. Nodes are counted from the owner.
struct Broken<'a> {
    servers: &'a Servers,
    owner: usize,
    slot: String,
    tag: String,
}

impl<'a> Broken<'a> {
    fn new(servers: &'a Servers, owner: usize, slot: u16) -> Self {
        let tag = (0_u32..).map(|number| format!("{{{number}}}"));
        let tag = tag.into_iter().find(|tag| redis_keyslot(tag.as_bytes()) == slot).expect("there is one");
        let broken = Self { servers, owner, slot: slot.to_string(), tag };
        for name in ["0", "1", "2", "3", "4", "5"] {
            servers.nodes[owner].must(&["SET", &broken.key(name), name]);
        }
        broken
    }

    fn repair(&self, case: &Case) {
        (case.spoil)(self);
        let before: BTreeSet<String> = (0..3).flat_map(|node| self.keys_at(node)).collect();
        let entry = self.servers.nodes[self.node(2)].address();
        failed(&["check", &entry]);
        let said = done(&["fix", &entry, "--cluster-yes"]);
        done(&["check", &entry, "--cluster-search-multiple-owners"]);
        let slot: u16 = self.slot.parse().expect("a number");
        let owners: Vec<usize> = (0..3).filter(|node| self.owns(*node, slot)).collect();
        let [owner] = owners[..] else { panic!("{}: owned by {owners:?}\n{said}", case.name) };
        assert!(case.end.is_none_or(|end| end == owner), "{}: it went to {owner}\n{said}", case.name);
        assert_eq!(self.keys_at(owner), before, "{}\n{said}", case.name);
    }

    fn node(&self, from_owner: usize) -> usize {
        (self.owner + from_owner) % 3
    }

    fn id(&self, from_owner: usize) -> String {
        self.servers.nodes[self.node(from_owner)].id()
    }

    fn key(&self, name: &str) -> String {
        format!("fix:{}:{name}", self.tag)
    }

    fn set(&self, node: usize, action: &[&str]) {
        let words = [&["CLUSTER", "SETSLOT", &self.slot], action].concat();
        self.servers.nodes[self.node(node)].must(&words);
    }

    fn importing(&self, node: usize) {
        self.set(node, &["IMPORTING", &self.id(0)]);
    }

    /// Writes a key to a node that imports the slot.
    fn plant(&self, node: usize, name: &str, value: &str) {
        let mut connection = self.servers.nodes[self.node(node)].connect().expect("it answers");
        connection.ask(&["ASKING"]).expect("an answer");
        let reply = connection.ask(&["SET", &self.key(name), value]).expect("an answer");
        assert_eq!(reply, Reply::SimpleString("OK".into()));
    }

    fn migrate_half(&self) {
        let target = &self.servers.nodes[self.node(1)];
        let keys = ["0", "1", "2"].map(|name| self.key(name));
        let words = ["MIGRATE", &target.ip, "7000", "", "0", "5000", "KEYS", &keys[0], &keys[1], &keys[2]];
        self.servers.nodes[self.node(0)].must(&words);
    }

    /// Of a node that imports it; DELSLOTS ends that, too.
    fn forget_owner(&self, node: usize) {
        self.servers.nodes[self.node(node)].must(&["CLUSTER", "DELSLOTS", &self.slot]);
        self.importing(node);
    }

    /// Nobody owns the slot any more; the owner first, else its next ping would tell the others again.
    fn disown(&self) {
        for node in 0..3 {
            self.servers.nodes[self.node(node)].ask(&["CLUSTER", "DELSLOTS", &self.slot]);
        }
    }

    fn keys_at(&self, node: usize) -> BTreeSet<String> {
        let words = ["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"];
        texts(&self.servers.nodes[self.node(node)].must(&words)).into_iter().collect()
    }

    fn owns(&self, node: usize, slot: u16) -> bool {
        let words = self.servers.nodes[self.node(node)].own_line().expect("it answers");
        words.iter().skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let bounds = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
            bounds.is_some_and(|(first, last)| (first..=last).contains(&slot))
        })
    }
}

/// Both sides hold a key with different values: nothing is overwritten until the operator says whose value wins. With both
/// marks the keys go from the owner, with one they go to it.
fn a_conflict_is_left_to_the_operator(slot: &Broken<'_>, from_owner: bool) {
    slot.importing(1);
    slot.plant(1, "0", "another value");
    if from_owner {
        slot.set(0, &["MIGRATING", &slot.id(1)]);
    }
    let entry = slot.servers.nodes[slot.node(2)].address();
    let said = failed(&["fix", &entry]);
    assert!(said.contains(&slot.key("0")) && said.contains("different values"), "{said}");
    let both = [0, 1].map(|node| slot.keys_at(node).contains(&slot.key("0")));
    assert_eq!(both, [true, true], "both keep their values");
    done(&["fix", &entry, "--cluster-replace"]);
    let (end, won) = if from_owner { (1, "0") } else { (0, "another value") };
    let value = slot.servers.nodes[slot.node(end)].must(&["GET", &slot.key("0")]);
    assert_eq!(value, Reply::BulkString(won.into()), "the source's value won");
}

/// No mark is left, but keys are on a node that does not own their slot. redis-cli 7.0 sees them and cannot move them.
fn keys_that_only_a_search_finds(slot: &Broken<'_>) {
    slot.importing(1);
    slot.plant(1, "stray", "x");
    slot.set(1, &["STABLE"]);
    let entry = slot.servers.nodes[slot.node(2)].address();
    done(&["check", &entry]);
    failed(&["check", &entry, "--cluster-search-multiple-owners"]);
    done(&["fix", &entry, "--cluster-search-multiple-owners"]);
    done(&["check", &entry, "--cluster-search-multiple-owners"]);
    assert!(slot.keys_at(0).contains(&slot.key("stray")));
}

#[test]
fn a_reshard_whose_target_hangs_says_what_is_open_and_fix_closes_it() {
    for kinds in [[R; 3], [E; 3]] {
        let _lock = beside_another();
        let servers = three_masters(&kinds);
        let (source, target) = (&servers.nodes[0], &servers.nodes[1]);
        // So many that the move takes a while; names are bytes, and no UTF-8.
        let tags: Vec<String> = keys_in(0..40, 1);
        let mut requests = Vec::new();
        for tag in tags.iter().map(|key| key.split(['{', '}']).nth(1).expect("a tag")) {
            for number in 0..500 {
                let key = [b"\xff{", tag.as_bytes(), b"}", number.to_string().as_bytes()].concat();
                requests.extend(format!("*3\r\n$3\r\nSET\r\n${}\r\n", key.len()).into_bytes());
                requests.extend(key);
                requests.extend(b"\r\n$1\r\nv\r\n");
            }
        }
        let mut connection = source.connect().expect("it answers");
        connection.send(&requests).expect("they are sent");
        for _ in 0..20_000 {
            assert_eq!(connection.reply().expect("a reply"), Reply::SimpleString("OK".into()));
        }

        let (from, to, entry) = (source.id(), target.id(), servers.nodes[2].address());
        let pid = Pid::from_raw(target.pid() as i32);
        let child = std::thread::spawn({
            let (from, to, entry) = (from.clone(), to.clone(), entry.clone());
            move || {
                let carrying = ["--cluster-pipeline", "1", "--cluster-timeout", "300", "--cluster-yes"];
                let what = [
                    "reshard",
                    &entry,
                    "--cluster-from",
                    &from,
                    "--cluster-to",
                    &to,
                    "--cluster-slots",
                    "40",
                ];
                say(&[&what[..], &carrying[..]].concat(), "")
            }
        });
        // In the middle of it: some keys have arrived, and some have not.
        servers.until("keys arrive", std::time::Duration::from_secs(10), |s| {
            matches!(s.nodes[1].must(&["DBSIZE"]), Reply::Integer(1..)).then_some(())
        });
        kill(pid, Signal::SIGSTOP).expect("it runs");
        let said = child.join().expect("the verb ends");
        kill(pid, Signal::SIGCONT).expect("it is there");
        assert_eq!(said.code, Some(1), "{}", said.all);
        assert!(said.all.contains("[ERR] stopped: "), "{}", said.all);
        assert!(said.all.contains("repair with: slotstorm cluster fix"), "{}", said.all);

        servers
            .until("the target is back", std::time::Duration::from_secs(20), |s| s.all_ok(3).then_some(()));
        done(&["fix", &entry]);
        let clean = json(&["check", &entry, "--json", "--cluster-search-multiple-owners"]);
        assert_eq!(clean["ok"], true, "{clean}");
        let keys: u64 =
            clean["masters"].as_array().expect("a list").iter().map(|it| it["keys"].as_u64().unwrap()).sum();
        assert_eq!(keys, 20_000, "no key is lost, none is there twice");
    }
}

#[test]
fn a_password_goes_to_every_server_and_into_migrate() {
    let _lock = beside_another();
    let kinds = [R, E, R];
    let servers = Servers::start_locked(&kinds, 2000, "s3cret");
    let at = servers.addresses();
    let nodes: Vec<&str> = at.iter().map(String::as_str).collect();
    failed(&[&["create"], &nodes[..], &["--yes"]].concat());
    done(&[&["create"], &nodes[..], &["--yes", "-a", "s3cret"]].concat());
    let mut first = servers.nodes[0].connect().expect("it answers");
    first.ask(&["AUTH", "s3cret"]).expect("an answer");
    for key in keys_in(0..20, 2) {
        assert_eq!(first.ask(&["SET", &key, "v"]).expect("an answer"), Reply::SimpleString("OK".into()));
    }
    let table = json(&["nodes", &at[0], "--json", "--pass", "s3cret"]);
    let id = |address: &str| {
        let rows = table.as_array().expect("rows");
        rows.iter().find(|row| row["address"] == *address).expect("a row")["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let moved = done(&[
        "reshard",
        &at[2],
        "--from",
        &id(&at[0]),
        "--to",
        &id(&at[1]),
        "--slots",
        "20",
        "--yes",
        "-a",
        "s3cret",
    ]);
    assert!(moved.contains("Moved 20 slots and 40 keys"), "{moved}");
    let wrong = failed(&["check", &at[0], "-a", "guess"]);
    assert!(wrong.contains("WRONGPASS") && !wrong.contains("s3cret"), "{wrong}");
}

#[test]
fn keys_of_a_lone_server_are_imported() {
    for (kinds, lone) in [([R; 3], R), ([E; 3], R), ([E, R, E], E)] {
        let _lock = beside_another();
        let servers = three_masters(&kinds);
        let mut source = Servers::none();
        source.add(lone, &["--cluster-enabled", "no"]);
        let source = &source.nodes[0];
        source.wait_ready();
        let keys: Vec<String> = (0..200).map(|number| format!("key:{number}")).collect();
        for key in &keys {
            source.must(&["SET", key, "old"]);
        }
        let (entry, from) = (servers.nodes[1].address(), source.address());
        let held = || -> u64 {
            let infos = json(&["info", &entry, "--json"]);
            infos
                .as_array()
                .expect("a list")
                .iter()
                .map(|info| info["keys"].as_u64().expect("a number"))
                .sum()
        };
        done(&["import", &entry, "--cluster-from", &from, "--cluster-copy"]);
        assert_eq!((held(), source.must(&["DBSIZE"])), (200, Reply::Integer(200)), "a copy");
        let busy = failed(&["import", &entry, "--cluster-from", &from]);
        assert!(busy.contains("BUSYKEY") && busy.contains("0 keys were imported"), "{busy}");
        source.must(&["SET", "key:0", "new"]);
        done(&["import", &entry, "--cluster-from", &from, "--cluster-replace"]);
        assert_eq!((held(), source.must(&["DBSIZE"])), (200, Reply::Integer(0)), "all moved");
        let value = servers.nodes.iter().find_map(|node| match node.ask(&["GET", "key:0"]) {
            Some(Reply::BulkString(value)) => Some(value),
            _ => None,
        });
        assert_eq!(value.as_deref(), Some(&b"new"[..]));
        let no_source = failed(&["import", &entry]);
        assert!(no_source.contains("'--cluster-from' is required"), "{no_source}");
        let not_lone = failed(&["import", &entry, "--cluster-from", &entry]);
        assert!(not_lone.contains("should not be a cluster node"), "{not_lone}");
    }
}

#[test]
fn a_dead_master_is_replaced_by_force_and_fix_does_not_guess_meanwhile() {
    for kinds in [[R; 7], [E; 7]] {
        let _lock = beside_another();
        let mut servers = cluster_and_a_spare(&kinds);
        let (dead, id) = (servers.nodes[0].address(), servers.nodes[0].id());
        let via = servers.nodes[1].address();
        let replica =
            (3..6).find(|node| servers.nodes[*node].follows() == Some(id.clone())).expect("a replica");
        servers.until_in_sync(&[replica]);
        servers.nodes[0].kill();
        let refused = failed(&["fix", &via]);
        assert!(refused.contains("--cluster-fix-with-unreachable-masters"), "{refused}");
        let plain = say(&["failover", &dead, "--via", &via, "--timeout", "2"], "");
        // Its own election may have been quicker than we are: then there is nothing to force.
        let elected = |s: &Servers| s.nodes[replica].follows().is_none();
        if !elected(&servers) {
            assert_eq!(plain.code, Some(1), "a dead master cannot help: {}", plain.all);
            done(&["failover", &dead, "--via", &via, "--takeover"]);
        }
        servers
            .until("the replica is master", std::time::Duration::from_secs(20), |s| elected(s).then_some(()));
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let usage = |args: &[&str]| {
        let said = say(args, "");
        assert_eq!(said.code, Some(254), "{}", said.all);
        said.all
    };
    assert!(usage(&["check"]).contains("HOST:PORT"));
    assert!(usage(&["check", "nowhere"]).contains("nowhere"));
    assert!(usage(&["create", "127.0.0.1:1", "127.0.0.1:2"]).contains("at least 3 master nodes"));
    assert!(usage(&["create", "127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:2"]).contains("twice"));
    assert!(usage(&["reshard", "127.0.0.1:1", "--cluster-slots", "many"]).contains("many"));
    assert!(failed(&["check", "127.0.0.1:1"]).contains("Could not connect to Redis at 127.0.0.1:1"));
}
