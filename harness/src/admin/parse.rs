//! The texts in which a node tells its state, as types: CLUSTER NODES, CLUSTER INFO and INFO.
//!
//! Nothing here trusts the server under test: what cannot be read is an error that quotes it, never a panic. Fields
//! that a version does not know are absent; fields that nobody here knows are ignored.

use std::cell::Cell;

use thiserror::Error;

/// How many slots there are.
pub const SLOTS: u16 = 16384;

/// What a server said that nobody can read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the server's {what} cannot be read: {why} in {line:?}")]
pub struct ParseError {
    /// Which answer: `CLUSTER NODES`, ...
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
    /// The offending line, cut to a printable length.
    pub line: String,
}

impl ParseError {
    fn new(what: &'static str, why: impl Into<String>, line: &str) -> Self {
        Self { what, why: why.into(), line: line.chars().take(200).collect() }
    }
}

/// One line of CLUSTER NODES.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLine {
    /// 40 hexadecimal digits.
    pub id: String,
    /// Its announced address; empty while the teller has not learnt it.
    pub ip: String,
    /// Its client port; 0 for `noaddr`.
    pub port: u16,
    /// Its bus port; `port` + 10000 if the line has none.
    pub bus_port: u16,
    /// The words of the third field, in order: `myself`, `master`, `slave`, `fail?`, `fail`, `handshake`, `noaddr`,
    /// `nofailover`; `noflags` is dropped.
    pub flags: Vec<String>,
    /// Its master's id, if it is a replica that has one.
    pub master_id: Option<String>,
    /// When the oldest unanswered ping was sent, Unix milliseconds; 0 if none is open.
    pub ping_sent_ms: u64,
    /// When the last pong came, Unix milliseconds; 0 if none did.
    pub pong_received_ms: u64,
    /// configEpoch (a replica shows its master's in some versions, 0 or its own in others).
    pub epoch: u64,
    /// The teller's outbound link exists.
    pub connected: bool,
    /// Slots, as inclusive ranges, ascending as printed.
    pub slots: Vec<(u16, u16)>,
    /// `[slot->-id]`, on the own line only.
    pub migrating: Vec<(u16, String)>,
    /// `[slot-<-id]`, on the own line only.
    pub importing: Vec<(u16, String)>,
}

impl NodeLine {
    /// True if the third field has this exact word.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|word| word == flag)
    }

    /// The line of the node that was asked.
    pub fn myself(&self) -> bool {
        self.has("myself")
    }

    /// `master`, or `primary` as forks call it.
    pub fn master(&self) -> bool {
        self.has("master") || self.has("primary")
    }

    /// `fail`, agreed by a majority (not `fail?`).
    pub fn failed(&self) -> bool {
        self.has("fail")
    }

    /// `fail?`: this node alone thinks so.
    pub fn suspected(&self) -> bool {
        self.has("fail?")
    }

    /// Neither `handshake` nor `noaddr`: a member that can be reached.
    pub fn member(&self) -> bool {
        !self.has("handshake") && !self.has("noaddr")
    }

    /// How many slots it owns.
    pub fn slot_count(&self) -> u32 {
        count_slots(&self.slots)
    }
}

/// How many slots inclusive ranges hold.
pub fn count_slots(ranges: &[(u16, u16)]) -> u32 {
    ranges.iter().map(|(first, last)| u32::from(last - first) + 1).sum()
}

/// Reads CLUSTER NODES (also the body of a nodes.conf; its `vars` line is skipped). Sorted by id, since the order
/// in which a server prints them means nothing.
pub fn nodes(text: &str) -> Result<Vec<NodeLine>, ParseError> {
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("vars ")) {
        lines.push(node_line(line)?);
    }
    if lines.is_empty() {
        return Err(ParseError::new("CLUSTER NODES", "no line at all", text));
    }
    lines.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(lines)
}

fn node_line(line: &str) -> Result<NodeLine, ParseError> {
    let bad = |why: String| ParseError::new("CLUSTER NODES", why, line);
    let mut words = line.split_ascii_whitespace();
    let mut field = |name: &str| words.next().ok_or_else(|| bad(format!("no {name}")));
    let id = field("node id")?.to_owned();
    let address = field("address")?;
    let flags = field("flags")?;
    let master = field("master")?;
    let ping = field("ping-sent")?;
    let pong = field("pong-received")?;
    let epoch = field("config epoch")?;
    let link = field("link state")?;
    if id.is_empty() || id.len() > 40 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(bad("a node id that is none".to_owned()));
    }
    let (ip, port, bus_port) = address_of(address).ok_or_else(|| bad(format!("address {address:?}")))?;
    let number = |name: &str, word: &str| {
        word.parse::<i64>()
            .map(|value| u64::try_from(value).unwrap_or(0)) // old versions print -1 for "never"
            .map_err(|_| bad(format!("{name} {word:?}")))
    };
    let mut node = NodeLine {
        id,
        ip,
        port,
        bus_port,
        flags: flags.split(',').filter(|word| *word != "noflags").map(str::to_owned).collect(),
        master_id: (master != "-").then(|| master.to_owned()),
        ping_sent_ms: number("ping-sent", ping)?,
        pong_received_ms: number("pong-received", pong)?,
        epoch: epoch.parse().map_err(|_| bad(format!("config epoch {epoch:?}")))?,
        connected: link == "connected",
        ..NodeLine::default()
    };
    for word in words {
        slot_word(&mut node, word).ok_or_else(|| bad(format!("slots {word:?}")))?;
    }
    Ok(node)
}

/// `ip:port@bus[,hostname[,name=value...]]`; the ip may be IPv6 or empty, the bus port may be missing.
fn address_of(word: &str) -> Option<(String, u16, u16)> {
    let word = word.split(',').next()?;
    let (host, bus) = match word.split_once('@') {
        Some((host, bus)) => (host, Some(bus)),
        None => (word, None),
    };
    let (ip, port) = host.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let bus_port = match bus {
        Some(bus) => bus.parse().ok()?,
        None => port.saturating_add(10_000),
    };
    Some((ip.to_owned(), port, bus_port))
}

/// `5`, `0-5460`, `[93->-id]` or `[77-<-id]`.
fn slot_word(node: &mut NodeLine, word: &str) -> Option<()> {
    let slot = |text: &str| text.parse::<u16>().ok().filter(|slot| *slot < SLOTS);
    if let Some(open) = word.strip_prefix('[') {
        let open = open.strip_suffix(']')?;
        if let Some((number, id)) = open.split_once("->-") {
            node.migrating.push((slot(number)?, id.to_owned()));
        } else {
            let (number, id) = open.split_once("-<-")?;
            node.importing.push((slot(number)?, id.to_owned()));
        }
        return Some(());
    }
    let (first, last) = match word.split_once('-') {
        Some((first, last)) => (slot(first)?, slot(last)?),
        None => (slot(word)?, slot(word)?),
    };
    (first <= last).then(|| node.slots.push((first, last)))
}

/// CLUSTER INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// `cluster_state:ok`.
    pub ok: bool,
    pub slots_assigned: u32,
    pub slots_ok: u32,
    pub slots_pfail: u32,
    pub slots_fail: u32,
    /// Nodes in its table, itself and those in handshake included.
    pub known_nodes: u32,
    /// Masters with slots.
    pub size: u32,
    pub current_epoch: u64,
    /// A replica's: its master's.
    pub my_epoch: u64,
}

/// Reads CLUSTER INFO.
pub fn cluster_info(text: &str) -> Result<ClusterInfo, ParseError> {
    let fields = Fields::of("CLUSTER INFO", text);
    Ok(ClusterInfo {
        ok: fields.text("cluster_state")? == "ok",
        slots_assigned: fields.number("cluster_slots_assigned")?,
        slots_ok: fields.number("cluster_slots_ok")?,
        slots_pfail: fields.number("cluster_slots_pfail")?,
        slots_fail: fields.number("cluster_slots_fail")?,
        known_nodes: fields.number("cluster_known_nodes")?,
        size: fields.number("cluster_size")?,
        current_epoch: fields.number("cluster_current_epoch")?,
        my_epoch: fields.number("cluster_my_epoch")?,
    })
}

/// INFO replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationInfo {
    /// `role:master`; a replica says `slave`.
    pub master: bool,
    /// A master's: the replicas connected to it.
    pub replicas: Vec<ReplicaLine>,
    /// A replica's: the address it replicates from.
    pub master_address: Option<(String, u16)>,
    /// A replica's: `master_link_status:up`.
    pub link_up: bool,
    /// A replica's: a full resync is under way.
    pub sync_in_progress: bool,
    pub replid: String,
    /// A master's: bytes produced; a replica's: bytes applied.
    pub offset: u64,
    /// Forty zeros if none.
    pub replid2: String,
    /// -1 if none.
    pub second_offset: i64,
}

/// `slave0:ip=..,port=..,state=online,offset=..,lag=..` of a master's INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaLine {
    pub ip: String,
    pub port: u16,
    /// `state=online`; not while it waits for or receives an RDB.
    pub online: bool,
    /// What it last acknowledged; 0 before its first REPLCONF ACK.
    pub offset: u64,
    /// Seconds since its last acknowledgement.
    pub lag_s: i64,
}

/// Reads INFO replication, or a whole INFO that holds it.
pub fn replication_info(text: &str) -> Result<ReplicationInfo, ParseError> {
    let fields = Fields::of("INFO replication", text);
    let master = fields.text("role")? == "master";
    let master_address = match if master { None } else { fields.find("master_host") } {
        Some(host) => Some((host.to_owned(), fields.number("master_port")?)),
        None => None,
    };
    let mut replicas = Vec::new();
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]) {
        let line = &text[begin..end];
        if line.starts_with(['s', 'r'])
            && let Some(replica) = replica_line(line.trim_end())
        {
            replicas.push(replica?);
        }
        begin = (end + 1).min(text.len());
    }
    Ok(ReplicationInfo {
        master,
        replicas,
        master_address,
        link_up: !master && fields.find("master_link_status") == Some("up"),
        sync_in_progress: !master && fields.find("master_sync_in_progress") == Some("1"),
        replid: fields.text("master_replid")?.to_owned(),
        replid2: fields.text("master_replid2")?.to_owned(),
        offset: fields.signed("master_repl_offset")?,
        second_offset: fields.number("second_repl_offset")?,
    })
}

/// `None` if the line is not a replica's.
fn replica_line(line: &str) -> Option<Result<ReplicaLine, ParseError>> {
    let rest = line.strip_prefix("slave").or_else(|| line.strip_prefix("replica"))?;
    let (number, values) = rest.trim_end().split_once(':')?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut replica = ReplicaLine::default();
    for pair in values.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            return Some(Err(ParseError::new(
                "INFO replication",
                format!("{pair:?} is no name=value"),
                line,
            )));
        };
        let understood = match key {
            "ip" => {
                value.clone_into(&mut replica.ip);
                Some(())
            }
            "port" => value.parse().ok().map(|port| replica.port = port),
            "state" => {
                replica.online = value == "online";
                Some(())
            }
            "offset" => value.parse().ok().map(|offset| replica.offset = offset),
            "lag" => value.parse().ok().map(|lag| replica.lag_s = lag),
            _ => Some(()),
        };
        if understood.is_none() {
            return Some(Err(ParseError::new("INFO replication", format!("{key} {value:?}"), line)));
        }
    }
    Some(Ok(replica))
}

/// One `name:value` line of an INFO-shaped text.
pub fn info_field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = text;
    loop {
        let end = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        let line = &rest[..end];
        if let Some(value) = line.strip_prefix(name).and_then(|line| line.strip_prefix(':')) {
            return Some(value.trim_end());
        }
        rest = rest.get(end + 1..)?;
    }
}

/// An INFO-shaped text whose missing fields are errors. Fields are best asked for in the order in which they stand there:
/// each is looked for behind the one before.
struct Fields<'t> {
    what: &'static str,
    text: &'t str,
    /// Behind the field that was found last.
    next: Cell<usize>,
}

impl<'t> Fields<'t> {
    const fn of(what: &'static str, text: &'t str) -> Self {
        Self { what, text, next: Cell::new(0) }
    }

    fn find(&self, name: &str) -> Option<&'t str> {
        let next = self.next.get();
        let value = info_field(&self.text[next..], name).or_else(|| info_field(self.text, name))?;
        // Where the value ends its line does, or what was trimmed off it begins.
        self.next.set(value.as_ptr() as usize - self.text.as_ptr() as usize + value.len());
        Some(value)
    }

    fn text(&self, name: &str) -> Result<&'t str, ParseError> {
        self.find(name).ok_or_else(|| ParseError::new(self.what, format!("no {name}"), self.text))
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Result<N, ParseError> {
        let value = self.text(name)?;
        value.parse().map_err(|_| ParseError::new(self.what, format!("{name} is no such number"), value))
    }

    /// For numbers that some versions print as -1 when there is none yet: that is 0 here.
    fn signed(&self, name: &str) -> Result<u64, ParseError> {
        Ok(u64::try_from(self.number::<i64>(name)?).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Told by a 7.0.15 that imports slot 501 from a 6.2.14.
    const NODES_7_0_15: &str = "\
e5fd65fabeb174e45c4e411d6098877fad42905b 127.26.0.3:6379@16379 master - 0 1795470666701 0 connected 500-501
0cbf881720065868dd814a729e5f5ef0d10d2011 127.26.0.1:6379@16379 myself,master - 0 1795470665000 1 connected 0-100 \
[501-<-e5fd65fabeb174e45c4e411d6098877fad42905b]
d0c7352562e7d86887009cfb50cdac137356c204 127.26.0.2:6379@16379 slave \
0cbf881720065868dd814a729e5f5ef0d10d2011 0 1795470665697 1 connected
";
    /// Told by the 6.2.14 on the other side.
    const NODES_6_2_14: &str = "\
0cbf881720065868dd814a729e5f5ef0d10d2011 127.26.0.1:6379@16379 master - 0 1795470666699 1 connected 0-100
d0c7352562e7d86887009cfb50cdac137356c204 127.26.0.2:6379@16379 slave \
0cbf881720065868dd814a729e5f5ef0d10d2011 0 1795470667702 1 connected
e5fd65fabeb174e45c4e411d6098877fad42905b 127.26.0.3:6379@16379 myself,master - 0 1795470666000 0 connected \
500-501 [501->-0cbf881720065868dd814a729e5f5ef0d10d2011]
";
    const CLUSTER_INFO_7_0_15: &str = "cluster_state:fail\r\ncluster_slots_assigned:103\r\ncluster_slots_ok:103\r\n\
cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:3\r\ncluster_size:2\r\n\
cluster_current_epoch:2\r\ncluster_my_epoch:1\r\ncluster_stats_messages_ping_sent:9\r\n\
total_cluster_links_buffer_limit_exceeded:0\r\n";
    const REPLICA_7_0_15: &str = "# Replication\r\nrole:slave\r\nmaster_host:127.26.0.1\r\nmaster_port:6379\r\n\
master_link_status:up\r\nmaster_last_io_seconds_ago:1\r\nmaster_sync_in_progress:0\r\n\
slave_read_repl_offset:14\r\nslave_repl_offset:14\r\nslave_priority:100\r\nslave_read_only:1\r\n\
replica_announced:1\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n\
master_replid:a52aa5822d047b6b1d79acae9ce538cab5ed636a\r\n\
master_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:14\r\nsecond_repl_offset:-1\r\n";
    const MASTER_7_0_15: &str = "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n\
slave0:ip=127.26.0.2,port=6379,state=online,offset=14,lag=1\r\nmaster_failover_state:no-failover\r\n\
master_replid:a52aa5822d047b6b1d79acae9ce538cab5ed636a\r\n\
master_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:14\r\nsecond_repl_offset:-1\r\n";

    #[test]
    fn both_sides_of_a_migration_tell_the_same_story() {
        let importing = nodes(NODES_7_0_15).unwrap();
        let migrating = nodes(NODES_6_2_14).unwrap();
        let me = importing.iter().find(|node| node.myself()).unwrap();
        let it = migrating.iter().find(|node| node.myself()).unwrap();
        assert_eq!(me.importing, [(501, it.id.clone())]);
        assert_eq!(it.migrating, [(501, me.id.clone())]);
        let ids = |table: &[NodeLine]| table.iter().map(|node| node.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&importing), ids(&migrating), "sorted by id, whatever the server's order was");
        let replica = importing.iter().find(|node| !node.master()).unwrap();
        assert_eq!((replica.master_id.as_ref(), replica.slot_count()), (Some(&me.id), 0));
        assert_eq!((me.slot_count(), me.epoch, me.connected), (101, 1, true));
    }

    #[test]
    fn addresses_of_every_shape_are_read() {
        for (word, expected) in [
            ("127.0.0.1:6379@16379", Some(("127.0.0.1", 6379, 16379))),
            ("127.0.0.1:6379", Some(("127.0.0.1", 6379, 16379))),
            (":21027@21037", Some(("", 21027, 21037))),
            ("::1:7000@17000,host.example", Some(("::1", 7000, 17000))),
            ("10.0.0.1:7000@17000,,tls-port=0,shard-id=ab", Some(("10.0.0.1", 7000, 17000))),
            ("127.0.0.1", None),
            ("127.0.0.1:99999@1", None),
            ("127.0.0.1:1@99999", None),
        ] {
            let expected = expected.map(|(ip, port, bus)| (ip.to_owned(), port, bus));
            assert_eq!(address_of(word), expected, "{word}");
        }
    }

    #[test]
    fn flags_are_exact_words() {
        let line = "e5fd65fabeb174e45c4e411d6098877fad42905b :0@0 master,fail?,noaddr - 1 0 7 disconnected";
        let node = &nodes(line).unwrap()[0];
        assert!(node.suspected() && !node.failed() && !node.member() && !node.connected);
    }

    #[test]
    fn a_broken_table_is_an_error_that_quotes_it() {
        for (text, why) in [
            ("", "no line"),
            ("deadbeef", "no address"),
            ("x 127.0.0.1:1@2 master - 0 0 epoch connected", "config epoch"),
            ("x 127.0.0.1:1@2 master - 0 0 1 connected 5-99999", "slots"),
            ("x 127.0.0.1:1@2 master - 0 0 1 connected 9-5", "slots"),
            ("x 127.0.0.1:1@2 master - 0 0 1 connected [5]", "slots"),
            ("\u{2603} 127.0.0.1:1@2 master - 0 0 1 connected", "node id"),
        ] {
            let error = nodes(text).unwrap_err();
            assert!(error.why.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn cluster_info_is_read_and_a_missing_field_is_named() {
        let info = cluster_info(CLUSTER_INFO_7_0_15).unwrap();
        assert_eq!((info.ok, info.known_nodes, info.current_epoch, info.my_epoch), (false, 3, 2, 1));
        let cut = CLUSTER_INFO_7_0_15.replace("cluster_size:2\r\n", "");
        assert!(cluster_info(&cut).unwrap_err().why.contains("cluster_size"));
    }

    #[test]
    fn master_and_replica_agree_on_their_link() {
        let master = replication_info(MASTER_7_0_15).unwrap();
        let replica = replication_info(REPLICA_7_0_15).unwrap();
        assert!(master.master && !replica.master && replica.link_up && !replica.sync_in_progress);
        assert_eq!((&master.replid, master.offset), (&replica.replid, replica.offset));
        assert_eq!((master.replicas.len(), master.replicas[0].online), (1, true));
        assert_eq!(master.replicas[0].offset, replica.offset);
        assert_eq!(replica.master_address, Some(("127.26.0.1".to_owned(), 6379)));
        assert_eq!(replica.second_offset, -1);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "[ -~\r\n]{0,300}", cut in 0usize..400) {
            let _ = (nodes(&text), cluster_info(&text), replication_info(&text));
            let whole = NODES_7_0_15;
            let _ = nodes(&whole[..cut.min(whole.len())]);
        }
    }
}
