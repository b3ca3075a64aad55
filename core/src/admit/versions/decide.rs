//! What becomes of a workload: the terms that hold for it, what is injected by them, and what is said of it.
use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{AdmissionResult, DeliveryState, Failure, Inheritance, Options, Request, Verdict, target},
    Versions, standing,
};
use crate::{
    decide::{Outcome, Plan, Subject, Terms, Wishes},
    discover::Catalog,
    inject::{
        self, Before, CUT, Targets,
        record::{MAX_BYTES, Withdrawn},
    },
    intent::Intent,
    keys,
    warning::{self, did_you_mean},
    workload::{Workload, dotted},
};

// === impl Versions ===

impl Versions<'_> {
    /// What holds for the workload as the user wrote it, and why its own annotations count for nothing, where they don't.
    pub(in crate::admit) fn terms(
        base: &Workload<'_>,
        namespace: &str,
        catalog: &Catalog,
        options: &Options,
    ) -> (Terms, Option<Failure>) {
        if options.is_excluded(namespace) {
            return (Terms::default(), None);
        }
        let labels = base.labels();
        let subject = Subject {
            namespace,
            labels: &labels,
            is_operators: base.is_controlled() && !base.has_annotations_of_users(),
            is_on: options.is_on(catalog, namespace),
            inherits: options.inheritance == Inheritance::FromNamespace,
            policy: options.selection.policy(),
        };
        match Wishes::read(base) {
            Ok(wishes) => (Terms::new(catalog, &subject, wishes), None),
            Err(error) => {
                let mut terms = Terms::new(catalog, &subject, Wishes::default());
                terms.only_enforced();
                (terms, Some(Failure { field: format!("annotation {}", error.key), reason: error.reason }))
            }
        }
    }

    /// The digest of the terms that hold now.
    pub(in crate::admit) fn digest(
        &self,
        namespace: &str,
        catalog: &Catalog,
        options: &Options,
    ) -> Option<String> {
        let base = self.base().ok()?;
        let base = self.read_base(base.as_ref()).ok()?;
        let (terms, failure) = Self::terms(&base, namespace, catalog, options);
        failure.is_none().then(|| terms.digest())
    }

    pub(in crate::admit) fn decide(
        &self,
        request: &Request<'_>,
        catalog: &Catalog,
        options: &Options,
    ) -> Result<Verdict, Failure> {
        let base = self.base()?;
        let base = self.read_base(base.as_ref())?;
        let (mut terms, mut failure) = Self::terms(&base, request.namespace, catalog, options);
        if failure.is_none() {
            failure = target::check(catalog, &base, &terms.wishes).err();
            failure.iter().for_each(|_| terms.only_enforced());
        }
        // Where injection is off, nobody waits for what it says.
        let is_on = options.is_on(catalog, request.namespace);
        let failure = failure.filter(|_| is_on);
        let is_heard = is_on && failure.is_none();
        if !is_heard && !terms.has_enforced() && self.forbidden(&terms).next().is_none() {
            if let Some(failure) = failure {
                return Err(failure);
            }
            // What can't be delivered holds pods back wherever they are.
            if !self.is_noted {
                return Ok(self.left_alone());
            }
        }
        let digest = terms.digest();
        let targets = Targets {
            asked: target::asked(catalog, request.namespace, &base, &terms),
            enforced: terms
                .has_enforced()
                .then(|| target::enforced(catalog, request.namespace, &base, &terms)),
        };
        let untouched = if is_heard { BTreeSet::new() } else { self.untouched(&terms) };
        let recorded = self.recorded_additions();
        let standing = |intent: &Intent| standing(&recorded, &base, &|other| other == intent);
        let before = Before {
            digest: &digest,
            own: self.own.as_ref(),
            stored: self.old.as_ref().map(|old| (old, self.stored.as_ref())),
            standing: &standing,
            untouched: &untouched,
            is_delivery_away: options.delivery == DeliveryState::Away,
        };
        let mut injection = inject::plan(catalog, &targets, &before);
        injection.plan.untouched = self.said(&untouched);
        for (intent, withdrawn) in self.withdrawn_now() {
            if !injection.plan.decisions.contains_key(intent) {
                let said = Outcome::Withdrawn(withdrawn.reason.clone()).to_string();
                injection.plan.untouched.insert(intent.clone(), said);
            }
        }
        let mut warnings = self.warnings(&terms.wishes, &injection.plan);
        warnings.extend(namespace_problems(&terms, request.namespace, catalog));
        if let Some(failure) = &failure {
            warnings.insert(0, warning::line(&format!("only what is enforced is injected: {failure}")));
        }
        let refusals: Vec<String> = injection.plan.refusals().collect();
        if !refusals.is_empty() {
            let result = AdmissionResult::Denied(format!("opportune: {}", refusals.join("; ")));
            return Ok(Verdict { result, plan: Some(injection.plan), ..Verdict::default() });
        }
        let record = self.sealed(&base, &digest, &injection);
        let status = Some(injection.plan.status()).filter(|status| !status.is_empty());
        let injected = record.is_needed(status.as_deref()).then(|| record.write());
        if injected.as_ref().is_some_and(|text| text.len() > MAX_BYTES) {
            let reason = "too much to inject: its record would not fit into an annotation".to_owned();
            let field = format!("{}.containers", dotted(self.new.kind.pod_spec()));
            return Err(Failure { field, reason });
        }
        let delivery = target::delivery(&targets.asked, &injection);
        let patch = self.patch(injection.additions, injected, status);
        warnings.truncate(8);
        Ok(Verdict { delivery, plan: Some(injection.plan), unread: failure, ..Verdict::of(patch, warnings) })
    }

    /// The intents of which something of ours is said to stand in either version.
    fn recorded(&self) -> impl Iterator<Item = &Intent> {
        let records = self.own.iter().chain(&self.stored);
        records.flat_map(|record| record.intents().chain(record.withdrawn.keys()))
    }

    /// Those among them that a policy forbids.
    fn forbidden(&self, terms: &Terms) -> impl Iterator<Item = &Intent> {
        self.recorded().filter(|intent| terms.forbidding(intent).is_some())
    }

    /// Those of which nothing is decided where injection is off, or the workload's own annotations can't be read.
    fn untouched(&self, terms: &Terms) -> BTreeSet<Intent> {
        let others = self.recorded().filter(|intent| !terms.intents.contains_key(*intent));
        let others = others.filter(|intent| self.withdrawn_now().all(|(withdrawn, _)| withdrawn != *intent));
        others.filter(|intent| terms.forbidding(intent).is_none()).cloned().collect()
    }

    /// What [`Self::withdraw`] wrote down, now or before.
    fn withdrawn_now(&self) -> impl Iterator<Item = (&Intent, &Withdrawn)> {
        self.own.iter().filter(|_| self.is_noted).flat_map(|record| &record.withdrawn)
    }

    /// What `status` says of these intents now.
    fn said(&self, intents: &BTreeSet<Intent>) -> BTreeMap<Intent, String> {
        let own = self.new.own_annotation(keys::STATUS);
        let status = own.or_else(|| self.old.as_ref()?.own_annotation(keys::STATUS)).unwrap_or_default();
        let parts = status.split("; ").filter_map(|part| part.split_once('='));
        let parts = parts.filter_map(|(intent, said)| Some((intents.get(intent)?.clone(), said.to_owned())));
        parts.collect()
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
                matches!(word, "absent" | "incomplete" | "withdrawn" | "forbidden") && is_new(intent, word)
            })
            .map(|(intent, _)| intent.as_str())
            .collect();
        if !missing.is_empty() {
            let names = missing.into_iter().collect::<Vec<_>>().join(", ");
            warnings
                .push(warning::line(&format!("{names} absent: the annotation {} says why", keys::STATUS)));
        }
        let cut = plan.decisions.iter().flat_map(|(intent, decision)| {
            let notes = decision.notes.iter().filter(|note| note.split(' ').nth(1) == Some(CUT));
            notes.filter(|note| !before.contains(note.as_str())).map(move |note| (intent, note))
        });
        warnings.extend(cut.map(|(intent, note)| warning::line(&format!("{intent}: {note}"))));
        warnings
    }
}

/// What is wrong with the annotations of the Namespace that the workload takes defaults from.
fn namespace_problems(terms: &Terms, namespace: &str, catalog: &Catalog) -> Vec<String> {
    let Some(defaults) = catalog.namespace_defaults(namespace).filter(|_| terms.inherits) else {
        return Vec::new();
    };
    let problems = defaults.problems.iter();
    problems.map(|problem| warning::line(&format!("Namespace {namespace}: {problem}"))).collect()
}
