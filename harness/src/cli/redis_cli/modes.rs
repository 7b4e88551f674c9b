//! The modes that are one loop each: `--scan`, `--stat`, `--latency`, `--eval`.

use std::io::Write;
use std::time::{Duration, Instant};

use super::format::Style;
use super::options::Options;
use super::reply::{Reply, ReplyError};
use super::session::{Failed, Session, emit};
use super::words::quote;

/// Between two samples of `--latency`.
const LATENCY_PAUSE: Duration = Duration::from_millis(10);
/// Of one line of `--latency-history`.
const HISTORY_INTERVAL: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);

/// All keys, one a line.
pub fn scan(mut session: Session) -> Result<(), Failed> {
    session.connect(true)?;
    let Options { pattern, style, interval_us, .. } = session.options.clone();
    let mut cursor = b"0".to_vec();
    loop {
        let mut words = vec![b"SCAN".to_vec(), cursor];
        if let Some(pattern) = &pattern {
            words.extend([b"MATCH".to_vec(), pattern.clone()]);
        }
        let keys = match ask(&mut session, &words) {
            Ok(Reply::Array(parts)) => match <[Reply; 2]>::try_from(parts) {
                Ok([Reply::Bulk(next), Reply::Array(keys)]) => {
                    cursor = next;
                    keys
                }
                _ => return Err(told("Invalid element count from SCAN!")),
            },
            Ok(Reply::Error(text)) => return Err(told(&format!("SCAN error: {}", lossy(&text)))),
            Ok(_) => return Err(told("Non ARRAY response from SCAN!")),
            Err(_) => return Err(told("\nI/O error")),
        };
        let mut lines = Vec::new();
        for key in keys {
            let Reply::Bulk(key) = key else { continue };
            if style == Style::Human {
                quote(&key, &mut lines);
            } else {
                lines.extend(key);
            }
            lines.push(b'\n');
        }
        emit(&lines);
        if cursor == b"0" {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(interval_us));
    }
}

/// A line of numbers each interval, for ever.
pub fn stat(mut session: Session) -> Result<(), Failed> {
    session.connect(true)?;
    let interval = pause(&session.options, SECOND);
    let mut requests = None;
    for line in 0_u64.. {
        let info = match ask(&mut session, &[b"INFO".to_vec()]) {
            Ok(Reply::Bulk(text) | Reply::Verbatim(text)) => lossy(&text),
            Ok(Reply::Error(text)) => return Err(told(&format!("ERROR: {}", lossy(&text)))),
            Ok(_) => return Err(told("ERROR: INFO has no text")),
            Err(_) => {
                reconnect(&mut session)?;
                continue;
            }
        };
        if line % 20 == 0 {
            emit(
                b"------- data ------ --------------------- load -------------------- - child -\n\
                  keys       mem      clients blocked requests            connections          \n",
            );
        }
        let served = field(&info, "total_commands_processed").unwrap_or(0);
        emit(stat_line(&info, served - requests.unwrap_or(served)).as_bytes());
        requests = Some(served);
        std::thread::sleep(interval);
    }
    Ok(())
}

fn stat_line(info: &str, more_requests: i64) -> String {
    let number = |name: &str| field(info, name).unwrap_or(0);
    let keys: i64 = (0..20).filter_map(|db| field(info, &format!("db{db}:keys"))).sum();
    let requests = format!("{} (+{more_requests})", number("total_commands_processed"));
    let child =
        number("rdb_bgsave_in_progress") | number("aof_rewrite_in_progress") << 1 | number("loading") << 2;
    let child = match child {
        1 => "SAVE",
        2 => "AOF",
        3 => "SAVE+AOF",
        4 => "LOAD",
        _ => "",
    };
    format!(
        "{keys:<11}{:<8} {:<8}{:<8}{requests:<19} {:<12}{child}\n",
        human_bytes(number("used_memory")),
        number("connected_clients"),
        number("blocked_clients"),
        number("total_connections_received"),
    )
}

/// The number after `name:` or `name=`.
fn field(info: &str, name: &str) -> Option<i64> {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix([':', '=']))?;
    Some(super::words::leading_int(line.as_bytes()))
}

fn human_bytes(bytes: i64) -> String {
    let as_float = bytes as f64;
    match bytes {
        ..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.2}K", as_float / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.2}M", as_float / 1_048_576.0),
        _ => format!("{:.2}G", as_float / 1_073_741_824.0),
    }
}

/// The time of PING, in whole milliseconds as redis-cli measures it.
pub fn latency(mut session: Session, keeps_history: bool) -> Result<(), Failed> {
    session.connect(true)?;
    let default = if keeps_history { HISTORY_INTERVAL } else { SECOND };
    let interval = pause(&session.options, default);
    let style = session.options.style;
    let mut begun = Instant::now();
    let mut samples = Samples::default();
    loop {
        let asked = Instant::now();
        if ask(&mut session, &[b"PING".to_vec()]).is_err() {
            reconnect(&mut session)?;
            continue;
        }
        samples.add(asked.elapsed().as_millis());
        let is_over = begun.elapsed() > interval;
        if style == Style::Human {
            emit(format!("\x1b[0G\x1b[2K{}", samples.shown(style)).as_bytes());
        } else if keeps_history {
            emit(samples.shown(style).as_bytes());
        } else if is_over {
            emit(samples.shown(style).as_bytes());
            return Ok(());
        }
        if keeps_history && is_over {
            emit(format!(" -- {:.2} seconds range\n", begun.elapsed().as_secs_f64()).as_bytes());
            begun = Instant::now();
            samples = Samples::default();
        }
        std::thread::sleep(LATENCY_PAUSE);
    }
}

#[derive(Default)]
struct Samples {
    min: u128,
    max: u128,
    total: u128,
    count: u128,
}

impl Samples {
    fn add(&mut self, ms: u128) {
        self.min = if self.count == 0 { ms } else { self.min.min(ms) };
        self.max = self.max.max(ms);
        self.total += ms;
        self.count += 1;
    }

    fn shown(&self, style: Style) -> String {
        let Self { min, max, total, count } = self;
        let avg = *total as f64 / *count as f64;
        match style {
            Style::Human => format!("min: {min}, max: {max}, avg: {avg:.2} ({count} samples)"),
            Style::Csv => format!("{min},{max},{avg:.2},{count}\n"),
            Style::Raw => format!("{min} {max} {avg:.2} {count}\n"),
            Style::Json | Style::QuotedJson => {
                format!("{{\"min\": {min}, \"max\": {max}, \"avg\": {avg:.2}, \"count\": {count}}}\n")
            }
        }
    }
}

/// Runs a script's file; the words before `,` are keys, those after it arguments.
pub fn eval(mut session: Session, file: &std::ffi::OsStr) -> Result<(), Failed> {
    session.connect(true)?;
    let script = std::fs::read(file).map_err(|error| {
        told(&format!("Can't open file '{}': {}", file.to_string_lossy(), super::link::said(&error)))
    })?;
    let words = &session.options.words;
    let comma = words.iter().position(|word| word == b",");
    let keys = comma.unwrap_or(words.len());
    let mut request = vec![b"EVAL".to_vec(), script, keys.to_string().into_bytes()];
    request.extend_from_slice(&words[..keys]);
    request.extend(words[keys..].iter().skip(1).cloned());
    let repeat = session.options.repeat;
    session.issue(&request, repeat)
}

fn ask(session: &mut Session, words: &[Vec<u8>]) -> Result<Reply, ReplyError> {
    session.link().ok_or(ReplyError::Eof)?.ask(words)
}

/// Tries once a second until the server is back.
fn reconnect(session: &mut Session) -> Result<(), Failed> {
    for attempt in 1_u64.. {
        emit(format!("\r\x1b[0KReconnecting... {attempt}\r").as_bytes());
        let connected = session.connect(false);
        std::thread::sleep(SECOND);
        if connected.is_ok() {
            emit(b"\r\x1b[0K");
            return Ok(());
        }
    }
    Err(Failed)
}

/// The user's `-i`, or what is usual.
fn pause(options: &Options, default: Duration) -> Duration {
    if options.interval_us == 0 { default } else { Duration::from_micros(options.interval_us) }
}

fn told(sentence: &str) -> Failed {
    let _ = writeln!(std::io::stderr(), "{sentence}");
    Failed
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_has_the_columns_of_redis_cli() {
        let info = "used_memory:1048576\r\nused_memory_rss:9\r\nconnected_clients:2\r\nblocked_clients:0\r\n\
                    total_commands_processed:17\r\ntotal_connections_received:4\r\ndb0:keys=3,expires=0\r\n";
        let expected = "3          1.00M    2       0       17 (+5)             4           \n";
        assert_eq!(stat_line(info, 5), expected);
    }
}
