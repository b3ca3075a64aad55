//! Claims for the data paths of workloads other than StatefulSets: made once, and never resized or deleted.
use super::{
    content::owner,
    controller::Controller,
    events::{About, Reason},
    queue::Done,
    uses::{Problem, Used},
};
use crate::{
    cluster::{look::Kind, objects::Refusal},
    watch::WorkloadId,
};
use opportune_core::{
    decide::Retain,
    deliver::{ClaimToMake, workload_label},
    intent::Intent,
    keys,
};
use serde_json::{Value, json};
use std::time::Duration;

/// How often the claims of a workload are read again that were found well and that its pods use.
const VERIFY: Duration = Duration::from_secs(300);
const CLAIMS: Kind = Kind::of("", "v1", "persistentvolumeclaims");

/// Makes the claims of one workload.
pub(super) async fn make(controller: &Controller, id: &WorkloadId, used: &Used) -> Done {
    let Ok(storage) = Intent::parse("storage") else { return Done::Well };
    if used.needs.claims.is_empty() {
        return Done::Well;
    }
    // Each new catalog lets all workloads be looked at.
    let is_rolled_out = controller.workloads.facts(id).is_some_and(|facts| facts.is_rolled_out);
    if is_rolled_out && controller.uses().has_claims(id, VERIFY) {
        return Done::Well;
    }
    let mut done = Done::Well;
    for (name, claim) in &used.needs.claims {
        let one = Claim { controller, id, used, storage: &storage, name, claim };
        if one.ensure().await == Done::Failed {
            done = Done::Failed;
        }
    }
    if done == Done::Well {
        controller.uses().set_claims(id, used);
        done = Done::Again(VERIFY);
    }
    done
}

/// Whether any claim of a workload stands: what it holds is never taken away.
pub(super) async fn has_any(controller: &Controller, id: &WorkloadId, used: &Used) -> Result<bool, Refusal> {
    for (name, claim) in &used.needs.claims {
        let stored = controller.objects.get(CLAIMS, &id.namespace, name).await?;
        if stored.is_some_and(|stored| is_ours(&stored, id, claim)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One claim of one workload.
struct Claim<'a> {
    controller: &'a Controller,
    id: &'a WorkloadId,
    used: &'a Used,
    storage: &'a Intent,
    name: &'a str,
    claim: &'a ClaimToMake,
}

// === impl Claim ===

impl Claim<'_> {
    async fn ensure(&self) -> Done {
        match self.controller.objects.get(CLAIMS, &self.id.namespace, self.name).await {
            Ok(None) => self.create().await,
            Ok(Some(stored)) if is_ours(&stored, self.id, self.claim) => self.keep(stored).await,
            Ok(Some(_)) => {
                let reason =
                    format!("a claim named {} is there, and it is not ours for this workload", self.name);
                self.trouble(Problem::Conflict, &reason);
                Done::Failed
            }
            Err(refusal) => self.failed(refusal),
        }
    }

    async fn create(&self) -> Done {
        // The record that names the class is untrusted: only what is offered is made.
        let catalog = self.controller.catalog.load();
        let class = &self.claim.volume.class;
        let is_offered = catalog
            .candidates(self.storage, &self.id.namespace)
            .any(|offer| offer.settings.literal("class") == Some(class));
        if !is_offered {
            self.trouble(Problem::Failed, &format!("the StorageClass {class} is no longer offered"));
            return Done::Failed;
        }
        let mut new = self.claim.object(&self.id.namespace, self.name);
        if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut)
            && self.claim.retain == Retain::Delete
        {
            metadata.insert("ownerReferences".into(), json!([owner(self.id, &self.used.uid)]));
        }
        match self.controller.objects.create(CLAIMS, &self.id.namespace, &new).await {
            Ok(_) => {
                let claim = self.claim;
                tracing::info!(namespace = self.id.namespace, claim = self.name, class, "made a claim");
                self.controller.metrics.delivered("delivered");
                self.well();
                let note = format!(
                    "storage: {} is on the claim {} ({}, {})",
                    claim.path, self.name, claim.volume.size, claim.volume.class
                );
                let about = About::workload(self.id, &self.used.uid);
                self.controller.events.say(about, Reason::Delivered, note, "");
                Done::Well
            }
            Err(refusal) => self.failed(refusal),
        }
    }

    /// A claim that stands is left alone, but for whether it goes with its workload.
    async fn keep(&self, stored: Value) -> Done {
        self.well();
        let retain = if self.claim.retain == Retain::Delete { "false" } else { "true" };
        let mut next = stored.clone();
        let Some(metadata) = next.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Done::Well;
        };
        let others = metadata.get("ownerReferences").and_then(Value::as_array).into_iter().flatten();
        // An earlier workload of this name has another uid.
        let of = |owner: &Value, field: &str| owner.get(field).and_then(Value::as_str).map(str::to_owned);
        let is_this = |owner: &&Value| {
            of(owner, "kind").as_deref() == Some(self.id.kind.name())
                && of(owner, "name").as_ref() == Some(&self.id.name)
        };
        let mut owners: Vec<Value> = others.filter(|owner| !is_this(owner)).cloned().collect();
        if self.claim.retain == Retain::Delete {
            owners.push(owner(self.id, &self.used.uid));
        }
        if owners.is_empty() {
            metadata.remove("ownerReferences");
        } else {
            metadata.insert("ownerReferences".into(), owners.into());
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.insert(keys::RETAIN.into(), retain.into());
        }
        if next == stored {
            return Done::Well;
        }
        match self.controller.objects.replace(CLAIMS, &self.id.namespace, self.name, &next).await {
            Ok(_) => Done::Well,
            Err(refusal) => self.failed(refusal),
        }
    }

    fn well(&self) {
        self.controller.uses().well(self.id, self.storage, self.name);
    }

    fn trouble(&self, problem: Problem, reason: &str) {
        let user = (self.id, self.used.uid.as_str());
        self.controller.troubled(user, (self.storage, self.name), problem, reason);
    }

    fn failed(&self, refusal: Refusal) -> Done {
        let users = [(self.id, self.used.uid.as_str(), self.storage)];
        self.controller.failed(&users, ("claim", self.name), refusal)
    }
}

fn is_ours(stored: &Value, id: &WorkloadId, claim: &ClaimToMake) -> bool {
    let label = |key: &str| stored.pointer("/metadata/labels")?.get(key)?.as_str();
    label(keys::MANAGED_BY) == Some("opportune")
        && label(keys::WORKLOAD) == Some(workload_label(id.kind, &claim.workload).as_str())
}
