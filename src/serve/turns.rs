//! Who gets to be answered, and when: in the order of arrival, as many at once as there are processors, and not at all where
//! it would take too long. Who can't be served in time is told at once, so that a line never grows that nobody wants to stand in.
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
    time::{Instant, timeout_at},
};

/// One answer changes what is known of their length by one part in so many.
const WEIGHT: u64 = 8;
/// So many in line for each place are many.
const LONG: usize = 16;
/// While many wait, those that came and were not seen yet are seen once in so many turns: it takes about a tenth of an answer's time
/// to send one away, and many may have come.
const TURNS_BETWEEN: usize = 8;

/// The line in which requests wait for their turn.
#[derive(Debug)]
pub(super) struct Turns {
    places: Semaphore,
    at_once: u32,
    /// How long anybody may wait.
    longest: Duration,
    /// Those that wait, and those whose turn it is.
    in_line: AtomicUsize,
    /// Turns that were taken while many waited.
    turns: AtomicUsize,
    /// How long it takes until the next one's turn, in nanoseconds: a moving average.
    usual: AtomicU64,
    /// When the last turn ended, in nanoseconds since `begun`.
    ended: AtomicU64,
    begun: Instant,
}

/// A place in the line.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    line: &'a Turns,
    since: Instant,
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
            at_once: u32::try_from(at_once).unwrap_or(u32::MAX),
            longest,
            in_line: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
            usual: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            begun: Instant::now(),
        }
    }

    /// Stands in line, or not where that would be in vain.
    pub(super) fn join(&self) -> Option<Waiting<'_>> {
        if self.expected() > self.longest {
            return None;
        }
        self.in_line.fetch_add(1, Ordering::Relaxed);
        Some(Waiting { line: self, since: Instant::now() })
    }

    /// How long who comes now would have to wait.
    fn expected(&self) -> Duration {
        let before = self.in_line.load(Ordering::Relaxed) as u64;
        Duration::from_nanos(self.usual.load(Ordering::Relaxed).saturating_mul(before))
    }

    /// Whether those who came and were not seen yet go first, so that they are counted, or sent away, before more time is spent on
    /// answers: now and then while many wait, as who is sent away may come again at once, and would leave no time for any answer.
    fn lets_others_in(&self) -> bool {
        let is_long = self.in_line.load(Ordering::Relaxed) > LONG * self.at_once as usize;
        is_long && self.turns.fetch_add(1, Ordering::Relaxed).is_multiple_of(TURNS_BETWEEN)
    }

    /// Takes note of a turn that ended. While others waited, what counts is how long after the one before: it has in it
    /// whatever else had to be done meanwhile, and the time for which a quota stopped us.
    fn ended(&self, turn: &Turn<'_>) {
        let now = nanoseconds(self.begun.elapsed());
        let before = self.ended.swap(now, Ordering::Relaxed);
        let time = match nanoseconds(turn.waiting.since.duration_since(self.begun)) < before {
            true => now.saturating_sub(before),
            false => nanoseconds(turn.begun.elapsed() / self.at_once),
        };
        let usual = self.usual.load(Ordering::Relaxed);
        // Of two that end at once, one may be forgotten: it is an average.
        let weighed = match usual {
            0 => time,
            usual => usual - usual / WEIGHT + time / WEIGHT,
        };
        self.usual.store(weighed, Ordering::Relaxed);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    /// When it is too late for a turn.
    pub(super) fn until(&self) -> Instant {
        self.since + self.line.longest
    }

    /// Waits for the turn; `None` where it did not come in time.
    pub(super) async fn turn(self) -> Option<Turn<'a>> {
        let place = timeout_at(self.until(), self.line.places.acquire()).await.ok()?.ok()?;
        if self.line.lets_others_in() {
            yield_now().await;
        }
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
        self.waiting.line.ended(self);
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
    #[case::two_at_a_time(100, 21)]
    #[case::quick_ones(10, 201)]
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
    async fn what_else_is_done_between_two_turns_counts() {
        let line = Turns::new(1, LONGEST);
        let (first, second) = (line.join().unwrap(), line.join().unwrap());
        let turn = first.turn().await;
        advance(Duration::from_millis(10)).await;
        drop(turn);
        advance(Duration::from_millis(800)).await;
        drop(second.turn().await);
        let _waiting: Vec<_> = (0..10).map(|_| line.join().expect("not too long yet")).collect();
        assert!(line.join().is_none(), "800 ms count an eighth for each of them");
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
    async fn while_many_wait_others_are_let_in_now_and_then() {
        let line = Turns::new(1, LONGEST);
        let mut waiting: Vec<_> = (0..=LONG).filter_map(|_| line.join()).collect();
        let let_in = || (0..3 * TURNS_BETWEEN).filter(|_| line.lets_others_in()).count();
        assert_eq!(let_in(), 3);
        waiting.pop();
        assert_eq!(let_in(), 0, "a short line");
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_line_is_gone_everybody_is_served_again() {
        let line = line(Duration::from_secs(5)).await;
        let one = line.join().unwrap();
        assert!(line.join().is_none());
        drop(one);
        assert!(line.join().unwrap().turn().await.is_some());
    }
}
