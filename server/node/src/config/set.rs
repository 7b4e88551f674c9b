//! `CONFIG SET`: several pairs, all or none.

use super::table::{IMMUTABLE, Key, PROTECTED};
use super::{Config, Value};

/// Why `CONFIG SET` changed nothing; the text is Redis' reply without its `ERR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No such directive.
    #[error("Unknown option or number of arguments for CONFIG SET - '{0}'")]
    Unknown(String),
    /// A value is refused.
    #[error("CONFIG SET failed (possibly related to argument '{name}') - {reason}")]
    Refused {
        /// The name as the client gave it.
        name: String,
        /// What is wrong with the value.
        reason: String,
    },
}

impl Config {
    /// Sets several directives, or none if one is refused. Returns the keys whose values changed, for the
    /// caller to act on. `may_set_protected` says whether this client may set protected ones.
    ///
    /// # Errors
    /// The first pair that is wrong.
    pub fn set<S: AsRef<[u8]>>(
        &mut self,
        pairs: &[(S, S)],
        may_set_protected: bool,
    ) -> Result<Vec<Key>, SetError> {
        let mut checked: Vec<(Key, Value)> = Vec::with_capacity(pairs.len());
        for (name, text) in pairs {
            let name = String::from_utf8_lossy(name.as_ref()).into_owned();
            let Some(key) = Key::by_name(&name) else { return Err(SetError::Unknown(name)) };
            let refused = |reason: String| SetError::Refused { name: name.clone(), reason };
            if checked.iter().any(|(other, _)| *other == key) {
                return Err(refused("duplicate parameter".to_owned()));
            }
            let directive = key.directive();
            if directive.has(IMMUTABLE) {
                return Err(refused("can't set immutable config".to_owned()));
            }
            if directive.has(PROTECTED) && !may_set_protected {
                return Err(refused("can't set protected config".to_owned()));
            }
            let text = std::str::from_utf8(text.as_ref())
                .map_err(|_| refused("argument must be UTF-8".to_owned()))?;
            let words = [text.to_owned()];
            let value = directive.kind.read(directive.name, &words, self.value(key)).map_err(refused)?;
            check_supported(key, &value).map_err(refused)?;
            checked.push((key, value));
        }
        let mut changed = Vec::new();
        for (key, value) in checked {
            let before = self.value(key).clone();
            self.put(key, value);
            if *self.value(key) != before {
                changed.push(key);
            }
        }
        Ok(changed)
    }

    /// Notes who the master is now: `replicaof` follows the role, so that CONFIG REWRITE keeps it.
    pub fn note_master(&mut self, master: Option<(String, u16)>) {
        let words = master.map(|(host, port)| vec![host, port.to_string()]);
        self.put(Key::Replicaof, Value::Words(words.unwrap_or_default()));
    }
}

/// Refuses values whose feature does not exist here, where accepting them would promise something.
pub(super) fn check_supported(key: Key, value: &Value) -> Result<(), String> {
    match (key, value) {
        (Key::TlsPort, Value::Int(1..)) | (Key::TlsCluster | Key::TlsReplication, Value::Flag(true)) => {
            Err("this server has no TLS".to_owned())
        }
        _ => Ok(()),
    }
}
