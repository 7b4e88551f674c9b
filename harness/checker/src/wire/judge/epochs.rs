//! Epochs never go back: on one connection, where frames are in the order in which they were made; and against what a
//! node had promised (a vote, a request, its own claim), which is on disk before it is on the wire.

use std::collections::BTreeMap;

use super::{Broken, Heard, Node, Rule, WireJudge};
use crate::record::Nanos;
use crate::timeline::seconds;

/// An epoch that a node stands for.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    epoch: u64,
    time: Nanos,
    line: u64,
}

impl Promise {
    fn raise(&mut self, epoch: u64, time: Nanos, line: u64) {
        if epoch > self.epoch {
            *self = Self { epoch, time, line };
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// currentEpoch of votes, requests and own claims.
    current: BTreeMap<Node, Promise>,
    /// configEpoch of own claims.
    config: BTreeMap<Node, Promise>,
}

impl WireJudge {
    pub(super) fn on_epochs(&mut self, heard: &Heard<'_>) {
        let now = &heard.now;
        if let Some(before) = &heard.before {
            self.count(Rule::EpochsBack);
            let lines = vec![before.line, heard.line];
            if now.current < before.current {
                self.went_back(heard, "currentEpoch", before.current, now.current, lines);
            } else if before.of.is_none() && now.of.is_none() && now.config < before.config {
                self.went_back(heard, "configEpoch", before.config, now.config, lines);
            }
        }
        self.held_to_promises(heard);
        let node = now.node;
        if now.claims() {
            self.epochs.config.entry(node).or_default().raise(now.config, heard.time, heard.line);
            self.epochs.current.entry(node).or_default().raise(now.config, heard.time, heard.line);
        }
        if matches!(heard.frame.kind.as_str(), "auth-req" | "auth-ack") {
            self.epochs.current.entry(node).or_default().raise(now.current, heard.time, heard.line);
        }
    }

    fn held_to_promises(&mut self, heard: &Heard<'_>) {
        let now = &heard.now;
        // A frame on the connection before was looked at already.
        let falls = heard.before.as_ref().is_none_or(|before| {
            now.current < before.current || (now.of.is_none() && now.config < before.config)
        });
        if !falls {
            return;
        }
        let promised = |of: &BTreeMap<Node, Promise>| {
            of.get(&now.node).copied().filter(|promise| promise.time < heard.made_after)
        };
        if let Some(promise) = promised(&self.epochs.current) {
            self.count(Rule::EpochsBack);
            if heard.before.is_none() && now.current < promise.epoch {
                self.went_back(
                    heard,
                    "currentEpoch",
                    promise.epoch,
                    now.current,
                    vec![promise.line, heard.line],
                );
                return;
            }
        }
        if let Some(promise) = promised(&self.epochs.config).filter(|_| now.claims())
            && heard.before.as_ref().is_none_or(|before| before.of.is_some())
            && now.config < promise.epoch
        {
            self.went_back(heard, "configEpoch", promise.epoch, now.config, vec![promise.line, heard.line]);
        }
    }

    fn went_back(&mut self, heard: &Heard<'_>, what: &str, was: u64, is: u64, lines: Vec<u64>) {
        let text = format!(
            "{} told {} a {what} of {is} at {}, after {was}",
            heard.from,
            heard.to,
            seconds(heard.time)
        );
        let nodes = vec![heard.from.to_owned()];
        self.broken(Rule::EpochsBack, Broken { text, from: heard.time, to: heard.time, nodes, lines });
    }
}
