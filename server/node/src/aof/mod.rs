//! The append-only file, multi-part as Redis 7 writes it: `appendonlydir/` with a manifest, a base in RDB form and
//! incremental files of commands.
//!
//! - At start: [`AofLoader`] reads the manifest and every file that it names, and gives keys and commands.
//! - Then [`AofWriter`]: feed it every propagated command, call its `end_of_batch` once a batch, and let the ticket
//!   that it returns gate every reply and every replication byte of that batch.
//! - A rewrite is a snapshot that becomes the new base, written beside the ordinary appends, which it never holds up.
//!
//! What the writer asks of the shell's disk thread beyond the contract in `io`: an `Append` that fails leaves the
//! file as long as it was.

mod as_commands;
mod loader;
mod manifest;
mod stream_commands;
mod writer;

pub use as_commands::CommandsEncoder;
pub use loader::{AofItem, AofLoadError, AofLoader, LoadWhat, LoadedAof};
pub use manifest::{AofFile, AofNames, Manifest, ManifestError};
pub use writer::{AofEvent, AofStatus, AofWriter, FsyncPolicy, RewriteMode, RewriteRequest};

use crate::io::{DiskOp, Effect, Effects, Ticket};

/// Where disk work goes: the batch's effects and the node's one sequence of tickets.
#[derive(Debug)]
pub struct DiskQueue<'a> {
    effects: &'a mut Effects,
    last_ticket: &'a mut Ticket,
}

impl<'a> DiskQueue<'a> {
    /// `last_ticket` is the last one issued by anyone in this node.
    pub const fn new(effects: &'a mut Effects, last_ticket: &'a mut Ticket) -> Self {
        Self { effects, last_ticket }
    }

    /// Queues one disk operation under the next ticket.
    pub fn op(&mut self, op: DiskOp) -> Ticket {
        self.last_ticket.0 += 1;
        let ticket = *self.last_ticket;
        self.effects.push(Effect::Disk { ticket, op });
        ticket
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

#[cfg(test)]
mod tests;
