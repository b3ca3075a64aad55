//! What an operator is told about each offer: why it was taken or not.
use std::{fmt, sync::Arc};

use super::Outcome;
use crate::{
    discover::{Catalog, Labels, NotForNamespace, Offer},
    intent::Intent,
};

/// One offer of the intent, and what speaks for or against it.
#[derive(Debug, Clone)]
pub struct Considered {
    /// The offer.
    pub offer: Arc<Offer>,
    /// What became of it.
    pub standing: Standing,
}

/// What became of an offer in one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is the one.
    Used,
    /// It could be used, and another was; its place among the candidates, from 1.
    Candidate(usize),
    /// Something is missing or wrong.
    Incomplete(String),
    /// It takes requests and never serves them.
    Trap,
    /// The workload itself is behind it.
    OwnService,
    /// This namespace may not use it.
    NotForNamespace(NotForNamespace),
}

/// Lists every offer of an intent as `namespace` sees it: the used one first, then the candidates in their order, then
/// the others by name.
pub fn consider(
    catalog: &Catalog,
    intent: &Intent,
    namespace: &str,
    pod_labels: &Labels,
    outcome: &Outcome,
) -> Vec<Considered> {
    let order: Vec<_> = catalog.candidates(intent, namespace).map(|offer| offer.id.clone()).collect();
    let standing = |offer: &Offer| {
        if matches!(outcome, Outcome::Bound(used) if used.id == offer.id) {
            return Standing::Used;
        }
        if let Err(reason) = catalog.admits(offer, namespace) {
            return Standing::NotForNamespace(reason);
        }
        if offer.is_served_by(namespace, pod_labels) {
            return Standing::OwnService;
        }
        match order.iter().position(|id| *id == offer.id) {
            Some(place) => Standing::Candidate(place + 1),
            None if offer.is_trap => Standing::Trap,
            None => Standing::Incomplete(offer.incompleteness()),
        }
    };
    let offers = catalog.offers().filter(|offer| &offer.intent == intent);
    let mut all: Vec<Considered> =
        offers.map(|offer| Considered { standing: standing(offer), offer: offer.clone() }).collect();
    all.sort_by_key(|considered| considered.standing.place());
    all
}

// === impl Standing ===

impl Standing {
    fn place(&self) -> usize {
        match self {
            Self::Used => 0,
            Self::Candidate(place) => *place,
            _ => usize::MAX,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str("used"),
            Self::Candidate(place) => write!(f, "candidate {place}"),
            Self::Incomplete(reason) => write!(f, "incomplete: {reason}"),
            Self::Trap => f.write_str("a trap that never delivers: only by use.<intent>"),
            Self::OwnService => f.write_str("this workload is behind it"),
            Self::NotForNamespace(reason) => write!(f, "not for this namespace: {}", reason.advice()),
        }
    }
}
