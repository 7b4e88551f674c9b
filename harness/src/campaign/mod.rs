//! Nights: many runs of one campaign file, and what is new in the morning.
//!
//! `file` the campaign file · `matrix` which run comes when · `night` a night's folder · `attempt` a task's folder while it is
//! worked in · `outcome` what is kept of one run · `guard` whether the host is calm enough · `child` one run as a child
//! process · `runner` all of a night's · `engine` on more than one machine · `retain` what stays on the disk · `index` the
//! nights as tables · `findings` new, ongoing, rare, gone, back · `small` failures made small · `statistics` and
//! `regression` rates and numbers over nights · `summary` one night's result · `out` its shapes.
//!
//! The folders are the truth: a task is done when its `outcome.json` is there, the night goes on from what is not, and the
//! index can be made anew from them at any time.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: processes, files, real time

pub mod attempt;
pub mod child;
pub mod engine;
pub mod file;
pub mod findings;
pub mod guard;
pub mod index;
pub mod matrix;
pub mod night;
pub mod out;
pub mod outcome;
pub mod regression;
pub mod retain;
pub mod runner;
pub mod small;
pub mod statistics;
pub mod summary;
#[cfg(test)]
mod tests;
