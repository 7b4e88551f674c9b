//! Writers that run while a cluster is changed, and that can prove a lost write: every write adds an element of its own
//! to one of many keys, and in the end every key is read back from its owner and compared with what was acknowledged.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, dead_code)] // real sockets, threads and clocks

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis_protocol::redis_keyslot;
use redis_protocol::resp2::types::Resp2Frame;

use super::routed::{Failure, Routed, Trouble};
use super::servers::{Reply, Servers};

/// How the writers behave.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Writes a second, all writers together.
    pub writes_per_s: u32,
    pub writers: usize,
    /// Each write is followed by WAIT 1 on its connection; one that a replica confirmed counts as protected.
    pub wait: bool,
    /// Every so many writes the key is read back whole, and must hold all that was acknowledged.
    pub read_every: u32,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { writes_per_s: 1100, writers: 4, wait: false, read_every: 8 }
    }
}

/// Writers at work. Stopped and counted by `stop`.
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    /// Held for each step of a writer; whoever has it for itself alone knows that nobody writes.
    at_work: Arc<RwLock<()>>,
    writers: Vec<JoinHandle<Tally>>,
}

/// What the writers saw.
#[derive(Debug, Default)]
pub struct Report {
    pub acked: u64,
    /// From the first acknowledgement to the end.
    pub duration: Duration,
    /// Writes whose connection ended before the answer came.
    pub unknown: u64,
    /// Replies that ask a client to try elsewhere or later.
    pub trouble: Trouble,
    /// The longest time in which one writer had nothing acknowledged, the time before its first one left out.
    pub longest_gap: Duration,
    /// Whole values read back meanwhile.
    pub reads: u64,
    /// Reads that lacked an element acknowledged before.
    pub stale: Vec<String>,
    /// Replies and conditions that no client should see.
    pub errors: Vec<String>,
    accounts: Vec<Account>,
}

/// What one writer saw.
#[derive(Debug, Default)]
struct Tally {
    report: Report,
    first_ack: Option<Instant>,
    ended: Option<Instant>,
}

/// One key and all that was written to it.
#[derive(Debug)]
struct Account {
    key: String,
    shape: Shape,
    next: u32,
    acked: BTreeSet<u32>,
    unknown: BTreeSet<u32>,
    protected: BTreeSet<u32>,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    List,
    Text,
    Hash,
    Set,
}

/// Keys that lie in the given slots, so many in each.
pub fn keys_in(slots: impl IntoIterator<Item = u16>, per_slot: usize) -> Vec<String> {
    let mut wanted: BTreeSet<u16> = slots.into_iter().collect();
    let mut keys = Vec::new();
    for number in 0_u32.. {
        if wanted.is_empty() {
            break;
        }
        let tag = format!("{{{number}}}");
        if wanted.remove(&redis_keyslot(tag.as_bytes())) {
            keys.extend((0..per_slot).map(|index| format!("load:{tag}:{index}")));
        }
    }
    keys
}

impl Load {
    /// Starts the writers; they wait patiently for a cluster that does not serve yet.
    pub fn start(seeds: &[String], keys: &[String], options: &LoadOptions) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let at_work = Arc::new(RwLock::new(()));
        let writer = |number: usize| {
            let accounts: Vec<Account> = keys
                .iter()
                .enumerate()
                .filter(|(index, _)| index % options.writers == number)
                .map(|(index, key)| Account::new(key, index / options.writers))
                .collect();
            assert!(!accounts.is_empty(), "more writers than keys");
            let worker = Worker {
                client: Routed::new(seeds, number as u64),
                options: options.clone(),
                tally: Tally { report: Report { accounts, ..Report::default() }, ..Tally::default() },
                last_ack: None,
                stop: Arc::clone(&stop),
                acked: Arc::clone(&acked),
                at_work: Arc::clone(&at_work),
            };
            std::thread::spawn(move || worker.run())
        };
        Self { writers: (0..options.writers).map(writer).collect(), stop, acked, at_work }
    }

    /// How many writes have been acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes are acknowledged.
    #[track_caller]
    pub fn until_more(&self, count: u64) {
        let (from, start) = (self.acked(), Instant::now());
        while self.acked() < from + count {
            assert!(start.elapsed() < Duration::from_secs(30), "the writers write nothing any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Nobody writes as long as this is held.
    pub fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.at_work.write().expect("a writer does not panic")
    }

    /// Ends the writers; what they saw.
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let tallies: Vec<Tally> =
            self.writers.drain(..).map(|writer| writer.join().expect("a writer does not panic")).collect();
        Report::of(tallies)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    client: Routed,
    options: LoadOptions,
    tally: Tally,
    last_ack: Option<Instant>,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    at_work: Arc<RwLock<()>>,
}

impl Worker {
    fn run(mut self) -> Tally {
        let step = Duration::from_secs(1) * self.options.writers as u32 / self.options.writes_per_s;
        let mut due = Instant::now();
        for turn in 0_usize.. {
            if self.stop.load(Ordering::Relaxed) || self.tally.report.errors.len() > 20 {
                break;
            }
            // A writer that fell behind catches up: the rate is an average. What it missed for longer is not made up,
            // so that an outage does not end in a flood.
            let now = Instant::now();
            if due > now {
                std::thread::sleep(due - now);
            }
            due = (due + step).max(now.checked_sub(Duration::from_secs(3)).unwrap_or(now));
            let at_work = Arc::clone(&self.at_work);
            let _step = at_work.read().expect("nobody panics who holds it");
            let account = turn % self.tally.report.accounts.len();
            self.write(account);
            if turn % self.options.read_every as usize == 0 {
                self.read(account);
            }
        }
        self.tally.report.trouble = self.client.trouble.clone();
        self.tally.ended = Some(Instant::now());
        self.tally
    }

    fn write(&mut self, index: usize) {
        let report = &mut self.tally.report;
        let account = &mut report.accounts[index];
        account.next += 1;
        let element = account.next;
        let text = element.to_string();
        let key = account.key.clone();
        let args = account.shape.write(&key, &text);
        match self.client.call(key.as_bytes(), &args, &self.stop) {
            Ok(Reply::Integer(_)) => {
                account.acked.insert(element);
                report.acked += 1;
                self.acked.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                if let Some(last) = self.last_ack {
                    report.longest_gap = report.longest_gap.max(now - last);
                }
                self.last_ack = Some(now);
                self.tally.first_ack.get_or_insert(now);
                if self.options.wait && self.client.wait_for_a_replica() {
                    account.protected.insert(element);
                }
            }
            Ok(other) => report.errors.push(format!("{args:?}: {other:?}")),
            Err(Failure::Unknown(_)) => {
                account.unknown.insert(element);
                report.unknown += 1;
            }
            Err(Failure::Stopped) => {}
            Err(Failure::Error(error)) => report.errors.push(format!("{args:?}: {error}")),
        }
    }

    fn read(&mut self, index: usize) {
        let account = &self.tally.report.accounts[index];
        match account.read(&mut self.client, &self.stop) {
            Ok(found) => {
                let stale = account.acked.iter().find(|element| !found.contains(element));
                let stale = stale.map(|element| format!("{} lacks {element}: {found:?}", account.key));
                self.tally.report.reads += 1;
                self.tally.report.stale.extend(stale);
            }
            Err(Failure::Unknown(_) | Failure::Stopped) => {}
            Err(Failure::Error(error)) => self.tally.report.errors.push(error),
        }
    }
}

impl Shape {
    fn write<'a>(self, key: &'a str, element: &'a str) -> Vec<&'a str> {
        match self {
            Self::List => vec!["RPUSH", key, element],
            Self::Text => vec!["APPEND", key, element],
            Self::Hash => vec!["HSET", key, element, "1"],
            Self::Set => vec!["SADD", key, element],
        }
    }

    fn read(self, key: &str) -> Vec<&str> {
        match self {
            Self::List => vec!["LRANGE", key, "0", "-1"],
            Self::Text => vec!["GET", key],
            Self::Hash => vec!["HKEYS", key],
            Self::Set => vec!["SMEMBERS", key],
        }
    }
}

impl Account {
    fn new(key: &str, number: usize) -> Self {
        let shape = [Shape::List, Shape::Text, Shape::Hash, Shape::Set][number % 4];
        // Elements of one length, so that appended text can be taken apart again.
        let next = 1_000_000;
        let none = BTreeSet::new;
        Self { key: key.to_owned(), shape, next, acked: none(), unknown: none(), protected: none() }
    }

    /// The elements that the key's owner has, each as often as it has it.
    fn read(&self, client: &mut Routed, stop: &AtomicBool) -> Result<Vec<u32>, Failure> {
        let args = self.shape.read(&self.key);
        let number = |bytes: &[u8]| -> Option<u32> { std::str::from_utf8(bytes).ok()?.parse().ok() };
        let found: Option<Vec<u32>> = match client.call(self.key.as_bytes(), &args, stop)? {
            Reply::Null => Some(Vec::new()),
            Reply::BulkString(text) => text.chunks(7).map(number).collect(),
            Reply::Array(elements) => elements.iter().map(|element| number(element.as_bytes()?)).collect(),
            other => return Err(Failure::Error(format!("{args:?}: {other:?}"))),
        };
        found.ok_or_else(|| Failure::Error(format!("{args:?}: not what was written")))
    }
}

impl Report {
    fn of(tallies: Vec<Tally>) -> Self {
        let mut all = Self::default();
        let first = tallies.iter().filter_map(|tally| tally.first_ack).min();
        let last = tallies.iter().filter_map(|tally| tally.ended).max();
        all.duration = first.zip(last).map(|(first, last)| last - first).unwrap_or_default();
        for Tally { report, .. } in tallies {
            all.acked += report.acked;
            all.unknown += report.unknown;
            all.reads += report.reads;
            all.trouble.add(&report.trouble);
            all.longest_gap = all.longest_gap.max(report.longest_gap);
            all.stale.extend(report.stale);
            all.errors.extend(report.errors);
            all.accounts.extend(report.accounts);
        }
        all
    }

    /// Acknowledged writes a second.
    pub fn rate(&self) -> f64 {
        self.acked as f64 / self.duration.as_secs_f64()
    }

    /// A line about it, on standard error. A rate below 1000 is said, not judged: the machine may be busy.
    pub fn tell(&self, name: &str) {
        let busy = if self.rate() < 1000.0 { " (below 1000/s: a busy machine)" } else { "" };
        eprintln!(
            "{name}: {} writes acknowledged, {:.0}/s{busy}, {} unknown, {} reads, longest gap {:?}, {:?}",
            self.acked,
            self.rate(),
            self.unknown,
            self.reads,
            self.longest_gap,
            self.trouble
        );
    }

    /// Asserts what holds without a fault: every write acknowledged is there once and in order, none was refused,
    /// none broke off, and every read saw the writes before it.
    #[track_caller]
    pub fn assert_flawless(&self, name: &str, servers: &Servers) {
        self.tell(name);
        self.assert_fair(name);
        assert!(self.acked > 0, "{name}: nothing was written");
        assert_eq!(self.unknown, 0, "{name}: connections broke without a fault");
        assert!(self.stale.is_empty(), "{name}: stale reads {:?}", head(&self.stale));
        let lost = self.lost_acknowledged(servers);
        assert!(lost.is_empty(), "{name}: {} acknowledged writes are lost: {:?}", lost.len(), head(&lost));
    }

    /// Asserts what holds even through a kill: no reply that a client should not see.
    #[track_caller]
    pub fn assert_fair(&self, name: &str) {
        assert!(self.errors.is_empty(), "{name}: {:?}", head(&self.errors));
    }

    /// Asserts that every write confirmed by a replica is there; how many of the others are lost.
    #[track_caller]
    pub fn assert_protected(&self, name: &str, servers: &Servers) -> usize {
        self.tell(name);
        self.assert_fair(name);
        let protected: usize = self.accounts.iter().map(|account| account.protected.len()).sum();
        assert!(protected > 0, "{name}: no write was confirmed by a replica");
        let lost = self.lost(servers, |account| &account.protected);
        assert!(lost.is_empty(), "{name}: {} protected writes are lost: {:?}", lost.len(), head(&lost));
        self.lost_acknowledged(servers).len()
    }

    /// The acknowledged writes that the owners do not have.
    #[track_caller]
    pub fn lost_acknowledged(&self, servers: &Servers) -> Vec<String> {
        self.lost(servers, |account| &account.acked)
    }

    /// Of the elements that `of` names, those that the owners do not have. Also asserts that nothing is there twice,
    /// out of order, or without having been written.
    #[track_caller]
    fn lost(&self, servers: &Servers, of: impl Fn(&Account) -> &BTreeSet<u32>) -> Vec<String> {
        let seeds: Vec<String> =
            servers.nodes.iter().filter(|node| node.runs()).map(super::servers::Server::address).collect();
        let mut client = Routed::new(&seeds, 99);
        let mut lost = Vec::new();
        for account in &self.accounts {
            let found = account
                .read(&mut client, &AtomicBool::new(false))
                .unwrap_or_else(|failure| panic!("{} cannot be read: {failure:?}", account.key));
            let there: BTreeSet<u32> = found.iter().copied().collect();
            assert_eq!(there.len(), found.len(), "{} holds something twice: {found:?}", account.key);
            if matches!(account.shape, Shape::List | Shape::Text) {
                assert!(found.is_sorted(), "{} is out of order: {found:?}", account.key);
            }
            let invented: Vec<&u32> = there
                .iter()
                .filter(|element| !account.acked.contains(element) && !account.unknown.contains(element))
                .collect();
            assert!(invented.is_empty(), "{} holds what nobody wrote: {invented:?}", account.key);
            lost.extend(of(account).difference(&there).map(|element| format!("{} {element}", account.key)));
        }
        lost
    }
}

fn head(list: &[String]) -> &[String] {
    &list[..list.len().min(10)]
}
