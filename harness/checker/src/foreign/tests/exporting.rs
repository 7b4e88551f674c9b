//! What we write as EDN is what the reader makes of our own lines.

use super::{calls, events};
use crate::foreign::{Format, Shape, Value, write_event};
use crate::record::Event;

const OWN: &str = r#"{"index":0,"time":1,"type":"invoke","process":3,"f":"append","key":"a \"b\"","value":7}
{"index":1,"time":2,"type":"ok","process":3,"f":"append","key":"a \"b\"","value":7,"reply":1,"node":"n2"}
{"index":2,"time":3,"type":"invoke","process":"nemesis","f":"fault","name":"kill","phase":"start"}
{"index":3,"time":3,"type":"invoke","process":3,"f":"read","key":"a \"b\""}
{"index":4,"time":4,"type":"ok","process":3,"f":"read","key":"a \"b\"","elements":[7,8]}
{"index":5,"time":5,"type":"invoke","process":4,"f":"add","key":"s","value":9}
{"index":6,"time":6,"type":"info","process":4,"f":"add","key":"s","value":9,"error":"timeout"}"#;

/// Operations with more than an element: a compare-and-set that lost, a transfer and balances, a transaction.
const CALLS: &str = r#"{"index":0,"time":0,"type":"info","process":"harness","f":"phase","value":"load"}
{"index":0,"time":1,"type":"invoke","process":1,"f":"cas","value":[null,5],"key":"r"}
{"index":1,"time":2,"type":"ok","process":1,"f":"cas","value":[null,5],"answer":4,"key":"r"}
{"index":2,"time":3,"type":"invoke","process":1,"f":"transfer","value":[0,2,30],"key":"a"}
{"index":3,"time":4,"type":"ok","process":1,"f":"transfer","value":[0,2,30],"answer":[-30,30],"key":"a"}
{"index":4,"time":5,"type":"invoke","process":1,"f":"balances","value":null,"key":"a"}
{"index":5,"time":6,"type":"ok","process":1,"f":"balances","value":null,"answer":[-30,null,30],"key":"a"}
{"index":6,"time":7,"type":"invoke","process":2,"f":"txn-append","value":[["r","k",null],["append","k",7]],"key":"t"}
{"index":7,"time":8,"type":"ok","process":2,"f":"txn-append","value":[["r","k",null],["append","k",7]],"answer":[["r","k",[3]],["append","k",7]],"key":"t"}"#;

fn exported(shape: Shape) -> String {
    exported_of(OWN, shape)
}

fn exported_of(history: &str, shape: Shape) -> String {
    let mut out = Vec::new();
    for line in history.lines() {
        let event: Event = serde_json::from_str(line).expect("one of our lines");
        write_event(&mut out, &event, shape).expect("a vector takes all");
    }
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn keyed_lines_look_like_jepsens() {
    let edn = exported(Shape::Keyed);
    let lines: Vec<&str> = edn.lines().collect();
    assert_eq!(lines[4], r#"{:index 4, :time 4, :type :ok, :process 3, :f :read, :value ["a \"b\"" [7 8]]}"#);
    assert_eq!(lines[2], r#"{:index 2, :time 3, :type :info, :process :nemesis, :f :kill, :value ""}"#);
    assert_eq!(
        lines[6],
        r#"{:index 6, :time 6, :type :info, :process 4, :f :add, :value ["s" 9], :error "timeout"}"#
    );
    let (ours, _) = calls(OWN, Format::JsonLines);
    let (theirs, _) = calls(&edn, Format::Edn);
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let tuple = theirs.asked.vector().expect("a tuple");
        assert_eq!((ours.key.as_deref(), &ours.asked), (tuple[0].word(), &tuple[1]));
        assert_eq!((ours.process, ours.ending, ours.times), (theirs.process, theirs.ending, theirs.times));
    }
}

#[test]
fn transactions_are_elles() {
    let edn = exported(Shape::Transactions);
    let read = events(&edn, Format::Edn).expect("what we wrote");
    assert!(read.iter().all(|event| event.f == "txn"));
    let micro = |at: usize| read[at].value.vector().and_then(|micros| micros.first()).map(Value::to_string);
    assert_eq!(micro(1).as_deref(), Some(r#"[:append "a \"b\"" 7]"#));
    assert_eq!(micro(3).as_deref(), Some(r#"[:r "a \"b\"" [7 8]]"#));
}

#[test]
fn other_operations_have_the_words_of_jepsens_workloads() {
    let edn = exported_of(CALLS, Shape::Keyed);
    let lines: Vec<&str> = edn.lines().collect();
    assert_eq!(
        lines[2],
        r#"{:index 1, :time 2, :type :fail, :process 1, :f :cas, :value ["r" [nil 5]], :reply 4}"#
    );
    assert!(
        lines[4].ends_with(r#":f :transfer, :value ["a" {:from 0, :to 2, :amount 30}]}"#),
        "{}",
        lines[4]
    );
    assert!(lines[6].ends_with(r#":f :read, :value ["a" {0 -30, 1 0, 2 30}]}"#), "{}", lines[6]);
    assert!(lines[8].ends_with(r#":f :txn, :value [[:r "k" [3]] [:append "k" 7]]}"#), "{}", lines[8]);
}

#[test]
fn other_operations_are_read_as_they_are_exported() {
    let (ours, _) = calls(CALLS, Format::JsonLines);
    let (theirs, _) = calls(&exported_of(CALLS, Shape::Keyed), Format::Edn);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let value = match ours.f.as_str() {
            "txn" => &theirs.answered,
            _ => &theirs.answered.vector().expect("a tuple")[1],
        };
        assert_eq!((ours.f.as_str(), ours.ending, &ours.answered), (theirs.f.as_str(), theirs.ending, value));
        assert_eq!(ours.reply, theirs.reply);
    }
    assert_eq!(ours.len(), 4);
}
