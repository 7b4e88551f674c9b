//! What a fault can wait for, in words: `"2nd auth-ack from replica of slot 42"`, `"promotion of n4"`,
//! `"500 RESTORE-ASKING on migrate"`, `"full sync"`, `"end of first"`.

use std::fmt;
use std::str::FromStr;

use slotstorm_fabric::{MESSAGE_TYPES, Plane, message_type};

use crate::plan::Selector;

/// A moment, and which time it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// 1 is the first.
    pub nth: u64,
    pub what: Happening,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A message on the cluster bus.
    Message {
        kind: u16,
        from: Option<Selector>,
        to: Option<Selector>,
    },
    /// A node that was a replica says on the bus that it is a master with slots.
    Promotion {
        of: Option<Selector>,
    },
    /// A FAIL message about a node.
    Failure {
        of: Option<Selector>,
    },
    /// A currentEpoch on the bus that nobody had told before.
    Epoch,
    /// A command (any, without a word) on a plane.
    Command {
        word: Option<String>,
        plane: Plane,
        from: Option<Selector>,
        to: Option<Selector>,
    },
    /// The first byte of a full synchronisation, from a master to a replica.
    FullSync {
        from: Option<Selector>,
        to: Option<Selector>,
    },
    /// Another fault begins or ends.
    Start {
        of: String,
    },
    End {
        of: String,
    },
}

const FORMS: &str = "\"[Nth] MESSAGE [from WHOM] [to WHOM]\" (MESSAGE: ping, pong, meet, fail, auth-req, auth-ack, update, \
                     mfstart ...), \"[Nth] promotion [of WHOM]\", \"[Nth] failure [of WHOM]\", \"[Nth] epoch\", \"[Nth] \
                     full sync [from WHOM] [to WHOM]\", \"N COMMAND on PLANE [from WHOM] [to WHOM]\" (COMMAND: a word \
                     in capitals, or commands), \"start of NAME\" or \"end of NAME\"";

impl Trigger {
    /// The selectors that it names.
    pub fn selectors(&self) -> impl Iterator<Item = Selector> {
        let (one, other) = match &self.what {
            Happening::Message { from, to, .. }
            | Happening::Command { from, to, .. }
            | Happening::FullSync { from, to } => (*from, *to),
            Happening::Promotion { of } | Happening::Failure { of } => (*of, None),
            Happening::Epoch | Happening::Start { .. } | Happening::End { .. } => (None, None),
        };
        one.into_iter().chain(other)
    }
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("no such moment: \"{text}\"; expected {FORMS}");
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let mut nth = 1;
        if let Some(first) = words.first()
            && first.starts_with(|c: char| c.is_ascii_digit())
        {
            let digits = first.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            nth = digits.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
            words.remove(0);
        }
        let (to, rest) = after(&words, "to");
        let (from, rest) = after(rest, "from");
        let whom = |words: Option<&[&str]>| words.map(|words| words.join(" ").parse()).transpose();
        let (from, to): (Option<Selector>, Option<Selector>) = (whom(from)?, whom(to)?);
        let ends = from.is_some() || to.is_some();
        let what = match rest {
            ["start", "of", name @ ..] if !name.is_empty() && !ends => {
                Happening::Start { of: name.join(" ") }
            }
            ["end", "of", name @ ..] if !name.is_empty() && !ends => Happening::End { of: name.join(" ") },
            ["promotion"] if !ends => Happening::Promotion { of: None },
            ["promotion", "of", of @ ..] if !ends => Happening::Promotion { of: whom(Some(of))? },
            ["failure"] if !ends => Happening::Failure { of: None },
            ["failure", "of", of @ ..] if !ends => Happening::Failure { of: whom(Some(of))? },
            ["epoch"] if !ends => Happening::Epoch,
            ["full", "sync"] => Happening::FullSync { from, to },
            [word, "on", plane] => {
                let plane = Plane::ALL.into_iter().find(|it| it.name() == *plane && *it != Plane::Bus);
                let plane = plane.ok_or_else(|| {
                    format!("commands pass on replication, migrate and client, not on \"{}\"", rest[2])
                })?;
                let any = matches!(*word, "command" | "commands");
                if !any && word.chars().any(|c| c.is_ascii_lowercase()) {
                    return Err(bad());
                }
                Happening::Command { word: (!any).then(|| (*word).to_owned()), plane, from, to }
            }
            [kind] => Happening::Message { kind: message_type(kind).ok_or_else(bad)?, from, to },
            _ => return Err(bad()),
        };
        Ok(Self { nth, what })
    }
}

/// The words behind the last `mark`, and those before it.
fn after<'w>(words: &'w [&'w str], mark: &str) -> (Option<&'w [&'w str]>, &'w [&'w str]) {
    match words.iter().rposition(|word| *word == mark) {
        Some(at) => (Some(&words[at + 1..]), &words[..at]),
        None => (None, words),
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nth > 1 || matches!(self.what, Happening::Command { .. }) {
            let ordinal = match (&self.what, self.nth) {
                (Happening::Command { .. }, _) => "",
                (_, 2) => "nd",
                (_, 3) => "rd",
                _ => "th",
            };
            write!(f, "{}{ordinal} ", self.nth)?;
        }
        let (mut senders, mut receivers) = (&None, &None);
        match &self.what {
            Happening::Message { kind, from, to } => {
                f.write_str(MESSAGE_TYPES[usize::from(*kind)])?;
                (senders, receivers) = (from, to);
            }
            Happening::Promotion { of } => {
                f.write_str("promotion")?;
                if let Some(of) = of {
                    write!(f, " of {of}")?;
                }
            }
            Happening::Failure { of } => {
                f.write_str("failure")?;
                if let Some(of) = of {
                    write!(f, " of {of}")?;
                }
            }
            Happening::Epoch => f.write_str("epoch")?,
            Happening::Command { word, plane, from, to } => {
                write!(f, "{} on {}", word.as_deref().unwrap_or("commands"), plane.name())?;
                (senders, receivers) = (from, to);
            }
            Happening::FullSync { from, to } => {
                f.write_str("full sync")?;
                (senders, receivers) = (from, to);
            }
            Happening::Start { of } => write!(f, "start of {of}")?,
            Happening::End { of } => write!(f, "end of {of}")?,
        }
        if let Some(from) = senders {
            write!(f, " from {from}")?;
        }
        if let Some(to) = receivers {
            write!(f, " to {to}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_itself() {
        for text in [
            "auth-ack",
            "2nd auth-ack from random replica to master of slot 42",
            "promotion",
            "3rd promotion of node n4",
            "failure of master of slot 0",
            "epoch",
            "4th epoch",
            "full sync",
            "full sync from node n1 to node n4",
            "500 RESTORE-ASKING on migrate",
            "1000 commands on client to master of slot 7",
            "start of the first kill",
            "end of cut",
        ] {
            let trigger: Trigger = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(trigger.to_string(), text);
        }
    }

    #[test]
    fn a_wrong_moment_says_what_is_possible() {
        let error = |text: &str| text.parse::<Trigger>().unwrap_err();
        assert!(error("autumn").contains("auth-ack"));
        assert!(error("0 epoch").contains("expected"));
        assert!(error("5 SET on bus").contains("replication, migrate and client"));
        assert!(error("auth-ack from the boss").contains("random master"));
        assert!(error("start of").contains("start of NAME"));
    }
}
