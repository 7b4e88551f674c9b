//! A persistent hash trie with fat leaves, ordered by hash: the one table behind slots, big sets and big hashes.
//!
//! Why not a hash map: a snapshot is a clone of the root, and a write to a shared part copies one leaf (at most
//! 16 items) and the branches above it (at most 16 parts each), never more. Hash order does not change when the table
//! grows, so a SCAN cursor is simply a place in that order. Branches count their items, so that the n-th item,
//! and with it a uniform random one and resumable iteration, cost one descent.
//!
//! A branch looks at four bits of the hash, and each of its parts covers a run of their sixteen values: a full leaf is
//! cut in two, not in sixteen, so that leaves are at least half full and their cost is spread over many items.

use std::sync::Arc;

const FANOUT_BITS: u32 = 4;
const FANOUT: usize = 1 << FANOUT_BITS;
/// Many small leaves waste less than few big ones: all of a million grow and are cut at different times, so that what
/// one leaves another takes.
const LEAF_MAX: usize = 16;
/// Leaves side by side with no more items than this become one; well below `LEAF_MAX`, so that items do not flap.
const MERGE_MAX: usize = 10;
/// A leaf with more room than this gives it back.
const SPARE: usize = 6;
const MAX_DEPTH: u32 = 32 / FANOUT_BITS;

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
    root: Option<Node<T>>,
    len: usize,
}

/// What it is, is known before it is looked at: in a big table every look is a cache miss.
#[derive(Clone, Debug)]
enum Node<T> {
    Leaf(Arc<Vec<T>>),
    Branch(Arc<Branch<T>>),
}

#[derive(Clone, Debug)]
struct Branch<T> {
    len: usize,
    /// Bit n: a part begins at value n of the four bits. Bit 0 is always set.
    starts: u16,
    /// In hash order, one for each bit of `starts`. A part that covers several values is a leaf.
    parts: Vec<Node<T>>,
}

impl<T> Branch<T> {
    /// The part that covers this value of the four bits.
    const fn part_of(&self, nibble: usize) -> usize {
        (self.starts & (u16::MAX >> (FANOUT - 1 - nibble))).count_ones() as usize - 1
    }

    /// The values that the part covers.
    fn range(&self, part: usize) -> std::ops::Range<usize> {
        let mut starts = (0..FANOUT).filter(|nibble| self.starts >> nibble & 1 == 1).skip(part);
        starts.next().unwrap_or(0)..starts.next().unwrap_or(FANOUT)
    }
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
        let mut node = self.root.as_ref()?;
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(items) => return find(items, hash, key).ok().map(|index| &items[index]),
                Node::Branch(branch) => node = &branch.parts[branch.part_of(nibble(hash, depth))],
            }
            depth += 1;
        }
    }

    /// The item with this key, to be changed in place; its key and hash must stay. Copies what is shared.
    pub fn get_mut(&mut self, hash: u32, key: &[u8]) -> Option<&mut T> {
        let mut node = self.root.as_mut()?;
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(items) => {
                    let items = Arc::make_mut(items);
                    return match find(items, hash, key) {
                        Ok(index) => Some(&mut items[index]),
                        Err(_) => None,
                    };
                }
                Node::Branch(branch) => {
                    let part = branch.part_of(nibble(hash, depth));
                    node = &mut Arc::make_mut(branch).parts[part];
                }
            }
            depth += 1;
        }
    }

    /// Puts an item in, and gives back the one with the same key that it replaces.
    pub fn insert(&mut self, item: T) -> Option<T> {
        let replaced = if let Some(root) = &mut self.root {
            let replaced = insert_at(root, 0, item);
            if is_full(root) {
                grow(root, 0);
            }
            replaced
        } else {
            self.root = Some(Node::Leaf(Arc::new(vec![item])));
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
        // A part that a snapshot still shares is the snapshot's to free.
        let root = match &mut self.root {
            Some(Node::Branch(root)) => Arc::get_mut(root),
            _ => None,
        };
        let Some(mut branch) = root else {
            self.root = None;
            return true;
        };
        loop {
            let is_lowest = match branch.parts.last_mut() {
                Some(Node::Branch(child)) => Arc::get_mut(child).is_none_or(|child| child.parts.is_empty()),
                _ => true,
            };
            if is_lowest {
                branch.parts.pop();
                break;
            }
            let Some(Node::Branch(child)) = branch.parts.last_mut() else { return false };
            let Some(child) = Arc::get_mut(child) else { return false };
            branch = child;
        }
        let emptied = matches!(&self.root, Some(Node::Branch(root)) if root.parts.is_empty());
        if emptied {
            self.root = None;
        }
        emptied
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
        let Some(mut node) = self.root.as_ref() else { return iter };
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
                    for (index, child) in branch.parts.iter().enumerate() {
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
        let Some(mut node) = self.root.as_ref() else { return iter };
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(items) => {
                    iter.leaf = items[items.partition_point(|item| item.hash() < from)..].iter();
                    return iter;
                }
                Node::Branch(branch) => {
                    let part = branch.part_of(nibble(from, depth));
                    iter.stack.push((branch, part + 1));
                    node = &branch.parts[part];
                }
            }
            depth += 1;
        }
    }
}

/// A descent to where a hash belongs, one step at a time.
#[derive(Debug)]
pub struct Descent<'a, T> {
    node: Option<&'a Node<T>>,
    hash: u32,
    depth: u32,
}

impl<T: Item> Trie<T> {
    /// The descent to where `hash` belongs.
    pub const fn descend(&self, hash: u32) -> Descent<'_, T> {
        Descent { node: self.root.as_ref(), hash, depth: 0 }
    }
}

/// Makes descents side by side and looks at the leaves. In a big table every step is a cache miss; those that do not wait for one
/// another cost together little more than one, so that what comes next to all these places is quick.
pub fn foresee<T: Item>(descents: &mut [Descent<'_, T>]) {
    let mut seen = 0;
    let mut under_way = true;
    while under_way {
        under_way = false;
        for descent in descents.iter_mut() {
            match descent.node {
                Some(Node::Branch(branch)) => {
                    descent.node = Some(&branch.parts[branch.part_of(nibble(descent.hash, descent.depth))]);
                    descent.depth += 1;
                    under_way = true;
                }
                Some(Node::Leaf(items)) => {
                    seen += items.iter().filter(|item| item.hash() < descent.hash).count();
                    descent.node = None;
                }
                None => {}
            }
        }
    }
    std::hint::black_box(seen);
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
            let Some(part) = branch.parts.get(from) else { continue };
            self.stack.push((branch, from + 1));
            match part {
                Node::Leaf(items) => self.leaf = items.iter(),
                Node::Branch(child) => self.stack.push((child, 0)),
            }
        }
    }
}

/// Frees a table piece by piece: dropping a big one at once would make the node deaf for a while.
#[derive(Debug)]
pub struct Demolition<T> {
    nodes: Vec<Node<T>>,
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
            match node {
                Node::Branch(branch) => {
                    self.nodes.extend(Arc::try_unwrap(branch).into_iter().flat_map(|branch| branch.parts));
                }
                Node::Leaf(items) => Arc::try_unwrap(items).into_iter().flatten().for_each(&mut each),
            }
        }
        self.nodes.is_empty()
    }
}

/// The four bits of a hash that a branch at this depth looks at.
const fn nibble(hash: u32, depth: u32) -> usize {
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
    // Counted, not searched by halves: no look waits for the one before it, which matters where each is a cache miss.
    let mut index = items.iter().filter(|item| item.hash() < hash).count();
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

/// Too full a leaf: whoever holds it must cut it, if bits are left to cut by.
fn is_full<T>(node: &Node<T>) -> bool {
    matches!(node, Node::Leaf(items) if items.len() > LEAF_MAX)
}

/// How many items fit into the memory that an allocator takes for `len` of them: four sizes a doubling are usual.
/// Doubling instead would waste a quarter of the memory.
fn roomier<T>(len: usize) -> usize {
    let bytes = (len * size_of::<T>()).max(8);
    bytes.next_multiple_of(1 << (bytes.ilog2() - 2)) / size_of::<T>()
}

fn insert_at<T: Item>(node: &mut Node<T>, depth: u32, item: T) -> Option<T> {
    match node {
        Node::Leaf(items) => {
            let items = Arc::make_mut(items);
            match find(items, item.hash(), item.key()) {
                Ok(index) => Some(std::mem::replace(&mut items[index], item)),
                Err(index) => {
                    if items.len() == items.capacity() {
                        items.reserve_exact(roomier::<T>(items.len() + 1) - items.len());
                    }
                    items.insert(index, item);
                    None
                }
            }
        }
        Node::Branch(branch) => {
            let branch = Arc::make_mut(branch);
            let part = branch.part_of(nibble(item.hash(), depth));
            let replaced = insert_at(&mut branch.parts[part], depth + 1, item);
            branch.len += usize::from(replaced.is_none());
            if is_full(&branch.parts[part]) {
                let range = branch.range(part);
                if range.len() > 1 {
                    cut(branch, part, range, depth);
                } else if depth + 1 < MAX_DEPTH {
                    grow(&mut branch.parts[part], depth + 1);
                }
            }
            replaced
        }
    }
}

/// Makes a leaf a branch of two leaves. `depth` is the branch's.
fn grow<T: Item>(node: &mut Node<T>, depth: u32) {
    let len = node_len(node);
    let leaf = std::mem::replace(node, Node::Leaf(Arc::default()));
    let mut branch = Branch { len, starts: 1, parts: vec![leaf] };
    cut(&mut branch, 0, 0..FANOUT, depth);
    *node = Node::Branch(Arc::new(branch));
}

/// Cuts a leaf that covers several values of the four bits where its halves differ least.
fn cut<T: Item>(branch: &mut Branch<T>, part: usize, range: std::ops::Range<usize>, depth: u32) {
    let Node::Leaf(items) = &mut branch.parts[part] else { return };
    let items = Arc::make_mut(items);
    let below = |boundary: usize| items.partition_point(|item| nibble(item.hash(), depth) < boundary);
    let cuts = (range.start + 1..range.end).map(|boundary| (boundary, below(boundary)));
    let Some((boundary, at)) = cuts.min_by_key(|&(_, at)| at.abs_diff(items.len() / 2)) else { return };
    let upper: Vec<T> = items.drain(at..).collect();
    items.shrink_to(roomier::<T>(items.len()));
    branch.starts |= 1 << boundary;
    branch.parts.insert(part + 1, Node::Leaf(Arc::new(upper)));
}

fn remove_at<T: Item>(node: &mut Node<T>, depth: u32, hash: u32, key: &[u8]) -> Option<T> {
    match node {
        Node::Leaf(items) => {
            let items = Arc::make_mut(items);
            let index = find(items, hash, key).ok()?;
            let removed = items.remove(index);
            if items.capacity() > items.len() + SPARE {
                items.shrink_to(roomier::<T>(items.len()));
            }
            Some(removed)
        }
        Node::Branch(branch) => {
            let branch = Arc::make_mut(branch);
            let part = branch.part_of(nibble(hash, depth));
            let removed = remove_at(&mut branch.parts[part], depth + 1, hash, key)?;
            branch.len -= 1;
            merge(branch, part);
            if let [Node::Leaf(only)] = &branch.parts[..] {
                *node = Node::Leaf(Arc::clone(only));
            }
            Some(removed)
        }
    }
}

/// Joins a leaf that has lost an item with its neighbours, if they are small enough together.
fn merge<T: Item>(branch: &mut Branch<T>, part: usize) {
    let len_of = |part: usize| match branch.parts.get(part) {
        Some(Node::Leaf(items)) => Some(items.len()),
        _ => None,
    };
    let fits = |left: usize| {
        len_of(left).zip(len_of(left + 1)).is_some_and(|(left, right)| left + right <= MERGE_MAX)
    };
    let left = if fits(part) {
        part
    } else if part > 0 && fits(part - 1) {
        part - 1
    } else {
        return;
    };
    let start = branch.range(left + 1).start;
    let right = branch.parts.remove(left + 1);
    branch.starts &= !(1 << start);
    if let (Node::Leaf(items), Node::Leaf(more)) = (&mut branch.parts[left], &right) {
        let items = Arc::make_mut(items);
        items.reserve_exact(more.len());
        items.extend(more.iter().cloned());
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
