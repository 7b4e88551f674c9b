//! Linearizability of one object's history: is there one order of the operations that fits their intervals of time and
//! that the object explains?
//!
//! | object | check | method |
//! |---|---|---|
//! | register, compare-and-set, swap | [`register`] | zones; search for repeated values and silent failures |
//! | register with times to live | [`expiring`] | search |
//! | counter | [`counter`] | ranks and earliest deadlines; search for steps of several sizes |
//! | growing list | [`list`] | ranks and earliest deadlines |
//! | growing set | [`set`] | inclusion and ranks |
//! | FIFO queue | [`queue`] | four patterns; search for lost pops that matter |
//! | lock | [`lock`] | zones; search for refusals that do not name the holder |
//! | lease with fencing tokens | [`lease`] | ranks, and intervals under a clock error |
//! | queue in no order | [`bag`] | three patterns, and earliest deadlines for lost pops |
//! | bank | [`totals`], [`bank`] | sums; search |
//! | replica reads | [`sessions`] | one pass a process |
//!
//! A history is one key's; keys are judged apart, since linearizability is local (Herlihy and Wing 1990), and
//! [`keyed`] uses all cores for many. An operation of unknown outcome may have happened at any moment after its call, or
//! never: everywhere it counts iff some reply proves it, except where evidence of absence makes it useful; then the search
//! tries both.

mod bank;
mod counter;
mod expiry;
mod findings;
mod keyed;
mod lease;
mod list;
mod lock;
mod op;
mod places;
mod queue;
mod rank;
mod register;
pub mod search;
mod session;
mod set;
#[cfg(test)]
mod tests;
mod values;

pub use bank::{Bank, BankModel, BankRules, bank, totals};
pub use counter::{Counter, CounterModel, SILENT, counter};
pub use expiry::{Expiring, expiring};
pub use keyed::keyed;
pub use lease::{ClockError, Lease, lease};
pub use list::{List, list};
pub use lock::{Lock, LockModel, lock};
pub use op::{NEVER, NIL, Op, Status};
pub use queue::{Queue, QueueModel, arrivals, bag, queue};
pub use register::{Register, RegisterModel, UNSEEN, register};
pub use search::Limits;
pub use session::{Session, monotonic, sessions};
pub use set::{Set, set};
