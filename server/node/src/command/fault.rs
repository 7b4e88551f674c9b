//! Error replies, worded as Redis 7.0 words them: clients and tests match on the texts.

use std::borrow::Cow;

/// The text of an error reply, its code first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub Cow<'static, str>);

/// What a command's handler gives: it has written its reply, or failed before it wrote anything.
pub type Outcome = Result<(), Fault>;

pub const WRONG_TYPE: Fault = text("WRONGTYPE Operation against a key holding the wrong kind of value");
pub const NOT_INTEGER: Fault = text("ERR value is not an integer or out of range");
pub const NOT_FLOAT: Fault = text("ERR value is not a valid float");
pub const SYNTAX: Fault = text("ERR syntax error");
pub const NO_SUCH_KEY: Fault = text("ERR no such key");
pub const SAME_OBJECT: Fault = text("ERR source and destination objects are the same");
pub const DB_OUT_OF_RANGE: Fault = text("ERR DB index is out of range");
pub const OUT_OF_RANGE: Fault = text("ERR index out of range");
pub const OVERFLOW: Fault = text("ERR increment or decrement would overflow");
pub const NOT_POSITIVE: Fault = text("ERR value is out of range, must be positive");
pub const INVALID_CURSOR: Fault = text("ERR invalid cursor");
pub const TOO_LONG: Fault = text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub const CLUSTER_DISABLED: Fault = text("ERR This instance has cluster support disabled");

/// A fault with a fixed text.
pub const fn text(text: &'static str) -> Fault {
    Fault(Cow::Borrowed(text))
}

impl Fault {
    /// A fault with a made text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Cow::Owned(text.into()))
    }

    /// A command was called with too few or too many arguments; `name` as the table has it.
    pub fn arity(name: &str) -> Self {
        Self::new(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// A subcommand that does not exist; `name` is the container's, in capitals.
    pub fn subcommand(given: &[u8], name: &str) -> Self {
        Self::new(format!("ERR unknown subcommand '{}'. Try {name} HELP.", shown(given, 128)))
    }

    /// A subcommand that is called in a way that it does not have; `name` is the container's, in capitals.
    pub fn misused(given: &[u8], name: &str) -> Self {
        let given = shown(given, 128);
        Self::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{given}'. Try {name} HELP."
        ))
    }

    /// An expiry that cannot be; `name` is the command's.
    pub fn expire_time(name: &str) -> Self {
        Self::new(format!("ERR invalid expire time in '{name}' command"))
    }
}

/// At most `max` bytes of what a client sent, as text.
pub fn shown(bytes: &[u8], max: usize) -> String {
    bytes[..bytes.len().min(max)].iter().map(|&byte| char::from(byte)).collect()
}
