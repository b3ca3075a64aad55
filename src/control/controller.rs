//! What the leader works with, and its work: each change of a workload, an offer, a source or the catalog makes something due,
//! and each due thing is done by looking at how it is now.
use super::{
    deliver,
    events::{About, Events, Reason},
    offers,
    queue::{Done, Queue},
    refresh,
    rollouts::{self, Rollouts},
    sources::{Place, Sources, State, Told},
    uses::{Made, Object, Problem, Used, Uses},
};
use crate::{
    cluster::objects::{Objects, Refusal},
    observe::Metrics,
    serve::Shared,
    watch::{Listener, Stored, WorkloadId, Workloads},
};
use kube::Client;
use opportune_core::{
    admit::{Again, CatalogState, DeliveryState, Options, Selection, look_again, template_hash},
    discover::{Catalog, OfferId, Source},
    inject::record::Withdrawn,
    intent::Intent,
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// How many things are worked on at once.
const AT_ONCE: usize = 16;
/// How long after a change a workload is looked at for what came late: the webhook and we may see the cluster at different
/// times.
const SETTLE: Duration = Duration::from_secs(2);
/// The shortest time between two looks at all workloads for one catalog after the other.
const PASS: Duration = Duration::from_secs(2);
/// How often the delivered objects are read again is a matter of this time, and of [`VERIFIED`] at most in it.
const VERIFY: Duration = Duration::from_secs(1);
const VERIFIED: usize = 10;
/// In how many steps of that time all delivered objects are read again, where they are few.
const ROUND: usize = 20;

/// What a process knows of its cluster, and by what.
#[derive(Clone)]
pub struct Scene {
    /// The way to the cluster.
    pub client: Client,
    /// What is offered now.
    pub catalog: Shared<Catalog>,
    /// Where injection is on; of the rest, only whether the cluster was read counts.
    pub options: Shared<Options>,
    /// The workloads, and when the catalog changes.
    pub listener: Listener,
    /// Figures of this process.
    pub metrics: Arc<Metrics>,
}

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
    pub pace: refresh::Pace,
    pub offers: offers::Said,
    uses: Mutex<Uses>,
    /// The catalog by which all workloads were looked at.
    seen: Mutex<Arc<Catalog>>,
    work: mpsc::UnboundedSender<(Key, Duration)>,
}

/// Works as long as it is not dropped: the leader's work. With `rollouts`, workloads that ask for it are rolled out;
/// `identity` says in Events who we are.
pub async fn work(scene: Scene, rollouts: bool, identity: String) {
    let objects = Objects::new(scene.client.clone());
    let (events, writing) = Events::new(objects.clone(), identity);
    let (work, mut wanted) = mpsc::unbounded_channel();
    let (changes, mut changed_sources) = mpsc::unbounded_channel();
    let metrics = Arc::clone(&scene.metrics);
    let controller = Arc::new(Controller {
        objects,
        catalog: scene.catalog,
        options: scene.options,
        workloads: scene.listener.workloads.clone(),
        sources: Sources::new(scene.client, changes),
        events,
        metrics: scene.metrics,
        may_roll_out: rollouts,
        rollouts: Mutex::default(),
        pace: refresh::Pace::default(),
        offers: offers::Said::default(),
        uses: Mutex::default(),
        seen: Mutex::default(),
        work,
    });
    // Nobody counts what another leader sees.
    let _reset = Reset(metrics);
    controller.until_read().await;
    controller.workloads.take_changed();
    *controller.seen() = controller.catalog.load_full();
    let mut queue = Queue::new();
    for id in controller.workloads.ids() {
        queue.push(Key::Workload(id), Duration::ZERO);
    }
    queue.push(Key::Everything, Duration::ZERO);
    let mut running = JoinSet::new();
    let mut verify = interval(VERIFY);
    verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0;
    // When all was last looked at.
    let mut passed: Option<Instant> = None;
    let mut writing = std::pin::pin!(writing);
    loop {
        tokio::select! {
            () = controller.workloads.changed() => {
                for id in controller.workloads.take_changed() {
                    queue.push(Key::Workload(id), Duration::ZERO);
                }
                if controller.rollouts().is_waiting() {
                    queue.push(Key::Rollouts, Duration::ZERO);
                }
            }
            () = scene.listener.catalog.notified() => {
                let left = passed.map(|passed| PASS.saturating_sub(passed.elapsed()));
                queue.push(Key::Everything, left.unwrap_or_default().max(PASS / 20));
            }
            Some((place, told)) = changed_sources.recv() => controller.source_changed(&place, told),
            Some((key, delay)) = wanted.recv() => queue.push(key, delay),
            Some(done) = running.join_next(), if !running.is_empty() => match done {
                Ok((key, done)) => {
                    if key == Key::Everything {
                        passed = Some(Instant::now());
                    }
                    queue.done(&key, done);
                }
                // Its key stays busy: whatever panics on it would do so again.
                Err(error) => tracing::error!(%error, "a piece of work broke"),
            },
            key = queue.next(), if running.len() < AT_ONCE => {
                let controller = Arc::clone(&controller);
                running.spawn(async move {
                    let done = controller.work_on(&key).await;
                    (key, done)
                });
            }
            _ = verify.tick() => turn = controller.verify(turn),
            () = &mut writing => return,
        }
    }
}

/// Puts the figures back that only a leader has.
struct Reset(Arc<Metrics>);

impl Drop for Reset {
    fn drop(&mut self) {
        self.0.set_missed(0);
    }
}

// === impl Controller ===

impl Controller {
    /// Waits until the cluster was read.
    async fn until_read(&self) {
        while self.options.load().catalog == CatalogState::Unread {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn work_on(&self, key: &Key) -> Done {
        let done = match key {
            Key::Workload(id) => self.look(id).await,
            Key::Object(object) => deliver::deliver(self, object).await,
            Key::Refresh(id) => refresh::refresh(self, id).await,
            Key::Rollouts => rollouts::roll_out(self).await,
            Key::Offer(id) => offers::say(self, id).await,
            Key::Everything => self.look_at_everything(),
        };
        if done == Done::Failed
            && let Some(left) = self.uses().until_lasting(key, refresh::PATIENCE)
        {
            // Whatever pauses it has come to by then: other changes make it be tried, and fail, more often.
            self.want(key.clone(), left);
        }
        done
    }

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

    async fn look(&self, id: &WorkloadId) -> Done {
        let before = self.uses().of(id).map(|used| used.offers.clone()).unwrap_or_default();
        let Some((stored, again)) = self.again(id) else {
            self.uses().remove(id);
            self.rollouts().forget(id);
            self.want_offers(&before);
            let missed = self.uses().set_missed(id, false);
            self.metrics.set_missed(missed);
            return Done::Well;
        };
        let used = Used {
            uid: stored.facts.uid.clone(),
            template: template_hash(&stored.object),
            needs: again.needs,
            withdrawn: again.withdrawn,
            offers: again.offers,
            concerned: again.concerned,
        };
        self.follow_withdrawn(&used);
        if before != used.offers {
            self.want_offers(before.symmetric_difference(&used.offers));
        }
        let objects = self.uses().set(id, used.clone());
        for object in objects {
            self.want(Key::Object(object), Duration::ZERO);
        }
        self.want(Key::Refresh(id.clone()), SETTLE);
        super::claims::make(self, id, &used).await
    }

    /// What was withdrawn for want of credentials is tried again when they change, so they are followed.
    fn follow_withdrawn(&self, used: &Used) {
        let catalog = self.catalog.load();
        for (intent, withdrawn) in &used.withdrawn {
            let offers = withdrawn.offers().filter_map(|(id, _)| catalog.offer(intent, &id));
            offers.filter_map(|offer| place_of(offer)).for_each(|place| drop(self.sources.state(&place)));
        }
    }

    /// Follows no Secret any more that no offer names.
    fn forget_sources(&self) {
        let catalog = self.catalog.load();
        let places: HashSet<Place> = catalog.offers().filter_map(|offer| place_of(offer)).collect();
        self.sources.retain(|place| places.contains(place));
    }

    fn look_at_everything(&self) -> Done {
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
        tracing::debug!(
            micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or_default(),
            "another catalog"
        );
        Done::Well
    }

    fn source_changed(&self, place: &Place, told: Told) {
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
            let is_waiting = |(intent, withdrawn): &(&Intent, &Withdrawn)| {
                withdrawn.offers().any(|(id, _)| is_beside(intent, &id))
            };
            let waiting = uses.withdrawn().map(|(id, used)| {
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

    /// Lets the next few delivered objects be read again; returns where to go on.
    fn verify(&self, turn: usize) -> usize {
        let mut uses = self.uses();
        let mut objects = uses.objects();
        objects.sort_unstable();
        let count = objects.len().div_ceil(ROUND).min(VERIFIED);
        let start = if turn < objects.len() { turn } else { 0 };
        for object in objects.into_iter().skip(start).take(count) {
            // What failed comes back at its own pace.
            if uses.set_unverified(&object) {
                self.want(Key::Object(object), Duration::ZERO);
            }
        }
        start + count
    }

    /// ServiceOffers among those count their consumers anew.
    fn want_offers<'a>(&self, offers: impl IntoIterator<Item = &'a OfferId>) {
        for id in offers.into_iter().filter(|id| id.source == Source::ServiceOffer) {
            self.want(Key::Offer(id.clone()), Duration::from_secs(1));
        }
    }

    /// Wants something to be done.
    pub(super) fn want(&self, key: Key, delay: Duration) {
        // Nobody takes it only where we lead no more.
        let _ = self.work.send((key, delay));
    }

    fn seen(&self) -> MutexGuard<'_, Arc<Catalog>> {
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
