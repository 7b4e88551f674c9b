//! The same requests to both servers, until they differ; and a sequence that makes them differ made short.

use std::collections::BTreeSet;

use super::judge::sameness;
use super::wire::{Connection, Frame};
use crate::grammar::{Request, key_names, quoted};
use crate::side_by_side::{Kind, Server};

/// After so many requests the data are compared.
const LOOK_EVERY: usize = 40;
/// A sequence is run at most so many times while it is made short.
const MOST_RUNS: usize = 250;

/// A redis-server and a node of ours.
pub struct Pair {
    redis: Server,
    ours: Server,
    commands: BTreeSet<String>,
}

/// What was different, where.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The request, by its place.
    pub at: usize,
    /// A request, or what was looked at behind it.
    pub asked: String,
    pub redis: Frame,
    pub ours: Frame,
}

impl Difference {
    /// Differences with one name are told once.
    pub fn name(&self) -> String {
        let word = |n| self.asked.split(' ').nth(n).unwrap_or_default().to_ascii_uppercase();
        let code = |frame: &Frame| match frame.sign {
            b'-' | b'!' => String::from_utf8_lossy(&frame.text).chars().take(24).collect(),
            sign => char::from(sign).to_string(),
        };
        let parent = [
            "CLIENT", "ACL", "CONFIG", "XGROUP", "XINFO", "OBJECT", "FUNCTION", "SCRIPT", "DEBUG", "COMMAND",
            "MEMORY",
        ];
        let sub = if parent.contains(&&word(0)[..]) { word(1) } else { String::new() };
        format!("{} {sub} {} {}", word(0), code(&self.redis), code(&self.ours))
    }
}

struct Both {
    redis: Connection,
    ours: Connection,
}

impl Both {
    fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> (Frame, Frame) {
        (self.redis.ask(words), self.ours.ask(words))
    }

    fn line(&mut self, line: &str) -> (Frame, Frame) {
        (self.redis.ask_line(line), self.ours.ask_line(line))
    }
}

impl Pair {
    /// `number`: of two addresses.
    pub fn start(number: u8) -> Self {
        let args = ["--save", "", "--enable-debug-command", "yes", "--slowlog-log-slower-than", "-1"];
        let redis = Server::start(Kind::Redis, number, &args);
        let ours_args = [&args[..], &["--cluster-enabled", "no"]].concat();
        let ours = Server::start(Kind::Ours, number + 1, &ours_args);
        let listed = Connection::open(&ours.ip).ask_line("COMMAND LIST");
        let commands: BTreeSet<String> = listed
            .items
            .iter()
            .map(|name| String::from_utf8_lossy(&name.text[1..]).to_ascii_uppercase())
            .collect();
        assert!(commands.contains("GET"), "COMMAND LIST says {listed:?}");
        Self { redis, ours, commands }
    }

    /// Does our server list this command?
    pub fn has(&self, command: &str) -> bool {
        self.commands.contains(command)
    }

    fn open(&self, protocol: u8) -> Both {
        let mut both =
            Both { redis: Connection::open(&self.redis.ip), ours: Connection::open(&self.ours.ip) };
        let clean = [
            "FLUSHALL",
            "SCRIPT FLUSH",
            "FUNCTION FLUSH",
            "ACL DELUSER u1 u2 u3",
            "ACL LOG RESET",
            "LATENCY RESET",
        ];
        for line in clean {
            both.line(line);
        }
        let defaults = "CONFIG SET hash-max-listpack-entries 128 hash-max-listpack-value 64 set-max-intset-entries 512 \
                        zset-max-listpack-entries 128 zset-max-listpack-value 64 maxmemory-samples 5 lfu-decay-time 1";
        assert_eq!(both.line(defaults).1, Frame::simple("OK"));
        // What has expired is gone when it is asked for, and not before: DBSIZE counts it.
        both.line("DEBUG SET-ACTIVE-EXPIRE 0");
        if protocol == 3 {
            both.line("HELLO 3");
        }
        both
    }

    /// Runs a sequence from empty servers, and gives the first difference.
    pub fn run(&self, requests: &[Request], protocol: u8) -> Option<Difference> {
        let mut both = self.open(protocol);
        let mut state = State::default();
        for (at, request) in requests.iter().enumerate() {
            let (redis, ours) = both.ask(request);
            let differ =
                |asked: String, redis: Frame, ours: Frame| Some(Difference { at, asked, redis, ours });
            let in_transaction = state.queued.is_some();
            if !state.alike(request, &redis, &ours)
                || redis != ours && !in_transaction && order_counts(&mut both, request)
            {
                return differ(quoted(request), redis, ours);
            }
            if redis.text.starts_with(b"(connection") {
                // Both closed it.
                let kept = state.drawn.clone();
                both.redis = Connection::open(&self.redis.ip);
                both.ours = Connection::open(&self.ours.ip);
                state = State { drawn: kept, ..State::default() };
            }
            if state.queued.is_none() {
                if std::mem::take(&mut state.drawn_among_others) {
                    both.line("FLUSHALL");
                }
                for key in std::mem::take(&mut state.drawn) {
                    both.ask(&[b"DEL", &key[..]]);
                }
                if (at % LOOK_EVERY == LOOK_EVERY - 1 || at + 1 == requests.len())
                    && let Some((asked, redis, ours)) = look(&mut both)
                {
                    return differ(asked, redis, ours);
                }
            }
        }
        let end = requests.len().saturating_sub(1);
        exchange(&mut both).map(|(asked, redis, ours)| Difference { at: end, asked, redis, ours })
    }

    /// The shortest sequence found that still makes this difference.
    pub fn shrink(
        &self,
        requests: &[Request],
        protocol: u8,
        found: &Difference,
    ) -> (Vec<Request>, Difference) {
        let (mut best, mut difference, mut runs) = (requests[..=found.at].to_vec(), found.clone(), 0);
        let mut piece = best.len().div_ceil(2).max(1);
        loop {
            let (mut from, mut smaller) = (0, false);
            while from < best.len() && runs < MOST_RUNS {
                let to = (from + piece).min(best.len());
                let tried = [&best[..from], &best[to..]].concat();
                runs += 1;
                match self.run(&tried, protocol) {
                    Some(again) if again.name() == difference.name() => {
                        best = tried[..=again.at].to_vec();
                        difference = again;
                        smaller = true;
                    }
                    _ => from = to,
                }
            }
            if runs >= MOST_RUNS || piece == 1 && !smaller {
                return (best, difference);
            }
            piece = (piece / 2).max(1);
        }
    }
}

/// What the replies so far mean for the next.
#[derive(Default)]
struct State {
    /// Behind MULTI: what was queued.
    queued: Option<Vec<Request>>,
    /// Keys from which members were drawn by lot: they are removed, so that both go on alike.
    drawn: Vec<Vec<u8>>,
    /// Lots were drawn in a transaction, and other commands came behind: all data are removed.
    drawn_among_others: bool,
}

impl State {
    fn alike(&mut self, request: &Request, redis: &Frame, ours: &Frame) -> bool {
        let name = request[0].to_ascii_uppercase();
        if redis.sign == b'+' && redis.text == b"QUEUED" {
            if let Some(queued) = &mut self.queued {
                queued.push(request.clone());
            }
            return redis == ours;
        }
        let queued = match &name[..] {
            b"MULTI" if !redis.is_error() => {
                self.queued = Some(Vec::new());
                return redis == ours;
            }
            b"EXEC" | b"DISCARD" | b"RESET" => self.queued.take().unwrap_or_default(),
            _ => Vec::new(),
        };
        if name == b"EXEC" && redis.sign == b'*' && redis.items.len() == queued.len() {
            let is_lot = |request: &Request| request[0].eq_ignore_ascii_case(b"SPOP");
            let drawn_at = queued.iter().position(is_lot).unwrap_or(queued.len());
            self.drawn_among_others = drawn_at < queued.len();
            let pairs = redis.items.iter().zip(&ours.items).take(drawn_at);
            return redis.items.len() == ours.items.len()
                && pairs.zip(&queued).all(|((redis, ours), request)| sameness(request).holds(redis, ours));
        }
        self.note_lots(request);
        sameness(request).holds(redis, ours)
    }

    fn note_lots(&mut self, request: &Request) {
        if request[0].eq_ignore_ascii_case(b"SPOP") {
            self.drawn.extend(request.get(1).cloned());
        }
    }
}

/// Hashes and sets have an order while they are small; it must be the same then.
fn order_counts(both: &mut Both, request: &Request) -> bool {
    let command = request[0].to_ascii_uppercase();
    let one_key: [&[u8]; 5] = [b"SMEMBERS", b"HKEYS", b"HVALS", b"HGETALL", b"SSCAN"];
    if !one_key.contains(&&command[..]) || request.len() < 2 {
        return false;
    }
    let encoding = both.redis.ask(&[b"OBJECT", &b"ENCODING"[..], &request[1]]);
    matches!(&encoding.text[..], b"=listpack" | b"=intset")
}

/// Compares what the servers hold in the selected database, key by key.
fn look(both: &mut Both) -> Option<(String, Frame, Frame)> {
    // What has expired goes when it is looked at.
    for key in key_names() {
        both.line(&format!("EXISTS {key}"));
    }
    let (redis, ours) = both.line("DEBUG DIGEST");
    let all_alike = redis == ours;
    for key in key_names() {
        for asked in [format!("TYPE {key}"), format!("OBJECT ENCODING {key}"), format!("PTTL {key}")] {
            let request: Request = asked.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            let (redis, ours) = both.line(&asked);
            if !sameness(&request).holds(&redis, &ours) {
                return Some((asked, redis, ours));
            }
        }
        let asked = format!("DEBUG DIGEST-VALUE {key}");
        let (redis, ours) = both.line(&asked);
        if !all_alike && redis != ours {
            return Some((asked, redis, ours));
        }
    }
    (!all_alike).then(|| ("DEBUG DIGEST".to_owned(), redis, ours))
}

/// What one dumps, the other restores: both then hold the same.
fn exchange(both: &mut Both) -> Option<(String, Frame, Frame)> {
    both.line("DISCARD");
    let null = |frame: &Frame| frame.sign == b'_' || frame.text == b"-1";
    for key in key_names() {
        both.ask(&["PERSIST", key]);
        let (redis, ours) = both.ask(&["DUMP", key]);
        if null(&redis) && null(&ours) {
            continue;
        }
        if redis.is_error() || ours.is_error() || null(&redis) || null(&ours) {
            return Some((format!("DUMP {key}"), redis, ours));
        }
        let restored = (
            both.redis.ask(&[b"RESTORE", &b"copy"[..], b"0", &ours.text[1..], b"REPLACE"]),
            both.ours.ask(&[b"RESTORE", &b"copy"[..], b"0", &redis.text[1..], b"REPLACE"]),
        );
        let ok = Frame::simple("OK");
        if restored != (ok.clone(), ok) {
            return Some((
                format!("RESTORE copy 0 (the other's dump of {key}) REPLACE"),
                restored.0,
                restored.1,
            ));
        }
        let copies = both.line("DEBUG DIGEST-VALUE copy");
        let (original, _) = both.line(&format!("DEBUG DIGEST-VALUE {key}"));
        if copies.0 != original || copies.1 != original {
            return Some((
                format!("DEBUG DIGEST-VALUE copy (the other's dump of {key})"),
                copies.0,
                copies.1,
            ));
        }
    }
    None
}
