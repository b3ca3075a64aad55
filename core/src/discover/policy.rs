//! Policies: what a platform team says of all workloads of the namespaces that they select.
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    Labels,
    object::{self, ObjectError},
};
use crate::{
    api::{InjectionPolicySpec, StorageDefaults},
    intent::Intent,
    size,
};

/// An InjectionPolicy as it is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it says.
    pub spec: InjectionPolicySpec,
}

// === impl Policy ===

impl Policy {
    /// Reads an InjectionPolicy; what its schema refuses is refused here too, since a file was seen by no server.
    ///
    /// # Errors
    /// [`ObjectError`] names the field.
    pub(super) fn from_resource(object: &Value) -> Result<Self, ObjectError> {
        let name = object::name(object)?;
        let spec = object.get("spec").ok_or_else(|| ObjectError::new("spec: missing"))?;
        let spec: InjectionPolicySpec = serde_path_to_error::deserialize(spec).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { format!(".{path}") };
            ObjectError::new(format!("spec{path}: {}", error.inner()))
        })?;
        let policy = Self { name, spec };
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), ObjectError> {
        let fail = |field: &str, reason: &str| Err(ObjectError::new(format!("spec.{field}: {reason}")));
        let spec = &self.spec;
        if spec.workload_selector.is_some() && !(spec.enforce.is_empty() && spec.forbid.is_empty()) {
            return fail(
                "workloadSelector",
                "can't stand beside enforce and forbid: tenants choose these labels",
            );
        }
        if let Some(intent) = spec.enforce.iter().find(|intent| spec.forbid.contains(intent)) {
            return fail("enforce", &format!("{intent} is also in forbid: take it out of one"));
        }
        let Some(StorageDefaults { default_size, max_size, .. }) = &spec.storage else { return Ok(()) };
        for (field, size) in [("storage.defaultSize", default_size), ("storage.maxSize", max_size)] {
            if size.as_deref().is_some_and(|size| !size::is_size(size)) {
                return fail(field, "not a size: expected for example 10Gi");
            }
        }
        let bytes = |size: &Option<String>| size.as_deref().and_then(size::bytes);
        match bytes(default_size).zip(bytes(max_size)) {
            Some((default, max)) if default > max => fail("storage.defaultSize", "more than maxSize"),
            _ => Ok(()),
        }
    }

    /// Whether it acts in a namespace with these labels; kube-system and the like are somebody else's question.
    pub fn selects_namespace(&self, labels: &Labels) -> bool {
        self.spec.namespace_selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether it acts on a workload with these labels.
    pub fn selects_workload(&self, labels: &Labels) -> bool {
        self.spec.workload_selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether it acts on workloads that ask for nothing.
    pub fn acts_unasked(&self) -> bool {
        !self.spec.defaults.is_empty() || !self.spec.enforce.is_empty()
    }

    /// Whether it acts only where injection is on, so that its webhook is called for no other namespace.
    pub fn acts_where_on(&self) -> bool {
        self.spec.enforce.is_empty() && self.spec.forbid.is_empty()
    }

    /// Whether a variable of the user's gives way where it is set for this intent. The word counts for the intents that
    /// the policy names; where it names none, for all.
    pub fn overwrites(&self, intent: &Intent) -> bool {
        let spec = &self.spec;
        let mut named = spec.defaults.iter().chain(&spec.enforce).chain(spec.prefer.keys()).peekable();
        spec.overwrite && (named.peek().is_none() || named.any(|named| named == intent))
    }

    /// The offer that it prefers for an intent: by `prefer`, or by the class of its storage.
    pub fn preferred(&self, intent: &Intent) -> Option<&str> {
        let class = || self.spec.storage.as_ref().filter(|_| intent.is_storage())?.class.as_ref();
        self.spec.prefer.get(intent).or_else(class).map(String::as_str)
    }

    /// Its place among several: higher priority first, then by name.
    pub(crate) fn place(&self) -> impl Ord + use<> {
        (Reverse(self.spec.priority), self.name.clone())
    }
}

/// The policies known now, and the names of those that were.
#[derive(Debug, Default)]
pub(super) struct Policies {
    known: BTreeMap<String, Arc<Policy>>,
    /// In the order of their places.
    sorted: Arc<Vec<Arc<Policy>>>,
    gone: Arc<BTreeSet<String>>,
}

/// How many names of policies that are no more are remembered.
const MAX_GONE: usize = 1000;

// === impl Policies ===

impl Policies {
    /// Takes one; says whether that changes anything.
    pub(super) fn apply(&mut self, policy: Policy) -> bool {
        if self.gone.contains(&policy.name) {
            Arc::make_mut(&mut self.gone).remove(&policy.name);
        }
        if self.known.get(&policy.name).is_some_and(|known| **known == policy) {
            return false;
        }
        self.known.insert(policy.name.clone(), policy.into());
        self.sort();
        true
    }

    /// Forgets one; says whether it was known.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        if self.known.remove(name).is_none() {
            return false;
        }
        self.sort();
        let gone = Arc::make_mut(&mut self.gone);
        if gone.len() >= MAX_GONE {
            gone.pop_first();
        }
        gone.insert(name.to_owned())
    }

    fn sort(&mut self) {
        let mut all: Vec<_> = self.known.values().cloned().collect();
        all.sort_by_cached_key(|policy| policy.place());
        self.sorted = Arc::new(all);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.known.keys()
    }

    /// All of them, in the order of their places.
    pub(super) fn sorted(&self) -> Arc<Vec<Arc<Policy>>> {
        Arc::clone(&self.sorted)
    }

    /// The names of those that are no more.
    pub(super) fn gone(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.gone)
    }
}
