//! Virtual time, and nodes on the fabric. Rooms: `executor` tasks and timers in virtual time.

mod executor;

pub use executor::{Deadlock, Executor, Nanos, Sleep};
