//! What INFO replication and ROLE say.

use super::Replication;
use super::address::MasterAddr;
use super::identity::ReplId;
use super::replicas::{Replica, Stage};
use crate::io::Mono;
use std::fmt::Write;

/// Longer than the section of a node with a replica or two.
const INFO_BYTES: usize = 768;

/// Counters of INFO's section Stats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// `sync_full`
    pub full: u64,
    /// `sync_partial_ok`
    pub partial_ok: u64,
    /// `sync_partial_err`
    pub partial_err: u64,
}

/// What ROLE answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleView {
    /// `master`
    Master {
        /// The replication offset.
        offset: u64,
        /// Address, port and acknowledged offset of each replica that is online.
        replicas: Vec<(String, u16, u64)>,
    },
    /// `slave`
    Replica {
        /// The master.
        master: MasterAddr,
        /// `connect`, `connecting`, `sync` or `connected`.
        state: &'static str,
        /// The applied offset; none while not connected, when ROLE says -1.
        offset: Option<u64>,
    },
}

impl Replication {
    /// What was answered to PSYNC and SYNC so far.
    pub const fn sync_counts(&self) -> SyncCounts {
        self.counts
    }

    /// Forgets what was counted (`CONFIG RESETSTAT`).
    pub const fn reset_counts(&mut self) {
        self.counts = SyncCounts { full: 0, partial_ok: 0, partial_err: 0 };
    }

    /// Bytes of the stream that are kept: up to `repl-backlog-size`, and beyond it for replicas that lag.
    pub fn backlog_memory(&self) -> (usize, usize) {
        let kept = self.log.end() - self.log.first();
        // Nobody lags where nobody follows: the rest is the granularity of chunks.
        let limit = if self.replicas.map.is_empty() { u64::MAX } else { self.settings.backlog_bytes };
        let backlog = kept.min(limit);
        (backlog as usize, (kept - backlog) as usize)
    }

    /// Number of replicas attached, in whatever stage.
    pub fn connected_replicas(&self) -> usize {
        self.replicas.map.len()
    }

    /// The material of ROLE.
    pub fn role(&self) -> RoleView {
        match self.link_status() {
            Some(link) => RoleView::Replica {
                master: link.master,
                state: link.state,
                offset: link.up.then_some(self.offset()),
            },
            None => RoleView::Master {
                offset: self.offset(),
                replicas: self
                    .replicas
                    .map
                    .values()
                    .filter(|replica| replica.stage == Stage::Online)
                    .map(|replica| (address(replica), replica.hints.listening_port, replica.ack_offset))
                    .collect(),
            },
        }
    }

    /// INFO's section Replication, with its heading, lines ended by CRLF. `good` replicas are shown if they matter.
    pub fn info(&self, now: Mono, good: Option<usize>) -> String {
        let mut out = String::with_capacity(INFO_BYTES);
        out.push_str("# Replication\r\n");
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            out.push_str(name);
            // Writing to a string cannot fail.
            let _ = write!(out, ":{value}\r\n");
        };
        let flag = |yes: bool| u8::from(yes);
        match self.link_status() {
            None => line("role", &"master"),
            Some(link) => {
                line("role", &"slave");
                line("master_host", &link.master.host());
                line("master_port", &link.master.port());
                line("master_link_status", &if link.up { "up" } else { "down" });
                let idle =
                    if link.up { (now.ms_since(link.last_io) / 1000).to_string() } else { "-1".into() };
                line("master_last_io_seconds_ago", &idle);
                line("master_sync_in_progress", &flag(link.state == "sync"));
                line("slave_read_repl_offset", &self.read_offset());
                line("slave_repl_offset", &self.offset());
                if let Some((read, total)) = link.transfer {
                    line("master_sync_total_bytes", &total);
                    line("master_sync_read_bytes", &read);
                    line("master_sync_left_bytes", &(i128::from(total) - i128::from(read)));
                    let percent = if total == 0 { 0.0 } else { read as f64 / total as f64 * 100.0 };
                    line("master_sync_perc", &format!("{percent:.2}"));
                    line("master_sync_last_io_seconds_ago", &(now.ms_since(link.last_io) / 1000));
                }
                if !link.up {
                    let seconds = link.down_since.map(|since| (now.ms_since(since) / 1000).to_string());
                    line("master_link_down_since_seconds", &seconds.unwrap_or_else(|| "-1".into()));
                }
                line("slave_priority", &self.settings.priority);
                line("slave_read_only", &flag(self.settings.read_only));
                line("replica_announced", &1);
            }
        }
        line("connected_slaves", &self.replicas.map.len());
        if let Some(good) = good {
            line("min_slaves_good_slaves", &good);
        }
        for (index, replica) in self.replicas.map.values().enumerate() {
            let lag = if replica.stage == Stage::Online { replica.lag_s(now) } else { 0 };
            let text = format!(
                "ip={},port={},state={},offset={},lag={lag}",
                address(replica),
                replica.hints.listening_port,
                stage_name(replica.stage),
                replica.ack_offset
            );
            line(&format!("slave{index}"), &text);
        }
        line("master_failover_state", &self.failover_state());
        line("master_replid", &self.history.id);
        let (earlier, until) = self
            .history
            .earlier
            .map_or((ReplId::NONE, "-1".into()), |(id, until)| (id, (until + 1).to_string()));
        line("master_replid2", &earlier);
        line("master_repl_offset", &self.offset());
        line("second_repl_offset", &until);
        line("repl_backlog_active", &flag(self.log_active));
        line("repl_backlog_size", &self.settings.backlog_bytes);
        let kept = self.log.end() - self.log.first();
        line("repl_backlog_first_byte_offset", &if self.log_active { self.log.first() + 1 } else { 0 });
        line("repl_backlog_histlen", &if self.log_active { kept } else { 0 });
        out
    }
}

fn address(replica: &Replica) -> String {
    replica.hints.announced_ip.clone().unwrap_or_else(|| replica.ip.to_string())
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::WaitSnapshot { .. } => "wait_bgsave",
        Stage::Transfer(_) => "send_bulk",
        Stage::WaitAck | Stage::Online => "online",
        Stage::Served => "rdb_transmitted",
    }
}
