//! Labels: what a cluster has most of, so kept in as little as can be.
use std::{collections::BTreeMap, fmt, iter};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels, or other short texts, by key, in the order of keys; made once, and read often.
///
/// All texts stand in one: two pieces of memory whatever their number, and none where there are no labels. A map of two
/// labels that has room for more takes five times as much.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// Each key and its value, one behind the other.
    text: Box<str>,
    /// Where each key and each value ends.
    ends: Box<[u32]>,
}

// === impl Labels ===

impl Labels {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.ends.len() / 2);
        while low < high {
            let middle = low.midpoint(high);
            match self.piece(2 * middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.piece(2 * middle + 1)),
            }
        }
        None
    }

    /// Whether that key has that value.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.get(key) == Some(value)
    }

    /// Whether all of the others are among these.
    pub fn has_all(&self, others: &Self) -> bool {
        others.iter().all(|(key, value)| self.has(key, value))
    }

    /// Keys and values, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.ends.len() / 2).map(|pair| (self.piece(2 * pair), self.piece(2 * pair + 1)))
    }

    /// A key, or behind it its value.
    fn piece(&self, index: usize) -> &str {
        let end = |index: usize| self.ends.get(index).map_or(0, |end| *end as usize);
        let start = index.checked_sub(1).map_or(0, end);
        self.text.get(start..end(index)).unwrap_or_default()
    }
}

/// Of several values of one key, the last counts.
impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        // The sort keeps the order of those with the same key.
        pairs.sort_by_key(|(key, _)| *key);
        let followers = pairs.iter().skip(1).map(|(key, _)| Some(*key)).chain(iter::once(None));
        let length = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        let (mut text, mut ends) = (String::with_capacity(length), Vec::with_capacity(pairs.len() * 2));
        for ((key, value), follower) in pairs.iter().zip(followers) {
            if follower == Some(*key) {
                continue;
            }
            for piece in [key, value] {
                text.push_str(piece);
                // An object has at most a few MiB; what would be behind 4 GiB is read as empty.
                ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            }
        }
        Self { text: text.into(), ends: ends.into() }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_map_is(pairs in vec(("[a-cé]{0,2}", "[a-cé\0]{0,3}"), 0..12), sought in "[a-cé]{0,2}") {
            let borrowed = || pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let (labels, map): (Labels, BTreeMap<&str, &str>) = (borrowed().collect(), borrowed().collect());
            prop_assert!(labels.iter().eq(map.iter().map(|(key, value)| (*key, *value))));
            prop_assert_eq!(labels.get(&sought), map.get(sought.as_str()).copied());
            prop_assert_eq!(labels.is_empty(), map.is_empty());
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(serde_json::to_string(&labels).unwrap(), text.clone());
            prop_assert_eq!(format!("{labels:?}"), format!("{map:?}"));
            prop_assert_eq!(serde_json::from_str::<Labels>(&text).unwrap(), labels);
        }
    }
}
