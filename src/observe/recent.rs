//! Which reviews were counted already.
use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

const SLOTS: usize = 4096;

/// The uids of the last few thousand requests, in a table of fixed size and without a lock.
///
/// The API server sends one request twice when another webhook changed the object in between (reinvocation) or when
/// two of our entries match. Each slot holds the hash of the last uid that fell into it, so an older uid is forgotten
/// when a newer one needs its slot: the second call follows the first within moments.
#[derive(Debug)]
pub(super) struct Recent {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), hasher: RandomState::new() }
    }

    /// Remembers `uid`; true where it was not known.
    pub(super) fn is_new(&self, uid: &str) -> bool {
        // 0 is the empty slot.
        let hash = self.hasher.hash_one(uid) | 1;
        let slot = usize::try_from(hash >> 32).unwrap_or(0) % SLOTS;
        // `slot` is below the length; were it not, the request would be counted.
        self.slots.get(slot).is_none_or(|last| last.swap(hash, Ordering::Relaxed) != hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_new_once() {
        let recent = Recent::new();
        assert!(recent.is_new("a"));
        assert!(!recent.is_new("a"));
        assert!(recent.is_new("b"));
    }

    #[test]
    fn the_table_does_not_grow() {
        let recent = Recent::new();
        let new = (0..100_000).filter(|n| recent.is_new(&n.to_string())).count();
        assert_eq!(new, 100_000);
        assert_eq!(recent.slots.len(), SLOTS);
    }
}
