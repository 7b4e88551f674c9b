//! The replica's end: the link to the master, from dialling to applying its stream.
//!
//! What this node holds is kept, with its id and offset, until a full resync has come whole. So at any moment the
//! dataset, the id and the offset belong together, whatever happens to the link.

mod stream;
mod transfer;

use super::address::MasterAddr;
use super::identity::ReplId;
use super::{Action, Actions, Replication, command_bytes};
use crate::io::{ConnId, LogLevel, Mono};
use stream::{Stream, ack_applied};
use transfer::{Body, Transfer};

/// Time between attempts to reach the master.
const RETRY_MS: u64 = 1000;
/// The longest line of a handshake that is believed.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The link to the master.
#[derive(Debug)]
pub(super) struct MasterLink {
    addr: MasterAddr,
    conn: Option<ConnId>,
    state: State,
    /// What this node holds has a name that a master may know.
    can_resume: bool,
    /// When the master was last heard, or the current attempt began.
    last_io: Mono,
    /// Since when the stream is broken; none while it is not, and before it first was there.
    down_since: Option<Mono>,
}

#[derive(Debug)]
enum State {
    /// No connection; the next attempt is due.
    Idle {
        retry_at: Mono,
    },
    Dialing,
    Handshake {
        step: Step,
        lines: Vec<u8>,
    },
    Transfer(Box<Transfer>),
    /// The transfer is whole and the glue was asked to put it in place. `rest` came after it.
    Committing {
        identity: Option<(ReplId, u64)>,
        stream_db: u32,
        rest: Vec<u8>,
    },
    Streaming(Box<Stream>),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ping,
    Auth,
    /// So many replies to REPLCONF are still to come.
    ReplConf(u8),
    Psync,
}

/// How the link stands, for the cluster's rules and INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The master.
    pub master: MasterAddr,
    /// `connect`, `connecting`, `handshake`, `sync` or `connected`, as ROLE says.
    pub state: &'static str,
    /// True while the stream is being applied.
    pub up: bool,
    /// Since when it is not up; none if it is, or never was since this master was set: then what this node holds
    /// is of unknown age, and it must not stand for election (a replica that never synced may be empty).
    pub down_since: Option<Mono>,
    /// When the master was last heard.
    pub last_io: Mono,
    /// Bytes of a full resync that have come, and of how many (0: not known); none outside one.
    pub transfer: Option<(u64, u64)>,
}

impl MasterLink {
    pub const fn new(addr: MasterAddr, can_resume: bool, now: Mono) -> Self {
        Self { addr, conn: None, state: State::Dialing, can_resume, last_io: now, down_since: None }
    }

    pub const fn addr(&self) -> &MasterAddr {
        &self.addr
    }

    pub const fn conn(&self) -> Option<ConnId> {
        self.conn
    }

    pub const fn can_resume(&self) -> bool {
        self.can_resume
    }

    pub const fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming(_))
    }

    /// Closes the connection and forgets a half-loaded dataset.
    pub fn hang_up(&mut self, actions: &mut Actions) {
        let loading = match &self.state {
            State::Transfer(transfer) => !matches!(transfer.body, Body::Announcement { .. }),
            State::Committing { .. } => true,
            _ => false,
        };
        if loading {
            actions.push(Action::LoadAbort);
        }
        if let Some(conn) = self.conn.take() {
            actions.push(Action::Close { conn, flush: false });
        }
    }

    fn status(&self) -> LinkStatus {
        let state = match self.state {
            State::Idle { .. } => "connect",
            State::Dialing => "connecting",
            State::Handshake { .. } => "handshake",
            State::Transfer(_) | State::Committing { .. } => "sync",
            State::Streaming(_) => "connected",
        };
        let transfer = match &self.state {
            State::Transfer(transfer) => {
                let total = if let Body::Length { total, .. } = transfer.body { total } else { 0 };
                Some((transfer.received_bytes, total))
            }
            _ => None,
        };
        LinkStatus {
            master: self.addr.clone(),
            state,
            up: self.is_streaming(),
            down_since: self.down_since,
            last_io: self.last_io,
            transfer,
        }
    }
}

/// Why the link must be given up. The text says what the master did or said.
enum Fault {
    /// Try again later; what this node holds may still be continued.
    Retry(String),
    /// The stream cannot be trusted to stand where its offset says: ask for everything next time.
    Distrust(String),
}

impl Replication {
    /// How the link to the master stands; none on a master.
    pub fn link_status(&self) -> Option<LinkStatus> {
        self.link.as_ref().map(MasterLink::status)
    }

    /// The connection that [`Action::Dial`] asked for got this name.
    pub fn dialing(&mut self, conn: ConnId) {
        if let Some(link) = &mut self.link {
            link.conn = Some(conn);
        }
    }

    /// The link's connection is up.
    pub fn connected(&mut self, conn: ConnId, now: Mono, actions: &mut Actions) {
        let Some(link) = self.link.as_mut().filter(|link| link.conn == Some(conn)) else { return };
        link.last_io = now;
        link.state = State::Handshake { step: Step::Ping, lines: Vec::new() };
        actions.push(Action::Send { conn, bytes: command_bytes(&["PING"]) });
    }

    /// The link's connection could not be made.
    pub fn connect_failed(&mut self, conn: ConnId, error: &str, now: Mono, actions: &mut Actions) {
        if self.is_link(conn) {
            self.link_lost(&format!("Error condition on socket for SYNC: {error}"), now, actions);
        }
    }

    /// The link's connection is gone.
    pub(super) fn link_lost(&mut self, why: &str, now: Mono, actions: &mut Actions) {
        let Some(link) = &mut self.link else { return };
        link.conn = None;
        self.give_up_link(why, now, actions);
    }

    fn give_up_link(&mut self, why: &str, now: Mono, actions: &mut Actions) {
        let Some(link) = &mut self.link else { return };
        if link.is_streaming() {
            link.down_since = Some(now);
        }
        link.hang_up(actions);
        link.state = State::Idle { retry_at: now.plus_ms(RETRY_MS) };
        actions.push(Action::Log(LogLevel::Warning, why.to_owned()));
    }

    pub(super) fn link_retry_at(&self) -> Option<Mono> {
        match self.link.as_ref()?.state {
            State::Idle { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    pub(super) fn retry_link(&mut self, now: Mono, actions: &mut Actions) {
        if self.link_retry_at().is_some_and(|at| at <= now)
            && let Some(link) = &mut self.link
        {
            link.state = State::Dialing;
            link.last_io = now;
            actions.push(Action::Dial { addr: link.addr.clone() });
        }
    }

    /// Once a second: timeouts, acknowledgements, keepalives while loading.
    pub(super) fn link_cron(&mut self, now: Mono, actions: &mut Actions) {
        let timeout_ms = self.settings.timeout_s * 1000;
        let offset = self.log.end();
        let Some(link) = &self.link else { return };
        let overdue = now.ms_since(link.last_io) > timeout_ms;
        let why = match &link.state {
            State::Idle { .. } => return,
            State::Committing { .. } => {
                let keepalive = |conn| Action::Send { conn, bytes: b"\n".to_vec() };
                return actions.extend(link.conn.map(keepalive));
            }
            State::Dialing | State::Handshake { .. } => "Timeout connecting to the MASTER...",
            State::Transfer(_) => "Timeout receiving bulk data from MASTER...",
            State::Streaming(_) => "MASTER timeout: no data nor PING received...",
        };
        if overdue {
            return self.give_up_link(why, now, actions);
        }
        let Some(conn) = link.conn else { return };
        match &link.state {
            State::Streaming(stream) if stream.sends_acks => {
                actions.push(ack_applied(conn, offset, self.settings.zoo));
            }
            State::Transfer(transfer) if transfer.received_bytes > 0 => {
                actions.push(Action::Send { conn, bytes: b"\n".to_vec() });
            }
            _ => {}
        }
    }

    /// Bytes from the master.
    pub fn received(&mut self, conn: ConnId, bytes: &[u8], now: Mono, actions: &mut Actions) {
        let Some(link) = self.link.as_mut().filter(|link| link.conn == Some(conn)) else { return };
        link.last_io = now;
        let result = match &mut link.state {
            State::Idle { .. } | State::Dialing => Ok(()),
            State::Handshake { lines, .. } => {
                lines.extend_from_slice(bytes);
                self.handshake(conn, now, actions)
            }
            State::Transfer(_) => self.transfer_bytes(bytes, actions),
            State::Committing { rest, .. } => {
                rest.extend_from_slice(bytes);
                Ok(())
            }
            State::Streaming(_) => self.stream_bytes(conn, bytes, actions),
        };
        self.end_on_fault(result, now, actions);
    }

    fn end_on_fault(&mut self, result: Result<(), Fault>, now: Mono, actions: &mut Actions) {
        match result {
            Ok(()) => {}
            Err(Fault::Retry(why)) => self.give_up_link(&why, now, actions),
            Err(Fault::Distrust(why)) => {
                if let Some(link) = &mut self.link {
                    link.can_resume = false;
                }
                self.give_up_link(&why, now, actions);
            }
        }
    }

    /// Handles every whole line; what follows the last one of the handshake is the transfer or the stream.
    fn handshake(&mut self, conn: ConnId, now: Mono, actions: &mut Actions) -> Result<(), Fault> {
        loop {
            let Some(link) = &mut self.link else { return Ok(()) };
            let State::Handshake { step, lines } = &mut link.state else { return Ok(()) };
            let Some(line) =
                take_line(lines).map_err(|()| Fault::Retry("Error reading from master".to_owned()))?
            else {
                return Ok(());
            };
            if line.is_empty() {
                // A keepalive of a master that is busy making a snapshot.
                continue;
            }
            let rest = match step {
                Step::Psync => std::mem::take(lines),
                _ => Vec::new(),
            };
            let step = *step;
            let error = line.starts_with(b"-").then(|| String::from_utf8_lossy(&line).into_owned());
            let next = match (step, error) {
                (Step::Ping, Some(error)) if !is_permission_error(&error) => {
                    return Err(Fault::Retry(format!("Error reply to PING from master: '{error}'")));
                }
                (Step::Ping, _) => match &self.settings.master_auth {
                    Some(password) => {
                        let mut auth = vec!["AUTH"];
                        auth.extend(self.settings.master_user.as_deref());
                        auth.push(password);
                        actions.push(Action::Send { conn, bytes: command_bytes(&auth) });
                        Step::Auth
                    }
                    None => self.introduce(conn, actions),
                },
                (Step::Auth, Some(error)) => {
                    return Err(Fault::Retry(format!("Unable to AUTH to MASTER: {error}")));
                }
                (Step::Auth, None) => self.introduce(conn, actions),
                (Step::ReplConf(left), error) => {
                    if let Some(error) = error {
                        let text = format!("(Non critical) Master does not understand REPLCONF: {error}");
                        actions.push(Action::Log(LogLevel::Notice, text));
                    }
                    if left > 1 { Step::ReplConf(left - 1) } else { self.ask(conn, actions) }
                }
                (Step::Psync, _) => {
                    self.psync_answered(conn, &line, now, actions)?;
                    return self.after_answer(conn, &rest, actions);
                }
            };
            if let Some(MasterLink { state: State::Handshake { step, .. }, .. }) = &mut self.link {
                *step = next;
            }
        }
    }

    /// Says who we are.
    fn introduce(&self, conn: ConnId, actions: &mut Actions) -> Step {
        let port = self.settings.listening_port.to_string();
        let mut bytes = command_bytes(&["REPLCONF", "listening-port", &port]);
        let mut replies = 2;
        if let Some(ip) = &self.settings.announce_ip {
            bytes.extend(command_bytes(&["REPLCONF", "ip-address", ip]));
            replies += 1;
        }
        bytes.extend(command_bytes(&["REPLCONF", "capa", "eof", "capa", "psync2"]));
        actions.push(Action::Send { conn, bytes });
        Step::ReplConf(replies)
    }

    /// Asks to continue what we hold, or for everything.
    fn ask(&self, conn: ConnId, actions: &mut Actions) -> Step {
        let resume = self.link.as_ref().is_some_and(MasterLink::can_resume);
        let (id, offset) = if resume {
            (self.history.id.to_string(), (self.log.end() + 1).to_string())
        } else {
            ("?".to_owned(), "-1".to_owned())
        };
        let text = format!("Trying a partial resynchronization (request {id}:{offset}).");
        actions.push(Action::Log(LogLevel::Notice, text));
        let mut words = vec!["PSYNC", &id, &offset];
        if self.asks_to_take_over() {
            words.push("FAILOVER");
        }
        actions.push(Action::Send { conn, bytes: command_bytes(&words) });
        Step::Psync
    }

    fn psync_answered(
        &mut self,
        conn: ConnId,
        line: &[u8],
        now: Mono,
        actions: &mut Actions,
    ) -> Result<(), Fault> {
        let text = String::from_utf8_lossy(line).into_owned();
        let mut words = text.split(' ');
        match words.next().unwrap_or_default() {
            "+FULLRESYNC" => {
                let id = words.next().and_then(|id| ReplId::parse(id.as_bytes()));
                let offset = words.next().and_then(|offset| offset.parse().ok());
                let (Some(id), Some(offset)) = (id, offset) else {
                    return Err(Fault::Retry(format!(
                        "Master replied with wrong +FULLRESYNC syntax: {text}"
                    )));
                };
                actions
                    .push(Action::Log(LogLevel::Notice, format!("Full resync from master: {id}:{offset}")));
                self.failover_done(actions);
                self.expect_transfer(Some((id, offset)));
                Ok(())
            }
            "+CONTINUE" => {
                let new_id = match words.next() {
                    None => None,
                    Some(id) => Some(ReplId::parse(id.as_bytes()).ok_or_else(|| {
                        Fault::Retry(format!("Master replied with wrong +CONTINUE syntax: {text}"))
                    })?),
                };
                self.failover_done(actions);
                self.continue_stream(new_id, now, actions);
                Ok(())
            }
            "-NOMASTERLINK" | "-LOADING" => Err(Fault::Retry(format!(
                "Master is currently unable to PSYNC but should be in the future: {text}"
            ))),
            _ if self.asks_to_take_over() => {
                // It was under way, or nobody would have been asked to take over.
                let _ = self.abort_failover("Failover target rejected psync request", now, actions);
                Ok(())
            }
            _ => {
                // A master that knows no PSYNC: ask in the old way.
                actions.push(Action::Log(
                    LogLevel::Notice,
                    format!("Unexpected reply to PSYNC from master: {text}; retrying with SYNC"),
                ));
                actions.push(Action::Send { conn, bytes: b"SYNC\r\n".to_vec() });
                self.expect_transfer(None);
                Ok(())
            }
        }
    }

    /// The master goes on from where we stand, perhaps under a new name.
    fn continue_stream(&mut self, new_id: Option<ReplId>, now: Mono, actions: &mut Actions) {
        if let Some(id) = new_id.filter(|&id| id != self.history.id) {
            self.history.branch(id, self.log.end());
            actions.push(Action::Log(LogLevel::Notice, format!("Master replication ID changed to {id}")));
            self.drop_replicas(actions);
        }
        self.activate_log();
        if let Some(link) = &mut self.link {
            link.can_resume = true;
            link.down_since = None;
            link.last_io = now;
            link.state = State::Streaming(Box::new(Stream::new(true)));
        }
        actions.push(Action::Log(
            LogLevel::Notice,
            "Successful partial resynchronization with master.".to_owned(),
        ));
    }

    fn after_answer(&mut self, conn: ConnId, rest: &[u8], actions: &mut Actions) -> Result<(), Fault> {
        match self.link.as_ref().map(|link| &link.state) {
            Some(State::Transfer(_)) => self.transfer_bytes(rest, actions),
            Some(State::Streaming(_)) => self.stream_bytes(conn, rest, actions),
            _ => Ok(()),
        }
    }
}

/// Errors to PING that mean "identify yourself", not "go away".
fn is_permission_error(error: &str) -> bool {
    ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"].iter().any(|prefix| error.starts_with(prefix))
}

/// Takes the first line, without its end, out of `buffer`. Fails for a line that is too long to be one.
fn take_line(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ()> {
    let Some(end) = buffer.iter().position(|&byte| byte == b'\n') else {
        return if buffer.len() > MAX_LINE_BYTES { Err(()) } else { Ok(None) };
    };
    let mut line: Vec<u8> = buffer.drain(..=end).collect();
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}
