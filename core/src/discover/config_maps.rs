//! ConfigMaps that recipes look for beside a Service: of each only what they read, and nothing of any other.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Labels, Recipes, Taken,
    namespaced::Namespaced,
    object::{self, ObjectError},
};

/// The ConfigMaps of the cluster that recipes look for.
#[derive(Debug, Default)]
pub(super) struct ConfigMaps {
    /// What is read of each, by its name.
    known: Namespaced<String, Labels>,
    /// Namespaces and names of those that are looked for, by namespace and name of the Service.
    sought: BTreeMap<(String, String), (String, String)>,
}

// === impl ConfigMaps ===

impl ConfigMaps {
    /// Takes a ConfigMap, in place of what was known of it; where that makes a difference, its namespace is `changed`.
    pub(super) fn apply(
        &mut self,
        object: &Value,
        recipes: &Recipes,
        changed: &mut BTreeSet<String>,
    ) -> Result<Taken, ObjectError> {
        let (namespace, name) = object::namespaced_name(object)?;
        let is_read = |key: &str| recipes.config_keys().any(|known| known == key);
        let data: Labels = object::strings(object.get("data")).filter(|(key, _)| is_read(key)).collect();
        if data.is_empty() {
            self.remove(&namespace, &name, changed);
            return Ok(Taken::Ignored);
        }
        if self.known.put(&namespace, name, data) {
            changed.insert(namespace);
        }
        Ok(Taken::Known)
    }

    pub(super) fn remove(&mut self, namespace: &str, name: &str, changed: &mut BTreeSet<String>) {
        if self.known.remove(namespace, name) {
            changed.insert(namespace.to_owned());
        }
    }

    /// Notes which one a Service's recipe looks for; `None` where it looks for none.
    pub(super) fn seek(&mut self, namespace: &str, service: &str, sought: Option<String>) {
        let service = (namespace.to_owned(), service.to_owned());
        match sought {
            Some(sought) => drop(self.sought.insert(service, (namespace.to_owned(), sought))),
            None => drop(self.sought.remove(&service)),
        }
    }

    /// A Service is no more, nor is what only its recipe looked for.
    pub(super) fn forget_service(&mut self, namespace: &str, name: &str) {
        let sought = self.sought.remove(&(namespace.to_owned(), name.to_owned()));
        if let Some(place) = sought.filter(|place| !self.sought.values().any(|other| other == place)) {
            self.known.remove(namespace, &place.1);
        }
    }

    /// Namespaces and names of those that are looked for.
    pub(super) fn sought(&self) -> BTreeSet<&(String, String)> {
        self.sought.values().collect()
    }

    /// Namespaces and names of those that are known.
    pub(super) fn names(&self) -> impl Iterator<Item = (&String, &String)> {
        self.known.keys()
    }

    /// What is read of one.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Labels> {
        self.known.get(namespace, name)
    }
}
