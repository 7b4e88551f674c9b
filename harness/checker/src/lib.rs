//! Histories, consistency checkers and their verdicts; usable alone.
//!
//! The judge shares no code with the judged: nothing here knows `slotstorm-node`. Rooms: `record` the typed lines
//! that a run leaves behind, and their reader · `slots` key hashing · `timeline` what follows from the record before
//! anything is judged (who was down, cut, master, and when) · `check` one file per check, each a function from record
//! and timeline to a [`record::verdict`] entry · `coverage` what the storm reached ·
//! `voids` what faults excuse · `answer` what checks of consistency say · `linear` linearizability of
//! one object · `txn` transactional anomalies · `foreign` the histories of others · `witness` its drawing · `wire` the judge of the cluster bus · `judge` all of them under the
//! declared expectation.

pub mod answer;
pub mod check;
pub mod coverage;
pub mod foreign;
mod judge;
pub mod linear;
pub mod record;
pub mod slots;
pub mod timeline;
pub mod txn;
mod voids;
pub mod wire;
pub mod witness;

pub use coverage::Requirement;
pub use judge::{JudgeOptions, SCHEMA, judge, judge_timeline, judge_with};
pub use voids::{GUARANTEES, OUTSIDE_MODEL};

#[cfg(test)]
mod scene;
#[cfg(test)]
mod tests;
