//! `InjectionPolicy`: what a platform team defaults, enforces, forbids or prefers.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::{discover::LabelSelector, intent::Intent};

/// What a platform team defaults, enforces, forbids or prefers.
///
/// `defaults` and `prefer` act where injection is on. `enforce`, `forbid` and `storage` act in every namespace that
/// `namespaceSelector` selects, whatever its label `inject`; kube-system, Opportune's own namespace and those excluded at
/// installation are outside. Of several policies the lists are united; between `enforce` and `forbid` the higher priority
/// wins, at equal priority `forbid`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct InjectionPolicy {
    /// The policy.
    pub spec: InjectionPolicySpec,
    /// What it finds.
    pub status: Option<InjectionPolicyStatus>,
}

/// `InjectionPolicy.spec`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::policy_rules()))]
pub struct InjectionPolicySpec {
    /// The namespaces in which it acts. Absent or `{}`: all.
    pub namespace_selector: Option<LabelSelector>,
    /// The workloads on which it acts, by their own labels. Absent or `{}`: all. Tenants choose these labels, so it can't
    /// stand beside `enforce` and `forbid`.
    pub workload_selector: Option<LabelSelector>,
    /// Where policies disagree, the one with the higher priority wins.
    #[serde(default)]
    pub priority: i64,
    /// Intents that workloads get as if they had written them in `wants`; `declines` still leaves them out.
    #[serde(default)]
    #[schemars(schema_with = "rules::intents")]
    pub defaults: Vec<Intent>,
    /// Intents that every workload gets, whatever its annotations say: these add to it, and take nothing away.
    #[serde(default)]
    #[schemars(schema_with = "rules::intents")]
    pub enforce: Vec<Intent>,
    /// Intents that no workload gets, whatever its annotations say. A workload that requires one is refused.
    #[serde(default)]
    #[schemars(schema_with = "rules::intents")]
    pub forbid: Vec<Intent>,
    /// What happens to a workload when an enforced intent is absent: it is refused (`Deny`), or admitted without it and with
    /// a warning (`Warn`). It is not refused where no offer could help, such as a path that it mounts itself, nor in a namespace that
    /// offers the intent to others.
    #[serde(default)]
    #[schemars(schema_with = "rules::on_absent")]
    pub on_absent: OnAbsent,
    /// The offer to take for an intent, as `namespace/name`, or as a name alone for one of the workload's own namespace or of
    /// no namespace (a StorageClass). One that a namespace may not use is passed over there. A workload's own choice comes before it, but
    /// for an enforced intent.
    #[serde(default)]
    #[schemars(schema_with = "rules::prefer")]
    pub prefer: BTreeMap<Intent, String>,
    /// Which volumes workloads get.
    pub storage: Option<StorageDefaults>,
    /// Whether an environment variable that the user set gives way to Opportune's: for the intents that this policy defaults, enforces or
    /// prefers an offer for; for all, where it names none.
    #[serde(default)]
    pub overwrite: bool,
    /// What happens when an offer appears or changes later, for workloads that don't say it themselves: nothing (`never`), an
    /// Event (`notify`) or a rollout (`rollout`, where the installation allows it).
    #[serde(default)]
    #[schemars(schema_with = "rules::refresh")]
    pub refresh: Option<Refresh>,
}

/// What happens to a workload when an enforced intent is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnAbsent {
    /// It is refused.
    Deny,
    /// It is admitted without it, with a warning.
    #[default]
    Warn,
}

/// What happens when an offer appears or changes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refresh {
    /// Nothing.
    Never,
    /// An Event.
    Notify,
    /// A rollout.
    Rollout,
}

/// Which volumes workloads get.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::storage_rules()))]
pub struct StorageDefaults {
    /// The StorageClass to take.
    #[serde(default)]
    #[schemars(schema_with = "rules::class_name")]
    pub class: Option<String>,
    /// The size of a volume where neither the workload nor its profile says one.
    #[serde(default)]
    #[schemars(schema_with = "rules::size")]
    pub default_size: Option<String>,
    /// The largest volume that a workload may ask for; more is cut down to it, with a warning.
    #[serde(default)]
    #[schemars(schema_with = "rules::size")]
    pub max_size: Option<String>,
}

/// `InjectionPolicy.status`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InjectionPolicyStatus {
    /// How many workloads it acts on.
    pub matched: Option<i64>,
    /// How many of them have what it enforces.
    pub conforming: Option<i64>,
    /// How many of them lack something that it enforces.
    pub lacking: Option<i64>,
    /// What it disagrees about with other policies, and who wins.
    #[serde(default)]
    #[schemars(schema_with = "rules::conflicts")]
    pub conflicts: Vec<String>,
}
