//! From arguments to a running loop: configuration, directory, log, limits, sockets, the lock, the node.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // configuration files, pid file, entropy

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use slotstorm_node::config::{
    CommandLine, Config, IncludedFile, Key, LoadError, ServeArgs, Source, glob_matches, parse_args,
};
use slotstorm_node::io::{Effects, Now, Plane};
use slotstorm_node::zoo::Zoo;

use crate::clock::Clock;
use crate::files::{FileStore, LockError};
use crate::listen::{Listener, listen, listen_unix};
use crate::log::{Log, level_named};
use crate::machine::Machine;
use crate::shell::{Parts, Shell};
use crate::signals::Signals;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version of Redis whose behaviour and protocol this node has.
const REDIS_VERSION: &str = "7.0.15";
/// Descriptors beside those of clients: listeners, files, the bus.
const RESERVED_FILES: u64 = 32;
/// Set for the child that `daemonize` starts: it leaves the terminal's session.
const DAEMON_MARK: &str = "SLOTSTORM_SERVER_DAEMON";

/// The name by which the program was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// `slotstorm server`: a cluster node unless told otherwise.
    Slotstorm,
    /// `redis-server`: standalone unless told otherwise.
    RedisServer,
}

/// What a machine is made from.
pub struct Boot<'a> {
    /// The configuration.
    pub config: Config,
    /// The time at which it begins.
    pub now: Now,
    /// Randomness from the operating system, for names and seeds.
    pub entropy: [u8; 32],
    /// What it wants done first.
    pub effects: &'a mut Effects,
}

/// Why the server did not start: everything here is for the user to read, and ends in exit code 1.
#[derive(Debug, thiserror::Error)]
enum StartError {
    /// The configuration is wrong.
    #[error("\n*** FATAL CONFIG FILE ERROR (Slotstorm {VERSION}, Redis {REDIS_VERSION}) ***\n{0}")]
    Config(String),
    /// Anything else.
    #[error("{0}")]
    Plain(String),
    /// Already in the log.
    #[error("")]
    Logged,
}

/// Runs a server with the arguments of redis-server around the machine that `make` makes.
pub fn run_with<M: Machine>(
    args: Vec<OsString>,
    called: Called,
    make: impl FnOnce(Boot<'_>) -> M,
) -> ExitCode {
    match start(args, called, make) {
        Ok(code) => ExitCode::from(code as u8),
        Err(StartError::Logged) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start<M: Machine>(
    args: Vec<OsString>,
    called: Called,
    make: impl FnOnce(Boot<'_>) -> M,
) -> Result<i32, StartError> {
    let args: Result<Vec<String>, OsString> = args.into_iter().map(OsString::into_string).collect();
    let mut args = args.map_err(|word| {
        StartError::Plain(format!("this argument is not UTF-8: {}", word.to_string_lossy()))
    })?;
    let zoo = Zoo::taken_from(&mut args).map_err(StartError::Plain)?;
    let serve = match parse_args(&args).map_err(StartError::Plain)? {
        CommandLine::Version => {
            println!("{}", version(called));
            return Ok(0);
        }
        CommandLine::Help => {
            print!("{}", help(called));
            return Ok(0);
        }
        CommandLine::Serve(serve) => serve,
    };
    let mut config = load_config(&serve, called)?;
    config.zoo = zoo;
    let mut log = Log::to_stdout();
    let started_in = std::env::current_dir();
    enter_directory(&mut config, &mut log)?;
    if let Some(path) = config.some_text(Key::Logfile) {
        let opened = log.open(path);
        opened.map_err(|error| StartError::Config(format!("Can't open the log file: {}", said(&error))))?;
    }
    log.least = level_named(config.text(Key::Loglevel));
    let is_daemon = std::env::var_os(DAEMON_MARK).is_some();
    if config.flag(Key::Daemonize) && !is_daemon {
        return daemonize(&serve, started_in).map(|()| 0);
    }
    if is_daemon {
        // It fails only for the leader of a group, which already is on its own.
        let _ = nix::unistd::setsid();
    }
    if config.flag(Key::DisableThp) {
        // As Redis: a kernel without them refuses, and has none to disable.
        let _ = nix::sys::prctl::set_thp_disable(true);
    }
    let pidfile = write_pidfile(&config, &mut log);
    let unix_path = config.some_text(Key::Unixsocket).map(str::to_owned);
    let result = serve_until_told(config, log, make);
    if let Some(path) = pidfile {
        let _ = fs::remove_file(path);
    }
    if let Some(path) = unix_path {
        let _ = fs::remove_file(path);
    }
    result
}

fn serve_until_told<M: Machine>(
    mut config: Config,
    mut log: Log,
    make: impl FnOnce(Boot<'_>) -> M,
) -> Result<i32, StartError> {
    // Before the first thread, so that all of them have the signals blocked.
    let signals = Signals::block().map_err(|error| failed(&mut log, "Can't block signals", &error))?;
    let pid = std::process::id();
    log.warning("oO0OoO0OoO0Oo Slotstorm node (Redis is starting) oO0OoO0OoO0Oo");
    log.warning(&format!(
        "Redis version={REDIS_VERSION}, bits=64, slotstorm={VERSION}, pid={pid}, just started"
    ));
    log.warning("Configuration loaded");
    if config.implies_cluster {
        log.warning(
            "A cluster-config-file is given and cluster-enabled is not: running in cluster mode. \
             (Redis' own redis-server would run standalone.)",
        );
    }
    log.role = 'M';
    read_acl_file(&mut config, &mut log)?;
    raise_file_limit(&mut config, &mut log);
    let listeners = open_listeners(&config, &mut log)?;
    let mut store = FileStore::new(config.text(Key::Dir));
    if config.flag(Key::ClusterEnabled) {
        lock_cluster_file(&mut store, config.text(Key::ClusterConfigFile), &mut log)?;
    }
    show_banner(&config, &mut log);
    let entropy = entropy().map_err(|error| failed(&mut log, "Can't read /dev/urandom", &error))?;
    let clock = Clock::start();
    let mut effects = Effects::default();
    let machine = make(Boot { config, now: clock.now(), entropy, effects: &mut effects });
    log.warning("Server initialized");
    let parts = Parts { machine, log, clock, signals, store, listeners, effects };
    let mut shell =
        Shell::new(parts).map_err(|error| StartError::Plain(format!("Can't start the loop: {error}")))?;
    let code = shell.run().map_err(|error| StartError::Plain(format!("Can't wait for events: {error}")))?;
    if code == 0 {
        shell.log().warning("Redis is now ready to exit, bye bye...");
    }
    Ok(code)
}

// ---- Configuration

fn load_config(serve: &ServeArgs, called: Called) -> Result<Config, StartError> {
    let path = serve.file.as_deref().map(std::path::absolute).transpose();
    let path =
        path.map_err(|error| StartError::Plain(format!("Fatal error, no current directory: {error}")))?;
    let file = path.as_deref().map(read_config_file).transpose().map_err(StartError::Plain)?;
    let mut stdin = String::new();
    if serve.from_stdin {
        let read = io::stdin().read_to_string(&mut stdin);
        read.map_err(|error| StartError::Plain(format!("Fatal error, can't read standard input: {error}")))?;
    }
    let source = Source {
        file: file.as_deref().unwrap_or_default(),
        stdin: &stdin,
        args: &serve.lines,
        standalone_unless_told: called == Called::RedisServer,
    };
    let mut config = Config::load(source, &mut read_included).map_err(|error| match error {
        LoadError::Include(sentence) => StartError::Plain(sentence),
        error => StartError::Config(error.to_string()),
    })?;
    config.file = path.map(|path| path.to_string_lossy().into_owned());
    Ok(config)
}

fn read_config_file(path: &Path) -> Result<String, String> {
    let said = |what: &str| format!("Fatal error, can't open config file '{}': {what}", path.display());
    let bytes = fs::read(path).map_err(|error| said(&self::said(&error)))?;
    String::from_utf8(bytes).map_err(|_| said("it is not UTF-8"))
}

/// The files that an `include` names; a pattern may match none, a plain path must be there.
fn read_included(pattern: &str) -> Result<Vec<IncludedFile>, String> {
    let paths =
        if pattern.contains(['*', '?', '[']) { expand(pattern) } else { vec![PathBuf::from(pattern)] };
    let read = |path: PathBuf| {
        Ok(IncludedFile { text: read_config_file(&path)?, path: path.to_string_lossy().into_owned() })
    };
    paths.into_iter().map(read).collect()
}

/// Paths that match a pattern, component by component, sorted.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let start = if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() };
    let mut paths = vec![start];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        let mut next = Vec::new();
        for path in &paths {
            let dir = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            if !component.contains(['*', '?', '[']) {
                next.push(path.join(component));
                continue;
            }
            let Ok(entries) = fs::read_dir(dir) else { continue };
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            let matching = names.filter(|name| {
                let is_hidden = name.starts_with('.') && !component.starts_with('.');
                !is_hidden && glob_matches(component.as_bytes(), name.as_bytes(), false)
            });
            next.extend(matching.map(|name| path.join(name)));
        }
        paths = next;
    }
    paths.retain(|path| path.exists());
    paths.sort();
    paths
}

/// Changes to `dir`, so that `logfile`, `pidfile` and the data files are relative to it, and notes its full
/// path.
fn enter_directory(config: &mut Config, log: &mut Log) -> Result<(), StartError> {
    if let Some(dir) = config.some_text(Key::Dir)
        && let Err(error) = std::env::set_current_dir(dir)
    {
        return Err(StartError::Config(format!("Can't chdir to '{dir}': {}", said(&error))));
    }
    let here = std::env::current_dir().map_err(|error| failed(log, "No current directory", &error))?;
    let set = config.set(&[("dir", here.to_string_lossy().as_ref())], true);
    set.map_err(|error| StartError::Config(error.to_string()))?;
    Ok(())
}

/// The file that `aclfile` names, for the node, which makes users of it.
fn read_acl_file(config: &mut Config, log: &mut Log) -> Result<(), StartError> {
    let Some(path) = config.some_text(Key::Aclfile) else { return Ok(()) };
    match fs::read(path) {
        Ok(text) => config.acl_text = Some(text),
        Err(error) => {
            log.warning(&format!(
                "Aborting Redis startup because of ACL errors: Error loading ACLs, opening file '{path}': {}",
                said(&error)
            ));
            return Err(StartError::Logged);
        }
    }
    Ok(())
}

// ---- The process

/// Starts this program again, in the background, and lets this one end.
fn daemonize(serve: &ServeArgs, started_in: io::Result<PathBuf>) -> Result<(), StartError> {
    if serve.from_stdin {
        return Err(StartError::Plain(
            "daemonize does not go with a configuration from standard input".to_owned(),
        ));
    }
    // The child reads the same arguments, so relative paths in them must mean the same to it.
    let failed = |error| StartError::Plain(format!("Can't daemonize: {error}"));
    let started_in = started_in.map_err(failed)?;
    let mut args = std::env::args_os();
    let child = Command::new("/proc/self/exe")
        // The name by which it was called says what it is.
        .arg0(args.next().unwrap_or_else(|| "slotstorm".into()))
        .args(args)
        .env(DAEMON_MARK, "1")
        .current_dir(started_in)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.map(|_| ()).map_err(failed)
}

/// Returns the file to remove at the end.
fn write_pidfile(config: &Config, log: &mut Log) -> Option<PathBuf> {
    let default = config.flag(Key::Daemonize).then_some("/var/run/redis.pid");
    let path = PathBuf::from(config.some_text(Key::Pidfile).or(default)?);
    match fs::write(&path, format!("{}\n", std::process::id())) {
        Ok(()) => Some(path),
        Err(error) => {
            log.warning(&format!("Failed to write PID file: {error}"));
            None
        }
    }
}

/// Makes room for `maxclients` connections, or lowers `maxclients` to what there is room for.
fn raise_file_limit(config: &mut Config, log: &mut Log) {
    let clients = config.uint(Key::Maxclients);
    let wanted = clients + RESERVED_FILES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft >= wanted {
        return;
    }
    let reachable = wanted.min(hard);
    let got = if setrlimit(Resource::RLIMIT_NOFILE, reachable, hard).is_ok() { reachable } else { soft };
    if got < wanted {
        let fewer = got.saturating_sub(RESERVED_FILES).max(1);
        log.warning(&format!(
            "The limit of open files is {got}, {wanted} are needed for {clients} clients: maxclients is \
             lowered to {fewer}. Raise the limit with 'ulimit -n'."
        ));
        // The value is in the directive's range: it is between 1 and the old one.
        let _ = config.set(&[("maxclients", fewer.to_string().as_str())], true);
    }
}

fn open_listeners(config: &Config, log: &mut Log) -> Result<Vec<Listener>, StartError> {
    let mut planes = Vec::new();
    if config.int(Key::Port) != 0 {
        planes.push((Plane::Client, config.int(Key::Port) as u16, "TCP"));
    }
    if config.flag(Key::ClusterEnabled) {
        planes.push((Plane::Bus, config.bus_port(), "cluster"));
    }
    let mut listeners = Vec::new();
    for (plane, port, name) in planes {
        match listen(config, plane) {
            Ok(mut opened) => listeners.append(&mut opened),
            Err(error) => {
                log.warning(&format!("Warning: {error}"));
                log.warning(&format!("Failed listening on port {port} ({name}), aborting."));
                return Err(StartError::Logged);
            }
        }
    }
    match listen_unix(config) {
        Ok(unix) => listeners.extend(unix),
        Err(error) => {
            log.warning(&error.to_string());
            return Err(StartError::Logged);
        }
    }
    if !listeners.iter().any(|listener| matches!(listener.plane, Plane::Client | Plane::Unix)) {
        log.warning("Configured to not listen anywhere, exiting.");
        return Err(StartError::Logged);
    }
    Ok(listeners)
}

fn lock_cluster_file(store: &mut FileStore, name: &str, log: &mut Log) -> Result<(), StartError> {
    match store.lock(name) {
        Ok(()) => Ok(()),
        Err(LockError::Busy) => {
            log.warning(&format!(
                "Sorry, the cluster configuration file {name} is already used by a different Redis Cluster \
                 node. Please make sure that different nodes use different cluster configuration files."
            ));
            Err(StartError::Logged)
        }
        Err(LockError::Io(error)) => {
            log.warning(&format!("Can't open {name} in order to acquire a lock: {error}"));
            Err(StartError::Logged)
        }
    }
}

fn show_banner(config: &Config, log: &mut Log) {
    let mode = if config.flag(Key::ClusterEnabled) { "cluster" } else { "standalone" };
    let port = config.int(Key::Port);
    let on_terminal = io::stdout().is_terminal() && config.some_text(Key::Logfile).is_none();
    if config.flag(Key::AlwaysShowLogo) || on_terminal {
        let pid = std::process::id();
        log.raw(&format!(
            "\n    .-~~~-.      Slotstorm {VERSION} (Redis {REDIS_VERSION})\n\
             \x20 .(  ~  _ ).    Running in {mode} mode\n \
             (__.-'~'-.__)   Port: {port}\n   / / /_/ / /   PID: {pid}\n    / //  / /\n\n"
        ));
    } else {
        log.notice(&format!("Running mode={mode}, port={port}."));
    }
}

fn entropy() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn failed(log: &mut Log, what: &str, error: &io::Error) -> StartError {
    log.warning(&format!("{what}: {error}"));
    StartError::Logged
}

/// What strerror says, without Rust's error number behind it.
fn said(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}

fn version(called: Called) -> String {
    match called {
        Called::Slotstorm => format!("Slotstorm server v={VERSION} redis={REDIS_VERSION} bits=64"),
        // Programs look for `v=`.
        Called::RedisServer => {
            format!(
                "Redis server v={REDIS_VERSION} sha=00000000:0 malloc=mimalloc bits=64 build=slotstorm-{VERSION}"
            )
        }
    }
}

fn help(called: Called) -> String {
    let (name, mode) = match called {
        Called::Slotstorm => {
            ("slotstorm server", "It is in cluster mode unless 'cluster-enabled no' is given.")
        }
        Called::RedisServer => (
            "redis-server",
            "It is in cluster mode if 'cluster-enabled yes' is given, or a cluster-config-file (or \
             cluster-save-config)\nand nothing is said of cluster-enabled; Redis' own server would be standalone then.",
        ),
    };
    format!(
        "\
Usage: {name} [CONFIG-FILE] [--DIRECTIVE VALUE]... [-]
       {name} --version | --help

A Redis Cluster node ({REDIS_VERSION}'s behaviour, by slotstorm {VERSION}). It takes the configuration files, directives and
command line of redis-server; later ones win. A lone '-' reads more configuration from standard input. Files are
relative to 'dir', which is the current directory if nothing is said.

{mode}

Only here:
  --cluster-save-config    takes no value: the cluster-config-file (nodes.conf) is written at the start and after each
                           change. This server always does so; the flag says it.

Not supported: --sentinel, --test-memory, --check-system, TLS, modules.

  {name} --port 7000 --cluster-node-timeout 2000
  {name} --port 7000 --cluster-config-file nodes-7000.conf --cluster-save-config
  {name} /etc/redis/redis.conf --appendonly yes
"
    )
}
