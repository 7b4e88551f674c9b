//! How soon the kernel may kill this process when memory runs out (`oom-score-adj`).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a file of the kernel's

use std::fs;
use std::io;

use slotstorm_node::config::{Config, Key};

const FILE: &str = "/proc/self/oom_score_adj";

/// What was there before the configuration had a say, once it has.
#[derive(Debug, Default)]
pub struct OomScore {
    base: Option<i64>,
}

impl OomScore {
    /// Sets the score that the configuration wants for the role; gives it back when it wants none.
    ///
    /// # Errors
    /// The kernel refuses, for less than the base without privilege say, or there is no such file.
    pub fn follow(&mut self, config: &Config, is_replica: bool) -> io::Result<()> {
        let mode = config.text(Key::OomScoreAdj);
        let score = match (mode, self.base) {
            ("no", None) => return Ok(()),
            ("no", Some(base)) => {
                self.base = None;
                base
            }
            (_, base) => {
                let base = match base {
                    Some(base) => base,
                    None => fs::read_to_string(FILE)?.trim().parse().map_err(io::Error::other)?,
                };
                self.base = Some(base);
                let values = config.words(Key::OomScoreAdjValues);
                let value = values.get(usize::from(is_replica)).and_then(|value| value.parse().ok());
                let value: i64 = value.unwrap_or(0);
                (if mode == "absolute" { value } else { base + value }).clamp(-1000, 1000)
            }
        };
        fs::write(FILE, score.to_string())
    }
}
