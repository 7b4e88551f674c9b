//! `FAILOVER`: a master that is told to hand its role to a replica, without a cluster. It holds writes back until a
//! replica has everything, becomes that replica's replica, and asks it, with `PSYNC ... FAILOVER`, to be the master.

use std::net::SocketAddr;

use super::replicas::Stage;
use super::{Action, Actions, Replication};
use crate::io::{LogLevel, Mono};

/// A failover under way.
#[derive(Debug)]
pub struct Failover {
    /// The replica that was named, by the address it announces.
    target: Option<(String, u16)>,
    deadline: Option<Mono>,
    force: bool,
    /// The target was asked to take over.
    in_progress: bool,
}

/// What `FAILOVER` was told.
#[derive(Debug, Default)]
pub struct FailoverRequest {
    /// `TO host port`
    pub target: Option<(String, u16)>,
    /// `TIMEOUT ms`
    pub timeout_ms: Option<u64>,
    /// `FORCE`
    pub force: bool,
}

impl Replication {
    /// INFO's `master_failover_state`.
    pub const fn failover_state(&self) -> &'static str {
        match &self.failover {
            None => "no-failover",
            Some(failover) if failover.in_progress => "failover-in-progress",
            Some(_) => "waiting-for-sync",
        }
    }

    /// `FAILOVER`; fails with Redis' texts.
    pub fn begin_failover(
        &mut self,
        request: FailoverRequest,
        now: Mono,
        actions: &mut Actions,
    ) -> Result<(), &'static str> {
        if self.failover.is_some() {
            return Err("ERR FAILOVER already in progress.");
        }
        if self.is_replica_role() {
            return Err("ERR FAILOVER is not valid when server is a replica.");
        }
        if self.replicas.map.is_empty() {
            return Err("ERR FAILOVER requires connected replicas.");
        }
        if request.force && (request.target.is_none() || request.timeout_ms.is_none()) {
            return Err("ERR FAILOVER with force option requires both a timeout and target HOST and IP.");
        }
        let mut text = "FAILOVER requested.".to_owned();
        if let Some((host, port)) = &request.target {
            let stage = self.replicas.map.values().find(|replica| replica.is_called(host, *port));
            match stage.map(|replica| replica.stage) {
                None => return Err("ERR FAILOVER target HOST and PORT is not a replica."),
                Some(Stage::Online | Stage::WaitAck) => {}
                Some(_) => return Err("ERR FAILOVER target replica is not online."),
            }
            text = format!("FAILOVER requested to {host}:{port}.");
        }
        actions.push(Action::Log(LogLevel::Notice, text));
        let deadline = request.timeout_ms.map(|ms| now.plus_ms(ms));
        let (target, force) = (request.target, request.force);
        self.failover = Some(Failover { target, deadline, force, in_progress: false });
        actions.push(Action::HoldWrites);
        // Whoever has everything already says so when asked.
        self.waits.want_ack();
        Ok(())
    }

    /// `FAILOVER ABORT`
    pub fn abort_failover(
        &mut self,
        why: &str,
        now: Mono,
        actions: &mut Actions,
    ) -> Result<(), &'static str> {
        let Some(failover) = self.failover.take() else { return Err("ERR No failover in progress.") };
        actions.push(Action::Log(LogLevel::Notice, format!("Aborting failover: {why}")));
        if failover.in_progress {
            self.promote(now, actions);
            actions.push(Action::RoleChanged);
        }
        actions.push(Action::ReleaseWrites);
        Ok(())
    }

    /// The target answered to PSYNC: it is the master now.
    pub(super) fn failover_done(&mut self, actions: &mut Actions) {
        if self.failover.take_if(|failover| failover.in_progress).is_some() {
            actions.push(Action::ReleaseWrites);
        }
    }

    /// True while the link's PSYNC is to ask the other end to take over.
    pub(super) fn asks_to_take_over(&self) -> bool {
        self.failover.as_ref().is_some_and(|failover| failover.in_progress)
    }

    pub(super) fn failover_deadline(&self) -> Option<Mono> {
        self.failover.as_ref().filter(|failover| !failover.in_progress)?.deadline
    }

    /// Hands over if a replica has everything, or time is up.
    pub(super) fn failover_step(&mut self, now: Mono, actions: &mut Actions) {
        let Some(failover) = self.failover.as_ref().filter(|failover| !failover.in_progress) else { return };
        let end = self.log.end();
        let wanted = |name: &super::replicas::Replica| {
            failover.target.as_ref().is_none_or(|(host, port)| name.is_called(host, *port))
        };
        let synced =
            self.replicas.map.values().find(|replica| {
                replica.stage == Stage::Online && replica.ack_offset == end && wanted(replica)
            });
        if let Some(replica) = synced {
            let text = format!("Failover target {} is synced, failing over.", replica.name());
            let addr = replica.addr();
            return self.hand_over_to(addr, text, now, actions);
        }
        if failover.deadline.is_some_and(|deadline| deadline <= now) {
            let target = failover.target.clone().filter(|_| failover.force);
            let addr = target.and_then(|(host, port)| Some(SocketAddr::new(host.parse().ok()?, port)));
            match addr {
                Some(addr) => {
                    let text = format!("Failover to {addr} time out exceeded, failing over.");
                    self.hand_over_to(Some(addr), text, now, actions);
                }
                // It was there a line above.
                None => {
                    let _ = self.abort_failover("Replica never caught up before timeout", now, actions);
                }
            }
        }
    }

    fn hand_over_to(&mut self, addr: Option<SocketAddr>, text: String, now: Mono, actions: &mut Actions) {
        let Some(addr) = addr else {
            let _ = self.abort_failover("the target announces no address that can be dialled", now, actions);
            return;
        };
        if let Some(failover) = &mut self.failover {
            failover.in_progress = true;
        }
        actions.push(Action::Log(LogLevel::Notice, text));
        self.set_master(addr, now, actions);
        actions.push(Action::RoleChanged);
    }
}
