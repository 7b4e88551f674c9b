//! Stories: each rule on both sides of its boundary.

use super::bench::{Bench, FAIL, NT, PFAIL};
use crate::record::KeptVote;
use crate::timeline::SECOND;
use crate::wire::{Fact, Kind, Rule, WireJudge, WireOptions};

const FORCED: u8 = 2;

fn cut(from: &str, to: &str) -> Fact {
    Fact::Cut { from: from.into(), to: to.into() }
}

fn healed(from: &str, to: &str) -> Fact {
    Fact::Healed { from: from.into(), to: to.into() }
}

/// n1 dies, n4 is elected by n2 and n3.
fn failover() -> Bench {
    let mut bench = Bench::new();
    bench.n1_fails().campaign(4, 0).vote(2, 4).vote(3, 4).promote(4);
    bench
}

#[test]
fn a_failover_by_the_book_breaks_nothing_and_is_counted() {
    let mut bench = failover();
    bench.pass(3.0).redial_all(1).demote(1, 4);
    let wire = bench.fine();
    assert_eq!((wire.votes, wire.elections, wire.promotions, wire.failures), (2, 1, 1, 1));
    for rule in
        [Rule::OneVote, Rule::Entitled, Rule::Failure, Rule::Promotion, Rule::EqualEpochs, Rule::EpochsBack]
    {
        let count = &wire.rules[rule.name()];
        assert!(count.judged > 0 && count.unknown == 0 && count.broken == 0, "{}: {count:?}", rule.name());
    }
}

#[test]
fn a_calm_cluster_has_seen_no_vote() {
    let wire = Bench::new().fine();
    assert_eq!(wire.rules[Rule::OneVote.name()].judged, 0);
    assert_eq!(wire.rules[Rule::Promotion.name()].judged + wire.rules[Rule::Promotion.name()].unknown, 0);
}

#[test]
fn a_manual_failover_needs_no_failed_master_but_votes() {
    let mut bench = Bench::new();
    bench.campaign(4, FORCED).vote(2, 4).vote(3, 4).promote(4).demote(1, 4);
    assert_eq!(bench.fine().promotions, 1);
}

// One vote per voter and epoch.

#[test]
fn two_votes_in_one_epoch_are_one_too_many() {
    let mut bench = failover();
    let epoch = bench.peers[4].current;
    bench.pass(1.0).fail(3, 2, 3);
    bench.peers[6].current = epoch;
    bench.ask(6, 2, FORCED).vote(2, 6);
    let mut broken = bench.finish();
    broken.findings.retain(|finding| finding.what == Rule::OneVote.name());
    assert_eq!(broken.findings.len(), 1);
    assert!(
        broken.findings[0].text.starts_with("n2 voted for n4 and for n6 in epoch 4"),
        "{}",
        broken.findings[0].text
    );
}

#[test]
fn the_same_vote_sent_twice_and_a_vote_in_the_next_epoch_are_fine() {
    let mut bench = failover();
    bench.vote(2, 4).pass(5.0).campaign(5, FORCED).vote(3, 5).vote(4, 5);
    assert_eq!(bench.fine().votes, 4);
}

// Votes for the entitled.

// A vote is kept before it is given.

/// n2 is started again, on a nodes.conf of this id with this vote; it had voted in epoch 4.
fn n2_comes_back(id: &str, epoch: u64) -> Bench {
    let mut bench = failover();
    let kept = KeptVote { id: id.to_owned(), epoch };
    bench.fact(&Fact::Ended { node: "n2".into() }).pass(1.0).fact(&Fact::Started { node: "n2".into(), kept });
    bench
}

#[test]
fn a_vote_is_in_nodes_conf_when_its_voter_comes_back() {
    let id = Bench::new().peers[2].id.clone();
    let wire = n2_comes_back(&id, 4).fine();
    assert_eq!(wire.rules[Rule::VoteKept.name()].judged, 1);
    n2_comes_back(&id, 3).broken(Rule::VoteKept);
}

#[test]
fn a_file_that_tells_nothing_holds_no_vote() {
    n2_comes_back("", 0).broken(Rule::VoteKept);
}

#[test]
fn a_node_under_another_id_promised_nothing() {
    n2_comes_back(&"f".repeat(40), 0).fine();
}

#[test]
fn a_replica_has_no_vote() {
    let mut bench = Bench::new();
    bench.n1_fails().campaign(4, 0).vote(2, 4).vote(5, 4);
    assert!(bench.broken(Rule::Entitled).contains("n5 voted for n4 in epoch 4"), "a replica");
}

#[test]
fn a_vote_that_nobody_asked_for() {
    let mut bench = Bench::new();
    bench.n1_fails();
    bench.peers[4].current = 4;
    bench.ask(4, 3, 0).vote(3, 4).vote(2, 4);
    assert!(bench.broken(Rule::Entitled).contains("had not been asked"), "only n3 was");
}

#[test]
fn a_vote_in_an_epoch_that_was_not_asked_for() {
    let mut bench = Bench::new();
    bench.n1_fails().campaign(4, 0);
    bench.peers[2].current = 9;
    bench.vote(2, 4);
    assert!(bench.broken(Rule::Entitled).contains("in epoch 9"));
}

#[test]
fn a_vote_against_a_master_that_nobody_called_failed() {
    let mut bench = Bench::new();
    bench.campaign(4, 0).vote(2, 4);
    assert!(bench.broken(Rule::Entitled).contains("nothing had told it that n1 failed"));
}

#[test]
fn a_voters_own_fail_may_be_read_just_after_its_vote() {
    let mut bench = Bench::new();
    bench.gossips(3, 2, 1, PFAIL).campaign(4, 0).vote(2, 4).pass(0.1).fail(2, 3, 1);
    bench.fine();
}

#[test]
fn a_fail_flag_in_the_voters_gossip_is_enough() {
    let mut bench = Bench::new();
    bench.gossips(2, 5, 1, FAIL).campaign(4, 0).vote(2, 4).pass(5.0).ping(2, 3);
    bench.fine();
}

#[test]
fn a_failure_that_was_taken_back_is_none() {
    let mut bench = failover();
    bench.demote(1, 4).pass(1.0);
    // n2 has gossiped it failing, then, in a later epoch, fine.
    bench.gossips(2, 5, 1, FAIL).pass(3.0).campaign(6, FORCED).vote(2, 6).gossips(2, 5, 1, 0).pass(3.0);
    bench.peers[1].of = None;
    bench.peers[6].of = Some(1);
    bench.campaign(6, 0).vote(2, 6).pass(5.0).ping(2, 3);
    let wire = bench.finish();
    let texts: Vec<&str> = wire.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert!(matches!(texts[..], [text] if text.contains("nothing had told it that n1 failed")), "{texts:?}");
}

#[test]
fn a_claim_older_than_the_voters_own_gets_no_vote() {
    let mut bench = Bench::new();
    bench.n1_fails();
    bench.peers[2].slots = vec![(5000, 10922)];
    bench.tell_all(2).pass(1.5).campaign(4, 0).vote(2, 4);
    assert!(bench.broken(Rule::Entitled).contains("it has slots of the claim itself, with epoch 2"));
}

#[test]
fn a_claim_older_than_what_the_voter_was_told_gets_no_vote() {
    let mut bench = failover();
    // n7 of the story: n1's other replica, which has missed the failover.
    bench.pass(5.0);
    bench.peers[6].of = Some(1);
    bench.peers[6].slots = bench.peers[1].slots.clone();
    bench.peers[6].config = 1;
    bench.campaign(6, 0).vote(2, 6);
    assert!(bench.broken(Rule::Entitled).contains("n4 had told it of a claim with epoch 4"));
}

#[test]
fn a_voter_that_slept_may_not_have_read_the_newer_claim() {
    let mut bench = failover();
    bench.fact(&Fact::Paused { node: "n2".into() }).pass(5.0).fact(&Fact::Resumed { node: "n2".into() });
    bench.redial(4, 2).ping(4, 2);
    bench.peers[6].of = Some(1);
    bench.peers[6].slots = bench.peers[1].slots.clone();
    bench.peers[6].config = 1;
    bench.campaign(6, 0).vote(2, 6);
    bench.fine();
}

#[test]
fn a_vote_that_waited_behind_delayed_messages_was_given_before_it_was_read() {
    for delayed in [true, false] {
        let mut bench = failover();
        if delayed {
            bench.fact(&Fact::Cut { from: "n2".into(), to: "n6".into() });
        }
        bench.redial(4, 2).ping(4, 2).pass(5.0);
        bench.peers[6].of = Some(1);
        bench.peers[6].slots = bench.peers[1].slots.clone();
        bench.peers[6].config = 1;
        bench.campaign(6, 0).vote(2, 6);
        if delayed {
            bench.fine();
        } else {
            assert!(bench.broken(Rule::Entitled).contains("had told it of a claim"));
        }
    }
}

// FAIL by a majority.

#[test]
fn fail_without_any_report() {
    let mut bench = Bench::new();
    bench.fail(2, 3, 1).fail(2, 4, 1);
    let text = bench.broken(Rule::Failure);
    assert!(text.contains("1 of at least 2 masters held that: nobody and itself"), "{text}");
}

#[test]
fn one_report_and_the_own_opinion_make_a_majority_of_three() {
    let mut bench = Bench::new();
    bench.gossips(3, 2, 1, PFAIL).fail(2, 3, 1);
    assert_eq!(bench.fine().failures, 1);
}

#[test]
fn a_replica_counts_reports_only() {
    let mut bench = Bench::new();
    bench.gossips(3, 5, 1, PFAIL).gossips(2, 5, 1, PFAIL).fail(5, 6, 1);
    bench.fine();
    let mut bench = Bench::new();
    bench.gossips(3, 5, 1, PFAIL).fail(5, 6, 1);
    assert!(bench.broken(Rule::Failure).contains("1 of at least 2"));
}

#[test]
fn reports_of_replicas_and_to_others_do_not_count() {
    let mut bench = Bench::new();
    bench.gossips(6, 2, 1, PFAIL).gossips(3, 5, 1, PFAIL).fail(2, 3, 1);
    bench.broken(Rule::Failure);
}

#[test]
fn a_report_grows_old() {
    let mut bench = Bench::new();
    bench.gossips(3, 2, 1, PFAIL).pass(6.5).fail(2, 3, 1);
    bench.fine();
    let mut bench = Bench::new();
    bench.gossips(3, 2, 1, PFAIL).pass(8.5).fail(2, 3, 1);
    bench.broken(Rule::Failure);
}

#[test]
fn a_node_that_slept_reads_reports_late() {
    let mut bench = Bench::new();
    bench.fact(&Fact::Paused { node: "n2".into() }).gossips(3, 2, 1, PFAIL).pass(20.0);
    bench.fact(&Fact::Resumed { node: "n2".into() }).fail(2, 3, 1);
    bench.fine();
}

#[test]
fn a_fail_that_a_cut_held_is_older_than_it_looks() {
    let mut bench = Bench::new();
    bench.fact(&cut("n2", "n3")).gossips(3, 2, 1, PFAIL).pass(20.0).fact(&healed("n2", "n3")).fail(2, 3, 1);
    bench.fine();
}

#[test]
fn of_a_node_that_has_just_joined_nothing_is_known() {
    let mut bench = Bench::new();
    bench.say(2, 3, Kind::Meet, 0, &[], 0).fail(2, 3, 1);
    let wire = bench.fine();
    let count = &wire.rules[Rule::Failure.name()];
    assert_eq!((count.judged, count.unknown), (0, 1));
    assert_eq!(count.why, "the sender may just have joined, and known few masters");
}

// Promotion by a majority.

#[test]
fn one_vote_of_three_is_no_majority() {
    let mut bench = Bench::new();
    bench.n1_fails().campaign(4, 0).vote(2, 4).promote(4);
    let text = bench.broken(Rule::Promotion);
    assert!(text.contains("n2 voted for it in epoch 4 (a majority is 2)"), "{text}");
}

#[test]
fn votes_of_an_election_that_is_over_do_not_win_again() {
    // redis#8752 on 7.0.15: demoted and asked to fail over again within two node timeouts, it asks nobody.
    let mut bench = failover();
    bench.pass(1.0).campaign(1, FORCED).vote(2, 1).vote(3, 1);
    bench.peers[1].of = Some(4);
    bench.tell_all(1).promote(1).demote(4, 1);
    bench.peers[4].current = 4;
    bench.peers[4].config = 4;
    bench.peers[4].of = None;
    bench.redial(4, 2).redial(4, 3).redial(4, 5).redial(4, 6).ping(4, 1);
    let wire = bench.finish();
    let promotion: Vec<&str> = wire
        .findings
        .iter()
        .filter(|finding| finding.what == Rule::Promotion.name())
        .map(|finding| finding.text.as_str())
        .collect();
    assert!(
        matches!(promotion[..], [text] if text.contains("nobody had voted for it since")),
        "{promotion:?}"
    );
}

#[test]
fn a_takeover_needs_no_votes_and_may_be_recorded_after_it_was_seen() {
    let mut bench = Bench::new();
    bench.peers[4].current = 4;
    bench.promote(4).pass(0.5).fact(&Fact::Takeover { node: "n4".into() });
    let wire = bench.fine();
    assert_eq!((wire.promotions, wire.takeovers), (1, 1));
    let mut bench = Bench::new();
    bench.peers[4].current = 4;
    bench.promote(4).pass(0.5).fact(&Fact::Takeover { node: "n5".into() });
    bench.broken(Rule::Promotion);
}

#[test]
fn a_frame_held_since_before_the_promotion_is_no_second_one() {
    let mut bench = Bench::new();
    bench.n1_fails().fact(&cut("n4", "n5")).redial(4, 5).dial(4, 5);
    let stale = bench.peers[4].clone();
    bench.peers[4].current = 4;
    let asked = bench.peers[4].clone();
    bench.ask(4, 2, 0).ask(4, 3, 0).vote(2, 4).vote(3, 4);
    (bench.peers[4].of, bench.peers[4].config) = (None, 4);
    let promoted = bench.peers[4].clone();
    bench.ping(4, 2).ping(4, 3).ping(4, 6).pass(10.0).fact(&healed("n4", "n5"));
    for then in [stale, asked, promoted] {
        bench.peers[4] = then;
        bench.ping(4, 5);
    }
    assert_eq!(bench.fine().promotions, 1);
}

// Equal epochs.

#[test]
fn two_masters_that_claim_a_slot_with_one_epoch() {
    let mut bench = Bench::new();
    bench.peers[3].slots = vec![(10922, 16383)];
    bench.peers[3].config = 2;
    bench.redial_all(3).ping(3, 1);
    let wire = bench.finish();
    let equal: Vec<&str> = wire
        .findings
        .iter()
        .filter(|finding| finding.what == Rule::EqualEpochs.name())
        .map(|finding| finding.text.as_str())
        .collect();
    assert_eq!(equal, ["n2 and n3 both claimed slots 10922-10922 with epoch 2"]);
}

#[test]
fn an_epoch_that_was_bumped_alone_may_collide_for_a_moment() {
    let mut bench = failover();
    bench.peers[3].slots = vec![(0, 0), (10923, 16383)];
    (bench.peers[3].current, bench.peers[3].config) = (4, 4);
    bench.tell_all(3);
    let wire = bench.fine();
    assert_eq!(wire.collisions, 1);
}

#[test]
fn an_epoch_that_was_bumped_in_isolation_is_first_heard_with_the_claim() {
    let mut bench = Bench::new();
    bench.fact(&Fact::Bumped { node: "n3".into(), epoch: 2 });
    bench.peers[3].slots = vec![(10922, 16383)];
    bench.peers[3].config = 2;
    bench.redial_all(3).ping(3, 1);
    let wire = bench.finish();
    assert_eq!(wire.collisions, 1);
    assert!(wire.findings.iter().all(|finding| finding.what != Rule::EqualEpochs.name()));
}

/// As in storm 56801: a master is cut off and takes an epoch as an open slot is closed on it, by which another was elected.
#[test]
fn an_epoch_that_a_master_took_behind_a_cut_is_first_heard_on_a_new_connection() {
    let mut bench = failover();
    bench.peers[3].slots = vec![(0, 0), (10923, 16383)];
    (bench.peers[3].current, bench.peers[3].config) = (4, 4);
    bench.redial_all(3).tell_all(3);
    assert_eq!(bench.fine().collisions, 1);
}

// Epochs never go back.

#[test]
fn epochs_go_up_and_never_down_on_a_connection() {
    let mut bench = failover();
    bench.peers[2].current = 3;
    bench.ping(2, 4);
    assert_eq!(bench.broken(Rule::EpochsBack).split(" at ").next(), Some("n2 told n4 a currentEpoch of 3"));
    let mut bench = Bench::new();
    bench.peers[3].config = 1;
    bench.ping(3, 1);
    let text = bench.broken(Rule::EpochsBack);
    assert!(text.contains("a configEpoch of 1"), "{text}");
}

#[test]
fn a_replicas_config_epoch_is_its_masters_and_may_go_down() {
    let mut bench = Bench::new();
    bench.demote(6, 1);
    bench.fine();
}

#[test]
fn a_restarted_voter_stands_by_its_vote() {
    let mut bench = failover();
    bench.fact(&Fact::Ended { node: "n2".into() }).pass(3.0).redial_all(2);
    bench.peers[2].current = 3;
    bench.ping(2, 3);
    assert!(bench.broken(Rule::EpochsBack).contains("a currentEpoch of 3"));
}

#[test]
fn a_restarted_node_may_forget_an_epoch_that_it_only_heard_of() {
    let mut bench = failover();
    bench.peers[6].current = 4;
    bench.tell_all(6).fact(&Fact::Ended { node: "n6".into() }).pass(3.0).redial_all(6);
    bench.peers[6].current = 3;
    bench.tell_all(6);
    bench.fine();
}

/// n2 votes while this direction is cut; after the heal n6 hears what it had said before the vote, and then the newer.
fn n2_votes_behind_a_cut(from: &str, to: &str, held_s: f64) -> Bench {
    let mut bench = Bench::new();
    bench.n1_fails().fact(&cut(from, to)).redial(2, 6).dial(2, 6);
    let old = bench.peers[2].clone();
    bench.campaign(4, 0).vote(2, 4).vote(3, 4).pass(held_s).fact(&healed(from, to));
    let new = std::mem::replace(&mut bench.peers[2], old);
    bench.ping(2, 6);
    bench.peers[2] = new;
    bench.ping(2, 6);
    bench
}

#[test]
fn a_frame_that_was_held_may_be_older_than_the_vote() {
    n2_votes_behind_a_cut("n2", "n6", 5.0).fine();
}

/// Met in a run against redis-server 7.0.15: a connection dialled towards a node that cannot answer is held as a whole.
#[test]
fn a_connection_dialled_under_a_cut_of_the_other_direction_is_held_too() {
    n2_votes_behind_a_cut("n6", "n2", 1.5).fine();
}

/// Met in a run against redis-server 7.0.15 on a machine at load 40: the proxy read both frames and saw the connection only when
/// it ran again.
#[test]
fn what_is_seen_at_the_end_of_a_stall_may_be_as_old_as_its_beginning() {
    let mut bench = Bench::new();
    bench.n1_fails();
    let old = bench.peers[2].clone();
    bench.campaign(4, 0).vote(2, 4).vote(3, 4);
    let since = bench.now - SECOND;
    bench.pass(1.5).fact(&Fact::Stalled { since }).redial(2, 6);
    let new = std::mem::replace(&mut bench.peers[2], old);
    bench.ping(2, 6);
    bench.peers[2] = new;
    bench.ping(2, 6);
    bench.fine();
}

// What cannot be followed.

#[test]
fn a_line_without_its_first_is_left_out() {
    let mut bench = failover();
    let lines = std::mem::take(&mut bench.lines);
    let mut judge = WireJudge::new(WireOptions { node_timeout: NT });
    for (at, line) in lines.iter().enumerate().skip(20) {
        judge.on(at as u64 + 1, line);
    }
    assert!(judge.finish().findings.iter().all(|finding| finding.from > 60 * SECOND));
}
