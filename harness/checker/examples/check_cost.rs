//! One measured check in a process of its own, so that the peak of its memory is the check's. Used by scripts/bench-checker.
//!
//! ```text
//! check_cost WORKLOAD good|bad OPS KEYS CLIENTS UNKNOWN_PERMILLE SEED     generate in memory, check, print one line of JSON
//! check_cost give-up LIMIT good|bad OPS KEYS CLIENTS UNKNOWN_PERMILLE SEED   five values; the search ends after LIMIT configurations
//! check_cost txns good|bad TXNS                                        the same with list-append transactions
//! check_cost write FILE set|list OPS KEYS                              write history.bin
//! check_cost read FILE set|list                                          read it key by key and judge
//! check_cost write-jsonl FILE set|list OPS KEYS                        write history.jsonl as a run does
//! check_cost read-jsonl FILE set|list                                    read it as a run's, and give the run's verdict
//! check_cost dump FILE good|bad OPS KEYS CLIENTS UNKNOWN_PERMILLE SEED   five-values histories as lines, for other tools
//! ```

// A measuring program: it has clocks and files, the crate has none.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod generate;
#[path = "generate/txns.rs"]
mod txns;

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::time::Duration;

use generate::{Load, Made, Mix};
use slotstorm_checker::answer::Answer;
use slotstorm_checker::linear::{
    Limits, List, NEVER, NIL, Op, Register, Set, counter, keyed, list, queue, register, set,
};
use slotstorm_checker::record::bin::{BinKind, BinOp, BinReader, Group, write_group, write_header};
use slotstorm_checker::record::{RunInfo, Sources, read_folder};
use slotstorm_checker::txn;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["txns", verdict, count] => {
            transactions(verdict, count.parse()?);
            Ok(())
        }
        ["write", file, "set", ops, keys] => write_file(file, ops, keys, generate::sets),
        ["write", file, "list", ops, keys] => write_file(file, ops, keys, generate::lists),
        ["read", file, "set"] => read_file::<Set>(file, |group| set(&group.ops, &group.elements)),
        ["read", file, "list"] => read_file::<List>(file, |group| list(&group.ops, &group.elements)),
        ["write-jsonl", file, "set", ops, keys] => write_jsonl(file, "add", ops, keys, generate::sets),
        ["write-jsonl", file, "list", ops, keys] => write_jsonl(file, "append", ops, keys, generate::lists),
        ["read-jsonl", file, workload] => read_jsonl(file, workload),
        ["dump", file, verdict, ops, keys, clients, unknown, seed] => {
            dump(file, &five_values(verdict, [ops, keys, clients, unknown, seed])?)
        }
        ["give-up", limit, verdict, ops, keys, clients, unknown, seed] => {
            let keys = five_values(verdict, [ops, keys, clients, unknown, seed])?;
            let limits = Limits { configurations: limit.parse()?, ..Limits::default() };
            judge(&keys, |ops| register(ops, &limits));
            Ok(())
        }
        [workload, verdict, ops, keys, clients, unknown, seed] => {
            in_memory(workload, verdict, [ops, keys, clients, unknown, seed])
        }
        _ => Err("see the head of this program for its arguments".into()),
    }
}

/// The load of each key.
fn loads([ops, keys, clients, unknown, seed]: [&str; 5]) -> Result<Vec<Load>, Box<dyn Error>> {
    let (ops, keys): (usize, usize) = (ops.parse()?, keys.parse()?);
    let (clients, unknown, seed): (u32, u32, u64) = (clients.parse()?, unknown.parse()?, seed.parse()?);
    let of_key = |key: usize| Load {
        ops: ops / keys,
        clients,
        unknown_permille: unknown,
        seed: seed << 32 | key as u64,
        first_value: (key * (ops / keys)) as u64,
    };
    Ok((0..keys).map(of_key).collect())
}

fn in_memory(workload: &str, verdict: &str, numbers: [&str; 5]) -> Result<(), Box<dyn Error>> {
    let loads = loads(numbers)?;
    let limits = Limits::default();
    match workload {
        "register" => judge(&registers(&loads, Mix::Unique, verdict)?, |ops| register(ops, &limits)),
        "cas" => judge(&registers(&loads, Mix::Cas, verdict)?, |ops| register(ops, &limits)),
        "casv" => judge(&registers(&loads, Mix::CasTells, verdict)?, |ops| register(ops, &limits)),
        "etcd5" => judge(&registers(&loads, Mix::FiveValues, verdict)?, |ops| register(ops, &limits)),
        "counter" => judge(&all(&loads, generate::counters), |ops| counter(ops, &limits)),
        "queue" => judge(&all(&loads, generate::queues), |ops| queue(ops, &limits)),
        "set" => judge(&all(&loads, generate::sets), |(ops, elements)| set(ops, elements)),
        "list" => judge(&all(&loads, generate::lists), |(ops, elements)| list(ops, elements)),
        _ => return Err("no such workload".into()),
    }
    Ok(())
}

fn all<H>(loads: &[Load], make: impl Fn(&Load) -> H) -> Vec<H> {
    loads.iter().map(make).collect()
}

fn registers(loads: &[Load], mix: Mix, verdict: &str) -> Result<Vec<Vec<Op<Register>>>, Box<dyn Error>> {
    let mut keys = all(loads, |load| generate::registers(load, mix));
    if verdict == "bad" {
        let middle = keys.len() / 2;
        if !generate::make_stale(&mut keys[middle]) {
            return Err("no read could be made stale".into());
        }
    }
    Ok(keys)
}

fn five_values(verdict: &str, numbers: [&str; 5]) -> Result<Vec<Vec<Op<Register>>>, Box<dyn Error>> {
    registers(&loads(numbers)?, Mix::FiveValues, verdict)
}

/// Judges every key on one thread and prints what it took.
fn judge<H: Sync>(keys: &[H], check: impl Fn(&H) -> Answer + Sync) {
    forget_peak();
    let before = memory("VmRSS:");
    let start = processor_time();
    let answers = keyed(&vec![1; keys.len()], 1, |key| check(&keys[key]));
    report(processor_time().saturating_sub(start), None, &answers, before);
}

fn transactions(verdict: &str, count: u32) {
    let history = txns::history(count, if verdict == "bad" { 20 } else { 0 });
    forget_peak();
    let before = memory("VmRSS:");
    let start = processor_time();
    let answer = txn::check(&history, &txn::Options::default()).answer;
    report(processor_time().saturating_sub(start), None, &[answer], before);
}

fn report(check: Duration, read: Option<Duration>, answers: &[Answer], before: u64) {
    let configurations: u64 = answers.iter().map(configurations).sum();
    let count = |is: fn(&Answer) -> bool| answers.iter().filter(|answer| is(answer)).count();
    let violated = count(|answer| matches!(answer, Answer::Violated { .. }));
    let unknown = count(|answer| matches!(answer, Answer::Unknown(_)));
    println!(
        "{{\"check_s\": {}, \"read_s\": {}, \"violated\": {violated}, \"unknown\": {unknown}, \"configurations\": {configurations}, \"before_kb\": {before}, \"peak_kb\": {}}}",
        check.as_secs_f64(),
        read.unwrap_or_default().as_secs_f64(),
        memory("VmHWM:")
    );
}

/// Of a search that gave up: how many configurations it had tried.
fn configurations(answer: &Answer) -> u64 {
    let Answer::Unknown(unknown) = answer else { return 0 };
    unknown.reason.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// What this thread had of the processor so far: on a busy machine the time on the wall says little.
fn processor_time() -> Duration {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(line.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// The peak of memory counts from now on, not from the making of the history.
fn forget_peak() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        eprintln!("the peak of memory includes the making of the history: {error}");
    }
}

/// Kilobytes, from the kernel's account of this process.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn write_file<K: BinKind>(
    file: &str,
    ops: &str,
    keys: &str,
    make: fn(&Load) -> Made<K>,
) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    write_header(&mut out)?;
    for (number, load) in loads([ops, keys, "10", "5", "1"])?.iter().enumerate() {
        let (ops, elements) = make(load);
        let ops: Vec<BinOp<K>> = ops.into_iter().map(|op| BinOp { op, node: 1 }).collect();
        write_group(&mut out, format!("key:{number}").as_bytes(), &ops, &elements)?;
    }
    out.flush()?;
    Ok(())
}

fn read_file<K: BinKind>(file: &str, check: fn(&Group<K>) -> Answer) -> Result<(), Box<dyn Error>> {
    let before = memory("VmRSS:");
    let mut reader = BinReader::open(BufReader::with_capacity(1 << 20, File::open(file)?))?;
    let (mut read, mut checked) = (Duration::ZERO, Duration::ZERO);
    let mut answers = Vec::new();
    loop {
        let start = processor_time();
        let group = reader.next_group::<K>()?;
        read += processor_time().saturating_sub(start);
        let Some(group) = group else { break };
        let start = processor_time();
        answers.push(check(&group));
        checked += processor_time().saturating_sub(start);
    }
    report(checked, Some(read), &answers, before);
    Ok(())
}

/// A run's lines: `f` of one element, and reads.
fn write_jsonl<K: BinKind>(
    file: &str,
    f: &str,
    ops: &str,
    keys: &str,
    make: fn(&Load) -> Made<K>,
) -> Result<(), Box<dyn Error>> {
    let made: Vec<Made<K>> = loads([ops, keys, "10", "5", "1"])?.iter().map(make).collect();
    // Time, key, operation, and whether it is its return.
    let mut events: Vec<(u64, u32, u32, bool)> = Vec::new();
    for (key, (ops, _)) in (0..).zip(&made) {
        for (number, op) in (0..).zip(ops) {
            events.push((op.call, key, number, false));
            events.extend((op.ret != NEVER).then_some((op.ret, key, number, true)));
        }
    }
    events.sort_unstable();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    for (index, (time, key, number, is_return)) in events.into_iter().enumerate() {
        let (ops, elements) = &made[key as usize];
        let op = &ops[number as usize];
        let kind = if is_return { "ok" } else { "invoke" };
        let process = u64::from(key) << 32 | u64::from(op.process);
        write!(out, "{{\"index\":{index},\"time\":{time},\"type\":\"{kind}\",\"process\":{process},")?;
        match op.kind.elements() {
            None => write!(out, "\"f\":\"{f}\",\"key\":\"key:{key}\",\"value\":{}", op.kind.encode().1)?,
            Some(_) if !is_return => write!(out, "\"f\":\"read\",\"key\":\"key:{key}\",\"final\":true")?,
            Some((start, count)) => {
                let seen = &elements[start as usize..][..count as usize];
                let seen: Vec<String> = seen.iter().map(u64::to_string).collect();
                let seen = seen.join(",");
                write!(out, "\"f\":\"read\",\"key\":\"key:{key}\",\"final\":true,\"elements\":[{seen}]")?;
            }
        }
        let who = if is_return {
            "\"node\":\"n1\"".to_owned()
        } else {
            format!("\"intended\":{time},\"client\":{key}")
        };
        writeln!(out, ",{who}}}")?;
    }
    out.flush()?;
    Ok(())
}

fn read_jsonl(file: &str, workload: &str) -> Result<(), Box<dyn Error>> {
    let before = memory("VmRSS:");
    let workload = if workload == "list" { "append" } else { workload };
    let run = serde_json::to_string(&RunInfo { workload: workload.to_owned(), ..RunInfo::default() })?;
    let start = processor_time();
    let record = read_folder(Sources {
        run: &run,
        history: BufReader::with_capacity(1 << 20, File::open(file)?),
        views: std::io::empty(),
        stream: std::io::empty(),
        bus: None::<std::io::Empty>,
    })?;
    let read = processor_time().saturating_sub(start);
    let start = processor_time();
    let verdict = slotstorm_checker::judge(&record);
    let checked = processor_time().saturating_sub(start);
    let consistency = verdict.checks.consistency;
    if consistency.anomalies > 0 || consistency.objects.is_empty() {
        return Err(format!("{} anomalies", consistency.anomalies).into());
    }
    report(checked, Some(read), &[Answer::Holds], before);
    Ok(())
}

/// One operation a line: key, call, return (0: never), process, kind, two values (0 is nil).
fn dump(file: &str, keys: &[Vec<Op<Register>>]) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(File::create(file)?);
    let value = |value: u64| if value == NIL { 0 } else { value };
    for (key, ops) in keys.iter().enumerate() {
        for op in ops {
            let (kind, a, b) = match op.kind {
                Register::Read(seen) => (0, value(seen), 0),
                Register::Write(to) => (1, to, 0),
                Register::Cas { from, to } => (2, value(from), to),
                Register::CasLost { from, .. } => (3, value(from), 0),
                Register::Swap { .. } | Register::Delete => return Err("not in this mix".into()),
            };
            let ret = if op.ret == NEVER { 0 } else { op.ret };
            writeln!(out, "{key} {} {ret} {} {kind} {a} {b}", op.call, op.process)?;
        }
    }
    out.flush()?;
    Ok(())
}
