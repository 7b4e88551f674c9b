//! `slotstorm serve`: the web pages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use crate::backend::process::run_local;

/// Show results in a browser: campaigns, runs, histories, a storm as it happens.
#[derive(clap::Args)]
pub struct ServeArgs {
    /// Where to listen; loopback unless told otherwise, and whoever can connect can read all results
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8090")]
    bind: SocketAddr,
    /// Where results are
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

/// Runs the verb until it is interrupted.
pub fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    run_local(crate::serve::serve(&args.out, args.bind, |address| println!("http://{address}/")))??;
    Ok(ExitCode::SUCCESS)
}
