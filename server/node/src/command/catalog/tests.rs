//! The catalog agrees with the table, and finds keys as a redis-server does.

use super::super::table::TABLE;
use super::super::{Run, Verb};
use super::*;
use crate::resp::OwnedArgs;

/// Names of the keys of a call, with what is done to them.
fn keys(line: &str) -> Vec<String> {
    let args: OwnedArgs = line.split(' ').collect();
    let args = args.view();
    let spec = resolve(args).expect("a command");
    let (_, entry) = catalog().entry(spec).expect("an entry");
    let shown = |key: &KeyRef| {
        let flags: Vec<&str> = key.flags.names().collect();
        format!("{} {}", String::from_utf8_lossy(&args[key.at]), flags.join(" "))
    };
    keys_of(entry, args).iter().map(shown).collect()
}

#[test]
fn the_table_has_what_a_redis_server_says_of_its_commands() {
    let mut wrong = Vec::new();
    for spec in TABLE {
        let Some((index, entry)) = catalog().entry(spec) else {
            wrong.push(format!("{}: not recorded", spec.name));
            continue;
        };
        let recorded: u32 =
            flag::NAMES.iter().filter(|(_, name)| entry.is_flagged(name)).map(|(bit, _)| bit).sum();
        let differing: Vec<&str> = flag::NAMES
            .iter()
            .filter(|(bit, _)| (recorded ^ spec.flags) & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        if !differing.is_empty() {
            wrong.push(format!("{}: flags {differing:?}, recorded {:?}", spec.name, entry.flags));
        }
        if spec.has(flag::CONTAINER) == catalog().subcommands(index).is_empty() {
            wrong.push(format!("{}: container or not", spec.name));
        }
        let keys = spec.keys;
        let is_shard = entry.key_specs.iter().any(|spec| spec.flags.names().any(|name| name == "not_key"));
        let is_watch = matches!(spec.run, Run::Node(Verb::Migrate));
        if [keys.first, keys.last, keys.step] != entry.positions && !is_shard && !is_watch {
            wrong.push(format!("{}: keys {keys:?}, recorded {:?}", spec.name, entry.positions));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let recorded = RECORDED.lines().filter_map(|line| line.strip_prefix("command\t"));
    let arity = |line: &str| {
        let mut fields = line.split('\t');
        Some((fields.next()?.to_owned(), fields.next()?.parse::<i32>().ok()?))
    };
    for (name, arity) in recorded.filter_map(arity) {
        if let Some(index) = catalog().find(name.as_bytes()) {
            assert_eq!(catalog().entries()[index].spec.arity, arity, "{name}");
        }
    }
}

#[test]
fn a_subcommand_is_found_whatever_the_case_and_has_flags_of_its_own() {
    let of = |line: &str| resolve(line.split(' ').collect::<OwnedArgs>().view()).map(|spec| spec.name);
    assert_eq!(of("config GET x"), Ok("config|get"));
    assert_eq!(of("CONFIG"), Ok("config"));
    assert_eq!(of("config nothing"), Err(Unresolved::Subcommand));
    assert_eq!(of("nothing"), Err(Unresolved::Command));
    let encoding = resolve(["object", "encoding", "k"].iter().collect::<OwnedArgs>().view()).unwrap();
    assert!(encoding.has(flag::READONLY));
    assert_eq!(encoding.keys.first, 2);
}

#[test]
fn keys_are_found_by_index_number_keyword_and_by_name() {
    assert_eq!(keys("get a"), ["a RO access"]);
    assert_eq!(keys("mset a 1 b 2"), ["a OW update", "b OW update"]);
    assert_eq!(keys("zunionstore d 2 a b WEIGHTS 1 2"), ["d OW update", "a RO access", "b RO access"]);
    assert_eq!(keys("zunionstore d x a b"), [""; 0]);
    assert_eq!(keys("set a 1"), ["a OW update"]);
    assert_eq!(keys("set a 1 GET"), ["a RW access update"]);
    assert_eq!(keys("migrate h 1 a 0 9"), ["a RW access delete"]);
    assert_eq!(keys("migrate h 1 a 0 9 KEYS b"), [""; 0]);
    let many: OwnedArgs =
        ["migrate", "h", "1", "", "0", "9", "AUTH", "keys", "KEYS", "a", "b"].iter().collect();
    let (_, entry) = catalog().entry(resolve(many.view()).unwrap()).unwrap();
    assert_eq!(keys_of(entry, many.view()).iter().map(|key| key.at).collect::<Vec<_>>(), [9, 10]);
}
