//! A stream beside a plain map of entries.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;
type Model = BTreeMap<StreamId, Pairs>;

const fn id(ms: u64, seq: u64) -> StreamId {
    StreamId { ms, seq }
}

fn entries<'a>(range: impl Iterator<Item = Entry<'a>>) -> Vec<(StreamId, Pairs)> {
    let pairs =
        |entry: Entry<'_>| entry.pairs().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
    range.map(|entry| (entry.id, pairs(entry))).collect()
}

/// Through the parts in which a file has it.
fn reload(stream: &Stream) -> Result<Stream, Damage> {
    let mut loader = StreamLoader::default();
    for (own, bytes) in stream.nodes_from_rank(0) {
        loader.node(own, bytes.to_vec())?;
    }
    loader.extent(*stream.extent(), false)?;
    for (name, group) in stream.groups() {
        let entries_read = Some(group.entries_read);
        loader.group(GroupHead { name: name.to_vec(), last_id: group.last_id, entries_read })?;
        for (id, pending) in group.pending().iter() {
            loader.pending(id, pending.delivered_ms, pending.deliveries)?;
        }
        for (name, consumer) in group.consumers() {
            loader.consumer(name.to_vec(), consumer.seen_ms)?;
            consumer.pending_from_rank(0).try_for_each(|id| loader.owned(id))?;
        }
    }
    loader.finish()
}

fn check(stream: &Stream, model: &Model) -> Result<(), TestCaseError> {
    let all: Vec<_> = model.iter().map(|(id, pairs)| (*id, pairs.clone())).collect();
    prop_assert_eq!(stream.len(), model.len());
    prop_assert_eq!(&entries(stream.range(StreamId::MIN, StreamId::MAX)), &all);
    let back: Vec<_> = all.iter().rev().cloned().collect();
    prop_assert_eq!(&entries(stream.range_back(StreamId::MIN, StreamId::MAX)), &back);
    prop_assert_eq!(stream.extent().first_id, all.first().map_or(StreamId::MIN, |first| first.0));
    prop_assert_eq!(stream.last_entry_id(), all.last().map(|last| last.0));
    for number in 0..12 {
        let (start, end) = (id(number * 5, 1), id(number * 9, number));
        let between: Vec<_> =
            all.iter().filter(|entry| entry.0 >= start && entry.0 <= end).cloned().collect();
        prop_assert_eq!(&entries(stream.range(start, end)), &between);
        let between: Vec<_> = between.into_iter().rev().collect();
        prop_assert_eq!(&entries(stream.range_back(start, end)), &between);
        prop_assert_eq!(stream.contains(start), model.contains_key(&start));
    }
    let heap: usize = stream.nodes_from_rank(0).map(|(_, bytes)| NODE_BYTES + bytes.len()).sum::<usize>()
        + stream.groups().map(|(name, group)| name.len() + group.heap_bytes()).sum::<usize>();
    prop_assert_eq!(stream.heap, heap);
    let again = reload(stream);
    prop_assert_eq!(again.as_ref(), Ok(stream));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn behaves_as_a_map_and_a_clone_does_not_change(
        ops in prop::collection::vec((0u8..12, 0u64..100, 0usize..5), 0..500),
        max_bytes in prop_oneof![Just(0usize), Just(60), Just(400)], max_entries in 0u64..30,
    ) {
        let limits = NodeLimits { max_bytes, max_entries };
        let (mut stream, mut model) = (Stream::default(), Model::new());
        let mut frozen = None;
        for (step, (op, number, kind)) in ops.iter().enumerate() {
            let last = stream.extent().last_id;
            match op {
                0..7 => {
                    let text = |what: &str| format!("{what}{}", "x".repeat(*number as usize % 70)).into_bytes();
                    let fields: [&[&str]; 5] = [&["a"], &["a", "b"], &["12", "b", "c"], &["a", "a"], &["long field"]];
                    let names = fields[*kind].iter().map(|name| name.as_bytes().to_vec());
                    let pairs: Vec<_> = names.map(|name| (name, text(&number.to_string()))).collect();
                    let parts: Vec<&[u8]> = pairs.iter().flat_map(|(name, value)| [&name[..], value]).collect();
                    let new = match kind {
                        0 => NewId::At(*number),
                        1 => NewId::In(last.ms),
                        _ => NewId::Exactly(id(last.ms + number % 3, (step as u64 * 7) % 5)),
                    };
                    if let Ok(id) = stream.append(new, &parts, limits) {
                        prop_assert!(id > last);
                        model.insert(id, pairs);
                    }
                }
                7 | 8 => {
                    let victim = model.range(id(*number, 0)..).next().map_or(id(*number, 0), |(id, _)| *id);
                    prop_assert_eq!(stream.delete(victim), model.remove(&victim).is_some());
                    prop_assert!(!stream.delete(victim));
                }
                9 => {
                    let keep = (model.len() * *number as usize / 100) as u64;
                    let trim = Trim { keep: Keep::Len(keep), whole_nodes: *kind == 0, limit: 0 };
                    let gone = stream.trim(trim) as usize;
                    prop_assert!(*kind == 0 || gone == model.len() - keep as usize);
                    model = model.into_iter().skip(gone).collect();
                }
                10 => {
                    let from = id(last.ms * number / 100, 0);
                    let trim = Trim { keep: Keep::From(from), whole_nodes: *kind == 0, limit: 0 };
                    let before = model.range(..from).count();
                    let gone = stream.trim(trim) as usize;
                    let right = if *kind == 0 { gone <= before } else { gone == before };
                    prop_assert!(right);
                    model = model.into_iter().skip(gone).collect();
                }
                _ => {
                    let name = [b'g', *kind as u8 % 3];
                    stream.create_group(&name, Group::new(StreamId::MIN, 0));
                    let ids: Vec<_> = model.keys().copied().step_by(3).collect();
                    stream.change_group(&name, |group, extent| {
                        group.meet_consumer(&name[..=(*kind % 2)], step as i64);
                        for (nth, id) in ids.into_iter().enumerate() {
                            group.advance(id, extent);
                            if nth % 4 == 0 { group.release(id); }
                            else { group.assign(id, &name[..=(*kind % 2)], step as i64, 1); }
                        }
                        if number % 10 == 0 { group.delete_consumer(&name[..1]); }
                    });
                    let group = stream.group(&name).expect("made above");
                    let owned: usize = group.consumers().map(|(_, consumer)| consumer.pending_len()).sum();
                    prop_assert_eq!(group.pending().len(), owned);
                    if number % 17 == 0 { stream.destroy_group(&name); }
                }
            }
            if step == ops.len() / 2 {
                frozen = Some((stream.clone(), model.clone()));
            }
        }
        for (stream, model) in [(stream, model)].into_iter().chain(frozen) {
            check(&stream, &model)?;
            let mut stream = stream;
            let mut steps = 0;
            while !stream.free_some() {
                steps += 1;
                prop_assert!(steps < 10_000);
            }
        }
    }

    #[test]
    fn damaged_nodes_are_refused_or_can_be_walked(
        mut bytes in prop::collection::vec(any::<u8>(), 0..60), entries in 1u64..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), noise: bool,
    ) {
        let mut node = Node::new(id(5, 1), &[b"field", b"value"]);
        for number in 0..entries {
            let name: &[u8] = if number % 2 == 0 { b"field" } else { b"other" };
            node.append(id(5, 1), id(5 + number, 2), &[name, b"12345678"]);
        }
        if !noise {
            bytes = node.bytes().to_vec();
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        if let Some(node) = Node::from_bytes(id(5, 1), bytes) {
            let forward: Vec<_> = node.iter(id(5, 1)).map(|entry| (entry.id, entry.pairs().count())).collect();
            let mut back: Vec<_> = node.iter_back(id(5, 1)).map(|entry| (entry.id, entry.pairs().count())).collect();
            back.reverse();
            prop_assert_eq!(forward, back);
        }
    }
}

#[test]
fn a_radix_tree_of_ids_has_as_many_nodes_as_that_of_redis() {
    // As redis-server 7.0.15 tells it in XINFO STREAM.
    let nodes = |ids: &[(u64, u64)]| {
        let mut stream = Stream::default();
        for &(ms, seq) in ids {
            stream
                .append(
                    NewId::Exactly(id(ms, seq)),
                    &[b"a", b"b"],
                    NodeLimits { max_bytes: 0, max_entries: 1 },
                )
                .unwrap();
        }
        stream.radix_nodes()
    };
    assert_eq!(nodes(&[]), 1);
    assert_eq!(nodes(&[(1, 1)]), 2);
    assert_eq!(nodes(&[(1, 1), (11, 21), (21, 41), (31, 61), (41, 81), (51, 101)]), 14);
}

#[test]
fn a_million_small_entries_take_no_more_than_in_redis() {
    let mut stream = Stream::default();
    for number in 0..100_000_u64 {
        let value = number.to_string();
        let pairs: [&[u8]; 4] = [b"sensor", b"1234", b"temperature", value.as_bytes()];
        stream.append(NewId::At(1_700_000_000_000 + number / 3), &pairs, NodeLimits::default()).unwrap();
    }
    let held: usize = stream.nodes.iter().map(|(_, node)| node.bytes().len()).sum();
    let per_entry = stream.heap_bytes() as f64 / 100_000.0;
    assert!(stream.heap_bytes() - held < 100_000 * 2, "overhead {}", stream.heap_bytes() - held);
    assert!(per_entry < 20.0, "{per_entry} bytes an entry");
}
