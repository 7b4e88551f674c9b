//! Finds the messages in a stream of the cluster bus. The length stands at offset 4 of the header, the type
//! at 12, both big-endian (REDIS 4.0 to valkey 9); light messages of valkey 8 have the same first 16 bytes.

/// Bytes of the header that are looked at.
const HEAD: usize = 80;
/// The shortest frame there is: valkey's light header.
const FRAME_BYTES_MIN: u32 = 16;
/// No message of ours or a real server's comes near; beyond it the stream is taken for garbage.
const FRAME_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// What the head of one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Where the frame begins, in bytes of the stream.
    pub at: u64,
    /// Its whole length in bytes.
    pub len: u32,
    /// The type field: 0 PING, 1 PONG, 2 MEET, 3 FAIL, ... (high bits are valkey's flags).
    pub kind: u16,
    /// The sender's currentEpoch; 0 in a light message.
    pub current_epoch: u64,
    /// The sender's (or its master's) configEpoch; 0 in a light message.
    pub config_epoch: u64,
    /// The sender's node id as it stands there; empty in a light message.
    pub sender: Vec<u8>,
}

/// Why a stream is no cluster bus (any more): the fault of whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It does not begin with `RCmb`.
    #[error("no bus signature at byte {0} of the stream")]
    Signature(u64),
    /// Shorter than any header or longer than any message.
    #[error("a bus frame claims {1} bytes at byte {0} of the stream")]
    Length(u64, u32),
}

/// Follows one direction of a bus connection.
#[derive(Debug, Default)]
pub struct FrameScanner {
    head: Vec<u8>,
    /// Bytes of the frame still to skip.
    left: u64,
    seen: u64,
    failed: Option<FrameError>,
}

impl FrameScanner {
    /// Goes on with `bytes`; each frame whose head is complete is added to `found`. After an error it stays
    /// failed.
    pub fn feed(&mut self, mut bytes: &[u8], found: &mut Vec<FrameHead>) -> Result<(), FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= taken as u64;
                self.seen += taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            let wanted = self.wanted().map_err(|error| *self.failed.insert(error))?;
            let taken = bytes.len().min(wanted - self.head.len());
            self.head.extend_from_slice(&bytes[..taken]);
            self.seen += taken as u64;
            bytes = &bytes[taken..];
            let wanted = self.wanted().map_err(|error| *self.failed.insert(error))?;
            if self.head.len() >= 16 && self.head.len() == wanted {
                let frame = self.parse();
                self.left = u64::from(frame.len) - self.head.len() as u64;
                self.head.clear();
                found.push(frame);
            }
        }
        Ok(())
    }

    /// How many bytes of head this frame has, as far as is known.
    fn wanted(&self) -> Result<usize, FrameError> {
        let at = self.seen - self.head.len() as u64;
        let signed = self.head.len().min(4);
        if self.head[..signed] != b"RCmb"[..signed] {
            return Err(FrameError::Signature(at));
        }
        if self.head.len() < 16 {
            return Ok(16);
        }
        let len = self.be32(4);
        if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&len) {
            return Err(FrameError::Length(at, len));
        }
        Ok(HEAD.min(len as usize))
    }

    fn parse(&self) -> FrameHead {
        let full = self.head.len() == HEAD;
        FrameHead {
            at: self.seen - self.head.len() as u64,
            len: self.be32(4),
            kind: u16::from_be_bytes([self.head[12], self.head[13]]),
            current_epoch: if full { self.be64(16) } else { 0 },
            config_epoch: if full { self.be64(24) } else { 0 },
            sender: if full { self.head[40..80].to_vec() } else { Vec::new() },
        }
    }

    fn be32(&self, at: usize) -> u32 {
        self.head[at..at + 4].iter().fold(0, |sum, &b| sum << 8 | u32::from(b))
    }

    fn be64(&self, at: usize) -> u64 {
        self.head[at..at + 8].iter().fold(0, |sum, &b| sum << 8 | u64::from(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u16, len: u32, epoch: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        bytes[..4].copy_from_slice(b"RCmb");
        bytes[4..8].copy_from_slice(&len.to_be_bytes());
        bytes[12..14].copy_from_slice(&kind.to_be_bytes());
        if len >= 80 {
            bytes[16..24].copy_from_slice(&epoch.to_be_bytes());
            bytes[40..80].fill(b'a');
        }
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_found_wherever_the_stream_is_cut(
            frames in prop::collection::vec((0u16..12, 16u32..3000, any::<u64>()), 1..6),
            piece in 1usize..700,
        ) {
            let stream = frames.iter().flat_map(|&(kind, len, epoch)| frame(kind, len, epoch));
            let stream: Vec<u8> = stream.collect();
            let (mut scanner, mut found) = (FrameScanner::default(), Vec::new());
            for bytes in stream.chunks(piece) {
                scanner.feed(bytes, &mut found).unwrap();
            }
            let seen: Vec<_> = found.iter().map(|f| (f.kind, f.len)).collect();
            let sent: Vec<_> = frames.iter().map(|&(kind, len, _)| (kind, len)).collect();
            prop_assert_eq!(seen, sent);
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut found = Vec::new();
            let fed = FrameScanner::default().feed(&bytes, &mut found);
            prop_assert!(fed.is_err() || bytes.is_empty() || bytes[0] == b'R');
        }
    }

    #[test]
    fn a_frame_of_four_gigabytes_is_refused() {
        let mut bytes = frame(0, 2256, 7);
        bytes[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        let fed = FrameScanner::default().feed(&bytes, &mut Vec::new());
        assert_eq!(fed, Err(FrameError::Length(0, u32::MAX)));
    }
}
