//! Requests at random, valid and not: `commands.txt` says how the requests of Redis 7.0 look, this fills them in. The keys are
//! few, so that they meet under all types; what is drawn follows from a seed.
#![allow(dead_code)] // each test binary uses a part

mod arguments;

use std::collections::BTreeSet;

use slotstorm_node::random::Random;

#[allow(unused_imports)] // as above
pub use arguments::{Keys, key_names};

/// A request's words.
pub type Request = Vec<Vec<u8>>;

/// A form of a command.
#[derive(Clone, Debug)]
pub struct Form {
    pub family: &'static str,
    /// The line of `commands.txt`.
    pub text: &'static str,
    pub command: &'static str,
    weight: usize,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Word(&'static str),
    Kind(&'static str),
    Perhaps(Vec<Part>),
    OneOf(Vec<Vec<Part>>),
    Some(Vec<Part>),
}

/// All forms, in the order of the file.
pub fn forms() -> Vec<Form> {
    let (mut forms, mut family) = (Vec::new(), "");
    for line in
        include_str!("commands.txt").lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
    {
        if let Some(name) = line.strip_prefix("== ") {
            family = name;
        } else if !line.starts_with('#') {
            forms.push(form(family, line));
        }
    }
    forms
}

fn form(family: &'static str, line: &'static str) -> Form {
    let (weight, text) = match line.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
        Some((weight, text)) => (weight.parse().expect("a number behind @"), text),
        None => (1, line),
    };
    let mut words = text.split_whitespace().peekable();
    let parts = parts(&mut words, "");
    let Part::Word(command) = parts[0] else { panic!("{line}: a command's name comes first") };
    Form { family, text, command, weight, parts }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'static>>;

/// Reads until the sign that ends the group.
fn parts(words: &mut Words<'_>, end: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some(&word) = words.peek() {
        if word == end || end == ")" && word == "|" {
            return parts;
        }
        words.next();
        parts.push(match word {
            "[" => Part::Perhaps(group(words, "]")),
            "{" => Part::Some(group(words, "}")),
            "(" => {
                let mut choices = Vec::new();
                loop {
                    choices.push(self::parts(words, ")"));
                    match words.next() {
                        Some("|") => {}
                        Some(")") => break,
                        other => panic!("a choice ends in {other:?}"),
                    }
                }
                Part::OneOf(choices)
            }
            kind if arguments::KINDS.contains(&kind) => Part::Kind(kind),
            word => Part::Word(word),
        });
    }
    assert_eq!(end, "", "a group is open");
    parts
}

fn group(words: &mut Words<'_>, end: &str) -> Vec<Part> {
    let inner = parts(words, end);
    assert_eq!(words.next(), Some(end));
    inner
}

/// Draws requests.
pub struct Generator {
    random: Random,
    forms: Vec<Form>,
    keys: Keys,
    /// Of a hundred requests, how many are spoiled.
    spoiled_percent: u64,
    /// May requests wait for long?
    pub patient: bool,
}

impl Generator {
    /// From these forms; requests follow from the seed.
    pub fn new(seed: u64, forms: Vec<Form>, keys: Keys, spoiled_percent: u64) -> Self {
        assert!(!forms.is_empty());
        Self { random: Random::seeded(seed), forms, keys, spoiled_percent, patient: false }
    }

    /// The next request, and the form that it comes from.
    pub fn draw(&mut self) -> (Request, Form) {
        let total: usize = self.forms.iter().map(|form| form.weight).sum();
        let mut at = self.random.below(total as u64) as usize;
        let form = self.forms.iter().find(|form| {
            let here = at < form.weight;
            at = at.saturating_sub(form.weight);
            here
        });
        let form = form.expect("some form has that weight").clone();
        (self.fill(&form), form)
    }

    /// A request of that form.
    pub fn fill(&mut self, form: &Form) -> Request {
        let mut request = Vec::new();
        self.write(&form.parts, &mut request);
        if self.random.below(100) < self.spoiled_percent {
            self.spoil(&mut request);
        }
        if self.random.below(30) == 0 {
            request[0].make_ascii_lowercase();
        }
        if !self.patient {
            hurry(&mut request);
        }
        request
    }

    /// Any words behind a command's name.
    pub fn nonsense(&mut self, command: &str) -> Request {
        let mut request = vec![command.as_bytes().to_vec()];
        for _ in 0..self.random.below(6) {
            let kind = arguments::KINDS[self.random.below(arguments::KINDS.len() as u64) as usize];
            arguments::write(kind, &mut self.random, self.keys, &mut request);
        }
        request
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.random.below(n)
    }

    fn write(&mut self, parts: &[Part], request: &mut Request) {
        for part in parts {
            match part {
                Part::Word(word) => request.push(word.as_bytes().to_vec()),
                Part::Kind(kind) => arguments::write(kind, &mut self.random, self.keys, request),
                Part::Perhaps(parts) => {
                    if self.random.below(3) == 0 {
                        self.write(parts, request);
                    }
                }
                Part::OneOf(choices) => {
                    let choice = self.random.below(choices.len() as u64) as usize;
                    self.write(&choices[choice], request);
                }
                Part::Some(parts) => {
                    for _ in 0..=self.random.below(4) {
                        self.write(parts, request);
                    }
                }
            }
        }
    }

    /// One thing is wrong: a word too few or too many, a word of another kind, an option that is not there.
    fn spoil(&mut self, request: &mut Request) {
        let at = |random: &mut Random, len: usize| 1 + random.below((len as u64).max(2) - 1) as usize;
        match self.random.below(6) {
            0 => drop(request.pop().filter(|_| request.len() > 1)),
            1 => arguments::write("junk", &mut self.random, self.keys, request),
            2 if request.len() > 1 => {
                let from = at(&mut self.random, request.len());
                let word = request[from].clone();
                let to = at(&mut self.random, request.len());
                request.insert(to, word);
            }
            _ if request.len() > 1 => {
                let mut words = Vec::new();
                let kind = if self.random.below(4) == 0 { "key" } else { "junk" };
                arguments::write(kind, &mut self.random, self.keys, &mut words);
                let to = at(&mut self.random, request.len());
                request[to] = words.remove(0);
            }
            _ => {}
        }
        if request.is_empty() {
            request.push(b"PING".to_vec());
        }
    }
}

/// Nobody waits for long: a timeout that would be long, or no end, becomes a short one.
fn hurry(request: &mut Request) {
    let name = request[0].to_ascii_uppercase();
    let (at, short) = match &name[..] {
        b"BLPOP" | b"BRPOP" | b"BZPOPMIN" | b"BZPOPMAX" | b"BRPOPLPUSH" | b"BLMOVE" => {
            (request.len() - 1, "0.01")
        }
        b"BLMPOP" | b"BZMPOP" => (1, "0.01"),
        b"WAIT" => (2, "10"),
        b"XREAD" | b"XREADGROUP" => {
            let block = request.iter().position(|word| word.eq_ignore_ascii_case(b"BLOCK"));
            (block.map_or(usize::MAX, |at| at + 1), "10")
        }
        _ => return,
    };
    let Some(word) = request.get_mut(at).filter(|_| at > 0) else { return };
    let text = String::from_utf8_lossy(word);
    let longest = if short == "10" { 50.0 } else { 0.05 };
    let is_long =
        text.parse::<f64>().is_ok_and(|time| time == 0.0 || time > longest) || text.starts_with("0x");
    if is_long {
        *word = short.into();
    }
}

/// The names of all commands in the forms.
pub fn commands(forms: &[Form]) -> BTreeSet<&'static str> {
    forms.iter().map(|form| form.command).collect()
}

/// As a line that redis-cli, and the written scripts, read.
pub fn quoted(request: &[Vec<u8>]) -> String {
    let words = request.iter().map(|word| {
        let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"'\\".contains(byte);
        if !word.is_empty() && word.iter().all(plain) {
            return String::from_utf8_lossy(word).into_owned();
        }
        format!("\"{}\"", word.escape_ascii().to_string().replace("\\'", "'"))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The words of such a line.
pub fn unquoted(line: &str) -> Request {
    let (mut request, mut bytes) = (Vec::new(), line.bytes().peekable());
    loop {
        while bytes.next_if_eq(&b' ').is_some() {}
        let Some(first) = bytes.next() else { return request };
        let (mut word, in_quotes) = (Vec::new(), first == b'"');
        if !in_quotes {
            word.push(first);
        }
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' if in_quotes => break,
                b' ' if !in_quotes => break,
                b'\\' if in_quotes => word.push(match bytes.next() {
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b't') => b'\t',
                    Some(b'x') => {
                        let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                        u8::from_str_radix(&digits, 16).unwrap_or_else(|_| panic!("{line}: \\x{digits}"))
                    }
                    Some(other) => other,
                    None => panic!("{line}: ends in \\"),
                }),
                other => word.push(other),
            }
        }
        request.push(word);
    }
}
