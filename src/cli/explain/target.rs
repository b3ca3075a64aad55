//! One workload of a live cluster, as people name it to kubectl.
use std::str::FromStr;

use opportune_core::{name::is_dns_subdomain, workload};

use crate::cluster::look::Kind;

/// A workload by kind and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: workload::Kind,
    /// Its name.
    pub name: String,
}

const SUPPORTED: &str =
    "deployment (deploy), statefulset (sts), daemonset (ds), job, cronjob (cj) and pod (po)";

// === impl Target ===

impl Target {
    /// Reads `TYPE NAME`.
    ///
    /// # Errors
    /// What is wrong with it, for the person who typed it.
    pub fn of(kind: &str, name: &str) -> Result<Self, String> {
        let lower = kind.to_ascii_lowercase();
        let (plain, group) =
            lower.split_once('.').map_or((&*lower, None), |(plain, group)| (plain, Some(group)));
        let is_meant = |kind: &workload::Kind| {
            let is_named =
                plain == short(*kind) || plain == kind.plural() || kind.name().eq_ignore_ascii_case(plain);
            let group =
                group.map(|group| group.strip_prefix("v1.").or(group.strip_prefix("v1")).unwrap_or(group));
            is_named && group.is_none_or(|group| group == kind.group())
        };
        let Some(kind) = workload::Kind::ALL.into_iter().find(is_meant) else {
            return Err(format!("`{kind}` is not a type that can be explained: {SUPPORTED}"));
        };
        match is_dns_subdomain(name) {
            true => Ok(Self { kind, name: name.to_owned() }),
            false => Err(format!("`{name}` is not a name that Kubernetes allows")),
        }
    }

    /// The resource to ask for.
    pub fn resource(&self) -> Kind {
        Kind::of(self.kind.group(), "v1", self.kind.plural())
    }
}

/// As kubectl abbreviates it.
fn short(kind: workload::Kind) -> &'static str {
    match kind {
        workload::Kind::Deployment => "deploy",
        workload::Kind::StatefulSet => "sts",
        workload::Kind::DaemonSet => "ds",
        workload::Kind::Job => "job",
        workload::Kind::CronJob => "cj",
        workload::Kind::Pod => "po",
    }
}

/// `TYPE/NAME`
impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((kind, name)) => Self::of(kind, name),
            None => Err(format!("expected TYPE/NAME, as in deployment/{text}; types are {SUPPORTED}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("deploy/x", "deployments.apps")]
    #[case("Deployment/x", "deployments.apps")]
    #[case("deployments.apps/x", "deployments.apps")]
    #[case("deployments.v1.apps/x", "deployments.apps")]
    #[case("sts/x", "statefulsets.apps")]
    #[case("statefulset/x", "statefulsets.apps")]
    #[case("ds/x", "daemonsets.apps")]
    #[case("job/x", "jobs.batch")]
    #[case("jobs.v1.batch/x", "jobs.batch")]
    #[case("cj/x", "cronjobs.batch")]
    #[case("CronJob/x", "cronjobs.batch")]
    #[case("po/x", "pods")]
    #[case("pods.v1/x", "pods")]
    fn types_are_named_as_to_kubectl(#[case] text: &str, #[case] resource: &str) {
        let target: Target = text.parse().unwrap();
        assert_eq!((target.resource().name().as_str(), target.name.as_str()), (resource, "x"));
    }

    #[rstest]
    #[case("wordpress", "expected TYPE/NAME")]
    #[case("rs/x", "deployment (deploy), statefulset (sts)")]
    #[case("pods.apps/x", "not a type")]
    #[case("deployments.extensions/x", "not a type")]
    #[case("deploy/", "not a name")]
    #[case("deploy/../secrets", "not a name")]
    #[case("deploy/a%2f", "not a name")]
    fn what_can_not_be_explained_is_said(#[case] text: &str, #[case] says: &str) {
        let error = text.parse::<Target>().unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}
