//! The command line: turned into lines of a configuration file, appended after the file's own.

use super::table::Key;
use super::value::Kind;
use crate::words;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// `--version` or `-v`.
    Version,
    /// `--help` or `-h`.
    Help,
    /// Run a server.
    Serve(ServeArgs),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeArgs {
    /// The configuration file, as given.
    pub file: Option<String>,
    /// Read more of it from standard input.
    pub from_stdin: bool,
    /// Lines made of `--name value` arguments.
    pub lines: String,
}

/// Understands arguments as redis-server does (without the program's name).
///
/// # Errors
/// A sentence about a mode that this server does not have.
pub fn parse_args(args: &[String]) -> Result<CommandLine, String> {
    match args.first().map(String::as_str) {
        Some("-v" | "--version") if args.len() == 1 => return Ok(CommandLine::Version),
        Some("-h" | "--help") if args.len() == 1 => return Ok(CommandLine::Help),
        Some(mode @ ("--test-memory" | "--check-system" | "--sentinel")) => {
            return Err(format!("{mode} is not supported by this server"));
        }
        _ => {}
    }
    let mut serve = ServeArgs::default();
    let mut rest = args;
    if let [first, more @ ..] = args
        && !first.starts_with('-')
    {
        serve.file = Some(first.clone());
        rest = more;
    }
    let mut expects_value = false;
    for (at, word) in rest.iter().enumerate() {
        let is_end = at == 0 && rest.len() == args.len() || at + 1 == rest.len();
        if word == "-" && is_end {
            serve.from_stdin = true;
        } else if word.starts_with("--") && !expects_value {
            expects_value = push_name(&mut serve.lines, &word[2..], rest.get(at + 1));
        } else {
            serve.lines.push_str(&words::quoted(word.as_bytes()));
            serve.lines.push(' ');
            expects_value = false;
        }
    }
    Ok(CommandLine::Serve(serve))
}

/// Begins a line; true when the next word is its value whatever it looks like.
fn push_name(lines: &mut String, option: &str, next: Option<&String>) -> bool {
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines.push_str(option);
    lines.push(' ');
    let name = match words::split_text(option) {
        Some(words) if words.len() > 1 => return false,
        words => words.and_then(|words| words.into_iter().next()).unwrap_or_default(),
    };
    let at_end_of_option = next.is_none_or(|next| next.starts_with("--"));
    match Key::by_name(&name) {
        Some(Key::Save) if at_end_of_option => {
            lines.push_str("\"\"");
            false
        }
        Some(key) if at_end_of_option && matches!(key.directive().kind, Kind::Switch) => false,
        _ => true,
    }
}
