//! Keyspace notifications: what a command did to a key, gathered while it runs, published behind it by the node
//! (`notify-keyspace-events`, redis.io "Keyspace notifications").

/// Classes of events, a bit each, by the letter that `notify-keyspace-events` gives them.
pub mod class {
    pub const GENERIC: u16 = 1;
    pub const STRING: u16 = 1 << 1;
    pub const LIST: u16 = 1 << 2;
    pub const SET: u16 = 1 << 3;
    pub const HASH: u16 = 1 << 4;
    pub const ZSET: u16 = 1 << 5;
    pub const EXPIRED: u16 = 1 << 6;
    pub const EVICTED: u16 = 1 << 7;
    pub const STREAM: u16 = 1 << 8;
    pub const KEY_MISS: u16 = 1 << 9;
    pub const NEW_KEY: u16 = 1 << 10;
    /// Published to `__keyspace@db__:key`.
    pub const KEYSPACE: u16 = 1 << 11;
    /// Published to `__keyevent@db__:event`.
    pub const KEYEVENT: u16 = 1 << 12;

    const LETTERS: [(u8, u16); 13] = [
        (b'g', GENERIC),
        (b'$', STRING),
        (b'l', LIST),
        (b's', SET),
        (b'h', HASH),
        (b'z', ZSET),
        (b'x', EXPIRED),
        (b'e', EVICTED),
        (b't', STREAM),
        (b'm', KEY_MISS),
        (b'n', NEW_KEY),
        (b'K', KEYSPACE),
        (b'E', KEYEVENT),
    ];

    /// The bits of a value of `notify-keyspace-events`; none without a channel to publish to.
    pub fn wanted(letters: &str) -> u16 {
        const ALL: u16 = GENERIC | STRING | LIST | SET | HASH | ZSET | EXPIRED | EVICTED | STREAM;
        let bits = letters.bytes().fold(0, |bits, letter| {
            let known = LETTERS.iter().find(|(other, _)| *other == letter).map_or(0, |(_, bit)| *bit);
            bits | if letter == b'A' { ALL } else { known }
        });
        if bits & (KEYSPACE | KEYEVENT) == 0 { 0 } else { bits }
    }
}

/// One event.
///
/// It goes to `__keyspace@db__:key` with its name as the message, and to `__keyevent@db__:event` with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Number of the database.
    pub db: u32,
    /// Redis' name of it: `set`, `lpush`, `expired`...
    pub event: &'static str,
    /// The key that it happened to.
    pub key: Vec<u8>,
}

/// The events of the running command, of the classes that somebody asked for.
#[derive(Debug, Default)]
pub struct Notifications {
    /// Bits of [`class`] in force; 0: nobody wants any, and nothing is gathered.
    pub wanted: u16,
    pending: Vec<Notification>,
}

impl Notifications {
    /// Notes an event, if its class is wanted.
    pub fn note(&mut self, class: u16, db: u32, event: &'static str, key: &[u8]) {
        if self.wanted & class != 0 {
            self.pending.push(Notification { db, event, key: key.to_vec() });
        }
    }

    /// True without events.
    pub const fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The events so far, in order; they are forgotten here.
    pub fn take(&mut self) -> Vec<Notification> {
        std::mem::take(&mut self.pending)
    }
}
