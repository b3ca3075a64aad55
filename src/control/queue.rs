//! Work that is due: each key once, at its earliest time, and never twice at once; what failed comes back later and later.
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// After the first failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What came of one piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// There is nothing to do until something changes.
    Well,
    /// It has to be looked at again after that time.
    Again(Duration),
    /// It failed, and is tried again with growing pauses.
    Failed,
}

/// Work by key.
#[derive(Debug)]
pub(super) struct Queue<K> {
    due: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
    busy: HashSet<K>,
    failures: HashMap<K, u32>,
}

// === impl Queue ===

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub(super) fn new() -> Self {
        let (due, order) = (HashMap::new(), BTreeSet::new());
        Self { due, order, busy: HashSet::new(), failures: HashMap::new() }
    }

    /// Wants `key` to be worked on after `delay`, or before where that was wanted already.
    pub(super) fn push(&mut self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        if let Some(known) = self.due.get(&key) {
            if *known <= at {
                return;
            }
            self.order.remove(&(*known, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.order.insert((at, key));
    }

    /// The next key that is due and not being worked on; waits for one. It counts as being worked on until
    /// [`Queue::done`].
    pub(super) async fn next(&mut self) -> K {
        loop {
            let now = Instant::now();
            let mut ready = self.order.iter().take_while(|(at, _)| *at <= now);
            if let Some(entry) = ready.find(|(_, key)| !self.busy.contains(key)).cloned() {
                self.order.remove(&entry);
                self.due.remove(&entry.1);
                self.busy.insert(entry.1.clone());
                return entry.1;
            }
            match self.order.iter().find(|(at, _)| *at > now) {
                Some((at, _)) => sleep_until(*at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Says what came of the work on `key`.
    pub(super) fn done(&mut self, key: &K, done: Done) {
        self.busy.remove(key);
        match done {
            Done::Well => drop(self.failures.remove(key)),
            Done::Again(delay) => {
                self.failures.remove(key);
                self.push(key.clone(), delay);
            }
            Done::Failed => {
                let failures = self.failures.entry(key.clone()).or_default();
                let pause = FIRST_PAUSE.saturating_mul(1 << (*failures).min(10)).min(LONGEST_PAUSE);
                *failures += 1;
                self.push(key.clone(), pause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_key_is_due_once_at_its_earliest_time() {
        let (mut queue, start) = (Queue::new(), Instant::now());
        queue.push("a", 5 * SECOND);
        queue.push("a", SECOND);
        queue.push("a", 3 * SECOND);
        assert_eq!((queue.next().await, start.elapsed()), ("a", SECOND));
        assert!(queue.due.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_worked_on_is_not_begun_again_before_it_is_done() {
        let mut queue = Queue::new();
        queue.push("a", Duration::ZERO);
        let first = queue.next().await;
        queue.push("a", Duration::ZERO);
        queue.push("b", SECOND);
        assert_eq!(queue.next().await, "b");
        queue.done(&first, Done::Well);
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_later_and_later_until_one_goes_well() {
        let mut queue = Queue::new();
        queue.push("a", Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            let key = queue.next().await;
            pauses.push(start.elapsed().as_millis());
            queue.done(&key, Done::Failed);
        }
        assert_eq!(pauses, [0, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        let key = queue.next().await;
        queue.done(&key, Done::Well);
        queue.push("a", Duration::ZERO);
        let key = queue.next().await;
        queue.done(&key, Done::Failed);
        let start = Instant::now();
        queue.next().await;
        assert_eq!(start.elapsed().as_millis(), 500);
    }
}
