//! The levers that change nothing (`call` does what it is told): check, info, nodes, call, backup.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: the backup's files

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::screen::Screen;
use super::{Auth, Common, Done, Entry, Trouble, resolve, with_fleet};
use crate::admin::backup::{Saved, Shelf, backup as save};
use crate::admin::fleet::Fleet;
use crate::admin::health::{self, CheckOptions};
use crate::admin::membership;
use crate::admin::note::{Note, step};
use crate::admin::parse::NodeLine;
use crate::admin::{Reach, slots};

/// Arguments of `slotstorm cluster check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    entry: Entry,
    /// Look for slots of which several masters hold keys
    #[arg(long = "cluster-search-multiple-owners", visible_alias = "search-multiple-owners")]
    search_owners: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster info` and `nodes`.
#[derive(Clone, Debug, Args)]
pub struct TellArgs {
    #[command(flatten)]
    entry: Entry,
    /// One line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster call`.
#[derive(Clone, Debug, Args)]
pub struct CallArgs {
    /// Any node of the cluster
    #[arg(value_name = "HOST:PORT")]
    entry: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    words: Vec<String>,
    /// Masters only
    #[arg(long = "cluster-only-masters", visible_alias = "only-masters")]
    masters: bool,
    /// Replicas only
    #[arg(long = "cluster-only-replicas", visible_alias = "only-replicas")]
    replicas: bool,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// Any node of the cluster
    #[arg(value_name = "HOST:PORT")]
    entry: String,
    /// A folder that exists
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
    #[serde(flatten)]
    health: health::Health,
    masters: Vec<health::MasterInfo>,
}

/// Runs `check`.
pub fn check(args: &CheckArgs, auth: &Auth) -> Done {
    let screen = Screen::new(args.json);
    let tell = |note: Note| screen.show(&note);
    with_fleet(args.entry.address()?, &args.common, auth, async |fleet| {
        let masters = health::say_info(fleet, &tell).await?;
        let options = CheckOptions { search_owners: args.search_owners, ..CheckOptions::default() };
        let health = health::check(fleet, options, &tell).await?;
        let ok = health.clean();
        if args.json {
            print_json(&Checked { ok, health, masters })?;
        }
        if ok { Ok(()) } else { Err(Trouble::Said) }
    })
}

/// Runs `info`.
pub fn info(args: &TellArgs, auth: &Auth) -> Done {
    let screen = Screen::new(args.json);
    let tell = |note: Note| screen.show(&note);
    with_fleet(args.entry.address()?, &args.common, auth, async |fleet| {
        let masters = health::say_info(fleet, &tell).await?;
        if args.json {
            print_json(&masters)?;
        }
        Ok(())
    })
}

fn print_json(value: &impl Serialize) -> Done {
    let text = serde_json::to_string(value).map_err(|error| Trouble::Failed(error.to_string()))?;
    println!("{text}");
    Ok(())
}

/// A node as the table shows it.
#[derive(Serialize)]
struct Row {
    id: String,
    address: String,
    role: &'static str,
    master: Option<String>,
    /// Inclusive ranges.
    slots: Vec<(u16, u16)>,
    epoch: u64,
    /// The entry node's link to it.
    connected: bool,
    flags: Vec<String>,
    /// Slots with marks and the other side's id.
    migrating: Vec<(u16, String)>,
    importing: Vec<(u16, String)>,
    /// Why it does not answer, if it does not.
    trouble: Option<String>,
}

/// Runs `nodes`.
pub fn nodes(args: &TellArgs, auth: &Auth) -> Done {
    with_fleet(args.entry.address()?, &args.common, auth, async |fleet| {
        let rows = rows(fleet);
        if args.json {
            return print_json(&rows);
        }
        print!("{}", table(&rows));
        Ok(())
    })
}

/// Masters by their slots, each followed by its replicas; the state is the entry node's view, marks are each node's own.
fn rows<R: Reach>(fleet: &Fleet<R>) -> Vec<Row> {
    let view = &fleet.nodes[0].table;
    let place = |line: &NodeLine| {
        let master = line.master_id.as_ref().and_then(|id| view.iter().find(|it| it.id == *id));
        let shard = master.unwrap_or(line);
        let first = shard.slots.first().map_or(u16::MAX, |range| range.0);
        (first, shard.id.clone(), !line.master(), line.ip.clone(), line.port)
    };
    let mut lines: Vec<&NodeLine> = view.iter().collect();
    lines.sort_by_key(|line| place(line));
    let row = |line: &NodeLine| {
        let own = fleet.nodes.iter().find(|node| node.id == line.id);
        let marks = own.map(|node| &node.own);
        Row {
            id: line.id.clone(),
            address: own
                .map_or_else(|| format!("{}:{}", line.ip, line.port), crate::admin::fleet::Node::label),
            role: if line.master() { "master" } else { "replica" },
            master: line.master_id.clone(),
            slots: line.slots.clone(),
            epoch: line.epoch,
            connected: line.connected,
            flags: line
                .flags
                .iter()
                .filter(|flag| !["master", "slave"].contains(&&flag[..]))
                .cloned()
                .collect(),
            migrating: marks.map(|own| own.migrating.clone()).unwrap_or_default(),
            importing: marks.map(|own| own.importing.clone()).unwrap_or_default(),
            trouble: fleet.absent.iter().find(|it| it.line.id == line.id).map(|it| it.why.clone()),
        }
    };
    lines.into_iter().map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let heads = ["ID", "ADDRESS", "ROLE", "MASTER", "EPOCH", "LINK", "FLAGS", "SLOTS"];
    let mut cells: Vec<Vec<String>> = vec![heads.map(str::to_owned).to_vec()];
    for row in rows {
        let master =
            row.master.as_ref().map(|id| rows.iter().find(|it| it.id == *id).map_or(id, |it| &it.address));
        let list = slots::expand(&row.slots);
        let mut text = if list.is_empty() {
            "-".to_owned()
        } else {
            format!("{} ({})", slots::sentence(&list), list.len())
        };
        for (marks, arrow) in [(&row.migrating, "->-"), (&row.importing, "-<-")] {
            for (slot, id) in marks {
                let short: String = id.chars().take(8).collect();
                let _ = write!(text, " [{slot}{arrow}{short}]");
            }
        }
        let flags = if row.flags.is_empty() { "-".to_owned() } else { row.flags.join(",") };
        cells.push(vec![
            row.id.clone(),
            row.address.clone(),
            row.role.to_owned(),
            master.map_or_else(|| "-".to_owned(), ToString::to_string),
            row.epoch.to_string(),
            if row.connected { "up" } else { "down" }.to_owned(),
            flags,
            text,
        ]);
    }
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for row in &cells {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += padded.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    for row in rows {
        if let Some(why) = &row.trouble {
            let _ = writeln!(text, "! {} does not answer: {why}", row.address);
        }
    }
    text
}

/// Runs `call`.
pub fn call(mut args: CallArgs, auth: &Auth) -> Done {
    // redis-cli takes its options after the command's words, too.
    let mut took = |flags: &[&str]| {
        let before = args.words.len();
        args.words.retain(|word| !flags.contains(&word.as_str()));
        args.words.len() < before
    };
    let masters = took(&["--cluster-only-masters"]) || args.masters;
    let replicas = took(&["--cluster-only-replicas"]) || args.replicas;
    took(&["--cluster-yes"]);
    if args.words.is_empty() {
        return Err(Trouble::Usage("which command?".to_owned()));
    }
    let screen = Screen::new(false);
    step(&|note| screen.show(&note), format!("Calling {}", args.words.join(" ")));
    with_fleet(resolve(&args.entry)?, &args.common, auth, async |fleet| {
        let wanted = |is_master: bool| (is_master || !masters) && (!is_master || !replicas);
        for (label, answer) in membership::call(fleet, wanted, &args.words).await {
            match answer {
                Ok(reply) => println!("{label}: {}", membership::readable(&reply)),
                Err(error) => println!("{label}: Failed! {error}"),
            }
        }
        Ok(())
    })
}

/// Files in a folder: written under a temporary name, and renamed when whole.
struct Folder {
    path: PathBuf,
    open: Option<(File, PathBuf)>,
}

impl Shelf for Folder {
    fn open(&mut self, name: &str) -> Result<String, String> {
        let path = self.path.join(name);
        let file = File::create(temporary(&path)).map_err(|error| format!("{}: {error}", path.display()))?;
        self.open = Some((file, path.clone()));
        Ok(path.display().to_string())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some((file, path)) = &mut self.open else { return Err("no file is open".to_owned()) };
        file.write_all(bytes).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn close(&mut self) -> Result<(), String> {
        let Some((file, path)) = self.open.take() else { return Ok(()) };
        file.sync_all()
            .and_then(|()| std::fs::rename(temporary(&path), &path))
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn temporary(path: &std::path::Path) -> PathBuf {
    path.with_extension("part")
}

/// Runs `backup`.
pub fn backup(args: &BackupArgs, auth: &Auth) -> Done {
    if !args.folder.is_dir() {
        return Err(Trouble::Failed(format!("[ERR] {} is no folder that exists.", args.folder.display())));
    }
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    with_fleet(resolve(&args.entry)?, &args.common, auth, async |fleet| {
        let options = CheckOptions { settle_ms: 2000, ..CheckOptions::default() };
        let health = health::check(fleet, options, &tell).await?;
        let mut folder = Folder { path: args.folder.clone(), open: None };
        let mut saved = Saved::default();
        if let Err(error) = save(fleet, &mut folder, &mut saved, &tell).await {
            let names: Vec<&str> = saved.files.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Trouble::Failed(format!(
                "[ERR] {error}\nsaved before that: {}",
                if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
            )));
        }
        if !health.clean() || health.unreachable_masters > 0 {
            tell(Note::Warning(
                "The cluster is not whole: what is said to be wrong above is missing in the backup."
                    .to_owned(),
            ));
        }
        tell(Note::Good(format!("Backup created into: {}", args.folder.display())));
        Ok(())
    })
}
