//! Replies as data of the record.

use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Body, Call, Datum, Op, OpKind};

use super::Invocation;

/// The body of an operation on `key` that was asked so.
pub(super) fn call(f: OpKind, key: String, asked: impl Into<Datum>) -> Body {
    Body::Call(Call { f, asked: asked.into(), op: Op { key, ..Op::default() }, ..Call::default() })
}

/// The completion that answers so.
pub(super) fn answer(invocation: &Invocation, answer: impl Into<Datum>) -> Body {
    let mut body = invocation.body.clone();
    if let Body::Call(call) = &mut body {
        call.answer = answer.into();
    }
    body
}

/// What was asked.
pub(super) fn asked(invocation: &Invocation) -> &Datum {
    if let Body::Call(call) = &invocation.body { &call.asked } else { &Datum::Nil }
}

/// The text of an element.
pub(super) fn text(element: u64) -> String {
    ["e", &element.to_string()].concat()
}

/// The number in `e<number>`.
pub(super) fn element(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b"e")?;
    if digits.is_empty() || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// An element, nil, or the text of what is none of ours.
pub(super) fn element_or_nil(reply: &BytesFrame) -> Result<Datum, String> {
    match reply {
        BytesFrame::Null => Ok(Datum::Nil),
        BytesFrame::BulkString(bytes) => Ok(element(bytes)
            .map_or_else(|| Datum::Text(String::from_utf8_lossy(bytes).into_owned()), Datum::from)),
        other => Err(wrong(other)),
    }
}

/// Elements.
pub(super) fn elements(reply: &BytesFrame) -> Result<Vec<Datum>, String> {
    items(reply)?.iter().map(element_or_nil).collect()
}

/// An integer, as an integer or as a text; nil.
pub(super) fn int_or_nil(reply: &BytesFrame) -> Result<Datum, String> {
    match reply {
        BytesFrame::Null => Ok(Datum::Nil),
        BytesFrame::Integer(int) => Ok(Datum::Int(*int)),
        BytesFrame::BulkString(bytes) => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            Ok(text.parse().map_or(Datum::Text(text), Datum::Int))
        }
        other => Err(wrong(other)),
    }
}

pub(super) fn items(reply: &BytesFrame) -> Result<&[BytesFrame], String> {
    match reply {
        BytesFrame::Array(items) => Ok(items),
        other => Err(wrong(other)),
    }
}

/// What EXEC answered: the replies of its commands; None if a watched key had changed.
pub(super) fn executed(reply: &BytesFrame) -> Result<Option<&[BytesFrame]>, String> {
    match reply {
        BytesFrame::Null => Ok(None),
        reply => items(reply).map(Some),
    }
}

pub(super) fn okay(reply: &BytesFrame) -> Result<(), String> {
    match reply {
        BytesFrame::SimpleString(text) if text == "OK" => Ok(()),
        other => Err(wrong(other)),
    }
}

pub(super) fn wrong(reply: &BytesFrame) -> String {
    format!("a reply of the wrong type: {reply:?}")
}
