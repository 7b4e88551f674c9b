//! A whole run in memory: operations paired and compact, everything else as recorded. Built line by line, by the
//! reader of a run's folder or by whoever has the lines at hand.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::{
    Body, BusLine, Call, Datum, Event, FaultStep, Kind, Nanos, Op, OpKind, Phase, Process, ReplicaCompare,
    RunInfo, Speaker, StreamLine, View,
};
use crate::slots;

/// A map with a fixed hasher, for look-ups only: it is never iterated.
type Lookup<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// A node, as an index into [`Record::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

/// A key, as an index into [`Record::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

/// Everything that a run recorded.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub info: RunInfo,
    /// Names: the plan's nodes first, then whatever else was named.
    pub nodes: Vec<String>,
    pub keys: Vec<Key>,
    /// Operations in the order of their invocations.
    pub ops: Vec<Operation>,
    pub faults: Vec<FaultEvent>,
    /// When each phase began.
    pub phases: Vec<(Nanos, Phase)>,
    pub stalls: Vec<StallSpan>,
    pub compares: Vec<CompareEvent>,
    pub views: Vec<View>,
    pub stream: Vec<StreamLine>,
    /// What passed on the cluster bus, in file order (witnesses count lines); absent: it was not watched.
    pub bus: Option<Vec<BusLine>>,
    /// The latest time on any line.
    pub end: Nanos,
    /// Files whose last line was cut off by a crash (`file:line`); that line is left out.
    pub torn: Vec<String>,
    node_ids: BTreeMap<String, NodeId>,
}

/// A key and its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub slot: u16,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did happen.
    Ok,
    /// It certainly did not.
    Fail,
    /// Unknown; also when the record ends before its completion.
    Info,
}

/// An invocation and its completion.
#[derive(Clone, Debug)]
pub struct Operation {
    pub kind: OpKind,
    pub key: KeyId,
    /// The element written (of several, the first).
    pub value: Option<u64>,
    pub process: u64,
    pub client: Option<u32>,
    /// When the schedule wanted it to start.
    pub intended: Nanos,
    pub invoked: Nanos,
    /// Absent: the record ends before.
    pub completed: Option<Nanos>,
    pub outcome: Outcome,
    /// History indexes.
    pub invoke_index: u64,
    pub complete_index: Option<u64>,
    /// Who answered, or was asked last.
    pub node: Option<NodeId>,
    pub reply: Option<i64>,
    pub wait: Option<i64>,
    pub wait_wanted: Option<i64>,
    /// A read after convergence.
    pub is_final: bool,
    /// What an ok read saw.
    pub seen: Option<Box<ReadResult>>,
    /// Arguments and answer, of kinds that have more than an element.
    pub call: Option<Box<Called>>,
}

/// Arguments and answer: what they mean, [`OpKind`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    pub asked: Datum,
    /// Nil unless it was ok.
    pub answer: Datum,
}

/// What a read saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadResult {
    pub elements: Vec<u64>,
    /// Elements that are none of ours.
    pub foreign: Vec<String>,
}

/// A fault's step and when it happened.
#[derive(Clone, Debug)]
pub struct FaultEvent {
    pub index: u64,
    pub time: Nanos,
    pub step: FaultStep,
}

/// The host or the controller did not run in this interval.
#[derive(Clone, Debug)]
pub struct StallSpan {
    pub from: Nanos,
    pub to: Nanos,
    pub of: String,
}

/// A replica was compared with its master.
#[derive(Clone, Debug)]
pub struct CompareEvent {
    pub index: u64,
    pub time: Nanos,
    pub compare: ReplicaCompare,
}

impl Operation {
    /// True if it may change something.
    pub fn is_write(&self) -> bool {
        self.kind.writes()
    }

    /// What was asked, beside the element.
    pub fn asked(&self) -> &Datum {
        self.call.as_ref().map_or(&Datum::Nil, |call| &call.asked)
    }

    /// What was answered, beside the elements of a read.
    pub fn answer(&self) -> &Datum {
        self.call.as_ref().map_or(&Datum::Nil, |call| &call.answer)
    }

    /// The elements that an ok read saw.
    pub fn elements(&self) -> Option<&[u64]> {
        self.seen.as_ref().map(|seen| seen.elements.as_slice())
    }

    /// The end of the interval in which it took effect, if it did; `Nanos::MAX` when that is unknown.
    pub fn latest_effect(&self) -> Nanos {
        match self.outcome {
            Outcome::Ok => self.completed.unwrap_or(Nanos::MAX),
            Outcome::Fail | Outcome::Info => Nanos::MAX,
        }
    }

    /// History indexes of invocation and completion.
    pub fn witness(&self) -> Vec<u64> {
        std::iter::once(self.invoke_index).chain(self.complete_index).collect()
    }
}

impl Record {
    /// A node's name.
    pub fn node_name(&self, node: NodeId) -> &str {
        &self.nodes[usize::from(node.0)]
    }

    /// The node of this name, if any line or the plan named it.
    pub fn node_id(&self, name: &str) -> Option<NodeId> {
        self.node_ids.get(name).copied()
    }

    /// The key of an operation.
    pub fn key(&self, key: KeyId) -> &Key {
        &self.keys[key.0 as usize]
    }

    /// When a phase began.
    pub fn phase(&self, wanted: Phase) -> Option<Nanos> {
        self.phases.iter().find(|(_, phase)| *phase == wanted).map(|&(time, _)| time)
    }

    /// The interval of load and storm, in which clients work: from the first phase (or 0) to the beginning of
    /// convergence (or the end of the record).
    pub fn working_time(&self) -> (Nanos, Nanos) {
        let from = self.phase(Phase::Load).or(self.phase(Phase::Storm)).unwrap_or(0);
        let to = [Phase::Converge, Phase::FinalReads, Phase::End]
            .into_iter()
            .find_map(|phase| self.phase(phase))
            .unwrap_or(self.end);
        (from, to.max(from))
    }

    /// The shard that a slot belonged to at the start.
    pub fn shard_of_slot(&self, slot: u16) -> Option<u32> {
        self.info.nodes.iter().find(|node| slots::contains(&node.slots, slot)).map(|node| node.shard)
    }
}

impl Process {
    /// A number of its own for each speaker, so that those who are no clients may read, too.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Client(number) => number,
            Self::Other(Speaker::Nemesis) => u64::MAX - 1,
            Self::Other(Speaker::Harness) => u64::MAX,
        }
    }
}

/// Collects the lines of a run.
#[derive(Debug, Default)]
pub struct RecordBuilder {
    record: Record,
    key_ids: Lookup<String, KeyId>,
    /// Process number to its open operation.
    open: Lookup<u64, usize>,
    next_index: u64,
}

impl RecordBuilder {
    /// Begins with the plan.
    pub fn new(info: RunInfo) -> Self {
        let mut builder = Self::default();
        for node in &info.nodes {
            builder.name(&node.name);
        }
        builder.record.info = info;
        builder
    }

    /// Takes a line of the history. Lines come in file order; an error says what was expected of this one.
    pub fn event(&mut self, event: Event) -> Result<(), String> {
        let Event { index, time, kind, process, body } = event;
        match body {
            Body::Add(op) => return self.operation(index, time, kind, process, OpKind::Add, op),
            Body::Append(op) => return self.operation(index, time, kind, process, OpKind::Append, op),
            Body::Read(op) => return self.operation(index, time, kind, process, OpKind::Read, op),
            Body::Call(call) => return self.call(index, time, kind, process, call),
            _ => self.count(index, time)?,
        }
        match body {
            Body::Fault(step) => self.record.faults.push(FaultEvent { index, time, step }),
            Body::Phase { value } => self.record.phases.push((time, value)),
            Body::Stall { value, of } => {
                self.record.stalls.push(StallSpan { from: time.saturating_sub(value), to: time, of });
            }
            Body::ReplicaCompare(compare) => self.record.compares.push(CompareEvent { index, time, compare }),
            Body::Add(_) | Body::Append(_) | Body::Read(_) | Body::Call(_) => {}
        }
        Ok(())
    }

    /// Takes a line of the views.
    pub fn view(&mut self, view: View) {
        self.record.end = self.record.end.max(view.time);
        self.name(&view.node);
        self.record.views.push(view);
    }

    /// Takes a line of the replication streams.
    pub fn stream(&mut self, line: StreamLine) {
        self.record.end = self.record.end.max(line.time);
        self.name(&line.from);
        self.name(&line.to);
        self.record.stream.push(line);
    }

    /// The bus was watched, though it may have no line.
    pub fn bus_watched(&mut self) {
        self.record.bus.get_or_insert_default();
    }

    /// Takes a line of the cluster bus.
    pub fn bus(&mut self, line: BusLine) {
        self.record.end = self.record.end.max(line.time);
        self.record.bus.get_or_insert_default().push(line);
    }

    /// Notes that a file's last line was cut off.
    pub fn torn(&mut self, place: String) {
        self.record.torn.push(place);
    }

    /// Hands out the whole. Views and streams are put in the order of time.
    pub fn finish(mut self) -> Record {
        self.record.views.sort_by_key(|view| view.time);
        self.record.stream.sort_by_key(|line| line.time);
        self.record.faults.sort_by_key(|fault| fault.time);
        self.record
    }

    fn call(
        &mut self,
        index: u64,
        time: Nanos,
        kind: Kind,
        process: Process,
        call: Call,
    ) -> Result<(), String> {
        let Call { f, asked, answer, op } = call;
        if f.grows() || f == OpKind::Read {
            return Err(format!("{f} without \"answer\", and with a number or nothing in \"value\""));
        }
        let at = match kind {
            Kind::Invoke => Some(self.record.ops.len()),
            _ => self.open.get(&process.number()).copied(),
        };
        self.operation(index, time, kind, process, f, Op { value: f.element(&asked), ..op })?;
        if let Some(op) = at.and_then(|at| self.record.ops.get_mut(at)) {
            let answer = if kind == Kind::Ok { answer } else { Datum::Nil };
            op.call = Some(Box::new(Called { asked, answer }));
        }
        Ok(())
    }

    fn operation(
        &mut self,
        index: u64,
        time: Nanos,
        kind: Kind,
        process: Process,
        what: OpKind,
        op: Op,
    ) -> Result<(), String> {
        let process = process.number();
        if kind == Kind::Invoke {
            return self.invoke(index, time, process, what, &op.key, op.value, &OpExtras::from(&op));
        }
        let node = op.node.as_deref().map(|name| self.name(name));
        let seen = op
            .elements
            .map(|elements| Box::new(ReadResult { elements, foreign: op.foreign }))
            .filter(|_| kind == Kind::Ok);
        self.complete(Completion {
            index,
            time,
            kind,
            process,
            node,
            reply: op.reply,
            wait: op.wait,
            wait_wanted: op.wait_wanted,
            is_final: op.is_final,
            seen,
        })
    }

    #[allow(clippy::too_many_arguments)] // one line's fields, in its order
    pub(super) fn invoke(
        &mut self,
        index: u64,
        time: Nanos,
        process: u64,
        kind: OpKind,
        key: &str,
        value: Option<u64>,
        extras: &OpExtras,
    ) -> Result<(), String> {
        if kind.grows() && value.is_none() {
            return Err("a write with the element it writes in \"value\"".into());
        }
        if self.open.contains_key(&process) {
            return Err(format!(
                "the completion of process {process}'s operation before its next invocation"
            ));
        }
        self.count(index, time)?;
        let key = self.key(key);
        self.open.insert(process, self.record.ops.len());
        self.record.ops.push(Operation {
            kind,
            key,
            value: value.filter(|_| kind.writes()),
            process,
            client: extras.client,
            intended: extras.intended.unwrap_or(time),
            invoked: time,
            completed: None,
            outcome: Outcome::Info,
            invoke_index: index,
            complete_index: None,
            node: None,
            reply: None,
            wait: None,
            wait_wanted: extras.wait_wanted,
            is_final: extras.is_final,
            seen: None,
            call: None,
        });
        Ok(())
    }

    pub(super) fn complete(&mut self, done: Completion) -> Result<(), String> {
        let Some(at) = self.open.remove(&done.process) else {
            return Err(format!("an invocation of process {} before its completion", done.process));
        };
        self.count(done.index, done.time)?;
        let op = &mut self.record.ops[at];
        op.completed = Some(done.time);
        op.complete_index = Some(done.index);
        op.outcome = match done.kind {
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            Kind::Invoke | Kind::Info => Outcome::Info,
        };
        op.node = done.node;
        op.reply = done.reply;
        op.wait = done.wait;
        op.wait_wanted = done.wait_wanted.or(op.wait_wanted);
        op.is_final |= done.is_final;
        op.seen = done.seen;
        if op.kind == OpKind::Read && op.outcome == Outcome::Ok && op.seen.is_none() {
            return Err("\"elements\" on an ok read".into());
        }
        Ok(())
    }

    /// The id of a node's name; a new one if it was never named.
    pub(super) fn name(&mut self, name: &str) -> NodeId {
        if let Some(&id) = self.record.node_ids.get(name) {
            return id;
        }
        let known = self.record.nodes.len();
        let Ok(number) = u16::try_from(known) else {
            return NodeId(u16::MAX); // more names than any cluster has nodes: they share the last one
        };
        let id = NodeId(number);
        self.record.nodes.push(name.to_owned());
        self.record.node_ids.insert(name.to_owned(), id);
        id
    }

    fn key(&mut self, name: &str) -> KeyId {
        if let Some(&id) = self.key_ids.get(name) {
            return id;
        }
        let id = KeyId(self.record.keys.len() as u32);
        self.record.keys.push(Key { name: name.to_owned(), slot: slots::slot_of(name.as_bytes()) });
        self.key_ids.insert(name.to_owned(), id);
        id
    }

    fn count(&mut self, index: u64, time: Nanos) -> Result<(), String> {
        if index != self.next_index {
            return Err(format!("index {} (a line is missing or out of order)", self.next_index));
        }
        self.next_index += 1;
        self.record.end = self.record.end.max(time);
        Ok(())
    }
}

/// What an invocation may say besides key and value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpExtras {
    pub intended: Option<Nanos>,
    pub client: Option<u32>,
    pub wait_wanted: Option<i64>,
    pub is_final: bool,
}

impl From<&Op> for OpExtras {
    fn from(op: &Op) -> Self {
        Self { intended: op.intended, client: op.client, wait_wanted: op.wait_wanted, is_final: op.is_final }
    }
}

/// A completion's fields.
#[derive(Debug)]
pub(super) struct Completion {
    pub index: u64,
    pub time: Nanos,
    pub kind: Kind,
    pub process: u64,
    pub node: Option<NodeId>,
    pub reply: Option<i64>,
    pub wait: Option<i64>,
    pub wait_wanted: Option<i64>,
    pub is_final: bool,
    pub seen: Option<Box<ReadResult>>,
}
