//! Settings: the facts about an offer, by their canonical names (design 1.5), and what follows from them.
mod complete;
mod names;

use std::borrow::Cow;

use names::named;
pub use names::{APP_SETTINGS, MAX_BYTES, check_name, check_value, implied_credentials, is_known, names};

use crate::template::Template;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Its value.
    Literal(String),
    /// It stands in the credentials Secret, under the first of these keys that is there.
    Credential(Vec<String>),
    /// It is made of others, one of which is a credential.
    Composed(Template),
}

/// The facts about one offer, by canonical name: a sorted list, as there are many offers and few facts about each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Settings(Vec<(Cow<'static, str>, Fact)>);

/// Why a setting can't be used: its offer is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The setting's name.
    pub setting: String,
    /// What is wrong with it.
    pub reason: String,
}

// === impl Problem ===

impl Problem {
    /// A problem with one setting.
    pub fn new(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { setting: setting.into(), reason: reason.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

// === impl Fact ===

impl Fact {
    /// The value, where it may be seen.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Credential(_) | Self::Composed(_) => None,
        }
    }

    /// Whether it may never stand in a pod template, a log or a record.
    pub fn is_secret(&self) -> bool {
        self.literal().is_none()
    }
}

// === impl Settings ===

impl Settings {
    /// The fact of that name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.0.get(self.place(name).ok()?).map(|(_, fact)| fact)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_ref().cmp(name))
    }

    fn remove(&mut self, name: &str) {
        if let Ok(place) = self.place(name) {
            self.0.remove(place);
        }
    }

    /// The value of that name, where it is known and no secret.
    pub fn literal(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Fact::literal)
    }

    /// All facts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.0.iter().map(|(name, fact)| (name.as_ref(), fact))
    }

    /// Whether any of them is a secret.
    pub fn has_secrets(&self) -> bool {
        self.0.iter().any(|(_, fact)| fact.is_secret())
    }

    /// Sets a fact that may be corrected later.
    pub fn set(&mut self, name: &str, fact: Fact) {
        match self.place(name) {
            Ok(place) => {
                if let Some((_, known)) = self.0.get_mut(place) {
                    *known = fact;
                }
            }
            Err(place) => self.0.insert(place, (named(name), fact)),
        }
    }

    /// Sets a fact where none is yet.
    pub fn set_default(&mut self, name: &str, fact: impl FnOnce() -> Fact) {
        if let Err(place) = self.place(name) {
            self.0.insert(place, (named(name), fact()));
        }
    }
}
