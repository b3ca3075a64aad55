//! What a change makes due: a workload is looked at for what it uses, a source or a catalog for whom it concerns.
use super::{
    claims,
    controller::{Controller, Key, place_of},
    policies,
    queue::Done,
    sources::{Place, State, Told},
    uses::{Made, Used},
};
use crate::watch::WorkloadId;
use opportune_core::{
    admit::template_hash,
    discover::{OfferId, Source},
    inject::record::Withdrawn,
    intent::Intent,
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How long after a change a workload is looked at for what came late: the webhook and we may see the cluster at different
/// times.
const SETTLE: Duration = Duration::from_secs(2);
/// The shortest time between two looks at all workloads for one catalog after the other.
pub(super) const PASS: Duration = Duration::from_secs(2);
// === impl Controller ===

impl Controller {
    /// Looks at what a workload uses, and makes its claims.
    pub(super) async fn look(&self, id: &WorkloadId) -> Done {
        let before = self.uses().of(id).map(|used| used.offers.clone()).unwrap_or_default();
        let Some((stored, again)) = self.again(id) else {
            self.uses().remove(id);
            self.rollouts().forget(id);
            self.want_offers(&before);
            let missed = self.uses().set_missed(id, false);
            self.metrics.set_missed(missed);
            if self.conformance.forget(id) {
                self.want(Key::Policies, policies::SETTLE);
            }
            return Done::Well;
        };
        if self.conformance.note(id, &again) {
            self.want(Key::Policies, policies::SETTLE);
        }
        let used = Used {
            uid: stored.facts.uid.clone(),
            template: template_hash(&stored.object),
            needs: again.needs,
            withdrawn: again.withdrawn,
            offers: again.offers,
            concerned: again.concerned,
        };
        self.follow_withdrawn(&id.namespace, &used);
        if before != used.offers {
            self.want_offers(before.symmetric_difference(&used.offers));
        }
        let objects = self.uses().set(id, used.clone());
        for object in objects {
            self.want(Key::Object(object), Duration::ZERO);
        }
        self.want(Key::Refresh(id.clone()), SETTLE);
        claims::make(self, id, &used).await
    }

    /// What was withdrawn for want of credentials is tried again when they change, so they are followed: those of offers that
    /// the namespace may use. The record that says so is untrusted, and would tell of others.
    fn follow_withdrawn(&self, namespace: &str, used: &Used) {
        let catalog = self.catalog.load();
        for (intent, withdrawn) in &used.withdrawn {
            let offers = withdrawn.offers().filter_map(|(id, _)| catalog.offer(intent, &id));
            let offers = offers.filter(|offer| catalog.admits(offer, namespace).is_ok());
            offers.filter_map(|offer| place_of(offer)).for_each(|place| drop(self.sources.state(&place)));
        }
    }

    /// Follows no Secret any more that no offer names.
    fn forget_sources(&self) {
        let catalog = self.catalog.load();
        let places: HashSet<Place> = catalog.offers().filter_map(|offer| place_of(offer)).collect();
        self.sources.retain(|place| places.contains(place));
    }

    /// Looks at everybody whom another catalog concerns.
    pub(super) fn look_at_everything(&self) -> Done {
        let begun = Instant::now();
        self.forget_sources();
        for object in self.uses().objects() {
            self.want(Key::Object(object), Duration::ZERO);
        }
        let catalog = self.catalog.load_full();
        let before = std::mem::replace(&mut *self.seen(), Arc::clone(&catalog));
        let difference = catalog.difference(&before);
        for (id, used) in self.uses().all() {
            if difference.concerns(&id.namespace, &used.concerned) {
                self.want(Key::Workload(id.clone()), PASS);
            }
        }
        for offer in catalog.offers().filter(|offer| offer.id.source == Source::ServiceOffer) {
            self.want(Key::Offer(offer.id.clone()), Duration::ZERO);
        }
        if difference.has_policies || !difference.namespaces.is_empty() {
            self.adopt_all();
        }
        // Whom a policy may prefer may have changed.
        self.want(Key::Policies, policies::SETTLE);
        tracing::debug!(
            micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or_default(),
            "another catalog"
        );
        Done::Well
    }

    /// Delivers anew what comes from a Secret, and tries again what waited for it.
    pub(super) fn source_changed(&self, place: &Place, told: Told) {
        let catalog = self.catalog.load();
        let is_beside = |intent: &Intent, id: &OfferId| {
            catalog.offer(intent, id).and_then(|offer| place_of(offer)).as_ref() == Some(place)
        };
        let mut uses = self.uses();
        for object in uses.objects().into_iter().filter(|object| object.made == Made::Secret) {
            let users = uses.users(&object);
            let need = users.first().and_then(|(_, used)| used.needs.secrets.get(&object.name));
            if need.is_some_and(|need| is_beside(&need.intent, &need.offer)) {
                self.want(Key::Object(object), Duration::ZERO);
            }
        }
        // What is not there is no reason to try again.
        if told == Told::Changed && matches!(self.sources.state(place), State::Present(_)) {
            let waiting = uses.withdrawn().map(|(id, used)| {
                let may_use = |intent: &Intent, offer: &OfferId| {
                    let offer = catalog.offer(intent, offer);
                    offer.is_some_and(|offer| catalog.admits(offer, &id.namespace).is_ok())
                };
                let is_waiting = |(intent, withdrawn): &(&Intent, &Withdrawn)| {
                    withdrawn.offers().any(|(id, _)| is_beside(intent, &id) && may_use(intent, &id))
                };
                let intents = used.withdrawn.iter().filter(is_waiting).map(|(intent, _)| intent.clone());
                (id.clone(), intents.collect::<BTreeSet<Intent>>())
            });
            let waiting: Vec<_> = waiting.filter(|(_, intents)| !intents.is_empty()).collect();
            for (id, intents) in waiting {
                uses.retry(&id, intents);
                self.want(Key::Refresh(id), Duration::ZERO);
            }
        }
        drop(uses);
        for offer in catalog.offers().filter(|offer| place_of(offer).as_ref() == Some(place)) {
            self.want(Key::Offer(offer.id.clone()), Duration::ZERO);
        }
    }

    /// ServiceOffers among those count their consumers anew.
    fn want_offers<'a>(&self, offers: impl IntoIterator<Item = &'a OfferId>) {
        for id in offers.into_iter().filter(|id| id.source == Source::ServiceOffer) {
            self.want(Key::Offer(id.clone()), Duration::from_secs(1));
        }
    }
}
