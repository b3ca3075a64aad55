//! A workload that stands in the cluster, looked at again: what it points at, and what a decision made now would change.
//!
//! Nothing is admitted here. A controller uses it to deliver, to notice what came late, and to take back what can't be
//! delivered.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Failure, Options, Request, Verdict, versions::Versions};
use crate::{
    decide::{Asker, MAX_STATUS, Outcome, Plan, Refresh, Term, Terms},
    deliver::Needs,
    discover::{Catalog, OfferId},
    inject::{
        PatchOperation,
        account::Account,
        annotate,
        hash::hash,
        record::{Record, Withdrawn},
        standard,
    },
    intent::Intent,
    json::Json,
    keys,
    workload::{CONTAINERS, INIT_CONTAINERS, Kind, Workload},
};

/// What an intent's status says of a workload that was admitted while nobody decided.
const MISSED: &str = "missed while the webhook was away";
/// What it says of everything that waits for the pods to be made anew: of what is rolled out, ...
const AFTER_ROLLOUT: &str = "after the next rollout";
/// ... of what makes pods again and again, ...
const AFTER_CHANGE: &str = "after the next change of its template";
/// ... and of what makes them once.
const AT_CREATION: &str = "at the next creation";

/// A workload looked at again.
#[derive(Debug, Clone, Default)]
pub struct Again {
    /// What it points at as it stands.
    pub needs: Needs,
    /// The offers in use.
    pub offers: BTreeSet<OfferId>,
    /// The intents that it asks for or has something of.
    pub concerned: BTreeSet<Intent>,
    /// What was decided now; `None` where injection is off, or nothing can be decided.
    pub plan: Option<Plan>,
    /// The intents for which an update of the workload would change its pods.
    pub pending: BTreeSet<Intent>,
    /// Those among them that were asked for while the webhook was away.
    pub missed: BTreeSet<Intent>,
    /// Eight hexadecimal digits of the pod template that an update would give; `None` where it stays.
    pub cause: Option<String>,
    /// The annotation `status` as it should be, empty where there is nothing to say; `None`: as it is.
    pub status: Option<String>,
    /// What was taken out because it could not be delivered.
    pub withdrawn: BTreeMap<Intent, Withdrawn>,
    /// The intents that the workload must not run without.
    pub required: BTreeSet<Intent>,
    /// What is to happen when an offer appears or changes.
    pub refresh: Refresh,
    /// By policy that acts on it: what it lacks of what that policy enforces, or holds of what it forbids, with the reason.
    pub conformance: BTreeMap<String, BTreeMap<Intent, String>>,
    /// Why nothing can be decided.
    pub failure: Option<Failure>,
}

/// When a kind of workload takes what came late.
pub fn later(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet => AFTER_ROLLOUT,
        Kind::CronJob => AFTER_CHANGE,
        Kind::Job | Kind::Pod => AT_CREATION,
    }
}

/// Whether a part of a status tells of what is yet to come.
pub fn is_later(text: &str) -> bool {
    [AFTER_ROLLOUT, AFTER_CHANGE, AT_CREATION].into_iter().any(|later| text.contains(later))
}

/// The pod template's hash: eight hexadecimal digits, the same whatever `refreshed` says. Of a Pod it is that of its containers:
/// what else changes of it (its node, its status) makes nothing start anew.
pub fn template_hash(object: &Value) -> String {
    let kind = Kind::of(object).unwrap_or(Kind::Deployment);
    let object = Json::from(object);
    if kind == Kind::Pod {
        let lists = [INIT_CONTAINERS, CONTAINERS].map(|list| object.at(&["spec", list]).cloned());
        return hash(&Json::Array(lists.into_iter().map(Option::unwrap_or_default).collect()));
    }
    let mut template = object.at(kind.template()).cloned().unwrap_or_default();
    if let Some(metadata) = template.get_mut("metadata").and_then(Json::as_object_mut)
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Json::as_object_mut)
    {
        annotations.remove(keys::REFRESHED);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    hash(&template)
}

/// Looks at a workload as the server holds it; `None` where it is none.
pub fn look_again(object: &Value, namespace: &str, catalog: &Catalog, options: &Options) -> Option<Again> {
    let kind = Kind::of(object)?;
    let json = Json::from(object);
    let request = Request { namespace, object: &json, old: Some(&json) };
    let versions = match Versions::read(&request, &mut Vec::new()) {
        Ok(versions) => versions,
        Err(failure) => return Some(Again { failure: Some(failure), ..Again::default() }),
    };
    let decided = versions.decide(&request, catalog, options);
    let workload = Workload::read(&json).ok().flatten()?;
    let (terms, _) = Versions::terms(&workload, namespace, catalog, options);
    let is_firm = |term: &Term| term.is_required || term.is_enforced();
    let firm = terms.intents.iter().filter(|(_, term)| is_firm(term));
    let mut again = Again {
        refresh: terms.refresh,
        required: firm.map(|(intent, _)| intent.clone()).collect(),
        concerned: terms.intents.keys().chain(terms.wishes.asked().keys()).cloned().collect(),
        ..Again::default()
    };
    if let Some(record) = versions.record() {
        let account = Account::by(&workload, record);
        let delivery = decided.as_ref().map(|verdict| verdict.delivery.clone()).unwrap_or_default();
        again.needs = Needs::of(&workload, record, &account, &delivery, terms.wishes.retain);
        again.withdrawn.clone_from(&record.withdrawn);
        again.concerned.extend(record.intents().chain(record.withdrawn.keys()).cloned());
        let used = record.intents().filter_map(|intent| record.offers.get(intent));
        again.offers = used.filter_map(|key| OfferId::from_key(key)).collect();
    }
    if options.is_excluded(namespace) || options.why_left_alone(&json).is_some() {
        return Some(again);
    }
    match decided {
        Ok(verdict) => again.compare(object, &workload, versions.record(), verdict, later(kind)),
        Err(failure) => again.failure = Some(failure),
    }
    again.conform(&terms, versions.record());
    Some(again)
}

/// The operations that take out of a workload what could not be delivered, each intent with its reason, and write down that
/// it was so; with what a decision finds instead, if anything. None for what can't be changed any more.
///
/// # Errors
/// [`Failure`] where the workload can't be read or decided on.
pub fn withdraw(
    object: &Value,
    namespace: &str,
    catalog: &Catalog,
    options: &Options,
    reasons: &BTreeMap<Intent, String>,
) -> Result<Vec<PatchOperation>, Failure> {
    if Kind::of(object).is_none_or(Kind::is_made_once) {
        return Ok(Vec::new());
    }
    let object = Json::from(object);
    let request = Request { namespace, object: &object, old: Some(&object) };
    let mut versions = Versions::read(&request, &mut Vec::new())?;
    let digest = versions.digest(namespace, catalog, options);
    versions.withdraw(digest, |intent, offer| {
        let reason = reasons.get(intent)?;
        let id = OfferId::from_key(offer)?;
        let print = catalog.offer(intent, &id).map_or_else(String::new, |offer| offer.fingerprint());
        Some(Withdrawn { offer: offer.to_owned(), print, reason: reason.clone(), earlier: BTreeMap::new() })
    });
    Ok(standard(&versions.decide(&request, catalog, options)?.patch))
}

/// The operations on the annotation `injected` that let what was withdrawn be tried again.
///
/// # Errors
/// [`Failure`] where the workload or its record can't be read.
pub fn try_again(object: &Value, intents: &BTreeSet<Intent>) -> Result<Vec<PatchOperation>, Failure> {
    let object = Json::from(object);
    let Some(workload) = Workload::read(&object)? else { return Ok(Vec::new()) };
    let Ok(Some(mut record)) = super::versions::record(&workload) else { return Ok(Vec::new()) };
    record.withdrawn.retain(|intent, _| !intents.contains(intent));
    let status = workload.own_annotation(keys::STATUS).map(str::to_owned);
    let injected = record.is_needed(status.as_deref()).then(|| record.write());
    Ok(standard(&annotate(&workload, Some(&record), injected, status)))
}

/// The operations that set the annotation `status`, or remove it where nothing is said, and do nothing else.
///
/// # Errors
/// [`Failure`] where the workload can't be read.
pub fn say(object: &Value, status: &str) -> Result<Vec<PatchOperation>, Failure> {
    let object = Json::from(object);
    let Some(workload) = Workload::read(&object)? else { return Ok(Vec::new()) };
    let injected = workload.own_annotation(keys::INJECTED).map(str::to_owned);
    let status = (!status.is_empty()).then(|| status.to_owned());
    Ok(standard(&annotate(&workload, None, injected, status)))
}

// === impl Again ===

impl Again {
    /// Says of each policy that acts on the workload what is not as it wants.
    fn conform(&mut self, terms: &Terms, record: Option<&Record>) {
        let stands = |intent: &Intent| record.is_some_and(|record| record.part(intent).is_some());
        for policy in &terms.policies {
            let mut lacks = BTreeMap::new();
            let is_enforced = |intent: &&Intent| terms.intents.get(*intent).is_some_and(Term::is_enforced);
            for intent in policy.spec.enforce.iter().filter(is_enforced) {
                lacks.extend(self.lack(intent, stands(intent)).map(|reason| (intent.clone(), reason)));
            }
            let forbidden = policy.spec.forbid.iter().filter(|intent| stands(intent) && !is_enforced(intent));
            lacks.extend(
                forbidden.map(|intent| (intent.clone(), "forbidden, and it still has it".to_owned())),
            );
            self.conformance.insert(policy.name.clone(), lacks);
        }
    }

    /// Why the workload's pods lack what is enforced; `None` where they have it.
    fn lack(&self, intent: &Intent, stands: bool) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(failure.to_string());
        }
        let Some(decision) = self.plan.as_ref().and_then(|plan| plan.decisions.get(intent)) else {
            return Some("nothing can be decided".to_owned());
        };
        if let Some(lack) = decision.lack().filter(|_| decision.is_evaded || !stands) {
            return Some(lack);
        }
        let is_pending = self.pending.contains(intent);
        (is_pending && !stands).then(|| format!("{} {AFTER_ROLLOUT}", plain(&decision.to_string())))
    }

    /// Compares what a decision gives with what stands.
    fn compare(
        &mut self,
        object: &Value,
        workload: &Workload<'_>,
        record: Option<&Record>,
        verdict: Verdict,
        later: &str,
    ) {
        let said = workload.own_annotation(keys::STATUS).unwrap_or_default();
        let Some(plan) = verdict.plan else {
            let is_policys = is_later(said) || said.contains(" by policy ");
            if is_policys && record.is_none_or(|record| record.intents().next().is_none()) {
                self.status = Some(String::new());
            }
            return;
        };
        // A requirement that is no longer met is told, and nothing is changed: an update would be refused.
        let pods = format!("/{}", workload.kind.pod_spec().join("/"));
        let changes_pods =
            verdict.patch.iter().any(|operation| operation.path().to_string().starts_with(&pods));
        let mut after = object.clone();
        if changes_pods && json_patch::patch(&mut after, &standard(&verdict.patch)).is_ok() {
            let new = Json::from(&after);
            let new = Workload::read(&new).ok().flatten();
            let new = new.and_then(|new| super::versions::record(&new).ok().flatten());
            let differs = |intent: &&Intent| {
                let (old, new) =
                    (record.and_then(|r| r.part(intent)), new.as_ref().and_then(|r| r.part(intent)));
                old != new
            };
            let known = plan.decisions.keys().chain(record.into_iter().flat_map(Record::intents));
            self.pending = known.filter(differs).cloned().collect();
            self.cause = Some(template_hash(&after));
        }
        let before = parts(said);
        let now = parts(&plan.status());
        let mut told: BTreeMap<&str, String> = BTreeMap::new();
        for (intent, text) in &now {
            let was = before.get(intent).map(String::as_str);
            let pending = self.pending.iter().find(|pending| pending.as_str() == intent);
            let text = match pending {
                None => text.clone(),
                Some(pending) => {
                    let stands = record.and_then(|record| record.part(pending)).is_some();
                    let decision = plan.decisions.get(pending);
                    // What a policy or the Namespace asks for may have come after the workload.
                    let is_own = decision.is_some_and(|d| d.asker == Asker::Workload);
                    let is_missed = is_own && !stands && was.is_none_or(|was| was.contains(MISSED));
                    if is_missed
                        && matches!(plan.decisions.get(pending).map(|d| &d.outcome), Some(Outcome::Bound(_)))
                    {
                        self.missed.insert(pending.clone());
                        format!("absent: {MISSED}, {} {later}", plain(text))
                    } else if stands {
                        let (standing, new) = (standing(was), plain(text));
                        let new = if new == standing { "changed since, used" } else { new };
                        format!("{standing} ({new} {later})")
                    } else {
                        format!("absent: {} {later}", plain(text))
                    }
                }
            };
            told.insert(intent, text);
        }
        // Who asked for it, a policy or the Namespace, asks no more.
        for intent in self.pending.iter().filter(|intent| !now.contains_key(intent.as_str())) {
            let standing = standing(before.get(intent.as_str()).map(String::as_str));
            told.insert(intent.as_str(), format!("{standing} (no longer asked for, taken out {later})"));
        }
        let status: Vec<String> = told.iter().map(|(intent, text)| format!("{intent}={text}")).collect();
        let status: String = status.join("; ").chars().take(MAX_STATUS).collect();
        self.status = (said != status).then_some(status);
        self.plan = Some(plan);
    }
}

/// The parts of a status by intent.
fn parts(status: &str) -> BTreeMap<String, String> {
    let parts = status.split("; ").filter_map(|part| part.split_once('='));
    parts.map(|(intent, text)| (intent.to_owned(), text.to_owned())).collect()
}

/// What a part says without its asides.
fn plain(text: &str) -> &str {
    text.split(" (").next().unwrap_or(text)
}

/// What the pods use, as the status says.
fn standing(was: Option<&str>) -> &str {
    was.map_or("in use", plain)
}
