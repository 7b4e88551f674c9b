//! From bytes to the lines of `bus.jsonl`: of each connection what a rule needs, once.

use std::collections::BTreeMap;

use super::frame::{self, Body, Frame, Header, Kind, decode, flag, ranges};
use super::reader::{FrameReader, is_light};
use crate::record::{BusFrame, BusLine, BusWhat, Nanos};

/// Where bytes passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// When they were read.
    pub time: Nanos,
    /// The sender.
    pub from: &'a str,
    /// The receiver.
    pub to: &'a str,
    /// The connection.
    pub conn: u64,
    /// True if the sender had dialled it.
    pub dialled: bool,
}

/// Follows all bus connections of a cluster.
#[derive(Debug)]
pub struct Digest {
    /// How often lasting suspicions are repeated.
    repeat: Nanos,
    opened: BTreeMap<u64, Nanos>,
    streams: BTreeMap<(u64, bool), Stream>,
    frames: BTreeMap<&'static str, u64>,
    bytes: u64,
}

/// One direction of a connection: what its lines have said so far.
#[derive(Debug, Default)]
struct Stream {
    reader: FrameReader,
    said: Said,
    /// Whom its gossip called failing: how, and when that was last written.
    failing: BTreeMap<String, (Health, Nanos)>,
    /// The header of its last PING or PONG that was looked at: what it says is said.
    known: Vec<u8>,
    lost: bool,
}

#[derive(Debug, Default)]
struct Said {
    id: String,
    current: u64,
    config: u64,
    of: Option<String>,
    bitmap: Vec<u8>,
    flags: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Pfail,
    Fail,
}

impl Digest {
    /// `node_timeout` is cluster-node-timeout: suspicions that last are written once in it.
    pub fn new(node_timeout: Nanos) -> Self {
        Self {
            repeat: node_timeout,
            opened: BTreeMap::new(),
            streams: BTreeMap::new(),
            frames: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// A connection was made.
    pub fn opened(&mut self, time: Nanos, conn: u64) {
        self.opened.insert(conn, time);
    }

    /// It is over.
    pub fn closed(&mut self, conn: u64) {
        self.opened.remove(&conn);
        self.streams.remove(&(conn, false));
        self.streams.remove(&(conn, true));
    }

    /// Bytes passed; the lines that they make are added to `out`.
    pub fn bytes(&mut self, place: &Place<'_>, bytes: &[u8], out: &mut Vec<BusLine>) {
        let stream = self.streams.entry((place.conn, place.dialled)).or_default();
        if stream.lost {
            return;
        }
        let Stream { reader, said, failing, known, lost } = stream;
        let line = |what| BusLine {
            time: place.time,
            from: place.from.to_owned(),
            to: place.to.to_owned(),
            conn: place.conn,
            what,
        };
        let fed = reader.feed(bytes, |raw| {
            self.bytes += raw.len() as u64;
            if is_light(raw) {
                return *self.frames.entry("light").or_default() += 1;
            }
            if failing.is_empty() && frame::repeats(raw, known) {
                return *self.frames.entry(frame::kind(raw).name()).or_default() += 1;
            }
            let Ok(frame) = decode(raw) else {
                return *self.frames.entry("malformed").or_default() += 1;
            };
            known.clear();
            if matches!(frame.kind, Kind::Ping | Kind::Pong) {
                known.extend_from_slice(&raw[..frame::HEADER]);
            }
            *self.frames.entry(frame.kind.name()).or_default() += 1;
            let opened = self.opened.get(&place.conn).copied();
            if let Some(told) =
                tell(&frame, said, opened, &mut Suspicions { failing, repeat: self.repeat, now: place.time })
            {
                out.push(line(BusWhat::Frame(Box::new(told))));
            }
        });
        if let Err(fault) = fed {
            *lost = true;
            out.push(line(BusWhat::Lost { why: fault.to_string() }));
        }
    }

    /// The frames so far.
    pub fn tally(&self, time: Nanos) -> BusLine {
        let frames = self.frames.iter().map(|(&name, &count)| (name.to_owned(), count)).collect();
        BusLine {
            time,
            from: String::new(),
            to: String::new(),
            conn: 0,
            what: BusWhat::Tally { frames, bytes: self.bytes },
        }
    }
}

struct Suspicions<'a> {
    failing: &'a mut BTreeMap<String, (Health, Nanos)>,
    repeat: Nanos,
    now: Nanos,
}

/// What is new in a frame, if anything.
fn tell(
    frame: &Frame<'_>,
    said: &mut Said,
    opened: Option<Nanos>,
    suspicions: &mut Suspicions<'_>,
) -> Option<BusFrame> {
    let mut told = BusFrame::default();
    let mut worth = header(&frame.header, said, opened, &mut told);
    match &frame.body {
        Body::Gossip { nodes, .. } => {
            for node in nodes {
                worth |= suspicions.hear(node.id, node.flags, &mut told);
            }
        }
        Body::Fail { subject } => told.subject = Some((*subject).to_owned()),
        Body::Update { subject, config_epoch, bitmap } => {
            told.subject = Some((*subject).to_owned());
            told.epoch = Some(*config_epoch);
            told.claim = ranges(bitmap);
        }
        Body::Publish { .. } | Body::Module { .. } | Body::Empty => {}
    }
    told.force = frame.kind == Kind::AuthReq && frame.header.force_ack;
    worth |= matches!(
        frame.kind,
        Kind::Fail | Kind::AuthReq | Kind::AuthAck | Kind::Update | Kind::MfStart | Kind::Meet
    );
    worth.then(|| BusFrame { kind: frame.kind.name().to_owned(), ..told })
}

/// Puts what the header says anew into `told`.
fn header(header: &Header<'_>, said: &mut Said, opened: Option<Nanos>, told: &mut BusFrame) -> bool {
    let first = said.id.is_empty();
    let mut changed = first;
    if said.id != header.sender {
        header.sender.clone_into(&mut said.id);
        told.id = Some(said.id.clone());
        changed = true;
    }
    if first || said.current != header.current_epoch {
        said.current = header.current_epoch;
        told.current = Some(said.current);
        changed = true;
    }
    if first || said.config != header.config_epoch {
        said.config = header.config_epoch;
        told.config = Some(said.config);
        changed = true;
    }
    if first || said.of.as_deref() != header.master {
        said.of = header.master.map(str::to_owned);
        told.of = Some(said.of.clone().unwrap_or_default());
        changed = true;
    }
    if said.bitmap != header.bitmap {
        header.bitmap.clone_into(&mut said.bitmap);
        told.slots = Some(header.slots());
        changed = true;
    }
    let flags = WORDS.iter().fold(0, |known, (bit, _)| known | (header.flags & bit));
    if first || said.flags != flags {
        said.flags = flags;
        told.flags = Some(words(flags));
        changed = true;
    }
    if first {
        told.opened = opened;
    }
    changed
}

impl Suspicions<'_> {
    fn hear(&mut self, id: &str, flags: u16, told: &mut BusFrame) -> bool {
        let health = match flags {
            flags if flags & flag::FAIL != 0 => Some(Health::Fail),
            flags if flags & flag::PFAIL != 0 => Some(Health::Pfail),
            _ => None,
        };
        let known = self.failing.get(id).copied();
        let list = match health {
            None if known.is_none() => return false,
            None => {
                self.failing.remove(id);
                &mut told.fine
            }
            Some(health) => {
                let fresh =
                    |(was, at): (Health, Nanos)| was == health && self.now < at.saturating_add(self.repeat);
                if known.is_some_and(fresh) {
                    return false;
                }
                self.failing.insert(id.to_owned(), (health, self.now));
                if health == Health::Fail { &mut told.fail } else { &mut told.pfail }
            }
        };
        list.push(id.to_owned());
        true
    }
}

const WORDS: [(u16, &str); 7] = [
    (flag::MASTER, "master"),
    (flag::REPLICA, "slave"),
    (flag::PFAIL, "fail?"),
    (flag::FAIL, "fail"),
    (flag::HANDSHAKE, "handshake"),
    (flag::NO_ADDRESS, "noaddr"),
    (flag::NO_FAILOVER, "nofailover"),
];

/// Flags in the words of CLUSTER NODES.
fn words(flags: u16) -> String {
    let words: Vec<&str> = WORDS.iter().filter(|(bit, _)| flags & bit != 0).map(|&(_, word)| word).collect();
    if words.is_empty() { "noflags".to_owned() } else { words.join(",") }
}
