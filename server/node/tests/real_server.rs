//! Replication, RDB and AOF against a real redis-server 7.0, over real sockets.
//!
//! Fails, with a clear message, where there is no redis-server 7.0 on the PATH (or in /usr/bin).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this test is a shell: it starts a process, opens sockets and writes files"
)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotstorm_node::aof::{
    AofNames, AofWriter, DiskQueue, FsyncPolicy, LoadedAof, RewriteMode, RewriteRequest,
};
use slotstorm_node::io::{ConnId, DiskOp, Effect, Effects, Mono, SnapshotFormat, SnapshotId, Ticket, WallMs};
use slotstorm_node::keyspace::score::Score;
use slotstorm_node::keyspace::stream::{Group, NewId, NodeLimits, Stream, StreamId};
use slotstorm_node::keyspace::{EncodingLimits, HashSeed, Keyspace, Value, ValueParts};
use slotstorm_node::rdb::{SnapshotEncoder, SnapshotUse, aux_fields};
use slotstorm_node::replication::commands::{CommandParser, write_command};
use slotstorm_node::replication::{Action, Actions, Replication, ReplicationSettings};

const PATIENCE: Duration = Duration::from_secs(20);

fn redis_server_7() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    for candidate in dirs.map(|dir| dir.join("redis-server")) {
        if let Ok(said) = Command::new(&candidate).arg("--version").output()
            && String::from_utf8_lossy(&said.stdout).contains("v=7.0")
        {
            return candidate;
        }
    }
    panic!("this test needs redis-server 7.0 (Debian: apt-get install redis-server)");
}

/// A real server, killed when dropped.
struct RealServer {
    child: Child,
    addr: SocketAddr,
}

impl RealServer {
    fn start(dir: &Path, args: &[&str]) -> Self {
        // A free port, given back just before the server takes it.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = Command::new(redis_server_7())
            .args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--repl-diskless-sync-delay", "0", "--logfile", "log", "--dir"])
            .arg(dir)
            .args(args)
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let server = Self { child, addr };
        wait_for("the real server", || {
            TcpStream::connect(addr).is_ok_and(|_| server.ask(&["PING"]) == "+PONG\r\n")
        });
        server
    }

    /// One command; its reply as it comes. QUIT after it ends the connection, so that the reply has an end.
    fn ask(&self, args: &[&str]) -> String {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        let mut bytes = Vec::new();
        write_command(&mut bytes, args);
        write_command(&mut bytes, &["QUIT"]);
        stream.write_all(&bytes).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let reply = String::from_utf8_lossy(&reply).into_owned();
        reply.strip_suffix("+OK\r\n").unwrap_or(&reply).to_owned()
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn keyspace() -> Keyspace {
    Keyspace::new(HashSeed(5, 6), EncodingLimits::default())
}

/// Every type, small and big, with and without expiry.
fn sample() -> Keyspace {
    let mut keys = keyspace();
    let texts = |count: usize| (0..count).map(|n| format!("element {n}").into_bytes()).collect::<Vec<_>>();
    let mut put = |key: &str, parts: &ValueParts, expire: Option<u64>| {
        let value = Value::from_parts(keys.env(), parts).unwrap();
        keys.set(key.as_bytes(), value, expire.map(WallMs), WallMs(0));
    };
    put("s", &ValueParts::String(b"hello".to_vec()), None);
    put("n", &ValueParts::String(b"-70000".to_vec()), Some(4_102_444_800_123));
    put("l", &ValueParts::List(texts(5)), None);
    put("L", &ValueParts::List(texts(5000)), None);
    put("i", &ValueParts::Set(vec![b"1".to_vec(), b"5000000000".to_vec()]), None);
    put("S", &ValueParts::Set(texts(5000)), None);
    let pairs = |count| texts(count).into_iter().map(|text| (text, b"12".to_vec())).collect();
    put("h", &ValueParts::Hash(pairs(3)), None);
    put("H", &ValueParts::Hash(pairs(5000)), Some(4_102_444_800_999));
    let scored = |count| texts(count).into_iter().zip(0..).map(|(text, n)| (text, Score(f64::from(n) / 2.0)));
    put("z", &ValueParts::Zset(scored(3).collect()), None);
    let mut stream = Stream::default();
    for n in 0..5000_u64 {
        let value = n.to_string();
        stream.append(NewId::In(n / 10), &[b"n", value.as_bytes()], NodeLimits::default()).unwrap();
    }
    stream.delete(StreamId { ms: 7, seq: 3 });
    stream.create_group(b"g", Group::new(StreamId { ms: 9, seq: 0 }, 90));
    stream.change_group(b"g", |group, _| {
        group.meet_consumer(b"c", 1_700_000_000_000);
        group.assign(StreamId { ms: 5, seq: 5 }, b"c", 1_700_000_000_000, 3);
    });
    put("x", &ValueParts::Stream(stream.into()), None);
    put("Z", &ValueParts::Zset(scored(5000).collect()), Some(4_102_444_801_000));
    keys
}

fn assert_holds_sample(server: &RealServer) {
    let checks: [(&[&str], &str); 16] = [
        (&["DBSIZE"], ":11\r\n"),
        (&["XLEN", "x"], ":4999\r\n"),
        (
            &["XREVRANGE", "x", "+", "-", "COUNT", "1"],
            "*1\r\n*2\r\n$5\r\n499-9\r\n*2\r\n$1\r\nn\r\n$4\r\n4999\r\n",
        ),
        (&["XPENDING", "x", "g"], "*4\r\n:1\r\n$3\r\n5-5\r\n$3\r\n5-5\r\n*1\r\n*2\r\n$1\r\nc\r\n$1\r\n1\r\n"),
        (&["GET", "s"], "$5\r\nhello\r\n"),
        (&["GET", "n"], "$6\r\n-70000\r\n"),
        (&["PEXPIRETIME", "H"], ":4102444800999\r\n"),
        (&["LINDEX", "L", "-1"], "$12\r\nelement 4999\r\n"),
        (&["LLEN", "L"], ":5000\r\n"),
        (&["SISMEMBER", "i", "5000000000"], ":1\r\n"),
        (&["SCARD", "S"], ":5000\r\n"),
        (&["HGET", "H", "element 4999"], "$2\r\n12\r\n"),
        (&["ZSCORE", "z", "element 1"], "$3\r\n0.5\r\n"),
        (&["OBJECT", "ENCODING", "z"], "$8\r\nlistpack\r\n"),
        (&["ZREVRANK", "Z", "element 4998"], ":1\r\n"),
        (&["ZCARD", "Z"], ":5000\r\n"),
    ];
    for (args, reply) in checks {
        assert_eq!(server.ask(args), reply, "{args:?}");
    }
}

fn encode(keys: &Keyspace) -> Vec<u8> {
    let aux = aux_fields(SnapshotUse::Rdb, WallMs(1_700_000_000_000), keys.used_memory(), None);
    SnapshotEncoder::new(keys.snapshot(), aux).next_chunk(usize::MAX).bytes.to_vec()
}

#[test]
fn a_real_server_loads_our_dump() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("dump.rdb"), encode(&sample())).unwrap();
    let server = RealServer::start(dir.path(), &[]);
    assert_holds_sample(&server);
}

#[test]
fn a_real_server_loads_our_append_only_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("appendonlydir")).unwrap();
    let (mut effects, mut last) = (Effects::default(), Ticket(0));
    let (names, fresh) = (AofNames::default(), LoadedAof::default());
    let mut queue = DiskQueue::new(&mut effects, &mut last);
    let mut writer = AofWriter::open(names, FsyncPolicy::No, false, fresh, Mono(0), &mut queue);
    let request = RewriteRequest {
        mode: RewriteMode::Restart,
        id: SnapshotId(1),
        snapshot: sample().snapshot(),
        aux: Vec::new(),
        format: SnapshotFormat::default(),
        as_commands: false,
        annotate_s: None,
    };
    writer.begin_rewrite(request, Mono(0), &mut queue);
    let mut command = Vec::new();
    write_command(&mut command, &["SET", "s", "hello"]);
    writer.feed(Some(0), &command);
    writer.end_of_batch(Mono(0), &mut queue);
    while !effects.list.is_empty() {
        for effect in std::mem::take(&mut effects.list) {
            match effect {
                Effect::Disk { ticket, op } => {
                    do_disk(dir.path(), &op);
                    let mut queue = DiskQueue::new(&mut effects, &mut last);
                    writer.disk_done(ticket, &Ok(()), Mono(0), &mut queue);
                }
                Effect::Save { id, job } => {
                    let mut bytes = Vec::new();
                    SnapshotEncoder::new(job.snapshot, job.rdb_aux).fill(&mut bytes, usize::MAX);
                    std::fs::write(dir.path().join(job.name), &bytes).unwrap();
                    let mut queue = DiskQueue::new(&mut effects, &mut last);
                    writer.saved(id, &Ok(bytes.len() as u64), Mono(0), &mut queue);
                }
                _ => {}
            }
        }
    }
    let server = RealServer::start(dir.path(), &["--appendonly", "yes"]);
    assert_holds_sample(&server);
}

fn do_disk(dir: &Path, op: &DiskOp) {
    match op {
        DiskOp::Append { name, bytes, .. } => {
            let mut file =
                std::fs::OpenOptions::new().append(true).create(true).open(dir.join(name)).unwrap();
            file.write_all(bytes).unwrap();
        }
        DiskOp::Replace { name, bytes, .. } => std::fs::write(dir.join(name), bytes).unwrap(),
        DiskOp::Remove { name } => drop(std::fs::remove_file(dir.join(name))),
        DiskOp::Sync { .. } => {}
        other => panic!("unexpected {other:?}"),
    }
}

/// Our replication with sockets around it: the smallest shell that there can be.
struct Ours {
    repl: Replication,
    keys: Keyspace,
    loading: Option<Keyspace>,
    listener: TcpListener,
    sockets: BTreeMap<ConnId, (TcpStream, CommandParser)>,
    encoders: BTreeMap<SnapshotId, SnapshotEncoder>,
    start: Instant,
    next: u64,
    commands: Vec<Vec<Vec<u8>>>,
    logs: Vec<String>,
}

impl Ours {
    fn new(settings: ReplicationSettings) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let settings = ReplicationSettings { listening_port: port, diskless_sync_delay_s: 0, ..settings };
        Self {
            repl: Replication::new(settings, u64::from(port)),
            keys: keyspace(),
            loading: None,
            listener,
            sockets: BTreeMap::new(),
            encoders: BTreeMap::new(),
            start: Instant::now(),
            next: 0,
            commands: Vec::new(),
            logs: Vec::new(),
        }
    }

    fn port(&self) -> String {
        self.listener.local_addr().unwrap().port().to_string()
    }

    fn now(&self) -> Mono {
        Mono(self.start.elapsed().as_micros() as u64)
    }

    fn event(&mut self, event: impl FnOnce(&mut Replication, Mono, &mut Actions)) {
        let (mut actions, now) = (Vec::new(), self.now());
        event(&mut self.repl, now, &mut actions);
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Dial { addr } => {
                let conn = self.adopt(TcpStream::connect((addr.host(), addr.port())).unwrap(), 1);
                self.repl.dialing(conn);
                self.event(|repl, now, actions| repl.connected(conn, now, actions));
            }
            Action::Close { conn, .. } => drop(self.sockets.remove(&conn)),
            Action::Send { conn, bytes } => self.put(conn, &bytes),
            Action::SendShared { conn, chunk, start, end } => self.put(conn, &chunk[start..end]),
            Action::TakeSnapshot { to_file } => {
                self.next += 1;
                let id = SnapshotId(self.next);
                let aux = aux_fields(SnapshotUse::Rdb, WallMs(0), 0, self.repl.rdb_identity());
                let mut file = Vec::new();
                SnapshotEncoder::new(self.keys.snapshot(), aux.clone()).fill(&mut file, usize::MAX);
                self.encoders.insert(id, SnapshotEncoder::new(self.keys.snapshot(), aux));
                self.event(|repl, now, actions| repl.snapshot_taken(id, to_file, now, actions));
                if to_file {
                    let bytes = Some(file.len() as u64);
                    self.event(|repl, now, actions| repl.file_saved(id, bytes, now, actions));
                }
            }
            Action::PullSnapshot(id) => {
                // Two are asked for at a time: the last pull may find nothing.
                let Some(encoder) = self.encoders.get_mut(&id) else { return };
                let piece = encoder.next_chunk(10_000);
                if piece.last {
                    self.encoders.remove(&id);
                }
                let bytes: Arc<[u8]> = piece.bytes;
                self.event(|repl, now, actions| repl.snapshot_chunk(id, &bytes, piece.last, now, actions));
            }
            Action::LoadBegin => self.loading = Some(keyspace()),
            Action::LoadKeys { keys, .. } => {
                let loading = self.loading.as_mut().unwrap();
                for key in keys {
                    loading.load(&key.key, &key.value, key.expire_at_ms.map(WallMs)).unwrap();
                }
            }
            Action::LoadLibrary(_) => panic!("the server has no functions"),
            Action::LoadCommit => {
                self.keys = self.loading.take().unwrap();
                self.event(Replication::loaded);
            }
            Action::LoadAbort => self.loading = None,
            Action::Apply { batch, .. } => {
                self.commands.extend(
                    batch
                        .iter()
                        .filter(|command| !command.is("SELECT"))
                        .map(|command| command.args().map(<[u8]>::to_vec).collect()),
                );
            }
            Action::Log(_, text) => self.logs.push(text),
            Action::StartFile(_) | Action::HoldWrites | Action::ReleaseWrites | Action::RoleChanged => {}
            Action::CancelSnapshot(_) | Action::WaitDone { .. } | Action::WaitAborted { .. } => {}
        }
    }

    fn adopt(&mut self, socket: TcpStream, odd: u64) -> ConnId {
        socket.set_nonblocking(true).unwrap();
        self.next += 1;
        let conn = ConnId(self.next * 2 + odd);
        self.sockets.insert(conn, (socket, CommandParser::default()));
        conn
    }

    fn put(&mut self, conn: ConnId, mut bytes: &[u8]) {
        let whole = bytes.len();
        let Some((socket, _)) = self.sockets.get_mut(&conn) else { return };
        while !bytes.is_empty() {
            match socket.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return,
            }
        }
        self.event(|repl, now, actions| repl.flushed(conn, whole, now, actions));
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            self.adopt(socket, 0);
        }
        for conn in self.sockets.keys().copied().collect::<Vec<_>>() {
            let Some((socket, _)) = self.sockets.get_mut(&conn) else { continue };
            let mut bytes = [0; 16384];
            match socket.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => {
                    self.sockets.remove(&conn);
                    self.event(|repl, now, actions| repl.closed(conn, now, actions));
                }
                Ok(len) if conn.is_outbound() => {
                    self.event(|repl, now, actions| repl.received(conn, &bytes[..len], now, actions));
                }
                Ok(len) => self.client_bytes(conn, &bytes[..len]),
            }
        }
        self.event(|repl, now, actions| {
            repl.tick(now, actions);
            repl.flush(now, actions);
        });
        std::thread::sleep(Duration::from_millis(1));
    }

    fn client_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some((socket, mut parser)) = self.sockets.remove(&conn) else { return };
        self.sockets.insert(conn, (socket, CommandParser::default()));
        if bytes == b"\n" {
            let now = self.now();
            return self.repl.keepalive(conn, now);
        }
        parser.feed(bytes);
        while let Some(command) = parser.next_command().expect("a replica speaks RESP") {
            if command.is("PING") {
                self.put(conn, b"+PONG\r\n");
                continue;
            }
            let args = command.to_vec();
            let ip = Ipv4Addr::LOCALHOST.into();
            self.event(|repl, now, actions| repl.client_command(conn, ip, &args, now, actions));
        }
        if let Some(entry) = self.sockets.get_mut(&conn) {
            entry.1 = parser;
        }
    }

    fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited too long for {what}; logs: {:#?}", self.logs);
            self.turn();
        }
    }

    fn propagate(&mut self, args: &[&str]) {
        let mut bytes = Vec::new();
        write_command(&mut bytes, args);
        self.repl.propagate(Some(0), &bytes);
    }
}

fn info_field(server: &RealServer, field: &str) -> String {
    let info = server.ask(&["INFO", "replication"]);
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("{field}:")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {field} in {info}"))
}

#[test]
fn a_real_replica_follows_us_and_continues_after_a_cut() {
    for diskless in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let server = RealServer::start(dir.path(), &[]);
        let settings = ReplicationSettings { diskless_sync: diskless, ..ReplicationSettings::default() };
        let mut ours = Ours::new(settings);
        ours.keys = sample();
        server.ask(&["REPLICAOF", "127.0.0.1", &ours.port()]);
        ours.run_until("the real replica online", |ours| ours.repl.good_replicas(10, ours.now()) == 1);
        ours.propagate(&["SET", "s", "hello"]);
        let offset = ours.repl.offset();
        ours.run_until("its acknowledgement", |ours| ours.repl.count_acked(offset) == 1);
        assert_holds_sample(&server);
        assert_eq!(info_field(&server, "master_link_status"), "up");
        assert_eq!(info_field(&server, "slave_repl_offset"), offset.to_string());
        assert_eq!(info_field(&server, "master_replid"), ours.repl.history().id.to_string());

        // The link is cut, a write goes by, and the real replica continues.
        server.ask(&["CLIENT", "KILL", "TYPE", "master"]);
        ours.propagate(&["SET", "after", "cut"]);
        let offset = ours.repl.offset();
        ours.run_until("the next acknowledgement", |ours| ours.repl.count_acked(offset) == 1);
        assert_eq!(server.ask(&["GET", "after"]), "$3\r\ncut\r\n");
        assert_eq!((ours.repl.sync_counts().full, ours.repl.sync_counts().partial_ok), (1, 1));
    }
}

#[test]
fn we_follow_a_real_master_in_both_forms_and_take_over_its_history() {
    for diskless in ["yes", "no"] {
        let dir = tempfile::tempdir().unwrap();
        let server = RealServer::start(dir.path(), &["--repl-diskless-sync", diskless]);
        server.ask(&["SET", "before", "1"]);
        server.ask(&["RPUSH", "list", "a", "b", "c"]);
        let mut ours = Ours::new(ReplicationSettings::default());
        ours.event(|repl, now, actions| repl.set_master(server.addr, now, actions));
        ours.run_until("the link", |ours| ours.repl.link_status().is_some_and(|link| link.up));
        assert_eq!(ours.keys.len(), 2);
        server.ask(&["SET", "after", "2"]);
        ours.run_until("the stream", |ours| !ours.commands.is_empty());
        assert_eq!(ours.commands, [[b"SET".to_vec(), b"after".to_vec(), b"2".to_vec()]]);

        // WAIT of the real master is answered by our GETACK reply.
        let mut client = TcpStream::connect(server.addr).unwrap();
        let mut bytes = Vec::new();
        write_command(&mut bytes, &["SET", "waited", "3"]);
        write_command(&mut bytes, &["WAIT", "1", "15000"]);
        client.write_all(&bytes).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut reply = Vec::new();
        let start = Instant::now();
        while !reply.ends_with(b":1\r\n") {
            assert!(start.elapsed() < PATIENCE, "WAIT answered {:?}", String::from_utf8_lossy(&reply));
            ours.turn();
            let mut piece = [0; 100];
            if let Ok(len) = client.read(&mut piece) {
                reply.extend_from_slice(&piece[..len]);
            }
        }
        assert_eq!(info_field(&server, "master_repl_offset"), ours.repl.offset().to_string());

        // We are promoted; the real server becomes our replica and continues without a full resync.
        ours.event(Replication::promote);
        server.ask(&["REPLICAOF", "127.0.0.1", &ours.port()]);
        ours.propagate(&["SET", "promoted", "4"]);
        let offset = ours.repl.offset();
        ours.run_until("the demoted real master", |ours| ours.repl.count_acked(offset) == 1);
        assert_eq!(server.ask(&["GET", "promoted"]), "$1\r\n4\r\n");
        assert_eq!(server.ask(&["GET", "waited"]), "$1\r\n3\r\n");
        assert_eq!((ours.repl.sync_counts().full, ours.repl.sync_counts().partial_ok), (0, 1));
    }
}
