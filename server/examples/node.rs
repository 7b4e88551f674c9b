//! A node as a program of its own, for this crate's tests: the one binary of the house is built elsewhere.

use std::process::ExitCode;

fn main() -> ExitCode {
    slotstorm_server::run(std::env::args_os().skip(1).collect())
}
