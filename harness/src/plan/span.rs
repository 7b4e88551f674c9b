//! Lengths of time in storm files: seconds, or multiples of the cluster's node timeout, so that a schedule
//! keeps its meaning when the timeout changes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use slotstorm_checker::record::Nanos;

/// A length of time as written in a storm file: `2.5` (seconds), `"500 ms"`, `"2 s"` or `"2.5 NT"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// Seconds.
    Secs(f64),
    /// Multiples of cluster-node-timeout.
    NodeTimeouts(f64),
}

impl Span {
    /// The longest span that is accepted, in seconds: a day.
    const MAX_SECS: f64 = 86_400.0;

    /// Seconds under this node timeout.
    pub fn secs(self, node_timeout_ms: u64) -> f64 {
        match self {
            Self::Secs(s) => s,
            Self::NodeTimeouts(n) => n * node_timeout_ms as f64 / 1000.0,
        }
    }

    /// Nanoseconds under this node timeout.
    pub fn nanos(self, node_timeout_ms: u64) -> Nanos {
        secs_to_nanos(self.secs(node_timeout_ms))
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let expected =
            || format!("expected a time such as 2.5, \"500 ms\", \"2 s\" or \"2.5 NT\", not \"{text}\"");
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let number: f64 = text[..split].trim().parse().map_err(|_| expected())?;
        let span = match text[split..].trim() {
            "" | "s" => Self::Secs(number),
            "ms" => Self::Secs(number / 1000.0),
            "NT" | "nt" => Self::NodeTimeouts(number),
            _ => return Err(expected()),
        };
        span.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let (Self::Secs(n) | Self::NodeTimeouts(n)) = self;
        if n.is_finite() && (0.0..=Self::MAX_SECS).contains(&n) {
            Ok(self)
        } else {
            Err(format!("a time must lie between 0 and {} s, not {n}", Self::MAX_SECS))
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secs(s) => write!(f, "{s} s"),
            Self::NodeTimeouts(n) => write!(f, "{n} NT"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Secs(s) => serializer.serialize_f64(*s),
            Self::NodeTimeouts(n) => serializer.serialize_str(&format!("{n} NT")),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds, or a time such as \"500 ms\", \"2 s\" or \"2.5 NT\"")
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Span, E> {
                Span::Secs(v).checked().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Span, E> {
                self.visit_f64(v as f64)
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Span, E> {
                self.visit_f64(v as f64)
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Span, E> {
                Span::parse(v).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Seconds to nanoseconds, rounded.
pub fn secs_to_nanos(secs: f64) -> Nanos {
    (secs * 1e9).round() as Nanos
}

/// Nanoseconds to seconds.
pub fn nanos_to_secs(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_write_a_span() {
        assert_eq!(Span::parse("2.5 NT").unwrap().nanos(2000), 5_000_000_000);
        assert_eq!(Span::parse("3NT").unwrap().nanos(500), 1_500_000_000);
        assert_eq!(Span::parse("250 ms").unwrap().nanos(2000), 250_000_000);
        assert_eq!(Span::parse("4 s").unwrap(), Span::Secs(4.0));
        assert_eq!(Span::parse("0.5").unwrap(), Span::Secs(0.5));
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for bad in ["", "NT", "-1", "1 hour", "1e400", "nan"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
        assert!(Span::parse("2 parsecs").unwrap_err().contains("\"2.5 NT\""));
    }
}
