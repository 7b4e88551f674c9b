//! JUnit XML: a test suite of runs for each server, one of canaries, one of numbers.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{again, name, number};
use crate::campaign::night::StoredNight;
use crate::campaign::outcome::{End, Outcome};
use crate::campaign::summary::Summary;

/// The file's text.
pub fn xml(night: &StoredNight, summary: &Summary) -> String {
    let mut suites: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for outcome in &night.outcomes {
        let suite = if outcome.task.canary { "canaries".to_owned() } else { outcome.task.cell.subject() };
        suites.entry(suite).or_default().push(Case::of_run(night, outcome));
    }
    for trend in &summary.trends {
        let text = format!(
            "median {} in {} runs, before: {}",
            number(trend.median),
            trend.runs,
            trend.medians_before.iter().map(|&median| number(median)).collect::<Vec<_>>().join(" ")
        );
        suites.entry("numbers".to_owned()).or_default().push(Case {
            name: format!("{} {}", trend.server, trend.measure.name()),
            seconds: 0.0,
            result: if trend.fails() { Result::Failure(text) } else { Result::Passed },
        });
    }
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let cases = || suites.values().flatten();
    let _ = writeln!(
        xml,
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.1}\">",
        escape(&summary.campaign),
        cases().count(),
        cases().filter(|case| matches!(case.result, Result::Failure(_))).count(),
        cases().filter(|case| matches!(case.result, Result::Error(_))).count(),
        cases().map(|case| case.seconds).sum::<f64>(),
    );
    for (suite, cases) in &suites {
        let count = |of: fn(&Result) -> bool| cases.iter().filter(|case| of(&case.result)).count();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            escape(suite),
            cases.len(),
            count(|result| matches!(result, Result::Failure(_))),
            count(|result| matches!(result, Result::Error(_))),
            count(|result| matches!(result, Result::Skipped(_))),
        );
        for case in cases {
            case.write(suite, &mut xml);
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

struct Case {
    name: String,
    seconds: f64,
    result: Result,
}

enum Result {
    Passed,
    Failure(String),
    Error(String),
    Skipped(String),
}

impl Case {
    fn of_run(night: &StoredNight, outcome: &Outcome) -> Self {
        let told = || format!("{}\n{}", outcome.reason, again(&night.path, outcome));
        let result = if outcome.task.canary {
            if outcome.end == End::Invalid {
                Result::Passed
            } else {
                Result::Failure(format!("the canary was {}: {}", outcome.end.word(), outcome.reason))
            }
        } else if let Some(why) = &outcome.starved {
            Result::Skipped(format!("starved: {why}"))
        } else {
            match outcome.end {
                End::Valid => Result::Passed,
                End::Invalid => Result::Failure(format!("{}\n{}", outcome.signatures.join(", "), told())),
                End::Unknown => Result::Skipped(outcome.reason.clone()),
                End::Broken | End::Hung => Result::Error(told()),
            }
        };
        Self {
            name: format!("{:06} {}", outcome.task.number, name(outcome)),
            seconds: outcome.took_s,
            result,
        }
    }

    fn write(&self, suite: &str, xml: &mut String) {
        let _ = write!(
            xml,
            "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.1}\"",
            escape(suite),
            escape(&self.name),
            self.seconds
        );
        let (tag, text) = match &self.result {
            Result::Passed => {
                xml.push_str("/>\n");
                return;
            }
            Result::Failure(text) => ("failure", text),
            Result::Error(text) => ("error", text),
            Result::Skipped(text) => ("skipped", text),
        };
        let first = text.lines().next().unwrap_or_default();
        let _ = writeln!(
            xml,
            ">\n      <{tag} message=\"{}\">{}</{tag}>\n    </testcase>",
            escape(first),
            escape(text)
        );
    }
}

/// For text and attributes; what XML 1.0 cannot hold at all is left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_does_not_break_the_file() {
        assert_eq!(escape("a <b> & \"c\"\u{0}\u{1b}[1m\n"), "a &lt;b&gt; &amp; &quot;c&quot;[1m\n");
    }
}
