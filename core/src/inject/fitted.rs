//! What one intent puts into one workload, and what is to be said of it.
use std::collections::BTreeMap;

use super::{additions::Additions, slot::variable_slot};
use crate::{
    decide::Skipped, deliver::secret_name, discover::Offer, intent::Intent, json::Json, template::Template,
    workload::Container,
};

/// What one intent puts into one workload.
#[derive(Debug, Default)]
pub(crate) struct Fitted {
    pub additions: Additions,
    pub skipped: Vec<Skipped>,
    pub notes: Vec<String>,
    /// The name of the delivered Secret, where something points at it.
    pub secret: Option<String>,
    /// Keys of the delivered Secret that are made of several settings.
    pub composed: BTreeMap<String, Template>,
    /// ConfigMaps to make: by name, the one key of each and its text.
    pub config_maps: BTreeMap<String, (String, String)>,
    /// How policies bear on it.
    pub because: Vec<String>,
    /// Whether what the user set stands in the way of some of it.
    pub is_evaded: bool,
}

// === impl Fitted ===

impl Fitted {
    /// What stands there, and nothing to say of it.
    pub(super) fn of(standing: &Additions) -> Self {
        Self { additions: standing.clone(), ..Self::default() }
    }

    /// The name of the Secret that is delivered for an offer: something points at it from now on.
    pub(super) fn secret(&mut self, intent: &Intent, offer: &Offer) -> String {
        self.secret.get_or_insert_with(|| secret_name(intent, &offer.id)).clone()
    }

    /// Lets a variable of the user's give way, and keeps it for the day when ours is taken out.
    pub(super) fn overwrite(
        &mut self,
        container: &Container<'_>,
        name: &str,
        users: &Json<'_>,
        policy: &str,
    ) {
        let slot = variable_slot(container.name, name);
        self.additions.overwritten.insert(slot, users.into());
        let because = format!("policy {policy} overwrites {name}");
        if !self.because.contains(&because) {
            self.because.push(because);
        }
    }
}
