//! A made-up run of 60 s with a kill, a pause, an isolation and a loss: every picture is drawn and the page tells it.

use std::fmt::Write as _;

use slotstorm_checker::record::verdict::{
    Anomaly, Loss, RuleCount, ShardAvailability, Takeover, Validity, Verdict, Wire, WitnessLink, WitnessOp,
};
use slotstorm_checker::record::{
    Action, Body, Event, FaultPhase, FaultStep, Kind, Nanos, NodeInfo, Op, Phase, Process, Row, RunInfo,
    Seen, Speaker, View,
};

use super::*;

const MS: Nanos = 1_000_000;
const S: Nanos = 1000 * MS;

/// Six nodes: n1 to n3 masters, n4 to n6 their replicas. n1 is killed at 10 s and back at 16 s; n4 takes over.
fn info() -> RunInfo {
    let ranges = [(0, 5460), (5461, 10922), (10923, 16383)];
    let nodes = (1..=6u16)
        .map(|i| NodeInfo {
            name: format!("n{i}"),
            id: format!("{i:040x}"),
            sut: "embedded".into(),
            version: "0.1.0".into(),
            real: format!("127.9.0.{i}:6379"),
            announced: format!("127.9.1.{i}:6379"),
            shard: u32::from((i - 1) % 3),
            master: i <= 3,
            slots: vec![ranges[usize::from((i - 1) % 3)]],
        })
        .collect();
    RunInfo {
        schema: 1,
        name: "failover".into(),
        seed: 42,
        sut: "embedded".into(),
        started: "2026-01-02T03:04:05Z".into(),
        nodes,
        masters: 3,
        replicas: 1,
        node_timeout_ms: 2000,
        duration_s: 60.0,
        clients: 10,
        rate: 200.0,
        workload: "set".into(),
        command: vec!["slotstorm".into(), "run".into(), "--seed".into(), "42".into()],
        ..RunInfo::default()
    }
}

fn history() -> Vec<Event> {
    let mut events: Vec<(Nanos, Kind, Process, Body)> = Vec::new();
    let harness = Process::Other(Speaker::Harness);
    events.push((0, Kind::Info, harness, Body::Phase { value: Phase::Storm }));
    events.push((60 * S, Kind::Info, harness, Body::Phase { value: Phase::Converge }));
    for i in 0..12_000u64 {
        let start = i * 5 * MS;
        let key = format!("set:{}", i % 97);
        let slot = redis_protocol::redis_keyslot(key.as_bytes());
        let op = |intended| Op { key: key.clone(), value: Some(i + 1), intended, ..Op::default() };
        let down = slot <= 5460 && (10 * S..14 * S).contains(&start);
        let (kind, took) = match (down, i % 5) {
            (true, 0) => (Kind::Info, 1000 * MS),
            (true, _) => (Kind::Fail, MS / 2),
            (false, step) => (Kind::Ok, MS / 2 + (i * 7919 % 1000) * 1500 + step * 20_000),
        };
        let body = |op: Op| if i % 9 == 0 { Body::Read(op) } else { Body::Add(op) };
        events.push((start, Kind::Invoke, Process::Client(i), body(op(Some(start)))));
        events.push((start + took, kind, Process::Client(i), body(op(None))));
    }
    let mut fault = |at: Nanos, number, name: &str, phase, actions: Vec<Action>| {
        let step = FaultStep {
            fault: Some(number),
            name: name.into(),
            phase,
            planned: Some(at),
            actions,
            ..FaultStep::default()
        };
        events.push((at, Kind::Info, Process::Other(Speaker::Nemesis), Body::Fault(step)));
    };
    let node = |i: u16| format!("n{i}");
    fault(
        10 * S,
        0,
        "kill",
        FaultPhase::Start,
        vec![Action::Killed { node: node(1), signal: "KILL".into() }],
    );
    fault(16 * S, 0, "kill", FaultPhase::End, vec![Action::Started { node: node(1), pid: 77, kept: None }]);
    fault(25 * S, 1, "pause", FaultPhase::Start, vec![Action::Paused { node: node(2) }]);
    fault(31 * S, 1, "pause", FaultPhase::End, vec![Action::Resumed { node: node(2) }]);
    let links = || (1..=6u16).filter(|i| *i != 3);
    let planes = || vec!["bus".to_owned()];
    let cut = links()
        .map(|i| Action::Cut { from: node(i), to: node(3), planes: planes(), policy: "blackhole".into() })
        .collect();
    let heal = links().map(|i| Action::Healed { from: node(i), to: node(3), planes: planes() }).collect();
    fault(40 * S, 2, "isolate", FaultPhase::Start, cut);
    fault(47 * S, 2, "isolate", FaultPhase::End, heal);
    events.sort_by_key(|(time, ..)| *time);
    let event =
        |(index, (time, kind, process, body))| Event { index: index as u64, time, kind, process, body };
    events.into_iter().enumerate().map(event).collect()
}

fn views() -> Vec<View> {
    let info = info();
    let mut views = Vec::new();
    for tick in 0..620u64 {
        let time = tick * 100 * MS;
        let taken = time >= 14 * S;
        for (index, node) in info.nodes.iter().enumerate() {
            let down = index == 0 && (10 * S..16 * S).contains(&time);
            let paused = index == 1 && (25 * S..31 * S).contains(&time);
            let master = if node.shard == 0 { (index == 3) == taken } else { node.master };
            let flags = if index != 0 && (12 * S..17 * S).contains(&time) { "master,fail" } else { "master" };
            let seen = Seen {
                master,
                ok: true,
                epoch: if node.shard == 0 && taken { 7 } else { u64::from(node.shard) + 1 },
                slots: if master { node.slots.clone() } else { Vec::new() },
                master_name: (!master).then(|| if node.shard == 0 { "n4" } else { "n2" }.to_owned()),
                table: vec![Row { node: "n1".into(), flags: flags.into(), ..Row::default() }].into(),
                ..Seen::default()
            };
            let silent = down || paused;
            views.push(View {
                time,
                sent: time,
                node: node.name.clone(),
                seen: (!silent).then_some(seen),
                error: silent.then(|| "no answer".to_owned()),
            });
        }
    }
    views
}

fn verdict() -> Verdict {
    let takeover = Takeover {
        time: 14 * S,
        node: "n4".into(),
        from: "n1".into(),
        epoch: 7,
        offset: Some(4711),
        replid: "abc".into(),
    };
    let mut verdict = Verdict {
        valid: Validity::Invalid,
        exit_code: 1,
        reason: "1 acknowledged write on shard 0 vanished after n4 took over.".into(),
        acknowledged: 11_000,
        failovers: 1,
        ..Verdict::default()
    };
    let lost = &mut verdict.checks.lost_writes;
    (lost.valid, lost.judged, lost.lost) = (Validity::Invalid, 9000, 1);
    lost.by_class = [("W1".to_owned(), 1), ("unexplained".to_owned(), 0)].into();
    lost.losses.push(Loss {
        element: 1999,
        key: "set:<7>".into(),
        slot: 811,
        acked_by: "n1".into(),
        invoked: 9_990 * MS,
        acked: 9_995 * MS,
        class: "W1".into(),
        windows: vec!["W1".into()],
        offset: Some(4712),
        erased_by: Some(takeover.clone()),
        proof: "its last byte is at offset 4712 of n1's history; n4 was promoted at 4711".into(),
        ..Loss::default()
    });
    verdict.checks.invariants.takeovers.push(takeover);
    let op = |name: &str, from, words: &str| WitnessOp {
        name: name.into(),
        lane: "process 3 at n1".into(),
        from,
        to: Some(from + MS),
        words: words.into(),
    };
    let why = "it read <7>".to_owned();
    let link = WitnessLink { from: "T1".into(), to: "T2".into(), relation: "wr".into(), why };
    verdict.checks.consistency.anomalies = 1;
    verdict.checks.consistency.findings.push(Anomaly {
        what: "stale-read".into(),
        text: "7 was read after 8 had been written".into(),
        object: "register".into(),
        key: "register:<3>".into(),
        ops: vec![op("T1", 9 * S, "write 7"), op("T2", 10 * S, "get -> 7")],
        links: vec![link],
        ..Anomaly::default()
    });
    let one = |judged| RuleCount { judged, ..RuleCount::default() };
    let rules = [("one-vote-per-epoch".to_owned(), one(2)), ("fail-by-a-majority".to_owned(), one(0))].into();
    let frames = [("ping".to_owned(), 4713)].into();
    verdict.checks.invariants.wire = Some(Wire { votes: 2, elections: 1, rules, frames, ..Wire::default() });
    verdict.checks.availability.shards.push(ShardAvailability {
        shard: 0,
        slots: vec![(0, 5460)],
        outages: vec![(10 * S, 14 * S)],
        ..ShardAvailability::default()
    });
    verdict
}

fn lines<T: serde::Serialize>(items: &[T]) -> String {
    items.iter().fold(String::new(), |mut text, item| {
        let _ = writeln!(text, "{}", serde_json::to_string(item).unwrap());
        text
    })
}

/// The folder of the made-up run.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    put("run.json", serde_json::to_string(&info()).unwrap());
    put("history.jsonl", lines(&history()));
    put("views.jsonl", lines(&views()));
    put("verdict.json", serde_json::to_string(&verdict()).unwrap());
    put("storm.toml", "[[fault]]\nkind = \"kill\"\n".into());
    dir
}

#[test]
fn the_page_tells_the_loss_and_needs_nothing_from_outside() {
    let dir = folder();
    write(dir.path()).unwrap();
    if let Ok(keep) = std::env::var("SLOTSTORM_KEEP_REPORT") {
        // For people who want to look at it.
        for name in ["report.html", "plots/roles.png", "plots/availability.png", "plots/latency-raw.png"] {
            let to = Path::new(&keep).join(Path::new(name).file_name().unwrap());
            std::fs::copy(dir.path().join(name), to).unwrap();
        }
    }
    let html = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(html.contains("1 acknowledged write on shard 0 vanished after n4 took over."));
    assert!(html.contains("4712 &#62; 4711") || html.contains("4712 &gt; 4711"), "offsets of the loss");
    assert!(html.contains("on the bus 2 votes in 1 elections"), "the bus");
    assert!(html.contains("one-vote-per-epoch: 2 judged, 0 broken"), "a rule that was seen");
    assert!(html.contains("fail-by-a-majority: not seen"), "a rule that was not");
    assert!(html.contains("frames: ping: 4713"));
    assert!(
        html.contains("7 was read after 8 had been written.") && html.contains("T2 get -&gt; 7"),
        "the witness"
    );
    assert!(!html.contains("set:<7>"), "text of the record is escaped");
    for outside in ["src=\"http", "href=\"http", "url(http", "<script", "<link"] {
        assert!(!html.contains(outside), "the page holds {outside}");
    }
}

#[test]
fn every_picture_is_there_as_svg_and_png_and_stays_small() {
    let dir = folder();
    write(dir.path()).unwrap();
    for name in ["availability", "roles", "latency-raw", "latency-quantiles", "rate"] {
        let svg = std::fs::read_to_string(dir.path().join(format!("plots/{name}.svg"))).unwrap();
        assert!(svg.trim_end().ends_with("</svg>"), "{name}.svg is whole");
        assert!(svg.len() < 4_000_000, "{name}.svg has {} bytes", svg.len());
        let png = std::fs::read(dir.path().join(format!("plots/{name}.png"))).unwrap();
        assert_eq!(&png[..4], b"\x89PNG");
    }
}

#[test]
fn a_torn_record_is_drawn_as_far_as_it_goes_and_named() {
    let dir = folder();
    let path = dir.path().join("history.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.truncate(text.len() - 20);
    std::fs::write(&path, text).unwrap();
    std::fs::remove_file(dir.path().join("verdict.json")).unwrap();
    write(dir.path()).unwrap();
    let html = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(html.contains("This run was not judged."));
    assert!(html.contains("history.jsonl: line"));
}

#[test]
fn a_folder_that_is_no_run_is_the_users_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = write(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is no run's folder"), "{error}");
}
