//! One workload as it is asked for and as the server holds it, with their records: what an update may change and what stays.
mod decide;

use std::{cell::OnceCell, collections::BTreeMap};

use super::{Failure, Request, Verdict};
use crate::{
    decide::{Decision, Outcome, Plan, is_users},
    inject::{
        self, Injection, Operation,
        additions::Additions,
        owners::Owners,
        record::{NotARecord, Record, Withdrawn},
    },
    intent::Intent,
    json::{Json, Object},
    keys, warning,
    workload::{Kind, Workload},
};

/// Both versions of a workload, with their records.
pub(super) struct Versions<'a> {
    new: Workload<'a>,
    own: Option<Record>,
    old: Option<Workload<'a>>,
    stored: Option<Record>,
    /// Whose the entries of the new object are, found when it is first asked: that is a hash of each entry.
    owners: OnceCell<Owners>,
    /// Whether something was written down in the new object's record.
    is_noted: bool,
}

pub(super) fn record(workload: &Workload<'_>) -> Result<Option<Record>, NotARecord> {
    workload.own_annotation(keys::INJECTED).map(Record::read).transpose()
}

pub(super) fn taken_out<'a>(
    workload: &'a Workload<'a>,
    record: Option<&'a Record>,
    owners: &'a Owners,
    has_templates: bool,
) -> Vec<Operation> {
    let mut patch = inject::operations(workload, record, owners, Additions::default(), has_templates);
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
        Ok(Self { new, own, old, stored, owners: OnceCell::new(), is_noted: false })
    }

    /// The record of the object.
    pub(super) fn record(&self) -> Option<&Record> {
        self.own.as_ref()
    }

    /// Writes down in the new object's record what could not be delivered, where `failed` says so of an intent and its offer;
    /// `digest` is that of the terms now.
    pub(super) fn withdraw(
        &mut self,
        digest: Option<String>,
        failed: impl Fn(&Intent, &str) -> Option<Withdrawn>,
    ) {
        let Some(record) = &mut self.own else { return };
        self.is_noted = true;
        if let Some(digest) = digest {
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

    /// Whether an update changes nothing that we look at, or nothing that we could answer: the pods of a Job can't change.
    pub(super) fn is_same(&self) -> bool {
        let Some(old) = &self.old else { return false };
        if self.new.kind.is_made_once() {
            return true;
        }
        self.new.template() == old.template() && self.has_same_wishes(old)
    }

    /// Whether the user's own annotations of ours are those of the object that the server holds.
    fn has_same_wishes(&self, old: &Workload<'a>) -> bool {
        let users = |workload: &Workload<'a>| -> BTreeMap<&'a str, &'a Json<'a>> {
            let own = workload.own_annotations().into_iter().flat_map(Object::iter);
            own.filter(|(key, _)| is_users(key)).collect()
        };
        users(&self.new) == users(old)
    }

    /// Our annotations and a StatefulSet's templates as the server holds them.
    pub(super) fn restored(&self) -> Vec<Operation> {
        let Some(old) = &self.old else { return Vec::new() };
        let mut patch = self.templates();
        patch.extend(self.annotated_as(&|key| old.own_annotation(key)));
        patch
    }

    /// Whose the entries of the new object are.
    fn owners(&self) -> &Owners {
        self.owners.get_or_init(|| Owners::of(&self.new, self.own.as_ref(), self.before()))
    }

    /// The object as the server holds it, where it has a record.
    fn before(&self) -> Option<(&Workload<'a>, &Record)> {
        self.old.as_ref().zip(self.stored.as_ref())
    }

    /// What of a StatefulSet can't change, put back where injection is off: it could otherwise never be applied again, or
    /// would run on an empty disk.
    pub(super) fn immutable(&self) -> Vec<Operation> {
        let mut patch = self.templates();
        if patch.is_empty() {
            return patch;
        }
        let mut additions = Additions::default();
        if let Some(record) = &self.own {
            additions.merge(Additions::standing_in(&self.new, record, self.owners()));
        }
        if let Some(before) = self.standing_before() {
            additions.merge(before.only(&Intent::is_storage));
        }
        let additions = additions.without_users(&self.new, self.own.as_ref());
        patch.extend(inject::operations(&self.new, self.own.as_ref(), self.owners(), additions, false));
        // Without its record, the next update would find nothing of ours in it.
        patch.extend(self.annotated_as(&|key| {
            self.new.own_annotation(key).or_else(|| self.old.as_ref()?.own_annotation(key))
        }));
        patch
    }

    /// Our two annotations as `text` has them.
    fn annotated_as<'b>(&self, text: &dyn Fn(&str) -> Option<&'b str>) -> Vec<Operation> {
        let [injected, status] = [keys::INJECTED, keys::STATUS].map(|key| text(key).map(str::to_owned));
        inject::annotate(&self.new, self.own.as_ref(), injected, status)
    }

    pub(super) fn templates(&self) -> Vec<Operation> {
        match &self.old {
            Some(old) if self.new.kind == Kind::StatefulSet => {
                inject::claim_templates(&self.new, old, self.stored.as_ref())
            }
            _ => Vec::new(),
        }
    }

    /// The object as the user wrote it, where something of ours is in the new one.
    fn base(&self) -> Result<Option<Json<'a>>, Failure> {
        let patch = taken_out(&self.new, self.own.as_ref(), self.owners(), self.old.is_none());
        if patch.is_empty() {
            return Ok(None);
        }
        let mut base = self.new.object().clone();
        inject::apply(&patch, &mut base)
            .map_err(|error| Failure { field: "object".into(), reason: error.to_string() })?;
        Ok(Some(base))
    }

    /// The workload that [`Self::base`] is; where nothing of ours is in the new one, that was read already.
    fn read_base<'b>(&self, base: Option<&'b Json<'b>>) -> Result<Workload<'b>, Failure>
    where
        'a: 'b,
    {
        let unread = || Failure { field: "object".into(), reason: "not a workload".into() };
        match base {
            None => Ok(self.new.clone()),
            Some(base) => Workload::read(base)?.ok_or_else(unread),
        }
    }

    /// What becomes of it where nothing of it is ours to decide.
    pub(super) fn left_alone(&self) -> Verdict {
        match self.immutable() {
            patch if patch.is_empty() => Verdict::default(),
            patch => Verdict::of(patch, Vec::new()),
        }
    }

    fn patch(
        &self,
        additions: Additions,
        injected: Option<String>,
        status: Option<String>,
    ) -> Vec<Operation> {
        let is_new = self.old.is_none();
        let mut patch = inject::operations(&self.new, self.own.as_ref(), self.owners(), additions, is_new);
        patch.extend(self.templates());
        match self.old.as_ref().filter(|old| self.comes_out_as(old, &patch, [&injected, &status])) {
            Some(old) => patch.extend(self.annotated_as(&|key| old.own_annotation(key))),
            None => patch.extend(inject::annotate(&self.new, self.own.as_ref(), injected, status)),
        }
        patch
    }

    /// Whether a patch makes the pod template what the server holds, and only the notes on it would be others: they stay, then,
    /// as they would at the next call of us for the same request.
    fn comes_out_as(&self, old: &Workload<'a>, patch: &[Operation], notes: [&Option<String>; 2]) -> bool {
        let [injected, status] = [keys::INJECTED, keys::STATUS].map(|key| old.own_annotation(key));
        let is_noted_so = notes.map(Option::as_deref) == [injected, status];
        if self.is_noted || is_noted_so || !self.has_same_wishes(old) {
            return false;
        }
        let mut after = self.new.object().clone();
        inject::apply(patch, &mut after).is_ok() && after.at(old.kind.template()) == old.template()
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
        for intent in record.intents().cloned().collect::<Vec<_>>() {
            if !injection.plan.decisions.contains_key(&intent)
                && let Some(offer) = before.iter().find_map(|earlier| earlier.offers.get(&intent))
            {
                record.offers.insert(intent, offer.clone());
            }
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

    /// What the records say stands in the new version, and in what the server holds.
    fn recorded_additions(&self) -> Vec<Additions> {
        let new = self.own.as_ref();
        let new = new.map(|record| Additions::standing_in(&self.new, record, self.owners()));
        // Most updates, such as one of an image, leave it as it is: to look for it once more would find the same.
        let before = if self.stands_as_before() { None } else { self.standing_before() };
        new.into_iter().chain(before).collect()
    }

    /// Whether both versions have the same record, and all that it can describe is the same.
    fn stands_as_before(&self) -> bool {
        let record = |workload: &Workload<'a>| workload.own_annotation(keys::INJECTED);
        let before = self.before();
        before.is_some_and(|(old, _)| record(&self.new) == record(old) && self.new.has_same_entries(old))
    }

    /// What the record of what the server holds says stands there.
    fn standing_before(&self) -> Option<Additions> {
        let (old, record) = self.before()?;
        Some(Additions::standing_in(old, record, &Owners::of(old, Some(record), None)))
    }

    /// What to do where nothing can be decided on a workload that was injected before: leave it so.
    pub(super) fn as_before(&self, request: &Request<'_>) -> Option<Vec<Operation>> {
        let stored = self.stored.as_ref()?;
        let base = self.base().ok()?;
        let base = self.read_base(base.as_ref()).ok()?;
        let additions = standing(&self.recorded_additions(), &base, &|_| true);
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
        let injected = record.is_needed(status.as_deref()).then(|| record.write());
        Some(self.patch(injection.additions, injected, status))
    }

    /// What to do where nothing can be decided on a workload that the server holds no record of: it stays as it came, and a record
    /// that it brought says that nobody looked at it.
    pub(super) fn doubted(&self) -> Vec<Operation> {
        let doubted = self.own.as_ref().filter(|record| !record.offers.is_empty() && !record.is_unproven());
        let Some(mut record) = doubted.cloned() else { return Vec::new() };
        record.set_unproven(true);
        let status = self.new.own_annotation(keys::STATUS).map(str::to_owned);
        inject::annotate(&self.new, self.own.as_ref(), Some(record.write()), status)
    }
}

/// What stands in any version of the intents that `is_kept` names, less what the user has set since.
fn standing(recorded: &[Additions], base: &Workload<'_>, is_kept: &dyn Fn(&Intent) -> bool) -> Additions {
    let mut standing = Additions::default();
    for additions in recorded {
        standing.merge(additions.only(is_kept));
    }
    standing.without_users(base, None)
}
