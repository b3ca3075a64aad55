//! Recipes and profiles as data: how their files are read, and what is known of their truth.
use serde::{Deserialize, de::DeserializeOwned};

/// How sure we are of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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

/// Reads one YAML file.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, DataError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| DataError::new(file, error.to_string()))
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
