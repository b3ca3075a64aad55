//! A namespace for one test.
use crate::Tool;
use std::{fmt, ops::Deref};

/// A namespace that nobody else uses, deleted when dropped: nobody waits until it is gone. It reads as its name.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    kubectl: Tool,
}

// === impl Namespace ===

impl Namespace {
    pub(crate) fn new(name: String, kubectl: Tool) -> Self {
        Self { name, kubectl }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Where the API server is gone already, so is the namespace.
        let _ = self
            .kubectl
            .output(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"], "");
    }
}

impl Deref for Namespace {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
