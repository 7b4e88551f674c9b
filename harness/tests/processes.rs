//! Real servers behind the proxy: they come up, they serve, they can be cut off, and whoever dies, nothing is left.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

mod common;

use std::time::{Duration, Instant};

use common::{Client, Cluster, REDIS_SERVER, lock};

/// What the issue allows between a kill -9 and the end of the last process.
const PATIENCE: Duration = Duration::from_secs(2);

/// A key that this node owns.
fn own_key(client: &mut Client) -> String {
    (0..1000)
        .map(|number| format!("k{number}"))
        .find(|key| client.ask(&format!("EXISTS {key}")).starts_with(':'))
        .expect("a third of all keys belong to each master")
}

#[test]
fn a_cluster_serves_through_the_proxy_is_cut_and_healed_and_ends_clean() {
    let _alone = lock::real_processes();
    let mut cluster = Cluster::up(REDIS_SERVER);
    println!("ready in {} ms", cluster.ready["ready_ms"]);
    let mut client = cluster.client(1);
    let key = own_key(&mut client);
    assert_eq!(client.ask(&format!("SET {key} before")), "+OK");

    assert!(cluster.say("isolate n1").starts_with("ok"));
    client.send(&format!("SET {key} after"));
    assert_eq!(client.line(Duration::from_millis(300)), None, "a cut link answers nothing");
    let mut observer = Client::dial("127.0.0.1".parse().unwrap(), cluster.address(1, "real"));
    assert_eq!(observer.ask("GET nothing-here").as_bytes()[0], b'-', "the node itself lives (and redirects)");
    observer.send(&format!("GET {key}"));
    assert_eq!(observer.line(PATIENCE).as_deref(), Some("$6"));
    assert_eq!(observer.line(PATIENCE).as_deref(), Some("before"), "the write never reached it");

    assert!(cluster.say("heal").starts_with("ok"));
    assert_eq!(client.line(PATIENCE).as_deref(), Some("+OK"), "what was held is delivered at heal");

    assert_eq!(cluster.say("stop n2"), "ok");
    assert!(cluster.say("start n2").contains("runs already"));
    assert_eq!(cluster.say("cont n2"), "ok");
    assert_eq!(cluster.say("kill n2"), "ok");
    assert!(cluster.say("kill n2").contains("does not run"));
    assert!(cluster.say("start n2").starts_with("ok pid"));

    assert!(cluster.quit().success());
    cluster.assert_gone(Duration::ZERO.max(Duration::from_millis(50)));
    let runs = cluster.folder.path().join("results/runs");
    assert_eq!(std::fs::read_dir(runs).unwrap().count(), 0, "no folder of a run that was none");
}

#[test]
fn a_killed_controller_leaves_nothing_however_far_it_was() {
    let _alone = lock::real_processes();
    let mut slowest = Duration::ZERO;
    for attempt in 0..10 {
        let mut cluster = Cluster::launch(REDIS_SERVER);
        std::thread::sleep(Duration::from_millis(attempt * attempt * 20));
        cluster.kill_controller();
        slowest = slowest.max(cluster.assert_gone(PATIENCE));
    }
    println!("ten controllers killed; the last process was gone after at most {slowest:?}");
}

#[test]
fn a_storm_that_is_killed_in_the_middle_leaves_nothing() {
    let _alone = lock::real_processes();
    for seconds in [5, 8] {
        let mut storm = Cluster::launch_verb(&[
            "run",
            "--json",
            "--sut",
            REDIS_SERVER,
            "--duration",
            "30",
            "--rate",
            "200",
            "--out",
            "results",
        ]);
        std::thread::sleep(Duration::from_secs(seconds));
        assert!(storm.processes().len() > 2, "the storm has servers");
        storm.kill_controller();
        storm.assert_gone(PATIENCE);
    }
}

#[test]
fn an_interrupted_controller_ends_clean_with_a_stopped_server() {
    let _alone = lock::real_processes();
    let mut cluster = Cluster::up(REDIS_SERVER);
    assert_eq!(cluster.say("stop n3"), "ok");
    assert!(cluster.say("term n3").contains("is stopped"));
    assert!(cluster.interrupt(nix::sys::signal::Signal::SIGINT).success());
    cluster.assert_gone(Duration::from_millis(50));
}

#[test]
fn a_killed_keeper_takes_every_server_along_and_ends_the_run_with_3() {
    let _alone = lock::real_processes();
    let mut cluster = Cluster::up(REDIS_SERVER);
    assert_eq!(cluster.say("stop n5"), "ok");
    cluster.kill_keeper();
    let gone = Instant::now();
    assert_eq!(cluster.wait().code(), Some(3), "the harness broke");
    cluster.assert_gone(PATIENCE.saturating_sub(gone.elapsed()));
}

#[test]
fn a_killed_controller_leaves_no_saving_child_and_no_stopped_server() {
    let _alone = lock::real_processes();
    let mut cluster = Cluster::up(REDIS_SERVER);
    save_slowly(&cluster);
    assert_eq!(cluster.say("stop n2"), "ok");
    cluster.kill_controller();
    cluster.assert_gone(PATIENCE);
}

#[test]
fn a_killed_keeper_leaves_no_saving_child() {
    let _alone = lock::real_processes();
    let mut cluster = Cluster::up(REDIS_SERVER);
    save_slowly(&cluster);
    cluster.kill_keeper();
    assert_eq!(cluster.wait().code(), Some(3));
    cluster.assert_gone(PATIENCE);
}

/// n1 has a forked child that writes an RDB file for the next minute.
fn save_slowly(cluster: &Cluster) {
    let mut client = cluster.client(1);
    let key = own_key(&mut client);
    for number in 0..60 {
        assert_eq!(client.ask(&format!("SET {{{key}}}:{number} x")), "+OK");
    }
    assert_eq!(client.ask("CONFIG SET rdb-key-save-delay 1000000"), "+OK");
    let before = cluster.processes().len();
    assert!(client.ask("BGSAVE").starts_with("+Background saving"));
    let begun = Instant::now();
    while cluster.processes().len() == before {
        assert!(begun.elapsed() < 10 * PATIENCE, "no saving child appeared");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The parent-death signal fires when the spawning thread ends; a keeper with more than one thread, or a runtime that
/// retires idle threads, would kill its servers after a while. An idle cluster disturbs nobody, so the lock is only
/// held while it comes up.
#[test]
fn idle_servers_live_on_for_a_minute() {
    let alone = lock::real_processes();
    let mut cluster = Cluster::up(REDIS_SERVER);
    drop(alone);
    let before = cluster.processes();
    std::thread::sleep(Duration::from_secs(60));
    assert_eq!(cluster.processes(), before);
    let pids = cluster.pids();
    assert!(pids.iter().all(|pid| before.iter().any(|(it, _)| it == pid)));
    assert!(cluster.quit().success());
}

#[test]
fn a_server_that_refuses_to_start_is_quoted() {
    let _alone = lock::real_processes();
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_slotstorm"))
        .args(["cluster", "up", "--sut", REDIS_SERVER, "--set", "no-such-directive=1"])
        .current_dir(folder.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("Bad directive or wrong number of arguments"), "{text}");
}

/// Six empty servers as anybody would start them: one address, six ports, no proxy.
struct Plain {
    servers: Vec<std::process::Child>,
    _folder: tempfile::TempDir,
}

impl Plain {
    const IP: &str = "127.26.40.1";

    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = |port: u16| {
            let dir = folder.path().join(port.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::process::Command::new(REDIS_SERVER)
                .args(["--port", &port.to_string(), "--bind", Self::IP, "--bind-source-addr", Self::IP])
                .args(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--save", ""])
                .args(["--protected-mode", "no", "--repl-diskless-sync-delay", "0"])
                .current_dir(dir)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        };
        let plain = Self { servers: (7001..=7006).map(start).collect(), _folder: folder };
        for port in 7001..=7006 {
            let begun = Instant::now();
            while std::net::TcpStream::connect((Self::IP, port)).is_err() {
                assert!(begun.elapsed() < 10 * PATIENCE, "nobody listens on {}:{port}", Self::IP);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        plain
    }

    fn create(more: &[&str]) -> std::process::Output {
        let nodes = (7001..=7006).map(|port| format!("{}:{port}", Self::IP));
        std::process::Command::new(env!("CARGO_BIN_EXE_slotstorm"))
            .args(["cluster", "create"])
            .args(nodes)
            .args(more)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

#[test]
fn create_makes_a_cluster_of_running_servers_once() {
    let _alone = lock::real_processes();
    let _servers = Plain::start();
    let unasked = Plain::create(&["--cluster-replicas", "1"]);
    assert_eq!(unasked.status.code(), Some(1), "nobody said yes");
    let made = Plain::create(&["--cluster-replicas", "1", "--cluster-yes"]);
    let text = String::from_utf8_lossy(&made.stdout).into_owned() + &String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{text}");
    for port in 7001..=7006 {
        let mut node =
            Client::dial("127.0.0.1".parse().unwrap(), format!("{}:{port}", Plain::IP).parse().unwrap());
        node.send("CLUSTER INFO");
        let lines: Vec<String> = (0..8).map_while(|_| node.line(PATIENCE)).collect();
        assert!(lines.contains(&"cluster_state:ok".to_owned()), "{port}: {lines:?}");
        assert!(lines.contains(&"cluster_known_nodes:6".to_owned()), "{port}: {lines:?}");
    }
    let again = Plain::create(&["--cluster-replicas", "1", "--yes"]);
    let text = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(1), "{text}");
    assert!(text.contains("is not empty. Either") && text.contains("it knows 5 other nodes"), "{text}");
    assert_eq!(Plain::create(&["--cluster-replicas", "2", "--yes"]).status.code(), Some(254));
}
