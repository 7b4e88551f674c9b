//! From a whole frame to a [`Packet`]. Every byte is foreign: nothing here may panic or trust a length.

use super::{
    Body, Extension, GOSSIP_LEN, Gossip, HEADER_LEN, Header, MFLAG_EXT_DATA, NodeFlags, NodeId, Packet,
    PacketType, PingKind, SlotBitmap, VERSION,
};

/// Why a packet is dropped. The link is kept: the sender will see that we do not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than a header: the stream reader lets none through.
    #[error("packet of {0} bytes is shorter than a header")]
    Short(usize),
    /// Ignored in silence, as Redis does.
    #[error("protocol version {0}")]
    Version(u16),
    /// The length is not the one that the type and its counts ask for.
    #[error("Received packet of type {packet_type} and length {actual} where {expected} was expected")]
    Length { packet_type: u16, actual: usize, expected: usize },
    /// Gossip entries that do not fit.
    #[error(
        "Received invalid {name} packet with gossip count {count} that exceeds total packet length ({actual})"
    )]
    GossipCount { name: &'static str, count: u16, actual: usize },
    /// An extension that does not fit, is not aligned, or is not terminated.
    #[error("Received invalid {name} packet with a broken extension of type {kind}")]
    BrokenExtension { name: &'static str, kind: u16 },
    /// The sender's id is not 40 of `[a-z0-9]`.
    #[error("sender id is not a node id")]
    SenderId,
}

/// Decodes one frame as cut by [`super::FrameReader`].
pub fn decode(frame: &[u8]) -> Result<Packet, Malformed> {
    decode_knowing(frame, |_| None)
}

/// The same where `known` tells which slots a sender is known to speak for: nearly always these are in the header, too,
/// and then both share them.
pub fn decode_knowing<'a>(
    frame: &[u8],
    known: impl FnOnce(&NodeId) -> Option<&'a SlotBitmap>,
) -> Result<Packet, Malformed> {
    if frame.len() < HEADER_LEN {
        return Err(Malformed::Short(frame.len()));
    }
    let version = u16_at(frame, 8);
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let number = super::type_of(frame);
    let body = body(frame, number)?;
    let sender = NodeId::parse(&frame[40..80]).ok_or(Malformed::SenderId)?;
    let slots = &frame[80..2128];
    let header = Header {
        sender,
        port: u16_at(frame, 10),
        pport: u16_at(frame, 2246),
        cport: u16_at(frame, 2248),
        ip: text(&frame[2168..2213]),
        current_epoch: u64_at(frame, 16),
        config_epoch: u64_at(frame, 24),
        offset: u64_at(frame, 32),
        slots: known(&sender)
            .map_or_else(|| SlotBitmap::from_wire(slots), |known| SlotBitmap::from_wire_like(slots, known)),
        // All zero is the usual "no master"; bytes that are no id cannot name one either.
        master: NodeId::parse(&frame[2128..2168]),
        flags: NodeFlags(u16_at(frame, 2250)),
        state: frame[2252],
        mflags: [frame[2253], frame[2254], frame[2255]],
    };
    Ok(Packet { header, body })
}

fn body(frame: &[u8], number: u16) -> Result<Body, Malformed> {
    let payload = &frame[HEADER_LEN..];
    let exactly = |expected: usize| {
        if frame.len() == expected {
            Ok(())
        } else {
            Err(Malformed::Length { packet_type: number, actual: frame.len(), expected })
        }
    };
    let Some(packet_type) = PacketType::from_wire(number) else {
        return Ok(Body::Unknown { number, payload: payload.to_vec() });
    };
    Ok(match packet_type {
        PacketType::Ping => ping(frame, PingKind::Ping)?,
        PacketType::Pong => ping(frame, PingKind::Pong)?,
        PacketType::Meet => ping(frame, PingKind::Meet)?,
        PacketType::Fail => {
            exactly(HEADER_LEN + 40)?;
            Body::Fail { failed: NodeId::parse(payload) }
        }
        PacketType::Publish | PacketType::PublishShard => {
            let lengths =
                payload.len().checked_sub(8).map(|rest| (rest, u32_at(payload, 0), u32_at(payload, 4)));
            let expected = lengths.map_or(HEADER_LEN + 8, |(_, channel, message)| {
                (HEADER_LEN + 8).saturating_add(channel as usize).saturating_add(message as usize)
            });
            exactly(expected)?;
            let (channel, message) = payload[8..].split_at(u32_at(payload, 0) as usize);
            Body::Publish {
                sharded: packet_type == PacketType::PublishShard,
                channel: channel.to_vec(),
                message: message.to_vec(),
            }
        }
        PacketType::AuthRequest => {
            exactly(HEADER_LEN)?;
            Body::AuthRequest
        }
        PacketType::AuthAck => {
            exactly(HEADER_LEN)?;
            Body::AuthAck
        }
        PacketType::MfStart => {
            exactly(HEADER_LEN)?;
            Body::MfStart
        }
        PacketType::Update => {
            exactly(HEADER_LEN + 8 + 40 + SlotBitmap::BYTES)?;
            Body::Update {
                config_epoch: u64_at(payload, 0),
                node: NodeId::parse(&payload[8..48]),
                slots: SlotBitmap::from_wire(&payload[48..]),
            }
        }
        PacketType::Module => {
            let expected = if payload.len() < 13 {
                HEADER_LEN + 13
            } else {
                (HEADER_LEN + 13).saturating_add(u32_at(payload, 8) as usize)
            };
            exactly(expected)?;
            let mut module = [0; 8];
            module.copy_from_slice(&payload[..8]);
            Body::Module { module, kind: payload[12], data: payload[13..].to_vec() }
        }
    })
}

fn ping(frame: &[u8], kind: PingKind) -> Result<Body, Malformed> {
    let name = kind.packet_type().name();
    let count = u16_at(frame, 14);
    let gossip_end = HEADER_LEN + GOSSIP_LEN * usize::from(count);
    let Some(section) = frame.get(HEADER_LEN..gossip_end) else {
        return Err(Malformed::GossipCount { name, count, actual: frame.len() });
    };
    let mut gossip = Vec::with_capacity(usize::from(count));
    gossip.extend(section.chunks_exact(GOSSIP_LEN).map(gossip_entry));
    let mut rest = &frame[gossip_end..];
    let mut extensions = Vec::new();
    // The count of extensions means nothing without the flag (old senders leave it undefined).
    let announced = if frame[2253] & MFLAG_EXT_DATA == 0 { 0 } else { u16_at(frame, 2214) };
    for _ in 0..announced {
        if rest.len() < 8 {
            return Err(Malformed::BrokenExtension { name, kind: u16::MAX });
        }
        let (len, extension_type) = (u32_at(rest, 0) as usize, u16_at(rest, 4));
        let broken = Malformed::BrokenExtension { name, kind: extension_type };
        if len < 8 || len % 8 != 0 {
            return Err(broken);
        }
        let Some(data) = rest.get(8..len) else { return Err(broken) };
        extensions.push(match extension_type {
            0 if data.contains(&0) => Extension::Hostname(text(data)),
            0 => return Err(broken),
            2 if data.len() == 48 => {
                Extension::Forgotten { node: NodeId::parse(&data[..40]), ttl_s: u64_at(data, 40) }
            }
            kind => Extension::Other { kind, data: data.to_vec() },
        });
        rest = &rest[len..];
    }
    if !rest.is_empty() {
        let expected = frame.len() - rest.len();
        return Err(Malformed::Length {
            packet_type: kind.packet_type() as u16,
            actual: frame.len(),
            expected,
        });
    }
    Ok(Body::Ping { kind, gossip, extensions })
}

fn gossip_entry(entry: &[u8]) -> Gossip {
    Gossip {
        id: NodeId::parse(&entry[..40]),
        ping_sent_s: u32_at(entry, 40),
        pong_received_s: u32_at(entry, 44),
        ip: text(&entry[48..93]),
        port: u16_at(entry, 94),
        cport: u16_at(entry, 96),
        flags: NodeFlags(u16_at(entry, 98)),
        pport: u16_at(entry, 100),
    }
}

/// Text up to the first NUL. (The last byte of a field of fixed length is one, whatever stands there.) What could break a line of nodes.conf or a reply never gets further than this.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| !CLEAN[usize::from(*byte)]).unwrap_or(field.len());
    let ends = field.get(end).is_none_or(|byte| *byte == 0);
    let text = std::str::from_utf8(&field[..end]).ok().filter(|_| ends);
    text.unwrap_or_default().to_owned()
}

/// Bytes that addresses and host names are made of.
const CLEAN: [bool; 256] = {
    let mut clean = [false; 256];
    let mut byte = 0;
    while byte < clean.len() {
        clean[byte] =
            (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b':' | b'-' | b'_' | b'%');
        byte += 1;
    }
    clean
};

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}
