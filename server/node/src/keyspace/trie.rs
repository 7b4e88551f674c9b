//! A persistent hash trie with fat leaves, ordered by hash: the one table behind slots, big sets and big hashes.
//!
//! Why not a hash map: a snapshot is a clone of the root, and a write to a shared part copies one leaf (at most
//! 64 items) and the branches above it (16 children each), never more. Hash order does not change when the table
//! grows, so a SCAN cursor is simply a place in that order. Branches count their items, so that the n-th item,
//! and with it a uniform random one and resumable iteration, cost one descent.

use std::sync::Arc;

const FANOUT_BITS: u32 = 4;
const FANOUT: usize = 1 << FANOUT_BITS;
const LEAF_MAX: usize = 64;
/// A branch with fewer items becomes a leaf again; well below `LEAF_MAX`, so that items do not flap.
const MERGE_BELOW: usize = 24;
const MAX_DEPTH: u32 = 32 / FANOUT_BITS;
/// Leaves grow by this many items: doubling would waste a quarter of the memory.
const LEAF_STEP: usize = 4;

/// What a trie holds: something with a key and the key's hash.
pub trait Item: Clone {
    /// The key's hash, by the seed of the node.
    fn hash(&self) -> u32;
    /// The key.
    fn key(&self) -> &[u8];
}

/// The table.
#[derive(Clone, Debug)]
pub struct Trie<T> {
    root: Option<Arc<Node<T>>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node<T> {
    Leaf(Vec<T>),
    Branch(Box<Branch<T>>),
}

#[derive(Clone, Debug)]
struct Branch<T> {
    len: usize,
    children: [Option<Arc<Node<T>>>; FANOUT],
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

#[allow(clippy::iter_without_into_iter)] // one way to iterate is enough here
impl<T: Item> Trie<T> {
    /// Number of items.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True without items.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item with this key.
    pub fn get(&self, hash: u32, key: &[u8]) -> Option<&T> {
        let mut node = self.root.as_deref()?;
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(items) => return find(items, hash, key).ok().map(|index| &items[index]),
                Node::Branch(branch) => node = branch.children[child_index(hash, depth)].as_deref()?,
            }
            depth += 1;
        }
    }

    /// The item with this key, to be changed in place; its key and hash must stay. Copies what is shared.
    pub fn get_mut(&mut self, hash: u32, key: &[u8]) -> Option<&mut T> {
        let mut node = self.root.as_mut()?;
        let mut depth = 0;
        loop {
            match Arc::make_mut(node) {
                Node::Leaf(items) => {
                    return match find(items, hash, key) {
                        Ok(index) => Some(&mut items[index]),
                        Err(_) => None,
                    };
                }
                Node::Branch(branch) => node = branch.children[child_index(hash, depth)].as_mut()?,
            }
            depth += 1;
        }
    }

    /// Puts an item in, and gives back the one with the same key that it replaces.
    pub fn insert(&mut self, item: T) -> Option<T> {
        let replaced = if let Some(root) = &mut self.root {
            insert_at(root, 0, item)
        } else {
            self.root = Some(Arc::new(Node::Leaf(vec![item])));
            None
        };
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes an item out.
    pub fn remove(&mut self, hash: u32, key: &[u8]) -> Option<T> {
        self.get(hash, key)?;
        let root = self.root.as_mut()?;
        let removed = remove_at(root, 0, hash, key);
        self.len -= usize::from(removed.is_some());
        if self.len == 0 {
            self.root = None;
        }
        removed
    }

    /// Drops one leaf of a table that nobody wants, leaving its counts wrong; true when none is left.
    pub(super) fn free_leaf(&mut self) -> bool {
        let mut place = &mut self.root;
        loop {
            // A part that a snapshot still shares is the snapshot's to free.
            let leaf = match place.as_mut().and_then(Arc::get_mut) {
                Some(Node::Branch(branch)) => branch.children.iter().all(Option::is_none),
                _ => true,
            };
            if leaf {
                *place = None;
                return self.root.is_none();
            }
            let Some(Node::Branch(branch)) = place.as_mut().and_then(Arc::get_mut) else { return true };
            let Some(child) = branch.children.iter_mut().find(|child| child.is_some()) else { return true };
            place = child;
        }
    }

    /// The item at `rank` in hash order.
    pub fn nth(&self, rank: usize) -> Option<&T> {
        self.iter_from_rank(rank).next()
    }

    /// All items in hash order.
    pub fn iter(&self) -> Iter<'_, T> {
        self.iter_from_rank(0)
    }

    /// The items from `rank` on, in hash order. Costs one descent.
    pub fn iter_from_rank(&self, mut rank: usize) -> Iter<'_, T> {
        let mut iter = Iter { stack: Vec::new(), leaf: [].iter() };
        let Some(mut node) = self.root.as_deref() else { return iter };
        if rank >= self.len {
            return iter;
        }
        loop {
            match node {
                Node::Leaf(items) => {
                    iter.leaf = items[rank.min(items.len())..].iter();
                    return iter;
                }
                Node::Branch(branch) => {
                    let mut next = None;
                    for (index, child) in branch.children.iter().enumerate() {
                        let Some(child) = child.as_deref() else { continue };
                        let len = node_len(child);
                        if rank < len {
                            next = Some((index, child));
                            break;
                        }
                        rank -= len;
                    }
                    let Some((index, child)) = next else { return iter };
                    iter.stack.push((branch, index + 1));
                    node = child;
                }
            }
        }
    }

    /// The items whose hash is `from` or greater, in hash order. Costs one descent.
    pub fn iter_from_hash(&self, from: u32) -> Iter<'_, T> {
        let mut iter = Iter { stack: Vec::new(), leaf: [].iter() };
        let Some(mut node) = self.root.as_deref() else { return iter };
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(items) => {
                    iter.leaf = items[items.partition_point(|item| item.hash() < from)..].iter();
                    return iter;
                }
                Node::Branch(branch) => {
                    let index = child_index(from, depth);
                    iter.stack.push((branch, index + 1));
                    let Some(child) = branch.children[index].as_deref() else { return iter };
                    node = child;
                }
            }
            depth += 1;
        }
    }
}

/// Items in hash order.
#[derive(Debug)]
pub struct Iter<'a, T> {
    stack: Vec<(&'a Branch<T>, usize)>,
    leaf: std::slice::Iter<'a, T>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(item) = self.leaf.next() {
                return Some(item);
            }
            let (branch, from) = self.stack.pop()?;
            let Some(index) = (from..FANOUT).find(|&index| branch.children[index].is_some()) else {
                continue;
            };
            self.stack.push((branch, index + 1));
            match branch.children[index].as_deref() {
                Some(Node::Leaf(items)) => self.leaf = items.iter(),
                Some(Node::Branch(child)) => self.stack.push((child, 0)),
                None => {}
            }
        }
    }
}

/// Frees a table piece by piece: dropping a big one at once would make the node deaf for a while.
#[derive(Debug)]
pub struct Demolition<T> {
    nodes: Vec<Arc<Node<T>>>,
}

impl<T: Item> Demolition<T> {
    /// Takes the table over.
    pub fn new(trie: Trie<T>) -> Self {
        Self { nodes: trie.root.into_iter().collect() }
    }

    /// Drops up to `leaves` leaves, giving each item to `each` first; true when nothing is left.
    pub fn step(&mut self, leaves: usize, mut each: impl FnMut(T)) -> bool {
        for _ in 0..leaves {
            let Some(node) = self.nodes.pop() else { return true };
            // A part that a snapshot still shares is the snapshot's to free.
            match Arc::try_unwrap(node) {
                Ok(Node::Branch(branch)) => self.nodes.extend(branch.children.into_iter().flatten()),
                Ok(Node::Leaf(items)) => items.into_iter().for_each(&mut each),
                Err(_) => {}
            }
        }
        self.nodes.is_empty()
    }
}

const fn child_index(hash: u32, depth: u32) -> usize {
    ((hash << (FANOUT_BITS * depth)) >> (32 - FANOUT_BITS)) as usize
}

fn node_len<T>(node: &Node<T>) -> usize {
    match node {
        Node::Leaf(items) => items.len(),
        Node::Branch(branch) => branch.len,
    }
}

/// Where the key is, or where it belongs.
fn find<T: Item>(items: &[T], hash: u32, key: &[u8]) -> Result<usize, usize> {
    let mut index = items.partition_point(|item| item.hash() < hash);
    while let Some(item) = items.get(index) {
        if item.hash() != hash {
            break;
        }
        if item.key() == key {
            return Ok(index);
        }
        index += 1;
    }
    Err(index)
}

fn insert_at<T: Item>(node: &mut Arc<Node<T>>, depth: u32, item: T) -> Option<T> {
    let node = Arc::make_mut(node);
    match node {
        Node::Leaf(items) => match find(items, item.hash(), item.key()) {
            Ok(index) => Some(std::mem::replace(&mut items[index], item)),
            Err(index) => {
                if items.len() == items.capacity() {
                    items.reserve_exact(LEAF_STEP);
                }
                items.insert(index, item);
                if items.len() > LEAF_MAX && depth < MAX_DEPTH {
                    *node = Node::Branch(Box::new(split(std::mem::take(items), depth)));
                }
                None
            }
        },
        Node::Branch(branch) => {
            let replaced = match &mut branch.children[child_index(item.hash(), depth)] {
                Some(child) => insert_at(child, depth + 1, item),
                empty => {
                    *empty = Some(Arc::new(Node::Leaf(vec![item])));
                    None
                }
            };
            branch.len += usize::from(replaced.is_none());
            replaced
        }
    }
}

fn split<T: Item>(items: Vec<T>, depth: u32) -> Branch<T> {
    let len = items.len();
    let mut parts: [Vec<T>; FANOUT] = std::array::from_fn(|_| Vec::new());
    let mut counts = [0; FANOUT];
    for item in &items {
        counts[child_index(item.hash(), depth)] += 1;
    }
    for item in items {
        let index = child_index(item.hash(), depth);
        if parts[index].is_empty() {
            parts[index].reserve_exact(counts[index]);
        }
        parts[index].push(item);
    }
    Branch { len, children: parts.map(|part| (!part.is_empty()).then(|| Arc::new(Node::Leaf(part)))) }
}

fn remove_at<T: Item>(node: &mut Arc<Node<T>>, depth: u32, hash: u32, key: &[u8]) -> Option<T> {
    let node = Arc::make_mut(node);
    match node {
        Node::Leaf(items) => {
            let index = find(items, hash, key).ok()?;
            let removed = items.remove(index);
            if items.capacity() > items.len() + 2 * LEAF_STEP {
                items.shrink_to(items.len() + LEAF_STEP);
            }
            Some(removed)
        }
        Node::Branch(branch) => {
            let slot = &mut branch.children[child_index(hash, depth)];
            let child = slot.as_mut()?;
            let removed = remove_at(child, depth + 1, hash, key)?;
            if node_len(child) == 0 {
                *slot = None;
            }
            branch.len -= 1;
            if branch.len < MERGE_BELOW {
                let mut items = Vec::with_capacity(branch.len);
                for child in &branch.children {
                    collect(child.as_deref(), &mut items);
                }
                *node = Node::Leaf(items);
            }
            Some(removed)
        }
    }
}

fn collect<T: Item>(node: Option<&Node<T>>, into: &mut Vec<T>) {
    match node {
        None => {}
        Some(Node::Leaf(items)) => into.extend(items.iter().cloned()),
        Some(Node::Branch(branch)) => {
            for child in &branch.children {
                collect(child.as_deref(), into);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(u32, Vec<u8>, u32);

    impl Item for Pair {
        fn hash(&self) -> u32 {
            self.0
        }
        fn key(&self) -> &[u8] {
            &self.1
        }
    }

    /// A hash with many collisions at every depth.
    fn bad_hash(key: u16) -> u32 {
        match key % 3 {
            0 => u32::from(key).wrapping_mul(0x9E37_79B9),
            1 => 0xABCD_0000 | u32::from(key % 7),
            _ => u32::from(key) << 16,
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_and_snapshots_stay_frozen(ops in prop::collection::vec((any::<bool>(), 0u16..600, any::<u32>()), 0..1500)) {
            let mut trie = Trie::default();
            let mut model = BTreeMap::new();
            let mut frozen = None;
            for (step, (put, key, value)) in ops.iter().enumerate() {
                let bytes = key.to_be_bytes().to_vec();
                let hash = bad_hash(*key);
                if *put {
                    let old = trie.insert(Pair(hash, bytes, *value)).map(|pair| pair.2);
                    prop_assert_eq!(old, model.insert((hash, *key), *value));
                } else {
                    let old = trie.remove(hash, &bytes).map(|pair| pair.2);
                    prop_assert_eq!(old, model.remove(&(hash, *key)));
                }
                prop_assert_eq!(trie.len(), model.len());
                if step == ops.len() / 2 {
                    frozen = Some((trie.clone(), model.clone()));
                }
            }
            let both = frozen.is_some();
            for (nth, (trie, model)) in [(trie, model)].into_iter().chain(frozen).enumerate() {
                let mut seen: Vec<_> = trie.iter().map(|pair| (pair.0, pair.2)).collect();
                let mut expected: Vec<_> = model.iter().map(|((hash, _), value)| (*hash, *value)).collect();
                prop_assert!(seen.is_sorted_by_key(|pair| pair.0));
                seen.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(&seen, &expected);
                let all: Vec<_> = trie.iter().cloned().collect();
                for rank in (0..all.len()).step_by(7) {
                    prop_assert_eq!(trie.nth(rank), Some(&all[rank]));
                    let from = all[rank].0;
                    let expected = all.iter().filter(|pair| pair.0 >= from).count();
                    prop_assert_eq!(trie.iter_from_hash(from).count(), expected);
                }
                let mut gone = 0;
                let mut demolition = Demolition::new(trie);
                while !demolition.step(3, |_| gone += 1) {}
                // What the frozen one shares is left to it, and it is the last.
                if nth == usize::from(both) {
                    prop_assert_eq!(gone, all.len());
                }
            }
        }
    }
}
