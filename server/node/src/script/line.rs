//! What a running script and the node say to each other: the script asks, the node answers and it goes on.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlua::{Error, Function, Lua};

use super::raise::Raised;
use super::random::Rand48;
use crate::io::LogLevel;
use crate::resp::{OwnedArgs, Protocol};

/// What a script asks of the node.
#[derive(Debug)]
pub enum Asked {
    /// To run a command.
    Call(Calling),
    /// Whether its user may call this.
    MayCall(OwnedArgs),
    /// To write a line to the log.
    Log(LogLevel, Vec<u8>),
    /// Nothing: it has run for a while.
    Pause,
}

/// A command that a script calls.
#[derive(Debug)]
pub struct Calling {
    pub args: OwnedArgs,
    /// Of the reply (`redis.setresp`).
    pub protocol: Protocol,
    /// Where a write is handed on to (`redis.set_repl`).
    pub handed_on: HandedOn,
}

/// Where writes are handed on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOn {
    pub file: bool,
    pub replicas: bool,
}

impl HandedOn {
    pub const ALL: Self = Self { file: true, replicas: true };
}

/// What the node answers.
#[derive(Debug)]
pub enum Answer {
    /// Go on.
    Go,
    /// The reply of the command.
    Reply(Vec<u8>),
    /// The command was not run. With a code in front if it begins with `-`.
    Refused(Cow<'static, str>),
    /// May it? None: there is no such command.
    Allowed(Option<bool>),
    /// The script is to end with this error.
    End(&'static str),
}

/// The one generator of `math.random` in all scripts of a node.
pub type ScriptRandom = Rc<RefCell<Rand48>>;

/// What the functions of the server and the script that calls them have in common.
#[derive(Debug)]
pub struct Shared {
    asked: RefCell<Option<Asked>>,
    answer: RefCell<Option<Answer>>,
    /// Why the script is to end, once it is.
    ending: Cell<Option<&'static str>>,
    /// A script or function is running.
    pub running: Cell<bool>,
    pub protocol: Cell<Protocol>,
    pub handed_on: Cell<HandedOn>,
    pub random: ScriptRandom,
}

impl Shared {
    /// Of an interpreter; all of a node have one generator.
    pub fn new(random: ScriptRandom) -> Self {
        Self {
            asked: RefCell::new(None),
            answer: RefCell::new(None),
            ending: Cell::new(None),
            running: Cell::new(false),
            protocol: Cell::new(Protocol::Resp2),
            handed_on: Cell::new(HandedOn::ALL),
            random,
        }
    }
}

/// Where the function is kept that gives the floor to the node.
const SWITCH: &str = "slotstorm.switch";

impl Shared {
    /// A script begins.
    pub fn begin(&self, lua: &Lua, switch: &Function, running: bool) -> Result<(), Error> {
        self.ending.set(None);
        self.running.set(running);
        self.protocol.set(Protocol::Resp2);
        self.handed_on.set(HandedOn::ALL);
        lua.set_named_registry_value(SWITCH, switch)
    }

    /// It has ended.
    pub fn end(&self, lua: &Lua) {
        self.running.set(false);
        self.ending.set(None);
        self.asked.take();
        self.answer.take();
        // Only memory could lack for that, and then the next script replaces it.
        let _ = lua.unset_named_registry_value(SWITCH);
    }

    /// Why the script is to end, if it is.
    pub fn ending(&self) -> Option<&'static str> {
        self.ending.get()
    }

    /// Asks the node, and waits for its answer.
    pub fn ask(&self, lua: &Lua, asked: Asked) -> Result<Answer, Error> {
        if let Some(why) = self.ending.get() {
            return Err(Raised::Killed(why).error());
        }
        *self.asked.borrow_mut() = Some(asked);
        lua.named_registry_value::<Function>(SWITCH)?.call::<()>(())?;
        match self.answer.take() {
            Some(Answer::End(why)) => {
                self.ending.set(Some(why));
                Err(Raised::Killed(why).error())
            }
            Some(answer) => Ok(answer),
            None => Ok(Answer::Go),
        }
    }

    /// What was asked.
    pub fn take_asked(&self) -> Asked {
        self.asked.take().unwrap_or(Asked::Pause)
    }

    /// This is the answer.
    pub fn give(&self, answer: Answer) {
        *self.answer.borrow_mut() = Some(answer);
    }
}
