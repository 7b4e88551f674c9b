//! The pages as a browser asks for them: over a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use tempfile::TempDir;

/// Serves a folder; the thread ends with the tests.
fn serving(results: &Path) -> SocketAddr {
    let (tell, told) = channel();
    let results = results.to_owned();
    std::thread::spawn(move || {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let serving =
            super::serve(&results, bind, move |address| tell.send(address).expect("somebody waits"));
        crate::backend::process::run_local(serving).unwrap().unwrap();
    });
    told.recv_timeout(Duration::from_secs(60)).expect("it listens")
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask_as(address: SocketAddr, method: &str, path: &str, host: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn ask(address: SocketAddr, path: &str) -> Answer {
    ask_as(address, "GET", path, &address.to_string())
}

const EVENTS: &str = r#"{"index":0,"time":1000000000,"type":"info","process":"harness","f":"phase","value":"storm"}
{"index":1,"time":1500000000,"type":"invoke","process":3,"f":"add","key":"k1","value":7}
{"index":2,"time":1600000000,"type":"ok","process":3,"f":"add","key":"k1","value":7,"node":"n1"}
{"index":3,"time":1700000000,"type":"info","process":"nemesis","f":"fault","name":"kill","phase":"start","actions":[{"act":"killed","node":"n1","signal":"KILL"}],"note":"n1 <master>"}
{"index":4,"time":1800000000,"type":"invoke","process":4,"f":"add","key":"k2","value":8}
"#;

/// Results with one run, a running one, a secret beside them, and links to it.
fn results() -> (TempDir, std::path::PathBuf) {
    let whole = tempfile::tempdir().unwrap();
    let results = whole.path().join("results");
    let info = r#"{"schema":1,"name":"kill","seed":5,"sut":"embedded","started":"","nodes":[{"name":"n1","id":"","sut":"","version":"","real":"","announced":"","shard":0,"master":true,"slots":[]}],"masters":1,"replicas":0,"node_timeout_ms":2000,"duration_s":10,"clients":1,"rate":10,"workload":"set","expect":"redis","converge_bound_s":30,"directives":{},"binary_sha256":"","version":"","host":"","command":[]}"#;
    for run in ["runs/one", "runs/.two.part"] {
        std::fs::create_dir_all(results.join(run)).unwrap();
        std::fs::write(results.join(run).join("run.json"), info).unwrap();
        std::fs::write(results.join(run).join("history.jsonl"), EVENTS).unwrap();
    }
    std::fs::write(results.join("runs/.two.part/views.jsonl"), "").unwrap();
    std::fs::write(results.join("runs/one/report.html"), "<p>the report</p>").unwrap();
    std::fs::write(whole.path().join("secret"), "hidden").unwrap();
    std::os::unix::fs::symlink("../../../secret", results.join("runs/one/link")).unwrap();
    (whole, results)
}

#[test]
fn what_is_there_is_shown_and_what_is_outside_is_not() {
    let (_whole, results) = results();
    let address = serving(&results);
    let home = ask(address, "/");
    assert!(home.status == 200 && home.body.contains("/run/runs/one"), "{}", home.body);
    assert!(!home.body.contains(".two.part"), "a run that is not whole is none");
    assert!(ask(address, "/run/runs/one").body.contains("embedded"));
    let report = ask(address, "/files/runs/one/report.html");
    assert!(report.body.contains("the report") && report.head.contains("text/html"));
    assert!(
        ask(address, "/files/").body.contains("runs/") && ask(address, "/files/runs/").body.contains("one/")
    );
    assert_eq!(ask(address, "/files/runs").status, 308);
    let icon = ask(address, "/favicon.ico");
    assert!(icon.status == 200 && icon.head.contains("image/svg+xml"), "browsers ask for it unasked");
    for outside in [
        "/files/../secret",
        "/files/%2e%2e/secret",
        "/files/runs/..%2f..%2fsecret",
        "/files/runs/one/link",
        "/files//etc/passwd",
        "/run/../..",
        "/history/..%2f..",
    ] {
        let answer = ask(address, outside);
        assert!(answer.status >= 400 && !answer.body.contains("hidden"), "{outside}: {}", answer.status);
    }
}

#[test]
fn nothing_is_loaded_from_elsewhere_written_or_told_to_other_sites() {
    let (_whole, results) = results();
    let address = serving(&results);
    for page in ["/", "/live", "/history/runs/one", "/run/runs/one", "/files/"] {
        let answer = ask(address, page);
        assert_eq!(answer.status, 200, "{page}");
        assert!(
            answer.head.contains("content-security-policy: default-src 'none'"),
            "{page}: {}",
            answer.head
        );
        let elsewhere = answer.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{page}");
        assert!(
            answer.body.contains("lang=\"en\"") && answer.body.contains("prefers-color-scheme: dark"),
            "{page}"
        );
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(ask_as(address, method, page, &address.to_string()).status, 405, "{method} {page}");
        }
    }
    assert_eq!(ask_as(address, "GET", "/", "evil.example").status, 421);
    assert_eq!(ask_as(address, "GET", "/", &format!("localhost:{}", address.port())).status, 200);
}

#[test]
fn a_history_can_be_followed_by_key_process_kind_and_time() {
    let (_whole, results) = results();
    let address = serving(&results);
    let found = |query: &str| {
        let body = ask(address, &format!("/history/runs/one?{query}")).body;
        let at = body.find(" events").unwrap_or_else(|| panic!("{body}"));
        body[..at].rsplit('>').next().unwrap().trim().parse::<usize>().unwrap()
    };
    assert_eq!(found(""), 5);
    assert_eq!(found("key=k1"), 4, "its two events, the phase and the fault");
    assert_eq!(found("process=4"), 1);
    assert_eq!(found("kind=ok"), 1);
    assert_eq!(found("key=&from=1.55&to=1.75"), 2);
    assert_eq!(ask(address, "/history/runs/one?from=soon").status, 400);
    let page = ask(address, "/history/runs/one").body;
    assert!(page.contains("n1 &#60;master&#62;") || page.contains("n1 &lt;master&gt;"), "text is not markup");
}

/// One of each shape that operations have, as the recorder writes them.
const CALLS: &str = r#"{"index":0,"time":1,"type":"invoke","process":1,"f":"cas","value":[null,5],"key":"register:{r1}"}
{"index":1,"time":2,"type":"ok","process":1,"f":"cas","value":[null,5],"answer":4,"key":"register:{r1}","node":"n2"}
{"index":2,"time":3,"type":"ok","process":1,"f":"dequeue","value":null,"key":"queue:{q1}","node":"n2"}
{"index":3,"time":4,"type":"ok","process":2,"f":"move","value":"queue:{q1}:done","answer":6,"key":"queue:{q1}","node":"n3"}
{"index":4,"time":5,"type":"ok","process":2,"f":"rest","value":null,"answer":[1,2,3,4,5,6,7,8,9],"key":"queue:{q1}:done"}
{"index":5,"time":6,"type":"info","process":3,"f":"txn-append","value":[["append","txn:{t0}:1",11],["r","txn:{t0}:2",null]],"key":"txn:{t0}","error":"cut off"}
{"index":6,"time":7,"type":"ok","process":4,"f":"transfer","value":[0,2,15],"answer":[-15,15],"key":"account:{a3}"}
{"index":7,"time":8,"type":"ok","process":5,"f":"acquire","value":[8,300],"answer":2,"key":"lock:{l1}"}
{"index":8,"time":9,"type":"info","process":"nemesis","f":"fault","name":"kill","phase":"start"}
"#;

#[test]
fn operations_of_every_workload_have_their_word_and_are_found_by_any_key_they_touch() {
    let (_whole, results) = results();
    std::fs::write(results.join("runs/one/history.jsonl"), CALLS).unwrap();
    let address = serving(&results);
    let rows = |query: &str| {
        let body = ask(address, &format!("/history/runs/one?{query}")).body;
        let rows: Vec<String> = body
            .split("<tr><td>")
            .skip(1)
            .map(|row| row.split("</tr>").next().unwrap().replace("</td>", "").replace("<td>", "|"))
            .collect();
        rows
    };
    let all = rows("");
    assert_eq!(all.len(), 9);
    for (at, told) in [
        (0, "|cas|"),
        (0, "|[nil 5]|"),
        (1, "|[nil 5] \u{2192} 4|n2|"),
        (2, "|\u{2192} nil|"),
        (3, "|queue:{q1}:done \u{2192} 6|"),
        (4, "|\u{2192} [... 2 3 4 5 6 7 8 9]|"),
        (5, "|[[append txn:{t0}:1 11] [r txn:{t0}:2 nil]]||cut off"),
        (6, "|[0 2 15] \u{2192} [-15 15]|"),
        (7, "|acquire|"),
    ] {
        assert!(all[at].contains(told), "{told}: {}", all[at]);
    }
    assert!(!all.iter().any(|row| row.contains("other")));
    // Each beside the fault.
    let found = |key: &str| -> Vec<String> {
        let mut rows = rows(&format!("key={}", key.replace('{', "%7B").replace('}', "%7D")));
        assert!(rows.pop().is_some_and(|last| last.contains("fault")));
        rows.iter().map(|row| row.split('|').next().unwrap().to_owned()).collect()
    };
    assert_eq!(found("register:{r1}"), ["0", "1"]);
    assert_eq!(found("queue:{q1}"), ["2", "3"]);
    assert_eq!(found("queue:{q1}:done"), ["3", "4"]);
    assert_eq!(found("txn:{t0}"), ["5"]);
    assert_eq!(found("txn:{t0}:2"), ["5"]);
    assert_eq!(found("txn:{t0}:3"), [""; 0]);
    assert_eq!(found("account:{a3}:2"), ["6"]);
    assert_eq!(found("account:{a30}"), [""; 0]);
    assert_eq!(found("lock:{l1}:fence"), ["7"]);
}

#[test]
fn a_running_storm_is_told_as_it_happens() {
    let (_whole, results) = results();
    let address = serving(&results);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /live/events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains("\n\ndata") && !text.contains("\"happened\"") {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(text.contains("text/event-stream") && text.contains("event: state"), "{text}");
    assert!(text.contains("\"n1\":{\"process\":\"killed\"") && text.contains("fault kill"), "{text}");
}
