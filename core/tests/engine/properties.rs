//! What holds for every workload, every cluster and every set of wishes.
use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use opportune_core::{
    admit::{AdmissionResult, Options, Request, admit, take_out},
    inject::standard,
    json::Json,
    review::{Review, answer},
};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

use crate::{generate::*, world::*};

// === comparisons ===

/// Whether everything of `part` is in `whole`: maps by key, lists in order, and only our own annotations may differ.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part.iter().all(|(key, value)| {
            let replaced = key == "emptyDir" && whole.contains_key("persistentVolumeClaim");
            replaced || whole.get(key).is_some_and(|other| is_within(value, other))
        }),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() <= whole.len() && part.iter().zip(whole).all(|(a, b)| is_within(a, b))
        }
        (Value::Null, _) => true,
        (part, whole) => part == whole,
    }
}

/// Everything, with lists as sets.
fn as_sets(value: &Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(as_sets).collect();
            list.sort_by_key(Value::to_string);
            Value::Array(list)
        }
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> =
                map.iter().map(|(k, v)| (k.clone(), as_sets(v))).collect();
            sorted.into_iter().collect()
        }
        other => other.clone(),
    }
}

fn after(object: &Value, world: &World) -> Value {
    admitted(object, None, &world.catalog(), &Options::default()).0
}

/// One of the ways in which a workload reaches us: as it is made, applied again, scaled, labelled or given another image.
fn reviewed(object: Value, world: &World, how: usize) -> Value {
    let stored = after(&object, world);
    let (object, old) = match how {
        0 => (object, None),
        1 => (object, Some(stored)),
        2 => (stored.clone(), Some(stored)),
        3 => (with(stored.clone(), "/spec/replicas", json!(9)), Some(stored)),
        4 => (with(stored.clone(), "/metadata/labels", json!({"a": "b"})), Some(stored)),
        _ => (with(stored.clone(), "/spec/template/spec/containers/0/image", json!("y")), Some(stored)),
    };
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "operation": operation, "namespace": "blog", "object": object, "oldObject": old,
        "kind": {"group": "apps", "version": "v1", "kind": object["kind"]},
    }})
}

fn asking_nothing(mut object: Value) -> Value {
    for pointer in ["/metadata/annotations", "/spec/template/metadata/annotations"] {
        if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
            map.retain(|key, _| !key.starts_with("opportune.libre.sh/"));
        }
    }
    object
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_holds_all_of_the_input_and_unknown_fields(object in workload(), world in world()) {
        let result = after(&object, &world);
        prop_assert!(is_within(&object, &result), "{object:#}\n{result:#}");
    }

    #[test]
    fn injecting_twice_is_injecting_once(object in workload(), world in world()) {
        let once = after(&object, &world);
        let twice = after(&once, &world);
        prop_assert_eq!(serde_json::to_string(&once).unwrap(), serde_json::to_string(&twice).unwrap());
        let updated = admitted(&once, Some(&once), &world.catalog(), &Options::default()).0;
        prop_assert_eq!(serde_json::to_string(&once).unwrap(), serde_json::to_string(&updated).unwrap());
    }

    #[test]
    fn reinvocation_on_an_update_changes_nothing_more(object in workload(), was in workload(), world in world()) {
        let catalog = world.catalog();
        let stored = after(&with(was, "/kind", object["kind"].clone()), &world);

        let once = admitted(&object, Some(&stored), &catalog, &Options::default()).0;
        let twice = admitted(&once, Some(&stored), &catalog, &Options::default()).0;
        prop_assert_eq!(serde_json::to_string(&once).unwrap(), serde_json::to_string(&twice).unwrap());
    }

    #[test]
    fn taking_out_gives_the_input_back(object in workload(), world in world()) {
        let result = after(&object, &world);
        prop_assert_eq!(&taken_out(&result), &object);
    }

    #[test]
    fn the_order_in_which_offers_come_does_not_matter(object in workload(), order in Just(World::full().0).prop_shuffle()) {
        let shuffled = after(&object, &World(order));
        prop_assert_eq!(
            serde_json::to_string(&shuffled).unwrap(),
            serde_json::to_string(&after(&object, &World::full())).unwrap()
        );
    }

    #[test]
    fn the_order_of_list_entries_does_not_matter(object in workload(), world in world()) {
        let mut turned = object.clone();
        // Of two apps in one pod one gives the profile: the contract doesn't say which.
        let containers = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        let images: BTreeSet<_> = containers.iter().filter_map(|c| c["image"].as_str()).collect();
        let lists = if images.len() > 1 { &["volumes"][..] } else { &["containers", "volumes"] };
        for list in lists {
            turned["spec"]["template"]["spec"][list].as_array_mut().unwrap().reverse();
        }
        for container in turned["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap() {
            for list in ["env", "volumeMounts"] {
                if let Some(Value::Array(list)) = container.get_mut(list) {
                    list.reverse();
                }
            }
        }
        let (straight, turned) = (after(&object, &world), after(&turned, &world));
        prop_assert_eq!(as_sets(&straight), as_sets(&turned));
    }

    #[test]
    fn a_sidecar_injector_before_or_after_ours_gives_the_same(object in workload(), world in world()) {
        // As Istio's: a proxy and an init container of its own images, and its volumes. Its containers are not asked for.
        let object = asking(object, &[("containers", "app")]);
        let sidecar = |object: Value| {
            let at = object["spec"]["template"]["spec"]["containers"].as_array().unwrap().len();
            let proxy = json!({"name": "proxy", "image": "istio/proxyv2", "volumeMounts": [{"name": "envoy", "mountPath": "/etc/envoy"}]});
            let object = with(object, &format!("/spec/template/spec/containers/{at}"), proxy);
            with(object, "/spec/template/spec/volumes/-", json!({"name": "envoy", "emptyDir": {}}))
        };
        let first = after(&sidecar(object.clone()), &world);
        let last = after(&sidecar(after(&object, &world)), &world);
        prop_assert_eq!(as_sets(&first), as_sets(&last));
    }

    #[test]
    fn no_name_stands_twice(object in workload(), world in world()) {
        let result = after(&object, &world);
        let all = |list: &str| pod(&result)[list].as_array().cloned().unwrap_or_default();
        let lists = [all("containers"), all("initContainers")].concat();
        let keyed = lists.iter().flat_map(|c| [(&c["env"], "name"), (&c["volumeMounts"], "mountPath")]);
        for (list, by) in keyed.chain([(&pod(&result)["volumes"], "name")]) {
            let names: Vec<String> = list.as_array().into_iter().flatten().map(|e| e[by].to_string()).collect();
            let distinct: BTreeSet<_> = names.iter().collect();
            prop_assert_eq!(distinct.len(), names.len(), "{:?}", names);
        }
    }

    #[test]
    fn every_mount_has_its_volume(object in workload(), world in world()) {
        let result = after(&object, &world);
        let known = |name: &Value| {
            let volumes = pod(&result)["volumes"].as_array().into_iter().flatten();
            let templates = result["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
            volumes.map(|v| &v["name"]).chain(templates.map(|t| &t["metadata"]["name"])).any(|other| other == name)
        };
        for container in pod(&result)["containers"].as_array().unwrap() {
            for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                prop_assert!(known(&mount["name"]), "{mount} in {result:#}");
            }
        }
    }

    #[test]
    fn any_json_is_never_denied_and_its_patch_applies(object in damaged(), old in option::of(damaged())) {
        let catalog = World::full().catalog();
        let (result, verdict) = admitted(&object, old.as_ref(), &catalog, &Options::default());
        prop_assert!(!matches!(verdict.result, AdmissionResult::Denied(_)));
        if let AdmissionResult::FailedOpen(_) = verdict.result && old.is_none() {
            prop_assert_eq!(&result, &object);
        }
        let _ = take_out(&object);
    }

    #[test]
    fn a_damaged_object_that_is_injected_can_be_taken_out_again(object in damaged()) {
        // What no server and no file holds, metadata that is none, may come back as an empty map.
        prop_assume!(object["metadata"].is_object());
        let object = without(object, INJECTED);
        let (result, verdict) = admitted(&object, None, &World::full().catalog(), &Options::default());
        if verdict.result == AdmissionResult::Patched {
            prop_assert_eq!(taken_out(&result), object);
        }
    }

    #[test]
    fn any_json_with_any_old_object_never_panics(object in any_json(), old in any_json()) {
        let catalog = World::full().catalog();
        let request = Request { namespace: "blog", object: &Json::from(&object), old: Some(&Json::from(&old)) };
        admit(&request, &catalog, &Options::default());
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "1", "operation": "UPDATE", "namespace": "blog", "object": object, "oldObject": old}});
        let body = answer(&serde_json::to_vec(&review).unwrap(), &catalog, &Options::default());
        if let Ok(body) = body {
            let body: Value = serde_json::from_slice(&body.body).unwrap();
            prop_assert_eq!(&body["response"]["allowed"], &json!(true));
        }
    }

    #[test]
    fn what_is_settled_at_a_glance_is_what_a_decision_comes_to(
        object in workload(),
        asks in any::<bool>(),
        world in world(),
        how in 0..6_usize,
        is_opted_in in any::<bool>(),
    ) {
        let object = if asks { object } else { asking_nothing(object) };
        let body = serde_json::to_vec(&reviewed(object, &world, how)).unwrap();
        let label = if is_opted_in { "enabled" } else { "disabled" };
        let world = world.and(namespace("blog", &format!("inject: {label}"), ""));
        let (catalog, options) = (world.catalog(), Options::default());
        let review = Review::read(&body).unwrap();
        if let Some(settled) = review.settled(&catalog, &options) {
            let (settled, decided) = (settled.to(&review), review.decide(&catalog, &options).unwrap().to(&review));
            prop_assert_eq!(settled.facts, decided.facts);
            prop_assert_eq!(String::from_utf8(settled.body), String::from_utf8(decided.body));
        } else {
            // What nobody asks anything of, and what stays as it is, must not cost a decision.
            prop_assert!(!(2..=4).contains(&how), "{}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn a_workload_is_decided_on_by_all_that_matters_of_it(
        (object, how) in prop_oneof![(workload(), 0..6_usize), (damaged(), 0..3_usize)],
        is_copy in any::<bool>(),
        was in option::of(prop_oneof![workload(), damaged()]),
        world in world(),
    ) {
        let object = if is_copy { after(&object, &world) } else { object };
        let mut review = reviewed(object, &world, how);
        if let (1.., Some(was)) = (how, was) {
            review["request"]["oldObject"] = after(&was, &world);
        }
        let body = serde_json::to_vec(&review).unwrap();
        let whole = Json::from(&review["request"]["object"]);
        let old = Some(Json::from(&review["request"]["oldObject"])).filter(|_| how > 0);
        let (catalog, options) = (world.catalog(), Options::default());
        let verdict = admit(&Request { namespace: "blog", object: &whole, old: old.as_ref() }, &catalog, &options);

        let review = Review::read(&body).unwrap();
        let answer = review.decide(&catalog, &options).unwrap().to(&review);
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let patch = answer["response"]["patch"].as_str().map(|patch| STANDARD.decode(patch).unwrap());
        let expected = serde_json::to_vec(&standard(&verdict.patch)).unwrap();
        prop_assert_eq!(patch, Some(expected).filter(|_| !verdict.patch.is_empty()));
        let warnings = answer["response"].get("warnings").cloned().unwrap_or_else(|| json!([]));
        prop_assert_eq!(warnings, json!(verdict.warnings));
    }

    #[test]
    fn any_bytes_are_answered_or_refused_with_a_line(bytes in vec(any::<u8>(), 0..200)) {
        if let Err(refused) = answer(&bytes, &World::empty().catalog(), &Options::default()) {
            prop_assert!(!refused.reason.is_empty() && !refused.reason.chars().any(char::is_control));
        }
    }

    #[test]
    fn any_object_is_taken_or_refused_by_the_inventory(object in any_json(), kind in 0..7_usize) {
        let kinds = ["v1/Service", "v1/Namespace", "storage.k8s.io/v1/StorageClass",
            "opportune.libre.sh/v1alpha1/ServiceOffer", "opportune.libre.sh/v1alpha1/AppProfile",
            "networking.k8s.io/v1/Ingress", "gateway.networking.k8s.io/v1/HTTPRoute"];
        let (version, kind) = kinds[kind].rsplit_once('/').unwrap();
        let mut object = object;
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".into(), json!(version));
            map.insert("kind".into(), json!(kind));
        }
        let mut inventory = inventory();
        let _ = inventory.apply(&object);
        inventory.snapshot();
    }

    #[test]
    fn an_address_holds_nothing_that_means_something_elsewhere(
        host in "\\PC{0,20}|[a-z0-9.*-]{1,12}",
        path in "\\PC{0,20}|/[a-z/.%-]{0,12}",
    ) {
        let world = World::empty()
            .and(yaml("{apiVersion: v1, kind: Service, metadata: {name: web, namespace: blog}, spec: {selector: {app: app}}}"))
            .and(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": "web", "namespace": "blog"},
                "spec": {"rules": [{"host": host, "http": {"paths": [
                    {"path": path, "pathType": "Prefix", "backend": {"service": {"name": "web"}}}]}}]}}));
        let labels = [("app", "app")].into_iter().collect();
        if let Some(address) = world.catalog().app_address("blog", &labels) {
            let rest = address.url.strip_prefix(&format!("http://{host}/")).unwrap();
            let is_harmless = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
            prop_assert!(address.host == host && address.url.ends_with('/'), "{address:?}");
            prop_assert!(host.chars().chain(rest.chars()).all(is_harmless), "{address:?}");
            prop_assert!(!address.url["http://".len()..].contains("//") && !rest.contains("../"), "{address:?}");
        }
    }
}
