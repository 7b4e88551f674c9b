//! Kinds of values: how each is read, shown, and written to a file. Error texts are Redis' own, because
//! clients and test suites match them.

use std::fmt::Write as _;

use crate::words;

/// What values a directive takes.
#[derive(Debug)]
pub enum Kind {
    /// `yes` or `no`.
    Flag,
    /// As `Flag`, and its bare name means `yes`.
    Switch,
    /// A decimal integer between two bounds, both included.
    Int { min: i64, max: i64 },
    /// An integer in octal, file permissions.
    Octal,
    /// Bytes, with a unit if wanted: 1k = 1000, 1kb = 1024, and so on.
    Memory { min: i64 },
    /// As `Memory`, or `1%` to `100%` (kept negative, as Redis does).
    MemoryOrPercent,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words; the first one means none of the others.
    Choices(&'static [&'static str]),
    /// Any text.
    Text,
    /// A file's name without a path.
    FileName,
    /// A directory's name without a path.
    DirName,
    /// Letters, digits, hyphens and dots; at most 255 of them.
    Hostname,
    /// Addresses to listen on, at most 16.
    Addresses,
    /// Pairs of seconds and changes.
    SavePoints,
    /// Output buffer limits of three classes of clients.
    OutputLimits,
    /// Letters of keyspace event classes.
    EventClasses,
    /// Numbers from 0 to 100.
    Percentiles,
    /// Three numbers from -2000 to 2000, not descending.
    OomScores,
    /// A host and a port, or `no one`.
    ReplicaOf,
}

/// A value, in the form its readers want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A flag.
    Flag(bool),
    /// A number: plain, of bytes, or octal.
    Int(i64),
    /// A text, or one of a set of words.
    Text(String),
    /// Several words.
    Words(Vec<String>),
    /// Save points.
    SavePoints(Vec<SavePoint>),
    /// Limits by class.
    OutputLimits([OutputLimit; 3]),
}

/// Save when `changes` writes are `seconds` old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Age in s.
    pub seconds: u64,
    /// Writes since the last save.
    pub changes: u64,
}

/// Classes of clients with output limits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputClass {
    /// Plain clients.
    Normal,
    /// Replicas of this node.
    Replica,
    /// Clients in a subscription.
    Pubsub,
}

const OUTPUT_CLASS_NAMES: [&str; 3] = ["normal", "slave", "pubsub"];

/// When a client is closed for what it does not read. Zero switches a limit off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes: closed at once.
    pub hard_bytes: u64,
    /// Bytes: closed after `soft_s` above it.
    pub soft_bytes: u64,
    /// Seconds.
    pub soft_s: u64,
}

const EVENT_LETTERS: &str = "Ag$lshzxeKEtmdn";

impl Kind {
    /// True when a file may give several words after the name; then one quoted string of them is the same.
    pub const fn takes_many(&self) -> bool {
        matches!(
            self,
            Self::Addresses
                | Self::SavePoints
                | Self::OutputLimits
                | Self::Percentiles
                | Self::OomScores
                | Self::ReplicaOf
                | Self::Choices(_)
        )
    }

    /// Reads the words that follow `name`. `current` is what partial values (output limits) change.
    ///
    /// # Errors
    /// Redis' text for what is wrong with them.
    pub fn read(&self, name: &str, words: &[String], current: &Value) -> Result<Value, String> {
        if self.takes_many() {
            return match words {
                [one] => {
                    let words = words::split_text(one).ok_or("Unbalanced quotes in configuration line")?;
                    self.read_many(&words, current)
                }
                many => self.read_many(many, current),
            };
        }
        match words {
            [one] => self.read_one(name, one),
            [] if matches!(self, Self::Switch) => Ok(Value::Flag(true)),
            _ => Err("wrong number of arguments".into()),
        }
    }

    fn read_one(&self, name: &str, word: &str) -> Result<Value, String> {
        match self {
            Self::Flag | Self::Switch => match word {
                _ if word.eq_ignore_ascii_case("yes") => Ok(Value::Flag(true)),
                _ if word.eq_ignore_ascii_case("no") => Ok(Value::Flag(false)),
                _ => Err("argument must be 'yes' or 'no'".into()),
            },
            Self::Int { min, max } => {
                let number = decimal(word).ok_or("argument couldn't be parsed into an integer")?;
                in_range(number, *min, *max)
            }
            Self::Octal => {
                let number = i64::from_str_radix(word, 8).ok();
                let number = number.ok_or("argument couldn't be parsed as an octal number")?;
                in_range(number, 0, 0o777)
            }
            Self::Memory { min } => {
                let bytes = memory(word).ok_or("argument must be a memory value")?;
                match i64::try_from(bytes) {
                    Ok(bytes) => in_range(bytes, *min, i64::MAX),
                    Err(_) => Err(out_of_range(*min, i64::MAX)),
                }
            }
            Self::MemoryOrPercent => {
                if let Some(percent) = word.strip_suffix('%') {
                    let percent = decimal(percent).filter(|percent| *percent >= 0);
                    let percent = percent.ok_or("argument must be a memory or percent value")?;
                    if percent > 100 {
                        return Err("percentage argument must be less or equal to 100".into());
                    }
                    return Ok(Value::Int(-percent));
                }
                let bytes = memory(word).ok_or("argument must be a memory or percent value")?;
                Ok(Value::Int(i64::try_from(bytes).unwrap_or(i64::MAX)))
            }
            Self::Choice(words) => match words.iter().find(|choice| choice.eq_ignore_ascii_case(word)) {
                Some(choice) => Ok(Value::Text((*choice).to_owned())),
                None => Err(not_among(words)),
            },
            Self::Text => Ok(Value::Text(word.to_owned())),
            Self::FileName | Self::DirName if word.is_empty() || word.contains('/') => {
                let what = if matches!(self, Self::FileName) { "filename" } else { "dirname" };
                Err(format!("{name} can't be a path, just a {what}"))
            }
            Self::FileName | Self::DirName => Ok(Value::Text(word.to_owned())),
            Self::Hostname => {
                if word.len() >= 256 {
                    return Err("Hostnames must be less than 256 characters".into());
                }
                if !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.') {
                    return Err("Hostnames may only contain alphanumeric characters, hyphens or dots".into());
                }
                Ok(Value::Text(word.to_owned()))
            }
            Self::EventClasses => {
                let wrong = || format!("Invalid event class character. Use '{EVENT_LETTERS}'.");
                if word.chars().any(|letter| !EVENT_LETTERS.contains(letter)) {
                    return Err(wrong());
                }
                Ok(Value::Text(canonical_event_classes(word)))
            }
            _ => unreachable!("kinds of many words are read by read_many"),
        }
    }

    fn read_many(&self, words: &[String], current: &Value) -> Result<Value, String> {
        match self {
            Self::Addresses => {
                if words.len() > 16 {
                    return Err("Too many bind addresses specified.".into());
                }
                Ok(Value::Words(words.iter().filter(|word| !word.is_empty()).cloned().collect()))
            }
            Self::Choices(known) => {
                let chosen = |choice: &str| words.iter().any(|word| word.eq_ignore_ascii_case(choice));
                let strange = |word: &String| !known.iter().any(|choice| choice.eq_ignore_ascii_case(word));
                if words.is_empty() || words.iter().any(strange) {
                    return Err(not_among(known));
                }
                let named: Vec<&str> = known[1..].iter().copied().filter(|choice| chosen(choice)).collect();
                Ok(Value::Text(if named.is_empty() { known[0].to_owned() } else { named.join(" ") }))
            }
            Self::SavePoints => save_points(words).ok_or_else(|| "Invalid save parameters".into()),
            Self::OutputLimits => output_limits(words, current),
            Self::Percentiles => {
                let mut shown = Vec::with_capacity(words.len());
                for word in words {
                    let number: f64 =
                        word.parse().map_err(|_| "Invalid latency-tracking-info-percentiles parameters")?;
                    if !(0.0..=100.0).contains(&number) {
                        return Err("latency-tracking-info-percentiles parameters should sit between \
                                    [0.0,100.0]"
                            .into());
                    }
                    shown.push(number.to_string());
                }
                Ok(Value::Words(shown))
            }
            Self::OomScores => {
                let [_, _, _] = words else { return Err("wrong number of arguments".into()) };
                let scores: Option<Vec<i64>> = words.iter().map(|word| decimal(word)).collect();
                let scores =
                    scores.filter(|scores| scores.iter().all(|score| (-2000..=2000).contains(score)));
                let scores =
                    scores.ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
                if !scores.is_sorted() {
                    return Err("oom-score-adj-values must be in ascending order".into());
                }
                Ok(Value::Words(words.to_vec()))
            }
            Self::ReplicaOf => {
                let [host, port] = words else { return Err("wrong number of arguments".into()) };
                if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
                    return Ok(Value::Words(Vec::new()));
                }
                if !matches!(decimal(port), Some(0..=65535)) {
                    return Err("Invalid master port".into());
                }
                Ok(Value::Words(words.to_vec()))
            }
            _ => unreachable!("only kinds that take many words come here"),
        }
    }

    /// The value as `CONFIG GET` shows it.
    pub fn show(&self, value: &Value) -> String {
        match value {
            Value::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Value::Int(percent) if matches!(self, Self::MemoryOrPercent) && *percent < 0 => {
                format!("{}%", -percent)
            }
            Value::Int(number) if matches!(self, Self::Octal) => format!("{number:o}"),
            Value::Int(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::Words(words) => words.join(" "),
            Value::SavePoints(points) => {
                let mut shown = String::new();
                for point in points {
                    let space = if shown.is_empty() { "" } else { " " };
                    let _ = write!(shown, "{space}{} {}", point.seconds, point.changes);
                }
                shown
            }
            Value::OutputLimits(limits) => {
                let shown = OUTPUT_CLASS_NAMES.iter().zip(limits);
                shown.map(|(name, limit)| limit_words(name, limit)).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// The value as lines of a file write it, without the name; `default` decides which classes are worth a
    /// line.
    pub fn file_lines(&self, value: &Value, default: &Value) -> Vec<String> {
        match value {
            Value::OutputLimits(limits) => {
                let Value::OutputLimits(defaults) = default else { return Vec::new() };
                let changed = (0..3).filter(|class| limits[*class] != defaults[*class]);
                let name = |class| ["normal", "replica", "pubsub"][class];
                changed.map(|class| limit_words(name(class), &limits[class])).collect()
            }
            Value::Text(text) if !matches!(self, Self::Choice(_) | Self::Choices(_)) => {
                vec![words::quoted(text.as_bytes())]
            }
            Value::Int(bytes) if matches!(self, Self::Memory { .. }) => vec![short_memory(*bytes)],
            Value::SavePoints(points) if points.is_empty() => vec!["\"\"".to_owned()],
            Value::Words(words) if words.is_empty() => vec!["\"\"".to_owned()],
            Value::Words(words) => {
                let plain = |word: &String| word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
                let word = |word| if plain(word) { word.clone() } else { words::quoted(word.as_bytes()) };
                vec![words.iter().map(word).collect::<Vec<_>>().join(" ")]
            }
            other => vec![self.show(other)],
        }
    }
}

fn limit_words(name: &str, limit: &OutputLimit) -> String {
    format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_s)
}

fn save_points(words: &[String]) -> Option<Value> {
    if words.is_empty() {
        return Some(Value::SavePoints(Vec::new()));
    }
    if !words.len().is_multiple_of(2) {
        return words.iter().all(String::is_empty).then(|| Value::SavePoints(Vec::new()));
    }
    let point = |pair: &[String]| {
        let seconds = decimal(&pair[0]).filter(|seconds| *seconds >= 1)? as u64;
        let changes = decimal(&pair[1]).filter(|changes| *changes >= 0)? as u64;
        Some(SavePoint { seconds, changes })
    };
    words.chunks(2).map(point).collect::<Option<Vec<_>>>().map(Value::SavePoints)
}

fn output_limits(words: &[String], current: &Value) -> Result<Value, String> {
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut limits = match current {
        Value::OutputLimits(limits) => *limits,
        _ => [OutputLimit::default(); 3],
    };
    for four in words.chunks(4) {
        let class = match four[0].to_ascii_lowercase().as_str() {
            "normal" => OutputClass::Normal,
            "slave" | "replica" => OutputClass::Replica,
            "pubsub" => OutputClass::Pubsub,
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        let soft_s = decimal(&four[3]).filter(|seconds| *seconds >= 0);
        let (Some(hard_bytes), Some(soft_bytes), Some(soft_s)) = (memory(&four[1]), memory(&four[2]), soft_s)
        else {
            return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.".into());
        };
        limits[class as usize] = OutputLimit { hard_bytes, soft_bytes, soft_s: soft_s as u64 };
    }
    Ok(Value::OutputLimits(limits))
}

fn not_among(words: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", words.join(", "))
}

fn in_range(number: i64, min: i64, max: i64) -> Result<Value, String> {
    if (min..=max).contains(&number) {
        return Ok(Value::Int(number));
    }
    Err(out_of_range(min, max))
}

fn out_of_range(min: i64, max: i64) -> String {
    format!("argument must be between {min} and {max} inclusive")
}

/// A number as Redis' strict reader takes it: no plus sign, no leading zero, no space.
fn decimal(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let strict = !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'))
        && word != "-0";
    if strict { word.parse().ok() } else { None }
}

/// Bytes: a number and a unit.
pub fn memory(word: &str) -> Option<u64> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let factor = match word[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1024,
        "m" => 1000 * 1000,
        "mb" => 1024 * 1024,
        "g" => 1000 * 1000 * 1000,
        "gb" => 1024 * 1024 * 1024,
        _ => return None,
    };
    if digits == 0 {
        return None;
    }
    // Too big is out of range, which says more than "no memory value".
    Some(word[..digits].parse::<u64>().unwrap_or(u64::MAX).saturating_mul(factor))
}

/// Bytes with the largest unit that divides them, as Redis rewrites its files.
fn short_memory(bytes: i64) -> String {
    for (unit, factor) in [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes != 0 && bytes % factor == 0 {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// `A` stands for all classes but key-miss (m) and new-key (n); where letters come out in Redis' order.
fn canonical_event_classes(letters: &str) -> String {
    const ALL: &str = "g$lshzxetd";
    let has = |letter: char| letters.contains(letter);
    let mut shown = String::new();
    if has('A') || ALL.chars().all(has) {
        shown.push('A');
    } else {
        shown.extend(ALL.chars().filter(|letter| has(*letter)));
    }
    shown.extend("KEmn".chars().filter(|letter| has(*letter)));
    shown
}
