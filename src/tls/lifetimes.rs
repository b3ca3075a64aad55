//! How long things are valid and how long old ones are still trusted. Time is always an argument here.
use super::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::X509Certificate;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Back-dating at most, for clocks that are behind ours.
const BEFORE: Duration = HOUR;
/// An X.509 time has whole seconds only, so shorter lives have no sensible two thirds.
const SHORTEST: Duration = Duration::from_secs(3);
/// Beyond this, a date might not fit into a certificate.
const LONGEST: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// How often the wall clock is looked at, at least: a paused node or a corrected clock is noticed.
const TICK: Duration = Duration::from_secs(60);

/// How long our authorities and certificates live. Everything else follows from it; there are no other constants of
/// minutes, so that a rotation can be watched in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    authority: Duration,
    leaf: Duration,
    overlap: Duration,
    settle: Duration,
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

// === impl Lifetimes ===

impl Lifetimes {
    /// `authority`: of a certificate authority; `leaf`: of a serving certificate. Both are replaced at two thirds.
    ///
    /// An old authority is trusted on for a leaf's lifetime and a quarter after every `caBundle` holds the new one: no
    /// replica signs with the old one after its next look, so that whatever it signed has expired by then.
    ///
    /// # Errors
    /// [`Error::Lifetimes`]: they are too short, too long, or a leaf outlives a third of its authority.
    pub fn new(authority: Duration, leaf: Duration) -> Result<Self, Error> {
        let settle = Duration::from_secs(1);
        Self { authority, leaf, overlap: leaf + leaf / 4 + settle * 2, settle }.checked()
    }

    /// The same with another time for which the API servers may lag behind a `caBundle` that was just written (1 s).
    ///
    /// # Errors
    /// [`Error::Lifetimes`]: the overlap, which grows with it, does not fit into half an authority's life any more.
    pub fn settling(self, settle: Duration) -> Result<Self, Error> {
        let overlap = self.leaf + self.leaf / 4 + settle * 2;
        Self { settle, overlap, ..self }.checked()
    }

    /// How long an authority lives.
    pub fn authority(&self) -> Duration {
        self.authority
    }

    /// How long a serving certificate lives.
    pub fn leaf(&self) -> Duration {
        self.leaf
    }

    /// How long an old authority is trusted after the new one.
    pub fn overlap(&self) -> Duration {
        self.overlap
    }

    /// How old a `caBundle` has to be before we count on every API server having it.
    pub fn settle(&self) -> Duration {
        self.settle
    }

    /// How often to look at the clock and at the cluster, whether or not something seems to have happened.
    pub(super) fn tick(&self) -> Duration {
        (self.leaf / 10).min(TICK)
    }

    fn checked(self) -> Result<Self, Error> {
        let wrong = |reason| Err(Error::Lifetimes { reason });
        if self.leaf < SHORTEST {
            return wrong("a certificate has to live for 3 seconds at least");
        }
        if self.authority > LONGEST {
            return wrong("an authority may live for 20 years at most");
        }
        if self.leaf > self.authority / 3 {
            return wrong("an authority has to live three times as long as a certificate");
        }
        if self.overlap > self.authority / 2 {
            return wrong(
                "an authority has to live at least two and a half times as long as a certificate, and longer",
            );
        }
        Ok(self)
    }
}

impl Default for Lifetimes {
    /// An authority of one year: it is replaced after eight months, so that four months without a leader go unnoticed;
    /// and if its key leaks, that ends by itself. Certificates of one day: they cost nothing, and what is renewed daily is
    /// known to work.
    fn default() -> Self {
        let settle = Duration::from_secs(1);
        Self { authority: DAY * 365, leaf: DAY, overlap: DAY + DAY / 4 + settle * 2, settle }
    }
}

// === impl Validity ===

impl Validity {
    /// Back-dated by a tenth, an hour at most: too little to move the two thirds by much.
    pub(super) fn starting(now: SystemTime, lifetime: Duration) -> Self {
        Self { from: whole_seconds(now - BEFORE.min(lifetime / 10)), until: whole_seconds(now + lifetime) }
    }

    /// What a certificate says.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let time = |seconds| {
            // What lies before 1970 is as old as that to us, and what no clock reaches never comes.
            let seconds = u64::try_from(seconds).unwrap_or(0);
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
        };
        Self { from: time(validity.not_before.timestamp()), until: time(validity.not_after.timestamp()) }
    }

    /// Whether `now` lies in it.
    pub(super) fn covers(&self, now: SystemTime) -> bool {
        self.from <= now && now < self.until
    }

    /// Whether it is time for a new one: two thirds are over, or by the clock it is not valid at all.
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        !self.covers(now) || self.from + life / 3 * 2 <= now
    }

    /// The nearest moment to `now` in it.
    pub(super) fn nearest(&self, now: SystemTime) -> SystemTime {
        now.min(self.until - Duration::from_secs(1)).max(self.from)
    }
}

/// Certificates have no fractions of a second; what we remember of them should be what they say.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const START: Duration = Duration::from_secs(1_800_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[rstest]
    #[case::one_day(24 * 3600)]
    #[case::ten_seconds(10)]
    fn a_certificate_is_due_at_two_thirds_of_its_life_and_when_the_clock_jumped(#[case] lifetime: u64) {
        let start = UNIX_EPOCH + START;
        let validity = Validity::starting(start, seconds(lifetime));
        assert!(!validity.is_due(start));
        assert!(!validity.is_due(start + seconds(lifetime * 6 / 10)));
        assert!(validity.is_due(start + seconds(lifetime * 7 / 10)), "two thirds");
        assert!(validity.is_due(start + seconds(lifetime)), "expired");
        assert!(validity.is_due(start + seconds(lifetime * 1000)), "long expired");
        assert!(!validity.is_due(start - seconds(lifetime / 25)), "a clock a little behind");
        assert!(validity.is_due(start - seconds(lifetime)), "not yet valid");
    }

    #[test]
    fn the_nearest_moment_lies_inside() {
        let start = UNIX_EPOCH + START;
        let validity = Validity::starting(start, seconds(10));
        for now in [start, start - seconds(100), start + seconds(100)] {
            assert!(validity.covers(validity.nearest(now)));
        }
        assert_eq!(validity.nearest(start), start);
    }

    #[rstest]
    #[case::default(365 * 24 * 3600, 24 * 3600, true)]
    #[case::short(30, 10, true)]
    #[case::leaf_too_short(30, 2, false)]
    #[case::leaf_too_long(30, 11, false)]
    #[case::overlap_too_long(12, 4, false)]
    #[case::authority_too_long(30 * 365 * 24 * 3600, 10, false)]
    fn lifetimes_that_could_not_work_are_refused(
        #[case] authority: u64,
        #[case] leaf: u64,
        #[case] is_fine: bool,
    ) {
        assert_eq!(Lifetimes::new(seconds(authority), seconds(leaf)).is_ok(), is_fine);
    }

    #[test]
    fn the_default_passes_its_own_check_and_overlaps_by_more_than_a_leaf() {
        let default = Lifetimes::default();
        assert_eq!(Lifetimes::new(default.authority, default.leaf).unwrap(), default);
        assert!(default.overlap > default.leaf + default.tick() + default.settle);
    }
}
