//! Injection: a plan and a raw object in, a JSON patch out.
//!
//! It only adds; what it takes out is what the object's own record describes and the object still holds as it was written.
pub mod account;
pub(crate) mod additions;
mod config_file;
pub(crate) mod env;
mod files;
mod fitted;
pub(crate) mod hash;
mod mapping;
pub(crate) mod owners;
mod patch;
pub mod profile;
mod reconcile;
pub mod record;
mod slot;
mod storage;
mod templates;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

pub use json_patch::PatchOperation;
pub use patch::{Operation, standard};
pub(crate) use patch::{apply, write};
pub(crate) use reconcile::{annotate, empties, operations};
pub(crate) use templates::claim_templates;
pub(crate) use volumes::CUT;

use crate::{
    decide::{
        Absence, Asker, Choice, Decision, LeftOut, Outcome, Plan, Question, Ruling, Skipped, Term, Terms,
        Wishes, choose,
    },
    discover::{AppAddress, Catalog, Labels, Offer},
    inject::{
        additions::Additions,
        fitted::Fitted,
        profile::{Profile, Takes},
        record::Record,
    },
    intent::Intent,
    json::Json,
    template::Template,
    workload::{Container, Kind, Workload},
};

/// The workload that is injected, as the user wrote it: nothing of ours is in it.
pub(crate) struct Target<'a> {
    pub workload: &'a Workload<'a>,
    pub namespace: &'a str,
    /// The labels of its pods.
    pub labels: Labels,
    pub terms: &'a Terms,
    pub wishes: &'a Wishes,
    pub profile: Option<&'a Profile>,
    pub containers: Vec<&'a Container<'a>>,
    /// Where the world reaches it.
    pub address: Option<AppAddress>,
}

/// How a workload takes what it asks for, and how it takes what is enforced: there its annotations can add, and not take
/// away.
pub(crate) struct Targets<'a> {
    pub asked: Target<'a>,
    /// Where anything is enforced.
    pub enforced: Option<Target<'a>>,
}

/// What was known of the workload before.
pub(crate) struct Before<'a> {
    /// The digest of the terms now: with those of before, something else may have been wished.
    pub digest: &'a str,
    /// The record of the object under review.
    pub own: Option<&'a Record>,
    /// The object as the server holds it, and its record.
    pub stored: Option<(&'a Workload<'a>, Option<&'a Record>)>,
    /// What both records say stands there, as it stands.
    pub standing: &'a dyn Fn(&Intent) -> Additions,
    /// The intents of which nothing is decided: what stands stays.
    pub untouched: &'a BTreeSet<Intent>,
    /// Whether nobody is there to deliver anything new.
    pub is_delivery_away: bool,
}

/// A plan, and what it comes to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Injection {
    pub plan: Plan,
    pub additions: Additions,
    /// The names of the delivered Secrets that something points at, by intent.
    pub secrets: BTreeMap<Intent, String>,
    /// The keys of delivered Secrets that are composed, by intent.
    pub composed: BTreeMap<Intent, BTreeMap<String, Template>>,
    /// ConfigMaps to make: by name, the one key of each and its text.
    pub config_maps: BTreeMap<String, (String, String)>,
}

/// Decides on every wish, and fits what is found to the workload.
pub(crate) fn plan(catalog: &Catalog, targets: &Targets<'_>, before: &Before<'_>) -> Injection {
    let mut injection = Injection::default();
    let terms = targets.asked.terms;
    injection.plan.describe(&targets.asked);
    for intent in before.untouched {
        injection.additions.merge((before.standing)(intent));
    }
    let mut asked: BTreeMap<&Intent, Option<&Term>> =
        terms.intents.iter().map(|(intent, term)| (intent, Some(term))).collect();
    let immutable = before.immutable_storage().filter(|storage| !before.untouched.contains(storage));
    if let Some(storage) = &immutable {
        asked.entry(storage).or_insert(None);
    }
    for (intent, term) in asked {
        let enforced = targets.enforced.as_ref().filter(|_| term.is_some_and(Term::is_enforced));
        let target = enforced.unwrap_or(&targets.asked);
        let (mut decision, fitted) = answer(catalog, target, before, intent, term);
        for (variable, other) in injection.additions.merge(fitted.additions) {
            let skipped = Skipped::new(variable, format!("set for {other}"));
            if !decision.skipped.contains(&skipped) {
                decision.skipped.push(skipped);
            }
        }
        injection.config_maps.extend(fitted.config_maps);
        injection.secrets.extend(fitted.secret.map(|name| (intent.clone(), name)));
        if !fitted.composed.is_empty() {
            injection.composed.insert(intent.clone(), fitted.composed);
        }
        injection.plan.decisions.insert(intent.clone(), decision);
    }
    injection.additions.env.values_mut().for_each(env::order_by_references);
    injection
}

/// One wish, with all that is known of it; `term` is `None` where nothing is wished and something can't be taken back.
fn answer(
    catalog: &Catalog,
    target: &Target<'_>,
    before: &Before<'_>,
    intent: &Intent,
    term: Option<&Term>,
) -> (Decision, Fitted) {
    let standing = (before.standing)(intent);
    // A record alone proves nothing: what it calls ours must stand there.
    let in_use = before
        .records()
        .find_map(|record| record.in_use(intent, before.digest))
        .filter(|_| !standing.is_empty());
    let is_enforced = term.is_some_and(Term::is_enforced);
    // What is enforced is never left out because it could not be delivered: a tenant could see to that.
    let withdrawn = before.withdrawn(intent).filter(|_| !is_enforced);
    let preferred = target.terms.preferences(intent);
    let is_unasked = term.is_some_and(|term| matches!(term.asker, Asker::Policy(_)));
    let question = Question {
        intent,
        namespace: target.namespace,
        pod_labels: &target.labels,
        named: target.wishes.uses.get(intent).map(String::as_str),
        in_use: in_use.as_ref(),
        can_keep: in_use.as_ref().is_some_and(|in_use| before.held(intent, &in_use.offer)),
        withdrawn: withdrawn.as_ref(),
        preferred: &preferred,
        is_enforced,
        skips_own: is_unasked && catalog.is_provider(target.namespace, intent),
    };
    let (mut decision, fitted) = decide_one(catalog, target, before, &question, term, &standing);
    if let Some(term) = term {
        decision.asker = term.asker.clone();
        decision.enforced = term.enforced().cloned();
        // Who offers it to others would else be refused before it can.
        decision.is_exempt = question.skips_own;
        decision.because.extend(target.terms.overruled(intent, term));
    }
    decision.because.extend(question.told(&decision.outcome));
    if target.terms.mapped_by_namespace.contains(intent) {
        let because = format!("its variables are those of the Namespace's annotation env.{intent}");
        decision.because.push(because);
    }
    (decision, fitted)
}

/// What becomes of one wish.
fn decide_one(
    catalog: &Catalog,
    target: &Target<'_>,
    before: &Before<'_>,
    question: &Question<'_>,
    term: Option<&Term>,
    standing: &Additions,
) -> (Decision, Fitted) {
    let intent = question.intent;
    let is_required = term.is_some_and(|term| term.is_required);
    let refused = term.and_then(|term| match &term.ruling {
        Ruling::Granted | Ruling::Enforced(_) => None,
        Ruling::Declined => Some(Outcome::Declined),
        Ruling::Forbidden(policy) => Some(Outcome::Forbidden(policy.clone())),
    });
    if intent.is_storage()
        && let Some((stored, Some(record))) = before.stored
        && before.immutable_storage().is_some()
    {
        let wish = term.filter(|_| refused.is_none()).map(|term| term.is_required);
        let stored = storage::immutable(target, standing.clone(), (stored, record), catalog, intent, wish);
        return (stored.decision, stored.fitted);
    }
    if let Some(outcome) = refused {
        if let (Outcome::Forbidden(policy), true, false) =
            (&outcome, intent.is_storage(), standing.is_empty())
        {
            let reason = format!("policy {policy} forbids it, and data is there");
            let outcome = Outcome::Kept { offer: String::new(), reason };
            return (Decision::new(is_required, outcome), Fitted::of(standing));
        }
        return (Decision::new(is_required, outcome), Fitted::default());
    }
    let (mut decision, mut fitted) = if intent.is_storage() {
        let before_record = before.stored.and_then(|(_, record)| record);
        let is_update = before.stored.is_some();
        let asked =
            storage::StorageQuestion { question: *question, is_required, before: before_record, is_update };
        let stored = asked.answer(catalog, target);
        still_there(stored.decision, stored.fitted, standing)
    } else {
        fit(catalog, target, question, is_required)
    };
    if matches!(decision.outcome, Outcome::Kept { .. }) && !intent.is_storage() {
        return (decision, Fitted::of(standing));
    }
    if before.is_delivery_away && needs_delivery(&fitted) && !has(standing, &fitted.additions) {
        return without_delivery(decision, question, standing);
    }
    decision.skipped.append(&mut fitted.skipped);
    decision.notes.append(&mut fitted.notes);
    decision.because.append(&mut fitted.because);
    decision.is_evaded = fitted.is_evaded;
    (decision, fitted)
}

/// Whether all that a controller makes of these additions stands already, so that nothing new is to be delivered.
fn has(standing: &Additions, additions: &Additions) -> bool {
    let slots: Vec<_> = standing.slots().map(|(slot, entry)| (slot, &entry.value)).collect();
    additions
        .slots()
        .filter(|(_, entry)| is_delivered(&entry.value))
        .all(|(slot, entry)| slots.iter().any(|(other, value)| *other == slot && **value == entry.value))
}

/// What is there already stays, and nothing new is promised: nobody could make what it points at.
fn without_delivery(
    mut decision: Decision,
    question: &Question<'_>,
    standing: &Additions,
) -> (Decision, Fitted) {
    decision.skipped.clear();
    decision.notes.clear();
    if standing.is_empty() {
        decision.outcome = Outcome::Absent(Absence::DeliveryAway);
        return (decision, Fitted::default());
    }
    let offer = question.in_use.map_or_else(String::new, |in_use| in_use.offer.to_string());
    decision.outcome = Outcome::Kept { offer, reason: Absence::DeliveryAway.to_string() };
    (decision, Fitted::of(standing))
}

/// Storage always stays: what stands there is kept where nothing new can be decided.
fn still_there(mut decision: Decision, fitted: Fitted, standing: &Additions) -> (Decision, Fitted) {
    let reason = match &decision.outcome {
        Outcome::Absent(Absence::Mounted(_)) => None,
        Outcome::Absent(absence) => Some(absence.to_string()),
        Outcome::Incomplete { offer, reason } => Some(format!("{offer} {reason}")),
        _ => None,
    };
    match reason {
        Some(reason) if !standing.is_empty() => {
            decision.outcome = Outcome::Kept { offer: String::new(), reason };
            (decision, Fitted::of(standing))
        }
        _ => (decision, fitted),
    }
}

/// Chooses an offer and fits it.
fn fit(
    catalog: &Catalog,
    target: &Target<'_>,
    question: &Question<'_>,
    is_required: bool,
) -> (Decision, Fitted) {
    let outcome = match choose(catalog, question, &[&|_: &Offer| true]) {
        Choice::Use(offer) => match env::fit(target, question, &offer, is_required) {
            Ok(fitted) => match with_files(target, question, &offer, fitted) {
                Ok(fitted) => return (Decision::new(is_required, Outcome::Bound(offer)), fitted),
                Err(absence) => Outcome::Absent(absence),
            },
            Err(absence) => Outcome::Absent(absence),
        },
        Choice::Not(outcome) => outcome,
    };
    (Decision::new(is_required, outcome), Fitted::default())
}

/// Adds what comes as files: the app's own configuration, and the settings themselves where the workload asks for it.
fn with_files(
    target: &Target<'_>,
    question: &Question<'_>,
    offer: &Offer,
    mut fitted: Fitted,
) -> Result<Fitted, Absence> {
    let intent = question.intent;
    let mapping = target.profile.and_then(|profile| profile.intents.get(intent));
    let has_own = target.wishes.env.contains_key(intent);
    let is_mapped = !has_own || question.is_enforced;
    if let (Some(Takes::Mapped(mapped)), true) = (mapping.map(|mapping| &mapping.takes), is_mapped) {
        config_file::add(target, intent, offer, &mapped.files, &mut fitted)?;
    }
    if target.wishes.files {
        files::add(target, intent, offer, &mut fitted);
    }
    Ok(fitted)
}

/// Whether a controller has to make something before the pods can start.
fn needs_delivery(fitted: &Fitted) -> bool {
    let has_secret = fitted.additions.env.values().flatten().any(|entry| env::has_secret(&entry.value));
    let has_files = fitted.additions.volumes.iter().any(|entry| is_delivered(&entry.value));
    has_secret || has_files
}

// === impl Plan ===

impl Plan {
    /// Says of whom it is, and by whose word.
    fn describe(&mut self, target: &Target<'_>) {
        self.profile = target.profile.map(|profile| profile.name.clone());
        self.containers = target.containers.iter().map(|c| c.name.to_owned()).collect();
        self.policies = target.terms.policies.iter().map(|policy| policy.name.clone()).collect();
        self.refresh = target.terms.refresh;
        self.refresh_by.clone_from(&target.terms.refresh_by);
    }
}

// === impl Target ===

impl Target<'_> {
    /// What keeps a file or folder of ours from being mounted at a path of a container.
    pub(crate) fn obstacle(&self, container: &Container<'_>, path: &str) -> Option<&'static str> {
        let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        container.mounts.iter().find_map(|mount| {
            let other = mount.text("mountPath").trim_end_matches('/');
            if other == path {
                Some("mounted by the workload")
            } else if below(other, path) {
                Some("above a mount of the workload")
            } else if below(path, other) && self.is_read_only(mount) {
                // The runtime could not make the place to mount it at, and the container would never start.
                Some("below a read-only mount of the workload")
            } else {
                None
            }
        })
    }

    fn is_read_only(&self, mount: &Json<'_>) -> bool {
        let volume = self.workload.volumes().iter().find(|volume| volume.text("name") == mount.text("name"));
        let sources = ["secret", "configMap", "projected", "downwardAPI", "image"];
        mount.get("readOnly").is_some_and(|value| *value == Json::Bool(true))
            || volume.is_some_and(|volume| sources.iter().any(|source| volume.get(source).is_some()))
    }
}

// === impl Before ===

impl Before<'_> {
    /// The records that tell what is in use: what the server holds comes first.
    fn records(&self) -> impl Iterator<Item = &Record> {
        self.stored.and_then(|(_, record)| record).into_iter().chain(self.own)
    }

    /// Whether the server's record says that an offer was in use. What only comes with the request proves nothing: `kept` would
    /// tell whoever wrote it what there is in other namespaces.
    fn held(&self, intent: &Intent, offer: &crate::discover::OfferId) -> bool {
        let record = self.stored.and_then(|(_, record)| record).filter(|record| !record.is_unproven());
        record.and_then(|record| record.in_use(intent, "")).is_some_and(|in_use| in_use.offer == *offer)
    }

    /// What was taken out because it could not be delivered, unless the wishes changed since.
    fn withdrawn(&self, intent: &Intent) -> Option<LeftOut> {
        let record = self.own.or_else(|| self.stored.and_then(|(_, record)| record))?;
        let withdrawn = record.withdrawn.get(intent).filter(|_| record.wishes == self.digest)?;
        let offers = withdrawn.offers().map(|(id, print)| (id, print.to_owned())).collect();
        Some(LeftOut { offers, reason: withdrawn.reason.clone() })
    }

    /// The storage intent, where a StatefulSet that exists holds something of ours that can't change.
    fn immutable_storage(&self) -> Option<Intent> {
        let (workload, record) = self.stored?;
        let storage = Intent::parse("storage").ok()?;
        (workload.kind == Kind::StatefulSet && record?.has(&storage)).then_some(storage)
    }
}

/// Whether an entry points at something that a controller makes.
fn is_delivered(entry: &Json<'_>) -> bool {
    let sources = ["secret", "configMap", "persistentVolumeClaim"];
    env::has_secret(entry) || sources.iter().any(|source| entry.get(source).is_some())
}
