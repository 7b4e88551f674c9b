//! A reader of EDN (<https://github.com/edn-format/edn>) with what Clojure's printer adds: namespaced maps, `#=` (refused,
//! never evaluated), hexadecimal numbers inside `#object`, metadata (left out). It holds one top-level value at a time; a
//! top-level vector or list is handed out item by item, so that a history in one vector streams like one map a line.

use std::io::BufRead;

use super::error::ForeignError;
use super::value::Value;

/// Deeper nesting than this is refused: histories are flat, and recursion is not free.
const MAX_DEPTH: u32 = 100;

/// Reads values from bytes.
pub struct EdnReader<R> {
    source: R,
    /// Of the byte that is next.
    line: u64,
    column: u64,
    /// What closes the top-level vector or list that items come from.
    inside: Option<u8>,
    started: bool,
}

/// A top-level value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    pub line: u64,
    pub column: u64,
    pub value: Value,
}

impl<R: BufRead> EdnReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, line: 1, column: 1, inside: None, started: false }
    }

    /// The next value of the history; none at the end.
    pub fn next_value(&mut self) -> Result<Option<Located>, ForeignError> {
        loop {
            self.skip_blank()?;
            let Some(byte) = self.peek()? else {
                return match self.inside {
                    Some(close) => Err(self.expected(&format!("a value or '{}'", char::from(close)))),
                    None => Ok(None),
                };
            };
            if self.inside == Some(byte) {
                self.take()?;
                self.inside = None;
                continue;
            }
            if !self.started && (byte == b'[' || byte == b'(') {
                self.take()?;
                self.started = true;
                self.inside = Some(if byte == b'[' { b']' } else { b')' });
                continue;
            }
            self.started = true;
            let (line, column) = (self.line, self.column);
            if let Some(value) = self.value(0)? {
                return Ok(Some(Located { line, column, value }));
            }
        }
    }

    /// A value; none if what stood there was discarded (`#_`).
    fn value(&mut self, depth: u32) -> Result<Option<Value>, ForeignError> {
        if depth > MAX_DEPTH {
            return Err(self.expected(&format!("at most {MAX_DEPTH} levels of nesting")));
        }
        let Some(byte) = self.peek()? else { return Err(self.expected("a value")) };
        let value = match byte {
            b'(' => Value::Vector(self.sequence(b')', depth)?),
            b'[' => Value::Vector(self.sequence(b']', depth)?),
            b'{' => self.map("", depth)?,
            b'"' => Value::Text(self.string()?),
            b'\\' => Value::Text(self.character()?),
            b'#' => return self.dispatch(depth),
            b'^' => {
                self.take()?;
                self.needed(depth)?;
                self.needed(depth)?
            }
            b')' | b']' | b'}' => return Err(self.expected("a value")),
            _ => self.atom()?,
        };
        Ok(Some(value))
    }

    /// A value that must be there; discarded ones before it are passed over.
    fn needed(&mut self, depth: u32) -> Result<Value, ForeignError> {
        loop {
            self.skip_blank()?;
            if let Some(value) = self.value(depth + 1)? {
                return Ok(value);
            }
        }
    }

    fn sequence(&mut self, close: u8, depth: u32) -> Result<Vec<Value>, ForeignError> {
        self.take()?;
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            match self.peek()? {
                None => return Err(self.expected(&format!("a value or '{}'", char::from(close)))),
                Some(byte) if byte == close => break,
                Some(_) => items.extend(self.value(depth + 1)?),
            }
        }
        self.take()?;
        Ok(items)
    }

    fn map(&mut self, namespace: &str, depth: u32) -> Result<Value, ForeignError> {
        let items = self.sequence(b'}', depth)?;
        if items.len() % 2 == 1 {
            return Err(self.expected("a value for each key of the map that ends here"));
        }
        let mut entries = Vec::with_capacity(items.len() / 2);
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let key = match key {
                Value::Word(word) if !namespace.is_empty() && !word.contains('/') => {
                    Value::Word(format!("{namespace}/{word}"))
                }
                key => key,
            };
            entries.push((key, value));
        }
        Ok(Value::Map(entries))
    }

    fn dispatch(&mut self, depth: u32) -> Result<Option<Value>, ForeignError> {
        self.take()?;
        match self.peek()? {
            Some(b'{') => Ok(Some(Value::Vector(self.sequence(b'}', depth)?))),
            Some(b'_') => {
                self.take()?;
                self.needed(depth)?;
                Ok(None)
            }
            Some(b'#') => {
                self.take()?;
                match self.token()?.as_str() {
                    "Inf" => Ok(Some(Value::Float(f64::INFINITY))),
                    "-Inf" => Ok(Some(Value::Float(f64::NEG_INFINITY))),
                    "NaN" => Ok(Some(Value::Float(f64::NAN))),
                    _ => Err(self.expected("##Inf, ##-Inf or ##NaN")),
                }
            }
            Some(b':') => {
                self.take()?;
                let namespace = self.token()?;
                self.skip_blank()?;
                if self.peek()? != Some(b'{') {
                    return Err(self.expected("the map of this namespace"));
                }
                Ok(Some(self.map(&namespace, depth)?))
            }
            Some(b'=') => Err(self.expected("data (nothing is evaluated here)")),
            Some(byte) if byte.is_ascii_alphabetic() => {
                self.token()?;
                Ok(Some(self.needed(depth)?))
            }
            _ => Err(self.expected("a set, a tag or a discarded value behind '#'")),
        }
    }

    fn string(&mut self) -> Result<String, ForeignError> {
        self.take()?;
        let mut bytes = Vec::new();
        loop {
            match self.take()? {
                None => return Err(self.expected("the end of a string")),
                Some(b'"') => break,
                Some(b'\\') => {
                    let c = match self.take()? {
                        Some(b'n') => '\n',
                        Some(b't') => '\t',
                        Some(b'r') => '\r',
                        Some(b'b') => '\u{8}',
                        Some(b'f') => '\u{c}',
                        Some(c @ (b'"' | b'\\' | b'/' | b'\'')) => char::from(c),
                        Some(b'u') => self.four_digits()?,
                        _ => return Err(self.expected("an escape such as \\n or \\u0041 before this")),
                    };
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(byte) => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.expected("UTF-8 in the string that ends here"))
    }

    /// A lone surrogate becomes the replacement character.
    fn four_digits(&mut self) -> Result<char, ForeignError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek()?.and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return Err(self.expected("four hexadecimal digits")) };
            self.take()?;
            code = code * 16 + digit;
        }
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn character(&mut self) -> Result<String, ForeignError> {
        self.take()?;
        // The character itself may be a delimiter.
        let mut bytes: Vec<u8> = self.take()?.into_iter().collect();
        while let Some(byte) = self.peek()?
            && !is_delimiter(byte)
        {
            bytes.push(byte);
            self.take()?;
        }
        let name =
            String::from_utf8(bytes).map_err(|_| self.expected("UTF-8 in the character that ends here"))?;
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        match name.as_str() {
            "newline" => Ok("\n".to_owned()),
            "space" => Ok(" ".to_owned()),
            "tab" => Ok("\t".to_owned()),
            "return" => Ok("\r".to_owned()),
            "formfeed" => Ok("\u{c}".to_owned()),
            "backspace" => Ok("\u{8}".to_owned()),
            name if name.chars().count() == 1 => Ok(name.to_owned()),
            name => match name.strip_prefix('u').and_then(hex) {
                Some(c) => Ok(c.to_string()),
                None => Err(self.expected("a character such as \\a or \\newline before this")),
            },
        }
    }

    fn atom(&mut self) -> Result<Value, ForeignError> {
        let (line, column) = (self.line, self.column);
        let token = self.token()?;
        let digits = token.trim_start_matches(['+', '-']);
        if digits.starts_with(|c: char| c.is_ascii_digit()) {
            return number(&token).ok_or_else(|| ForeignError::Syntax {
                line,
                column,
                expected: "a number".to_owned(),
                found: token,
            });
        }
        Ok(match token.as_str() {
            "nil" => Value::Nil,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            word => {
                let name = word.trim_start_matches(':');
                if name.is_empty() {
                    return Err(ForeignError::Syntax {
                        line,
                        column,
                        expected: "a value".to_owned(),
                        found: format!("'{token}'"),
                    });
                }
                Value::Word(name.to_owned())
            }
        })
    }

    /// Bytes until a delimiter. Takes at least one where there is one, so that every loop over values ends.
    fn token(&mut self) -> Result<String, ForeignError> {
        let mut bytes = Vec::new();
        while let Some(byte) = self.peek()?
            && !is_delimiter(byte)
        {
            bytes.push(byte);
            self.take()?;
        }
        if bytes.is_empty() {
            return Err(self.expected("a name or number"));
        }
        String::from_utf8(bytes).map_err(|_| self.expected("UTF-8 in the word that ends here"))
    }

    /// White space, commas and comments.
    fn skip_blank(&mut self) -> Result<(), ForeignError> {
        while let Some(byte) = self.peek()? {
            if byte == b';' {
                while self.peek()?.is_some_and(|byte| byte != b'\n') {
                    self.take()?;
                }
            } else if byte.is_ascii_whitespace() || byte == b',' || byte == 0x0b {
                self.take()?;
            } else {
                break;
            }
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Option<u8>, ForeignError> {
        match self.source.fill_buf() {
            Ok(buffer) => Ok(buffer.first().copied()),
            Err(source) => Err(ForeignError::Io { line: self.line, source }),
        }
    }

    fn take(&mut self) -> Result<Option<u8>, ForeignError> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.source.consume(1);
            if byte == b'\n' {
                self.line += 1;
                self.column = 1;
            } else if byte & 0xc0 != 0x80 {
                // The further bytes of a character have no column of their own.
                self.column += 1;
            }
        }
        Ok(byte)
    }

    fn expected(&mut self, expected: &str) -> ForeignError {
        let (line, column) = (self.line, self.column);
        let found = match self.peek() {
            Ok(Some(byte)) if byte.is_ascii_graphic() => format!("'{}'", char::from(byte)),
            Ok(Some(b'\n')) => "the end of the line".to_owned(),
            Ok(Some(byte)) => format!("byte {byte:#04x}"),
            Ok(None) => "the end of the file".to_owned(),
            Err(error) => return error,
        };
        ForeignError::Syntax { line, column, expected: expected.to_owned(), found }
    }
}

fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b',' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'"' | b';' | 0x0b)
}

fn number(token: &str) -> Option<Value> {
    let unsigned = token.trim_start_matches(['+', '-']);
    if let Some(hex) = unsigned.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(|bits| Value::Int(bits as i64));
    }
    let plain = token.strip_suffix(['N', 'M']).unwrap_or(token);
    if let Ok(int) = plain.parse() {
        return Some(Value::Int(int));
    }
    if let Some((above, below)) = plain.split_once('/') {
        let (above, below): (f64, f64) = (above.parse().ok()?, below.parse().ok()?);
        return Some(Value::Float(above / below));
    }
    plain.parse().ok().map(Value::Float)
}
