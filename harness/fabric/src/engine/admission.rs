//! What the policies of the links let a connection do: be made, and which way its bytes go.

use super::flow::Gate;
use super::links::Links;
use super::{Dir, plane};
use crate::{Endpoint, Plane, Policy};

/// May a connection be made?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Dial,
    /// Accepted and never read.
    Hold,
    Refuse,
    /// It depends on the plane: read until it is known.
    Ask,
}

pub(super) fn gate_of(policy: Policy) -> Gate {
    match policy {
        Policy::Pass | Policy::Refuse | Policy::Reset | Policy::HalfClose | Policy::Dead => Gate::Pass,
        Policy::Blackhole { .. } => Gate::Hold,
        Policy::Delay { .. } | Policy::Stall { .. } | Policy::Rate { .. } => Gate::Delay,
    }
}

/// A direction whose plane is not known: what all candidates agree on; else the caller is read and the callee
/// waits.
pub(super) fn undecided_gate(
    links: &Links,
    from: Endpoint,
    to: Endpoint,
    dir: Dir,
    admission: Admission,
) -> Gate {
    let gates = plane::CANDIDATES.map(|plane| gate_of(links.policy(from, to, plane)));
    let agreed = gates.iter().all(|gate| *gate == gates[0]).then_some(gates[0]);
    match (dir, agreed) {
        (Dir::Up, _) if admission == Admission::Hold => Gate::Hold,
        (Dir::Up, _) => Gate::Peek,
        (Dir::Down, gate) => gate.unwrap_or(Gate::Hold),
    }
}

pub(super) fn admit(links: &Links, caller: Endpoint, callee: Endpoint, plane: Option<Plane>) -> Admission {
    let by_plane = |plane| {
        let policies = [links.policy(caller, callee, plane), links.policy(callee, caller, plane)];
        if policies.contains(&Policy::Refuse) {
            Admission::Refuse
        } else if policies.iter().any(|policy| matches!(policy, Policy::Blackhole { .. })) {
            Admission::Hold
        } else {
            Admission::Dial
        }
    };
    let Some(plane) = plane else {
        let all = plane::CANDIDATES.map(by_plane);
        return if all.iter().all(|one| *one == all[0]) { all[0] } else { Admission::Ask };
    };
    by_plane(plane)
}
