//! Admission: one workload in; a patch, a plan, warnings, or a denial out.
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value;

use crate::{
    decide::{Decision, Outcome, Plan, ProfileChoice, Wishes, is_users},
    deliver::{ClaimToMake, ConfigMapToMake, Delivery, SecretToMake, claim_name, secret_name},
    discover::{Catalog, NamespaceLabel},
    inject::{
        self, Before, Injection, PatchOperation, Target,
        additions::Additions,
        env::has_secret,
        profile::Profile,
        record::{NotARecord, Record},
    },
    intent::Intent,
    keys,
    warning::{self, did_you_mean},
    workload::{Container, Kind, Malformed, Workload, text},
};

/// Where injection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Only in namespaces labelled `opportune.libre.sh/inject: enabled`.
    #[default]
    OptIn,
    /// In every namespace that is not labelled `opportune.libre.sh/inject: disabled`.
    ClusterWide,
}

/// What the operator of this replica decided.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where injection is on.
    pub mode: Mode,
    /// Namespaces that are never touched, besides `kube-system`.
    pub excluded_namespaces: Vec<String>,
    /// Whether somebody is there to make Secrets and claims.
    pub delivery: DeliveryState,
}

/// Whether a controller is there to make what a patch points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryState {
    /// Somebody delivers (or we are offline, where it is taken as given).
    #[default]
    Present,
    /// Nobody renewed the Lease lately: nothing that needs delivery is newly injected.
    Away,
}

/// A workload that is created, or changed where `old` is given.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The workload's namespace.
    pub namespace: &'a str,
    /// The object.
    pub object: &'a Value,
    /// The object as the server holds it, on an update.
    pub old: Option<&'a Value>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// In one word, and why.
    pub result: AdmissionResult,
    /// RFC 6902 operations, in order.
    pub patch: Vec<PatchOperation>,
    /// What was decided, where anything was.
    pub plan: Option<Plan>,
    /// Lines for the person who applied the object: printable, at most 120 characters each.
    pub warnings: Vec<String>,
    /// What a controller has to make.
    pub delivery: Delivery,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdmissionResult {
    /// It is none of our business.
    #[default]
    Ignored,
    /// It is as it should be.
    Unchanged,
    /// It is changed by the patch.
    Patched,
    /// It is refused, and why.
    Denied(String),
    /// We could not do our work: it stays as it came (or as it was injected before), and why.
    FailedOpen(Failure),
}

/// Why a workload could not be decided on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Failure {
    /// The field of the object.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Both versions of a workload, with their records.
struct Versions<'a> {
    new: Workload<'a>,
    own: Option<Record>,
    old: Option<Workload<'a>>,
    stored: Option<Record>,
}

// === impl Failure ===

impl Failure {
    fn annotation(key: &str, reason: impl Into<String>) -> Self {
        Self { field: format!("annotation {key}"), reason: reason.into() }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self { field: malformed.field, reason: malformed.reason.to_owned() }
    }
}

// === impl Options ===

impl Options {
    /// Whether injection is on in a namespace. One that the catalog does not hold counts as opted in: offline there is
    /// nothing to know about it, and a cluster's webhook is not called for others.
    pub fn is_on(&self, catalog: &Catalog, namespace: &str) -> bool {
        if namespace == keys::KUBE_SYSTEM
            || self.excluded_namespaces.iter().any(|excluded| excluded == namespace)
        {
            return false;
        }
        match (catalog.namespace_label(namespace), self.mode) {
            (NamespaceLabel::Unknown | NamespaceLabel::Enabled, _) => true,
            (NamespaceLabel::Absent, mode) => mode == Mode::ClusterWide,
            (NamespaceLabel::Disabled, _) => false,
        }
    }
}

/// Decides on one workload.
///
/// ```
/// use opportune_core::{admit::{AdmissionResult, Options, Request, admit}, discover::Catalog};
/// let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap"});
/// let request = Request { namespace: "blog", object: &object, old: None };
/// let verdict = admit(&request, &Catalog::default(), &Options::default());
/// assert_eq!(verdict.result, AdmissionResult::Ignored);
/// ```
pub fn admit(request: &Request<'_>, catalog: &Catalog, options: &Options) -> Verdict {
    if Kind::of(request.object).is_none() {
        return Verdict::default();
    }
    let is_on = options.is_on(catalog, request.namespace);
    let mut warnings = Vec::new();
    let versions = match Versions::read(request, &mut warnings) {
        Ok(versions) => versions,
        Err(_) if !is_on => return Verdict::default(),
        Err(failure) => return Verdict::failed(failure, Vec::new(), warnings),
    };
    if !is_on {
        return match versions.immutable() {
            patch if patch.is_empty() => Verdict::default(),
            patch => Verdict::of(patch, Vec::new()),
        };
    }
    if versions.is_same() {
        return Verdict::of(versions.restored(), warnings);
    }
    let mut verdict = versions.decide(request, catalog, options).unwrap_or_else(|failure| {
        let patch = versions.as_before(request).unwrap_or_default();
        Verdict::failed(failure, patch, Vec::new())
    });
    verdict.warnings.splice(0..0, warnings);
    verdict
}

/// The operations that take everything of ours out of an object; none where it has no record.
///
/// # Errors
/// [`Failure`] where the object or its record can't be read.
pub fn take_out(object: &Value) -> Result<Vec<PatchOperation>, Failure> {
    let Some(workload) = Workload::read(object)? else { return Ok(Vec::new()) };
    let record = record(&workload).map_err(|error| Failure::annotation(keys::INJECTED, error.to_string()))?;
    Ok(taken_out(&workload, record.as_ref(), None, true))
}

fn record(workload: &Workload<'_>) -> Result<Option<Record>, NotARecord> {
    workload.own_annotation(keys::INJECTED).map(Record::read).transpose()
}

fn taken_out<'a>(
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
    fn read(request: &Request<'a>, warnings: &mut Vec<String>) -> Result<Self, Failure> {
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

    /// Whether an update changes nothing that we look at.
    fn is_same(&self) -> bool {
        let Some(old) = &self.old else { return false };
        let template = |workload: &Workload<'a>| workload.object().pointer("/spec/template");
        let users = |workload: &Workload<'a>| -> BTreeMap<&'a str, &'a Value> {
            let own = workload.own_annotations().into_iter().flatten();
            own.filter(|(key, _)| is_users(key)).map(|(key, value)| (key.as_str(), value)).collect()
        };
        template(&self.new) == template(old) && users(&self.new) == users(old)
    }

    /// Our annotations and a StatefulSet's templates as the server holds them.
    fn restored(&self) -> Vec<PatchOperation> {
        let Some(old) = &self.old else { return Vec::new() };
        let kept = |key: &str| old.own_annotation(key).map(str::to_owned);
        let mut patch = self.templates();
        patch.extend(inject::annotate(
            &self.new,
            self.own.as_ref(),
            kept(keys::INJECTED),
            kept(keys::STATUS),
        ));
        patch
    }

    /// The object as the server holds it, where it has a record.
    fn before(&self) -> Option<(&Workload<'a>, &Record)> {
        self.old.as_ref().zip(self.stored.as_ref())
    }

    /// What of a StatefulSet can't change, put back where injection is off: it could otherwise never be applied again, or
    /// would run on an empty disk.
    fn immutable(&self) -> Vec<PatchOperation> {
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
        patch
    }

    fn templates(&self) -> Vec<PatchOperation> {
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

    fn decide(
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
        let profile = profile(catalog, &base, &wishes)?;
        let target = Target {
            workload: &base,
            namespace: request.namespace,
            wishes: &wishes,
            profile,
            containers: containers(&base, profile, &wishes)?,
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
        let status = Some(injection.plan.status()).filter(|status| !status.is_empty());
        let patch = self.patch(&injection.additions, record, status);
        let delivery = delivery(&target, &injection);
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
        let withdrawn =
            before.iter().filter(|earlier| earlier.wishes == wishes).flat_map(|earlier| &earlier.withdrawn);
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
    fn as_before(&self, request: &Request<'_>) -> Option<Vec<PatchOperation>> {
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
        let record = self.sealed(&base, &stored.wishes, &injection);
        let status = request.old.and_then(|old| Workload::read(old).ok().flatten());
        let status = status.and_then(|old| old.own_annotation(keys::STATUS).map(str::to_owned));
        Some(self.patch(&injection.additions, record, status))
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

/// The profile that a workload takes.
fn profile<'a>(
    catalog: &'a Catalog,
    workload: &Workload<'_>,
    wishes: &Wishes,
) -> Result<Option<&'a Profile>, Failure> {
    let profiles = catalog.profiles();
    match &wishes.profile {
        ProfileChoice::None => Ok(None),
        ProfileChoice::Named(name) => match profiles.get(name) {
            Some(profile) => Ok(Some(profile)),
            None => Err(Failure::annotation(keys::PROFILE, format!("no profile is named {name}"))),
        },
        ProfileChoice::ByImage => {
            let mut images = workload.containers.iter().map(|container| container.image);
            Ok(images.find_map(|image| profiles.by_image(image)).map(AsRef::as_ref))
        }
    }
}

/// The containers that are injected: those named; else those whose image matches the profile; else all regular ones.
fn containers<'a>(
    workload: &'a Workload<'a>,
    profile: Option<&Profile>,
    wishes: &Wishes,
) -> Result<Vec<&'a Container<'a>>, Failure> {
    let all = &workload.containers;
    if let Some(names) = &wishes.containers {
        if let Some(stray) = names.iter().find(|name| workload.container(name).is_none()) {
            return Err(Failure::annotation(keys::CONTAINERS, format!("no container is named {stray}")));
        }
        return Ok(all.iter().filter(|container| names.contains(container.name)).collect());
    }
    let matching: Vec<_> = all
        .iter()
        .filter(|container| profile.is_some_and(|profile| profile.has_image(container.image)))
        .collect();
    match matching.is_empty() {
        false => Ok(matching),
        true => Ok(all.iter().filter(|container| container.is_regular()).collect()),
    }
}

/// What a controller has to make for an injection.
fn delivery(target: &Target<'_>, injection: &Injection) -> Delivery {
    let mut delivery = Delivery::default();
    let additions = &injection.additions;
    let named: BTreeSet<&str> = additions
        .env
        .values()
        .flatten()
        .filter(|entry| has_secret(&entry.value))
        .filter_map(|entry| entry.value.pointer("/valueFrom/secretKeyRef/name")?.as_str())
        .chain(
            additions.volumes.iter().filter_map(|entry| entry.value.pointer("/secret/secretName")?.as_str()),
        )
        .collect();
    for (intent, decision) in &injection.plan.decisions {
        let Outcome::Bound(offer) = &decision.outcome else { continue };
        let name = secret_name(intent, &offer.id);
        if named.contains(name.as_str()) {
            let composed = injection.composed.get(intent).into_iter().flatten();
            let composed =
                composed.map(|(key, template)| (key.clone(), template.source().to_owned())).collect();
            let secret = SecretToMake { intent: intent.clone(), offer: offer.id.clone(), composed };
            delivery.secrets.insert(name, secret);
        }
    }
    for volume in &additions.volumes {
        let name = volume.value.pointer("/configMap/name").and_then(Value::as_str).unwrap_or_default();
        if let Some((key, text)) = injection.config_maps.get(name) {
            let config_map = ConfigMapToMake { key: key.clone(), text: text.clone() };
            delivery.config_maps.insert(name.to_owned(), config_map);
        }
    }
    if target.workload.kind == Kind::Deployment {
        for (path, volume) in &additions.claims {
            let name = claim_name(target.workload.kind, target.workload.name, path);
            let claim = ClaimToMake {
                workload: target.workload.name.to_owned(),
                path: path.clone(),
                volume: volume.clone(),
                retain: target.wishes.retain,
            };
            delivery.claims.insert(name, claim);
        }
    }
    delivery
}

// === impl Verdict ===

impl Verdict {
    fn of(patch: Vec<PatchOperation>, warnings: Vec<String>) -> Self {
        let result = if patch.is_empty() { AdmissionResult::Unchanged } else { AdmissionResult::Patched };
        Self { result, patch, warnings, ..Self::default() }
    }

    fn failed(failure: Failure, patch: Vec<PatchOperation>, mut warnings: Vec<String>) -> Self {
        warnings.push(warning::line(&format!("not injected: {failure}")));
        Self { result: AdmissionResult::FailedOpen(failure), patch, warnings, ..Self::default() }
    }
}

// === impl Additions ===

impl Additions {
    /// Less what the user has set in the meantime (what `record` does not call ours), and what belongs to containers that are gone.
    fn without_users(mut self, base: &Workload<'_>, record: Option<&Record>) -> Self {
        let is_ours = |slot: String, entry: &Value| record.is_some_and(|record| record.owns(&slot, entry));
        self.env.retain(|name, _| base.container(name).is_some());
        self.mounts.retain(|name, _| base.container(name).is_some());
        for container in &base.containers {
            if let Some(entries) = self.env.get_mut(container.name) {
                let users = |key: &str| {
                    container
                        .variable(key)
                        .is_some_and(|v| !is_ours(format!("env/{}/{key}", container.name), v))
                };
                entries.retain(|entry| !users(&entry.key));
            }
            if let Some(entries) = self.mounts.get_mut(container.name) {
                let users = |key: &str| {
                    let mut here = container.mounts.iter().filter(|mount| text(mount, "mountPath") == key);
                    here.any(|mount| !is_ours(format!("mount/{}/{key}", container.name), mount))
                };
                entries.retain(|entry| !users(&entry.key));
            }
        }
        let replaced = &self.replaced;
        self.volumes.retain(|entry| {
            let is_users = |volume: &&Value| {
                text(volume, "name") == entry.key && !is_ours(format!("volume/{}", entry.key), volume)
            };
            let users = base.volumes().iter().find(is_users);
            users.is_none_or(|volume| replaced.contains_key(&entry.key) && volume.get("emptyDir").is_some())
        });
        self
    }
}
