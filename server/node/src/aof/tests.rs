//! The AOF as stories: a writer and a loader over a disk in memory that can crash between any two operations.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::io::{DiskError, Mono, SaveJob, SnapshotFormat, SnapshotId};
use crate::keyspace::{EncodingLimits, HashSeed, Keyspace, Value, ValueParts};
use crate::rdb::SnapshotEncoder;
use crate::replication::commands::write_command;

type Files = BTreeMap<String, Vec<u8>>;

fn apply(files: &mut Files, op: &DiskOp) {
    match op {
        DiskOp::Append { name, bytes, .. } => files.entry(name.clone()).or_default().extend_from_slice(bytes),
        DiskOp::Replace { name, bytes, sync } => {
            // Found by the simulator: after a loss of power a manifest that was not synced is there in part, and the
            // server does not start.
            assert!(*sync || !name.ends_with(".manifest"), "a manifest is replaced and not made durable");
            files.insert(name.clone(), bytes.clone());
        }
        DiskOp::Sync { .. } => {}
        DiskOp::Truncate { name, len } => files.get_mut(name).expect("a file to cut").truncate(*len as usize),
        DiskOp::Remove { name } => drop(files.remove(name)),
        DiskOp::Rename { from, to } => {
            let content = files.remove(from).expect("a file to rename");
            files.insert(to.clone(), content);
        }
        DiskOp::ChangeDir { .. } => panic!("not the AOF's business"),
    }
}

/// What the commands of these stories leave behind: a log a key.
type Dataset = BTreeMap<Vec<u8>, Vec<u8>>;

/// Loads a disk's AOF in pieces of a few bytes.
fn load(files: &mut Files, piece: usize) -> Result<(Dataset, LoadedAof), AofLoadError> {
    let (mut effects, mut last_ticket) = (Effects::default(), Ticket(0));
    let mut loader = AofLoader::new(
        AofNames::default(),
        LoadWhat::Everything,
        true,
        &mut DiskQueue::new(&mut effects, &mut last_ticket),
    );
    let mut dataset = Dataset::new();
    loop {
        // The disk does what it is told in order, reads among it.
        for effect in effects.list.extract_if(.., |effect| matches!(effect, Effect::Disk { .. })) {
            if let Effect::Disk { op, .. } = effect {
                apply(files, &op);
            }
        }
        effects.list.retain(|effect| !matches!(effect, Effect::Log { .. }));
        let read = effects.list.iter().position(|effect| matches!(effect, Effect::Read { .. }));
        let Effect::Read { name } = effects.list.remove(read.expect("the loader reads or is done")) else {
            unreachable!()
        };
        assert!(loader.wants(&name));
        let content = files.get(&name).cloned();
        let missing = content.is_none();
        let content = content.unwrap_or_default();
        let mut pieces: VecDeque<&[u8]> = content.chunks(piece).collect();
        loop {
            let bytes = pieces.pop_front().unwrap_or_default();
            let eof = pieces.is_empty();
            let mut disk = DiskQueue::new(&mut effects, &mut last_ticket);
            let mut sink = |item: AofItem<'_>| match item {
                AofItem::Database(number) => assert_eq!(number, 0),
                AofItem::Key(key) => {
                    let ValueParts::String(value) = key.value else { panic!("a string") };
                    dataset.insert(key.key, value);
                }
                AofItem::Library(_) => panic!("there are no functions"),
                AofItem::Command(command) => {
                    let args = command.to_vec();
                    assert_eq!(args[0], b"APPEND");
                    dataset.entry(args[1].to_vec()).or_default().extend_from_slice(args[2]);
                }
            };
            if let Some(loaded) = loader.file_chunk(bytes, eof, missing, &mut disk, &mut sink)? {
                for effect in effects.list.drain(..) {
                    if let Effect::Disk { op, .. } = effect {
                        apply(files, &op);
                    }
                }
                return Ok((dataset, loaded));
            }
            if eof {
                break;
            }
        }
    }
}

/// A node with an AOF and a disk that works only when told to.
struct Bench {
    writer: AofWriter,
    effects: Effects,
    last_ticket: Ticket,
    queue: VecDeque<(Ticket, DiskOp)>,
    files: Files,
    durable: Ticket,
    now: Mono,
    dataset: Dataset,
    /// Every dataset there was, with the gate of the batch that made it.
    past: Vec<(Ticket, Dataset)>,
    saves: VecDeque<(SnapshotId, Box<SaveJob>)>,
    events: Vec<AofEvent>,
    fail_next: bool,
}

impl Bench {
    fn new(policy: FsyncPolicy, mut files: Files) -> Self {
        let (dataset, loaded) = load(&mut files, 1000).expect("a good AOF");
        let (mut effects, mut last_ticket) = (Effects::default(), Ticket(0));
        let now = Mono(0);
        let mut disk = DiskQueue::new(&mut effects, &mut last_ticket);
        let writer = AofWriter::open(AofNames::default(), policy, false, loaded, now, &mut disk);
        let mut bench = Self {
            writer,
            effects,
            last_ticket,
            queue: VecDeque::new(),
            files,
            durable: Ticket(0),
            now,
            past: vec![(Ticket(0), dataset.clone())],
            dataset,
            saves: VecDeque::new(),
            events: Vec::new(),
            fail_next: false,
        };
        bench.take_effects();
        bench
    }

    /// One batch that appends `text` to a key.
    fn write(&mut self, key: &str, text: &str) -> Ticket {
        let mut command = Vec::new();
        write_command(&mut command, &["APPEND", key, text]);
        self.writer.feed(Some(0), &command);
        self.dataset.entry(key.into()).or_default().extend_from_slice(text.as_bytes());
        let gate = self.end_of_batch();
        self.past.push((gate, self.dataset.clone()));
        gate
    }

    fn end_of_batch(&mut self) -> Ticket {
        let mut disk = DiskQueue::new(&mut self.effects, &mut self.last_ticket);
        let gate = self.writer.end_of_batch(self.now, &mut disk);
        self.take_effects();
        gate
    }

    fn tick(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.writer.tick(self.now, &mut DiskQueue::new(&mut self.effects, &mut self.last_ticket));
        self.take_effects();
    }

    fn take_effects(&mut self) {
        for effect in std::mem::take(&mut self.effects.list) {
            match effect {
                Effect::Disk { ticket, op } => self.queue.push_back((ticket, op)),
                Effect::Save { id, job } => self.saves.push_back((id, job)),
                Effect::SnapshotCancel { id } => self.saves.retain(|(other, _)| *other != id),
                Effect::Log { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn rewrite(&mut self, mode: RewriteMode) -> bool {
        let mut keys = Keyspace::new(HashSeed(1, 2), EncodingLimits::default());
        for (key, value) in &self.dataset {
            keys.set(key, Value::string(value), None, crate::io::WallMs(0));
        }
        let id = SnapshotId(self.last_ticket.0);
        let mut disk = DiskQueue::new(&mut self.effects, &mut self.last_ticket);
        let snapshot = keys.snapshot();
        let (aux, format, as_commands) = (Vec::new(), SnapshotFormat::default(), false);
        let request = RewriteRequest { mode, id, snapshot, aux, format, as_commands, annotate_s: None };
        let begun = self.writer.begin_rewrite(request, self.now, &mut disk);
        self.take_effects();
        begun
    }

    /// Does one queued operation, or when there is none a save; false if there is nothing to do.
    fn disk_step(&mut self) -> bool {
        let full = || DiskError { message: "No space left on device".into(), no_space: true };
        let Some((ticket, op)) = self.queue.pop_front() else { return self.save_step(full()) };
        let result = if std::mem::take(&mut self.fail_next) {
            Err(full())
        } else {
            apply(&mut self.files, &op);
            Ok(())
        };
        self.durable = ticket;
        let mut disk = DiskQueue::new(&mut self.effects, &mut self.last_ticket);
        self.events.extend(self.writer.disk_done(ticket, &result, self.now, &mut disk));
        self.take_effects();
        true
    }

    fn save_step(&mut self, full: DiskError) -> bool {
        let Some((id, job)) = self.saves.pop_front() else { return false };
        let result = if std::mem::take(&mut self.fail_next) {
            Err(full)
        } else {
            let mut bytes = Vec::new();
            SnapshotEncoder::new(job.snapshot, job.rdb_aux).fill(&mut bytes, usize::MAX);
            let len = bytes.len() as u64;
            self.files.insert(job.name, bytes);
            Ok(len)
        };
        let mut disk = DiskQueue::new(&mut self.effects, &mut self.last_ticket);
        self.events.extend(self.writer.saved(id, &result, self.now, &mut disk));
        self.take_effects();
        true
    }

    fn settle(&mut self) {
        while self.disk_step() {}
    }

    /// Power fails here: what a restart finds must be a state that there was, and no older than what was answered.
    fn assert_crash_safe(&self) {
        let (found, _) = load(&mut self.files.clone(), 7).expect("a loadable AOF");
        let at = self.past.iter().rposition(|(_, dataset)| *dataset == found);
        let at = at.unwrap_or_else(|| panic!("never was: {found:?}"));
        let answered = self.past.iter().rposition(|(gate, _)| *gate <= self.durable).unwrap_or(0);
        assert!(at >= answered, "an answered write is lost: {at} < {answered}");
    }
}

#[test]
fn what_was_answered_survives_a_crash_between_any_two_disk_operations_of_a_rewrite() {
    for policy in [FsyncPolicy::Always, FsyncPolicy::EverySecond, FsyncPolicy::No] {
        let mut bench = Bench::new(policy, Files::new());
        bench.settle();
        for n in 0..5 {
            bench.write("a", &format!("{n},"));
        }
        assert!(bench.rewrite(RewriteMode::Compact));
        let mut n = 5;
        loop {
            bench.assert_crash_safe();
            if n < 40 {
                bench.write(if n % 3 == 0 { "b" } else { "a" }, &format!("{n},"));
                n += 1;
            }
            if !bench.disk_step() {
                break;
            }
        }
        assert_eq!(bench.events, [AofEvent::Rewritten { began: Mono(0) }]);
        assert_eq!(load(&mut bench.files.clone(), 3).unwrap().0, bench.dataset);
        let mut names: Vec<&str> = bench.files.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "appendonlydir/appendonly.aof.2.base.rdb",
                "appendonlydir/appendonly.aof.2.incr.aof",
                "appendonlydir/appendonly.aof.manifest"
            ]
        );
    }
}

#[test]
fn a_restart_keeps_the_old_files_until_the_new_ones_are_whole() {
    let mut bench = Bench::new(FsyncPolicy::EverySecond, Files::new());
    bench.write("old", "1");
    bench.settle();
    let old = bench.dataset.clone();
    // A full resync replaced the dataset.
    bench.dataset = BTreeMap::from([(b"new".to_vec(), b"x".to_vec())]);
    assert!(bench.rewrite(RewriteMode::Restart));
    bench.write("new", "y");
    while bench.disk_step() {
        let (found, _) = load(&mut bench.files.clone(), 1000).unwrap();
        assert!(found == old || found == bench.dataset, "a mixture: {found:?}");
    }
    assert_eq!(load(&mut bench.files, 1000).unwrap().0, bench.dataset);
}

#[test]
fn always_syncs_every_batch_before_it_is_answered() {
    let mut bench = Bench::new(FsyncPolicy::Always, Files::new());
    bench.settle();
    let gate = bench.write("a", "1");
    assert_eq!(bench.end_of_batch(), gate, "a read after it waits for it too");
    let (ticket, op) = &bench.queue[0];
    assert_eq!(*ticket, gate);
    assert!(matches!(op, DiskOp::Append { sync: true, .. }));
}

#[test]
fn everysec_syncs_once_a_second_and_puts_writes_off_while_a_sync_runs() {
    let mut bench = Bench::new(FsyncPolicy::EverySecond, Files::new());
    bench.settle();
    bench.write("a", "1");
    assert_eq!(bench.queue.len(), 1, "no sync in the first second");
    bench.settle();
    bench.tick(1000);
    assert!(matches!(bench.queue[0].1, DiskOp::Sync { beside: true, .. }));
    bench.write("a", "2");
    bench.tick(1999);
    assert_eq!(bench.queue.len(), 1, "put off");
    bench.tick(1);
    assert!(matches!(bench.queue[1].1, DiskOp::Append { sync: false, .. }), "for two seconds at most");
    assert_eq!(bench.writer.status().delayed_syncs, 1);
    bench.write("a", "3");
    assert_eq!(bench.queue.len(), 2);
    bench.disk_step();
    assert_eq!(bench.queue.len(), 2, "the sync's end lets the next write go");
    bench.settle();
    assert_eq!(load(&mut bench.files, 1000).unwrap().0, bench.dataset);
}

#[test]
fn the_next_file_waits_for_what_a_slow_sync_has_not_yet_made_durable_of_this_one() {
    let mut bench = Bench::new(FsyncPolicy::EverySecond, Files::new());
    bench.settle();
    bench.write("a", "1");
    bench.settle();
    bench.tick(1000);
    assert!(
        matches!(bench.queue.pop_back(), Some((_, DiskOp::Sync { beside: true, .. }))),
        "it goes on and on"
    );
    assert!(bench.rewrite(RewriteMode::Compact));
    assert!(matches!(bench.queue[0].1, DiskOp::Sync { beside: false, .. }));
}

#[test]
fn after_a_full_disk_nothing_is_missing_and_nothing_is_twice() {
    let mut bench = Bench::new(FsyncPolicy::EverySecond, Files::new());
    bench.settle();
    bench.write("a", "1");
    bench.write("a", "2");
    bench.fail_next = true;
    bench.settle();
    assert!(matches!(bench.events[..], [AofEvent::WriteFailed(_)]));
    assert!(bench.writer.write_error().is_some());
    bench.write("a", "3");
    assert!(bench.queue.is_empty(), "nothing is tried before its time");
    bench.tick(1000);
    bench.settle();
    bench.end_of_batch();
    bench.settle();
    assert_eq!(bench.events[1], AofEvent::WriteRecovered);
    assert_eq!(load(&mut bench.files, 1000).unwrap().0, bench.dataset);
}

#[test]
fn a_failed_write_is_the_end_under_always() {
    let mut bench = Bench::new(FsyncPolicy::Always, Files::new());
    bench.settle();
    bench.write("a", "1");
    bench.fail_next = true;
    bench.settle();
    assert!(matches!(bench.events[..], [AofEvent::Fatal(_)]));
}

#[test]
fn a_new_aof_that_cannot_be_made_is_the_end() {
    for failing_step in 0..3 {
        let mut bench = Bench::new(FsyncPolicy::EverySecond, Files::new());
        for step in 0..3 {
            bench.fail_next = step == failing_step;
            assert!(bench.disk_step());
        }
        assert!(matches!(bench.events[..], [AofEvent::Fatal(_)]), "step {failing_step}");
    }
}

#[test]
fn a_rewrite_that_fails_at_any_step_leaves_everything_as_good_as_it_was() {
    for failing_step in 0..12 {
        for mode in [RewriteMode::Compact, RewriteMode::Restart] {
            let mut bench = Bench::new(FsyncPolicy::EverySecond, Files::new());
            bench.write("a", "1");
            bench.settle();
            bench.rewrite(mode);
            bench.write("a", "2");
            for step in 0.. {
                bench.fail_next = step == failing_step;
                if !bench.disk_step() {
                    break;
                }
            }
            for _ in 0..3 {
                bench.tick(1000);
                if bench.writer.needs_restart(bench.now) {
                    bench.rewrite(RewriteMode::Restart);
                }
                bench.settle();
            }
            bench.write("a", "3");
            bench.settle();
            let found = load(&mut bench.files, 1000).unwrap().0;
            assert_eq!(found, bench.dataset, "{mode:?}, step {failing_step}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_loads_up_to_its_last_whole_command_and_goes_on_from_there() {
    let mut bench = Bench::new(FsyncPolicy::No, Files::new());
    for n in 0..4 {
        bench.write("a", &n.to_string());
    }
    bench.settle();
    let name = "appendonlydir/appendonly.aof.1.incr.aof".to_owned();
    let whole = bench.files[&name].clone();
    for cut in 0..=whole.len() {
        let mut files = bench.files.clone();
        files.insert(name.clone(), whole[..cut].to_vec());
        let mut again = Bench::new(FsyncPolicy::No, files);
        assert!(bench.past.iter().any(|(_, past)| *past == again.dataset), "cut at {cut}");
        again.write("a", "more");
        again.settle();
        assert_eq!(load(&mut again.files, 5).unwrap().0, again.dataset, "cut at {cut}");
    }
}

#[test]
fn an_unfinished_transaction_is_cut_as_a_whole() {
    let mut bench = Bench::new(FsyncPolicy::No, Files::new());
    bench.write("a", "1");
    bench.settle();
    let name = "appendonlydir/appendonly.aof.1.incr.aof".to_owned();
    let good = bench.files[&name].len() as u64;
    let tail = bench.files.get_mut(&name).unwrap();
    write_command(tail, &["MULTI"]);
    write_command(tail, &["APPEND", "a", "2"]);
    let (found, loaded) = load(&mut bench.files, 9).unwrap();
    assert_eq!((found, loaded.last_incremental_bytes), (bench.dataset, good));
    assert_eq!(bench.files[&name].len() as u64, good);
}

#[test]
fn damage_elsewhere_than_at_the_end_is_an_error_with_the_files_name() {
    let names = AofNames::default();
    let manifest = "file b seq 1 type b\nfile i1 seq 1 type i\nfile i2 seq 2 type i\n";
    let with = |name: &str, bytes: &[u8]| {
        let mut files = Files::from([
            (names.manifest(), manifest.as_bytes().to_vec()),
            (names.path("b"), Vec::new()),
            (names.path("i1"), Vec::new()),
            (names.path("i2"), Vec::new()),
        ]);
        files.insert(names.path(name), bytes.to_vec());
        load(&mut files, 1000).map(|_| ())
    };
    assert_eq!(with("i2", b"*1\r\n"), Ok(()));
    assert_eq!(with("i1", b"*1\r\n"), Err(AofLoadError::TruncatedBeforeLast("appendonlydir/i1".into())));
    assert!(matches!(with("i2", b"#TS:1\r\nSET a b\r\n"), Err(AofLoadError::Command { offset: 0, .. })));
    assert!(matches!(with("b", b"REDIS0010\xfa"), Err(AofLoadError::Rdb { .. })));
    let mut files = Files::from([(names.manifest(), manifest.as_bytes().to_vec())]);
    assert_eq!(load(&mut files, 10).unwrap_err(), AofLoadError::Missing("b".into()));
    // A single file of an older Redis becomes the base.
    let mut command = Vec::new();
    write_command(&mut command, &["APPEND", "a", "1"]);
    let mut files = Files::from([(names.file.clone(), command)]);
    for _ in 0..2 {
        assert_eq!(load(&mut files, 10).unwrap().0, Dataset::from([(b"a".to_vec(), b"1".to_vec())]));
        assert!(!files.contains_key(&names.file) && files.contains_key(&names.path(&names.file)));
    }
}
