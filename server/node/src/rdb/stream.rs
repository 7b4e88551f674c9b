//! Streams in RDB form: nodes as they are, then how far the stream reaches, then groups with what is pending.

use std::sync::Arc;

use super::decode::{Input, Step};
use super::write::put_len;
use super::{RdbError, value_type};
use crate::keyspace::stream::{Extent, GroupHead, Stream, StreamId, StreamLoader};

/// Appends the parts of a stream from `from` on, without the number of its nodes; gives where it stopped because the
/// buffer holds `max_bytes`. A part is a node, the reach, the head of a group or consumer, or a pending entry.
pub(super) fn put_stream(
    out: &mut Vec<u8>,
    stream: &Stream,
    from: usize,
    max_bytes: usize,
    put_string: &dyn Fn(&mut Vec<u8>, &[u8]),
) -> Option<usize> {
    let mut parts = Parts { out, from, at: 0, max_bytes };
    let done = parts.all(
        stream.node_count(),
        |rank| stream.nodes_from_rank(rank),
        |out, (id, listpack)| {
            put_string(out, &id.to_bytes());
            put_string(out, listpack);
        },
    ) && parts.one(|out| {
        let extent = stream.extent();
        put_len(out, extent.len);
        for id in [extent.last_id, extent.first_id, extent.max_deleted_id] {
            put_id(out, id);
        }
        put_len(out, extent.entries_added);
        put_len(out, stream.groups().len() as u64);
    }) && stream.groups().all(|(name, group)| {
        parts.one(|out| {
            put_string(out, name);
            put_id(out, group.last_id);
            put_len(out, group.entries_read as u64);
            put_len(out, group.pending().len() as u64);
        }) && parts.all(
            group.pending().len(),
            |rank| group.pending().iter_from_rank(rank),
            |out, (id, pending)| {
                out.extend_from_slice(&id.to_bytes());
                out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
                put_len(out, pending.deliveries);
            },
        ) && parts.one(|out| put_len(out, group.consumers().len() as u64))
            && group.consumers().all(|(name, consumer)| {
                parts.one(|out| {
                    put_string(out, name);
                    out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
                    put_len(out, consumer.pending_len() as u64);
                }) && parts.all(
                    consumer.pending_len(),
                    |rank| consumer.pending_from_rank(rank),
                    |out, id| {
                        out.extend_from_slice(&id.to_bytes());
                    },
                )
            })
    });
    if done { None } else { Some(parts.at) }
}

/// Counts parts, and leaves out those before `from`.
struct Parts<'a> {
    out: &'a mut Vec<u8>,
    from: usize,
    at: usize,
    max_bytes: usize,
}

impl Parts<'_> {
    /// One part; false if there is no room for it.
    fn one(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut put = Some(put);
        self.all(
            1,
            |rank| rank..1,
            |out, _| {
                if let Some(put) = put.take() {
                    put(out);
                }
            },
        )
    }

    /// Parts of one kind; false if there was no room for all of them.
    fn all<T, I: Iterator<Item = T>>(
        &mut self,
        len: usize,
        from_rank: impl FnOnce(usize) -> I,
        mut put: impl FnMut(&mut Vec<u8>, T),
    ) -> bool {
        let skipped = self.from.saturating_sub(self.at).min(len);
        self.at += skipped;
        if skipped == len {
            return true;
        }
        for part in from_rank(skipped) {
            if self.out.len() >= self.max_bytes {
                return false;
            }
            put(self.out, part);
            self.at += 1;
        }
        true
    }
}

fn put_id(out: &mut Vec<u8>, id: StreamId) {
    put_len(out, id.ms);
    put_len(out, id.seq);
}

/// A stream of which parts are here.
#[derive(Debug)]
pub(super) struct StreamReader {
    value_type: u8,
    loader: StreamLoader,
    stage: Stage,
}

/// What follows, and how much of it and of what surrounds it is left.
#[derive(Clone, Copy, Debug)]
enum Stage {
    NodeCount,
    Nodes { left: u64 },
    Groups { left: u64 },
    Pending { left: u64, groups: u64 },
    ConsumerCount { groups: u64 },
    Consumers { left: u64, groups: u64 },
    Owned { left: u64, consumers: u64, groups: u64 },
}

impl StreamReader {
    pub(super) fn new(value_type: u8) -> Self {
        Self { value_type, loader: StreamLoader::default(), stage: Stage::NodeCount }
    }

    /// Reads one more part; gives the stream once it is whole.
    pub(super) fn step(&mut self, input: &mut Input<'_>) -> Step<Option<Arc<Stream>>> {
        let damaged = RdbError::from;
        self.stage = match self.stage {
            Stage::NodeCount => Stage::Nodes { left: input.length()? },
            Stage::Nodes { left: 0 } => {
                let groups = self.extent(input)?;
                Stage::Groups { left: groups }
            }
            Stage::Nodes { left } => {
                let (own, listpack) = (input.string()?, input.string()?);
                let own = own.try_into().map_err(|_| RdbError::Corrupt("a node of a stream has no id"))?;
                self.loader.node(StreamId::from_bytes(own), listpack).map_err(damaged)?;
                Stage::Nodes { left: left - 1 }
            }
            Stage::Groups { left: 0 } => {
                let stream = std::mem::take(&mut self.loader).finish().map_err(damaged)?;
                return Ok(Some(Arc::new(stream)));
            }
            Stage::Groups { left } => {
                let (name, last_id) = (input.string()?, id(input)?);
                let is_old = self.value_type == value_type::STREAM_LISTPACKS;
                let entries_read = if is_old { None } else { Some(input.length()? as i64) };
                let pending = input.length()?;
                self.loader.group(GroupHead { name, last_id, entries_read }).map_err(damaged)?;
                Stage::Pending { left: pending, groups: left - 1 }
            }
            Stage::Pending { left: 0, groups } => Stage::ConsumerCount { groups },
            Stage::Pending { left, groups } => {
                let id = StreamId::from_bytes(input.array()?);
                let delivered_ms = i64::from_le_bytes(input.array()?);
                let deliveries = input.length()?;
                self.loader.pending(id, delivered_ms, deliveries).map_err(damaged)?;
                Stage::Pending { left: left - 1, groups }
            }
            Stage::ConsumerCount { groups } => Stage::Consumers { left: input.length()?, groups },
            Stage::Consumers { left: 0, groups } => Stage::Groups { left: groups },
            Stage::Consumers { left, groups } => {
                let name = input.string()?;
                let seen_ms = i64::from_le_bytes(input.array()?);
                if self.value_type == value_type::STREAM_LISTPACKS_3 {
                    // When it was last given something: Redis 7.2.
                    input.array::<8>()?;
                }
                let pending = input.length()?;
                self.loader.consumer(name, seen_ms).map_err(damaged)?;
                Stage::Owned { left: pending, consumers: left - 1, groups }
            }
            Stage::Owned { left: 0, consumers, groups } => Stage::Consumers { left: consumers, groups },
            Stage::Owned { left, consumers, groups } => {
                let id = StreamId::from_bytes(input.array()?);
                self.loader.owned(id).map_err(damaged)?;
                Stage::Owned { left: left - 1, consumers, groups }
            }
        };
        Ok(None)
    }

    /// Reads how far the stream reaches; gives the number of its groups.
    fn extent(&mut self, input: &mut Input<'_>) -> Step<u64> {
        let is_old = self.value_type == value_type::STREAM_LISTPACKS;
        let mut extent = Extent { len: input.length()?, last_id: id(input)?, ..Extent::default() };
        if !is_old {
            extent.first_id = id(input)?;
            extent.max_deleted_id = id(input)?;
            extent.entries_added = input.length()?;
        }
        let groups = input.length()?;
        self.loader.extent(extent, is_old).map_err(RdbError::from)?;
        Ok(groups)
    }
}

fn id(input: &mut Input<'_>) -> Step<StreamId> {
    Ok(StreamId { ms: input.length()?, seq: input.length()? })
}
