//! One node of a stream: a run of entries, packed in a listpack byte for byte as Redis packs them.
//!
//! It begins with a master entry (how many entries live, how many are deleted, and the fields of the first one);
//! the id of that first one, the node's own, stands outside. An entry tells its id as the difference to the node's,
//! and its fields only where they are not those of the master. Deleted entries stay, with a mark.

use std::sync::Arc;

use super::StreamId;
use crate::keyspace::Element;
use crate::keyspace::listpack::{self, END, HEAD_BYTES, put, put_integer, replace_integer};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// The entries of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    bytes: Arc<Vec<u8>>,
}

/// The master entry.
#[derive(Clone, Copy, Debug)]
struct Master {
    live: i64,
    deleted: i64,
    /// Where the number of deleted entries stands.
    deleted_at: usize,
    fields: usize,
    names_at: usize,
    /// Where the first entry begins.
    entries_at: usize,
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    bytes: &'a [u8],
    /// Where its flags stand.
    at: usize,
    flags: i64,
    fields: usize,
    /// Where the names of the master's fields begin.
    names_at: usize,
    /// Where its values, or its own fields and values, begin.
    body_at: usize,
}

impl<'a> Entry<'a> {
    /// How many pairs of a field and a value it has.
    pub const fn len(&self) -> usize {
        self.fields
    }

    /// True without pairs, which no command makes.
    pub const fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// Its fields with their values.
    pub fn pairs(&self) -> impl Iterator<Item = (Element<'a>, Element<'a>)> + use<'a> {
        let Self { bytes, mut names_at, mut body_at, fields, .. } = *self;
        let same = self.has_same_fields();
        (0..fields).map_while(move |_| {
            let place = if same { &mut names_at } else { &mut body_at };
            let (field, after) = listpack::read(bytes, *place)?;
            *place = after;
            let (value, after) = listpack::read(bytes, body_at)?;
            body_at = after;
            Some((field, value))
        })
    }

    /// True if it is deleted, and kept until its node goes.
    pub(super) const fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    const fn has_same_fields(&self) -> bool {
        self.flags & SAME_FIELDS != 0
    }

    /// How many elements its body has.
    const fn body_elements(&self) -> usize {
        if self.has_same_fields() { self.fields } else { self.fields.saturating_mul(2) }
    }
}

impl Node {
    /// A node with one entry. `pairs`: field, value, field, value...
    pub fn new(id: StreamId, pairs: &[&[u8]]) -> Self {
        let text: usize = pairs.iter().map(|part| part.len() + 3).sum();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 24 + text);
        bytes.resize(HEAD_BYTES, 0);
        let fields = pairs.len() / 2;
        put_integer(&mut bytes, 1);
        put_integer(&mut bytes, 0);
        put_integer(&mut bytes, fields as i64);
        pairs.iter().step_by(2).for_each(|field| put(&mut bytes, field));
        put_integer(&mut bytes, 0);
        let elements = 4 + fields + put_entry(&mut bytes, (id, id), pairs, true);
        seal(&mut bytes, elements);
        Self { bytes: Arc::new(bytes) }
    }

    /// What a file or another server gives for a node; `None` if it is not what Redis could have written.
    pub fn from_bytes(own: StreamId, bytes: Vec<u8>) -> Option<Self> {
        let node = Self { bytes: Arc::new(bytes) };
        node.is_sound(own).then_some(node)
    }

    /// The listpack.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many entries are not deleted.
    pub fn live(&self) -> u64 {
        let live = integer(&self.bytes, HEAD_BYTES).map_or(0, |(live, _)| live);
        u64::try_from(live).unwrap_or(0)
    }

    /// How many entries there are, deleted ones included.
    pub fn entries(&self) -> u64 {
        let master = master(&self.bytes);
        master.map_or(0, |master| master.live.saturating_add(master.deleted).unsigned_abs())
    }

    /// Adds an entry behind the others. `own` is the node's id.
    pub fn append(&mut self, own: StreamId, id: StreamId, pairs: &[&[u8]]) {
        let Some(master) = master(&self.bytes) else { return };
        let bytes = Arc::make_mut(&mut self.bytes);
        let same = master.fields == pairs.len() / 2 && has_names(bytes, master.names_at, pairs);
        replace_integer(bytes, HEAD_BYTES, master.live + 1);
        // The end, which comes back behind the entry.
        bytes.pop();
        let elements = put_entry(bytes, (own, id), pairs, same);
        seal(bytes, elements);
    }

    /// Marks the entry that begins at a place as deleted; the last living one is not for this.
    pub fn delete(&mut self, entry_at: EntryAt) {
        self.delete_all(&[entry_at]);
    }

    /// As [`Self::delete`], for several.
    pub fn delete_all(&mut self, entries: &[EntryAt]) {
        let Some(master) = master(&self.bytes) else { return };
        let bytes = Arc::make_mut(&mut self.bytes);
        for &EntryAt(at) in entries {
            if let Some((flags, _)) = integer(bytes, at) {
                // As long as before: all flags take one byte.
                replace_integer(bytes, at, flags | DELETED);
            }
        }
        let count = entries.len() as i64;
        // The later one first: the other may change its length.
        replace_integer(bytes, master.deleted_at, master.deleted + count);
        replace_integer(bytes, HEAD_BYTES, master.live - count);
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
    }

    /// Nothing will be added: gives back memory that was kept for more.
    pub fn settle(&mut self) {
        if let Some(bytes) = Arc::get_mut(&mut self.bytes) {
            bytes.shrink_to_fit();
        }
    }

    /// The entries, deleted ones included, in the order in which they came.
    pub fn iter(&self, own: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let bytes = &self.bytes[..];
        let master = master(bytes);
        let mut at = master.map(|master| master.entries_at);
        std::iter::from_fn(move || {
            let entry = entry(bytes, &master?, own, at?)?;
            at = skip(bytes, entry.body_at, entry.body_elements() + 1);
            Some(entry)
        })
    }

    /// As [`Self::iter`], the last one first.
    pub fn iter_back(&self, own: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let bytes = &self.bytes[..];
        let master = master(bytes);
        let mut end = bytes.len().saturating_sub(1);
        std::iter::from_fn(move || {
            // Behind each entry stands how many elements it has; 0 behind the master entry.
            let count_at = listpack::before(bytes, end)?;
            let (count, _) = integer(bytes, count_at)?;
            let mut at = count_at;
            for _ in 0..count {
                at = listpack::before(bytes, at)?;
            }
            end = at;
            if count == 0 { None } else { entry(bytes, &master?, own, at) }
        })
    }

    /// The last entry's id, deleted or not.
    pub fn last_id(&self, own: StreamId) -> StreamId {
        self.iter_back(own).next().map_or(own, |entry| entry.id)
    }

    fn is_sound(&self, own: StreamId) -> bool {
        let bytes = &self.bytes[..];
        let Some((end, elements)) = listpack_end(bytes) else { return false };
        let Some(master) = master(bytes) else { return false };
        let announced = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        let (mut live, mut deleted, mut at) = (0, 0, master.entries_at);
        let mut last = None;
        while at < end {
            let Some(entry) = entry(bytes, &master, own, at) else { return false };
            let Some(count_at) = skip(bytes, entry.body_at, entry.body_elements()) else { return false };
            let Some((count, next)) = integer(bytes, count_at) else { return false };
            let fixed = if entry.has_same_fields() { 3 } else { 4 };
            if count != (entry.body_elements() + fixed) as i64 || i64::from(bytes[at]) != entry.flags {
                return false;
            }
            if entry.is_deleted() {
                deleted += 1;
            } else {
                if entry.id < own || last.is_some_and(|last| entry.id <= last) {
                    return false;
                }
                last = Some(entry.id);
                live += 1;
            }
            at = next;
        }
        at == end
            && (live, deleted) == (master.live, master.deleted)
            && (announced == elements || announced == usize::from(u16::MAX))
    }
}

/// Where an entry begins in its node.
#[derive(Clone, Copy, Debug)]
pub struct EntryAt(usize);

impl From<Entry<'_>> for EntryAt {
    fn from(entry: Entry<'_>) -> Self {
        Self(entry.at)
    }
}

/// The offset of the end and the number of elements, if it is a listpack that can be walked both ways.
fn listpack_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let total = u32::from_le_bytes([*bytes.first()?, *bytes.get(1)?, *bytes.get(2)?, *bytes.get(3)?]);
    if total as usize != bytes.len() || bytes.len() <= HEAD_BYTES {
        return None;
    }
    let (mut at, mut elements) = (HEAD_BYTES, 0);
    while let Some((_, next)) = listpack::read(bytes, at) {
        if next >= bytes.len() || listpack::before(bytes, next) != Some(at) {
            return None;
        }
        at = next;
        elements += 1;
    }
    (at + 1 == bytes.len() && bytes[at] == END).then_some((at, elements))
}

fn master(bytes: &[u8]) -> Option<Master> {
    let (live, deleted_at) = integer(bytes, HEAD_BYTES)?;
    let (deleted, at) = integer(bytes, deleted_at)?;
    let (fields, names_at) = integer(bytes, at)?;
    let fields = usize::try_from(fields).ok()?;
    let zero_at = skip(bytes, names_at, fields)?;
    let (0, entries_at) = integer(bytes, zero_at)? else { return None };
    Some(Master { live, deleted, deleted_at, fields, names_at, entries_at })
}

fn entry<'a>(bytes: &'a [u8], master: &Master, own: StreamId, at: usize) -> Option<Entry<'a>> {
    let (flags, next) = integer(bytes, at)?;
    let (ms, next) = integer(bytes, next)?;
    let (seq, next) = integer(bytes, next)?;
    let id = StreamId { ms: own.ms.wrapping_add(ms as u64), seq: own.seq.wrapping_add(seq as u64) };
    let (fields, body_at) = if flags & SAME_FIELDS != 0 {
        (master.fields, next)
    } else {
        let (fields, next) = integer(bytes, next)?;
        (usize::try_from(fields).ok()?, next)
    };
    Some(Entry { id, bytes, at, flags, fields, names_at: master.names_at, body_at })
}

/// The integer at `at` and where the next element begins.
fn integer(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    match listpack::read(bytes, at)? {
        (Element::Int(number), next) => Some((number, next)),
        (Element::Bytes(_), _) => None,
    }
}

/// Where the element begins that stands so many behind the one at `at`.
fn skip(bytes: &[u8], mut at: usize, elements: usize) -> Option<usize> {
    for _ in 0..elements {
        at = listpack::read(bytes, at)?.1;
    }
    Some(at)
}

/// Are the names of fields that begin at `at` those of these pairs? There are as many.
fn has_names(bytes: &[u8], mut at: usize, pairs: &[&[u8]]) -> bool {
    pairs.iter().step_by(2).all(|name| match listpack::read(bytes, at) {
        Some((element, next)) => {
            at = next;
            element.with(|element| element == *name)
        }
        None => false,
    })
}

/// Appends an entry; gives the number of its elements. `ids`: the node's and the entry's.
fn put_entry(bytes: &mut Vec<u8>, ids: (StreamId, StreamId), pairs: &[&[u8]], same_fields: bool) -> usize {
    let (own, id) = ids;
    let fields = pairs.len() / 2;
    put_integer(bytes, if same_fields { SAME_FIELDS } else { 0 });
    put_integer(bytes, id.ms.wrapping_sub(own.ms) as i64);
    put_integer(bytes, id.seq.wrapping_sub(own.seq) as i64);
    let count = if same_fields {
        pairs.iter().skip(1).step_by(2).for_each(|value| put(bytes, value));
        3 + fields
    } else {
        put_integer(bytes, fields as i64);
        for part in pairs {
            put(bytes, part);
        }
        4 + 2 * fields
    };
    put_integer(bytes, count as i64);
    count + 1
}

/// Appends the end, and notes in the head how long it is and that there are so many more elements.
fn seal(bytes: &mut Vec<u8>, new_elements: usize) {
    bytes.push(END);
    let total = bytes.len() as u32;
    bytes[..4].copy_from_slice(&total.to_le_bytes());
    // A count that does not fit is left open.
    let elements = usize::from(u16::from_le_bytes([bytes[4], bytes[5]])) + new_elements;
    let elements = u16::try_from(elements).unwrap_or(u16::MAX);
    bytes[4..6].copy_from_slice(&elements.to_le_bytes());
}
