//! The choice of one offer for one intent (design 1.3 and 1.4).
use std::sync::Arc;

use super::{Absence, Outcome, Preference};
use crate::{
    discover::{Catalog, Labels, Offer, OfferId},
    intent::Intent,
};

/// One wish, and everything that bears on the choice.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What is asked for.
    pub intent: &'a Intent,
    /// The workload's namespace.
    pub namespace: &'a str,
    /// The labels of its pods: an offer never serves the workload behind it.
    pub pod_labels: &'a Labels,
    /// Only this offer, as `name` or `namespace/name`.
    pub named: Option<&'a str>,
    /// What the workload uses now.
    pub in_use: Option<&'a InUse>,
    /// Whether that is what the server's record says, and a decision wrote it: a record that comes with a request proves nothing.
    pub can_keep: bool,
    /// What was taken out because it could not be delivered.
    pub withdrawn: Option<&'a LeftOut>,
    /// The offers that policies prefer, the first that counts first.
    pub preferred: &'a [Preference],
    /// Whether the workload can't choose for itself: what is preferred comes before what it names or uses.
    pub is_enforced: bool,
    /// Whether what its own namespace offers is left out.
    pub skips_own: bool,
}

/// Offers that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Each with its fingerprint at that time, the last one first: a changed one is tried again.
    pub offers: Vec<(OfferId, String)>,
    /// Why the last one could not be.
    pub reason: String,
}

/// The offer that a workload uses already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Which.
    pub offer: OfferId,
    /// Whether the workload still wishes what it did when this was chosen.
    pub are_wishes_same: bool,
}

/// What can be used.
#[derive(Debug, Clone)]
pub enum Choice {
    /// This offer.
    Use(Arc<Offer>),
    /// No offer: what became of the wish instead.
    Not(Outcome),
}

/// Chooses an offer.
///
/// `fits` are alternatives, best first: an offer that fits an earlier one is taken before any that only fits a later one.
/// Nothing fitting is answered like nothing offered; the caller knows better what to say.
pub fn choose(catalog: &Catalog, question: &Question<'_>, fits: &[&dyn Fn(&Offer) -> bool]) -> Choice {
    let is_allowed = |offer: &Offer| {
        let is_own = question.skips_own && offer.is_in(question.namespace);
        let is_left_out = is_own || question.is_withdrawn(offer);
        !is_left_out && !offer.is_served_by(question.namespace, question.pod_labels)
    };
    let preferred = || {
        question.preferred.iter().find_map(|preference| {
            let named = catalog.preferred(question.intent, &preference.offer, question.namespace)?;
            (is_allowed(named) && fits.iter().any(|fits| fits(named))).then(|| Arc::clone(named))
        })
    };
    if let Some(offer) = preferred().filter(|_| question.is_enforced) {
        return Choice::Use(offer);
    }
    if let Some(name) = question.named {
        let named = catalog.named(question.intent, name, question.namespace);
        let named: Vec<_> = named.into_iter().filter(|offer| is_allowed(offer)).collect();
        match question.among(&named, fits) {
            Some(offer) => return Choice::Use(offer),
            // What is enforced is not got rid of by asking for something that nobody has.
            None if question.is_enforced => {}
            None => {
                let incomplete = named.into_iter().find(|offer| !offer.is_complete());
                return question.without(catalog, incomplete, Absence::NotNamed(name.to_owned()));
            }
        }
    }
    if let Some(offer) = question.still_usable(catalog)
        && is_allowed(offer)
        && fits.iter().any(|fits| fits(offer))
    {
        return Choice::Use(offer.clone());
    }
    if let Some(offer) = preferred() {
        return Choice::Use(offer);
    }
    let candidates =
        || catalog.candidates(question.intent, question.namespace).filter(|offer| is_allowed(offer));
    if let Some(offer) = first_fitting(candidates, fits) {
        return Choice::Use(offer);
    }
    let incomplete = catalog.incomplete(question.intent, question.namespace).find(|offer| is_allowed(offer));
    question.without(catalog, incomplete, Absence::NoOffer)
}

fn first_fitting<'a, I: Iterator<Item = &'a Arc<Offer>>>(
    offers: impl Fn() -> I,
    fits: &[&dyn Fn(&Offer) -> bool],
) -> Option<Arc<Offer>> {
    fits.iter().find_map(|fits| offers().find(|offer| fits(offer)).cloned())
}

// === impl Question ===

impl Question<'_> {
    /// The one of the offers of the name that was asked for: the one in use, else the first that fits.
    fn among(&self, named: &[&Arc<Offer>], fits: &[&dyn Fn(&Offer) -> bool]) -> Option<Arc<Offer>> {
        let is_usable = |offer: &Offer| offer.is_complete() && !(self.is_enforced && offer.is_trap);
        let usable = || named.iter().copied().filter(|offer| is_usable(offer));
        let in_use = self.in_use.filter(|in_use| in_use.are_wishes_same).map(|in_use| &in_use.offer);
        let still = usable().find(|offer| in_use == Some(&offer.id));
        let still = still.filter(|offer| fits.iter().any(|fits| fits(offer)));
        still.cloned().or_else(|| first_fitting(usable, fits))
    }

    /// The offer in use, where it is still a candidate and nothing else was asked for since.
    fn still_usable<'a>(&self, catalog: &'a Catalog) -> Option<&'a Arc<Offer>> {
        let in_use = self.in_use.filter(|in_use| in_use.are_wishes_same)?;
        let offer = catalog.offer(self.intent, &in_use.offer)?;
        let is_candidate =
            offer.is_complete() && !offer.is_trap && catalog.admits(offer, self.namespace).is_ok();
        is_candidate.then_some(offer)
    }

    /// How what policies prefer bears on the outcome, for an operator.
    pub(crate) fn told(&self, outcome: &Outcome) -> Option<String> {
        let used = match outcome {
            Outcome::Bound(offer) => Some(offer.id.to_string()),
            Outcome::Declined | Outcome::Forbidden(_) => return None,
            Outcome::Kept { .. }
            | Outcome::Absent(_)
            | Outcome::Incomplete { .. }
            | Outcome::Withdrawn(_) => None,
        };
        let is_used = |preference: &&Preference| {
            let name = used.as_deref().unwrap_or_default();
            name == preference.offer || name == format!("{}/{}", self.namespace, preference.offer)
        };
        let preference = self.preferred.iter().find(is_used);
        if let Some(Preference { policy, offer }) = preference {
            return Some(format!("policy {policy} prefers {offer}"));
        }
        let Preference { policy, offer } = self.preferred.first()?;
        Some(format!("policy {policy} prefers {offer}, which is not used here"))
    }

    fn is_withdrawn(&self, offer: &Offer) -> bool {
        let mut left_out = self.withdrawn.into_iter().flat_map(|withdrawn| &withdrawn.offers);
        left_out.any(|(id, print)| *id == offer.id && *print == offer.fingerprint())
    }

    /// What becomes of the wish where no offer can be used.
    fn without(&self, catalog: &Catalog, incomplete: Option<&Arc<Offer>>, none: Absence) -> Choice {
        if let Some(withdrawn) = self.withdrawn {
            return Choice::Not(Outcome::Withdrawn(withdrawn.reason.clone()));
        }
        if let Some(kept) = self.kept(catalog) {
            return Choice::Not(kept);
        }
        Choice::Not(match incomplete {
            Some(offer) => {
                Outcome::Incomplete { offer: offer.id.to_string(), reason: offer.incompleteness() }
            }
            None => Outcome::Absent(none),
        })
    }

    /// An offer that vanished or became incomplete is kept; one whose consent was withdrawn is not.
    fn kept(&self, catalog: &Catalog) -> Option<Outcome> {
        let in_use = &self.in_use.filter(|_| self.can_keep)?.offer;
        let is_other = |name: &str| name != in_use.name && name != in_use.to_string();
        if self.named.is_some_and(is_other) && !self.is_enforced {
            return None;
        }
        let reason = match catalog.offer(self.intent, in_use) {
            None => format!("{in_use} is no longer offered"),
            Some(offer) if catalog.admits(offer, self.namespace).is_err() => return None,
            Some(offer) if offer.is_complete() => return None,
            Some(offer) => format!("{in_use} {}", offer.incompleteness()),
        };
        Some(Outcome::Kept { offer: in_use.to_string(), reason })
    }
}
