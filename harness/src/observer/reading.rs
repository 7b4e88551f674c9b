//! A node's answers to one poll, read into one typed view.

use std::collections::BTreeMap;

use slotstorm_checker::record::{Row, Seen};

use crate::admin::parse::{self, ParseError};

/// What every poll asks, in one write.
pub const QUESTIONS: [&[&str]; 3] = [&["CLUSTER", "NODES"], &["CLUSTER", "INFO"], &["INFO", "replication"]];
/// What the first poll on a connection asks besides: which process it is, and on one connection it stays that.
pub const FIRST_QUESTION: &[&str] = &["INFO", "server"];

/// Node ids to names (`n1`).
pub type Names = BTreeMap<String, String>;

/// Which process answered [`FIRST_QUESTION`].
pub fn run_id(answer: &str) -> String {
    parse::info_field(answer, "run_id").unwrap_or_default().to_owned()
}

/// Reads the answers to [`QUESTIONS`], in their order, of this process.
pub fn read(answers: &[String; 3], run_id: &str, names: &Names) -> Result<Seen, ParseError> {
    let [nodes_text, cluster_text, replication_text] = answers;
    let lines = parse::nodes(nodes_text)?;
    let cluster = parse::cluster_info(cluster_text)?;
    let replication = parse::replication_info(replication_text)?;
    let name = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());

    let mut table: Vec<Row> = lines
        .iter()
        .map(|line| Row {
            node: name(&line.id),
            flags: line.flags.iter().filter(|flag| *flag != "myself").cloned().collect::<Vec<_>>().join(","),
            master: line.master_id.as_deref().map(name),
            epoch: line.epoch,
            slots: line.slots.clone(),
        })
        .collect();
    table.sort_by(|a, b| a.node.cmp(&b.node));

    let mut seen = Seen {
        ok: cluster.ok,
        epoch: cluster.my_epoch,
        current_epoch: cluster.current_epoch,
        link_up: replication.link_up,
        replid: replication.replid,
        offset: replication.offset,
        replid2: replication.replid2,
        second_offset: replication.second_offset,
        run_id: run_id.to_owned(),
        table,
        ..Seen::default()
    };
    if let Some(own) = lines.iter().find(|line| line.myself()) {
        seen.id.clone_from(&own.id);
        seen.master = own.master();
        seen.slots.clone_from(&own.slots);
        seen.master_name = own.master_id.as_deref().map(name);
        seen.open_slots = own.migrating.iter().chain(&own.importing).map(|(slot, _)| *slot).collect();
        seen.open_slots.sort_unstable();
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As redis-server 7.0.15 prints them.
    #[test]
    fn the_answers_of_a_poll_make_one_view() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let answers = [
            format!(
                "{b} 127.9.1.2:6379@16379 slave {a} 0 1700000000000 3 connected\n\
                 {a} 127.9.1.1:6379@16379 myself,master - 0 0 3 connected 0-5460 7000\n"
            ),
            "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n\
             cluster_slots_fail:0\r\ncluster_known_nodes:6\r\ncluster_size:3\r\ncluster_current_epoch:6\r\n\
             cluster_my_epoch:3\r\n"
                .to_owned(),
            "# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:cc\r\nmaster_replid2:dd\r\n\
             master_repl_offset:77\r\nsecond_repl_offset:-1\r\n"
                .to_owned(),
        ];
        let names = Names::from([(a.clone(), "n1".to_owned())]);
        let seen = read(&answers, &run_id("# Server\r\nrun_id:abc\r\n"), &names).unwrap();
        assert!(seen.master && seen.ok);
        assert_eq!(seen.slots, [(0, 5460), (7000, 7000)]);
        assert_eq!((seen.epoch, seen.current_epoch, seen.offset), (3, 6, 77));
        assert_eq!((seen.run_id.as_str(), seen.second_offset), ("abc", -1));
        assert_eq!(seen.table[1].node, "n1");
        assert_eq!(seen.table[1].flags, "master");
        assert_eq!(seen.table[0].master.as_deref(), Some("n1"), "{:?}", seen.table);
        assert_eq!(seen.table[0].node, b, "an unknown node keeps its id");
    }
}
