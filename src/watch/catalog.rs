//! Changes in, catalogs out.
use super::{
    Change, Pulses, RESOURCES, Workloads,
    config_maps::{self, Place},
    follow::Follower,
    resource::{further, is_further},
};
use crate::serve::{Condition, Readiness, Shared};
use kube::Client;
use opportune_core::{
    admit::{CatalogState, Options},
    discover::{Catalog, Inventory},
    workload::Kinds,
};
use serde_json::Value;
use std::{collections::BTreeSet, panic::resume_unwind, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

/// Changes on their way; when so many wait, the watches do too. Few: at the start everything comes at once, and memory for what
/// waits would be needed once.
const IN_FLIGHT: usize = 16;
/// Changes taken at once.
const BATCH: usize = 16;
/// The shortest time between two catalogs.
const PAUSE: Duration = Duration::from_millis(20);
/// Of the time, at most one part in so many is spent on making catalogs.
const SHARE: u32 = 5;
/// How often the ConfigMaps that recipes name are read again.
const REREAD: Duration = Duration::from_secs(30);
/// How often the pulse of the watches is taken.
const PULSE: Duration = Duration::from_secs(1);
/// How long a watch may fail before this replica wants no more requests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who works on what a [`Feed`] finds out. Clones share it.
#[derive(Clone, Default)]
pub struct Listener {
    /// The workloads that have a key of ours.
    pub workloads: Workloads,
    /// Told whenever there is another catalog.
    pub catalog: Arc<Notify>,
}

/// A live catalog in the making.
pub struct Feed {
    client: Client,
    inventory: Inventory,
    catalog: Shared<Catalog>,
    options: Shared<Options>,
    is_read: Condition,
    are_alive: Condition,
    pulses: Pulses,
    /// Resources of which not all objects were told yet.
    missing: BTreeSet<&'static str>,
    /// ConfigMaps that were asked for since they were first sought.
    asked: BTreeSet<Place>,
    listener: Option<Listener>,
}

// === impl Pulses ===

impl Pulses {
    /// A pulse for each resource that a [`Feed`] follows: what discovery reads, and the workloads of those kinds.
    pub fn of(kinds: &Kinds) -> Self {
        Self::new(RESOURCES.iter().chain(further(kinds)))
    }

    /// One for each that discovery reads.
    pub fn of_discovery() -> Self {
        Self::new(&RESOURCES)
    }
}

// === impl Feed ===

impl Feed {
    /// A feed into `catalog`, by the recipes and profiles of an otherwise empty `inventory`. Until the cluster was read once,
    /// `options` say so, and `readiness` lacks `cluster read`; it lacks `watches alive` where one can't be had for long.
    pub fn new(
        client: Client,
        inventory: Inventory,
        catalog: Shared<Catalog>,
        options: Shared<Options>,
        readiness: &Readiness,
        pulses: Pulses,
    ) -> Self {
        options.rcu(|options| Options { catalog: CatalogState::Unread, ..options.as_ref().clone() });
        let is_read = readiness.register("cluster read");
        let are_alive = readiness.register("watches alive");
        let missing = pulses.iter().map(|pulse| pulse.resource().name).collect();
        let asked = BTreeSet::new();
        let listener = None;
        Self { client, inventory, catalog, options, is_read, are_alive, pulses, missing, asked, listener }
    }

    /// Tells `listener`, too.
    pub fn telling(self, listener: Option<Listener>) -> Self {
        Self { listener, ..self }
    }

    /// Follows the cluster; ends only where something of it broke, which is a defect.
    pub async fn run(self) {
        let (changes, told) = mpsc::channel(IN_FLIGHT);
        let mut followers = JoinSet::new();
        for pulse in self.pulses.iter() {
            let (client, changes) = (self.client.clone(), changes.clone());
            followers.spawn(Follower::new(pulse.resource(), client, changes, pulse.clone()).follow());
        }
        tokio::select! {
            () = self.take_changes(told, &changes) => {}
            _ = followers.join_next() => {}
        }
    }

    async fn take_changes(mut self, mut told: mpsc::Receiver<Change>, changes: &mpsc::Sender<Change>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        let mut pulse = interval(PULSE);
        let mut reread = interval(REREAD);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reread.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Reads of ConfigMaps on their way: never more than one round.
        let mut reading = JoinSet::new();
        loop {
            let publish = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = told.recv_many(&mut batch, BATCH) => {
                    batch.drain(..).for_each(|change| self.take(change));
                    due = due.or(Some(earliest.max(Instant::now())));
                }
                () = publish => {
                    due = None;
                    let took = self.publish().await;
                    earliest = Instant::now() + PAUSE.max(took * SHARE);
                    if self.is_everything_read() && reading.is_empty() {
                        self.ask(&mut reading, changes, false);
                    }
                }
                _ = reread.tick() => {
                    if self.is_everything_read() && reading.is_empty() {
                        self.ask(&mut reading, changes, true);
                    }
                }
                Some(_) = reading.join_next() => {}
                _ = pulse.tick() => self.are_alive.set(self.pulses.are_alive(PATIENCE)),
            }
        }
    }

    fn is_everything_read(&self) -> bool {
        self.missing.is_empty()
    }

    fn take(&mut self, change: Change) {
        if let Some(listener) = &self.listener {
            listener.workloads.take(&change);
        }
        if matches!(&change, Change::Applied(object) | Change::Removed(object) if is_further(object)) {
            return;
        }
        match change {
            Change::Applied(object) => {
                if let Err(error) = self.inventory.apply(&object) {
                    told_wrong(&object, &error.to_string());
                }
            }
            Change::Removed(object) => {
                if let Err(error) = self.inventory.remove(&object) {
                    told_wrong(&object, &error.to_string());
                }
            }
            Change::Listed { resource, present } => {
                self.inventory.retain(resource.kind, &present);
                self.missing.remove(resource.name);
            }
        }
    }

    /// Makes a catalog where something changed; returns how long that took.
    async fn publish(&mut self) -> Duration {
        if !self.is_everything_read() {
            return Duration::ZERO;
        }
        let is_first = self.options.load().catalog == CatalogState::Unread;
        if is_first {
            self.read_config_maps().await;
        }
        let begun = Instant::now();
        if let Some(catalog) = self.make().await {
            self.catalog.store(Arc::new(catalog));
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(micros, "the catalog changed");
            if let Some(listener) = &self.listener {
                listener.catalog.notify_one();
            }
        }
        if is_first {
            self.options.rcu(|options| Options { catalog: CatalogState::Read, ..options.as_ref().clone() });
            self.is_read.set(true);
            tracing::info!(offers = self.catalog.load().offers().count(), "the cluster was read");
        }
        begun.elapsed()
    }

    /// What changed, drawn on a thread that answers nobody: in a namespace with many Services it may take a while. Old catalogs
    /// need no such care: what was not shared with the next one is little.
    async fn make(&mut self) -> Option<Catalog> {
        if self.inventory.is_settled() {
            return None;
        }
        let mut inventory = std::mem::take(&mut self.inventory);
        let made = spawn_blocking(move || {
            let catalog = inventory.changed();
            (inventory, catalog)
        });
        match made.await {
            Ok((inventory, catalog)) => {
                self.inventory = inventory;
                catalog
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // Only where the process ends.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The first offers must not lack what stands in a ConfigMap.
    async fn read_config_maps(&mut self) {
        let places: BTreeSet<Place> = self.inventory.sought_config_maps().into_iter().cloned().collect();
        self.asked.clone_from(&places);
        for change in config_maps::read(&self.client, places).await {
            self.take(change);
        }
    }

    /// Asks for the ConfigMaps that are sought, or only for those that were not yet.
    fn ask(&mut self, reading: &mut JoinSet<()>, changes: &mpsc::Sender<Change>, again: bool) {
        let sought: BTreeSet<Place> = self.inventory.sought_config_maps().into_iter().cloned().collect();
        let places: BTreeSet<Place> =
            sought.iter().filter(|place| again || !self.asked.contains(*place)).cloned().collect();
        self.asked = sought;
        if places.is_empty() {
            return;
        }
        let (client, changes) = (self.client.clone(), changes.clone());
        reading.spawn(async move {
            for change in config_maps::read(&client, places).await {
                // Nobody listens only when the process ends.
                let _ = changes.send(change).await;
            }
        });
    }
}

/// Says which object can't be taken; its text comes from the cluster, and is escaped by the log's writer.
fn told_wrong(object: &Value, error: &str) {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
    tracing::warn!(kind, namespace, name, error, "left out of the catalog");
}
