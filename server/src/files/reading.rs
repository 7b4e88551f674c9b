//! Reading a file in pieces, so that serving goes on between them.
#![allow(clippy::disallowed_types)] // this is where the data directory is touched

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Bytes of one piece.
pub const READ_CHUNK_BYTES: usize = 256 * 1024;

/// A file being read.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    total_bytes: u64,
}

impl FileReader {
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let total_bytes = file.metadata()?.len();
                Ok(Some(Self { file, total_bytes }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file's length when it was opened.
    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The next piece; shorter than [`READ_CHUNK_BYTES`] only at the file's end.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn next_chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = Vec::with_capacity(READ_CHUNK_BYTES);
        self.file.by_ref().take(READ_CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        Ok(chunk)
    }
}
