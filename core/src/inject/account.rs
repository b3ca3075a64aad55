//! An account of what a workload holds of ours: what its record says, place by place, and whether it still stands.
//!
//! A record is untrusted text, and so is every name in an account.
use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    record::{ChosenVolume, NotARecord, Record, Withdrawn},
    slot::{CLASS, ENV, MOUNT, POD, TEMPLATE, VOLUME},
    templates::{class_of, template_essence},
};
use crate::{discover::OfferId, intent::Intent, json::Json, keys, workload::Workload};

/// What one workload holds of ours.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    /// By intent.
    pub parts: BTreeMap<Intent, Part>,
    /// The volumes chosen for data paths, by path.
    pub claims: BTreeMap<String, ChosenVolume>,
    /// What could not be delivered and was taken out.
    pub withdrawn: BTreeMap<Intent, Withdrawn>,
    /// The user's `emptyDir`s that gave way to claims, by volume.
    pub replaced: Vec<String>,
}

/// What it holds because of one intent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    /// The offer that was taken, as `namespace/name`.
    pub offer: Option<String>,
    /// Where something was added.
    pub places: Vec<(Place, Standing)>,
}

/// Where something was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A variable.
    Variable {
        /// The container.
        container: String,
        /// The variable.
        name: String,
    },
    /// A mount.
    Mount {
        /// The container.
        container: String,
        /// Where it is mounted.
        path: String,
    },
    /// A volume of the pod, by name.
    Volume(String),
    /// A volume claim template, by name.
    Template(String),
    /// The class of one of the user's volume claim templates.
    Class(String),
    /// A field of the pod's security context.
    Security(String),
    /// Somewhere that this version does not know.
    Elsewhere(String),
}

/// What stands there now.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// What we wrote.
    Ours(Value),
    /// Something else: it is the user's.
    Users,
    /// Nothing.
    Gone,
}

// === impl Account ===

impl Account {
    /// Reads the record of a workload; `None` where it has none.
    ///
    /// # Errors
    /// [`NotARecord`]
    pub fn of(workload: &Workload<'_>) -> Result<Option<Self>, NotARecord> {
        let Some(record) = workload.own_annotation(keys::INJECTED) else { return Ok(None) };
        Ok(Some(Self::by(workload, &Record::read(record)?)))
    }

    /// What a workload holds of ours, by that record.
    pub(crate) fn by(workload: &Workload<'_>, record: &Record) -> Self {
        let mut parts: BTreeMap<Intent, Part> = BTreeMap::new();
        for (intent, slots) in &record.added {
            let part = parts.entry(intent.clone()).or_default();
            part.places = slots
                .keys()
                .map(|slot| {
                    let place = Place::of(slot);
                    let standing = standing(workload, record, slot, &place);
                    (place, standing)
                })
                .collect();
        }
        for (intent, offer) in &record.offers {
            let offer = OfferId::from_key(offer).map_or_else(|| offer.clone(), |id| id.to_string());
            parts.entry(intent.clone()).or_default().offer = Some(offer);
        }
        Self {
            parts,
            claims: record.claims.clone(),
            withdrawn: record.withdrawn.clone(),
            replaced: record.replaced.keys().cloned().collect(),
        }
    }
}

fn standing(workload: &Workload<'_>, record: &Record, slot: &str, place: &Place) -> Standing {
    let found = match place {
        Place::Variable { container, name } => {
            workload.container(container).and_then(|container| container.variable(name)).cloned()
        }
        Place::Mount { container, path } => {
            let mounts = workload.container(container).map_or(&[][..], |container| container.mounts);
            mounts.iter().find(|mount| mount.text("mountPath").trim_end_matches('/') == path).cloned()
        }
        Place::Volume(name) => workload.volumes().iter().find(|volume| volume.text("name") == name).cloned(),
        Place::Template(name) => template(workload, name).map(template_essence),
        Place::Class(name) => template(workload, name).and_then(class_of).cloned(),
        Place::Security(field) => workload.security_context().and_then(|context| context.get(field)).cloned(),
        Place::Elsewhere(_) => None,
    };
    match found {
        Some(value) if record.owns(slot, &value) => Standing::Ours(Value::from(&value)),
        Some(_) => Standing::Users,
        None => Standing::Gone,
    }
}

fn template<'a>(workload: &Workload<'a>, name: &str) -> Option<&'a Json<'a>> {
    let is_named =
        |template: &&Json<'_>| template.at(&["metadata", "name"]).and_then(Json::as_str) == Some(name);
    workload.claim_templates().iter().find(is_named)
}

// === impl Place ===

impl Place {
    fn of(slot: &str) -> Self {
        let elsewhere = || Self::Elsewhere(slot.to_owned());
        let Some((list, rest)) = slot.split_once('/') else { return elsewhere() };
        let name = || rest.to_owned();
        let contained =
            || rest.split_once('/').map(|(container, key)| (container.to_owned(), key.to_owned()));
        match list {
            ENV => contained().map_or_else(elsewhere, |(container, name)| Self::Variable { container, name }),
            MOUNT => contained().map_or_else(elsewhere, |(container, path)| Self::Mount { container, path }),
            VOLUME => Self::Volume(name()),
            TEMPLATE => Self::Template(name()),
            CLASS => Self::Class(name()),
            POD => Self::Security(name()),
            _ => elsewhere(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::hash::hash, *};

    fn workload(record: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "annotations": {keys::INJECTED: record}},
            "spec": {"template": {"spec": {"containers": [
                {"name": "app", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "mine"}],
                 "volumeMounts": [{"mountPath": "/data/", "name": "v"}]},
            ]}}},
        })
    }

    fn account(record: &str) -> Result<Option<Account>, NotARecord> {
        let object = workload(record);
        Account::of(&Workload::read(&Json::from(&object)).unwrap().unwrap())
    }

    #[test]
    fn what_stands_what_is_the_users_and_what_is_gone_are_told_apart() {
        let ldap = Intent::parse("ldap").unwrap();
        let mut record = Record::new(String::new());
        record.note(&ldap, "env/app/A".into(), hash(&Json::from(&json!({"name": "A", "value": "1"}))));
        record.note(&ldap, "env/app/B".into(), hash(&Json::from(&json!({"name": "B", "value": "ours"}))));
        record.note(&ldap, "env/gone/C".into(), hash(&Json::from(&json!(1))));
        record.note(
            &ldap,
            "mount/app//data".into(),
            hash(&Json::from(&json!({"mountPath": "/data/", "name": "v"}))),
        );
        record.offers.insert(ldap.clone(), "Service/directory/openldap".into());
        let account = account(&record.write()).unwrap().unwrap();
        let part = &account.parts[&ldap];
        assert_eq!(part.offer.as_deref(), Some("directory/openldap"));
        let words = part.places.iter().map(|(_, standing)| match standing {
            Standing::Ours(_) => "ours",
            Standing::Users => "user's",
            Standing::Gone => "gone",
        });
        assert_eq!(words.collect::<Vec<_>>(), ["ours", "user's", "gone", "ours"]);
        let mount = Place::Mount { container: "app".into(), path: "/data".into() };
        assert_eq!(part.places[3].0, mount);
    }

    #[test]
    fn a_place_that_nobody_knows_is_no_error() {
        let account =
            account(r#"{"v":1,"added":{"ldap":{"env/x":"0","roof":"1","":"2"}}}"#).unwrap().unwrap();
        let places = &account.parts[&Intent::parse("ldap").unwrap()].places;
        assert!(places.iter().all(|(place, standing)| {
            matches!(place, Place::Elsewhere(_)) && *standing == Standing::Gone
        }));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        assert!(account("{").is_err());
    }
}
