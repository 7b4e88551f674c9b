//! Several databases that are being filled, to take the place of a node's at once: a full resync, a reload.

use super::{Env, Keyspace, Usage};

/// The databases by number; what nobody put a key in is not there.
#[derive(Debug)]
pub struct Dataset {
    env: Env,
    usage: Usage,
    databases: Vec<Option<Box<Keyspace>>>,
}

impl Dataset {
    /// So many databases, empty.
    pub fn new(env: Env, usage: Usage, databases: u32) -> Self {
        Self { env, usage, databases: (0..databases).map(|_| None).collect() }
    }

    /// The database of this number, made if need be; none if there are fewer.
    pub fn database(&mut self, number: u32) -> Option<&mut Keyspace> {
        let (env, usage) = (self.env, self.usage);
        let place = self.databases.get_mut(number as usize)?;
        Some(place.get_or_insert_with(|| {
            let mut keys = Box::new(Keyspace::within(env));
            keys.set_usage(usage);
            keys
        }))
    }

    /// Number of keys in all databases.
    pub fn len(&self) -> usize {
        self.databases.iter().flatten().map(|keys| keys.len()).sum()
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.databases.iter().flatten().all(|keys| keys.is_empty())
    }

    /// Gives the databases.
    pub fn into_databases(self) -> Vec<Option<Box<Keyspace>>> {
        self.databases
    }
}
