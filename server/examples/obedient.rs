//! A server around a machine that obeys lines of text instead of Redis commands: what `tests/shell.rs`
//! starts, and how little the shell asks of what it drives. It takes redis-server's arguments.

use std::collections::BTreeMap;
use std::process::ExitCode;

use slotstorm_node::config::Config;
use slotstorm_node::io::{ConnId, DiskOp, Effect, Effects, Input, LogLevel, Mono, Now, Outbox, Ticket};
use slotstorm_server::machine::Machine;
use slotstorm_server::startup::{Boot, Called, run_with};

fn main() -> ExitCode {
    run_with(std::env::args_os().skip(1).collect(), Called::Slotstorm, Obedient::new)
}

/// Answers each line with itself, or does what it says.
struct Obedient {
    config: Config,
    outboxes: BTreeMap<ConnId, Outbox>,
    dirty: Vec<ConnId>,
    partial: BTreeMap<ConnId, Vec<u8>>,
    tickets: u64,
    durable: Ticket,
    dials: u64,
    /// Who asked for the dial.
    dialled_for: BTreeMap<ConnId, ConnId>,
    reading_for: Option<(ConnId, usize, usize)>,
    timer: Option<(Mono, ConnId)>,
    max_outbox: usize,
    /// Does not stop when told to.
    is_stubborn: bool,
}

impl Obedient {
    fn new(boot: Boot<'_>) -> Self {
        boot.effects.log(LogLevel::Notice, "the machine is made");
        Self {
            config: boot.config,
            outboxes: BTreeMap::new(),
            dirty: Vec::new(),
            partial: BTreeMap::new(),
            tickets: 0,
            durable: Ticket(0),
            dials: 0,
            dialled_for: BTreeMap::new(),
            reading_for: None,
            timer: None,
            max_outbox: 0,
            is_stubborn: false,
        }
    }

    fn say(&mut self, conn: ConnId, gate: Ticket, text: &str) {
        if let Some(outbox) = self.outboxes.get_mut(&conn) {
            outbox.write(gate, text.as_bytes());
            outbox.write(gate, b"\n");
            self.max_outbox = self.max_outbox.max(outbox.len());
            self.dirty.push(conn);
        }
    }

    fn obey(&mut self, now: Now, conn: ConnId, line: &str, effects: &mut Effects) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u64>().unwrap();
        match verb {
            "give" => self.say(conn, Ticket(0), &"x".repeat(number() as usize)),
            "append" => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                let bytes = rest.as_bytes().to_vec();
                effects.push(Effect::Disk {
                    ticket,
                    op: DiskOp::Append { name: "log".into(), bytes, sync: true },
                });
                self.say(conn, ticket, "appended");
            }
            "dial" => {
                let dialled = ConnId(self.dials * 2 + 1);
                self.dials += 1;
                self.dialled_for.insert(dialled, conn);
                let source = Some("127.24.9.9".parse().unwrap());
                effects.push(Effect::Connect { conn: dialled, addr: rest.parse().unwrap(), source });
            }
            "read" => {
                self.reading_for = Some((conn, 0, 0));
                effects.push(Effect::Read { name: rest.to_owned() });
            }
            "busy" => effects.push(Effect::Busy { us: number() * 1000 }),
            "timer" => self.timer = Some((now.mono.plus_ms(number()), conn)),
            "most" => self.say(conn, Ticket(0), &self.max_outbox.to_string()),
            "bye" => {
                self.say(conn, Ticket(0), &"x".repeat(number() as usize));
                effects.push(Effect::Close { conn, flush: true });
            }
            "hold" => {
                self.is_stubborn = true;
                self.say(conn, Ticket(0), "held");
            }
            // For `redis-benchmark -t ping_inline`: what the shell alone costs.
            "PING" => self.say(conn, Ticket(0), "+PONG\r"),
            "exit" => effects.push(Effect::Exit { code: number() as i32 }),
            _ => self.say(conn, Ticket(0), line),
        }
    }
}

impl Machine for Obedient {
    fn input(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        match input {
            Input::Accepted { conn, .. } => drop(self.outboxes.insert(conn, Outbox::default())),
            Input::Received { conn, bytes } => {
                let mut text = self.partial.remove(&conn).unwrap_or_default();
                text.extend_from_slice(bytes);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    self.obey(now, conn, String::from_utf8_lossy(&line).trim_end(), effects);
                }
                self.partial.insert(conn, text);
            }
            Input::Connected { conn, local, .. } => {
                let asker = self.dialled_for[&conn];
                self.say(asker, Ticket(0), &format!("connected from {}", local.ip()));
                self.outboxes.insert(conn, Outbox::default());
                self.say(conn, Ticket(0), "hello");
                effects.push(Effect::Close { conn, flush: true });
            }
            Input::ConnectFailed { conn, error } => {
                let asker = self.dialled_for[&conn];
                self.say(asker, Ticket(0), &format!("failed: {error}"));
            }
            Input::Closed { conn } => drop(self.outboxes.remove(&conn)),
            Input::DiskDone { ticket, result } => {
                result.unwrap();
                self.durable = ticket;
            }
            Input::FileChunk { bytes, eof, missing, .. } => {
                let (conn, pieces, len) = self.reading_for.unwrap();
                self.reading_for = Some((conn, pieces + 1, len + bytes.len()));
                if eof {
                    self.say(
                        conn,
                        Ticket(0),
                        &format!("{} pieces, {} bytes, missing {missing}", pieces + 1, len + bytes.len()),
                    );
                }
            }
            Input::Terminate if !self.is_stubborn => effects.push(Effect::Exit { code: 0 }),
            Input::Terminate
            | Input::Flushed { .. }
            | Input::SnapshotChunk { .. }
            | Input::Saved { .. }
            | Input::Applied { .. }
            | Input::FileFailed { .. } => {}
        }
    }

    fn end_of_batch(&mut self, now: Now, _: &mut Effects) {
        if let Some((at, conn)) = self.timer
            && at <= now.mono
        {
            self.timer = None;
            self.say(conn, Ticket(0), "ring");
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.timer.map(|(at, _)| at)
    }

    fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        self.outboxes.get_mut(&conn)
    }

    fn durable(&self) -> Ticket {
        self.durable
    }

    fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        into.append(&mut self.dirty);
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn log_role(&self) -> char {
        'M'
    }
}
