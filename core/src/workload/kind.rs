//! The kinds of workloads: where each has its pod template, and what can be done with it.
use std::{collections::BTreeSet, str::FromStr};

use serde_json::Value;

use crate::json::Json;

/// The kinds that can be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `apps/v1` Deployment
    Deployment,
    /// `apps/v1` StatefulSet
    StatefulSet,
    /// `apps/v1` DaemonSet
    DaemonSet,
    /// `batch/v1` Job
    Job,
    /// `batch/v1` CronJob
    CronJob,
    /// `v1` Pod
    Pod,
}

/// Those of them that are switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(BTreeSet<Kind>);

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", Kind::ALL.map(Kind::plural).join(", "))]
pub struct NotAKind;

// === impl Kind ===

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::Job, Self::CronJob, Self::Pod];

    /// The kind of an object, where it is one that can be injected.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |field: &str| object.get(field).and_then(Value::as_str);
        Self::named(text("apiVersion")?, text("kind")?)
    }

    /// The same.
    pub(crate) fn of_json(object: &Json<'_>) -> Option<Self> {
        Self::named(object.text("apiVersion"), object.text("kind"))
    }

    fn named(api_version: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.api_version() == api_version && kind.name() == name)
    }

    /// As Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::Pod => "Pod",
        }
    }

    /// Its resource, as in `kubectl get`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::Job => "jobs",
            Self::CronJob => "cronjobs",
            Self::Pod => "pods",
        }
    }

    /// Its API group; empty for the core one.
    pub fn group(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps",
            Self::Job | Self::CronJob => "batch",
            Self::Pod => "",
        }
    }

    /// Group and version.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps/v1",
            Self::Job | Self::CronJob => "batch/v1",
            Self::Pod => "v1",
        }
    }

    /// Whether its pods can't be changed once it is there: only a new one is injected.
    pub fn is_made_once(self) -> bool {
        matches!(self, Self::Job | Self::Pod)
    }

    /// Where its pod template stands; a Pod is its own.
    pub fn template(self) -> &'static [&'static str] {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::Job => &["spec", "template"],
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
            Self::Pod => &[],
        }
    }

    /// The same as a JSON pointer.
    pub fn template_pointer(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::Job => "/spec/template",
            Self::CronJob => "/spec/jobTemplate/spec/template",
            Self::Pod => "",
        }
    }

    /// Where the annotations of its pods stand, as a JSON pointer.
    pub fn pod_annotations_pointer(self) -> String {
        format!("{}/metadata/annotations", self.template_pointer())
    }

    /// Where the spec of its pods stands.
    pub fn pod_spec(self) -> &'static [&'static str] {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::Job => {
                &["spec", "template", "spec"]
            }
            Self::CronJob => &["spec", "jobTemplate", "spec", "template", "spec"],
            Self::Pod => &["spec"],
        }
    }

    /// The spec of a Job, in a Job or CronJob.
    pub(super) fn job_spec<'a>(self, object: &'a Json<'a>) -> Option<&'a Json<'a>> {
        match self {
            Self::Job => object.get("spec"),
            Self::CronJob => object.at(&["spec", "jobTemplate", "spec"]),
            _ => None,
        }
    }
}

/// By its resource, as in `deployments`.
impl FromStr for Kind {
    type Err = NotAKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.plural() == text).ok_or(NotAKind)
    }
}

// === impl Kinds ===

impl Kinds {
    /// All that there are.
    pub fn all() -> Self {
        Kind::ALL.into_iter().collect()
    }

    /// Whether a kind is among them.
    pub fn has(&self, kind: Kind) -> bool {
        self.0.contains(&kind)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Kind> {
        self.0.iter().copied()
    }
}

/// Deployments and StatefulSets.
impl Default for Kinds {
    fn default() -> Self {
        [Kind::Deployment, Kind::StatefulSet].into_iter().collect()
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<T: IntoIterator<Item = Kind>>(kinds: T) -> Self {
        Self(kinds.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_places_of_a_kind_agree() {
        for kind in Kind::ALL {
            let tokens: String = kind.template().iter().map(|token| format!("/{token}")).collect();
            assert_eq!(tokens, kind.template_pointer());
            assert_eq!(kind.pod_spec(), [kind.template(), &["spec"]].concat());
            assert_eq!(kind.plural().parse(), Ok(kind));
            let group = kind.api_version().split_once('/').map_or("", |(group, _)| group);
            assert_eq!(group, kind.group());
            assert_eq!(Kind::of(&json!({"apiVersion": kind.api_version(), "kind": kind.name()})), Some(kind));
        }
    }

    #[test]
    fn a_replica_set_is_never_one() {
        assert_eq!(Kind::of(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet"})), None);
        assert_eq!(Kind::of(&json!({"apiVersion": "batch/v1", "kind": "Pod"})), None);
        assert!("replicasets".parse::<Kind>().unwrap_err().to_string().contains("cronjobs"));
    }
}
