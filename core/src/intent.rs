//! What a workload may ask for.
use std::{
    borrow::{Borrow, Cow},
    fmt,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::name::is_dns_label;

/// An intent: `ldap`, `mail`, `analytics`, `storage`, or any other DNS label (a custom intent). Known ones are borrowed: everything
/// that is added to a workload names those that want it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Intent(Cow<'static, str>);

/// The intents whose settings are known by name (design 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// A directory.
    Ldap,
    /// A mail server that takes submissions.
    Mail,
    /// A web analytics service.
    Analytics,
    /// Volumes.
    Storage,
}

/// A text that is no intent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an intent: lower-case letters, digits and dashes, at most 63", .0.escape_debug())]
pub struct NotAnIntent(String);

/// The pseudo intent of settings of the consumer itself, as in `[[app.name]]`.
pub const APP: &str = "app";

// === impl Intent ===

impl Intent {
    /// Reads an intent.
    ///
    /// # Errors
    /// [`NotAnIntent`] when the text is no DNS label, or is `app`, which names the consumer in templates.
    pub fn parse(text: &str) -> Result<Self, NotAnIntent> {
        if let Some(known) = Known::named(text) {
            return Ok(Self(Cow::Borrowed(known.name())));
        }
        match is_dns_label(text) && text != APP {
            true => Ok(Self(Cow::Owned(text.to_owned()))),
            false => Err(NotAnIntent(text.chars().take(80).collect())),
        }
    }

    /// The intent as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of the known intents it is; `None` for a custom one.
    pub fn known(&self) -> Option<Known> {
        Known::named(&self.0)
    }

    /// Whether it asks for volumes.
    pub fn is_storage(&self) -> bool {
        self.known() == Some(Known::Storage)
    }

    /// Its label in metrics: itself, or `custom`.
    pub fn metric_label(&self) -> &'static str {
        self.known().map_or("custom", Known::name)
    }
}

// === impl Known ===

impl Known {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ldap, Self::Mail, Self::Analytics, Self::Storage];

    fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == text)
    }

    /// The intent as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ldap => "ldap",
            Self::Mail => "mail",
            Self::Analytics => "analytics",
            Self::Storage => "storage",
        }
    }
}

impl JsonSchema for Intent {
    fn schema_name() -> Cow<'static, str> {
        "Intent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`ldap`, `mail`, `analytics`, `storage`, or a custom intent: any other DNS label but `app`.",
            "pattern": "^(?!app$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        })
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Intent {
    type Error = NotAnIntent;
    fn try_from(text: String) -> Result<Self, NotAnIntent> {
        Self::parse(&text)
    }
}

impl From<Intent> for String {
    fn from(intent: Intent) -> Self {
        intent.0.into_owned()
    }
}

impl Borrow<str> for Intent {
    fn borrow(&self) -> &str {
        &self.0
    }
}
