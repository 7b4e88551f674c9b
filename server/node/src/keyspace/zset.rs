//! Sorted sets: one packed buffer while small, else a hash trie of members beside a tree of ranks.

use std::cmp::Ordering;
use std::sync::Arc;

use super::bytestr::ByteStr;
use super::packed::{self, Packed};
use super::ranktree::{self, RankTree, Ranked};
use super::score::as_integer;
use super::trie::{self, Trie};
use super::value::Env;

/// Members with scores, in order of (score, member).
#[derive(Clone, Debug)]
pub enum Zset {
    /// At most `zset-max-listpack-entries` members of at most `zset-max-listpack-value` bytes: pairs of a member and
    /// the eight bytes of its score, in order.
    Packed(Packed),
    /// Anything.
    Table(Arc<Table>),
}

/// Of a table's own block.
const TABLE_BYTES: usize = 16 + size_of::<Table>();

/// Members by hash, and by rank. Long members are shared between the two.
#[derive(Clone, Debug, Default)]
pub struct Table {
    members: Trie<Member>,
    ranks: RankTree,
    heap: usize,
}

#[derive(Clone, Debug)]
struct Member {
    hash: u32,
    name: ByteStr,
    score: f64,
}

impl trie::Item for Member {
    fn hash(&self) -> u32 {
        self.hash
    }
    fn key(&self) -> &[u8] {
        &self.name
    }
}

/// A member and its score.
pub type Pair<'a> = (&'a [u8], f64);

impl Default for Zset {
    fn default() -> Self {
        Self::Packed(Packed::default())
    }
}

impl Zset {
    /// Number of members.
    pub fn len(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.len() / 2,
            Self::Table(table) => table.members.len(),
        }
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate bytes on the heap: a member stands in a leaf of the trie and in one of the tree.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.heap_bytes(),
            Self::Table(table) => {
                let each = size_of::<Member>() + 8 + size_of::<Ranked>() + 12;
                TABLE_BYTES + table.heap + table.members.len() * each
            }
        }
    }

    /// The score of a member.
    pub fn score(&self, env: Env, member: &[u8]) -> Option<f64> {
        match self {
            Self::Packed(packed) => packed.pair_value(member).map(unpacked),
            Self::Table(table) => table.members.get(env.seed.hash(member), member).map(|member| member.score),
        }
    }

    /// Sets the score (not NaN) of a member; gives its score before, if it had one. A score that is equal stays as
    /// it is (0 does not become -0).
    pub fn set(&mut self, env: Env, member: &[u8], score: f64) -> Option<f64> {
        if let Self::Packed(packed) = self {
            let old = packed.pair_value(member).map(unpacked);
            let limits = env.limits;
            if old == Some(score) {
                return old;
            }
            if old.is_some()
                || packed.len() / 2 < limits.zset_max_listpack_entries
                    && member.len() <= limits.zset_max_listpack_value
            {
                if old.is_some() {
                    packed.remove_pair(member);
                }
                let rank = PackedPairs(packed.iter())
                    .take_while(|pair| order(*pair, (member, score)) == Ordering::Less)
                    .count();
                packed.insert_pair(rank, member, &packed_score(score));
                return old;
            }
            self.become_table(env);
        }
        let Self::Table(table) = self else { return None };
        Arc::make_mut(table).set(env.seed.hash(member), member, score)
    }

    /// Takes a member out; gives its score.
    pub fn remove(&mut self, env: Env, member: &[u8]) -> Option<f64> {
        match self {
            Self::Packed(packed) => {
                let score = packed.pair_value(member).map(unpacked)?;
                packed.remove_pair(member);
                Some(score)
            }
            Self::Table(table) => {
                let table = Arc::make_mut(table);
                let old = table.members.remove(env.seed.hash(member), member)?;
                table.heap -= old.name.heap_bytes();
                table.ranks.remove(old.score, member);
                Some(old.score)
            }
        }
    }

    /// Takes out the members of these ranks.
    pub fn remove_ranks(&mut self, env: Env, from: usize, to: usize) -> usize {
        let gone: Vec<ByteStr> = self
            .iter_from(from)
            .take(to.saturating_sub(from))
            .map(|(member, _)| ByteStr::new(member))
            .collect();
        for member in &gone {
            self.remove(env, member);
        }
        gone.len()
    }

    /// In the small form, if it is small enough for it.
    #[must_use]
    pub fn packed_if_small(self, env: Env) -> Self {
        let limits = env.limits;
        let fits = self.len() <= limits.zset_max_listpack_entries
            && self.iter_from(0).all(|(member, _)| member.len() <= limits.zset_max_listpack_value);
        if !fits || matches!(self, Self::Packed(_)) {
            return self;
        }
        let mut packed = Packed::default();
        for (member, score) in self.iter_from(0) {
            packed.push_pair(member, &packed_score(score));
        }
        Self::Packed(packed)
    }

    /// The rank of a member, 0 for the lowest.
    pub fn rank(&self, env: Env, member: &[u8]) -> Option<usize> {
        match self {
            Self::Packed(_) => self.iter_from(0).position(|(other, _)| other == member),
            Self::Table(table) => {
                let score = self.score(env, member)?;
                Some(table.ranks.partition_point(|item| item.order(score, member) == Ordering::Less))
            }
        }
    }

    /// The ranks of the members that are not `before` a range and still `within` its end, as a half-open range.
    pub fn ranks(
        &self,
        before: impl Fn(Pair<'_>) -> bool,
        within: impl Fn(Pair<'_>) -> bool,
    ) -> (usize, usize) {
        match self {
            Self::Packed(_) => {
                let from = self.iter_from(0).take_while(|pair| before(*pair)).count();
                let len = self.iter_from(from).take_while(|pair| within(*pair)).count();
                (from, from + len)
            }
            Self::Table(table) => {
                let from = table.ranks.partition_point(|item| before((&item.member, item.score)));
                let to = table.ranks.partition_point(|item| within((&item.member, item.score)));
                (from, to.max(from))
            }
        }
    }

    /// The pair at `rank`.
    pub fn nth(&self, rank: usize) -> Option<Pair<'_>> {
        self.iter_from(rank).next()
    }

    /// The pairs from `rank` on, ascending.
    pub fn iter_from(&self, rank: usize) -> Iter<'_> {
        match self {
            Self::Packed(packed) => {
                let mut pairs = PackedPairs(packed.iter());
                for _ in 0..rank {
                    pairs.next();
                }
                Iter::Packed(pairs)
            }
            Self::Table(table) => Iter::Table(table.ranks.iter_from(rank)),
        }
    }

    /// The pairs from `rank` down to the lowest.
    pub fn iter_back_from(&self, rank: usize) -> Iter<'_> {
        match self {
            Self::Packed(packed) => {
                // Records have no way back; they are few.
                let pairs: Vec<Pair<'_>> = PackedPairs(packed.iter()).take(rank + 1).collect();
                Iter::PackedBack(pairs.into_iter().rev())
            }
            Self::Table(table) => Iter::Table(table.ranks.iter_back_from(rank)),
        }
    }

    /// The pairs with hashes from `from` on, in hash order, with their hashes; those of a packed one count as 0 and
    /// come in order of rank (they are few).
    pub fn iter_from_hash(&self, from: u32) -> impl Iterator<Item = (u32, &[u8], f64)> {
        let (packed, table) = match self {
            Self::Packed(_) => ((from == 0).then(|| self.iter_from(0)), None),
            Self::Table(table) => (None, Some(table.members.iter_from_hash(from))),
        };
        packed
            .into_iter()
            .flatten()
            .map(|(member, score)| (0, member, score))
            .chain(table.into_iter().flatten().map(|member| (member.hash, &*member.name, member.score)))
    }

    /// Drops one leaf of a table that nobody wants; true when none is left.
    pub(super) fn free_some(&mut self) -> bool {
        match self {
            Self::Table(table) => Arc::get_mut(table).is_none_or(|table| {
                let done = table.members.free_leaf();
                table.ranks.free_leaf() && done
            }),
            Self::Packed(_) => true,
        }
    }

    /// True for the big form.
    pub const fn is_table(&self) -> bool {
        matches!(self, Self::Table(_))
    }

    /// Takes the big form, whatever the size.
    pub fn become_table(&mut self, env: Env) {
        if let Self::Packed(packed) = std::mem::replace(self, Self::Table(Arc::default()))
            && let Self::Table(table) = self
        {
            let table = Arc::make_mut(table);
            for (member, score) in PackedPairs(packed.iter()) {
                table.set(env.seed.hash(member), member, score);
            }
        }
    }
}

impl Table {
    fn set(&mut self, hash: u32, member: &[u8], score: f64) -> Option<f64> {
        if let Some(found) = self.members.get(hash, member) {
            let old = found.score;
            #[allow(clippy::float_cmp)] // as Redis compares
            if old != score {
                let name = found.name.clone();
                self.ranks.remove(old, member);
                self.ranks.insert(Ranked { score, member: name });
                if let Some(found) = self.members.get_mut(hash, member) {
                    found.score = score;
                }
            }
            return Some(old);
        }
        let name = ByteStr::new(member);
        self.heap += name.heap_bytes();
        self.ranks.insert(Ranked { score, member: name.clone() });
        self.members.insert(Member { hash, name, score });
        None
    }
}

/// Pairs of a sorted set.
#[derive(Debug)]
pub enum Iter<'a> {
    #[doc(hidden)]
    Packed(#[allow(private_interfaces)] PackedPairs<'a>),
    #[doc(hidden)]
    PackedBack(std::iter::Rev<std::vec::IntoIter<Pair<'a>>>),
    #[doc(hidden)]
    Table(ranktree::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        match self {
            Self::Packed(pairs) => pairs.next(),
            Self::PackedBack(pairs) => pairs.next(),
            Self::Table(items) => items.next().map(|item| (&*item.member, item.score)),
        }
    }
}

fn order(a: Pair<'_>, b: Pair<'_>) -> Ordering {
    a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal).then_with(|| a.0.cmp(b.0))
}

/// Pairs of a packed sorted set, ascending.
#[derive(Clone, Debug)]
struct PackedPairs<'a>(packed::Iter<'a>);

impl<'a> Iterator for PackedPairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let (member, score) = (self.0.next()?, self.0.next()?);
        Some((member, unpacked(score)))
    }
}

/// As Redis' listpack, which holds what is an integer as one: -0 becomes 0.
fn packed_score(score: f64) -> [u8; 8] {
    as_integer(score).map_or(score, |int| int as f64).to_le_bytes()
}

fn unpacked(bytes: &[u8]) -> f64 {
    let mut eight = [0; 8];
    if bytes.len() == eight.len() {
        eight.copy_from_slice(bytes);
    }
    f64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::value::EncodingLimits;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn behaves_as_a_sorted_vector_in_both_encodings(
            ops in prop::collection::vec((0u8..10, 0u16..300, -20i32..20), 0..1500),
            limit in 0usize..60,
        ) {
            let limits = EncodingLimits { zset_max_listpack_entries: limit, ..EncodingLimits::default() };
            let env = Env { limits, ..Env::default() };
            let mut zset = Zset::default();
            let mut model: Vec<(f64, Vec<u8>)> = Vec::new();
            let mut frozen = None;
            for (step, (op, member, score)) in ops.iter().enumerate() {
                let name = format!("{member:03}{}", "y".repeat(usize::from(member % 30))).into_bytes();
                let score = f64::from(*score) / 2.0;
                let at = model.iter().position(|(_, other)| *other == name);
                let old = at.map(|at| model[at].0);
                match op {
                    0..=6 => {
                        prop_assert_eq!(zset.set(env, &name, score), old);
                        if let Some(at) = at {
                            model.remove(at);
                        }
                        model.push((score, name));
                        model.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
                    }
                    7..=8 => {
                        prop_assert_eq!(zset.remove(env, &name), old);
                        if let Some(at) = at {
                            model.remove(at);
                        }
                    }
                    _ => {
                        let (from, to) = (model.len() / 3, model.len() / 3 + usize::from(member % 4));
                        let to = to.min(model.len());
                        prop_assert_eq!(zset.remove_ranks(env, from, to), to - from);
                        model.drain(from..to);
                    }
                }
                if step == ops.len() / 2 {
                    frozen = Some((zset.clone(), model.clone()));
                }
            }
            for (zset, model) in [(zset, model)].into_iter().chain(frozen) {
                let own = |(member, score): Pair<'_>| (score, member.to_vec());
                prop_assert_eq!(zset.len(), model.len());
                prop_assert_eq!(zset.iter_from(0).map(own).collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(zset.iter_from_hash(0).count(), model.len());
                for (rank, (score, member)) in model.iter().enumerate().step_by(7) {
                    prop_assert_eq!(zset.rank(env, member), Some(rank));
                    prop_assert_eq!(zset.score(env, member), Some(*score));
                    let back: Vec<_> = model[..=rank].iter().rev().cloned().collect();
                    prop_assert_eq!(zset.iter_back_from(rank).map(own).collect::<Vec<_>>(), back);
                    let from = model.iter().filter(|pair| pair.0 < *score).count();
                    let to = model.iter().filter(|pair| pair.0 <= *score + 1.0).count();
                    let ranks = zset.ranks(|pair| pair.1 < *score, |pair| pair.1 <= *score + 1.0);
                    prop_assert_eq!(ranks, (from, to));
                }
                prop_assert_eq!(zset.rank(env, b"nobody"), None);
            }
        }
    }

    #[test]
    fn a_negative_zero_stays_one_in_a_table_only() {
        let mut small = Zset::default();
        small.set(Env::default(), b"m", -0.0);
        assert!(small.score(Env::default(), b"m").is_some_and(f64::is_sign_positive));
        let mut big = Zset::Table(Arc::default());
        big.set(Env::default(), b"m", -0.0);
        assert!(big.score(Env::default(), b"m").is_some_and(f64::is_sign_negative));
        big.set(Env::default(), b"m", 0.0);
        assert!(big.score(Env::default(), b"m").is_some_and(f64::is_sign_negative), "equal, so unchanged");
    }
}
