//! The leader's loop: each change of a workload, an offer, a source or the catalog makes something due, and what is due is done, some
//! of it at once.
use super::{
    controller::{Controller, Key},
    deliver,
    events::Events,
    look::PASS,
    offers,
    pace::Pace,
    policies,
    queue::{Done, Queue},
    refresh, rollouts,
    sources::Sources,
};
use crate::{cluster::objects::Objects, observe::Metrics, serve::Shared, watch::Listener};
use kube::Client;
use opportune_core::{
    admit::{CatalogState, Options},
    discover::Catalog,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// How many things are worked on at once.
const AT_ONCE: usize = 16;
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
        pace: Pace::default(),
        offers: offers::Said::default(),
        conformance: policies::Conformance::default(),
        uses: Mutex::default(),
        seen: Mutex::default(),
        asked: Mutex::default(),
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
    queue.push(Key::PolicyWebhooks, Duration::ZERO);
    queue.push(Key::Policies, policies::SETTLE);
    controller.adopt_all();
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
                controller.adopt_fresh();
                if controller.rollouts().is_waiting() {
                    queue.push(Key::Rollouts, Duration::ZERO);
                }
            }
            () = scene.listener.catalog.notified() => {
                let left = passed.map(|passed| PASS.saturating_sub(passed.elapsed()));
                queue.push(Key::Everything, left.unwrap_or_default().max(PASS / 20));
                if controller.asks_otherwise() {
                    queue.push(Key::PolicyWebhooks, Duration::ZERO);
                }
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
            Key::PolicyWebhooks => policies::write_webhooks(self).await,
            Key::Policies => policies::say(self).await,
            Key::Adopt(id) => self.adopt(id).await,
        };
        if done == Done::Failed
            && let Some(left) = self.uses().until_lasting(key, refresh::PATIENCE)
        {
            // Whatever pauses it has come to by then: other changes make it be tried, and fail, more often.
            self.want(key.clone(), left);
        }
        done
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
}
