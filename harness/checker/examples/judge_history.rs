//! Judges a history that others recorded: `cargo run --release -p slotstorm-checker --example judge_history -- FILE
//! FORMAT WORKLOAD [keyed]`, such as `history.edn edn list-append` or `etcd_000.log porcupine-log cas-register`. It ends
//! with 0 (holds), 1 (violated), 2 (unknown) or 254 (not understood).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // An example reads files.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use slotstorm_checker::answer::{Answer, OpId};
use slotstorm_checker::foreign::{
    Call, Ending, ForeignOptions, Format, Pairing, Value, Workload, judge, read,
};
use slotstorm_checker::linear::Limits;
use slotstorm_checker::txn::Model;
use slotstorm_checker::witness::{Drawing, Shown, text};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(254)
        }
    }
}

fn run(args: &[String]) -> Result<u8, Box<dyn Error>> {
    let [file, format, workload, flags @ ..] = args else {
        return Err("usage: judge_history FILE edn|jsonl|porcupine-log WORKLOAD [keyed]".into());
    };
    let format = Format::parse(format).ok_or("the format is edn, jsonl or porcupine-log")?;
    let workload = Workload::parse(workload).ok_or_else(|| {
        format!("the workload is one of {}", Workload::names().collect::<Vec<_>>().join(", "))
    })?;
    let mut pairing = Pairing::default();
    read(BufReader::new(File::open(file)?), format, |event| pairing.event(event))?;
    let (calls, lint) = pairing.finish();
    for sentence in lint.sentences() {
        eprintln!("note: {sentence}");
    }
    let options = ForeignOptions {
        workload,
        keyed: flags.iter().any(|flag| flag == "keyed"),
        failed_cas_tells: format == Format::PorcupineLog,
        model: Model::STRICT_SERIALIZABLE,
        limits: Limits::default(),
        threads: std::thread::available_parallelism()?.get(),
    };
    let judgement = judge(&calls, &options)?;
    let (mut violated, mut unknown) = (false, false);
    for part in &judgement.parts {
        let key = part.key.as_ref().map_or(String::new(), |key| format!("key {key}: "));
        match &part.answer {
            Answer::Holds => println!("{key}holds, {} operations", part.operations),
            Answer::Unknown(reason) => {
                unknown = true;
                println!("{key}unknown: {}", reason.reason);
            }
            Answer::Violated { witnesses, unlisted } => {
                violated = true;
                println!("{key}violated, {} listed, {unlisted} more", witnesses.len());
                for witness in witnesses {
                    print!("{}", text(&Drawing::new(witness, |op| shown(&calls, op))));
                }
            }
        }
    }
    Ok(if violated { 1 } else { u8::from(unknown) * 2 })
}

fn shown(calls: &[Call], op: OpId) -> Shown {
    let call = &calls[op.0 as usize];
    let value =
        if call.ending == Ending::Ok && call.answered != Value::Nil { &call.answered } else { &call.asked };
    Shown {
        name: format!("T{}", op.0),
        lane: call.named_process.map_or("?".to_owned(), |process| format!("process {process}")),
        from: call.invoked,
        to: (call.ending != Ending::Info).then_some(call.returned),
        words: format!("{} {value}", call.f),
    }
}
