//! A node as a program of its own, for this crate's tests: the one binary of the house is built elsewhere.

use std::path::Path;
use std::process::ExitCode;

/// As in that binary, so that what is measured here holds there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    // By its name, as the one binary does.
    let called = args.next().unwrap_or_default();
    if Path::new(&called).file_name().is_some_and(|name| name == "redis-server") {
        return slotstorm_server::run_as_redis_server(args.collect());
    }
    slotstorm_server::run(args.collect())
}
