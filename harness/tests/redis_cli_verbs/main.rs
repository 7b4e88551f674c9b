//! Every verb of Debian's `redis-cli --cluster` on real servers (which shows that the tests are right), on our nodes and
//! on a cluster of both, each while a thousand writes a second run. Without a fault no acknowledged write is lost.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // real processes

#[path = "../common/mod.rs"]
mod common;

mod fix;
mod import;
mod tour;

use common::load::{Load, LoadOptions, keys_in};
use common::lock::beside_another;
use common::redis_cli;
use common::servers::{Kind, Servers};

/// Who is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mix {
    /// Debian's redis-server only: the truth.
    Real,
    /// Our nodes only.
    Ours,
    /// Masters of both kinds, replicas of both kinds.
    Mixed,
}

impl Mix {
    /// The kinds of `count` nodes. In a mixed cluster node 0 is ours, node 1 is real, node 2 is ours.
    fn kinds(self, count: usize) -> Vec<Kind> {
        use Kind::{Embedded as E, Redis as R};
        match self {
            Self::Real => vec![R; count],
            Self::Ours => vec![E; count],
            Self::Mixed => [E, R, E, R, R, E, R, E][..count].to_vec(),
        }
    }

    /// Nodes that know nothing of each other yet.
    fn servers(self, count: usize) -> Servers {
        // redis-cli compares the values of a key that two nodes hold by DEBUG DIGEST-VALUE.
        Servers::start_with(&self.kinds(count), 2000, |_| vec!["--enable-debug-command", "yes"])
    }

    /// Three masters without replicas, made by redis-cli.
    fn three_masters(self) -> Servers {
        let servers = self.servers(3);
        let addresses = servers.addresses();
        let mut args: Vec<&str> = addresses.iter().map(String::as_str).collect();
        args.push("--cluster-yes");
        redis_cli::cluster("create", &args);
        servers.until_one(&[0, 1, 2]);
        servers
    }
}

/// The writers' proof is worth something only if it fails when something is lost.
#[test]
fn a_write_that_is_taken_away_is_noticed() {
    let _lock = beside_another();
    let servers = Mix::Ours.three_masters();
    let keys = keys_in(0..12, 1);
    let load = Load::start(&servers.addresses(), &keys, &LoadOptions::default());
    load.until_more(200);
    servers.nodes[0].must(&["DEL", &keys[0]]);
    load.until_more(400);
    let report = load.stop();
    let lost = report.lost_acknowledged(&servers);
    assert!(!lost.is_empty() && lost.iter().all(|loss| loss.starts_with(&keys[0])), "{lost:?}");
    assert!(!report.stale.is_empty(), "a read after the writes did not see them");
}

/// Slots near the low end of each of three masters: redis-cli moves slots from the low end first.
fn busy_slots(per_master: u16) -> impl Iterator<Item = u16> {
    [0, 5461, 10923].into_iter().flat_map(move |start| start..start + per_master)
}
