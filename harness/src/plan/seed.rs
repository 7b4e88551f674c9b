//! Randomness by seed and concern: a draw added in one place does not shift the others.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The generator of one concern (`plan`, `nemesis`, `client 3`) of a run.
pub fn rng(seed: u64, concern: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(concern.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}
