//! The attacker's packets: signature and length are right, any other field may be anything.

use slotstorm_node::cluster::bus::{
    Body, Extension, GOSSIP_LEN, Gossip, HEADER_LEN, Header, Packet, PingKind, encode,
};
use slotstorm_node::cluster::{NodeFlags, NodeId, SLOTS, SlotBitmap};
use slotstorm_node::random::Random;

use crate::servers::{BUS_PORT, Member, PORT};

/// Makes packets from what is known of the members.
pub struct Forger<'a> {
    pub random: Random,
    pub members: &'a [Member],
    /// Where the attacker sits. Nothing that he names lies outside of this machine.
    pub home: &'a str,
}

impl Forger<'_> {
    /// A packet under `sender`'s id with every field open to mutation, lies about epochs, slots, roles and failures
    /// included.
    pub fn any(&mut self, sender: NodeId) -> Vec<u8> {
        let member = self.member();
        let mut header = self.header_of(&member, sender);
        for _ in 0..self.random.below(4) {
            self.mutate(&mut header);
        }
        let body = self.body(&member);
        let mut frame = encode(&Packet { header, body });
        self.damage(&mut frame, 3);
        frame
    }

    /// A packet as `member` itself could have sent it but for fields that carry no claim: all that Redis believes by
    /// design (epochs that could be, slots, roles, failures, addresses, pauses, ghosts) stays true.
    pub fn harmless(&mut self, member: &Member) -> Vec<u8> {
        let mut header = self.header_of(member, member.id);
        header.pport = 0;
        header.state = self.random.next_u64() as u8;
        header.mflags[1] = self.random.next_u64() as u8;
        header.mflags[2] = self.random.next_u64() as u8;
        header.flags.0 |= (self.random.next_u64() as u16) & 0xf800;
        match self.random.below(8) {
            0 => header.offset = self.random.next_u64(),
            1 => header.current_epoch = self.random.below(header.current_epoch + 1),
            // Nobody can have minted these.
            2 => header.current_epoch = u64::MAX - self.random.below(1 << 40),
            3 => header.config_epoch = u64::MAX - self.random.below(1 << 40),
            4 => (header.config_epoch, header.slots) = (u64::MAX, self.slots()),
            _ => {}
        }
        let kinds = [PingKind::Ping, PingKind::Pong, PingKind::Meet];
        let kind = kinds[self.random.below(3) as usize];
        let body = match self.random.below(12) {
            0 => self.message(),
            1 => Body::Module { module: [7; 8], kind: 1, data: self.text(200) },
            2 => Body::Unknown { number: 11 + self.random.below(60_000) as u16, payload: self.text(300) },
            3 => {
                let kind_of_extension = 3 + self.random.below(60_000) as u16;
                let extensions = vec![Extension::Other { kind: kind_of_extension, data: self.text(100) }];
                Body::Ping { kind, gossip: Vec::new(), extensions }
            }
            _ => {
                // About members, and nothing ill: their addresses and times are anything.
                let about = (0..self.random.below(5)).map(|_| self.gossip(true)).collect();
                Body::Ping { kind, gossip: about, extensions: Vec::new() }
            }
        };
        let mut frame = encode(&Packet { header, body });
        match self.random.below(6) {
            // A count that the length does not bear out.
            0 => self.put(&mut frame, 14, 2),
            // Another version.
            1 => frame[8] = 1 + self.random.below(255) as u8,
            // Reserved bytes.
            2 => {
                let at = 2216 + self.random.below(20) as usize;
                self.put(&mut frame, at, 8);
            }
            // Extensions that are announced and not there.
            3 => {
                frame[2253] |= 4;
                self.put(&mut frame, 2214, 2);
            }
            _ => {}
        }
        frame
    }

    pub fn random_id(&mut self) -> NodeId {
        NodeId::parse(&self.random.hex::<40>()).expect("hexadecimal")
    }

    pub fn member(&mut self) -> Member {
        self.members[self.random.below(self.members.len() as u64) as usize].clone()
    }

    /// The header that `member` would send, under an id.
    pub fn header_of(&self, member: &Member, sender: NodeId) -> Header {
        let role = if member.master.is_some() { NodeFlags::REPLICA } else { NodeFlags::MASTER };
        Header {
            sender,
            port: PORT,
            pport: 0,
            cport: BUS_PORT,
            ip: String::new(),
            current_epoch: member.current_epoch,
            config_epoch: member.config_epoch,
            offset: 1000,
            slots: member.slots.clone(),
            master: member.master,
            flags: role | NodeFlags::MYSELF,
            state: 0,
            mflags: [0; 3],
        }
    }

    fn mutate(&mut self, header: &mut Header) {
        match self.random.below(11) {
            0 => header.current_epoch = self.epoch(),
            1 => header.config_epoch = self.epoch(),
            2 => (header.current_epoch, header.config_epoch) = (self.epoch(), self.epoch()),
            3 => header.slots = self.slots(),
            4 => header.master = Some(self.member().id),
            5 => header.master = None,
            6 => header.flags = NodeFlags(self.random.next_u64() as u16),
            7 => header.mflags = [self.random.next_u64() as u8, 0, 0],
            8 => header.ip = self.ip(),
            9 => (header.port, header.cport) = (self.port(), self.port()),
            _ => header.offset = self.random.next_u64(),
        }
    }

    fn body(&mut self, member: &Member) -> Body {
        let ping = |forger: &mut Self, kind| Body::Ping {
            kind,
            gossip: (0..forger.random.below(6)).map(|_| forger.gossip(false)).collect(),
            extensions: match forger.random.below(6) {
                0 => vec![Extension::Hostname("forged.example.org".to_owned())],
                1 => vec![Extension::Other {
                    kind: forger.random.next_u64() as u16 | 8,
                    data: forger.text(80),
                }],
                _ => Vec::new(),
            },
        };
        match self.random.below(14) {
            0..=2 => ping(self, PingKind::Ping),
            3 | 4 => ping(self, PingKind::Pong),
            5 => ping(self, PingKind::Meet),
            6 => Body::Fail { failed: Some(member.id) },
            7 => self.message(),
            8 => Body::AuthRequest,
            9 => Body::AuthAck,
            10 => Body::MfStart,
            11 => Body::Update { node: Some(member.id), config_epoch: self.epoch(), slots: self.slots() },
            12 => Body::Module { module: [9; 8], kind: 0, data: self.text(300) },
            _ => Body::Unknown { number: 11 + self.random.below(65_000) as u16, payload: self.text(3000) },
        }
    }

    fn message(&mut self) -> Body {
        let (channel, message) = (self.text(40), self.text(2000));
        Body::Publish { sharded: self.random.below(2) == 0, channel, message }
    }

    fn gossip(&mut self, harmless: bool) -> Gossip {
        let id = if harmless || self.random.below(2) == 0 { self.member().id } else { self.random_id() };
        let ill = (NodeFlags::FAIL | NodeFlags::PFAIL).0;
        let flags = NodeFlags(self.random.next_u64() as u16);
        Gossip {
            id: Some(id),
            ping_sent_s: self.random.next_u64() as u32,
            pong_received_s: self.random.next_u64() as u32,
            ip: self.ip(),
            port: self.port(),
            cport: self.port(),
            pport: 0,
            flags: if harmless { flags.without(NodeFlags(ill)) } else { flags },
        }
    }

    fn epoch(&mut self) -> u64 {
        let near = self.members[0].current_epoch;
        match self.random.below(6) {
            0 => u64::MAX,
            1 => i64::MAX as u64,
            2 => 0,
            3 => near + 1 + self.random.below(10),
            4 => near,
            _ => self.random.next_u64(),
        }
    }

    fn slots(&mut self) -> SlotBitmap {
        match self.random.below(4) {
            0 => SlotBitmap::new(),
            1 => SlotBitmap::from_wire(&[0xff; SlotBitmap::BYTES]),
            2 => self.member().slots,
            _ => {
                let mut slots = SlotBitmap::new();
                for _ in 0..50 {
                    slots.insert(self.random.below(SLOTS.into()) as u16);
                }
                slots
            }
        }
    }

    fn ip(&mut self) -> String {
        match self.random.below(4) {
            0 => String::new(),
            1 => self.member().ip,
            2 => "not:an:address%1".to_owned(),
            _ => self.home.to_owned(),
        }
    }

    fn port(&mut self) -> u16 {
        // 1 to 99 and the real ones: a dial finds nobody, or a member.
        [0, 1 + self.random.below(99) as u16, PORT, BUS_PORT][self.random.below(4) as usize]
    }

    fn text(&mut self, max: u64) -> Vec<u8> {
        (0..self.random.below(max)).map(|_| self.random.next_u64() as u8).collect()
    }

    /// Up to `max` fields overwritten at random: counts, versions, lengths inside of the payload. Ids and the text
    /// of addresses are left alone: random bytes there make other targets or other machines of them.
    fn damage(&mut self, frame: &mut [u8], max: u64) {
        for _ in 0..self.random.below(max + 1) {
            match self.random.below(6) {
                0 => self.put(frame, 14, 2),
                1 => self.put(frame, 2214, 2),
                2 => self.put(frame, 2250, 6),
                3 => self.put(frame, 8, 2),
                4 => self.put(frame, 2216, 30),
                _ if frame.len() > HEADER_LEN + 8 => {
                    // The lengths of a message, the epoch of an UPDATE, or the tail of the first gossip entry.
                    let ping_class = u16::from_be_bytes([frame[12], frame[13]]) <= 2;
                    let at = HEADER_LEN + if ping_class { GOSSIP_LEN - 10 } else { 0 };
                    self.put(frame, at, 8);
                }
                _ => {}
            }
        }
    }

    fn put(&mut self, frame: &mut [u8], at: usize, len: usize) {
        for byte in frame.iter_mut().skip(at).take(len) {
            *byte = self.random.next_u64() as u8;
        }
    }
}
