use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn keyspace() -> Keyspace {
    Keyspace::new(HashSeed(7, 11), EncodingLimits::default())
}

#[test]
fn entries_are_as_small_as_planned() {
    assert_eq!(size_of::<Value>(), 24);
    assert_eq!(size_of::<Entry>(), 56);
}

#[test]
fn a_snapshot_does_not_see_later_writes() {
    let mut keys = keyspace();
    for number in 0..5000 {
        let key = format!("{{tag}}{number}");
        keys.set(key.as_bytes(), Value::string(b"old"), None, WallMs(1));
    }
    let env = keys.env();
    let mut set = set::Set::default();
    for member in 0..2000 {
        assert!(set.add(env, format!("member {member}").as_bytes()));
    }
    keys.set(b"set", Value::Set(set), Some(WallMs(99)), WallMs(1));
    let frozen = keys.snapshot();
    for number in 0..5000 {
        let key = format!("{{tag}}{number}");
        if number % 2 == 0 {
            keys.remove(key.as_bytes());
        } else {
            keys.set(key.as_bytes(), Value::string(b"new"), None, WallMs(2));
        }
    }
    keys.update(b"set", |value, env| {
        let Value::Set(set) = value else { panic!("a set") };
        (0..2000).for_each(|member| {
            set.remove(env, format!("member {member}").as_bytes());
        });
    });
    assert_eq!((keys.len(), keys.expiring()), (2500, 0));
    assert_eq!((frozen.len(), frozen.databases()[0].expiring()), (5001, 1));
    let mut strings = 0;
    for key in frozen.iter() {
        match key.value {
            ValueView::String(text) => {
                assert_eq!(text.to_vec(), b"old");
                strings += 1;
            }
            ValueView::Set(set) => {
                assert_eq!(
                    (key.expire_at, set.len(), set.iter_from(500).count()),
                    (Some(WallMs(99)), 2000, 1500)
                );
            }
            _ => panic!("not written"),
        }
    }
    assert_eq!(strings, 5000);
}

#[test]
fn a_snapshot_of_a_big_sorted_set_shares_all_that_later_writes_do_not_touch() {
    let mut keys = keyspace();
    let pairs = (0..50_000).map(|n| (format!("member {n}").into_bytes(), score::Score(f64::from(n % 1000))));
    keys.load(b"z", &ValueParts::Zset(pairs.collect()), None).unwrap();
    let view = |snapshot: &Snapshot| {
        let entry = snapshot.iter().next().map(|key| key.value);
        let Some(ValueView::Zset(zset)) = entry else { panic!("a sorted set") };
        zset.iter_from(0).map(|(member, score)| (member.to_vec(), score)).collect::<Vec<_>>()
    };
    let frozen = keys.snapshot();
    let before = view(&frozen);
    for n in 0..50_000u32 {
        keys.update(b"z", |value, env| {
            let Value::Zset(zset) = value else { panic!("a sorted set") };
            let member = format!("member {}", n.wrapping_mul(7919) % 60_000).into_bytes();
            // The set's parts are shared: neither write copies more than leaves and branches.
            if n % 3 == 0 {
                zset.remove(env, &member);
            } else {
                zset.set(env, &member, f64::from(n));
            }
        });
        if n % 10_000 == 0 {
            assert_eq!(view(&frozen), before);
        }
    }
    assert_eq!((before.len(), view(&frozen) == before), (50_000, true));
    assert!(before.is_sorted_by(|a, b| (a.1, &a.0) < (b.1, &b.0)));
    let after = view(&keys.snapshot());
    assert!(after != before && after.is_sorted_by(|a, b| (a.1, &a.0) < (b.1, &b.0)));
}

#[test]
fn memory_is_all_given_back() {
    let mut keys = keyspace();
    for number in 0..300u64 {
        let key = format!("key {number}");
        let parts = match number % 5 {
            0 => ValueParts::String(vec![b'x'; number as usize]),
            1 => ValueParts::List((0..number).map(|item| format!("{item:030}").into_bytes()).collect()),
            2 => ValueParts::Set((0..number * 3).map(|item| item.to_string().into_bytes()).collect()),
            3 => ValueParts::Zset(
                (0..number * 3)
                    .map(|item| (vec![b'm'; item as usize / 9 + 1], item))
                    .collect::<BTreeMap<_, _>>()
                    .into_iter()
                    .map(|(member, item)| (member, score::Score(item as f64)))
                    .collect(),
            ),
            _ => ValueParts::Hash(
                (0..number * 3).map(|item| (item.to_string().into_bytes(), vec![b'v'; 70])).collect(),
            ),
        };
        keys.load(key.as_bytes(), &parts, (number % 3 == 0).then_some(WallMs(number))).unwrap();
    }
    assert!(keys.used_memory() > 1_000_000, "{}", keys.used_memory());
    for number in 0..150u64 {
        assert!(keys.remove(format!("key {number}").as_bytes()));
    }
    keys.clear();
    assert_eq!((keys.used_memory(), keys.len(), keys.expiring(), keys.next_expiry()), (0, 0, 0, None));
    let mut steps = 0;
    while keys.has_garbage() {
        keys.free_some(1);
        steps += 1;
    }
    assert!(steps > 1000, "big values are freed bit by bit, not in {steps} steps");
}

#[test]
fn parts_that_cannot_be_are_refused() {
    let mut keys = keyspace();
    let twice = ValueParts::Set(vec![b"a".to_vec(), b"a".to_vec()]);
    assert_eq!(keys.load(b"k", &twice, None), Err(PartsError::Duplicate));
    assert_eq!(keys.load(b"k", &ValueParts::List(Vec::new()), None), Err(PartsError::Empty));
    assert_eq!(keys.load(b"k", &ValueParts::String(Vec::new()), None), Ok(()));
    assert_eq!(keys.load(b"k", &ValueParts::String(Vec::new()), None), Err(PartsError::Duplicate));
}

proptest! {
    #[test]
    fn expiry_hands_out_due_keys_in_order(times in prop::collection::vec((0u8..40, 0u64..50), 0..200), now in 0u64..60) {
        let mut keys = keyspace();
        let mut model = BTreeMap::new();
        for (key, time) in times {
            let expire_at = (time > 5).then_some(WallMs(time));
            keys.set(&[key], Value::Int(1), expire_at, WallMs(0));
            model.insert(key, expire_at);
        }
        let mut due = Vec::new();
        while let Some(key) = keys.next_expired(WallMs(now), |_| false) {
            due.push((model[&key[0]].unwrap(), key[0]));
            prop_assert!(keys.remove(&key));
        }
        prop_assert!(due.is_sorted_by_key(|pair| pair.0));
        let expected = model.values().flatten().filter(|at| at.0 <= now).count();
        prop_assert_eq!(due.len(), expected);
        prop_assert_eq!(keys.expiring(), model.values().flatten().count() - expected);
    }

    #[test]
    fn hashes_behave_as_maps_in_both_encodings(ops in prop::collection::vec((any::<bool>(), 0u16..60, 0usize..80), 0..300), limit in 0usize..40) {
        let env = Env { seed: HashSeed(1, 2), limits: EncodingLimits { hash_max_listpack_entries: limit, ..EncodingLimits::default() }, ..Env::default() };
        let mut hash = hashtable::Hash::default();
        let mut model = BTreeMap::new();
        for (put, field, len) in ops {
            let field = field.to_string().into_bytes();
            if put {
                let value = vec![b'v'; len];
                prop_assert_eq!(hash.set(env, &field, &value), model.insert(field, value).is_none());
            } else {
                prop_assert_eq!(hash.remove(env, &field), model.remove(&field).is_some());
            }
        }
        let mut seen: Vec<_> = hash.iter_from(0).map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
        seen.sort();
        prop_assert_eq!(seen, model.into_iter().collect::<Vec<_>>());
    }
}
