//! `latency.hlog`: an HdrHistogram log of a whole night, an interval a run that counts and kind of operation. Its tags are
//! those of the runs' own logs, behind server and backend.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::campaign::night::StoredNight;
use crate::campaign::outcome::latencies;

/// The log's text.
pub fn log(night: &StoredNight) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("slotstorm: nanoseconds from the intended start; an interval a run, its start is the task's number")
        .with_start_time(std::time::UNIX_EPOCH)
        .with_max_value_divisor(1_000_000.0)
        .begin_log_with(&mut text, &mut serializer)?;
    for outcome in night.outcomes.iter().filter(|outcome| outcome.counts()) {
        let Some(folder) = &outcome.folder else { continue };
        let task = crate::campaign::night::task_dir(&night.path, outcome.task.number);
        let mut of_run: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
        latencies(&task.join(folder).join("latency.hlog"), |tag, histogram| {
            let whole = match of_run.entry(tag.to_owned()) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Histogram::new(3)?),
            };
            Ok(whole.add(histogram)?)
        })?;
        let start = Duration::from_secs(outcome.task.number);
        // Blanks and commas would end a tag.
        let subject = outcome.task.cell.subject().replace([' ', ','], "-");
        for (tag, histogram) in &of_run {
            let tag = format!("{subject}/{tag}");
            let tag = Tag::new(&tag).context("a tag of the latency log holds a space or comma")?;
            log.write_histogram(histogram, start, Duration::from_secs_f64(outcome.took_s), Some(tag))
                .map_err(|error| anyhow::anyhow!("cannot write the latency log: {error:?}"))?;
        }
    }
    drop(log);
    Ok(text)
}
