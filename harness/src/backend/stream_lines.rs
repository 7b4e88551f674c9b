//! From what the fabric saw on replication links to the lines of `stream.jsonl`.

use slotstorm_checker::record::{StreamLine, StreamWhat};
use slotstorm_fabric::{StreamEvent, StreamWhat as Passed};

/// An event in the record's words.
pub fn stream_line(event: StreamEvent) -> StreamLine {
    let what = match event.what {
        Passed::Full { replid, offset } => StreamWhat::Full { replid, offset },
        Passed::Continue { replid, offset } => StreamWhat::Continue { replid, offset },
        Passed::Elements { elements } => StreamWhat::Elements { elements },
        Passed::Keys { came, went } => StreamWhat::Keys { came, went },
        Passed::Lost { why } => StreamWhat::Lost { why },
        Passed::End { offset } => StreamWhat::End { offset },
    };
    StreamLine { time: event.time, from: event.from.name(), to: event.to.name(), conn: event.conn, what }
}
