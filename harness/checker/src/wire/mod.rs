//! The wire judge: whether the nodes keep the cluster bus protocol, from the frames that they sent each other. It
//! works on any server that speaks the bus of Redis 6.2 and 7.0, and has a decoder of its own, so that no mistake of
//! a node's codec is shared.
//!
//! ```text
//! bytes of a connection --FrameReader--> frames --Digest--> lines of bus.jsonl --WireJudge--> findings, counts
//! history's faults and stalls ------------------------StormFacts--> facts --------^
//! ```
//!
//! [`Digest`] writes down what a rule needs and nothing else: votes, failures and claims always, what headers and
//! gossip say only when it changes on that connection. [`WireJudge`] sees the lines only, so a stored run is judged as
//! it was when it ran, by [`LiveJudge`], which puts both in one order. What the judge keeps is bounded: it may watch for
//! a whole night.

mod digest;
mod frame;
mod judge;
mod live;
mod reader;
mod storm;
#[cfg(test)]
mod tests;

pub use digest::{Digest, Place};
pub use frame::{Body, Extension, Frame, FrameFault, Gossip, Header, Kind, decode};
pub use judge::{Fact, RULES, Rule, WireJudge, WireOptions};
pub use live::LiveJudge;
pub use reader::{FrameReader, StreamFault};
pub use storm::StormFacts;
