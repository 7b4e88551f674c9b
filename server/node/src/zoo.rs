//! The zoo: bugs put into the node on purpose, one at a time, to learn whether the harness finds them. A normal build
//! (without the feature `zoo`) holds none of them: [`Zoo`] is empty there and its question is answered no when it is
//! compiled. In a build that has them one is active only if a process is started with the hidden argument `--zoo NAME`.
//!
//! [`SPECIMENS`] is the one table of them: name, what was changed, where such a bug was seen, and the check that must
//! fire. The numbers F-.. and Z.. are those of the catalogue of historic failover bugs that the project was planned
//! with; where the thread of the real bug is public its number stands beside.

/// One bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    RestartEmpty,
    MinorityServes,
    IgnoresHigherEpoch,
    FailoverWithoutCatchingUp,
    OldVotesCount,
    ContinuesPastFork,
    InboundHidesDeadLink,
    OldMessagesBelieved,
    CollisionByIdAlone,
    SlotLossNotReplicated,
    VotesTwice,
    ForgetsItsVote,
    ElectedByHalf,
    FailsAlone,
    EpochStaysAtPromotion,
    SubReplicaStays,
    FailNeverCleared,
    KeepsIdAtPromotion,
    ResyncKeepsData,
    AcksBeforeItHas,
    RepliesBeforeFsync,
    PromotesStaleData,
    TellsSourceFirst,
    NoRankNoDelay,
    DeletesOnSend,
    FailoverWithoutPause,
    OldOffsetSatisfies,
    ImportKeepsEpoch,
    PauseEndsEarly,
    ReplicasReport,
    AnyHistoryContinues,
    VotesForStaleClaims,
    ForgottenReturns,
    WaitDoesNotWait,
    VotesWhileMasterIsUp,
    RumourFails,
    ForceAsksNobody,
    TakeoverKeepsEpoch,
    LogTextDiffers,
    TimerOnePercentLonger,
}

/// A bug's place in the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Specimen {
    /// As it is given to `--zoo`.
    pub name: &'static str,
    pub mutation: Mutation,
    /// Its number, and the public thread of the real bug if there is one.
    pub source: &'static str,
    /// What is wrong with the node.
    pub about: &'static str,
    /// The check that must fire; empty: none may, it is harmless.
    pub fires: &'static str,
}

/// All of them, about from easy to hard; the harmless ones last.
pub const SPECIMENS: &[Specimen] = &[
    specimen(
        "restart-empty",
        Mutation::RestartEmpty,
        "Z1, F-21",
        "starts with empty data though it has a file",
        "lost-writes",
    ),
    specimen(
        "minority-serves",
        Mutation::MinorityServes,
        "Z2, F-22",
        "a master in a minority goes on serving",
        "split-brain, lost-writes",
    ),
    specimen(
        "ignores-higher-epoch",
        Mutation::IgnoresHigherEpoch,
        "Z4, F-02",
        "a master does not give up slots to a higher epoch",
        "split-brain, convergence",
    ),
    specimen(
        "votes-twice",
        Mutation::VotesTwice,
        "F-08",
        "grants any number of votes in one epoch",
        "invariants",
    ),
    specimen(
        "elected-by-half",
        Mutation::ElectedByHalf,
        "F-01",
        "half of the masters is a majority",
        "invariants",
    ),
    specimen("fails-alone", Mutation::FailsAlone, "F-15", "one suspicion makes a FAIL", "invariants"),
    specimen(
        "epoch-stays",
        Mutation::EpochStaysAtPromotion,
        "F-06",
        "an elected master keeps its old config epoch",
        "invariants, convergence",
    ),
    specimen(
        "resync-keeps-data",
        Mutation::ResyncKeepsData,
        "F-34",
        "what a full resync brings is not put in place",
        "convergence",
    ),
    specimen(
        "continues-past-fork",
        Mutation::ContinuesPastFork,
        "Z13, F-39",
        "a replica may continue from beyond the fork of histories",
        "convergence",
    ),
    specimen(
        "keeps-id-at-promotion",
        Mutation::KeepsIdAtPromotion,
        "F-36, redis#4316",
        "a promoted node goes on under the old replication id",
        "convergence",
    ),
    specimen(
        "acks-before-it-has",
        Mutation::AcksBeforeItHas,
        "F-40",
        "a replica acknowledges a kilobyte more than it has",
        "lost-writes",
    ),
    specimen(
        "replies-before-fsync",
        Mutation::RepliesBeforeFsync,
        "F-48",
        "with appendfsync always replies do not wait for the disk",
        "lost-writes",
    ),
    specimen("forgets-its-vote", Mutation::ForgetsItsVote, "F-48", "nodes.conf holds no vote", "invariants"),
    specimen(
        "promotes-stale-data",
        Mutation::PromotesStaleData,
        "F-17",
        "a replica that was cut off for long is elected all the same",
        "invariants, lost-writes",
    ),
    specimen(
        "sub-replica-stays",
        Mutation::SubReplicaStays,
        "F-12",
        "a replica of a replica does not climb",
        "convergence",
    ),
    specimen(
        "fail-never-cleared",
        Mutation::FailNeverCleared,
        "F-02",
        "a node that is back stays FAIL",
        "convergence",
    ),
    specimen(
        "old-messages-believed",
        Mutation::OldMessagesBelieved,
        "Z17, F-10, F-11",
        "roles and slots are taken from messages that are older than what is known",
        "convergence, invariants",
    ),
    specimen(
        "old-votes-count",
        Mutation::OldVotesCount,
        "Z11, F-01, redis#8753",
        "votes of an election that is over count in the next",
        "invariants",
    ),
    specimen(
        "inbound-hides-dead-link",
        Mutation::InboundHidesDeadLink,
        "Z15, F-47b",
        "traffic on a peer's link keeps my dead link to it",
        "convergence, invariants",
    ),
    specimen(
        "collision-by-id-alone",
        Mutation::CollisionByIdAlone,
        "Z19, F-06, F-07",
        "equal claims are decided by node id alone",
        "lost-writes, invariants",
    ),
    specimen(
        "failover-without-catching-up",
        Mutation::FailoverWithoutCatchingUp,
        "Z6, F-44",
        "a manual failover does not wait for the master's offset",
        "lost-writes",
    ),
    specimen(
        "slot-loss-not-replicated",
        Mutation::SlotLossNotReplicated,
        "Z10, F-27",
        "keys of a lost slot are deleted without telling the replicas",
        "convergence",
    ),
    specimen(
        "no-rank-no-delay",
        Mutation::NoRankNoDelay,
        "Z7, F-08",
        "replicas ask for votes at once, whatever they lack",
        "invariants",
    ),
    specimen(
        "migrate-deletes-on-send",
        Mutation::DeletesOnSend,
        "F-29, redis#1765",
        "MIGRATE deletes a key when it has sent it, whatever is answered",
        "lost-writes",
    ),
    specimen(
        "failover-without-pause",
        Mutation::FailoverWithoutPause,
        "F-45",
        "a master does not pause its writers for a manual failover",
        "lost-writes",
    ),
    specimen(
        "tells-source-first",
        Mutation::TellsSourceFirst,
        "Z5, F-23, redis#7116",
        "slotstorm's resharder tells the source and the others of the new owner before the owner itself",
        "convergence",
    ),
    specimen(
        "old-offset-satisfies",
        Mutation::OldOffsetSatisfies,
        "F-44, redis#8651",
        "a replica that was failed over by hand before waits for that time's offset",
        "lost-writes",
    ),
    specimen(
        "import-keeps-epoch",
        Mutation::ImportKeepsEpoch,
        "F-07, redis@a1349728e",
        "a slot's new owner takes it without a new config epoch",
        "invariants, convergence, lost-writes",
    ),
    specimen(
        "pause-ends-early",
        Mutation::PauseEndsEarly,
        "F-45, redis#9618",
        "a master's pause for a manual failover ends before the replica has caught up",
        "lost-writes",
    ),
    specimen(
        "replicas-report",
        Mutation::ReplicasReport,
        "F-15",
        "reports of replicas count for a FAIL",
        "invariants",
    ),
    specimen(
        "any-history-continues",
        Mutation::AnyHistoryContinues,
        "F-36, redis#4316",
        "a partial resync asks for offsets only, not for the history that they are of",
        "convergence, lost-writes",
    ),
    specimen(
        "votes-for-stale-claims",
        Mutation::VotesForStaleClaims,
        "F-06, F-17",
        "voters do not look whether a slot has a newer owner than the candidate knows",
        "invariants",
    ),
    specimen(
        "forgotten-returns",
        Mutation::ForgottenReturns,
        "F-55, redis#3948",
        "a node that was told to forget another hears of it again and takes it back",
        "invariants",
    ),
    specimen(
        "wait-does-not-wait",
        Mutation::WaitDoesNotWait,
        "F-40, redis#12439",
        "WAIT counts the replicas that are connected, whatever they have",
        "lost-writes",
    ),
    specimen(
        "votes-while-master-is-up",
        Mutation::VotesWhileMasterIsUp,
        "F-15",
        "voters do not look whether the candidate's master has failed",
        "invariants",
    ),
    specimen(
        "rumour-fails",
        Mutation::RumourFails,
        "F-15, redis@8f7bf2841",
        "who is told of a suspicion takes it for a FAIL",
        "invariants",
    ),
    specimen(
        "force-asks-nobody",
        Mutation::ForceAsksNobody,
        "F-01, F-44",
        "CLUSTER FAILOVER FORCE takes over without votes",
        "invariants",
    ),
    specimen(
        "takeover-keeps-epoch",
        Mutation::TakeoverKeepsEpoch,
        "F-06, valkey#974",
        "CLUSTER FAILOVER TAKEOVER takes no new config epoch",
        "invariants, convergence, split-brain",
    ),
    specimen("inert-log-text", Mutation::LogTextDiffers, "control", "another text in the log", ""),
    specimen(
        "inert-timer",
        Mutation::TimerOnePercentLonger,
        "control",
        "elections start a hundredth later",
        "",
    ),
];

const fn specimen(
    name: &'static str,
    mutation: Mutation,
    source: &'static str,
    about: &'static str,
    fires: &'static str,
) -> Specimen {
    Specimen { name, mutation, source, about, fires }
}

/// Which bug this node has: none, in a normal build for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zoo(#[cfg(feature = "zoo")] Option<Mutation>);

impl Zoo {
    /// True in a build that can have bugs.
    pub const IS_OPEN: bool = cfg!(feature = "zoo");

    /// The bug of this name; none if there is no such bug, or this build has none.
    #[cfg(feature = "zoo")]
    pub fn named(name: &str) -> Option<Self> {
        let found = SPECIMENS.iter().find(|specimen| specimen.name == name)?;
        Some(Self(Some(found.mutation)))
    }

    /// A normal build has no bug of any name.
    #[cfg(not(feature = "zoo"))]
    pub const fn named(_name: &str) -> Option<Self> {
        None
    }

    /// The bug that the first two arguments of a server name (`--zoo NAME`), which are taken away; none if they say
    /// something else. A normal build knows no such argument.
    ///
    /// # Errors
    /// There is no bug of this name.
    pub fn taken_from(args: &mut Vec<String>) -> Result<Self, String> {
        if !Self::IS_OPEN || args.first().is_none_or(|word| word != "--zoo") {
            return Ok(Self::default());
        }
        let name = args.get(1).cloned().unwrap_or_default();
        args.drain(..args.len().min(2));
        Self::named(&name).ok_or_else(|| format!("the zoo has no bug called '{name}'"))
    }

    /// Whether the node has this bug.
    #[cfg(feature = "zoo")]
    pub fn has(self, mutation: Mutation) -> bool {
        self.0 == Some(mutation)
    }

    /// Never in a normal build.
    #[cfg(not(feature = "zoo"))]
    pub const fn has(self, _mutation: Mutation) -> bool {
        false
    }

    /// The bug's name, for INFO.
    pub fn name(self) -> Option<&'static str> {
        SPECIMENS.iter().find(|specimen| self.has(specimen.mutation)).map(|specimen| specimen.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_specimen_has_a_name_of_its_own_and_a_normal_build_has_none_of_them() {
        for (at, specimen) in SPECIMENS.iter().enumerate() {
            assert_eq!(SPECIMENS.iter().position(|other| other.name == specimen.name), Some(at));
            let found = Zoo::named(specimen.name);
            assert_eq!(found.is_some(), Zoo::IS_OPEN);
            assert_eq!(found.and_then(Zoo::name), Zoo::IS_OPEN.then_some(specimen.name));
        }
        assert_eq!(Zoo::default().name(), None);
    }
}
