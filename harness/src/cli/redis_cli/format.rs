//! Replies as redis-cli 7.0 prints them, byte for byte: for people, raw, CSV, JSON.

use super::reply::Reply;
use super::words::quote;

/// How replies are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `(integer) 1`, quoted strings, numbered lists.
    Human,
    /// The bytes alone.
    Raw,
    /// Comma separated.
    Csv,
    /// JSON with UTF-8 as it is.
    Json,
    /// JSON in ASCII: other bytes as `\\xNN`.
    QuotedJson,
}

/// What ends values and replies in raw style.
#[derive(Clone, Debug)]
pub struct Delimiters {
    /// Between the elements of a list (`-d`).
    pub value: Vec<u8>,
    /// After each reply (`-D`).
    pub reply: Vec<u8>,
}

/// A whole reply with its end of line.
pub fn reply(reply: &Reply, style: Style, ends: &Delimiters) -> Vec<u8> {
    let mut out = Vec::new();
    match style {
        Style::Human => human(reply, "", &mut out),
        Style::Raw => {
            raw(reply, &ends.value, &mut out);
            out.extend(&ends.reply);
        }
        Style::Csv => {
            csv(reply, &mut out);
            out.push(b'\n');
        }
        Style::Json | Style::QuotedJson => {
            json(reply, style == Style::QuotedJson, &mut out);
            out.push(b'\n');
        }
    }
    out
}

/// A text reply of INFO and the like: as it is, nothing added.
pub fn verbatim(reply: &Reply, ends: &Delimiters) -> Vec<u8> {
    let mut out = Vec::new();
    raw(reply, &ends.value, &mut out);
    out
}

/// A message of client-side caching, if it is one.
pub fn invalidation(reply: &Reply) -> Option<Vec<u8>> {
    let Reply::Push(parts) = reply else { return None };
    let [Reply::Bulk(kind), Reply::Array(keys)] = parts.as_slice() else { return None };
    if !kind.starts_with(b"invalidate") {
        return None;
    }
    let mut out = b"-> invalidate: ".to_vec();
    for (index, key) in keys.iter().enumerate() {
        let Reply::Bulk(key) = key else { return None };
        if index > 0 {
            out.extend(b", ");
        }
        out.push(b'\'');
        out.extend(key);
        out.push(b'\'');
    }
    out.push(b'\n');
    Some(out)
}

fn human(reply: &Reply, prefix: &str, out: &mut Vec<u8>) {
    match reply {
        Reply::Error(text) => line(out, b"(error) ", text),
        Reply::Status(text) | Reply::Verbatim(text) => line(out, b"", text),
        Reply::Integer(number) => line(out, b"(integer) ", number.to_string().as_bytes()),
        Reply::Double(text) => line(out, b"(double) ", text),
        Reply::BigNumber(text) => line(out, b"(big number) ", text),
        Reply::Bulk(bytes) => {
            quote(bytes, out);
            out.push(b'\n');
        }
        Reply::Nil => out.extend(b"(nil)\n"),
        Reply::Bool(is) => out.extend(if *is { b"(true)\n".as_slice() } else { b"(false)\n" }),
        Reply::Array(items) => human_list(items, ("(empty array)\n", ')'), prefix, out),
        Reply::Set(items) => human_list(items, ("(empty set)\n", '~'), prefix, out),
        Reply::Push(items) => human_list(items, ("(empty push)\n", ')'), prefix, out),
        Reply::Map(pairs) => human_map(pairs, prefix, out),
    }
}

fn human_list(items: &[Reply], (empty, mark): (&str, char), prefix: &str, out: &mut Vec<u8>) {
    if items.is_empty() {
        out.extend(empty.bytes());
    }
    let width = digits(items.len());
    let inner = format!("{prefix}{:1$}", "", width + 2);
    for (index, item) in items.iter().enumerate() {
        // The first line's prefix was written by the caller: it holds the caller's own number.
        let before = if index == 0 { "" } else { prefix };
        out.extend(format!("{before}{:width$}{mark} ", index + 1).bytes());
        human(item, &inner, out);
    }
}

fn human_map(pairs: &[(Reply, Reply)], prefix: &str, out: &mut Vec<u8>) {
    if pairs.is_empty() {
        out.extend(b"(empty hash)\n");
    }
    let width = digits(pairs.len());
    let inner = format!("{prefix}{:1$}", "", width + 2);
    for (index, (key, value)) in pairs.iter().enumerate() {
        let before = if index == 0 { "" } else { prefix };
        out.extend(format!("{before}{:width$}# ", index + 1).bytes());
        human(key, &inner, out);
        out.pop(); // the key's end of line
        out.extend(b" => ");
        if is_multiline(value) {
            out.push(b'\n');
            out.extend(inner.bytes());
        }
        human(value, &inner, out);
    }
}

fn is_multiline(reply: &Reply) -> bool {
    match reply {
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => match items.as_slice() {
            [] => false,
            [one] => is_multiline(one),
            _ => true,
        },
        Reply::Map(pairs) => match pairs.as_slice() {
            [] => false,
            [(_, value)] => is_multiline(value),
            _ => true,
        },
        _ => false,
    }
}

fn raw(reply: &Reply, between: &[u8], out: &mut Vec<u8>) {
    match reply {
        Reply::Nil => {}
        Reply::Error(text) => line(out, b"", text),
        Reply::Status(bytes)
        | Reply::Bulk(bytes)
        | Reply::Verbatim(bytes)
        | Reply::Double(bytes)
        | Reply::BigNumber(bytes) => out.extend(bytes),
        Reply::Bool(is) => out.extend(if *is { b"(true)".as_slice() } else { b"(false)" }),
        Reply::Integer(number) => out.extend(number.to_string().bytes()),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.extend(between);
                }
                raw(item, between, out);
            }
        }
        Reply::Map(pairs) => {
            for (index, (key, value)) in pairs.iter().enumerate() {
                if index > 0 {
                    out.extend(between);
                }
                raw(key, between, out);
                out.push(b' ');
                raw(value, between, out);
            }
        }
    }
}

fn csv(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Error(text) => {
            out.extend(b"ERROR,");
            quote(text, out);
        }
        Reply::Status(bytes) | Reply::Bulk(bytes) | Reply::Verbatim(bytes) => quote(bytes, out),
        Reply::Integer(number) => out.extend(number.to_string().bytes()),
        Reply::Double(text) | Reply::BigNumber(text) => out.extend(text),
        Reply::Nil => out.extend(b"NULL"),
        Reply::Bool(is) => out.extend(is.to_string().bytes()),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            separated(items, out, csv);
        }
        Reply::Map(pairs) => separated(pairs, out, |(key, value), out| {
            csv(key, out);
            out.push(b',');
            csv(value, out);
        }),
    }
}

fn json(reply: &Reply, is_ascii: bool, out: &mut Vec<u8>) {
    match reply {
        Reply::Error(text) => {
            out.extend(b"error:");
            json_text(text, is_ascii, out);
        }
        Reply::Status(bytes) | Reply::Bulk(bytes) | Reply::Verbatim(bytes) => json_text(bytes, is_ascii, out),
        Reply::Integer(number) => out.extend(number.to_string().bytes()),
        Reply::Double(text) | Reply::BigNumber(text) => out.extend(text),
        Reply::Nil => out.extend(b"null"),
        Reply::Bool(is) => out.extend(is.to_string().bytes()),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            out.push(b'[');
            separated(items, out, |item, out| json(item, is_ascii, out));
            out.push(b']');
        }
        Reply::Map(pairs) => {
            out.push(b'{');
            separated(pairs, out, |(key, value), out| {
                json_key(key, is_ascii, out);
                out.push(b':');
                json(value, is_ascii, out);
            });
            out.push(b'}');
        }
    }
}

/// JSON's keys are strings: what is none is put in quotes.
fn json_key(key: &Reply, is_ascii: bool, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    json(key, is_ascii, &mut text);
    let is_text = matches!(key, Reply::Error(_) | Reply::Status(_) | Reply::Bulk(_) | Reply::Verbatim(_))
        || text[0] == b'"';
    if is_text {
        out.extend(text);
    } else {
        out.push(b'"');
        out.extend(text);
        out.push(b'"');
    }
}

fn json_text(bytes: &[u8], is_ascii: bool, out: &mut Vec<u8>) {
    if is_ascii {
        let mut quoted = Vec::new();
        quote(bytes, &mut quoted);
        // Backslashes are doubled, also those before quotes: redis-cli does so.
        for byte in quoted {
            out.push(byte);
            if byte == b'\\' {
                out.push(byte);
            }
        }
        return;
    }
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            0x0c => out.extend(b"\\f"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            8 => out.extend(b"\\b"),
            0..=0x1f => out.extend(format!("\\u{byte:04x}").bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn separated<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
}

fn line(out: &mut Vec<u8>, before: &[u8], text: &[u8]) {
    out.extend(before);
    out.extend(text);
    out.push(b'\n');
}

fn digits(count: usize) -> usize {
    count.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], style: Style) -> String {
        let ends = Delimiters { value: b"\n".to_vec(), reply: b"\n".to_vec() };
        let parsed = super::super::reply::read(&mut &*bytes).unwrap();
        String::from_utf8(reply(&parsed, style, &ends)).unwrap()
    }

    const NESTED: &[u8] = b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n%2\r\n+k\r\n*2\r\n:1\r\n:2\r\n+e\r\n*0\r\n";

    #[test]
    fn lists_in_lists_are_numbered_and_indented() {
        let expected = "1) (integer) 1\n2) 1) \"a\"\n   2) (nil)\n3) 1# k => \n      1) (integer) 1\n      \
                        2) (integer) 2\n   2# e => (empty array)\n";
        assert_eq!(shown(NESTED, Style::Human), expected);
    }

    #[test]
    fn the_same_for_programs() {
        assert_eq!(shown(NESTED, Style::Raw), "1\na\n\nk 1\n2\ne \n");
        assert_eq!(shown(NESTED, Style::Csv), "1,\"a\",NULL,\"k\",1,2,\"e\",\n");
        assert_eq!(shown(NESTED, Style::Json), "[1,[\"a\",null],{\"k\":[1,2],\"e\":[]}]\n");
    }
}
