//! From a [`Packet`] to the bytes of a frame.

use super::{Body, Extension, GOSSIP_LEN, Gossip, HEADER_LEN, MFLAG_EXT_DATA, Packet, VERSION};

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
        Body::Fail { failed } => out.extend(failed.map_or([0; 40], |id| *id.as_bytes())),
        Body::Publish { channel, message, .. } => {
            out.extend((channel.len() as u32).to_be_bytes());
            out.extend((message.len() as u32).to_be_bytes());
            out.extend(channel);
            out.extend(message);
        }
        Body::AuthRequest | Body::AuthAck | Body::MfStart => {}
        Body::Update { node, config_epoch, slots } => {
            out.extend(config_epoch.to_be_bytes());
            out.extend(node.map_or([0; 40], |id| *id.as_bytes()));
            out.extend(slots.as_bytes());
        }
        Body::Module { module, kind, data } => {
            out.extend(module);
            out.extend((data.len() as u32).to_be_bytes());
            out.push(*kind);
            out.extend(data);
        }
        Body::Unknown { payload, .. } => out.extend(payload),
    }
    let total = (out.len() as u32).to_be_bytes();
    out[4..8].copy_from_slice(&total);
    out
}

fn header(packet: &Packet, out: &mut Vec<u8>) {
    let header = &packet.header;
    let (count, extensions) = match &packet.body {
        Body::Ping { gossip, extensions, .. } => (gossip.len() as u16, extensions.len() as u16),
        _ => (0, 0),
    };
    let mut mflags = header.mflags;
    if extensions > 0 {
        mflags[0] |= MFLAG_EXT_DATA;
    }
    out.extend(b"RCmb");
    out.extend([0; 4]); // the length is filled in when it is known
    out.extend(VERSION.to_be_bytes());
    out.extend(header.port.to_be_bytes());
    out.extend(packet.body.type_number().to_be_bytes());
    out.extend(count.to_be_bytes());
    out.extend(header.current_epoch.to_be_bytes());
    out.extend(header.config_epoch.to_be_bytes());
    out.extend(header.offset.to_be_bytes());
    out.extend(header.sender.as_bytes());
    out.extend(header.slots.as_bytes());
    out.extend(header.master.map_or([0; 40], |id| *id.as_bytes()));
    padded(&header.ip, 46, out);
    out.extend(extensions.to_be_bytes());
    out.extend([0; 30]);
    out.extend(header.pport.to_be_bytes());
    out.extend(header.cport.to_be_bytes());
    out.extend(header.flags.0.to_be_bytes());
    out.push(header.state);
    out.extend(mflags);
    debug_assert_eq!(out.len(), HEADER_LEN);
}

fn gossip_entry(entry: &Gossip, out: &mut Vec<u8>) {
    out.extend(entry.id.map_or([0; 40], |id| *id.as_bytes()));
    out.extend(entry.ping_sent_s.to_be_bytes());
    out.extend(entry.pong_received_s.to_be_bytes());
    padded(&entry.ip, 46, out);
    out.extend(entry.port.to_be_bytes());
    out.extend(entry.cport.to_be_bytes());
    out.extend(entry.flags.0.to_be_bytes());
    out.extend(entry.pport.to_be_bytes());
    out.extend([0; 2]);
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

/// `text` in a field of `len` bytes, NUL padded, the last byte always NUL.
fn padded(text: &str, len: usize, out: &mut Vec<u8>) {
    let bytes = &text.as_bytes()[..text.len().min(len - 1)];
    out.extend(bytes);
    out.resize(out.len() + len - bytes.len(), 0);
}
