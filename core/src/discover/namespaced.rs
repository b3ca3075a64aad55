//! What stands in namespaces, by a key.
use std::{borrow::Borrow, collections::BTreeMap};

/// Values by namespace and key; a namespace that holds nothing any more costs nothing.
#[derive(Debug)]
pub(super) struct Namespaced<K, V>(BTreeMap<String, BTreeMap<K, V>>);

// === impl Namespaced ===

impl<K: Ord, V: PartialEq> Namespaced<K, V> {
    /// Puts a value in the place of what stands there; says whether it is another one.
    pub(super) fn put(&mut self, namespace: &str, key: K, value: V) -> bool {
        let within = match self.0.get_mut(namespace) {
            Some(within) => within,
            None => self.0.entry(namespace.to_owned()).or_default(),
        };
        let is_new = within.get(&key) != Some(&value);
        if is_new {
            within.insert(key, value);
        }
        is_new
    }

    /// Takes a value out; says whether there was one.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, namespace: &str, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let Some(within) = self.0.get_mut(namespace) else { return false };
        let was_there = within.remove(key).is_some();
        if within.is_empty() {
            self.0.remove(namespace);
        }
        was_there
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, namespace: &str, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(namespace)?.get(key)
    }

    /// Whether anything stands in a namespace.
    pub(super) fn has_any(&self, namespace: &str) -> bool {
        self.0.contains_key(namespace)
    }

    /// All that stands in one namespace.
    pub(super) fn within(&self, namespace: &str) -> impl Iterator<Item = &V> {
        self.0.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// Namespaces and keys of all.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&String, &K)> {
        self.0.iter().flat_map(|(namespace, within)| within.keys().map(move |key| (namespace, key)))
    }
}

impl<K, V> Default for Namespaced<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}
