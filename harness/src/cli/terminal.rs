//! What a person sees while a run goes on: one line per phase, fault and role change, and a status line that
//! is about the cluster. A progress bar when standard error is a terminal, plain lines otherwise; nothing at
//! all with `--json`.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use slotstorm_checker::record::verdict::Finding;
use slotstorm_checker::record::{Action, FaultPhase, FaultStep, Nanos, Phase, RunInfo};

use crate::admin::create::Progress;
use crate::driver::{Listener, Tally};
use crate::observer::RoleChange;
use crate::plan::{Plan, nanos_to_secs};
use crate::plot::data::slot_ranges;

/// Between two plain status lines, in nanoseconds.
const PLAIN_EVERY: Nanos = 5_000_000_000;
/// Between two refreshes of the bar's text.
const BAR_EVERY: Nanos = 500_000_000;

/// The terminal of a run.
pub struct Terminal {
    quiet: bool,
    paint: Paint,
    bar: Option<ProgressBar>,
    duration_s: f64,
    /// The clock when the clients began.
    origin: Cell<Nanos>,
    last: RefCell<(Nanos, Tally)>,
    phase: Cell<Option<Phase>>,
}

/// Colours, if they are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set.
    pub fn of_stdout() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
    }

    /// `text` in an ANSI style such as `1;31`.
    pub fn style(self, style: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Terminal {
    /// A terminal that has said nothing yet.
    pub fn new(quiet: bool, plan: &Plan) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new((plan.duration_s * 10.0) as u64);
            let style = ProgressStyle::with_template("  {bar:12.cyan/blue} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            quiet,
            paint: Paint::of_stdout(),
            bar,
            duration_s: plan.duration_s,
            origin: Cell::new(0),
            last: RefCell::default(),
            phase: Cell::new(None),
        }
    }

    /// What is going to be done.
    pub fn begin(&self, plan: &Plan) {
        self.line(&format!(
            "{}  seed {}  {}  {} masters + {} replicas  node timeout {} ms  {} s of {} at {} ops/s by {} clients",
            self.paint.style("1", &plan.name),
            plan.seed,
            plan.sut,
            plan.masters,
            plan.masters * plan.replicas,
            plan.node_timeout_ms,
            plan.duration_s,
            plan.workload,
            plan.rate,
            plan.clients,
        ));
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            // Through the bar, or it would be drawn into the line.
            Some(bar) if !bar.is_hidden() => bar.suspend(|| println!("{text}")),
            _ => println!("{text}"),
        }
    }

    /// How far the cluster is.
    pub fn creating(&self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_message(match progress {
                Progress::Up { .. } => "every node answers".to_owned(),
                Progress::Assigned { .. } => "slots are dealt".to_owned(),
                Progress::Replicating { .. } => "every replica has its master".to_owned(),
                Progress::Introduced { .. } => "everybody was told of everybody".to_owned(),
                Progress::Missing { what, .. } => format!("waiting: {what}"),
                Progress::Whole { .. } => "whole".to_owned(),
                Progress::Proven { .. } => "every replica acknowledged a write".to_owned(),
            });
        }
    }

    /// The cluster stands.
    pub fn ready(&self, info: &RunInfo, took: Nanos) {
        let mut versions: Vec<&str> = info.nodes.iter().map(|node| node.version.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        let first = info.nodes.first().map_or("", |node| node.announced.as_str());
        self.line(&format!(
            "  cluster  {} nodes of {} whole in {:.2} s; redis-cli -c -u redis://{first}",
            info.nodes.len(),
            versions.join(" and "),
            nanos_to_secs(took)
        ));
    }

    /// A rule of the cluster bus was broken; the verdict will say so too.
    pub fn violation(&self, finding: &Finding) {
        let voided = if finding.excused { "  (outside the model: a fault voids it)" } else { "" };
        self.event(finding.to, "BROKEN", "1;31", &format!("{}: {}{voided}", finding.what, finding.text));
    }

    /// The judge is at work.
    pub fn judging(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message("judging");
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// The bar goes away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn event(&self, time: Nanos, word: &str, style: &str, text: &str) {
        let at = clock(time);
        self.line(&format!("  {at}  {} {text}", self.paint.style(style, &format!("{word:<7}"))));
    }
}

impl Listener for Terminal {
    fn phase(&self, time: Nanos, phase: Phase) {
        if phase == Phase::Load {
            self.origin.set(time);
            self.last.borrow_mut().0 = time;
        }
        self.phase.set(Some(phase));
        let text = match phase {
            Phase::Load => "load: clients run, no faults yet",
            Phase::Storm => "storm",
            Phase::Converge => "converge: everything is healed, waiting for one view",
            Phase::FinalReads => "final reads, then replicas beside their masters",
            Phase::End => "end",
        };
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
        if !matches!(phase, Phase::Storm | Phase::End) {
            self.event(time, "phase", "2", text);
        }
    }

    fn fault(&self, time: Nanos, step: &FaultStep) {
        let exits = step.actions.iter().filter_map(|action| match action {
            Action::Exited { node, status } => Some(format!("{node} ended: {status}")),
            _ => None,
        });
        for text in exits {
            self.event(time, "CRASH", "1;31", &text);
        }
        let note = if step.note.is_empty() { String::new() } else { format!("  {}", step.note) };
        let touched = match &step.touched {
            Some(touched) => format!(
                "  (held {}, passed {}, {} connects, {} resets)",
                bytes(touched.held_bytes),
                bytes(touched.passed_bytes),
                touched.connects,
                touched.resets
            ),
            None => String::new(),
        };
        let vacuous = step.vacuous.as_ref().map(|why| format!("  vacuous: {why}")).unwrap_or_default();
        let text = format!("{:<8}{note}{touched}{vacuous}", step.name);
        match step.phase {
            FaultPhase::Start => self.event(time, "fault", "33", &text),
            FaultPhase::Beat => {}
            FaultPhase::End => self.event(time, "heal", "32", &text),
        }
    }

    fn role(&self, change: &RoleChange) {
        let text = if change.master {
            format!(
                "{} is master of {}  epoch {} → {}",
                change.node,
                ranges(&change.slots),
                change.epoch_before,
                change.epoch
            )
        } else {
            format!("{} is replica of {}", change.node, change.of.as_deref().unwrap_or("nobody"))
        };
        self.event(change.time, "role", "35", &text);
    }

    fn tick(&self, now: Nanos, tally: &Tally) {
        let mut last = self.last.borrow_mut();
        let since = now.saturating_sub(last.0);
        if since < if self.bar.is_some() { BAR_EVERY } else { PLAIN_EVERY } {
            return;
        }
        let per_second = |after: u64, before: u64| (after - before) as f64 * 1e9 / since as f64;
        let shards: Vec<String> = tally
            .shards
            .iter()
            .enumerate()
            .map(|(number, shard)| {
                let before = last.1.shards.get(number).map_or(0, |shard| shard.ok);
                format!("s{number} {:.0}/s", per_second(shard.ok, before))
            })
            .collect();
        let secs = nanos_to_secs(now.saturating_sub(self.origin.get()));
        let text = format!(
            "{:02.0}:{:02.0}/{:02.0}:{:02.0}  acked {}  fail {}  noack {}  ok {:.0}/s  {}",
            (secs / 60.0).floor(),
            (secs % 60.0).floor(),
            (self.duration_s / 60.0).floor(),
            self.duration_s % 60.0,
            tally.acked,
            tally.fail,
            tally.unknown,
            per_second(tally.ok, last.1.ok),
            shards.join("  ")
        );
        *last = (now, tally.clone());
        drop(last);
        match &self.bar {
            Some(bar) => {
                bar.set_position((secs * 10.0) as u64);
                bar.set_message(text);
            }
            None => self.line(&format!("  {text}")),
        }
    }
}

/// `00:12.4`, on the record's clock, which also rules the report.
fn clock(time: Nanos) -> String {
    let secs = nanos_to_secs(time);
    format!("{:02}:{:04.1}", (secs / 60.0).floor(), secs % 60.0)
}

/// `0-5460, 7000`, or that there are none.
pub fn ranges(slots: &[(u16, u16)]) -> String {
    if slots.is_empty() { "no slots".into() } else { slot_ranges(slots) }
}

/// `214 B`, `1.2 kB`.
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}
