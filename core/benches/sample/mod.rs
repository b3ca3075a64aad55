//! What the benches measure with: reviews as an API server sends them, and clusters with any number of offers.
//!
//! Also a module of the benches of the server and of instructions, in `benches/`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each bench takes a part of it, and may panic when its own input is wrong"
)]
use std::sync::Arc;

use opportune_core::{
    admit::Options,
    discover::{Catalog, Inventory, Recipes},
    inject::profile::Profiles,
    review,
};
use serde_json::{Value, json};

/// As an API server sends it for a server-side apply; half of it is `managedFields`.
pub const CREATE: &[u8] = include_bytes!("../../tests/engine/reviews/deployment-create-ssa.json");
/// The same Deployment with another image, and as it was before.
pub const UPDATE: &[u8] = include_bytes!("../../tests/engine/reviews/deployment-update-ssa.json");
/// A Scale of it.
pub const SCALE: &[u8] = include_bytes!("../../tests/engine/reviews/deployment-scale-update.json");

/// What the workload wants in the load bench.
pub const WANTED: [&str; 4] = ["ldap", "mail", "analytics", "storage"];
pub const INTENTS: [&str; 5] = ["ldap", "mail", "analytics", "storage", "cache"];
/// The namespace that the reviews are about.
pub const ASKED: &str = "default";
/// Where a numbered review has its number.
pub const NUMBER: &str = "number-00000000";
pub const LARGE: usize = 10_000;
const NAMESPACES: usize = 1000;
/// Every tenth namespace is a provider's.
const PROVIDERS: usize = 100;

/// Who the offers are for that the asked namespace doesn't need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Others {
    /// For somebody else: in tenants' own namespaces, or by the names or the team of the consumers.
    ForOthers,
    /// For everyone, the asked namespace included.
    ForEveryone,
}

// Reviews.

/// The review of a new Deployment with a wish for these intents.
pub fn create(wanted: &[&str]) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(CREATE).unwrap();
    ask(&mut review["request"]["object"], wanted);
    serde_json::to_vec(&review).unwrap()
}

/// The same with a label that holds [`NUMBER`], for a number of the same length in its place: another workload each time, for
/// which the answer is the same.
pub fn create_numbered(wanted: &[&str]) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(CREATE).unwrap();
    let object = &mut review["request"]["object"];
    ask(object, wanted);
    object["metadata"]["labels"]["example.org/number"] = NUMBER.into();
    serde_json::to_vec(&review).unwrap()
}

/// The review of an update that changes nothing of a Deployment that was injected with these intents, by `catalog`.
pub fn update_without_change(wanted: &[&str], catalog: &Catalog) -> Vec<u8> {
    serde_json::to_vec(&update_of_injected(wanted, catalog)).unwrap()
}

/// The same, with another image: a new version of the app is rolled out. Its tag holds [`NUMBER`], as in [`create_numbered`].
pub fn update_of_image(wanted: &[&str], catalog: &Catalog) -> Vec<u8> {
    let mut review = update_of_injected(wanted, catalog);
    let containers = &mut review["request"]["object"]["spec"]["template"]["spec"]["containers"];
    let image = containers[0]["image"].as_str().unwrap().to_owned();
    containers[0]["image"] = format!("{image}-{NUMBER}").into();
    serde_json::to_vec(&review).unwrap()
}

fn update_of_injected(wanted: &[&str], catalog: &Catalog) -> Value {
    let mut review: Value = serde_json::from_slice(UPDATE).unwrap();
    let mut object = review["request"]["oldObject"].take();
    ask(&mut object, wanted);
    let mut created: Value = serde_json::from_slice(CREATE).unwrap();
    created["request"]["object"].clone_from(&object);
    let answer =
        review::answer(&serde_json::to_vec(&created).unwrap(), catalog, &Options::default()).unwrap();
    json_patch::patch(&mut object, &patch_of(&answer.body).unwrap()).unwrap();
    review["request"]["object"].clone_from(&object);
    review["request"]["oldObject"] = object;
    review
}

/// The patch in an answer, where there is one.
pub fn patch_of(answer: &[u8]) -> Option<json_patch::Patch> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let patch = answer["response"]["patch"].as_str()?;
    Some(serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap())
}

fn ask(object: &mut Value, wanted: &[&str]) {
    let annotations = &mut object["spec"]["template"]["metadata"]["annotations"];
    annotations["opportune.libre.sh/wants"] = wanted.join(", ").into();
    annotations["opportune.libre.sh/storage"] = "/srv/uploads=5Gi".into();
}

// The cluster.

/// A catalog of `size` offers in a thousand namespaces: five that the asked namespace may use, one for each intent, and
/// others.
pub fn catalog(size: usize, others: Others) -> Catalog {
    let catalog = inventory(size, others).snapshot();
    assert_eq!(catalog.offers().filter(|offer| offer.is_complete()).count(), size);
    if others == Others::ForOthers {
        let may_use = catalog.offers().filter(|offer| catalog.admits(offer, ASKED).is_ok()).count();
        assert_eq!(may_use, INTENTS.len());
    }
    catalog
}

/// What that catalog is made of.
pub fn inventory(size: usize, others: Others) -> Inventory {
    let recipes = Arc::new(Recipes::built_in().unwrap());
    let mut inventory = Inventory::new(recipes, Profiles::built_in().unwrap());
    for object in cluster(size, others) {
        inventory.apply(&object).unwrap();
    }
    inventory
}

/// The objects of that cluster: namespaces, then offers.
pub fn cluster(size: usize, others: Others) -> Vec<Value> {
    let mut objects: Vec<Value> = (0..NAMESPACES).map(namespace).collect();
    objects.push(asked_namespace());
    for (index, intent) in INTENTS.into_iter().enumerate() {
        let consumers = match index % 3 {
            0 => json!({"matchExpressions": [names_in(&[ASKED, "elsewhere"])]}),
            1 => json!({"matchLabels": {"team": "web"}}),
            _ => json!({}),
        };
        // First by priority, so that each catalog gives the same answer.
        objects.push(offer(intent, &provider(0), &format!("best-{intent}"), 1, &consumers));
    }
    objects.extend((INTENTS.len()..size).map(|index| other(index, others)));
    objects
}

fn other(index: usize, others: Others) -> Value {
    let intent = INTENTS[index % INTENTS.len()];
    let name = format!("offer-{index}");
    match (others, index % 3) {
        (Others::ForEveryone, _) => offer(intent, &provider(index), &name, 0, &json!({})),
        (Others::ForOthers, 0) => {
            let selector = json!({"matchExpressions": [names_in(&[&tenant(index), &tenant(index + 7)])]});
            offer(intent, &provider(index), &name, 0, &selector)
        }
        (Others::ForOthers, 1) => {
            let selector = json!({"matchLabels": {"team": format!("team-{}", index % 50)}});
            offer(intent, &provider(index), &name, 0, &selector)
        }
        (Others::ForOthers, _) => offer(intent, &tenant(index), &name, 0, &json!({})),
    }
}

fn provider(index: usize) -> String {
    format!("namespace-{}", index % PROVIDERS * 10)
}

fn tenant(index: usize) -> String {
    let number = index % NAMESPACES;
    format!("namespace-{}", if number.is_multiple_of(10) { number + 1 } else { number })
}

fn names_in(names: &[&str]) -> Value {
    json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": names})
}

fn namespace(index: usize) -> Value {
    let is_provider = if index.is_multiple_of(10) { "true" } else { "false" };
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": format!("namespace-{index}"),
            "labels": {
                "opportune.libre.sh/inject": "enabled",
                "opportune.libre.sh/provider": is_provider,
                "team": format!("team-{}", index % 50),
            },
        },
    })
}

fn asked_namespace() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": ASKED, "labels": {"opportune.libre.sh/inject": "enabled", "team": "web"}},
    })
}

fn offer(intent: &str, namespace: &str, name: &str, priority: i64, selector: &Value) -> Value {
    let host = format!("{name}.{namespace}.svc");
    let settings = match intent {
        "ldap" => json!({"host": host, "port": 636, "base-dn": "dc=example,dc=org"}),
        "mail" => json!({"host": host, "port": 587, "from": "no-reply@example.org"}),
        "analytics" => json!({"provider": "matomo", "url": "https://stats.example.org/", "site-id": 7}),
        "storage" => json!({"class": "shared", "kind": "shared"}),
        _ => json!({"host": host, "port": 6379}),
    };
    let mut offer = json!({
        "apiVersion": "opportune.libre.sh/v1alpha1",
        "kind": "ServiceOffer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "intent": intent,
            "priority": priority,
            "consumers": {"namespaceSelector": selector},
            "settings": settings,
        },
    });
    let keys = match intent {
        "ldap" => json!({"bind-dn": "READER_DN", "password": "READER_PASSWORD"}),
        "mail" => json!({"username": "username", "password": "password"}),
        _ => return offer,
    };
    offer["spec"]["credentials"] = json!({"secretRef": {"name": format!("{name}-account")}, "keys": keys});
    offer
}
