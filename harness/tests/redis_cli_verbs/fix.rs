//! fix: every kind of broken slot, made by hand with SETSLOT and DELSLOTS, is closed, and nothing in it is lost.

use std::collections::BTreeSet;

use redis_protocol::redis_keyslot;

use crate::common::load::{Load, LoadOptions, keys_in};
use crate::common::lock::beside_another;
use crate::common::redis_cli::{attempt, check, checked};
use crate::common::servers::{Reply, Servers, texts};
use crate::{Mix, busy_slots};

#[test]
fn real_servers_are_fixed() {
    fix_all(Mix::Real);
}

#[test]
fn our_nodes_are_fixed() {
    fix_all(Mix::Ours);
}

#[test]
fn a_mixed_cluster_is_fixed() {
    fix_all(Mix::Mixed);
}

/// Every case, first in silence, then under load, each on a slot of its own.
fn fix_all(mix: Mix) {
    let _lock = beside_another();
    let servers = mix.three_masters();
    let mut next = [300, 5800, 11300];
    for under_load in [false, true] {
        // The writers' keys lie in the broken slots, too.
        let spoiled: Vec<u16> = next.iter().flat_map(|start| *start..*start + 12).collect();
        let keys = keys_in(busy_slots(30).chain(spoiled), 3);
        let load = under_load.then(|| Load::start(&servers.addresses(), &keys, &LoadOptions::default()));
        if let Some(load) = &load {
            load.until_more(keys.len() as u64);
        }
        // In silence the owners take turns; under load the first two, which are of both kinds, have all cases.
        for turn in 0..CASES.len() + 2 {
            let owners = if under_load { 0..2 } else { turn % 3..turn % 3 + 1 };
            for owner in owners {
                let broken = Broken::new(&servers, owner, next[owner]);
                next[owner] += 1;
                servers.until_settled();
                match turn.checked_sub(2) {
                    Some(case) => broken.repair(&CASES[case], &[]),
                    None if turn == 0 => several_holders(&broken),
                    None => conflicting_values(&broken),
                }
                if let Some(load) = &load {
                    load.until_more(20);
                }
            }
        }
        if let Some(load) = load {
            load.stop().assert_flawless(&format!("fix of {mix:?}"), &servers);
        }
    }
}

/// A slot with one owner and keys at two masters, which only a search finds. redis-cli 7.0 sees it but cannot close it:
/// its MIGRATE is redirected. With an importing mark it can.
fn several_holders(slot: &Broken<'_>) {
    slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
    slot.plant(slot.second, "stray", "1");
    slot.set(slot.second, &["STABLE"]);
    let entry = slot.servers.nodes[slot.third].address();
    let search = "--cluster-search-multiple-owners";
    check(&entry);
    let seen = attempt("check", &[&entry, search]);
    assert!(seen.text.contains(&format!("Slot {} has 2 owners:", slot.slot)), "{}", seen.text);
    let fixed = attempt("fix", &[&entry, search]);
    let owner = slot.servers.nodes[slot.owner].address();
    assert!(fixed.text.contains(&format!("MOVED {} {owner}", slot.slot)), "{}", fixed.text);
    slot.repair(
        &Case {
            name: "a slot with one owner and keys at two masters",
            spoil: |slot| slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]),
            end: End::Owner,
        },
        &[],
    );
    let seen = attempt("check", &[&entry, search]);
    assert!(!seen.text.contains("has 2 owners"), "{}", seen.text);
}

/// Two masters hold the same key with different values: redis-cli changes nothing before it is told which is to go.
fn conflicting_values(slot: &Broken<'_>) {
    slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
    slot.plant(slot.second, "0", "another value");
    let entry = slot.servers.nodes[slot.third].address();
    let refused = attempt("fix", &[&entry]);
    assert!(refused.text.contains("having different values"), "{}", refused.text);
    let open = slot.servers.nodes[slot.second].own_line().expect("it answers").join(" ");
    assert!(open.contains('['), "the slot stays open: {open}");
    let case = Case { name: "a key with two values", spoil: |_| (), end: End::Owner };
    slot.repair(&case, &["--cluster-replace"]);
    assert_eq!(
        slot.servers.nodes[slot.owner].text(&["GET", &slot.key("0")]).as_deref(),
        Some("another value")
    );
}

/// A way to break a slot.
struct Case {
    name: &'static str,
    spoil: fn(&Broken<'_>),
    /// Who has the slot in the end.
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Owner,
    Second,
    /// Whoever has more keys; redis-cli's choice where that is even.
    Anyone,
}

const CASES: &[Case] = &[
    Case {
        name: "case 1: one migrating, one importing, no key moved yet",
        spoil: |slot| {
            slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
            slot.set(slot.owner, &["MIGRATING", &slot.id(slot.second)]);
        },
        end: End::Second,
    },
    Case {
        name: "one migrating, one importing, half of the keys moved",
        spoil: |slot| {
            slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
            slot.set(slot.owner, &["MIGRATING", &slot.id(slot.second)]);
            slot.migrate_half();
        },
        end: End::Anyone,
    },
    Case {
        name: "case 2: only importing, with a key there",
        spoil: |slot| {
            slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
            slot.plant(slot.second, "stray", "1");
        },
        end: End::Owner,
    },
    Case {
        name: "case 2: only importing, at two masters, one of them with a key",
        spoil: |slot| {
            slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
            slot.set(slot.third, &["IMPORTING", &slot.id(slot.owner)]);
            slot.plant(slot.third, "stray", "1");
        },
        end: End::Owner,
    },
    Case {
        name: "case 3: one migrating, two importing without keys",
        spoil: |slot| {
            slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
            slot.set(slot.third, &["IMPORTING", &slot.id(slot.owner)]);
            slot.set(slot.owner, &["MIGRATING", &slot.id(slot.second)]);
        },
        end: End::Second,
    },
    Case {
        name: "case 4: only migrating",
        spoil: |slot| slot.set(slot.owner, &["MIGRATING", &slot.id(slot.second)]),
        end: End::Owner,
    },
    Case {
        name: "a slot without an owner, its keys at one master",
        spoil: |slot| slot.disown(&[slot.owner, slot.second, slot.third]),
        end: End::Owner,
    },
    Case {
        name: "a slot without an owner, keys at two masters",
        spoil: |slot| {
            slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
            slot.plant(slot.second, "stray", "1");
            slot.set(slot.second, &["STABLE"]);
            slot.disown(&[slot.owner, slot.second, slot.third]);
        },
        end: End::Owner,
    },
    Case {
        name: "one migrating, one importing: both have a key, and the same value",
        spoil: |slot| {
            slot.set(slot.second, &["IMPORTING", &slot.id(slot.owner)]);
            slot.plant(slot.second, "0", "0");
            slot.set(slot.owner, &["MIGRATING", &slot.id(slot.second)]);
        },
        end: End::Anyone,
    },
];

/// A slot to be broken, with keys.
struct Broken<'a> {
    servers: &'a Servers,
    slot: String,
    tag: String,
    owner: usize,
    second: usize,
    third: usize,
}

impl<'a> Broken<'a> {
    fn new(servers: &'a Servers, owner: usize, slot: u16) -> Self {
        let tag = (0_u32..).map(|number| format!("{{{number}}}"));
        let tag = tag.into_iter().find(|tag| redis_keyslot(tag.as_bytes()) == slot).expect("there is one");
        let (second, third) = ((owner + 1) % 3, (owner + 2) % 3);
        let broken = Self { servers, slot: slot.to_string(), tag, owner, second, third };
        for name in 0..6 {
            servers.nodes[owner].must(&["SET", &broken.key(&name.to_string()), &name.to_string()]);
        }
        broken
    }

    /// Breaks it, has redis-cli see and fix it, and looks for all keys at its owner.
    /// `with` are further arguments of fix.
    fn repair(&self, case: &Case, with: &[&str]) {
        let name = case.name;
        let keys_before = self.keys_anywhere();
        (case.spoil)(self);
        let planted = self.keys_anywhere();
        let entry = self.servers.nodes[self.third].address();
        let seen = attempt("check", &[&entry]);
        let ill = ["[WARNING]", "[ERR]"].iter().any(|word| seen.text.contains(word));
        assert!(ill, "{name}: check sees nothing:\n{}", seen.text);
        let fixed = attempt("fix", &[&[entry.as_str()], with].concat());
        let left = checked(&entry).err();
        assert!(left.is_none(), "{name}: fix said\n{}\nand left\n{}", fixed.text, left.unwrap_or_default());
        let owners = self.owners();
        assert_eq!(owners.len(), 1, "{name}: owned by {owners:?}\n{}", fixed.text);
        match case.end {
            End::Owner => assert_eq!(owners[0], self.owner, "{name}\n{}", fixed.text),
            End::Second => assert_eq!(owners[0], self.second, "{name}\n{}", fixed.text),
            End::Anyone => {}
        }
        let held = self.keys_at(owners[0]);
        let lost: Vec<&String> = keys_before.union(&planted).filter(|key| !held.contains(*key)).collect();
        assert!(lost.is_empty(), "{name}: {lost:?} are lost\n{}", fixed.text);
        for node in (0..3).filter(|node| *node != owners[0]) {
            assert!(self.keys_at(node).is_empty(), "{name}: node {node} kept keys\n{}", fixed.text);
        }
        for node in &self.servers.nodes {
            let line = node.own_line().expect("it answers").join(" ");
            assert!(!line.contains('['), "{name}: an open slot is left: {line}");
        }
    }

    fn id(&self, node: usize) -> String {
        self.servers.nodes[node].id()
    }

    fn key(&self, name: &str) -> String {
        format!("fix:{}:{name}", self.tag)
    }

    fn set(&self, node: usize, words: &[&str]) {
        let args = [&["CLUSTER", "SETSLOT", &self.slot], words].concat();
        self.servers.nodes[node].must(&args);
    }

    /// Nobody owns the slot any more. The owner first: else its next ping would tell the others again.
    fn disown(&self, nodes: &[usize]) {
        for node in nodes {
            self.servers.nodes[*node].ask(&["CLUSTER", "DELSLOTS", &self.slot]);
        }
    }

    /// Writes a key to a node that imports the slot.
    fn plant(&self, node: usize, name: &str, value: &str) {
        let mut connection = self.servers.nodes[node].connect().expect("it answers");
        connection.ask(&["ASKING"]).expect("an answer");
        let reply = connection.ask(&["SET", &self.key(name), value]).expect("an answer");
        assert_eq!(reply, Reply::SimpleString("OK".into()));
    }

    /// Moves three keys from the owner to the second.
    fn migrate_half(&self) {
        let target = &self.servers.nodes[self.second];
        let port = target.port.to_string();
        let keys = ["0", "1", "2"].map(|name| self.key(name));
        let mut args = vec!["MIGRATE", &target.ip, &port, "", "0", "5000", "KEYS"];
        args.extend(keys.iter().map(String::as_str));
        self.servers.nodes[self.owner].must(&args);
    }

    fn keys_at(&self, node: usize) -> BTreeSet<String> {
        let reply = self.servers.nodes[node].must(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"]);
        texts(&reply).into_iter().collect()
    }

    fn keys_anywhere(&self) -> BTreeSet<String> {
        (0..3).flat_map(|node| self.keys_at(node)).collect()
    }

    /// The masters that claim the slot in their own line.
    fn owners(&self) -> Vec<usize> {
        let slot: u16 = self.slot.parse().expect("a number");
        let covers = |range: &String| {
            let (start, end) = range.split_once('-').unwrap_or((range, range));
            let bounds = start.parse::<u16>().ok().zip(end.parse::<u16>().ok());
            bounds.is_some_and(|(start, end)| (start..=end).contains(&slot))
        };
        let claims = |node: &usize| {
            self.servers.nodes[*node].own_line().expect("it answers").iter().skip(8).any(covers)
        };
        (0..3).filter(claims).collect()
    }
}
