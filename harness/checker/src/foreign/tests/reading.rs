//! All the shapes in which histories come, and what is said of broken ones.

use super::{calls, events};
use crate::foreign::{EdnReader, Ending, Format, Kind, Speaker, Value};

fn edn(text: &str) -> Value {
    let mut reader = EdnReader::new(text.as_bytes());
    reader.next_value().expect("sound EDN").expect("a value").value
}

/// In a map, so that a vector is a value and not the whole history.
fn inside(text: &str) -> String {
    edn(&format!("{{:v {text}}}")).entry("v").expect("an entry").to_string()
}

#[test]
fn every_kind_of_value() {
    for (written, read) in [
        ("nil", "nil"),
        ("true", "true"),
        ("-17", "-17"),
        ("42N", "42"),
        ("1.5M", "1.5"),
        ("1e3", "1000.0"),
        ("1/4", "0.25"),
        ("0x1f", "31"),
        ("##Inf", "##Inf"),
        ("##-Inf", "##-Inf"),
        ("##NaN", "##NaN"),
        ("18446744073709551616", "1.8446744073709552e19"),
        (":a/b", ":a/b"),
        ("symbol", ":symbol"),
        ("'quoted", ":'quoted"),
        (r#""a\"b\\\n\u0041ä""#, r#""a\"b\\\nAä""#),
        (r"\a", r#""a""#),
        (r"\newline", r#""\n""#),
        (r"\u0042", r#""B""#),
        (r"\(", r#""(""#),
        ("[1, 2 (3) #{4}]", "[1 2 [3] [4]]"),
        ("{:a 1, \"b\" [2]}", "{:a 1, \"b\" [2]}"),
        ("#:jepsen{:a 1 :x/b 2}", "{:jepsen/a 1, :x/b 2}"),
        ("#inst \"2026\"", "\"2026\""),
        ("#jepsen.history.Op{:f :read}", "{:f :read}"),
        ("#object[java.lang.Object 0x1f \"x\"]", "[:java.lang.Object 31 \"x\"]"),
        ("[1 #_2 #_ #_ 3 4 5 ; and so on\n]", "[1 5]"),
        ("^{:meta true} [1]", "[1]"),
    ] {
        assert_eq!(inside(written), read, "{written}");
    }
}

#[test]
fn what_is_wrong_and_where() {
    for (text, message) in [
        (
            "{:type :invoke\n :process 0",
            "line 2, column 12: expected a value or '}', found the end of the file",
        ),
        (
            "{:a 1 :b}",
            "line 1, column 10: expected a value for each key of the map that ends here, found the end of the file",
        ),
        ("{:a \"x", "line 1, column 7: expected the end of a string, found the end of the file"),
        ("{:ä ]}", "line 1, column 5: expected a value, found ']'"),
        ("{:a 12x}", "line 1, column 5: expected a number, found 12x"),
        ("{:a #=(System/exit 0)}", "line 1, column 6: expected data (nothing is evaluated here), found '='"),
        ("[{:type :ok}", "line 1, column 2: expected the operation's :f, a word, found none"),
        ("7", "line 1, column 1: expected an operation: a map with :type, :process, :f and :value, found 7"),
        (
            "\n {:type :maybe}",
            "line 2, column 2: expected the operation's :type, one of :invoke, :ok, :fail, :info, found :maybe",
        ),
        (
            "{:type :ok, :process 1.5}",
            "line 1, column 1: expected the operation's :process, a number or a name, found 1.5",
        ),
        (
            "",
            "the history holds no operation: expected maps such as {:type :invoke, :process 0, :f :read, :value nil}",
        ),
    ] {
        let error = events(text, Format::Edn).expect_err(text);
        // A vector that does not end is only noticed behind its last operation, which stands for itself.
        let message = if text.starts_with('[') {
            "line 1, column 13: expected a value or ']', found the end of the file"
        } else {
            message
        };
        assert_eq!(error.to_string(), message);
    }
    let deep = "[".repeat(100_000);
    let error = events(&format!("{{:a {deep}"), Format::Edn).expect_err("too deep");
    assert!(error.to_string().contains("expected at most 100 levels of nesting"), "{error}");
    let error = events("{\"type\":\"invoke\",}", Format::JsonLines).expect_err("no JSON");
    assert!(error.to_string().starts_with("line 1, column 1"), "{error}");
    let error = events("INFO  jepsen.util - 3\t:invoke\t:read", Format::PorcupineLog).expect_err("short");
    assert_eq!(
        error.to_string(),
        "line 1, column 36: expected the operation's value, found the end of the line"
    );
}

/// One map a line; one vector; one list; tagged records; a nemesis in between; no index, no time.
#[test]
fn all_shapes_of_a_history_read_alike() {
    let lines = "{:index 0, :time 10, :type :invoke, :process 0, :f :read, :value nil}
{:index 1, :time 11, :type :info, :process :nemesis, :f :kill, :value {\"n1\" :down}}
{:index 2, :time 12, :type :ok, :process 0, :f :read, :value 3}";
    let plain = calls(lines, Format::Edn);
    let vector = format!("; saved by hand\n[{lines}]");
    let list = format!("({lines})\n");
    let tagged = lines.replace("{:index", "#jepsen.history.Op{:index");
    for text in [&vector, &list, &tagged] {
        let (mut read, lint) = calls(text, Format::Edn);
        read[0].lines = plain.0[0].lines;
        assert_eq!((read, lint), plain, "{text}");
    }
    let bare = "{:type :invoke :process 0 :f :read :value nil}{:type :ok :process 0 :f :read :value 3}";
    let (read, _) = calls(bare, Format::Edn);
    assert_eq!((read[0].ending, &read[0].answered), (Ending::Ok, &Value::Int(3)));
    let json = "{\"type\":\"invoke\",\"process\":0,\"f\":\"read\",\"value\":null}\n\n{\"type\":\"ok\",\"process\":0,\"f\":\"read\",\"value\":3}\n";
    let (read, _) = calls(json, Format::JsonLines);
    assert_eq!((read[0].ending, &read[0].answered), (Ending::Ok, &Value::Int(3)));
}

/// As in Porcupine's `test_data/jepsen`.
#[test]
fn jepsen_log_lines() {
    let log = "INFO  jepsen.core - Worker 0 starting
INFO  jepsen.util - 0\t:invoke\t:cas\t[4 2]
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
WARN  jepsen.core - something
INFO  jepsen.util - 0\t:fail\t:cas\t[4 2]
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 0\t:fail\t:read\t:timed-out
INFO  jepsen.util - 0\t:invoke\t:write\t3
INFO  jepsen.util - 0\t:info\t:write\t:timed-out";
    let events = events(log, Format::PorcupineLog).expect("a sound log");
    assert_eq!(events.len(), 6);
    assert_eq!((events[1].kind, events[1].line), (Kind::Fail, 5));
    let (calls, lint) = calls(log, Format::PorcupineLog);
    let endings: Vec<Ending> = calls.iter().map(|call| call.ending).collect();
    assert_eq!(endings, [Ending::Fail, Ending::Fail, Ending::Info]);
    assert!(lint.sentences().is_empty());
}

#[test]
fn our_own_lines_bring_their_key() {
    let own = r#"{"index":0,"time":1,"type":"invoke","process":3,"f":"append","key":"k{1}","value":7,"client":3}
{"index":1,"time":2,"type":"ok","process":3,"f":"append","key":"k{1}","value":7,"reply":1,"node":"n2"}
{"index":2,"time":3,"type":"invoke","process":3,"f":"read","key":"k{1}"}
{"index":3,"time":4,"type":"ok","process":3,"f":"read","key":"k{1}","elements":[7],"foreign":["x"]}
{"index":4,"time":5,"type":"info","process":"nemesis","f":"fault","name":"kill","phase":"start"}"#;
    let (calls, _) = calls(own, Format::JsonLines);
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[1].key.as_deref(), Some("k{1}"));
    assert_eq!(calls[1].answered.to_string(), "[7 \"x\"]");
    assert_eq!(calls[1].times, (Some(3), Some(4)));
}

#[test]
fn operations_that_are_not_whole() {
    let history = "{:type :ok, :process 9, :f :read, :value 1}
{:type :invoke, :process 0, :f :write, :value 1}
{:type :info, :process 0, :f :write, :value 1}
{:type :invoke, :process 0, :f :write, :value 2}
{:type :ok, :process 0, :f :write, :value 2}
{:type :invoke, :process 1, :f :write, :value 3}
{:type :invoke, :process 1, :f :write, :value 4}";
    let (calls, lint) = calls(history, Format::Edn);
    let seen: Vec<(u32, u64, Ending)> =
        calls.iter().map(|call| (call.process, call.invoked, call.ending)).collect();
    let (ok, info) = (Ending::Ok, Ending::Info);
    assert_eq!(seen, [(0, 0, ok), (1, 2, info), (2, 4, ok), (3, 6, info), (4, 7, info)]);
    assert_eq!(
        lint.sentences(),
        [
            "1 completions without an invocation: taken as begun at any time before",
            "2 invocations without a completion: taken as of unknown outcome",
            "2 processes went on under their number after an unknown outcome: taken as new processes",
        ]
    );
    assert_eq!(events("{:type :ok}", Format::Edn).expect("no process")[0].speaker, Speaker::Client(None));
}
