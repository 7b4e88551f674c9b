//! For tests: a store with the commands that workloads use, one for all nodes of a model cluster, with transactions, watches and
//! times to live. It can forget what it acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame};
use slotstorm_checker::record::Nanos;

use super::Servers;
use super::model::bulk;
use super::tests::ModelCluster;

#[derive(Clone)]
enum Value {
    Text(String, Option<Nanos>),
    List(VecDeque<String>),
    Set(BTreeSet<String>),
}

#[derive(Default)]
struct Connection {
    incoming: BytesMut,
    queued: Option<Vec<Vec<String>>>,
    /// Watched keys with their versions.
    watched: Vec<(String, u64)>,
}

/// The store behind all nodes.
#[derive(Default)]
pub struct Toy {
    topology: ModelCluster,
    keys: BTreeMap<String, Value>,
    versions: BTreeMap<String, u64>,
    connections: BTreeMap<u64, Connection>,
    writes: u64,
    /// Each so many writes leave their first key as it was, and are acknowledged all the same.
    forgets_every: Option<u64>,
}

impl Servers for Toy {
    fn receive(&mut self, now: Nanos, node: u16, conn: u64, bytes: &[u8]) -> Vec<u8> {
        let mut connection = self.connections.remove(&conn).unwrap_or_default();
        connection.incoming.extend_from_slice(bytes);
        let mut replies = String::new();
        while let Ok(Some((BytesFrame::Array(frames), _, _))) = decode_bytes_mut(&mut connection.incoming) {
            let words: Vec<String> =
                frames.iter().map(|frame| frame.as_str().unwrap_or_default().to_owned()).collect();
            replies += &self.command(now, node, &mut connection, words);
        }
        self.connections.insert(conn, connection);
        replies.into_bytes()
    }

    fn closed(&mut self, _node: u16, conn: u64) {
        self.connections.remove(&conn);
    }
}

impl Toy {
    /// One that forgets each so many writes.
    pub fn forgetful(each: u64) -> Self {
        Self { forgets_every: Some(each), ..Self::default() }
    }

    fn command(&mut self, now: Nanos, node: u16, connection: &mut Connection, words: Vec<String>) -> String {
        match words[0].as_str() {
            "CLUSTER" | "INFO" | "READONLY" | "PING" => self.topology.reply(node, &words),
            "MULTI" => {
                connection.queued = Some(Vec::new());
                "+OK\r\n".into()
            }
            "UNWATCH" => {
                connection.watched.clear();
                "+OK\r\n".into()
            }
            "WATCH" => {
                connection.watched.push((words[1].clone(), self.version(&words[1])));
                "+OK\r\n".into()
            }
            "EXEC" => {
                let changed = std::mem::take(&mut connection.watched)
                    .into_iter()
                    .any(|(key, version)| self.version(&key) != version);
                let queued = connection.queued.take().unwrap_or_default();
                if changed {
                    return "*-1\r\n".into();
                }
                let replies: String = queued.iter().map(|words| self.execute(now, words)).collect();
                format!("*{}\r\n{replies}", queued.len())
            }
            _ => {
                if let Some(moved) = ModelCluster::moved(node, keys_of(&words)[0], writes(&words)) {
                    return moved;
                }
                match &mut connection.queued {
                    Some(queued) => {
                        queued.push(words);
                        "+QUEUED\r\n".into()
                    }
                    None => self.execute(now, &words),
                }
            }
        }
    }

    fn version(&self, key: &str) -> u64 {
        self.versions.get(key).copied().unwrap_or(0)
    }

    /// Carries a command out, or only says so.
    fn execute(&mut self, now: Nanos, words: &[String]) -> String {
        if !writes(words) {
            return self.on_keys(now, words);
        }
        let first = keys_of(words)[0].to_owned();
        let before = self.keys.get(&first).cloned();
        let reply = self.on_keys(now, words);
        self.writes += 1;
        if self.forgets_every.is_some_and(|n| self.writes.is_multiple_of(n)) {
            match before {
                Some(value) => self.keys.insert(first, value),
                None => self.keys.remove(&first),
            };
        } else {
            for key in keys_of(words) {
                *self.versions.entry(key.to_owned()).or_default() += 1;
            }
        }
        reply
    }

    fn on_keys(&mut self, now: Nanos, words: &[String]) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["GET", key] => text(self.get(now, key)),
            ["MGET", keys @ ..] => {
                let values: String = keys.iter().map(|key| text(self.get(now, key))).collect();
                format!("*{}\r\n{values}", keys.len())
            }
            ["MSET", pairs @ ..] => {
                for pair in pairs.chunks(2) {
                    self.set(pair[0], pair[1], None);
                }
                "+OK\r\n".into()
            }
            ["SET", key, value, "GET"] => {
                let before = text(self.get(now, key));
                self.set(key, value, None);
                before
            }
            ["SET", key, value, rest @ ..] => {
                let until = rest.get(1).map(|millis| now + millis.parse::<Nanos>().unwrap() * 1_000_000);
                self.set(key, value, until);
                "+OK\r\n".into()
            }
            ["INCR", key] => self.add(now, key, 1),
            ["DECR", key] => self.add(now, key, -1),
            ["INCRBY", key, by] => self.add(now, key, by.parse().unwrap()),
            ["DECRBY", key, by] => self.add(now, key, -by.parse::<i64>().unwrap()),
            ["SADD", key, member] => {
                let Value::Set(set) = self.keys.entry((*key).into()).or_insert(Value::Set(BTreeSet::new()))
                else {
                    panic!("no set")
                };
                format!(":{}\r\n", u8::from(set.insert((*member).to_owned())))
            }
            ["SMEMBERS", key] => match self.keys.get(*key) {
                Some(Value::Set(set)) => array(set),
                _ => array([]),
            },
            ["LRANGE", key, ..] => array(self.list(key).iter()),
            ["RPUSH", key, element] => {
                self.list(key).push_back((*element).to_owned());
                format!(":{}\r\n", self.list(key).len())
            }
            ["LPUSH", key, element] => {
                self.list(key).push_front((*element).to_owned());
                format!(":{}\r\n", self.list(key).len())
            }
            ["RPOP", key] => text(self.list(key).pop_back()),
            ["LMOVE", from, to, ..] => {
                let moved = self.list(from).pop_back();
                if let Some(element) = &moved {
                    self.list(to).push_front(element.clone());
                }
                text(moved)
            }
            ["EVAL", script, _, rest @ ..] => self.script(now, script, rest),
            other => format!("-ERR unknown {other:?}\r\n"),
        }
    }

    /// The scripts of `register` and `lock`, told apart by what only one of them says.
    fn script(&mut self, now: Nanos, script: &str, words: &[&str]) -> String {
        if script.contains("INCR") {
            let [lock, fence, holder, millis] = words else { panic!("not ACQUIRE") };
            if self.get(now, lock).is_some() {
                return "$-1\r\n".into();
            }
            self.set(lock, holder, Some(now + millis.parse::<Nanos>().unwrap() * 1_000_000));
            return self.add(now, fence, 1);
        }
        let [key, first, rest @ ..] = words else { panic!("a key and an argument") };
        let held = self.get(now, key);
        if script.contains("DEL") {
            let ours = held.as_deref() == Some(*first);
            if ours {
                self.keys.remove(*key);
            }
            return format!(":{}\r\n", u8::from(ours));
        }
        if script.contains("tonumber") {
            let seen: u64 = held.map_or(0, |seen| seen.parse().unwrap());
            if first.parse::<u64>().unwrap() < seen {
                return ":0\r\n".into();
            }
            self.set(key, first, None);
            return ":1\r\n".into();
        }
        if held.as_deref().unwrap_or_default() == *first {
            self.set(key, rest[0], None);
        }
        text(held)
    }

    fn get(&mut self, now: Nanos, key: &str) -> Option<String> {
        match self.keys.get(key)? {
            Value::Text(_, Some(until)) if *until <= now => None,
            Value::Text(text, _) => Some(text.clone()),
            _ => panic!("{key} is no text"),
        }
    }

    fn set(&mut self, key: &str, value: &str, until: Option<Nanos>) {
        self.keys.insert(key.to_owned(), Value::Text(value.to_owned(), until));
    }

    fn add(&mut self, now: Nanos, key: &str, by: i64) -> String {
        let sum = self.get(now, key).map_or(0, |text| text.parse::<i64>().unwrap()) + by;
        self.set(key, &sum.to_string(), None);
        format!(":{sum}\r\n")
    }

    fn list(&mut self, key: &str) -> &mut VecDeque<String> {
        match self.keys.entry(key.to_owned()).or_insert_with(|| Value::List(VecDeque::new())) {
            Value::List(list) => list,
            _ => panic!("{key} is no list"),
        }
    }
}

/// The keys that a command names, the one that it is about first.
fn keys_of(words: &[String]) -> Vec<&str> {
    let count = |n: &str| n.parse::<usize>().unwrap_or(1);
    match words[0].as_str() {
        "EVAL" => words[3..3 + count(&words[2])].iter().map(String::as_str).collect(),
        "MSET" => words[1..].iter().step_by(2).map(String::as_str).collect(),
        "MGET" => words[1..].iter().map(String::as_str).collect(),
        "LMOVE" => vec![&words[1], &words[2]],
        _ => vec![&words[1]],
    }
}

fn writes(words: &[String]) -> bool {
    !matches!(words[0].as_str(), "GET" | "MGET" | "LRANGE" | "SMEMBERS")
}

fn text(value: Option<String>) -> String {
    value.map_or("$-1\r\n".into(), |value| bulk(&value))
}

fn array<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| bulk(item)).collect();
    format!("*{}\r\n{}", items.len(), items.concat())
}
