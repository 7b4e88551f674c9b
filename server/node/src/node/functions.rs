//! `FUNCTION`: libraries come from clients, files and masters, and go to them.

use super::client::Client;
use super::files::LibraryItem;
use super::{Node, text};
use crate::command::{Fault, is, shown, write_help};
use crate::config::glob_matches;
use crate::io::LogLevel;
use crate::rdb::dump::{DumpError, check_trailer, encode_libraries, libraries_of};
use crate::resp::Args;
use crate::script::{Answer, Asked, Job, Kind, Libraries, Library, Metadata, Progress};

const HELP: &[&str] = &[
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Create a new library with the given library name and code.",
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries:",
    "    * Library name",
    "    * The engine used to run the Library",
    "    * Library description",
    "    * Functions list",
    "    * Library code (if WITHCODE is given)",
    "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
    "STATS",
    "    Return information about the current function running:",
    "    * Function name",
    "    * Command used to run the function",
    "    * Duration in MS that the function is running",
    "    If no function is running, return nil",
    "    In addition, returns a list of available engines.",
    "KILL",
    "    Kill the current running function.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the libraries.",
    "    * SYNC: Synchronously flush the libraries.",
    "DUMP",
    "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
    "    control how to handle existing libraries (default APPEND):",
    "    * FLUSH: delete all existing libraries.",
    "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
    "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
    "      libraries with the new libraries (notice that even on this option there is a chance of failure",
    "      in case of functions name collision with another library).",
];

/// Redis gives the code of a library 500 ms; this many times 10,000 instructions take about as long.
const LOAD_PAUSES: u32 = 4000;

impl Node {
    /// `FUNCTION`
    pub(super) fn function_command(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        match &args[1].to_ascii_lowercase()[..] {
            b"help" if args.len() == 2 => write_help(&mut self.reply(client), "FUNCTION", HELP),
            b"dump" if args.len() == 2 => {
                let payload = encode_libraries(&self.db.libraries);
                self.reply(client).bulk(&payload);
            }
            b"list" => self.function_list(client, args)?,
            b"kill" if args.len() == 2 => {
                self.kill_script(Kind::Functions)?;
                self.reply(client).ok();
            }
            b"stats" if args.len() == 2 => self.function_stats(client)?,
            b"load" => {
                let name = self.change_functions(args)?;
                self.reply(client).bulk(&name);
            }
            b"flush" | b"restore" | b"delete" => {
                self.change_functions(args)?;
                self.reply(client).ok();
            }
            _ => return Err(Fault::misused(&args[1], "FUNCTION")),
        }
        Ok(())
    }

    /// The sub-commands that change libraries: they are handed on as they are. Gives the name of what was loaded.
    fn change_functions(&mut self, args: Args<'_>) -> Result<Vec<u8>, Fault> {
        let name = self.apply_function(args)?;
        self.db.dirty += 1;
        let all: Vec<&[u8]> = args.iter().collect();
        self.db.propagated.push(all.into_iter());
        Ok(name)
    }

    /// The same, not handed on: a master or a file says so too.
    pub(super) fn apply_function(&mut self, args: Args<'_>) -> Result<Vec<u8>, Fault> {
        let mut name = Vec::new();
        match &args[1].to_ascii_lowercase()[..] {
            b"load" => name = self.function_load(args)?,
            b"delete" if args.len() == 3 => {
                if !self.scripts.libraries.remove(&args[2]) {
                    return Err(text("ERR Library not found"));
                }
            }
            b"flush" if args.len() > 3 => return Err(Fault::misused(&args[1], "FUNCTION")),
            b"flush" => {
                if !args.get(2).is_none_or(|how| is(how, "SYNC") || is(how, "ASYNC")) {
                    return Err(text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
                }
                self.scripts.libraries = Libraries::default();
            }
            b"restore" if args.len() <= 4 => self.function_restore(args)?,
            _ => return Err(Fault::misused(&args[1], "FUNCTION")),
        }
        self.functions_changed();
        Ok(name)
    }

    fn functions_changed(&mut self) {
        self.db.libraries = self.scripts.libraries.code();
        self.replication.set_libraries(self.db.libraries.clone());
        if self.scripts.libraries.is_empty() {
            // Nothing refers to its values any more.
            self.scripts.functions = None;
        }
    }

    /// Libraries of a file or a full resync take the place of all that were there.
    pub(super) fn take_libraries(&mut self, code: &[Vec<u8>]) -> Result<(), String> {
        let mut libraries = Libraries::default();
        for code in code {
            self.load_into(&mut libraries, code, false)?;
        }
        self.scripts.libraries = libraries;
        self.functions_changed();
        Ok(())
    }

    /// As [`Self::take_libraries`]; code that cannot be loaded is told of in the log.
    pub(super) fn take_libraries_or_complain(&mut self, code: &[Vec<u8>]) {
        if let Err(error) = self.take_libraries(code) {
            self.log(LogLevel::Warning, format!("Failed creating the library: {error}"));
        }
    }

    /// What a file says of libraries, in its order. Commands that failed when they were executed fail again.
    pub(super) fn load_libraries(&mut self, items: Vec<LibraryItem>, replace: bool) -> Result<(), String> {
        for item in items {
            match item {
                LibraryItem::Code(code) => {
                    let mut libraries = std::mem::take(&mut self.scripts.libraries);
                    let loaded = self.load_into(&mut libraries, &code, replace);
                    self.scripts.libraries = libraries;
                    self.functions_changed();
                    loaded?;
                }
                LibraryItem::Command(args) => {
                    let _ = self.apply_function(args.view());
                }
            }
        }
        Ok(())
    }

    fn function_load(&mut self, args: Args<'_>) -> Result<Vec<u8>, Fault> {
        let last = args.len() - 1;
        let options = args.iter().take(last).skip(2);
        let mut replace = false;
        for option in options {
            if !is(option, "REPLACE") {
                return Err(Fault::new(format!("ERR Unknown option given: {}", shown(option, 128))));
            }
            replace = true;
        }
        if last < 2 {
            return Err(text("ERR Function code is missing"));
        }
        let mut libraries = std::mem::take(&mut self.scripts.libraries);
        let loaded = self.load_into(&mut libraries, &args[last], replace);
        self.scripts.libraries = libraries;
        loaded.map_err(|error| Fault::new(format!("ERR {error}")))
    }

    /// Runs the code of a library, and adds it to these.
    fn load_into(
        &mut self,
        libraries: &mut Libraries,
        code: &[u8],
        replace: bool,
    ) -> Result<Vec<u8>, String> {
        let Metadata { name, code_at } = Metadata::of(code)?;
        if libraries.has(&name) && !replace {
            return Err(format!("Library '{}' already exists", shown(&name, usize::MAX)));
        }
        let interpreter = self.scripts.interpreter(Kind::Functions).map_err(|fault| fault.0.into_owned())?;
        let body = interpreter
            .compile(&code[code_at..], "@user_function")
            .map_err(|error| format!("Error compiling function: {error}"))?;
        let mut session = interpreter.session(Job::Library { body })?;
        let mut answer = Answer::Go;
        let mut pauses = 0;
        let mut lines = Vec::new();
        let ended = loop {
            let asked = match session.resume(answer) {
                Progress::Ended(ended) => break ended,
                Progress::Asks(asked) => asked,
            };
            if let Asked::Log(level, line) = asked {
                lines.push((level, line));
            }
            pauses += 1;
            answer = if pauses > LOAD_PAUSES { Answer::End("FUNCTION LOAD timeout") } else { Answer::Go };
        };
        interpreter.recover(session);
        let functions = interpreter.take_registered();
        for (level, line) in lines {
            self.log(level, String::from_utf8_lossy(&line).into_owned());
        }
        if !ended.reply.is_empty() {
            return Err(format!("Error registering functions: {}", shown(&ended.reply, usize::MAX)));
        }
        libraries.put(name.clone(), Library { code: code.into(), functions })?;
        Ok(name)
    }

    fn function_restore(&mut self, args: Args<'_>) -> Result<(), Fault> {
        let policy = args.get(3).unwrap_or(b"APPEND");
        if !["FLUSH", "APPEND", "REPLACE"].iter().any(|known| is(policy, known)) {
            return Err(text(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
        let body = check_trailer(&args[2]).map_err(|error: DumpError| Fault::new(format!("ERR {error}")))?;
        let problem = |error: String| Fault::new(format!("ERR {error}"));
        let mut restored = Libraries::default();
        for code in libraries_of(body) {
            let code = code.map_err(|error| problem(error.to_owned()))?;
            self.load_into(&mut restored, &code, false).map_err(problem)?;
        }
        if is(policy, "FLUSH") {
            self.scripts.libraries = restored;
            return Ok(());
        }
        self.scripts.libraries.join(restored, is(policy, "REPLACE")).map_err(problem)
    }

    fn function_list(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let (mut with_code, mut pattern, mut at) = (false, None, 2);
        while let Some(option) = args.get(at) {
            at += 1;
            match () {
                () if !with_code && is(option, "WITHCODE") => with_code = true,
                () if pattern.is_none() && is(option, "LIBRARYNAME") => {
                    let given = args.get(at).ok_or(text("ERR library name argument was not given"))?;
                    pattern = Some(given);
                    at += 1;
                }
                () => {
                    return Err(Fault::new(format!("ERR Unknown argument {}", shown(option, usize::MAX))));
                }
            }
        }
        let mut reply = crate::resp::Reply::new(&mut self.scratch, client.protocol);
        let fits = |name: &[u8]| pattern.is_none_or(|pattern| glob_matches(pattern, name, true));
        let shown = || self.scripts.libraries.iter().filter(|(name, _)| fits(name));
        reply.array(shown().count());
        for (name, library) in shown() {
            reply.map(if with_code { 4 } else { 3 });
            reply.bulk(b"library_name");
            reply.bulk(name);
            reply.bulk(b"engine");
            reply.bulk(b"LUA");
            reply.bulk(b"functions");
            reply.array(library.functions.len());
            for (name, function) in &library.functions {
                reply.map(3);
                reply.bulk(b"name");
                reply.bulk(name);
                reply.bulk(b"description");
                reply.optional(function.description.as_deref());
                reply.bulk(b"flags");
                let flags = function.flags.names();
                reply.set(flags.len());
                for flag in flags {
                    reply.simple(flag);
                }
            }
            if with_code {
                reply.bulk(b"library_code");
                reply.bulk(&library.code);
            }
        }
        Ok(())
    }

    fn function_stats(&mut self, client: &Client) -> Result<(), Fault> {
        let now = self.now;
        let mut reply = crate::resp::Reply::new(&mut self.scratch, client.protocol);
        let running = self.scripts.running.as_ref();
        if let Some(running) = running.filter(|running| running.kind == Kind::Scripts) {
            return Err(running.busy());
        }
        reply.map(2);
        reply.bulk(b"running_script");
        match running.and_then(|running| Some((running, running.args()?))) {
            None => reply.null(),
            Some((running, args)) => {
                reply.map(3);
                reply.bulk(b"name");
                reply.bulk(running.name.as_bytes());
                reply.bulk(b"command");
                reply.array(args.len());
                for arg in args.iter() {
                    reply.bulk(arg);
                }
                reply.bulk(b"duration_ms");
                reply.int(running.duration_ms(now) as i64);
            }
        }
        reply.bulk(b"engines");
        reply.map(1);
        reply.bulk(b"LUA");
        reply.map(2);
        reply.bulk(b"libraries_count");
        reply.int(self.scripts.libraries.len() as i64);
        reply.bulk(b"functions_count");
        reply.int(self.scripts.libraries.function_count() as i64);
        Ok(())
    }
}
