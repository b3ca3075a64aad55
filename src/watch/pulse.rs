//! Whether each watch lives: when it was last heard of, and since when it fails.
use super::{Error, Resource};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// The pulses of all watches. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Vec<Pulse>);

/// The pulse of one watch. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    resource: &'static Resource,
    beat: Arc<Mutex<Beat>>,
}

#[derive(Debug, Default)]
struct Beat {
    heard: Option<SystemTime>,
    failing_since: Option<Instant>,
    /// The last failure was a watch that opened and told nothing: that another one opens says nothing.
    is_mute: bool,
    is_unknown: bool,
}

// === impl Pulses ===

impl Pulses {
    /// A pulse for each resource, of which nothing was heard yet.
    pub(super) fn new(resources: impl IntoIterator<Item = &'static Resource>) -> Self {
        Self(resources.into_iter().map(|resource| Pulse { resource, beat: Arc::default() }).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pulse> {
        self.0.iter()
    }

    /// When each resource was last heard of: an event, a bookmark, or a watch that was taken up again. Not there where it
    /// never was.
    pub fn heard(&self) -> impl Iterator<Item = (&'static str, SystemTime)> {
        self.0.iter().filter_map(|pulse| Some((pulse.resource.name, pulse.beat().heard?)))
    }

    /// Whether no watch fails for longer than `patience`.
    pub fn are_alive(&self, patience: Duration) -> bool {
        self.0.iter().all(|pulse| pulse.beat().failing_since.is_none_or(|since| since.elapsed() < patience))
    }
}

// === impl Pulse ===

impl Pulse {
    pub(super) fn resource(&self) -> &'static Resource {
        self.resource
    }

    /// The watch told something, or was ended in order.
    pub(super) fn alive(&self) {
        let mut beat = self.beat();
        (beat.is_unknown, beat.is_mute) = (false, false);
        drop(beat);
        self.heard();
    }

    /// The watch was taken up again; it has to tell something first where the last one did not.
    pub(super) fn opened(&self) {
        if !self.beat().is_mute {
            self.alive();
        }
    }

    fn heard(&self) {
        let mut beat = self.beat();
        beat.heard = Some(SystemTime::now());
        if let Some(since) = beat.failing_since.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(resource = self.resource.name, seconds, "watching again");
        }
    }

    /// The API server knows no such resource, which is an answer.
    pub(super) fn unknown(&self) {
        self.heard();
        let mut beat = self.beat();
        if !std::mem::replace(&mut beat.is_unknown, true) {
            let resource = self.resource.name;
            match self.resource.is_ours() {
                true => tracing::warn!(
                    resource,
                    "not installed: apply the CRDs (`opportune crds | kubectl apply -f -`)"
                ),
                false => tracing::debug!(resource, "not installed, and not needed"),
            }
        }
    }

    /// The watch could not be had, or broke.
    pub(super) fn failed(&self, error: &Error) {
        let mut beat = self.beat();
        beat.is_mute = matches!(error, Error::Ended { code: None, .. });
        if beat.failing_since.is_none() {
            beat.failing_since = Some(Instant::now());
            let what = if error.is_forbidden() { "no right to list and watch" } else { "can't watch" };
            tracing::warn!(%error, "{what}; trying again");
        } else {
            tracing::debug!(%error, "still failing");
        }
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
