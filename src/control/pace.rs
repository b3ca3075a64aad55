//! How fast workloads are changed.
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How many workloads are changed in a second, for the API server's sake.
const CHANGES: f64 = 20.0;
/// How many at once after a quiet time.
const BURST: f64 = 50.0;
/// A bound on how fast workloads are changed.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Budget>);

#[derive(Debug)]
struct Budget {
    left: f64,
    counted: Instant,
    /// Up to when those who were turned away come back, one after the other.
    promised: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Budget { left: BURST, counted: now, promised: now }))
    }
}

impl Pace {
    /// Takes the right to one change; else says when to come back, each caller at another time: thousands that came back
    /// together would be looked at together.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = now.duration_since(budget.counted).as_secs_f64();
        budget.left = since.mul_add(CHANGES, budget.left).min(BURST);
        budget.counted = now;
        if budget.left >= 1.0 {
            budget.left -= 1.0;
            return Ok(());
        }
        budget.promised = budget.promised.max(now) + Duration::from_secs(1).div_f64(CHANGES);
        Err(budget.promised.duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_come_at_a_pace() {
        let pace = Pace::default();
        let waits: Vec<Duration> = (0..100).filter_map(|_| pace.take().err()).collect();
        assert_eq!(waits.len(), 50);
        assert_eq!((waits[0], waits[49]), (Duration::from_millis(50), Duration::from_millis(2500)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1000).filter(|_| pace.take().is_ok()).count(), 20);
    }
}
