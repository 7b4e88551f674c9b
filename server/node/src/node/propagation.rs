//! What was executed goes on to replicas, to the append-only file, and to those who listen for events of keys.

use super::Node;
use crate::command::{Notification, PropagatedCommand, class};
use crate::config::Key;

impl Node {
    /// Hands what was executed on to replicas and file; more than one command as a transaction.
    pub(super) fn hand_on(&mut self, as_one: bool) {
        // What a script has done so far is told when it has ended.
        if self.scripts.is_under_way() {
            return;
        }
        self.publish_notifications();
        if self.db.propagated.is_empty() {
            return;
        }
        let propagated = std::mem::take(&mut self.db.propagated);
        let (for_replicas, in_file) = (self.replication.wants_commands(), self.files.aof().is_some());
        // What nobody takes does not count (a script's `redis.set_repl`, PUBLISH without replicas).
        let taken = |command: &PropagatedCommand<'_>| {
            for_replicas && command.for_replicas || in_file && command.in_file
        };
        let wrap = as_one && propagated.len() > 1 && propagated.iter().filter(taken).nth(1).is_some();
        if wrap {
            // The SELECT that the first command needs stands before the transaction.
            let first = propagated.iter().next().map(|command| command.db);
            self.replication.propagate(first, b"*1\r\n$5\r\nMULTI\r\n");
            self.files.append(first, b"*1\r\n$5\r\nMULTI\r\n", None);
        }
        let annotate = self.config.flag(Key::AofTimestampEnabled).then_some(self.now.wall);
        for command in propagated.iter() {
            if command.for_replicas {
                self.replication.propagate(Some(command.db), command.bytes);
            }
            if command.in_file {
                self.files.append(Some(command.db), command.bytes, annotate);
            }
        }
        if wrap {
            self.replication.propagate(None, b"*1\r\n$4\r\nEXEC\r\n");
            self.files.append(None, b"*1\r\n$4\r\nEXEC\r\n", None);
        }
        self.db.propagated = propagated;
        self.db.propagated.clear();
    }

    /// Tells subscribers what happened to keys.
    pub(super) fn publish_notifications(&mut self) {
        let wanted = self.db.notifications.wanted;
        if wanted == 0 {
            return;
        }
        for Notification { db, event, key } in self.db.take_notifications() {
            if wanted & class::KEYSPACE != 0 {
                let channel = [format!("__keyspace@{db}__:").as_bytes(), &key].concat();
                self.deliver(false, &channel, event.as_bytes());
            }
            if wanted & class::KEYEVENT != 0 {
                self.deliver(false, format!("__keyevent@{db}__:{event}").as_bytes(), &key);
            }
        }
    }
}
