//! What changed from one catalog to the next: who has to be looked at again.
use std::{collections::BTreeSet, sync::Arc};

use super::{Catalog, NamespaceFacts, Offer};
use crate::intent::Intent;

/// What differs between two catalogs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// The intents of offers that came, changed or went, and of those whose namespace provides otherwise than before.
    pub intents: BTreeSet<Intent>,
    /// Namespaces with other labels, or in which other routes lead to apps.
    pub namespaces: BTreeSet<String>,
    /// Whether a profile changed: any workload may be concerned.
    pub has_profiles: bool,
    /// Whether a policy came, changed or went: any workload may be concerned.
    pub has_policies: bool,
}

// === impl Difference ===

impl Difference {
    /// Whether a workload of `namespace` that asks for `intents` may be decided on otherwise.
    pub fn concerns<'a>(&self, namespace: &str, intents: impl IntoIterator<Item = &'a Intent>) -> bool {
        self.has_profiles
            || self.has_policies
            || self.namespaces.contains(namespace)
            || intents.into_iter().any(|intent| self.intents.contains(intent))
    }
}

// === impl Catalog ===

impl Catalog {
    /// What is otherwise here than in `before`.
    pub fn difference(&self, before: &Self) -> Difference {
        let mut difference = Difference::default();
        // Both are sorted, and an offer that did not change is mostly the same one.
        let (mut old, mut new) = (before.offers().peekable(), self.offers().peekable());
        loop {
            let changed = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => old.next(),
                (None, Some(_)) => new.next(),
                (Some(a), Some(b)) => match place(a).cmp(&place(b)) {
                    std::cmp::Ordering::Less => old.next(),
                    std::cmp::Ordering::Greater => new.next(),
                    std::cmp::Ordering::Equal => {
                        let pair = old.next().zip(new.next());
                        pair.filter(|(a, b)| !Arc::ptr_eq(a, b) && a != b).map(|(a, _)| a)
                    }
                },
            };
            difference.intents.extend(changed.map(|offer| offer.intent.clone()));
        }
        let namespaces: BTreeSet<&String> = before.namespaces.keys().chain(self.namespaces.keys()).collect();
        for name in namespaces {
            let (old, new) = (before.namespaces.get(name), self.namespaces.get(name));
            if old.map(|facts| &facts.provides) != new.map(|facts| &facts.provides) {
                let provided = before.offers().chain(self.offers()).filter(|offer| offer.is_in(name));
                difference.intents.extend(provided.map(|offer| offer.intent.clone()));
            }
            let said = |facts: &NamespaceFacts| (facts.labels.clone(), facts.defaults.clone());
            if old.map(said) != new.map(said) {
                difference.namespaces.insert(name.clone());
            }
        }
        let routed: BTreeSet<&String> = before.addresses.keys().chain(self.addresses.keys()).collect();
        let differs = |name: &&&String| before.addresses.get(**name) != self.addresses.get(**name);
        difference.namespaces.extend(routed.iter().filter(differs).map(|name| (*name).clone()));
        difference.has_policies = self.policies != before.policies;
        difference.has_profiles = !self.profiles.are_those(&before.profiles);
        difference
    }
}

fn place(offer: &Offer) -> (&Intent, &super::OfferId) {
    (&offer.intent, &offer.id)
}
