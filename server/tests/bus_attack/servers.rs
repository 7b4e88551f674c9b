//! A live cluster of processes, three masters with a replica each, and what its nodes say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use slotstorm_node::cluster::{NodeId, SLOTS, SlotBitmap};
use tempfile::TempDir;

use super::programs;

pub const PORT: u16 = 7000;
pub const BUS_PORT: u16 = 17000;
pub const NODES: u8 = 6;
/// Long enough that a busy machine makes nobody suspect.
pub const NODE_TIMEOUT_MS: u64 = 5000;

/// What a client is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Text(String),
    Error(String),
    Array(Vec<Answer>),
}

impl Answer {
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Error(text) => text,
            Self::Array(_) => "",
        }
    }
}

/// A client's connection.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(ip: &str) -> std::io::Result<Self> {
        let address = format!("{ip}:{PORT}").parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// One command in one line.
    pub fn ask(&mut self, line: &str) -> std::io::Result<Answer> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (mark, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().unwrap_or(-1);
        Ok(match mark {
            "-" => Answer::Error(rest.to_owned()),
            "$" if number() >= 0 => {
                let mut bytes = vec![0; number() as usize + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Answer::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let items: std::io::Result<Vec<Answer>> = (0..number()).map(|_| self.answer()).collect();
                Answer::Array(items?)
            }
            _ => Answer::Text(rest.to_owned()),
        })
    }
}

/// One process.
pub struct Server {
    pub ip: String,
    pub child: Child,
    dir: TempDir,
}

impl Server {
    /// Starts `program`, or our own node: an example that cargo builds beside the tests.
    pub fn start(program: Option<&PathBuf>, ip: String, cluster: bool) -> Self {
        let (dir, program) = (TempDir::new().unwrap(), program.cloned().unwrap_or_else(programs::ours));
        let args = [
            ["--bind", &ip],
            ["--bind-source-addr", &ip],
            ["--port", &PORT.to_string()],
            ["--cluster-enabled", if cluster { "yes" } else { "no" }],
            ["--cluster-node-timeout", &NODE_TIMEOUT_MS.to_string()],
            ["--protected-mode", "no"],
            ["--save", ""],
            ["--repl-diskless-sync-delay", "0"],
            ["--logfile", "server.log"],
            ["--dir", dir.path().to_str().unwrap()],
        ];
        let mut command = Command::new(&program);
        let last_words = std::fs::File::create(dir.path().join("stderr")).unwrap();
        command.args(args.concat()).stdout(Stdio::null()).stderr(last_words);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let server = Self { ip, child, dir };
        eventually("the server answers", || {
            // It answers before its data is loaded, too.
            let ready = |mut client: Client| client.ask("PING").is_ok_and(|answer| answer.text() == "PONG");
            Client::connect(&server.ip).is_ok_and(ready)
        });
        server
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.ip).unwrap_or_else(|error| panic!("{}: {error}", self.ip))
    }

    pub fn ask(&self, line: &str) -> Answer {
        self.client().ask(line).unwrap_or_else(|error| panic!("{} asked {line}: {error}", self.ip))
    }

    /// Its resident memory.
    pub fn memory_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.is_alive() {
            let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
            let log = read("server.log");
            let tail = log.len().saturating_sub(2000);
            println!(
                "{} ended by itself: {}\n{}",
                self.ip,
                log.get(tail..).unwrap_or_default(),
                read("stderr")
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Six of them.
pub struct Cluster {
    pub servers: Vec<Server>,
    pub members: Vec<Member>,
}

/// What the attacker knows of a node: all that any packet of it says.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: NodeId,
    pub ip: String,
    pub master: Option<NodeId>,
    pub slots: SlotBitmap,
    pub config_epoch: u64,
    pub current_epoch: u64,
}

impl Cluster {
    /// Up, every slot owned, every replica attached, every pair linked both ways. `number` is for clusters of one
    /// process side by side.
    pub fn start(program: Option<&PathBuf>, number: u8) -> Self {
        let network = format!("127.17.{}", std::process::id() % 250 + 1);
        let ip = |node: u8| format!("{network}.{}", number * 20 + node + 1);
        let servers: Vec<Server> = (0..NODES).map(|node| Server::start(program, ip(node), true)).collect();
        let bound = |master: u16| SLOTS / 3 * master + u16::from(master == 3) * (SLOTS % 3);
        for (node, server) in (0_u16..).zip(&servers) {
            if node < 3 {
                let line = format!("CLUSTER ADDSLOTSRANGE {} {}", bound(node), bound(node + 1) - 1);
                assert_eq!(server.ask(&line).text(), "OK");
            }
            server.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", node + 1));
            server.ask(&format!("CLUSTER MEET {} {PORT}", servers[0].ip));
        }
        let ids: Vec<String> =
            servers.iter().map(|server| server.ask("CLUSTER MYID").text().to_owned()).collect();
        let mut cluster = Self { servers, members: Vec::new() };
        for (node, server) in cluster.servers.iter().enumerate().skip(3) {
            eventually("a replica knows its master", || {
                server.ask(&format!("CLUSTER REPLICATE {}", ids[node - 3])).text() == "OK"
            });
        }
        eventually("the cluster is whole", || {
            let views: BTreeSet<View> = cluster.views().into_values().collect();
            let whole = views.iter().all(|view| view.state == "ok" && view.nodes.len() == 6);
            whole && views.len() == 1 && cluster.links().values().all(|links| links.len() == 10)
        });
        // In sync, and a round of pings: every node knows the offsets, and has called every other.
        std::thread::sleep(Duration::from_millis(NODE_TIMEOUT_MS));
        let epoch = cluster.views().into_values().next().unwrap().current_epoch;
        let view = cluster.servers[0].view();
        for (server, id) in cluster.servers.iter().zip(&ids) {
            let line = &view.nodes[id];
            let shard = line.master.as_ref().map_or(line, |master| &view.nodes[master]);
            let mut slots = SlotBitmap::new();
            for range in &shard.slots {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                (first.parse::<u16>().unwrap()..=last.parse().unwrap()).for_each(|slot| {
                    slots.insert(slot);
                });
            }
            cluster.members.push(Member {
                id: NodeId::parse(id.as_bytes()).unwrap(),
                ip: server.ip.clone(),
                master: line.master.as_ref().and_then(|id| NodeId::parse(id.as_bytes())),
                slots,
                config_epoch: shard.config_epoch,
                current_epoch: epoch,
            });
        }
        cluster
    }

    /// What each node holds true, by its address.
    pub fn views(&self) -> BTreeMap<String, View> {
        self.servers.iter().map(|server| (server.ip.clone(), server.view())).collect()
    }

    /// Each node's links to members: direction, peer, and when they were made.
    pub fn links(&self) -> BTreeMap<String, BTreeSet<String>> {
        let of = |server: &Server| {
            let Answer::Array(links) = server.ask("CLUSTER LINKS") else { panic!("no array") };
            let text = |link: &Answer| match link {
                Answer::Array(fields) => [1, 3, 5].map(|at| fields[at].text().to_owned()).join(" "),
                other => panic!("{other:?}"),
            };
            let known = |link: &String| {
                self.members.is_empty() || self.members.iter().any(|member| link.contains(member.id.as_str()))
            };
            links.iter().map(text).filter(known).collect()
        };
        self.servers.iter().map(|server| (server.ip.clone(), of(server))).collect()
    }

    /// Bus packets of known types that the nodes have received, all together.
    pub fn packets_received(&self) -> u64 {
        let of = |server: &Server| {
            let info = server.ask("CLUSTER INFO");
            let line =
                info.text().lines().find_map(|line| line.strip_prefix("cluster_stats_messages_received:"));
            line.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        self.servers.iter().map(of).sum()
    }

    pub fn memory_kb(&self) -> u64 {
        self.servers.iter().map(Server::memory_kb).max().unwrap_or(0)
    }
}

/// A node's view, without what changes in peace: times of pings, link states, handshakes under way, and the `myself`
/// that tells whose view it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    pub state: String,
    pub current_epoch: u64,
    pub nodes: BTreeMap<String, Line>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub address: String,
    pub flags: String,
    pub master: Option<String>,
    pub config_epoch: u64,
    pub slots: Vec<String>,
}

impl Server {
    pub fn view(&self) -> View {
        let mut client = self.client();
        let info = client.ask("CLUSTER INFO").unwrap();
        let field = |name: &str| {
            let found = info.text().lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_default().trim_start_matches(':').to_owned()
        };
        let text = client.ask("CLUSTER NODES").unwrap();
        let nodes = text.text().lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let line = Line {
                address: words[1].to_owned(),
                flags: words[2].replace("myself,", ""),
                master: (words[3] != "-").then(|| words[3].to_owned()),
                config_epoch: words[6].parse().unwrap(),
                slots: words[8..].iter().map(|&word| word.to_owned()).collect(),
            };
            (words[0].to_owned(), line)
        });
        View {
            state: field("cluster_state"),
            current_epoch: field("cluster_current_epoch").parse().unwrap(),
            nodes: nodes.filter(|(_, line)| !line.flags.contains("handshake")).collect(),
        }
    }
}

/// Waits for what must come, however slow the machine is.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(90), "not within 90 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
