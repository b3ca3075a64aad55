//! Recipes and profiles as data: how their files are read, and what is known of their truth.
use std::{fmt, marker::PhantomData};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// How sure we are of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Read in the project's own repository, chart or documentation.
    Verified,
    /// Seen in somebody else's configuration or documentation.
    Secondary,
    /// Not verified.
    Memory,
}

/// Where facts were read, and how sure we are of them.
#[derive(Debug, Clone)]
pub struct Proof {
    /// How sure we are of all that is not listed as unverified.
    pub confidence: Confidence,
    /// Repository and path, or address, of what was read.
    pub sources: Vec<String>,
    /// Facts that nobody verified.
    pub unverified: Vec<String>,
}

/// A data file that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct DataError {
    /// The file.
    pub file: String,
    /// The field, and what is wrong with it.
    pub reason: String,
}

// === impl Proof ===

impl Proof {
    /// Checks that what is called verified names where.
    ///
    /// # Errors
    /// A sentence to report.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.confidence != Confidence::Memory && self.sources.is_empty() {
            true => Err("sources: name where this was read, or set `confidence: memory`".into()),
            false => Ok(()),
        }
    }
}

// === impl DataError ===

impl DataError {
    pub(crate) fn new(file: &str, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), reason: reason.into() }
    }
}

/// What [`check_image_pattern`] lets pass, for the schemas.
pub(crate) const IMAGE_PATTERN: &str = "^(?!.*://)[._/*:-]*[a-z0-9][a-z0-9._/*:-]*$";

/// Reads one YAML file; what is wrong with it is told with its field.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, DataError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let mut field = None;
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            field = Some(error.path().to_string()).filter(|path| path != ".");
            error.into_inner()
        })
    })
    .map_err(|error| {
        let field = field.map_or_else(String::new, |field| field + ": ");
        DataError::new(file, format!("{field}{error}"))
    })
}

/// Reads what is either a text or a map with fields of its own, and says which field of the map is wrong.
pub(crate) fn text_or_map<'de, D, T, M>(reader: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: From<String> + From<M>,
    M: Deserialize<'de>,
{
    struct TextOrMap<T, M>(PhantomData<(T, M)>);

    impl<'de, T: From<String> + From<M>, M: Deserialize<'de>> Visitor<'de> for TextOrMap<T, M> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text (in quotes, where it reads as something else) or a map")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            Ok(text.to_owned().into())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            M::deserialize(MapAccessDeserializer::new(map)).map(T::from)
        }
    }

    reader.deserialize_any(TextOrMap::<T, M>(PhantomData))
}

/// Checks a pattern of image repositories: letters, digits and `._/:-`, with `*` for anything.
///
/// # Errors
/// A sentence to report.
pub(crate) fn check_image_pattern(pattern: &str) -> Result<(), String> {
    let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._/*:-".contains(c);
    let problem = if pattern.is_empty() {
        "is empty"
    } else if pattern.contains("://") {
        "is an address: leave its scheme out"
    } else if !pattern.chars().all(is_legal) {
        "may hold a-z, 0-9, `.`, `_`, `/`, `:`, `-` and `*` only"
    } else if !pattern.contains(|c: char| c.is_ascii_alphanumeric()) {
        "matches every image: name a part of it"
    } else {
        return Ok(());
    };
    let shown: String = pattern.escape_debug().take(80).collect();
    Err(format!("`{shown}` {problem}"))
}

/// Checks a pattern of image tags: letters, digits and `._-`, with `*` for anything.
///
/// # Errors
/// A sentence to report.
pub(crate) fn check_tag_pattern(pattern: &str) -> Result<(), String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._*-".contains(c);
    match !pattern.is_empty() && pattern.chars().all(is_legal) {
        true => Ok(()),
        false => Err(format!("`{}` is not a pattern of tags", pattern.escape_debug())),
    }
}

/// The YAML files of an embedded folder, by name.
pub(crate) fn files(folder: &'static include_dir::Dir<'_>) -> Vec<(&'static str, &'static str)> {
    let mut files: Vec<_> = folder
        .files()
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "yaml"))
        .filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?)))
        .collect();
    files.sort_unstable();
    files
}
