//! What a Namespace's annotations say for the workloads in it.
use super::{AnnotationError, Wishes};
use crate::{discover::Labels, json::Json, keys};

/// The defaults of one namespace: what its workloads ask for unless they say otherwise themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceDefaults {
    /// What stands there, in the grammar of workloads.
    pub wishes: Wishes,
    /// Annotations outside their grammar: those are left out, and the others hold.
    pub problems: Vec<AnnotationError>,
}

/// The annotations of a workload that a Namespace may have, too; and all that begin with [`keys::ENV_PREFIX`].
const KEYS: [&str; 4] = [keys::WANTS, keys::REQUIRES, keys::DECLINES, keys::REFRESH];

// === impl NamespaceDefaults ===

impl NamespaceDefaults {
    /// Reads a Namespace's annotations; `None` where none of them is a default.
    pub(crate) fn read(annotations: &Labels) -> Option<Self> {
        let is_default = |key: &str| KEYS.contains(&key) || key.starts_with(keys::ENV_PREFIX);
        let said = annotations.iter().filter(|(key, _)| is_default(key));
        let mut defaults = Self::default();
        for (key, value) in said {
            let value = Json::from(value);
            if let Err(problem) = defaults.wishes.read_one(key, &value) {
                defaults.problems.push(problem);
            }
        }
        (defaults != Self::default()).then_some(defaults)
    }
}
