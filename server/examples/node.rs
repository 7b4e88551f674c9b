//! A node as a program of its own, for this crate's tests: the one binary of the house is built elsewhere.

use std::process::ExitCode;

/// As in that binary, so that what is measured here holds there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    slotstorm_server::run(std::env::args_os().skip(1).collect())
}
