//! Nights as they lie on disk, made by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::attempt::Attempt;
use super::engine::Engine;
use super::file::{CampaignFile, EXAMPLE};
use super::findings::State;
use super::index::{INDEX, Index};
use super::matrix::{Sequence, Task};
use super::night::{Night, NightInfo, StoredNight, nights_of, task_dir};
use super::outcome::{End, Numbers, Outcome, latencies};
use super::{out, retain, small, summary};
use crate::plan::{Plan, StormFile};

const SMALL: &str = "name = 'small'\n[matrix]\nserver = ['embedded', '/usr/bin/redis-server']\n\
                     preset = ['restarts', { value = 'elections', weight = 3 }]\n[retention]\nkeep_valid = 2\nkeep_of_finding = 2\n";

pub fn file() -> CampaignFile {
    CampaignFile::parse("small.toml", SMALL).unwrap()
}

/// A run that is done: valid, or failing with these signatures.
pub fn outcome(number: u64, server: &str, signatures: &[&str]) -> Outcome {
    let mut task = Sequence::new(&file(), 1).nth(1).expect("a matrix has always one more task");
    task.number = number;
    task.canary = false;
    server.clone_into(&mut task.cell.server);
    Outcome {
        schema: 1,
        task,
        end: if signatures.is_empty() { End::Valid } else { End::Invalid },
        reason: "as told".into(),
        exit: Some(i32::from(!signatures.is_empty())),
        started: "2026-11-28T00:00:00Z".into(),
        took_s: 50.0,
        cpu_s: Some(3.0),
        folder: Some("runs/one".into()),
        starved: None,
        signatures: signatures.iter().map(|&name| name.to_owned()).collect(),
        numbers: Numbers {
            acknowledged: 1000,
            lost: 3,
            by_class: BTreeMap::from([("W3".to_owned(), 3)]),
            availability_pct: 97.0,
            recoveries_s: vec![2.0],
            ..Numbers::default()
        },
        thinned: false,
    }
}

fn canary(number: u64, caught: bool) -> Outcome {
    let mut run = outcome(number, "embedded", if caught { &["availability"] } else { &[] });
    run.task.canary = true;
    run.task.must_show = Some("availability".into());
    run
}

pub fn info(campaign: &str, seed: u64) -> NightInfo {
    NightInfo {
        schema: 1,
        campaign: campaign.into(),
        seed,
        started: "2026-11-28T00:00:00Z".into(),
        for_s: Some(60.0),
        runs: 0,
        jobs: 1,
        sim_jobs: 1,
        engine: Engine::Local,
        ran_s: 3600.0,
        over: Some("done".into()),
        version: "0".into(),
        binary_sha256: String::new(),
        host: "here".into(),
    }
}

/// A night with these runs, on disk, each with a folder of files.
fn night(results: &Path, seed: u64, outcomes: Vec<Outcome>) -> StoredNight {
    let mut night = Night::create(results, SMALL, file(), info("small", seed)).unwrap();
    for outcome in outcomes {
        let attempt = Attempt::begin(&night.path, &outcome.task).unwrap();
        let run = attempt.dir().join("runs/one");
        std::fs::create_dir_all(run.join("plots")).unwrap();
        for name in ["run.json", "verdict.json", "repro.toml", "history.jsonl", "report.html"] {
            std::fs::write(run.join(name), name).unwrap();
        }
        assert!(attempt.finish(&outcome).unwrap());
        night.done.insert(outcome.task.number, outcome);
    }
    StoredNight::read(&night.path).unwrap()
}

#[test]
fn the_example_can_be_used_and_what_cannot_says_where_and_why() {
    let example = CampaignFile::parse("example", EXAMPLE).unwrap();
    // The simulator has one of the two servers.
    assert_eq!(Sequence::new(&example, 1).cells(), (2 + 1) * 3 * 2 * 2 * 2);
    for (text, says) in [
        (
            "name = 'x'\n[matrix]\npreset = ['storm']",
            "there is no preset \"storm\"; there are failover, calm",
        ),
        ("name = 'a b'\n[matrix]\n", "letters, digits"),
        ("name = 'x'\n[matrix]\ntopology = ['3']", "MASTERS+REPLICAS"),
        ("name = 'x'\n[matrix]\nserver = []", "matrix.server is empty"),
        ("name = 'x'\nlimit = 3\n[matrix]\n", "unknown field `limit`"),
        ("name = 'x'", "missing field `matrix`"),
        ("name = 'x'\njobs = 0\n[matrix]\n", "at least 1"),
        (
            "name = 'x'\n[matrix]\nbackend = ['cloud']",
            "there is no backend \"cloud\"; there are process and sim",
        ),
        (
            "name = 'x'\n[matrix]\nserver = ['/x']\nbackend = ['sim']",
            "no server of the matrix can run on the backend sim",
        ),
    ] {
        let error = CampaignFile::parse("bad.toml", text).unwrap_err().to_string();
        assert!(error.starts_with("bad.toml: ") && error.contains(says), "{error}");
    }
}

#[test]
fn a_sequence_repeats_from_its_seed_and_gives_each_cell_its_weight() {
    let tasks: Vec<Task> = Sequence::new(&file(), 5).take(81).collect();
    assert_eq!(tasks, Sequence::new(&file(), 5).take(81).collect::<Vec<_>>());
    assert_ne!(tasks, Sequence::new(&file(), 6).take(81).collect::<Vec<_>>());
    assert!(tasks[0].canary && tasks.iter().skip(1).all(|task| !task.canary));
    let of = |server: &str, preset: &str| {
        let cell = |task: &&Task| !task.canary && task.cell.server == server && task.cell.preset == preset;
        tasks.iter().filter(cell).count()
    };
    for server in ["embedded", "/usr/bin/redis-server"] {
        assert!((29..=31).contains(&of(server, "elections")), "{}", of(server, "elections"));
        assert!((9..=11).contains(&of(server, "restarts")), "{}", of(server, "restarts"));
    }
    let mut seeds: Vec<u64> = tasks.iter().map(|task| task.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), tasks.len(), "each run has its own seed");
}

#[test]
fn nights_tell_what_is_new_what_is_known_and_what_is_gone() {
    let results = tempfile::tempdir().unwrap();
    let runs = |hits: u64| {
        let mut runs: Vec<Outcome> = (1..=20)
            .map(|number| {
                outcome(number, "embedded", if number <= hits { &["invariants: no-crash"] } else { &[] })
            })
            .collect();
        runs.push(canary(0, true));
        runs
    };
    let mut nights = Vec::new();
    let mut states = Vec::new();
    for (seed, hits) in [(1, 0), (2, 8), (3, 6), (4, 0)] {
        nights.push(night(results.path(), seed, runs(hits)));
        let summary = summary::summarise(&nights, None).unwrap();
        out::write(&nights, &summary).unwrap();
        states.push((summary.findings.first().map(|finding| finding.state), summary.exit_code));
    }
    assert_eq!(states, [(None, 0), (Some(State::New), 1), (Some(State::Ongoing), 1), (Some(State::Gone), 0)]);
    let second = &nights[1].path;
    let markdown = std::fs::read_to_string(second.join("summary.md")).unwrap();
    assert!(markdown.contains("| invariants: no-crash | embedded | new | 8 of 20 |"), "{markdown}");
    let junit = std::fs::read_to_string(second.join("junit.xml")).unwrap();
    assert!(junit.contains("failures=\"8\"") && junit.contains("<testsuite name=\"canaries\""), "{junit}");
    let page = std::fs::read_to_string(second.join("report.html")).unwrap();
    assert!(page.contains("invariants: no-crash") && page.contains("tasks/000001/runs/one/report.html"));
    assert!(!page.contains("http://") || page.contains("http://www.w3.org/2000/svg"), "no external assets");
    let lines = std::fs::read_to_string(second.join("runs.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 21);
    assert!(lines.lines().all(|line| serde_json::from_str::<Outcome>(line).is_ok()));
}

#[test]
fn a_night_has_pictures_in_both_formats_and_one_latency_log_of_all_its_runs() {
    let results = tempfile::tempdir().unwrap();
    let mut nights = Vec::new();
    for seed in 1..=2 {
        let runs =
            vec![canary(0, true), outcome(1, "embedded", &[]), outcome(2, "/usr/bin/redis-server", &[])];
        let stored = night(results.path(), seed, runs);
        for number in 0..=2 {
            let run = task_dir(&stored.path, number).join("runs/one");
            let history = r#"{"index":0,"time":1000000,"type":"invoke","process":0,"f":"add","key":"k","value":1}
{"index":1,"time":3000000,"type":"ok","process":0,"f":"add","key":"k","value":1}
"#;
            std::fs::write(run.join("history.jsonl"), history).unwrap();
            crate::verdict::write_latency(&run).unwrap();
        }
        nights.push(stored);
    }
    let summary = summary::summarise(&nights, None).unwrap();
    out::write(&nights, &summary).unwrap();
    let last = &nights[1].path;
    for name in ["failover-times", "availability-by-preset", "lost-by-class", "trend-failover", "trend-lost"]
    {
        for end in ["svg", "png"] {
            assert!(last.join(format!("plots/{name}.{end}")).exists(), "{name}.{end}");
        }
    }
    let page = std::fs::read_to_string(last.join("report.html")).unwrap();
    assert_eq!(page.matches("<figure").count(), 6, "latency has no trend here: the runs have none");
    let mut tags = Vec::new();
    latencies(&last.join("latency.hlog"), |tag, histogram| {
        tags.push((tag.to_owned(), histogram.len(), histogram.max() / 1_000_000));
        Ok(())
    })
    .unwrap();
    let tag = |subject: &str| (format!("{subject}/add"), 1, 2);
    assert_eq!(tags, [tag("embedded"), tag("/usr/bin/redis-server")], "the canary does not count");
}

#[test]
fn a_failure_is_made_small_by_the_simulator_and_the_small_storm_still_shows_it() {
    let results = tempfile::tempdir().unwrap();
    let mut failing = outcome(1, "embedded", &["availability"]);
    failing.task.cell.backend = "sim".into();
    let stored = night(results.path(), 1, vec![canary(0, true), failing]);
    let storm = "seed = 3\nduration_s = 12\nrate = 50\nclients = 3\nnode_timeout_ms = 2000\nmin_availability_pct = 100\n\
                 [[fault]]\nat = 1\nkind = 'kill'\ntarget = 'replica of slot 0'\nrestart_after = 1\n\
                 [[fault]]\nat = 3\nkind = 'kill'\ntarget = 'master of slot 42'\nrestart_after = 6\n\
                 [[fault]]\nat = 4\nkind = 'pause'\ntarget = 'replica of slot 16000'\nduration = 1\n";
    let plan = Plan::from_file(StormFile::parse("x", storm).unwrap(), 3).unwrap();
    let repro = task_dir(&stored.path, 1).join("runs/one/repro.toml");
    std::fs::write(repro, plan.to_file().to_toml("")).unwrap();

    let mut nights = [StoredNight::read(&stored.path).unwrap()];
    let findings = summary::summarise(&nights, None).unwrap().findings;
    small::shrink_all(&nights, &findings, &Arc::default(), |_| {}).unwrap();
    nights[0] = StoredNight::read(&stored.path).unwrap();
    let summary = summary::summarise(&nights, None).unwrap();
    let smallest = summary.findings[0].smallest.as_ref().expect("it was made small");
    assert!(smallest.faults < smallest.faults_before, "{smallest:?}");
    let text = std::fs::read_to_string(nights_of(results.path()).join(&smallest.path)).unwrap();
    let plan = Plan::from_file(StormFile::parse("small", &text).unwrap(), 0).unwrap();
    let judged = crate::hunt::judge(&plan, &Arc::default()).unwrap();
    assert_eq!(judged.signatures, ["availability"]);
    let (again, finding) = (&smallest.again, "# availability");
    assert!(text.starts_with(finding) && text.contains("# What happened:"), "{text}");
    assert!(text.contains("FOUND availability: shard 0 answers nobody for"), "{text}");
    assert!(text.contains("of the night") && again.starts_with("slotstorm repro /"), "{again}: {text}");
    // What is small already is not shrunk again.
    let mut again = 0;
    small::shrink_all(&nights, &summary.findings, &Arc::default(), |_| again += 1).unwrap();
    assert_eq!(again, 0);
}

#[test]
fn a_night_whose_canary_sang_is_a_failure_whatever_else_it_saw() {
    let results = tempfile::tempdir().unwrap();
    let mut valid: Vec<Outcome> = (1..10).map(|number| outcome(number, "embedded", &[])).collect();
    valid.push(canary(0, false));
    let nights = [night(results.path(), 1, valid)];
    let summary = summary::summarise(&nights, None).unwrap();
    assert_eq!((summary.exit_code, summary.canaries.caught), (1, 0), "{}", summary.sentence);
    assert!(summary.sentence.contains("blind"), "{}", summary.sentence);
}

#[test]
fn starved_and_broken_runs_say_nothing_of_the_server() {
    let results = tempfile::tempdir().unwrap();
    let mut starved = outcome(1, "embedded", &["lost-writes: unexplained"]);
    starved.starved = Some("the host stood still".into());
    let mut broken = outcome(2, "embedded", &[]);
    broken.end = End::Broken;
    let nights = [night(results.path(), 1, vec![canary(0, true), starved, broken])];
    let summary = summary::summarise(&nights, None).unwrap();
    assert_eq!((summary.findings.len(), summary.exit_code), (0, 3), "{}", summary.sentence);
    assert_eq!((summary.counts.starved, summary.counts.broken), (1, 1));
}

#[test]
fn failure_outranks_a_full_disk_and_a_full_disk_is_said() {
    let results = tempfile::tempdir().unwrap();
    let full = || Some("the disk is full: 3 MB are free".to_owned());
    let calm = [night(results.path(), 1, vec![canary(0, true), outcome(1, "embedded", &[])])];
    let summary = summary::summarise(&calm, full()).unwrap();
    assert_eq!(summary.exit_code, 3);
    assert!(summary.sentence.contains("disk is full"), "{}", summary.sentence);
    let failing = [night(results.path(), 2, vec![canary(0, true), outcome(1, "embedded", &["x"])])];
    let summary = summary::summarise(&failing, full()).unwrap();
    assert_eq!(summary.exit_code, 1);
    assert!(summary.sentence.contains("disk is full"), "{}", summary.sentence);
}

#[test]
fn the_index_holds_what_the_folders_hold_and_can_be_made_anew() {
    let results = tempfile::tempdir().unwrap();
    let stored = night(results.path(), 1, vec![canary(0, true), outcome(1, "embedded", &["a", "b"])]);
    let dump = |index: &Index| -> Vec<String> {
        let mut lines = Vec::new();
        for (table, order) in [("night", "id"), ("run", "task"), ("failure", "signature"), ("loss", "task")] {
            let mut all =
                index.connection().prepare(&format!("SELECT * FROM {table} ORDER BY {order}")).unwrap();
            let width = all.column_count();
            let mut rows = all.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let cells: Vec<String> = (0..width)
                    .map(|at| format!("{:?}", row.get::<_, rusqlite::types::Value>(at).unwrap()))
                    .collect();
                lines.push(format!("{table} {}", cells.join(" ")));
            }
        }
        lines
    };
    let mut index = Index::open(results.path()).unwrap();
    let whole = dump(&index);
    assert_eq!(whole.iter().filter(|line| line.starts_with("failure")).count(), 3);
    let mode: String = index.connection().pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    // Written once more, one by one, as a night does.
    index.night(&stored.id, &stored.info).unwrap();
    for outcome in &stored.outcomes {
        index.run(&stored.id, outcome).unwrap();
    }
    assert_eq!(dump(&index), whole);
    drop(index);
    std::fs::write(results.path().join(INDEX), "this is no database").unwrap();
    assert_eq!(dump(&Index::open(results.path()).unwrap()), whole);
    std::fs::remove_file(results.path().join(INDEX)).unwrap();
    let (index, damaged) = Index::rebuild(results.path()).unwrap();
    assert_eq!((dump(&index), damaged), (whole, vec![]));
}

#[test]
fn a_night_is_worked_on_by_one_process_and_goes_on_with_what_is_missing() {
    let results = tempfile::tempdir().unwrap();
    let stored = night(results.path(), 1, vec![canary(0, true), outcome(1, "embedded", &[])]);
    // A run that was going on when the night was killed.
    let task = Sequence::new(&stored.file, 1).nth(2).unwrap();
    let half = Attempt::begin(&stored.path, &task).unwrap().dir().to_owned();
    let open = Night::open(&stored.path).unwrap();
    assert_eq!(open.done.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert!(Night::open(&stored.path).is_err(), "two at once");
    assert!(!half.exists(), "what it left is gone");
    let latest = nights_of(results.path()).join("latest").canonicalize().unwrap();
    assert_eq!(latest, stored.path.canonicalize().unwrap());
}

#[test]
fn a_damaged_outcome_is_named_and_does_not_hide_the_others() {
    let results = tempfile::tempdir().unwrap();
    let stored = night(results.path(), 1, vec![canary(0, true), outcome(1, "embedded", &[])]);
    std::fs::write(stored.path.join("tasks/000001/outcome.json"), "{\"schema\":").unwrap();
    let again = StoredNight::read(&stored.path).unwrap();
    assert_eq!((again.outcomes.len(), again.damaged.len()), (1, 1));
    assert!(again.damaged[0].contains("000001/outcome.json"), "{:?}", again.damaged);
    assert!(Night::open(&stored.path).is_err(), "a night is not gone on with before that is mended");
}

#[test]
fn failing_runs_stay_whole_and_old_valid_ones_keep_what_a_replay_needs() {
    let results = tempfile::tempdir().unwrap();
    let mut runs: Vec<Outcome> = (0..5).map(|number| outcome(number, "embedded", &[])).collect();
    runs.extend((5..9).map(|number| outcome(number, "embedded", &["a"])));
    let stored = night(results.path(), 1, runs);
    let mut night = Night::open(&stored.path).unwrap();
    retain::thin(&mut night).unwrap();
    let whole: Vec<u64> =
        (0..9).filter(|number| night.task_dir(*number).join("runs/one/history.jsonl").exists()).collect();
    assert_eq!(whole, [3, 4, 5, 6], "the newest two valid ones, the first two of the failure");
    let thin = night.task_dir(0).join("runs/one");
    assert!(
        thin.join("repro.toml").exists() && thin.join("report.html").exists() && !thin.join("plots").exists()
    );
    let again = StoredNight::read(&stored.path).unwrap();
    assert_eq!(again.outcomes.iter().filter(|outcome| outcome.thinned).count(), 5);
}
