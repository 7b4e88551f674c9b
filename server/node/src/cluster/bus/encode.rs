//! From a [`Packet`] to the bytes of a frame.

use super::{
    Body, Extension, GOSSIP_LEN, Gossip, HEADER_LEN, MFLAG_EXT_DATA, NodeId, Packet, SlotBitmap, VERSION,
};

/// The packet's bytes. Texts that do not fit their field are cut.
pub fn encode(packet: &Packet) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + GOSSIP_LEN * 4);
    header(packet, &mut out);
    match &packet.body {
        Body::Ping { gossip, extensions, .. } => {
            for entry in gossip {
                gossip_entry(entry, &mut out);
            }
            for extension in extensions {
                self::extension(extension, &mut out);
            }
        }
        Body::Fail { failed } => out.extend_from_slice(bytes_of(failed.as_ref())),
        Body::Publish { channel, message, .. } => {
            out.extend_from_slice(&(channel.len() as u32).to_be_bytes());
            out.extend_from_slice(&(message.len() as u32).to_be_bytes());
            out.extend_from_slice(channel);
            out.extend_from_slice(message);
        }
        Body::AuthRequest | Body::AuthAck | Body::MfStart => {}
        Body::Update { node, config_epoch, slots } => {
            out.extend_from_slice(&config_epoch.to_be_bytes());
            out.extend_from_slice(bytes_of(node.as_ref()));
            out.extend_from_slice(slots.as_bytes());
        }
        Body::Module { module, kind, data } => {
            out.extend_from_slice(module);
            out.extend_from_slice(&(data.len() as u32).to_be_bytes());
            out.push(*kind);
            out.extend_from_slice(data);
        }
        Body::Unknown { payload, .. } => out.extend_from_slice(payload),
    }
    let total = (out.len() as u32).to_be_bytes();
    out[4..8].copy_from_slice(&total);
    out
}

/// The header but for the length, which nobody knows before the end.
fn header(packet: &Packet, out: &mut Vec<u8>) {
    const SLOTS_AT: usize = 80;
    const SLOTS_END: usize = SLOTS_AT + SlotBitmap::BYTES;
    let header = &packet.header;
    let (count, extensions) = match &packet.body {
        Body::Ping { gossip, extensions, .. } => (gossip.len() as u16, extensions.len() as u16),
        _ => (0, 0),
    };
    let mut mflags = header.mflags;
    if extensions > 0 {
        mflags[0] |= MFLAG_EXT_DATA;
    }
    let mut before = [0; SLOTS_AT];
    let mut put = |at: usize, bytes: &[u8]| before[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RCmb");
    put(8, &VERSION.to_be_bytes());
    put(10, &header.port.to_be_bytes());
    put(12, &packet.body.type_number().to_be_bytes());
    put(14, &count.to_be_bytes());
    put(16, &header.current_epoch.to_be_bytes());
    put(24, &header.config_epoch.to_be_bytes());
    put(32, &header.offset.to_be_bytes());
    put(40, header.sender.as_bytes());
    let mut after = [0; HEADER_LEN - SLOTS_END];
    let mut put = |at: usize, bytes: &[u8]| {
        after[at - SLOTS_END..at - SLOTS_END + bytes.len()].copy_from_slice(bytes);
    };
    put(2128, bytes_of(header.master.as_ref()));
    put(2168, cut(&header.ip));
    put(2214, &extensions.to_be_bytes());
    put(2246, &header.pport.to_be_bytes());
    put(2248, &header.cport.to_be_bytes());
    put(2250, &header.flags.0.to_be_bytes());
    put(2252, &[header.state]);
    put(2253, &mflags);
    out.extend_from_slice(&before);
    out.extend_from_slice(header.slots.as_bytes());
    out.extend_from_slice(&after);
}

fn gossip_entry(entry: &Gossip, out: &mut Vec<u8>) {
    let mut bytes = [0; GOSSIP_LEN];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, bytes_of(entry.id.as_ref()));
    put(40, &entry.ping_sent_s.to_be_bytes());
    put(44, &entry.pong_received_s.to_be_bytes());
    put(48, cut(&entry.ip));
    put(94, &entry.port.to_be_bytes());
    put(96, &entry.cport.to_be_bytes());
    put(98, &entry.flags.0.to_be_bytes());
    put(100, &entry.pport.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// An id as it is sent; zeros for none.
fn bytes_of(id: Option<&NodeId>) -> &[u8; NodeId::LEN] {
    id.map_or(&[0; NodeId::LEN], NodeId::as_bytes)
}

fn extension(extension: &Extension, out: &mut Vec<u8>) {
    let (kind, data) = match extension {
        // Terminated, then padded to 8: at least one NUL.
        Extension::Hostname(name) => (0, [name.as_bytes(), &[0]].concat()),
        Extension::Forgotten { node, ttl_s } => {
            (2, [&node.map_or([0; 40], |id| *id.as_bytes())[..], &ttl_s.to_be_bytes()].concat())
        }
        Extension::Other { kind, data } => (*kind, data.clone()),
    };
    let padded_len = data.len().next_multiple_of(8);
    out.extend(((8 + padded_len) as u32).to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend([0; 2]);
    out.extend(&data);
    out.resize(out.len() + padded_len - data.len(), 0);
}

/// As much of an address as fits its field, whose last byte always is NUL.
fn cut(text: &str) -> &[u8] {
    const FIELD: usize = 46;
    &text.as_bytes()[..text.len().min(FIELD - 1)]
}
