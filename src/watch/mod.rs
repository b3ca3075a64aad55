//! The cluster as it is now: what the API server tells of each resource goes into the inventory one object at a time, and
//! its snapshot into the catalog that the webhook decides by.
//!
//! Offers are kept, not objects. What can't be read is told and left out; it never ends a watch.
mod catalog;
mod config_maps;
mod follow;
mod once;
mod pulse;
mod resource;
mod told;
mod workloads;

pub use self::catalog::{Feed, Listener};
pub use self::once::{Reading, Scope, Unread, Wanted, read, read_workloads};
pub use self::pulse::Pulses;
pub use self::resource::{RESOURCES, Resource, further};
pub use self::workloads::{Facts, Other, Stored, WorkloadId, Workloads};

use opportune_core::discover::NamespacedName;
use serde_json::Value;
use std::collections::HashSet;

/// What a watch tells.
#[derive(Debug)]
enum Change {
    /// An object is there, in this state.
    Applied(Value),
    /// It is no more.
    Removed(Value),
    /// All objects of this kind were told; others are no more.
    Listed { resource: &'static Resource, present: HashSet<NamespacedName> },
}

/// Why a resource can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refuses, or does not answer.
    #[error("{resource}: {source}")]
    Api {
        /// The resource, as in `kubectl get`.
        resource: &'static str,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
    /// A listing or a watch broke off.
    #[error("{resource}: {reason}")]
    Ended {
        /// The resource.
        resource: &'static str,
        /// What the API server said, or that it said nothing.
        reason: String,
        /// Its code, as in HTTP.
        code: Option<u16>,
    },
}

// === impl Error ===

impl Error {
    /// Nothing is found at this resource's address: where it may be missing, its CRD is not installed.
    fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// We have no right to it.
    fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// The version from which we wanted to go on is too old.
    fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// The API server understood, and won't tell everything as a part of a watch: it is too old, set up not to, or its etcd
    /// is too old (which it calls an internal error).
    fn is_not_streamed(&self) -> bool {
        matches!(self.code(), Some(400 | 422 | 500))
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Ended { code, .. } => *code,
        }
    }
}
