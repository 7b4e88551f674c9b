//! List-append transactions as Elle's generator makes them: ten keys at a time, each retired after 32 appends; one to four
//! micro-operations, half of them reads.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slotstorm_checker::txn::{MicroOp, Objects, Outcome, Span, TxnHistory};

const PROCESSES: u32 = 10;
const ACTIVE_KEYS: usize = 10;
const APPENDS_PER_KEY: usize = 32;

/// One at a time in truth, with spans that overlap those of the other processes. `stale` of them read too little.
pub fn history(txns: u32, stale: u32) -> TxnHistory {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut history = TxnHistory::new(Objects::Lists);
    let mut lists: Vec<(u32, Vec<u64>)> = (0..ACTIVE_KEYS as u32).map(|key| (key, Vec::new())).collect();
    let mut next_key = ACTIVE_KEYS as u32;
    let mut free_from = [0u64; PROCESSES as usize];
    let mut micros: Vec<(u32, Result<u64, Vec<u64>>)> = Vec::new();
    for txn in 0..txns {
        let process = txn % PROCESSES;
        let moment = u64::from(txn) * 100 + 1000;
        let invoked = free_from[process as usize].max(moment - rng.random_range(1..500));
        let returned = moment + rng.random_range(0..400);
        free_from[process as usize] = returned + 1;
        micros.clear();
        for _ in 0..rng.random_range(1..=4) {
            let slot = rng.random_range(0..ACTIVE_KEYS);
            let (key, list) = &mut lists[slot];
            if rng.random() {
                let value = list.len() as u64 + 1;
                list.push(value);
                micros.push((*key, Ok(value)));
                if list.len() == APPENDS_PER_KEY {
                    lists[slot] = (next_key, Vec::new());
                    next_key += 1;
                }
            } else {
                micros.push((*key, Err(list.clone())));
            }
        }
        if stale > 0 && txn % (txns / stale) == 17 {
            let read = micros.iter_mut().find_map(|(_, what)| what.as_mut().err());
            if let Some(seen) = read {
                seen.truncate(seen.len() / 2);
            }
        }
        let span = Span { process, invoked, returned, outcome: Outcome::Ok };
        history.push(
            span,
            micros.iter().map(|(key, what)| match what {
                Ok(value) => MicroOp::Write { key: *key, value: *value },
                Err(elements) => MicroOp::ReadList { key: *key, elements },
            }),
        );
    }
    history
}
