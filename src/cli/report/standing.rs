//! One workload as a cluster holds it: what it has by its record and status, and what a decision made now would change.
use std::collections::{BTreeMap, BTreeSet};

use opportune_core::{
    admit::{Again, Options, later, look_again},
    decide::{Asker, Decision, Outcome, Plan, Wishes},
    discover::Catalog,
    inject::account::{Account, Standing},
    intent::Intent,
    json::Json,
    keys,
    workload::{Kind, Workload},
};
use serde_json::Value;

use super::entry::{Entry, Reported, State, cut};
use crate::cli::explain::{statuses, told};

/// What a workload holds because of one intent.
#[derive(Debug, Default)]
struct Holding {
    result: &'static str,
    offer: Option<String>,
    reason: String,
    /// Whether something of ours stands in it.
    stands: bool,
    /// Whether something that its record names is gone.
    is_torn: bool,
}

/// What a workload holds of ours.
struct Held<'a> {
    account: Account,
    statuses: BTreeMap<&'a str, &'a str>,
}

/// Reports on a workload of a cluster; `None` where it is none. Of an intent whose offers `is_hidden` from who asks, only
/// what it holds is known.
pub fn of(
    object: &Value,
    namespace: &str,
    catalog: &Catalog,
    options: &Options,
    is_hidden: &dyn Fn(&Intent) -> bool,
) -> Option<Reported> {
    let again = look_again(object, namespace, catalog, options)?;
    let kind = Kind::of(object)?;
    let mut reported = Reported::of(object, namespace, kind.name());
    let json = Json::from(object);
    let why_off = options.why_off(catalog, namespace).or_else(|| options.why_left_alone(&json));
    let workload = Workload::read(&json).ok().flatten();
    let wishes = workload.as_ref().map(Wishes::read).unwrap_or_else(|| Ok(Wishes::default()));
    let problem = match why_off {
        // Nothing is decided there; what can't be read is told all the same.
        Some(_) => wishes.as_ref().err().map(ToString::to_string),
        None => again.failure.as_ref().map(ToString::to_string),
    };
    if let Some(problem) = &problem {
        reported.fail(object, problem);
        reported.is_in_doubt &= why_off.is_none();
    }
    let Some(workload) = workload else { return Some(reported) };
    let held = Held::of(&workload);
    let decided = again.plan.iter().flat_map(|plan| plan.decisions.keys());
    let intents: BTreeSet<&Intent> = again.concerned.iter().chain(&again.pending).chain(decided).collect();
    let asked = wishes.map(|wishes| wishes.asked()).unwrap_or_default();
    let undecided = |intent: &Intent, state, why: &str| {
        let holding = held.because_of(intent);
        let is_concerned = holding.stands || asked.contains_key(intent);
        let mut entry = is_concerned.then(|| holding.entry(intent, &again, state, why))?;
        // Nobody but the workload itself could ask for it there.
        let is_asked = asked.contains_key(intent);
        entry.origin = entry.origin.or_else(|| is_asked.then_some(Asker::Workload));
        Some(entry)
    };
    // Where injection is off, and where annotations can't be read, what a policy enforces is decided on all the same.
    let is_enforced = |intent: &Intent| {
        let decision = again.plan.as_ref().and_then(|plan| plan.decisions.get(intent));
        decision.is_some_and(|decision| decision.enforced.is_some())
    };
    let entry = |intent: &Intent| match (why_off.filter(|_| !is_enforced(intent)), &problem) {
        (Some(why), _) => undecided(intent, State::Off, why),
        (None, Some(why)) => undecided(intent, State::Unknown, why),
        (None, None) => held.compared(intent, (&again, later(kind)), is_hidden(intent)),
    };
    reported.entries = intents.into_iter().filter_map(entry).collect();
    reported.conformance.clone_from(&again.conformance);
    Some(reported)
}

// === impl Held ===

impl<'a> Held<'a> {
    fn of(workload: &Workload<'a>) -> Self {
        let status = workload.own_annotation(keys::STATUS).unwrap_or_default();
        let account = Account::of(workload).ok().flatten().unwrap_or_default();
        Self { account, statuses: statuses(status) }
    }

    /// What it holds because of one intent. That something of ours is in it is believed of nothing but the record, and of that
    /// only where the workload holds what it describes.
    fn because_of(&self, intent: &Intent) -> Holding {
        let (word, rest) = self.statuses.get(intent.as_str()).map_or(("", ""), |outcome| told(outcome));
        if let Some(part) = self.account.parts.get(intent) {
            let is = |wanted: fn(&Standing) -> bool| part.places.iter().any(|(_, standing)| wanted(standing));
            if is(|standing| matches!(standing, Standing::Ours(_))) {
                let is_kept = word == "kept";
                return Holding {
                    result: if is_kept { "kept" } else { "bound" },
                    offer: part.offer.clone(),
                    reason: if is_kept { cut(rest) } else { String::new() },
                    stands: true,
                    is_torn: is(|standing| *standing == Standing::Gone),
                };
            }
        }
        if let Some(withdrawn) = self.account.withdrawn.get(intent) {
            return Holding { result: "withdrawn", reason: cut(&withdrawn.reason), ..Holding::default() };
        }
        let result = ["incomplete", "declined"].into_iter().find(|known| *known == word).unwrap_or("absent");
        let reason = if result == word || word == "absent" { cut(rest) } else { String::new() };
        Holding { result, reason, ..Holding::default() }
    }

    /// What it holds beside what a decision says; `None` where it neither asks for the intent nor holds anything of it.
    fn compared(&self, intent: &Intent, (again, later): (&Again, &str), is_hidden: bool) -> Option<Entry> {
        let holding = self.because_of(intent);
        let is_pending = again.pending.contains(intent);
        let entry = |state, reason: &str| self.because_of(intent).entry(intent, again, state, reason);
        let Some(decision) = again.plan.as_ref().and_then(|plan| plan.decisions.get(intent)) else {
            return match (is_pending, holding.stands) {
                (true, _) => Some(entry(State::Pending, &format!("no longer asked for: it goes {later}"))),
                (false, true) => Some(entry(State::Current, "no longer asked for")),
                (false, false) => None,
            };
        };
        let would = decision.to_string();
        let is_said = self.statuses.get(intent.as_str()).is_some_and(|said| *said == would);
        if is_hidden && !is_said {
            let reason = format!("you may not see all offers; as far as you may: {would}");
            return Some(entry(State::Unknown, &reason));
        }
        if again.missed.contains(intent) {
            let reason = format!("asked for while the webhook was away or too busy; {later}: {would}");
            return Some(entry(State::Missed, &reason));
        }
        if is_pending {
            return Some(entry(State::Pending, &next(&holding, decision, later)));
        }
        if holding.is_torn && again.cause.is_some() {
            let reason = format!("a part of it is gone, and comes back {later}");
            return Some(entry(State::Pending, &reason));
        }
        Some(settled(intent, again, decision, &holding))
    }
}

/// What comes `later`.
fn next(holding: &Holding, decision: &Decision, later: &str) -> String {
    match &decision.outcome {
        Outcome::Bound(offer) if holding.offer.as_ref() == Some(&offer.id.to_string()) => {
            format!("its offer or the wishes changed since: followed {later}")
        }
        _ => format!("{later}: {decision}"),
    }
}

/// The intents for which a change of the workload would be refused.
fn refused(plan: &Plan) -> impl Iterator<Item = &Intent> {
    let refused = plan.decisions.iter().filter(|(intent, decision)| decision.refusal(intent).is_some());
    refused.map(|(intent, _)| intent)
}

/// What a decision says where it changes no pods; where a requirement is not met it changes none because it would be refused.
fn settled(intent: &Intent, again: &Again, decision: &Decision, holding: &Holding) -> Entry {
    let mut entry = Entry::decided(intent, decision, State::Current);
    let mut unsatisfied = again.plan.iter().flat_map(refused);
    let Some(first) = unsatisfied.next() else { return entry };
    if entry.is_unsatisfied() {
        let has = holding.offer.as_ref().filter(|_| holding.stands);
        let has = has.map(|offer| format!("; it still has {offer}")).unwrap_or_default();
        entry.reason += &format!("{has}; a change of it would be refused");
    } else if matches!(decision.outcome, Outcome::Bound(_)) && !holding.stands && decision.skipped.is_empty()
    {
        let reason = format!("{decision}, once {first} is there: until then a change of it would be refused");
        return Holding { result: "absent", ..Holding::default() }.entry(
            intent,
            again,
            State::Pending,
            &reason,
        );
    }
    entry
}

// === impl Holding ===

impl Holding {
    /// The entry on what is held, with a reason beside the one why it is held so.
    fn entry(self, intent: &Intent, again: &Again, state: State, reason: &str) -> Entry {
        let decision = again.plan.as_ref().and_then(|plan| plan.decisions.get(intent));
        let is_required = decision.map_or(again.required.contains(intent), |decision| decision.is_required);
        let own = if matches!(state, State::Off | State::Unknown) { self.reason } else { String::new() };
        let parts = [own.as_str(), reason].into_iter().filter(|part| !part.is_empty());
        Entry {
            intent: intent.clone(),
            result: self.result,
            offer: self.offer,
            is_required,
            origin: decision.map(|decision| decision.asker.clone()),
            enforced: decision.and_then(|d| Some(d.enforced.as_ref()?.policy.clone())),
            state,
            reason: cut(&parts.collect::<Vec<_>>().join("; ")),
        }
    }
}

#[cfg(test)]
mod tests;
