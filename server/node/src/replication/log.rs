//! The one replication log of a node: the stream of the last writes, kept once, shared by every replica.
//!
//! Bytes of a batch gather in an open buffer; at the batch's end they are sealed into a chunk behind `Arc`, and
//! every replica's outbox refers to ranges of the same chunks. The log is also the backlog: it keeps at least the
//! last `window_bytes`, and more while a replica still waits for its snapshot.

use std::collections::VecDeque;
use std::sync::Arc;

/// Chunks at or under this size are merged when many lie side by side, so that a long run of single writes does
/// not cost an allocation each for as long as it stays in the backlog.
const SMALL_CHUNK_BYTES: usize = 1024;
/// A batch that is longer is cut: what left the window long ago must not stay because a late byte of its batch does.
const MAX_CHUNK_BYTES: usize = 32 * 1024;
/// How many small chunks are merged into one.
const MERGE_COUNT: usize = 64;

/// An append-only run of stream bytes. Offsets count bytes since the history began: offset `n` is the state after
/// `n` bytes, so the byte that follows it is what PSYNC calls `n + 1`.
#[derive(Debug)]
pub struct ReplicationLog {
    chunks: VecDeque<Chunk>,
    open: Vec<u8>,
    /// Offset before the first byte that is kept.
    first: u64,
    /// Offset after the last byte, the open ones included.
    end: u64,
    window_bytes: u64,
    small_at_tail: usize,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Arc<[u8]>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// A range of a shared chunk.
#[derive(Clone, Debug)]
pub struct SharedRange {
    /// The chunk.
    pub chunk: Arc<[u8]>,
    /// First byte of the range.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

impl SharedRange {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.chunk[self.start..self.end]
    }
}

impl ReplicationLog {
    /// An empty log that begins after `offset`.
    pub fn new(offset: u64, window_bytes: u64) -> Self {
        Self {
            chunks: VecDeque::new(),
            open: Vec::new(),
            first: offset,
            end: offset,
            window_bytes,
            small_at_tail: 0,
        }
    }

    /// Offset after the last byte.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Offset before the first byte that is kept: the earliest one from which a replica can go on.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Changes how much is kept at least.
    pub const fn set_window_bytes(&mut self, window_bytes: u64) {
        self.window_bytes = window_bytes;
    }

    /// Appends stream bytes.
    pub fn append(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
        self.end += bytes.len() as u64;
    }

    /// True if [`Self::seal`] has something to do.
    pub fn would_seal(&self, keep_from: Option<u64>) -> bool {
        let needed = self.needed_from(keep_from);
        !self.open.is_empty() || self.chunks.front().is_some_and(|chunk| chunk.end() <= needed)
    }

    fn needed_from(&self, keep_from: Option<u64>) -> u64 {
        self.end.saturating_sub(self.window_bytes).min(keep_from.unwrap_or(u64::MAX))
    }

    /// Makes everything appended so far shareable and forgets what neither the window nor a reader at
    /// `keep_from` needs.
    pub fn seal(&mut self, keep_from: Option<u64>) {
        if !self.open.is_empty() {
            let is_small = self.open.len() <= SMALL_CHUNK_BYTES;
            self.small_at_tail = if is_small { self.small_at_tail + 1 } else { 0 };
            let mut start = self.end - self.open.len() as u64;
            for piece in self.open.chunks(MAX_CHUNK_BYTES) {
                self.chunks.push_back(Chunk { start, bytes: Arc::from(piece) });
                start += piece.len() as u64;
            }
            self.open.clear();
            self.open.shrink_to(64 * 1024);
            if self.small_at_tail == MERGE_COUNT {
                self.merge_tail();
            }
        }
        let needed = self.needed_from(keep_from);
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= needed) {
            self.chunks.pop_front();
        }
        self.small_at_tail = self.small_at_tail.min(self.chunks.len());
        self.first = self.chunks.front().map_or(self.end, |chunk| chunk.start);
    }

    fn merge_tail(&mut self) {
        let tail = self.chunks.split_off(self.chunks.len() - MERGE_COUNT);
        let mut merged = Vec::with_capacity(tail.iter().map(|chunk| chunk.bytes.len()).sum());
        for chunk in &tail {
            merged.extend_from_slice(&chunk.bytes);
        }
        self.chunks.push_back(Chunk { start: tail[0].start, bytes: Arc::from(merged) });
        self.small_at_tail = 0;
    }

    /// The sealed bytes after `offset` as ranges of shared chunks, at most about `limit_bytes` of them; empty if
    /// the log no longer reaches back so far.
    pub fn ranges_after(&self, offset: u64, limit_bytes: usize) -> impl Iterator<Item = SharedRange> {
        let from = if offset < self.first || offset == self.end {
            self.chunks.len()
        } else {
            self.chunks.partition_point(|chunk| chunk.end() <= offset)
        };
        let mut left = limit_bytes;
        self.chunks.iter().skip(from).map_while(move |chunk| {
            let start = offset.saturating_sub(chunk.start) as usize;
            let len = (chunk.bytes.len() - start).min(left);
            left -= len;
            (len > 0).then(|| SharedRange { chunk: Arc::clone(&chunk.bytes), start, end: start + len })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(log: &ReplicationLog, offset: u64) -> Vec<u8> {
        log.ranges_after(offset, usize::MAX).flat_map(|range| range.bytes().to_vec()).collect()
    }

    #[test]
    fn gives_every_suffix_that_the_window_holds() {
        let mut log = ReplicationLog::new(100, 50);
        let mut all = Vec::new();
        for n in 0..300_u32 {
            let piece = format!("{n},");
            log.append(piece.as_bytes());
            all.extend_from_slice(piece.as_bytes());
            log.seal(None);
        }
        assert_eq!(log.end(), 100 + all.len() as u64);
        assert!(log.end() - log.first() >= 50);
        for offset in log.first()..=log.end() {
            assert_eq!(after(&log, offset), &all[(offset - 100) as usize..], "after {offset}");
        }
        assert!(after(&log, log.first() - 1).is_empty());
    }

    #[test]
    fn keeps_more_than_the_window_for_a_waiting_reader() {
        let mut log = ReplicationLog::new(0, 10);
        for _ in 0..100 {
            log.append(b"0123456789");
            log.seal(Some(500));
        }
        assert_eq!((log.first(), log.end()), (500, 1000));
        log.seal(None);
        assert!(log.first() >= 980);
    }

    #[test]
    fn a_long_batch_does_not_stay_for_its_last_bytes() {
        let mut log = ReplicationLog::new(0, 10);
        let batch: Vec<u8> = (0..5 * MAX_CHUNK_BYTES).map(|n| n as u8).collect();
        log.append(&batch);
        log.seal(None);
        assert!(log.end() - log.first() <= MAX_CHUNK_BYTES as u64);
        let tail = log.first() as usize;
        assert_eq!(after(&log, log.first()), &batch[tail..]);
    }

    #[test]
    fn stops_at_the_limit_and_goes_on_from_there() {
        let mut log = ReplicationLog::new(0, 1000);
        log.append(b"abcdef");
        log.seal(None);
        log.append(b"ghi");
        log.seal(None);
        let first: Vec<u8> = log.ranges_after(1, 6).flat_map(|range| range.bytes().to_vec()).collect();
        assert_eq!(first, b"bcdefg");
        assert_eq!(after(&log, 7), b"hi");
    }
}
