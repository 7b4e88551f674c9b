//! Disk effects that are on their way, and what may be said before they are done.

use std::collections::BTreeMap;

use crate::io::{ConnId, Ticket};

/// What a disk effect is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// nodes.conf.
    ClusterConfig,
    /// An append to the append-only file, or its sync.
    Aof,
    /// dump.rdb; the client that waits for it, if it was SAVE.
    Rdb { waiting: Option<ConnId>, dirty: u64 },
    /// CONFIG REWRITE.
    ConfigFile { waiting: ConnId },
}

/// The tickets of a node.
#[derive(Debug, Default)]
pub struct Tickets {
    last: Ticket,
    /// Not done yet, or failed and not made good.
    open: BTreeMap<Ticket, Purpose>,
    /// The latest nodes.conf that was asked for.
    config: Ticket,
    /// The latest append that replies must wait for.
    appended: Ticket,
}

impl Tickets {
    /// The next ticket.
    pub fn issue(&mut self, purpose: Purpose) -> Ticket {
        self.last.0 += 1;
        if purpose == Purpose::ClusterConfig {
            self.config = self.last;
        }
        self.open.insert(self.last, purpose);
        self.last
    }

    /// Everything up to this one is done.
    pub fn durable(&self) -> Ticket {
        // What only replaces a file for later is no promise to anybody.
        let promise = |purpose: &Purpose| matches!(purpose, Purpose::ClusterConfig | Purpose::Aof);
        let first = self.open.iter().find(|(_, purpose)| promise(purpose));
        first.map_or(self.last, |(ticket, _)| Ticket(ticket.0 - 1))
    }

    /// The latest nodes.conf that was asked for.
    pub const fn config(&self) -> Ticket {
        self.config
    }

    /// Replies wait for this append from now on.
    pub const fn gate_replies(&mut self, ticket: Ticket) {
        self.appended = ticket;
    }

    /// What any reply must wait for: a value that is not durable yet must not be shown either.
    pub const fn reply_gate(&self) -> Ticket {
        self.appended
    }

    /// A disk effect succeeded. One nodes.conf makes good all earlier ones that failed.
    pub fn done(&mut self, ticket: Ticket) -> Option<Purpose> {
        let purpose = self.open.remove(&ticket)?;
        if purpose == Purpose::ClusterConfig {
            self.open.retain(|other, purpose| *other > ticket || *purpose != Purpose::ClusterConfig);
        }
        Some(purpose)
    }

    /// A disk effect failed. A nodes.conf stays open: nothing that depends on it may leave.
    pub fn failed(&mut self, ticket: Ticket) -> Option<Purpose> {
        let purpose = self.open.get(&ticket)?.clone();
        if purpose != Purpose::ClusterConfig {
            self.open.remove(&ticket);
        }
        Some(purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_a_failed_nodes_conf_until_a_later_one_is_written() {
        let mut tickets = Tickets::default();
        let first = tickets.issue(Purpose::ClusterConfig);
        let append = tickets.issue(Purpose::Aof);
        assert_eq!(tickets.durable(), Ticket(0));
        assert_eq!(tickets.failed(first), Some(Purpose::ClusterConfig));
        tickets.done(append);
        assert_eq!(tickets.durable(), Ticket(0));
        let second = tickets.issue(Purpose::ClusterConfig);
        assert_eq!(tickets.durable(), Ticket(0));
        tickets.done(second);
        assert_eq!(tickets.durable(), second);
    }

    #[test]
    fn a_slow_dump_holds_nobody_up() {
        let mut tickets = Tickets::default();
        tickets.issue(Purpose::Rdb { waiting: None, dirty: 0 });
        let append = tickets.issue(Purpose::Aof);
        tickets.done(append);
        assert_eq!(tickets.durable(), append);
    }
}
