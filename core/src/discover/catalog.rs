//! The catalog: all that is known at one moment, indexed so that a question costs what its answer is long.
//!
//! The [`Inventory`](super::Inventory) changes its own catalog offer by offer; what others see are copies, which share with it
//! and with each other all that did not change in between.
use std::{borrow::Cow, cmp::Ordering, collections::BTreeSet, sync::Arc};

use super::{
    AppAddress, Consumers, Labels, Offer, OfferId, Origin, Policy, Recipes, index::Index, route::Addresses,
    sorted::Sorted,
};
use crate::{decide::NamespaceDefaults, inject::profile::Profiles, intent::Intent, keys};

/// All offers, profiles and namespaces known at one moment: an immutable snapshot. A copy shares everything.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// By intent and id.
    pub(super) offers: Sorted<Arc<Offer>>,
    /// By name, intent and id.
    by_name: Sorted<Arc<Offer>>,
    usable: Index,
    incomplete: Index,
    pub(super) namespaces: Sorted<(Arc<str>, Arc<NamespaceFacts>)>,
    pub(super) addresses: Sorted<(Arc<str>, Arc<Addresses>)>,
    pub(super) profiles: Arc<Profiles>,
    /// Higher priority first, then by name.
    pub(super) policies: Arc<Vec<Arc<Policy>>>,
    pub(super) gone_policies: Arc<BTreeSet<String>>,
    recipes: Arc<Recipes>,
}

/// What is kept of a Namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceFacts {
    /// Its labels, its name among them.
    pub labels: Labels,
    /// The intents that it provides to others: `None` where it is no provider, `Some(None)` for all.
    pub provides: Option<Option<Vec<String>>>,
    /// What its annotations say for its workloads, where they say anything.
    pub defaults: Option<Arc<NamespaceDefaults>>,
}

/// Whether injection is on in a namespace, as its label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceLabel {
    /// The catalog does not hold this namespace.
    Unknown,
    /// It has no such label.
    Absent,
    /// `inject: enabled`
    Enabled,
    /// `inject: disabled`
    Disabled,
}

/// Why an offer can't be used from a namespace, as an operator may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotForNamespace {
    /// Its namespace is not labelled as a provider.
    NoProvider,
    /// Its namespace is a provider of other intents only.
    NotProvided,
    /// Its consumers don't select this namespace.
    NotConsumer,
}

// === impl Catalog ===

impl Catalog {
    pub(super) fn new(recipes: Arc<Recipes>, profiles: Arc<Profiles>) -> Self {
        Self { recipes, profiles, ..Self::default() }
    }

    /// Takes an offer, in place of one of the same intent and object.
    pub(super) fn put(&mut self, offer: &Arc<Offer>) {
        self.take_out(offer);
        self.offers.insert(Arc::clone(offer), is_made_of(&offer.intent, &offer.id));
        self.by_name.insert(Arc::clone(offer), |other| by_name(other).cmp(&by_name(offer)));
        if offer.is_trap {
            return;
        }
        let reaches = self.reaches_others(offer).is_ok();
        let index = if offer.is_complete() { &mut self.usable } else { &mut self.incomplete };
        index.add(offer, reaches);
    }

    /// Takes out the offer of that intent and object, whatever became of its namespace.
    pub(super) fn take_out(&mut self, offer: &Offer) {
        let Some(offer) = self.offers.remove(is_made_of(&offer.intent, &offer.id)) else { return };
        self.by_name.remove(|other| by_name(other).cmp(&by_name(&offer)));
        let index = if offer.is_complete() { &mut self.usable } else { &mut self.incomplete };
        index.remove(&offer);
    }

    /// All offers, complete or not, by intent, namespace and name.
    pub fn offers(&self) -> impl Iterator<Item = &Arc<Offer>> {
        self.offers.iter()
    }

    /// How apps take settings.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// All policies: those of higher priority first, then by name.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// The policy of that name.
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// Whether a policy of that name was known once, and is no more.
    pub fn is_gone_policy(&self, name: &str) -> bool {
        self.gone_policies.contains(name)
    }

    /// The policies that select a namespace, in their order.
    pub fn policies_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Policy>> {
        // Where there are none, labels need not be looked at.
        let labels =
            if self.policies.is_empty() { Cow::Owned(Labels::new()) } else { self.labels(namespace) };
        self.policies.iter().filter(move |policy| policy.selects_namespace(&labels))
    }

    /// What a namespace's annotations say for its workloads.
    pub fn namespace_defaults(&self, namespace: &str) -> Option<&Arc<NamespaceDefaults>> {
        self.facts(namespace)?.defaults.as_ref()
    }

    /// The namespaces that are known, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &NamespaceFacts)> {
        self.namespaces.iter().map(|(name, facts)| (name.as_ref(), facts.as_ref()))
    }

    /// Whether a namespace is one that hands this intent to others: a policy does not make it use what it offers itself.
    pub fn is_provider(&self, namespace: &str, intent: &Intent) -> bool {
        let provides = self.facts(namespace).and_then(|facts| facts.provides.as_ref());
        provides.is_some_and(|only| {
            only.as_ref().is_none_or(|intents| intents.iter().any(|name| name == intent.as_str()))
        })
    }

    /// How services are recognised.
    pub fn recipes(&self) -> &Recipes {
        &self.recipes
    }

    /// The complete offers that `namespace` may use, in the order of design 1.3; traps are left out.
    pub fn candidates<'a>(
        &'a self,
        intent: &'a Intent,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Offer>> {
        self.listed(&self.usable, intent, namespace)
    }

    /// The incomplete offers that `namespace` could use if they were complete, in the same order.
    pub fn incomplete<'a>(
        &'a self,
        intent: &'a Intent,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Offer>> {
        self.listed(&self.incomplete, intent, namespace)
    }

    /// The offers of that name, complete or not, traps included, that `namespace` may use, in the same order.
    ///
    /// `name` is `name` or `namespace/name`.
    pub fn named(&self, intent: &Intent, name: &str, namespace: &str) -> Vec<&Arc<Offer>> {
        let (of, name) = name.split_once('/').map_or((None, name), |(of, name)| (Some(of), name));
        let named = self.by_name.range(|other| (other.id.name.as_str(), &other.intent).cmp(&(name, intent)));
        let mut offers: Vec<_> = named
            .filter(|offer| of.is_none_or(|of| offer.is_in(of)) && self.admits(offer, namespace).is_ok())
            .collect();
        offers.sort_by(|a, b| a.rank(namespace).cmp(&b.rank(namespace)));
        offers
    }

    /// The offer that a policy means by `namespace/name`, or by the name alone of one in the workload's own namespace or in
    /// none, where `namespace` may use it; of two of one name, the first in order.
    pub fn preferred(&self, intent: &Intent, name: &str, namespace: &str) -> Option<&Arc<Offer>> {
        let is_meant = |offer: &&Arc<Offer>| {
            name.contains('/') || offer.id.namespace.is_none() || offer.is_in(namespace)
        };
        let mut named = self.named(intent, name, namespace).into_iter().filter(is_meant);
        named.find(|offer| offer.is_complete() && !offer.is_trap)
    }

    /// The offer made from that object.
    pub fn offer(&self, intent: &Intent, id: &OfferId) -> Option<&Arc<Offer>> {
        self.offers.get(is_made_of(intent, id))
    }

    /// Whether `namespace` may use `offer`.
    ///
    /// # Errors
    /// Why it may not, for an operator; a workload is told that there is no offer.
    pub fn admits(&self, offer: &Offer, namespace: &str) -> Result<(), NotForNamespace> {
        if offer.id.namespace.is_none() || offer.is_in(namespace) {
            return Ok(());
        }
        self.reaches_others(offer)?;
        match &offer.consumers {
            Consumers::Selected(selector) if selector.matches(&self.labels(namespace)) => Ok(()),
            Consumers::Selected(_) | Consumers::OwnNamespace => Err(NotForNamespace::NotConsumer),
        }
    }

    /// Where the world reaches pods with these labels, as an Ingress or HTTPRoute of their namespace says that leads to a
    /// Service that selects them. Of several: one with TLS first, then one to all of its host, then the first in byte
    /// order of hosts.
    pub fn app_address(&self, namespace: &str, pod_labels: &Labels) -> Option<AppAddress> {
        self.addresses.get(|(name, _)| name.as_ref().cmp(namespace))?.1.find(pod_labels)
    }

    /// What a namespace's label says about injection.
    pub fn namespace_label(&self, namespace: &str) -> NamespaceLabel {
        let Some(facts) = self.facts(namespace) else { return NamespaceLabel::Unknown };
        match facts.labels.get(keys::INJECT) {
            Some("enabled") => NamespaceLabel::Enabled,
            Some("disabled") => NamespaceLabel::Disabled,
            _ => NamespaceLabel::Absent,
        }
    }

    /// How many offers there are, by intent label (`ldap`, `mail`, `analytics`, `storage`, `custom`) and state
    /// (`complete`, `incomplete`): the figures of `opportune_catalog_offers`.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for intent in ["ldap", "mail", "analytics", "storage", "custom"] {
            for state in ["complete", "incomplete"] {
                counts.insert((intent, state), 0);
            }
        }
        for offer in self.offers.iter() {
            let state = if offer.is_complete() { "complete" } else { "incomplete" };
            *counts.entry((offer.intent.metric_label(), state)).or_default() += 1;
        }
        counts.into_iter().map(|((intent, state), count)| (intent, state, count)).collect()
    }

    /// The labels by which consumers are selected; of an unknown namespace only its name is known.
    fn labels(&self, namespace: &str) -> Cow<'_, Labels> {
        match self.facts(namespace) {
            Some(facts) => Cow::Borrowed(&facts.labels),
            None => Cow::Owned([(keys::NAMESPACE_NAME, namespace)].into_iter().collect()),
        }
    }

    pub(super) fn facts(&self, namespace: &str) -> Option<&NamespaceFacts> {
        Some(&self.namespaces.get(|(name, _)| name.as_ref().cmp(namespace))?.1)
    }

    fn reaches_others(&self, offer: &Offer) -> Result<(), NotForNamespace> {
        let Some(namespace) = &offer.id.namespace else { return Ok(()) };
        match self.facts(namespace).and_then(|facts| facts.provides.as_ref()) {
            None => Err(NotForNamespace::NoProvider),
            Some(Some(intents)) if !intents.iter().any(|intent| intent == offer.intent.as_str()) => {
                Err(NotForNamespace::NotProvided)
            }
            Some(_) => Ok(()),
        }
    }

    /// The index's offers for one namespace, lazily merged with those for everyone: ten thousand of the latter cost no
    /// more than those that are looked at.
    fn listed<'a>(
        &'a self,
        index: &'a Index,
        intent: &'a Intent,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Offer>> {
        let mut near = index.near(intent, namespace, &self.labels(namespace));
        near.sort_by(|a, b| a.rank(namespace).cmp(&b.rank(namespace)));
        let mut near = near.into_iter().peekable();
        let mut far = index.everyone(intent).filter(move |offer| !offer.is_in(namespace)).peekable();
        std::iter::from_fn(move || match (near.peek(), far.peek()) {
            (Some(a), Some(b)) if a.rank(namespace) <= b.rank(namespace) => near.next(),
            (Some(_), None) => near.next(),
            _ => far.next(),
        })
    }
}

/// How an offer stands to that of an intent and an object, in the order of [`Catalog::offers`].
fn is_made_of(intent: &Intent, id: &OfferId) -> impl Fn(&Arc<Offer>) -> Ordering {
    |offer| (&offer.intent, &offer.id).cmp(&(intent, id))
}

fn by_name(offer: &Offer) -> impl Ord {
    (offer.id.name.as_str(), &offer.intent, &offer.id)
}

impl NotForNamespace {
    /// What an operator can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoProvider => "its namespace is not labelled opportune.libre.sh/provider=true",
            Self::NotProvided => "its namespace provides other intents only (annotation provides)",
            Self::NotConsumer => "its consumers do not select this namespace",
        }
    }
}

impl Origin {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Marked => "marked",
            Self::Recognised => "recognised",
        }
    }
}
