//! Evidence on what erased a write: which promotion's node had no copy of it, told by replication offsets, by what
//! passed on the replication links, and by the order of operations on one master. Nothing here guesses: each answer
//! is `Lacked` or `Had` with its proof in words, or `Unknown` with what is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::Index;
use crate::record::{Nanos, NodeId, Outcome, Record, StreamWhat};
use crate::timeline::{Promotion, Timeline, seconds};

/// Whether the promoted node had a copy of the write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    Lacked(String),
    Had(String),
    Unknown(String),
}

/// A write in question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    /// What names it on a replication link; None for what carries no element.
    pub element: Option<u64>,
    pub slot: u16,
    /// Who executed it, as far as the record says.
    pub node: Option<NodeId>,
    pub invoked: Nanos,
    /// It had been executed by then.
    pub executed_by: Nanos,
}

/// What is known of one suspect.
#[derive(Clone, Debug, Default)]
pub(super) struct Erasure {
    /// Its end offset in its master's history.
    pub offset: Option<u64>,
    /// The promotion whose node lacked it, as an index into the promotions.
    pub by: Option<usize>,
    /// The first promotion of which nobody can say whether its node had it: it was executed in the short time in which the
    /// old master may have passed the promotion's offset.
    pub undecided: Option<usize>,
    /// Proof, or what is missing of it.
    pub proof: String,
}

/// A replication stream from its base to its end.
#[derive(Debug)]
struct Link {
    from: NodeId,
    to: NodeId,
    start: Nanos,
    end: Nanos,
    full: bool,
    replid: String,
    lost: Option<String>,
    /// Lines of the record's stream that hold its elements.
    lines: Vec<usize>,
}

/// Where a promotion's offset lies among the operations of the old master, told by their offsets and its polls.
#[derive(Clone, Copy, Debug)]
struct Bracket {
    /// Whose operations.
    master: NodeId,
    /// What this master executed after this moment lies beyond the promotion's offset.
    beyond_from: Nanos,
    /// What it executed before this moment lies within.
    within_until: Nanos,
}

/// All evidence of a run.
pub(super) struct Evidence<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
    links: Vec<Link>,
    /// Of the suspects' elements: link and end offset.
    occurrences: BTreeMap<u64, Vec<(usize, u64)>>,
    /// By promotion.
    brackets: Vec<Option<Bracket>>,
}

impl<'a> Evidence<'a> {
    /// Gathers it for the elements in question; None: there is nothing in question.
    pub fn of(
        record: &'a Record,
        timeline: &'a Timeline,
        index: &Index,
        suspects: Option<&BTreeSet<u64>>,
    ) -> Self {
        let links = links_of(record);
        let mut occurrences: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
        if let Some(suspects) = suspects {
            for (number, link) in links.iter().enumerate() {
                for (element, offset) in elements(record, link) {
                    if suspects.contains(&element) {
                        occurrences.entry(element).or_default().push((number, offset));
                    }
                }
            }
        }
        let brackets = if suspects.is_none() {
            vec![None; timeline.promotions.len()]
        } else {
            let masters = masters_of_histories(record);
            timeline.promotions.iter().map(|p| bracket(record, index, &links, &masters, p)).collect()
        };
        Self { record, timeline, links, occurrences, brackets }
    }

    /// The first promotion after the write whose node lacked it.
    pub fn erasure(&self, suspect: &Suspect) -> Erasure {
        let mut position = self.position(suspect);
        let mut erasure =
            Erasure { offset: position.as_ref().map(|(_, offset)| *offset), ..Erasure::default() };
        let mut told: Vec<String> = Vec::new();
        for number in self.candidates(suspect) {
            let promotion = &self.timeline.promotions[number];
            match self.copy(suspect, position.as_ref(), number) {
                Copy::Lacked(proof) => {
                    erasure.by = Some(number);
                    erasure.proof = proof;
                    return erasure;
                }
                Copy::Had(proof) => {
                    told.push(proof);
                    position = position.map(|(_, offset)| (promotion.new_replid.clone(), offset));
                }
                Copy::Unknown(missing) => {
                    let between = self.brackets[number].is_some_and(|b| Some(b.master) == suspect.node);
                    if between && erasure.undecided.is_none() {
                        erasure.undecided = Some(number);
                    }
                    told.push(missing);
                }
            }
        }
        erasure.proof =
            if told.is_empty() { "no promotion took its slot after it".into() } else { told.join("; ") };
        erasure
    }

    /// True if a full resynchronisation of this node began in the interval.
    pub fn full_resync(&self, node: NodeId, from: Nanos, to: Nanos) -> bool {
        self.links.iter().any(|link| link.full && link.to == node && from <= link.start && link.start <= to)
    }

    /// True if this node took a full resynchronisation over at some moment of the interval: it serves its old data until the
    /// new has arrived, and says only then that its link is up.
    pub fn full_resync_under_way(&self, node: NodeId, from: Nanos, to: Nanos) -> bool {
        let began = self.links.iter().filter(|link| link.full && link.to == node && link.start <= to);
        let Some(start) = began.map(|link| link.start).max() else { return false };
        let mut since = self
            .timeline
            .words(self.record, node)
            .filter(|(view, _)| view.sent >= start && view.time <= from);
        let over = since.any(|(_, seen)| !seen.master && seen.link_up);
        start >= from || !over
    }

    /// Promotions of the suspect's slot after the one that made its node a master; and those over its node, if that was
    /// asked in the middle of the slot's way to it: what it had taken of the slot by then went with the rest.
    fn candidates(&self, suspect: &Suspect) -> Vec<usize> {
        let promotions = &self.timeline.promotions;
        let open = self.timeline.open_slots.of_slot(suspect.slot);
        let on_its_way = open.iter().any(|(_, span)| span.meets(suspect.invoked, suspect.executed_by));
        let of_slot: Vec<usize> = (0..promotions.len())
            .filter(|&i| {
                let over_its_node =
                    on_its_way && suspect.node.is_some() && promotions[i].from == suspect.node;
                over_its_node || crate::slots::contains(&promotions[i].slots, suspect.slot)
            })
            .collect();
        let own = of_slot.iter().rposition(|&i| {
            Some(promotions[i].node) == suspect.node && promotions[i].earliest <= suspect.executed_by
        });
        match (own, suspect.node) {
            (Some(own), _) => of_slot[own + 1..].to_vec(),
            (None, Some(node)) => {
                let since = self.got_slot(node, suspect);
                of_slot
                    .into_iter()
                    .filter(|&i| since.is_none_or(|since| promotions[i].time >= since))
                    .collect()
            }
            (None, None) => of_slot.into_iter().filter(|&i| promotions[i].time >= suspect.invoked).collect(),
        }
    }

    /// Since when the node said that it had the suspect's slot, if it had not had it before: it was carried there.
    fn got_slot(&self, node: NodeId, suspect: &Suspect) -> Option<Nanos> {
        let mut since = None;
        let mut had = true;
        for (view, seen) in self.timeline.words(self.record, node) {
            if view.time > suspect.executed_by {
                break;
            }
            let has = seen.master && crate::slots::contains(&seen.slots, suspect.slot);
            if has != had {
                since = has.then_some(view.time);
            }
            had = has;
        }
        since
    }

    /// History and end offset of the write, as its master sent it.
    fn position(&self, suspect: &Suspect) -> Option<(String, u64)> {
        let of_master =
            |&&(link, _): &&(usize, u64)| suspect.node.is_none_or(|node| self.links[link].from == node);
        let &(link, offset) = self.occurrences.get(&suspect.element?)?.iter().find(of_master)?;
        Some((self.links[link].replid.clone(), offset))
    }

    fn copy(&self, suspect: &Suspect, position: Option<&(String, u64)>, number: usize) -> Copy {
        let promotion = &self.timeline.promotions[number];
        let name = self.record.node_name(promotion.node);
        let when = seconds(promotion.time);
        if let (Some((replid, offset)), Some(promoted)) = (position, promotion.offset)
            && *replid == promotion.replid
        {
            return if *offset > promoted {
                Copy::Lacked(format!(
                    "its end offset {offset} lies beyond the offset {promoted} at which {name} was promoted \
                         (seen at {when})"
                ))
            } else {
                Copy::Had(format!("{name}, promoted at offset {promoted} ({when}), had its offset {offset}"))
            };
        }
        if let Some((replid, offset)) = position
            && let Some(told) = self.told_last(promotion, replid)
        {
            let when_told = seconds(promotion.earliest);
            return if *offset > told {
                Copy::Lacked(format!(
                    "its end offset {offset} lies beyond the offset {told} that {name} had told last ({when_told}), and \
                     {name} ended before it told where it was promoted"
                ))
            } else {
                Copy::Had(format!("{name} had its offset {offset} before it was promoted ({when_told})"))
            };
        }
        let elsewhere = suspect.node.is_some_and(|node| node != promotion.node);
        if elsewhere && suspect.invoked > promotion.time {
            return Copy::Lacked(format!(
                "{name} was already a master (seen at {when}) when it was asked for"
            ));
        }
        if let Some(bracket) = self.brackets[number].filter(|b| Some(b.master) == suspect.node) {
            if suspect.invoked >= bracket.beyond_from {
                return Copy::Lacked(format!(
                    "its master was beyond the offset at which {name} was promoted ({when}) by {}, before it was \
                     asked for",
                    seconds(bracket.beyond_from)
                ));
            }
            if suspect.executed_by <= bracket.within_until {
                return Copy::Had(format!(
                    "its master was still within the offset at which {name} was promoted ({when}) at {}, after it \
                     was executed",
                    seconds(bracket.within_until)
                ));
            }
        }
        self.never_sent(suspect, promotion)
    }

    /// The offset in this history that the node told last as a replica, if it never told the offset of its promotion: it ended
    /// in between.
    fn told_last(&self, promotion: &Promotion, replid: &str) -> Option<u64> {
        let ended = self.timeline.faults.stopped_within(promotion.node, promotion.earliest, promotion.time);
        if promotion.offset.is_some() || !ended {
            return None;
        }
        let mut words = self.timeline.words(self.record, promotion.node);
        let (_, last) = words.find(|(view, _)| view.sent == promotion.earliest)?;
        (!last.master && last.replid == replid).then_some(last.offset)
    }

    /// Whether the taps of the links to the promoted node tell that it never got the write.
    fn never_sent(&self, suspect: &Suspect, promotion: &Promotion) -> Copy {
        let name = self.record.node_name(promotion.node);
        let Some(element) = suspect.element else {
            return Copy::Unknown("it carries no element that could be seen on its way".to_owned());
        };
        let Some(node) = suspect.node else {
            return Copy::Unknown(format!("nobody knows who executed it, so {name} may have had it"));
        };
        let into: Vec<(usize, &Link)> = self
            .links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.to == promotion.node && link.start <= promotion.time)
            .collect();
        if !into.iter().any(|(_, link)| link.from == node) {
            return Copy::Unknown(format!(
                "no tap of a replication link from {} to {name}",
                self.record.node_name(node)
            ));
        }
        for (number, link) in into.into_iter().filter(|(_, link)| link.end >= suspect.invoked) {
            if let Some(why) = &link.lost {
                return Copy::Unknown(format!("the tap of the link to {name} lost the stream ({why})"));
            }
            if link.full && link.start >= suspect.invoked {
                return Copy::Unknown(format!("{name} began a full resync after it, which may have held it"));
            }
            let passed = self.occurrences.get(&element).is_some_and(|o| o.iter().any(|o| o.0 == number));
            if passed {
                return Copy::Unknown(format!(
                    "it was sent to {name}, whose offset at promotion in that history is not known"
                ));
            }
        }
        Copy::Lacked(format!(
            "it never passed on a replication link to {name}, tapped whole until its promotion ({})",
            seconds(promotion.time)
        ))
    }
}

fn links_of(record: &Record) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut current: BTreeMap<u64, usize> = BTreeMap::new();
    for (number, line) in record.stream.iter().enumerate() {
        let base = match &line.what {
            StreamWhat::Full { replid, .. } => Some((replid, true)),
            StreamWhat::Continue { replid, .. } => Some((replid, false)),
            _ => None,
        };
        if let Some((replid, full)) = base {
            let (Some(from), Some(to)) = (record.node_id(&line.from), record.node_id(&line.to)) else {
                continue;
            };
            if let Some(before) = current.insert(line.conn, links.len()) {
                links[before].end = links[before].end.min(line.time);
            }
            links.push(Link {
                from,
                to,
                start: line.time,
                end: Nanos::MAX,
                full,
                replid: replid.clone(),
                lost: None,
                lines: Vec::new(),
            });
            continue;
        }
        let Some(link) = current.get(&line.conn).map(|&at| &mut links[at]) else { continue };
        match &line.what {
            StreamWhat::Elements { .. } => link.lines.push(number),
            StreamWhat::Lost { why } => link.lost = Some(why.clone()),
            StreamWhat::End { .. } => link.end = line.time,
            StreamWhat::Full { .. } | StreamWhat::Continue { .. } | StreamWhat::Keys { .. } => {}
        }
    }
    links
}

fn elements<'a>(record: &'a Record, link: &'a Link) -> impl Iterator<Item = (u64, u64)> + 'a {
    link.lines
        .iter()
        .flat_map(|&line| match &record.stream[line].what {
            StreamWhat::Elements { elements } => elements.as_slice(),
            _ => &[],
        })
        .copied()
}

/// Who wrote each history: the node that said it was a master in it.
fn masters_of_histories(record: &Record) -> BTreeMap<&str, NodeId> {
    let mut masters = BTreeMap::new();
    for view in &record.views {
        let Some(seen) = view.seen.as_ref().filter(|seen| seen.master) else { continue };
        if let Some(node) = record.node_id(&view.node) {
            masters.entry(seen.replid.as_str()).or_insert(node);
        }
    }
    masters
}

fn bracket(
    record: &Record,
    index: &Index,
    links: &[Link],
    masters: &BTreeMap<&str, NodeId>,
    promotion: &Promotion,
) -> Option<Bracket> {
    let promoted = promotion.offset?;
    let &master = masters.get(promotion.replid.as_str())?;
    let mut bracket = Bracket { master, beyond_from: Nanos::MAX, within_until: 0 };
    for view in &record.views {
        let Some(seen) = view.seen.as_ref().filter(|seen| seen.master && seen.replid == promotion.replid)
        else {
            continue;
        };
        if record.node_id(&view.node) == Some(master) {
            bracket.note(seen.offset >= promoted, seen.offset <= promoted, view.sent, view.time);
        }
    }
    for link in links.iter().filter(|link| link.replid == promotion.replid && link.from == master) {
        for (element, offset) in elements(record, link) {
            let Some(op) = index.write_of(element).map(|write| &record.ops[write as usize]) else { continue };
            if let (Outcome::Ok, Some(completed), Some(node)) = (op.outcome, op.completed, op.node)
                && node == master
            {
                bracket.note(offset >= promoted, offset <= promoted, op.invoked, completed);
            }
        }
    }
    Some(bracket)
}

impl Bracket {
    /// The master stood at an offset at some moment of `from..=to`.
    fn note(&mut self, at_or_beyond: bool, at_or_within: bool, from: Nanos, to: Nanos) {
        if at_or_beyond {
            self.beyond_from = self.beyond_from.min(to);
        }
        if at_or_within {
            self.within_until = self.within_until.max(from);
        }
    }
}
