//! Scripts and functions on the pure node, in virtual time.

use super::*;
use crate::command::flag;

const BUSY: &str = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.|";

/// The whole content that the append-only file would have.
fn appended(bench: &Bench) -> String {
    let mut all = Vec::new();
    for (_, op) in &bench.disk {
        if let DiskOp::Append { bytes, .. } = op {
            all.extend_from_slice(bytes);
        }
    }
    String::from_utf8_lossy(&all).replace("\r\n", "|")
}

#[test]
fn what_a_script_writes_is_handed_on_as_one_transaction_of_its_effects() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes")]);
    let client = bench.connect();
    bench.disk_works();
    bench.send(
        client,
        "EVAL \"redis.call('set','a',1) redis.call('incr','a') return redis.call('get','a')\" 0\r\n",
    );
    assert!(
        appended(&bench).ends_with("*1|$5|MULTI|*3|$3|set|$1|a|$1|1|*2|$4|incr|$1|a|*1|$4|EXEC|"),
        "{}",
        appended(&bench)
    );
    bench.disk_works();
    assert_eq!(bench.sendable(client), "$1|2|");
    bench.send(client, "EVAL \"redis.set_repl(redis.REPL_NONE) return redis.call('set','b',1)\" 0\r\n");
    assert_eq!(appended(&bench), "", "a script may keep what it does to itself");
    assert_eq!(bench.ask(client, "GET b"), "+OK|$1|1|");
}

#[test]
fn a_protected_call_gives_back_as_many_values_as_there_are() {
    let mut bench = Bench::new(&[("cluster-enabled", "no")]);
    let client = bench.connect();
    let script = "return select('#', pcall(cmsgpack.unpack, string.rep(string.char(195), 100)))";
    assert_eq!(bench.ask(client, &format!("EVAL \"{script}\" 0")), ":101|");
}

#[test]
fn a_long_script_is_left_and_gone_on_with_and_others_wait_and_then_are_told_busy() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("busy-reply-threshold", "200")]);
    let [runner, other] = [(); 2].map(|()| bench.connect());
    assert_eq!(bench.ask(other, "SET k v"), "+OK|");
    bench.send(runner, "EVAL \"while true do end\" 0\r\nPING\r\n");
    assert_eq!(bench.sendable(runner), "");
    assert!(
        bench.node.next_deadline().is_some_and(|at| at <= bench.now.mono.plus_ms(1)),
        "it wants its next turn"
    );
    assert_eq!(bench.ask(other, "GET k"), "", "a script is atomic: nobody looks at half of it");
    bench.pass_ms(200);
    bench.pass_ms(1);
    assert_eq!(bench.sendable(other), BUSY);
    assert_eq!(bench.ask(other, "PING"), BUSY);
    assert_eq!(bench.ask(other, "SHUTDOWN"), BUSY);
    assert!(bench.ask(other, "FUNCTION KILL").starts_with("-BUSY"));
    assert_eq!(bench.ask(other, "SCRIPT KILL"), "+OK|");
    bench.pass_ms(1);
    let killed = bench.sendable(runner);
    assert!(killed.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "), "{killed}");
    assert!(killed.ends_with("|+PONG|"), "what it sent behind is served: {killed}");
    assert_eq!(bench.ask(other, "GET k"), "$1|v|");
    assert!(bench.ask(other, "SCRIPT KILL").starts_with("-NOTBUSY"));
}

#[test]
fn no_protected_call_saves_a_script_that_is_killed() {
    for script in [
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() return 1 end) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "local t = {} for i = 1, 50 do t[i] = i end table.sort(t, function(a, b) while true do end end)",
        "string.gsub('aaa', 'a', function() while true do end end)",
        "return setmetatable({}, {__index = function() while true do end end}).x",
        "while true do redis.call('ping') end",
        "while true do redis.pcall('nosuch') end",
        "for _ in function() while true do end end do end",
    ] {
        let mut bench = Bench::new(&[("cluster-enabled", "no"), ("busy-reply-threshold", "1")]);
        let [runner, other] = [(); 2].map(|()| bench.connect());
        bench.send(runner, &format!("EVAL \"{script}\" 0\r\n"));
        bench.pass_ms(2);
        assert_eq!(bench.ask(other, "SCRIPT KILL"), "+OK|", "{script}");
        bench.pass_ms(1);
        let reply = bench.sendable(runner);
        assert!(reply.starts_with("-ERR Script killed by user"), "{script}: {reply}");
        assert_eq!(bench.ask(other, "PING"), "+PONG|", "{script}");
    }
}

#[test]
fn a_script_that_wrote_cannot_be_killed_and_ends_when_the_node_does() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("busy-reply-threshold", "1")]);
    let [runner, other] = [(); 2].map(|()| bench.connect());
    bench.send(runner, "EVAL \"redis.call('set','a',1) while true do end\" 0\r\n");
    bench.pass_ms(2);
    assert!(
        bench.ask(other, "SCRIPT KILL").starts_with("-UNKILLABLE Sorry the script already executed write")
    );
    drop(bench);
}

#[test]
fn a_node_that_is_demoted_amid_a_script_that_wrote_asks_its_master_for_everything() {
    let mut bench = Bench::new(&[("cluster-enabled", "no")]);
    let [runner, other] = [(); 2].map(|()| bench.connect());
    let id = |bench: &mut Bench| {
        let info = bench.ask(other, "INFO replication");
        info.split('|')
            .find_map(|line| line.strip_prefix("master_replid:").map(str::to_owned))
            .expect("an id")
    };
    let before = id(&mut bench);
    assert_eq!(bench.ask(other, "REPLICAOF 127.0.0.1 7001"), "+OK|");
    assert_eq!(id(&mut bench), before, "the history just goes on");
    assert_eq!(bench.ask(other, "REPLICAOF NO ONE"), "+OK|");
    let promoted = id(&mut bench);
    bench.send(runner, "EVAL \"redis.call('set','a',1) while true do end\" 0\r\n");
    bench.node.follow(std::net::SocketAddr::from(([127, 0, 0, 1], 7001)));
    assert_ne!(bench.node.replication.history().id.to_string(), promoted, "nobody can let it continue");
    assert_eq!(bench.node.replication.history().earlier, None);
}

#[test]
fn the_script_of_a_client_that_has_gone_goes_on() {
    let mut bench = Bench::new(&[("cluster-enabled", "no")]);
    let [runner, other] = [(); 2].map(|()| bench.connect());
    let script = "local n = 0 while n < 20000000 do n = n + 1 end redis.call('set','done',n)";
    bench.send(runner, &format!("EVAL \"{script}\" 0\r\n"));
    bench.node.input(bench.now, Input::Closed { conn: runner }, &mut bench.effects);
    bench.send(other, "GET done\r\n");
    let mut turns = 0;
    while bench.node.scripts.is_under_way() {
        turns += 1;
        bench.pass_ms(1);
    }
    assert!(turns > 2, "it was long enough to be left: {turns}");
    bench.pass_ms(1);
    assert_eq!(bench.sendable(other), "$8|20000000|");
}

#[test]
fn a_transaction_goes_on_behind_a_script_that_had_to_wait() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes")]);
    let [runner, other] = [(); 2].map(|()| bench.connect());
    for line in
        ["MULTI", "INCR a", "EVAL \"local n = 0 while n < 9000000 do n = n + 1 end return n\" 0", "INCR a"]
    {
        bench.ask(runner, line);
    }
    bench.disk_works();
    bench.send(runner, "EXEC\r\nGET a\r\n");
    assert!(bench.node.scripts.is_under_way());
    bench.send(other, "SET a 100\r\n");
    assert_eq!(appended(&bench), "", "nothing of half a transaction");
    while bench.node.scripts.is_under_way() {
        bench.pass_ms(1);
    }
    assert!(
        appended(&bench).ends_with("*1|$5|MULTI|*2|$4|INCR|$1|a|*2|$4|INCR|$1|a|*1|$4|EXEC|"),
        "{}",
        appended(&bench)
    );
    bench.pass_ms(1);
    bench.disk_works();
    let reply = bench.sendable(runner);
    assert!(reply.starts_with("*3|:1|:9000000|:2|"), "{reply}");
    assert_eq!(bench.sendable(other), "+OK|");
}

#[test]
fn time_stands_still_for_the_keys_of_a_script() {
    let mut bench = Bench::alone();
    let client = bench.connect();
    bench.ask(client, "SET k v PX 5");
    bench.send(
        client,
        "EVAL \"local n = 0 while n < 9000000 do n = n + 1 end return redis.call('exists','k')\" 0\r\n",
    );
    while bench.node.scripts.is_under_way() {
        bench.pass_ms(10);
    }
    assert_eq!(bench.sendable(client), ":1|");
    assert_eq!(bench.ask(client, "EXISTS k"), ":0|");
}

#[test]
fn blocking_commands_do_not_block_in_scripts() {
    let mut bench = Bench::alone();
    let client = bench.connect();
    let refused = bench.ask(client, "EVAL \"return redis.call('xread','block',0,'streams','s','$')\" 0");
    assert!(
        refused.starts_with("-ERR xread command is not allowed with BLOCK option from scripts"),
        "{refused}"
    );
    assert_eq!(bench.ask(client, "EVAL \"return redis.call('blmpop',0,1,'l','left')\" 0"), "$-1|");
    let refused = bench.ask(client, "EVAL \"return redis.call('blpop','l',0)\" 0");
    assert!(refused.starts_with("-ERR This Redis command is not allowed from script"), "{refused}");
}

#[test]
fn a_script_wakes_who_waits_only_when_it_has_ended() {
    let mut bench = Bench::alone();
    let [waiter, runner] = [(); 2].map(|()| bench.connect());
    bench.send(waiter, "BLPOP l 0\r\n");
    let script = "redis.call('rpush','l','a') redis.call('lpop','l') return redis.call('rpush','l','b')";
    assert_eq!(bench.ask(runner, &format!("EVAL \"{script}\" 0")), ":1|");
    assert_eq!(bench.sendable(waiter), "*2|$1|l|$1|b|");
}

#[test]
fn scripts_of_a_cluster_node_keep_to_the_slots_of_this_node() {
    let (mut bench, _) = Bench::one_of_two();
    let client = bench.connect();
    assert_eq!(bench.ask(client, "EVAL \"return redis.call('set',KEYS[1],1)\" 1 {a}x"), "+OK|");
    assert_eq!(
        bench.ask(client, "EVAL \"return 1\" 2 a b"),
        "-CROSSSLOT Keys in request don't hash to the same slot|"
    );
    assert_eq!(
        bench.ask(client, "EVAL \"redis.call('set','a',1) return redis.call('set','b',1)\" 0"),
        "+OK|"
    );
    let refused = bench.ask(client, "EVAL \"#!lua\\nredis.call('set','a',1) redis.call('set','b',1)\" 0");
    assert!(
        refused
            .starts_with("-ERR Script attempted to access keys that do not hash to the same slot script: "),
        "{refused}"
    );
    let allowed = "EVAL \"#!lua flags=allow-cross-slot-keys\\nredis.call('set','a',1) return redis.call('set','b',1)\" 0";
    assert_eq!(bench.ask(client, allowed), "+OK|");
    let refused = bench.ask(client, "EVAL \"#!lua flags=no-cluster\\nreturn 1\" 0");
    assert_eq!(refused, "-ERR Can not run script on cluster, 'no-cluster' flag is set.|");
}

#[test]
fn functions_are_there_again_after_a_restart_from_the_file() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes")]);
    let client = bench.connect();
    let code = "#!lua name=lib\\nredis.register_function('f', function(keys, args) return args[1] end)";
    bench.send(client, &format!("FUNCTION LOAD \"{code}\"\r\n"));
    assert!(appended(&bench).contains("*3|$8|FUNCTION|$4|LOAD|"), "{}", appended(&bench));
    bench.disk_works();
    assert_eq!(bench.sendable(client), "$3|lib|");
    assert_eq!(bench.ask(client, "FLUSHDB"), "");
    bench.disk_works();
    bench.sendable(client);
    assert_eq!(bench.ask(client, "FCALL f 0 x"), "$1|x|", "flushing is about keys");
    bench.send(client, "FUNCTION FLUSH\r\n");
    bench.disk_works();
    bench.sendable(client);
    assert_eq!(bench.ask(client, "FCALL f 0 x"), "-ERR Function not found|");
}

#[test]
fn declared_flags_decide_before_a_script_runs() {
    let mut bench = Bench::alone();
    let client = bench.connect();
    bench.ask(client, "CONFIG SET min-replicas-to-write 1");
    assert_eq!(
        bench.ask(client, "EVAL \"#!lua\\nreturn 1\" 0"),
        "-NOREPLICAS Not enough good replicas to write.|"
    );
    assert_eq!(bench.ask(client, "EVAL \"#!lua flags=no-writes\\nreturn 1\" 0"), ":1|");
    assert_eq!(bench.ask(client, "EVAL \"return 1\" 0"), ":1|", "undeclared: it is found out when it writes");
    let refused = bench.ask(client, "EVAL \"return redis.call('set','a',1)\" 0");
    assert!(refused.starts_with("-NOREPLICAS Not enough good replicas to write. script: "), "{refused}");
    let spec = crate::command::lookup(b"eval").unwrap();
    assert!(spec.has(flag::NOSCRIPT | flag::MAY_REPLICATE) && !spec.has(flag::WRITE));
}

#[test]
fn a_script_that_wants_all_memory_gets_an_error() {
    let mut bench = Bench::alone();
    let client = bench.connect();
    for script in [
        "local t = {} while true do t[#t + 1] = string.rep('x', 10000000) .. #t end",
        "local function f() return f() + 1 end return f()",
        "return string.rep('x', 2000000000)",
        "local t = {} t[1] = t return t",
        "return cjson.decode(string.rep('[', 100000))",
        "return cmsgpack.unpack(string.rep('\\145', 100000))",
    ] {
        bench.send(client, &format!("EVAL \"{script}\" 0\r\n"));
        while bench.node.scripts.is_under_way() {
            bench.pass_ms(1);
        }
        let reply = bench.sendable(client);
        assert!(reply.contains("-ERR "), "{script}: {}", &reply[..reply.len().min(200)]);
    }
    assert_eq!(bench.ask(client, "EVAL \"return 1\" 0"), ":1|");
}
