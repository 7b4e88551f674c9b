//! What each workload asks, and what it makes of replies.

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use redis_protocol::redis_keyslot;
use slotstorm_checker::record::{Body, Datum};

use super::*;

fn asked(kind: WorkloadKind, count: usize) -> Vec<Invocation> {
    let mut workload = Workload::new(WorkloadOptions::new(kind));
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    (0..count).map(|_| workload.next(&mut rng)).collect()
}

fn bulk(text: &str) -> BytesFrame {
    BytesFrame::BulkString(Bytes::from(text.to_owned()))
}

#[test]
fn the_same_seed_asks_the_same() {
    for kind in WorkloadKind::ALL {
        assert_eq!(asked(kind, 100), asked(kind, 100), "{kind}");
    }
}

#[test]
fn each_operation_stays_in_the_slot_of_its_key() {
    for invocation in WorkloadKind::ALL.into_iter().flat_map(|kind| asked(kind, 500)) {
        let slot = redis_keyslot(invocation.op().key.as_bytes());
        for command in &invocation.commands {
            let keys = command.iter().skip(1).filter(|word| word.contains(&b':'));
            for key in keys.filter(|word| !word.contains(&b' ')) {
                assert_eq!(redis_keyslot(key), slot, "{invocation:?}");
            }
        }
    }
}

#[test]
fn no_element_is_written_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for invocation in asked(WorkloadKind::Mixed, 5000).iter().filter(|invocation| invocation.is_write) {
        let element = |word: &[u8]| reply::element(word);
        let written: Vec<u64> =
            invocation.commands.iter().flatten().filter_map(|word| element(word)).collect();
        if let (Body::Call(call), [.., last]) = (&invocation.body, written.as_slice()) {
            // A compare-and-set names an old element before its own; MSET names one element three times.
            assert!(call.f.element(&call.asked).is_none() || seen.insert(*last), "{invocation:?}");
        }
    }
    assert!(seen.len() > 1000, "{}", seen.len());
}

#[test]
fn what_no_client_wrote_is_foreign() {
    let mut workload = Workload::new(WorkloadOptions::new(WorkloadKind::Set));
    let read = workload.final_reads().remove(0);
    let members = ["e12", "e012", "e", "x", "e99999999999999999999"];
    let reply = BytesFrame::Array(members.iter().map(|member| bulk(member)).collect());
    let Ok(Next::Done(Body::Read(op))) = workload.answered(&read, 0, &reply) else {
        panic!("a read's reply is a read")
    };
    assert_eq!((op.elements, op.foreign.len()), (Some(vec![12]), 4));
}

#[test]
fn a_reply_of_the_wrong_type_is_the_servers_fault() {
    let impossible = BytesFrame::SimpleString(Bytes::from_static(b"QUEUED"));
    for kind in WorkloadKind::ALL {
        let mut workload = Workload::new(WorkloadOptions::new(kind));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for invocation in (0..50).map(|_| workload.next(&mut rng)).collect::<Vec<_>>() {
            assert!(workload.answered(&invocation, 0, &impossible).is_err(), "{invocation:?}");
        }
    }
}

/// The first compare-and-set by WATCH, on a key of which nothing is known.
fn watched(workload: &mut Workload) -> Invocation {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    std::iter::repeat_with(|| workload.next(&mut rng)).find(|asked| asked.route == Route::Alone).unwrap()
}

#[test]
fn a_watched_key_that_holds_something_else_ends_the_operation_and_names_it() {
    let mut workload = Workload::new(WorkloadOptions::new(WorkloadKind::Register));
    let cas = watched(&mut workload);
    let Ok(Next::Done(Body::Call(call))) = workload.answered(&cas, 0, &bulk("e5")) else { panic!("it lost") };
    assert_eq!(call.answer, Datum::Int(5));
}

#[test]
fn a_watched_key_that_holds_what_was_expected_is_written_unless_it_changes() {
    let mut workload = Workload::new(WorkloadOptions::new(WorkloadKind::Register));
    let cas = watched(&mut workload);
    let Ok(Next::Then(commands)) = workload.answered(&cas, 0, &BytesFrame::Null) else {
        panic!("it goes on")
    };
    assert_eq!(commands.first(), Some(&command(&["MULTI"])));
    assert!(matches!(workload.answered(&cas, 1, &BytesFrame::Null), Ok(Next::Refused(_))));
    let done = BytesFrame::Array(vec![BytesFrame::SimpleString(Bytes::from_static(b"OK"))]);
    let Ok(Next::Done(Body::Call(call))) = workload.answered(&cas, 1, &done) else { panic!("it won") };
    assert_eq!(call.answer, Datum::Nil, "what was expected was seen");
}

#[test]
fn a_register_write_inside_a_transaction_is_a_read_of_what_it_replaced() {
    let mut workload = Workload::new(WorkloadOptions::new(WorkloadKind::Txn));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let one_write = |asked: &Invocation| {
        asked.commands.len() == 3 && asked.commands[1].first().is_some_and(|word| word == b"SET")
    };
    let txn = std::iter::repeat_with(|| workload.next(&mut rng)).find(one_write).unwrap();
    let reply = BytesFrame::Array(vec![bulk("e9")]);
    let Ok(Next::Done(Body::Call(call))) = workload.answered(&txn, 0, &reply) else { panic!("it was done") };
    let words: Vec<&str> =
        call.answer.items().iter().filter_map(|micro| micro.items().first()?.text()).collect();
    assert_eq!(words, ["r", "w"]);
    assert_eq!(call.answer.items()[0].items()[2], Datum::Int(9));
}
