//! The digests of `DEBUG DIGEST` and `DEBUG DIGEST-VALUE`: SHA-1 of what keys hold, the same on every server
//! whatever its version and encodings, so that two datasets can be compared.

use sha1::{Digest as _, Sha1};

use super::db::Db;
use crate::keyspace::stream::StreamId;
use crate::keyspace::{Entry, SLOTS, Slot, ValueView, score};

/// Twenty bytes; zero at first.
pub type Digest = [u8; 20];

fn sha1(bytes: &[u8]) -> Digest {
    Sha1::digest(bytes).into()
}

/// Adds something whose order does not matter.
fn xor(digest: &mut Digest, bytes: &[u8]) {
    for (mine, other) in digest.iter_mut().zip(sha1(bytes)) {
        *mine ^= other;
    }
}

/// Adds something whose order matters.
fn mix(digest: &mut Digest, bytes: &[u8]) {
    xor(digest, bytes);
    *digest = sha1(digest);
}

/// Redis' number of a type.
const fn type_number(value: ValueView<'_>) -> u32 {
    match value {
        ValueView::String(_) => 0,
        ValueView::List(_) => 1,
        ValueView::Set(_) => 2,
        ValueView::Zset(_) => 3,
        ValueView::Hash(_) => 4,
        ValueView::Stream(_) => 6,
    }
}

fn add_value(digest: &mut Digest, value: ValueView<'_>, expires: bool) {
    mix(digest, &type_number(value).to_be_bytes());
    match value {
        ValueView::String(string) => string.with(|string| mix(digest, string)),
        ValueView::List(list) => list.iter_from(0).for_each(|element| mix(digest, element)),
        ValueView::Set(set) => set.iter_from(0).for_each(|member| member.with(|member| xor(digest, member))),
        ValueView::Zset(zset) => {
            for (member, score) in zset.iter_from(0) {
                let mut pair = Digest::default();
                mix(&mut pair, member);
                mix(&mut pair, score::text_17g(score).as_bytes());
                xor(digest, &pair);
            }
        }
        ValueView::Hash(hash) => {
            for (field, value) in hash.iter_from(0) {
                let mut pair = Digest::default();
                mix(&mut pair, field);
                mix(&mut pair, value);
                xor(digest, &pair);
            }
        }
        ValueView::Stream(stream) => {
            for entry in stream.range(StreamId::MIN, StreamId::MAX) {
                mix(digest, format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                for (field, value) in entry.pairs() {
                    field.with(|field| mix(digest, field));
                    value.with(|value| mix(digest, value));
                }
            }
        }
    }
    if expires {
        xor(digest, b"!!expire!!");
    }
}

/// What `DEBUG DIGEST-VALUE` says of a key; zero without one.
pub fn key_digest(entry: Option<&Entry>) -> Digest {
    entry
        .map_or_else(Digest::default, |entry| value_digest(entry.value().view(), entry.expire_at().is_some()))
}

/// The digest of a value; `expires` if its key does.
pub fn value_digest(value: ValueView<'_>, expires: bool) -> Digest {
    let mut digest = Digest::default();
    add_value(&mut digest, value, expires);
    digest
}

/// What `DEBUG DIGEST` says of all keys; zero without any.
pub fn dataset_digest(db: &Db) -> Digest {
    let mut all = Digest::default();
    for (number, keys) in db.all().filter(|(_, keys)| !keys.is_empty()) {
        mix(&mut all, &number.to_be_bytes());
        for slot in 0..SLOTS {
            for entry in keys.slot_iter_from(Slot(slot as u16), 0) {
                let mut digest = Digest::default();
                mix(&mut digest, entry.key());
                add_value(&mut digest, entry.value().view(), entry.expire_at().is_some());
                xor(&mut all, &digest);
            }
        }
    }
    all
}

/// In hexadecimal, as it is shown.
pub fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(40), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
