//! The system under test: which program each node runs, what it says of itself, and the flags it is started with.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use super::address::{AddressPlan, BUS_OFFSET};
use crate::backend::SeenBy;

/// What a word of `--sut` names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// This very binary as `slotstorm server`.
    Embedded,
    /// A redis-server, a valkey-server, or a fork of them.
    Path(PathBuf),
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a `--sut` or `--set` cannot be used: the user's to mend.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SutError {
    #[error("--sut {0:?}: {1}")]
    Words(String, String),
    #[error("{0} does not exist")]
    Missing(String),
    #[error("{0} is not executable (chmod +x it, or name another)")]
    NotExecutable(String),
    #[error("{0} is not a redis-server or valkey-server: --version says {1:?}")]
    NotAServer(String, String),
    #[error(
        "{0} and {1} cannot be in one cluster: the older cannot load the other's snapshots (RDB {2} and {3}), so no \
         replica of one would ever sync with a master of the other"
    )]
    Incompatible(String, String, u16, u16),
    #[error("--set {0}: slotstorm sets this directive itself, since the storm depends on it")]
    Reserved(String),
    #[error("--set {0:?}: DIRECTIVE=VALUE is wanted")]
    BadDirective(String),
}

/// The value of `--sut`: one program for all nodes, or a mix with counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sut {
    text: String,
    /// `None`: for all nodes.
    parts: Vec<(Program, Option<u16>)>,
}

impl Default for Sut {
    fn default() -> Self {
        Self { text: "embedded".to_owned(), parts: vec![(Program::Embedded, None)] }
    }
}

impl std::fmt::Display for Sut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Sut {
    type Err = SutError;

    fn from_str(text: &str) -> Result<Self, SutError> {
        let bad = |why: &str| SutError::Words(text.to_owned(), why.to_owned());
        let mut parts = Vec::new();
        for word in text.split(',') {
            let (name, count) = match word.rsplit_once(':') {
                Some((name, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    (name, Some(digits.parse::<u16>().map_err(|_| bad("such a count of nodes is none"))?))
                }
                _ => (word, None),
            };
            let program = match name {
                "" => {
                    return Err(bad("embedded, a path, or a mix such as embedded:3,/usr/bin/redis-server:3"));
                }
                "embedded" => Program::Embedded,
                path => Program::Path(PathBuf::from(path)),
            };
            if count == Some(0) {
                return Err(bad("a count of 0 nodes"));
            }
            parts.push((program, count));
        }
        if parts.len() > 1 && parts.iter().any(|(_, count)| count.is_none()) {
            return Err(bad(
                "in a mix every program needs its count, as in embedded:3,/usr/bin/redis-server:3",
            ));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl Sut {
    /// Which program each node runs, nodes in order: masters first, then the first replica of each shard, and so on.
    /// A mix is spread so that shards have both kinds, and so have the masters, where the counts allow it.
    pub fn assign(&self, masters: u16, replicas: u16) -> Result<Vec<Program>, SutError> {
        let total = masters * (replicas + 1);
        if let [(program, None)] = &self.parts[..] {
            return Ok(vec![program.clone(); usize::from(total)]);
        }
        let mut left: Vec<u16> = self.parts.iter().map(|(_, count)| count.unwrap_or(0)).collect();
        let given: u32 = left.iter().copied().map(u32::from).sum();
        if given != u32::from(total) {
            let why =
                format!("{given} nodes, but {masters} masters with {replicas} replicas each are {total}");
            return Err(SutError::Words(self.text.clone(), why));
        }
        let mut nodes = vec![None; usize::from(total)];
        let mut as_master = vec![0u16; left.len()];
        for shard in 0..masters {
            let mut in_shard = vec![0u16; left.len()];
            for place in 0..=replicas {
                let pick = (0..left.len())
                    .filter(|kind| left[*kind] > 0)
                    .min_by_key(|kind| {
                        let led = if place == 0 { as_master[*kind] } else { 0 };
                        (in_shard[*kind], led, u16::MAX - left[*kind], *kind)
                    })
                    .expect("the counts were checked against the nodes");
                left[pick] -= 1;
                in_shard[pick] += 1;
                as_master[pick] += u16::from(place == 0);
                nodes[usize::from(place * masters + shard)] = Some(self.parts[pick].0.clone());
            }
        }
        Ok(nodes.into_iter().flatten().collect())
    }
}

/// A program that was found and says that it is a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub program: Program,
    /// As it names itself: `redis 7.0.15`, `valkey 8.0.1`, `slotstorm 0.1.0`.
    pub version: String,
    /// True if it knows `bind-source-addr`. Redis 6.2 does not and needs none: it dials from its first `bind` address.
    pub has_bind_source_addr: bool,
    /// The version of the RDB files that it sends to replicas, and the newest that it loads.
    pub rdb_version: u16,
}

/// Fails if two of the servers could never replicate each other: every pair may, sooner or later.
pub fn check_compatible<'s>(servers: impl IntoIterator<Item = &'s Server>) -> Result<(), SutError> {
    let mut servers = servers.into_iter();
    let Some(first) = servers.next() else { return Ok(()) };
    match servers.find(|server| server.rdb_version != first.rdb_version) {
        None => Ok(()),
        Some(other) => Err(SutError::Incompatible(
            first.version.clone(),
            other.version.clone(),
            first.rdb_version,
            other.rdb_version,
        )),
    }
}

/// By the server's release: 9 since 5.0, 10 since 7.0, 11 since 7.2 and in every valkey so far, 12 since redis 7.4.
fn rdb_version(name: &str, major: u16, minor: u16) -> u16 {
    match (name, major, minor) {
        (_, ..=6, _) => 9,
        (_, 7, 0 | 1) => 10,
        ("redis", 7, 4..) | ("redis", 8.., _) => 12,
        _ => 11,
    }
}

impl Server {
    /// Finds the program and asks its version. A bare name is looked for in the system's folders first: language
    /// package managers put shims of the same name early on PATH, which are no real servers.
    pub fn find(program: &Program) -> Result<Self, SutError> {
        match program {
            Program::Embedded => Ok(Self {
                program: Program::Embedded,
                version: format!("slotstorm {}", env!("CARGO_PKG_VERSION")),
                has_bind_source_addr: true,
                rdb_version: 10,
            }),
            Program::Path(path) => Self::probe(&locate(path)?),
        }
    }

    fn probe(path: &Path) -> Result<Self, SutError> {
        let shown = path.display().to_string();
        let meta = std::fs::metadata(path).map_err(|_| SutError::Missing(shown.clone()))?;
        if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
            return Err(SutError::NotExecutable(shown));
        }
        let answer = Command::new(path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| SutError::NotAServer(shown.clone(), error.to_string()))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let first = text.lines().next().unwrap_or_default();
        let (name, (major, minor, patch)) = server_version(first)
            .ok_or_else(|| SutError::NotAServer(shown, first.chars().take(120).collect()))?;
        Ok(Self {
            program: Program::Path(path.to_owned()),
            rdb_version: rdb_version(&name, major, minor),
            version: format!("{name} {major}.{minor}.{patch}"),
            has_bind_source_addr: major >= 7,
        })
    }
}

/// `Redis server v=7.0.15 sha=...` or `Valkey server v=8.0.1 ...`: name in lower case, version.
fn server_version(line: &str) -> Option<(String, (u16, u16, u16))> {
    let (name, rest) = line.split_once(" server v=")?;
    let mut numbers = rest.split_ascii_whitespace().next()?.split('.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part[..digits].parse().ok()
    });
    let version = (numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0));
    Some((name.to_ascii_lowercase(), version))
}

/// A path as it is; a bare name from the system's folders, then from PATH.
fn locate(path: &Path) -> Result<PathBuf, SutError> {
    let bare = path.components().count() == 1 && !path.to_string_lossy().contains('/');
    if !bare {
        // Nodes run in their own folders.
        return std::path::absolute(path).map_err(|_| SutError::Missing(path.display().to_string()));
    }
    let system = ["/usr/bin", "/usr/local/bin", "/usr/sbin"].map(PathBuf::from);
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    system
        .into_iter()
        .chain(std::env::split_paths(&on_path))
        .map(|folder| folder.join(path))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| SutError::Missing(format!("{} (neither in /usr/bin nor on PATH)", path.display())))
}

/// Directives that the storm itself depends on.
const RESERVED: &[&str] = &[
    "port",
    "bind",
    "bind-source-addr",
    "enable-debug-command",
    "cluster-enabled",
    "cluster-port",
    "cluster-config-file",
    "cluster-node-timeout",
    "cluster-announce-ip",
    "cluster-announce-port",
    "cluster-announce-tls-port",
    "cluster-announce-bus-port",
    "dir",
    "logfile",
    "daemonize",
    "pidfile",
    "unixsocket",
    "tls-port",
    "supervised",
];

/// Directives that only Slotstorm's node knows: another server would not start with them, and a storm that has them may be
/// replayed on one.
const OWN: [&str; 1] = ["failover-timing"];

/// What all nodes of a run are started with beside their addresses and folders: the defaults of a storm, then what
/// the user set.
pub fn directives(node_timeout_ms: u64, set: &[String]) -> Result<BTreeMap<String, String>, SutError> {
    let mut all: BTreeMap<String, String> = [
        // An acknowledged write survives a quick restart; without it, a restart empties a shard.
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("save", ""),
        // Otherwise a fresh replica is not in sync for 5 s, and one that never was refuses to fail over.
        ("repl-diskless-sync", "yes"),
        ("repl-diskless-sync-delay", "0"),
        // A shard's outage is its own.
        ("cluster-require-full-coverage", "no"),
        ("protected-mode", "no"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    all.insert("cluster-node-timeout".to_owned(), node_timeout_ms.to_string());
    for word in set {
        let (name, value) = word.split_once('=').ok_or_else(|| SutError::BadDirective(word.clone()))?;
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(SutError::BadDirective(word.clone()));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(SutError::Reserved(name));
        }
        all.insert(name, value.to_owned());
    }
    Ok(all)
}

/// The command line of one node, without the program itself.
pub fn arguments(
    server: &Server,
    plan: AddressPlan,
    node: u16,
    dir: &Path,
    log: &Path,
    directives: &BTreeMap<String, String>,
    mutation: Option<&str>,
) -> Vec<String> {
    let mut args = Vec::new();
    if server.program == Program::Embedded {
        args.push("server".to_owned());
        if let Some(bug) = mutation {
            args.extend(["--zoo".to_owned(), bug.to_owned()]);
        }
    }
    let mut flag = |name: &str, value: &str| args.extend([format!("--{name}"), value.to_owned()]);
    flag("port", &plan.port.to_string());
    flag("bind", &plan.real_ip(node).to_string());
    if server.has_bind_source_addr {
        flag("bind-source-addr", &plan.real_ip(node).to_string());
    }
    // Slow commands are faults (DEBUG SLEEP); older servers need no permission. All listen on loopback only.
    if server.has_bind_source_addr {
        flag("enable-debug-command", "yes");
    }
    flag("cluster-enabled", "yes");
    flag("cluster-config-file", "nodes.conf");
    flag("cluster-announce-ip", &plan.node(node, SeenBy::Cluster).ip().to_string());
    flag("cluster-announce-port", &plan.port.to_string());
    flag("cluster-announce-bus-port", &(plan.port + BUS_OFFSET).to_string());
    flag("dir", &dir.display().to_string());
    flag("logfile", &log.display().to_string());
    flag("daemonize", "no");
    let foreign = server.program != Program::Embedded;
    for (name, value) in directives.iter().filter(|(name, _)| !(foreign && OWN.contains(&name.as_str()))) {
        flag(name, value);
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(text: &str, masters: u16, replicas: u16) -> Vec<String> {
        let sut: Sut = text.parse().unwrap();
        sut.assign(masters, replicas).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_mix_gives_every_shard_both_kinds_and_both_kinds_masters() {
        let nodes = assigned("embedded:3,/r:3", 3, 1);
        assert_eq!(nodes, ["embedded", "/r", "embedded", "/r", "embedded", "/r"]);
        for shard in 0..3 {
            assert_ne!(nodes[shard], nodes[shard + 3]);
        }
    }

    #[test]
    fn an_uneven_mix_uses_every_node_that_was_asked_for() {
        for (text, masters, replicas) in [("embedded:1,/r:5", 3, 1), ("/a:2,/b:3,/c:4", 3, 2), ("/a:6", 2, 2)]
        {
            let nodes = assigned(text, masters, replicas);
            for word in text.split(',') {
                let (name, count) = word.rsplit_once(':').unwrap();
                assert_eq!(nodes.iter().filter(|node| *node == name).count().to_string(), count, "{text}");
            }
        }
    }

    #[test]
    fn a_wrong_sut_says_what_is_wrong() {
        assert!("embedded,/r:3".parse::<Sut>().unwrap_err().to_string().contains("needs its count"));
        assert!("embedded:0".parse::<Sut>().unwrap_err().to_string().contains("0 nodes"));
        assert!("".parse::<Sut>().is_err());
        let short: Sut = "embedded:3,/r:2".parse().unwrap();
        assert!(short.assign(3, 1).unwrap_err().to_string().contains("5 nodes, but 3 masters"));
    }

    #[test]
    fn programs_that_are_no_servers_are_told_apart() {
        let find = |path: &str| Server::find(&Program::Path(path.into())).unwrap_err();
        assert!(matches!(find("/nonexistent/redis-server"), SutError::Missing(_)));
        assert!(matches!(find("no-such-server"), SutError::Missing(_)));
        assert!(matches!(find("/etc/passwd"), SutError::NotExecutable(_)));
        assert!(matches!(find("/usr/bin"), SutError::NotExecutable(_)));
        assert!(matches!(find("/bin/true"), SutError::NotAServer(..)));
    }

    #[test]
    fn version_lines_of_both_families_are_read() {
        let seven =
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0";
        assert_eq!(server_version(seven), Some(("redis".to_owned(), (7, 0, 15))));
        assert_eq!(server_version("Valkey server v=8.1.0-rc1 sha=0"), Some(("valkey".to_owned(), (8, 1, 0))));
        assert_eq!(server_version("redis-cli 7.0.15"), None);
    }

    #[test]
    fn the_debian_server_is_found_by_its_bare_name() {
        let server = Server::find(&Program::Path("redis-server".into())).unwrap();
        assert!(server.version.starts_with("redis "), "{server:?}");
    }

    #[test]
    fn servers_that_cannot_replicate_each_other_are_refused_before_they_run() {
        let server = |version: &str, rdb_version| Server {
            program: Program::Path("/r".into()),
            version: version.to_owned(),
            has_bind_source_addr: true,
            rdb_version,
        };
        let (old, new) = (server("redis 6.2.14", 9), server("redis 7.0.15", 10));
        let error = check_compatible([&new, &new, &old]).unwrap_err().to_string();
        assert!(error.starts_with("redis 7.0.15 and redis 6.2.14 cannot"), "{error}");
        let embedded = Server::find(&Program::Embedded).unwrap();
        assert_eq!(check_compatible([&new, &embedded]), Ok(()));
    }

    #[test]
    fn a_directive_that_the_storm_needs_cannot_be_set() {
        let set = |word: &str| directives(2000, &[word.to_owned()]);
        assert_eq!(set("Bind=0.0.0.0").unwrap_err(), SutError::Reserved("bind".to_owned()));
        assert!(matches!(set("appendfsync"), Err(SutError::BadDirective(_))));
        assert_eq!(set("appendfsync=always").unwrap()["appendfsync"], "always");
        assert_eq!(set("save=60 1").unwrap()["cluster-node-timeout"], "2000");
    }

    #[test]
    fn an_old_server_is_not_given_flags_it_does_not_know() {
        let plan = AddressPlan { t: 5, port: 6379 };
        let old = Server {
            program: Program::Path("/r".into()),
            version: "redis 6.2.14".to_owned(),
            has_bind_source_addr: false,
            rdb_version: 9,
        };
        let args = arguments(&old, plan, 2, Path::new("/d"), Path::new("/l"), &BTreeMap::new(), None);
        assert!(!args.contains(&"--bind-source-addr".to_owned()));
        let after = |flag: &str| args[args.iter().position(|arg| arg == flag).unwrap() + 1].clone();
        assert_eq!(
            (after("--bind"), after("--cluster-announce-ip")),
            ("127.5.0.2".into(), "127.5.1.2".into())
        );
    }

    #[test]
    fn another_server_is_not_given_directives_of_our_own_node() {
        let set = directives(2000, &["failover-timing=redis".to_owned()]).unwrap();
        let given = |server: &Server| {
            let plan = AddressPlan { t: 5, port: 6379 };
            let args = arguments(server, plan, 2, Path::new("/d"), Path::new("/l"), &set, None);
            args.contains(&"--failover-timing".to_owned())
        };
        let ours = Server::find(&Program::Embedded).unwrap();
        let other = Server { program: Program::Path("/r".into()), ..ours.clone() };
        assert!(given(&ours) && !given(&other));
    }
}
