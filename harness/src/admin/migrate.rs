//! Carrying the keys of slots from one node to another with MIGRATE, so that a key is at each moment on exactly one
//! side for clients: what the source still holds is served there, and the source deletes only what the target has
//! acknowledged.
//!
//! MIGRATE holds up its source for its whole length. Unless the operator fixed the number of keys, it is tuned so
//! that one write of MIGRATEs takes about ten milliseconds.

use std::collections::BTreeSet;

use slotstorm_checker::record::Nanos;

use super::fleet::Fleet;
use super::resp::{AskError, Reply};
use super::{Login, Reach, ms};

/// Keys of a first MIGRATE, and of every one for redis-cli.
pub const KEYS_PER_MIGRATE: u32 = 10;
/// Never more keys in one write, however fast it goes.
const MOST_KEYS: u32 = 2000;
/// A write of MIGRATEs that took less may be doubled; one that took more than four times as long is halved.
const QUICK_MS: u64 = 5;
/// Between two attempts, milliseconds.
const RETRY_PAUSE_MS: u64 = 200;

/// Which of two different values of a key stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Winner {
    /// Neither goes: a person decides.
    #[default]
    Nobody,
    /// The source's (MIGRATE .. REPLACE).
    Source,
    /// The target's; the source's is deleted.
    Target,
}

/// How keys are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarryOptions {
    /// MIGRATE's own time-out, milliseconds.
    pub timeout_ms: u64,
    /// Keys of one MIGRATE; `None`: tuned.
    pub keys: Option<u32>,
    /// If source and target hold different values.
    pub winner: Winner,
    /// Attempts after a lost connection or an IOERR.
    pub retries: u32,
    /// Given up at this time.
    pub give_up_at: Option<Nanos>,
}

impl Default for CarryOptions {
    fn default() -> Self {
        Self { timeout_ms: 60_000, keys: None, winner: Winner::Nobody, retries: 3, give_up_at: None }
    }
}

/// Why keys could not be carried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("{source_label} could not migrate keys of slot {slot} to {target_label}: {text}")]
    Migrate { slot: u16, source_label: String, target_label: String, text: String },
    #[error(
        "{source_label} and {target_label} hold different values of {} in slot {slot} (--cluster-replace makes those \
         of {source_label} win)", keys.join(", ")
    )]
    Conflict { slot: u16, source_label: String, target_label: String, keys: Vec<String> },
    #[error("the time is up")]
    TimeUp,
}

/// Keys of one write, learnt from how long writes take.
pub struct Pace {
    keys: u32,
    fixed: bool,
}

impl Pace {
    pub fn new(options: &CarryOptions) -> Self {
        Self { keys: options.keys.unwrap_or(KEYS_PER_MIGRATE).max(1), fixed: options.keys.is_some() }
    }

    fn learn(&mut self, keys: u32, took: Nanos) {
        if self.fixed {
            return;
        }
        if took > ms(4 * QUICK_MS) {
            self.keys = (self.keys / 2).max(1);
        } else if took < ms(QUICK_MS) && keys >= self.keys {
            self.keys = (self.keys * 2).min(MOST_KEYS);
        }
    }
}

/// A road between two nodes of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Road {
    pub from: usize,
    pub to: usize,
}

type Key = Vec<u8>;

/// Carries every key of `slots` from `road.from` to `road.to`. `carried` is told how many at a time. The marks of the
/// slots are the caller's business.
pub async fn carry<R: Reach>(
    fleet: &mut Fleet<R>,
    road: Road,
    slots: &[u16],
    options: &CarryOptions,
    pace: &mut Pace,
    carried: &mut dyn FnMut(u64),
) -> Result<(), CarryError> {
    let mut left = slots.to_vec();
    // Keys whose MIGRATE ended in doubt: the target may hold what we sent, and nothing else can have come there.
    let mut in_doubt: BTreeSet<Key> = BTreeSet::new();
    let mut attempt = 0;
    while !left.is_empty() {
        if options.give_up_at.is_some_and(|at| fleet.reach.now() >= at) {
            return Err(CarryError::TimeUp);
        }
        match carry_some(fleet, road, &mut left, options, pace, carried, &mut in_doubt).await {
            Ok(()) => attempt = 0,
            Err(error) if attempt < options.retries && passes(&error) => {
                attempt += 1;
                let pause = ms(RETRY_PAUSE_MS * u64::from(attempt));
                fleet.reach.sleep_until(fleet.reach.now() + pause).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether another attempt may help.
fn passes(error: &CarryError) -> bool {
    match error {
        CarryError::Ask(AskError::Server { text, .. }) | CarryError::Migrate { text, .. } => {
            ["IOERR", "LOADING", "CLUSTERDOWN"].iter().any(|word| text.contains(word))
        }
        CarryError::Ask(error) => !matches!(error, AskError::Nonsense { .. }),
        CarryError::Conflict { .. } | CarryError::TimeUp => false,
    }
}

/// One look at the next slots' keys, and one or more writes for them. Slots without keys leave `left`.
async fn carry_some<R: Reach>(
    fleet: &mut Fleet<R>,
    road: Road,
    left: &mut Vec<u16>,
    options: &CarryOptions,
    pace: &mut Pace,
    carried: &mut dyn FnMut(u64),
    in_doubt: &mut BTreeSet<Key>,
) -> Result<(), CarryError> {
    let count = pace.keys.max(100).to_string();
    let looked = left.len().min(64);
    let commands: Vec<Vec<String>> = left[..looked]
        .iter()
        .map(|slot| vec!["CLUSTER".to_owned(), "GETKEYSINSLOT".to_owned(), slot.to_string(), count.clone()])
        .collect();
    let replies = fleet.pipeline(road.from, &commands).await?;
    let mut batches: Vec<(u16, Vec<Key>)> = Vec::new();
    let mut empty = BTreeSet::new();
    let slots: Vec<u16> = left[..looked].to_vec();
    for (slot, reply) in slots.into_iter().zip(replies) {
        let keys = keys_of(fleet, road.from, reply)?;
        if keys.is_empty() {
            empty.insert(slot);
        }
        batches.extend(keys.chunks(pace.keys as usize).map(|some| (slot, some.to_vec())));
    }
    left.retain(|slot| !empty.contains(slot));
    let mut rest = &batches[..];
    while !rest.is_empty() {
        if options.give_up_at.is_some_and(|at| fleet.reach.now() >= at) {
            return Err(CarryError::TimeUp);
        }
        let most = if options.keys.is_some() { 1 } else { pace.keys as usize };
        let mut sum = 0;
        let fits = rest.iter().take_while(|(_, keys)| {
            sum += keys.len();
            sum <= most || sum == keys.len()
        });
        let taken = fits.count().max(1);
        let (now, later) = rest.split_at(taken);
        write(fleet, road, now, options, pace, carried, in_doubt).await?;
        rest = later;
    }
    Ok(())
}

fn keys_of<R: Reach>(fleet: &Fleet<R>, node: usize, reply: Reply) -> Result<Vec<Key>, AskError> {
    let address = fleet.nodes[node].dial;
    let command = "CLUSTER GETKEYSINSLOT".to_owned();
    match reply {
        Reply::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Reply::BulkString(key) => Ok(key.to_vec()),
                other => Err(AskError::Nonsense {
                    address,
                    command: command.clone(),
                    why: format!("{other:?} is no key"),
                }),
            })
            .collect(),
        Reply::Error(text) => Err(AskError::Server { address, command, text: text.to_string() }),
        other => Err(AskError::Nonsense { address, command, why: format!("{other:?} is no list") }),
    }
}

/// One write of MIGRATEs, each of one slot's keys.
async fn write<R: Reach>(
    fleet: &mut Fleet<R>,
    road: Road,
    batches: &[(u16, Vec<Key>)],
    options: &CarryOptions,
    pace: &mut Pace,
    carried: &mut dyn FnMut(u64),
    in_doubt: &mut BTreeSet<Key>,
) -> Result<(), CarryError> {
    let begun = fleet.reach.now();
    let commands: Vec<Vec<Key>> = batches
        .iter()
        .map(|(_, keys)| {
            let target = &fleet.nodes[road.to];
            migrate_command(&target.host, target.port, keys, options, fleet.reach.login().as_ref())
        })
        .collect();
    let replies = match send(fleet, road.from, &commands, options).await {
        Ok(replies) => replies,
        Err(error) => {
            in_doubt.extend(batches.iter().flat_map(|(_, keys)| keys.iter().cloned()));
            return Err(error.into());
        }
    };
    let keys: usize = batches.iter().map(|(_, keys)| keys.len()).sum();
    pace.learn(keys as u32, fleet.reach.now() - begun);
    let mut failure = None;
    for ((slot, keys), reply) in batches.iter().zip(replies) {
        match outcome(&reply) {
            Ok(()) => carried(keys.len() as u64),
            Err(text) if text.contains("BUSYKEY") => {
                match settle_busy(fleet, road, *slot, keys, options, in_doubt).await {
                    Ok(()) => carried(keys.len() as u64),
                    Err(error) => failure = Some(error),
                }
            }
            Err(text) => {
                if text.contains("IOERR") {
                    in_doubt.extend(keys.iter().cloned());
                }
                failure = Some(CarryError::Migrate {
                    slot: *slot,
                    source_label: fleet.nodes[road.from].label(),
                    target_label: fleet.nodes[road.to].label(),
                    text,
                });
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// MIGRATE may take its own time-out for the connection and again for the transfer.
async fn send<R: Reach>(
    fleet: &mut Fleet<R>,
    node: usize,
    commands: &[Vec<Key>],
    options: &CarryOptions,
) -> Result<Vec<Reply>, AskError> {
    let deadline = fleet.deadline() + ms(2 * options.timeout_ms * commands.len() as u64);
    let deadline = options.give_up_at.map_or(deadline, |at| deadline.min(at.max(fleet.deadline())));
    let commands: Vec<&[Key]> = commands.iter().map(Vec::as_slice).collect();
    fleet.links[node].pipeline(&commands, deadline).await
}

/// OK and NOKEY (every key was gone already) are good.
fn outcome(reply: &Reply) -> Result<(), String> {
    match reply {
        Reply::SimpleString(_) => Ok(()),
        Reply::Error(text) => Err(text.to_string()),
        other => Err(format!("MIGRATE answered {other:?}")),
    }
}

/// The words of a MIGRATE of several keys.
pub fn migrate_command(
    host: &str,
    port: u16,
    keys: &[Key],
    options: &CarryOptions,
    login: Option<&Login>,
) -> Vec<Key> {
    let mut words: Vec<Key> =
        vec!["MIGRATE".into(), host.into(), port.to_string().into(), Key::new(), "0".into()];
    words.push(options.timeout_ms.to_string().into());
    if options.winner == Winner::Source {
        words.push("REPLACE".into());
    }
    words.extend(login.map(credentials).unwrap_or_default());
    words.push("KEYS".into());
    words.extend(keys.iter().cloned());
    words
}

/// `AUTH password` or `AUTH2 user password` of a MIGRATE.
pub fn credentials(login: &Login) -> Vec<Key> {
    match &login.user {
        None => vec!["AUTH".into(), login.password.clone().into()],
        Some(user) => vec!["AUTH2".into(), user.clone().into(), login.password.clone().into()],
    }
}

/// The target already holds some of these keys. The same value, or what an attempt in doubt of ours left there, may be
/// replaced; otherwise the options say which one stays.
async fn settle_busy<R: Reach>(
    fleet: &mut Fleet<R>,
    road: Road,
    slot: u16,
    keys: &[Key],
    options: &CarryOptions,
    in_doubt: &BTreeSet<Key>,
) -> Result<(), CarryError> {
    let mut replaceable = Vec::new();
    let mut different = Vec::new();
    for key in keys {
        let here = value_of(fleet, road.from, key).await?;
        let Some(here) = here else { continue }; // moved, or deleted
        let there = value_of(fleet, road.to, key).await?;
        let same = there.is_none_or(|there| there == here);
        if same || in_doubt.contains(key) || equal_digests(fleet, road, key).await? {
            replaceable.push(key.clone());
        } else if options.winner == Winner::Target {
            let gone = [vec![Key::from("ASKING")], vec![Key::from("DEL"), key.clone()]];
            if let Some(Reply::Error(text)) = fleet.pipeline(road.from, &gone).await?.last() {
                return Err(CarryError::Ask(AskError::Server {
                    address: fleet.nodes[road.from].dial,
                    command: "DEL".to_owned(),
                    text: text.to_string(),
                }));
            }
        } else {
            different.push(String::from_utf8_lossy(key).into_owned());
        }
    }
    if !different.is_empty() {
        return Err(CarryError::Conflict {
            slot,
            source_label: fleet.nodes[road.from].label(),
            target_label: fleet.nodes[road.to].label(),
            keys: different,
        });
    }
    if replaceable.is_empty() {
        return Ok(());
    }
    let target = &fleet.nodes[road.to];
    let (host, port) = (target.host.clone(), target.port);
    let replacing = CarryOptions { winner: Winner::Source, ..*options };
    let command = migrate_command(&host, port, &replaceable, &replacing, fleet.reach.login().as_ref());
    let replies = send(fleet, road.from, &[command], options).await?;
    outcome(&replies[0]).map_err(|text| CarryError::Migrate {
        slot,
        source_label: fleet.nodes[road.from].label(),
        target_label: fleet.nodes[road.to].label(),
        text,
    })
}

/// The serialised value and its expiry time; `None` if the key is not there (a redirection says the same).
async fn value_of<R: Reach>(
    fleet: &mut Fleet<R>,
    node: usize,
    key: &Key,
) -> Result<Option<(Key, i64)>, AskError> {
    let mut commands: Vec<Vec<Key>> = Vec::new();
    // Either end may be one that imports the slot.
    for command in ["DUMP", "PEXPIRETIME"] {
        commands.extend([vec!["ASKING".into()], vec![command.into(), key.clone()]]);
    }
    let replies = fleet.pipeline(node, &commands).await?;
    let (dump, expiry) = (&replies[1], &replies[3]);
    // Before 7.0 there is no PEXPIRETIME: then only the values are compared.
    let expiry = if let Reply::Integer(at) = expiry { *at } else { 0 };
    match dump {
        Reply::BulkString(bytes) => Ok(Some((bytes.to_vec(), expiry))),
        Reply::Null => Ok(None),
        Reply::Error(text) if text.starts_with("ASK ") || text.starts_with("MOVED ") => Ok(None),
        Reply::Error(text) => Err(AskError::Server {
            address: fleet.nodes[node].dial,
            command: "DUMP".to_owned(),
            text: text.to_string(),
        }),
        other => Err(AskError::Nonsense {
            address: fleet.nodes[node].dial,
            command: "DUMP".to_owned(),
            why: format!("{other:?} is no value"),
        }),
    }
}

/// Two servers may encode one value differently; its digest is the same. Not every server lets one ask.
async fn equal_digests<R: Reach>(fleet: &mut Fleet<R>, road: Road, key: &Key) -> Result<bool, AskError> {
    let command: Vec<Key> = vec!["DEBUG".into(), "DIGEST-VALUE".into(), key.clone()];
    let here = fleet.pipeline(road.from, std::slice::from_ref(&command)).await?;
    let there = fleet.pipeline(road.to, &[command]).await?;
    Ok(matches!(here[0], Reply::Array(_)) && here == there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_grows_while_writes_are_quick_and_shrinks_when_the_source_is_held_up() {
        let mut pace = Pace::new(&CarryOptions::default());
        for _ in 0..4 {
            pace.learn(pace.keys, ms(1));
        }
        assert_eq!(pace.keys, 160);
        pace.learn(160, ms(10));
        assert_eq!(pace.keys, 160, "neither quick nor slow");
        pace.learn(3, ms(1));
        assert_eq!(pace.keys, 160, "a small write proves nothing");
        pace.learn(160, ms(30));
        assert_eq!(pace.keys, 80);
        let mut fixed = Pace::new(&CarryOptions { keys: Some(7), ..CarryOptions::default() });
        fixed.learn(7, ms(1));
        assert_eq!(fixed.keys, 7, "the operator's word");
    }

    #[test]
    fn a_migrate_has_the_words_that_redis_cli_sends() {
        let login = Login { user: Some("u".into()), password: "p".into() };
        let options = CarryOptions { winner: Winner::Source, ..CarryOptions::default() };
        let words = migrate_command("127.0.0.1", 7000, &[b"a".to_vec(), vec![0xff]], &options, Some(&login));
        let text: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let expected = "MIGRATE 127.0.0.1 7000  0 60000 REPLACE AUTH2 u p KEYS a \u{fffd}";
        assert_eq!(text.join(" "), expected);
    }
}
