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
        // Both are sorted, and an offer that did not change is mostly the same one, and shared with all beside it.
        let old = before.offers.apart(&self.offers);
        let (mut old, mut new) = (old.peekable(), self.offers.apart(&before.offers).peekable());
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
        let both = before.namespaces.apart(&self.namespaces).chain(self.namespaces.apart(&before.namespaces));
        for name in both.map(|(name, _)| name.as_ref()).collect::<BTreeSet<&str>>() {
            let (old, new) = (before.facts(name), self.facts(name));
            if old.map(|facts| &facts.provides) != new.map(|facts| &facts.provides) {
                let provided = before.offers().chain(self.offers()).filter(|offer| offer.is_in(name));
                difference.intents.extend(provided.map(|offer| offer.intent.clone()));
            }
            let said = |facts: &'_ NamespaceFacts| (facts.labels.clone(), facts.defaults.clone());
            if old.map(said) != new.map(said) {
                difference.namespaces.insert(name.to_owned());
            }
        }
        let both = before.addresses.apart(&self.addresses).chain(self.addresses.apart(&before.addresses));
        for name in both.map(|(name, _)| name).collect::<BTreeSet<_>>() {
            let stands = |(other, _): &(Arc<str>, _)| other.cmp(name);
            if before.addresses.get(stands) != self.addresses.get(stands) {
                difference.namespaces.insert(name.to_string());
            }
        }
        difference.has_policies = self.policies != before.policies;
        difference.has_profiles = !self.profiles.are_those(&before.profiles);
        difference
    }
}

fn place(offer: &Offer) -> (&Intent, &super::OfferId) {
    (&offer.intent, &offer.id)
}
