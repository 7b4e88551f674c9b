//! Cuts the bytes of a bus connection into packets, holding no more than was really received.

use super::HEADER_LEN;

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Not our protocol, or a length below a header's. Redis' words.
    #[error("Bad message length or signature received from Cluster bus.")]
    BadStart,
    /// A length above our cap. Redis has none, and would believe it.
    #[error("Cluster bus packet of {claimed} bytes is over the limit of {limit}.")]
    TooLong { claimed: u32, limit: usize },
}

/// Reassembles packets of one connection.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out already.
    taken: usize,
}

impl FrameReader {
    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet, `None` if more bytes are needed. After an error the connection is of no use.
    pub fn next(&mut self, limit: usize) -> Result<Option<&[u8]>, StreamError> {
        let rest = &self.buffer[self.taken..];
        let Some((start, _)) = rest.split_first_chunk::<8>() else {
            // Foreign bytes are refused as soon as they show.
            let known = rest.len().min(4);
            return if rest[..known] == b"RCmb"[..known] { Ok(None) } else { Err(StreamError::BadStart) };
        };
        let total = u32::from_be_bytes([start[4], start[5], start[6], start[7]]);
        let len = total as usize;
        if !start.starts_with(b"RCmb") || len < HEADER_LEN {
            return Err(StreamError::BadStart);
        }
        if len > limit {
            return Err(StreamError::TooLong { claimed: total, limit });
        }
        if rest.len() < len {
            return Ok(None);
        }
        let from = self.taken;
        self.taken += len;
        Ok(Some(&self.buffer[from..from + len]))
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives memory back after a big packet.
    pub fn settle(&mut self) {
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
            if self.buffer.capacity() > 64 * 1024 {
                self.buffer = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        bytes[..4].copy_from_slice(b"RCmb");
        bytes[4..8].copy_from_slice(&len.to_be_bytes());
        bytes
    }

    #[test]
    fn packets_come_out_whole_however_the_bytes_were_cut() {
        let stream = [frame(2256), frame(2360), frame(4352)].concat();
        for cut in [1, 7, 100, 2255, 2256, 2257, 9000] {
            let mut reader = FrameReader::default();
            let mut lengths = Vec::new();
            for piece in stream.chunks(cut) {
                reader.push(piece);
                while let Some(frame) = reader.next(1 << 20).unwrap() {
                    lengths.push(frame.len());
                }
                reader.settle();
            }
            assert_eq!(lengths, [2256, 2360, 4352], "cut {cut}");
        }
    }

    #[test]
    fn a_claimed_length_is_never_believed() {
        let mut reader = FrameReader::default();
        reader.push(b"RCmb\xff\xff\xff\xff");
        assert_eq!(reader.next(1 << 26), Err(StreamError::TooLong { claimed: u32::MAX, limit: 1 << 26 }));
        assert!(reader.held() < 100);
        let mut reader = FrameReader::default();
        reader.push(b"RCmb\x03\xff\xff\xff");
        assert_eq!(reader.next(1 << 26), Ok(None));
        assert!(reader.held() < 100);
    }

    #[test]
    fn foreign_bytes_and_short_lengths_end_the_link() {
        for bytes in [&b"GET / HT"[..], b"P", b"RCmb\0\0\0\x10", b"RCmc\0\0\x09\0"] {
            let mut reader = FrameReader::default();
            reader.push(bytes);
            assert_eq!(reader.next(1 << 26), Err(StreamError::BadStart), "{bytes:?}");
        }
    }
}
