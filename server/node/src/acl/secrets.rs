//! Passwords to be given away: SHA-256 of what the node was given at start and a counter, as Redis makes them.

use sha2::{Digest, Sha256};

/// A source of secrets. In a simulator they follow from the run's seed, as all else does.
#[derive(Clone, Debug)]
pub struct Secrets {
    seed: [u8; 32],
    counter: u64,
}

impl Secrets {
    /// A source that nobody can foresee who does not know `entropy`.
    pub fn new(entropy: &[u8; 32]) -> Self {
        let seed = Sha256::new().chain_update(b"secrets").chain_update(entropy).finalize().into();
        Self { seed, counter: 0 }
    }

    /// 64 characters of `0-9a-f`.
    pub fn draw(&mut self) -> [u8; 64] {
        self.counter += 1;
        let sum = Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes()).finalize();
        let mut text = [0; 64];
        for (two, byte) in text.chunks_exact_mut(2).zip(sum) {
            two[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            two[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        text
    }
}
