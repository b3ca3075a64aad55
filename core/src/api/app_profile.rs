//! `AppProfile`: how one app takes settings, said in the cluster.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{rules, templates};
use crate::intent::Intent;

/// How one app takes settings. Its name is that of the profile; one of the name of a built-in profile takes its place.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::profile_rules()))]
pub struct AppProfile {
    /// The app's images, variables and data.
    pub spec: AppProfileSpec,
}

/// `AppProfile.spec`: how one app takes settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppProfileSpec {
    /// Patterns of the app's images: the whole repository, where `*` is anything, with an optional tag pattern after a
    /// colon (`docker.io/example/app:*-alpine`). Of several profiles that match, the one with the longest pattern is taken.
    #[schemars(schema_with = "rules::images")]
    pub images: Vec<String>,
    /// The app's environment variables by intent. `[[intent.setting]]` in a variable's template stands for a setting of the
    /// offer, `[[intent.setting|json]]` for one that is encoded, `[[app.name]]` for the workload itself. A variable whose
    /// settings are not all known is left out.
    #[serde(default)]
    #[schemars(schema_with = "templates::env")]
    pub env: BTreeMap<Intent, BTreeMap<String, String>>,
    /// The paths at which the app keeps data, each with the default size of its volume.
    #[serde(default)]
    #[schemars(schema_with = "rules::data")]
    pub data: BTreeMap<String, String>,
}
