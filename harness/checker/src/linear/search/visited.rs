//! The configurations seen so far, 16 bytes each in open addressing.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Fingerprints are uniform already: their low half is the hash.
#[derive(Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
}

/// Many small tables instead of one, so that the copy while one grows is small beside the whole.
const SHARDS: usize = 64;

/// A set of fingerprints.
pub(super) struct Visited {
    shards: Vec<HashSet<u128, BuildHasherDefault<Identity>>>,
    len: u64,
}

impl Visited {
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashSet::default()).collect(), len: 0 }
    }

    /// True if it was not there.
    pub fn insert(&mut self, fingerprint: u128) -> bool {
        let fresh = self.shards[(fingerprint >> 64) as usize % SHARDS].insert(fingerprint);
        self.len += u64::from(fresh);
        fresh
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes held: buckets are a power of two, filled to 7/8, each with a byte of control.
    pub fn bytes(&self) -> u64 {
        let buckets = |set: &HashSet<_, _>| (set.capacity() as u64 * 8 / 7).next_power_of_two();
        self.shards.iter().map(|set| if set.capacity() == 0 { 0 } else { buckets(set) * 17 }).sum()
    }
}
