//! `slotstorm doctor`: can this machine run storms? One line for each thing that a run needs, with what to do about it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: it looks at the machine

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use slotstorm_fabric::{Endpoint, LinkChange, OnHeal, Plane, Policy};

use crate::backend::process::address::Claim;
use crate::backend::process::run_local;
use crate::backend::process::sut::{Program, Server};
use crate::backend::{BackendError, SeenBy};
use crate::proxy::{Proxy, ProxyOptions, Route, sockets_needed};

/// Arguments of `slotstorm doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Nodes that a run shall have
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=254))]
    pub nodes: u16,
    /// Clients that a run shall have
    #[arg(long, default_value_t = 10)]
    pub clients: u16,
    /// Another server to look at
    #[arg(long, value_name = "PATH")]
    pub sut: Option<PathBuf>,
    /// Where results would go
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
}

/// What was found of one thing.
enum Finding {
    Ok(String),
    /// Runs are possible, but something is not as it should be.
    Warn(String, &'static str),
    /// No run is possible.
    Fail(String, &'static str),
}

/// Runs the verb: exit code 0, or 3 if a run could not be made.
#[allow(clippy::unnecessary_wraps)] // every verb has this shape
pub fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut failed = false;
    let mut tell = |name: &str, finding: Finding| match finding {
        Finding::Ok(text) => println!("ok    {name:<14} {text}"),
        Finding::Warn(text, todo) => println!("warn  {name:<14} {text}\n{:21}{todo}", ""),
        Finding::Fail(text, todo) => {
            failed = true;
            println!("fail  {name:<14} {text}\n{:21}{todo}", "");
        }
    };
    let claim = Claim::take(args.nodes, args.clients);
    tell("loopback", loopback(&claim, &args));
    tell("open files", open_files(&args));
    if let Ok(claim) = &claim {
        tell("proxy", proxy(claim));
    }
    tell("processes", subreaper());
    tell("embedded", server(&Program::Embedded, true));
    tell("redis-server", server(&Program::Path("redis-server".into()), false));
    if let Ok(valkey) = Server::find(&Program::Path("valkey-server".into())) {
        tell("valkey-server", Finding::Ok(format!("{} ({})", valkey.version, valkey.program)));
    }
    if let Some(path) = args.sut {
        tell("--sut", server(&Program::Path(path), true));
    }
    tell("disk", disk(&args.out));
    tell("processors", processors());
    Ok(ExitCode::from(if failed { 3 } else { 0 }))
}

fn loopback(claim: &Result<Claim, BackendError>, args: &DoctorArgs) -> Finding {
    match claim {
        Ok(claim) => {
            let (t, port) = (claim.plan.t, claim.plan.port);
            let text = format!("127.{t}.0.0/16 can be had, port {port} and bus {}", port + 10_000);
            if port == 6379 {
                Finding::Ok(text)
            } else {
                let todo = "6379 is taken on every address: something listens on 0.0.0.0. Slotstorm uses the next port.";
                Finding::Warn(text, todo)
            }
        }
        Err(error) => Finding::Fail(
            format!("{} nodes and {} clients: {error}", args.nodes, args.clients),
            "Linux routes all of 127.0.0.0/8 to lo; in a container, is lo up (ip link set lo up)?",
        ),
    }
}

fn open_files(args: &DoctorArgs) -> Finding {
    let need = sockets_needed(u64::from(args.nodes), u64::from(args.clients));
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if hard >= need => {
            Finding::Ok(format!("limit {soft} (hard {hard}), this cluster needs {need}"))
        }
        Ok((_, hard)) => Finding::Fail(
            format!("hard limit {hard}, this cluster needs {need}"),
            "raise it (ulimit -Hn, LimitNOFILE= of the service) or use fewer nodes or clients",
        ),
        Err(error) => Finding::Fail(error.to_string(), "is this Linux?"),
    }
}

/// Bytes pass, a cut holds them, healing delivers them, and the callee sees the caller's own address.
fn proxy(claim: &Claim) -> Finding {
    const TODO: &str = "this is a defect of slotstorm or of this machine's network stack: please report it";
    match proxy_story(claim) {
        Ok(took) => Finding::Ok(format!("passes, cuts and heals; one round trip in {} us", took.as_micros())),
        Err(error) => Finding::Fail(error.to_string(), TODO),
    }
}

fn proxy_story(claim: &Claim) -> anyhow::Result<Duration> {
    let plan = claim.plan;
    let (caller, node) = (Endpoint::Client(0), Endpoint::Node(1));
    let (listen, target) = (plan.node(1, SeenBy::Cluster), plan.node(1, SeenBy::Controller));
    let server = TcpListener::bind(target)?;
    let echo = std::thread::spawn(move || -> std::io::Result<IpAddr> {
        let (mut peer, from) = server.accept()?;
        peer.set_nodelay(true)?;
        let mut piece = [0; 64];
        loop {
            match peer.read(&mut piece)? {
                0 => return Ok(from.ip()),
                count => peer.write_all(&piece[..count])?,
            }
        }
    });
    let proxy = Proxy::start(ProxyOptions {
        routes: vec![Route { listen, target, to: node, bus: false }],
        callers: BTreeMap::from([(IpAddr::V4(plan.client_ip(0)), caller)]),
        seed: 0,
        clock: Instant::now(),
        bus: None,
    })?;
    let change = |policy| vec![LinkChange { from: caller, to: node, planes: Plane::ALL.to_vec(), policy }];
    let apply = |policy| run_local(proxy.apply(change(policy)));

    let mut client = dial_from(plan.client_ip(0), listen)?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut answer = [0; 6];
    client.write_all(b"PING\r\n")?;
    client.read_exact(&mut answer)?;
    let begun = Instant::now();
    client.write_all(b"PING\r\n")?;
    client.read_exact(&mut answer)?;
    let took = begun.elapsed();

    apply(Policy::Blackhole { on_heal: OnHeal::Resume })??;
    client.write_all(b"HELD\r\n")?;
    client.set_read_timeout(Some(Duration::from_millis(100)))?;
    anyhow::ensure!(client.read_exact(&mut answer).is_err(), "a cut link let bytes pass");
    apply(Policy::Pass)??;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    client.read_exact(&mut answer)?;
    anyhow::ensure!(&answer == b"HELD\r\n", "healing did not deliver what was held");
    client.shutdown(Shutdown::Both)?;
    drop(client);
    proxy.stop();
    let seen = echo.join().map_err(|_| anyhow::anyhow!("the echo server broke"))??;
    anyhow::ensure!(seen == IpAddr::V4(plan.client_ip(0)), "the callee saw {seen}, not the caller");
    Ok(took)
}

fn dial_from(source: Ipv4Addr, to: SocketAddr) -> std::io::Result<std::net::TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn subreaper() -> Finding {
    match nix::sys::prctl::set_child_subreaper(true) {
        Ok(()) => Finding::Ok("children can be kept (subreaper)".to_owned()),
        Err(error) => Finding::Fail(
            format!("prctl(PR_SET_CHILD_SUBREAPER): {error}"),
            "servers could outlive a killed run; is a seccomp filter in the way?",
        ),
    }
}

fn server(program: &Program, needed: bool) -> Finding {
    match Server::find(program) {
        Ok(found) => Finding::Ok(format!("{} ({})", found.version, found.program)),
        Err(error) if needed => Finding::Fail(error.to_string(), "name a server binary with --sut"),
        Err(error) => Finding::Warn(error.to_string(), "not needed: the embedded node is the default"),
    }
}

fn disk(out: &std::path::Path) -> Finding {
    const WANTED_MIB: u64 = 1024;
    const TODO: &str = "a run of a minute takes some 50 MiB; choose another folder with --out";
    match statvfs(out) {
        Ok(stat) => {
            let free_mib = stat.blocks_available() * stat.fragment_size() / (1024 * 1024);
            let text = format!("{free_mib} MiB free in {}", out.display());
            match free_mib {
                free if free >= WANTED_MIB => Finding::Ok(text),
                free if free >= 100 => Finding::Warn(text, TODO),
                _ => Finding::Fail(text, TODO),
            }
        }
        Err(error) => Finding::Fail(format!("{}: {error}", out.display()), TODO),
    }
}

fn processors() -> Finding {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => Finding::Warn(
            "one processor".to_owned(),
            "servers, proxy and clients take turns: stalls are measured and widen the verdict's bounds",
        ),
        many => Finding::Ok(format!("{many}")),
    }
}
