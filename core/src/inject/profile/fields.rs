//! The fields of a profile's file.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::{
    data::{self, Confidence},
    intent::Intent,
};

/// How one app takes settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Profile")]
pub(super) struct Written {
    /// The profile's name, a DNS label; that of its file.
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// The app's name, for people.
    pub app: String,
    /// Patterns of its images, on the whole repository (`docker.io/library/wordpress`) without its tag; `*` is anything.
    /// Of several profiles that match, the one with the longest pattern is taken.
    #[schemars(length(min = 1), inner(regex(pattern = data::IMAGE_PATTERN)))]
    pub images: Vec<String>,
    /// A pattern that the image's tag must match.
    pub tags: Option<String>,
    /// The group that the app's data must belong to; becomes the pod's `fsGroup` where it sets none.
    pub gid: Option<i64>,
    /// Where the app keeps data.
    #[serde(default)]
    pub data: Vec<WrittenData>,
    /// What the app takes, by intent. For one that is not listed, the generic names are used.
    #[serde(default)]
    pub intents: BTreeMap<Intent, WrittenMapping>,
}

/// A path at which the app keeps data.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Data")]
pub(super) struct WrittenData {
    /// The path, absolute and without `..`.
    #[schemars(regex(pattern = "^/."))]
    pub path: String,
    /// How large its volume is by default, such as `10Gi`.
    pub size: Option<String>,
    /// The path is used by images whose tag matches this pattern only.
    pub tags: Option<String>,
    /// The path is not used by images whose tag matches this pattern.
    pub except_tags: Option<String>,
    /// Whether it gets a volume only where the workload names it.
    #[serde(default)]
    pub optional: bool,
    /// What a person should know of it.
    #[serde(rename = "note")]
    #[schemars(rename = "note")]
    pub _note: Option<String>,
}

/// How the app takes one intent: by `env`, by `files` or by both, else `unsupported` says how a person sets it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Mapping")]
pub(super) struct WrittenMapping {
    /// Environment variables by name. One whose settings are not all known is left out.
    #[serde(default)]
    pub env: BTreeMap<String, WrittenVariable>,
    /// Configuration files.
    #[serde(default)]
    pub files: Vec<WrittenFile>,
    /// Why the app can't be configured from outside, and how a person does it.
    pub unsupported: Option<String>,
    /// Other names under which the app reads the same value: where the user set one of them, ours is left out.
    #[serde(default)]
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Whether the app reads the variables only while it sets up an empty volume or database.
    #[serde(default)]
    pub first_boot_only: bool,
    /// Settings without which nothing of this intent is injected.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Values of a setting, such as `ldap.tls: [none, tls]`, with which the app works; with others nothing of this intent
    /// is injected.
    #[serde(default)]
    pub only: BTreeMap<String, Vec<String>>,
    /// For `ldap`: whether local users can still log in. A login that replaces theirs is injected only where the
    /// directory is required or enforced.
    pub login: Option<Login>,
    /// What a person should know; shown by `explain`.
    pub note: Option<String>,
    /// How sure we are of all that is not listed as unverified.
    pub confidence: Confidence,
    /// Repository and path, or address, of what was read; needed unless the confidence is `memory`.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Facts that nobody verified, one a line.
    #[serde(default)]
    pub unverified: Vec<String>,
}

/// A configuration file, mounted read-only: either `source` or `blocks`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "File")]
pub(super) struct WrittenFile {
    /// Where the app reads it, absolute; not below the system's own folders.
    #[schemars(regex(pattern = "^/."))]
    pub path: String,
    /// A text file beside the profiles, taken as it is.
    pub source: Option<String>,
    /// Pieces of the file, in order. One whose settings are not all known is left out.
    #[serde(default)]
    pub blocks: Vec<WrittenBlock>,
}

/// A piece of a file.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Block", untagged)]
pub(super) enum WrittenBlock {
    /// A template.
    Text(String),
    /// A template for some values of a setting only.
    When(WrittenWhen),
}

/// A piece of a file that is there for some values of a setting only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "When")]
pub(super) struct WrittenWhen {
    /// The setting, such as `ldap.tls`.
    pub when: String,
    /// The values with which the piece is there.
    pub is: Vec<String>,
    /// The piece, a template.
    pub text: String,
}

/// What becomes of the app's own users.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Login {
    /// They still log in.
    Additive,
    /// Only the directory's users log in.
    Replaces,
}

/// Where a variable's value comes from.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Variable", untagged)]
pub(super) enum WrittenVariable {
    /// A template, such as `[[mail.host]]:[[mail.port]]`.
    Template(String),
    /// A word of the app for each value of a setting.
    Map(WrittenMap),
}

/// A word of the app for each value of a setting; for a value that is not listed, the variable is left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Map")]
pub(super) struct WrittenMap {
    /// The setting, such as `mail.tls`.
    pub map: String,
    /// The app's words, by the setting's values.
    pub to: BTreeMap<String, String>,
    /// Values that the app can't do: nothing of this intent is then injected.
    #[serde(default)]
    pub unsupported: Vec<String>,
}

// === impl WrittenBlock ===

impl<'de> Deserialize<'de> for WrittenBlock {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        data::text_or_map::<D, Self, WrittenWhen>(reader)
    }
}

impl From<String> for WrittenBlock {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<WrittenWhen> for WrittenBlock {
    fn from(when: WrittenWhen) -> Self {
        Self::When(when)
    }
}

// === impl WrittenVariable ===

impl<'de> Deserialize<'de> for WrittenVariable {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        data::text_or_map::<D, Self, WrittenMap>(reader)
    }
}

impl From<String> for WrittenVariable {
    fn from(text: String) -> Self {
        Self::Template(text)
    }
}

impl From<WrittenMap> for WrittenVariable {
    fn from(map: WrittenMap) -> Self {
        Self::Map(map)
    }
}
