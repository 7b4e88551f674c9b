//! `latency.hlog`: an HdrHistogram interval log, one histogram a second and operation, made from the history.
//! Latencies count from the intended start, so that a stall is not hidden; operations of unknown outcome
//! count as long as they were waited for, under tags of their own (`add-info`).

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use slotstorm_checker::record::{Event, Kind, Nanos, Process};

const SECOND: Nanos = 1_000_000_000;

/// Reads a history, writes the log. A line that cannot be read ends it, as a crash would have.
pub fn write(history: impl BufRead, mut out: impl Write) -> anyhow::Result<()> {
    let intervals = collect(history)?;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("slotstorm: nanoseconds from the intended start, by second of completion")
        .with_start_time(std::time::UNIX_EPOCH)
        .with_max_value_divisor(1_000_000.0)
        .begin_log_with(&mut out, &mut serializer)?;
    for ((second, tag), histogram) in &intervals {
        let tag = Tag::new(tag).context_tag()?;
        log.write_histogram(histogram, Duration::from_secs(*second), Duration::from_secs(1), Some(tag))
            .map_err(|error| anyhow::anyhow!("cannot write the latency log: {error:?}"))?;
    }
    Ok(())
}

fn collect(history: impl BufRead) -> anyhow::Result<BTreeMap<(u64, String), Histogram<u64>>> {
    let mut begun: BTreeMap<Process, Nanos> = BTreeMap::new();
    let mut intervals: BTreeMap<(u64, String), Histogram<u64>> = BTreeMap::new();
    for line in history.lines() {
        let Ok(event) = serde_json::from_str::<Event>(&line?) else { break };
        let (Some(op), Some(kind)) = (event.body.op(), event.body.kind()) else { continue };
        let name = kind.name();
        if op.is_final {
            continue;
        }
        let tag = match event.kind {
            Kind::Invoke => {
                begun.insert(event.process, op.intended.unwrap_or(event.time));
                continue;
            }
            Kind::Ok => name.to_owned(),
            Kind::Fail => format!("{name}-fail"),
            Kind::Info => format!("{name}-info"),
        };
        let Some(intended) = begun.remove(&event.process) else { continue };
        let histogram = match intervals.entry((event.time / SECOND, tag)) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Histogram::new(3)?),
        };
        histogram.record(event.time.saturating_sub(intended))?;
    }
    Ok(intervals)
}

/// A tag that the format cannot hold is an error, not a panic.
trait ContextTag<T> {
    fn context_tag(self) -> anyhow::Result<T>;
}

impl<T> ContextTag<T> for Option<T> {
    fn context_tag(self) -> anyhow::Result<T> {
        self.ok_or_else(|| anyhow::anyhow!("a tag of the latency log holds a space or comma"))
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn a_stall_shows_in_the_log_since_latency_counts_from_the_intended_start() {
        let history = r#"{"index":0,"time":5000000000,"type":"invoke","process":0,"f":"add","key":"k","value":1,"intended":1000000000}
{"index":1,"time":5001000000,"type":"ok","process":0,"f":"add","key":"k","value":1}
"#;
        let mut log = Vec::new();
        write(history.as_bytes(), &mut log).unwrap();
        let intervals: Vec<_> = IntervalLogIterator::new(&log)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 1);
        assert_eq!(intervals[0].start_timestamp(), Duration::from_secs(5));
        assert_eq!(intervals[0].tag().unwrap().as_str(), "add");
        let bytes = base64_of(intervals[0].encoded_histogram());
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert!(histogram.max() > 3_990_000_000, "{}", histogram.max());
    }

    /// The log's histograms are base64; a decoder of a few lines saves a dependency.
    fn base64_of(text: &str) -> Vec<u8> {
        let value = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let mut bytes = Vec::new();
        for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
            let bits = chunk.iter().fold(0u32, |bits, c| bits << 6 | u32::from(value(*c)));
            let bits = bits << (6 * (4 - chunk.len()));
            bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
        }
        bytes
    }
}
