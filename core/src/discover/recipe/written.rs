//! Recipes as they are written: YAML files.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{data::Confidence, intent::Intent};

/// How one well-known service is recognised in a cluster, and what is known of every instance of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Recipe")]
pub(super) struct Written {
    /// The recipe's name, a DNS label; that of its file.
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// The service's name, for people.
    pub title: String,
    /// What the service offers.
    pub intent: Intent,
    /// The product, such as `openldap` or `matomo`. Without one, the recipe is a general one.
    pub provider: Option<String>,
    /// What speaks for this service. Images, a set of labels and a port's name count two each, a port's number and the
    /// Service's name one each; a Service is recognised from three on.
    #[serde(default, rename = "match")]
    pub evidence: WrittenEvidence,
    /// Services that look alike and must not be used.
    #[serde(default)]
    pub exclude: Exclude,
    /// For storage only: the provisioners of its StorageClasses. One also counts where it stands after another name and
    /// a dot.
    #[serde(default)]
    pub provisioners: Vec<String>,
    /// The ConfigMap beside the Service that tells settings.
    pub config_map: Option<ConfigMapNames>,
    /// The ports that an app may use, best first; the first that the Service has is taken. Everything but storage needs
    /// at least one.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Settings that hold for every instance, by canonical name; templates such as `ou=people,[[ldap.base-dn]]`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Whether the service takes requests and never serves them, as a mail catcher does: it is used only where a workload
    /// names it.
    #[serde(default)]
    pub trap: bool,
    /// How a person supplies what can't be recognised.
    pub hint: Option<String>,
    /// How sure we are of all that is not listed as unverified.
    pub confidence: Confidence,
    /// Repository and path, or address, of what was read; needed unless the confidence is `memory`.
    pub sources: Vec<String>,
    /// Facts that nobody verified, one a line.
    #[serde(default)]
    pub unverified: Vec<String>,
}

/// What speaks for a service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Evidence")]
pub(super) struct WrittenEvidence {
    /// Patterns of the images behind the Service, on the whole repository (`docker.io/library/matomo`) without its tag;
    /// `*` is anything.
    #[serde(default)]
    #[schemars(inner(regex(pattern = crate::data::IMAGE_PATTERN)))]
    pub images: Vec<String>,
    /// Sets of labels of the Service. All labels of one set must be there; `*` in a value is anything.
    #[serde(default)]
    pub labels: Vec<BTreeMap<String, String>>,
    /// Names of the Service's ports.
    #[serde(default)]
    pub port_names: Vec<String>,
    /// Numbers of the Service's ports.
    #[serde(default)]
    pub port_numbers: Vec<u16>,
    /// Patterns of the Service's name; `*` is anything.
    #[serde(default)]
    pub names: Vec<String>,
}

/// Services that look alike and must not be used. Headless ones never are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Exclude {
    /// Patterns of their names; `*` is anything.
    #[serde(default)]
    pub names: Vec<String>,
}

/// A ConfigMap of a chart, and which setting stands under which key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ConfigMap")]
pub(in crate::discover) struct ConfigMapNames {
    /// Its name, in which `*` is the Service's.
    pub(super) name: String,
    /// The ConfigMap's keys, by setting.
    pub settings: BTreeMap<String, String>,
}

/// A port that an app may use: found by its name, else by its number.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    /// The port's name in the Service.
    pub name: Option<String>,
    /// The port's number in the Service.
    pub number: Option<u16>,
    /// `none`, `starttls` or `tls` (from the first byte); absent: what the number says.
    #[schemars(extend("enum" = ["none", "starttls", "tls", null]))]
    pub tls: Option<String>,
}
