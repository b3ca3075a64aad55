//! Workloads that run what recipes know: which Services their pods are behind, and which images tell what those are.
use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Labels, Recipes, Taken,
    namespaced::Namespaced,
    object::{self, ObjectError},
    service::ServiceFacts,
};
use crate::inject::profile::repository;

/// The kinds that are looked at.
pub(super) const WORKLOADS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "Pod"];

/// Those workloads, by namespace, kind and name; nothing is kept of any other.
#[derive(Debug, Default)]
pub(super) struct Workloads(Namespaced<(&'static str, String), Pods>);

/// What is kept of one of them.
#[derive(Debug, PartialEq, Eq)]
struct Pods {
    labels: Labels,
    /// Those that a recipe knows.
    images: Box<[String]>,
}

// === impl Workloads ===

impl Workloads {
    /// Takes a workload, in place of what was known of it; where that makes a difference, its namespace is `changed`.
    pub(super) fn apply(
        &mut self,
        kind: &'static str,
        object: &Value,
        recipes: &Recipes,
        changed: &mut BTreeSet<String>,
    ) -> Result<Taken, ObjectError> {
        let (namespace, name) = object::namespaced_name(object)?;
        let template = if kind == "Pod" { Some(object) } else { object.pointer("/spec/template") };
        let Some(template) = template else { return Ok(Taken::Ignored) };
        let pods = Pods::of(template, recipes);
        if pods.images.is_empty() {
            self.remove(kind, &namespace, &name, changed);
            return Ok(Taken::Ignored);
        }
        if self.0.put(&namespace, (kind, name), pods) {
            changed.insert(namespace);
        }
        Ok(Taken::Known)
    }

    pub(super) fn remove(&mut self, kind: &str, namespace: &str, name: &str, changed: &mut BTreeSet<String>) {
        let Some(kind) = WORKLOADS.iter().find(|known| **known == kind) else { return };
        if self.0.remove(namespace, &(*kind, name.to_owned())) {
            changed.insert(namespace.to_owned());
        }
    }

    /// Namespaces and names of those of one kind.
    pub(super) fn names(&self, kind: &str) -> impl Iterator<Item = (&String, &String)> {
        self.0.keys().filter(move |(_, (of, _))| *of == kind).map(|(space, (_, name))| (space, name))
    }

    /// The images that recipes know, of the pods behind a Service.
    pub(super) fn images_behind(&self, service: &ServiceFacts) -> Vec<String> {
        let behind = self.0.within(&service.namespace).filter(|pods| pods.are_behind(service));
        behind.flat_map(|pods| pods.images.iter().cloned()).collect()
    }
}

// === impl Pods ===

impl Pods {
    fn of(template: &Value, recipes: &Recipes) -> Self {
        let containers = template.pointer("/spec/containers").and_then(Value::as_array);
        let images = containers
            .into_iter()
            .flatten()
            .filter_map(|container| container.get("image")?.as_str())
            .map(|image| repository(image).0)
            .filter(|image| recipes.knows_image(image))
            .collect();
        Self { labels: object::labels(template, "labels").collect(), images }
    }

    fn are_behind(&self, service: &ServiceFacts) -> bool {
        !service.selector.is_empty() && self.labels.has_all(&service.selector)
    }
}
