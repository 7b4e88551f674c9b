//! Access control: users, and what each of them may call, with which keys and channels (redis.io "ACL").
//!
//! [`Acl`] has the users; a client has a [`UserId`]. A check of a user that may do everything is one test of a flag.
//! Rules are Redis' own text: [`Acl::set_user`] reads them, [`User::describe`] writes them, in the form of 7.0.

mod bits;
mod describe;
mod file;
mod log;
mod secrets;
mod selector;
#[cfg(test)]
mod tests;
mod user;

use std::collections::BTreeMap;

pub use file::{FileError, check_declaration};
pub use log::{AclLog, Refusal};
pub use secrets::Secrets;
pub use selector::Denied;
pub use user::User;

use selector::permits_channel;

/// The name of a user within a node; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(u64);

impl UserId {
    /// The default user, which is always there.
    pub const DEFAULT: Self = Self(0);
}

/// What new users may without being told so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AclDefaults {
    /// `acl-pubsub-default allchannels`.
    pub all_channels: bool,
}

/// Why a rule is refused, in Redis' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("Syntax error")]
    Syntax,
    #[error("Unknown command or category name in ACL")]
    Unknown,
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
         'resetkeys' to start with an empty list of patterns"
    )]
    AfterAllKeys,
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. \
         Try 'resetchannels' to start with an empty list of channels"
    )]
    AfterAllChannels,
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    BadHash,
    #[error("Duplicate user found. A user can only be defined once in config files")]
    Duplicate,
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgOfSubcommand,
}

/// Which users changed how, so that their clients can be dealt with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Users that are gone: their clients go too.
    pub gone: Vec<UserId>,
    /// A user that lost channels, and the patterns that it still has: its listeners to others go.
    pub fewer_channels: Option<(UserId, Vec<Vec<u8>>)>,
}

/// The users of a node.
#[derive(Debug)]
pub struct Acl {
    names: BTreeMap<Vec<u8>, UserId>,
    default: User,
    others: BTreeMap<UserId, User>,
    last_id: u64,
    /// What was refused.
    pub log: AclLog,
}

impl Default for Acl {
    fn default() -> Self {
        Self {
            names: BTreeMap::from([(b"default".to_vec(), UserId::DEFAULT)]),
            default: User::default_user(),
            others: BTreeMap::new(),
            last_id: 0,
            log: AclLog::default(),
        }
    }
}

impl Acl {
    /// True if this user may do everything.
    #[inline]
    pub fn is_unrestricted(&self, id: UserId) -> bool {
        if id == UserId::DEFAULT {
            self.default.is_unrestricted()
        } else {
            self.user(id).is_some_and(User::is_unrestricted)
        }
    }

    /// The default user.
    pub const fn default_user(&self) -> &User {
        &self.default
    }

    /// True if who has not logged in may do what the default user may.
    pub const fn is_open(&self) -> bool {
        self.default.needs_no_password() && self.default.is_enabled()
    }

    /// A user; none if it is gone.
    pub fn user(&self, id: UserId) -> Option<&User> {
        if id == UserId::DEFAULT { Some(&self.default) } else { self.others.get(&id) }
    }

    /// The user of a name.
    pub fn find(&self, name: &[u8]) -> Option<UserId> {
        self.names.get(name).copied()
    }

    /// The name of a user; empty if it is gone.
    pub fn name(&self, id: UserId) -> &[u8] {
        self.names.iter().find(|(_, other)| **other == id).map_or(b"", |(name, _)| name)
    }

    /// All users with their names, in the order of names.
    pub fn users(&self) -> impl ExactSizeIterator<Item = (&[u8], &User)> {
        self.names.iter().map(|(name, id)| (&name[..], self.user(*id).unwrap_or(&self.default)))
    }

    /// May this user call this?
    ///
    /// # Errors
    /// It may not.
    pub fn check(
        &self,
        id: UserId,
        spec: &crate::command::Spec,
        args: crate::resp::Args<'_>,
    ) -> Result<(), Denied> {
        self.user(id).map_or(Err(Denied::Command), |user| user.check(spec, args))
    }

    /// The user that may log in with this name and password.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<UserId> {
        let id = self.find(name)?;
        self.user(id)?.accepts(password).then_some(id)
    }

    /// Makes or changes a user: all rules apply, or none.
    ///
    /// # Errors
    /// The first rule that is wrong, as ACL SETUSER answers it (without `ERR`).
    pub fn set_user(
        &mut self,
        name: &[u8],
        rules: &[&[u8]],
        defaults: AclDefaults,
    ) -> Result<Changed, String> {
        let rules = merge_selectors(rules).map_err(|open| {
            let open = String::from_utf8_lossy(rules[open]).into_owned();
            format!("Unmatched parenthesis in acl selector starting at '{open}'.")
        })?;
        let id = self.find(name);
        let old = id.and_then(|id| self.user(id)).cloned();
        let mut user = old.clone().unwrap_or_else(|| User::new(defaults));
        for rule in &rules {
            user.apply(rule, defaults).map_err(|error| {
                format!("Error in ACL SETUSER modifier '{}': {error}", String::from_utf8_lossy(rule))
            })?;
        }
        let mut changed = Changed::default();
        if let (Some(id), Some(old)) = (id, &old) {
            changed.fewer_channels = lost_channels(old, &user).map(|left| (id, left));
        }
        let id = id.unwrap_or_else(|| self.new_name(name));
        self.put(id, user);
        Ok(changed)
    }

    /// Applies one rule to the default user (`requirepass`).
    pub fn change_default(&mut self, rules: &[&[u8]]) {
        for rule in rules {
            // Passwords and their absence are never wrong.
            let applied = self.default.apply(rule, AclDefaults::default());
            debug_assert!(applied.is_ok());
        }
    }

    /// Removes a user; the default user stays.
    pub fn remove(&mut self, name: &[u8]) -> Option<UserId> {
        let id = self.find(name).filter(|id| *id != UserId::DEFAULT)?;
        self.names.remove(name);
        self.others.remove(&id);
        Some(id)
    }

    fn new_name(&mut self, name: &[u8]) -> UserId {
        self.last_id += 1;
        let id = UserId(self.last_id);
        self.names.insert(name.to_vec(), id);
        id
    }

    fn put(&mut self, id: UserId, user: User) {
        if id == UserId::DEFAULT {
            self.default = user;
        } else {
            self.others.insert(id, user);
        }
    }

    /// The line of a user without the word `user`, for files and ACL LIST.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        self.users().map(|(name, user)| [name, b" ", &user.describe()].concat()).collect()
    }
}

/// True if a listener with these patterns left may listen to this channel or pattern.
pub fn may_listen(patterns: &[Vec<u8>], channel: &[u8], is_pattern: bool) -> bool {
    permits_channel(patterns, channel, is_pattern)
}

/// The patterns that are left, if the user has lost some.
fn lost_channels(old: &User, new: &User) -> Option<Vec<Vec<u8>>> {
    let left = new.channels()?;
    let kept_all = old.channels().is_some_and(|before| before.iter().all(|channel| left.contains(channel)));
    if kept_all { None } else { Some(left) }
}

/// Words without spaces and NULs only: names and patterns are split at spaces when a file is read.
pub(crate) fn check_spaces(word: &[u8]) -> Result<(), ()> {
    let splits = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b);
    if word.iter().any(splits) { Err(()) } else { Ok(()) }
}

/// Puts a selector that was given as several words together: `(+get ~a)` may come as `(+get` and `~a)`.
///
/// # Errors
/// The place of a word whose parenthesis is not closed.
fn merge_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut merged: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (at, word) in words.iter().enumerate() {
        if word.first() == Some(&b'(') && word.last() != Some(&b')') {
            open = Some((at, word.to_vec()));
            continue;
        }
        match &mut open {
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
                if word.last() == Some(&b')') {
                    merged.extend(open.take().map(|(_, selector)| selector));
                }
            }
            None => merged.push(word.to_vec()),
        }
    }
    match open {
        Some((at, _)) => Err(at),
        None => Ok(merged),
    }
}
