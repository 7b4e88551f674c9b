//! What the engine tells of itself: counters of links, connections, what its taps saw.

use std::collections::BTreeSet;

use super::{Conn, ConnInfo, Fabric, PairStats, Touched, held_by};
use crate::{BusTape, Endpoint, StreamEvent};

impl Fabric {
    /// What the links between these pairs, in these directions, carried since the last reset of their
    /// counters.
    pub fn touched(&mut self, pairs: &[(Endpoint, Endpoint)], reset: bool) -> Touched {
        let flows = || self.conns.iter().flatten().flat_map(|conn| &conn.flows);
        let mut held: Vec<(usize, u64)> =
            flows().map(|flow| (flow.link, held_by(flow))).filter(|h| h.1 > 0).collect();
        held.sort_unstable();
        let held_now = |link| {
            let first = held.partition_point(|h| h.0 < link);
            held[first..].iter().take_while(|h| h.0 == link).map(|h| h.1).sum()
        };
        let pairs: BTreeSet<_> = pairs.iter().copied().collect();
        let touched = self.links.touched(&pairs, held_now);
        if reset {
            self.links.reset_touched(&pairs);
        }
        touched
    }

    /// Every directed link that was named or used, in order.
    pub fn pairs(&self) -> Vec<PairStats> {
        self.links.stats()
    }

    /// Every connection, in order of its slot.
    pub fn conns(&self) -> Vec<ConnInfo> {
        let info = |conn: &Conn| ConnInfo {
            conn: conn.id,
            caller: conn.caller,
            callee: conn.callee,
            plane: conn.plane,
            dialled: conn.dialled,
        };
        self.conns.iter().flatten().map(info).collect()
    }

    /// What the taps saw since the last call, in order of time.
    pub fn take_stream_events(&mut self) -> Vec<StreamEvent> {
        std::mem::take(&mut self.stream)
    }

    /// How many bytes passed on the bus since the last [`Fabric::take_bus_tape`].
    pub fn bus_bytes(&self) -> usize {
        self.tape.len()
    }

    /// What passed on the bus since the last call.
    pub fn take_bus_tape(&mut self) -> BusTape {
        self.tape.hand_over()
    }

    /// The same, onto a tape that was taken before and is of no more use: its memory is used again.
    pub fn take_bus_tape_onto(&mut self, used: &mut BusTape) {
        used.clear();
        std::mem::swap(&mut self.tape, used);
    }
}
