//! Storm files: a run as TOML. Every word is optional; what is absent comes from the command line or the
//! defaults. The same format is written out with every word filled in (`repro.toml`), which is all that a
//! replay needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slotstorm_checker::record::Expect;

use super::fault::Fault;

/// A storm file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StormFile {
    /// Version of this format; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
    /// What a replay of a finding shows again: the signature of the check that fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Of all events of the simulated run that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// A bug that every embedded node is given on purpose; needs a build with the feature `zoo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Makes the schedule, if the file has no `[[fault]]` of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sut: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masters: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_timeout_ms: Option<u64>,
    /// Load and storm together, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u16>,
    /// Operations per second of all clients together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_outage_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_availability_pct: Option<f64>,
    /// The seed draws which of the preset's kinds there are at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<bool>,
    /// What must have happened, else the verdict is unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<String>,
    /// Directives for every node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Directive>,
    /// The schedule. An empty list written out (`fault = []`) is a schedule without faults.
    #[serde(default, rename = "fault", skip_serializing_if = "Option::is_none")]
    pub faults: Option<Vec<Fault>>,
}

/// A directive's value: text, or what TOML has for yes, no and numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Directive {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl Directive {
    /// As it stands in redis.conf.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Flag(true) => "yes".into(),
            Self::Flag(false) => "no".into(),
        }
    }
}

/// A storm file that cannot be used, with the place and what was expected.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct BadStorm {
    pub origin: String,
    pub message: String,
}

impl StormFile {
    /// Reads a storm file's text; `origin` (its path) names it in errors.
    pub fn parse(origin: &str, text: &str) -> Result<Self, BadStorm> {
        toml::from_str(text)
            .map_err(|error| BadStorm { origin: origin.into(), message: error.to_string().trim_end().into() })
    }

    /// The file's text under a comment that says what it is.
    pub fn to_toml(&self, comment: &str) -> String {
        let mut text = String::new();
        for line in comment.lines() {
            text.push_str("# ");
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&toml::to_string(self).expect("a storm file has only string keys and finite numbers"));
        text
    }
}
