//! Scripts and functions: Lua in a sandbox, with the libraries that Redis gives it.
//!
//! [`interpreter`] one Lua state · [`session`] a script while it runs, on a stack of its own · [`line`] what it and the
//! node say to each other · `api` the table `redis` · `convert` replies to Lua values and back · [`library`] functions ·
//! `flags` what scripts declare · `json`, `msgpack`, `structs`, `bits` their libraries · `raise` errors.
//!
//! A session asks and is answered, like everything in this crate: a script that runs long is left where it is, and
//! the node decides when it goes on.

mod api;
mod bits;
mod convert;
mod flags;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod interpreter;
mod json;
mod library;
mod line;
mod msgpack;
mod raise;
mod random;
mod register;
mod session;
mod structs;

pub use api::script_name;
pub use flags::{ScriptFlags, of_script};
pub use interpreter::{Interpreter, Kind};
pub use library::{Found, Libraries, Library, Metadata};
pub use line::{Answer, Asked, Calling, HandedOn, ScriptRandom};
pub use session::{Ended, Job, Progress, Session, latin};
