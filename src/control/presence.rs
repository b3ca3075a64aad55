//! Whether somebody is there to deliver, as a webhook replica sees it: the Lease is looked up every few seconds, and what
//! counts is when it last changed, by this process's own monotonic clock.
use super::election::Times;
use crate::{
    cluster::LEASE,
    serve::{Condition, Shared},
};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client};
use opportune_core::admit::{DeliveryState, Options};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How long after the last sign of life delivery is taken as given.
const ALIVE: Duration = Duration::from_secs(60);
/// How long a look at the Lease may take.
const ANSWER: Duration = Duration::from_secs(10);

/// When the Lease was last seen to change. Pure: the time is an argument.
#[derive(Debug, Default)]
pub struct Clock {
    seen: Option<(LeaseSpec, Instant)>,
}

/// Looks at the Lease, and tells the core whether anybody delivers.
pub struct Presence {
    leases: Api<Lease>,
    options: Shared<Options>,
    looked_up: Condition,
    clock: Clock,
}

// === impl Clock ===

impl Clock {
    /// Takes note of the Lease as it is now. One that is seen for the first time counts as changed now; one that is gone
    /// has not changed since it was last there.
    pub fn observe(&mut self, lease: Option<&LeaseSpec>, now: Instant) {
        let Some(lease) = lease else { return };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != lease) {
            self.seen = Some((lease.clone(), now));
        }
    }

    /// Whether the Lease was made, renewed or released lately.
    pub fn state(&self, now: Instant) -> DeliveryState {
        match &self.seen {
            Some((_, at)) if now.duration_since(*at) < ALIVE => DeliveryState::Present,
            _ => DeliveryState::Away,
        }
    }
}

// === impl Presence ===

impl Presence {
    /// Delivery counts as away until the Lease was looked up; `looked_up` is told when it was, found or not.
    pub fn new(client: Client, namespace: &str, options: Shared<Options>, looked_up: Condition) -> Self {
        options.rcu(|options| Options { delivery: DeliveryState::Away, ..options.as_ref().clone() });
        Self { leases: Api::namespaced(client, namespace), options, looked_up, clock: Clock::default() }
    }

    /// Looks as long as the process lives.
    pub async fn watch(mut self) {
        // As often as it is renewed.
        let mut ticks = interval(Times::default().retry);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            match timeout(ANSWER, self.leases.get_opt(LEASE)).await {
                Ok(Ok(lease)) => {
                    is_failing = false;
                    self.clock.observe(lease.and_then(|lease| lease.spec).as_ref(), Instant::now());
                    self.looked_up.set(true);
                }
                Ok(Err(_)) | Err(_) if is_failing => {}
                Ok(Err(error)) => {
                    is_failing = true;
                    tracing::warn!(%error, "lease {LEASE} can't be looked up");
                }
                Err(_) => {
                    is_failing = true;
                    tracing::warn!("lease {LEASE} can't be looked up: no answer in {} s", ANSWER.as_secs());
                }
            }
            self.tell(self.clock.state(Instant::now()));
        }
    }

    fn tell(&self, state: DeliveryState) {
        if self.options.load().delivery == state {
            return;
        }
        self.options.rcu(|options| Options { delivery: state, ..options.as_ref().clone() });
        match state {
            DeliveryState::Present => tracing::info!("delivery is there"),
            DeliveryState::Away => tracing::warn!(
                "delivery is away: what needs a Secret or a claim is not injected (is a controller running?)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_first_seen_counts_as_seen_then_however_old_it_is() {
        let (mut clock, start) = (Clock::default(), Instant::now());
        assert_eq!(clock.state(start), DeliveryState::Away);
        clock.observe(None, start);
        assert_eq!(clock.state(start), DeliveryState::Away);
        clock.observe(Some(&lease(Some("a"), 0)), start);
        assert_eq!(clock.state(start + Duration::from_secs(59)), DeliveryState::Present);
        assert_eq!(clock.state(start + Duration::from_secs(60)), DeliveryState::Away);
    }

    #[test]
    fn a_lease_that_stands_still_is_no_sign_of_life_and_a_release_is() {
        let (mut clock, start) = (Clock::default(), Instant::now());
        let second = Duration::from_secs(1);
        clock.observe(Some(&lease(Some("a"), 0)), start);
        clock.observe(Some(&lease(Some("a"), 0)), start + second * 50);
        assert_eq!(clock.state(start + second * 61), DeliveryState::Away);
        clock.observe(Some(&lease(None, 0)), start + second * 70);
        assert_eq!(clock.state(start + second * 129), DeliveryState::Present);
        clock.observe(None, start + second * 100);
        assert_eq!(clock.state(start + second * 131), DeliveryState::Away, "a deleted lease renews nothing");
    }
}
