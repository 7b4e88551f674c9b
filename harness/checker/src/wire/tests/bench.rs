//! A bench for stories: a small cluster (three masters, a replica each) whose nodes say on the bus what they are told
//! to say. Its frames are bytes, which go the whole way: reader, decoder, digest, a line as text, judge.

use std::collections::BTreeMap;

use crate::record::verdict::Wire;
use crate::record::{BusLine, Nanos};
use crate::timeline::{MILLI, SECOND};
use crate::wire::{Digest, Fact, Kind, Place, Rule, WireJudge, WireOptions};

pub const NT: Nanos = 2 * SECOND;
pub const PFAIL: u16 = 4;
pub const FAIL: u16 = 8;

#[derive(Clone, Debug)]
pub struct Peer {
    pub id: String,
    pub current: u64,
    pub config: u64,
    pub of: Option<usize>,
    pub slots: Vec<(u16, u16)>,
}

pub struct Bench {
    pub now: Nanos,
    /// `n1` is at 1.
    pub peers: Vec<Peer>,
    pub lines: Vec<BusLine>,
    digest: Digest,
    judge: WireJudge,
    conns: BTreeMap<(usize, usize), u64>,
    next_conn: u64,
}

/// A frame: header from the peer, then the payload.
pub fn frame(
    peer: &Peer,
    master: Option<&str>,
    kind: u16,
    mflags: u8,
    payload: &[u8],
    count: u16,
) -> Vec<u8> {
    let mut bytes = vec![0; 2256];
    bytes[..4].copy_from_slice(b"RCmb");
    bytes[4..8].copy_from_slice(&((2256 + payload.len()) as u32).to_be_bytes());
    bytes[8..10].copy_from_slice(&1u16.to_be_bytes());
    bytes[12..14].copy_from_slice(&kind.to_be_bytes());
    bytes[14..16].copy_from_slice(&count.to_be_bytes());
    bytes[16..24].copy_from_slice(&peer.current.to_be_bytes());
    bytes[24..32].copy_from_slice(&peer.config.to_be_bytes());
    bytes[40..80].copy_from_slice(peer.id.as_bytes());
    for slot in peer.slots.iter().flat_map(|&(first, last)| first..=last) {
        bytes[80 + usize::from(slot / 8)] |= 1 << (slot % 8);
    }
    if let Some(master) = master {
        bytes[2128..2168].copy_from_slice(master.as_bytes());
    }
    let flags: u16 = 0x10 | if master.is_some() { 2 } else { 1 };
    bytes[2250..2252].copy_from_slice(&flags.to_be_bytes());
    bytes[2253] = mflags;
    bytes.extend_from_slice(payload);
    bytes
}

pub fn gossip(id: &str, flags: u16) -> Vec<u8> {
    let mut entry = vec![0; 104];
    entry[..40].copy_from_slice(id.as_bytes());
    entry[98..100].copy_from_slice(&flags.to_be_bytes());
    entry
}

fn others(than: usize) -> impl Iterator<Item = usize> {
    (1..=6).filter(move |&peer| peer != than)
}

impl Bench {
    /// n1, n2, n3 are masters with epochs 1 to 3; n4, n5, n6 their replicas. All have talked to all for a minute.
    pub fn new() -> Self {
        let ranges = [(0, 5460), (5461, 10922), (10923, 16383)];
        let peer = |i: usize| Peer {
            id: format!("{:040x}", 0xa00 + i),
            current: 3,
            config: (i % 3 + 1) as u64,
            of: (i >= 3).then_some(i % 3 + 1),
            slots: vec![ranges[i % 3]],
        };
        let nobody = Peer { id: "0".repeat(40), current: 0, config: 0, of: None, slots: vec![] };
        let mut bench = Self {
            now: SECOND,
            peers: std::iter::once(nobody).chain((0..6).map(peer)).collect(),
            lines: Vec::new(),
            digest: Digest::new(NT),
            judge: WireJudge::new(WireOptions { node_timeout: NT }),
            conns: BTreeMap::new(),
            next_conn: 0,
        };
        for from in 1..=6 {
            bench.tell_all(from);
        }
        bench.pass(60.0);
        bench
    }

    pub fn pass(&mut self, seconds: f64) -> &mut Self {
        self.now += (seconds * SECOND as f64) as Nanos;
        self
    }

    pub fn fact(&mut self, fact: &Fact) -> &mut Self {
        self.judge.fact(self.now, fact);
        self
    }

    /// Later frames between the two go over a new connection.
    pub fn redial(&mut self, from: usize, to: usize) -> &mut Self {
        self.conns.remove(&(from, to));
        self
    }

    pub fn redial_all(&mut self, from: usize) -> &mut Self {
        self.conns.retain(|(dialler, _), _| *dialler != from);
        self
    }

    /// The connection that `from` makes to `to`, now if there is none.
    pub fn dial(&mut self, from: usize, to: usize) -> u64 {
        *self.conns.entry((from, to)).or_insert_with(|| {
            self.next_conn += 1;
            self.digest.opened(self.now, self.next_conn);
            self.next_conn
        })
    }

    /// Sends a frame on the connection that `from` dialled.
    pub fn say(
        &mut self,
        from: usize,
        to: usize,
        kind: Kind,
        mflags: u8,
        payload: &[u8],
        count: u16,
    ) -> &mut Self {
        let number = (0..12).find(|&number| Kind::of(number) == kind).unwrap();
        let peer = &self.peers[from];
        let master = peer.of.map(|master| self.peers[master].id.clone());
        let bytes = frame(peer, master.as_deref(), number, mflags, payload, count);
        let conn = self.dial(from, to);
        let (from, to) = (format!("n{from}"), format!("n{to}"));
        let place = Place { time: self.now, from: &from, to: &to, conn, dialled: true };
        let mut out = Vec::new();
        for piece in bytes.chunks(1448) {
            self.digest.bytes(&place, piece, &mut out);
        }
        for line in out {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(
                serde_json::from_str::<BusLine>(&text).unwrap(),
                line,
                "a line is read as it was written"
            );
            self.lines.push(line.clone());
            self.judge.on(self.lines.len() as u64, &line);
        }
        self.now += MILLI;
        self
    }

    pub fn ping(&mut self, from: usize, to: usize) -> &mut Self {
        self.say(from, to, Kind::Ping, 0, &[], 0)
    }

    pub fn tell_all(&mut self, from: usize) -> &mut Self {
        for to in others(from) {
            self.ping(from, to);
        }
        self
    }

    pub fn gossips(&mut self, from: usize, to: usize, subject: usize, flags: u16) -> &mut Self {
        let entry = gossip(&self.peers[subject].id.clone(), flags | 1);
        self.say(from, to, Kind::Ping, 0, &entry, 1)
    }

    pub fn fail(&mut self, from: usize, to: usize, subject: usize) -> &mut Self {
        let id = self.peers[subject].id.clone();
        self.say(from, to, Kind::Fail, 0, id.as_bytes(), 0)
    }

    /// Takes the next epoch and asks all masters for votes.
    pub fn campaign(&mut self, candidate: usize, mflags: u8) -> &mut Self {
        self.peers[candidate].current = self.peers.iter().map(|peer| peer.current).max().unwrap() + 1;
        for to in others(candidate) {
            self.ask(candidate, to, mflags);
        }
        self
    }

    pub fn ask(&mut self, candidate: usize, to: usize, mflags: u8) -> &mut Self {
        self.say(candidate, to, Kind::AuthReq, mflags, &[], 0)
    }

    pub fn vote(&mut self, voter: usize, candidate: usize) -> &mut Self {
        self.peers[voter].current = self.peers[voter].current.max(self.peers[candidate].current);
        self.say(voter, candidate, Kind::AuthAck, 0, &[], 0)
    }

    /// It is master now, with its current epoch, and tells all.
    pub fn promote(&mut self, node: usize) -> &mut Self {
        let peer = &mut self.peers[node];
        (peer.of, peer.config) = (None, peer.current);
        self.tell_all(node)
    }

    /// It is the other's replica now, and tells all.
    pub fn demote(&mut self, node: usize, master: usize) -> &mut Self {
        let (config, slots, current) =
            (self.peers[master].config, self.peers[master].slots.clone(), self.peers[master].current);
        let peer = &mut self.peers[node];
        (peer.of, peer.config, peer.slots, peer.current) =
            (Some(master), config, slots, peer.current.max(current));
        self.tell_all(node)
    }

    /// n1 dies; the other masters agree on it, and n2 says FAIL.
    pub fn n1_fails(&mut self) -> &mut Self {
        self.fact(&Fact::Ended { node: "n1".into() }).pass(2.5).gossips(3, 2, 1, PFAIL);
        for to in 3..=6 {
            self.fail(2, to, 1);
        }
        self.pass(0.7)
    }

    pub fn finish(self) -> Wire {
        self.judge.finish()
    }

    /// That nothing is wrong; what was seen.
    pub fn fine(self) -> Wire {
        let wire = self.judge.finish();
        assert_eq!(wire.findings, [], "no rule is broken");
        wire
    }

    /// That this rule is broken once, and no other; the text.
    pub fn broken(self, rule: Rule) -> String {
        let lines = self.lines.len() as u64;
        let wire = self.judge.finish();
        let found: Vec<&str> = wire.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(found, [rule.name()], "{:#?}", wire.findings);
        let finding = &wire.findings[0];
        assert!(
            !finding.bus.is_empty() && finding.bus.iter().all(|&line| 1 <= line && line <= lines),
            "{finding:?}"
        );
        finding.text.clone()
    }
}
