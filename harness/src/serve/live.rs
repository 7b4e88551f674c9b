//! A storm as it happens: read from the growing files of the newest run that is not whole yet, told as server-sent events.
//! The run knows nothing of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Html;
use axum::response::sse::{Event as Sent, KeepAlive, KeepAliveStream, Sse};
use futures_core::Stream;
use serde::Serialize;
use slotstorm_checker::record::{Action, Body, Event, FaultPhase, Kind, Nanos, Process, RunInfo, View};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::tail::Tail;
use super::{Site, Trouble};
use crate::campaign::outcome::from_json;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(500);
/// Lines of what happened that the page shows.
const SHOWN: usize = 40;

#[derive(Template)]
#[template(path = "live.html")]
struct Page;

/// `/live`
pub async fn page() -> Result<Html<String>, Trouble> {
    Ok(Html(Page.render()?))
}

/// `/live/events`
pub async fn events(State(site): State<Site>) -> Sse<KeepAliveStream<Told>> {
    let (tell, told) = channel(4);
    let results = site.results.root().to_owned();
    // A thread of its own that reads files; it ends when nobody listens any more.
    tokio::task::spawn_blocking(move || follow(&results, &tell));
    Sse::new(Told(told)).keep_alive(KeepAlive::default())
}

/// What the thread tells.
pub struct Told(Receiver<Sent>);

impl Stream for Told {
    type Item = Result<Sent, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|sent| sent.map(Ok))
    }
}

fn follow(results: &Path, tell: &Sender<Sent>) {
    let mut storm: Option<Storm> = None;
    loop {
        let newest = running(results);
        if newest.as_deref() != storm.as_ref().map(|storm| storm.dir.as_path()) {
            storm = newest.as_deref().map(Storm::new);
        }
        let state = match &mut storm {
            Some(storm) => {
                storm.read();
                serde_json::to_string(&storm.state())
            }
            None => Ok("null".to_owned()),
        };
        let Ok(state) = state else { return };
        if tell.blocking_send(Sent::default().event("state").data(state)).is_err() {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// The newest run that is not whole yet, single or of a night.
fn running(results: &Path) -> Option<PathBuf> {
    let parts = |runs: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "part")).collect()
    };
    let mut found = parts(results.join("runs"));
    let tasks = std::fs::read_dir(results.join("campaigns/latest/tasks")).into_iter().flatten().flatten();
    found.extend(tasks.flat_map(|task| parts(task.path().join("runs"))));
    let begun =
        |path: &PathBuf| std::fs::metadata(path.join("history.jsonl")).and_then(|meta| meta.modified()).ok();
    found.into_iter().filter(|path| path.join("run.json").exists()).max_by_key(begun)
}

/// A running storm, as far as it was read.
struct Storm {
    dir: PathBuf,
    info: RunInfo,
    history: Tail,
    views: Tail,
    nodes: BTreeMap<String, Node>,
    /// Links under a fault: from, to, planes, policy.
    cuts: BTreeMap<(String, String, String), String>,
    begun: BTreeMap<Process, Nanos>,
    phase: String,
    now: Nanos,
    /// By second of completion: acknowledged, failed, unknown, and latencies in nanoseconds.
    second: u64,
    current: Second,
    last: Second,
    happened: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Second {
    ok: u64,
    fail: u64,
    unknown: u64,
    latencies: Vec<Nanos>,
}

/// What the page shows of a node.
#[derive(Clone, Debug, Default, Serialize)]
struct Node {
    process: &'static str,
    role: &'static str,
    of: String,
    epoch: u64,
    state: &'static str,
    slots: Vec<(u16, u16)>,
}

/// All that the page shows.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    seed: u64,
    sut: &'a str,
    phase: &'a str,
    seconds: f64,
    duration_s: f64,
    ok: u64,
    fail: u64,
    unknown: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    nodes: &'a BTreeMap<String, Node>,
    links: Vec<[String; 4]>,
    happened: &'a [String],
}

impl Storm {
    fn new(dir: &Path) -> Self {
        let info: RunInfo = from_json(&dir.join("run.json")).unwrap_or_default();
        let nodes = info.nodes.iter().map(|node| (node.name.clone(), Node::default())).collect();
        Self {
            dir: dir.to_owned(),
            info,
            history: Tail::new(&dir.join("history.jsonl")),
            views: Tail::at_end(&dir.join("views.jsonl"), 1 << 20),
            nodes,
            cuts: BTreeMap::new(),
            begun: BTreeMap::new(),
            phase: String::new(),
            now: 0,
            second: 0,
            current: Second::default(),
            last: Second::default(),
            happened: Vec::new(),
        }
    }

    /// Reads on. The files go when the run is whole: then there is nothing more.
    fn read(&mut self) {
        let mut events: Vec<Event> = Vec::new();
        while self.history.lines(|line| events.extend(serde_json::from_slice::<Event>(line))).unwrap_or(false)
        {
        }
        for event in events {
            self.hear(&event);
        }
        let mut views: Vec<View> = Vec::new();
        while self.views.lines(|line| views.extend(serde_json::from_slice::<View>(line))).unwrap_or(false) {}
        for view in views {
            self.see(view);
        }
    }

    fn hear(&mut self, event: &Event) {
        self.now = self.now.max(event.time);
        let second = event.time / 1_000_000_000;
        if second > self.second {
            self.last = std::mem::take(&mut self.current);
            if second > self.second + 1 {
                self.last = Second::default();
            }
            self.second = second;
        }
        match (&event.body, event.process) {
            (Body::Fault(step), _) => {
                for action in &step.actions {
                    self.act(action);
                }
                let word = if step.phase == FaultPhase::Start { "fault" } else { "heal" };
                self.tell(event.time, &format!("{word} {} {}", step.name, step.note));
            }
            (Body::Phase { value }, _) => {
                self.phase = format!("{value:?}").to_lowercase();
                self.tell(event.time, &format!("phase {}", self.phase.clone()));
            }
            (_, Process::Client(_)) => self.count(event),
            _ => {}
        }
    }

    fn count(&mut self, event: &Event) {
        if event.kind == Kind::Invoke {
            self.begun.insert(event.process, event.time);
            return;
        }
        let took = self.begun.remove(&event.process).map(|begun| event.time.saturating_sub(begun));
        match event.kind {
            Kind::Ok => {
                self.current.ok += 1;
                self.current.latencies.extend(took);
            }
            Kind::Fail => self.current.fail += 1,
            _ => self.current.unknown += 1,
        }
    }

    fn act(&mut self, action: &Action) {
        let process = |word: &'static str, node: &String, nodes: &mut BTreeMap<String, Node>| {
            if let Some(node) = nodes.get_mut(node) {
                node.process = word;
            }
        };
        match action {
            Action::Killed { node, .. } => process("killed", node, &mut self.nodes),
            Action::Exited { node, .. } => process("crashed", node, &mut self.nodes),
            Action::Started { node, .. } | Action::Resumed { node } => process("", node, &mut self.nodes),
            Action::Paused { node } => process("paused", node, &mut self.nodes),
            Action::Cut { from, to, planes, policy } => {
                self.cuts.insert((from.clone(), to.clone(), planes.join(" ")), policy.clone());
            }
            Action::Healed { from, to, planes } => {
                self.cuts.remove(&(from.clone(), to.clone(), planes.join(" ")));
            }
            _ => {}
        }
    }

    fn see(&mut self, view: View) {
        let before = self.nodes.get(&view.node).cloned().unwrap_or_default();
        let Some(node) = self.nodes.get_mut(&view.node) else { return };
        let Some(seen) = view.seen else {
            node.state = "silent";
            return;
        };
        node.role = if seen.master { "master" } else { "replica" };
        node.of = seen.master_name.unwrap_or_default();
        node.epoch = seen.epoch;
        node.state = if seen.ok { "ok" } else { "fail" };
        node.slots = seen.slots;
        if before.role != node.role && !before.role.is_empty() {
            let text = format!("{} is {} with epoch {}", view.node, node.role, node.epoch);
            self.tell(view.time, &text);
        }
    }

    fn tell(&mut self, time: Nanos, text: &str) {
        self.happened.push(format!("{:8.1} s  {}", time as f64 / 1e9, text.trim_end()));
        if self.happened.len() > SHOWN {
            self.happened.remove(0);
        }
    }

    /// Links under a fault, all of one kind in one row: who sends, to whom, planes, policy.
    fn links(&self) -> Vec<[String; 4]> {
        let mut receivers: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
        for ((from, to, planes), policy) in &self.cuts {
            receivers.entry((from, planes, policy)).or_default().push(to);
        }
        let mut senders: BTreeMap<(Vec<&str>, &str, &str), Vec<&str>> = BTreeMap::new();
        for ((from, planes, policy), to) in receivers {
            senders.entry((to, planes, policy)).or_default().push(from);
        }
        let row = |((to, planes, policy), from): ((Vec<&str>, &str, &str), Vec<&str>)| {
            [from.join(" "), to.join(" "), planes.to_owned(), policy.to_owned()]
        };
        senders.into_iter().map(row).collect()
    }

    fn state(&self) -> Shown<'_> {
        let mut latencies = self.last.latencies.clone();
        latencies.sort_unstable();
        let at = |part: usize| latencies.get(latencies.len() * part / 100).map(|&nanos| nanos as f64 / 1e6);
        Shown {
            name: &self.info.name,
            seed: self.info.seed,
            sut: &self.info.sut,
            phase: &self.phase,
            seconds: self.now as f64 / 1e9,
            duration_s: self.info.duration_s,
            ok: self.last.ok,
            fail: self.last.fail,
            unknown: self.last.unknown,
            p50_ms: at(50),
            p99_ms: at(99),
            nodes: &self.nodes,
            links: self.links(),
            happened: &self.happened,
        }
    }
}
