//! Replies of CLUSTER, without a protocol version: the node writes them as RESP2 or RESP3.

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+text`
    Simple(String),
    /// `-text`, the code included.
    Error(String),
    /// `:n`
    Integer(i64),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// A bulk string in RESP2, verbatim `txt` in RESP3.
    Text(String),
    /// An array.
    Array(Vec<Reply>),
    /// A flat array in RESP2, a map in RESP3.
    Map(Vec<(Reply, Reply)>),
    /// Null.
    Null,
}

impl Reply {
    /// `+OK`
    pub fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    /// `-ERR text`
    pub fn err(text: impl std::fmt::Display) -> Self {
        Self::Error(format!("ERR {text}"))
    }

    /// A bulk string.
    pub fn bulk(text: impl Into<Vec<u8>>) -> Self {
        Self::Bulk(text.into())
    }
}
