//! Whether this replica wants requests: a set of named conditions that all have to hold.
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// All conditions of one process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// Locked to register and to report only, never by a review.
    conditions: Arc<Mutex<Vec<(&'static str, Condition)>>>,
    draining: Arc<AtomicBool>,
}

/// One condition; it does not hold until it is set. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Condition(Arc<AtomicBool>);

// === impl Readiness ===

impl Readiness {
    /// Adds a condition that has to hold, by a name for people.
    pub fn register(&self, name: &'static str) -> Condition {
        let condition = Condition::default();
        let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.push((name, condition.clone()));
        condition
    }

    /// From now on unready, whatever the conditions say.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the shutdown began.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether everything holds, and a line for each condition.
    pub fn report(&self) -> (bool, String) {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_ready = true;
        let mut lines = String::new();
        let draining = (self.is_draining()).then_some(("not shutting down", false));
        let registered = conditions.iter().map(|(name, condition)| (*name, condition.holds()));
        for (name, holds) in registered.chain(draining) {
            is_ready &= holds;
            lines.push_str(&format!("{name}: {}\n", if holds { "yes" } else { "no" }));
        }
        (is_ready, lines)
    }
}

// === impl Condition ===

impl Condition {
    /// Says whether the condition holds now.
    pub fn set(&self, holds: bool) {
        self.0.store(holds, Ordering::Relaxed);
    }

    fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_has_to_hold_and_is_listed() {
        let readiness = Readiness::default();
        let synced = readiness.register("watches synced");
        readiness.register("certificate loaded").set(true);
        assert_eq!(readiness.report(), (false, "watches synced: no\ncertificate loaded: yes\n".to_owned()));
        synced.set(true);
        assert_eq!(readiness.report(), (true, "watches synced: yes\ncertificate loaded: yes\n".to_owned()));
    }

    #[test]
    fn draining_is_unready_for_good() {
        let readiness = Readiness::default();
        let condition = readiness.register("certificate loaded");
        readiness.drain();
        condition.set(true);
        assert_eq!(
            readiness.report(),
            (false, "certificate loaded: yes\nnot shutting down: no\n".to_owned())
        );
    }
}
