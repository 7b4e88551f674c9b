//! What a run leaves behind, as typed lines: the contract between the harness, which writes them, and the judge, the
//! plots and the report, which read them.
//!
//! | file | type | one line is |
//! |---|---|---|
//! | `run.json` | [`RunInfo`] | the whole file: plan, seed, topology, versions |
//! | `history.jsonl` | [`Event`] | an operation's invocation or completion, a fault's step, a measured stall, a phase |
//! | `history.bin` | [`bin::Group`] | not lines: the same operations as fixed-size records, grouped by key |
//! | `views.jsonl` | [`View`] | one node's answer to one poll (or that it did not answer) |
//! | `stream.jsonl` | [`StreamLine`] | what passed on one replication link: its base, then elements with offsets |
//! | `bus.jsonl` | [`BusLine`] | what one node said to another on the cluster bus, where a rule needs it |
//! | `verdict.json` | [`verdict::Verdict`] | the whole file |
//!
//! Times are nanoseconds of the controller's monotonic clock since the run's start. Nodes are named `n1`, `n2`, ...

pub mod bin;
mod bus;
mod datum;
mod folder;
mod grouped;
mod history;
mod info;
pub mod json;
pub mod objects;
mod op_kind;
mod read;
mod stream;
pub mod verdict;
mod view;

pub use bus::*;
pub use datum::*;
pub use folder::*;
pub use grouped::*;
pub use history::*;
pub use info::*;
pub use op_kind::*;
pub use read::*;
pub use stream::*;
pub use view::*;

/// The plane under which the record tells of rules for single bus messages.
pub const MESSAGES: &str = "bus messages";

/// Nanoseconds since the run's start.
pub type Nanos = u64;
