//! SLOWLOG and LATENCY: which commands took long, and when the server as a whole did.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::client::Client;
use super::redact::{REDACTED, redacted};
use super::{Node, text};
use crate::command::catalog::catalog;
use crate::command::{Fault, NOT_INTEGER, Spec, flag, write_help};
use crate::config::{Config, Key};
use crate::keyspace::number::parse_i64;
use crate::resp::{Args, Reply};

/// Arguments kept of a slow command; the last of them tells how many there were more.
const MAX_ARGS: usize = 32;
/// Bytes kept of an argument.
const MAX_ARG_BYTES: usize = 128;
/// Samples kept of a class of events, one a second at most.
const SAMPLES: usize = 160;
const GRAPH_COLUMNS: usize = 80;
const GRAPH_ROWS: usize = 4;

/// A slow command.
#[derive(Debug)]
struct Entry {
    id: u64,
    at_s: u64,
    took_us: u64,
    args: Vec<Vec<u8>>,
    address: String,
    name: Vec<u8>,
}

/// A class of events.
#[derive(Debug, Default)]
struct Series {
    /// Second and ms, oldest first.
    samples: VecDeque<(u64, u64)>,
    max_ms: u64,
}

/// The books of both.
#[derive(Debug)]
pub(super) struct Slow {
    /// `slowlog-log-slower-than`, us; negative: never.
    threshold_us: i64,
    /// `latency-monitor-threshold`; 0: nothing is watched.
    latency_threshold_ms: u64,
    /// Latest first.
    log: VecDeque<Entry>,
    next_id: u64,
    events: BTreeMap<&'static str, Series>,
}

impl Slow {
    pub fn new(config: &Config) -> Self {
        let mut slow = Self {
            threshold_us: 0,
            latency_threshold_ms: 0,
            log: VecDeque::new(),
            next_id: 0,
            events: BTreeMap::new(),
        };
        slow.follow(config);
        slow
    }

    /// Takes new settings.
    pub fn follow(&mut self, config: &Config) {
        self.threshold_us = config.int(Key::SlowlogLogSlowerThan);
        self.latency_threshold_ms = config.uint(Key::LatencyMonitorThreshold);
        self.log.truncate(config.uint(Key::SlowlogMaxLen) as usize);
    }

    /// Notes how long something took, if that was long.
    pub fn note_event(&mut self, event: &'static str, took_ms: u64, now_s: u64) {
        if self.latency_threshold_ms == 0 || took_ms < self.latency_threshold_ms {
            return;
        }
        let series = self.events.entry(event).or_default();
        series.max_ms = series.max_ms.max(took_ms);
        match series.samples.back_mut() {
            Some((second, ms)) if *second == now_s => *ms = (*ms).max(took_ms),
            _ => {
                if series.samples.len() == SAMPLES {
                    series.samples.pop_front();
                }
                series.samples.push_back((now_s, took_ms));
            }
        }
    }
}

impl Node {
    /// What is to be done with a command's duration, beside counting it.
    pub(super) fn note_duration(
        &mut self,
        client: &Client,
        spec: &'static Spec,
        args: Args<'_>,
        took_ns: u64,
    ) {
        let took_us = took_ns / 1000;
        let threshold = self.slow.threshold_us;
        if threshold >= 0 && took_us >= threshold as u64 {
            self.note_slow(client, spec, args, took_us);
        }
        if self.slow.latency_threshold_ms > 0 && took_us >= 1000 {
            let event = if spec.has(flag::FAST) { "fast-command" } else { "command" };
            self.slow.note_event(event, took_us / 1000, self.now.wall.0 / 1000);
        }
    }

    #[cold]
    fn note_slow(&mut self, client: &Client, spec: &'static Spec, args: Args<'_>, took_us: u64) {
        let max = self.config.uint(Key::SlowlogMaxLen) as usize;
        let skips = catalog().entry(spec).is_some_and(|(_, entry)| entry.is_flagged("skip_slowlog"));
        if max == 0 || skips {
            return;
        }
        let entry = Entry {
            id: self.slow.next_id,
            at_s: self.now.wall.0 / 1000,
            took_us,
            args: trimmed(args),
            address: client.address.clone(),
            name: client.name.clone(),
        };
        self.slow.next_id += 1;
        self.slow.log.push_front(entry);
        self.slow.log.truncate(max);
    }

    pub(super) fn slowlog_command(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        match &args[1].to_ascii_lowercase()[..] {
            b"get" if args.len() <= 3 => {
                let wrong = text("ERR count should be greater than or equal to -1");
                let count = args
                    .get(2)
                    .map_or(Ok(10), |count| parse_i64(count).ok_or(NOT_INTEGER).map_err(|_| wrong.clone()))?;
                if count < -1 {
                    return Err(wrong);
                }
                let all = self.slow.log.len();
                let count = usize::try_from(count).map_or(all, |count| count.min(all));
                let mut reply = Reply::new(&mut self.scratch, client.protocol);
                reply.array(count);
                for entry in self.slow.log.iter().take(count) {
                    reply.array(6);
                    reply.int(entry.id as i64);
                    reply.int(entry.at_s as i64);
                    reply.int(entry.took_us as i64);
                    reply.array(entry.args.len());
                    for arg in &entry.args {
                        reply.bulk(arg);
                    }
                    reply.bulk(entry.address.as_bytes());
                    reply.bulk(&entry.name);
                }
            }
            b"len" => {
                let len = self.slow.log.len();
                self.reply(client).int(len as i64);
            }
            b"reset" => {
                self.slow.log.clear();
                self.reply(client).ok();
            }
            b"help" => write_help(
                &mut self.reply(client),
                "SLOWLOG",
                &[
                    "GET [<count>]",
                    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
                    "    Entries are made of:",
                    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
                    "    client name",
                    "LEN",
                    "    Return the length of the slowlog.",
                    "RESET",
                    "    Reset the slowlog.",
                ],
            ),
            _ => return Err(Fault::misused(&args[1], "SLOWLOG")),
        }
        Ok(())
    }

    pub(super) fn latency_command(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        match &args[1].to_ascii_lowercase()[..] {
            b"latest" => {
                let mut reply = Reply::new(&mut self.scratch, client.protocol);
                reply.array(self.slow.events.len());
                for (event, series) in &self.slow.events {
                    let (at_s, ms) = series.samples.back().copied().unwrap_or_default();
                    reply.array(4);
                    reply.bulk(event.as_bytes());
                    for number in [at_s, ms, series.max_ms] {
                        reply.int(number as i64);
                    }
                }
            }
            b"history" => {
                let samples = self
                    .event(&args[2])
                    .map_or(Vec::new(), |(_, series)| series.samples.iter().copied().collect());
                let mut reply = self.reply(client);
                reply.array(samples.len());
                for (at_s, ms) in samples {
                    reply.array(2);
                    reply.int(at_s as i64);
                    reply.int(ms as i64);
                }
            }
            b"reset" => {
                let before = self.slow.events.len();
                if args.len() == 2 {
                    self.slow.events.clear();
                } else {
                    self.slow
                        .events
                        .retain(|event, _| !args.from(2).iter().any(|name| name == event.as_bytes()));
                }
                let gone = before - self.slow.events.len();
                self.reply(client).int(gone as i64);
            }
            b"graph" => {
                let missing = || {
                    let event = crate::command::shown(&args[2], 128);
                    Fault::new(format!("ERR No samples available for event '{event}'"))
                };
                let (event, series) = self.event(&args[2]).ok_or_else(missing)?;
                let graph = graph(event, series, self.now.wall.0 / 1000);
                self.reply(client).verbatim(&graph);
            }
            b"doctor" => {
                let report = self.latency_report();
                self.reply(client).verbatim(&report);
            }
            b"histogram" => self.latency_histogram(client, args),
            b"help" => write_help(
                &mut self.reply(client),
                "LATENCY",
                &[
                    "DOCTOR",
                    "    Return a human readable latency analysis report.",
                    "GRAPH <event>",
                    "    Return an ASCII latency graph for the <event> class.",
                    "HISTORY <event>",
                    "    Return time-latency samples for the <event> class.",
                    "LATEST",
                    "    Return the latest latency samples for all events.",
                    "RESET [<event> ...]",
                    "    Reset latency data of one or more <event> classes.",
                    "    (default: reset all data for all event classes)",
                    "HISTOGRAM [COMMAND ...]",
                    "    Return a cumulative distribution of latencies in the format of a histogram for the specified \
                     command names.",
                    "    If no commands are specified then all histograms are replied.",
                ],
            ),
            _ => return Err(Fault::misused(&args[1], "LATENCY")),
        }
        Ok(())
    }

    fn event(&self, name: &[u8]) -> Option<(&'static str, &Series)> {
        let mut events = self.slow.events.iter();
        events.find(|(event, _)| event.as_bytes() == name).map(|(event, series)| (*event, series))
    }

    /// `LATENCY HISTOGRAM`: of the commands named (a container's name means its sub-commands too), or of all.
    fn latency_histogram(&mut self, client: &Client, args: Args<'_>) {
        let catalog = catalog();
        let mut names: Vec<&str> = Vec::new();
        for index in args.from(2).iter().filter_map(|name| catalog.find(name)) {
            names.push(catalog.entries()[index].spec.name);
            names.extend(catalog.entries()[catalog.subcommands(index)].iter().map(|entry| entry.spec.name));
        }
        let all = self.stats.per_command.all();
        let mut chosen = Vec::new();
        for (name, stat) in &all {
            if let Some(latency) = &stat.latency
                && (args.len() == 2 || names.contains(name))
            {
                chosen.push((*name, latency));
            }
        }
        if args.len() > 2 {
            chosen.sort_by_key(|(name, _)| names.iter().position(|other| other == name));
        }
        let mut reply = Reply::new(&mut self.scratch, client.protocol);
        reply.map(chosen.len());
        for (name, histogram) in chosen {
            reply.bulk(name.as_bytes());
            reply.map(2);
            reply.bulk(b"calls");
            reply.int(histogram.total() as i64);
            reply.bulk(b"histogram_usec");
            // Classes end at powers of two of 1024 ns, told in us.
            let mut classes = Vec::new();
            let (mut end_ns, mut before) = (1024, 0);
            while before < histogram.total() {
                let count = histogram.up_to(end_ns - 1);
                if count > before {
                    classes.push((end_ns / 1000, count));
                }
                before = count;
                end_ns *= 2;
            }
            reply.map(classes.len());
            for (us, count) in classes {
                reply.int(us as i64);
                reply.int(count as i64);
            }
        }
    }

    /// A report for people.
    fn latency_report(&self) -> String {
        if self.slow.events.is_empty() {
            return if self.slow.latency_threshold_ms == 0 {
                "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \
                 \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a \
                 deep space mission I'd suggest to take a look at https://redis.io/topics/latency-monitor.\n"
                    .to_owned()
            } else {
                "Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest \
                 bit. I honestly think you ought to sit down calmly, take a stress pill, and think things over.\n"
                    .to_owned()
            };
        }
        let mut report =
            "Dave, I have observed latency spikes in this Redis instance. You don't mind talking about it, \
                          do you Dave?\n\n"
                .to_owned();
        for (number, (event, series)) in self.slow.events.iter().enumerate() {
            let count = series.samples.len().max(1) as u64;
            let average = series.samples.iter().map(|(_, ms)| ms).sum::<u64>() / count;
            let spread: u64 = series.samples.iter().map(|(_, ms)| ms.abs_diff(average)).sum();
            let from = series.samples.front().map_or(0, |(at_s, _)| *at_s);
            let period_s = (self.now.wall.0 / 1000).saturating_sub(from) as f64 / count as f64;
            // Writing to a string cannot fail.
            let _ = writeln!(
                report,
                "{}. {event}: {count} latency spikes (average {average}ms, mean deviation {}ms, period {period_s:.2} \
                 sec). Worst all time event {}ms.",
                number + 1,
                spread / count,
                series.max_ms,
            );
        }
        report.push_str("\nWhile there are latency events logged, I'm not able to suggest any easy fix.\n");
        report
    }
}

/// What SLOWLOG keeps of the arguments.
fn trimmed(args: Args<'_>) -> Vec<Vec<u8>> {
    let secret = redacted(args);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for (at, arg) in args.iter().enumerate().take(MAX_ARGS) {
        kept.push(match arg {
            _ if args.len() > MAX_ARGS && at == MAX_ARGS - 1 => {
                format!("... ({} more arguments)", args.len() - MAX_ARGS + 1).into_bytes()
            }
            _ if secret.contains(&at) => REDACTED.to_vec(),
            _ if arg.len() > MAX_ARG_BYTES => {
                let more = format!("... ({} more bytes)", arg.len() - MAX_ARG_BYTES);
                [&arg[..MAX_ARG_BYTES], more.as_bytes()].concat()
            }
            _ => arg.to_vec(),
        });
    }
    kept
}

/// A class of events as columns of characters, oldest first, with their age below.
fn graph(event: &str, series: &Series, now_s: u64) -> String {
    let values = || series.samples.iter().map(|(_, ms)| *ms);
    let (min, max) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
    let mut out = format!("{event} - high {max} ms, low {min} ms (all time high {} ms)\n", series.max_ms);
    out.push_str(&"-".repeat(GRAPH_COLUMNS));
    out.push('\n');
    let columns: Vec<(u64, Vec<u8>)> = series
        .samples
        .iter()
        .map(|(at_s, ms)| {
            let age_s = now_s.saturating_sub(*at_s);
            let label = match age_s {
                0..60 => format!("{age_s}s"),
                60..3600 => format!("{}m", age_s / 60),
                3600..86_400 => format!("{}h", age_s / 3600),
                _ => format!("{}d", age_s / 86_400),
            };
            let steps = (GRAPH_ROWS * 3) as u64;
            let step = ((ms - min) * steps / (max - min).max(1)).min(steps - 1);
            (step, label.into_bytes())
        })
        .collect();
    for (index, part) in columns.chunks(GRAPH_COLUMNS).enumerate() {
        if index > 0 {
            out.push('\n');
        }
        for row in 0..GRAPH_ROWS {
            let floor = ((GRAPH_ROWS - row - 1) * 3) as i64;
            out.extend(part.iter().map(|(step, _)| match *step as i64 - floor {
                ..0 => ' ',
                level @ 0..3 => char::from(b"_o#"[level as usize]),
                _ => '|',
            }));
            out.push('\n');
        }
        out.push_str(&" ".repeat(part.len()));
        out.push('\n');
        let longest = part.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
        for row in 0..longest {
            out.extend(part.iter().map(|(_, label)| label.get(row).map_or(' ', |byte| char::from(*byte))));
            out.push('\n');
        }
    }
    out
}
