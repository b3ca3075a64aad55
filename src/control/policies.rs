//! What the leader does for policies: the webhooks by which they act without annotations, and their status.
use super::{
    controller::{Controller, Key},
    queue::Done,
};
use crate::{
    cluster::{
        CONFIGURATION, POLICIES_CONFIGURATION,
        look::Kind,
        objects::{Objects, Refusal},
    },
    register::{CONFIGURATIONS, policies},
    watch::WorkloadId,
};
use opportune_core::{admit::Again, decide::conflicts, intent::Intent};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How often the webhooks are looked at though nothing changed: somebody may have edited them.
const LOOK: Duration = Duration::from_secs(30);
/// How soon another write is tried after a lost race.
const SOON: Duration = Duration::from_millis(200);
/// How long after a change the status is written: one change makes many.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
const POLICIES: Kind = Kind::of("opportune.libre.sh", "v1alpha1", "injectionpolicies");

/// What workloads lack of what policies want: by workload the policies that act on it, and whether it lacks something of each.
#[derive(Debug, Default)]
pub(super) struct Conformance(Mutex<Known>);

type Known = BTreeMap<WorkloadId, BTreeMap<String, bool>>;

// === impl Conformance ===

impl Conformance {
    /// Notes what a workload lacks; says whether that is news.
    pub(super) fn note(&self, id: &WorkloadId, again: &Again) -> bool {
        let lacks =
            |(policy, lacks): (&String, &BTreeMap<Intent, String>)| (policy.clone(), !lacks.is_empty());
        let now: BTreeMap<String, bool> = again.conformance.iter().map(lacks).collect();
        let mut known = self.known();
        if now.is_empty() {
            return known.remove(id).is_some();
        }
        let before = known.insert(id.clone(), now);
        before.as_ref() != known.get(id)
    }

    /// Forgets a workload that is no more; says whether anything was known of it.
    pub(super) fn forget(&self, id: &WorkloadId) -> bool {
        self.known().remove(id).is_some()
    }

    /// How many workloads a policy acts on, and how many of them lack something.
    fn counts(&self, policy: &str) -> (usize, usize) {
        let known = self.known();
        let acting = known.values().filter_map(|policies| policies.get(policy));
        acting.fold((0, 0), |(all, lacking), lacks| (all + 1, lacking + usize::from(*lacks)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the webhooks that policies and Namespaces ask for, where they are others.
pub(super) async fn write_webhooks(controller: &Controller) -> Done {
    match try_to_write(controller).await {
        Ok(()) => {
            // Somebody may have edited a status, too.
            controller.want(Key::Policies, SETTLE);
            Done::Again(LOOK)
        }
        Err(Refusal::Conflict | Refusal::NotFound) => Done::Again(SOON),
        Err(Refusal::Away(reason)) => {
            tracing::debug!(reason, "the webhooks of policies were not written");
            Done::Failed
        }
        Err(refusal) => {
            tracing::warn!(%refusal, "the webhooks of policies can't be written: policies don't act without annotations");
            Done::Failed
        }
    }
}

async fn try_to_write(controller: &Controller) -> Result<(), Refusal> {
    let objects = &controller.objects;
    let catalog = controller.catalog.load_full();
    let Some(model) = objects.get_cluster(CONFIGURATIONS, CONFIGURATION).await? else {
        return Err(Refusal::Away(format!("there is no MutatingWebhookConfiguration {CONFIGURATION}")));
    };
    let Some(webhooks) = policies::webhooks(&catalog, &controller.options(), &model) else {
        return Err(Refusal::Away(format!(
            "the MutatingWebhookConfiguration {CONFIGURATION} has no webhook yet"
        )));
    };
    let Some(configuration) = objects.get_cluster(CONFIGURATIONS, POLICIES_CONFIGURATION).await? else {
        // Who wants no policies may have taken it away.
        return match webhooks.is_empty() {
            true => Ok(()),
            false => Err(Refusal::Refused(format!(
                "there is no MutatingWebhookConfiguration {POLICIES_CONFIGURATION}"
            ))),
        };
    };
    let count = webhooks.len();
    if let Some(configuration) = policies::written(&configuration, webhooks) {
        objects.replace_cluster(CONFIGURATIONS, POLICIES_CONFIGURATION, &configuration).await?;
        tracing::info!(webhooks = count, "wrote the webhooks of policies");
    }
    Ok(())
}

/// Says on every policy how many workloads it acts on, and what it disagrees about with others.
pub(super) async fn say(controller: &Controller) -> Done {
    let catalog = controller.catalog.load_full();
    let mut conflicts = conflicts(&catalog, &controller.options());
    let names: BTreeSet<&String> = catalog.policies().iter().map(|policy| &policy.name).collect();
    for name in names {
        let (matched, lacking) = controller.conformance.counts(name);
        let status = json!({
            "matched": matched,
            "conforming": matched - lacking,
            "lacking": lacking,
            "conflicts": conflicts.remove(name).unwrap_or_default(),
        });
        // What stands there is asked for each time: a policy may have been made anew under its name.
        match write_status(&controller.objects, name, &status).await {
            Ok(()) | Err(Refusal::NotFound) => {}
            Err(refusal) => {
                tracing::debug!(policy = name, %refusal, "its status was not written");
                return Done::Failed;
            }
        }
    }
    Done::Well
}

async fn write_status(objects: &Objects, name: &str, status: &Value) -> Result<(), Refusal> {
    let stored = objects.get_cluster(POLICIES, name).await?.ok_or(Refusal::NotFound)?;
    if stored.get("status") == Some(status) {
        return Ok(());
    }
    objects.merge_cluster_status(POLICIES, name, &json!({"status": status})).await.map(drop)
}
