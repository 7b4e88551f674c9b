//! Users of files: `user` lines of the configuration, and the file that `aclfile` names.

use std::fmt::Write as _;

use super::{Acl, AclDefaults, Changed, RuleError, User, UserId, check_spaces, merge_selectors};

/// What is wrong with a `user` line of the configuration, before the server starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Error in user declaration '{word}': {error}")]
pub struct FileError {
    word: String,
    error: RuleError,
}

/// Checks a `user` line of the configuration. Commands that do not exist are told when the users are made.
///
/// # Errors
/// The first word that is wrong; `known` are the names of the lines before it.
pub fn check_declaration(name: &str, rules: &[String], known: &[&str]) -> Result<(), FileError> {
    let wrong = |word: &str, error| FileError { word: word.to_owned(), error };
    if known.contains(&name) {
        return Err(wrong(name, RuleError::Duplicate));
    }
    let words: Vec<&[u8]> = rules.iter().map(String::as_bytes).collect();
    let merged = merge_selectors(&words).map_err(|open| wrong(&rules[open], RuleError::Syntax))?;
    let mut user = User::new(AclDefaults::default());
    for rule in merged {
        match user.apply(&rule, AclDefaults::default()) {
            Ok(()) | Err(RuleError::Unknown) => {}
            Err(error) => return Err(wrong(&String::from_utf8_lossy(&rule), error)),
        }
    }
    Ok(())
}

impl Acl {
    /// Makes the users of the configuration, `name rules...` each; gives lines for the log.
    ///
    /// # Errors
    /// A rule that is wrong, for the log: the server must not start.
    pub fn configure(&mut self, users: &[Vec<String>], defaults: AclDefaults) -> Result<Vec<String>, String> {
        let mut notes = Vec::new();
        for line in users {
            let [name, rules @ ..] = line.as_slice() else { continue };
            if check_spaces(name.as_bytes()).is_err() {
                return Err("Spaces not allowed in ACL usernames".to_owned());
            }
            let mut user = User::new(defaults);
            let words: Vec<&[u8]> = rules.iter().map(String::as_bytes).collect();
            for rule in merge_selectors(&words).unwrap_or_default() {
                user.apply(&rule, defaults).map_err(|error| {
                    let rule = String::from_utf8_lossy(&rule);
                    format!("Error loading ACL rule '{rule}' for the user named '{name}': {error}")
                })?;
            }
            if !user.is_enabled() {
                notes.push(format!(
                    "The user '{name}' is disabled (there is no 'on' modifier in the user description). Make sure this \
                     is not a configuration error."
                ));
            }
            let id = self.find(name.as_bytes()).unwrap_or_else(|| self.new_name(name.as_bytes()));
            self.put(id, user);
        }
        Ok(notes)
    }

    /// Puts the users of an ACL file in the place of those that there are; `path` is for error texts.
    ///
    /// # Errors
    /// All that is wrong with the text, in one line; nothing is changed then.
    pub fn load(&mut self, path: &str, text: &[u8], defaults: AclDefaults) -> Result<Changed, String> {
        let mut errors = String::new();
        let mut users: Vec<(Vec<u8>, User)> = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if !line.is_empty() {
                read_line(&mut users, &mut errors, (path, index + 1), line, defaults);
            }
        }
        if !errors.is_empty() {
            errors.push_str(
                "WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
            );
            return Err(errors);
        }
        let gone: Vec<UserId> = self.others.keys().copied().collect();
        self.others.clear();
        self.names.retain(|_, id| *id == UserId::DEFAULT);
        self.default = User::default_user();
        for (name, user) in users {
            let id = self.find(&name).unwrap_or_else(|| self.new_name(&name));
            self.put(id, user);
        }
        Ok(Changed { gone, fewer_channels: None })
    }

    /// The text of an ACL file with the users of now.
    pub fn file_text(&self) -> Vec<u8> {
        self.lines().iter().flat_map(|line| [b"user ", &line[..], b"\n"].concat()).collect()
    }
}

/// One line of an ACL file. Writing to a string cannot fail.
fn read_line(
    users: &mut Vec<(Vec<u8>, User)>,
    errors: &mut String,
    (path, number): (&str, usize),
    line: &[u8],
    defaults: AclDefaults,
) {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [b"user", name, rules @ ..] = words.as_slice() else {
        let _ = write!(errors, "{path}:{number} should start with user keyword followed by the username. ");
        return;
    };
    let shown = String::from_utf8_lossy(name);
    if check_spaces(name).is_err() {
        let _ = write!(errors, "'{path}:{number}: username '{shown}' contains invalid characters. ");
        return;
    }
    if users.iter().any(|(other, _)| other == name) {
        let _ = write!(errors, "WARNING: Duplicate user '{shown}' found on line {number}. ");
        return;
    }
    let mut user = User::new(defaults);
    let rules = merge_selectors(rules).unwrap_or_else(|_| {
        let _ = write!(errors, "{path}:{number}: Unmatched parenthesis in selector definition.");
        Vec::new()
    });
    let mut said_syntax = false;
    for rule in &rules {
        let rule = rule.trim_ascii();
        match user.apply(rule, defaults) {
            Ok(()) => {}
            Err(error @ RuleError::Unknown) => {
                let rule = String::from_utf8_lossy(rule);
                let _ = write!(errors, "{path}:{number}: Error in applying operation '{rule}': {error}. ");
            }
            Err(error) if !said_syntax => {
                said_syntax = true;
                let _ = write!(errors, "{path}:{number}: {error}. ");
            }
            Err(_) => {}
        }
    }
    users.push((name.to_vec(), user));
}
