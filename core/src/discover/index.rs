//! Offers by who may use them.
use std::sync::Arc;

use super::{Consumers, LabelSelector, Labels, Offer, sorted::Sorted};
use crate::intent::Intent;

/// Offers of all intents, by who may use them.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// By namespace, intent and id.
    own: Sorted<Arc<Offer>>,
    /// By label, intent and id.
    by_label: Sorted<Arc<Labelled>>,
    /// By intent and id.
    by_selector: Sorted<Arc<Offer>>,
    /// By intent and rank, as they stand for nobody's own namespace: for everyone else that is their order.
    everyone: Sorted<Arc<Offer>>,
}

/// An offer for namespaces with one label, as far as that label goes.
#[derive(Debug)]
struct Labelled {
    key: Box<str>,
    value: Box<str>,
    offer: Arc<Offer>,
}

// === impl Index ===

impl Index {
    pub(super) fn add(&mut self, offer: &Arc<Offer>, reaches_others: bool) {
        let again = || Arc::clone(offer);
        if offer.id.namespace.is_some() {
            self.own.insert(again(), |other| by_namespace(other).cmp(&by_namespace(offer)));
        }
        let Consumers::Selected(selector) = &offer.consumers else { return };
        if !reaches_others {
            return;
        }
        if selector.is_everything() {
            self.everyone.insert(again(), |other| by_rank(other).cmp(&by_rank(offer)));
            return;
        }
        // By the keys that the fewest others are found by: a label that everybody selects would make the list long.
        let load = |pairs: &Vec<(&str, &str)>| {
            let of_label = |(key, value): &(&str, &str)| {
                self.by_label.count(|other| other.label().cmp(&(key, value, &offer.intent)))
            };
            pairs.iter().map(of_label).max()
        };
        let rarest = selector.index_keys().min_by_key(load);
        let Some(pairs) = rarest else {
            self.by_selector.insert(again(), |other| by_id(other).cmp(&by_id(offer)));
            return;
        };
        for (key, value) in pairs {
            let labelled = Arc::new(Labelled { key: key.into(), value: value.into(), offer: again() });
            self.by_label.insert(Arc::clone(&labelled), |other| other.place().cmp(&labelled.place()));
        }
    }

    /// Takes an offer out, wherever it is: its namespace may have reached others once, and labels had other loads.
    pub(super) fn remove(&mut self, offer: &Arc<Offer>) {
        self.own.remove(|other| by_namespace(other).cmp(&by_namespace(offer)));
        let Consumers::Selected(selector) = &offer.consumers else { return };
        self.everyone.remove(|other| by_rank(other).cmp(&by_rank(offer)));
        self.by_selector.remove(|other| by_id(other).cmp(&by_id(offer)));
        for (key, value) in selector.index_keys().flatten() {
            let sought = (key, value, &offer.intent);
            self.by_label.remove(|other| (other.label(), &other.offer.id).cmp(&(sought, &offer.id)));
        }
    }

    /// What is offered to this namespace in particular: its own, and what selects it.
    pub(super) fn near(&self, intent: &Intent, namespace: &str, labels: &Labels) -> Vec<&Arc<Offer>> {
        let own = (Some(namespace), intent);
        let own = self.own.range(|other| (other.id.namespace.as_deref(), &other.intent).cmp(&own));
        let by_label = labels.iter().flat_map(|(key, value)| {
            self.by_label.range(move |other| other.label().cmp(&(key, value, intent)))
        });
        let by_selector = self.by_selector.range(|other| other.intent.cmp(intent));
        let selected = by_label.map(|labelled| &labelled.offer).chain(by_selector);
        let selected = selected.filter(|offer| {
            offer.consumers.selector().is_some_and(|selector| selector.matches(labels))
                && !offer.is_in(namespace)
        });
        own.chain(selected).collect()
    }

    /// What is offered to everyone, in the order in which it stands for all but its own namespace.
    pub(super) fn everyone<'a>(&'a self, intent: &'a Intent) -> impl Iterator<Item = &'a Arc<Offer>> {
        self.everyone.range(|other| other.intent.cmp(intent))
    }
}

fn by_namespace(offer: &Offer) -> impl Ord {
    (offer.id.namespace.as_deref(), &offer.intent, &offer.id.name, offer.id.source)
}

fn by_id(offer: &Offer) -> impl Ord {
    (&offer.intent, &offer.id)
}

fn by_rank(offer: &Offer) -> impl Ord {
    (&offer.intent, offer.rank(""))
}

// === impl Labelled ===

impl Labelled {
    /// The label, and what is offered for it.
    fn label(&self) -> (&str, &str, &Intent) {
        (&self.key, &self.value, &self.offer.intent)
    }

    fn place(&self) -> impl Ord {
        (self.label(), &self.offer.id)
    }
}

// === impl Consumers ===

impl Consumers {
    fn selector(&self) -> Option<&LabelSelector> {
        match self {
            Self::Selected(selector) => Some(selector),
            Self::OwnNamespace => None,
        }
    }
}
