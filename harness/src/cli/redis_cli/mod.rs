//! The binary called `redis-cli` (or `valkey-cli`): a client for daily work in the words, the output and the exit codes
//! of Redis' own, 7.0.
//!
//! Rooms, callers above callees: [`main`] · `options` the command line · `interactive` the prompt · `modes`, `pipe`,
//! `rdb` the modes · `session` commands and redirections · `link` a connection · `reply`, `format` replies read and
//! shown · `words` lines and quotes · `help`.

mod format;
mod help;
mod interactive;
mod link;
mod modes;
mod options;
mod pipe;
mod rdb;
mod reply;
mod session;
mod words;

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use options::{Mode, Options, StdinArg, Surroundings};
use session::{Failed, Session, emit};

/// Does what the arguments say (without the program's name).
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut options = match Options::parse(args, &surroundings()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match &options.mode {
        Mode::Help => {
            emit(help::usage().as_bytes());
            return ExitCode::SUCCESS;
        }
        Mode::Version => {
            emit(format!("{}\n", help::version()).as_bytes());
            return ExitCode::SUCCESS;
        }
        Mode::Cluster(words) if words.first().is_some_and(|verb| verb == "help") => {
            emit(help::CLUSTER.as_bytes());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if options.warns_of_password {
        let _ = io::stderr().write_all(
            b"Warning: Using a password with '-a' or '-u' option on the command line interface may not be safe.\n",
        );
    }
    if options.asks_password {
        match ask_password() {
            Ok(password) => options.password = Some(password),
            Err(error) => {
                eprintln!("can't read the password: {}", link::said(&error));
                return ExitCode::FAILURE;
            }
        }
    }
    run(options)
}

fn run(options: Options) -> ExitCode {
    let mode = options.mode.clone();
    let done = match mode {
        Mode::Cluster(words) => return cluster(words, &options),
        Mode::Pipe => return pipe::pipe(Session::new(options)),
        Mode::Rdb { file, only_functions } => {
            return rdb::fetch(Session::new(options), &file, only_functions);
        }
        Mode::Scan => modes::scan(Session::new(options)),
        Mode::Stat => modes::stat(Session::new(options)),
        Mode::Latency { keeps_history } => modes::latency(Session::new(options), keeps_history),
        Mode::Eval { file } => modes::eval(Session::new(options), &file),
        Mode::Command if options.words.is_empty() => {
            interactive::run(Session::new(options)).map_err(|error| {
                eprintln!("{}", link::said(&error));
                Failed
            })
        }
        Mode::Command | Mode::Help | Mode::Version => command(options),
    };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `--cluster` is what `slotstorm cluster` is.
fn cluster(words: Vec<OsString>, options: &Options) -> ExitCode {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let (user, password) = (options.user.as_ref().map(text), options.password.as_ref().map(text));
    super::cluster::run_words(words, super::cluster::Auth { user, password })
}

/// The one command of the command line.
fn command(mut options: Options) -> Result<(), Failed> {
    let mut words = std::mem::take(&mut options.words);
    if options.has_quoted_words {
        let unquoted: Option<Vec<_>> = words.iter().map(|word| words::unquote(word)).collect();
        words = unquoted.ok_or_else(|| {
            emit(b"Invalid quoted string\n");
            Failed
        })?;
    }
    match &options.stdin {
        StdinArg::None => {}
        StdinArg::Last => words.push(standard_input()?),
        StdinArg::Tagged(tag) => {
            let Some(word) = words.iter_mut().find(|word| *word == tag) else {
                eprintln!("Using -X option but stdin tag not match.");
                return Err(Failed);
            };
            *word = standard_input()?;
        }
    }
    let repeat = options.repeat;
    let mut session = Session::new(options);
    // If nobody listens, the command's own try says so; if the login fails, the server's answer to the command does.
    let _ = session.connect(false);
    if words[0].eq_ignore_ascii_case(b"help") || words[0] == b"?" {
        help::show(&words[1..], &mut session);
        return Ok(());
    }
    session.issue(&words, repeat)
}

fn standard_input() -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|error| {
        eprintln!("Reading from standard input: {}", link::said(&error));
        Failed
    })?;
    Ok(bytes)
}

fn surroundings() -> Surroundings {
    Surroundings {
        has_terminal: io::stdout().is_terminal() || std::env::var_os("FAKETTY").is_some(),
        auth: std::env::var_os("REDISCLI_AUTH").map(OsString::into_vec),
        says_cluster_yes: std::env::var_os("REDISCLI_CLUSTER_YES").is_some_and(|yes| yes == "1"),
    }
}

/// A line from standard input, which a terminal does not show.
fn ask_password() -> io::Result<Vec<u8>> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin).ok();
    if let Some(shown) = &shown {
        eprint!("Please input password: ");
        let mut hidden = shown.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden)?;
    }
    let mut line = Vec::new();
    let read = stdin.lock().read_until(b'\n', &mut line);
    if let Some(shown) = &shown {
        tcsetattr(&stdin, SetArg::TCSAFLUSH, shown)?;
        eprintln!();
    }
    read?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}
