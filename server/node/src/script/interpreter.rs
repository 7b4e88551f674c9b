//! One Lua interpreter: the sandbox, the libraries and the server's own functions in it. A node has one for scripts
//! and one for functions, made when they are first needed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use mlua::{
    Error, Function, HookTriggers, Lua, LuaOptions, MultiValue, Result, StdLib, Table, Value, VmState,
};

use super::line::{Asked, ScriptRandom, Shared};
use super::raise::Raised;
use super::register::{Registering, register_function};
use super::session::{Job, Prelude, STACK_BYTES, Session};
use super::{api, bits, convert, json, msgpack, structs};

const PRELUDE: &str = include_str!("prelude.lua");
/// The name of its chunk: what is raised there was raised by nobody.
const PRELUDE_NAME: &str = "=(sandbox)";
/// A script gives the floor to the node so often.
const INSTRUCTIONS_AT_ONCE: u32 = 10_000;
/// Between scripts some garbage is collected, after so many of them.
const RUNS_PER_STEP: u64 = 50;
/// What all values of an interpreter may take together.
const MEMORY_LIMIT_BYTES: usize = 1 << 30;

/// Globals of Lua that scripts have; all others are taken away.
const ALLOWED: [&str; 26] = [
    "string",
    "math",
    "table",
    "xpcall",
    "tostring",
    "setmetatable",
    "next",
    "assert",
    "tonumber",
    "rawequal",
    "collectgarbage",
    "getmetatable",
    "rawset",
    "pcall",
    "coroutine",
    "type",
    "select",
    "unpack",
    "gcinfo",
    "pairs",
    "rawget",
    "loadstring",
    "ipairs",
    "_VERSION",
    "load",
    "error",
];

/// What an interpreter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// EVAL and its like.
    Scripts,
    /// FCALL and FUNCTION.
    Functions,
}

/// The interpreter.
#[derive(Debug)]
pub struct Interpreter {
    lua: Lua,
    prelude: Prelude,
    shared: Rc<Shared>,
    registering: Rc<RefCell<Registering>>,
    /// Of the last session.
    stack: Option<Stack>,
    /// How many sessions have ended.
    runs: u64,
}

struct Stack(DefaultStack);

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

impl Interpreter {
    /// A fresh one.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(kind: Kind, random: ScriptRandom) -> std::result::Result<Self, String> {
        Self::make(kind, random).map_err(|error| Raised::of(&error).to_string())
    }

    fn make(kind: Kind, random: ScriptRandom) -> Result<Self> {
        let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::new())?;
        lua.set_memory_limit(MEMORY_LIMIT_BYTES)?;
        let shared = Rc::new(Shared::new(random));
        let registering = Rc::new(RefCell::new(Registering::default()));
        let globals = lua.globals();
        // A library of its own, so that nothing else can be reached through the environment of the sandbox' functions.
        let environment = lua.create_table()?;
        for pair in globals.pairs::<Value, Value>() {
            let (name, value) = pair?;
            environment.raw_set(name, value)?;
        }
        let given = lua.create_table()?;
        given.raw_set("globals", &globals)?;
        given.raw_set("environment", &environment)?;
        given.raw_set("kind", if kind == Kind::Scripts { "scripts" } else { "functions" })?;
        let line = shared.clone();
        given.raw_set("reveal", lua.create_function(move |lua, problem| reveal(lua, &line, problem))?)?;
        given.raw_set("unveil", lua.create_function(unveil)?)?;
        given.raw_set("place", lua.create_function(|lua, (): ()| Ok(place(lua)))?)?;
        let allowed = lua.create_table()?;
        for name in ALLOWED {
            allowed.raw_set(name, true)?;
        }
        given.raw_set("allowed", allowed)?;
        given.raw_set("libraries", libraries_of(&lua, &shared, kind)?)?;
        if kind == Kind::Functions {
            let loading = lua.create_table()?;
            let (registry, line) = (registering.clone(), shared.clone());
            let register = lua.create_function(move |lua, args: MultiValue| {
                register_function(lua, &registry, &line, &args)
            })?;
            loading.raw_set("register_function", register)?;
            api::add_common(&lua, &shared, &loading)?;
            given.raw_set("loading", loading)?;
        }
        api::replace_random(&lua, &shared, &globals.raw_get("math")?)?;
        let made: Table =
            lua.load(PRELUDE).set_name(PRELUDE_NAME).set_environment(environment).call(given)?;
        let prelude = Prelude {
            globals: made.raw_get("globals")?,
            run: made.raw_get("run")?,
            run_with: made.raw_get("run_with")?,
            load_library: made.raw_get("load_library")?,
        };
        lua.set_globals(made.raw_get("outer")?)?;
        let line = shared.clone();
        lua.set_global_hook(
            HookTriggers::new().every_nth_instruction(INSTRUCTIONS_AT_ONCE),
            move |lua, _| line.ask(lua, Asked::Pause).map(|_| VmState::Continue),
        )?;
        // What was only needed to make it.
        lua.gc_collect()?;
        Ok(Self { lua, prelude, shared, registering, stack: None, runs: 0 })
    }

    /// Compiles code from text. The error is Lua's.
    ///
    /// # Errors
    /// It is no Lua.
    pub fn compile(&self, code: &[u8], name: &str) -> std::result::Result<Function, String> {
        // Compiled code is not taken; with a space before it the mark of it is an ordinary (bad) character.
        let code = if code.first() == Some(&27) { [b" ", code].concat() } else { code.to_vec() };
        self.lua.load(code).set_name(name).into_function().map_err(|error| match error {
            Error::SyntaxError { message, .. } => message,
            other => Raised::of(&other).to_string(),
        })
    }

    /// A session of this job, before its beginning.
    ///
    /// # Errors
    /// There is no memory for its stack.
    pub fn session(&mut self, job: Job) -> std::result::Result<Session, String> {
        let stack = match self.stack.take() {
            Some(Stack(stack)) => stack,
            None => DefaultStack::new(STACK_BYTES).map_err(|error| error.to_string())?,
        };
        Ok(Session::new(stack, self.lua.clone(), self.prelude.clone(), self.shared.clone(), job))
    }

    /// A session has ended.
    pub fn recover(&mut self, session: Session) {
        self.stack = session.into_stack().map(Stack);
        self.runs += 1;
        if self.runs.is_multiple_of(RUNS_PER_STEP) {
            // A failure is one of memory, and then the next script fails.
            let _ = self.lua.gc_step();
        }
        if self.lua.used_memory() > MEMORY_LIMIT_BYTES / 4 {
            // Lua collects nothing when memory is short: it fails.
            let _ = self.lua.gc_collect();
        }
    }

    /// What functions a library has registered since the last call.
    pub fn take_registered(&mut self) -> Registering {
        self.registering.take()
    }

    /// Bytes of all its values.
    pub fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }
}

/// The tables of libraries that scripts have besides Lua's.
fn libraries_of(lua: &Lua, shared: &Rc<Shared>, kind: Kind) -> Result<Table> {
    let libraries = lua.create_table()?;
    libraries.raw_set("cjson", json::library(lua)?)?;
    libraries.raw_set("cmsgpack", msgpack::library(lua)?)?;
    libraries.raw_set("struct", structs::library(lua)?)?;
    libraries.raw_set("bit", bits::library(lua)?)?;
    libraries.raw_set("redis", api::running_table(lua, shared, kind == Kind::Scripts)?)?;
    Ok(libraries)
}

/// An error as scripts see it. One that ends the script is raised again: nothing may go on.
fn reveal(lua: &Lua, shared: &Shared, problem: Value) -> Result<Value> {
    if let Some(why) = shared.ending() {
        return Err(Raised::Killed(why).error());
    }
    unveil(lua, problem)
}

/// The same, whatever it is.
fn unveil(lua: &Lua, problem: Value) -> Result<Value> {
    let Value::Error(error) = &problem else { return Ok(problem) };
    Ok(match Raised::of(error) {
        Raised::Text(text) => Value::String(lua.create_string(text)?),
        Raised::Table { err, counted } => Value::Table(convert::error_table(lua, &err, counted)?),
        Raised::Killed(why) => {
            Value::Table(convert::error_table(lua, format!("ERR {why}").as_bytes(), false)?)
        }
    })
}

/// Source and line of what raised the error that a handler was called with; of its caller, if it is none of Lua's.
fn place(lua: &Lua) -> (Option<String>, Option<i64>) {
    let at = |level: usize| {
        lua.inspect_stack(level, |debug| {
            let source = debug.source();
            let name = source.source.map(Cow::into_owned).unwrap_or_default();
            (source.what == "C", name, debug.current_line().map_or(-1, |line| line as i64))
        })
    };
    // Below are this function and the handler.
    let found = at(2).and_then(|place| if place.0 { at(3) } else { Some(place) });
    // What the sandbox itself raises, it raises for its caller, one or two functions up.
    let found =
        found.and_then(|place| if place.1 == PRELUDE_NAME { at(4).filter(|it| !it.0) } else { Some(place) });
    let found =
        found.and_then(|place| if place.1 == PRELUDE_NAME { at(5).filter(|it| !it.0) } else { Some(place) });
    match found {
        Some((_, name, line)) if name != PRELUDE_NAME => (Some(name), Some(line)),
        _ => (None, None),
    }
}
