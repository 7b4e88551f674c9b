//! Commands that carry values between servers: DUMP, RESTORE and RESTORE-ASKING, and the request of MIGRATE (which
//! the node carries out).

use super::call::{Call, is};
use super::db::ExpiryMode;
use super::fault::{Fault, NOT_INTEGER, Outcome, SYNTAX, text};
use super::notify::class;
use crate::io::WallMs;
use crate::keyspace::number::{IntText, parse_i64};
use crate::keyspace::{Entry, Usage};
use crate::rdb::dump;
use crate::resp::Args;

pub(super) fn dump(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let payload = call.db.read(key, call.now).map(|value| dump::encode(value.view()));
    call.reply.optional(payload.as_deref());
    Ok(())
}

#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    absolute: bool,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

fn restore_options(call: &Call<'_>) -> Result<RestoreOptions, Fault> {
    let mut options = RestoreOptions::default();
    let mut index = 4;
    while index < call.args.len() {
        let option = call.arg(index);
        let has_value = index + 1 < call.args.len();
        if is(option, "REPLACE") {
            options.replace = true;
        } else if is(option, "ABSTTL") {
            options.absolute = true;
        } else if is(option, "IDLETIME") && has_value && options.frequency.is_none() {
            index += 1;
            let idle_s = u64::try_from(call.int(index)?);
            options.idle_s = Some(idle_s.map_err(|_| text("ERR Invalid IDLETIME value, must be >= 0"))?);
        } else if is(option, "FREQ") && has_value && options.idle_s.is_none() {
            index += 1;
            let frequency = u8::try_from(call.int(index)?);
            let wrong = text("ERR Invalid FREQ value, must be >= 0 and <= 255");
            options.frequency = Some(frequency.map_err(|_| wrong)?);
        } else {
            return Err(SYNTAX);
        }
        index += 1;
    }
    Ok(options)
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n]`; RESTORE-ASKING differs by its flags only.
/// Idle time and frequency are kept if the policy in force looks at them.
pub(super) fn restore(call: &mut Call<'_>) -> Outcome {
    let options = restore_options(call)?;
    let key = call.arg(1);
    let there = call.db.find(key, call.now).is_some();
    if there && !options.replace {
        return Err(text("BUSYKEY Target key name already exists."));
    }
    let ttl = call.int(2)?;
    if ttl < 0 {
        return Err(text("ERR Invalid TTL value, must be >= 0"));
    }
    let value = dump::decode(call.arg(3), call.db.keys.env());
    let value = value.map_err(|error| Fault::new(format!("ERR {error}")))?;
    let wall = call.now.wall;
    let expire_at = match ttl {
        0 => None,
        _ if options.absolute => Some(WallMs(ttl as u64)),
        // Redis adds signed numbers, and what is then negative has passed.
        _ => Some(WallMs(u64::try_from(ttl.wrapping_add(wall.0 as i64)).unwrap_or_default())),
    };
    // What a master or a file says is done to the key even if its time has come: the DEL follows.
    if expire_at.is_some_and(|at| at <= wall) && call.db.expiry == ExpiryMode::Delete {
        if there {
            call.delete(key);
            call.propagate(&[b"DEL", key]);
        }
        call.reply.ok();
        return Ok(());
    }
    call.db.keys.set(key, value, expire_at, wall);
    let bits = match (call.db.usage(), options.idle_s, options.frequency) {
        (Usage::Recency, Some(idle_s), _) => Some((wall.0 / 1000).saturating_sub(idle_s) as u32),
        (Usage::Frequency { .. }, _, Some(frequency)) => Some(Usage::with_frequency(frequency, wall)),
        _ => None,
    };
    if let Some((bits, entry)) = bits.zip(call.db.keys.get(key)) {
        entry.set_usage_bits(bits);
    }
    call.changed(key, class::GENERIC, "restore");
    if let Some(at) = expire_at.filter(|_| !options.absolute) {
        let at = IntText::new(at.0 as i64);
        let mut args: Vec<&[u8]> = call.args.iter().collect();
        args[2] = &at;
        args.push(b"ABSTTL");
        call.propagate(&args);
    }
    call.reply.ok();
    Ok(())
}

/// How to log in to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateAuth {
    /// With AUTH2.
    pub user: Option<Vec<u8>>,
    /// The password.
    pub password: Vec<u8>,
}

/// `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH pw | AUTH2 user pw] [KEYS key ...]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateRequest {
    /// As given.
    pub host: Vec<u8>,
    /// As given.
    pub port: Vec<u8>,
    /// Database of the target.
    pub db: i64,
    /// Longest silence in any moment of the talk.
    pub timeout_ms: u64,
    /// Keep the keys here.
    pub copy: bool,
    /// Overwrite the target's keys.
    pub replace: bool,
    /// Log in first.
    pub auth: Option<MigrateAuth>,
    /// Each key once, in the order of the request.
    pub keys: Vec<Vec<u8>>,
}

impl MigrateRequest {
    /// The request of these arguments.
    pub fn parse(args: Args<'_>) -> Result<Self, Fault> {
        let (mut copy, mut replace, mut auth, mut keys) = (false, false, None, None);
        let mut index = 6;
        while let Some(option) = args.get(index) {
            let left = args.len() - 1 - index;
            if is(option, "COPY") {
                copy = true;
            } else if is(option, "REPLACE") {
                replace = true;
            } else if is(option, "AUTH") && left >= 1 {
                auth = Some(MigrateAuth { user: None, password: args[index + 1].to_vec() });
                index += 1;
            } else if is(option, "AUTH2") && left >= 2 {
                let user = Some(args[index + 1].to_vec());
                auth = Some(MigrateAuth { user, password: args[index + 2].to_vec() });
                index += 2;
            } else if is(option, "KEYS") {
                if !args[3].is_empty() {
                    return Err(text(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                keys = Some(args.from(index + 1));
                break;
            } else {
                return Err(SYNTAX);
            }
            index += 1;
        }
        let timeout = parse_i64(&args[5]).ok_or(NOT_INTEGER)?;
        let db = parse_i64(&args[4]).ok_or(NOT_INTEGER)?;
        let mut seen = std::collections::BTreeSet::new();
        let keys = match keys {
            Some(keys) => keys.iter().filter(|key| seen.insert(*key)).map(<[u8]>::to_vec).collect(),
            None => vec![args[3].to_vec()],
        };
        Ok(Self {
            host: args[1].to_vec(),
            port: args[2].to_vec(),
            db,
            // As in Redis, nonsense means a second.
            timeout_ms: u64::try_from(timeout).ok().filter(|&timeout| timeout > 0).unwrap_or(1000),
            copy,
            replace,
            auth,
            keys,
        })
    }
}

/// First and last index of MIGRATE's keys. Options' values that happen to read `KEYS` are not taken for it.
pub(super) fn migrate_key_range(args: &Args<'_>) -> (i32, i32) {
    const KEY: i32 = 3;
    let mut index = 6;
    while let Some(option) = args.get(index) {
        index += match () {
            () if is(option, "KEYS") && args.get(3).is_some_and(<[u8]>::is_empty) => {
                return (index as i32 + 1, args.len() as i32 - 1);
            }
            () if is(option, "AUTH") => 2,
            () if is(option, "AUTH2") => 3,
            () => 1,
        };
    }
    (KEY, KEY)
}

/// What MIGRATE sends for a key: the milliseconds that it has left (0: for ever) and its payload.
pub fn migrate_payload(entry: &Entry, now: WallMs) -> (u64, Vec<u8>) {
    // 0 would mean "for ever".
    let ttl_ms = entry.expire_at().map_or(0, |at| at.0.saturating_sub(now.0).max(1));
    (ttl_ms, dump::encode_for_transfer(entry.value().view()))
}
