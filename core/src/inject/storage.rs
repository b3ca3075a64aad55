//! Volumes: claim templates for a StatefulSet's data paths, claims for those of all other workloads.
use std::{collections::BTreeMap, sync::Arc};

use super::{
    Target,
    additions::{Additions, Entry},
    fitted::Fitted,
    record::{ChosenVolume, Record},
    volumes::Place,
};
use crate::{
    decide::{Absence, Choice, Decision, Outcome, Question, Skipped, choose},
    discover::{Catalog, Offer},
    intent::Intent,
    json::Json,
    workload::{Kind, Workload},
};

/// What the storage intent comes to.
pub(super) struct Stored {
    pub decision: Decision,
    pub fitted: Fitted,
}

/// The wish for volumes, and what was chosen before.
pub(super) struct StorageQuestion<'a> {
    pub question: Question<'a>,
    pub is_required: bool,
    /// The record of the object as the server holds it.
    pub before: Option<&'a Record>,
    /// Whether the object exists already.
    pub is_update: bool,
}

/// What the intent comes to, the offer for new volumes, and why there is none.
struct Found {
    outcome: Outcome,
    offer: Option<Arc<Offer>>,
    refused: Option<Absence>,
}

impl Found {
    fn new(outcome: Outcome, offer: Option<Arc<Offer>>, refused: Option<Absence>) -> Self {
        Self { outcome, offer, refused }
    }
}

/// What a data path wants.
enum Wished {
    /// A volume of this size.
    Anew(String),
    /// The one that it has.
    Chosen(ChosenVolume),
}

impl StorageQuestion<'_> {
    /// Decides on volumes for a StatefulSet that is created, or for any other workload.
    pub(super) fn answer(&self, catalog: &Catalog, target: &Target<'_>) -> Stored {
        let mut fitted = Fitted::default();
        let outcome = self.fit(catalog, target, &mut fitted).unwrap_or_else(Outcome::Absent);
        if !matches!(outcome, Outcome::Bound(_) | Outcome::Kept { .. }) {
            fitted = Fitted::default();
        }
        let decision = Decision::new(self.is_required, outcome);
        Stored { decision, fitted }
    }

    fn fit(&self, catalog: &Catalog, target: &Target<'_>, fitted: &mut Fitted) -> Result<Outcome, Absence> {
        let is_set = target.workload.kind == Kind::StatefulSet;
        if is_set && self.is_update {
            return Err(Absence::Immutable);
        }
        let paths = self.paths(target, fitted);
        let templates = if is_set { target.workload.claim_templates() } else { &[] };
        let classless: Vec<&Json<'_>> = templates.iter().filter(is_classless).collect();
        if paths.is_empty() && classless.is_empty() {
            return Err(Absence::NoDataPath);
        }
        if target.workload.name.is_empty() && !is_set {
            return Err(Absence::NoName);
        }
        let Found { outcome, offer, refused } = self.find(catalog, target, &paths)?;
        let mut taken = Vec::new();
        for (path, wished) in &paths {
            let volume = match (wished, offer.as_deref(), &refused) {
                (Wished::Chosen(volume), ..) => volume.clone(),
                (Wished::Anew(size), Some(offer), None) => ChosenVolume::of(offer, size),
                (Wished::Anew(_), _, reason) => {
                    let reason = reason.as_ref().map_or_else(String::new, ToString::to_string);
                    fitted.skipped.push(Skipped::new(path, reason));
                    continue;
                }
            };
            if volume.kind == "block" && target.workload.generations_overlap() {
                fitted.notes.push(format!("{path} is block storage: one pod at a time"));
            }
            match target.place(path) {
                Place::Taken(reason) => {
                    taken.push(path.clone());
                    fitted.skipped.push(Skipped::new(path, reason));
                }
                Place::Free(empty_dir) => {
                    target.add_volume(self.question.intent, path, &volume, empty_dir, fitted)
                }
            }
        }
        let is_used = !fitted.additions.volumes.is_empty() || !fitted.additions.templates.is_empty();
        if let Some(offer) = &offer {
            self.add_classes(&classless, offer, fitted);
        }
        if is_used {
            target.add_group(self.question.intent, fitted);
        }
        match fitted.additions.is_empty() && !taken.is_empty() {
            true => Err(Absence::Mounted(taken)),
            false => Ok(outcome),
        }
    }

    /// The paths that want a volume. One that has its volume keeps it, unless the workload's own list leaves it out: a
    /// profile that no longer matches must not put an app on an empty disk.
    fn paths(&self, target: &Target<'_>, fitted: &mut Fitted) -> BTreeMap<String, Wished> {
        let sized = target.data_paths(self.question.is_enforced).into_iter();
        let wished = sized.map(|(path, size)| (path, Wished::Anew(size)));
        let mut paths: BTreeMap<String, Wished> = wished.collect();
        // What could not be made holds nothing.
        let is_withdrawn = |record: &&Record| {
            let offer = record.offers.get(self.question.intent);
            let last = self.question.withdrawn.and_then(|withdrawn| withdrawn.offers.first());
            last.is_some_and(|(id, _)| offer == Some(&id.key()))
        };
        let before = self.before.filter(|record| record.has(self.question.intent) && !is_withdrawn(record));
        for (path, volume) in before.iter().flat_map(|record| &record.claims) {
            if target.wishes.storage.is_empty() || paths.contains_key(path) {
                paths.insert(path.clone(), Wished::Chosen(volume.clone()));
            }
        }
        for (path, wished) in &mut paths {
            if let Wished::Anew(size) = wished {
                target.say_default(path, fitted);
                target.limit(path, size, fitted);
            }
        }
        paths
    }

    /// Looks for storage where a path needs a new volume: one that has its volume stays whatever becomes of the others.
    fn find(
        &self,
        catalog: &Catalog,
        target: &Target<'_>,
        paths: &BTreeMap<String, Wished>,
    ) -> Result<Found, Absence> {
        let has_chosen = paths.values().any(|wished| matches!(wished, Wished::Chosen(_)));
        let has_new = paths.is_empty() || paths.values().any(|wished| matches!(wished, Wished::Anew(_)));
        if has_new {
            match self.choose(catalog, target) {
                Ok(Outcome::Bound(offer)) => {
                    return Ok(Found::new(Outcome::Bound(offer.clone()), Some(offer), None));
                }
                // Where no path has its volume, there is nothing to keep.
                Ok(Outcome::Kept { .. }) if !has_chosen => return Err(Absence::NoOffer),
                Ok(outcome) if !has_chosen => return Ok(Found::new(outcome, None, None)),
                Err(absence) if !has_chosen => return Err(absence),
                Ok(_) => return Ok(Found::new(self.unchanged(catalog), None, Some(Absence::NoOffer))),
                Err(absence) => return Ok(Found::new(self.unchanged(catalog), None, Some(absence))),
            }
        }
        Ok(Found::new(self.unchanged(catalog), None, None))
    }

    /// The offer of the volumes that are there.
    fn unchanged(&self, catalog: &Catalog) -> Outcome {
        let id =
            self.before.and_then(|record| record.in_use(self.question.intent, "")).map(|in_use| in_use.offer);
        let offer = id.as_ref().and_then(|id| catalog.offer(self.question.intent, id));
        match (offer.filter(|offer| offer.is_complete()), id) {
            (Some(offer), _) => Outcome::Bound(offer.clone()),
            (None, Some(id)) => {
                Outcome::Kept { offer: id.to_string(), reason: format!("{id} is no longer offered") }
            }
            (None, None) => Outcome::Kept { offer: String::new(), reason: "its volumes are there".into() },
        }
    }

    fn choose(&self, catalog: &Catalog, target: &Target<'_>) -> Result<Outcome, Absence> {
        let is_block = |offer: &Offer| offer.settings.literal("kind") == Some("block");
        let is_shared = |offer: &Offer| offer.settings.literal("kind") == Some("shared");
        let overlap = target.workload.generations_overlap();
        let fits: &[&dyn Fn(&Offer) -> bool] = if overlap { &[&is_shared] } else { &[&is_block, &is_shared] };
        match choose(catalog, &self.question, fits) {
            Choice::Use(offer) => Ok(Outcome::Bound(offer)),
            Choice::Not(Outcome::Absent(absence)) => match choose(catalog, &self.question, &[&is_block]) {
                Choice::Use(block) if overlap => {
                    Err(Absence::BlockNeedsRecreate(block.id.to_string(), alone(target.workload.kind)))
                }
                _ => Err(absence),
            },
            Choice::Not(outcome) => Ok(outcome),
        }
    }

    /// Gives the user's templates without a class the class of the offer, where it can do what they ask.
    fn add_classes(&self, classless: &[&Json<'_>], offer: &Arc<Offer>, fitted: &mut Fitted) {
        let Some(class) = offer.settings.literal("class") else { return };
        let is_block = offer.settings.literal("kind") == Some("block");
        for template in classless {
            let name = template.at(&["metadata", "name"]).and_then(Json::as_str).unwrap_or_default();
            let modes = template.at(&["spec", "accessModes"]).and_then(Json::as_array);
            let is_shared = modes.into_iter().flatten().any(|mode| mode.as_str() == Some("ReadWriteMany"));
            if is_shared && is_block {
                fitted
                    .skipped
                    .push(Skipped::new(name, "wants ReadWriteMany, which block storage can't give"));
                continue;
            }
            fitted.additions.classes.push(Entry::new(
                self.question.intent,
                name,
                Json::from(class.to_owned()),
            ));
        }
    }
}

/// What a StatefulSet that exists has of us, which can't change: it stays whatever is wished.
pub(super) fn immutable(
    target: &Target<'_>,
    mut additions: Additions,
    (stored, before): (&Workload<'_>, &Record),
    catalog: &Catalog,
    intent: &Intent,
    wish: Option<bool>,
) -> Stored {
    target.mount_orphans(intent, stored, &mut additions);
    target.mount_lost(intent, before, &mut additions);
    let id = before.in_use(intent, "").map(|in_use| in_use.offer);
    let offer = id.as_ref().and_then(|id| catalog.offer(intent, id)).filter(|_| wish.is_some());
    let name = id.map_or_else(String::new, |id| id.to_string());
    let outcome = match offer {
        Some(offer) => Outcome::Bound(offer.clone()),
        None if wish.is_some() => {
            Outcome::Kept { reason: format!("{name} is no longer offered"), offer: name }
        }
        None => Outcome::Kept { offer: name, reason: "immutable".into() },
    };
    let decision = Decision::new(wish.unwrap_or(false), outcome);
    Stored { decision, fitted: Fitted { additions, ..Fitted::default() } }
}

/// What lets a workload run one pod at a time.
fn alone(kind: Kind) -> &'static str {
    match kind {
        Kind::DaemonSet => "one pod at a time, and this has one on each node",
        Kind::Job => "parallelism 1 and podReplacementPolicy Failed",
        Kind::CronJob => "concurrencyPolicy Forbid, parallelism 1 and podReplacementPolicy Failed",
        Kind::Deployment | Kind::StatefulSet | Kind::Pod => "one replica and strategy Recreate",
    }
}

fn is_classless(template: &&Json<'_>) -> bool {
    let spec = template.get("spec").and_then(Json::as_object);
    let is_absent = |field: &str| spec.is_some_and(|spec| spec.get(field).is_none_or(Json::is_null));
    // One that names its volume wants no other.
    ["storageClassName", "volumeName", "selector"].into_iter().all(is_absent)
}

// === impl ChosenVolume ===

impl ChosenVolume {
    fn of(offer: &Offer, size: &str) -> Self {
        let literal = |name: &str| offer.settings.literal(name).unwrap_or_default().to_owned();
        Self { class: literal("class"), kind: literal("kind"), size: size.to_owned() }
    }

    /// The access mode that goes with its kind.
    pub(crate) fn access_mode(&self) -> &'static str {
        match self.kind.as_str() {
            "shared" => "ReadWriteMany",
            _ => "ReadWriteOnce",
        }
    }
}
