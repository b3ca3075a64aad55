//! Events: what became of a workload's wishes, for people who have never heard of Opportune.
//!
//! The name of an Event is made of what it says and of whom, so that it is there once, whichever replica says it and however
//! often.
use crate::{
    cluster::{
        look::Kind,
        objects::{Objects, Refusal},
    },
    watch::WorkloadId,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use opportune_core::name::{bounded, hex};
use serde_json::{Value, json};
use std::{collections::HashSet, time::Duration};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

const EVENTS: Kind = Kind::of("events.k8s.io", "v1", "events");
/// The time between two Events, for the API server's sake.
const PACE: Duration = Duration::from_millis(40);
/// How many Events may wait; further ones are dropped.
const WAITING: usize = 20_000;
/// How many Events are remembered as told.
const REMEMBERED: usize = 50_000;
/// The longest note, in characters: the API server takes 1024 bytes.
const NOTE: usize = 500;
const CONTROLLER: &str = "opportune.libre.sh/controller";

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Bound,
    Absent,
    Kept,
    Conflict,
    Delivered,
    Withdrawn,
    Refused,
    /// What a workload wants came or changed after it was made.
    Changed,
    /// It was made anew for that.
    Refreshed,
}

/// One Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Whom it is about.
    pub about: About,
    pub reason: Reason,
    pub note: String,
    /// What tells this from another occurrence of the same.
    pub cause: String,
}

/// The object that an Event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    api_version: &'static str,
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
}

/// Where Events are handed in.
#[derive(Clone)]
pub(super) struct Events(mpsc::Sender<Event>);

// === impl Events ===

impl Events {
    /// Somewhere to hand in Events, and what writes them, which has to run.
    pub(super) fn new(objects: Objects, identity: String) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), write(objects, identity, receiver))
    }

    /// Says something about a workload.
    pub(super) fn say(&self, about: About, reason: Reason, note: impl Into<String>, cause: &str) {
        // Many may wait, and a status that somebody else wrote is as long as an annotation can be.
        let note: String = note.into().chars().take(NOTE).collect();
        let event = Event { about, reason, note, cause: cause.to_owned() };
        if self.0.try_send(event).is_err() {
            tracing::debug!("too many events wait: one is dropped");
        }
    }
}

async fn write(objects: Objects, identity: String, mut events: mpsc::Receiver<Event>) {
    let mut told: HashSet<String> = HashSet::new();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(event) = events.recv().await {
        let name = event.name();
        if !told.insert(name.clone()) {
            continue;
        }
        if told.len() > REMEMBERED {
            told.clear();
        }
        pace.tick().await;
        for _ in 0..3 {
            match objects.create(EVENTS, &event.about.namespace, &event.object(&name, &identity)).await {
                Err(Refusal::Away(reason)) => {
                    tracing::debug!(reason, "an event was not written");
                    // It may be said again.
                    told.remove(&name);
                    sleep(Duration::from_secs(2)).await;
                }
                Err(Refusal::Refused(reason)) => {
                    tracing::warn!(reason, "events are refused");
                    break;
                }
                // Told already, or its namespace is gone.
                _ => break,
            }
        }
    }
}

// === impl About ===

impl About {
    /// A workload.
    pub(super) fn workload(id: &WorkloadId, uid: &str) -> Self {
        Self {
            api_version: id.kind.api_version(),
            kind: id.kind.name(),
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            uid: uid.to_owned(),
        }
    }
}

// === impl Event ===

impl Event {
    fn name(&self) -> String {
        let digest = hex(&[&self.about.uid, self.reason.word(), &self.note, &self.cause], 16);
        bounded(&self.about.name, &digest)
    }

    fn object(&self, name: &str, identity: &str) -> Value {
        let note: String =
            self.note.chars().take(NOTE).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let instance: String = identity.chars().take(128).collect();
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self.about.namespace},
            "eventTime": MicroTime(Timestamp::now()),
            "reportingController": CONTROLLER,
            "reportingInstance": instance,
            "action": "Deliver",
            "reason": self.reason.word(),
            "type": if self.reason.is_warning() { "Warning" } else { "Normal" },
            "note": note,
            "regarding": {
                "apiVersion": self.about.api_version,
                "kind": self.about.kind,
                "namespace": self.about.namespace,
                "name": self.about.name,
                "uid": self.about.uid,
            },
        })
    }
}

// === impl Reason ===

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::Bound => "Bound",
            Self::Absent => "Absent",
            Self::Kept => "Kept",
            Self::Conflict => "Conflict",
            Self::Delivered => "Delivered",
            Self::Withdrawn => "Withdrawn",
            Self::Refused => "Refused",
            Self::Changed => "Changed",
            Self::Refreshed => "Refreshed",
        }
    }

    fn is_warning(self) -> bool {
        matches!(self, Self::Conflict | Self::Withdrawn | Self::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opportune_core::workload::Kind as Workload;

    fn event(note: &str, cause: &str) -> Event {
        let id = WorkloadId { namespace: "blog".into(), kind: Workload::Deployment, name: "w".repeat(200) };
        let about = About::workload(&id, "uid");
        Event { about, reason: Reason::Delivered, note: note.into(), cause: cause.into() }
    }

    #[test]
    fn the_same_is_said_once_and_another_occurrence_again() {
        assert_eq!(event("a", "1").name(), event("a", "1").name());
        assert_ne!(event("a", "1").name(), event("a", "2").name());
        assert!(event("a", "1").name().len() <= 63);
    }

    #[test]
    fn a_note_is_one_line_that_the_api_server_takes() {
        let object = event(&"é\n".repeat(1000), "").object("name", &"i".repeat(300));
        assert!(object["note"].as_str().unwrap().len() <= 1024);
        assert!(!object["note"].as_str().unwrap().contains('\n'));
        assert_eq!(object["reportingInstance"].as_str().unwrap().len(), 128);
    }
}
