//! Libraries of functions: what is loaded, by name, and how they come and go together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::flags::ScriptFlags;
use super::register::{BAD_NAME, LibraryFunction, Registering, is_name};
use super::session::latin;
use crate::words;

/// A library.
#[derive(Clone, Debug)]
pub struct Library {
    /// All of it, as it was loaded: its first line names it.
    pub code: Arc<[u8]>,
    /// Its functions by name.
    pub functions: Registering,
}

/// What the first line of a library says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub name: Vec<u8>,
    /// Where the code begins: at the end of that line, which stays, so that lines keep their numbers.
    pub code_at: usize,
}

impl Metadata {
    /// Reads the first line.
    ///
    /// # Errors
    /// It is not as it should be, in Redis' words.
    pub fn of(code: &[u8]) -> Result<Self, String> {
        if !code.starts_with(b"#!") {
            return Err("Missing library metadata".to_owned());
        }
        let code_at = code.iter().position(|&byte| byte == b'\n').ok_or("Invalid library metadata")?;
        let words = words::split(&code[..code_at]).ok_or("Invalid library metadata")?;
        let (engine, options) = words.split_first().ok_or("Invalid library metadata")?;
        let engine = engine.get(2..).unwrap_or_default();
        let mut name = None;
        for word in options {
            match word.split_at_checked(5) {
                Some((key, value)) if key.eq_ignore_ascii_case(b"name=") => {
                    if name.replace(value.to_vec()).is_some() {
                        return Err(
                            "Invalid metadata value, name argument was given multiple times".to_owned()
                        );
                    }
                }
                _ => return Err(format!("Invalid metadata value given: {}", latin(word))),
            }
        }
        let name = name.ok_or("Library name was not given")?;
        if !is_name(&name) {
            return Err(BAD_NAME.to_owned());
        }
        if !engine.eq_ignore_ascii_case(b"lua") {
            return Err(format!("Engine '{}' not found", latin(engine)));
        }
        Ok(Self { name, code_at })
    }
}

/// All libraries of a node.
#[derive(Clone, Debug, Default)]
pub struct Libraries {
    by_name: BTreeMap<Vec<u8>, Library>,
    /// Functions by their names in small letters: library and name.
    functions: BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
}

/// A function with what is known of it.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub function: LibraryFunction,
}

impl Libraries {
    /// All libraries, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &Library)> {
        self.by_name.iter().map(|(name, library)| (&name[..], library))
    }

    /// How many libraries.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// True without libraries.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many functions.
    pub fn function_count(&self) -> usize {
        self.functions.len()
    }

    /// True if there is a library of this name.
    pub fn has(&self, name: &[u8]) -> bool {
        self.by_name.contains_key(name)
    }

    /// The function of this name, whatever the case.
    pub fn find(&self, name: &[u8]) -> Option<Found> {
        let (library, name) = self.functions.get(&name.to_ascii_lowercase())?;
        let function = self.by_name.get(library)?.functions.get(name)?;
        Some(Found { name: latin(name), function: function.clone() })
    }

    /// The flags of a function.
    pub fn flags(&self, name: &[u8]) -> Option<ScriptFlags> {
        let (library, name) = self.functions.get(&name.to_ascii_lowercase())?;
        Some(self.by_name.get(library)?.functions.get(name)?.flags)
    }

    /// Adds a library, or puts it in the place of its namesake.
    ///
    /// # Errors
    /// It has no functions, or one that another library has.
    pub fn put(&mut self, name: Vec<u8>, library: Library) -> Result<(), String> {
        if library.functions.is_empty() {
            return Err("No functions registered".to_owned());
        }
        for function in library.functions.keys() {
            self.check_free(function, |owner| owner == name)?;
        }
        self.remove(&name);
        for function in library.functions.keys() {
            self.functions.insert(function.to_ascii_lowercase(), (name.clone(), function.clone()));
        }
        self.by_name.insert(name, library);
        Ok(())
    }

    fn check_free(&self, function: &[u8], may_be_of: impl Fn(&[u8]) -> bool) -> Result<(), String> {
        match self.functions.get(&function.to_ascii_lowercase()) {
            Some((owner, _)) if !may_be_of(owner) => {
                Err(format!("Function {} already exists", latin(function)))
            }
            _ => Ok(()),
        }
    }

    /// Removes a library; false if there is none of this name.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let Some(library) = self.by_name.remove(name) else { return false };
        for function in library.functions.keys() {
            self.functions.remove(&function.to_ascii_lowercase());
        }
        true
    }

    /// Takes all of other libraries, or none.
    ///
    /// # Errors
    /// A library of the same name is there and may not be replaced, or a function is another library's.
    pub fn join(&mut self, others: Self, replace: bool) -> Result<(), String> {
        if let Some(name) = others.by_name.keys().find(|name| !replace && self.has(name)) {
            return Err(format!("Library {} already exists", latin(name)));
        }
        for (_, function) in others.functions.values() {
            self.check_free(function, |owner| others.has(owner))?;
        }
        for name in others.by_name.keys() {
            self.remove(name);
        }
        self.by_name.extend(others.by_name);
        self.functions.extend(others.functions);
        Ok(())
    }

    /// The code of all libraries, for files and other servers.
    pub fn code(&self) -> Arc<[Arc<[u8]>]> {
        self.by_name.values().map(|library| library.code.clone()).collect()
    }

    /// Bytes of their code and names.
    pub fn used_memory(&self) -> usize {
        let of =
            |(name, library): (&Vec<u8>, &Library)| name.len() + library.code.len() + size_of::<Library>();
        self.by_name.iter().map(of).sum::<usize>() + self.functions.len() * size_of::<LibraryFunction>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_engine_and_library() {
        let metadata = Metadata::of(b"#!lua name=mine\nreturn");
        assert_eq!(metadata, Ok(Metadata { name: b"mine".to_vec(), code_at: 15 }));
        for (code, problem) in [
            (&b"redis.log()"[..], "Missing library metadata"),
            (b"#!lua name=a", "Invalid library metadata"),
            (b"#!lua\n", "Library name was not given"),
            (b"#!lua name=a name=b\n", "Invalid metadata value, name argument was given multiple times"),
            (b"#!lua flags=a\n", "Invalid metadata value given: flags=a"),
            (b"#!lua name=a-b\n", BAD_NAME),
            (b"#!perl name=a\n", "Engine 'perl' not found"),
        ] {
            assert_eq!(Metadata::of(code), Err(problem.to_owned()));
        }
    }
}
