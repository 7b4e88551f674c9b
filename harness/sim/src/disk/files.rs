//! A file system as a crash sees it: what is in the page cache, what is on the platter, and which names the
//! directory on the platter has.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The files of one data directory.
#[derive(Debug, Default)]
pub(super) struct Files {
    inodes: Vec<Inode>,
    /// What a process sees.
    live: BTreeMap<String, usize>,
    /// What is there after a loss of power.
    durable: BTreeMap<String, usize>,
    /// The directory after each of its changes since it was synced: they reach the platter in their order, as a journal's
    /// (ext4, XFS), and any number of them may be missing.
    journal: Vec<BTreeMap<String, usize>>,
}

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    /// So many of them are on the platter.
    synced: usize,
}

impl Files {
    pub fn read(&self, name: &str) -> Option<&[u8]> {
        self.live.get(name).map(|&inode| self.inodes[inode].bytes.as_slice())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.live.keys().map(String::as_str)
    }

    /// A new inode, which has no name yet.
    pub fn temporary(&mut self, bytes: Vec<u8>) -> usize {
        self.inodes.push(Inode { bytes, synced: 0 });
        self.inodes.len() - 1
    }

    pub fn sync_inode(&mut self, inode: usize) {
        let inode = &mut self.inodes[inode];
        inode.synced = inode.bytes.len();
    }

    /// Gives an inode a name, in place of what had it.
    pub fn name(&mut self, inode: usize, name: &str) {
        self.live.insert(name.to_owned(), inode);
        self.journal.push(self.live.clone());
    }

    /// Appends; a file that is not there is made, and its name is durable at once, since the store syncs the directory.
    pub fn append(&mut self, name: &str, bytes: &[u8]) {
        let inode = if let Some(&inode) = self.live.get(name) {
            inode
        } else {
            let inode = self.temporary(Vec::new());
            self.name(inode, name);
            self.sync_dir();
            inode
        };
        self.inodes[inode].bytes.extend_from_slice(bytes);
    }

    pub fn sync(&mut self, name: &str) {
        if let Some(&inode) = self.live.get(name) {
            self.sync_inode(inode);
        }
    }

    pub fn truncate(&mut self, name: &str, len: usize) {
        if let Some(&inode) = self.live.get(name) {
            let inode = &mut self.inodes[inode];
            inode.bytes.truncate(len);
            inode.synced = inode.synced.min(len);
        }
    }

    pub fn remove(&mut self, name: &str) {
        if self.live.remove(name).is_some() {
            self.journal.push(self.live.clone());
        }
    }

    /// False if there is no such file.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(inode) = self.live.remove(from) else { return false };
        self.live.insert(to.to_owned(), inode);
        self.journal.push(self.live.clone());
        true
    }

    pub fn sync_dir(&mut self) {
        self.durable.clone_from(&self.live);
        self.journal.clear();
    }

    /// Puts a file there from outside, durable.
    pub fn put(&mut self, name: &str, bytes: Vec<u8>) {
        let inode = self.temporary(bytes);
        self.sync_inode(inode);
        self.name(inode, name);
        self.sync_dir();
    }

    /// All files go.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }

    /// What was not synced is lost: of the directory's changes any number of the last, of each file any part of its end.
    pub fn lose_power(&mut self, rng: &mut ChaCha8Rng) {
        let changes = rng.random_range(0..=self.journal.len());
        let left = match changes.checked_sub(1) {
            Some(last) => std::mem::take(&mut self.journal[last]),
            None => std::mem::take(&mut self.durable),
        };
        self.journal.clear();
        for &inode in left.values() {
            let inode = &mut self.inodes[inode];
            let unsynced = inode.bytes.len() - inode.synced;
            let torn = if unsynced == 0 { 0 } else { rng.random_range(0..=unsynced) };
            inode.bytes.truncate(inode.synced + torn);
            inode.synced = inode.bytes.len();
        }
        self.live.clone_from(&left);
        self.durable = left;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// What is left of a file after a crash, over many crashes.
    fn outcomes(build: impl Fn(&mut Files)) -> BTreeSet<Option<String>> {
        let outcome = |seed| {
            let mut files = Files::default();
            build(&mut files);
            files.lose_power(&mut ChaCha8Rng::seed_from_u64(seed));
            files.read("f").map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        (0..200).map(outcome).collect()
    }

    fn some(texts: &[&str]) -> BTreeSet<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn what_was_synced_stays_and_of_the_rest_any_beginning() {
        let left = outcomes(|files| {
            files.append("f", b"ab");
            files.sync("f");
            files.append("f", b"cd");
        });
        assert_eq!(left, some(&["ab", "abc", "abcd"]));
    }

    #[test]
    fn a_replacement_leaves_the_old_or_the_new_file_and_after_the_directorys_sync_the_new() {
        let replace = |files: &mut Files| {
            files.put("f", b"old".to_vec());
            let inode = files.temporary(b"new".to_vec());
            files.sync_inode(inode);
            files.name(inode, "f");
        };
        assert_eq!(outcomes(replace), some(&["new", "old"]));
        let synced = |files: &mut Files| {
            replace(files);
            files.sync_dir();
        };
        assert_eq!(outcomes(synced), some(&["new"]));
    }
}
