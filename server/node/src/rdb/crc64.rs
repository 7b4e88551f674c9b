//! The checksum at the end of every RDB file and DUMP payload: CRC-64 of Jones, reflected, eight bytes a step.

/// The polynomial ad93d23594c935a9 with its bits reversed.
const POLYNOMIAL_REFLECTED: u64 = 0x95ac_9329_ac4b_c9b5;

/// `TABLES[k][b]`: the checksum of byte `b` followed by `k` zero bytes.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL_REFLECTED } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        byte = 0;
        while byte < 256 {
            let shorter = tables[zeros - 1][byte];
            tables[zeros][byte] = tables[0][(shorter & 0xff) as usize] ^ (shorter >> 8);
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// Continues the checksum `crc` (0 at the start) over `bytes`.
pub fn crc64(mut crc: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = crc
            ^ u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
        crc = 0;
        for (index, byte) in word.to_le_bytes().into_iter().enumerate() {
            crc ^= TABLES[7 - index][usize::from(byte)];
        }
    }
    for &byte in words.remainder() {
        crc = TABLES[0][((crc ^ u64::from(byte)) & 0xff) as usize] ^ (crc >> 8);
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::crc64;

    #[test]
    fn gives_the_published_check_value() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn is_the_same_however_the_bytes_are_cut() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n * 7 + n / 256) as u8).collect();
        let whole = crc64(0, &bytes);
        for cut in [1, 3, 8, 9, 500, 999] {
            assert_eq!(crc64(crc64(0, &bytes[..cut]), &bytes[cut..]), whole, "cut at {cut}");
        }
    }
}
