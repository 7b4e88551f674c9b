//! The folder as text: what was written is read, a torn end is tolerated, and a wrong line is named.

use proptest::prelude::*;

use crate::judge;
use crate::record::*;
use crate::scene::{Held, Scene};

fn lines<T: serde::Serialize>(items: &[T]) -> String {
    items.iter().map(|item| serde_json::to_string(item).unwrap() + "\n").collect()
}

fn read(scene: &Scene, history: &str) -> Result<Record, ReadError> {
    read_folder(Sources {
        run: &serde_json::to_string(&scene.info).unwrap(),
        history: history.as_bytes(),
        views: lines(&scene.views).as_bytes(),
        stream: lines(&scene.stream).as_bytes(),
        bus: None::<&[u8]>,
    })
}

fn story() -> Scene {
    let mut scene = Scene::new("append");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").waited(1, 1).hold("n1", Held::Read).write(
        &key,
        2,
        "n1",
        Kind::Info,
        true,
    );
    scene.read(&key, "n1").stall(30).kill("n1").at(5.0).promote("n4").end_storm().final_reads();
    scene
}

#[test]
fn the_folder_says_what_the_builder_was_told() {
    let scene = story();
    let record = read(&scene, &lines(&scene.events)).unwrap();
    let told = scene.record();
    assert_eq!(format!("{:?}", record.ops), format!("{:?}", told.ops));
    assert_eq!(format!("{:?}", record.faults), format!("{:?}", told.faults));
    assert_eq!((record.views.len(), record.stream.len()), (told.views.len(), told.stream.len()));
    assert_eq!(judge(&record), judge(&told));
}

#[test]
fn a_verdict_survives_its_file() {
    let verdict = judge(&story().record());
    let text = serde_json::to_string(&verdict).unwrap();
    assert_eq!(serde_json::from_str::<verdict::Verdict>(&text).unwrap(), verdict);
}

#[test]
fn a_torn_last_line_is_left_out_and_noted() {
    let scene = story();
    let whole = lines(&scene.events);
    let record = read(&scene, &whole[..whole.len() - 10]).unwrap();
    assert_eq!(record.torn, vec![format!("history.jsonl:{}", scene.events.len())]);
}

#[test]
fn a_wrong_line_is_named_with_what_was_expected() {
    let scene = story();
    let text = lines(&scene.events);
    let error = |text: &str| read(&scene, text).unwrap_err().to_string();
    let mut missing: Vec<&str> = text.split_inclusive('\n').collect();
    missing.remove(3);
    let missing = missing.concat();
    assert!(error(&missing).starts_with("history.jsonl, line 4: expected"), "{}", error(&missing));
    let garbage = text.replacen("\"invoke\"", "\"inv\"", 1);
    assert!(error(&garbage).contains("an event of the history"), "{}", error(&garbage));
}

#[test]
fn the_bus_is_read_line_by_line_or_was_not_watched() {
    let scene = story();
    let with = |bus: Option<&[u8]>| {
        read_folder(Sources {
            run: &serde_json::to_string(&scene.info).unwrap(),
            history: lines(&scene.events).as_bytes(),
            views: lines(&scene.views).as_bytes(),
            stream: lines(&scene.stream).as_bytes(),
            bus,
        })
    };
    assert_eq!(judge(&with(None).unwrap()).checks.invariants.wire, None, "an old folder");
    let frame = r#"{"time":5,"from":"n1","to":"n2","conn":3,"what":"frame","kind":"ping","opened":4,"id":"a","current":1,"config":1,"of":"","slots":[[0,5]],"flags":"master"}"#;
    let tally = r#"{"time":9,"from":"","to":"","conn":0,"what":"tally","frames":{"ping":7},"bytes":15792}"#;
    let whole = format!("{frame}\n{tally}\n{}", &frame[..40]);
    let record = with(Some(whole.as_bytes())).unwrap();
    assert_eq!((record.bus.as_ref().unwrap().len(), &record.torn[..]), (2, &["bus.jsonl:3".to_owned()][..]));
    let wire = judge(&record).checks.invariants.wire.unwrap();
    assert_eq!((wire.frames["ping"], wire.bytes), (7, 15792));
    let wrong = format!("{frame}\n{{}}\n");
    let error = with(Some(wrong.as_bytes())).unwrap_err().to_string();
    assert!(error.starts_with("bus.jsonl, line 2: expected what passed on the cluster bus"), "{error}");
}

proptest! {
    #[test]
    fn no_line_of_the_bus_makes_the_judge_panic(edits in prop::collection::vec((0usize..3000, any::<char>()), 0..8)) {
        // Numbers, ids and slots at their ends, in lines that are still lines.
        let line = |id: &str, kind: &str, epoch: u64| format!(
            r#"{{"time":{epoch},"from":"n1","to":"n2","conn":3,"what":"frame","kind":"{kind}","id":"{id}","current":{epoch},"config":{epoch},"of":"","slots":[[0,65535],[9,3]],"subject":"{id}","epoch":7,"pfail":["{id}"]}}"#
        );
        let kinds = ["ping", "auth-req", "auth-ack", "fail", "update", "meet", "nonsense"];
        let epochs = [u64::MAX, 0, 1, u64::MAX - 1];
        let mut text: Vec<char> = kinds
            .iter()
            .flat_map(|kind| epochs.iter().map(move |&epoch| line(if epoch == 0 { "" } else { "b" }, kind, epoch) + "\n"))
            .flat_map(|line| line.chars().collect::<Vec<_>>())
            .collect();
        for (at, with) in edits {
            let at = at % text.len();
            text[at] = with;
        }
        let scene = Scene::new("set");
        let text: String = text.into_iter().collect();
        for line in text.lines() {
            let mut builder = RecordBuilder::new(scene.info.clone());
            let whole = text.lines().filter(|other| *other <= line);
            whole.filter_map(|line| serde_json::from_str(line).ok()).for_each(|line| builder.bus(line));
            let _ = judge(&builder.finish());
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..4000usize) {
        let scene = story();
        let mut text = lines(&scene.events).into_bytes();
        let at = cut.min(text.len());
        text.splice(at..at, bytes);
        let run = serde_json::to_string(&scene.info).unwrap();
        let bus = None::<&[u8]>;
        let sources = Sources { run: &run, history: &text[..], views: &b""[..], stream: &b""[..], bus };
        if let Ok(record) = read_folder(sources) {
            let _ = judge(&record);
        }
    }
}

/// Not run by default: a measurement. `cargo test --release -p slotstorm-checker -- --ignored --nocapture a_million`
#[test]
#[ignore = "a measurement, not a check"]
#[allow(clippy::disallowed_methods)] // the one place that looks at a clock
fn a_million_operations_are_judged_in_seconds() {
    let mut scene = Scene::new("set");
    let keys: Vec<[String; 3]> = (0..2000).map(|key| [0, 1, 2].map(|shard| Scene::key(shard, key))).collect();
    let masters = [["n1", "n2", "n3"], ["n4", "n2", "n3"]];
    let mut element = 0;
    for (round, masters) in masters.iter().enumerate() {
        for _ in 0..250_000 {
            for shard in 0..2 {
                let key = &keys[element as usize % keys.len()][shard];
                scene.add(key, element, masters[shard]);
                element += 1;
                if element % 20 == 0 {
                    scene.read(key, masters[shard]);
                }
            }
        }
        if round == 0 {
            scene.hold("n1", Held::Read);
            for (i, key) in keys.iter().take(1000).enumerate() {
                scene.add(&key[0], 10_000_000 + i as u64, "n1");
            }
            let now = scene.seconds() + 0.1;
            scene
                .kill("n1")
                .at(now + 3.0)
                .promote("n4")
                .at(now + 4.0)
                .restart("n1")
                .learns("n1")
                .at(now + 5.0);
        }
    }
    let now = scene.seconds() + 0.1;
    scene.at(now).end_storm().final_reads();
    let text = lines(&scene.events);
    let begun = std::time::Instant::now();
    let record = read(&scene, &text).unwrap();
    println!("{} operations read in {:?}", record.ops.len(), begun.elapsed());
    let begun = std::time::Instant::now();
    let timeline = crate::timeline::Timeline::of(&record);
    println!("timeline in {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    let verdict = crate::judge_timeline(&record, &timeline, &crate::JudgeOptions::default());
    println!("judged in {:?}: {}", begun.elapsed(), verdict.reason);
    assert_eq!(verdict.checks.lost_writes.lost, 1000);
}
