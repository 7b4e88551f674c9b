//! Clients that wait for keys, on the pure node, in virtual time.

use super::*;

#[test]
fn who_waits_longest_is_served_first_and_what_it_sent_meanwhile_comes_after() {
    let mut bench = Bench::alone();
    let [first, second, pusher] = [(); 3].map(|()| bench.connect());
    bench.send(first, "BLPOP k 0\r\nPING\r\n");
    bench.send(second, "BLPOP k 0\r\n");
    assert_eq!(bench.sendable(first), "", "a waiting client's next request waits too");
    assert_eq!(bench.ask(pusher, "RPUSH k a"), ":1|", "the push counts what it pushed");
    bench.pass_ms(1);
    assert_eq!(bench.sendable(first), "*2|$1|k|$1|a|+PONG|");
    assert_eq!(bench.sendable(second), "");
    bench.ask(pusher, "RPUSH k b");
    assert_eq!(bench.sendable(second), "*2|$1|k|$1|b|");
    assert_eq!(bench.ask(pusher, "EXISTS k"), ":0|");
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_before() {
    let mut bench = Bench::alone();
    let client = bench.connect();
    bench.send(client, "BZPOPMIN z 1.5\r\n");
    assert!(bench.node.next_deadline().is_some_and(|at| at <= bench.now.mono.plus_ms(1500)));
    bench.pass_ms(1499);
    assert_eq!(bench.sendable(client), "");
    bench.pass_ms(1);
    assert_eq!(bench.sendable(client), "*-1|");
    assert_eq!(bench.ask(client, "ZADD z 1 a"), ":1|", "who waited in vain takes nothing later");
    assert_eq!(bench.ask(client, "ZCARD z"), ":1|");
}

#[test]
fn a_client_that_goes_waits_no_more() {
    let mut bench = Bench::alone();
    let (gone, other) = (bench.connect(), bench.connect());
    bench.send(gone, "BLPOP k 10\r\n");
    assert!(bench.ask(other, "INFO clients").contains("blocked_clients:1"));
    bench.node.input(bench.now, Input::Closed { conn: gone }, &mut bench.effects);
    bench.settle();
    assert!(bench.ask(other, "INFO clients").contains("blocked_clients:0"));
    assert_eq!(bench.ask(other, "RPUSH k a"), ":1|");
    assert_eq!(bench.ask(other, "LLEN k"), ":1|");
    bench.pass_ms(20_000);
}

#[test]
fn a_served_reply_waits_for_the_disk_as_the_push_does() {
    let mut bench =
        Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes"), ("appendfsync", "always")]);
    let (waiting, pusher) = (bench.connect(), bench.connect());
    bench.send(waiting, "BLMOVE k d LEFT RIGHT 0\r\n");
    bench.send(pusher, "RPUSH k a\r\n");
    assert_eq!(bench.sendable(waiting), "", "the move is not durable yet");
    let moved = b"*5\r\n$5\r\nLMOVE\r\n$1\r\nk\r\n$1\r\nd\r\n$4\r\nleft\r\n$5\r\nright\r\n";
    assert!(
        bench.disk.iter().any(|(_, op)| matches!(op, DiskOp::Append { bytes, .. } if bytes.ends_with(moved)))
    );
    bench.disk_works();
    assert_eq!(bench.sendable(waiting), "$1|a|");
}

#[test]
fn a_node_that_becomes_a_replica_ends_all_waits() {
    let mut bench = Bench::alone();
    let (waiting, admin) = (bench.connect(), bench.connect());
    bench.send(waiting, "BLPOP k 0\r\n");
    bench.send(admin, "REPLICAOF 127.0.0.9 7000\r\n");
    let unblocked =
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)|";
    assert_eq!(bench.sendable(waiting), unblocked);
    assert!(bench.closes.contains(&waiting), "as Redis does, the connection is closed too");
}

#[test]
fn a_slot_that_moves_takes_those_who_wait_for_it_along() {
    let slot = crate::keyspace::Slot::of_key(b"k").0;
    let (mut bench, other) = Bench::one_of_two();
    let [waiting, elsewhere, admin] = [(); 3].map(|()| bench.connect());
    bench.send(waiting, "BLPOP k 0\r\n");
    bench.send(elsewhere, "BZPOPMAX other 0\r\n");
    bench.pass_ms(1000);
    assert_eq!(bench.sendable(waiting), "");
    bench.send(admin, &format!("CLUSTER SETSLOT {slot} NODE {other}\r\n"));
    bench.disk_works();
    bench.pass_ms(1000);
    assert_eq!(bench.sendable(waiting), format!("-MOVED {slot} 127.0.0.2:7000|"));
    assert_eq!(bench.sendable(elsewhere), "", "other slots stay");
    bench.send(admin, &format!("CLUSTER DELSLOTS {}\r\n", (slot + 1) % 16384));
    bench.disk_works();
    bench.pass_ms(1000);
    assert_eq!(bench.sendable(elsewhere), "-CLUSTERDOWN The cluster is down|");
}

#[test]
fn a_target_on_its_way_to_another_server_is_waited_for() {
    let mut bench = Bench::alone();
    let [mover, caller, pusher] = [(); 3].map(|()| bench.connect());
    assert_eq!(bench.ask(caller, "RPUSH d x"), ":1|");
    bench.send(mover, "BLMOVE s d LEFT RIGHT 0\r\n");
    bench.send(caller, "MIGRATE 127.0.0.2 7000 d 0 1000\r\n");
    assert_eq!(bench.ask(pusher, "RPUSH s a"), ":1|", "the source is not on its way");
    assert_eq!(bench.sendable(mover), "", "but the target may not change now");
    let (conn, _) = bench.dials.pop().expect("the node dials");
    bench.node.input(
        bench.now,
        Input::ConnectFailed { conn, error: "refused".to_owned() },
        &mut bench.effects,
    );
    bench.settle();
    assert_eq!(bench.sendable(mover), "$1|a|");
    assert_eq!(bench.ask(pusher, "LRANGE d 0 -1"), "*2|$1|x|$1|a|");
}

#[test]
fn a_transaction_serves_who_waits_when_it_is_over_and_never_waits_itself() {
    let mut bench = Bench::alone();
    let [waiting, client] = [(); 2].map(|()| bench.connect());
    bench.send(waiting, "BZMPOP 0 2 y z MAX COUNT 2\r\n");
    for line in ["MULTI", "ZADD z 1 a 2 b 3 c", "BLPOP nothing 0", "ZCARD z"] {
        bench.ask(client, line);
    }
    assert_eq!(bench.ask(client, "EXEC"), "*3|:3|*-1|:3|", "all three are there until it is over");
    assert_eq!(bench.sendable(waiting), "*2|$1|z|*2|*2|$1|c|$1|3|*2|$1|b|$1|2|");
}

#[test]
fn a_muted_client_is_served_without_a_word() {
    let mut bench = Bench::alone();
    let [waiting, client] = [(); 2].map(|()| bench.connect());
    bench.send(waiting, "CLIENT REPLY OFF\r\nBLPOP k 0\r\n");
    bench.ask(client, "RPUSH k a b");
    assert_eq!(bench.ask(client, "LLEN k"), ":1|");
    assert_eq!(bench.sendable(waiting), "");
}
