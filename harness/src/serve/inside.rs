//! What may be read: files and folders below one root, whatever a path says and wherever links point.

use std::io;
use std::path::{Component, Path, PathBuf};

/// The root.
#[derive(Clone, Debug)]
pub struct Inside(PathBuf);

impl Inside {
    /// Below this folder.
    pub fn new(root: &Path) -> io::Result<Self> {
        std::fs::canonicalize(root).map(Self)
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The real path of what a request names; `None`: there is no such thing below the root.
    pub fn find(&self, asked: &str) -> Option<PathBuf> {
        let asked = Path::new(asked);
        let plain = asked.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || asked.to_string_lossy().contains('\0') {
            return None;
        }
        // Links are followed first, so that one that leads out is seen to.
        let real = std::fs::canonicalize(self.0.join(asked)).ok()?;
        real.starts_with(&self.0).then_some(real)
    }

    /// As a request would name it.
    pub fn name(&self, path: &Path) -> String {
        path.strip_prefix(&self.0).unwrap_or(path).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_found_by_dots_or_links() {
        let whole = tempfile::tempdir().unwrap();
        let root = whole.path().join("results");
        std::fs::create_dir_all(root.join("runs/one")).unwrap();
        std::fs::write(whole.path().join("secret"), "x").unwrap();
        std::fs::write(root.join("runs/one/run.json"), "{}").unwrap();
        std::os::unix::fs::symlink("runs/one", root.join("latest")).unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("runs/etc")).unwrap();
        let inside = Inside::new(&root).unwrap();
        assert!(inside.find("latest/run.json").is_some());
        assert_eq!(inside.name(&inside.find("latest").unwrap()), "runs/one");
        for asked in [
            "../secret",
            "runs/../../secret",
            "/etc/passwd",
            "out",
            "runs/etc/passwd",
            "none",
            "a\0b",
            "./runs/..",
        ] {
            assert_eq!(inside.find(asked), None, "{asked:?}");
        }
    }
}
