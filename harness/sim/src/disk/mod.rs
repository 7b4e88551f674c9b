//! The disk of one machine: jobs done one after the other in steps that take virtual time, so that a crash may come
//! between any two of them. The order, the grouping of appends and the pieces of reads are those of the real disk thread.
//! (A sync that the real one makes beside other work takes its turn here.)

mod files;

use std::collections::VecDeque;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use slotstorm_node::io::{DiskError, DiskOp, Ticket};

use crate::Nanos;
use files::Files;

const US: Nanos = 1_000;
/// Bytes of appends that are written together at most.
const APPEND_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one piece of a file that is read.
const READ_CHUNK_BYTES: usize = 256 * 1024;

/// Work for the disk.
#[derive(Debug)]
pub(crate) enum Job {
    Op { ticket: Ticket, op: DiskOp },
    ReadNext { name: String },
}

/// What was done.
#[derive(Debug)]
pub(crate) enum Done {
    Op { ticket: Ticket, result: Result<(), DiskError> },
    Read { name: String, bytes: Vec<u8>, eof: bool, missing: bool, total_bytes: u64 },
}

/// How long things take and what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPace {
    /// A call that moves no data to the platter.
    pub call_ns: (Nanos, Nanos),
    /// A sync, of a file or of the directory.
    pub sync_ns: (Nanos, Nanos),
    /// Bytes a microsecond.
    pub bytes_per_us: u64,
}

impl Default for DiskPace {
    /// An NVMe disk under ext4, about as measured on the machines of this project.
    fn default() -> Self {
        Self { call_ns: (5 * US, 25 * US), sync_ns: (150 * US, 900 * US), bytes_per_us: 800 }
    }
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskTrouble {
    #[default]
    None,
    /// ENOSPC for whatever needs room.
    Full,
    /// EROFS for whatever writes.
    ReadOnly,
}

#[derive(Debug)]
pub(crate) struct Disk {
    files: Files,
    pace: DiskPace,
    trouble: DiskTrouble,
    rng: ChaCha8Rng,
    queue: VecDeque<Job>,
    running: Option<Running>,
    /// Files that are read: name and how far.
    readers: Vec<(String, usize)>,
}

#[derive(Debug)]
struct Running {
    kind: Work,
    steps: VecDeque<Step>,
    failed: Option<DiskError>,
}

#[derive(Debug)]
enum Work {
    Ops(Vec<Ticket>),
    Read(String),
}

#[derive(Debug)]
enum Step {
    Write {
        name: String,
        bytes: Vec<u8>,
    },
    Sync {
        name: String,
    },
    /// The new content, beside the old; the steps that put it in its place follow.
    Temporary {
        name: String,
        bytes: Vec<u8>,
        sync: bool,
    },
    SyncTemporary {
        inode: usize,
    },
    Name {
        inode: usize,
        name: String,
    },
    SyncDir,
    Truncate {
        name: String,
        len: usize,
    },
    Remove {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Nothing,
}

impl Disk {
    pub fn new(pace: DiskPace, rng: ChaCha8Rng) -> Self {
        Self {
            files: Files::default(),
            pace,
            trouble: DiskTrouble::None,
            rng,
            queue: VecDeque::new(),
            running: None,
            readers: Vec::new(),
        }
    }

    pub fn push(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    pub fn set_trouble(&mut self, trouble: DiskTrouble) {
        self.trouble = trouble;
    }

    /// Begins the next job if none runs; answers how long its first step takes.
    pub fn begin(&mut self) -> Option<Nanos> {
        if self.running.is_some() {
            return None;
        }
        let job = self.queue.pop_front()?;
        let running = self.plan(job);
        let takes = self.duration(&running);
        self.running = Some(running);
        Some(takes)
    }

    /// The step that was begun is over: how long the next one of the job takes, or what the job has come to.
    pub fn step(&mut self, done: &mut Vec<Done>) -> Option<Nanos> {
        let mut running = self.running.take()?;
        if let Some(step) = running.steps.pop_front()
            && let Err(error) = self.carry_out(step, &mut running.steps)
        {
            running.failed = Some(error);
            running.steps.clear();
        }
        if !running.steps.is_empty() {
            let takes = self.duration(&running);
            self.running = Some(running);
            return Some(takes);
        }
        match running.kind {
            Work::Ops(tickets) => {
                let result = running.failed.map_or(Ok(()), Err);
                done.extend(tickets.into_iter().map(|ticket| Done::Op { ticket, result: result.clone() }));
            }
            Work::Read(name) => done.push(self.read_piece(name)),
        }
        None
    }

    /// Does all that is queued at once: the process waits for it at its end.
    pub fn finish(&mut self, done: &mut Vec<Done>) {
        loop {
            while self.step(done).is_some() {}
            if self.begin().is_none() {
                return;
            }
        }
    }

    /// The process is gone: what it had not asked the kernel for is not done, of a write perhaps the beginning.
    pub fn process_died(&mut self) {
        if let Some(Running { steps, .. }) = self.running.take()
            && let Some(Step::Write { name, bytes }) = steps.front()
        {
            let torn = self.rng.random_range(0..=bytes.len());
            self.files.append(name, &bytes[..torn]);
        }
        self.queue.clear();
        self.readers.clear();
    }

    /// The machine is gone: so is what was not synced. After [`Self::process_died`].
    pub fn lose_power(&mut self) {
        self.files.lose_power(&mut self.rng);
    }

    pub fn read(&self, name: &str) -> Option<&[u8]> {
        self.files.read(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.names()
    }

    /// From outside, while the process is down.
    pub fn put(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.put(name, bytes);
    }

    pub fn wipe(&mut self) {
        self.files.wipe();
    }

    /// A whole file is put in its place beside the queue (a saver's work): its steps, to be done one by one.
    pub fn replacement(name: &str, bytes: Vec<u8>) -> Replacement {
        Replacement {
            name: name.to_owned(),
            len: bytes.len() as u64,
            bytes: Some(bytes),
            inode: None,
            step: 0,
        }
    }

    /// Begins with the next step of a replacement: how long it takes. `None`: all is done.
    pub fn replacement_takes(&mut self, replacement: &Replacement) -> Option<Nanos> {
        match replacement.step {
            0 => Some(self.writing(replacement.bytes.as_ref().map_or(0, Vec::len))),
            1 | 3 => Some(self.draw(self.pace.sync_ns)),
            2 => Some(self.draw(self.pace.call_ns)),
            _ => None,
        }
    }

    /// Does that step.
    pub fn replacement_step(&mut self, replacement: &mut Replacement) -> Result<(), DiskError> {
        self.refusal(true)?;
        match (replacement.step, replacement.inode) {
            (0, _) => {
                let bytes = replacement.bytes.take().unwrap_or_default();
                replacement.inode = Some(self.files.temporary(bytes));
            }
            (1, Some(inode)) => self.files.sync_inode(inode),
            (2, Some(inode)) => self.files.name(inode, &replacement.name),
            _ => self.files.sync_dir(),
        }
        replacement.step += 1;
        Ok(())
    }

    fn plan(&mut self, job: Job) -> Running {
        let (ticket, op) = match job {
            Job::ReadNext { name } => {
                let steps = [Step::Nothing].into();
                return Running { kind: Work::Read(name), steps, failed: None };
            }
            Job::Op { ticket, op } => (ticket, op),
        };
        let mut tickets = vec![ticket];
        let steps: VecDeque<Step> = match op {
            DiskOp::Append { name, mut bytes, mut sync } => {
                while bytes.len() < APPEND_BATCH_BYTES
                    && let Some((ticket, more, more_sync)) = self.pop_append(&name)
                {
                    tickets.push(ticket);
                    bytes.extend_from_slice(&more);
                    sync |= more_sync;
                }
                let mut steps: VecDeque<_> = [Step::Write { name: name.clone(), bytes }].into();
                if sync {
                    steps.push_back(Step::Sync { name });
                }
                steps
            }
            DiskOp::Replace { name, bytes, sync } => [Step::Temporary { name, bytes, sync }].into(),
            DiskOp::Sync { name, .. } => [Step::Sync { name }].into(),
            DiskOp::Truncate { name, len } => [Step::Truncate { name, len: len as usize }].into(),
            DiskOp::Remove { name } => [Step::Remove { name }].into(),
            DiskOp::Rename { from, to } => [Step::Rename { from, to }, Step::SyncDir].into(),
            DiskOp::ChangeDir { .. } => [Step::Nothing].into(),
        };
        Running { kind: Work::Ops(tickets), steps, failed: None }
    }

    fn pop_append(&mut self, name: &str) -> Option<(Ticket, Vec<u8>, bool)> {
        let next = self.queue.front()?;
        if !matches!(next, Job::Op { op: DiskOp::Append { name: other, .. }, .. } if other == name) {
            return None;
        }
        match self.queue.pop_front()? {
            Job::Op { ticket, op: DiskOp::Append { bytes, sync, .. } } => Some((ticket, bytes, sync)),
            _ => None,
        }
    }

    fn duration(&mut self, running: &Running) -> Nanos {
        match running.steps.front() {
            Some(Step::Write { bytes, .. } | Step::Temporary { bytes, .. }) => self.writing(bytes.len()),
            Some(Step::Sync { .. } | Step::SyncTemporary { .. } | Step::SyncDir) => {
                self.draw(self.pace.sync_ns)
            }
            _ => self.draw(self.pace.call_ns),
        }
    }

    fn writing(&mut self, bytes: usize) -> Nanos {
        self.draw(self.pace.call_ns) + bytes as u64 * US / self.pace.bytes_per_us.max(1)
    }

    fn draw(&mut self, (low, high): (Nanos, Nanos)) -> Nanos {
        self.rng.random_range(low..=high.max(low))
    }

    fn refusal(&self, needs_room: bool) -> Result<(), DiskError> {
        match self.trouble {
            DiskTrouble::Full if needs_room => {
                Err(DiskError { message: "No space left on device (os error 28)".to_owned(), no_space: true })
            }
            DiskTrouble::ReadOnly => {
                Err(DiskError { message: "Read-only file system (os error 30)".to_owned(), no_space: false })
            }
            DiskTrouble::Full | DiskTrouble::None => Ok(()),
        }
    }

    fn carry_out(&mut self, step: Step, rest: &mut VecDeque<Step>) -> Result<(), DiskError> {
        match step {
            Step::Write { name, bytes } => {
                self.refusal(true)?;
                self.files.append(&name, &bytes);
            }
            Step::Sync { name } => {
                self.refusal(false)?;
                self.files.sync(&name);
            }
            Step::Temporary { name, bytes, sync } => {
                self.refusal(true)?;
                let inode = self.files.temporary(bytes);
                if sync {
                    rest.extend([Step::SyncTemporary { inode }, Step::Name { inode, name }, Step::SyncDir]);
                } else {
                    rest.push_back(Step::Name { inode, name });
                }
            }
            Step::SyncTemporary { inode } => self.files.sync_inode(inode),
            Step::Name { inode, name } => {
                self.refusal(false)?;
                self.files.name(inode, &name);
            }
            Step::SyncDir => self.files.sync_dir(),
            Step::Truncate { name, len } => {
                self.refusal(false)?;
                self.files.truncate(&name, len);
            }
            Step::Remove { name } => {
                self.refusal(false)?;
                self.files.remove(&name);
            }
            Step::Rename { from, to } => {
                self.refusal(false)?;
                if !self.files.rename(&from, &to) {
                    let message = "No such file or directory (os error 2)".to_owned();
                    return Err(DiskError { message, no_space: false });
                }
            }
            Step::Nothing => {}
        }
        Ok(())
    }

    fn read_piece(&mut self, name: String) -> Done {
        let at = self.readers.iter().position(|(reading, _)| *reading == name);
        let from = at.map_or(0, |at| self.readers.swap_remove(at).1);
        let Some(content) = self.files.read(&name) else {
            return Done::Read { name, bytes: Vec::new(), eof: true, missing: true, total_bytes: 0 };
        };
        let total_bytes = content.len() as u64;
        let rest = content.get(from..).unwrap_or_default();
        let bytes = rest[..rest.len().min(READ_CHUNK_BYTES)].to_vec();
        let eof = bytes.len() < READ_CHUNK_BYTES;
        if !eof {
            self.readers.push((name.clone(), from + bytes.len()));
        }
        Done::Read { name, bytes, eof, missing: false, total_bytes }
    }
}

/// A whole file on its way to its place.
#[derive(Debug)]
pub(crate) struct Replacement {
    name: String,
    bytes: Option<Vec<u8>>,
    inode: Option<usize>,
    step: u8,
    pub len: u64,
}
