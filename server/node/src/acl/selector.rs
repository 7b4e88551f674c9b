//! A selector: which commands may be called with which keys and channels. A user has a root selector and perhaps more;
//! one of them that permits a call is enough.

use std::collections::BTreeMap;

use super::RuleError;
use super::bits::CommandBits;
use super::describe;
use crate::command::Spec;
use crate::command::catalog::{Entry, KeyFlags, KeyRef, catalog, category, channels_of, keys_of};
use crate::command::flag;
use crate::config::glob_matches;
use crate::resp::Args;

/// Keys of a pattern, and what may be done to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPattern {
    pub pattern: Vec<u8>,
    pub reads: bool,
    pub writes: bool,
}

impl KeyPattern {
    /// As a rule says it.
    pub fn rule(&self) -> Vec<u8> {
        let prefix: &[u8] = match (self.reads, self.writes) {
            (true, false) => b"%R~",
            (false, true) => b"%W~",
            _ => b"~",
        };
        [prefix, &self.pattern].concat()
    }
}

/// Why a call is refused; keys and channels by their argument's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    Command,
    Key(usize),
    Channel(usize),
}

/// A selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    pub all_keys: bool,
    pub all_channels: bool,
    /// Set by `+@all`, until one command is taken away.
    pub all_commands: bool,
    pub commands: CommandBits,
    /// First arguments that are permitted of commands that are not, by the command's number.
    pub first_args: BTreeMap<usize, Vec<Vec<u8>>>,
    pub keys: Vec<KeyPattern>,
    pub channels: Vec<Vec<u8>>,
}

/// The keys of a call, sought when the first selector wants them.
#[derive(Debug, Default)]
pub(super) struct KeyCache(Option<Vec<KeyRef>>);

impl Selector {
    /// Permits nothing, but perhaps all channels (`acl-pubsub-default`).
    pub fn new(all_channels: bool) -> Self {
        Self {
            all_keys: false,
            all_channels,
            all_commands: false,
            commands: CommandBits::none(),
            first_args: BTreeMap::new(),
            keys: Vec::new(),
            channels: Vec::new(),
        }
    }

    /// True if nothing needs to be checked.
    pub const fn is_unrestricted(&self) -> bool {
        self.all_keys && self.all_channels && self.all_commands
    }

    /// Applies one rule.
    ///
    /// # Errors
    /// It is wrong; nothing is changed then.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            _ if is("allkeys") || rule == b"~*" => {
                self.all_keys = true;
                self.keys.clear();
            }
            _ if is("resetkeys") => {
                self.all_keys = false;
                self.keys.clear();
            }
            _ if is("allchannels") || rule == b"&*" => {
                self.all_channels = true;
                self.channels.clear();
            }
            _ if is("resetchannels") => {
                self.all_channels = false;
                self.channels.clear();
            }
            _ if is("allcommands") || is("+@all") => {
                self.commands = CommandBits::all();
                self.all_commands = true;
                self.first_args.clear();
            }
            _ if is("nocommands") || is("-@all") => {
                self.commands = CommandBits::none();
                self.all_commands = false;
                self.first_args.clear();
            }
            [b'~' | b'%', ..] => self.add_keys(rule)?,
            [b'&', channel @ ..] => {
                if self.all_channels {
                    return Err(RuleError::AfterAllChannels);
                }
                super::check_spaces(channel).map_err(|()| RuleError::Syntax)?;
                if !self.channels.iter().any(|other| other == channel) {
                    self.channels.push(channel.to_vec());
                }
            }
            [sign @ (b'+' | b'-'), b'@', name @ ..] => {
                let category = category(name).ok_or(RuleError::Unknown)?;
                self.set_category(category, *sign == b'+');
            }
            [b'+', name @ ..] => self.allow(name)?,
            [b'-', name @ ..] => {
                let index = catalog().find(name).ok_or(RuleError::Unknown)?;
                self.set_command(index, false);
            }
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    fn add_keys(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        let (reads, writes, pattern) = match rule {
            [b'%', rest @ ..] => {
                let end = rest.iter().position(|byte| *byte == b'~').unwrap_or(rest.len());
                let (rights, pattern) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
                let count =
                    |right: u8| rights.iter().filter(|byte| byte.to_ascii_uppercase() == right).count();
                let (reads, writes) = (count(b'R'), count(b'W'));
                if rights.is_empty() || reads > 1 || writes > 1 || reads + writes < rights.len() {
                    return Err(RuleError::Syntax);
                }
                (reads > 0, writes > 0, pattern)
            }
            _ => (true, true, &rule[1..]),
        };
        super::check_spaces(pattern).map_err(|()| RuleError::Syntax)?;
        match self.keys.iter_mut().find(|other| other.pattern == pattern) {
            Some(known) => {
                known.reads |= reads;
                known.writes |= writes;
            }
            None => self.keys.push(KeyPattern { pattern: pattern.to_vec(), reads, writes }),
        }
        Ok(())
    }

    /// `+name`, `+container|name`, `+name|first-argument`.
    fn allow(&mut self, name: &[u8]) -> Result<(), RuleError> {
        let catalog = catalog();
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            let index = catalog.find(name).ok_or(RuleError::Unknown)?;
            self.set_command(index, true);
            return Ok(());
        };
        let (command, first) = (&name[..bar], &name[bar + 1..]);
        let index = catalog.find(command).ok_or(RuleError::Unknown)?;
        if catalog.entries()[index].parent.is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if first.is_empty() {
            return Err(RuleError::Syntax);
        }
        if !catalog.subcommands(index).is_empty() {
            let index = catalog.find(name).ok_or(RuleError::Unknown)?;
            self.set_command(index, true);
            return Ok(());
        }
        let known = self.first_args.entry(index).or_default();
        if !known.iter().any(|other| other.eq_ignore_ascii_case(first)) {
            known.push(first.to_vec());
        }
        Ok(())
    }

    /// A command and all its sub-commands.
    pub fn set_command(&mut self, index: usize, permitted: bool) {
        self.commands.set(index, permitted);
        self.first_args.remove(&index);
        for sub in catalog().subcommands(index) {
            self.commands.set(sub, permitted);
        }
        self.all_commands &= permitted;
    }

    pub fn set_category(&mut self, category: u32, permitted: bool) {
        for (index, entry) in catalog().entries().iter().enumerate() {
            if entry.categories & category != 0 {
                self.set_command(index, permitted);
            }
        }
    }

    /// May this be called?
    pub fn check(
        &self,
        index: usize,
        entry: &Entry,
        args: Args<'_>,
        cache: &mut KeyCache,
    ) -> Result<(), Denied> {
        if !self.permits_command(index, &entry.spec, args) {
            return Err(Denied::Command);
        }
        if !self.all_keys && entry.may_have_keys() {
            let keys = cache.0.get_or_insert_with(|| keys_of(entry, args));
            let refused = keys.iter().find(|key| !self.permits_key(&args[key.at], key.flags));
            if let Some(key) = refused {
                return Err(Denied::Key(key.at));
            }
        }
        if !self.all_channels
            && let Some((mut places, is_pattern)) = channels_of(entry.spec.name, args)
            && let Some(at) = places.find(|&at| !permits_channel(&self.channels, &args[at], is_pattern))
        {
            return Err(Denied::Channel(at));
        }
        Ok(())
    }

    fn permits_command(&self, index: usize, spec: &Spec, args: Args<'_>) -> bool {
        self.all_commands
            || spec.has(flag::NO_AUTH)
            || self.commands.has(index)
            || self.first_args.get(&index).is_some_and(|permitted| {
                let first = args.get(1);
                first.is_some_and(|first| permitted.iter().any(|other| other.eq_ignore_ascii_case(first)))
            })
    }

    fn permits_key(&self, key: &[u8], flags: KeyFlags) -> bool {
        let (reads, writes) = (flags.has(KeyFlags::ACCESS), flags.changes());
        self.all_keys
            || self.keys.iter().any(|pattern| {
                (pattern.reads || !reads)
                    && (pattern.writes || !writes)
                    && glob_matches(&pattern.pattern, key, false)
            })
    }

    /// May every key be read?
    pub fn reads_all_keys(&self) -> bool {
        self.all_keys || self.keys.iter().any(|pattern| pattern.reads && pattern.pattern == b"*")
    }

    /// All rules of it, in Redis' order.
    pub fn describe(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        if self.all_keys {
            words.push(b"~*".to_vec());
        }
        words.extend(self.keys.iter().map(KeyPattern::rule));
        words.push(if self.all_channels { b"&*".to_vec() } else { b"resetchannels".to_vec() });
        words.extend(self.channels.iter().map(|channel| [b"&", &channel[..]].concat()));
        words.push(describe::command_rules(self));
        words.join(&b' ')
    }
}

/// True if one of the patterns lets this channel pass; a pattern to listen to must be among them literally.
pub(super) fn permits_channel(patterns: &[Vec<u8>], channel: &[u8], is_pattern: bool) -> bool {
    patterns.iter().any(
        |pattern| {
            if is_pattern { pattern == channel } else { glob_matches(pattern, channel, false) }
        },
    )
}
