//! The prompt: lines with editing and history from a terminal, or plain lines from a pipe.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustyline::error::ReadlineError;
use rustyline::history::{History, MemHistory, SearchDirection};

use super::format::Style;
use super::help;
use super::link::{Interrupts, Place};
use super::session::{Failed, Session, emit};
use super::words::{leading_int, split};

/// As redis-cli: a command that took this long says so.
const SLOW: Duration = Duration::from_millis(500);
/// Lines that the history keeps.
const HISTORY_LINES: usize = 100;

/// Reads lines until there is no more, or `quit`.
pub fn run(mut session: Session) -> io::Result<()> {
    let has_terminal = io::stdin().is_terminal();
    session.set_interactive(Some(Interrupts::take()?));
    let _ = session.connect(true); // every command tries again
    let mut lines = if has_terminal { Lines::terminal()? } else { Lines::Plain };
    while let Some(line) = lines.next(&session.prompt())? {
        if take_line(&mut session, &line, &mut lines) == Next::Quit {
            return Ok(());
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Next {
    Line,
    Quit,
}

fn take_line(session: &mut Session, line: &[u8], lines: &mut Lines) -> Next {
    let Some(mut words) = split(line) else {
        emit(b"Invalid argument(s)\n");
        lines.remember(line);
        return Next::Line;
    };
    if words.is_empty() {
        return Next::Line;
    }
    let mut repeat = 1;
    if words.len() > 1 && is_number(&words[0]) {
        repeat = leading_int(&words[0]);
        if repeat <= 0 || repeat == i64::MAX {
            emit(b"Invalid redis-cli repeat command option value.\n");
            return Next::Line;
        }
        words.remove(0);
    }
    if !is_sensitive(&words) {
        lines.remember(line);
    }
    let name = String::from_utf8_lossy(&words[0]).to_ascii_lowercase();
    match (name.as_str(), words.as_slice()) {
        ("quit" | "exit", _) => return Next::Quit,
        ("help" | "?", [_, topics @ ..]) => help::show(topics, session),
        ("clear", [_]) => emit(b"\x1b[H\x1b[2J"),
        ("connect", [_, host, port]) => {
            let host = String::from_utf8_lossy(host).into_owned();
            session.options.place = Place::Tcp { host, port: leading_int(port) as u16 };
            let _ = session.connect(true);
        }
        ("restart", _) => emit(b"Use 'restart' only in Lua debugging mode.\n"),
        (name, [_, rest @ ..]) if name.starts_with(':') => preference(name, rest),
        _ => {
            let begun = Instant::now();
            let _: Result<(), Failed> = session.issue(&words, repeat); // has said why
            let took = begun.elapsed();
            if took >= SLOW && session.options.style == Style::Human {
                emit(format!("({:.2}s)\n", took.as_secs_f64()).as_bytes());
            }
        }
    }
    Next::Line
}

/// `:set hints` and `:set nohints` are known; this client has no hints.
fn preference(name: &str, rest: &[Vec<u8>]) {
    match rest.first().map(|word| word.to_ascii_lowercase()) {
        Some(what) if name == ":set" && [b"hints".as_slice(), b"nohints"].contains(&what.as_slice()) => {}
        Some(what) if name == ":set" => {
            let what = String::from_utf8_lossy(&what).into_owned();
            emit(format!("unknown redis-cli preference '{what}'\n").as_bytes());
        }
        _ => emit(format!("unknown redis-cli internal command '{name}'\n").as_bytes()),
    }
}

fn is_number(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Commands with a password in them stay out of the history.
fn is_sensitive(words: &[Vec<u8>]) -> bool {
    let words: Vec<String> =
        words.iter().map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["auth", ..] | ["acl", "setuser", ..] => true,
        ["config", "set", pairs @ ..] => {
            pairs.iter().step_by(2).any(|name| ["masterauth", "masteruser", "requirepass"].contains(name))
        }
        ["hello", rest @ ..] => rest.contains(&"auth"),
        ["migrate", _, _, _, _, _, rest @ ..] => {
            let options = rest.iter().take_while(|word| **word != "keys");
            options.into_iter().any(|word| ["auth", "auth2"].contains(word))
        }
        _ => false,
    }
}

/// Where lines come from.
enum Lines {
    Plain,
    Terminal(Box<Terminal>),
}

struct Terminal {
    editor: rustyline::Editor<(), MemHistory>,
    history_file: Option<PathBuf>,
}

impl Lines {
    fn terminal() -> io::Result<Self> {
        let config = rustyline::Config::builder()
            .max_history_size(HISTORY_LINES)
            .and_then(|builder| builder.history_ignore_dups(true))
            .map_err(io::Error::other)?
            .auto_add_history(false)
            // Pasted lines are commands, each of them, as in redis-cli.
            .bracketed_paste(false)
            .build();
        let history = MemHistory::with_config(&config);
        let editor = rustyline::Editor::with_history(config, history).map_err(io::Error::other)?;
        let mut terminal = Terminal { editor, history_file: history_file() };
        terminal.load();
        Ok(Self::Terminal(Box::new(terminal)))
    }

    /// The next line without its end; `None` at the end, or at Ctrl-C at the prompt.
    fn next(&mut self, prompt: &str) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Plain => {
                let mut line = Vec::new();
                if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
                    return Ok(None);
                }
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                Ok(Some(line))
            }
            Self::Terminal(terminal) => match terminal.editor.readline(prompt) {
                Ok(line) => Ok(Some(line.into_bytes())),
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(ReadlineError::Io(error)) => Err(error),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }

    fn remember(&mut self, line: &[u8]) {
        if let Self::Terminal(terminal) = self {
            terminal.remember(&String::from_utf8_lossy(line));
        }
    }
}

impl Terminal {
    /// The file is redis-cli's own: a line a command.
    fn load(&mut self) {
        let Some(text) = self.history_file.as_ref().and_then(|path| std::fs::read(path).ok()) else { return };
        for line in String::from_utf8_lossy(&text).lines() {
            let _ = self.editor.add_history_entry(line);
        }
    }

    fn remember(&mut self, line: &str) {
        let _ = self.editor.add_history_entry(line);
        // A history that cannot be written is no reason to disturb: redis-cli says nothing, too.
        let _ = self.save();
    }

    fn save(&self) -> io::Result<()> {
        let Some(path) = &self.history_file else { return Ok(()) };
        let mut file =
            std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
        let history = self.editor.history();
        let mut text = String::new();
        for index in 0..history.len() {
            if let Ok(Some(found)) = history.get(index, SearchDirection::Forward) {
                text.push_str(&found.entry);
                text.push('\n');
            }
        }
        file.write_all(text.as_bytes())
    }
}

/// `$REDISCLI_HISTFILE`, or in the home directory; none for `/dev/null`.
fn history_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set("REDISCLI_HISTFILE") {
        return (path != "/dev/null").then(|| path.into());
    }
    Some(PathBuf::from(set("HOME")?).join(".rediscli_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_out_of_the_history() {
        let is = |line: &str| is_sensitive(&split(line.as_bytes()).unwrap());
        for line in [
            "AUTH x",
            "acl setuser bob on",
            "CONFIG SET hz 10 requirepass x",
            "HELLO 3 AUTH default x",
            "MIGRATE h 1 k 0 5 AUTH x",
        ] {
            assert!(is(line), "{line}");
        }
        for line in ["SET auth x", "CONFIG GET requirepass", "HELLO 3", "MIGRATE h 1 '' 0 5 KEYS auth"] {
            assert!(!is(line), "{line}");
        }
    }
}
