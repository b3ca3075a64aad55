//! Leader election by a Lease: at most one replica leads at a time.
//!
//! The clocks of two machines are never compared: a Lease is free when this process has seen no change of it for as long
//! as it was taken for, by its own monotonic clock (as in client-go).
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    cluster::{FIELD_MANAGER, LEASE},
    serve::Condition,
};

/// How long a Lease holds, and how often it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How long nobody else may lead after the last renewal; at least 1 s, whole seconds.
    pub lease: Duration,
    /// After so long without a renewal the leader stops leading by itself: shorter than `lease`.
    pub deadline: Duration,
    /// How often the leader renews, and the others look.
    pub retry: Duration,
    /// How long one answer of the API server may take: several tries fit into `deadline`.
    pub answer: Duration,
}

/// A process that wants to lead.
pub struct Candidate {
    leases: Api<Lease>,
    identity: String,
    times: Times,
    looked_up: Condition,
    /// The Lease as it was last seen to change, and when.
    seen: Option<(Lease, Instant)>,
}

/// Why the Lease could not be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("lease {LEASE}: {0}")]
    Api(#[source] Box<kube::Error>),
    /// It did not answer in time.
    #[error("lease {LEASE}: no answer in time")]
    Slow,
    /// Somebody, perhaps an earlier try of ours, wrote it in between.
    #[error("lease {LEASE}: it was written in between")]
    Conflict,
}

// === impl Times ===

impl Default for Times {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
            answer: Duration::from_secs(3),
        }
    }
}

/// A name for this process that no other has, nor its own successor in a restarted container.
pub fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "opportune".to_owned());
    // The hasher's keys are random in each process.
    let random = RandomState::new().build_hasher().finish();
    format!("{host}_{}_{random:016x}", std::process::id())
}

// === impl Candidate ===

impl Candidate {
    /// Somebody who runs for the Lease `opportune` of `namespace`; `looked_up` is told when the Lease was seen, or found
    /// not to be there.
    pub fn new(
        client: Client,
        namespace: &str,
        identity: String,
        times: Times,
        looked_up: Condition,
    ) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, times, looked_up, seen: None }
    }

    /// Runs for the Lease, and runs `lead` whenever it is held; `lead` is dropped at once where the Lease is lost. When
    /// `stop` says so, the Lease is released, so that another replica need not wait.
    pub async fn run<F: Future<Output = ()>>(
        mut self,
        lead: impl Fn() -> F,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut is_failing = false;
        // Where nobody can tell us to stop any more, this is the end, too.
        while !*stop.borrow() && stop.has_changed().is_ok() {
            let began = Instant::now();
            let taken = self.take().await;
            if taken.is_ok() {
                self.looked_up.set(true);
            }
            match taken {
                Ok(true) => {
                    is_failing = false;
                    tracing::info!(identity = self.identity, "leading");
                    tokio::select! {
                        () = self.keep(began) => tracing::warn!("the lease is lost: leading no more"),
                        () = lead() => tracing::error!("the leader's work ended"),
                        () = stopped(&mut stop) => {}
                    }
                }
                Ok(false) | Err(Error::Conflict) => is_failing = false,
                Err(error) if is_failing => tracing::debug!(%error, "still no lease"),
                Err(error) => {
                    is_failing = true;
                    tracing::warn!(%error, "can't take part in the election; trying again");
                }
            }
            tokio::select! {
                () = sleep(self.times.retry) => {}
                () = stopped(&mut stop) => {}
            }
        }
        self.release().await;
    }

    /// Renews until the Lease is lost. What counts is when a renewal began: others count from when it was written.
    async fn keep(&mut self, taken: Instant) {
        let mut renewed = taken;
        while renewed.elapsed() < self.times.deadline {
            sleep(self.times.retry).await;
            let left = self.times.deadline.saturating_sub(renewed.elapsed());
            let began = Instant::now();
            match timeout(left, self.take()).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the lease was not renewed"),
                Err(_) => return,
            }
        }
    }

    /// Takes or renews the Lease; `false` while somebody else holds it.
    async fn take(&mut self) -> Result<bool, Error> {
        let Some(lease) = self.answered(self.leases.get_opt(LEASE)).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
                spec: Some(self.claim(None)),
            };
            let created = self.answered(self.leases.create(&params(), &lease)).await;
            return self.won(created);
        };
        self.observe(&lease);
        if !self.may_take(&lease) {
            return Ok(false);
        }
        let claim = self.claim(lease.spec.as_ref());
        // The version in its metadata makes the server refuse when somebody else was faster.
        let lease = Lease { spec: Some(claim), ..lease };
        let replaced = self.answered(self.leases.replace(LEASE, &params(), &lease)).await;
        self.won(replaced)
    }

    fn won(&mut self, written: Result<Lease, Error>) -> Result<bool, Error> {
        match written {
            Ok(lease) => {
                self.observe(&lease);
                Ok(true)
            }
            Err(Error::Api(error)) if is_conflict(&error) => Err(Error::Conflict),
            Err(error) => Err(error),
        }
    }

    fn observe(&mut self, lease: &Lease) {
        if self.seen.as_ref().is_none_or(|(seen, _)| seen.spec != lease.spec) {
            self.seen = Some((lease.clone(), Instant::now()));
        }
    }

    fn may_take(&self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        let holds = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let is_over = self.seen.as_ref().is_some_and(|(_, at)| at.elapsed() >= holds);
        holder.is_empty() || holder == self.identity || is_over
    }

    /// The Lease as ours from now on.
    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_ours = before.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.times.lease.as_secs()).ok(),
            acquire_time: match before {
                Some(spec) if is_ours => spec.acquire_time.clone(),
                _ => Some(now.clone()),
            },
            renew_time: Some(now),
            lease_transitions: Some(if is_ours || before.is_none() { transitions } else { transitions + 1 }),
            ..before.cloned().unwrap_or_default()
        }
    }

    /// Gives the Lease back, where it is ours.
    async fn release(&self) {
        let Ok(Some(lease)) = self.answered(self.leases.get_opt(LEASE)).await else { return };
        let Some(spec) = lease.spec.clone() else { return };
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return;
        }
        let spec = LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..spec
        };
        let lease = Lease { spec: Some(spec), ..lease };
        match self.answered(self.leases.replace(LEASE, &params(), &lease)).await {
            Ok(_) => tracing::info!("the lease is released"),
            Err(error) => tracing::warn!(%error, "the lease was not released: another replica will wait"),
        }
    }

    async fn answered<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        let answer = timeout(self.times.answer, request).await.map_err(|_| Error::Slow)?;
        answer.map_err(|error| Error::Api(Box::new(error)))
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Who told us when to stop is gone: stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const LONG: Duration = Duration::from_secs(15);

    fn candidate() -> Candidate {
        // Never asked: what is tested here decides by what was seen.
        let nobody = tower::service_fn(async |_: http::Request<kube::client::Body>| {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody answers"))
        });
        let client = Client::new(nobody, "default");
        Candidate::new(client, "default", "us".to_owned(), Times::default(), Condition::default())
    }

    fn held_by(holder: Option<&str>) -> Lease {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[rstest]
    #[case::ours(Some("us"), Duration::ZERO, true)]
    #[case::released(None, Duration::ZERO, true)]
    #[case::released_by_an_empty_name(Some(""), Duration::ZERO, true)]
    #[case::first_seen(Some("them"), Duration::ZERO, false)]
    #[case::still_theirs(Some("them"), LONG - Duration::from_millis(1), false)]
    #[case::over(Some("them"), LONG, true)]
    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_when_it_is_free_or_stood_still(
        #[case] holder: Option<&str>,
        #[case] unchanged_for: Duration,
        #[case] expected: bool,
    ) {
        let (mut candidate, lease) = (candidate(), held_by(holder));
        candidate.observe(&lease);
        tokio::time::advance(unchanged_for).await;
        candidate.observe(&lease);
        assert_eq!(candidate.may_take(&lease), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_by_somebody_else_begins_the_wait_anew() {
        let (mut candidate, mut lease) = (candidate(), held_by(Some("them")));
        candidate.observe(&lease);
        tokio::time::advance(LONG).await;
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        }
        candidate.observe(&lease);
        assert!(!candidate.may_take(&lease));
    }

    #[tokio::test]
    async fn a_claim_counts_each_change_of_leader_and_keeps_when_we_began() {
        let candidate = candidate();
        let taken = candidate.claim(held_by(Some("them")).spec.as_ref());
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("us"), Some(4)));
        let renewed = candidate.claim(Some(&taken));
        assert_eq!(renewed.lease_transitions, Some(4));
        assert_eq!(renewed.acquire_time, taken.acquire_time);
        assert_ne!(renewed.renew_time, taken.renew_time);
        assert_eq!(candidate.claim(None).lease_transitions, Some(0));
    }

    #[test]
    fn no_two_processes_have_one_name() {
        assert_ne!(identity(), identity());
    }
}
