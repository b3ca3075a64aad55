//! The record: what was added where, enough to take it out again exactly.
//!
//! It stands in an annotation, so it is untrusted text: it can only remove what matches it in the same object.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    hash::{Hash, hash},
    slot::{ANNOTATIONS, ENV, MOUNT, POD, Slot, TEMPLATE, VOLUME, slot},
};
use crate::{decide::InUse, discover::OfferId, intent::Intent, json::Json};

/// The version that is written.
const VERSION: u8 = 1;
/// The longest record that is read, in bytes: all annotations together may have 256 KiB, and a part is the user's.
pub(crate) const MAX_BYTES: usize = 128 * 1024;
/// How many contents are remembered, the present one included.
const MAX_CONTENTS: usize = 5;
/// How long the memory of earlier contents may be, in bytes.
const MAX_PAST_BYTES: usize = 8 * 1024;

/// Where the user may have had an empty list, and where an empty map.
const LISTS: [&str; 4] = [ENV, MOUNT, VOLUME, TEMPLATE];
const MAPS: [&str; 2] = [POD, ANNOTATIONS];

/// What was added to one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    v: u8,
    /// Whether it came with a request on which nothing could be decided: what it says of offers in use proves nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unproven: bool,
    /// The digest of the wishes that it was decided by.
    #[serde(default)]
    pub(crate) wishes: String,
    /// The offers in use, as [`OfferId::key`] writes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) offers: BTreeMap<Intent, String>,
    /// What stands where, by intent.
    #[serde(default)]
    pub(crate) added: BTreeMap<Intent, BTreeMap<Slot, Hash>>,
    /// What stood there before, newest first, without what stands there now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<BTreeMap<Slot, Hash>>,
    /// The volumes chosen for data paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) claims: BTreeMap<String, ChosenVolume>,
    /// The user's `emptyDir`s that gave way to claims, by volume.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) replaced: BTreeMap<String, Value>,
    /// The user's variables that gave way to ours, by slot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) overwritten: BTreeMap<Slot, Value>,
    /// Lists and maps that were there but empty, as `null`, `[]` or `{}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) empty: BTreeMap<String, Value>,
    /// What could not be delivered and was taken out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) withdrawn: BTreeMap<Intent, Withdrawn>,
}

/// The volume of one data path: chosen once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChosenVolume {
    /// The StorageClass.
    pub class: String,
    /// `block` or `shared`.
    pub kind: String,
    /// Its size when it was made.
    pub size: String,
}

/// An offer whose delivery failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// The offer, as [`OfferId::key`] writes it.
    pub offer: String,
    /// [`crate::discover::Offer::fingerprint`] at that time: a changed offer is tried again.
    pub print: String,
    /// Why.
    pub reason: String,
    /// Other offers that failed before it, each with its fingerprint at that time: or two that both fail would take turns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<String, String>,
}

/// How many offers that failed are remembered of an intent, besides the last.
const MAX_EARLIER: usize = 50;

/// A text that is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation opportune.libre.sh/injected can't be read: {0}; taken as absent")]
pub struct NotARecord(String);

// === impl Withdrawn ===

impl Withdrawn {
    /// Remembers what `before` says, too.
    fn after(mut self, before: Self) -> Self {
        self.earlier = before.earlier;
        self.earlier.insert(before.offer, before.print);
        self.earlier.remove(&self.offer);
        while self.earlier.len() > MAX_EARLIER {
            self.earlier.pop_first();
        }
        self
    }

    /// The offers that are left out, the last one first, each with its fingerprint at that time.
    pub fn offers(&self) -> impl Iterator<Item = (OfferId, &str)> {
        let all = std::iter::once((&self.offer, &self.print)).chain(&self.earlier);
        all.filter_map(|(offer, print)| Some((OfferId::from_key(offer)?, print.as_str())))
    }
}

// === impl Record ===

impl Record {
    /// A record of nothing, decided by these wishes.
    pub fn new(wishes: String) -> Self {
        Self {
            v: VERSION,
            unproven: false,
            wishes,
            offers: BTreeMap::new(),
            added: BTreeMap::new(),
            past: Vec::new(),
            claims: BTreeMap::new(),
            replaced: BTreeMap::new(),
            overwritten: BTreeMap::new(),
            empty: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
        }
    }

    /// Reads the annotation `injected`.
    ///
    /// # Errors
    /// [`NotARecord`] for anything that we can't have written.
    pub fn read(text: &str) -> Result<Self, NotARecord> {
        if text.len() > MAX_BYTES {
            return Err(NotARecord("longer than 128 KiB".into()));
        }
        let record: Self = serde_json::from_str(text)
            .map_err(|error| NotARecord(error.to_string().chars().take(100).collect()))?;
        if record.v != VERSION {
            return Err(NotARecord(format!("version {} is not known here", record.v)));
        }
        let is_empty = |(slot, value): (&String, &Value)| match value {
            Value::Null => true,
            Value::Array(list) => list.is_empty() && LISTS.iter().any(|place| slot.starts_with(place)),
            Value::Object(map) => map.is_empty() && MAPS.contains(&slot.as_str()),
            _ => false,
        };
        if !record.empty.iter().all(is_empty)
            || !record.replaced.values().all(|value| value.is_object() || value.is_null())
            || !record.overwritten.iter().all(|(slot, value)| is_variable(slot, value))
        {
            return Err(NotARecord("it holds what was never replaced".into()));
        }
        Ok(record)
    }

    /// The annotation's text.
    pub fn write(&self) -> String {
        // A map with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether what it says of offers in use is only what a request said.
    pub(crate) fn is_unproven(&self) -> bool {
        self.unproven
    }

    /// The same, as [`Record::is_unproven`].
    pub(crate) fn set_unproven(&mut self, is_unproven: bool) {
        self.unproven = is_unproven;
    }

    /// Whether there is anything to remember beside a status.
    pub fn is_needed(&self, status: Option<&str>) -> bool {
        let has_contents = self.intents().next().is_some() || !self.withdrawn.is_empty();
        // What was empty before matters once something of ours stands there.
        has_contents || (status.is_some() && !self.empty.is_empty())
    }

    /// Whether we wrote `value` at `slot`, now or in a remembered past.
    pub(crate) fn owns(&self, slot: &str, value: &Json<'_>) -> bool {
        self.owned(slot, value).is_some()
    }

    /// The hash of a value that we wrote at `slot`, now or in a remembered past.
    pub(crate) fn owned(&self, slot: &str, value: &Json<'_>) -> Option<Hash> {
        let mut known =
            self.added.values().chain(&self.past).filter_map(|content| content.get(slot)).peekable();
        known.peek()?;
        let hash = hash(value);
        known.any(|known| *known == hash).then_some(hash)
    }

    /// Whether something of ours is said to stand there.
    pub(crate) fn has_slot(&self, slot: &str) -> bool {
        self.added.values().any(|slots| slots.contains_key(slot))
    }

    /// The mounts that a container has or had of us, by slot and path.
    pub(crate) fn mounts_in(&self, container: &str) -> impl Iterator<Item = (&str, &str)> {
        let prefix = slot(&[MOUNT, container, ""]);
        let slots = self.added.values().chain(&self.past).flat_map(BTreeMap::keys);
        slots.filter_map(move |slot| Some((slot.as_str(), slot.strip_prefix(&prefix)?)))
    }

    /// Whether anything of an intent was added.
    pub(crate) fn has(&self, intent: &Intent) -> bool {
        self.added.get(intent).is_some_and(|slots| !slots.is_empty())
    }

    /// What it says of one intent: the offer in use, and what was added; `None` where nothing was.
    pub(crate) fn part(&self, intent: &Intent) -> Option<(Option<&String>, &BTreeMap<Slot, Hash>)> {
        let added = self.added.get(intent).filter(|slots| !slots.is_empty())?;
        Some((self.offers.get(intent), added))
    }

    /// The intents for which something was added.
    pub(crate) fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.added.iter().filter(|(_, slots)| !slots.is_empty()).map(|(intent, _)| intent)
    }

    /// Notes that an intent's offer could not be delivered; what failed before it under the same wishes stays noted.
    pub(crate) fn withdraw(&mut self, intent: &Intent, failed: Withdrawn) {
        let failed = match self.withdrawn.remove(intent) {
            Some(before) => failed.after(before),
            None => failed,
        };
        self.withdrawn.insert(intent.clone(), failed);
    }

    /// The offer in use for an intent.
    pub(crate) fn in_use(&self, intent: &Intent, wishes: &str) -> Option<InUse> {
        let offer = OfferId::from_key(self.offers.get(intent)?)?;
        Some(InUse { offer, are_wishes_same: self.wishes == wishes })
    }

    /// Notes that what has this hash stands at `slot` for `intent`.
    pub(super) fn note(&mut self, intent: &Intent, slot: Slot, hash: Hash) {
        match self.added.get_mut(intent) {
            Some(slots) => slots.insert(slot, hash),
            None => self.added.entry(intent.clone()).or_default().insert(slot, hash),
        };
    }

    /// Remembers what earlier records say, so that an undone rollout is recognised. `before` are those records, the
    /// newest first; one that describes the same content hands on its memory unchanged.
    pub(crate) fn remember(&mut self, before: &[&Record]) {
        if before.is_empty() {
            return;
        }
        if let Some(same) = before.iter().find(|record| flat(&record.added) == flat(&self.added)) {
            self.past = same.past.clone();
            self.forget();
            return;
        }
        let mut seen = flat(&self.added);
        let contents = before.iter().map(|record| flat(&record.added));
        let pasts = before.iter().flat_map(|record| &record.past).map(|past| past.iter().collect());
        for content in contents.chain(pasts) {
            let new = content.difference(&seen).map(|(slot, hash)| ((*slot).clone(), (*hash).clone()));
            let new: BTreeMap<Slot, Hash> = new.collect();
            seen.extend(content);
            if !new.is_empty() && self.past.len() + 1 < MAX_CONTENTS {
                self.past.push(new);
            }
        }
        self.forget();
    }

    /// Keeps the memory within its bounds, the newest first.
    fn forget(&mut self) {
        self.past.truncate(MAX_CONTENTS - 1);
        while serde_json::to_string(&self.past).is_ok_and(|text| text.len() > MAX_PAST_BYTES) {
            self.past.pop();
        }
    }
}

/// What stands where, whichever intent wants it.
fn flat(added: &BTreeMap<Intent, BTreeMap<Slot, Hash>>) -> BTreeSet<(&Slot, &Hash)> {
    added.values().flatten().collect()
}

/// Whether `value` can be the variable that stood at `slot`.
fn is_variable(slot: &str, value: &Value) -> bool {
    let name = value.get("name").and_then(Value::as_str);
    name.is_some_and(|name| slot.starts_with(ENV) && slot.rsplit('/').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> Record {
        let mut record = Record::new(String::new());
        record.note(&Intent::parse("ldap").unwrap(), "env/app/A".into(), hash(&Json::from(value)));
        record
    }

    #[test]
    fn what_is_written_is_read() {
        let mut record = with("1");
        record.remember(&[&with("0")]);
        assert_eq!(Record::read(&record.write()).unwrap(), record);
    }

    #[test]
    fn five_contents_are_remembered() {
        let mut record = with("0");
        for n in 1..10 {
            let mut next = with(&n.to_string());
            next.remember(&[&record]);
            record = next;
        }
        let owned: Vec<_> =
            (0..10).filter(|n| record.owns("env/app/A", &Json::from(n.to_string()))).collect();
        assert_eq!(owned, [5, 6, 7, 8, 9]);
    }

    #[test]
    fn remembering_the_same_changes_nothing() {
        let mut first = with("1");
        first.remember(&[&with("0")]);
        let mut second = with("1");
        second.remember(&[&first, &with("0")]);
        assert_eq!(second, first);
    }

    #[test]
    fn a_forged_text_is_no_record() {
        for text in
            ["", "null", "[]", "{}", r#"{"v":2}"#, r#"{"v":1,"x":1}"#, r#"{"v":1,"empty":{"a":{"b":1}}}"#]
        {
            assert!(Record::read(text).is_err(), "{text}");
        }
        assert!(Record::read(&"[".repeat(100_000)).is_err());
        assert!(Record::read(&format!("{{\"v\":1,\"wishes\":\"{}\"}}", "x".repeat(MAX_BYTES))).is_err());
    }
}
