//! Faults in the middle of what the cluster does. One that comes to a quiet cluster meets masters and replicas in a steady
//! state and nothing else; aimed, it meets the candidate, the voter, the new master, or who syncs or moves slots.

use rand::Rng;

use super::draw::{Draw, Drawn, dead, reshard};
use super::{Down, Kind, Network, Shape};
use crate::plan::Selector;

/// Half of the faults that are about one node: the same fault in such a moment, behind what brings the moment about. All
/// others as they are.
pub fn aimed(draw: &mut Draw<'_>, mut episode: Vec<Drawn>) -> Vec<Drawn> {
    let is_of_one_node = matches!(&episode[..], [fault] if is_of_one_node(&fault.kind));
    if !is_of_one_node || draw.rng.random() {
        return episode;
    }
    let mut at = |armed_s: f64, target: Selector, moment: &str| {
        episode.drain(..).map(|fault| Drawn { target, ..fault.after(armed_s).on(moment) }).collect::<Vec<_>>()
    };
    // Nobody is suspected before.
    let suspected_s = 0.9 * draw.node_timeout_s;
    let away_s = draw.long().secs(0);
    let (cause, fault) = match draw.rng.random_range(0..5) {
        0 => (gone(draw), at(suspected_s, Selector::Sender, "auth-req")),
        1 => (gone(draw), at(suspected_s, Selector::Sender, "auth-ack")),
        2 => (gone(draw), at(suspected_s, Selector::NewMaster, "promotion")),
        3 => {
            let syncs = if draw.rng.random() { Selector::Receiver } else { Selector::Sender };
            let back = dead(super::rounded(away_s));
            (vec![Drawn::new(Selector::RandomMaster, back)], at(away_s, syncs, "full sync"))
        }
        _ => {
            let moves = if draw.rng.random() { Selector::Receiver } else { Selector::Sender };
            let nth = 1 << draw.rng.random_range(0..6);
            (reshard(draw), at(0.0, moves, &format!("{nth} RESTORE-ASKING on migrate")))
        }
    };
    cause.into_iter().chain(fault).collect()
}

fn is_of_one_node(kind: &Kind) -> bool {
    match kind {
        Kind::Down { how, .. } => *how != Down::CrashAll,
        Kind::Network(Network { shape, .. }) => {
            matches!(shape, Shape::Around | Shape::Outgoing | Shape::Incoming)
        }
        Kind::RestartLoop { .. }
        | Kind::Pause { .. }
        | Kind::Slow { .. }
        | Kind::Disk { .. }
        | Kind::Clock { .. }
        | Kind::Config { .. } => true,
        _ => false,
    }
}

/// A master that is away for long enough to be replaced.
fn gone(draw: &mut Draw<'_>) -> Vec<Drawn> {
    let duration = draw.long();
    let kind = if draw.rng.random() { dead(duration) } else { Kind::Pause { duration } };
    vec![Drawn::new(Selector::RandomMaster, kind)]
}
