//! Which of the 16384 hash slots a key lives in: CRC16/XMODEM of the key, or of its hash tag.

/// Number of hash slots of a Redis Cluster.
pub const SLOTS: usize = 16384;

/// One hash slot, 0 to 16383.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of `key`, hash tags respected.
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) & 0x3FFF)
    }

    /// As an index into tables of [`SLOTS`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The part of the key that is hashed: what stands between the first `{` and the first `}` after it, if both are
/// there and something stands between them; otherwise all of it.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

/// Four bytes are looked up beside each other: one after the other, each would wait for the one before it. Table n
/// tells what a byte comes to that n others follow.
static TABLES: [[u16; 256]; 4] = {
    let mut tables = [TABLE; 4];
    let mut behind = 1;
    while behind < 4 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[behind - 1][byte];
            tables[behind][byte] = (crc << 8) ^ TABLE[(crc >> 8) as usize];
            byte += 1;
        }
        behind += 1;
    }
    tables
};

const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC16/XMODEM: polynomial 0x1021, initial value 0, not reflected.
pub fn crc16(bytes: &[u8]) -> u16 {
    let (fours, rest) = bytes.as_chunks::<4>();
    let crc = fours.iter().fold(0u16, |crc, &[a, b, c, d]| {
        let [high, low] = crc.to_be_bytes();
        let of = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
        of(3, a ^ high) ^ of(2, b ^ low) ^ of(1, c) ^ of(0, d)
    });
    rest.iter().fold(crc, |crc, &byte| (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_agree_with_a_real_server() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, slot) in [
            (&b"{user1000}.following"[..], 3443),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", 4015),
            (b"foo{bar}{zap}", 5061),
            (b"{}", 15257),
            (b"", 0),
            (b"{a", 10276),
        ] {
            assert_eq!(Slot::of_key(key), Slot(slot), "{}", key.escape_ascii());
        }
    }
}
