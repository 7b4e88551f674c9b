//! A machine and the process on it: the node, driven as the real shell drives it.

pub mod in_node;
mod saver;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use slotstorm_node::config::{CommandLine, Config, Key, Source, parse_args};
use slotstorm_node::io::{ConnId, DiskError, Effects, Input, SnapshotId, Stopwatch, Vitals};
use slotstorm_node::node::{Node, NodeBoot};

use crate::Nanos;
use crate::clock::Clock;
use crate::cluster::{Event, Events, Exited, MachineOptions, MachineState, ProcessPace};
use crate::disk::{Disk, DiskPace, Done};
use crate::network::{Network, Notice};
use saver::Savers;
use turn::{Pending, Process, Turn};

/// What a machine acts on.
pub(crate) struct Surroundings<'a> {
    pub now: Nanos,
    pub events: &'a mut Events,
    pub network: &'a mut Network,
    pub exited: &'a mut Vec<Exited>,
    /// Processes that look at what has come as soon as this event is over, by node and generation.
    pub due: &'a mut VecDeque<(u16, u32)>,
}

/// A machine: disk, clock, and at times a process.
pub(crate) struct Machine {
    number: u16,
    options: MachineOptions,
    pace: ProcessPace,
    disk: Disk,
    clock: Clock,
    /// Of processes: entropy, how long a start takes.
    rng: ChaCha8Rng,
    /// Grows with each start and end: events of former processes are nobody's.
    generation: u32,
    state: MachineState,
    /// It was asked to end.
    condemned: bool,
    process: Option<Box<Process>>,
    /// Events that came while the process was stopped.
    frozen: Vec<Event>,
    log: String,
}

impl Machine {
    pub fn new(
        number: u16,
        options: MachineOptions,
        disk: DiskPace,
        pace: ProcessPace,
        [disk_rng, rng]: [ChaCha8Rng; 2],
    ) -> Self {
        Self {
            number,
            options,
            pace,
            disk: Disk::new(disk, disk_rng),
            clock: Clock::right(),
            rng,
            generation: 0,
            state: MachineState::Down { status: None },
            condemned: false,
            process: None,
            frozen: Vec::new(),
            log: String::new(),
        }
    }

    pub fn state(&self) -> MachineState {
        self.state.clone()
    }

    pub fn log(&self) -> &str {
        &self.log
    }

    pub fn disk(&mut self) -> &mut Disk {
        &mut self.disk
    }

    pub fn read_file(&self, name: &str) -> Option<&[u8]> {
        self.disk.read(name)
    }

    pub fn file_names(&self) -> Vec<String> {
        self.disk.names().map(str::to_owned).collect()
    }

    pub fn change_clock(&mut self, around: &mut Surroundings<'_>, change: impl FnOnce(Nanos, &mut Clock)) {
        change(around.now, &mut self.clock);
        // The deadline it sleeps until may now be at another time.
        self.wake_by(around.now, around);
    }

    /// False if one runs already.
    pub fn start(&mut self, pid: u32, around: &mut Surroundings<'_>) -> bool {
        if !matches!(self.state, MachineState::Down { .. }) {
            return false;
        }
        self.state = MachineState::Running { pid };
        self.condemned = false;
        self.generation += 1;
        let (low, high) = self.pace.boot_ns;
        let at = around.now + self.rng.random_range(low..=high.max(low));
        around.events.push(at, Event::Boot { node: self.number, generation: self.generation });
        true
    }

    pub fn boot(&mut self, generation: u32, around: &mut Surroundings<'_>) {
        if self.is_former(generation) || self.keep(Event::Boot { node: self.number, generation }) {
            return;
        }
        let (MachineState::Running { pid } | MachineState::Stopped { pid }) = self.state else { return };
        let mut entropy = [0; 32];
        self.rng.fill_bytes(&mut entropy);
        let mut config = match configuration(&self.options.args) {
            Ok(config) => config,
            Err(why) => return self.end(&format!("refused its configuration: {why}"), around),
        };
        config.zoo = self.options.zoo;
        let conf_file = config.text(Key::ClusterConfigFile).to_owned();
        if config.flag(Key::ClusterEnabled) && self.disk.read(&conf_file).is_none() {
            // The lock is a file, and the shell makes it.
            self.disk.put(&conf_file, Vec::new());
        }
        let boot = self.clock.local(around.now);
        let mut effects = Effects::default();
        let now = self.clock.now(around.now, boot);
        let parts =
            NodeBoot { config, now, entropy, pid, stopwatch: Stopwatch::STOPPED, vitals: Vitals::UNKNOWN };
        let node = Node::new(parts, &mut effects);
        let durable = node.durable();
        self.process = Some(Box::new(Process {
            node,
            boot,
            effects,
            pending: VecDeque::new(),
            connections: BTreeMap::new(),
            dirty: Vec::new(),
            gated: Vec::new(),
            durable,
            savers: Savers::default(),
            done: Vec::new(),
            free_at: around.now,
            wake_at: None,
            queued_at: None,
            exit: None,
            said_ready: false,
        }));
        around.network.set_listening(self.number, true);
        self.wake_by(around.now, around);
    }

    /// kill -9, or a crash.
    pub fn die(&mut self, status: &str, around: &mut Surroundings<'_>) {
        if matches!(self.state, MachineState::Down { .. }) {
            return;
        }
        self.condemned = true;
        self.end(status, around);
    }

    pub fn lose_power(&mut self, around: &mut Surroundings<'_>) {
        self.die("lost power", around);
        self.disk.lose_power();
    }

    pub fn terminate(&mut self, around: &mut Surroundings<'_>) {
        if matches!(self.state, MachineState::Down { .. }) {
            return;
        }
        self.condemned = true;
        match &mut self.process {
            Some(process) => process.pending.push_back(Pending::Terminate),
            // It has not set its signal handlers yet.
            None => return self.end("killed by signal 15", around),
        }
        self.wake_by(around.now, around);
    }

    pub fn stop(&mut self) {
        if let MachineState::Running { pid } = self.state {
            self.state = MachineState::Stopped { pid };
        }
    }

    pub fn resume(&mut self, around: &mut Surroundings<'_>) {
        let MachineState::Stopped { pid } = self.state else { return };
        self.state = MachineState::Running { pid };
        for event in self.frozen.drain(..) {
            around.events.push(around.now, event);
        }
        if let Some(process) = &mut self.process {
            process.wake_at = None;
        }
        self.wake_by(around.now, around);
    }

    /// The network has something for the process.
    pub fn notice(&mut self, notice: Notice, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else {
            // It ended in this very moment.
            if let Notice::Accepted { pipe, .. } = notice {
                around.network.close(around.now, around.events, pipe, 1);
            }
            return;
        };
        process.pending.push_back(Pending::Network(notice));
        self.wake_by(around.now, around);
    }

    pub fn disk_step(&mut self, generation: u32, around: &mut Surroundings<'_>) {
        if self.is_former(generation) || self.keep(Event::DiskStep { node: self.number, generation }) {
            return;
        }
        let Some(process) = &mut self.process else { return };
        if let Some(takes) = self.disk.step(&mut process.done) {
            around.events.push(around.now + takes, Event::DiskStep { node: self.number, generation });
            return;
        }
        let is_awaited = process.done.iter().any(|done| process.awaits(done));
        process.pending.extend(process.done.drain(..).map(Pending::Disk));
        self.begin_disk(around);
        if is_awaited {
            self.wake_by(around.now, around);
        }
    }

    pub fn saver_step(&mut self, generation: u32, id: SnapshotId, around: &mut Surroundings<'_>) {
        if self.is_former(generation) || self.keep(Event::SaverStep { node: self.number, generation, id }) {
            return;
        }
        let Some(process) = &mut self.process else { return };
        let (done, next) = process.savers.step(id, &mut self.disk);
        if let Some(takes) = next {
            around.events.push(around.now + takes, Event::SaverStep { node: self.number, generation, id });
        }
        if let Some(done) = done {
            process.pending.push_back(Pending::Saver(done));
            self.wake_by(around.now, around);
        }
    }

    /// The process looks at what has come.
    pub fn wake(&mut self, generation: u32, around: &mut Surroundings<'_>) {
        if self.is_former(generation) || matches!(self.state, MachineState::Stopped { .. }) {
            return;
        }
        let Some(process) = &mut self.process else { return };
        process.queued_at = process.queued_at.filter(|at| *at > around.now);
        match process.wake_at {
            Some(at) if at > around.now => return self.queue_wake(at, around), // it woke earlier, and has a new deadline
            Some(_) => process.wake_at = None,
            None => return,
        }
        let mut turn = Turn {
            process,
            disk: &mut self.disk,
            clock: &self.clock,
            pace: &self.pace,
            options: &self.options,
            log: &mut self.log,
            number: self.number,
            generation: self.generation,
            around,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            in_node::set(true);
            turn.run();
            in_node::set(false);
        }));
        if let Err(panic) = outcome {
            in_node::set(false);
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            // It is not to be dropped as one that is whole, and its locks are nobody's.
            std::mem::forget(self.process.take());
            return self.end(&format!("panicked: {said}"), around);
        }
        let exit = self.process.as_ref().and_then(|process| process.exit);
        if let Some(code) = exit {
            self.part(around);
            return self.end(&format!("exit status: {code}"), around);
        }
        self.begin_disk(around);
        let Some(process) = &mut self.process else { return };
        let work_is_left =
            !process.pending.is_empty() || !process.effects.list.is_empty() || !process.dirty.is_empty();
        let at = if work_is_left {
            Some(process.free_at)
        } else {
            process.node.next_deadline().map(|at| self.clock.when(at, process.boot).max(process.free_at))
        };
        if let Some(at) = at {
            self.wake_by(at, around);
        }
    }

    /// The orderly end: the disk does what it was given, and what has become durable leaves.
    fn part(&mut self, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else { return };
        let mut done = Vec::new();
        self.disk.finish(&mut done);
        let now = self.clock.now(around.now, process.boot);
        for done in done {
            if let Done::Op { ticket, result } = done {
                process.node.input(now, Input::DiskDone { ticket, result }, &mut process.effects);
            }
        }
        process.durable = process.node.durable();
        let all: Vec<ConnId> = process.connections.keys().copied().collect();
        for conn in all {
            process.write(now, around.now, conn, around);
        }
    }

    /// The process is gone, for whatever reason.
    fn end(&mut self, status: &str, around: &mut Surroundings<'_>) {
        self.generation += 1;
        self.frozen.clear();
        around.network.set_listening(self.number, false);
        if let Some(process) = self.process.take() {
            for connection in process.connections.values() {
                around.network.close(around.now, around.events, connection.pipe, connection.side);
            }
            for pending in process.pending {
                // The kernel had accepted it for a process that never looked.
                if let Pending::Network(Notice::Accepted { pipe, .. }) = pending {
                    around.network.close(around.now, around.events, pipe, 1);
                }
            }
        }
        self.disk.process_died();
        self.state = MachineState::Down { status: Some(status.to_owned()) };
        if !self.condemned {
            around.exited.push(Exited { node: self.number, status: status.to_owned() });
        }
    }

    fn is_former(&self, generation: u32) -> bool {
        generation != self.generation
    }

    /// True if the process is stopped: the event is kept for when it goes on.
    fn keep(&mut self, event: Event) -> bool {
        let stopped = matches!(self.state, MachineState::Stopped { .. });
        if stopped {
            self.frozen.push(event);
        }
        stopped
    }

    fn begin_disk(&mut self, around: &mut Surroundings<'_>) {
        if let Some(takes) = self.disk.begin() {
            let event = Event::DiskStep { node: self.number, generation: self.generation };
            around.events.push(around.now + takes, event);
        }
    }

    /// The process looks at `at` at the latest, but not while it computes.
    fn wake_by(&mut self, at: Nanos, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else { return };
        let at = at.max(process.free_at);
        if process.wake_at.is_none_or(|set| at < set) {
            process.wake_at = Some(at);
            if at <= around.now {
                around.due.push_back((self.number, self.generation));
            } else {
                self.queue_wake(at, around);
            }
        }
    }

    fn queue_wake(&mut self, at: Nanos, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else { return };
        if process.queued_at.is_none_or(|queued| at < queued) {
            process.queued_at = Some(at);
            around.events.push(at, Event::Wake { node: self.number, generation: self.generation });
        }
    }
}

/// The configuration that arguments make.
fn configuration(args: &[String]) -> Result<Config, String> {
    let CommandLine::Serve(serve) = parse_args(args)? else {
        return Err("it is asked for no server".to_owned());
    };
    let source = Source { file: "", stdin: "", args: &serve.lines, standalone_unless_told: false };
    Config::load(source, &mut |path| Err(format!("a simulated machine has no {path}")))
        .map_err(|error| error.to_string())
}

/// An error of a disk that is not there.
fn no_such_file() -> DiskError {
    DiskError { message: "No such file or directory (os error 2)".to_owned(), no_space: false }
}
