//! One workload as it is asked for and as the server holds it, with their records: what an update may change and what stays.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value;

use super::{AdmissionResult, DeliveryState, Failure, Options, Request, Verdict, target};
use crate::{
    decide::{Decision, Outcome, Plan, Wishes, is_users},
    discover::Catalog,
    inject::{
        self, Before, Injection, PatchOperation, Target,
        additions::Additions,
        record::{NotARecord, Record, Withdrawn},
    },
    intent::Intent,
    keys,
    warning::{self, did_you_mean},
    workload::{Kind, Workload},
};

/// Both versions of a workload, with their records.
pub(super) struct Versions<'a> {
    new: Workload<'a>,
    own: Option<Record>,
    old: Option<Workload<'a>>,
    stored: Option<Record>,
}

pub(super) fn record(workload: &Workload<'_>) -> Result<Option<Record>, NotARecord> {
    workload.own_annotation(keys::INJECTED).map(Record::read).transpose()
}

pub(super) fn taken_out<'a>(
    workload: &'a Workload<'a>,
    record: Option<&'a Record>,
    stored: Option<(&'a Workload<'a>, &'a Record)>,
    has_templates: bool,
) -> Vec<PatchOperation> {
    let mut patch = inject::operations(workload, record, stored, &Additions::default(), has_templates);
    patch.extend(inject::annotate(workload, record, None, None));
    patch
}

// === impl Versions ===

impl<'a> Versions<'a> {
    pub(super) fn read(request: &Request<'a>, warnings: &mut Vec<String>) -> Result<Self, Failure> {
        let unread = |object| Failure { field: object, reason: "not a workload".into() };
        let new = Workload::read(request.object)?.ok_or_else(|| unread("object".to_owned()))?;
        // What the server holds is well formed; if it is not what we think, the object counts as new.
        let old = request.old.and_then(|old| Workload::read(old).ok().flatten());
        let old = old.filter(|old| old.kind == new.kind);
        let own = record(&new).unwrap_or_else(|error| {
            warnings.push(warning::line(&error.to_string()));
            None
        });
        let stored = old.as_ref().and_then(|old| record(old).ok().flatten());
        Ok(Self { new, own, old, stored })
    }

    /// The record of the object.
    pub(super) fn record(&self) -> Option<&Record> {
        self.own.as_ref()
    }

    /// Writes down in the new object's record what could not be delivered, where `failed` says so of an intent and its offer.
    pub(super) fn withdraw(&mut self, failed: impl Fn(&Intent, &str) -> Option<Withdrawn>) {
        let Some(record) = &mut self.own else { return };
        if let Some(digest) = Wishes::read(&self.new).ok().map(|wishes| wishes.digest()) {
            if record.wishes != digest {
                record.withdrawn.clear();
            }
            record.wishes = digest;
        }
        for (intent, offer) in record.offers.clone() {
            if let Some(withdrawn) = failed(&intent, &offer) {
                record.withdraw(&intent, withdrawn);
            }
        }
    }

    /// Whether an update changes nothing that we look at.
    pub(super) fn is_same(&self) -> bool {
        let Some(old) = &self.old else { return false };
        let template = |workload: &Workload<'a>| workload.object().pointer("/spec/template");
        let users = |workload: &Workload<'a>| -> BTreeMap<&'a str, &'a Value> {
            let own = workload.own_annotations().into_iter().flatten();
            own.filter(|(key, _)| is_users(key)).map(|(key, value)| (key.as_str(), value)).collect()
        };
        template(&self.new) == template(old) && users(&self.new) == users(old)
    }

    /// Our annotations and a StatefulSet's templates as the server holds them.
    pub(super) fn restored(&self) -> Vec<PatchOperation> {
        let Some(old) = &self.old else { return Vec::new() };
        let mut patch = self.templates();
        patch.extend(self.annotated_as(&|key| old.own_annotation(key)));
        patch
    }

    /// The object as the server holds it, where it has a record.
    fn before(&self) -> Option<(&Workload<'a>, &Record)> {
        self.old.as_ref().zip(self.stored.as_ref())
    }

    /// What of a StatefulSet can't change, put back where injection is off: it could otherwise never be applied again, or
    /// would run on an empty disk.
    pub(super) fn immutable(&self) -> Vec<PatchOperation> {
        let mut patch = self.templates();
        if patch.is_empty() {
            return patch;
        }
        let mut additions = Additions::default();
        if let Some(record) = &self.own {
            additions.merge(Additions::standing_in(&self.new, record, &|_| true));
        }
        if let Some((old, record)) = self.before() {
            additions.merge(Additions::standing_in(old, record, &Intent::is_storage));
        }
        let additions = additions.without_users(&self.new, self.own.as_ref());
        patch.extend(inject::operations(&self.new, self.own.as_ref(), self.before(), &additions, false));
        // Without its record, the next update would find nothing of ours in it.
        patch.extend(self.annotated_as(&|key| {
            self.new.own_annotation(key).or_else(|| self.old.as_ref()?.own_annotation(key))
        }));
        patch
    }

    /// Our two annotations as `text` has them.
    fn annotated_as<'b>(&self, text: &dyn Fn(&str) -> Option<&'b str>) -> Vec<PatchOperation> {
        let [injected, status] = [keys::INJECTED, keys::STATUS].map(|key| text(key).map(str::to_owned));
        inject::annotate(&self.new, self.own.as_ref(), injected, status)
    }

    pub(super) fn templates(&self) -> Vec<PatchOperation> {
        match &self.old {
            Some(old) if self.new.kind == Kind::StatefulSet => {
                inject::claim_templates(&self.new, old, self.stored.as_ref())
            }
            _ => Vec::new(),
        }
    }

    /// The object as the user wrote it.
    fn base(&self) -> Result<Cow<'a, Value>, Failure> {
        let patch = taken_out(&self.new, self.own.as_ref(), self.before(), self.old.is_none());
        if patch.is_empty() {
            return Ok(Cow::Borrowed(self.new.object()));
        }
        let mut base = self.new.object().clone();
        json_patch::patch(&mut base, &patch)
            .map_err(|error| Failure { field: "object".into(), reason: error.to_string() })?;
        Ok(Cow::Owned(base))
    }

    pub(super) fn decide(
        &self,
        request: &Request<'_>,
        catalog: &Catalog,
        options: &Options,
    ) -> Result<Verdict, Failure> {
        let base = self.base()?;
        let unread = || Failure { field: "object".into(), reason: "not a workload".into() };
        let base = Workload::read(&base)?.ok_or_else(unread)?;
        let wishes = Wishes::read(&base)
            .map_err(|error| Failure { field: format!("annotation {}", error.key), reason: error.reason })?;
        let profile = target::profile(catalog, &base, &wishes)?;
        let target = Target {
            workload: &base,
            namespace: request.namespace,
            wishes: &wishes,
            profile,
            containers: target::containers(&base, profile, &wishes)?,
            address: catalog.app_address(request.namespace, &base.pod_labels()),
        };
        let standing = |intent: &Intent| self.standing(&base, &|other| other == intent);
        let before = Before {
            own: self.own.as_ref(),
            stored: self.old.as_ref().map(|old| (old, self.stored.as_ref())),
            standing: &standing,
            is_delivery_away: options.delivery == DeliveryState::Away,
        };
        let injection = inject::plan(catalog, &target, &before);
        let unsatisfied: Vec<String> = injection
            .plan
            .unsatisfied()
            .map(|(intent, decision)| format!("{intent} is required but {}", decision.outcome))
            .collect();
        let mut warnings = self.warnings(&wishes, &injection.plan);
        if !unsatisfied.is_empty() {
            let result = AdmissionResult::Denied(format!("opportune: {}", unsatisfied.join("; ")));
            return Ok(Verdict { result, plan: Some(injection.plan), ..Verdict::default() });
        }
        let record = self.sealed(&base, &wishes.digest(), &injection);
        if record.is_too_large() {
            let reason = "too much to inject: its record would not fit into an annotation".to_owned();
            return Err(Failure { field: "spec.template.spec.containers".into(), reason });
        }
        let status = Some(injection.plan.status()).filter(|status| !status.is_empty());
        let patch = self.patch(&injection.additions, record, status);
        let delivery = target::delivery(&target, &injection);
        warnings.truncate(8);
        Ok(Verdict { delivery, plan: Some(injection.plan), ..Verdict::of(patch, warnings) })
    }

    fn patch(&self, additions: &Additions, record: Record, status: Option<String>) -> Vec<PatchOperation> {
        let is_new = self.old.is_none();
        let mut patch = inject::operations(&self.new, self.own.as_ref(), self.before(), additions, is_new);
        patch.extend(self.templates());
        let injected = (!record.is_empty()).then(|| record.write());
        patch.extend(inject::annotate(&self.new, self.own.as_ref(), injected, status));
        patch
    }

    /// The record of an injection.
    fn sealed(&self, base: &Workload<'_>, wishes: &str, injection: &Injection) -> Record {
        let before: Vec<&Record> = self.stored.iter().chain(&self.own).collect();
        let mut record = Record::new(wishes.to_owned());
        injection.additions.note_in(&mut record);
        for (intent, decision) in &injection.plan.decisions {
            let earlier = || before.iter().find_map(|record| record.offers.get(intent)).cloned();
            let offer = match &decision.outcome {
                Outcome::Bound(offer) => Some(offer.id.key()),
                Outcome::Kept { .. } => earlier(),
                _ => None,
            };
            record.offers.extend(offer.filter(|_| record.has(intent)).map(|offer| (intent.clone(), offer)));
        }
        // What could not be delivered is not tried again while the wishes are the same, whatever else was used meanwhile.
        let withdrawn = self.own.iter().chain(&self.stored).filter(|earlier| earlier.wishes == wishes);
        let withdrawn = withdrawn.flat_map(|earlier| &earlier.withdrawn);
        for (intent, withdrawn) in withdrawn {
            if record.offers.get(intent) != Some(&withdrawn.offer) {
                record.withdrawn.entry(intent.clone()).or_insert_with(|| withdrawn.clone());
            }
        }
        record.empty = inject::empties(base, &injection.additions);
        record.remember(&before);
        record
    }

    /// What the records say stands in both versions, less what the user has set since.
    fn standing(&self, base: &Workload<'_>, is_kept: &dyn Fn(&Intent) -> bool) -> Additions {
        let mut standing = Additions::default();
        if let Some(record) = &self.own {
            standing.merge(Additions::standing_in(&self.new, record, is_kept));
        }
        if let (Some(old), Some(record)) = (&self.old, &self.stored) {
            standing.merge(Additions::standing_in(old, record, is_kept));
        }
        standing.without_users(base, None)
    }

    /// What to do where nothing can be decided on a workload that was injected before: leave it so.
    pub(super) fn as_before(&self, request: &Request<'_>) -> Option<Vec<PatchOperation>> {
        let stored = self.stored.as_ref()?;
        let base = self.base().ok()?;
        let base = Workload::read(&base).ok()??;
        let additions = self.standing(&base, &|_| true);
        let mut plan = Plan::default();
        for (intent, offer) in &stored.offers {
            let outcome = Outcome::Kept { offer: offer.clone(), reason: String::new() };
            plan.decisions.insert(intent.clone(), Decision::new(false, outcome));
        }
        let injection = Injection { plan, additions, ..Injection::default() };
        let mut record = self.sealed(&base, &stored.wishes, &injection);
        record.set_unproven(stored.is_unproven());
        let status = request.old.and_then(|old| Workload::read(old).ok().flatten());
        let status = status.and_then(|old| old.own_annotation(keys::STATUS).map(str::to_owned));
        Some(self.patch(&injection.additions, record, status))
    }

    /// What to do where nothing can be decided on a workload that the server holds no record of: it stays as it came, and a record
    /// that it brought says that nobody looked at it.
    pub(super) fn doubted(&self) -> Vec<PatchOperation> {
        let doubted = self.own.as_ref().filter(|record| !record.offers.is_empty() && !record.is_unproven());
        let Some(mut record) = doubted.cloned() else { return Vec::new() };
        record.set_unproven(true);
        let status = self.new.own_annotation(keys::STATUS).map(str::to_owned);
        inject::annotate(&self.new, self.own.as_ref(), Some(record.write()), status)
    }

    /// What the person who applied the object should know.
    fn warnings(&self, wishes: &Wishes, plan: &Plan) -> Vec<String> {
        let mut warnings = Vec::new();
        for key in &wishes.unknown_keys {
            warnings.push(warning::line(&format!("unknown annotation {key}{}", did_you_mean(key))));
        }
        let before = self.old.as_ref().and_then(|old| old.own_annotation(keys::STATUS)).unwrap_or_default();
        let is_new = |intent: &Intent, word: &str| {
            !before.split("; ").any(|part| part.starts_with(&format!("{intent}={word}")))
        };
        let missing: BTreeSet<&str> = plan
            .decisions
            .iter()
            .filter(|(intent, decision)| {
                let word = decision.outcome.word();
                matches!(word, "absent" | "incomplete" | "withdrawn") && is_new(intent, word)
            })
            .map(|(intent, _)| intent.as_str())
            .collect();
        if !missing.is_empty() {
            let names = missing.into_iter().collect::<Vec<_>>().join(", ");
            warnings
                .push(warning::line(&format!("{names} absent: the annotation {} says why", keys::STATUS)));
        }
        warnings
    }
}
