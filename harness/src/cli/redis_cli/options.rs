//! The command line of redis-cli 7.0.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::format::{Delimiters, Style};
use super::link::Place;
use super::words::{leading_float, leading_int, unquote};

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host and port, or a socket's path.
    pub place: Place,
    /// `-a`, `--pass`, `-u` or the environment's REDISCLI_AUTH.
    pub password: Option<Vec<u8>>,
    pub user: Option<Vec<u8>>,
    /// Ask for the password on the terminal.
    pub asks_password: bool,
    pub db: i64,
    pub protocol: Protocol,
    /// How often to send the command; negative = for ever.
    pub repeat: i64,
    /// Between repetitions, in microseconds.
    pub interval_us: u64,
    /// Follow MOVED and ASK.
    pub follows_cluster: bool,
    pub style: Style,
    pub ends: Delimiters,
    /// Show messages that come unasked.
    pub shows_pushes: bool,
    /// An error reply is exit code 1.
    pub fails_on_error: bool,
    /// The command's words are quoted strings.
    pub has_quoted_words: bool,
    pub stdin: StdinArg,
    pub mode: Mode,
    /// MATCH of `--scan`.
    pub pattern: Option<Vec<u8>>,
    /// Seconds without a reply after which `--pipe` gives up; 0 = never.
    pub pipe_timeout_s: u64,
    /// A password was given where `ps` shows it, and nobody said not to warn.
    pub warns_of_password: bool,
    /// The command.
    pub words: Vec<Vec<u8>>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Send the command, or prompt for commands if there is none.
    Command,
    Scan,
    Stat,
    /// With `--latency-history`: one line for each interval.
    Latency {
        keeps_history: bool,
    },
    Pipe,
    /// `--rdb` and `--functions-rdb` to a file, or `-` for standard output.
    Rdb {
        file: OsString,
        only_functions: bool,
    },
    /// `--eval` of a file with a script.
    Eval {
        file: OsString,
    },
    /// `--cluster`: the verb, its arguments, then the `--cluster-*` flags.
    Cluster(Vec<OsString>),
    Help,
    Version,
}

/// Which argument comes from standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StdinArg {
    None,
    /// `-x`: one more at the end.
    Last,
    /// `-X`: the one that is this word.
    Tagged(Vec<u8>),
}

/// RESP2, or RESP3 by HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The server's default.
    Unsaid,
    /// `-2`
    Resp2,
    /// `-3`: no session without it.
    Resp3,
    /// `--json` wants maps; a server without RESP3 will do.
    Resp3IfPossible,
}

/// What a person must be told before anything is done; exit code 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Flags that redis-cli has and this client has not, with the number of their values.
const UNSUPPORTED: &[(&str, usize)] = &[
    ("--bigkeys", 0),
    ("--cacert", 1),
    ("--cacertdir", 1),
    ("--cert", 1),
    ("--hotkeys", 0),
    ("--insecure", 0),
    ("--intrinsic-latency", 1),
    ("--key", 1),
    ("--latency-dist", 0),
    ("--ldb", 0),
    ("--ldb-sync-mode", 0),
    ("--lru-test", 1),
    ("--memkeys", 0),
    ("--memkeys-samples", 1),
    ("--mono", 0),
    ("--replica", 0),
    ("--slave", 0),
    ("--sni", 1),
    ("--tls", 0),
    ("--tls-ciphers", 1),
    ("--tls-ciphersuites", 1),
];

/// Flags of `--cluster` without a value; those with one are all the others that begin so.
const CLUSTER_SWITCHES: &[&str] = &[
    "--cluster-copy",
    "--cluster-fix-with-unreachable-masters",
    "--cluster-from-askpass",
    "--cluster-only-masters",
    "--cluster-only-replicas",
    "--cluster-replace",
    "--cluster-replica",
    "--cluster-search-multiple-owners",
    "--cluster-simulate",
    "--cluster-slave",
    "--cluster-use-empty-masters",
    "--cluster-yes",
];

/// What the process around the command line is like.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Standard output is a terminal (or FAKETTY is set).
    pub has_terminal: bool,
    /// REDISCLI_AUTH.
    pub auth: Option<Vec<u8>>,
    /// REDISCLI_CLUSTER_YES=1
    pub says_cluster_yes: bool,
}

impl Options {
    /// Reads the arguments, without the program's name. As in redis-cli the first word that is no option begins the
    /// command, and `-h` without a host asks for help.
    pub fn parse(args: Vec<OsString>, around: &Surroundings) -> Result<Self, UsageError> {
        let mut options = Self::beginning(around.has_terminal);
        let mut rest = Words { args, at: 0 };
        let mut cluster = ClusterWords::default();
        while let Some(word) = rest.next() {
            if cluster.take(&word, &mut rest) {
                continue;
            }
            match word.to_str().filter(|text| text.starts_with('-')) {
                Some("--cluster") if cluster.verb.is_none() && rest.has_more() => {
                    cluster.verb = rest.next();
                    cluster.args = rest.plain();
                }
                Some(flag) => {
                    let before = rest.at;
                    match options.take(flag, &mut rest) {
                        // A flag of the verb's own: it has the last word on it.
                        Err(error) if cluster.verb.is_some() && error == unknown(flag) => {
                            rest.at = before;
                            cluster.flags.push(word.clone());
                            cluster.flags.extend(rest.plain());
                        }
                        outcome => outcome?,
                    }
                }
                // --cluster create --cluster-replicas 1 HOST:PORT...
                None if cluster.verb.is_some() && cluster.args.is_empty() => {
                    cluster.args.push(word);
                    cluster.args.extend(rest.plain());
                }
                None => {
                    rest.at -= 1;
                    break;
                }
            }
            if matches!(options.mode, Mode::Help | Mode::Version) {
                return Ok(options);
            }
        }
        options.words = rest.args.drain(rest.at..).map(OsString::into_vec).collect();
        if let Some(verb) = cluster.verb {
            if around.says_cluster_yes && !cluster.flags.iter().any(|flag| flag == "--cluster-yes") {
                cluster.flags.push("--cluster-yes".into());
            }
            options.mode = Mode::Cluster([vec![verb], cluster.args, cluster.flags].concat());
        }
        options.check()?;
        options.warns_of_password &= options.password.is_some();
        options.password = options.password.or_else(|| around.auth.clone());
        Ok(options)
    }

    fn beginning(has_terminal: bool) -> Self {
        Self {
            place: Place::Tcp { host: "127.0.0.1".to_owned(), port: 6379 },
            password: None,
            user: None,
            asks_password: false,
            db: 0,
            protocol: Protocol::Unsaid,
            repeat: 1,
            interval_us: 0,
            follows_cluster: false,
            style: if has_terminal { Style::Human } else { Style::Raw },
            ends: Delimiters { value: b"\n".to_vec(), reply: b"\n".to_vec() },
            shows_pushes: has_terminal,
            fails_on_error: false,
            has_quoted_words: false,
            stdin: StdinArg::None,
            mode: Mode::Command,
            pattern: None,
            pipe_timeout_s: 30,
            warns_of_password: true,
            words: Vec::new(),
        }
    }

    /// One option and its value.
    fn take(&mut self, flag: &str, rest: &mut Words) -> Result<(), UsageError> {
        match flag {
            "--help" => self.mode = Mode::Help,
            "-v" | "--version" => self.mode = Mode::Version,
            "-x" => self.set_stdin(StdinArg::Last)?,
            "--no-auth-warning" => self.warns_of_password = false,
            "--askpass" => self.asks_password = true,
            "--raw" => self.style = Style::Raw,
            "--no-raw" => self.style = Style::Human,
            "--csv" => self.style = Style::Csv,
            "--json" => self.set_json(Style::Json),
            "--quoted-json" => self.set_json(Style::QuotedJson),
            "--quoted-input" => self.has_quoted_words = true,
            "--latency" => self.set_mode(Mode::Latency { keeps_history: false }),
            "--latency-history" => self.set_mode(Mode::Latency { keeps_history: true }),
            "--stat" => self.set_mode(Mode::Stat),
            "--scan" => self.set_mode(Mode::Scan),
            "--pipe" => self.set_mode(Mode::Pipe),
            "-c" => self.follows_cluster = true,
            "-e" => self.fails_on_error = true,
            "-2" => self.set_protocol(Protocol::Resp2)?,
            "-3" => self.set_protocol(Protocol::Resp3)?,
            // Nothing of ours says more with it.
            "--verbose" => {}
            "-h" if !rest.has_more() => self.mode = Mode::Help,
            _ => return self.take_with_value(flag, rest),
        }
        Ok(())
    }

    fn take_with_value(&mut self, flag: &str, rest: &mut Words) -> Result<(), UsageError> {
        if let Some((flag, _)) = UNSUPPORTED.iter().find(|(name, _)| *name == flag) {
            return Err(UsageError(format!("{flag} is not supported by this redis-cli (it is slotstorm)")));
        }
        let Some(raw) = rest.next() else { return Err(unknown(flag)) };
        let value = raw.as_bytes().to_vec();
        let text = String::from_utf8_lossy(&value).into_owned();
        match flag {
            "-h" => self.set_host(text),
            "-p" => self.set_port(leading_int(&value))?,
            "-s" => self.place = Place::Unix(text),
            "-n" => self.db = leading_int(&value),
            "-r" => self.repeat = leading_int(&value),
            "-i" => self.interval_us = (leading_float(&text) * 1e6).max(0.0) as u64,
            "-a" | "--pass" => self.password = Some(value),
            "--user" => self.user = Some(value),
            "-u" => self.take_uri(&text)?,
            "-X" => self.set_stdin(StdinArg::Tagged(value))?,
            "-d" => self.ends.value = value,
            "-D" => self.ends.reply = value,
            "--pattern" => self.pattern = Some(value),
            "--quoted-pattern" => {
                let pattern = unquote(&value).ok_or_else(|| {
                    UsageError("Invalid quoted string specified for --quoted-pattern.".to_owned())
                })?;
                self.pattern = Some(pattern);
            }
            "--pipe-timeout" => self.pipe_timeout_s = leading_int(&value).max(0) as u64,
            "--rdb" => self.set_rdb(raw, false)?,
            "--functions-rdb" => self.set_rdb(raw, true)?,
            "--eval" => self.set_mode(Mode::Eval { file: raw }),
            "--show-pushes" => match value.first().map(u8::to_ascii_lowercase) {
                Some(b'y') => self.shows_pushes = true,
                Some(b'n') => self.shows_pushes = false,
                _ => eprintln!("Unknown --show-pushes value '{text}' (valid: '[y]es', '[n]o')"),
            },
            _ => return Err(unknown(flag)),
        }
        Ok(())
    }

    /// Several modes: redis-cli's order of precedence is its own, ours is that the first one holds.
    fn set_mode(&mut self, mode: Mode) {
        let extends = matches!(mode, Mode::Latency { keeps_history: true });
        if self.mode == Mode::Command || extends {
            self.mode = mode;
        }
    }

    fn set_rdb(&mut self, file: OsString, only_functions: bool) -> Result<(), UsageError> {
        if matches!(&self.mode, Mode::Rdb { only_functions: before, .. } if *before != only_functions) {
            return Err(UsageError("Option --functions-rdb and --rdb are mutually exclusive.".to_owned()));
        }
        self.mode = Mode::Rdb { file, only_functions };
        Ok(())
    }

    fn set_json(&mut self, style: Style) {
        if self.protocol == Protocol::Unsaid {
            self.protocol = Protocol::Resp3IfPossible;
        }
        self.style = style;
    }

    fn set_protocol(&mut self, protocol: Protocol) -> Result<(), UsageError> {
        if [self.protocol, protocol].contains(&Protocol::Resp2)
            && [self.protocol, protocol].contains(&Protocol::Resp3)
        {
            return Err(UsageError("Options -2 and -3 are mutually exclusive.".to_owned()));
        }
        self.protocol = protocol;
        Ok(())
    }

    fn set_stdin(&mut self, stdin: StdinArg) -> Result<(), UsageError> {
        let other = std::mem::discriminant(&self.stdin) != std::mem::discriminant(&stdin);
        if self.stdin != StdinArg::None && other {
            return Err(UsageError("Options -x and -X are mutually exclusive.".to_owned()));
        }
        self.stdin = stdin;
        Ok(())
    }

    /// A socket's path wins over host and port, wherever it stands.
    fn set_host(&mut self, to: String) {
        if let Place::Tcp { host, .. } = &mut self.place {
            *host = to;
        }
    }

    fn set_port(&mut self, to: i64) -> Result<(), UsageError> {
        let number = u16::try_from(to).map_err(|_| UsageError(format!("Invalid server port: {to}")))?;
        if let Place::Tcp { port, .. } = &mut self.place {
            *port = number;
        }
        Ok(())
    }

    /// `redis://[[user:]password@][host[:port]][/db]`
    fn take_uri(&mut self, uri: &str) -> Result<(), UsageError> {
        let scheme = |name: &str| uri.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if scheme("rediss://") {
            return Err(UsageError("rediss:// is not supported: this client has no TLS".to_owned()));
        }
        if !scheme("redis://") {
            return Err(UsageError("Invalid URI scheme".to_owned()));
        }
        let mut rest = &uri["redis://".len()..];
        if let Some((who, behind)) = rest.split_once('@') {
            let password = match who.split_once(':') {
                Some((user, password)) => {
                    self.user = Some(percent_decoded(user)?);
                    password
                }
                None => who,
            };
            self.password = Some(percent_decoded(password)?);
            rest = behind;
        }
        let (place, db) = rest.split_once('/').unwrap_or((rest, ""));
        if !place.is_empty() {
            let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
            self.set_host(host.to_owned());
            if let Some(port) = port {
                self.set_port(leading_int(port.as_bytes()))?;
            }
        }
        if !db.is_empty() {
            self.db = leading_int(db.as_bytes());
        }
        Ok(())
    }

    fn check(&self) -> Result<(), UsageError> {
        if matches!(self.place, Place::Unix(_)) && self.follows_cluster {
            return Err(UsageError("Options -c and -s are mutually exclusive.".to_owned()));
        }
        Ok(())
    }
}

/// The arguments, taken one by one.
struct Words {
    args: Vec<OsString>,
    at: usize,
}

impl Words {
    fn next(&mut self) -> Option<OsString> {
        let word = self.args.get(self.at)?.clone();
        self.at += 1;
        Some(word)
    }

    fn has_more(&self) -> bool {
        self.at < self.args.len()
    }

    /// The words up to the next option.
    fn plain(&mut self) -> Vec<OsString> {
        let rest = &self.args[self.at..];
        let words = rest.iter().take_while(|word| !word.as_bytes().starts_with(b"-"));
        let words: Vec<OsString> = words.cloned().collect();
        self.at += words.len();
        words
    }
}

/// What belongs to `--cluster`.
#[derive(Default)]
struct ClusterWords {
    verb: Option<OsString>,
    args: Vec<OsString>,
    flags: Vec<OsString>,
}

impl ClusterWords {
    /// Takes a `--cluster-*` flag and its value; false if it is none.
    fn take(&mut self, word: &OsString, rest: &mut Words) -> bool {
        let Some(flag) = word.to_str().filter(|text| text.starts_with("--cluster-")) else { return false };
        self.flags.push(word.clone());
        if flag.contains('=') || CLUSTER_SWITCHES.contains(&flag) {
            return true;
        }
        if flag == "--cluster-weight" {
            while let Some(next) = rest.args.get(rest.at)
                && next.to_str().is_some_and(|text| !text.starts_with("--") && text.contains('='))
            {
                self.flags.extend(rest.next());
            }
        } else {
            self.flags.extend(rest.next());
        }
        true
    }
}

fn unknown(flag: &str) -> UsageError {
    UsageError(format!("Unrecognized option or bad number of args for: '{flag}'"))
}

fn percent_decoded(text: &str) -> Result<Vec<u8>, UsageError> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            out.push(*first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return Err(UsageError("Incomplete URI encoding".to_owned()));
        };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(high), digit(low)) else {
            return Err(UsageError("Illegal character in URI encoding".to_owned()));
        };
        out.push((high << 4 | low) as u8);
        rest = tail;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, UsageError> {
        Options::parse(line.split_whitespace().map(OsString::from).collect(), &Surroundings::default())
    }

    fn cluster_words(line: &str) -> String {
        let Mode::Cluster(words) = parse(line).unwrap().mode else { panic!("no cluster mode: {line}") };
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let options = parse("-h db -p 7000 -n 3 -r -1 -i 0.25 -c SET -h -p").unwrap();
        assert_eq!(options.place, Place::Tcp { host: "db".to_owned(), port: 7000 });
        assert_eq!((options.db, options.repeat, options.interval_us), (3, -1, 250_000));
        assert_eq!(options.words, [b"SET".as_slice(), b"-h", b"-p"]);
    }

    #[test]
    fn a_uri_names_user_password_place_and_database() {
        let options = parse("-u redis://u:p%40x@host:7001/2 PING").unwrap();
        assert_eq!(options.place, Place::Tcp { host: "host".to_owned(), port: 7001 });
        assert_eq!((options.user, options.password), (Some(b"u".to_vec()), Some(b"p@x".to_vec())));
        assert_eq!(options.db, 2);
        assert!(parse("-u http://x PING").is_err());
    }

    #[test]
    fn cluster_words_keep_their_flags_wherever_they_stand() {
        assert_eq!(
            cluster_words("--cluster create 127.0.0.1:7000 127.0.0.1:7001 --cluster-replicas 0"),
            "create 127.0.0.1:7000 127.0.0.1:7001 --cluster-replicas 0"
        );
        assert_eq!(
            cluster_words("--cluster rebalance --cluster-weight a=1 b=2 127.0.0.1:7000 -a secret"),
            "rebalance 127.0.0.1:7000 --cluster-weight a=1 b=2"
        );
        assert_eq!(
            cluster_words(
                "--cluster-yes --cluster-slots 5 --cluster reshard 127.0.0.1:7000 --cluster-from all"
            ),
            "reshard 127.0.0.1:7000 --cluster-yes --cluster-slots 5 --cluster-from all"
        );
        assert_eq!(
            cluster_words("--cluster add-node a:1 b:2 --cluster-slave --cluster-master-node id"),
            "add-node a:1 b:2 --cluster-slave --cluster-master-node id"
        );
        assert_eq!(
            cluster_words("--cluster failover a:1 --force --via b:2"),
            "failover a:1 --force --via b:2"
        );
    }

    #[test]
    fn what_is_not_there_says_so() {
        assert!(parse("--bigkeys").unwrap_err().0.contains("--bigkeys is not supported"));
        assert!(parse("--tls PING").unwrap_err().0.contains("--tls"));
        assert_eq!(parse("--nonsense").unwrap_err(), unknown("--nonsense"));
        assert_eq!(parse("-x -X tag GET").unwrap_err().0, "Options -x and -X are mutually exclusive.");
        assert_eq!(parse("-h").unwrap().mode, Mode::Help);
    }
}
