//! Histories that others recorded: read ([`read`]), paired into operations ([`Pairing`]), judged as a workload's
//! ([`judge`]), or given as a `history.bin` ([`judge_bin`]). And ours written so that others can judge them
//! ([`write_event`]).
//!
//! ```
//! use slotstorm_checker::foreign::{Format, Pairing, read};
//! let history = "{:type :invoke, :process 0, :f :write, :value 3}\n{:type :ok, :process 0, :f :write, :value 3}";
//! let mut pairing = Pairing::default();
//! read(history.as_bytes(), Format::Edn, |event| pairing.event(event)).unwrap();
//! let (calls, lint) = pairing.finish();
//! assert_eq!((calls.len(), lint.sentences().len()), (1, 0));
//! ```

mod bin;
mod calls;
mod edn;
mod error;
mod event;
mod judge;
mod objects;
mod own;
mod read;
mod txns;
mod value;
mod values;
mod workload;
mod write;

pub use self::bin::{BinJudgement, judge_bin};
pub use self::calls::{Call, Ending, Lint, Pairing};
pub use self::edn::{EdnReader, Located};
pub use self::error::ForeignError;
pub use self::event::{Event, Kind, Speaker};
pub use self::judge::{ForeignOptions, Judgement, Part, judge};
pub use self::read::{Format, read};
pub use self::value::Value;
pub use self::workload::{Workload, WorkloadError};
pub use self::write::{Shape, write_event};

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod tests;
