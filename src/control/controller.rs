//! What all of the leader's work shares: the way to the cluster, what is known of it, and what is to be done.
use super::{
    events::{About, Events, Reason},
    offers,
    pace::Pace,
    policies,
    queue::Done,
    refresh,
    rollouts::Rollouts,
    sources::{Place, Sources},
    uses::{Object, Problem, Uses},
};
use crate::{
    cluster::objects::{Objects, Refusal},
    observe::Metrics,
    serve::Shared,
    watch::{Stored, WorkloadId, Workloads},
};
use opportune_core::{
    admit::{Again, CatalogState, DeliveryState, Options, Selection, look_again},
    discover::{Catalog, OfferId},
    intent::Intent,
    workload::Kind,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// Look at what a workload uses, and make its claims.
    Workload(WorkloadId),
    /// Make a Secret or ConfigMap what it should be.
    Object(Object),
    /// Look at what came late or can't be delivered, and say so.
    Refresh(WorkloadId),
    /// Roll out what waits for it.
    Rollouts,
    /// Say on a ServiceOffer how it is.
    Offer(OfferId),
    /// Look at all workloads and offers again.
    Everything,
    /// Make the webhooks of policies what they should be.
    PolicyWebhooks,
    /// Say on policies how they are.
    Policies,
    /// Look at a workload without a key of ours, since a policy or its Namespace asks for something.
    Adopt(WorkloadId),
}

/// The controller at work.
pub(super) struct Controller {
    pub objects: Objects,
    pub catalog: Shared<Catalog>,
    pub options: Shared<Options>,
    pub workloads: Workloads,
    pub sources: Sources,
    pub events: Events,
    pub metrics: Arc<Metrics>,
    pub may_roll_out: bool,
    pub rollouts: Mutex<Rollouts>,
    pub pace: Pace,
    pub offers: offers::Said,
    pub conformance: policies::Conformance,
    pub uses: Mutex<Uses>,
    /// The catalog by which all workloads were looked at.
    pub seen: Mutex<Arc<Catalog>>,
    /// The catalog by which the webhooks of policies were last asked for.
    pub asked: Mutex<Arc<Catalog>>,
    pub work: mpsc::UnboundedSender<(Key, Duration)>,
}

// === impl Controller ===

impl Controller {
    /// What the webhook would be told, were it asked now: delivery is there, and the Namespace's label decides.
    pub(super) fn options(&self) -> Options {
        Options {
            delivery: DeliveryState::Present,
            catalog: CatalogState::Read,
            selection: Selection::Catalog,
            ..self.options.load().as_ref().clone()
        }
    }

    /// A workload, and what a decision made now would come to; `None` where it is no more, or never touched.
    pub(super) fn again(&self, id: &WorkloadId) -> Option<(Stored, Again)> {
        if self.options.load().is_excluded(&id.namespace) {
            return None;
        }
        let stored = self.workloads.get(id)?;
        let again = look_again(&stored.object, &id.namespace, &self.catalog.load(), &self.options())?;
        Some((stored, again))
    }

    /// The copies that changed since the pods of a workload were made. The next run of a CronJob reads them anew.
    pub(super) fn stale(&self, id: &WorkloadId) -> BTreeMap<String, String> {
        match id.kind {
            Kind::CronJob => BTreeMap::new(),
            _ => self.uses().stale(id),
        }
    }

    /// Wants something to be done.
    pub(super) fn want(&self, key: Key, delay: Duration) {
        // Nobody takes it only where we lead no more.
        let _ = self.work.send((key, delay));
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Arc<Catalog>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rollouts(&self) -> MutexGuard<'_, Rollouts> {
        self.rollouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that something can't be delivered to a workload, and tells people of it where it is news.
    pub(super) fn troubled(
        &self,
        (id, uid): (&WorkloadId, &str),
        (intent, name): (&Intent, &str),
        problem: Problem,
        reason: &str,
    ) {
        let is_news = self.uses().trouble(id, (intent, name), problem, reason);
        if !self.uses().lasting(id, refresh::PATIENCE).is_empty() {
            self.want(Key::Refresh(id.clone()), Duration::ZERO);
        }
        if !is_news {
            return;
        }
        tracing::warn!(workload = %id, %intent, reason, "not delivered");
        self.metrics.delivered(problem.word());
        let about = About::workload(id, uid);
        match problem {
            Problem::Conflict => {
                self.events.say(about, Reason::Conflict, format!("{intent}: {reason}"), name);
            }
            Problem::Refused => {
                self.events.say(about, Reason::Refused, format!("{intent}: {reason}"), name);
            }
            Problem::Failed => {}
        }
    }

    /// What a refused write comes to: for whom, the intent, and the object that was to be made.
    pub(super) fn failed(
        &self,
        users: &[(&WorkloadId, &str, &Intent)],
        (what, name): (&str, &str),
        refusal: Refusal,
    ) -> Done {
        match refusal {
            Refusal::Terminating => return Done::Well,
            // Somebody was faster, or it is gone: it is looked at again.
            Refusal::Conflict | Refusal::NotFound => {}
            Refusal::Away(reason) => {
                tracing::debug!(reason, "the API server is away");
                // What it refused before says nothing of what it will answer then.
                for (id, _, intent) in users {
                    self.uses().well(id, intent, name);
                }
            }
            Refusal::Refused(reason) => {
                let reason = format!("the {what} can't be made: {reason}");
                for (id, uid, intent) in users {
                    self.troubled((id, uid), (intent, name), Problem::Failed, &reason);
                }
            }
        }
        Done::Failed
    }
}

/// Where an offer's credentials are.
pub(super) fn place_of(offer: &opportune_core::discover::Offer) -> Option<Place> {
    Some((offer.id.namespace.clone()?, offer.credentials.as_ref()?.name.clone()))
}
