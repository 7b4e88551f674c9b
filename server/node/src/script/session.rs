//! A script while it runs: on a stack of its own, so that it can be left anywhere (in a loop, in a command that it
//! calls, in a callback of `table.sort`) and gone on with later, while the node serves others.

use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use mlua::{Error, Function, Lua, MultiValue, Table, Value};

use super::convert::{ReplyForm, write_reply};
use super::line::{Answer, Asked, Shared};
use super::raise::Raised;
use crate::resp::{Protocol, Reply};

/// Address space of a script's stack; only what is used takes memory. Lua bounds its own recursion, but for that of
/// patterns in `string.find` and its like: a level for each item of a pattern.
pub const STACK_BYTES: usize = 256 << 20;

/// What a session runs.
#[derive(Debug)]
pub enum Job {
    /// A script, with the globals KEYS and ARGV.
    Script { name: String, body: Function, keys: Vec<Vec<u8>>, args: Vec<Vec<u8>>, protocol: Protocol },
    /// A function, with two arguments.
    Function { name: String, body: Function, keys: Vec<Vec<u8>>, args: Vec<Vec<u8>>, protocol: Protocol },
    /// The code of a library, which registers functions.
    Library { body: Function },
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// The reply; of a library what went wrong, as text, or nothing.
    pub reply: Vec<u8>,
    /// The errors in it that the statistics do not have yet.
    pub errors: Vec<String>,
}

/// How far it came.
#[derive(Debug)]
pub enum Progress {
    /// It waits for an answer.
    Asks(Asked),
    Ended(Ended),
}

/// What the prelude gave.
#[derive(Clone, Debug)]
pub struct Prelude {
    pub globals: Table,
    pub run: Function,
    pub run_with: Function,
    pub load_library: Function,
}

type Stackful = Coroutine<Answer, Asked, Ended, DefaultStack>;

/// A script that runs or can go on.
pub struct Session {
    stackful: Option<Stackful>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// One that stands before its beginning.
    pub fn new(stack: DefaultStack, lua: Lua, prelude: Prelude, shared: Rc<Shared>, job: Job) -> Self {
        let stackful = Coroutine::with_stack(stack, move |yielder, _: Answer| {
            let running = !matches!(job, Job::Library { .. });
            let ended = lua.scope(|scope| {
                let line = shared.clone();
                let switch = scope.create_function(move |_, (): ()| {
                    let answer = yielder.suspend(line.take_asked());
                    line.give(answer);
                    Ok(())
                })?;
                shared.begin(&lua, &switch, running)?;
                run(&lua, &prelude, &shared, &job)
            });
            shared.end(&lua);
            ended.unwrap_or_else(|error| broken(&job, &error))
        });
        Self { stackful: Some(stackful) }
    }

    /// Goes on, with the answer to what it asked.
    pub fn resume(&mut self, answer: Answer) -> Progress {
        match self.stackful.as_mut().map(|stackful| stackful.resume(answer)) {
            Some(CoroutineResult::Yield(asked)) => Progress::Asks(asked),
            Some(CoroutineResult::Return(ended)) => Progress::Ended(ended),
            None => Progress::Ended(Ended::default()),
        }
    }

    /// The stack of one that has ended, for the next.
    pub fn into_stack(mut self) -> Option<DefaultStack> {
        let stackful = self.stackful.take().filter(Coroutine::done)?;
        Some(stackful.into_stack())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What is left half way must end by itself: Lua's frames cannot be unwound from outside.
        if let Some(stackful) = &mut self.stackful
            && stackful.started()
        {
            while !stackful.done() {
                stackful.resume(Answer::End("the node is gone"));
            }
        }
    }
}

/// All of it, on its own stack.
fn run(lua: &Lua, prelude: &Prelude, shared: &Shared, job: &Job) -> Result<Ended, Error> {
    let (name, outcome, protocol) = match job {
        Job::Script { name, body, keys, args, protocol } => {
            prelude.globals.raw_set("KEYS", strings(lua, keys)?)?;
            prelude.globals.raw_set("ARGV", strings(lua, args)?)?;
            (name, prelude.run.call::<MultiValue>(body)?, *protocol)
        }
        Job::Function { name, body, keys, args, protocol } => {
            let (keys, args) = (strings(lua, keys)?, strings(lua, args)?);
            (name, prelude.run_with.call::<MultiValue>((body, keys, args))?, *protocol)
        }
        Job::Library { body } => {
            let (fine, problem) = prelude.load_library.call::<(bool, Value)>(body)?;
            let reply = if fine { Vec::new() } else { library_problem(&problem) };
            return Ok(Ended { reply, errors: Vec::new() });
        }
    };
    let mut values = outcome.into_iter();
    let fine = matches!(values.next(), Some(Value::Boolean(true)));
    let value = values.next().unwrap_or(Value::Nil);
    let mut out = Vec::new();
    let form = ReplyForm { client: protocol, script: shared.protocol.get() };
    let errors = if fine {
        write_reply(&mut out, &value, form)
    } else {
        write_failure(&mut out, name, &value, protocol)
    };
    Ok(Ended { reply: out, errors })
}

fn strings(lua: &Lua, strings: &[Vec<u8>]) -> Result<Table, Error> {
    let table = lua.create_table_with_capacity(strings.len(), 0)?;
    for (index, string) in strings.iter().enumerate() {
        table.raw_set(index + 1, lua.create_string(string)?)?;
    }
    Ok(table)
}

/// The error that a script ended with; gives it, unless it is counted already.
fn write_failure(out: &mut Vec<u8>, name: &str, problem: &Value, protocol: Protocol) -> Vec<String> {
    let Value::Table(table) = problem else {
        let message = problem
            .as_string()
            .map_or_else(|| b"execution failure".to_vec(), |text| text.as_bytes().to_vec());
        let message = latin(&message[..message.len().min(100)]);
        let text = format!("ERR Error running script {name}, {message}");
        Reply::new(out, protocol).error(&text);
        return vec![text];
    };
    let field = |name: &str| table.get::<Option<mlua::LuaString>>(name).ok().flatten();
    let mut text =
        field("err").map_or_else(|| "(null)".to_owned(), |err| latin(cut_at_zero(&err.as_bytes())));
    if let (Some(source), Some(line)) = (field("source"), field("line")) {
        let (source, line) = (latin(&source.as_bytes()), latin(&line.as_bytes()));
        text.extend([" script: ", name, ", on ", &source, ":", &line, "."]);
    }
    Reply::new(out, protocol).error(&text);
    let mark = table.get::<Value>("ignore_error_stats_update");
    if mark.is_ok_and(|mark| mark == Value::Boolean(true)) { Vec::new() } else { vec![text] }
}

/// What went wrong in a library's code: the `err` of a table, or a string.
fn library_problem(problem: &Value) -> Vec<u8> {
    match problem {
        Value::Table(table) => match table.get::<Option<mlua::LuaString>>("err") {
            Ok(Some(err)) => err.as_bytes().to_vec(),
            _ => b"(null)".to_vec(),
        },
        Value::String(text) => [b"ERR ", &text.as_bytes()[..]].concat(),
        other => [b"ERR ", other.to_string().unwrap_or_default().as_bytes()].concat(),
    }
}

/// The script could not even be run: memory is short, as a rule.
fn broken(job: &Job, error: &Error) -> Ended {
    let problem = Raised::of(error).to_string();
    match job {
        Job::Library { .. } => Ended { reply: format!("ERR {problem}").into_bytes(), errors: Vec::new() },
        Job::Script { name, protocol, .. } | Job::Function { name, protocol, .. } => {
            let text = format!("ERR Error running script {name}, {problem}");
            let mut reply = Vec::new();
            Reply::new(&mut reply, *protocol).error(&text);
            Ended { reply, errors: vec![text] }
        }
    }
}

/// Bytes as text, a character a byte: what [`Reply::error`] writes as it was.
pub fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// A C string ends at its first zero.
pub fn cut_at_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}
