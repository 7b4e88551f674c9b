//! When are two replies alike? Byte for byte; but where Redis leaves the order open, as multisets; where it draws lots, in
//! their shape; where the clock shows, nearly.

use super::wire::Frame;

/// What of a reply is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sameness {
    Exact,
    /// Its items (of so many frames each) in any order.
    AnyOrder(usize),
    /// Kind and number of items: lots were drawn.
    Shape,
    /// Times to come or gone, in seconds or milliseconds.
    Near(i64),
    /// Ages and internals in it are not compared ([`AGES`]).
    Aged,
    /// A cursor, and items in any order; all of them, unless there are more.
    Scan(usize),
    /// It is another server, in another place: not compared.
    Not,
}

/// The values behind these names show a clock, an id, or the insides of a radix tree.
const AGES: [&[u8]; 12] = [
    b"idle",
    b"inactive",
    b"seen-time",
    b"active-time",
    b"radix-tree-keys",
    b"radix-tree-nodes",
    b"age-seconds",
    b"client-info",
    b"entry-id",
    b"timestamp-created",
    b"timestamp-last-updated",
    b"id",
];

/// What of the reply to a request is compared.
pub fn sameness(request: &[Vec<u8>]) -> Sameness {
    let word = |n: usize| request.get(n).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    let has = |option: &[u8]| request.iter().any(|word| word.eq_ignore_ascii_case(option));
    let sub = word(1);
    match &word(0)[..] {
        b"SMEMBERS" | b"SINTER" | b"SUNION" | b"SDIFF" | b"KEYS" | b"HKEYS" | b"HVALS" | b"PUBSUB" => {
            Sameness::AnyOrder(1)
        }
        b"HGETALL" => Sameness::AnyOrder(2),
        b"GEOSEARCH" | b"GEORADIUS" | b"GEORADIUS_RO" | b"GEORADIUSBYMEMBER" | b"GEORADIUSBYMEMBER_RO"
            if !has(b"ASC") && !has(b"DESC") =>
        {
            if has(b"ANY") {
                Sameness::Shape
            } else {
                Sameness::AnyOrder(1)
            }
        }
        // Equal weights, and the order of a set.
        b"SORT" | b"SORT_RO" if has(b"BY") => {
            if has(b"LIMIT") {
                Sameness::Shape
            } else {
                Sameness::AnyOrder(1)
            }
        }
        b"SPOP" | b"SRANDMEMBER" | b"HRANDFIELD" | b"ZRANDMEMBER" | b"RANDOMKEY" | b"DUMP" | b"TIME"
        | b"LASTSAVE" | b"INFO" | b"LOLWUT" => Sameness::Shape,
        b"TTL" | b"EXPIRETIME" => Sameness::Near(2),
        b"PTTL" | b"PEXPIRETIME" => Sameness::Near(2000),
        // Keys that have expired are counted until someone looks.
        b"DBSIZE" => Sameness::Not,
        // Another cursor is a place in another table.
        b"SCAN" if sub != b"0" => Sameness::Not,
        b"SSCAN" | b"HSCAN" | b"ZSCAN" if word(2) != b"0" => Sameness::Not,
        b"SCAN" | b"SSCAN" => Sameness::Scan(1),
        b"HSCAN" | b"ZSCAN" => Sameness::Scan(2),
        b"XPENDING" | b"XINFO" | b"HELLO" => Sameness::Aged,
        b"OBJECT" if sub == b"IDLETIME" || sub == b"FREQ" => Sameness::Near(200),
        b"MEMORY" if sub == b"USAGE" => Sameness::Shape,
        b"MEMORY" if sub != b"HELP" && sub != b"PURGE" => Sameness::Not,
        b"CLIENT" if sub == b"ID" || sub == b"LIST" || sub == b"INFO" => Sameness::Shape,
        b"ACL" if sub == b"GENPASS" => Sameness::Shape,
        b"ACL" if sub == b"LOG" => Sameness::Aged,
        b"ACL" if sub == b"CAT" => Sameness::AnyOrder(1),
        b"COMMAND" if sub == b"COUNT" || sub == b"LIST" || request.len() == 1 => Sameness::Not,
        b"COMMAND" if sub == b"INFO" || sub == b"DOCS" => Sameness::AnyOrder(1),
        b"CONFIG" if sub == b"GET" => Sameness::AnyOrder(2),
        b"FUNCTION" if sub == b"LIST" => Sameness::AnyOrder(1),
        b"FUNCTION" if sub == b"DUMP" => Sameness::Shape,
        b"CLUSTER" if matches!(&sub[..], b"MYID" | b"NODES" | b"SLOTS" | b"SHARDS" | b"LINKS" | b"INFO") => {
            Sameness::Not
        }
        _ => Sameness::Exact,
    }
}

impl Sameness {
    /// Are the replies as alike as this asks for?
    pub fn holds(self, expected: &Frame, got: &Frame) -> bool {
        if expected == got {
            return true;
        }
        if expected.is_error() || got.is_error() {
            return false;
        }
        match self {
            Self::Exact => false,
            Self::Not => true,
            Self::AnyOrder(_) if expected.sign == b'%' => as_multisets(expected, got, 2),
            Self::AnyOrder(step) => as_multisets(expected, got, step),
            Self::Shape => same_shape(expected, got),
            Self::Near(distance) => match (expected.integer(), got.integer()) {
                (Some(a), Some(b)) => a >= 0 && b >= 0 && (a - b).abs() <= distance,
                _ => false,
            },
            Self::Aged => aged(expected, got),
            Self::Scan(step) => {
                let ([cursor, items], [our_cursor, our_items]) = (&expected.items[..], &got.items[..]) else {
                    return false;
                };
                let done = |cursor: &Frame| cursor.text == b"=0";
                if done(cursor) && done(our_cursor) {
                    as_multisets(items, our_items, step)
                } else {
                    same_kind(cursor, our_cursor) && items.sign == our_items.sign
                }
            }
        }
    }
}

fn as_multisets(expected: &Frame, got: &Frame, step: usize) -> bool {
    let sorted = |frame: &Frame| {
        let mut items: Vec<Vec<Frame>> = frame.items.chunks(step).map(<[Frame]>::to_vec).collect();
        // What is nested may be in any order, too: the functions of a library, its flags.
        items.iter_mut().flatten().for_each(sort_within);
        items.sort_unstable();
        items
    };
    expected.sign == got.sign && expected.text == got.text && sorted(expected) == sorted(got)
}

fn sort_within(frame: &mut Frame) {
    frame.items.iter_mut().for_each(sort_within);
    if frame.items.len() > 1 && frame.items.iter().all(|item| !item.items.is_empty()) {
        frame.items.sort_unstable();
    }
}

/// A null is of the kind of its protocol.
fn same_kind(expected: &Frame, got: &Frame) -> bool {
    expected.sign == got.sign && (expected.text == b"-1") == (got.text == b"-1")
}

fn same_shape(expected: &Frame, got: &Frame) -> bool {
    same_kind(expected, got)
        && expected.items.len() == got.items.len()
        && expected.items.iter().zip(&got.items).all(|(a, b)| same_shape(a, b))
}

/// Alike but for ages: those behind a name, and those of pending entries.
fn aged(expected: &Frame, got: &Frame) -> bool {
    if expected == got {
        return true;
    }
    if !same_kind(expected, got) || expected.items.len() != got.items.len() {
        return false;
    }
    if expected.items.is_empty() {
        return false;
    }
    let is_integer = |n: usize| expected.items[n].sign == b':' && got.items[n].sign == b':';
    let count = expected.items.len();
    (0..count).all(|n| {
        let named =
            n > 0 && AGES.iter().any(|name| &expected.items[n - 1].text.get(1..).unwrap_or_default() == name);
        // [id, consumer, age, count] and [id, age, count]
        let pending =
            is_integer(n) && (count == 4 && n == 2 || count == 3 && n == 1) && is_integer(count - 1);
        named || pending || aged(&expected.items[n], &got.items[n])
    })
}
