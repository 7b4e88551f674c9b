//! A node's answers to one poll, read into one typed view.

use std::collections::{BTreeMap, BTreeSet};

use slotstorm_checker::record::{Row, Seen, Table};
use slotstorm_checker::slots::ranges_of;

use crate::admin::parse::{self, NodeLine, ParseError};
use crate::admin::resp::encode;

/// What every poll asks, in one write.
pub const QUESTIONS: [&[&str]; 3] = [&["CLUSTER", "NODES"], &["CLUSTER", "INFO"], &["INFO", "replication"]];
/// What the first poll on a connection asks besides: which process it is, and on one connection it stays that.
pub const FIRST_QUESTION: &[&str] = &["INFO", "server"];

/// Questions as they are sent.
pub fn questions<'a>(questions: impl IntoIterator<Item = &'a [&'a str]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    questions.into_iter().for_each(|question| encode(question, &mut bytes));
    bytes
}

/// Node ids to names (`n1`).
pub type Names = BTreeMap<String, String>;

/// Which process answered [`FIRST_QUESTION`].
pub fn run_id(answer: &str) -> String {
    parse::info_field(answer, "run_id").unwrap_or_default().to_owned()
}

/// Reads one node's answers, poll after poll. Nearly always its table is the one of the poll before, but for the times of
/// pings: then it is shared with that one, and not read again.
#[derive(Debug, Default)]
pub struct Reader {
    lines: Vec<Line>,
    own: Own,
    table: Table,
}

/// A line of CLUSTER NODES without the times of its ping and pong.
#[derive(Debug)]
struct Line {
    before: String,
    after: String,
}

/// What a node's table says of itself.
#[derive(Clone, Debug, Default)]
struct Own {
    id: String,
    master: bool,
    slots: Vec<(u16, u16)>,
    master_name: Option<String>,
    open_slots: Vec<u16>,
    migrating_to: BTreeMap<String, Vec<(u16, u16)>>,
}

impl Reader {
    /// Reads the answers to [`QUESTIONS`], in their order, of this process.
    pub fn read(&mut self, answers: [&str; 3], run_id: &str, names: &Names) -> Result<Seen, ParseError> {
        let [nodes_text, cluster_text, replication_text] = answers;
        if !self.knows(nodes_text) {
            self.learn(nodes_text, names)?;
        }
        let cluster = parse::cluster_info(cluster_text)?;
        let replication = parse::replication_info(replication_text)?;
        let Own { id, master, slots, master_name, open_slots, migrating_to } = self.own.clone();
        Ok(Seen {
            id,
            master,
            ok: cluster.ok,
            epoch: cluster.my_epoch,
            current_epoch: cluster.current_epoch,
            slots,
            open_slots,
            migrating_to,
            master_name,
            link_up: replication.link_up,
            replid: replication.replid,
            offset: replication.offset,
            replid2: replication.replid2,
            second_offset: replication.second_offset,
            run_id: run_id.to_owned(),
            table: self.table.clone(),
        })
    }

    /// True if this is the table that was read last.
    fn knows(&self, text: &str) -> bool {
        let mut rest = text;
        let known = self.lines.iter().all(|known| {
            let behind = rest.strip_prefix(known.before.as_str()).and_then(past_number).and_then(past_number);
            let behind = behind.and_then(|behind| behind.strip_prefix(known.after.as_str()));
            // A last line may have no end.
            let next =
                behind.and_then(|behind| behind.strip_prefix('\n').or(behind.is_empty().then_some("")));
            next.inspect(|next| rest = next).is_some()
        });
        known && !self.lines.is_empty() && rest.is_empty()
    }

    fn learn(&mut self, text: &str, names: &Names) -> Result<(), ParseError> {
        self.lines.clear();
        let lines = parse::nodes(text)?;
        let name = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());
        let row = |line: &NodeLine| Row {
            node: name(&line.id),
            flags: line.flags.iter().filter(|flag| *flag != "myself").cloned().collect::<Vec<_>>().join(","),
            master: line.master_id.as_deref().map(name),
            epoch: line.epoch,
            slots: line.slots.clone(),
        };
        let mut table: Vec<Row> = lines.iter().map(row).collect();
        table.sort_by(|a, b| a.node.cmp(&b.node));
        if *self.table != table {
            self.table = table.into();
        }
        self.own = Own::default();
        if let Some(own) = lines.into_iter().find(NodeLine::myself) {
            let mut open_slots: Vec<u16> =
                own.migrating.iter().chain(&own.importing).map(|(slot, _)| *slot).collect();
            open_slots.sort_unstable();
            let mut migrating: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
            for (slot, to) in &own.migrating {
                migrating.entry(name(to)).or_default().insert(*slot);
            }
            self.own = Own {
                master: own.master(),
                master_name: own.master_id.as_deref().map(name),
                id: own.id,
                slots: own.slots,
                open_slots,
                migrating_to: migrating.into_iter().map(|(to, slots)| (to, ranges_of(slots))).collect(),
            };
        }
        // A text with a line of another shape is read anew each time.
        self.lines = text.lines().map(line_without_times).collect::<Option<_>>().unwrap_or_default();
        Ok(())
    }
}

fn line_without_times(line: &str) -> Option<Line> {
    let (spaces, _): (Vec<usize>, Vec<&str>) = line.match_indices(' ').take(4).unzip();
    let (before, times) = line.split_at(spaces.get(3)? + 1);
    let after = past_number(times).and_then(past_number)?;
    Some(Line { before: before.to_owned(), after: after.to_owned() })
}

/// What stands behind a number and a space.
fn past_number(text: &str) -> Option<&str> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).filter(|end| *end > 0)?;
    text[end..].strip_prefix(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
        cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:6\r\ncluster_size:3\r\n\
        cluster_current_epoch:6\r\ncluster_my_epoch:3\r\n";
    const REPLICATION: &str = "# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:cc\r\n\
        master_replid2:dd\r\nmaster_repl_offset:77\r\nsecond_repl_offset:-1\r\n";

    /// As redis-server 7.0.15 prints them.
    #[test]
    fn the_answers_of_a_poll_make_one_view() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let nodes = format!(
            "{b} 127.9.1.2:6379@16379 slave {a} 0 1700000000000 3 connected\n\
             {a} 127.9.1.1:6379@16379 myself,master - 0 0 3 connected 0-5460 7000\n"
        );
        let names = Names::from([(a.clone(), "n1".to_owned())]);
        let run_id = run_id("# Server\r\nrun_id:abc\r\n");
        let seen = Reader::default().read([&nodes, INFO, REPLICATION], &run_id, &names).unwrap();
        assert!(seen.master && seen.ok);
        assert_eq!(seen.slots, [(0, 5460), (7000, 7000)]);
        assert_eq!((seen.epoch, seen.current_epoch, seen.offset), (3, 6, 77));
        assert_eq!((seen.run_id.as_str(), seen.second_offset), ("abc", -1));
        assert_eq!(seen.table[1].node, "n1");
        assert_eq!(seen.table[1].flags, "master");
        assert_eq!(seen.table[0].master.as_deref(), Some("n1"), "{:?}", seen.table);
        assert_eq!(seen.table[0].node, b, "an unknown node keeps its id");
    }

    #[test]
    fn a_table_is_read_anew_when_anything_but_the_times_of_pings_is_new() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let nodes = |flags: &str, pong: &str, slots: &str| {
            format!(
                "{a} 127.9.1.1:6379@16379 myself,master - 0 0 3 connected 0-5460\n\
                 {b} 127.9.1.2:6379@16379 {flags} - 0 {pong} 4 connected{slots}\n"
            )
        };
        let mut reader = Reader::default();
        let mut read = |nodes: &str| {
            let mut seen = reader.read([nodes, INFO, REPLICATION], "", &Names::new())?;
            let fresh = Reader::default().read([nodes, INFO, REPLICATION], "", &Names::new())?;
            assert_eq!(seen, fresh);
            Ok::<_, ParseError>(std::mem::take(&mut seen.table))
        };
        let first = read(&nodes("master", "1700000000000", " 5461-16383")).unwrap();
        let later = read(&nodes("master", "1700000000900", " 5461-16383")).unwrap();
        assert!(std::ptr::eq(first.as_ptr(), later.as_ptr()), "one table in memory");
        let failed = read(&nodes("master,fail", "1700000000900", " 5461-16383")).unwrap();
        assert_eq!(failed[1].flags, "master,fail");
        assert_eq!(read(&nodes("master,fail", "1700000000900", "")).unwrap()[1].slots, []);
        assert!(read(&nodes("master,fail", "soon", "")).is_err());
        assert_eq!(read(&nodes("master", "1700000000900", "")).unwrap()[1].flags, "master");
        let alone = read(&format!("{a} 127.9.1.1:6379@16379 myself,master - 0 0 3 connected\n")).unwrap();
        assert_eq!(alone.len(), 1);
    }
}
