//! A persistent B+tree of (score, member) with counts: the order of a big sorted set.
//!
//! As the hash trie ([`super::trie`]) it shares its parts with snapshots: a write copies one leaf (at most 64
//! items) and the branches above it (32 children each). Branches count what is below them, so ranks and resumable
//! iteration cost one descent.

use std::cmp::Ordering;
use std::sync::Arc;

use super::bytestr::ByteStr;

const LEAF_MAX: usize = 64;
const FANOUT: usize = 32;
/// Leaves grow by this many items: doubling would waste a quarter of the memory.
const LEAF_STEP: usize = 8;

/// A member in its place.
#[derive(Clone, Debug)]
pub struct Ranked {
    pub score: f64,
    pub member: ByteStr,
}

impl Ranked {
    /// The order of a sorted set: by score (-0 is 0), then by the member's bytes.
    pub fn order(&self, score: f64, member: &[u8]) -> Ordering {
        self.score.partial_cmp(&score).unwrap_or(Ordering::Equal).then_with(|| (*self.member).cmp(member))
    }
}

/// The tree.
#[derive(Clone, Debug, Default)]
pub struct RankTree {
    root: Option<Arc<Node>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Vec<Ranked>),
    Branch(Vec<Child>),
}

#[derive(Clone, Debug)]
struct Child {
    /// At most the least item below, and greater than all items of the child before.
    low: Ranked,
    len: usize,
    node: Arc<Node>,
}

#[allow(clippy::len_without_is_empty)] // used by `Zset` only, which asks the other table
impl RankTree {
    /// Number of members.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Puts a member in; it must not be there with this score.
    pub fn insert(&mut self, item: Ranked) {
        self.len += 1;
        let Some(root) = &mut self.root else {
            self.root = Some(Arc::new(Node::Leaf(vec![item])));
            return;
        };
        if let Some(right) = insert_at(root, item, true) {
            let left =
                self.root.take().map(|node| child(node, Ranked { score: 0.0, member: ByteStr::new(b"") }));
            self.root = Some(Arc::new(Node::Branch(left.into_iter().chain([right]).collect())));
        }
    }

    /// Takes a member out; false if it is not there with this score.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        let Some(root) = &mut self.root else { return false };
        if !remove_at(root, score, member) {
            return false;
        }
        self.len -= 1;
        while let Some(Node::Branch(children)) = self.root.as_deref()
            && children.len() == 1
        {
            self.root = Some(Arc::clone(&children[0].node));
        }
        if self.len == 0 {
            self.root = None;
        }
        true
    }

    /// Number of leading members for which `before` holds; it must not hold again after it failed once.
    pub fn partition_point(&self, before: impl Fn(&Ranked) -> bool) -> usize {
        let Some(mut node) = self.root.as_deref() else { return 0 };
        let mut rank = 0;
        loop {
            match node {
                Node::Leaf(items) => return rank + items.partition_point(&before),
                Node::Branch(children) => {
                    let index = children[1..].partition_point(|child| before(&child.low));
                    rank += children[..index].iter().map(|child| child.len).sum::<usize>();
                    node = &children[index].node;
                }
            }
        }
    }

    /// The members from `rank` on, ascending.
    pub fn iter_from(&self, rank: usize) -> Iter<'_> {
        self.walk(rank, true)
    }

    /// The members from `rank` down to the first, descending.
    pub fn iter_back_from(&self, rank: usize) -> Iter<'_> {
        self.walk(rank, false)
    }

    /// Drops one leaf of a tree that nobody wants, leaving its counts wrong; true when none is left.
    pub(super) fn free_leaf(&mut self) -> bool {
        if self.root.as_mut().is_none_or(free_last) {
            self.root = None;
        }
        self.root.is_none()
    }

    fn walk(&self, mut rank: usize, forward: bool) -> Iter<'_> {
        let mut iter = Iter { stack: Vec::new(), leaf: [].iter(), forward };
        let Some(mut node) = self.root.as_deref() else { return iter };
        if rank >= self.len {
            return iter;
        }
        loop {
            match node {
                Node::Leaf(items) => {
                    iter.leaf = if forward { items[rank..].iter() } else { items[..=rank].iter() };
                    return iter;
                }
                Node::Branch(children) => {
                    let mut index = 0;
                    while rank >= children[index].len {
                        rank -= children[index].len;
                        index += 1;
                    }
                    let others = if forward { &children[index + 1..] } else { &children[..index] };
                    iter.stack.push(others.iter());
                    node = &children[index].node;
                }
            }
        }
    }
}

/// Members in order, or in reverse.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    stack: Vec<std::slice::Iter<'a, Child>>,
    leaf: std::slice::Iter<'a, Ranked>,
    forward: bool,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Ranked;

    fn next(&mut self) -> Option<&'a Ranked> {
        loop {
            let item = if self.forward { self.leaf.next() } else { self.leaf.next_back() };
            if item.is_some() {
                return item;
            }
            let children = self.stack.last_mut()?;
            let child = if self.forward { children.next() } else { children.next_back() };
            match child.map(|child| &*child.node) {
                None => drop(self.stack.pop()),
                Some(Node::Leaf(items)) => self.leaf = items.iter(),
                Some(Node::Branch(below)) => self.stack.push(below.iter()),
            }
        }
    }
}

fn child(node: Arc<Node>, low: Ranked) -> Child {
    Child { len: node_len(&node), low, node }
}

fn node_len(node: &Node) -> usize {
    match node {
        Node::Leaf(items) => items.len(),
        Node::Branch(children) => children.iter().map(|child| child.len).sum(),
    }
}

/// Puts an item in; gives what was split off to the right. `last`: nothing stands to the right of this node.
fn insert_at(node: &mut Arc<Node>, item: Ranked, last: bool) -> Option<Child> {
    match Arc::make_mut(node) {
        Node::Leaf(items) => {
            let index =
                items.partition_point(|other| other.order(item.score, &item.member) == Ordering::Less);
            if items.len() < LEAF_MAX {
                if items.len() == items.capacity() {
                    items.reserve_exact(LEAF_STEP);
                }
                items.insert(index, item);
                return None;
            }
            if last && index == items.len() {
                // Ascending order, as time gives it: full leaves stay full.
                let low = item.clone();
                return Some(child(Arc::new(Node::Leaf(vec![item])), low));
            }
            let mut right = items.split_off(LEAF_MAX / 2);
            items.shrink_to(LEAF_MAX / 2 + LEAF_STEP);
            if index <= LEAF_MAX / 2 {
                items.insert(index, item);
            } else {
                right.insert(index - LEAF_MAX / 2, item);
            }
            let low = right[0].clone();
            Some(child(Arc::new(Node::Leaf(right)), low))
        }
        Node::Branch(children) => {
            let index = place(children, item.score, &item.member);
            let last = last && index + 1 == children.len();
            let new = insert_at(&mut children[index].node, item, last);
            match new {
                None => {
                    children[index].len += 1;
                    None
                }
                Some(new) => {
                    children[index].len = children[index].len + 1 - new.len;
                    children.insert(index + 1, new);
                    if children.len() <= FANOUT {
                        return None;
                    }
                    let cut = if last { FANOUT - 1 } else { children.len() / 2 };
                    let right = children.split_off(cut);
                    let low = right[0].low.clone();
                    Some(child(Arc::new(Node::Branch(right)), low))
                }
            }
        }
    }
}

fn remove_at(node: &mut Arc<Node>, score: f64, member: &[u8]) -> bool {
    match Arc::make_mut(node) {
        Node::Leaf(items) => match items.binary_search_by(|item| item.order(score, member)) {
            Ok(index) => {
                items.remove(index);
                true
            }
            Err(_) => false,
        },
        Node::Branch(children) => {
            let index = place(children, score, member);
            if !remove_at(&mut children[index].node, score, member) {
                return false;
            }
            children[index].len -= 1;
            if is_small(&children[index].node) && children.len() > 1 {
                let left = index.saturating_sub(1);
                join(children, left);
            }
            true
        }
    }
}

/// The child where an item is or belongs.
fn place(children: &[Child], score: f64, member: &[u8]) -> usize {
    children[1..].partition_point(|child| child.low.order(score, member) != Ordering::Greater)
}

/// Drops the last leaf; true if the node itself is to be dropped now. A part that a snapshot still shares is the
/// snapshot's to free.
fn free_last(node: &mut Arc<Node>) -> bool {
    let Some(Node::Branch(children)) = Arc::get_mut(node) else { return true };
    if children.last_mut().is_none_or(|last| free_last(&mut last.node)) {
        children.pop();
    }
    children.is_empty()
}

fn is_small(node: &Node) -> bool {
    match node {
        Node::Leaf(items) => items.len() < LEAF_MAX / 4,
        Node::Branch(children) => children.len() < FANOUT / 4,
    }
}

/// Makes one of the children at `left` and right of it, or two of equal size if one would be too big.
fn join(children: &mut Vec<Child>, left: usize) {
    let mut right = children.remove(left + 1);
    let Child { node, len, .. } = &mut children[left];
    let rest = match (Arc::make_mut(node), Arc::make_mut(&mut right.node)) {
        (Node::Leaf(a), Node::Leaf(b)) => {
            a.append(b);
            if a.len() > LEAF_MAX {
                let rest = a.split_off(a.len() / 2);
                let low = rest[0].clone();
                Some(child(Arc::new(Node::Leaf(rest)), low))
            } else {
                None
            }
        }
        (Node::Branch(a), Node::Branch(b)) => {
            // The first child's bound may be nothing at all; now it stands between others.
            if let Some(first) = b.first_mut() {
                first.low = right.low.clone();
            }
            a.append(b);
            if a.len() > FANOUT {
                let rest = a.split_off(a.len() / 2);
                let low = rest[0].low.clone();
                Some(child(Arc::new(Node::Branch(rest)), low))
            } else {
                None
            }
        }
        // All leaves are equally deep.
        _ => unreachable!("siblings are of one kind"),
    };
    *len = node_len(node);
    if let Some(rest) = rest {
        children.insert(left + 1, rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(node: &Node, depth: usize, depths: &mut Vec<usize>) -> usize {
        match node {
            Node::Leaf(items) => {
                assert!(items.len() <= LEAF_MAX);
                depths.push(depth);
                items.len()
            }
            Node::Branch(children) => {
                assert!(children.len() <= FANOUT && !children.is_empty());
                let lens = children.iter().map(|child| {
                    assert_eq!(check(&child.node, depth + 1, depths), child.len);
                    child.len
                });
                lens.sum()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn behaves_as_a_sorted_vector_and_a_clone_does_not_change(
            ops in prop::collection::vec((0u8..5, 0i32..40, 0u16..400), 0..6000),
            ascending: bool,
        ) {
            let mut tree = RankTree::default();
            let mut model: std::collections::BTreeSet<(i32, Vec<u8>)> = std::collections::BTreeSet::new();
            let mut frozen = None;
            for (step, (op, score, member)) in ops.iter().enumerate() {
                let score = if ascending { step as i32 / 3 } else { *score };
                let member = format!("member {member:05} {}", "x".repeat(usize::from(member % 20))).into_bytes();
                if *op < 3 {
                    if model.insert((score, member.clone())) {
                        tree.insert(Ranked { score: f64::from(score), member: ByteStr::new(&member) });
                    }
                } else {
                    let victim = model.range((score, member)..).next().cloned();
                    if let Some(victim) = victim {
                        prop_assert!(tree.remove(f64::from(victim.0), &victim.1));
                        model.remove(&victim);
                    }
                    prop_assert!(!tree.remove(1e9, b"nobody"));
                }
                if step == ops.len() / 2 {
                    frozen = Some((tree.clone(), model.clone()));
                }
            }
            for (mut tree, model) in [(tree, model)].into_iter().chain(frozen) {
                if let Some(root) = &tree.root {
                    let mut depths = Vec::new();
                    prop_assert_eq!(check(root, 0, &mut depths), model.len());
                    depths.dedup();
                    prop_assert_eq!(depths.len(), 1);
                }
                let all: Vec<_> = model.iter().map(|(score, member)| (f64::from(*score), member.clone())).collect();
                let pair = |item: &Ranked| (item.score, item.member.to_vec());
                prop_assert_eq!(tree.iter_from(0).map(pair).collect::<Vec<_>>(), all.clone());
                for rank in (0..all.len()).step_by(37) {
                    prop_assert_eq!(tree.iter_from(rank).next().map(pair), Some(all[rank].clone()));
                    let back: Vec<_> = all[..=rank].iter().rev().cloned().collect();
                    prop_assert_eq!(tree.iter_back_from(rank).map(pair).collect::<Vec<_>>(), back);
                    let (score, member) = &all[rank];
                    prop_assert_eq!(tree.partition_point(|item| item.order(*score, member) == Ordering::Less), rank);
                }
                let mut steps = 0;
                while !tree.free_leaf() {
                    steps += 1;
                    prop_assert!(steps < 10_000);
                }
            }
        }
    }
}
