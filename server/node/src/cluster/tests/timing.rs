//! `failover-timing`: how soon a dead master is replaced, that nobody is replaced who is alive, and that haste
//! gives no epoch two winners.

use std::collections::{BTreeMap, BTreeSet};

use super::super::bus::{Body, PacketType};
use super::bench::Bench;
use super::*;
use crate::random::Random;

const NT: u64 = 2000;

fn set_timing(bench: &mut Bench, timing: FailoverTiming) {
    for node in 0..bench.nodes.len() {
        bench.set(node, |settings| settings.timing = timing);
    }
}

/// Seen by anyone who runs: node `other` is PFAIL or FAIL.
fn anyone_suspects(bench: &Bench, other: usize) -> bool {
    let id = bench.id(other);
    let runs = |n: &usize| *n != other && bench.nodes[*n].cluster.is_some();
    (0..bench.nodes.len()).filter(runs).any(|n| bench.view(n, id).suspected())
}

/// The delays in a node's lines "Start of election delayed for N milliseconds".
fn election_delays(bench: &Bench, node: usize) -> Vec<u64> {
    let delay =
        |line: &String| line.strip_prefix("Start of election delayed for ")?.split(' ').next()?.parse().ok();
    bench.nodes[node].log.iter().filter_map(|(_, line)| delay(line)).collect()
}

/// A cluster that has run for `age` ms longer, so that a fault meets the timers at another phase.
fn aged(masters: usize, replicas: usize, age: u64) -> Bench {
    let mut bench = Bench::cluster(masters, replicas, NT);
    bench.run(age);
    bench
}

// ---- How soon

#[test]
fn a_killed_master_is_replaced_within_1_1_node_timeouts_at_every_phase_of_the_timers() {
    for phase in 0..40 {
        let mut bench = aged(3, 1, phase * 53);
        bench.kill(0);
        let took = bench.until(NT * 3, "promotion", |b| !b.at(3).i_am_replica());
        assert!((NT..=NT * 11 / 10).contains(&took), "phase {phase}: {took} ms");
    }
}

#[test]
fn a_master_that_falls_silent_without_a_word_is_replaced_within_1_2_node_timeouts() {
    // No connection ends: only the pings that are left unanswered tell.
    for phase in 0..20 {
        let mut bench = aged(3, 1, phase * 53);
        bench.isolate(0);
        let took = bench.until(NT * 3, "promotion", |b| !b.at(3).i_am_replica());
        assert!((NT * 9 / 10..=NT * 12 / 10).contains(&took), "phase {phase}: {took} ms");
    }
}

#[test]
fn redis_timing_is_the_originals_timeline() {
    let mut pfails = BTreeSet::new();
    for phase in 0..12 {
        let mut bench = aged(3, 1, 0);
        set_timing(&mut bench, FailoverTiming::Redis);
        bench.run(NT * 2 + phase * 91);
        let dead = bench.id(0);
        bench.kill(0);
        let pfail = bench.until(NT * 2, "PFAIL", |b| b.view(1, dead).suspected());
        // Up to NT/2 until the next ping, NT of silence, a cron's grain for the ping and for the verdict.
        assert!((NT..=NT * 3 / 2 + 250).contains(&pfail), "PFAIL after {pfail} ms");
        pfails.insert(pfail);
        let fail = bench.until(NT, "FAIL", |b| b.view(3, dead).failed());
        let promoted = bench.until(NT, "promotion", |b| !b.at(3).i_am_replica());
        let delays = election_delays(&bench, 3);
        assert!(matches!(delays[..], [delay] if (500..1000).contains(&delay)), "{delays:?}");
        assert!((500..1250).contains(&promoted), "{fail} ms, then {promoted} ms");
    }
    assert!(pfails.len() > 3, "the ping's phase shows: {pfails:?}");
}

#[test]
fn the_timing_follows_the_setting_while_the_node_runs() {
    let mut bench = aged(3, 1, 0);
    assert_eq!(bench.at(1).ping_period_ms(), NT / 10);
    set_timing(&mut bench, FailoverTiming::Redis);
    assert_eq!(bench.at(1).ping_period_ms(), NT / 2);
    set_timing(&mut bench, FailoverTiming::Fast);
    bench.kill(0);
    let took = bench.until(NT * 3, "promotion", |b| !b.at(3).i_am_replica());
    assert!(took <= NT * 12 / 10, "{took} ms");
}

#[test]
fn either_timing_wins_among_voters_of_the_other() {
    for fast in [[true, false, false, true, false, true], [false, true, true, false, true, false]] {
        let mut bench = aged(3, 1, 0);
        for (node, fast) in fast.into_iter().enumerate() {
            let timing = if fast { FailoverTiming::Fast } else { FailoverTiming::Redis };
            bench.set(node, |settings| settings.timing = timing);
        }
        bench.run(NT * 2);
        let before = bench.at(3).current_epoch;
        bench.kill(0);
        bench.until(NT * 3, "promotion", |b| !b.at(3).i_am_replica());
        assert_eq!(bench.at(3).nodes.me().config_epoch, before + 1, "in the first election");
    }
}

#[test]
fn pings_are_bounded_per_second_and_never_rarer_than_the_originals() {
    // 2 peers: NT/10. 30 peers: 10 ms each. 250 peers: the original's NT/2.
    for (nodes, period) in [(3, NT / 10), (31, 300), (251, NT / 2)] {
        let mut bench = Bench::strangers(1, NT);
        bench.with(0, |cluster, turn| {
            for _ in 1..nodes {
                let id = NodeId::random(&mut cluster.random);
                cluster.nodes.add(Node::new(id, NodeFlags::MASTER | NodeFlags::NOADDR, turn.now.mono));
            }
        });
        assert_eq!(bench.at(0).ping_period_ms(), period, "{nodes} nodes");
    }
    let mut bench = aged(3, 1, 0);
    bench.record = true;
    bench.run(10_000);
    let pings = bench.sent(1, PacketType::Ping).len();
    // 5 peers at 5 a second, and one a second at random.
    assert!((200..=310).contains(&pings), "{pings} pings in 10 s");
}

// ---- Who is alive stays

#[test]
fn a_peer_that_answers_within_the_node_timeout_is_never_suspected() {
    for phase in 0..20 {
        let mut bench = aged(3, 1, phase * 53);
        for other in 1..6 {
            bench.held.insert((0, other));
        }
        // Silent for NT less the wire's ms; released in time.
        for _ in 0..(NT - 2) / 10 {
            bench.run(10);
            assert!(!anyone_suspects(&bench, 0));
        }
        bench.release();
        bench.run(NT * 2);
        assert!(!anyone_suspects(&bench, 0), "phase {phase}");
        assert!((0..6).all(|n| bench.at(n).is_ok()));
    }
}

#[test]
fn time_for_which_i_was_kept_from_running_is_no_silence_of_others() {
    // Node 0's words come 250 ms too late: 1, who ran all the time, suspects it. Had 1 been stopped for 400 of
    // these milliseconds it could not have known.
    let suspects = |stopped_ms: u64| {
        let mut bench = aged(3, 0, 0);
        bench.held.insert((0, 1));
        bench.run(NT / 2);
        bench.nodes[1].paused = true;
        bench.run(stopped_ms);
        bench.resume(1);
        let dead = bench.id(0);
        let mut suspected = false;
        for _ in 0..(NT / 2 + 250 - stopped_ms) / 10 {
            bench.run(10);
            suspected |= bench.view(1, dead).suspected();
        }
        suspected
    };
    assert!(suspects(0));
    assert!(!suspects(400));
}

#[test]
fn own_stalls_do_not_hide_the_dead_for_longer_than_the_original_takes() {
    let mut bench = aged(3, 0, 0);
    let dead = bench.id(0);
    bench.isolate(0);
    let start = bench.now_ms;
    // 1 runs for 10 ms of every 110.
    while !bench.view(1, dead).suspected() {
        bench.nodes[1].paused = true;
        bench.run(100);
        bench.resume(1);
        bench.run(10);
        assert!(bench.now_ms < start + NT * 2, "still not suspected");
    }
    let took = bench.now_ms - start;
    assert!(took <= NT * 3 / 2 + 110, "{took} ms");
}

#[test]
fn a_node_that_was_stopped_takes_the_originals_time_when_it_hears_a_fail() {
    let mut bench = aged(3, 1, 0);
    bench.nodes[3].paused = true;
    bench.run(NT);
    let sole_heir = bench.id(3);
    assert!(!bench.view(0, sole_heir).failed());
    bench.resume(3);
    bench.run(50);
    let dead = bench.id(0);
    bench.inject(1, 3, |packet| packet.body = Body::Fail { failed: Some(dead) });
    bench.run(20);
    let delays = election_delays(&bench, 3);
    assert!(matches!(delays[..], [delay] if (500..1000).contains(&delay)), "{delays:?}");
}

#[test]
fn a_fail_that_the_voters_do_not_share_elects_nobody() {
    // As the original: one bogus or old FAIL is believed by who hears it, and voters refuse.
    let mut bench = aged(3, 1, 0);
    let alive = bench.id(0);
    bench.inject(1, 3, |packet| packet.body = Body::Fail { failed: Some(alive) });
    bench.run(NT * 4);
    assert!(bench.at(3).i_am_replica() && !bench.at(0).i_am_replica());
}

// ---- Order

#[test]
fn siblings_with_equal_data_never_split_the_votes() {
    for phase in 0..30 {
        let mut bench = aged(3, 2, phase * 37);
        let before = bench.at(3).current_epoch;
        let first = if bench.id(3) < bench.id(6) { 3 } else { 6 };
        bench.record = true;
        bench.kill(0);
        let took = bench.until(NT * 3, "promotion", |b| !b.at(first).i_am_replica());
        assert!(took <= NT * 11 / 10, "phase {phase}: {took} ms");
        bench.run(NT * 2);
        assert_eq!(bench.at(first).current_epoch, before + 1, "phase {phase}: one election");
        let asked: BTreeSet<usize> =
            [3, 6].into_iter().filter(|n| !bench.sent(*n, PacketType::AuthRequest).is_empty()).collect();
        assert_eq!(asked, BTreeSet::from([first]), "phase {phase}");
    }
}

#[test]
fn more_data_goes_before_a_smaller_id_and_no_later() {
    for phase in 0..20 {
        let mut bench = aged(3, 2, phase * 37);
        let (small, great) = if bench.id(3) < bench.id(6) { (3, 6) } else { (6, 3) };
        bench.nodes[0].facts.offset = 1000;
        bench.run(NT / 2);
        bench.kill(0);
        bench.run(100);
        // The last bytes reached only one of them; their offsets are told when the election is called.
        bench.nodes[great].facts.offset = 1001;
        let took = bench.until(NT * 3, "promotion", |b| (3..=6).step_by(3).any(|n| !b.at(n).i_am_replica()));
        assert!(!bench.at(great).i_am_replica() && bench.at(small).i_am_replica(), "phase {phase}");
        assert!(took <= NT * 11 / 10, "phase {phase}: {took} ms");
    }
}

#[test]
fn a_better_sibling_that_does_not_move_costs_a_second() {
    let mut bench = aged(3, 2, 0);
    bench.nodes[0].facts.offset = 1000;
    bench.run(NT);
    bench.kill(0);
    bench.run(100);
    bench.nodes[3].facts.offset = 999;
    bench.run(NT / 2);
    // Heard to have 1000, then stopped: suspected only long after the election.
    bench.nodes[6].paused = true;
    let took = NT / 2 + 100 + bench.until(NT * 3, "promotion", |b| !b.at(3).i_am_replica());
    assert!((NT + 1000..NT + 1300).contains(&took), "{took} ms");
}

#[test]
fn shards_that_fail_together_take_turns() {
    for phase in 0..30 {
        for gap in [0, 1, 3, 20] {
            let mut bench = aged(7, 1, phase * 31);
            for node in [0, 3, 5] {
                bench.kill(node);
                bench.run(gap);
            }
            let heirs = [7, 10, 12];
            let took =
                bench.until(NT * 8, "three promotions", |b| heirs.iter().all(|n| !b.at(*n).i_am_replica()));
            assert!(took <= NT * 11 / 10, "phase {phase}, gap {gap}: {took} ms");
        }
    }
}

#[test]
fn a_lost_request_is_sent_again_and_gets_nobody_a_second_vote() {
    let mut bench = aged(3, 1, 0);
    bench.lost_types.insert((3, 2, PacketType::AuthRequest as u16));
    bench.record = true;
    bench.kill(0);
    let before = bench.at(3).current_epoch;
    bench.until(NT * 2, "votes are asked for", |b| b.at(3).current_epoch > before);
    bench.run(60);
    assert!(bench.at(3).i_am_replica(), "one vote is no majority");
    bench.lost_types.clear();
    bench.until(150, "promotion", |b| !b.at(3).i_am_replica());
    assert_eq!(bench.at(3).nodes.me().config_epoch, before + 1);
    assert_eq!([1, 2].map(|voter| bench.sent(voter, PacketType::AuthAck).len()), [1, 1]);
}

#[test]
fn votes_are_asked_for_again_only_as_long_as_a_fail_takes_to_spread() {
    let mut bench = aged(5, 1, 0);
    for voter in 1..5 {
        bench.lost_types.insert((voter, 5, PacketType::AuthAck as u16));
    }
    bench.record = true;
    bench.kill(0);
    bench.run(NT * 3 - 200);
    let times: BTreeSet<u64> = bench.sent(5, PacketType::AuthRequest).iter().map(|s| s.at_ms).collect();
    let (first, last) = (times.first().unwrap(), times.last().unwrap());
    assert!((4..=6).contains(&times.len()) && last - first <= 510, "{times:?}");
    assert!((1..5).all(|voter| bench.sent(voter, PacketType::AuthAck).len() <= 1), "one vote each");
    // Nobody won; when voters may vote for this shard again, it is tried again.
    for voter in 1..5 {
        bench.lost_types.remove(&(voter, 5, PacketType::AuthAck as u16));
    }
    let took = NT * 3 - 200 + bench.until(NT * 4, "promotion", |b| !b.at(5).i_am_replica());
    assert!((NT * 3..NT * 7 / 2).contains(&took), "{took} ms");
}

// ---- Safety

/// What may never happen, gathered from what went over the wire and from what nodes said of themselves.
#[derive(Default)]
struct Witness {
    /// voter and epoch -> for whom
    votes: BTreeMap<(usize, u64), usize>,
    /// epoch -> who won it
    winners: BTreeMap<u64, usize>,
    lines_read: Vec<usize>,
}

impl Witness {
    fn look(&mut self, bench: &mut Bench) {
        self.lines_read.resize(bench.nodes.len(), 0);
        for sighting in std::mem::take(&mut bench.wire_log) {
            if !matches!(sighting.packet.body, Body::AuthAck) {
                continue;
            }
            let epoch = sighting.packet.header.current_epoch;
            let before = self.votes.insert((sighting.from, epoch), sighting.to);
            assert!(before.is_none(), "node {} voted twice in epoch {epoch}", sighting.from);
        }
        for node in 0..bench.nodes.len() {
            let log = &bench.nodes[node].log;
            for (_, line) in &log[self.lines_read[node]..] {
                let Some(rest) = line.strip_prefix("configEpoch set to ") else { continue };
                let Some(epoch) = rest.strip_suffix(" after successful failover") else { continue };
                let epoch: u64 = epoch.parse().unwrap();
                let other = self.winners.insert(epoch, node);
                assert!(other.is_none(), "epoch {epoch} was won by {other:?} and {node}");
                let votes = self.votes.iter().filter(|((_, e), to)| *e == epoch && **to == node).count();
                assert!(votes >= 2, "node {node} won epoch {epoch} with {votes} votes of three masters");
            }
            self.lines_read[node] = log.len();
        }
    }
}

/// One random fault, or the end of one.
fn mischief(bench: &mut Bench, random: &mut Random) {
    let count = bench.nodes.len() as u64;
    let (a, b) = (random.below(count) as usize, random.below(count) as usize);
    let runs = bench.nodes[a].cluster.is_some();
    match random.below(12) {
        0 if runs => bench.kill(a),
        1 | 2 if !runs => bench.start(a),
        3 if runs => bench.nodes[a].paused = true,
        4 | 5 if bench.nodes[a].paused => bench.resume(a),
        6 => bench.isolate(a),
        7 => drop(bench.cut.insert((a, b))),
        8 => drop(bench.held.insert((a, b))),
        9 => {
            let kind = [PacketType::Ping, PacketType::Fail, PacketType::AuthRequest, PacketType::AuthAck]
                [random.below(4) as usize];
            bench.lost_types.insert((a, b, kind as u16));
        }
        10 => bench.heal(),
        _ => bench.lost_types.clear(),
    }
}

#[test]
fn whatever_happens_an_epoch_has_one_winner_and_a_voter_one_vote() {
    let mut elections = 0;
    for seed in 0..24 {
        let mut random = Random::seeded(seed);
        // Three masters with two replicas each: siblings compete, and shards with each other.
        let mut bench = Bench::cluster(3, 2, NT);
        for node in 0..9 {
            // Some of either timing, in some runs.
            if seed % 3 == 0 && random.below(2) == 0 {
                bench.set(node, |settings| settings.timing = FailoverTiming::Redis);
            }
        }
        bench.record = true;
        let mut witness = Witness::default();
        for _ in 0..60 {
            bench.run(random.below(NT));
            mischief(&mut bench, &mut random);
            witness.look(&mut bench);
        }
        // All faults end: there is one owner for each slot, and everybody agrees.
        bench.heal();
        bench.lost_types.clear();
        for node in 0..9 {
            if bench.nodes[node].cluster.is_none() {
                bench.nodes[node].paused = false;
                bench.start(node);
            } else if bench.nodes[node].paused {
                bench.resume(node);
            }
        }
        let mut waited = 0;
        let agreed = |b: &Bench| {
            (0..9).all(|n| {
                b.at(n).is_ok()
                    && (0..SLOTS).step_by(512).all(|slot| {
                        let owner = |n: usize| b.at(n).slots.owner(slot).map(|idx| b.at(n).nodes.get(idx).id);
                        owner(n).is_some() && owner(n) == owner(0)
                    })
            })
        };
        while !agreed(&bench) {
            bench.run(500);
            witness.look(&mut bench);
            waited += 500;
            assert!(waited < 120_000, "seed {seed}: no agreement after two minutes without faults");
        }
        witness.look(&mut bench);
        elections += witness.winners.len();
    }
    assert!(elections >= 24, "the faults were worth it: {elections} elections");
}
