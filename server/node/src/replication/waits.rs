//! Clients blocked in WAIT: who waits for how many replicas to have which offset.

use super::replicas::Replicas;
use super::{Action, Actions};
use crate::io::{ConnId, Mono};

/// All blocked WAITs of a node.
#[derive(Debug, Default)]
pub struct Waits {
    list: Vec<Wait>,
    ack_wanted: bool,
}

#[derive(Debug)]
struct Wait {
    conn: ConnId,
    offset: u64,
    needed: usize,
    deadline: Option<Mono>,
}

impl Waits {
    pub fn add(&mut self, conn: ConnId, offset: u64, needed: usize, deadline: Option<Mono>) {
        self.list.push(Wait { conn, offset, needed, deadline });
        self.ack_wanted = true;
    }

    /// Replicas should be asked how far they are.
    pub const fn want_ack(&mut self) {
        self.ack_wanted = true;
    }

    pub fn cancel(&mut self, conn: ConnId) {
        self.list.retain(|wait| wait.conn != conn);
    }

    /// Once after somebody began to wait: replicas should be asked how far they are.
    pub const fn take_ack_wanted(&mut self) -> bool {
        std::mem::replace(&mut self.ack_wanted, false)
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.list.iter().filter_map(|wait| wait.deadline).min()
    }

    /// A replica acknowledged: answers whoever has enough now.
    pub fn check(&mut self, replicas: &Replicas, actions: &mut Actions) {
        self.finish(replicas, actions, |wait, have| have >= wait.needed);
    }

    /// Answers those whose time is over.
    pub fn expire(&mut self, now: Mono, replicas: &Replicas, actions: &mut Actions) {
        self.finish(replicas, actions, |wait, _| wait.deadline.is_some_and(|deadline| deadline <= now));
    }

    /// This node is no master any more.
    pub fn abort(&mut self, actions: &mut Actions) {
        actions.extend(self.list.drain(..).map(|wait| Action::WaitAborted { conn: wait.conn }));
    }

    fn finish(&mut self, replicas: &Replicas, actions: &mut Actions, done: impl Fn(&Wait, usize) -> bool) {
        self.list.retain(|wait| {
            let have = replicas.count_acked(wait.offset);
            let done = done(wait, have);
            if done {
                actions.push(Action::WaitDone { conn: wait.conn, replicas: have });
            }
            !done
        });
    }
}
