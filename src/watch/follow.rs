//! Follows one resource: lists it, then watches it, for as long as the process lives.
//!
//! Not `kube::runtime::watcher`: it keeps to itself when a bookmark came or a watch was taken up again, and without these
//! nobody can tell a quiet watch from a dead one.
use super::{Change, Error, Resource, pulse::Pulse, told::Told};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::StreamExt as _;
use kube::{
    Client,
    api::WatchParams,
    core::{Status, WatchEvent},
};
use opportune_core::discover::{Inventory, NamespacedName};
use serde_json::Value;
use std::{collections::HashSet, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

/// After this many seconds the API server ends a watch; taking it up again shows that it can be had.
const WATCH: u32 = 50;
/// A watch that says nothing for so long is dead: the API server should have ended it before.
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 10);
/// A watch that ends sooner than this counts as a failure, or a broken proxy would be asked without a pause.
const SOON: Duration = Duration::from_secs(1);
/// How long to wait for a resource whose CRD is not installed.
const UNKNOWN: Duration = Duration::from_secs(15);
/// So many times in a row a resource that may be missing, which was there, has to be not found before it counts as gone: a proxy that does
/// not know its way for a moment answers the same.
const GONE: u32 = 3;
/// How long the API server may take to tell everything at first.
const BEGINNING: u32 = 600;

/// Between attempts: few seconds at most, or an API server that comes back would be followed again late.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(250))
    .with_max_delay(Duration::from_secs(4))
    .with_jitter()
    .without_max_times();

/// Follows one resource.
pub(super) struct Follower {
    resource: &'static Resource,
    client: Client,
    changes: mpsc::Sender<Change>,
    pulse: Pulse,
    beginning: Beginning,
    /// From where the watch goes on; `None`: from the beginning.
    version: Option<String>,
    /// Whether everything was told once.
    is_listed: bool,
    /// How many times in a row it was not found.
    not_found: u32,
}

/// How the API server tells everything at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// As a part of the watch, object by object (Kubernetes 1.32 and newer, mostly).
    Streamed,
    /// As a list, page by page.
    Listed,
}

// === impl Follower ===

impl Follower {
    pub(super) fn new(
        resource: &'static Resource,
        client: Client,
        changes: mpsc::Sender<Change>,
        pulse: Pulse,
    ) -> Self {
        Self {
            resource,
            client,
            changes,
            pulse,
            beginning: Beginning::Streamed,
            version: None,
            is_listed: false,
            not_found: 0,
        }
    }

    /// Tells all changes; ends only when nobody listens any more.
    pub(super) async fn follow(mut self) {
        let mut pauses = PAUSES.build();
        while !self.changes.is_closed() {
            let begun = Instant::now();
            let result = match self.version.clone() {
                None => self.begin().await,
                Some(from) => self.resume(&from).await,
            };
            if !result.as_ref().is_err_and(Error::is_not_found) {
                self.not_found = 0;
            }
            match result {
                Ok(()) if begun.elapsed() > SOON => {
                    self.pulse.alive();
                    pauses = PAUSES.build();
                    continue;
                }
                Ok(()) => self.pulse.failed(&self.broken_off("the watch ended at once")),
                Err(error) if self.beginning == Beginning::Streamed && error.is_not_streamed() => {
                    self.beginning = Beginning::Listed;
                    continue;
                }
                Err(error) if error.is_not_found() && self.resource.may_be_missing() => {
                    self.not_found += 1;
                    if !self.is_listed || self.not_found >= GONE {
                        self.pulse.unknown();
                        self.version = None;
                        self.listed(HashSet::new()).await;
                    }
                    sleep(UNKNOWN).await;
                    continue;
                }
                Err(error) => {
                    self.pulse.failed(&error);
                    if error.is_expired() {
                        self.version = None;
                    }
                }
            }
            sleep(pauses.next().unwrap_or(UNKNOWN)).await;
        }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        if self.beginning == Beginning::Streamed {
            self.watch(&WatchParams::default().initial_events().timeout(BEGINNING), None).await?;
            let version = self.version.clone().unwrap_or_default();
            return self.resume(&version).await;
        }
        let mut present = HashSet::new();
        let mut pages = self.resource.pages(&self.client, None);
        while let Some(objects) = pages.next().await? {
            for object in objects {
                present.extend(Inventory::key(&object));
                self.tell(Change::Applied(object)).await;
            }
        }
        self.listed(present).await;
        let version = pages.version().unwrap_or_default();
        self.version = Some(version.clone());
        self.resume(&version).await
    }

    async fn resume(&mut self, from: &str) -> Result<(), Error> {
        self.watch(&WatchParams::default().timeout(WATCH), Some(from)).await
    }

    /// Watches until the API server ends the watch, which is no error; without `from`, until everything was told.
    async fn watch(&mut self, params: &WatchParams, from: Option<&str>) -> Result<(), Error> {
        let mut present = from.is_none().then(HashSet::new);
        // No version asks for the state of now; whatever an API server has in memory may be older than what we know.
        let request = self.resource.request(None).watch(params, from.unwrap_or_default());
        let request = request.map_err(|error| self.resource.broken(error))?;
        let opened = timeout(SILENCE, self.client.request_events::<Told>(request)).await;
        let opened = opened.map_err(|_| self.silent())?.map_err(|error| self.resource.failed(error))?;
        let mut events = std::pin::pin!(opened);
        if from.is_some() {
            self.version = from.map(str::to_owned);
            self.pulse.opened();
        }
        while let Some(event) = timeout(SILENCE, events.next()).await.map_err(|_| self.silent())? {
            match event {
                Ok(WatchEvent::Added(Told(object)) | WatchEvent::Modified(Told(object))) => {
                    self.told(object, Change::Applied, &mut present).await;
                }
                Ok(WatchEvent::Deleted(Told(object))) => {
                    self.told(object, Change::Removed, &mut present).await
                }
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    let is_end = bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end");
                    self.pulse.alive();
                    match present.take() {
                        None => self.version = Some(bookmark.metadata.resource_version),
                        Some(present) if is_end => {
                            self.version = Some(bookmark.metadata.resource_version);
                            self.listed(present).await;
                            return Ok(());
                        }
                        unfinished => present = unfinished,
                    }
                }
                Ok(WatchEvent::Error(status)) => return Err(self.ended(&status)),
                // One line that is no event: that object stays as it was known, the watch goes on.
                Err(kube::Error::SerdeError(error)) => {
                    tracing::warn!(resource = self.resource.name, %error, "left out what can't be read");
                }
                Err(error) => return Err(self.resource.failed(error)),
            }
        }
        match present {
            None => Ok(()),
            Some(_) => {
                self.beginning = Beginning::Listed;
                Err(self.broken_off("the watch ended before everything was told"))
            }
        }
    }

    async fn told(
        &mut self,
        object: Value,
        change: fn(Value) -> Change,
        present: &mut Option<HashSet<NamespacedName>>,
    ) {
        let object = self.resource.complete(object);
        match present {
            // The version of one object says nothing until all are told.
            Some(present) => present.extend(Inventory::key(&object)),
            None => self.version = resource_version(&object).or(self.version.take()),
        }
        self.pulse.alive();
        self.tell(change(object)).await;
    }

    async fn listed(&mut self, present: HashSet<NamespacedName>) {
        self.is_listed = true;
        self.tell(Change::Listed { resource: self.resource, present }).await;
    }

    async fn tell(&self, change: Change) {
        // Nobody listens only when the process ends.
        let _ = self.changes.send(change).await;
    }

    fn silent(&self) -> Error {
        self.broken_off(&format!("nothing was heard for {} s", SILENCE.as_secs()))
    }

    fn broken_off(&self, reason: &str) -> Error {
        Error::Ended { resource: self.resource.name, reason: reason.to_owned(), code: None }
    }

    fn ended(&self, status: &Status) -> Error {
        let reason = format!("{} ({})", status.message, status.code);
        Error::Ended { resource: self.resource.name, reason, code: Some(status.code) }
    }
}

fn resource_version(object: &Value) -> Option<String> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned)
}
