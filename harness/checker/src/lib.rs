//! Histories, consistency checkers and their verdicts; usable alone.
//!
//! The judge shares no code with the judged: nothing here knows `slotstorm-node`. Rooms: `record` the typed lines
//! that a run leaves behind · `slots` key hashing · `check` one file per check, each a function from a record to a
//! [`record::verdict`] entry.

pub mod record;
