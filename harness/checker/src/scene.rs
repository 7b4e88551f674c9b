//! A bench for the checks: a small model of a cluster (three shards of one master and one replica) that is told what
//! happens and writes the record of it. What is not told does not happen, so a story is a few calls.

use std::collections::BTreeMap;

use crate::record::*;
use crate::slots::{self, slot_of};
use crate::timeline::{MILLI, SECOND};

const POLL: Nanos = 100 * MILLI;
const SHARDS: usize = 3;
const NO_REPLID: &str = "0000000000000000000000000000000000000000";

struct Node {
    up: bool,
    paused: bool,
    isolated: bool,
    master: bool,
    shard: usize,
    /// Its own cluster_state.
    ok: bool,
    replid: String,
    replid2: String,
    second_offset: i64,
    offset: u64,
    run: u32,
    data: BTreeMap<String, Vec<u64>>,
    /// Slots that it is importing.
    open: Vec<u16>,
    /// Slots that it is migrating, and to whom.
    gives: BTreeMap<String, Vec<(u16, u16)>>,
    /// Whom it believes to lead each shard, with epochs.
    knows: Vec<(usize, u64)>,
    conn: u64,
}

pub struct Scene {
    pub info: RunInfo,
    pub events: Vec<Event>,
    pub views: Vec<View>,
    pub stream: Vec<StreamLine>,
    now: Nanos,
    polled: Nanos,
    nodes: Vec<Node>,
    leaders: Vec<(usize, u64)>,
    epoch: u64,
    conns: u64,
    faults: u32,
    /// Slots that went to another shard, with its number.
    moved: BTreeMap<u16, usize>,
    /// Masters whose replication is held: by the proxy before it was read, or after.
    held: BTreeMap<usize, Held>,
    pub polls: bool,
    pub taps: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Unread,
    Read,
}

impl Scene {
    /// n1, n2, n3 are masters, n4, n5, n6 their replicas; NT 2 s; clients work from 0, faults from 1 s.
    pub fn new(workload: &str) -> Self {
        let ranges = [(0, 5460), (5461, 10922), (10923, 16383)];
        let nodes_info = (0..2 * SHARDS)
            .map(|i| NodeInfo {
                name: format!("n{}", i + 1),
                shard: (i % SHARDS) as u32,
                master: i < SHARDS,
                slots: vec![ranges[i % SHARDS]],
                ..NodeInfo::default()
            })
            .collect();
        let directives = [("appendonly", "yes"), ("appendfsync", "always")];
        let info = RunInfo {
            schema: 1,
            seed: 7,
            nodes: nodes_info,
            masters: 3,
            replicas: 1,
            node_timeout_ms: 2000,
            workload: workload.into(),
            converge_bound_s: 30.0,
            directives: directives.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..RunInfo::default()
        };
        let leaders: Vec<(usize, u64)> = (0..SHARDS).map(|i| (i, i as u64 + 1)).collect();
        let nodes = (0..2 * SHARDS)
            .map(|i| Node {
                up: true,
                paused: false,
                isolated: false,
                master: i < SHARDS,
                shard: i % SHARDS,
                ok: true,
                replid: format!("{:040x}", i % SHARDS + 1),
                replid2: NO_REPLID.into(),
                second_offset: -1,
                offset: 1000,
                run: 1,
                data: BTreeMap::new(),
                open: Vec::new(),
                gives: BTreeMap::new(),
                knows: leaders.clone(),
                conn: 0,
            })
            .collect();
        let mut scene = Self {
            info,
            events: vec![],
            views: vec![],
            stream: vec![],
            now: 0,
            polled: 0,
            nodes,
            leaders,
            epoch: 3,
            conns: 0,
            faults: 0,
            moved: BTreeMap::new(),
            held: BTreeMap::new(),
            polls: true,
            taps: true,
        };
        scene.phase(Phase::Load);
        for i in SHARDS..2 * SHARDS {
            scene.link(i);
        }
        scene.poll_all();
        scene.at(1.0);
        scene.phase(Phase::Storm);
        scene
    }

    /// Lets time pass until then; every node is polled each 100 ms.
    pub fn at(&mut self, seconds: f64) -> &mut Self {
        let to = (seconds * SECOND as f64) as Nanos;
        assert!(to >= self.now, "a story goes forward");
        while self.polled + POLL <= to {
            self.now = self.polled + POLL;
            self.poll_all();
        }
        self.now = to;
        self
    }

    /// The time it is.
    pub fn seconds(&self) -> f64 {
        self.now as f64 / SECOND as f64
    }

    pub fn add(&mut self, key: &str, value: u64, node: &str) -> &mut Self {
        self.write(key, value, node, Kind::Ok, true)
    }

    /// A key in the shard of `n1`, `n2` or `n3` (0 to 2).
    pub fn key(shard: usize, number: u32) -> String {
        let last = [5460, 10922, 16383];
        (0..10_000)
            .map(|i| format!("k{shard}:{number}:{i}"))
            .find(|key| {
                let slot = slot_of(key.as_bytes());
                slot <= last[shard] && (shard == 0 || slot > last[shard - 1])
            })
            .unwrap()
    }

    /// A write that is executed or not, and ends so; it takes 1 ms.
    pub fn write(&mut self, key: &str, value: u64, node: &str, kind: Kind, executed: bool) -> &mut Self {
        let n = index(node);
        let append = self.info.workload == "append";
        let op = Op { key: key.into(), value: Some(value), client: Some(0), ..Op::default() };
        let body = |op| if append { Body::Append(op) } else { Body::Add(op) };
        let process = Process::Client(value);
        self.event(Kind::Invoke, process, body(op.clone()));
        let mut reply = None;
        if executed {
            reply = Some(self.execute(key, value, n) as i64);
        }
        self.now += MILLI;
        let done = Op {
            node: Some(node.into()),
            reply: reply.filter(|_| kind == Kind::Ok).map(|length| if append { length } else { 1 }),
            ..op
        };
        self.event(kind, process, body(done));
        self.now += 1; // what follows begins after it
        self
    }

    /// Any other operation that is acknowledged with this answer; it takes 1 ms. What it writes moves the master's offset on.
    pub fn call(&mut self, f: OpKind, key: &str, asked: Datum, answer: Datum, node: &str) -> &mut Self {
        let op = Op { key: key.into(), client: Some(0), ..Op::default() };
        let process = Process::Client(0);
        let call = Call { f, asked, op, ..Call::default() };
        self.event(Kind::Invoke, process, Body::Call(call.clone()));
        if f.writes() {
            self.execute(key, f.element(&call.asked).unwrap_or_default(), index(node));
        }
        self.now += MILLI;
        let op = Op { node: Some(node.into()), ..call.op.clone() };
        self.event(Kind::Ok, process, Body::Call(Call { answer, op, ..call }));
        self.now += 1; // what follows begins after it
        self
    }

    /// Under `wait`: gives the last write WAIT's answer.
    pub fn waited(&mut self, copies: i64, wanted: i64) -> &mut Self {
        let last = self.events.last_mut().unwrap();
        let (Body::Add(op) | Body::Append(op)) = &mut last.body else { panic!("a write comes first") };
        (op.wait, op.wait_wanted) = (Some(copies), Some(wanted));
        self
    }

    /// MIGRATE of one key: the target has it, then the source deletes it. What the target's replica hears of it is told by
    /// `held`.
    pub fn migrate(&mut self, key: &str, source: &str, target: &str) -> &mut Self {
        let slot = slot_of(key.as_bytes());
        self.nodes[index(source)].gives.entry(target.to_owned()).or_default().push((slot, slot));
        let (source, target) = (index(source), index(target));
        self.nodes[target].open.push(slot);
        self.polled = self.now;
        self.poll_all();
        let moved = self.nodes[source].data.remove(key).unwrap_or_default();
        self.nodes[target].data.insert(key.to_owned(), moved.clone());
        let came = |offset| StreamWhat::Keys { came: vec![(key.to_owned(), offset)], went: vec![] };
        self.pass_on(target, came, |data| drop(data.insert(key.to_owned(), moved.clone())));
        let went = |offset| StreamWhat::Keys { came: vec![], went: vec![(key.to_owned(), offset)] };
        self.pass_on(source, went, |data| drop(data.remove(key)));
        self
    }

    pub fn read(&mut self, key: &str, node: &str) -> &mut Self {
        self.any_read(key, node, false)
    }

    pub fn kill(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].up = false;
        self.end_links(index(node));
        self.fault("kill", vec![Action::Killed { node: node.into(), signal: "SIGKILL".into() }])
    }

    pub fn exits(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].up = false;
        self.fault("exit", vec![Action::Exited { node: node.into(), status: "signal 6".into() }])
    }

    /// It comes up as it was: a master believes its old map.
    pub fn restart(&mut self, node: &str) -> &mut Self {
        let n = index(node);
        self.conns += 1;
        let fresh = format!("{:040x}", 1000 + self.conns);
        let it = &mut self.nodes[n];
        it.up = true;
        it.run += 1;
        if it.master {
            (it.replid, it.replid2, it.second_offset) = (fresh, NO_REPLID.into(), -1);
        }
        self.fault("restart", vec![Action::Started { node: node.into(), pid: 1, kept: None }])
    }

    pub fn wipe(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].data.clear();
        self.fault("wipe", vec![Action::Wiped { node: node.into() }])
    }

    /// Takes its data away, as no fault of ours would.
    pub fn forgets(&mut self, node: &str, key: &str, value: u64) -> &mut Self {
        self.nodes[index(node)].data.get_mut(key).unwrap().retain(|&v| v != value);
        self
    }

    /// Comes back without any data, whatever its configuration says.
    pub fn forgets_all(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].data.clear();
        self
    }

    /// Holds an element that nobody sent it.
    pub fn remembers(&mut self, node: &str, key: &str, value: u64) -> &mut Self {
        self.nodes[index(node)].data.entry(key.into()).or_default().push(value);
        self
    }

    pub fn pause(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].paused = true;
        self.fault("pause", vec![Action::Paused { node: node.into() }])
    }

    pub fn resume(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].paused = false;
        self.fault("resume", vec![Action::Resumed { node: node.into() }])
    }

    /// Cuts bus and replication to and from all other nodes.
    pub fn isolate(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].isolated = true;
        self.held.insert(index(node), Held::Unread);
        let actions = self.links_of(node, |from, to, planes| Action::Cut {
            from,
            to,
            planes,
            policy: "blackhole".into(),
        });
        self.fault("isolate", actions)
    }

    /// Cuts what it says on bus and replication to all other nodes; it hears them on.
    pub fn mute(&mut self, node: &str) -> &mut Self {
        self.isolate(node).cuts_only(|from, _| from == node)
    }

    /// Cuts both from all others, not from each other.
    pub fn isolate_together(&mut self, one: &str, other: &str) -> &mut Self {
        let inside = |end: &str| [one, other].contains(&end);
        for node in [one, other] {
            self.isolate(node).cuts_only(|from, to| !(inside(from) && inside(to)));
        }
        self
    }

    /// Of the links that the last fault cut only these, from and to.
    pub fn cuts_only(&mut self, stays: impl Fn(&str, &str) -> bool) -> &mut Self {
        if let Some(Body::Fault(step)) = self.events.last_mut().map(|event| &mut event.body) {
            step.actions.retain(|action| matches!(action, Action::Cut { from, to, .. } if stays(from, to)));
        }
        self
    }

    pub fn heal(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].isolated = false;
        self.held.remove(&index(node));
        let actions = self.links_of(node, |from, to, planes| Action::Healed { from, to, planes });
        self.fault("heal", actions)
    }

    /// A command straight to a node, which says OK.
    pub fn asks(&mut self, node: &str, command: &str) -> &mut Self {
        let asked = Action::Asked { node: node.into(), command: command.into(), answer: "OK".into() };
        self.fault("command", vec![asked])
    }

    /// The slot of a key goes to another master, by its claim with a new epoch; whoever had it deletes its keys.
    pub fn claims(&mut self, node: &str, key: &str) -> &mut Self {
        let slot = slot_of(key.as_bytes());
        let (loser, winner) = (self.leaders[self.shard_of(key)].0, self.nodes[index(node)].shard);
        self.epoch += 1;
        self.leaders[winner].1 = self.epoch;
        self.moved.insert(slot, winner);
        self.nodes[loser].data.retain(|key, _| slot_of(key.as_bytes()) != slot);
        let leaders = self.leaders.clone();
        self.nodes.iter_mut().filter(|it| !it.isolated).for_each(|it| it.knows.clone_from(&leaders));
        self
    }

    pub fn manual(&mut self, node: &str, mode: FailoverMode) -> &mut Self {
        self.fault("failover", vec![Action::ManualFailover { node: node.into(), mode }])
    }

    /// From now on what this master writes does not reach its replica.
    pub fn hold(&mut self, node: &str, held: Held) -> &mut Self {
        self.held.insert(index(node), held);
        self
    }

    /// Its own state turns to fail: it claims nothing.
    pub fn fails(&mut self, node: &str) -> &mut Self {
        self.nodes[index(node)].ok = false;
        self
    }

    /// Becomes master of its shard with a new epoch; all that it reaches know.
    pub fn promote(&mut self, node: &str) -> &mut Self {
        self.epoch += 1;
        let epoch = self.epoch;
        self.promote_with(node, epoch)
    }

    pub fn promote_with(&mut self, node: &str, epoch: u64) -> &mut Self {
        let n = index(node);
        let shard = self.nodes[n].shard;
        self.leaders[shard] = (n, epoch);
        self.end_links(n);
        let it = &mut self.nodes[n];
        it.master = true;
        it.replid2 = std::mem::replace(&mut it.replid, format!("{:040x}", 100 * epoch + n as u64));
        it.second_offset = it.offset as i64 + 1;
        let is_cut = self.nodes[n].isolated;
        for other in 0..self.nodes.len() {
            let is_old = self.nodes[other].master && self.nodes[other].shard == shard && other != n;
            if other == n || !is_old && !is_cut && !self.nodes[other].isolated {
                self.nodes[other].knows.clone_from(&self.leaders);
            }
        }
        self
    }

    /// Hears the truth; an overtaken master becomes a replica and takes its master's data.
    pub fn learns(&mut self, node: &str) -> &mut Self {
        let n = index(node);
        let leader = self.leaders[self.nodes[n].shard].0;
        self.nodes[n].knows.clone_from(&self.leaders);
        self.nodes[n].ok = true;
        if leader != n {
            self.nodes[n].master = false;
            self.link(n);
        }
        self
    }

    /// All is healed and agreed; final reads; the end. Hands out the record.
    pub fn finish(&mut self) -> Record {
        self.end_storm();
        self.final_reads();
        self.record()
    }

    pub fn end_storm(&mut self) -> &mut Self {
        // Open slots are closed before the final reads, as the harness does.
        for node in &mut self.nodes {
            node.open.clear();
            node.gives.clear();
        }
        self.phase(Phase::Converge);
        for n in 0..self.nodes.len() {
            let name = format!("n{}", n + 1);
            if !self.nodes[n].up {
                self.restart(&name);
            }
            self.nodes[n].paused = false;
            self.nodes[n].isolated = false;
            self.held.clear();
            self.learns(&name);
        }
        let until = (self.now + SECOND) as f64 / SECOND as f64;
        self.at(until)
    }

    pub fn final_reads(&mut self) -> &mut Self {
        self.phase(Phase::FinalReads);
        let keys: std::collections::BTreeSet<String> = self
            .events
            .iter()
            .filter_map(|event| match &event.body {
                Body::Add(op) | Body::Append(op) => Some(op.key.clone()),
                _ => None,
            })
            .collect();
        for key in keys {
            let shard = self.shard_of(&key);
            let leader = format!("n{}", self.leaders[shard].0 + 1);
            self.any_read(&key, &leader, true);
        }
        for n in 0..self.nodes.len() {
            let leader = self.leaders[self.nodes[n].shard].0;
            if leader != n {
                let offset = self.nodes[leader].offset;
                let compare = ReplicaCompare {
                    master: format!("n{}", leader + 1),
                    replica: format!("n{}", n + 1),
                    master_offset: offset,
                    replica_offset: offset,
                    keys: 1,
                    ..ReplicaCompare::default()
                };
                self.event(Kind::Ok, Process::Other(Speaker::Harness), Body::ReplicaCompare(compare));
            }
        }
        self.phase(Phase::End);
        self
    }

    /// The record so far.
    pub fn record(&self) -> Record {
        let mut builder = RecordBuilder::new(self.info.clone());
        for (number, event) in self.events.iter().enumerate() {
            builder.event(Event { index: number as u64, ..event.clone() }).unwrap();
        }
        for view in &self.views {
            builder.view(view.clone());
        }
        for line in &self.stream {
            builder.stream(line.clone());
        }
        builder.finish()
    }

    /// The final read of a key, to be tampered with.
    pub fn final_read(&mut self, key: &str) -> &mut Vec<u64> {
        self.events
            .iter_mut()
            .rev()
            .find_map(|event| match (&event.body, event.kind) {
                (Body::Read(op), Kind::Ok) if op.key == key && op.is_final => match &mut event.body {
                    Body::Read(op) => op.elements.as_mut(),
                    _ => None,
                },
                _ => None,
            })
            .unwrap()
    }

    pub fn stall(&mut self, millis: u64) -> &mut Self {
        let body = Body::Stall { value: millis * MILLI, of: "driver".into() };
        self.event(Kind::Info, Process::Other(Speaker::Harness), body);
        self
    }

    pub fn event(&mut self, kind: Kind, process: Process, body: Body) {
        self.events.push(Event { index: self.events.len() as u64, time: self.now, kind, process, body });
    }

    pub fn fault(&mut self, name: &str, actions: Vec<Action>) -> &mut Self {
        let step = FaultStep { fault: Some(self.faults), name: name.into(), actions, ..FaultStep::default() };
        self.faults += 1;
        self.event(Kind::Info, Process::Other(Speaker::Nemesis), Body::Fault(step));
        self
    }

    fn phase(&mut self, value: Phase) {
        self.event(Kind::Info, Process::Other(Speaker::Harness), Body::Phase { value });
    }

    fn shard_of(&self, key: &str) -> usize {
        let slot = slot_of(key.as_bytes());
        let home =
            || self.info.nodes.iter().find(|n| slots::contains(&n.slots, slot)).unwrap().shard as usize;
        self.moved.get(&slot).copied().unwrap_or_else(home)
    }

    /// The slots of a shard.
    fn slots_of(&self, shard: usize) -> Vec<(u16, u16)> {
        let home = &self.info.nodes[shard].slots;
        if self.moved.is_empty() {
            return home.clone();
        }
        let mut all: Vec<u16> = home.iter().flat_map(|&(first, last)| first..=last).collect();
        all.retain(|slot| !self.moved.contains_key(slot));
        all.extend(self.moved.iter().filter(|(_, to)| **to == shard).map(|(slot, _)| *slot));
        all.sort_unstable();
        slots::ranges_of(all)
    }

    fn execute(&mut self, key: &str, value: u64, n: usize) -> usize {
        let list = self.nodes[n].data.entry(key.into()).or_default();
        list.push(value);
        let length = list.len();
        let what = |offset| StreamWhat::Elements { elements: vec![(value, offset)] };
        self.pass_on(n, what, |data| data.entry(key.into()).or_default().push(value));
        length
    }

    /// A master's command goes to its replicas, as far as nothing holds it.
    fn pass_on(
        &mut self,
        n: usize,
        what: impl Fn(u64) -> StreamWhat,
        apply: impl Fn(&mut BTreeMap<String, Vec<u64>>),
    ) {
        self.nodes[n].offset += 100;
        let offset = self.nodes[n].offset;
        let held = self.held.get(&n).copied();
        for replica in 0..self.nodes.len() {
            let it = &self.nodes[replica];
            if it.master || !it.up || it.knows[it.shard].0 != n || held == Some(Held::Unread) {
                continue;
            }
            let conn = it.conn;
            self.tap(n, replica, conn, what(offset));
            if held.is_none() {
                let it = &mut self.nodes[replica];
                it.offset = offset;
                apply(&mut it.data);
            }
        }
    }

    fn any_read(&mut self, key: &str, node: &str, is_final: bool) -> &mut Self {
        let op = Op { key: key.into(), is_final, ..Op::default() };
        let process = Process::Client(1_000_000 + self.events.len() as u64);
        self.event(Kind::Invoke, process, Body::Read(op.clone()));
        let elements = self.nodes[index(node)].data.get(key).cloned().unwrap_or_default();
        self.now += MILLI;
        let done = Op { node: Some(node.into()), elements: Some(elements), ..op };
        self.event(Kind::Ok, process, Body::Read(done));
        self.now += 1;
        self
    }

    /// The replica takes all of its master's data over a new link.
    fn link(&mut self, replica: usize) {
        let master = self.nodes[replica].knows[self.nodes[replica].shard].0;
        self.conns += 1;
        let conn = self.conns;
        let (replid, offset) = (self.nodes[master].replid.clone(), self.nodes[master].offset);
        let data = self.nodes[master].data.clone();
        self.tap(master, replica, conn, StreamWhat::Full { replid: replid.clone(), offset });
        let it = &mut self.nodes[replica];
        (it.replid, it.offset, it.data, it.conn) = (replid, offset, data, conn);
        (it.replid2, it.second_offset) = (NO_REPLID.into(), -1);
    }

    fn end_links(&mut self, n: usize) {
        let links: Vec<(usize, usize, u64)> = (0..self.nodes.len())
            .filter(|&r| !self.nodes[r].master && self.nodes[r].conn > 0)
            .map(|r| (self.nodes[r].knows[self.nodes[r].shard].0, r, self.nodes[r].conn))
            .filter(|&(master, replica, _)| master == n || replica == n)
            .collect();
        for (master, replica, conn) in links {
            let offset = self.nodes[replica].offset;
            self.tap(master, replica, conn, StreamWhat::End { offset });
        }
    }

    fn tap(&mut self, from: usize, to: usize, conn: u64, what: StreamWhat) {
        if self.taps {
            let (from, to) = (format!("n{}", from + 1), format!("n{}", to + 1));
            self.stream.push(StreamLine { time: self.now, from, to, conn, what });
        }
    }

    fn poll_all(&mut self) {
        self.polled = self.now;
        let ranges: Vec<Vec<(u16, u16)>> = (0..SHARDS).map(|shard| self.slots_of(shard)).collect();
        for n in 0..self.nodes.len() {
            let it = &self.nodes[n];
            if !self.polls || !it.up || it.paused {
                continue;
            }
            let range = |shard: usize| ranges[shard].clone();
            let leads = it.master;
            let table: Vec<Row> = (0..self.nodes.len())
                .map(|other| {
                    let shard = self.nodes[other].shard;
                    let (leader, epoch) = it.knows[shard];
                    let own = leader == other;
                    Row {
                        node: format!("n{}", other + 1),
                        flags: if own { "master" } else { "slave" }.into(),
                        master: (!own).then(|| format!("n{}", leader + 1)),
                        epoch,
                        slots: if own { range(shard) } else { vec![] },
                    }
                })
                .collect();
            let seen = Seen {
                id: format!("{:040x}", n + 1),
                master: leads,
                ok: it.ok,
                epoch: it.knows[it.shard].1,
                current_epoch: it.knows.iter().map(|k| k.1).max().unwrap_or(0),
                slots: if leads { range(it.shard) } else { vec![] },
                master_name: (!leads).then(|| format!("n{}", it.knows[it.shard].0 + 1)),
                link_up: true,
                replid: it.replid.clone(),
                offset: it.offset,
                replid2: it.replid2.clone(),
                second_offset: it.second_offset,
                open_slots: it
                    .open
                    .iter()
                    .copied()
                    .chain(it.gives.values().flatten().map(|range| range.0))
                    .collect(),
                migrating_to: it.gives.clone(),
                run_id: format!("{n}-{}", it.run),
                table: table.into(),
            };
            let view = View {
                time: self.now + MILLI / 2,
                sent: self.now,
                node: format!("n{}", n + 1),
                seen: Some(seen),
                error: None,
            };
            self.views.push(view);
        }
    }

    fn links_of(&self, node: &str, action: impl Fn(String, String, Vec<String>) -> Action) -> Vec<Action> {
        let planes = || vec!["bus".to_owned(), "replication".to_owned()];
        let others = (0..self.nodes.len()).map(|i| format!("n{}", i + 1)).filter(|other| other != node);
        others
            .flat_map(|other| {
                [action(node.into(), other.clone(), planes()), action(other, node.into(), planes())]
            })
            .collect()
    }
}

fn index(node: &str) -> usize {
    node[1..].parse::<usize>().unwrap() - 1
}
