//! The payload of DUMP and RESTORE (so of MIGRATE too): one value in RDB form with version and checksum.

use super::decode::single_value;
use super::encode::{put_count, put_elements, type_of};
use super::{VERSION, crc64};
use crate::keyspace::{ValueParts, ValueView};

/// Bytes after the value: version (2) and checksum (8).
const TRAILER_BYTES: usize = 10;

/// Why RESTORE refuses a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Redis' text for a payload that is too short, too new, or damaged.
    #[error("DUMP payload version or checksum are wrong")]
    VersionOrChecksum,
    /// The checksum is right and the value is not, or is of a type that this server has not.
    #[error("Bad data format")]
    Format,
}

/// The payload for a value.
pub fn encode(value: ValueView<'_>) -> Vec<u8> {
    let mut out = vec![type_of(value)];
    put_count(&mut out, value);
    put_elements(&mut out, value, 0, usize::MAX);
    out.extend_from_slice(&(VERSION as u16).to_le_bytes());
    let crc = crc64(0, &out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The value of a payload.
pub fn decode(payload: &[u8]) -> Result<ValueParts, DumpError> {
    let body_len = payload.len().checked_sub(TRAILER_BYTES).ok_or(DumpError::VersionOrChecksum)?;
    let (body, trailer) = payload.split_at(body_len);
    let version = u16::from_le_bytes([trailer[0], trailer[1]]);
    let crc = crc64(0, &payload[..body_len + 2]);
    if u32::from(version) > VERSION || trailer[2..] != crc.to_le_bytes() {
        return Err(DumpError::VersionOrChecksum);
    }
    let (&value_type, value) = body.split_first().ok_or(DumpError::Format)?;
    single_value(value_type, value).map_err(|_| DumpError::Format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{Env, Value};

    /// What a redis-server 7.0.15 answers to DUMP of a key that holds 12.
    const TWELVE: [u8; 13] = [0x00, 0xc0, 0x0c, 0x0a, 0x00, 0x3c, 0x2a, 0xf8, 0x51, 0x5c, 0x04, 0xbc, 0xd5];

    #[test]
    fn matches_a_real_server_byte_for_byte() {
        assert_eq!(encode(Value::string(b"12").view()), TWELVE);
        assert_eq!(decode(&TWELVE), Ok(ValueParts::String(b"12".to_vec())));
    }

    #[test]
    fn refuses_damage_and_newer_versions() {
        let mut damaged = TWELVE;
        damaged[2] = 0x0d;
        assert_eq!(decode(&damaged), Err(DumpError::VersionOrChecksum));
        let mut newer = TWELVE;
        newer[3] = 11;
        assert_eq!(decode(&newer), Err(DumpError::VersionOrChecksum));
        assert_eq!(decode(b"short"), Err(DumpError::VersionOrChecksum));
    }

    #[test]
    fn gives_back_a_hash() {
        let parts = ValueParts::Hash(vec![(b"f".to_vec(), b"1".to_vec())]);
        let value = Value::from_parts(Env::default(), &parts).unwrap();
        assert_eq!(decode(&encode(value.view())), Ok(parts));
    }
}
