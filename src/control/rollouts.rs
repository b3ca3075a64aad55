//! Rollouts of workloads that asked for them (`refresh: rollout`): few at once, once for each cause, and only where they change
//! something. Which are under way is read from the cluster.
use super::{
    controller::Controller,
    events::{About, Reason},
    queue::Done,
    refresh::{cause, kind},
};
use crate::{
    cluster::objects::{Refusal, Run},
    watch::{Stored, WorkloadId},
};
use json_patch::{AddOperation, PatchOperation, jsonptr::PointerBuf};
use opportune_core::{admit::template_hash, decide::Refresh, keys, workload};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};
use tokio::time::Instant;

/// How many are under way in the cluster at most; in one namespace, one.
const AT_ONCE: usize = 5;
/// After so long a rollout that does not become available holds nobody up any more.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often those that wait are looked at, besides when a workload changes.
const LOOK: Duration = Duration::from_secs(5);
/// How long it is until what a dry run showed to change nothing is tried again: a webhook that is away changes nothing either.
/// Doubled each time.
const IDLE: Duration = Duration::from_secs(10);
/// How long until one that changed under our hands is tried again. Doubled each time, too.
const CHANGED: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// What waits, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    waiting: BTreeMap<WorkloadId, String>,
    /// Since when we see a rollout with that cause under way.
    seen: HashMap<WorkloadId, (String, Instant)>,
    /// Causes that were tried in vain.
    later: HashMap<WorkloadId, Later>,
}

/// When a cause is tried again.
#[derive(Debug)]
struct Later {
    cause: String,
    until: Instant,
    pause: Duration,
}

// === impl Rollouts ===

impl Rollouts {
    /// Wants a workload to be rolled out for `cause`.
    pub(super) fn want(&mut self, id: &WorkloadId, cause: String) {
        if self.later.get(id).is_some_and(|later| later.cause != cause) {
            self.later.remove(id);
        }
        self.waiting.insert(id.clone(), cause);
    }

    /// Nothing can be done for that cause, as things are: it is tried again after `pause`, the first time.
    fn put_off(&mut self, id: &WorkloadId, cause: &str, pause: Duration, now: Instant) {
        let pause = self.later.get(id).map_or(pause, |later| (later.pause * 2).min(LONGEST));
        let later = Later { cause: cause.to_owned(), until: now + pause, pause };
        self.later.insert(id.clone(), later);
    }

    /// There is no reason for it any more.
    pub(super) fn forget(&mut self, id: &WorkloadId) {
        self.waiting.remove(id);
        self.later.remove(id);
    }

    /// Nothing more is to be done for that cause; another one, which came meanwhile, waits on.
    fn settle(&mut self, id: &WorkloadId, cause: &str) {
        if self.waiting.get(id).is_some_and(|waiting| waiting == cause) {
            self.forget(id);
        }
    }

    /// Whether any waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next that may begin, where `active` are the rollouts under way as the cluster tells, each with its cause.
    fn next(&mut self, active: &BTreeMap<WorkloadId, String>, now: Instant) -> Option<(WorkloadId, String)> {
        self.seen.retain(|id, (cause, _)| active.get(id) == Some(cause));
        for (id, cause) in active {
            self.seen.entry(id.clone()).or_insert_with(|| (cause.clone(), now));
        }
        let is_fresh = |(_, since): &&(String, Instant)| now.duration_since(*since) < PATIENCE;
        let busy: BTreeSet<&str> = self
            .seen
            .iter()
            .filter(|(_, entry)| is_fresh(entry))
            .map(|(id, _)| id.namespace.as_str())
            .collect();
        let count = self.seen.values().filter(is_fresh).count();
        if count >= AT_ONCE {
            return None;
        }
        let is_due = |id: &WorkloadId| self.later.get(id).is_none_or(|later| later.until <= now);
        let next = self.waiting.iter().find(|(id, _)| !busy.contains(id.namespace.as_str()) && is_due(id));
        next.map(|(id, cause)| (id.clone(), cause.clone()))
    }
}

/// Begins the rollouts that may begin now.
pub(super) async fn roll_out(controller: &Controller) -> Done {
    loop {
        let active = active(controller);
        let next = controller.rollouts().next(&active, Instant::now());
        let Some((id, wanted)) = next else {
            let is_waiting = controller.rollouts().is_waiting();
            return if is_waiting { Done::Again(LOOK) } else { Done::Well };
        };
        match begin(controller, &id, &wanted).await {
            Ok(Begun::Idle) => controller.rollouts().put_off(&id, &wanted, IDLE, Instant::now()),
            Ok(Begun::Done) => controller.rollouts().settle(&id, &wanted),
            Err(Refusal::Conflict | Refusal::NotFound | Refusal::Terminating) => {
                // What changed it may have been looked at before this answer came, and nobody would look again.
                controller.rollouts().put_off(&id, &wanted, CHANGED, Instant::now());
            }
            Err(Refusal::Refused(reason)) => {
                tracing::warn!(workload = %id, reason, "not rolled out");
                controller.rollouts().settle(&id, &wanted);
            }
            Err(Refusal::Away(_)) => return Done::Failed,
        }
    }
}

/// The workloads that a rollout of ours keeps from being available.
fn active(controller: &Controller) -> BTreeMap<WorkloadId, String> {
    let mut active = controller.workloads.rolling();
    // What we began may not have been told to us yet.
    let rollouts = controller.rollouts();
    for (id, (cause, since)) in &rollouts.seen {
        let facts = controller.workloads.facts(id);
        let is_untold = facts.is_some_and(|facts| facts.refreshed.as_ref() != Some(cause));
        if is_untold && since.elapsed() < LOOK {
            active.insert(id.clone(), cause.clone());
        }
    }
    active
}

/// What came of the wish to roll a workload out.
enum Begun {
    /// It is rolled out, or need not be any more.
    Done,
    /// It would change nothing now.
    Idle,
}

async fn begin(controller: &Controller, id: &WorkloadId, wanted: &str) -> Result<Begun, Refusal> {
    let Some((stored, again)) = controller.again(id) else { return Ok(Begun::Done) };
    let stale = controller.stale(id);
    let is_wanted = cause(again.cause.as_deref(), &stale).as_deref() == Some(wanted)
        && stored.facts.refreshed.as_deref() != Some(wanted)
        && again.refresh == Refresh::Rollout;
    if !is_wanted {
        return Ok(Begun::Done);
    }
    let operations = marked(id.kind, &stored, wanted);
    let what = (id.namespace.as_str(), id.name.as_str(), stored.facts.version.as_str());
    if stale.is_empty() {
        let answer = controller.objects.change(kind(id.kind), what, &operations, Run::Dry).await?;
        if template_hash(&answer) == template_hash(&stored.object) {
            tracing::debug!(workload = %id, "a rollout would change nothing");
            return Ok(Begun::Idle);
        }
    }
    controller.objects.change(kind(id.kind), what, &operations, Run::Real).await?;
    controller.rollouts().seen.insert(id.clone(), (wanted.to_owned(), Instant::now()));
    tracing::info!(workload = %id, cause = wanted, "rolled out");
    let reason = if stale.is_empty() { "what it may use changed" } else { "its credentials changed" };
    let about = About::workload(id, &stored.facts.uid);
    controller.events.say(about, Reason::Refreshed, format!("its pods are made anew: {reason}"), wanted);
    Ok(Begun::Done)
}

/// The operations that write the cause onto the pod template.
fn marked(kind: workload::Kind, stored: &Stored, cause: &str) -> Vec<PatchOperation> {
    let mut tokens = kind.template().to_vec();
    let mut value = json!(cause);
    let full = ["metadata", "annotations", keys::REFRESHED];
    let mut at = stored.object.pointer(kind.template_pointer());
    let mut depth = 0;
    for token in full {
        tokens.push(token);
        depth += 1;
        at = at.and_then(|at| at.get(token));
        if !at.is_some_and(Value::is_object) {
            break;
        }
    }
    for token in full.iter().skip(depth).rev() {
        value = json!({*token: value});
    }
    vec![PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(tokens), value })]
}

#[cfg(test)]
mod tests {
    use super::*;
    use opportune_core::workload::Kind;
    use rstest::rstest;

    fn id(namespace: &str, name: &str) -> WorkloadId {
        WorkloadId { namespace: namespace.into(), kind: Kind::Deployment, name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn one_a_namespace_and_five_in_all_are_under_way_at_once() {
        let mut rollouts = Rollouts::default();
        for namespace in ["a", "b", "c", "d", "e", "f", "g"] {
            rollouts.want(&id(namespace, "1"), "x".into());
            rollouts.want(&id(namespace, "2"), "x".into());
        }
        let mut active = BTreeMap::new();
        while let Some((id, cause)) = rollouts.next(&active, Instant::now()) {
            rollouts.waiting.remove(&id);
            active.insert(id, cause);
        }
        assert_eq!(
            active.keys().map(|id| id.namespace.as_str()).collect::<Vec<_>>(),
            ["a", "b", "c", "d", "e"]
        );
        // One that is done, or deleted, frees its place.
        active.remove(&id("b", "1"));
        assert_eq!(rollouts.next(&active, Instant::now()).unwrap().0, id("b", "2"));
    }

    #[test]
    fn a_cause_that_comes_while_another_is_dealt_with_waits_on() {
        let mut rollouts = Rollouts::default();
        rollouts.want(&id("a", "1"), "x".into());
        let (first, cause) = rollouts.next(&BTreeMap::new(), Instant::now()).unwrap();
        rollouts.want(&id("a", "1"), "y".into());
        rollouts.settle(&first, &cause);
        assert_eq!(rollouts.next(&BTreeMap::new(), Instant::now()), Some((id("a", "1"), "y".to_owned())));
        rollouts.settle(&first, "y");
        assert!(!rollouts.is_waiting());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_becomes_available_holds_nobody_up_for_ever() {
        let mut rollouts = Rollouts::default();
        rollouts.want(&id("a", "2"), "x".into());
        let active = BTreeMap::from([(id("a", "1"), "x".to_owned())]);
        assert_eq!(rollouts.next(&active, Instant::now()), None);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(rollouts.next(&active, Instant::now()).unwrap().0, id("a", "2"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_change_nothing_is_tried_again_ever_later() {
        let (mut rollouts, web, none) = (Rollouts::default(), id("a", "1"), BTreeMap::new());
        rollouts.want(&web, "x".into());
        let start = Instant::now();
        let mut tried = Vec::new();
        while start.elapsed() < Duration::from_secs(200) {
            // That it is looked at again in the meantime makes no difference.
            rollouts.want(&web, "x".into());
            if rollouts.next(&none, Instant::now()).is_some() {
                tried.push(start.elapsed().as_secs());
                rollouts.put_off(&web, "x", IDLE, Instant::now());
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(tried, [0, 10, 30, 70, 150]);
        rollouts.want(&web, "y".into());
        assert_eq!(rollouts.next(&none, Instant::now()).unwrap().1, "y");
    }

    #[rstest]
    fn the_cause_is_written_wherever_annotations_are_or_are_not(
        #[values(Kind::Deployment, Kind::DaemonSet, Kind::CronJob)] kind: Kind,
    ) {
        for (template, path) in [
            (json!({}), "/metadata"),
            (json!({"metadata": {}}), "/metadata/annotations"),
            (json!({"metadata": {"annotations": {}}}), "/metadata/annotations/opportune.libre.sh~1refreshed"),
        ] {
            let object = kind.template().iter().rev().fold(template, |inner, token| json!({*token: inner}));
            let facts = crate::watch::Facts {
                uid: String::new(),
                version: String::new(),
                is_rolled_out: true,
                is_controlled: false,
                refreshed: None,
                status: None,
                told: None,
            };
            let operations = marked(kind, &Stored { object: object.clone(), facts }, "c");
            assert_eq!(operations[0].path().to_string(), format!("{}{path}", kind.template_pointer()));
            let mut after = object;
            json_patch::patch(&mut after, &operations).unwrap();
            assert_eq!(after.pointer(&kind.pod_annotations_pointer()).unwrap()[keys::REFRESHED], "c");
        }
    }
}
