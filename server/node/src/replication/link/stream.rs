//! The master's stream: commands to apply, transactions whole, and how far this node is.

use super::super::commands::{Command, CommandBatch, CommandParser, selected_by};
use super::super::{Action, Actions, Replication, command_bytes};
use super::{Fault, MasterLink, State};
use crate::io::{ConnId, Mono};
use crate::zoo::{Mutation, Zoo};

/// The master's stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    parser: CommandParser,
    /// Commands since MULTI: applied, and counted, at EXEC only.
    transaction: Option<CommandBatch>,
    /// The master understands REPLCONF ACK.
    pub sends_acks: bool,
}

impl Stream {
    pub fn new(sends_acks: bool) -> Self {
        Self { sends_acks, ..Self::default() }
    }
}

impl Replication {
    /// Holds the master's stream back while clients are paused, or lets it go on.
    pub fn hold_stream(&mut self, held: bool, now: Mono, actions: &mut Actions) {
        self.stream_held = held;
        if !held && let Some(conn) = self.link.as_ref().and_then(MasterLink::conn) {
            let result = self.stream_bytes(conn, &[], actions);
            self.end_on_fault(result, now, actions);
        }
    }

    /// The offset up to which the master's stream is here, applied or not.
    pub(in super::super) fn read_offset(&self) -> u64 {
        let waiting = match self.link.as_ref().map(|link| &link.state) {
            Some(State::Streaming(stream)) => {
                let transaction = stream.transaction.as_ref().map_or(0, |batch| batch.raw().len());
                stream.parser.unfinished_bytes() + transaction
            }
            _ => 0,
        };
        self.log.end() + waiting as u64
    }

    pub(super) fn stream_bytes(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        actions: &mut Actions,
    ) -> Result<(), Fault> {
        let Some(MasterLink { state: State::Streaming(stream), .. }) = &mut self.link else { return Ok(()) };
        stream.parser.feed(bytes);
        if self.stream_held {
            return Ok(());
        }
        let databases = self.settings.databases;
        let mut batch = Batch { db: self.stream_db, commands: CommandBatch::default() };
        let result = loop {
            let command = match stream.parser.next_command() {
                Ok(Some(command)) => command,
                Ok(None) => break Ok(()),
                Err(error) => break Err(Fault::Distrust(format!("Protocol error from master: {error}"))),
            };
            if let Some(transaction) = &mut stream.transaction {
                transaction.push(command);
                if command.is("EXEC") {
                    self.log.append(transaction.raw());
                    for command in transaction.iter() {
                        self.stream_db = selected_by(command).unwrap_or(self.stream_db);
                        batch.commands.push(command);
                    }
                    stream.transaction = None;
                } else if command.is("DISCARD") {
                    self.log.append(transaction.raw());
                    stream.transaction = None;
                }
                continue;
            }
            match kind_of(command) {
                Kind::Multi => {
                    let mut transaction = CommandBatch::default();
                    transaction.push(command);
                    stream.transaction = Some(transaction);
                    continue;
                }
                Kind::GetAck => {
                    // What it asks for is how far we were before it.
                    if stream.sends_acks {
                        batch.hand_over(self.stream_db, actions);
                        actions.push(ack_applied(conn, self.log.end(), self.settings.zoo));
                    }
                }
                Kind::Nothing => {}
                Kind::Select => {
                    let Some(db) = selected_by(command).filter(|&db| db < databases) else {
                        let text = format!(
                            "The master selected a database that is not here: {}",
                            command.raw.escape_ascii()
                        );
                        break Err(Fault::Distrust(text));
                    };
                    self.stream_db = db;
                    batch.commands.push(command);
                }
                Kind::Write => batch.commands.push(command),
            }
            self.log.append(command.raw);
        };
        batch.hand_over(self.stream_db, actions);
        result
    }
}

/// Commands to hand over, and the database that is selected before them.
struct Batch {
    db: u32,
    commands: CommandBatch,
}

impl Batch {
    /// Hands over what there is; what comes next begins with `next_db` selected.
    fn hand_over(&mut self, next_db: u32, actions: &mut Actions) {
        if !self.commands.is_empty() {
            let batch = std::mem::take(&mut self.commands);
            actions.push(Action::Apply { db: self.db, batch });
        }
        self.db = next_db;
    }
}

/// What a command of the stream is to this room.
enum Kind {
    Multi,
    GetAck,
    /// PING and the like: counted, and nothing else.
    Nothing,
    Select,
    Write,
}

fn kind_of(command: Command<'_>) -> Kind {
    if command.is("MULTI") {
        return Kind::Multi;
    }
    if command.is("PING") {
        return Kind::Nothing;
    }
    let second = command.args().nth(1).unwrap_or_default();
    if command.is("REPLCONF") {
        return if second.eq_ignore_ascii_case(b"GETACK") { Kind::GetAck } else { Kind::Nothing };
    }
    if command.is("SELECT") {
        return Kind::Select;
    }
    Kind::Write
}

/// A bug of the zoo acknowledges so many bytes too many.
const EARLY_BYTES: u64 = 1024;

/// Says that what was applied is here.
pub(super) fn ack_applied(conn: ConnId, offset: u64, zoo: Zoo) -> Action {
    let early = if zoo.has(Mutation::AcksBeforeItHas) { EARLY_BYTES } else { 0 };
    ack(conn, offset + early)
}

pub(super) fn ack(conn: ConnId, offset: u64) -> Action {
    Action::Send { conn, bytes: command_bytes(&["REPLCONF", "ACK", &offset.to_string()]) }
}
