//! Reads RDB bytes as they arrive, from a file or a link, and gives keys.
//!
//! A push parser at the grain of one string: what has been announced costs nothing until its bytes are here, so
//! memory is bounded by the value being read. A large collection is never parsed twice.

use super::stream::StreamReader;
use super::{MAGIC, MAX_STRING_BYTES, RdbError, VERSION, crc64, opcode, packed, value_type};
use crate::keyspace::KeyUsage;
use crate::keyspace::ValueParts;
use crate::keyspace::score::{self, Score};

/// What a decoder gives, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RdbEvent {
    /// An auxiliary field; readers ignore names that they do not know.
    Aux {
        /// For example `repl-id`.
        name: Vec<u8>,
        /// Its value, numbers as decimal text.
        value: Vec<u8>,
    },
    /// The keys that follow belong to this database.
    SelectDb(u64),
    /// A hint: how many keys follow and how many of them expire.
    ResizeDb {
        /// Keys in this database.
        keys: u64,
        /// Keys with an expiry.
        expires: u64,
    },
    /// The source of a function library.
    Function(Vec<u8>),
    /// One key with its value.
    Key(RdbKey),
    /// The end, its checksum good.
    End,
}

/// One key as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdbKey {
    /// The key's name.
    pub key: Vec<u8>,
    /// When it expires, in Unix milliseconds.
    pub expire_at_ms: Option<u64>,
    /// How much it is used, if the file tells it.
    pub usage: Option<KeyUsage>,
    /// Its value. Duplicates within sets and hashes are the reader's to refuse.
    pub value: ValueParts,
}

fn is_empty_collection(value: &ValueParts) -> bool {
    match value {
        // A stream may be empty.
        ValueParts::String(_) | ValueParts::Stream(_) => false,
        ValueParts::List(elements) | ValueParts::Set(elements) => elements.is_empty(),
        ValueParts::Hash(pairs) => pairs.is_empty(),
        ValueParts::Zset(pairs) => pairs.is_empty(),
    }
}

/// The decoder: feed it bytes, take its events.
#[derive(Debug)]
pub struct RdbDecoder {
    /// Bytes that have arrived and are not yet parsed, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// No use in trying again before this many unparsed bytes are here.
    need: usize,
    crc: u64,
    state: State,
    pending: Pending,
    total: u64,
}

/// What was read and holds for what comes.
#[derive(Debug, Default)]
struct Pending {
    /// Of the next key.
    expire_at_ms: Option<u64>,
    /// Of the next key.
    usage: Option<KeyUsage>,
    /// Files before version 5 end without a checksum.
    no_checksum: bool,
}

#[derive(Debug)]
enum State {
    Header,
    Record,
    /// A key's value is being read.
    Value {
        key: Vec<u8>,
        value: Partial,
    },
    /// Skipping what a module saved outside of keys.
    ModuleAux,
    Checksum,
    Done,
}

/// A value of which parts are here.
#[derive(Debug)]
enum Partial {
    /// The one blob of this type follows.
    Blob(u8),
    /// The number of parts follows.
    Count(u8),
    List {
        left: u64,
        elements: Vec<Vec<u8>>,
    },
    Set {
        left: u64,
        elements: Vec<Vec<u8>>,
    },
    Hash {
        left: u64,
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// Scores as texts (3) or as eight bytes (5).
    Zset {
        left: u64,
        binary: bool,
        pairs: Vec<(Vec<u8>, Score)>,
    },
    /// A quicklist: nodes of ziplists (14), or each preceded by its container's kind (18).
    Nodes {
        left: u64,
        with_container: bool,
        elements: Vec<Vec<u8>>,
    },
    Stream(Box<StreamReader>),
}

impl Default for RdbDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RdbDecoder {
    /// A decoder at the start of a file.
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            at: 0,
            need: 0,
            crc: 0,
            state: State::Header,
            pending: Pending::default(),
            total: 0,
        }
    }

    /// True once the whole file has been read and its checksum was good.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes parsed so far: at the end, the length of the file.
    pub const fn parsed_bytes(&self) -> u64 {
        self.total
    }

    /// What was fed after the end of the file, and takes it. Empty before the end.
    pub fn take_rest(&mut self) -> Vec<u8> {
        if !self.is_done() {
            return Vec::new();
        }
        let rest = self.buffer.split_off(self.at);
        self.buffer = Vec::new();
        self.at = 0;
        rest
    }

    /// Takes bytes and hands every event that they complete to `sink`. After an error the decoder is of no use.
    /// Bytes after the end are kept for [`Self::take_rest`].
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(RdbEvent)) -> Result<(), RdbError> {
        self.buffer.extend_from_slice(bytes);
        while !self.is_done() && self.buffer.len() - self.at >= self.need {
            let start = self.at;
            let mut input = Input { bytes: &self.buffer[start..], at: 0, short_by: 0 };
            let stepped = step(&mut self.state, &mut self.pending, self.crc, &mut input);
            match stepped {
                Ok(event) => {
                    let used = input.at;
                    let parsed = &self.buffer[start..start + used];
                    self.crc = crc64(self.crc, parsed);
                    self.total += used as u64;
                    self.at += used;
                    self.need = 0;
                    if let Some(event) = event {
                        sink(event);
                    }
                }
                Err(Stop::Short) => {
                    self.need = input.at + input.short_by;
                    break;
                }
                Err(Stop::Bad(error)) => return Err(error),
            }
        }
        if self.at > 0 && (self.at == self.buffer.len() || self.at > 64 * 1024) {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        Ok(())
    }
}

/// Reads one value of the given type that must fill `bytes` exactly: the body of a DUMP payload.
pub(super) fn single_value(value_type: u8, bytes: &[u8]) -> Result<ValueParts, RdbError> {
    let mut partial = begin(value_type, b"")?;
    let mut input = Input { bytes, at: 0, short_by: 0 };
    loop {
        match value_step(&mut partial, &mut input) {
            Ok(Some(value)) if input.at == bytes.len() => return Ok(value),
            Ok(Some(_)) => return Err(RdbError::Trailing),
            Ok(None) => {}
            Err(Stop::Short) => return Err(RdbError::Corrupt("a value ends early")),
            Err(Stop::Bad(error)) => return Err(error),
        }
    }
}

/// Reads one string at the start of `bytes`; gives what follows it too.
pub(super) fn single_string(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut input = Input { bytes, at: 0, short_by: 0 };
    let string = input.string().ok()?;
    Some((string, bytes.get(input.at..)?))
}

/// The first version of the format whose files end with a checksum.
const FIRST_WITH_CHECKSUM: u32 = 5;

/// Why a step did not finish.
pub(super) enum Stop {
    /// More bytes are needed; nothing was changed.
    Short,
    Bad(RdbError),
}

impl From<RdbError> for Stop {
    fn from(error: RdbError) -> Self {
        Self::Bad(error)
    }
}

pub(super) type Step<T> = Result<T, Stop>;

/// The unparsed bytes, read from the front.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    /// After `Short`: how many bytes past `at` are needed at least.
    short_by: usize,
}

/// A length, or the announcement of a specially encoded string.
enum Length {
    Plain(u64),
    Special(u8),
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if rest.len() < len {
            self.short_by = len;
            return Err(Stop::Short);
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn length_or_special(&mut self) -> Step<Length> {
        let first = self.byte()?;
        Ok(match first {
            0x00..=0x3f => Length::Plain(u64::from(first)),
            0x40..=0x7f => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
            0xc0..=0xff => Length::Special(first & 0x3f),
            _ => return Err(RdbError::Corrupt("a length has an unknown form").into()),
        })
    }

    pub(super) fn length(&mut self) -> Step<u64> {
        match self.length_or_special()? {
            Length::Plain(len) => Ok(len),
            Length::Special(_) => Err(RdbError::Corrupt("a string stands where a length should").into()),
        }
    }

    /// A score as old files have it: its text behind a length byte, or a byte that means one of three.
    fn score_text(&mut self) -> Step<f64> {
        Ok(match self.byte()? {
            0xff => f64::NEG_INFINITY,
            0xfe => f64::INFINITY,
            0xfd => f64::NAN,
            len => {
                let text = self.take(usize::from(len))?;
                score::parse_bound(text).ok_or(RdbError::Corrupt("a score is no number"))?
            }
        })
    }

    /// A length that counts bytes.
    fn byte_length(&mut self) -> Step<usize> {
        let len = self.length()?;
        believable(len)
    }

    pub(super) fn string(&mut self) -> Step<Vec<u8>> {
        let text = |number: i64| number.to_string().into_bytes();
        Ok(match self.length_or_special()? {
            Length::Plain(len) => self.take(believable(len)?)?.to_vec(),
            Length::Special(0) => text(i64::from(i8::from_le_bytes(self.array()?))),
            Length::Special(1) => text(i64::from(i16::from_le_bytes(self.array()?))),
            Length::Special(2) => text(i64::from(i32::from_le_bytes(self.array()?))),
            Length::Special(3) => {
                let compressed_len = self.byte_length()?;
                let len = self.byte_length()?;
                packed::lzf(self.take(compressed_len)?, len)?
            }
            Length::Special(_) => return Err(RdbError::Corrupt("a string has an unknown encoding").into()),
        })
    }
}

fn believable(len: u64) -> Step<usize> {
    if len > MAX_STRING_BYTES {
        return Err(RdbError::Corrupt("a string is longer than 4 GiB").into());
    }
    Ok(len as usize)
}

/// Parses one more part. On `Short` neither the state nor anything else has changed.
fn step(state: &mut State, pending: &mut Pending, crc: u64, input: &mut Input<'_>) -> Step<Option<RdbEvent>> {
    match state {
        State::Header => {
            let header = input.take(9)?;
            if &header[..5] != MAGIC {
                return Err(RdbError::NotRdb.into());
            }
            let digits = String::from_utf8_lossy(&header[5..]).into_owned();
            match digits.parse::<u32>() {
                Ok(version) if (1..=VERSION).contains(&version) => {
                    pending.no_checksum = version < FIRST_WITH_CHECKSUM;
                    *state = State::Record;
                }
                _ => return Err(RdbError::Version(digits).into()),
            }
            Ok(None)
        }
        State::Record => record(state, pending, input),
        State::Value { key, value } => {
            let done = value_step(value, input)?;
            let Some(value) = done else { return Ok(None) };
            let key = std::mem::take(key);
            let expire_at_ms = pending.expire_at_ms.take();
            *state = State::Record;
            // An empty collection is no key: Redis skips it too.
            let is_key = !is_empty_collection(&value);
            let event = RdbEvent::Key(RdbKey { key, expire_at_ms, usage: pending.usage.take(), value });
            Ok(is_key.then_some(event))
        }
        State::ModuleAux => {
            if module_part(input)? {
                *state = State::Record;
            }
            Ok(None)
        }
        State::Checksum => {
            let expected = u64::from_le_bytes(input.array()?);
            if expected != 0 && expected != crc {
                return Err(RdbError::Checksum { expected, got: crc }.into());
            }
            *state = State::Done;
            Ok(Some(RdbEvent::End))
        }
        State::Done => Ok(None),
    }
}

fn record(state: &mut State, pending: &mut Pending, input: &mut Input<'_>) -> Step<Option<RdbEvent>> {
    Ok(match input.byte()? {
        opcode::AUX => Some(RdbEvent::Aux { name: input.string()?, value: input.string()? }),
        opcode::SELECT_DB => Some(RdbEvent::SelectDb(input.length()?)),
        opcode::RESIZE_DB => Some(RdbEvent::ResizeDb { keys: input.length()?, expires: input.length()? }),
        opcode::FUNCTION => Some(RdbEvent::Function(input.string()?)),
        opcode::FUNCTION_PRERELEASE => {
            return Err(RdbError::UnsupportedRecord("a function of a pre-release of Redis 7.0").into());
        }
        opcode::EXPIRE_MS => {
            pending.expire_at_ms = Some(not_before_epoch(i64::from_le_bytes(input.array()?)));
            None
        }
        opcode::EXPIRE_S => {
            pending.expire_at_ms =
                Some(not_before_epoch(i64::from(i32::from_le_bytes(input.array()?)) * 1000));
            None
        }
        opcode::IDLE => {
            pending.usage = Some(KeyUsage::IdleS(input.length()?));
            None
        }
        opcode::FREQUENCY => {
            pending.usage = Some(KeyUsage::Frequency(input.byte()?));
            None
        }
        opcode::MODULE_AUX => {
            input.length()?;
            *state = State::ModuleAux;
            None
        }
        opcode::END if pending.no_checksum => {
            *state = State::Done;
            Some(RdbEvent::End)
        }
        opcode::END => {
            *state = State::Checksum;
            None
        }
        value_type => {
            let key = input.string()?;
            let value = begin(value_type, &key)?;
            *state = State::Value { key, value };
            None
        }
    })
}

/// Times before 1970 have passed like any other past time.
fn not_before_epoch(at_ms: i64) -> u64 {
    u64::try_from(at_ms).unwrap_or(0)
}

/// One typed part of a module's aux data; true at its end.
fn module_part(input: &mut Input<'_>) -> Step<bool> {
    match input.length()? {
        0 => return Ok(true),
        1 | 2 => {
            input.length()?;
        }
        3 => {
            input.take(4)?;
        }
        4 => {
            input.take(8)?;
        }
        5 => {
            input.string()?;
        }
        _ => return Err(RdbError::UnsupportedRecord("module data of an unknown kind").into()),
    }
    Ok(false)
}

fn begin(value_type: u8, key: &[u8]) -> Result<Partial, RdbError> {
    match value_type {
        value_type::STRING
        | value_type::LIST_ZIPLIST
        | value_type::SET_INTSET
        | value_type::SET_LISTPACK
        | value_type::HASH_ZIPMAP
        | value_type::HASH_ZIPLIST
        | value_type::HASH_LISTPACK
        | value_type::ZSET_ZIPLIST
        | value_type::ZSET_LISTPACK => Ok(Partial::Blob(value_type)),
        value_type::LIST
        | value_type::SET
        | value_type::HASH
        | value_type::ZSET
        | value_type::ZSET_2
        | value_type::LIST_QUICKLIST
        | value_type::LIST_QUICKLIST_2 => Ok(Partial::Count(value_type)),
        value_type::STREAM_LISTPACKS | value_type::STREAM_LISTPACKS_2 | value_type::STREAM_LISTPACKS_3 => {
            Ok(Partial::Stream(Box::new(StreamReader::new(value_type))))
        }
        _ => Err(RdbError::UnsupportedType {
            key: key.escape_ascii().to_string(),
            name: value_type::name(value_type),
            value_type,
        }),
    }
}

/// Reads one more part of a value; gives the value once it is whole.
fn value_step(partial: &mut Partial, input: &mut Input<'_>) -> Step<Option<ValueParts>> {
    match partial {
        Partial::Blob(value_type) => {
            let blob = input.string()?;
            return Ok(Some(match *value_type {
                value_type::STRING => ValueParts::String(blob),
                value_type::LIST_ZIPLIST => ValueParts::List(packed::ziplist(&blob)?),
                value_type::SET_INTSET => ValueParts::Set(packed::intset(&blob)?),
                value_type::SET_LISTPACK => ValueParts::Set(packed::listpack(&blob)?),
                value_type::HASH_ZIPMAP => ValueParts::Hash(packed::zipmap(&blob)?),
                value_type::HASH_ZIPLIST => ValueParts::Hash(packed::pairs(packed::ziplist(&blob)?)?),
                value_type::ZSET_ZIPLIST => ValueParts::Zset(packed::scored(packed::ziplist(&blob)?)?),
                value_type::ZSET_LISTPACK => ValueParts::Zset(packed::scored(packed::listpack(&blob)?)?),
                _ => ValueParts::Hash(packed::pairs(packed::listpack(&blob)?)?),
            }));
        }
        Partial::Stream(reader) => return Ok(reader.step(input)?.map(ValueParts::Stream)),
        Partial::Count(value_type) => {
            let left = input.length()?;
            *partial = match *value_type {
                value_type::LIST => Partial::List { left, elements: Vec::new() },
                value_type::SET => Partial::Set { left, elements: Vec::new() },
                value_type::HASH => Partial::Hash { left, pairs: Vec::new() },
                value_type::ZSET | value_type::ZSET_2 => {
                    Partial::Zset { left, binary: *value_type == value_type::ZSET_2, pairs: Vec::new() }
                }
                other => Partial::Nodes {
                    left,
                    with_container: other == value_type::LIST_QUICKLIST_2,
                    elements: Vec::new(),
                },
            };
        }
        Partial::List { left, elements } | Partial::Set { left, elements } => {
            if *left > 0 {
                elements.push(input.string()?);
                *left -= 1;
            }
        }
        Partial::Hash { left, pairs } => {
            if *left > 0 {
                pairs.push((input.string()?, input.string()?));
                *left -= 1;
            }
        }
        Partial::Zset { left, binary, pairs } => {
            if *left > 0 {
                let member = input.string()?;
                let score = if *binary { f64::from_le_bytes(input.array()?) } else { input.score_text()? };
                if score.is_nan() {
                    return Err(RdbError::Corrupt("a sorted set has a score that is no number").into());
                }
                pairs.push((member, Score(score)));
                *left -= 1;
            }
        }
        Partial::Nodes { left, with_container, elements } => {
            if *left > 0 {
                let container = if *with_container { input.length()? } else { 2 };
                let blob = input.string()?;
                match (container, *with_container) {
                    (1, _) => elements.push(blob),
                    (2, true) => elements.append(&mut packed::listpack(&blob)?),
                    (2, false) => elements.append(&mut packed::ziplist(&blob)?),
                    _ => return Err(RdbError::Corrupt("a list node has an unknown container").into()),
                }
                *left -= 1;
            }
        }
    }
    Ok(match partial {
        Partial::List { left: 0, elements } | Partial::Nodes { left: 0, elements, .. } => {
            Some(ValueParts::List(std::mem::take(elements)))
        }
        Partial::Set { left: 0, elements } => Some(ValueParts::Set(std::mem::take(elements))),
        Partial::Hash { left: 0, pairs } => Some(ValueParts::Hash(std::mem::take(pairs))),
        Partial::Zset { left: 0, pairs, .. } => Some(ValueParts::Zset(std::mem::take(pairs))),
        _ => None,
    })
}
