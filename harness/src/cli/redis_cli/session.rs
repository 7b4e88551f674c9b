//! A session with a server: log in, send commands, follow redirections, keep track of what the prompt shows.

use std::io::{self, Write};
use std::time::Duration;

use super::format::{self, Style};
use super::link::{Interrupts, Link, Place};
use super::options::{Options, Protocol};
use super::reply::{Reply, ReplyError};
use super::words::leading_int;

/// What a shell sees of a program that died of SIGPIPE.
const EXIT_SIGPIPE: i32 = 141;

/// A session; it dials when it must.
pub struct Session {
    /// What the user asked for. The place and the database change as the session goes on.
    pub options: Options,
    link: Option<Link>,
    interrupts: Option<Interrupts>,
    /// A person (or a script of lines) types commands.
    is_interactive: bool,
    /// The database that the connection has selected.
    db: i64,
    transaction: Option<Transaction>,
    redirected: Option<Redirection>,
}

/// Between MULTI and EXEC.
struct Transaction {
    db_before: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Redirection {
    Moved,
    Ask,
}

/// A command or a connection failed; the user has been told.
#[derive(Debug)]
pub struct Failed;

/// Commands that keep sending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Monitor,
    Messages,
}

impl Session {
    /// A session that is not connected yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            link: None,
            interrupts: None,
            is_interactive: false,
            db: 0,
            transaction: None,
            redirected: None,
        }
    }

    /// Commands come from lines: redirections are told, a Ctrl-C during SUBSCRIBE ends that command only.
    pub fn set_interactive(&mut self, interrupts: Option<Interrupts>) {
        self.is_interactive = true;
        self.interrupts = interrupts;
    }

    /// `127.0.0.1:7000[3](TX)> `
    pub fn prompt(&self) -> String {
        if self.link.is_none() {
            return "not connected> ".to_owned();
        }
        let place = match &self.options.place {
            Place::Unix(path) => format!("redis {path}"),
            Place::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port } => format!("{host}:{port}"),
        };
        let db = if self.db == 0 { String::new() } else { format!("[{}]", self.db) };
        let transaction = if self.transaction.is_some() { "(TX)" } else { "" };
        format!("{place}{db}{transaction}> ")
    }

    /// The connection, for a mode that needs more than commands.
    pub fn take_link(&mut self) -> Option<Link> {
        self.link.take()
    }

    /// The connection, for commands whose reply is not shown.
    pub fn link(&mut self) -> Option<&mut Link> {
        self.link.as_mut()
    }

    /// Dials (again), logs in, selects the database and the protocol.
    pub fn connect(&mut self, says_why_not: bool) -> Result<(), Failed> {
        self.link = None;
        self.db = 0;
        self.transaction = None;
        match Link::dial(&self.options.place) {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                if says_why_not {
                    let why = super::link::said(&error);
                    eprintln!("Could not connect to Redis at {}: {why}", self.options.place);
                }
                return Err(Failed);
            }
        }
        // As in redis-cli the connection stays when one of these fails: the server says why to the next command.
        self.log_in()?;
        self.select()?;
        self.switch_protocol()
    }

    fn log_in(&mut self) -> Result<(), Failed> {
        let Some(password) = self.options.password.clone() else { return Ok(()) };
        let words = match self.options.user.clone() {
            None => vec![b"AUTH".to_vec(), password],
            Some(user) => vec![b"AUTH".to_vec(), user, password],
        };
        self.prepare(&words, "AUTH")
    }

    fn select(&mut self) -> Result<(), Failed> {
        let wanted = self.options.db;
        if wanted == self.db {
            return Ok(());
        }
        self.prepare(&[b"SELECT".to_vec(), wanted.to_string().into_bytes()], &format!("SELECT {wanted}"))?;
        self.db = wanted;
        Ok(())
    }

    fn switch_protocol(&mut self) -> Result<(), Failed> {
        let outcome = match self.options.protocol {
            Protocol::Unsaid | Protocol::Resp2 => return Ok(()),
            Protocol::Resp3 | Protocol::Resp3IfPossible => {
                self.prepare(&[b"HELLO".to_vec(), b"3".to_vec()], "HELLO 3")
            }
        };
        if self.options.protocol == Protocol::Resp3IfPossible { Ok(()) } else { outcome }
    }

    /// A command of our own; `name` is for the error.
    fn prepare(&mut self, words: &[Vec<u8>], name: &str) -> Result<(), Failed> {
        let Some(link) = &mut self.link else { return Err(Failed) };
        match link.ask(words) {
            Ok(Reply::Error(text)) => {
                eprintln!("{name} failed: {}", String::from_utf8_lossy(&text));
                Err(Failed)
            }
            Ok(_) => Ok(()),
            Err(_) => {
                eprintln!("\nI/O error");
                Err(Failed)
            }
        }
    }

    /// Sends a command `repeat` times (negative: for ever) and shows the replies, following redirections.
    pub fn issue(&mut self, words: &[Vec<u8>], repeat: i64) -> Result<(), Failed> {
        loop {
            if self.redirected.is_some() || self.link.is_none() {
                let asks = self.redirected.take() == Some(Redirection::Ask);
                self.connect(true)?;
                if asks {
                    self.prepare(&[b"ASKING".to_vec()], "ASKING")?;
                }
            }
            if let Err(error) = self.send(words, repeat) {
                if !matches!(error, SendError::Silent) {
                    eprintln!("Error: {error}");
                }
                self.link = None;
                return Err(Failed);
            }
            if self.redirected.is_none() {
                return Ok(());
            }
        }
    }

    fn send(&mut self, words: &[Vec<u8>], repeat: i64) -> Result<(), SendError> {
        let command = Command::of(words);
        let mut left = repeat;
        while left != 0 {
            left -= i64::from(left > 0);
            let Some(link) = &mut self.link else { return Err(SendError::Silent) };
            link.send(words).map_err(ReplyError::from)?;
            if let Some(stream) = command.stream {
                if let Some(interrupts) = &self.interrupts {
                    interrupts.watch(link);
                }
                let outcome = self.follow(stream, &command);
                if self.interrupts.as_ref().is_some_and(Interrupts::unwatch) {
                    return self.connect(true).map_err(|Failed| SendError::Silent);
                }
                outcome?;
                if stream == Stream::Monitor {
                    return Ok(());
                }
                continue;
            }
            let reply = match self.next_reply(true) {
                Err(ReplyError::Eof | ReplyError::Io(_)) if command.name == "shutdown" => {
                    self.link = None;
                    return Ok(());
                }
                reply => reply?,
            };
            self.show(&reply, &command);
            self.note(&command, words, &reply);
            if self.redirected.is_some() {
                return Ok(()); // sent again from there, all repetitions
            }
            if self.options.interval_us > 0 {
                std::thread::sleep(Duration::from_micros(self.options.interval_us));
            }
        }
        Ok(())
    }

    /// MONITOR and SUBSCRIBE: shows what comes until an error reply or Ctrl-C.
    fn follow(&mut self, stream: Stream, command: &Command) -> Result<(), SendError> {
        if stream == Stream::Messages && self.options.style != Style::Raw {
            emit(b"Reading messages... (press Ctrl-C to quit)\n");
        }
        loop {
            let reply = self.next_reply(stream == Stream::Monitor)?;
            self.show(&reply, command);
            if matches!(reply, Reply::Error(_)) || self.redirected.is_some() {
                return Ok(());
            }
        }
    }

    /// The next reply; with `is_request`, messages that nobody asked for are shown or dropped before it.
    fn next_reply(&mut self, is_request: bool) -> Result<Reply, ReplyError> {
        let Some(link) = &mut self.link else { return Err(ReplyError::Eof) };
        loop {
            let reply = link.read()?;
            if !is_request || !matches!(reply, Reply::Push(_)) {
                return Ok(reply);
            }
            if self.options.shows_pushes {
                let invalidation =
                    format::invalidation(&reply).filter(|_| self.options.style == Style::Human);
                emit(
                    &invalidation
                        .unwrap_or_else(|| format::reply(&reply, self.options.style, &self.options.ends)),
                );
            }
        }
    }

    /// Prints a reply, or takes the redirection that it is.
    fn show(&mut self, reply: &Reply, command: &Command) {
        if let Reply::Error(text) = reply {
            if self.options.follows_cluster && self.redirect(text) {
                return;
            }
            if self.options.fails_on_error && !self.is_interactive {
                let _ = io::stderr().write_all(&[text.as_slice(), b"\n"].concat());
                std::process::exit(1);
            }
        }
        emit(&if command.is_text {
            format::verbatim(reply, &self.options.ends)
        } else {
            format::reply(reply, self.options.style, &self.options.ends)
        });
    }

    /// `MOVED 3999 127.0.0.1:7001`: true if it is one.
    fn redirect(&mut self, error: &[u8]) -> bool {
        let text = String::from_utf8_lossy(error);
        let mut words = text.split(' ');
        let kind = match words.next() {
            Some("MOVED") => Redirection::Moved,
            Some("ASK") => Redirection::Ask,
            _ => return false,
        };
        let (Some(slot), Some((host, port))) =
            (words.next(), words.next().and_then(|to| to.rsplit_once(':')))
        else {
            return false;
        };
        let Ok(port) = port.parse() else { return false };
        // An empty host (cluster-preferred-endpoint-type unknown-endpoint) is the one that one is connected to.
        let here = match &self.options.place {
            Place::Tcp { host, .. } => host.clone(),
            Place::Unix(_) => "127.0.0.1".to_owned(),
        };
        let host = if host.is_empty() { here } else { host.to_owned() };
        if self.is_interactive {
            emit(format!("-> Redirected to slot [{slot}] located at {host}:{port}\n").as_bytes());
        }
        self.options.place = Place::Tcp { host, port };
        self.redirected = Some(kind);
        true
    }

    /// What a successful command changes of the session.
    fn note(&mut self, command: &Command, words: &[Vec<u8>], reply: &Reply) {
        let is_error = matches!(reply, Reply::Error(_));
        match (command.name.as_str(), words.len()) {
            ("select", 2) if !is_error => {
                self.db = leading_int(&words[1]);
                self.options.db = self.db;
            }
            ("auth", 2 | 3) => {
                let _ = self.select(); // has said why
            }
            ("multi", 1) if !is_error => self.transaction = Some(Transaction { db_before: self.db }),
            ("exec", 1) => {
                if let Some(transaction) = self.transaction.take()
                    && (is_error || *reply == Reply::Nil)
                {
                    self.set_db(transaction.db_before);
                }
            }
            ("discard", 1) if !is_error => {
                if let Some(transaction) = self.transaction.take() {
                    self.set_db(transaction.db_before);
                }
            }
            ("reset", 1) if !is_error => {
                self.transaction = None;
                self.set_db(0);
                self.options.protocol = Protocol::Unsaid;
            }
            _ => {}
        }
    }

    fn set_db(&mut self, db: i64) {
        self.db = db;
        self.options.db = db;
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The user has been told, or there is nothing to tell.
    #[error("")]
    Silent,
}

/// What the client must know of a command.
struct Command {
    /// In lower case.
    name: String,
    stream: Option<Stream>,
    /// Its reply is a text for people, shown as it is.
    is_text: bool,
}

impl Command {
    fn of(words: &[Vec<u8>]) -> Self {
        let lower = |at: usize| {
            words.get(at).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).unwrap_or_default()
        };
        let (name, sub) = (lower(0), lower(1));
        let stream = match name.as_str() {
            "monitor" => Some(Stream::Monitor),
            "subscribe" | "psubscribe" | "ssubscribe" => Some(Stream::Messages),
            _ => None,
        };
        let is_text = matches!(
            (name.as_str(), sub.as_str(), words.len()),
            ("info" | "lolwut", ..)
                | ("debug", "htstats" | "htstats-key" | "client-eviction", _)
                | ("memory", "malloc-stats" | "doctor", _)
                | ("cluster", "nodes" | "info", 2)
                | ("client", "list" | "info", _)
                | ("latency", "graph", 3)
                | ("latency", "doctor", 2)
                | ("proxy", "info", _)
        );
        Self { name, stream, is_text }
    }
}

/// Writes to standard output at once; a reader that went away ends the program as SIGPIPE would.
pub fn emit(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        let is_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        if !is_pipe {
            eprintln!("can't write to standard output: {}", super::link::said(&error));
        }
        std::process::exit(if is_pipe { EXIT_SIGPIPE } else { 1 });
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Surroundings;
    use super::*;

    fn session() -> Session {
        let args = ["-c", "-h", "10.0.0.1"].map(Into::into).to_vec();
        Session::new(Options::parse(args, &Surroundings::default()).unwrap())
    }

    #[test]
    fn a_redirection_changes_the_place() {
        let mut session = session();
        assert!(session.redirect(b"MOVED 3999 127.0.0.1:7001"));
        assert_eq!(session.options.place, Place::Tcp { host: "127.0.0.1".to_owned(), port: 7001 });
        assert!(session.redirected == Some(Redirection::Moved));
        assert!(session.redirect(b"ASK 1 ::1:7002"));
        assert_eq!(session.options.place, Place::Tcp { host: "::1".to_owned(), port: 7002 });
        for other in [b"MOVED".as_slice(), b"MOVED 1 nowhere", b"ERR MOVED 1 a:1", b"ASK 1 a:x"] {
            assert!(!session.redirect(other));
        }
    }

    #[test]
    fn an_unknown_endpoint_is_the_host_one_talks_to() {
        let mut session = session();
        assert!(session.redirect(b"MOVED 15495 :7003"));
        assert_eq!(session.options.place, Place::Tcp { host: "10.0.0.1".to_owned(), port: 7003 });
    }

    #[test]
    fn commands_are_known_whatever_their_case() {
        let command = |line: &str| {
            Command::of(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
        };
        assert!(command("Cluster NODES").is_text && command("INFO server").is_text);
        assert!(!command("cluster nodes x").is_text && !command("GET info").is_text);
        assert!(command("SSUBSCRIBE a").stream == Some(Stream::Messages));
    }
}
