//! `slotstorm check FILE` and `slotstorm export`: histories that others recorded are judged, ours are written for others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use slotstorm_checker::answer::{Answer, OpId, Witness};
use slotstorm_checker::foreign::{
    Call, Ending, ForeignOptions, Format, Judgement, Pairing, Part, Shape, Value, Workload, judge, read,
    write_event,
};
use slotstorm_checker::linear::Limits;
use slotstorm_checker::record::Event;
use slotstorm_checker::record::verdict::Validity;
use slotstorm_checker::txn::Model;
use slotstorm_checker::witness::{Drawing, Shown, graph_svg, text, timeline_svg};

use super::Failure;
use super::check::CheckArgs;

/// How a history of others is to be read and judged.
#[derive(clap::Args)]
pub struct HistoryArgs {
    /// How FILE is written: edn, jsonl or porcupine-log [default: by its name's end: .edn, .jsonl, .log]
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,
    /// What the history is about: register, cas-register, set, set-full, list, list-append, rw-register, counter, queue,
    /// lock, bank
    #[arg(long, visible_alias = "model", value_name = "NAME", value_parser = workload)]
    workload: Option<Workload>,
    /// Values are tuples [key value], as in Jepsen's independent workloads
    #[arg(long)]
    keyed: bool,
    /// What is expected of transactions, such as serializable or snapshot-isolation
    #[arg(long, value_name = "NAME", default_value = "strict-serializable", value_parser = isolation)]
    isolation: Model,
    /// End a search after so many seconds; what is not decided then is unknown
    #[arg(long, value_name = "SECS", default_value_t = 60.0, value_parser = seconds)]
    budget: f64,
    /// Draw each violation into this folder, as SVG
    #[arg(long, value_name = "DIR")]
    draw: Option<PathBuf>,
}

fn format(name: &str) -> Result<Format, String> {
    Format::parse(name).ok_or_else(|| "expected edn, jsonl or porcupine-log".to_owned())
}

fn workload(name: &str) -> Result<Workload, String> {
    let names = || Workload::names().collect::<Vec<_>>().join(", ");
    Workload::parse(name).ok_or_else(|| format!("expected one of {}", names()))
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
    let Some(workload) = history.workload else {
        let known = Workload::names().collect::<Vec<_>>().join(", ");
        return Err(Failure::Usage(format!(
            "{} is a file: say what its history is about with --workload, one of {known}",
            path.display()
        )));
    };
    let format = history.format.or_else(|| by_name(path)).ok_or_else(|| {
        let name = path.display();
        Failure::Usage(format!(
            "the name of {name} does not say how it is written: give --format edn, jsonl or porcupine-log"
        ))
    })?;
    let begun = Instant::now();
    let file = File::open(path)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
    let mut pairing = Pairing::default();
    read(BufReader::with_capacity(1 << 20, file), format, |event| pairing.event(event))
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let (calls, lint) = pairing.finish();
    let notes = lint.sentences();
    let read_s = begun.elapsed().as_secs_f64();
    let deadline = Instant::now() + Duration::from_secs_f64(history.budget);
    let limits = Limits { go_on: &|| Instant::now() < deadline, ..Limits::default() };
    let options = ForeignOptions {
        workload,
        keyed: history.keyed,
        failed_cas_tells: format == Format::PorcupineLog,
        model: history.isolation,
        limits,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let begun = Instant::now();
    let judgement =
        judge(&calls, &options).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let check_s = begun.elapsed().as_secs_f64();
    if let Some(folder) = &history.draw {
        draw(folder, &calls, &judgement)?;
    }
    let valid = judgement.parts.iter().map(validity).max().unwrap_or(Validity::Unknown);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&as_json(valid, &notes, &judgement, [read_s, check_s]))?);
    } else {
        for note in notes {
            eprintln!("note: {note}");
        }
        print(&calls, &judgement);
        let (operations, parts) = (calls.len(), judgement.parts.len());
        let word = word(valid).to_uppercase();
        println!(
            "{word}  {operations} operations, {parts} parts; read in {read_s:.2} s, judged in {check_s:.2} s"
        );
    }
    Ok(ExitCode::from(match valid {
        Validity::Valid => 0,
        Validity::Invalid => 1,
        Validity::Unknown => 2,
    }))
}

fn by_name(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "edn" => Some(Format::Edn),
        "jsonl" | "json" => Some(Format::JsonLines),
        "log" => Some(Format::PorcupineLog),
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

fn as_json(
    valid: Validity,
    notes: &[String],
    judgement: &Judgement,
    [read_s, check_s]: [f64; 2],
) -> serde_json::Value {
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
    /// Write each operation as a transaction of one step, for Elle's list-append
    #[arg(long)]
    transactions: bool,
    /// Where to [default: standard output]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Writes a run's history for others, line by line.
pub fn export(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let path = args.run_dir.join("history.jsonl");
    let source = File::open(&path).map_err(|error| {
        Failure::Usage(format!("{} is no run's folder: {}: {error}", args.run_dir.display(), path.display()))
    })?;
    let shape = if args.transactions { Shape::Transactions } else { Shape::Keyed };
    let mut out: Box<dyn Write> = match &args.file {
        Some(file) => Box::new(BufWriter::new(
            File::create(file).with_context(|| format!("cannot write {}", file.display()))?,
        )),
        None => Box::new(BufWriter::new(std::io::stdout().lock())),
    };
    for (number, line) in (1..).zip(BufReader::new(source).lines()) {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let event: Event = serde_json::from_str(&line)
            .map_err(|error| Failure::Usage(format!("{}, line {number}: {error}", path.display())))?;
        write_event(&mut out, &event, shape).context("cannot write the history")?;
    }
    out.flush().context("cannot write the history")?;
    Ok(ExitCode::SUCCESS)
}
