//! Our own resources, as they are written (`opportune.libre.sh/v1alpha1`).
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{discover::LabelSelector, intent::Intent};

/// `ServiceOffer.spec`: something that can satisfy one intent, whether it runs in the cluster or not.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceOfferSpec {
    /// What it offers.
    pub intent: Intent,
    /// The product, such as `openldap` or `matomo`.
    pub provider: Option<String>,
    /// Higher comes first; 0 where absent.
    #[serde(default)]
    pub priority: i64,
    /// Who may use it; absent: its own namespace.
    pub consumers: Option<Consumers>,
    /// Settings by canonical name: strings, numbers or booleans.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
    /// The Secret beside it that holds its credentials.
    pub credentials: Option<Credentials>,
}

/// `ServiceOffer.spec.consumers`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Consumers {
    /// Namespaces that may use the offer: absent none but its own, `{}` all.
    pub namespace_selector: Option<LabelSelector>,
}

/// `ServiceOffer.spec.credentials`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The Secret, in the offer's own namespace.
    pub secret_ref: SecretRef,
    /// Which key of the Secret holds which setting.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
}

/// A Secret by name.
#[derive(Debug, Clone, Deserialize)]
pub struct SecretRef {
    /// Its name.
    pub name: String,
}

/// `AppProfile.spec`: how one app takes settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppProfileSpec {
    /// Repository patterns, with an optional tag pattern after a colon (`docker.io/example/app:*-alpine`).
    pub images: Vec<String>,
    /// Variables by intent.
    #[serde(default)]
    pub env: BTreeMap<Intent, BTreeMap<String, String>>,
    /// Data paths, with their default sizes.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}
