//! What the shell drives: the node, or in tests something smaller that speaks the same words.

use slotstorm_node::config::Config;
use slotstorm_node::io::{ConnId, Effects, Input, Mono, Now, Outbox, Ticket};
use slotstorm_node::node::Node;

/// A state machine fed by [`crate::shell::Shell`]. The contract is that of `slotstorm_node::io`.
pub trait Machine {
    /// One event.
    fn input(&mut self, now: Now, input: Input<'_>, effects: &mut Effects);

    /// Once per turn of the loop, after all events of the turn.
    fn end_of_batch(&mut self, now: Now, effects: &mut Effects);

    /// When to call `end_of_batch` again though nothing happens.
    fn next_deadline(&self) -> Option<Mono>;

    /// What waits to be sent on a connection; `None` if the machine does not know it (any more). The shell
    /// takes what is in it when it carries out a `Close`; until then the machine must keep it.
    fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox>;

    /// All disk effects up to this one are done: bytes gated by them may leave.
    fn durable(&self) -> Ticket;

    /// Moves the names of connections whose outbox has grown since the last call into `into`.
    fn take_dirty(&mut self, into: &mut Vec<ConnId>);

    /// The configuration as it is now: ports and addresses, log level, keepalive.
    fn config(&self) -> &Config;

    /// True once data is loaded: the ready line is logged.
    fn is_ready(&self) -> bool;

    /// Bytes that the argument which is arriving on a connection still lacks.
    fn missing_bytes(&self, _conn: ConnId) -> usize {
        0
    }

    /// The letter of the log's role column: `M` or `S`.
    fn log_role(&self) -> char;
}

impl Machine for Node {
    fn input(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        Self::input(self, now, input, effects);
    }

    fn end_of_batch(&mut self, now: Now, effects: &mut Effects) {
        Self::end_of_batch(self, now, effects);
    }

    fn next_deadline(&self) -> Option<Mono> {
        Self::next_deadline(self)
    }

    fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        Self::outbox(self, conn)
    }

    fn durable(&self) -> Ticket {
        Self::durable(self)
    }

    fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        Self::take_dirty(self, into);
    }

    fn config(&self) -> &Config {
        Self::config(self)
    }

    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }

    fn missing_bytes(&self, conn: ConnId) -> usize {
        Self::missing_bytes(self, conn)
    }

    fn log_role(&self) -> char {
        if self.is_replica() { 'S' } else { 'M' }
    }
}
