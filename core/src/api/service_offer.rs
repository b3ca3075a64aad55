//! `ServiceOffer`: an offer that somebody declares.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rules;
use crate::{discover::LabelSelector, intent::Intent};

/// Something that can satisfy one intent, whether it runs in this cluster or not: a directory at a provider's, a mail
/// server outside.
///
/// Workloads of its own namespace may use it; others only where its namespace is labelled
/// `opportune.libre.sh/provider: "true"` and `consumers` selects theirs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ServiceOffer {
    /// What is offered, and to whom.
    pub spec: ServiceOfferSpec,
    /// What Opportune makes of it.
    pub status: Option<ServiceOfferStatus>,
}

/// `ServiceOffer.spec`: something that can satisfy one intent, whether it runs in the cluster or not.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::offer_rules()))]
pub struct ServiceOfferSpec {
    /// What it offers: `ldap`, `mail`, `analytics`, `storage`, or an intent of your own.
    #[schemars(schema_with = "rules::intent")]
    pub intent: Intent,
    /// The product, such as `openldap` or `matomo`: what is known of it is filled in.
    #[serde(default)]
    #[schemars(schema_with = "rules::provider")]
    pub provider: Option<String>,
    /// Of several offers, the one with the higher priority comes first.
    #[serde(default)]
    pub priority: i64,
    /// Who may use it. Absent: workloads of its own namespace only.
    pub consumers: Option<Consumers>,
    /// What is known of it, by canonical name (`host`, `port`, `base-dn`): strings and whole numbers. Put a boolean or a
    /// fraction in quotes. No passwords: they come from the Secret that `credentials` names.
    #[serde(default)]
    #[schemars(schema_with = "rules::settings")]
    pub settings: BTreeMap<String, Value>,
    /// The Secret beside it that holds its credentials.
    pub credentials: Option<Credentials>,
}

/// `ServiceOffer.spec.consumers`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Consumers {
    /// The namespaces whose workloads may use the offer. Absent: its own only. `{}`: all. Prefer to select by
    /// `kubernetes.io/metadata.name`, the label that nobody can forge.
    pub namespace_selector: Option<LabelSelector>,
}

/// `ServiceOffer.spec.credentials`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// The Secret, in the offer's own namespace.
    pub secret_ref: SecretRef,
    /// Which key of the Secret holds which setting, such as `password: LDAP_PASSWORD`. Credentials of `ldap`, `mail` and
    /// `analytics` that are not named here are looked up under their own names; for another intent, only what is named is
    /// taken, or `username` and `password` where nothing is.
    #[serde(default)]
    #[schemars(schema_with = "rules::credential_keys")]
    pub keys: BTreeMap<String, String>,
}

/// A Secret by name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// Its name.
    #[schemars(schema_with = "rules::secret_name")]
    pub name: String,
}

/// `ServiceOffer.status`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceOfferStatus {
    /// `Ready` says whether workloads can use the offer, and its reason why not.
    #[serde(default)]
    #[schemars(extend(
        "maxItems" = 16, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// How many workloads use it.
    pub consumers: Option<i64>,
}

/// One aspect of an object's state, as in other Kubernetes resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect: `Ready`.
    #[schemars(extend("maxLength" = 316))]
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(schema_with = "rules::truth")]
    pub status: String,
    /// Why, in one word.
    #[schemars(extend("maxLength" = 1024))]
    pub reason: String,
    /// Why, for people.
    #[schemars(extend("maxLength" = 32768))]
    pub message: String,
    /// When the status last changed.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The generation of the object that this was seen at.
    pub observed_generation: Option<i64>,
}
