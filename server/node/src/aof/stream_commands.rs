//! A stream as commands: its entries, how far it has come, its groups with what is pending, as Redis' own rewrite
//! has them.

use crate::keyspace::stream::{Stream, StreamId};
use crate::replication::commands::write_command;

/// Appends the commands that make the stream under `key`.
pub(super) fn put_stream(out: &mut Vec<u8>, key: &[u8], stream: &Stream) {
    let extent = stream.extent();
    let last_id = extent.last_id.to_string();
    if extent.len == 0 {
        // The key must be there: an entry is added and trimmed at once.
        let id = if extent.last_id == StreamId::default() { "0-1" } else { &last_id };
        write_command(out, &[b"XADD", key, b"MAXLEN", b"0", id.as_bytes(), b"x", b"y"]);
    }
    let greatest = StreamId { ms: u64::MAX, seq: u64::MAX };
    for entry in stream.range(StreamId::default(), greatest) {
        let mut args = vec![b"XADD".to_vec(), key.to_vec(), entry.id.to_string().into_bytes()];
        for (field, value) in entry.pairs() {
            args.extend([field.with(<[u8]>::to_vec), value.with(<[u8]>::to_vec)]);
        }
        write_command(out, &args);
    }
    let (added, deleted) = (extent.entries_added.to_string(), extent.max_deleted_id.to_string());
    let xsetid: [&[u8]; 7] = [
        b"XSETID",
        key,
        last_id.as_bytes(),
        b"ENTRIESADDED",
        added.as_bytes(),
        b"MAXDELETEDID",
        deleted.as_bytes(),
    ];
    write_command(out, &xsetid);
    for (name, group) in stream.groups() {
        let (last_id, read) = (group.last_id.to_string(), group.entries_read.to_string());
        let create: [&[u8]; 7] =
            [b"XGROUP", b"CREATE", key, name, last_id.as_bytes(), b"ENTRIESREAD", read.as_bytes()];
        write_command(out, &create);
        for (consumer, _) in group.consumers() {
            write_command(out, &[&b"XGROUP"[..], b"CREATECONSUMER", key, name, consumer]);
        }
        for (id, pending) in group.pending().iter() {
            let (id, at) = (id.to_string(), pending.delivered_ms.to_string());
            let deliveries = pending.deliveries.to_string();
            let claim: [&[u8]; 12] = [
                b"XCLAIM",
                key,
                name,
                &pending.consumer,
                b"0",
                id.as_bytes(),
                b"TIME",
                at.as_bytes(),
                b"RETRYCOUNT",
                deliveries.as_bytes(),
                b"JUSTID",
                b"FORCE",
            ];
            write_command(out, &claim);
        }
    }
}
