//! `--rdb` and `--functions-rdb`: a server's dump over the replication protocol into a file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;

use super::link::{Link, said};
use super::reply::Reply;
use super::session::Session;

/// Bytes of the mark that ends a dump whose length the server did not know.
const MARK_BYTES: usize = 40;

/// Fetches the dump. `-` is standard output.
pub fn fetch(mut session: Session, file: &OsStr, only_functions: bool) -> ExitCode {
    if session.connect(true).is_err() {
        return ExitCode::FAILURE;
    }
    let Some(mut link) = session.take_link() else { return ExitCode::FAILURE };
    match transfer(&mut link, file, only_functions) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn transfer(link: &mut Link, file: &OsStr, only_functions: bool) -> Result<(), String> {
    replconf(link, "capa", "eof")?;
    replconf(link, "rdb-only", "1")?;
    if only_functions && !replconf(link, "rdb-filter-only", "functions")? {
        return Err("Failed requesting functions only RDB from server, aborting".to_owned());
    }
    let payload = sync(link)?;
    let name = file.to_string_lossy();
    match &payload {
        Payload::Marked(_) => {
            eprintln!("SYNC sent to master, writing bytes of bulk transfer until EOF marker to '{name}'");
        }
        Payload::Sized(bytes) => eprintln!("SYNC sent to master, writing {bytes} bytes to '{name}'"),
    }
    let to_stdout = file == "-";
    let mut opened = None;
    let target: &mut dyn Write = if to_stdout {
        &mut io::stdout().lock()
    } else {
        let created = File::create(file);
        opened.insert(created.map_err(|error| format!("Error opening '{name}': {}", said(&error)))?)
    };
    match payload {
        Payload::Sized(bytes) => {
            let copied = copy_sized(link.bytes(), bytes, target)?;
            if copied != bytes {
                return Err("I/O Error reading RDB payload from socket".to_owned());
            }
            eprintln!("Transfer finished with success.");
        }
        Payload::Marked(mark) => {
            let copied = copy_marked(link.bytes(), &mark, target)?;
            eprintln!("Transfer finished with success after {copied} bytes");
        }
    }
    target.flush().map_err(|error| written(&error))?;
    match opened {
        Some(file) => file.sync_all().map_err(|error| format!("Fail to fsync '{name}': {}", said(&error))),
        None => Ok(()),
    }
}

/// True if the server took it. Old servers do not know all of them.
fn replconf(link: &mut Link, name: &str, value: &str) -> Result<bool, String> {
    eprintln!("sending REPLCONF {name} {value}");
    match link.ask(&["REPLCONF", name, value]) {
        Ok(Reply::Error(text)) => {
            eprintln!("REPLCONF {name} error: {}", String::from_utf8_lossy(&text));
            Ok(false)
        }
        Ok(_) => Ok(true),
        Err(_) => Err("\nI/O error".to_owned()),
    }
}

enum Payload {
    Sized(u64),
    Marked(Vec<u8>),
}

fn sync(link: &mut Link) -> Result<Payload, String> {
    link.send_bytes(b"SYNC\r\n").map_err(|_| "Error writing to master".to_owned())?;
    // Empty lines are the server's sign of life while it prepares the dump.
    let line = loop {
        let mut line = Vec::new();
        let read = link.bytes().read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return Err("Error reading bulk length while SYNCing".to_owned());
        }
        if !line.trim_ascii().is_empty() {
            break String::from_utf8_lossy(line.trim_ascii()).into_owned();
        }
    };
    if let Some(mark) = line.strip_prefix("$EOF:").filter(|mark| mark.len() >= MARK_BYTES) {
        return Ok(Payload::Marked(mark.as_bytes()[..MARK_BYTES].to_vec()));
    }
    let length = line.strip_prefix('$').and_then(|length| length.parse().ok());
    length.map(Payload::Sized).ok_or_else(|| format!("SYNC with master failed: {line}"))
}

fn copy_sized(from: &mut impl BufRead, bytes: u64, to: &mut dyn Write) -> Result<u64, String> {
    let mut from = from.take(bytes);
    let mut copied = 0;
    loop {
        let piece = from.fill_buf().map_err(|error| read_failed(&error))?;
        if piece.is_empty() {
            return Ok(copied);
        }
        to.write_all(piece).map_err(|error| written(&error))?;
        let count = piece.len();
        copied += count as u64;
        from.consume(count);
    }
}

/// Copies up to the mark, which may lie across two reads.
fn copy_marked(from: &mut impl BufRead, mark: &[u8], to: &mut dyn Write) -> Result<u64, String> {
    let mut held: Vec<u8> = Vec::new();
    let mut copied = 0;
    loop {
        let piece = from.fill_buf().map_err(|error| read_failed(&error))?;
        if piece.is_empty() {
            return Err("I/O Error reading RDB payload from socket".to_owned());
        }
        held.extend_from_slice(piece);
        let count = piece.len();
        from.consume(count);
        let found = held.windows(mark.len()).position(|window| window == mark);
        let ready = found.unwrap_or(held.len().saturating_sub(mark.len() - 1));
        to.write_all(&held[..ready]).map_err(|error| written(&error))?;
        copied += ready as u64;
        if found.is_some() {
            return Ok(copied);
        }
        held.drain(..ready);
    }
}

fn read_failed(error: &io::Error) -> String {
    format!("I/O Error reading RDB payload from socket: {}", said(error))
}

fn written(error: &io::Error) -> String {
    format!("Error writing data to file: {}", said(error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_mark_is_found_however_the_bytes_arrive(
            payload in prop::collection::vec(0_u8..3, 0..300), piece in 1_usize..70,
        ) {
            let mark = [9; MARK_BYTES];
            let stream = [payload.as_slice(), &mark, b"*1\r\n"].concat();
            let mut reader = io::BufReader::with_capacity(piece, stream.as_slice());
            let mut out = Vec::new();
            prop_assert_eq!(copy_marked(&mut reader, &mark, &mut out).unwrap(), payload.len() as u64);
            prop_assert_eq!(out, payload);
        }
    }
}
