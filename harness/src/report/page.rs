//! What the template shows, as plain words and numbers.

use std::path::Path;

use anyhow::Context;
use askama::Template;
use base64::Engine;
use slotstorm_checker::OUTSIDE_MODEL;
use slotstorm_checker::check::proofs::UNEXPLAINED;
use slotstorm_checker::record::verdict::{Finding, Loss, Overlap, Takeover, Validity, Verdict};
use slotstorm_checker::record::{Nanos, NodeInfo};

use super::anomalies::{self, AnomalyRow};
use super::stored::Stored;
use crate::plot::data::{Outcome, Story, fault_steps, quantile, seconds, slot_ranges, targets};

/// Rows of a table before the page says how many more there are.
const ROWS: usize = 60;
/// Seconds before and after the first loss or violation that the page tells in full.
const WINDOW_S: f64 = 5.0;

#[derive(Template)]
#[template(path = "report.html")]
pub struct Page {
    title: String,
    /// `valid`, `invalid`, `unknown` or `unjudged`.
    verdict: &'static str,
    sentence: String,
    facts: Vec<(String, String)>,
    checks: Vec<Check>,
    window: Option<Window>,
    pictures: Vec<Picture>,
    faults: Vec<Fault>,
    vacuous: Vec<String>,
    losses: Vec<LossRow>,
    losses_left_out: u64,
    classes: Vec<(String, u64, &'static str)>,
    anomalies: Vec<AnomalyRow>,
    anomalies_left_out: u64,
    overlaps: Vec<OverlapRow>,
    outages: Vec<Vec<String>>,
    recoveries: Vec<Vec<String>>,
    findings: Vec<FindingRow>,
    takeovers: Vec<Vec<String>>,
    watched: Vec<(String, u64)>,
    bus: Vec<(String, String)>,
    latency: Vec<Vec<String>>,
    command: String,
    storm: String,
    nodes: Vec<NodeInfo>,
    directives: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    logs: Vec<(String, String)>,
    notes: Vec<String>,
}

/// One card of the strip.
struct Check {
    name: &'static str,
    verdict: &'static str,
    figure: String,
    reason: String,
}

/// The seconds around the first thing that went wrong.
struct Window {
    heading: String,
    events: Vec<(String, &'static str, String)>,
}

struct Picture {
    title: &'static str,
    /// What a reader who cannot see it should know.
    alt: String,
    caption: &'static str,
    /// Inline SVG, or an `img` element.
    markup: String,
}

struct Fault {
    number: String,
    name: String,
    targets: String,
    planned: String,
    applied: String,
    ended: String,
    observed: String,
    vacuous: String,
    note: String,
}

struct LossRow {
    element: u64,
    key: String,
    slot: u16,
    acked_by: String,
    acked: String,
    class: String,
    windows: String,
    offsets: String,
    erased_by: String,
    proof: String,
}

struct OverlapRow {
    grade: &'static str,
    from: String,
    length: String,
    nodes: String,
    epochs: String,
    slots: String,
    allowed: String,
    writes: u64,
}

struct FindingRow {
    check: &'static str,
    what: String,
    when: String,
    nodes: String,
    text: String,
    excused: bool,
}

impl Page {
    pub fn new(stored: &Stored, story: &Story, plots: &Path, names: &[&'static str]) -> anyhow::Result<Self> {
        let info = &stored.info;
        let unjudged = Verdict::default();
        let verdict = stored.verdict.as_ref().unwrap_or(&unjudged);
        let checks = &verdict.checks;
        let (anomalies, anomalies_left_out) = anomalies::rows(verdict);
        let directives = info.directives.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Self {
            title: format!("{} · seed {}", info.name, info.seed),
            verdict: stored.verdict.as_ref().map_or("unjudged", |verdict| word(verdict.valid)),
            sentence: if stored.verdict.is_some() {
                verdict.reason.clone()
            } else {
                "This run was not judged.".to_owned()
            },
            facts: facts(stored, verdict),
            checks: if stored.verdict.is_some() { check_cards(verdict) } else { Vec::new() },
            window: window(stored, verdict),
            pictures: pictures(story, plots, names)?,
            faults: faults(stored, story),
            vacuous: verdict.vacuous_faults.clone(),
            losses: checks.lost_writes.losses.iter().take(ROWS).map(loss_row).collect(),
            losses_left_out: checks
                .lost_writes
                .lost
                .saturating_sub(checks.lost_writes.losses.len().min(ROWS) as u64),
            classes: checks
                .lost_writes
                .by_class
                .iter()
                .map(|(class, count)| (class.clone(), *count, meaning(class)))
                .collect(),
            anomalies,
            anomalies_left_out,
            overlaps: overlaps(verdict),
            outages: outages(verdict),
            recoveries: recoveries(verdict),
            findings: findings(verdict),
            takeovers: checks.invariants.takeovers.iter().map(takeover_row).collect(),
            watched: checks.invariants.watched.iter().map(|(k, v)| (k.clone(), *v)).collect(),
            bus: bus(verdict),
            latency: latency(story),
            command: info.command.join(" "),
            storm: stored.storm.clone(),
            nodes: info.nodes.clone(),
            directives,
            environment: vec![
                ("host".into(), info.host.clone()),
                ("slotstorm".into(), info.version.clone()),
                ("binary".into(), format!("sha256 {}", info.binary_sha256)),
                ("folder".into(), folder_name(&stored.dir)),
            ],
            logs: stored.logs.iter().map(|(node, lines)| (node.clone(), lines.join("\n"))).collect(),
            notes: stored.notes.clone(),
        })
    }
}

fn folder_name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned())
}

const fn word(validity: Validity) -> &'static str {
    match validity {
        Validity::Valid => "valid",
        Validity::Unknown => "unknown",
        Validity::Invalid => "invalid",
    }
}

/// `12.345 s`, never broken over two lines.
fn at(nanos: Nanos) -> String {
    format!("{:.3}\u{a0}s", seconds(nanos))
}

fn facts(stored: &Stored, verdict: &Verdict) -> Vec<(String, String)> {
    let info = &stored.info;
    let replicas = if info.replicas == 1 { "replica" } else { "replicas" };
    let topology = format!("{} masters, {} {replicas} each", info.masters, info.replicas);
    let fact = |name: &str, value: String| (name.to_owned(), value);
    vec![
        fact("server", info.sut.clone()),
        fact("cluster", topology),
        fact("node timeout", format!("{} ms", info.node_timeout_ms)),
        fact(
            "load",
            format!(
                "{} · {} clients, {} ops/s, {} s",
                info.workload, info.clients, info.rate, info.duration_s
            ),
        ),
        fact("acknowledged", verdict.acknowledged.to_string()),
        fact("failovers", verdict.failovers.to_string()),
        fact("lost", verdict.checks.lost_writes.lost.to_string()),
        fact("expectation", verdict.expect.to_string()),
        fact("seed", info.seed.to_string()),
        fact("started", info.started.clone()),
    ]
}

fn check_cards(verdict: &Verdict) -> Vec<Check> {
    let c = &verdict.checks;
    let card = |name, valid, figure: String, reason: &str| Check {
        name,
        verdict: word(valid),
        figure,
        reason: reason.to_owned(),
    };
    let s = &c.split_brain;
    let convergence = c.convergence.took_s.map_or_else(
        || format!("not within {} s", c.convergence.bound_s),
        |took| format!("{took:.1} s after healing"),
    );
    vec![
        card(
            "Lost writes",
            c.lost_writes.valid,
            format!("{} of {} lost", c.lost_writes.lost, c.lost_writes.judged),
            &c.lost_writes.reason,
        ),
        card(
            "Elements",
            c.elements.valid,
            format!(
                "{} duplicated, {} phantom, {} misordered",
                c.elements.duplicated, c.elements.phantom, c.elements.misordered
            ),
            &c.elements.reason,
        ),
        card("Consistency", c.consistency.valid, c.consistency.told(), &c.consistency.reason),
        card(
            "Split brain",
            s.valid,
            format!(
                "{} two claims, {} two writers, {} lasting",
                s.two_claims.len(),
                s.two_writers.len(),
                s.lasting.len()
            ),
            &s.reason,
        ),
        card("Convergence", c.convergence.valid, convergence, &c.convergence.reason),
        card(
            "Availability",
            c.availability.valid,
            format!(
                "{:.1} %, longest outage {:.1} s",
                c.availability.overall_pct, c.availability.longest_outage_s
            ),
            &c.availability.reason,
        ),
        card(
            "Invariants",
            c.invariants.valid,
            format!(
                "{} broken, {} crashes; {}",
                c.invariants.violations.len(),
                c.invariants.crashes,
                c.invariants.bus()
            ),
            &c.invariants.reason,
        ),
    ]
}

/// The first loss or violation, with what happened around it, in order.
fn window(stored: &Stored, verdict: &Verdict) -> Option<Window> {
    let checks = &verdict.checks;
    let loss = checks.lost_writes.losses.iter().min_by_key(|loss| loss.acked);
    let lasting = checks.split_brain.lasting.first().map(|o| o.from);
    let broken = checks.invariants.violations.iter().map(|finding| finding.from).min();
    let violation = [lasting, broken].into_iter().flatten().min();
    let (centre, until, heading) = match (violation, loss) {
        (Some(at_violation), _) => {
            (at_violation, at_violation, format!("Around the first violation, at {}", at(at_violation)))
        }
        (None, Some(loss)) => {
            let until = loss.erased_by.as_ref().map_or(loss.acked, |takeover| takeover.time);
            let heading = format!(
                "The first lost write: e{} of {}, acknowledged by {} at {}",
                loss.element,
                loss.key,
                loss.acked_by,
                at(loss.acked)
            );
            (loss.acked, until.max(loss.acked), heading)
        }
        (None, None) => return None,
    };
    let from_s = seconds(centre) - WINDOW_S;
    let to_s = seconds(until) + WINDOW_S;
    let inside = |time: Nanos| seconds(time) >= from_s && seconds(time) <= to_s;
    let mut events: Vec<(Nanos, &'static str, String)> = Vec::new();
    for (time, step) in fault_steps(&stored.history).filter(|(time, _)| inside(*time)) {
        let phase = format!("{:?}", step.phase).to_lowercase();
        let note = if step.note.is_empty() { String::new() } else { format!(" ({})", step.note) };
        events.push((time, "fault", format!("{} {} {phase}{note}", step.name, targets(step).join(" "))));
    }
    for takeover in checks.invariants.takeovers.iter().filter(|takeover| inside(takeover.time)) {
        let text =
            format!("{} takes the slots of {} with epoch {}", takeover.node, takeover.from, takeover.epoch);
        events.push((takeover.time, "role", text));
    }
    if let (None, Some(loss)) = (violation, loss) {
        events.push((
            loss.invoked,
            "operation",
            format!("write of e{} to {} begins", loss.element, loss.key),
        ));
        events.push((loss.acked, "operation", format!("{} acknowledges e{}", loss.acked_by, loss.element)));
        if let Some(takeover) = &loss.erased_by
            && !checks.invariants.takeovers.contains(takeover)
        {
            let text = format!("{} takes over with epoch {}", takeover.node, takeover.epoch);
            events.push((takeover.time, "role", text));
        }
    }
    for overlap in checks.split_brain.lasting.iter().filter(|o| inside(o.from)) {
        let text = format!("{} and {} are both master", overlap.nodes.0, overlap.nodes.1);
        events.push((overlap.from, "violation", text));
    }
    for finding in checks.invariants.violations.iter().filter(|f| inside(f.from)) {
        events.push((finding.from, "violation", finding.text.clone()));
    }
    events.sort();
    Some(Window { heading, events: events.into_iter().map(|(t, kind, text)| (at(t), kind, text)).collect() })
}

fn pictures(story: &Story, plots: &Path, names: &[&'static str]) -> anyhow::Result<Vec<Picture>> {
    names
        .iter()
        .map(|name| {
            let (title, caption) = match *name {
                "availability" => (
                    "Availability by shard",
                    "Each bin: whether operations due in it on the shard's slots succeeded.",
                ),
                "roles" => (
                    "Roles",
                    "Full bar: believes itself master of the shard of that colour (pale: state fail), with its \
                     config epoch. Thin line: replica of that shard.",
                ),
                "latency-raw" => (
                    "Latency",
                    "Every operation, from its intended start. Bands are faults; the dark stroke in a band marks \
                     when nodes agreed that its target had failed.",
                ),
                "latency-quantiles" => ("Latency quantiles", "Quantiles per bucket, outcomes pooled."),
                _ => ("Rate", "Completions per second, by function and outcome."),
            };
            let alt = format!(
                "{title}: {} operations over {:.0} seconds, {} faults",
                story.points.len(),
                story.end_s,
                story.bands.len()
            );
            Ok(Picture { title, caption, markup: markup(plots, name, &alt)?, alt })
        })
        .collect()
}

/// The picture inside the page: SVG as it is, but for the one with a point for each operation, which is smaller as PNG.
fn markup(plots: &Path, name: &str, alt: &str) -> anyhow::Result<String> {
    if name == "latency-raw" {
        let path = plots.join("latency-raw.png");
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        return Ok(format!(r#"<img width="900" alt="{alt}" src="data:image/png;base64,{data}">"#));
    }
    let path = plots.join(format!("{name}.svg"));
    let svg = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // A viewBox lets a narrow window shrink it.
    let start = svg.find("<svg").unwrap_or(0);
    Ok(svg[start..].replacen("<svg ", r#"<svg role="img" aria-hidden="true" "#, 1))
}

fn faults(stored: &Stored, story: &Story) -> Vec<Fault> {
    let mut rows: Vec<(Option<u32>, Fault)> = Vec::new();
    for (time, step) in fault_steps(&stored.history) {
        let touched = step.touched.map_or_else(String::new, |t| {
            format!(
                "{} B passed, {} B held, {} dials, {} resets",
                t.passed_bytes, t.held_bytes, t.connects, t.resets
            )
        });
        let is_end = step.phase == slotstorm_checker::record::FaultPhase::End;
        let known = rows.iter_mut().find(|(number, _)| is_end && number.is_some() && *number == step.fault);
        if let Some((_, row)) = known {
            row.ended = at(time);
            if !touched.is_empty() {
                if !row.observed.is_empty() {
                    row.observed.push_str(" · ");
                }
                row.observed.push_str(&touched);
            }
            row.vacuous = step.vacuous.clone().unwrap_or_default();
            continue;
        }
        let observed = story
            .bands
            .iter()
            .find(|band| (band.from_s - seconds(time)).abs() < 1e-6 && band.name == step.name)
            .and_then(|band| band.observed_s)
            .map_or_else(String::new, |(from, to)| {
                format!("flagged fail {:.2} s later, for {:.2} s", from - seconds(time), to - from)
            });
        let row = Fault {
            number: step.fault.map_or_else(String::new, |n| n.to_string()),
            name: step.name.clone(),
            targets: targets(step).join(" "),
            planned: step.planned.map_or_else(String::new, at),
            applied: at(time),
            ended: String::new(),
            observed: [observed, touched]
                .iter()
                .filter(|t| !t.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join(" · "),
            vacuous: step.vacuous.clone().unwrap_or_default(),
            note: step.note.clone(),
        };
        rows.push((step.fault, row));
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

fn loss_row(loss: &Loss) -> LossRow {
    let promoted_at = loss.erased_by.as_ref().and_then(|takeover| takeover.offset);
    LossRow {
        element: loss.element,
        key: loss.key.clone(),
        slot: loss.slot,
        acked_by: if loss.acked_by.is_empty() { "seen by a read".to_owned() } else { loss.acked_by.clone() },
        acked: at(loss.acked),
        class: loss.class.clone(),
        windows: loss.windows.join(" "),
        offsets: match (loss.offset, promoted_at) {
            (Some(write), Some(promotion)) => format!("{write} > {promotion}"),
            (Some(write), None) => write.to_string(),
            (None, Some(promotion)) => format!("not replicated; promotion at {promotion}"),
            (None, None) => String::new(),
        },
        erased_by: loss.erased_by.as_ref().map_or_else(String::new, |takeover| {
            format!("{} (epoch {}) at {}", takeover.node, takeover.epoch, at(takeover.time))
        }),
        proof: loss.proof.clone(),
    }
}

/// The windows of loss of Redis Cluster, in a few words.
fn meaning(class: &str) -> &'static str {
    match class {
        "W1" => "asynchronous replication: the master died before the replica had the bytes",
        "W2" => "WAIT was satisfied, yet another replica was promoted",
        "W3" => "a master cut off from the majority kept accepting",
        "W4" => "a paused master accepted after waking, before it heard of its successor",
        "W5" => "an old master restarted with an old map",
        "W6" => "a short cut or pause: accepted before the newer epoch was heard of",
        "W7" => "CLUSTER FAILOVER FORCE or TAKEOVER",
        "W9" => "a master came back empty",
        "W10" => "slot ownership lost to a claim of a higher epoch",
        "W11" => "a failover tore a slot on the move, and of two copies of a key the other one stayed",
        "W12" => "MIGRATE's target died before its replica had the key",
        "W16" => "appendfsync everysec held back the last writes of a killed process",
        OUTSIDE_MODEL => "a fault of the storm voids the promise that was broken",
        UNEXPLAINED => "no documented window holds: a bug",
        _ => "",
    }
}

fn overlaps(verdict: &Verdict) -> Vec<OverlapRow> {
    let s = &verdict.checks.split_brain;
    let row = |grade: &'static str, o: &Overlap| OverlapRow {
        grade,
        from: at(o.from),
        length: format!("{:.3} s", seconds(o.to.saturating_sub(o.from))),
        nodes: format!("{} and {}", o.nodes.0, o.nodes.1),
        epochs: format!("{} and {}", o.epochs.0, o.epochs.1),
        slots: slot_ranges(&o.slots),
        allowed: o
            .allowed_until
            .map_or_else(String::new, |until| format!("until {} ({})", at(until), o.window)),
        writes: o.writes,
    };
    let lasting = s.lasting.iter().map(|o| row("lasting", o));
    let writers = s.two_writers.iter().map(|o| row("two writers", o));
    lasting.chain(writers).chain(s.two_claims.iter().map(|o| row("two claims", o))).take(ROWS).collect()
}

fn outages(verdict: &Verdict) -> Vec<Vec<String>> {
    let shards = &verdict.checks.availability.shards;
    shards
        .iter()
        .map(|s| {
            let outage = |(from, to): &(Nanos, Nanos)| {
                format!("{:.1}–{:.1} s ({:.1} s)", seconds(*from), seconds(*to), seconds(to - from.min(to)))
            };
            vec![
                format!("{} ({})", s.shard, slot_ranges(&s.slots)),
                s.ok.to_string(),
                s.fail.to_string(),
                s.info.to_string(),
                format!("{:.2} %", s.available_pct),
                s.outages.iter().map(outage).collect::<Vec<_>>().join(", "),
            ]
        })
        .collect()
}

fn recoveries(verdict: &Verdict) -> Vec<Vec<String>> {
    let recoveries = &verdict.checks.availability.recoveries;
    recoveries
        .iter()
        .map(|r| {
            let took = r.took_s.map_or_else(|| "never".to_owned(), |took| format!("{took:.2} s"));
            vec![r.fault.to_string(), r.name.clone(), r.shard.to_string(), at(r.at), took]
        })
        .collect()
}

fn findings(verdict: &Verdict) -> Vec<FindingRow> {
    let c = &verdict.checks;
    let row = |check, finding: &Finding| FindingRow {
        check,
        what: finding.what.clone(),
        when: at(finding.from),
        nodes: finding.nodes.join(" "),
        text: finding.text.clone(),
        excused: finding.excused,
    };
    let invariants = c.invariants.violations.iter().map(|f| row("invariants", f));
    let outside = c.invariants.outside_model.iter().map(|f| row("outside the model", f));
    let elements = c.elements.findings.iter().map(|f| row("elements", f));
    let convergence = c.convergence.findings.iter().map(|f| row("convergence", f));
    invariants.chain(outside).chain(elements).chain(convergence).take(ROWS).collect()
}

/// The rules of the cluster bus, and the frames that passed.
fn bus(verdict: &Verdict) -> Vec<(String, String)> {
    let Some(wire) = &verdict.checks.invariants.wire else {
        return vec![("the bus".into(), "not watched".into())];
    };
    let rules = wire.rules.iter().map(|(name, rule)| (name.clone(), rule.told()));
    let frames = wire.frames.iter().map(|(kind, count)| (format!("frames: {kind}"), count.to_string()));
    let lost = wire.lost.iter().map(|lost| ("could not be followed".into(), lost.clone()));
    rules.chain(lost.take(ROWS)).chain(frames).collect()
}

fn takeover_row(takeover: &Takeover) -> Vec<String> {
    vec![
        at(takeover.time),
        takeover.node.clone(),
        takeover.from.clone(),
        takeover.epoch.to_string(),
        takeover.offset.map_or_else(String::new, |offset| offset.to_string()),
    ]
}

fn latency(story: &Story) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (function, name) in story.functions.iter().enumerate() {
        for outcome in Outcome::ALL {
            let mut all: Vec<f64> = story
                .points
                .iter()
                .filter(|p| p.function == function && p.outcome == outcome)
                .map(|p| p.latency_ms)
                .collect();
            if all.is_empty() {
                continue;
            }
            all.sort_by(f64::total_cmp);
            let mut row = vec![format!("{name} {}", outcome.name()), all.len().to_string()];
            let cell = |q| quantile(&all, q).map_or_else(String::new, |ms| format!("{ms:.2}"));
            row.extend([0.5, 0.95, 0.99, 0.999, 1.0].map(cell));
            rows.push(row);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use slotstorm_checker::check::proofs::WINDOWS;

    use super::*;

    #[test]
    fn every_class_of_a_loss_is_put_into_words() {
        for class in WINDOWS.iter().copied().chain([OUTSIDE_MODEL, UNEXPLAINED]) {
            assert!(!meaning(class).is_empty(), "{class}");
        }
    }
}
