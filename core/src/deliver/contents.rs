//! What a delivered Secret holds: an offer's canonical settings, and what is composed of them.
use std::{collections::BTreeMap, fmt};

use crate::{
    discover::Offer,
    encode,
    settings::{self, Fact},
    template::{Part, Template},
};

/// The settings of an offer with their values, credentials among them: never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// By key.
    pub data: BTreeMap<String, String>,
    /// Why a key that could be there is not.
    pub missing: BTreeMap<String, Missing>,
}

/// Why there is no value for a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The credentials Secret has none of these keys.
    #[error("its Secret has no key {}", .0.join(" or "))]
    NoKey(Vec<String>),
    /// It has one with a value that is none.
    #[error("key {0} of its Secret {1}")]
    BadValue(String, String),
    /// Without an encoding the value could become code in the app.
    #[error("value can't be written safely ({0})")]
    Unsafe(String),
    /// The offer has no such setting.
    #[error("it has no setting {0}")]
    NoSetting(String),
}

/// The setting that may have several lines.
const CERTIFICATES: &str = "certificates";

/// The keys and values of a Secret as it stands in the cluster.
pub type SecretData = BTreeMap<String, Vec<u8>>;

// === impl Contents ===

impl Contents {
    /// What `offer` hands out, with the values of its credentials Secret, and `composed` keys filled in.
    ///
    /// Only the settings that the offer names are taken from `source`, nothing else.
    pub fn of(offer: &Offer, source: &SecretData, composed: &BTreeMap<String, String>) -> Self {
        let mut contents = Self::default();
        for (name, fact) in offer.settings.iter() {
            match fact {
                Fact::Literal(value) => contents.put(name, Ok(value.clone())),
                Fact::Credential(keys) => contents.put(name, credential(name, keys, source)),
                Fact::Composed(_) => {}
            }
        }
        for (name, fact) in offer.settings.iter() {
            if let Fact::Composed(template) = fact {
                let value = contents.fill(template);
                contents.put(name, value);
            }
        }
        for (key, text) in composed {
            let value = match Template::parse(text, &offer.intent) {
                Ok(template) => contents.fill(&template),
                Err(error) => Err(Missing::NoSetting(error.to_string())),
            };
            contents.put(key, value);
        }
        contents
    }

    fn put(&mut self, key: &str, value: Result<String, Missing>) {
        match value {
            Ok(value) => drop(self.data.insert(key.to_owned(), value)),
            Err(missing) => drop(self.missing.insert(key.to_owned(), missing)),
        }
    }

    fn fill(&self, template: &Template) -> Result<String, Missing> {
        let is_composed = template.single().is_none();
        let mut out = String::new();
        for part in template.parts() {
            let placeholder = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Setting(placeholder) => placeholder,
            };
            let name = &placeholder.setting;
            let Some(value) = self.data.get(name).filter(|_| !placeholder.is_app) else {
                let missing = self.missing.get(name).cloned();
                return Err(missing.unwrap_or_else(|| Missing::NoSetting(name.clone())));
            };
            match placeholder.encoding {
                Some(encoding) => out.push_str(&encoding.encode(value)),
                None if is_composed && !encode::is_plain(value) => {
                    return Err(Missing::Unsafe(name.clone()));
                }
                None => out.push_str(value),
            }
        }
        Ok(out)
    }
}

/// A credential's value. A line break at its end is dropped: editors and `kubectl create secret --from-file` leave one.
fn credential(name: &str, keys: &[String], source: &SecretData) -> Result<String, Missing> {
    let found = keys.iter().find_map(|key| Some((key, source.get(key)?)));
    let Some((key, value)) = found else { return Err(Missing::NoKey(keys.to_vec())) };
    let bad = |reason: &str| Missing::BadValue(key.clone(), reason.to_owned());
    let text = std::str::from_utf8(value).map_err(|_| bad("is not UTF-8 text"))?;
    let text = match text.strip_suffix('\n') {
        Some(line) if name != CERTIFICATES => line.strip_suffix('\r').unwrap_or(line),
        _ => text,
    };
    if text.is_empty() {
        return Err(bad("is empty"));
    }
    match settings::check_value(name, text) {
        Ok(()) => Ok(text.to_owned()),
        Err(problem) => Err(bad(&problem.reason)),
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("Contents").field("keys", &keys).field("missing", &self.missing).finish()
    }
}
