//! The nights as tables, `results/campaigns.sqlite`, for pages and for anybody's queries. It holds nothing that the folders
//! do not: lost or damaged it is made anew from them.

use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, Transaction, params};

use super::night::{NightInfo, StoredNight};
use super::outcome::Outcome;
use super::statistics::median;

/// The file's name in the results' folder.
pub const INDEX: &str = "campaigns.sqlite";
/// Of the tables below: another one on disk is made anew.
const VERSION: i32 = 2;

const TABLES: &str = "
CREATE TABLE night(
    id TEXT PRIMARY KEY, campaign TEXT NOT NULL, seed INTEGER NOT NULL, started TEXT NOT NULL, ran_s REAL NOT NULL,
    over TEXT) WITHOUT ROWID;
CREATE TABLE run(
    night TEXT NOT NULL REFERENCES night(id), task INTEGER NOT NULL, canary INTEGER NOT NULL,
    server TEXT NOT NULL, preset TEXT NOT NULL, workload TEXT NOT NULL, topology TEXT NOT NULL,
    node_timeout_ms INTEGER NOT NULL, expect TEXT NOT NULL, backend TEXT NOT NULL, seed INTEGER NOT NULL,
    end TEXT NOT NULL, counts INTEGER NOT NULL, starved TEXT, reason TEXT NOT NULL, exit INTEGER, started TEXT NOT NULL,
    took_s REAL NOT NULL, folder TEXT, thinned INTEGER NOT NULL, acknowledged INTEGER NOT NULL, failovers INTEGER NOT NULL,
    lost INTEGER NOT NULL, availability_pct REAL NOT NULL, longest_outage_s REAL NOT NULL, recovery_s REAL,
    p50_ms REAL, p99_ms REAL, p999_ms REAL, cpu_s REAL, ready_s REAL,
    PRIMARY KEY(night, task)) WITHOUT ROWID;
CREATE TABLE failure(
    night TEXT NOT NULL, task INTEGER NOT NULL, signature TEXT NOT NULL,
    PRIMARY KEY(night, task, signature)) WITHOUT ROWID;
CREATE TABLE loss(
    night TEXT NOT NULL, task INTEGER NOT NULL, class TEXT NOT NULL, lost INTEGER NOT NULL,
    PRIMARY KEY(night, task, class)) WITHOUT ROWID;
CREATE INDEX failure_by_signature ON failure(signature, night);
";

/// The index, open.
pub struct Index(Connection);

impl Index {
    /// Opens it, or makes it from the folders if it is not there or of another version.
    pub fn open(results: &Path) -> anyhow::Result<Self> {
        let path = results.join(INDEX);
        if let Ok(index) = Self::existing(&path) {
            return Ok(index);
        }
        Self::rebuild(results).map(|(index, _)| index)
    }

    fn existing(path: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(path.exists(), "there is no index");
        let connection = connect(path)?;
        let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        anyhow::ensure!(version == VERSION, "the index is of version {version}");
        Ok(Self(connection))
    }

    /// Makes it anew from the folders; answers also what could not be read.
    pub fn rebuild(results: &Path) -> anyhow::Result<(Self, Vec<String>)> {
        let path = results.join(INDEX);
        std::fs::create_dir_all(results).with_context(|| format!("cannot make {}", results.display()))?;
        let fresh = results.join(format!(".{INDEX}-{}", std::process::id()));
        remove(&fresh)?;
        let mut damaged = Vec::new();
        {
            let mut connection = connect(&fresh)?;
            // No reader sees this file before it is whole, and its rename must not leave a log behind.
            connection.pragma_update(None, "journal_mode", "DELETE")?;
            let writing = connection.transaction()?;
            writing.execute_batch(TABLES)?;
            let (nights, none) = StoredNight::all(results);
            damaged.extend(none);
            for night in nights {
                put_night(&writing, &night.id, &night.info)?;
                for outcome in &night.outcomes {
                    put_run(&writing, &night.id, outcome)?;
                }
                damaged.extend(night.damaged);
            }
            writing.pragma_update(None, "user_version", VERSION)?;
            writing.commit()?;
        }
        remove(&path)?;
        std::fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok((Self(connect(&path)?), damaged))
    }

    /// Writes a night, or what has changed of it.
    pub fn night(&mut self, id: &str, info: &NightInfo) -> anyhow::Result<()> {
        let writing = self.0.transaction()?;
        put_night(&writing, id, info)?;
        Ok(writing.commit()?)
    }

    /// Writes a run, once or again.
    pub fn run(&mut self, night: &str, outcome: &Outcome) -> anyhow::Result<()> {
        let writing = self.0.transaction()?;
        put_run(&writing, night, outcome)?;
        Ok(writing.commit()?)
    }

    /// For queries.
    pub fn connection(&self) -> &Connection {
        &self.0
    }
}

fn connect(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// The database and what SQLite keeps beside it.
fn remove(path: &Path) -> anyhow::Result<()> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", name.to_string_lossy()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn put_night(writing: &Transaction<'_>, id: &str, info: &NightInfo) -> rusqlite::Result<()> {
    writing.execute(
        "INSERT OR REPLACE INTO night VALUES(?, ?, ?, ?, ?, ?)",
        params![id, info.campaign, info.seed.cast_signed(), info.started, info.ran_s, info.over],
    )?;
    Ok(())
}

fn put_run(writing: &Transaction<'_>, night: &str, outcome: &Outcome) -> rusqlite::Result<()> {
    let (task, cell, numbers) = (&outcome.task, &outcome.task.cell, &outcome.numbers);
    let number = task.number.cast_signed();
    let latency = numbers.latency_ms;
    writing.execute(
        "INSERT OR REPLACE INTO run VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
         ?, ?, ?, ?)",
        params![
            night,
            number,
            task.canary,
            cell.server,
            cell.preset,
            cell.workload,
            cell.topology.to_string(),
            cell.node_timeout_ms.cast_signed(),
            cell.expect.to_string(),
            cell.backend,
            task.seed.cast_signed(),
            outcome.end.word(),
            outcome.counts(),
            outcome.starved,
            outcome.reason,
            outcome.exit,
            outcome.started,
            outcome.took_s,
            outcome.folder.as_ref().map(|folder| folder.to_string_lossy().into_owned()),
            outcome.thinned,
            numbers.acknowledged.cast_signed(),
            numbers.failovers.cast_signed(),
            numbers.lost.cast_signed(),
            numbers.availability_pct,
            numbers.longest_outage_s,
            median(&numbers.recoveries_s),
            latency.map(|latency| latency.p50),
            latency.map(|latency| latency.p99),
            latency.map(|latency| latency.p999),
            outcome.cpu_s,
            numbers.ready_s,
        ],
    )?;
    for table in ["failure", "loss"] {
        writing
            .execute(&format!("DELETE FROM {table} WHERE night = ? AND task = ?"), params![night, number])?;
    }
    for signature in &outcome.signatures {
        writing.execute("INSERT INTO failure VALUES(?, ?, ?)", params![night, number, signature])?;
    }
    for (class, count) in &numbers.by_class {
        writing.execute(
            "INSERT INTO loss VALUES(?, ?, ?, ?)",
            params![night, number, class, count.cast_signed()],
        )?;
    }
    Ok(())
}
