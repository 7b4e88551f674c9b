//! `slotstorm run --backend sim`: the storm in virtual time, its folder as a real run's.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context;

use super::interrupt::Interrupt;
use super::run::{Done, of_this_process, start_failure, write_plan};
use super::terminal::Terminal;
use super::{Failure, crowd, determinism};
use crate::backend::process::folder::{RunFolder, Utc};
use crate::backend::sim::{Keep, SimStorm, simulate};
use crate::driver::Listener;
use crate::plan::{Plan, nanos_to_secs};

/// What a simulated run is asked for.
pub struct SimulateArgs {
    pub results: PathBuf,
    pub verify_determinism: bool,
}

/// Runs a storm in virtual time.
pub fn storm(
    args: &SimulateArgs,
    plan: &Rc<Plan>,
    storm_text: &str,
    terminal: &Rc<Terminal>,
) -> Result<Done, Failure> {
    if plan.sut != "embedded" {
        let text = format!("--backend sim runs slotstorm's own node, not {}", plan.sut);
        return Err(Failure::Usage(text));
    }
    terminal.begin(plan);
    let (started, before) = (Utc::now(), crowd::processor_time());
    let interrupt = Interrupt::listen();
    let asked = interrupt.clone();
    let simulated = simulate(SimStorm {
        plan: Rc::clone(plan),
        keep: Keep::Folder,
        listener: Rc::clone(terminal) as Rc<dyn Listener>,
        interrupted: Rc::new(move || asked.is_asked()),
    })
    .map_err(start_failure)?;
    let took_s = crowd::processor_time().saturating_sub(before).as_secs_f64();
    let mut info = of_this_process(simulated.info)?;
    info.started = started.rfc3339();
    let fingerprint = info.fingerprint.clone().unwrap_or_default();
    terminal.line(&format!(
        "  fingerprint {fingerprint} of {} events; {:.1} s in {took_s:.3} s of a core, {:.0} times as fast as real time",
        simulated.events,
        nanos_to_secs(simulated.lasted),
        nanos_to_secs(simulated.lasted) / took_s
    ));
    if let Some(missing) = &simulated.not_converged {
        terminal.line(&format!("  the cluster did not become whole: {missing}"));
    }
    if args.verify_determinism {
        determinism::verify(plan, &fingerprint)?;
        terminal.line("  the same again in another process, directory and environment, beside others: the same fingerprint");
    }
    let folder = RunFolder::create(&args.results, &plan.name, plan.seed)
        .with_context(|| format!("cannot make a run's folder in {}", args.results.display()))?;
    let write = || -> anyhow::Result<()> {
        write_plan(folder.path(), plan, storm_text)?;
        fs::write(folder.path().join("run.json"), serde_json::to_string_pretty(&info)?)?;
        for (name, pieces) in simulated.tape.files() {
            let mut file = fs::File::create(folder.path().join(name))?;
            pieces.iter().try_for_each(|piece| file.write_all(piece))?;
        }
        for (node, log) in (1..).zip(&simulated.logs) {
            fs::write(folder.log(node), log)?;
        }
        Ok(())
    };
    write().context("cannot write the run's folder")?;
    let folder = folder.finish(false).context("cannot finish the run's folder")?;
    Ok(Done { folder, interrupted: interrupt.is_asked(), broken: simulated.broken, live: None })
}
