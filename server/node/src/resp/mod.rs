//! The client protocol: requests in (RESP arrays and inline commands), replies out (RESP2 and RESP3).

mod reply;
mod request;

pub use reply::{Protocol, Reply, write_command};
pub use request::{Args, OwnedArgs, ProtocolError, RequestLimits, RequestParser};
