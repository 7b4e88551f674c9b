//! One request, one reply, with nothing of ours between: the judge of our server shares no code with it.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::side_by_side::PORT;

/// A reply: its sign (`+ - : $ * _ , # ! ( = % ~ >`), the text behind, what it holds (of a map: keys and values in turn).
/// Two frames are equal if and only if their bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    pub sign: u8,
    pub text: Vec<u8>,
    pub items: Vec<Self>,
}

impl Frame {
    pub fn is_error(&self) -> bool {
        matches!(self.sign, b'-' | b'!')
    }

    pub fn integer(&self) -> Option<i64> {
        (self.sign == b':').then(|| std::str::from_utf8(&self.text).ok()?.parse().ok()).flatten()
    }

    pub fn simple(text: &str) -> Self {
        Self { sign: b'+', text: text.into(), items: Vec::new() }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.escape_ascii();
        match self.sign {
            b'$' if self.text == b"-1" && self.items.is_empty() => f.write_str("$-1"),
            b'$' => write!(f, "\"{}\"", &self.text[1..].escape_ascii()),
            b'*' | b'%' | b'~' | b'>' | b'|' if self.text != b"-1" => {
                write!(f, "{}[", char::from(self.sign))?;
                for (n, item) in self.items.iter().enumerate() {
                    write!(f, "{}{item:?}", if n > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            sign => write!(f, "{}{text}", char::from(sign)),
        }
    }
}

/// A connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(ip: &str) -> Self {
        let stream = TcpStream::connect((ip, PORT)).unwrap_or_else(|error| panic!("{ip}: {error}"));
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a request and reads one reply; what went wrong with the connection comes as an error.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Frame {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        let asked = self.stream.get_mut().write_all(&request);
        asked.and_then(|()| self.read()).unwrap_or_else(|error| Frame {
            sign: b'-',
            text: format!("(connection: {error})").into_bytes(),
            items: Vec::new(),
        })
    }

    pub fn ask_line(&mut self, line: &str) -> Frame {
        self.ask(&line.split(' ').collect::<Vec<_>>())
    }

    fn read(&mut self) -> std::io::Result<Frame> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.len() < 3 || !line.ends_with(b"\r\n") {
            return Err(std::io::Error::other(format!("closed after {}", line.escape_ascii())));
        }
        line.truncate(line.len() - 2);
        let (sign, text) = (line[0], line[1..].to_vec());
        let mut frame = Frame { sign, text, items: Vec::new() };
        let count = || {
            let text = std::str::from_utf8(&line[1..]).ok().and_then(|text| text.parse::<i64>().ok());
            text.ok_or_else(|| std::io::Error::other(format!("no length: {}", line.escape_ascii())))
        };
        match sign {
            b'$' | b'!' | b'=' => {
                if let Ok(len) = usize::try_from(count()?) {
                    let mut bytes = vec![0; len + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(len);
                    // A mark in front tells an empty text from none.
                    frame.text = [b"=", &bytes[..]].concat();
                }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let factor = if matches!(sign, b'%' | b'|') { 2 } else { 1 };
                for _ in 0..count()?.max(0) * factor {
                    frame.items.push(self.read()?);
                }
            }
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            _ => return Err(std::io::Error::other(format!("no reply: {}", line.escape_ascii()))),
        }
        Ok(frame)
    }
}
