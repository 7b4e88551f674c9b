//! For tests: models of servers that answer a request with a text, behind RESP's framing.

use std::collections::BTreeMap;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame};
use slotstorm_checker::record::Nanos;

use super::Servers;

/// A model of the servers of a cluster.
pub trait Model: 'static {
    /// What `node` answers to a request, in RESP; `None`: it stays silent.
    fn answer(&mut self, node: u16, words: &[String]) -> Option<String>;
}

/// A model with connections.
pub struct Modelled<M> {
    model: M,
    incoming: BTreeMap<u64, BytesMut>,
}

impl<M: Model> Modelled<M> {
    pub const fn new(model: M) -> Self {
        Self { model, incoming: BTreeMap::new() }
    }
}

impl<M: Model> Servers for Modelled<M> {
    fn receive(&mut self, _now: Nanos, node: u16, conn: u64, bytes: &[u8]) -> Vec<u8> {
        let buffer = self.incoming.entry(conn).or_default();
        buffer.extend_from_slice(bytes);
        let mut replies = String::new();
        while let Ok(Some((BytesFrame::Array(frames), _, _))) = decode_bytes_mut(buffer) {
            let word = |frame: &BytesFrame| frame.as_str().unwrap_or_default().to_owned();
            let words: Vec<String> = frames.iter().map(word).collect();
            replies.push_str(&self.model.answer(node, &words).unwrap_or_default());
        }
        replies.into_bytes()
    }

    fn closed(&mut self, _node: u16, conn: u64) {
        self.incoming.remove(&conn);
    }
}

/// A node's id.
pub fn id(node: u16) -> String {
    format!("{node:040}")
}

/// A bulk string.
pub fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}
