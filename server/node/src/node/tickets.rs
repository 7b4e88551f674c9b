//! Disk effects that are on their way, and what may be said before they are done.

use std::collections::BTreeMap;

use crate::io::{ConnId, Ticket};

/// What a disk effect of the glue's own is for. (The append-only file keeps its own books.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// nodes.conf.
    ClusterConfig,
    /// CONFIG SET dir; the client that waits for it.
    ChangeDir { waiting: Option<ConnId> },
    /// CONFIG REWRITE.
    ConfigFile { waiting: ConnId },
    /// ACL SAVE.
    AclFile { waiting: ConnId },
}

/// The tickets of a node: issued and completed in one order. (A sync beside other work may end late; nothing waits for it.)
#[derive(Debug, Default)]
pub struct Tickets {
    /// The last one issued, by whomever.
    pub last: Ticket,
    /// The last one that came back.
    done: Ticket,
    open: BTreeMap<Ticket, Purpose>,
    /// The first nodes.conf that failed and was not made good.
    stuck: Option<Ticket>,
    /// An append that failed where none may: the node ends, and what waits for it is never said.
    lost: Option<Ticket>,
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
        let before_failed = [self.stuck, self.lost].into_iter().flatten().map(|failed| Ticket(failed.0 - 1));
        before_failed.fold(self.done, Ticket::min)
    }

    /// This append failed, and will not be tried again.
    pub fn lose(&mut self, append: Ticket) {
        self.lost.get_or_insert(append);
    }

    /// The latest nodes.conf that was asked for.
    pub const fn config(&self) -> Ticket {
        self.config
    }

    /// Replies wait for this append from now on.
    pub fn gate_replies(&mut self, ticket: Ticket) {
        self.appended = self.appended.max(ticket);
    }

    /// What any reply must wait for: a value that is not durable yet must not be shown either.
    pub const fn reply_gate(&self) -> Ticket {
        self.appended
    }

    /// A disk effect ended, well or not. A nodes.conf that failed holds up all that follows until a later one
    /// succeeds.
    pub fn ended(&mut self, ticket: Ticket, well: bool) -> Option<Purpose> {
        self.done = self.done.max(ticket);
        let purpose = self.open.remove(&ticket)?;
        if purpose == Purpose::ClusterConfig {
            if well {
                self.stuck = self.stuck.filter(|stuck| *stuck > ticket);
            } else {
                self.stuck.get_or_insert(ticket);
            }
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
        assert_eq!(tickets.durable(), Ticket(0));
        assert_eq!(tickets.ended(first, false), Some(Purpose::ClusterConfig));
        let other = tickets.issue(Purpose::ChangeDir { waiting: None });
        tickets.ended(other, true);
        assert_eq!(tickets.durable(), Ticket(0));
        let second = tickets.issue(Purpose::ClusterConfig);
        assert_eq!(tickets.durable(), Ticket(0));
        tickets.ended(second, true);
        assert_eq!(tickets.durable(), second);
    }
}
