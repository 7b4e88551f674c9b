//! `--pipe`: standard input to the server as it is, counting the replies.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::link::{Link, Socket, said};
use super::reply::{Reply, ReplyError};
use super::session::{Session, emit};

/// Bytes of the last command's argument, by which its reply is known.
const MARK_BYTES: usize = 20;
const PIECE: usize = 16 * 1024;

enum Event {
    Reply(Result<Reply, ReplyError>),
    /// Standard input ended, and ECHO with the mark was sent after it.
    AllSent,
    CannotSend(String),
}

/// Runs until the reply to the last command came. Exit code 1 if any reply was an error.
pub fn pipe(mut session: Session) -> ExitCode {
    if session.connect(true).is_err() {
        return ExitCode::FAILURE;
    }
    let Some(link) = session.take_link() else { return ExitCode::FAILURE };
    match run(link, session.options.pipe_timeout_s) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// The number of error replies.
fn run(link: Link, timeout_s: u64) -> Result<u64, String> {
    let mut mark = [0; MARK_BYTES];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut mark));
    random.map_err(|error| format!("Can't read /dev/urandom: {}", said(&error)))?;
    let socket = link.handle().map_err(|error| said(&error))?;
    let (events, inbox) = channel();
    let from_server = events.clone();
    // Reading and writing at once: a server that waits for its replies to be read stops reading commands.
    std::thread::spawn(move || receive(link, &from_server));
    std::thread::spawn(move || {
        let sent = transmit(socket, mark);
        let _ = events.send(sent.map_or_else(Event::CannotSend, |()| Event::AllSent));
    });
    count(&inbox, mark, (timeout_s > 0).then_some(Duration::from_secs(timeout_s)))
}

fn receive(mut link: Link, events: &Sender<Event>) {
    loop {
        let reply = link.read();
        let is_end = reply.is_err();
        if events.send(Event::Reply(reply)).is_err() || is_end {
            return;
        }
    }
}

fn transmit(mut socket: Socket, mark: [u8; MARK_BYTES]) -> Result<(), String> {
    let failed = |error: &io::Error| format!("Error writing to the server: {}", said(error));
    let mut stdin = io::stdin().lock();
    let mut piece = vec![0; PIECE];
    loop {
        match stdin.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => socket.write_all(&piece[..count]).map_err(|error| failed(&error))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("Error reading from stdin: {}", said(&error))),
        }
    }
    emit(b"All data transferred. Waiting for the last reply...\n");
    // The end of line before it ends a broken command, so that this one is still understood.
    let last = [b"\r\n*2\r\n$4\r\nECHO\r\n$20\r\n".as_slice(), &mark, b"\r\n"].concat();
    socket.write_all(&last).map_err(|error| failed(&error))
}

fn count(inbox: &Receiver<Event>, mark: [u8; MARK_BYTES], patience: Option<Duration>) -> Result<u64, String> {
    let (mut errors, mut replies) = (0_u64, 0_u64);
    let mut is_all_sent = false;
    let mut last_reply = Instant::now();
    loop {
        match inbox.recv_timeout(Duration::from_secs(1)) {
            Ok(Event::Reply(Ok(reply))) => {
                last_reply = Instant::now();
                if let Reply::Error(text) = &reply {
                    eprintln!("{}", String::from_utf8_lossy(text));
                    errors += 1;
                }
                if matches!(&reply, Reply::Bulk(bytes) if *bytes == mark) {
                    emit(b"Last reply received from server.\n");
                    break;
                }
                replies += 1;
            }
            Ok(Event::Reply(Err(error))) => {
                return Err(format!("Error reading replies from server: {error}"));
            }
            Ok(Event::AllSent) => is_all_sent = true,
            Ok(Event::CannotSend(why)) => return Err(why),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("Error reading replies from server".to_owned()),
        }
        if let Some(patience) = patience
            && is_all_sent
            && last_reply.elapsed() > patience
        {
            eprintln!("No replies for {} seconds: exiting.", patience.as_secs());
            errors += 1;
            break;
        }
    }
    emit(format!("errors: {errors}, replies: {replies}\n").as_bytes());
    Ok(errors)
}
