//! A sorted list that shares with its copies all that did not change since: a copy costs nothing, and a change what is near it.
use std::{cmp::Ordering, collections::HashSet, sync::Arc};

/// The most items in one run. A change copies one run and the list of runs, so both are to be short.
const LONGEST: usize = 128;

/// A sorted list, in runs that copies share.
///
/// The order is the caller's: each question tells by a function how an item stands to what is sought.
#[derive(Debug)]
pub(super) struct Sorted<T>(Arc<Vec<Arc<Vec<T>>>>);

// === impl Sorted ===

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sorted<T> {
    /// All items, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|run| run.iter())
    }

    /// The first item that is what is sought.
    pub(super) fn get(&self, stands: impl Fn(&T) -> Ordering) -> Option<&T> {
        self.range(stands).next()
    }

    /// All items that are what is sought: they stand beside each other.
    pub(super) fn range<F: Fn(&T) -> Ordering>(&self, stands: F) -> impl Iterator<Item = &T> + use<'_, T, F> {
        let (run, index) = self.place(|item| stands(item).is_lt());
        let first = self.0.get(run).and_then(|run| run.get(index..)).unwrap_or_default();
        let others = self.0.get(run + 1..).unwrap_or_default();
        let all = first.iter().chain(others.iter().flat_map(|run| run.iter()));
        all.take_while(move |item| stands(item).is_eq())
    }

    /// How many items are what is sought, without a look at each.
    pub(super) fn count(&self, stands: impl Fn(&T) -> Ordering) -> usize {
        let (first, start) = self.place(|item| stands(item).is_lt());
        let (last, end) = self.place(|item| stands(item).is_le());
        let between = self.0.get(first..last).unwrap_or_default();
        between.iter().map(|run| run.len()).sum::<usize>() + end - start
    }

    /// The items of the runs that are not those of `before`: what is in only one of two lists is among them.
    pub(super) fn apart<'a>(&'a self, before: &Self) -> impl Iterator<Item = &'a T> {
        let shared: HashSet<_> = before.0.iter().map(Arc::as_ptr).collect();
        self.0.iter().filter(move |run| !shared.contains(&Arc::as_ptr(run))).flat_map(|run| run.iter())
    }

    /// The run, and the place in it, of the first item that is not before.
    fn place(&self, is_before: impl Fn(&T) -> bool) -> (usize, usize) {
        let run = self.0.partition_point(|run| run.last().is_some_and(&is_before));
        (run, self.0.get(run).map_or(0, |run| run.partition_point(is_before)))
    }
}

impl<T: Clone> Sorted<T> {
    /// Puts an item in its place, instead of the one that is there.
    pub(super) fn insert(&mut self, item: T, stands: impl Fn(&T) -> Ordering) {
        let (mut at, mut index) = self.place(|other| stands(other).is_lt());
        let runs = Arc::make_mut(&mut self.0);
        if at == runs.len() {
            // Behind all others.
            at = at.saturating_sub(1);
            index = runs.last().map_or(0, |run| run.len());
        }
        let Some(run) = runs.get_mut(at) else { return runs.push(Arc::new(vec![item])) };
        let run = Arc::make_mut(run);
        match run.get_mut(index).filter(|other| stands(other).is_eq()) {
            Some(other) => *other = item,
            None => run.insert(index, item),
        }
        if run.len() > LONGEST {
            let end = run.split_off(run.len() / 2);
            run.shrink_to_fit();
            runs.insert(at + 1, Arc::new(end));
        }
    }

    /// Takes out the item that is what is sought.
    pub(super) fn remove(&mut self, stands: impl Fn(&T) -> Ordering) -> Option<T> {
        let (at, index) = self.place(|other| stands(other).is_lt());
        // Where nothing is found, nothing is copied.
        self.0.get(at)?.get(index).filter(|item| stands(item).is_eq())?;
        let runs = Arc::make_mut(&mut self.0);
        let run = Arc::make_mut(runs.get_mut(at)?);
        let item = run.remove(index);
        if run.is_empty() {
            runs.remove(at);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    type List = Sorted<(u16, u8)>;

    fn pairs<'a>(items: impl Iterator<Item = &'a (u16, u8)>) -> Vec<(u16, u8)> {
        items.copied().collect()
    }

    proptest! {
        #[test]
        fn it_is_what_a_map_is_and_copies_stay_as_they_are(
            changes in vec((0..600_u16, any::<u8>(), 0..3_u8), 0..3000), copied in 0..3000_usize,
        ) {
            let (mut list, mut map) = (List::default(), BTreeMap::new());
            let (mut copy, mut was) = (list.clone(), map.clone());
            for (number, (key, value, how)) in changes.into_iter().enumerate() {
                if number == copied {
                    (copy, was) = (list.clone(), map.clone());
                }
                if how > 0 {
                    list.insert((key, value), |other| other.0.cmp(&key));
                    map.insert(key, value);
                } else {
                    let removed = list.remove(|other| other.0.cmp(&key));
                    prop_assert_eq!(removed.map(|(_, value)| value), map.remove(&key));
                }
            }
            let expected: Vec<_> = map.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(pairs(list.iter()), expected.clone());
            prop_assert_eq!(pairs(copy.iter()), was.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            for ten in 0..61 {
                let stands = |item: &(u16, u8)| (item.0 / 10).cmp(&ten);
                let range: Vec<_> = expected.iter().copied().filter(|(key, _)| key / 10 == ten).collect();
                prop_assert_eq!(list.count(stands), range.len());
                prop_assert_eq!(list.get(stands), range.first());
                prop_assert_eq!(pairs(list.range(stands)), range);
            }
            let apart = (pairs(list.apart(&copy)), pairs(copy.apart(&list)));
            for item in &expected {
                let is_same = was.get(&item.0) == Some(&item.1);
                prop_assert!(is_same || apart.0.contains(item));
                prop_assert!(!is_same || apart.0.contains(item) == apart.1.contains(item));
            }
            prop_assert!(list.0.iter().all(|run| !run.is_empty() && run.len() <= LONGEST));
        }
    }

    #[test]
    fn a_change_leaves_most_runs_shared() {
        let mut list = List::default();
        for number in 0..10_000 {
            list.insert((number, 0), |other| other.0.cmp(&number));
        }
        let copy = list.clone();
        assert_eq!(list.apart(&copy).count(), 0);
        list.insert((5_000, 1), |other| other.0.cmp(&5_000));
        assert!((1..=LONGEST).contains(&list.apart(&copy).count()));
        assert_eq!(copy.get(|other| other.0.cmp(&5_000)), Some(&(5_000, 0)));
    }
}
