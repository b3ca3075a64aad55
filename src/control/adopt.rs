//! Workloads that have no key of ours, and of which a policy or their Namespace asks something all the same: they are looked at
//! as those are that ask themselves.
use super::{
    controller::{Controller, Key},
    queue::Done,
    refresh,
};
use crate::{
    cluster::objects::Refusal,
    watch::{Other, WorkloadId},
};
use opportune_core::{
    admit::{Inheritance, Options},
    discover::Catalog,
};
use std::{sync::Arc, time::Duration};

// === impl Controller ===

impl Controller {
    /// Whether policies or Namespaces ask for something else than when this was last asked.
    pub(super) fn asks_otherwise(&self) -> bool {
        let catalog = self.catalog.load_full();
        let mut asked = self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = std::mem::replace(&mut *asked, Arc::clone(&catalog));
        drop(asked);
        let difference = catalog.difference(&before);
        difference.has_policies || !difference.namespaces.is_empty()
    }

    /// Wants a look at every workload without a key of ours of which something is asked.
    pub(super) fn adopt_all(&self) {
        self.adopt_those(self.workloads.others());
    }

    /// The same for those that are new.
    pub(super) fn adopt_fresh(&self) {
        self.adopt_those(self.workloads.take_fresh());
    }

    fn adopt_those(&self, others: Vec<(WorkloadId, Other)>) {
        if others.is_empty() {
            return;
        }
        let (catalog, options) = (self.catalog.load(), self.options());
        for (id, _) in others.into_iter().filter(|(id, other)| is_asked(&catalog, &options, id, other)) {
            self.want(Key::Adopt(id), Duration::ZERO);
        }
    }

    /// Reads a workload, which counts from then on as one that has a key of ours.
    pub(super) async fn adopt(&self, id: &WorkloadId) -> Done {
        if !self.workloads.adopt(id) {
            return Done::Well;
        }
        match self.objects.get(refresh::kind(id.kind), &id.namespace, &id.name).await {
            Ok(Some(object)) => {
                self.workloads.take_adopted(id, &object);
                Done::Well
            }
            Ok(None) | Err(Refusal::NotFound | Refusal::Terminating) => Done::Well,
            Err(refusal) => {
                tracing::debug!(workload = %id, %refusal, "not looked at");
                Done::Failed
            }
        }
    }
}

/// Whether a policy, or the Namespace, asks something of a workload that asks for nothing itself.
fn is_asked(catalog: &Catalog, options: &Options, id: &WorkloadId, other: &Other) -> bool {
    if options.is_excluded(&id.namespace) || !options.kinds.has(id.kind) {
        return false;
    }
    let is_on = options.is_on(catalog, &id.namespace);
    let takes_defaults = is_on && !other.is_controlled;
    let asks = catalog.policies_in(&id.namespace).any(|policy| {
        let is_enforced = !policy.spec.enforce.is_empty();
        let is_default =
            !policy.spec.defaults.is_empty() && takes_defaults && policy.selects_workload(&other.labels);
        is_enforced || is_default
    });
    let inherits = options.inheritance == Inheritance::FromNamespace && takes_defaults;
    asks || (inherits && catalog.namespace_defaults(&id.namespace).is_some())
}
