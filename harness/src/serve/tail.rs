//! Follows a growing file of lines.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Read at a time: a storm that is far ahead is caught up with in pieces.
const PIECE: u64 = 4 << 20;

/// Where one is.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    at: u64,
    /// The line that is not whole yet.
    begun: Vec<u8>,
}

impl Tail {
    /// From the file's beginning.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), at: 0, begun: Vec::new() }
    }

    /// From its end, at the next whole line: what was before is not wanted.
    pub fn at_end(path: &Path, back: u64) -> Self {
        let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
        let mut tail = Self { path: path.to_owned(), at: length.saturating_sub(back), begun: Vec::new() };
        if tail.at > 0 {
            let _ = tail.lines(|_| {});
        }
        tail
    }

    /// Gives each line that is whole and was not given yet; answers whether there is more already.
    pub fn lines(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.at += file.take(PIECE).read_to_end(&mut bytes)? as u64;
        let more = bytes.len() as u64 == PIECE;
        let mut rest = bytes.as_slice();
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            if self.begun.is_empty() {
                take(&rest[..end]);
            } else {
                self.begun.extend_from_slice(&rest[..end]);
                take(&self.begun);
                self.begun.clear();
            }
            rest = &rest[end + 1..];
        }
        self.begun.extend_from_slice(rest);
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_given_once_and_only_when_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut file = File::create(&path).unwrap();
        let mut tail = Tail::new(&path);
        let mut read = |file: &mut File, text: &str| -> Vec<String> {
            file.write_all(text.as_bytes()).unwrap();
            let mut lines = Vec::new();
            tail.lines(|line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
            lines
        };
        assert_eq!(read(&mut file, "one\ntw"), ["one"]);
        assert_eq!(read(&mut file, ""), [""; 0]);
        assert_eq!(read(&mut file, "o\nthree\n"), ["two", "three"]);
        assert!(Tail::new(&dir.path().join("none")).lines(|_| {}).is_err());
    }
}
