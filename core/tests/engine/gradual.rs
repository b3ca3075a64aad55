//! A catalog that took changes one by one is the catalog that is made of what is there in the end.
use std::collections::BTreeMap;

use opportune_core::{
    discover::{Catalog, Inventory},
    intent::Intent,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::world::*;

const NAMESPACES: [&str; 4] = ["a", "a-b", "blog", "nowhere"];
const NAMES: [&str; 3] = ["openldap", "x", "fast"];
const INTENTS: [&str; 4] = ["ldap", "mail", "storage", "cache"];

/// What happens to a cluster.
#[derive(Debug, Clone)]
enum Event {
    Applied(Value),
    Removed(Value),
    /// Somebody looks at the catalog, so that it is shared from then on.
    Seen,
}

// === generators ===

fn some_namespace() -> impl Strategy<Value = Value> {
    let labels = ["", "provider: 'true'", "{provider: 'true', inject: enabled}", "inject: disabled"];
    let annotations = ["", "provides: ldap", "provides: 'mail, cache'"];
    let team = prop::option::of(select(vec!["web", "data"]));
    (select(&NAMESPACES[..3]), select(labels.to_vec()), select(annotations.to_vec()), team).prop_map(
        |(name, labels, annotations, team)| match team {
            Some(team) => with(namespace(name, labels, annotations), "/metadata/labels/team", json!(team)),
            None => namespace(name, labels, annotations),
        },
    )
}

fn some_offer() -> impl Strategy<Value = Value> {
    let consumers = [
        "{}",
        "{namespaceSelector: {}}",
        "{namespaceSelector: {matchLabels: {team: web}}}",
        "{namespaceSelector: {matchLabels: {team: web, kubernetes.io/metadata.name: blog}}}",
        "{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [web, data]}]}}",
        "{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}",
    ];
    let settings = ["{host: h, port: 1, base-dn: dc=x, from: a@b.c, class: x}", "{host: h}"];
    let parts = (select(&INTENTS[..]), select(consumers.to_vec()), select(settings.to_vec()), 0..3);
    (select(&NAMESPACES[..]), select(&NAMES[..]), parts).prop_map(|(space, name, parts)| {
        let (intent, consumers, settings, priority) = parts;
        json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "ServiceOffer",
            "metadata": {"name": name, "namespace": space},
            "spec": {"intent": intent, "priority": priority, "consumers": yaml(consumers), "settings": yaml(settings)}})
    })
}

fn some_service() -> impl Strategy<Value = Value> {
    let marks = [None, Some("ldap"), Some("mail")];
    let annotations = [
        json!({}),
        json!({"opportune.libre.sh/settings": "base-dn: dc=x", "opportune.libre.sh/priority": "1"}),
        json!({"opportune.libre.sh/settings": "{base-dn: dc=x, from: a@b.c}", "opportune.libre.sh/consumers": "team=web"}),
    ];
    let parts = (select(marks.to_vec()), select(annotations.to_vec()), select(vec![389, 25, 80]));
    (select(&NAMESPACES[..]), select(&NAMES[..]), parts).prop_map(
        |(space, name, (mark, annotations, port))| {
            let mut labels = json!({"app": name});
            if let Some(mark) = mark {
                labels["opportune.libre.sh/offers"] = json!(mark);
            }
            json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": space, "labels": labels, "annotations": annotations},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": name}, "ports": [{"port": port}]}})
        },
    )
}

/// What stands around Services, and what is decided by besides offers.
fn something_else() -> impl Strategy<Value = Value> {
    let images = vec!["osixia/openldap:1", "bitnami/openldap:2", "example.org/app:1", "axllent/mailpit"];
    let workload =
        (select(&NAMESPACES[..]), select(&NAMES[..]), select(images)).prop_map(|(space, name, image)| {
            let object = with(deployment(image), "/metadata", json!({"name": name, "namespace": space}));
            with(object, "/spec/template/metadata/labels", json!({"app": name}))
        });
    let route = (select(&NAMESPACES[..]), select(&NAMES[..]), select(vec!["a.org", "b.org"])).prop_map(|(space, name, host)| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i", "namespace": space},
            "spec": {"rules": [{"host": host, "http": {"paths": [{"backend": {"service": {"name": name}}}]}}]}})
    });
    let policy =
        (select(&NAMES[..]), 0..3, select(vec!["ldap", "mail"])).prop_map(|(name, priority, intent)| {
            policy(name, &format!("{{priority: {priority}, defaults: [{intent}]}}"))
        });
    let profile = (select(&NAMES[..]), select(vec!["A", "B"])).prop_map(|(name, variable)| {
        json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "AppProfile", "metadata": {"name": name},
            "spec": {"images": ["example.org/own"], "env": {"ldap": {variable: "[[ldap.host]]"}}}})
    });
    let class = select(vec!["rook-ceph.rbd.csi.ceph.com", "rook-ceph.cephfs.csi.ceph.com", "other"]);
    let class = (select(&NAMES[..]), class).prop_map(|(name, provisioner)| storage_class(name, provisioner));
    prop_oneof![3 => workload, 2 => route, 1 => policy, 1 => profile, 2 => class]
}

fn event() -> impl Strategy<Value = Event> {
    let object =
        || prop_oneof![2 => some_namespace(), 4 => some_offer(), 4 => some_service(), 2 => something_else()];
    prop_oneof![6 => object().prop_map(Event::Applied), 3 => object().prop_map(Event::Removed), 2 => Just(Event::Seen)]
}

// === answers ===

/// What a catalog says to every question about this small world.
fn answers(catalog: &Catalog) -> String {
    let mut text = format!("{:#?}\n", catalog.offers().collect::<Vec<_>>());
    for intent in INTENTS.map(|intent| Intent::parse(intent).unwrap()) {
        for namespace in NAMESPACES {
            let usable: Vec<_> = catalog.candidates(&intent, namespace).map(|offer| offer.id.key()).collect();
            let incomplete: Vec<_> =
                catalog.incomplete(&intent, namespace).map(|offer| offer.id.key()).collect();
            text += &format!("{intent} in {namespace}: {usable:?}, {incomplete:?}\n");
            for name in NAMES.into_iter().chain(["a/x", "a-b/x", "blog/openldap"]) {
                let keys: Vec<_> =
                    catalog.named(&intent, name, namespace).iter().map(|offer| offer.id.key()).collect();
                let preferred = catalog.preferred(&intent, name, namespace).map(|offer| offer.id.key());
                text += &format!("{name}: {keys:?} {preferred:?}\n");
            }
        }
        for offer in catalog.offers() {
            assert_eq!(catalog.offer(&offer.intent, &offer.id), Some(offer));
        }
    }
    for namespace in NAMESPACES {
        let pods = NAMES.map(|name| {
            let labels = [("app", name)].into_iter().collect();
            catalog.app_address(namespace, &labels)
        });
        text += &format!("{namespace}: {:?} {pods:?}\n", catalog.namespace_label(namespace));
    }
    let namespaces: Vec<_> = catalog.namespaces().collect();
    let profiles = NAMES.map(|name| catalog.profiles().get(name));
    text + &format!("{namespaces:#?} {:#?} {profiles:?} {:?}", catalog.policies(), catalog.counts())
}

fn place(object: &Value) -> String {
    format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_one_by_one_come_to_the_same_catalog(events in vec(event(), 0..120)) {
        let mut gradual: Inventory = inventory();
        let mut objects = BTreeMap::new();
        let mut seen: Vec<(Catalog, String)> = Vec::new();
        for event in events {
            match event {
                Event::Applied(object) => {
                    gradual.apply(&object).unwrap();
                    objects.insert(place(&object), object);
                }
                Event::Removed(object) => {
                    gradual.remove(&object).unwrap();
                    objects.remove(&place(&object));
                }
                Event::Seen => {
                    let catalog = gradual.snapshot();
                    seen.push((catalog.clone(), answers(&catalog)));
                }
            }
        }
        let mut fresh = inventory();
        for object in objects.values() {
            fresh.apply(object).unwrap();
        }
        let (gradual, fresh) = (gradual.snapshot(), fresh.snapshot());
        prop_assert_eq!(answers(&gradual), answers(&fresh));
        let difference = gradual.difference(&fresh);
        prop_assert!(difference.intents.is_empty() && difference.namespaces.is_empty(), "{:?}", difference);
        for (catalog, text) in seen {
            prop_assert_eq!(answers(&catalog), text);
            let sees_other_offers = catalog.offers().ne(gradual.offers());
            prop_assert!(!sees_other_offers || !gradual.difference(&catalog).intents.is_empty());
        }
    }
}
