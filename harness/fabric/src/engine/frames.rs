//! Cuts one direction of a bus connection into whole messages, from any moment on: what has passed already is followed,
//! so that the next boundary is known.

/// The bytes that tell a frame's length: signature and length.
const HEAD: usize = 8;
const FRAME_BYTES_MIN: usize = 16;
/// As [`crate::FrameScanner`] has it.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A piece of the stream, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Belongs to a message of which a part has passed, or to no message at all.
    Rest(Vec<u8>),
    Message(Vec<u8>),
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// The beginning of a message that passes.
    head: Vec<u8>,
    /// What is left of a message that passes.
    left: usize,
    /// A message that waits for its end.
    waiting: Vec<u8>,
    /// This is no bus stream (any more).
    lost: bool,
}

impl Cutter {
    /// Nothing of the stream waits here.
    pub fn clear(&self) -> bool {
        self.waiting.is_empty()
    }

    /// These bytes pass uncut.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            bytes = &bytes[self.passes(bytes)..];
        }
    }

    /// How many of `bytes` belong to the message that passes now (or begins to pass).
    fn passes(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            return taken;
        }
        let taken = (HEAD - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..taken]);
        if self.head.len() == HEAD {
            match length(&self.head) {
                Some(length) => self.left = length - HEAD,
                None => self.lost = true,
            }
            self.head.clear();
        }
        taken
    }

    /// Cuts these bytes; what is no whole message waits.
    pub fn cut(&mut self, mut bytes: &[u8], out: &mut Vec<Cut>) {
        while !bytes.is_empty() {
            if self.lost {
                out.push(Cut::Rest(bytes.to_vec()));
                return;
            }
            if self.left > 0 || !self.head.is_empty() {
                let taken = self.passes(bytes);
                out.push(Cut::Rest(bytes[..taken].to_vec()));
                bytes = &bytes[taken..];
                continue;
            }
            let wanted = if self.waiting.len() < HEAD { Some(HEAD) } else { length(&self.waiting) };
            let Some(wanted) = wanted else {
                self.lost = true;
                out.push(Cut::Rest(std::mem::take(&mut self.waiting)));
                continue;
            };
            let taken = (wanted - self.waiting.len()).min(bytes.len());
            self.waiting.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.waiting.len() >= HEAD && length(&self.waiting) == Some(self.waiting.len()) {
                out.push(Cut::Message(std::mem::take(&mut self.waiting)));
            }
        }
    }

    /// From now on all passes uncut: what waited comes out, and its message goes on passing.
    pub fn let_go(&mut self) -> Vec<u8> {
        let waited = std::mem::take(&mut self.waiting);
        self.follow(&waited);
        waited
    }
}

/// The frame's length, if this is the head of one.
fn length(head: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(head.get(4..HEAD)?.try_into().ok()?) as usize;
    (head.starts_with(b"RCmb") && (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length)).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(fill: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![fill; len];
        bytes[..4].copy_from_slice(b"RCmb");
        bytes[4..8].copy_from_slice(&(len as u32).to_be_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn whatever_is_followed_or_cut_nothing_is_lost_and_messages_come_whole(
            lens in prop::collection::vec(16usize..200, 1..8),
            pieces in prop::collection::vec((1usize..120, any::<bool>()), 1..40),
        ) {
            let stream: Vec<u8> = lens.iter().zip(1..).flat_map(|(len, fill)| message(fill, *len)).collect();
            let (mut cutter, mut out, mut rest) = (Cutter::default(), Vec::new(), &stream[..]);
            for (len, cut) in pieces {
                let (piece, after) = rest.split_at(len.min(rest.len()));
                rest = after;
                if cut {
                    let mut cuts = Vec::new();
                    cutter.cut(piece, &mut cuts);
                    for cut in cuts {
                        if let Cut::Message(bytes) = &cut {
                            prop_assert_eq!(bytes, &message(bytes[8], bytes.len()));
                        }
                        let (Cut::Message(bytes) | Cut::Rest(bytes)) = cut;
                        out.extend(bytes);
                    }
                } else {
                    out.extend(cutter.let_go());
                    cutter.follow(piece);
                    out.extend(piece);
                }
            }
            out.extend(cutter.let_go());
            prop_assert_eq!(&out[..], &stream[..stream.len() - rest.len()]);
        }
    }

    #[test]
    fn what_is_no_bus_stream_passes_as_it_is() {
        let (mut cutter, mut cuts) = (Cutter::default(), Vec::new());
        cutter.cut(b"GET / HTTP/1.1\r\n", &mut cuts);
        let all: Vec<u8> = cuts
            .into_iter()
            .flat_map(|cut| match cut {
                Cut::Rest(b) | Cut::Message(b) => b,
            })
            .collect();
        assert_eq!(all, b"GET / HTTP/1.1\r\n");
    }
}
