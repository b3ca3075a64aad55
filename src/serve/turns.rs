//! Who gets to be answered, and when: in the order of arrival, as many at once as there are processors, and not at all where
//! it would take too long. Who can't be served in time is told at once, so that a line never grows that nobody wants to stand in.
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

/// One answer changes what is known of their length by one part in so many.
const WEIGHT: u64 = 8;

/// The line in which requests wait for their turn.
#[derive(Debug)]
pub(super) struct Turns {
    places: Semaphore,
    at_once: u64,
    /// How long anybody may wait.
    longest: Duration,
    /// Those that wait, and those whose turn it is.
    in_line: AtomicUsize,
    /// How long an answer takes, in nanoseconds: a moving average.
    usual: AtomicU64,
}

/// A place in the line.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    line: &'a Turns,
    /// When the time is over.
    until: Instant,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    waiting: Waiting<'a>,
    begun: Instant,
    _place: SemaphorePermit<'a>,
}

// === impl Turns ===

impl Turns {
    /// A line from which `at_once` are served at a time, and in which nobody waits longer than `longest`.
    pub(super) fn new(at_once: usize, longest: Duration) -> Self {
        let at_once = at_once.max(1);
        Self {
            places: Semaphore::new(at_once),
            at_once: at_once as u64,
            longest,
            in_line: AtomicUsize::new(0),
            usual: AtomicU64::new(0),
        }
    }

    /// Stands in line, or not where that would be in vain.
    pub(super) fn join(&self) -> Option<Waiting<'_>> {
        if self.expected() > self.longest {
            return None;
        }
        self.in_line.fetch_add(1, Ordering::Relaxed);
        Some(Waiting { line: self, until: Instant::now() + self.longest })
    }

    /// How long who comes now would have to wait.
    fn expected(&self) -> Duration {
        let before = self.in_line.load(Ordering::Relaxed) as u64 / self.at_once;
        Duration::from_nanos(self.usual.load(Ordering::Relaxed).saturating_mul(before))
    }

    fn took(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let usual = self.usual.load(Ordering::Relaxed);
        // Of two that end at once, one may be forgotten: it is an average.
        let weighed = match usual {
            0 => time,
            usual => usual - usual / WEIGHT + time / WEIGHT,
        };
        self.usual.store(weighed, Ordering::Relaxed);
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    /// When it is too late for a turn.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Waits for the turn; `None` where it did not come in time.
    pub(super) async fn turn(self) -> Option<Turn<'a>> {
        let place = timeout_at(self.until, self.line.places.acquire()).await.ok()?.ok()?;
        Some(Turn { waiting: self, begun: Instant::now(), _place: place })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.line.in_line.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Turn ===

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.waiting.line.took(self.begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tokio::time::{advance, sleep};

    const LONGEST: Duration = Duration::from_secs(1);

    /// A line from which two are served at a time, each for this long.
    async fn line(usual: Duration) -> Turns {
        let line = Turns::new(2, LONGEST);
        let turn = line.join().unwrap().turn().await;
        advance(usual).await;
        drop(turn);
        line
    }

    #[rstest]
    #[case::two_at_a_time(100, 22)]
    #[case::quick_ones(10, 202)]
    #[case::one_that_fills_the_time(1001, 2)]
    #[tokio::test(start_paused = true)]
    async fn as_many_stand_in_line_as_can_be_served_in_time(#[case] usual: u64, #[case] number: usize) {
        let line = line(Duration::from_millis(usual)).await;
        let mut waiting: Vec<_> = (0..number).map(|_| line.join().expect("not too long yet")).collect();
        assert!(line.join().is_none(), "the line is too long");
        waiting.truncate(number - 2);
        assert!(line.join().is_some(), "two went");
    }

    #[tokio::test(start_paused = true)]
    async fn before_anything_is_known_everybody_may_wait() {
        let line = Turns::new(1, LONGEST);
        let waiting: Vec<_> = (0..10_000).filter_map(|_| line.join()).collect();
        assert_eq!(waiting.len(), 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longer_than_was_thought_goes_when_the_time_is_over() {
        let line = Turns::new(1, LONGEST);
        let first = line.join().unwrap().turn().await.unwrap();
        let waiting = line.join().unwrap();
        let begun = Instant::now();
        assert!(waiting.turn().await.is_none());
        assert_eq!(begun.elapsed(), LONGEST);
        drop(first);
        assert!(line.join().unwrap().turn().await.is_some(), "the next one has a place");
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_the_order_of_arrival() {
        let line = std::sync::Arc::new(Turns::new(1, LONGEST));
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..5 {
            let (line, tell) = (line.clone(), tell.clone());
            tokio::spawn(async move {
                let turn = line.join().unwrap().turn().await;
                tell.send(number).unwrap();
                sleep(Duration::from_millis(1)).await;
                drop(turn);
            });
        }
        drop(tell);
        for number in 0..5 {
            assert_eq!(told.recv().await, Some(number));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_line_is_gone_everybody_is_served_again() {
        let line = line(Duration::from_secs(5)).await;
        let two = [line.join().unwrap(), line.join().unwrap()];
        assert!(line.join().is_none());
        drop(two);
        assert!(line.join().unwrap().turn().await.is_some());
    }
}
