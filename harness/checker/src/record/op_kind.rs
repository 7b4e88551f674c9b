//! What clients do: the words of `f`, and what `value` and `answer` mean beside each.

use serde::{Deserialize, Serialize};

use super::Datum;

/// What an operation did. Elements are numbers, unique over the whole run; on the wire they are `e<number>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpKind {
    /// SADD of one element.
    Add,
    /// RPUSH of one element.
    Append,
    /// SMEMBERS or LRANGE of the whole key.
    Read,
    /// GET of a register; answer: its element.
    #[default]
    Get,
    /// SET; value: the element.
    Write,
    /// Compare-and-set; value: [from, to], from may be nil; answer: the element that was seen. It won iff that is from.
    Cas,
    /// `SET .. GET`; value: the element; answer: the element before.
    Swap,
    /// `SET .. PX`; value: [element, milliseconds].
    WriteFor,
    /// INCR; answer: the new count.
    Increment,
    /// DECR; answer: the new count.
    Decrement,
    /// GET of a counter; answer: the count, nil if it is absent.
    Count,
    /// GET of a counter from a replica, by a client that stays with it; answer: the count.
    CountAtReplica,
    /// LPUSH of one element; answer: the length.
    Enqueue,
    /// RPOP; answer: the element.
    Dequeue,
    /// LMOVE from the right end to the left end of another queue; value: that queue's key; answer: the element.
    Move,
    /// LRANGE of a whole queue; answer: its elements, the next to leave first.
    Rest,
    /// SET NX PX of a lock and INCR of its fence, in one script; value: [element, milliseconds]; answer: the fencing token,
    /// nil if somebody else has the lock.
    Acquire,
    /// Deletion of a lock, if it is still the holder's; value: [element, token]; answer: 1, or 0 if it was not.
    Release,
    /// A write to what a lock protects, by the holder of a token; value: the token; answer: 1, or 0 if it was refused
    /// because of a larger one.
    Guarded,
    /// Two accounts of one slot changed in MULTI/EXEC; value: [from, to, amount].
    Transfer,
    /// MGET of all accounts of a slot; answer: their balances.
    Balances,
    /// MULTI/EXEC of list appends and reads in a slot; value: [["append", key, element], ["r", key, nil] ..]; answer: the
    /// same with what the reads saw.
    TxnAppend,
    /// MULTI/EXEC of `SET .. GET`s and GETs in a slot; value: [["w", key, element], ["r", key, nil] ..]; answer: the same
    /// with what reads and writes saw.
    TxnRegister,
    /// MSET of several keys of a slot to one element; value: it.
    WriteAll,
    /// MGET of these; answer: their elements.
    GetAll,
    /// PUBLISH or SPUBLISH; value: the element; answer: how many were told.
    Publish,
    /// A message that a subscriber got; answer: the element.
    Message,
}

impl OpKind {
    /// The word of `f`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Append => "append",
            Self::Read => "read",
            Self::Get => "get",
            Self::Write => "write",
            Self::Cas => "cas",
            Self::Swap => "swap",
            Self::WriteFor => "write-for",
            Self::Increment => "increment",
            Self::Decrement => "decrement",
            Self::Count => "count",
            Self::CountAtReplica => "count-at-replica",
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
            Self::Move => "move",
            Self::Rest => "rest",
            Self::Acquire => "acquire",
            Self::Release => "release",
            Self::Guarded => "guarded",
            Self::Transfer => "transfer",
            Self::Balances => "balances",
            Self::TxnAppend => "txn-append",
            Self::TxnRegister => "txn-register",
            Self::WriteAll => "write-all",
            Self::GetAll => "get-all",
            Self::Publish => "publish",
            Self::Message => "message",
        }
    }

    /// True if it may change what keys hold. Messages are kept nowhere: servers pass them on in any state.
    pub fn writes(self) -> bool {
        !matches!(
            self,
            Self::Read
                | Self::Get
                | Self::Count
                | Self::CountAtReplica
                | Self::Rest
                | Self::Balances
                | Self::GetAll
                | Self::Publish
                | Self::Message
        )
    }

    /// True if what it writes stays for ever, so that the final read tells whether it was lost.
    pub fn grows(self) -> bool {
        matches!(self, Self::Add | Self::Append)
    }

    /// The (first) element that it writes, by its arguments: what names it on a replication link.
    pub fn element(self, asked: &Datum) -> Option<u64> {
        let nth = |at: usize| asked.items().get(at);
        match self {
            Self::Write | Self::Swap | Self::Enqueue | Self::WriteAll => asked.number(),
            Self::WriteFor | Self::Acquire => nth(0)?.number(),
            Self::Cas => nth(1)?.number(),
            Self::TxnAppend | Self::TxnRegister => asked
                .items()
                .iter()
                .map(Datum::items)
                .find(|micro| micro.first().and_then(Datum::text).is_some_and(|f| f != "r"))
                .and_then(|micro| micro.get(2)?.number()),
            _ => None,
        }
    }
}

impl std::fmt::Display for OpKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_history_has_the_same_word() {
        for kind in [OpKind::Add, OpKind::CountAtReplica, OpKind::TxnRegister, OpKind::WriteFor] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.name()));
        }
    }
}
