//! Cuts the bytes of one direction of a bus connection into frames.

use super::frame::HEADER;

/// Bytes of a frame that are kept: more than the gossip of 4000 nodes. What is longer is payload.
const KEPT: usize = 512 * 1024;
/// Nobody sends more; beyond it the stream is taken for garbage.
const LENGTH_MAX: usize = 64 * 1024 * 1024;
/// valkey's light header.
const LENGTH_MIN: usize = 16;
/// Signature and length.
const FIXED: usize = 8;

/// Why a stream can be followed no further: the fault of whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// Something else than `RCmb` where a frame should begin.
    #[error("no frame begins at byte {0} of the stream")]
    Signature(u64),
    /// Shorter than any header or longer than any frame.
    #[error("the frame at byte {0} of the stream claims {1} bytes")]
    Length(u64, usize),
}

/// Follows one direction.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The frame that is not whole yet.
    begun: Vec<u8>,
    /// Bytes of it that are skipped, not kept.
    skip: usize,
    /// Where it begins.
    at: u64,
    fault: Option<StreamFault>,
}

impl FrameReader {
    /// Goes on with `bytes`: `take` gets each frame that is whole (a very long one without its end). After a fault
    /// the stream stays lost.
    pub fn feed(&mut self, bytes: &[u8], take: impl FnMut(&[u8])) -> Result<(), StreamFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let fed = self.cut(bytes, take);
        self.fault = fed.err();
        fed
    }

    fn cut(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), StreamFault> {
        while !bytes.is_empty() {
            if self.begun.is_empty() {
                // The common case: whole frames, given on without a copy.
                match self.length(bytes)? {
                    Some(len) if len <= bytes.len() => {
                        take(&bytes[..len.min(KEPT)]);
                        self.at += len as u64;
                        bytes = &bytes[len..];
                        continue;
                    }
                    _ => {}
                }
            }
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                (self.skip, bytes) = (self.skip - skipped, &bytes[skipped..]);
            } else {
                let wanted = match self.begun.len() {
                    0..FIXED => FIXED,
                    _ => self.length(&self.begun)?.unwrap_or(FIXED).min(KEPT),
                };
                let taken = bytes.len().min(wanted - self.begun.len());
                self.begun.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                let Some(len) = self.length(&self.begun)? else { continue };
                if self.begun.len() < len.min(KEPT) {
                    continue;
                }
                self.skip = len - self.begun.len();
            }
            if self.skip == 0 {
                take(&self.begun);
                self.at += self.length(&self.begun)?.unwrap_or(0) as u64;
                self.begun.clear();
            }
        }
        Ok(())
    }

    /// The length of the frame that begins with `bytes`, if they tell.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, StreamFault> {
        let signed = bytes.len().min(4);
        if bytes[..signed] != b"RCmb"[..signed] {
            return Err(StreamFault::Signature(self.at));
        }
        let Some(length) = bytes.get(4..FIXED) else { return Ok(None) };
        let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        if (LENGTH_MIN..=LENGTH_MAX).contains(&length) {
            Ok(Some(length))
        } else {
            Err(StreamFault::Length(self.at, length))
        }
    }
}

/// True for a frame with valkey's light header, which says nothing of its sender.
pub(super) fn is_light(frame: &[u8]) -> bool {
    frame.len() < HEADER || frame[12] & 0x80 != 0
}
