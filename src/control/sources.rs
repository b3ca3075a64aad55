//! The Secrets beside offers, each read by its name: watched where our rights allow it, else read every half minute.
use crate::cluster::{
    look::Kind,
    objects::{Objects, Refusal},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use kube::{
    Client,
    api::WatchParams,
    core::{Request, WatchEvent},
};
use opportune_core::{deliver::SecretData, keys};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{sleep, timeout},
};

const SECRETS: Kind = Kind::of("", "v1", "secrets");
/// How often a Secret is read that can't be watched.
const REREAD: Duration = Duration::from_secs(30);
/// After so many seconds the API server ends a watch.
const WATCH: u32 = 240;
/// A watch that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 20);
/// How soon a read or a watch that failed is tried again.
const PAUSE: Duration = Duration::from_secs(2);
/// How many Secrets are watched at most; a watch is a request that stays open.
const WATCHES: usize = 200;

/// Namespace and name of a Secret.
pub(super) type Place = (String, String);

/// What is told of a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It was read for the first time, or is followed in another way: it may be as it was.
    Now,
    /// It is another than it was.
    Changed,
}

/// What is known of a Secret beside an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It was not read yet.
    Unknown,
    /// It is not there.
    Missing,
    /// It is never handed out: why.
    Refused(String),
    /// It can't be read: why.
    Unreadable(String),
    /// It is there.
    Present(Credentials),
}

/// Values of a Secret: never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials(pub(super) Arc<SecretData>);

/// A source, and how it is followed.
#[derive(Debug)]
struct Source {
    state: State,
    is_watched: bool,
    task: AbortHandle,
}

/// All Secrets that anybody asked for.
pub(super) struct Sources {
    client: Client,
    known: Arc<Mutex<HashMap<Place, Source>>>,
    changes: mpsc::UnboundedSender<(Place, Told)>,
}

// === impl Sources ===

impl Sources {
    /// Nothing is read before it is asked for; every change of what is known is told to `changes`.
    pub(super) fn new(client: Client, changes: mpsc::UnboundedSender<(Place, Told)>) -> Self {
        Self { client, known: Arc::default(), changes }
    }

    /// What is known of a Secret; from now on it is followed.
    pub(super) fn state(&self, place: &Place) -> State {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = known.get(place) {
            return source.state.clone();
        }
        let may_watch = known.values().filter(|source| source.is_watched).count() < WATCHES;
        let follower = Follower {
            objects: Objects::new(self.client.clone()),
            place: place.clone(),
            known: Arc::clone(&self.known),
            changes: self.changes.clone(),
        };
        let task = tokio::spawn(follower.follow(may_watch)).abort_handle();
        known.insert(place.clone(), Source { state: State::Unknown, is_watched: may_watch, task });
        State::Unknown
    }

    /// Whether a change of it is seen at once; `false` while it is only read every half minute.
    pub(super) fn is_watched(&self, place: &Place) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(place).is_some_and(|source| source.is_watched)
    }

    /// Forgets all that `is_needed` does not say is needed.
    pub(super) fn retain(&self, is_needed: impl Fn(&Place) -> bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|place, source| {
            let is_needed = is_needed(place);
            if !is_needed {
                source.task.abort();
            }
            is_needed
        });
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

/// Follows one Secret.
struct Follower {
    objects: Objects,
    place: Place,
    known: Arc<Mutex<HashMap<Place, Source>>>,
    changes: mpsc::UnboundedSender<(Place, Told)>,
}

/// Why a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As it should, or for a moment.
    Over,
    /// The API server does not know what happened since that version: the Secret is older than its memory.
    Expired,
    /// We may not.
    Forbidden,
}

// === impl Follower ===

impl Follower {
    async fn follow(self, may_watch: bool) {
        loop {
            let version = match self.read().await {
                Ok(version) => version,
                Err(Refusal::Refused(reason)) => {
                    self.tell(State::Unreadable(reason));
                    sleep(REREAD).await;
                    continue;
                }
                // What was known of it stays.
                Err(_) => {
                    sleep(PAUSE).await;
                    continue;
                }
            };
            if !may_watch {
                sleep(REREAD).await;
                continue;
            }
            let mut end = self.watch(version.as_deref()).await;
            if end == End::Expired {
                end = self.watch(None).await;
            }
            match end {
                End::Over | End::Expired => self.set_watched(true),
                End::Forbidden => {
                    self.set_watched(false);
                    sleep(REREAD).await;
                }
            }
        }
    }

    /// Reads it; gives the version from which to watch.
    async fn read(&self) -> Result<Option<String>, Refusal> {
        let (namespace, name) = &self.place;
        let secret = self.objects.get(SECRETS, namespace, name).await?;
        let version =
            secret.as_ref().and_then(|secret| secret.pointer("/metadata/resourceVersion")?.as_str());
        let version = version.map(str::to_owned);
        self.tell(secret.as_ref().map_or(State::Missing, State::of));
        Ok(version)
    }

    /// Watches it until the API server ends that; by its name, so that no other Secret is sent.
    async fn watch(&self, version: Option<&str>) -> End {
        let (namespace, name) = &self.place;
        let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH);
        // Without a version, from now on: what is there then is told first.
        let request = Request::new(SECRETS.path(Some(namespace))).watch(&params, version.unwrap_or_default());
        let Ok(request) = request else { return End::Over };
        let events = match timeout(PAUSE * 5, self.objects.client().request_events::<Value>(request)).await {
            Ok(Ok(events)) => events,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => return End::Forbidden,
            Ok(Err(kube::Error::Api(status))) if status.code == 410 && version.is_some() => {
                return End::Expired;
            }
            Ok(Err(_)) | Err(_) => {
                sleep(PAUSE).await;
                return End::Over;
            }
        };
        self.set_watched(true);
        let mut events = std::pin::pin!(events);
        while let Ok(Some(event)) = timeout(SILENCE, events.next()).await {
            match event {
                Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret)) => self.tell(State::of(&secret)),
                Ok(WatchEvent::Deleted(_)) => self.tell(State::Missing),
                Ok(WatchEvent::Bookmark(_)) => {}
                Ok(WatchEvent::Error(status)) if matches!(status.code, 401 | 403) => return End::Forbidden,
                Ok(WatchEvent::Error(status)) if status.code == 410 && version.is_some() => {
                    return End::Expired;
                }
                Ok(WatchEvent::Error(_)) | Err(_) => break,
            }
        }
        sleep(PAUSE / 4).await;
        End::Over
    }

    fn tell(&self, state: State) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = known.get_mut(&self.place) else { return };
        if source.state != state {
            let told = if source.state == State::Unknown { Told::Now } else { Told::Changed };
            source.state = state;
            // Nobody listens only where the leader is one no more.
            let _ = self.changes.send((self.place.clone(), told));
        }
    }

    fn set_watched(&self, is_watched: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = known.get_mut(&self.place) else { return };
        if source.is_watched != is_watched {
            source.is_watched = is_watched;
            let _ = self.changes.send((self.place.clone(), Told::Now));
        }
    }
}

// === impl State ===

impl State {
    /// What a Secret may be used for, as it stands.
    fn of(secret: &Value) -> Self {
        if let Some(reason) = refused(secret) {
            return Self::Refused(reason);
        }
        let mut values = BTreeMap::new();
        for (key, value) in secret.get("data").and_then(Value::as_object).into_iter().flatten() {
            let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
            values.extend(bytes.map(|bytes| (key.clone(), bytes)));
        }
        Self::Present(Credentials(Arc::new(values)))
    }
}

/// Why a Secret is never handed out, whoever names it.
fn refused(secret: &Value) -> Option<String> {
    let kind = secret.get("type").and_then(Value::as_str).unwrap_or_default();
    let never =
        ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"];
    let label = secret.pointer("/metadata/labels").and_then(|labels| labels.get(keys::MANAGED_BY));
    if never.contains(&kind) {
        Some(format!("a Secret of type {kind} is never handed out"))
    } else if label.is_some_and(|label| label == "opportune") {
        Some("a Secret of Opportune itself is never handed out".to_owned())
    } else {
        None
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[rstest]
    #[case(json!({"type": "kubernetes.io/service-account-token"}))]
    #[case(json!({"type": "helm.sh/release.v1"}))]
    #[case(json!({"type": "bootstrap.kubernetes.io/token"}))]
    #[case(json!({"type": "Opaque", "metadata": {"labels": {"app.kubernetes.io/managed-by": "opportune"}}}))]
    fn some_secrets_are_never_handed_out(#[case] secret: Value) {
        assert!(matches!(State::of(&secret), State::Refused(_)));
    }

    #[test]
    fn values_are_read_and_never_printed() {
        let state =
            State::of(&json!({"type": "Opaque", "data": {"password": "aHVudGVyMg==", "broken": "%"}}));
        let State::Present(credentials) = &state else { panic!("{state:?}") };
        assert_eq!(credentials.0.get("password").map(Vec::as_slice), Some(b"hunter2".as_slice()));
        assert_eq!(credentials.0.len(), 1);
        assert_eq!(format!("{state:?}"), r#"Present({"password"})"#);
    }

    #[rstest]
    #[case::at_once(410)]
    #[case::as_the_first_thing_told(200)]
    #[tokio::test(start_paused = true)]
    async fn a_secret_older_than_the_memory_of_the_api_server_is_watched_from_now_on(#[case] code: u16) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                let query = request.uri().query().unwrap_or_default();
                let expired = json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410,
                    "message": "too old resource version"});
                let answer = match (query.contains("watch="), query.contains("resourceVersion=7")) {
                    (false, _) => {
                        (200, json!({"metadata": {"resourceVersion": "7"}, "data": {"password": "eA=="}}))
                    }
                    (true, true) if code == 410 => (410, expired),
                    (true, true) => (200, json!({"type": "ERROR", "object": expired})),
                    (true, false) => std::future::pending().await,
                };
                let body = Body::from(serde_json::to_vec(&answer.1).unwrap());
                Ok::<_, std::convert::Infallible>(Response::builder().status(answer.0).body(body).unwrap())
            }
        });
        let (changes, mut told) = mpsc::unbounded_channel();
        let sources = Sources::new(Client::new(service, "default"), changes);
        let place = ("directory".to_owned(), "reader".to_owned());
        sources.state(&place);
        told.recv().await.unwrap();
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(asked.load(Ordering::Relaxed), 3, "read, watched in vain, watched");
    }
}
