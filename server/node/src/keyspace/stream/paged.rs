//! An ordered map by entry id that is shared with snapshots: a deque of shared pages of at most [`PAGE`] items, so
//! that a write copies one page and the spine (32 bytes a page). New ids are mostly the greatest, old ones go first.

use std::collections::VecDeque;
use std::sync::Arc;

use super::StreamId;

/// Items of a full page.
const PAGE: usize = 128;
/// A page with fewer is put together with a neighbour.
const SPARSE: usize = PAGE / 4;

/// The map.
#[derive(Clone, Debug)]
pub struct PagedMap<V> {
    /// None is empty; their ids ascend.
    pages: VecDeque<Page<V>>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Page<V> {
    /// The id of the first item.
    low: StreamId,
    items: Arc<Vec<(StreamId, V)>>,
}

impl<V> Default for PagedMap<V> {
    fn default() -> Self {
        Self { pages: VecDeque::new(), len: 0 }
    }
}

impl<V: PartialEq> PartialEq for PagedMap<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<V: Eq> Eq for PagedMap<V> {}

impl<V> PagedMap<V> {
    /// Number of items.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True without items.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item of this id.
    pub fn get(&self, id: StreamId) -> Option<&V> {
        let items = &self.pages.get(self.page_of(id)?)?.items;
        items.binary_search_by_key(&id, |item| item.0).ok().map(|index| &items[index].1)
    }

    /// The first item.
    pub fn first(&self) -> Option<(StreamId, &V)> {
        self.pages.front()?.items.first().map(|(id, value)| (*id, value))
    }

    /// The last item.
    pub fn last(&self) -> Option<(StreamId, &V)> {
        self.pages.back()?.items.last().map(|(id, value)| (*id, value))
    }

    /// The item of the greatest id that is not above this one.
    pub fn floor(&self, id: StreamId) -> Option<(StreamId, &V)> {
        let items = &self.pages.get(self.page_of(id)?)?.items;
        let index = items.partition_point(|item| item.0 <= id).checked_sub(1)?;
        items.get(index).map(|(id, value)| (*id, value))
    }

    /// All items, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &V)> {
        self.pages.iter().flat_map(|page| page.items.iter()).map(|(id, value)| (*id, value))
    }

    /// The items from this id on, ascending.
    pub fn iter_from(&self, id: StreamId) -> impl Iterator<Item = (StreamId, &V)> {
        let page = self.page_of(id).unwrap_or(0);
        let skipped = self.pages.get(page).map_or(0, |page| page.items.partition_point(|item| item.0 < id));
        self.iter_at(page, skipped)
    }

    /// The items without the first `rank`, ascending; cheap to resume.
    pub fn iter_from_rank(&self, mut rank: usize) -> impl Iterator<Item = (StreamId, &V)> {
        let mut page = 0;
        while let Some(items) = self.pages.get(page).map(|page| &page.items)
            && rank >= items.len()
        {
            rank -= items.len();
            page += 1;
        }
        self.iter_at(page, rank)
    }

    /// The items up to this id, descending.
    pub fn iter_back_from(&self, id: StreamId) -> impl Iterator<Item = (StreamId, &V)> {
        let pages = self.page_of(id).map_or(0, |page| page + 1);
        let kept = pages
            .checked_sub(1)
            .and_then(|last| self.pages.get(last))
            .map_or(0, |page| page.items.partition_point(|item| item.0 <= id));
        self.pages.range(..pages).rev().enumerate().flat_map(move |(nth, page)| {
            let items = if nth == 0 { &page.items[..kept] } else { &page.items[..] };
            items.iter().rev().map(|(id, value)| (*id, value))
        })
    }

    /// Drops one page of a map that nobody wants; true when none is left.
    pub fn free_some(&mut self) -> bool {
        self.pages.pop_back();
        self.pages.is_empty()
    }

    fn iter_at(&self, page: usize, skipped: usize) -> impl Iterator<Item = (StreamId, &V)> {
        let pages = self.pages.range(page.min(self.pages.len())..).enumerate();
        pages
            .flat_map(move |(nth, page)| page.items[if nth == 0 { skipped } else { 0 }..].iter())
            .map(|(id, value)| (*id, value))
    }

    /// The page where an id is or belongs; `None` below all of them.
    fn page_of(&self, id: StreamId) -> Option<usize> {
        // The end is where most ids are looked for.
        if self.pages.back().is_some_and(|page| page.low <= id) {
            return Some(self.pages.len() - 1);
        }
        self.pages.partition_point(|page| page.low <= id).checked_sub(1)
    }
}

impl<V: Clone> PagedMap<V> {
    /// Changes the item of this id.
    pub fn change<R>(&mut self, id: StreamId, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let page = self.page_of(id)?;
        let items = &mut self.pages.get_mut(page)?.items;
        let index = items.binary_search_by_key(&id, |item| item.0).ok()?;
        Some(change(&mut Arc::make_mut(items)[index].1))
    }

    /// Changes the last item.
    pub fn change_last<R>(&mut self, change: impl FnOnce(StreamId, &mut V) -> R) -> Option<R> {
        let items = &mut self.pages.back_mut()?.items;
        Arc::make_mut(items).last_mut().map(|(id, value)| change(*id, value))
    }

    /// Puts an item in; false (and nothing is changed) if its id is there.
    pub fn insert(&mut self, id: StreamId, value: V) -> bool {
        let Some(page) = self.page_of(id) else {
            match self.pages.front_mut() {
                Some(first) if first.items.len() < PAGE => {
                    first.low = id;
                    Arc::make_mut(&mut first.items).insert(0, (id, value));
                }
                _ => self.pages.push_front(Page { low: id, items: Arc::new(vec![(id, value)]) }),
            }
            self.len += 1;
            return true;
        };
        let last = page + 1 == self.pages.len();
        let items = &mut self.pages[page].items;
        let Err(index) = items.binary_search_by_key(&id, |item| item.0) else { return false };
        self.len += 1;
        if items.len() < PAGE {
            Arc::make_mut(items).insert(index, (id, value));
            return true;
        }
        if last && index == PAGE {
            // Ascending order, as time gives it: full pages stay full.
            self.pages.push_back(Page { low: id, items: Arc::new(vec![(id, value)]) });
            return true;
        }
        let items = Arc::make_mut(items);
        let mut right = items.split_off(PAGE / 2);
        match index.checked_sub(PAGE / 2) {
            Some(index) => right.insert(index, (id, value)),
            None => items.insert(index, (id, value)),
        }
        self.pages.insert(page + 1, Page { low: right[0].0, items: Arc::new(right) });
        true
    }

    /// Takes an item out.
    pub fn remove(&mut self, id: StreamId) -> Option<V> {
        let page = self.page_of(id)?;
        let items = &mut self.pages[page].items;
        let index = items.binary_search_by_key(&id, |item| item.0).ok()?;
        let items = Arc::make_mut(items);
        let (_, value) = items.remove(index);
        self.len -= 1;
        match items.first() {
            None => drop(self.pages.remove(page)),
            Some(&(low, _)) => {
                let sparse = items.len() < SPARSE;
                self.pages[page].low = low;
                if sparse {
                    self.join(page);
                }
            }
        }
        Some(value)
    }

    /// Puts a sparse page together with a neighbour that has room.
    fn join(&mut self, page: usize) {
        const ROOMY: usize = PAGE / 4 * 3;
        let len = |page: usize| self.pages.get(page).map_or(PAGE, |page| page.items.len());
        let left = if len(page) + len(page + 1) <= ROOMY {
            page
        } else if page > 0 && len(page - 1) + len(page) <= ROOMY {
            page - 1
        } else {
            return;
        };
        if let Some(right) = self.pages.remove(left + 1) {
            let items = Arc::make_mut(&mut self.pages[left].items);
            items.reserve_exact(right.items.len());
            items.extend(right.items.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn behaves_as_a_btree_map_and_a_clone_does_not_change(
            ops in prop::collection::vec((0u8..6, 0u64..900), 0..2500), ascending: bool,
        ) {
            let (mut map, mut model) = (PagedMap::default(), BTreeMap::new());
            let mut frozen = None;
            for (step, (op, number)) in ops.iter().enumerate() {
                let id = StreamId { ms: number / 7, seq: number % 7 };
                match op {
                    0..3 => {
                        let id = if ascending { StreamId { ms: step as u64, seq: 0 } } else { id };
                        let is_new = !model.contains_key(&id);
                        model.entry(id).or_insert(step);
                        prop_assert_eq!(map.insert(id, step), is_new);
                    }
                    3 => prop_assert_eq!(
                        map.change(id, |value| *value = step),
                        model.get_mut(&id).map(|value| *value = step)
                    ),
                    _ => {
                        let victim = model.range(id..).next().map_or(id, |(id, _)| *id);
                        prop_assert_eq!(map.remove(victim), model.remove(&victim));
                    }
                }
                if step == ops.len() / 2 {
                    frozen = Some((map.clone(), model.clone()));
                }
            }
            for (map, model) in [(map, model)].into_iter().chain(frozen) {
                let pairs = |from: StreamId| model.range(from..).map(|(id, value)| (*id, value));
                prop_assert_eq!(map.len(), model.len());
                prop_assert!(map.iter().eq(pairs(StreamId::MIN)));
                prop_assert_eq!(map.first(), pairs(StreamId::MIN).next());
                prop_assert_eq!(map.last(), model.iter().next_back().map(|(id, value)| (*id, value)));
                for number in (0..950).step_by(31) {
                    let id = StreamId { ms: number / 7, seq: number % 7 };
                    prop_assert!(map.iter_from(id).eq(pairs(id)));
                    let back = || model.range(..=id).rev().map(|(id, value)| (*id, value));
                    prop_assert!(map.iter_back_from(id).eq(back()));
                    prop_assert_eq!(map.floor(id), back().next());
                    prop_assert_eq!(map.get(id), model.get(&id));
                    prop_assert!(map.iter_from_rank(number as usize).eq(pairs(StreamId::MIN).skip(number as usize)));
                }
            }
        }
    }
}
