//! A run's folder as it lies on disk, for the page.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use slotstorm_checker::record::verdict::Verdict;
use slotstorm_checker::record::{Event, RunInfo, View};

/// Lines of each node's log that the page shows.
const LOG_LINES: usize = 40;

#[derive(Debug, Default)]
pub struct Stored {
    pub dir: PathBuf,
    pub info: RunInfo,
    pub history: Vec<Event>,
    pub views: Vec<View>,
    /// Absent if the run was not judged.
    pub verdict: Option<Verdict>,
    /// The schedule as text.
    pub storm: String,
    /// Per node the end of its log.
    pub logs: BTreeMap<String, Vec<String>>,
    /// What is missing or torn, for the page.
    pub notes: Vec<String>,
}

impl Stored {
    /// Reads what is there. Only a folder without `run.json` is no run.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("run.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                bail!("{} is no run's folder: cannot read {}: {error}", dir.display(), path.display())
            }
        };
        let info: RunInfo =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let mut stored = Self { dir: dir.to_owned(), info, ..Self::default() };
        stored.history = stored.lines("history.jsonl");
        stored.views = stored.lines("views.jsonl");
        match std::fs::read_to_string(dir.join("verdict.json")) {
            Err(error) => stored.notes.push(format!("verdict.json: {error}; the run was not judged")),
            Ok(text) => match serde_json::from_str(&text) {
                Ok(verdict) => stored.verdict = Some(verdict),
                Err(error) => stored.notes.push(format!("verdict.json is damaged: {error}")),
            },
        }
        stored.storm = std::fs::read_to_string(dir.join("storm.toml")).unwrap_or_default();
        for node in &stored.info.nodes {
            if let Ok(bytes) = std::fs::read(dir.join("logs").join(format!("{}.log", node.name))) {
                let text = String::from_utf8_lossy(&bytes);
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|l| (*l).to_owned());
                stored.logs.insert(node.name.clone(), tail.collect());
            }
        }
        Ok(stored)
    }

    fn lines<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        let file = match std::fs::File::open(self.dir.join(name)) {
            Ok(file) => file,
            Err(error) => {
                self.notes.push(format!("{name}: {error}"));
                return Vec::new();
            }
        };
        let mut items = Vec::new();
        let mut damaged: Option<String> = None;
        for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
            let Ok(line) = line else {
                self.notes.push(format!("{name}: unreadable from line {}", index + 1));
                break;
            };
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(item) => items.push(item),
                Err(error) if damaged.is_none() => {
                    damaged = Some(format!("{name}: line {} is left out: {error}", index + 1));
                }
                Err(_) => {}
            }
        }
        self.notes.extend(damaged);
        items
    }
}
