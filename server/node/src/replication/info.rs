//! What INFO replication and ROLE say.

use super::Replication;
use super::address::MasterAddr;
use super::identity::ReplId;
use super::replicas::{Replica, Stage};
use crate::io::Mono;
use crate::keyspace::number::put_unsigned;

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
        let mut lines = Lines::new();
        match self.link_status() {
            None => lines.text("role", "master"),
            Some(link) => {
                lines.text("role", "slave");
                lines.text("master_host", &link.master.host());
                lines.number("master_port", link.master.port().into());
                lines.text("master_link_status", if link.up { "up" } else { "down" });
                let idle = link.up.then(|| now.ms_since(link.last_io) / 1000);
                lines.number_or_none("master_last_io_seconds_ago", idle);
                lines.flag("master_sync_in_progress", link.state == "sync");
                lines.number("slave_read_repl_offset", self.read_offset());
                lines.number("slave_repl_offset", self.offset());
                if let Some((read, total)) = link.transfer {
                    lines.number("master_sync_total_bytes", total);
                    lines.number("master_sync_read_bytes", read);
                    lines.text("master_sync_left_bytes", &(i128::from(total) - i128::from(read)).to_string());
                    let percent = if total == 0 { 0.0 } else { read as f64 / total as f64 * 100.0 };
                    lines.text("master_sync_perc", &format!("{percent:.2}"));
                    lines.number("master_sync_last_io_seconds_ago", now.ms_since(link.last_io) / 1000);
                }
                if !link.up {
                    let seconds = link.down_since.map(|since| now.ms_since(since) / 1000);
                    lines.number_or_none("master_link_down_since_seconds", seconds);
                }
                lines.number("slave_priority", self.settings.priority.into());
                lines.flag("slave_read_only", self.settings.read_only);
                lines.number("replica_announced", 1);
            }
        }
        lines.number("connected_slaves", self.replicas.map.len() as u64);
        if let Some(good) = good {
            lines.number("min_slaves_good_slaves", good as u64);
        }
        for (index, replica) in self.replicas.map.values().enumerate() {
            let lag = if replica.stage == Stage::Online { replica.lag_s(now) } else { 0 };
            lines.put(b"slave");
            lines.put_number(index as u64);
            lines.put(b":ip=");
            lines.put(address(replica).as_bytes());
            lines.put(b",port=");
            lines.put_number(replica.hints.listening_port.into());
            lines.put(b",state=");
            lines.put(stage_name(replica.stage).as_bytes());
            lines.put(b",offset=");
            lines.put_number(replica.ack_offset);
            lines.put(b",lag=");
            lines.put_number(lag);
            lines.put(b"\r\n");
        }
        lines.text("master_failover_state", self.failover_state());
        lines.text("master_replid", self.history.id.as_str());
        let (earlier, until) =
            self.history.earlier.map_or((ReplId::NONE, None), |(id, until)| (id, Some(until + 1)));
        lines.text("master_replid2", earlier.as_str());
        lines.number("master_repl_offset", self.offset());
        lines.number_or_none("second_repl_offset", until);
        lines.flag("repl_backlog_active", self.log_active);
        lines.number("repl_backlog_size", self.settings.backlog_bytes);
        let kept = self.log.end() - self.log.first();
        let first = if self.log_active { self.log.first() + 1 } else { 0 };
        lines.number("repl_backlog_first_byte_offset", first);
        lines.number("repl_backlog_histlen", if self.log_active { kept } else { 0 });
        lines.into_text()
    }
}

/// The section under construction, without the formatting machinery: monitors ask for it all the time.
struct Lines(Vec<u8>);

impl Lines {
    fn new() -> Self {
        let mut text = Vec::with_capacity(INFO_BYTES);
        text.extend_from_slice(b"# Replication\r\n");
        Self(text)
    }

    fn put(&mut self, part: &[u8]) {
        self.0.extend_from_slice(part);
    }

    fn put_number(&mut self, number: u64) {
        put_unsigned(&mut self.0, number);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.put(name.as_bytes());
        self.put(b":");
        self.put(value.as_bytes());
        self.put(b"\r\n");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.put(name.as_bytes());
        self.put(b":");
        self.put_number(value);
        self.put(b"\r\n");
    }

    fn number_or_none(&mut self, name: &str, value: Option<u64>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.text(name, "-1"),
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.text(name, if value { "1" } else { "0" });
    }

    fn into_text(self) -> String {
        // All that was put together was text.
        String::from_utf8(self.0).unwrap_or_default()
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
