//! `slotstorm check FILE` and `slotstorm export`: histories that others recorded are judged, ours are written for others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use slotstorm_checker::answer::{Answer, OpId, Witness};
use slotstorm_checker::foreign::{
    BinJudgement, Call, Ending, ForeignOptions, Format, Judgement, Pairing, Part, Shape, Value, Workload,
    judge, judge_bin, read, write_event,
};
use slotstorm_checker::linear::{ClockError, Limits};
use slotstorm_checker::record::verdict::Validity;
use slotstorm_checker::record::{Event, OpKind};
use slotstorm_checker::txn::Model;
use slotstorm_checker::witness::{Drawing, Shown, graph_svg, text, timeline_svg};

use super::Failure;
use super::check::CheckArgs;

/// How a history of others is to be read and judged.
#[derive(clap::Args)]
pub struct HistoryArgs {
    /// How FILE is written: edn, jsonl, porcupine-log or bin (a run's history.bin) [default: by its name's end: .edn, .jsonl,
    /// .log, .bin]
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<FileFormat>,
    /// What the history is about: register, cas-register, set, set-full, list, list-append, rw-register, counter,
    /// replica-reads, queue, total-queue, lock, lease, expiry, bank, bank-totals (a history.bin says it itself)
    #[arg(long, visible_alias = "model", value_name = "NAME", value_parser = workload)]
    workload: Option<Workload>,
    /// Values are tuples [key value], as in Jepsen's independent workloads
    #[arg(long)]
    keyed: bool,
    /// What is expected of transactions, such as serializable or snapshot-isolation
    #[arg(long, value_name = "NAME", default_value = "strict-serializable", value_parser = isolation)]
    isolation: Model,
    /// By how many milliseconds the servers' clocks may err, where times to live are judged (lease, expiry)
    #[arg(long, value_name = "MS", default_value_t = 100)]
    clock_error: u32,
    /// A bank's accounts may owe
    #[arg(long)]
    negative_balances: bool,
    /// End a search after so many seconds; what is not decided then is unknown
    #[arg(long, value_name = "SECS", default_value_t = 60.0, value_parser = seconds)]
    budget: f64,
    /// Draw each violation into this folder, as SVG
    #[arg(long, value_name = "DIR")]
    draw: Option<PathBuf>,
}

/// What FILE may be.
#[derive(Clone, Copy)]
enum FileFormat {
    /// Invocations and completions.
    Events(Format),
    /// A run's `history.bin`.
    Bin,
}

fn format(name: &str) -> Result<FileFormat, String> {
    if name == "bin" {
        return Ok(FileFormat::Bin);
    }
    let events = Format::parse(name).map(FileFormat::Events);
    events.ok_or_else(|| "expected edn, jsonl, porcupine-log or bin".to_owned())
}

fn workload(name: &str) -> Result<Workload, String> {
    let names = || Workload::names().collect::<Vec<_>>().join(", ");
    Workload::parse(name).ok_or_else(|| match Workload::unjudged(name) {
        Some(why) => format!("nothing to judge: {why}"),
        None => format!("expected one of {}", names()),
    })
}

fn isolation(name: &str) -> Result<Model, String> {
    Model::parse(name)
        .ok_or_else(|| format!("expected one of {}", Model::names().collect::<Vec<_>>().join(", ")))
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|secs: &f64| secs.is_finite() && *secs > 0.0)
        .ok_or("expected seconds, above 0".into())
}

/// Judges a history that others recorded.
pub fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let (path, history) = (&args.run_dir, &args.history);
    let format = history.format.or_else(|| by_name(path)).ok_or_else(|| {
        let name = path.display();
        Failure::Usage(format!(
            "the name of {name} does not say how it is written: give --format edn, jsonl, porcupine-log or bin"
        ))
    })?;
    let file = File::open(path)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
    let file = BufReader::with_capacity(1 << 20, file);
    let deadline = Instant::now() + Duration::from_secs_f64(history.budget);
    let go_on = || Instant::now() < deadline;
    let options = ForeignOptions {
        workload: history.workload.unwrap_or(Workload::Register),
        keyed: history.keyed,
        failed_cas_tells: matches!(format, FileFormat::Events(Format::PorcupineLog)),
        model: history.isolation,
        clock: clock(history.clock_error),
        negative_balances: history.negative_balances,
        limits: Limits { go_on: &go_on, ..Limits::default() },
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let judged = match format {
        FileFormat::Events(format) => events(path, file, format, history.workload, &options)?,
        FileFormat::Bin => bin(path, file, &options)?,
    };
    if let Some(folder) = &history.draw {
        draw(folder, &judged.calls, &judged.judgement)?;
    }
    Ok(ExitCode::from(match report(&judged, args.json)? {
        Validity::Valid => 0,
        Validity::Invalid => 1,
        Validity::Unknown => 2,
    }))
}

/// A history that was read and judged.
struct Judged {
    calls: Vec<Call>,
    notes: Vec<String>,
    judgement: Judgement,
    /// Absent: it was judged while it was read.
    read_s: Option<f64>,
    check_s: f64,
}

fn events(
    path: &Path,
    file: impl BufRead,
    format: Format,
    workload: Option<Workload>,
    options: &ForeignOptions<'_>,
) -> Result<Judged, Failure> {
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    if workload.is_none() {
        let known = Workload::names().collect::<Vec<_>>().join(", ");
        return Err(Failure::Usage(format!(
            "{} is a file: say what its history is about with --workload, one of {known}",
            path.display()
        )));
    }
    let begun = Instant::now();
    let mut pairing = Pairing::default();
    read(file, format, |event| pairing.event(event)).map_err(|error| wrong(error.to_string()))?;
    let (calls, lint) = pairing.finish();
    let read_s = Some(begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let judgement = judge(&calls, options).map_err(|error| wrong(error.to_string()))?;
    let check_s = begun.elapsed().as_secs_f64();
    let mut notes = lint.sentences();
    if judgement.passed_over > 0 {
        notes.push(format!("{} operations are of other workloads: not judged", judgement.passed_over));
    }
    if judgement.passed_over == calls.len() as u64 {
        return Err(wrong("no operation is of this workload".to_owned()));
    }
    Ok(Judged { calls, notes, judgement, read_s, check_s })
}

fn bin(path: &Path, file: impl Read, options: &ForeignOptions<'_>) -> Result<Judged, Failure> {
    let begun = Instant::now();
    let BinJudgement { judgement, calls } =
        judge_bin(file, options).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    if judgement.parts.is_empty() {
        return Err(Failure::Usage(format!("{}: it holds nothing that is judged", path.display())));
    }
    let check_s = begun.elapsed().as_secs_f64();
    Ok(Judged { calls, notes: Vec::new(), judgement, read_s: None, check_s })
}

fn clock(error_ms: u32) -> ClockError {
    /// Crystals are better than that.
    const DRIFT: u64 = 1_000_000;
    ClockError { drift_nanos_per_second: DRIFT, jump_nanos: u64::from(error_ms) * 1_000_000 }
}

/// Says what was found.
fn report(judged: &Judged, json: bool) -> anyhow::Result<Validity> {
    let Judged { calls, notes, judgement, read_s, check_s } = judged;
    let valid = judgement.parts.iter().map(validity).max().unwrap_or(Validity::Unknown);
    if json {
        println!("{}", serde_json::to_string_pretty(&as_json(valid, judged))?);
        return Ok(valid);
    }
    for note in notes {
        eprintln!("note: {note}");
    }
    print(calls, judgement);
    let parts = judgement.parts.len();
    let operations: u64 = judgement.parts.iter().map(|part| part.operations).sum();
    let word = word(valid).to_uppercase();
    let took = match read_s {
        Some(read_s) => format!("read in {read_s:.2} s, judged in {check_s:.2} s"),
        None => format!("read and judged in {check_s:.2} s"),
    };
    println!("{word}  {operations} operations, {parts} parts; {took}");
    Ok(valid)
}

fn by_name(path: &Path) -> Option<FileFormat> {
    match path.extension()?.to_str()? {
        "edn" => Some(FileFormat::Events(Format::Edn)),
        "jsonl" | "json" => Some(FileFormat::Events(Format::JsonLines)),
        "log" => Some(FileFormat::Events(Format::PorcupineLog)),
        "bin" => Some(FileFormat::Bin),
        _ => None,
    }
}

fn validity(part: &Part) -> Validity {
    match part.answer {
        Answer::Holds => Validity::Valid,
        Answer::Violated { .. } => Validity::Invalid,
        Answer::Unknown(_) => Validity::Unknown,
    }
}

const fn word(valid: Validity) -> &'static str {
    match valid {
        Validity::Valid => "valid",
        Validity::Invalid => "invalid",
        Validity::Unknown => "unknown",
    }
}

/// Parts that hold are counted; the others are shown, with what their numbers stand for.
fn print(calls: &[Call], judgement: &Judgement) {
    for part in &judgement.parts {
        let of = part.key.as_ref().map_or(String::new(), |key| format!("key {key}: "));
        match &part.answer {
            Answer::Holds => {}
            Answer::Unknown(unknown) => {
                let until = unknown.checked_until.map_or(String::new(), |at| {
                    format!("; everything that returned before event {at} is explained")
                });
                println!("UNKNOWN  {of}{}{until}\n", unknown.reason);
            }
            Answer::Violated { witnesses, unlisted } => {
                for witness in witnesses {
                    println!("INVALID  {of}{}", text(&Drawing::new(witness, |op| shown(calls, op))));
                }
                if *unlisted > 0 {
                    println!("INVALID  {of}{unlisted} more violations, not listed\n");
                }
                for (number, stands_for) in &part.legend {
                    println!("         {number} stands for {stands_for}");
                }
            }
        }
    }
    let mut permitted: BTreeMap<&str, u64> = BTreeMap::new();
    for witness in &judgement.permitted {
        *permitted.entry(witness.class).or_default() += 1;
    }
    for (class, count) in permitted {
        println!("seen, and permitted: {count} of {class}");
    }
}

/// An operation as its history tells it.
fn shown(calls: &[Call], op: OpId) -> Shown {
    let call = &calls[op.0 as usize];
    let answered = call.ending == Ending::Ok && call.answered != Value::Nil;
    let value = if answered { &call.answered } else { &call.asked };
    Shown {
        name: format!("T{}", op.0),
        lane: call.named_process.map_or("?".to_owned(), |process| format!("process {process}")),
        from: call.invoked,
        to: (call.ending != Ending::Info).then_some(call.returned),
        words: format!("{} {value}", call.f),
    }
}

/// `NUMBER-CLASS.svg`, a timeline each, and `NUMBER-CLASS-graph.svg` where operations must come before each other.
fn draw(folder: &Path, calls: &[Call], judgement: &Judgement) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let witnesses = judgement.parts.iter().flat_map(|part| match &part.answer {
        Answer::Violated { witnesses, .. } => witnesses.as_slice(),
        Answer::Holds | Answer::Unknown(_) => &[],
    });
    for (number, witness) in (1..).zip(witnesses) {
        let drawing = Drawing::new(witness, |op| shown(calls, op));
        let write = |name: String, svg: String| {
            let path = folder.join(name);
            fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))
        };
        write(format!("{number:03}-{}.svg", witness.class), timeline_svg(&drawing))?;
        if !drawing.arrows.is_empty() {
            write(format!("{number:03}-{}-graph.svg", witness.class), graph_svg(&drawing))?;
        }
    }
    Ok(())
}

fn as_json(valid: Validity, judged: &Judged) -> serde_json::Value {
    let Judged { notes, judgement, read_s, check_s, .. } = judged;
    let part = |part: &Part| {
        let mut value = json!({ "operations": part.operations, "valid": validity(part) });
        if let Some(key) = &part.key {
            value["key"] = json!(key);
        }
        match &part.answer {
            Answer::Holds => {}
            Answer::Unknown(unknown) => {
                value["reason"] = json!(unknown.reason);
                value["checked_until"] = json!(unknown.checked_until);
            }
            Answer::Violated { witnesses, unlisted } => {
                value["witnesses"] = witnesses.iter().map(witness).collect();
                value["unlisted"] = json!(unlisted);
            }
        }
        value
    };
    json!({
        "valid": valid,
        "notes": notes,
        "read_s": read_s,
        "check_s": check_s,
        "parts": judgement.parts.iter().map(part).collect::<Vec<_>>(),
        "permitted": judgement.permitted.iter().map(witness).collect::<Vec<_>>(),
    })
}

fn witness(witness: &Witness) -> serde_json::Value {
    json!({
        "class": witness.class,
        "sentence": witness.sentence,
        "operations": witness.ops.iter().map(|op| op.0).collect::<Vec<_>>(),
        "links": witness.links.iter().map(|link| json!({
            "from": link.from.0, "to": link.to.0, "relation": format!("{:?}", link.relation), "why": link.why,
        })).collect::<Vec<_>>(),
    })
}

/// `slotstorm export`.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The run's folder, such as results/latest
    run_dir: PathBuf,
    /// Write EDN, for Jepsen, Knossos and Elle (the only format so far)
    #[arg(long, required = true)]
    edn: bool,
    /// Write each operation on a list as a transaction of one step, for Elle's list-append
    #[arg(long)]
    transactions: bool,
    /// Only the operations of this workload, such as queue or rw-register (for a run of several)
    #[arg(long, value_name = "NAME", value_parser = workload)]
    workload: Option<Workload>,
    /// Where to [default: standard output]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Writes a run's history for others, line by line.
pub fn export(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let path = args.run_dir.join("history.jsonl");
    let shape = if args.transactions { Shape::Transactions } else { Shape::Keyed };
    let wanted = match args.workload {
        Some(workload) => Some(keys_of(workload, &args.run_dir, &path)?),
        None => None,
    };
    let mut out: Box<dyn Write> = match &args.file {
        Some(file) => Box::new(BufWriter::new(
            File::create(file).with_context(|| format!("cannot write {}", file.display()))?,
        )),
        None => Box::new(BufWriter::new(std::io::stdout().lock())),
    };
    each_event(&args.run_dir, &path, |event| {
        let key = event.body.op().map(|op| op.key.as_str());
        if let (Some(wanted), Some(key)) = (&wanted, key)
            && !wanted.contains(key)
        {
            return Ok(());
        }
        write_event(&mut out, event, shape).context("cannot write the history")
    })?;
    out.flush().context("cannot write the history")?;
    Ok(ExitCode::SUCCESS)
}

/// The keys that are of a workload.
fn keys_of(workload: Workload, run_dir: &Path, path: &Path) -> Result<BTreeSet<String>, Failure> {
    let mut kinds: BTreeMap<String, BTreeSet<OpKind>> = BTreeMap::new();
    each_event(run_dir, path, |event| {
        if let (Some(op), Some(kind)) = (event.body.op(), event.body.kind()) {
            kinds.entry(op.key.clone()).or_default().insert(kind);
        }
        Ok(())
    })?;
    kinds.retain(|_, kinds| workload.takes_key(kinds.iter().copied()));
    if kinds.is_empty() {
        return Err(Failure::Usage(format!("{}: no operation is of this workload", path.display())));
    }
    Ok(kinds.into_keys().collect())
}

fn each_event(
    run_dir: &Path,
    path: &Path,
    mut take: impl FnMut(&Event) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let source = File::open(path).map_err(|error| {
        Failure::Usage(format!("{} is no run's folder: {}: {error}", run_dir.display(), path.display()))
    })?;
    for (number, line) in (1..).zip(BufReader::new(source).lines()) {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let event: Event = serde_json::from_str(&line)
            .map_err(|error| Failure::Usage(format!("{}, line {number}: {error}", path.display())))?;
        take(&event)?;
    }
    Ok(())
}
