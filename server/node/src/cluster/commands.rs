//! The CLUSTER verb. Shapes and error texts are those of Redis 7.0.15.

use std::net::IpAddr;

use super::{Cluster, MYSELF, NodeIdx, Reply, SLOTS, Turn};
use crate::io::LogLevel;

/// Subcommands with the number of their words, CLUSTER included; negative: at least so many.
const ARITY: [(&str, i32); 27] = [
    ("addslots", -3),
    ("addslotsrange", -4),
    ("bumpepoch", 2),
    ("count-failure-reports", 3),
    ("countkeysinslot", 3),
    ("delslots", -3),
    ("delslotsrange", -4),
    ("failover", -2),
    ("flushslots", 2),
    ("forget", 3),
    ("getkeysinslot", 4),
    ("help", 2),
    ("info", 2),
    ("keyslot", 3),
    ("links", 2),
    ("meet", -4),
    ("myid", 2),
    ("nodes", 2),
    ("replicas", 3),
    ("replicate", 3),
    ("reset", -2),
    ("saveconfig", 2),
    ("set-config-epoch", 3),
    ("setslot", -4),
    ("shards", 2),
    ("slaves", 3),
    ("slots", 2),
];

const HELP: &[&str] = &[
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ADDSLOTS <slot> [<slot> ...]",
    "    Assign slots to current node.",
    "ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    Assign slots which are between <start-slot> and <end-slot> to current node.",
    "BUMPEPOCH",
    "    Advance the cluster config epoch.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Return number of failure reports for <node-id>.",
    "COUNTKEYSINSLOT <slot>",
    "    Return the number of keys in <slot>.",
    "DELSLOTS <slot> [<slot> ...]",
    "    Delete slots information from current node.",
    "DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    Delete slots information which are between <start-slot> and <end-slot> from current node.",
    "FAILOVER [FORCE|TAKEOVER]",
    "    Promote current replica node to being a master.",
    "FORGET <node-id>",
    "    Remove a node from the cluster.",
    "GETKEYSINSLOT <slot> <count>",
    "    Return key names stored by current node in a slot.",
    "FLUSHSLOTS",
    "    Delete current node own slots information.",
    "INFO",
    "    Return information about the cluster.",
    "KEYSLOT <key>",
    "    Return the hash slot for <key>.",
    "MEET <ip> <port> [<bus-port>]",
    "    Connect nodes into a working cluster.",
    "MYID",
    "    Return the node id.",
    "NODES",
    "    Return cluster configuration seen by node. Output format:",
    "    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
    "REPLICATE <node-id>",
    "    Configure current node as replica to <node-id>.",
    "RESET [HARD|SOFT]",
    "    Reset current node (default: soft).",
    "SET-CONFIG-EPOCH <epoch>",
    "    Set config epoch of current node.",
    "SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
    "    Set slot state.",
    "REPLICAS <node-id>",
    "    Return <node-id> replicas.",
    "SAVECONFIG",
    "    Force saving cluster configuration on disk.",
    "SLOTS",
    "    Return information about slots range mappings. Each range is made of:",
    "    start, end, master and replicas IP addresses, ports and ids",
    "SHARDS",
    "    Return information about slot range mappings and the nodes associated with them.",
    "LINKS",
    "    Return information about all network links between this node and its peers.",
    "    Output format is an array where each array element is a map containing attributes of a link",
    "HELP",
    "    Prints this help.",
];

impl Cluster {
    /// `CLUSTER args...`; `args` begins with the subcommand.
    pub fn command(&mut self, args: &[&[u8]], turn: &mut Turn<'_>) -> Reply {
        let name = match subcommand(args) {
            Ok(name) => name,
            Err(error) => return Reply::err(error),
        };
        if turn.facts.loading() && name != "help" {
            return Reply::Error("LOADING Redis is loading the dataset in memory".to_owned());
        }
        self.dispatch(name, args[0], &args[1..], turn).unwrap_or_else(|reply| reply)
    }

    /// What is wrong with the words after CLUSTER at first sight: an unknown subcommand or a wrong number of words. A
    /// transaction refuses such a command when it is queued.
    pub fn misuse(args: &[&[u8]]) -> Option<Reply> {
        subcommand(args).err().map(Reply::err)
    }

    /// A failing step answers with `Err(its reply)`.
    fn dispatch(
        &mut self,
        name: &str,
        word: &[u8],
        args: &[&[u8]],
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Reply> {
        Ok(match (name, args) {
            ("meet", [ip, port]) => self.meet(ip, port, None, turn)?,
            ("meet", [ip, port, bus]) => self.meet(ip, port, Some(bus), turn)?,
            ("nodes", _) => Reply::Text(self.nodes_text(true, turn)),
            ("myid", _) => Reply::bulk(self.my_id().as_str()),
            ("slots", _) => self.slots_reply(turn),
            ("shards", _) => self.shards_reply(turn),
            ("links", _) => self.links_reply(turn),
            ("info", _) => Reply::Text(self.info_text()),
            ("help", _) => Reply::Array(HELP.iter().map(|line| Reply::Simple((*line).to_owned())).collect()),
            ("flushslots", _) => self.flush_slots(turn),
            ("addslots" | "delslots", slots) => {
                let slots: Vec<u16> = slots.iter().map(|word| slot(word)).collect::<Result<_, _>>()?;
                self.change_slots(&slots, name == "addslots", turn)
            }
            ("addslotsrange" | "delslotsrange", ranges) => {
                if ranges.len() % 2 != 0 {
                    return Err(wrong_arity(name));
                }
                self.change_slots(&slot_ranges(ranges)?, name == "addslotsrange", turn)
            }
            ("setslot", [number, action, node @ ..]) => {
                if self.i_am_replica() {
                    return Err(Reply::err("Please use SETSLOT only with masters."));
                }
                let number = slot(number)?;
                match node {
                    [] => self.set_slot(number, action, None, turn),
                    [node] => self.set_slot(number, action, Some(node), turn),
                    _ => self.set_slot(number, b"", None, turn),
                }
            }
            ("bumpepoch", _) => {
                let word = if self.bump_epoch(turn) { "BUMPED" } else { "STILL" };
                Reply::Simple(format!("{word} {}", self.nodes.me().config_epoch))
            }
            ("saveconfig", _) => {
                self.save.promise();
                Reply::ok()
            }
            ("keyslot", [key]) => Reply::Integer(turn.facts.key_slot(key).into()),
            ("countkeysinslot", [number]) => {
                let number = valid_slot(integer(number)?).ok_or_else(|| Reply::err("Invalid slot"))?;
                Reply::Integer(turn.facts.keys_in_slot(number) as i64)
            }
            ("getkeysinslot", [number, count]) => {
                let (number, count) = (integer(number)?, integer(count)?);
                let slot = valid_slot(number).filter(|_| count >= 0);
                let slot = slot.ok_or_else(|| Reply::err("Invalid slot or number of keys"))?;
                let keys = turn.facts.some_keys_of_slot(slot, count as usize);
                Reply::Array(keys.into_iter().map(Reply::Bulk).collect())
            }
            ("forget", [node]) => self.forget_command(node, turn)?,
            ("replicate", [node]) => self.replicate(node, turn)?,
            ("replicas" | "slaves", [node]) => {
                let idx = self.node_named(node)?;
                if self.nodes.get(idx).is_replica() {
                    return Err(Reply::err("The specified node is not a master"));
                }
                let lines = self.nodes.get(idx).replicas.iter();
                Reply::Array(lines.map(|replica| Reply::bulk(self.node_line(*replica, turn))).collect())
            }
            ("count-failure-reports", [node]) => {
                let idx = self.node_named(node)?;
                Reply::Integer(self.count_failure_reports(idx, turn) as i64)
            }
            ("failover", []) => self.failover(None, turn)?,
            ("failover", [option]) => self.failover(Some(option), turn)?,
            ("set-config-epoch", [epoch]) => self.set_config_epoch(epoch, turn)?,
            ("reset", []) => self.reset_command(false, turn)?,
            ("reset", [how]) if how.eq_ignore_ascii_case(b"soft") => self.reset_command(false, turn)?,
            ("reset", [how]) if how.eq_ignore_ascii_case(b"hard") => self.reset_command(true, turn)?,
            ("reset", [_]) => return Err(Reply::err("syntax error")),
            _ => {
                let word = String::from_utf8_lossy(&word[..word.len().min(128)]);
                return Err(Reply::err(format!(
                    "unknown subcommand or wrong number of arguments for '{word}'. Try CLUSTER HELP."
                )));
            }
        })
    }

    fn meet(
        &mut self,
        ip: &[u8],
        port: &[u8],
        bus: Option<&&[u8]>,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Reply> {
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        let number = |word: &[u8], what: &str| {
            parse_integer(word)
                .ok_or_else(|| Reply::err(format!("Invalid TCP {what} port specified: {}", text(word))))
        };
        let base = number(port, "base")?;
        let bus = match bus {
            Some(word) => number(word, "bus")?,
            None => base.saturating_add(10_000),
        };
        let invalid = || Reply::err(format!("Invalid node address specified: {}:{}", text(ip), text(port)));
        let address: IpAddr = text(ip).parse().map_err(|_| invalid())?;
        let valid = |port: i64| u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(invalid);
        self.start_handshake(&address.to_string(), valid(base)?, valid(bus)?, turn);
        Ok(Reply::ok())
    }

    fn forget_command(&mut self, node: &[u8], turn: &mut Turn<'_>) -> Result<Reply, Reply> {
        let idx = self.node_named(node)?;
        if idx == MYSELF {
            return Err(Reply::err("I tried hard but I can't forget myself..."));
        }
        if self.i_am_replica() && self.my_master() == Some(idx) {
            return Err(Reply::err("Can't forget my master!"));
        }
        self.forget(idx, turn);
        Ok(Reply::ok())
    }

    fn replicate(&mut self, node: &[u8], turn: &mut Turn<'_>) -> Result<Reply, Reply> {
        let idx = self.node_named(node)?;
        if idx == MYSELF {
            return Err(Reply::err("Can't replicate myself"));
        }
        if self.nodes.get(idx).is_replica() {
            return Err(Reply::err("I can only replicate a master, not a replica."));
        }
        let me = self.nodes.me();
        if me.is_master() && (!me.slots.is_empty() || !turn.facts.no_keys()) {
            return Err(Reply::err("To set a master the node must be empty and without assigned slots."));
        }
        self.become_replica_of(idx, turn);
        Ok(Reply::ok())
    }

    fn failover(&mut self, option: Option<&&[u8]>, turn: &mut Turn<'_>) -> Result<Reply, Reply> {
        let is = |word: &str| option.is_some_and(|option| option.eq_ignore_ascii_case(word.as_bytes()));
        let (force, takeover) = (is("force"), is("takeover"));
        if option.is_some() && !force && !takeover {
            return Err(Reply::err("syntax error"));
        }
        if !self.i_am_replica() {
            return Err(Reply::err("You should send CLUSTER FAILOVER to a replica"));
        }
        let master: NodeIdx =
            self.my_master().ok_or_else(|| Reply::err("I'm a replica but my master is unknown to me"))?;
        let master = self.nodes.get(master);
        if (master.failed() || master.outbound.is_none()) && !force && !takeover {
            return Err(Reply::err("Master is down or failed, please use CLUSTER FAILOVER FORCE"));
        }
        if takeover {
            self.take_over_by_command(turn);
        } else if force {
            self.force_manual_failover(turn);
        } else {
            self.start_manual_failover(turn);
        }
        Ok(Reply::ok())
    }

    fn set_config_epoch(&mut self, epoch: &[u8], turn: &mut Turn<'_>) -> Result<Reply, Reply> {
        let epoch = integer(epoch)?;
        let Ok(new) = u64::try_from(epoch) else {
            return Err(Reply::err(format!("Invalid config epoch specified: {epoch}")));
        };
        if self.nodes.len() > 1 {
            return Err(Reply::err(
                "The user can assign a config epoch only when the node does not know any other node.",
            ));
        }
        if self.nodes.me().config_epoch != 0 {
            return Err(Reply::err("Node config epoch is already non-zero"));
        }
        self.nodes.me_mut().config_epoch = new;
        self.observe_epoch(new);
        self.save.promise();
        self.todo.update_state = true;
        turn.log(LogLevel::Warning, format!("configEpoch set to {new} via CLUSTER SET-CONFIG-EPOCH"));
        Ok(Reply::ok())
    }

    fn reset_command(&mut self, hard: bool, turn: &mut Turn<'_>) -> Result<Reply, Reply> {
        if self.nodes.me().is_master() && !turn.facts.no_keys() {
            return Err(Reply::err("CLUSTER RESET can't be called with master nodes containing keys"));
        }
        self.reset(hard, turn);
        Ok(Reply::ok())
    }
}

/// The subcommand that `args` begins with, if it takes so many words.
fn subcommand(args: &[&[u8]]) -> Result<&'static str, String> {
    let Some(word) = args.first() else {
        return Err("wrong number of arguments for 'cluster' command".to_owned());
    };
    let Some((name, arity)) = ARITY.iter().find(|(known, _)| word.eq_ignore_ascii_case(known.as_bytes()))
    else {
        let word = String::from_utf8_lossy(&word[..word.len().min(128)]);
        return Err(format!("unknown subcommand '{word}'. Try CLUSTER HELP."));
    };
    let words = args.len() as i32 + 1;
    if (*arity > 0 && words != *arity) || words < arity.abs() {
        return Err(format!("wrong number of arguments for 'cluster|{name}' command"));
    }
    Ok(name)
}

fn wrong_arity(name: &str) -> Reply {
    Reply::err(format!("wrong number of arguments for 'cluster|{name}' command"))
}

/// An integer as Redis takes them: no sign but `-`, no spaces, no leading zeros.
fn parse_integer(word: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(word).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn integer(word: &[u8]) -> Result<i64, Reply> {
    parse_integer(word).ok_or_else(|| Reply::err("value is not an integer or out of range"))
}

fn valid_slot(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|slot| *slot < SLOTS)
}

fn slot(word: &[u8]) -> Result<u16, Reply> {
    let number = parse_integer(word).and_then(valid_slot);
    number.ok_or_else(|| Reply::err("Invalid or out of range slot"))
}

fn slot_ranges(words: &[&[u8]]) -> Result<Vec<u16>, Reply> {
    let mut slots = Vec::new();
    for pair in words.chunks_exact(2) {
        let (first, last) = (slot(pair[0])?, slot(pair[1])?);
        if first > last {
            return Err(Reply::err(format!(
                "start slot number {first} is greater than end slot number {last}"
            )));
        }
        slots.extend(first..=last);
    }
    Ok(slots)
}
