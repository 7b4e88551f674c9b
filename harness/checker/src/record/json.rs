//! Lines as serde writes them, byte for byte, at a fifth of the price: its flattened enums go through maps and buffers, and
//! a simulated storm writes hundreds of lines a millisecond. What is rare is left to serde.

use serde::Serialize;

use super::{Body, Call, Datum, Event, Kind, Op, Process, Seen, Speaker, StreamLine, StreamWhat, View};

/// Appends what `serde_json` makes of a value.
pub fn put(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, value)
        .unwrap_or_else(|error| unreachable!("lines have only string keys: {error}"));
}

/// Appends an event of the history.
pub fn put_event(event: &Event, out: &mut Vec<u8>) {
    let Event { index, time, kind, process, body } = event;
    let (f, op) = match body {
        Body::Add(op) => ("add", Some(op)),
        Body::Append(op) => ("append", Some(op)),
        Body::Read(op) => ("read", Some(op)),
        Body::Call(call) => (call.f.name(), None),
        Body::Fault(_) | Body::ReplicaCompare(_) | Body::Phase { .. } | Body::Stall { .. } => {
            return put(event, out);
        }
    };
    number("{\"index\":", *index, out);
    number(",\"time\":", *time, out);
    let kind = match kind {
        Kind::Invoke => ",\"type\":\"invoke\",\"process\":",
        Kind::Ok => ",\"type\":\"ok\",\"process\":",
        Kind::Fail => ",\"type\":\"fail\",\"process\":",
        Kind::Info => ",\"type\":\"info\",\"process\":",
    };
    match process {
        Process::Client(client) => number(kind, *client, out),
        Process::Other(Speaker::Nemesis) => bytes(&[kind, "\"nemesis\""], out),
        Process::Other(Speaker::Harness) => bytes(&[kind, "\"harness\""], out),
    }
    bytes(&[",\"f\":\"", f, "\""], out);
    match (op, body) {
        (Some(op), _) => put_op(op, out),
        (None, Body::Call(call)) => put_call(call, out),
        (None, _) => {}
    }
    out.push(b'}');
}

/// Appends a view whose table's text is `table`, whatever table it has itself.
pub fn put_view(view: &View, table: &[u8], out: &mut Vec<u8>) {
    let View { time, sent, node, seen, error } = view;
    number("{\"time\":", *time, out);
    number(",\"sent\":", *sent, out);
    text(",\"node\":", node, out);
    if let Some(seen) = seen {
        put_seen(seen, table, out);
    }
    if let Some(error) = error {
        text(",\"error\":", error, out);
    }
    out.push(b'}');
}

/// Appends a line of a replication link.
pub fn put_stream(line: &StreamLine, out: &mut Vec<u8>) {
    let StreamLine { time, from, to, conn, what: StreamWhat::Elements { elements } } = line else {
        return put(line, out);
    };
    number("{\"time\":", *time, out);
    text(",\"from\":", from, out);
    text(",\"to\":", to, out);
    number(",\"conn\":", *conn, out);
    list(",\"what\":\"elements\",\"elements\":", elements, out, |(element, offset), out| {
        number("[", *element, out);
        number(",", *offset, out);
        out.push(b']');
    });
    out.push(b'}');
}

fn put_op(op: &Op, out: &mut Vec<u8>) {
    let Op {
        key,
        value,
        elements,
        foreign,
        intended,
        client,
        node,
        reply,
        wait,
        wait_wanted,
        is_final,
        error,
    } = op;
    text(",\"key\":", key, out);
    if let Some(value) = value {
        number(",\"value\":", *value, out);
    }
    if let Some(elements) = elements {
        list(",\"elements\":", elements, out, |element, out| number("", *element, out));
    }
    if !foreign.is_empty() {
        list(",\"foreign\":", foreign, out, |word, out| text("", word, out));
    }
    if let Some(intended) = intended {
        number(",\"intended\":", *intended, out);
    }
    if let Some(client) = client {
        number(",\"client\":", *client, out);
    }
    if let Some(node) = node {
        text(",\"node\":", node, out);
    }
    for (name, value) in [(",\"reply\":", reply), (",\"wait\":", wait), (",\"wait_wanted\":", wait_wanted)] {
        if let Some(value) = value {
            number(name, *value, out);
        }
    }
    if *is_final {
        bytes(&[",\"final\":true"], out);
    }
    if let Some(error) = error {
        text(",\"error\":", error, out);
    }
}

fn put_call(call: &Call, out: &mut Vec<u8>) {
    let Call { f: _, asked, answer, op } = call;
    bytes(&[",\"value\":"], out);
    put_datum(asked, out);
    if !answer.is_nil() {
        bytes(&[",\"answer\":"], out);
        put_datum(answer, out);
    }
    put_op(op, out);
}

fn put_datum(datum: &Datum, out: &mut Vec<u8>) {
    match datum {
        Datum::Nil => bytes(&["null"], out),
        Datum::Int(int) => number("", *int, out),
        Datum::Text(word) => text("", word, out),
        Datum::List(items) => list("", items, out, put_datum),
    }
}

fn put_seen(seen: &Seen, table: &[u8], out: &mut Vec<u8>) {
    let Seen {
        id,
        master,
        ok,
        epoch,
        current_epoch,
        slots,
        open_slots,
        migrating_to,
        master_name,
        link_up,
        replid,
        offset,
        replid2,
        second_offset,
        run_id,
        table: _,
    } = seen;
    text(",\"seen\":{\"id\":", id, out);
    flag(",\"master\":", *master, out);
    flag(",\"ok\":", *ok, out);
    number(",\"epoch\":", *epoch, out);
    number(",\"current_epoch\":", *current_epoch, out);
    list(",\"slots\":", slots, out, |(first, last), out| {
        number("[", *first, out);
        number(",", *last, out);
        out.push(b']');
    });
    if !open_slots.is_empty() {
        list(",\"open_slots\":", open_slots, out, |slot, out| number("", *slot, out));
    }
    if !migrating_to.is_empty() {
        bytes(&[",\"migrating_to\":"], out);
        put(migrating_to, out);
    }
    if let Some(master_name) = master_name {
        text(",\"master_name\":", master_name, out);
    }
    flag(",\"link_up\":", *link_up, out);
    text(",\"replid\":", replid, out);
    number(",\"offset\":", *offset, out);
    text(",\"replid2\":", replid2, out);
    number(",\"second_offset\":", *second_offset, out);
    text(",\"run_id\":", run_id, out);
    bytes(&[",\"table\":"], out);
    out.extend_from_slice(table);
    out.push(b'}');
}

fn bytes(parts: &[&str], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

fn number(before: &str, number: impl itoa::Integer, out: &mut Vec<u8>) {
    bytes(&[before, itoa::Buffer::new().format(number)], out);
}

fn flag(before: &str, value: bool, out: &mut Vec<u8>) {
    bytes(&[before, if value { "true" } else { "false" }], out);
}

fn text(before: &str, text: &str, out: &mut Vec<u8>) {
    // All of them, whatever the first ones are: so many are looked at together.
    let odd = |byte: u8| u8::from(byte < b' ' || byte == b'"' || byte == b'\\');
    if text.bytes().fold(0, |odds, byte| odds | odd(byte)) == 0 {
        bytes(&[before, "\"", text, "\""], out);
    } else {
        bytes(&[before], out);
        put(&text, out);
    }
}

fn list<T>(before: &str, items: &[T], out: &mut Vec<u8>, mut item: impl FnMut(&T, &mut Vec<u8>)) {
    bytes(&[before, "["], out);
    for (at, one) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        item(one, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{FaultStep, OpKind, Phase, Row};

    fn word() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9:{}]{0,12}", any::<String>()]
    }

    fn datum() -> impl Strategy<Value = Datum> {
        let leaf =
            prop_oneof![Just(Datum::Nil), any::<i64>().prop_map(Datum::Int), word().prop_map(Datum::Text)];
        leaf.prop_recursive(3, 16, 4, |inner| vec(inner, 0..4).prop_map(Datum::List))
    }

    fn op() -> impl Strategy<Value = Op> {
        let asked = (word(), option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u32>()));
        let seen = (option::of(vec(any::<u64>(), 0..4)), vec(word(), 0..3), option::of(word()));
        let told = (option::of(any::<i64>()), option::of(any::<i64>()), option::of(any::<i64>()));
        (asked, seen, told, any::<bool>(), option::of(word())).prop_map(
            |(
                (key, value, intended, client),
                (elements, foreign, node),
                (reply, wait, wait_wanted),
                is_final,
                error,
            )| {
                Op {
                    key,
                    value,
                    elements,
                    foreign,
                    intended,
                    client,
                    node,
                    reply,
                    wait,
                    wait_wanted,
                    is_final,
                    error,
                }
            },
        )
    }

    fn body() -> impl Strategy<Value = Body> {
        let f = prop_oneof![Just(OpKind::Get), Just(OpKind::CountAtReplica), Just(OpKind::TxnAppend)];
        prop_oneof![
            op().prop_map(Body::Add),
            op().prop_map(Body::Append),
            op().prop_map(Body::Read),
            (f, datum(), datum(), op()).prop_map(|(f, asked, answer, op)| Body::Call(Call {
                f,
                asked,
                answer,
                op
            })),
            word().prop_map(|name| Body::Fault(FaultStep { name, ..FaultStep::default() })),
            Just(Body::Phase { value: Phase::FinalReads }),
            (any::<u64>(), word()).prop_map(|(value, of)| Body::Stall { value, of }),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        let kind = prop_oneof![Just(Kind::Invoke), Just(Kind::Ok), Just(Kind::Fail), Just(Kind::Info)];
        let process = prop_oneof![
            any::<u64>().prop_map(Process::Client),
            Just(Process::Other(Speaker::Nemesis)),
            Just(Process::Other(Speaker::Harness)),
        ];
        (any::<u64>(), any::<u64>(), kind, process, body())
            .prop_map(|(index, time, kind, process, body)| Event { index, time, kind, process, body })
    }

    fn seen() -> impl Strategy<Value = Seen> {
        let flags = any::<(bool, bool, bool)>();
        let numbers = any::<(u64, u64, u64, i64)>();
        let migrating = btree_map(word(), vec(any::<(u16, u16)>(), 0..3), 0..3);
        let slots = (vec(any::<(u16, u16)>(), 0..4), vec(any::<u16>(), 0..3), migrating);
        let row = (word(), vec(any::<(u16, u16)>(), 0..3)).prop_map(|(node, slots)| Row {
            node,
            slots,
            ..Row::default()
        });
        let words = (word(), option::of(word()), word(), word(), word());
        (flags, numbers, slots, words, vec(row, 0..3)).prop_map(
            |(
                (master, ok, link_up),
                (epoch, current_epoch, offset, second_offset),
                (slots, open_slots, migrating_to),
                (id, master_name, replid, replid2, run_id),
                table,
            )| {
                Seen {
                    id,
                    master,
                    ok,
                    epoch,
                    current_epoch,
                    slots,
                    open_slots,
                    migrating_to,
                    master_name,
                    link_up,
                    replid,
                    offset,
                    replid2,
                    second_offset,
                    run_id,
                    table: table.into(),
                }
            },
        )
    }

    fn stream() -> impl Strategy<Value = StreamWhat> {
        prop_oneof![
            vec(any::<(u64, u64)>(), 0..4).prop_map(|elements| StreamWhat::Elements { elements }),
            vec((word(), any::<u64>()), 0..3).prop_map(|came| StreamWhat::Keys { came, went: Vec::new() }),
            (word(), any::<u64>()).prop_map(|(replid, offset)| StreamWhat::Full { replid, offset }),
        ]
    }

    fn by_hand(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn lines_are_those_of_serde(
            event in event(),
            seen in option::of(seen()),
            error in option::of(word()),
            (time, node, to, what) in (any::<u64>(), word(), word(), stream()),
        ) {
            prop_assert_eq!(by_hand(|out| put_event(&event, out)), serde_json::to_string(&event).unwrap());
            let table = seen.as_ref().map(|seen| serde_json::to_vec(&seen.table).unwrap()).unwrap_or_default();
            let view = View { time, sent: time / 2, node: node.clone(), seen, error };
            prop_assert_eq!(by_hand(|out| put_view(&view, &table, out)), serde_json::to_string(&view).unwrap());
            let line = StreamLine { time, from: node, to, conn: time / 3, what };
            prop_assert_eq!(by_hand(|out| put_stream(&line, out)), serde_json::to_string(&line).unwrap());
        }
    }
}
