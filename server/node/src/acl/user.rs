//! A user: whether it may log in and with which passwords, and what it may do then.

use sha2::{Digest, Sha256};

use super::selector::{Denied, KeyCache, Selector};
use super::{AclDefaults, RuleError};
use crate::command::Spec;
use crate::command::catalog::catalog;
use crate::resp::Args;
use crate::words;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(super) enabled: bool,
    pub(super) nopass: bool,
    /// `sanitize-payload` or `skip-sanitize-payload`, if one of them was said.
    sanitizes: Option<bool>,
    /// SHA-256 sums in hexadecimal.
    passwords: Vec<String>,
    /// The root selector, then others.
    selectors: Vec<Selector>,
    /// Nothing needs to be checked: kept up to date by every rule.
    unrestricted: bool,
}

impl User {
    /// As ACL SETUSER without rules makes it: off, and permitted nothing.
    pub fn new(defaults: AclDefaults) -> Self {
        Self {
            enabled: false,
            nopass: false,
            sanitizes: None,
            passwords: Vec::new(),
            selectors: vec![Selector::new(defaults.all_channels)],
            unrestricted: false,
        }
    }

    /// The default user of a server that says nothing of users.
    pub fn default_user() -> Self {
        let mut user = Self::new(AclDefaults::default());
        for rule in ["+@all", "~*", "&*", "on", "nopass"] {
            let applied = user.apply(rule.as_bytes(), AclDefaults::default());
            debug_assert!(applied.is_ok());
        }
        user
    }

    /// True if it may do everything.
    pub const fn is_unrestricted(&self) -> bool {
        self.unrestricted
    }

    /// False for a user that is off.
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// True if any password is right.
    pub const fn needs_no_password(&self) -> bool {
        self.nopass
    }

    /// Applies one rule.
    ///
    /// # Errors
    /// It is wrong; nothing is changed then.
    pub fn apply(&mut self, rule: &[u8], defaults: AclDefaults) -> Result<(), RuleError> {
        let applied = self.apply_rule(rule, defaults);
        self.unrestricted = self.selectors[0].is_unrestricted();
        applied
    }

    fn apply_rule(&mut self, rule: &[u8], defaults: AclDefaults) -> Result<(), RuleError> {
        match rule {
            [] => {}
            [b'>', password @ ..] => self.add_password(hashed(password)),
            [b'#', hash @ ..] => self.add_password(checked_hash(hash)?),
            [b'<', password @ ..] => self.remove_password(&hashed(password))?,
            [b'!', hash @ ..] => self.remove_password(&checked_hash(hash)?)?,
            [b'(', inner @ .., b')'] => {
                let mut selector = Selector::new(defaults.all_channels);
                // Words that quotes do not close count as none, as in Redis.
                for word in words::split(inner).unwrap_or_default() {
                    selector.apply(&word)?;
                }
                self.selectors.push(selector);
            }
            _ => match &rule.to_ascii_lowercase()[..] {
                b"on" => self.enabled = true,
                b"off" => self.enabled = false,
                b"skip-sanitize-payload" => self.sanitizes = Some(false),
                b"sanitize-payload" => self.sanitizes = Some(true),
                b"nopass" => {
                    self.nopass = true;
                    self.passwords.clear();
                }
                b"resetpass" => {
                    self.nopass = false;
                    self.passwords.clear();
                }
                b"clearselectors" => self.selectors.truncate(1),
                b"reset" => {
                    *self = Self { sanitizes: Some(true), ..Self::new(defaults) };
                }
                _ => self.selectors[0].apply(rule)?,
            },
        }
        Ok(())
    }

    fn add_password(&mut self, hash: String) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.nopass = false;
    }

    fn remove_password(&mut self, hash: &str) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|other| other == hash).ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(at);
        Ok(())
    }

    /// May it log in with this password?
    pub fn accepts(&self, password: &[u8]) -> bool {
        if !self.enabled {
            return false;
        }
        let hash = hashed(password);
        // All of a sum is compared whatever differs first, so that time tells nothing.
        let same = |other: &String| {
            other.bytes().zip(hash.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
        };
        self.nopass || self.passwords.iter().any(same)
    }

    /// May it call this? Of several refusals the one is told that came furthest.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, spec: &Spec, args: Args<'_>) -> Result<(), Denied> {
        if self.unrestricted {
            return Ok(());
        }
        let Some((index, entry)) = catalog().entry(spec) else { return Err(Denied::Command) };
        let mut cache = KeyCache::default();
        let mut worst = Denied::Command;
        for selector in &self.selectors {
            match selector.check(index, entry, args, &mut cache) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// May it call this and read every key there is (`SORT` with `BY` or `GET`)?
    pub fn may_read_all_keys(&self, spec: &Spec, args: Args<'_>) -> bool {
        let Some((index, entry)) = catalog().entry(spec) else { return false };
        let mut cache = KeyCache::default();
        self.selectors.iter().any(|selector| {
            selector.check(index, entry, args, &mut cache).is_ok() && selector.reads_all_keys()
        })
    }

    /// The channel patterns of all selectors; `None` for all channels.
    pub(super) fn channels(&self) -> Option<Vec<Vec<u8>>> {
        if self.selectors.iter().any(|selector| selector.all_channels) {
            return None;
        }
        Some(self.selectors.iter().flat_map(|selector| selector.channels.iter().cloned()).collect())
    }

    /// Its flags, as ACL GETUSER shows them.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        match self.sanitizes {
            Some(true) => flags.push("sanitize-payload"),
            Some(false) => flags.push("skip-sanitize-payload"),
            None => {}
        }
        flags
    }

    /// SHA-256 sums in hexadecimal.
    pub fn passwords(&self) -> &[String] {
        &self.passwords
    }

    /// Commands, keys and channels of each selector, as ACL GETUSER shows them.
    pub fn selectors(&self) -> impl ExactSizeIterator<Item = [Vec<u8>; 3]> {
        self.selectors.iter().map(|selector| {
            let keys = if selector.all_keys {
                b"~*".to_vec()
            } else {
                let rules: Vec<_> = selector.keys.iter().map(super::selector::KeyPattern::rule).collect();
                rules.join(&b' ')
            };
            let rule = |channel: &Vec<u8>| [b"&", &channel[..]].concat();
            let channels = if selector.all_channels {
                b"&*".to_vec()
            } else {
                selector.channels.iter().map(rule).collect::<Vec<_>>().join(&b' ')
            };
            [super::describe::command_rules(selector), keys, channels]
        })
    }

    /// The rules that make it.
    pub fn describe(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = self.flags().iter().map(|flag| flag.as_bytes().to_vec()).collect();
        words.extend(self.passwords.iter().map(|hash| [b"#", hash.as_bytes()].concat()));
        for (index, selector) in self.selectors.iter().enumerate() {
            let rules = selector.describe();
            words.push(if index == 0 { rules } else { [b"(", &rules[..], b")"].concat() });
        }
        words.join(&b' ')
    }
}

fn hashed(password: &[u8]) -> String {
    crate::command::hex(&Sha256::digest(password))
}

fn checked_hash(hash: &[u8]) -> Result<String, RuleError> {
    let fits = hash.len() == 64 && hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if fits { Ok(String::from_utf8_lossy(hash).into_owned()) } else { Err(RuleError::BadHash) }
}
