//! A blocking cluster client of few words: it follows MOVED and ASK, retries what a client should retry, and counts it.
//! It shares nothing with the clients of the product.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, dead_code)] // real sockets and clocks

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis_protocol::redis_keyslot;

use super::servers::{Connection, Reply};

/// How long a request is tried again.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of a cluster.
pub struct Routed {
    seeds: Vec<String>,
    /// The next seed to ask.
    turn: usize,
    owners: BTreeMap<u16, String>,
    connections: BTreeMap<String, Connection>,
    /// Where the last reply came from.
    last: Option<String>,
    pub trouble: Trouble,
}

/// Replies that ask a client to try elsewhere or later, and connections that could not be had.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    pub moved: u64,
    pub ask: u64,
    pub try_again: u64,
    pub cluster_down: u64,
    pub loading: u64,
    pub refused: u64,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Failure {
    /// The request was sent and the connection ended: it may have been carried out.
    Unknown(String),
    /// The caller asked to stop before the request was carried out.
    Stopped,
    /// A reply that a client should not retry, or patience ran out.
    Error(String),
}

impl Trouble {
    pub fn add(&mut self, other: &Self) {
        self.moved += other.moved;
        self.ask += other.ask;
        self.try_again += other.try_again;
        self.cluster_down += other.cluster_down;
        self.loading += other.loading;
        self.refused += other.refused;
    }
}

impl Routed {
    /// A client that knows these nodes; `number` decides whom it asks first.
    pub fn new(seeds: &[String], number: u64) -> Self {
        let none = BTreeMap::new;
        Self {
            seeds: seeds.to_vec(),
            turn: number as usize,
            owners: BTreeMap::new(),
            connections: none(),
            last: None,
            trouble: Trouble::default(),
        }
    }

    /// One command about one key, until it is carried out or refused for good.
    pub fn call(&mut self, key: &[u8], args: &[&str], stop: &AtomicBool) -> Result<Reply, Failure> {
        let slot = redis_keyslot(key);
        let begun = Instant::now();
        let mut ask_at: Option<String> = None;
        let mut last = String::new();
        loop {
            if begun.elapsed() > PATIENCE {
                return Err(Failure::Error(format!("not carried out in {PATIENCE:?}: {args:?}: {last}")));
            }
            let (address, asking) = match ask_at.take() {
                Some(address) => (address, true),
                None => (self.owner(slot), false),
            };
            let Some(mut connection) = self.connection(&address) else {
                self.trouble.refused += 1;
                self.later(slot, stop, 10)?;
                last = format!("{address}: no connection");
                continue;
            };
            if asking && connection.ask(&["ASKING"]).is_err() {
                continue;
            }
            let reply = connection
                .ask(args)
                .map_err(|error| Failure::Unknown(format!("{address}: {args:?}: {error}")))
                .inspect_err(|_| {
                    self.owners.remove(&slot);
                })?;
            self.connections.insert(address.clone(), connection);
            let Reply::Error(error) = &reply else {
                if !asking {
                    self.owners.insert(slot, address.clone());
                }
                self.last = Some(address);
                return Ok(reply);
            };
            last = format!("{address}: {error}");
            let mut words = error.split(' ');
            match (words.next(), words.nth(1)) {
                (Some("MOVED"), Some(to)) => {
                    self.trouble.moved += 1;
                    // Two nodes that point at each other for a moment are not worth a busy loop.
                    if self.owners.insert(slot, to.to_owned()).is_some_and(|old| old != address) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                (Some("ASK"), Some(to)) => {
                    self.trouble.ask += 1;
                    ask_at = Some(to.to_owned());
                }
                (Some("TRYAGAIN"), _) => {
                    self.trouble.try_again += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                (Some("CLUSTERDOWN"), _) => {
                    self.trouble.cluster_down += 1;
                    self.later(slot, stop, 10)?;
                }
                (Some("LOADING" | "MASTERDOWN"), _) => {
                    self.trouble.loading += 1;
                    self.later(slot, stop, 10)?;
                }
                _ => return Err(Failure::Error(last)),
            }
        }
    }

    /// WAIT on the connection of the last reply: true if at least one replica has it all.
    pub fn wait_for_a_replica(&mut self) -> bool {
        let Some(connection) = self.last.as_ref().and_then(|address| self.connections.get_mut(address))
        else {
            return false;
        };
        matches!(connection.ask(&["WAIT", "1", "1000"]), Ok(Reply::Integer(1..)))
    }

    /// Where the last reply about the slot of `key` came from.
    pub fn owner_of(&mut self, key: &[u8]) -> String {
        self.owner(redis_keyslot(key))
    }

    fn owner(&mut self, slot: u16) -> String {
        if let Some(owner) = self.owners.get(&slot) {
            return owner.clone();
        }
        self.turn += 1;
        self.seeds[self.turn % self.seeds.len()].clone()
    }

    /// The connection, taken out: it is put back when it has answered.
    fn connection(&mut self, address: &str) -> Option<Connection> {
        self.connections.remove(address).or_else(|| Connection::open(address).ok())
    }

    fn later(&mut self, slot: u16, stop: &AtomicBool, pause_ms: u64) -> Result<(), Failure> {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Stopped);
        }
        self.owners.remove(&slot);
        std::thread::sleep(Duration::from_millis(pause_ms));
        Ok(())
    }
}
