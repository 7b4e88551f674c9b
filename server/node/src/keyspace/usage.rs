//! How much a key is used, in the 32 bits that an entry has for it: the second of its last access, or (under an LFU
//! policy) a logarithmic counter of its accesses with the minute in which it last decayed, as redis.io "LFU" tells.

use crate::io::WallMs;

/// What the bits mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// The wall-clock second of the last access (0: not since it was loaded).
    #[default]
    Recency,
    /// 16 bits of minutes above 8 bits of the counter.
    Frequency {
        /// `lfu-log-factor`
        log_factor: u64,
        /// `lfu-decay-time`, minutes; 0: never.
        decay_min: u64,
    },
}

/// The counter of a new key.
const FRESH: u8 = 5;

const fn second(now: WallMs) -> u32 {
    (now.0 / 1000) as u32
}

const fn minute(now: WallMs) -> u32 {
    (now.0 / 60_000) as u32 & 0xffff
}

impl Usage {
    /// The bits of a key that was made just now.
    pub fn fresh(self, now: WallMs) -> u32 {
        match self {
            Self::Recency => second(now),
            Self::Frequency { .. } => Self::with_frequency(FRESH, now),
        }
    }

    /// The bits of a key whose counter is known.
    pub fn with_frequency(counter: u8, now: WallMs) -> u32 {
        minute(now) << 8 | u32::from(counter)
    }

    /// The bits behind an access. `draw` gives a number from 0 up to, not including, a million.
    pub fn touched(self, bits: u32, now: WallMs, draw: impl FnOnce() -> u64) -> u32 {
        let Self::Frequency { log_factor, .. } = self else { return second(now) };
        let counter = self.frequency(bits, now);
        let odds = u64::from(counter.saturating_sub(FRESH)).saturating_mul(log_factor) + 1;
        let counts = counter < u8::MAX && draw().saturating_mul(odds) < 1_000_000;
        Self::with_frequency(counter + u8::from(counts), now)
    }

    /// The counter, decayed until now.
    pub fn frequency(self, bits: u32, now: WallMs) -> u8 {
        let Self::Frequency { decay_min, .. } = self else { return 0 };
        let elapsed = u64::from(minute(now).wrapping_sub(bits >> 8) & 0xffff);
        let periods = elapsed.checked_div(decay_min).unwrap_or(0);
        (bits as u8).saturating_sub(u8::try_from(periods).unwrap_or(u8::MAX))
    }

    /// Seconds since the last access.
    pub fn idle_s(bits: u32, now: WallMs) -> u64 {
        u64::from(second(now).saturating_sub(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LFU: Usage = Usage::Frequency { log_factor: 10, decay_min: 1 };

    #[test]
    fn counting_slows_down_and_time_takes_back() {
        let start = WallMs(1_700_000_000_000);
        let mut random = crate::random::Random::seeded(1);
        let mut bits = LFU.fresh(start);
        assert_eq!(LFU.frequency(bits, start), 5);
        for _ in 0..1000 {
            bits = LFU.touched(bits, start, || random.below(1_000_000));
        }
        let counter = LFU.frequency(bits, start);
        // Redis' table: about 18 after 1000 hits with a factor of 10.
        assert!((12..=25).contains(&counter), "{counter}");
        assert_eq!(LFU.frequency(bits, WallMs(start.0 + 4 * 60_000)), counter - 4);
        assert_eq!(LFU.frequency(bits, WallMs(start.0 + 400 * 60_000)), 0);
    }
}
