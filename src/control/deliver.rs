//! Delivered objects: Secrets with an offer's settings, and ConfigMaps with an app's configuration file. Each belongs to the
//! workloads that use it, so that Kubernetes removes it with the last of them.
use super::{
    content::{Content, Found, User, copy_of, merge, owners, random, uids, values},
    controller::{Controller, Key, place_of},
    events::{About, Reason},
    queue::Done,
    sources::State,
    uses::{Made, Object, Problem, stale_key},
};
use crate::{cluster::objects::Refusal, watch::WorkloadId};
use opportune_core::{
    deliver::{Contents, SecretData, SecretNeed},
    intent::Intent,
    keys,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How long what nobody's template names any more is left to pods that are on their way out.
const RETIRING: Duration = Duration::from_secs(5);
/// How often a copy is looked at that is left as it is.
const KEPT: Duration = Duration::from_secs(60);
/// After a change of values, the pods that were made before it are looked for.
const AFTER: Duration = Duration::from_millis(100);

/// What an object should hold.
enum Wanted {
    /// This.
    Content(Content),
    /// What it holds stays, since nothing better is known: why.
    AsItIs(Problem, String),
    /// Its source is being read.
    NotYet,
}

/// Makes an object what its users need.
pub(super) async fn deliver(controller: &Controller, object: &Object) -> Done {
    let users = controller.uses().users(object);
    if users.is_empty() {
        return retire(controller, object).await;
    }
    let wanted = match object.made {
        Made::Secret => wanted_secret(controller, object, &users),
        Made::ConfigMap => wanted_config_map(object, &users),
    };
    let known = controller.uses().copy(object).cloned();
    match (&wanted, known) {
        (Wanted::NotYet, _) => return Done::Well,
        // Nothing is read where nothing can have changed.
        (Wanted::Content(content), Some(copy))
            if copy.is_verified && copy.print == content.print() && copy.owners == uids(&users) =>
        {
            return judge(content, controller, object, &users, &copy.keys);
        }
        _ => {}
    }
    let stored = match controller.objects.get(object.kind(), &object.namespace, &object.name).await {
        Ok(stored) => object.found(stored),
        Err(refusal) => {
            // Who has all its pods has what we may not see.
            let is_rolled_out =
                |id: &WorkloadId| controller.workloads.facts(id).is_some_and(|facts| facts.is_rolled_out);
            let waiting: Vec<User> = users.into_iter().filter(|(id, _)| !is_rolled_out(id)).collect();
            return failed(controller, object, &waiting, refusal);
        }
    };
    match (wanted, stored) {
        (Wanted::NotYet, _) => Done::Well,
        (_, Found::Foreign) => {
            let reason = format!("a {} named {} is there, and it is not ours", object.word(), object.name);
            trouble(controller, object, &users, Problem::Conflict, &reason);
            Done::Failed
        }
        (Wanted::AsItIs(problem, reason), Found::Absent) => {
            trouble(controller, object, &users, problem, &reason);
            Done::Failed
        }
        (Wanted::AsItIs(problem, reason), Found::Ours(stored)) => {
            controller.uses().set_copy(object, None);
            keep(controller, object, &users, stored, (problem, &reason)).await
        }
        (Wanted::Content(content), Found::Absent) => create(controller, object, &users, content).await,
        (Wanted::Content(content), Found::Ours(stored)) => match content.lost(object, &users, &stored) {
            Some(reason) => {
                controller.uses().set_copy(object, None);
                keep(controller, object, &users, stored, (Problem::Failed, &reason)).await
            }
            None => update(controller, object, &users, content, stored).await,
        },
    }
}

/// What a Secret should hold: the settings of the offer, where it is offered to this namespace now.
fn wanted_secret(controller: &Controller, object: &Object, users: &[User]) -> Wanted {
    let needs: Vec<&SecretNeed> =
        users.iter().filter_map(|(_, used)| used.needs.secrets.get(&object.name)).collect();
    let Some(need) = needs.first() else { return Wanted::NotYet };
    let catalog = controller.catalog.load();
    let offer = catalog.offer(&need.intent, &need.offer);
    // Records are untrusted: what is handed out is decided here.
    let Some(offer) = offer.filter(|offer| catalog.admits(offer, &object.namespace).is_ok()) else {
        return Wanted::AsItIs(Problem::Failed, format!("{} is no longer offered", need.offer));
    };
    let place = place_of(offer);
    let state = place.as_ref().map(|place| controller.sources.state(place));
    let source = match state {
        None => Arc::new(SecretData::new()),
        Some(State::Unknown) => return Wanted::NotYet,
        Some(State::Present(credentials)) => credentials.0,
        Some(State::Missing) => {
            return Wanted::AsItIs(Problem::Failed, format!("the credentials of {} are not there", offer.id));
        }
        Some(State::Unreadable(_)) => {
            return Wanted::AsItIs(Problem::Failed, format!("the credentials of {} can't be read", offer.id));
        }
        // Whose Secret is named, and how it is, is the provider's business: the status of the offer tells.
        Some(State::Refused(_)) => {
            let reason = format!("the credentials of {} may not be handed out", offer.id);
            return Wanted::AsItIs(Problem::Refused, reason);
        }
    };
    let composed = needs.iter().flat_map(|need| need.composed.clone()).collect();
    let contents = Contents::of(offer, &source, &composed);
    Wanted::Content(Content {
        frame: json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "labels": {keys::MANAGED_BY: "opportune", keys::INTENT: need.intent.as_str()},
                "annotations": {keys::OFFER: need.offer.to_string()},
            },
            "type": format!("servicebinding.io/{}", need.intent),
        }),
        missing: contents
            .missing
            .iter()
            .map(|(key, missing)| (key.clone(), format!("{}: {missing}", offer.id)))
            .collect(),
        values: contents.data,
    })
}

fn wanted_config_map(object: &Object, users: &[User]) -> Wanted {
    let needs = users.iter().filter_map(|(_, used)| used.needs.config_maps.get(&object.name));
    let Some(content) = needs.filter_map(|need| need.content.as_ref()).next() else {
        let reason = "what its file holds is not known any more: roll the workload out".to_owned();
        return Wanted::AsItIs(Problem::Failed, reason);
    };
    Wanted::Content(Content {
        frame: json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"labels": {keys::MANAGED_BY: "opportune"}, "annotations": {}},
            "immutable": true,
        }),
        values: BTreeMap::from([(content.key.clone(), content.text.clone())]),
        missing: BTreeMap::new(),
    })
}

async fn create(controller: &Controller, object: &Object, users: &[User], content: Content) -> Done {
    let revision = random();
    let mut new = content.object(object, &content.values, users, &BTreeMap::new(), &revision);
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("name".into(), object.name.as_str().into());
        metadata.insert("namespace".into(), object.namespace.as_str().into());
    }
    match controller.objects.create(object.kind(), &object.namespace, &new).await {
        Ok(made) => {
            tracing::info!(object = %object, users = users.len(), "delivered");
            controller.metrics.delivered("delivered");
            controller.uses().set_copy(object, Some(copy_of(&made, content.print())));
            delivered(controller, object, users, &BTreeSet::new());
            judge(&content, controller, object, users, &BTreeSet::new())
        }
        Err(refusal) => failed(controller, object, users, refusal),
    }
}

async fn update(
    controller: &Controller,
    object: &Object,
    users: &[User],
    content: Content,
    stored: Value,
) -> Done {
    let before = values(&stored, object.made);
    let known = controller.uses().copy(object).cloned();
    let old = copy_of(&stored, 0);
    // A key that somebody's template still names, and of which nobody knows any more what it is made of, stays.
    let needed =
        users.iter().filter_map(|(_, used)| used.needs.secrets.get(&object.name)).flat_map(|need| &need.keys);
    let carried = needed
        .filter(|key| !content.values.contains_key(*key) && !content.missing.contains_key(*key))
        .filter_map(|key| Some((key.clone(), before.get(key)?.clone())));
    let mut after = content.values.clone();
    after.extend(carried);
    let holds: BTreeSet<String> = after.keys().cloned().collect();
    let is_changed = before != after;
    if is_changed && stored.get("immutable") == Some(&Value::Bool(true)) {
        // A ConfigMap's name tells its content, and a Secret of ours is not immutable: somebody put another in its place.
        if stored.pointer("/metadata/deletionTimestamp").is_some() {
            let (word, name) = (object.word(), &object.name);
            let reason = format!("a {word} named {name} is being deleted, which a finalizer holds up");
            trouble(controller, object, users, Problem::Conflict, &reason);
            return Done::Failed;
        }
        return match controller.objects.delete(object.kind(), &object.namespace, &stored).await {
            Ok(()) => {
                controller.metrics.delivered("repaired");
                Done::Again(Duration::ZERO)
            }
            Err(refusal) => failed(controller, object, users, refusal),
        };
    }
    let is_edited = known.is_some_and(|copy| copy.print == content.print() && copy.version != old.version);
    let templates: BTreeMap<String, &str> =
        users.iter().map(|(id, used)| (stale_key(id), used.template.as_str())).collect();
    let mut stale = old.stale.clone();
    stale.retain(|key, template| templates.get(key).is_some_and(|now| now == template));
    let mut revision = old.revision.clone();
    if is_changed && !is_edited {
        revision = random();
        let owning = users.iter().filter(|(_, used)| old.owners.contains(&used.uid));
        stale.extend(owning.map(|(id, used)| (stale_key(id), used.template.clone())));
    }
    let mut next = stored.clone();
    merge(&mut next, content.object(object, &after, users, &stale, &revision));
    if next == stored {
        controller.uses().set_copy(object, Some(copy_of(&stored, content.print())));
        return judge(&content, controller, object, users, &holds);
    }
    match controller.objects.replace(object.kind(), &object.namespace, &object.name, &next).await {
        Ok(written) => {
            if is_changed {
                let word = if is_edited { "repaired" } else { "updated" };
                tracing::info!(object = %object, users = users.len(), "{word}");
                controller.metrics.delivered(word);
            }
            controller.uses().set_copy(object, Some(copy_of(&written, content.print())));
            delivered(controller, object, users, &old.owners);
            if is_changed {
                users.iter().for_each(|(id, _)| controller.want(Key::Refresh(id.clone()), AFTER));
            }
            judge(&content, controller, object, users, &holds)
        }
        Err(refusal) => {
            tracing::debug!(object = %object, %refusal, "it stays as it was");
            let lacking: Vec<User> =
                users.iter().filter(|user| !is_served(object, user, &before)).cloned().collect();
            failed(controller, object, &lacking, refusal)
        }
    }
}

/// Leaves the values as they are, and sees to the owners only. Who came later may need what they lack.
async fn keep(
    controller: &Controller,
    object: &Object,
    users: &[User],
    stored: Value,
    (problem, reason): (Problem, &str),
) -> Done {
    let holds = values(&stored, object.made);
    let (served, lacking): (Vec<User>, Vec<User>) =
        users.iter().cloned().partition(|user| is_served(object, user, &holds));
    trouble(controller, object, &lacking, problem, reason);
    for (id, used) in &served {
        let about = About::workload(id, &used.uid);
        let Some(intent) = object.intent(used) else { continue };
        controller.uses().well(id, &intent, &object.name);
        let note = format!("{intent}: {reason}; the last copy of its settings stays");
        controller.events.say(about, Reason::Kept, note, "");
    }
    let mut next = stored.clone();
    if let Some(metadata) = next.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("ownerReferences".into(), owners(users));
    }
    let done = if lacking.is_empty() { Done::Again(KEPT) } else { Done::Failed };
    if next == stored {
        return done;
    }
    match controller.objects.replace(object.kind(), &object.namespace, &object.name, &next).await {
        Ok(_) => done,
        Err(refusal) => failed(controller, object, &[], refusal),
    }
}

/// Whether a user's pods can start with what an object holds.
fn is_served(object: &Object, (_, used): &User, values: &BTreeMap<String, String>) -> bool {
    let need = used.needs.secrets.get(&object.name);
    need.is_none_or(|need| need.keys.iter().all(|key| values.contains_key(key)))
}

/// Removes an object that no template names any more. What belonged to workloads that are gone, Kubernetes removes.
async fn retire(controller: &Controller, object: &Object) -> Done {
    let former = controller.uses().former(object);
    let standing: Vec<_> = former.iter().filter_map(|id| controller.workloads.facts(id)).collect();
    if standing.is_empty() {
        controller.uses().forget(object);
        return Done::Well;
    }
    // Pods that are still there may have to start again.
    let is_named = controller.workloads.is_named(&object.namespace, &object.name);
    if is_named || standing.iter().any(|facts| !facts.is_rolled_out) {
        return Done::Again(RETIRING);
    }
    let stored = match controller.objects.get(object.kind(), &object.namespace, &object.name).await {
        Ok(stored) => object.found(stored),
        Err(refusal) => return failed(controller, object, &[], refusal),
    };
    if let Found::Ours(stored) = stored {
        if let Err(refusal) = controller.objects.delete(object.kind(), &object.namespace, &stored).await {
            return failed(controller, object, &[], refusal);
        }
        tracing::info!(object = %object, "removed: nobody uses it");
        controller.metrics.delivered("removed");
    }
    controller.uses().forget(object);
    Done::Well
}

fn trouble(controller: &Controller, object: &Object, users: &[User], problem: Problem, reason: &str) {
    for (id, used) in users {
        let Some(intent) = object.intent(used) else { continue };
        controller.troubled((id, &used.uid), (&intent, &object.name), problem, reason);
    }
}

fn failed(controller: &Controller, object: &Object, users: &[User], refusal: Refusal) -> Done {
    controller.uses().set_copy(object, None);
    let intents: Vec<(&WorkloadId, &str, Intent)> =
        users.iter().filter_map(|(id, used)| Some((id, used.uid.as_str(), object.intent(used)?))).collect();
    let users: Vec<_> = intents.iter().map(|(id, uid, intent)| (*id, *uid, intent)).collect();
    controller.failed(&users, (object.word(), &object.name), refusal)
}

/// Tells the users that are new.
fn delivered(controller: &Controller, object: &Object, users: &[User], before: &BTreeSet<String>) {
    for (id, used) in users.iter().filter(|(_, used)| !before.contains(&used.uid)) {
        let note = match used.needs.secrets.get(&object.name) {
            Some(need) => {
                format!("{}: the settings of {} are in the Secret {}", need.intent, need.offer, object.name)
            }
            None => format!("its configuration file is in the ConfigMap {}", object.name),
        };
        controller.events.say(About::workload(id, &used.uid), Reason::Delivered, note, "");
    }
}

/// Tells each user whether it has what it needs, of what the content makes and what the object holds besides.
fn judge(
    content: &Content,
    controller: &Controller,
    object: &Object,
    users: &[User],
    holds: &BTreeSet<String>,
) -> Done {
    let mut done = Done::Well;
    for (id, used) in users {
        let Some(intent) = object.intent(used) else { continue };
        let keys = used.needs.secrets.get(&object.name).map(|need| &need.keys);
        let has = |key: &&String| content.values.contains_key(*key) || holds.contains(*key);
        let Some(lacking) = keys.into_iter().flatten().find(|key| !has(key)) else {
            controller.uses().well(id, &intent, &object.name);
            continue;
        };
        let unknown = || format!("nobody knows what {lacking} is made of: roll the workload out");
        let reason = content.missing.get(lacking).cloned().unwrap_or_else(unknown);
        controller.troubled((id, &used.uid), (&intent, &object.name), Problem::Failed, &reason);
        done = Done::Failed;
    }
    done
}
