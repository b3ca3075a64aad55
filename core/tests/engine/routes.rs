//! The workload's own address: `[[app.url]]` and `[[app.host]]`, from the Ingress or HTTPRoute before it.
use std::collections::HashSet;

use opportune_core::{
    admit::{Options, look_again},
    discover::{Catalog, Inventory, Taken},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

/// The Service before the pods of `deployment`.
fn service(name: &str, spec: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: blog}}, spec: {spec}}}"
    ))
}

fn web() -> Value {
    service("web", "{selector: {app: app}, ports: [{port: 80}]}")
}

fn ingress(name: &str, spec: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: {name}, namespace: blog}}, spec: {spec}}}"
    ))
}

fn http_route(name: &str, spec: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}, namespace: blog}}, spec: {spec}}}"
    ))
}

/// An Ingress with TLS whose one rule leads to the Service `web`.
fn leading(name: &str, host: &str) -> Value {
    ingress(name, &format!("{{tls: [{{hosts: ['{host}']}}], {}}}", rule(host, "path: /, pathType: Prefix")))
}

fn rule(host: &str, path: &str) -> String {
    format!("rules: [{{host: '{host}', http: {{paths: [{{{path}, backend: {{service: {{name: web}}}}}}]}}}}]")
}

fn url_in(catalog: &Catalog) -> Option<String> {
    let labels = [("app", "app"), ("pod-template-hash", "x")].into_iter().collect();
    let address = catalog.app_address("blog", &labels)?;
    let authority = address.url.split('/').nth(2).unwrap();
    assert_eq!(address.host, authority);
    assert!(address.url.ends_with('/'), "{}", address.url);
    Some(address.url)
}

fn url(objects: impl IntoIterator<Item = Value>) -> Option<String> {
    let world = objects.into_iter().fold(World::empty(), World::and);
    url_in(&world.catalog())
}

#[rstest]
#[case::tls("tls: [{hosts: [a.org, x.org]}]", Some("https://x.org/"))]
#[case::tls_without_hosts("tls: [{secretName: s}]", Some("https://x.org/"))]
#[case::tls_with_no_hosts("tls: [{hosts: []}]", Some("https://x.org/"))]
#[case::tls_for_all_below("tls: [{hosts: ['*.org']}]", Some("https://x.org/"))]
#[case::tls_for_others("tls: [{hosts: [a.org, '*.x.org']}]", Some("http://x.org/"))]
#[case::odd_tls("tls: [{hosts: x.org}, null, x.org]", Some("http://x.org/"))]
#[case::no_tls("tls: null", Some("http://x.org/"))]
fn an_ingress_with_a_certificate_for_the_host_is_encrypted(
    #[case] tls: &str,
    #[case] expected: Option<&str>,
) {
    let spec = format!("{{{tls}, {}}}", rule("x.org", "path: /, pathType: Prefix"));
    assert_eq!(url([web(), ingress("i", &spec)]).as_deref(), expected);
}

#[rstest]
#[case::prefix("path: /blog, pathType: Prefix", "http://x.org/blog/")]
#[case::slash_at_the_end("path: /blog/, pathType: Prefix", "http://x.org/blog/")]
#[case::exact("path: /a/b_c-d.e, pathType: Exact", "http://x.org/a/b_c-d.e/")]
#[case::none("pathType: Prefix", "http://x.org/")]
#[case::of_the_controller("path: /blog, pathType: ImplementationSpecific", "http://x.org/")]
#[case::no_type("path: /blog", "http://x.org/")]
#[case::pattern("path: '/blog(/|$)(.*)', pathType: Prefix", "http://x.org/")]
#[case::parent("path: /blog/../admin, pathType: Prefix", "http://x.org/")]
#[case::two_slashes("path: //evil.org, pathType: Prefix", "http://x.org/")]
#[case::login("path: '@evil.org', pathType: Prefix", "http://x.org/")]
#[case::query("path: '/?a=b#c', pathType: Prefix", "http://x.org/")]
#[case::variable("path: '/$(DB_PASSWORD)', pathType: Prefix", "http://x.org/")]
#[case::line_break("path: \"/a\\nb\", pathType: Prefix", "http://x.org/")]
#[case::not_ascii("path: /é, pathType: Prefix", "http://x.org/")]
#[case::number("path: 7, pathType: Prefix", "http://x.org/")]
fn only_a_plain_path_is_used(#[case] path: &str, #[case] expected: &str) {
    assert_eq!(
        url([web(), ingress("i", &format!("{{{}}}", rule("x.org", path)))]).as_deref(),
        Some(expected)
    );
}

#[rstest]
#[case::wildcard("*.x.org")]
#[case::empty("")]
#[case::space("x org")]
#[case::line_break("x.org\\nA: b")]
#[case::variable("$(DB_PASSWORD)")]
#[case::login("user@x.org")]
#[case::port("x.org:8443")]
#[case::path("x.org/evil")]
#[case::upper_case("X.org")]
#[case::dot_at_the_end("x.org.")]
#[case::number("10.0.0.1")]
#[case::not_ascii("bücher.org")]
#[case::too_long(&format!("{}org", "a.".repeat(130)))]
fn what_is_no_name_of_a_host_is_passed_over(#[case] host: &str) {
    let spec =
        format!("{{tls: [{{}}], {}}}", rule("HOST", "path: /")).replace("'HOST'", &format!("\"{host}\""));
    assert_eq!(url([web(), ingress("i", &spec)]), None);
    let spec = format!("{{hostnames: [\"{host}\"], rules: [{{backendRefs: [{{name: web}}]}}]}}");
    assert_eq!(url([web(), http_route("r", &spec)]), None);
}

#[rstest]
#[case::one("hostnames: [x.org], rules: [{backendRefs: [{name: web}]}]", Some("https://x.org/"))]
#[case::first_in_byte_order(
    "hostnames: ['*.a.org', c.org, b.org], rules: [{backendRefs: [{name: web}]}]",
    Some("https://b.org/")
)]
#[case::spelled_out(
    "hostnames: [x.org], rules: [{backendRefs: [{group: '', kind: Service, namespace: blog, name: web, weight: 1}]}]",
    Some("https://x.org/")
)]
#[case::path(
    "hostnames: [x.org], rules: [{matches: [{path: {type: PathPrefix, value: /b}}, {path: {value: /a}}], \
     backendRefs: [{name: web}]}]",
    Some("https://x.org/a/")
)]
#[case::any_path(
    "hostnames: [x.org], rules: [{matches: [{path: {type: Exact, value: /b}}, {method: GET}], backendRefs: [{name: web}]}]",
    Some("https://x.org/")
)]
#[case::pattern(
    "hostnames: [x.org], rules: [{matches: [{path: {type: RegularExpression, value: /b}}], backendRefs: [{name: web}]}]",
    Some("https://x.org/")
)]
#[case::second_rule(
    "hostnames: [x.org], rules: [{filters: [{type: RequestRedirect}]}, {backendRefs: [{name: other}, {name: web}]}]",
    Some("https://x.org/")
)]
#[case::hosts_of_the_listener("rules: [{backendRefs: [{name: web}]}]", None)]
#[case::no_traffic("hostnames: [x.org], rules: [{backendRefs: [{name: web, weight: 0}]}]", None)]
#[case::no_service("hostnames: [x.org], rules: [{backendRefs: [{kind: ServiceImport, name: web}]}]", None)]
#[case::other_group("hostnames: [x.org], rules: [{backendRefs: [{group: x.io, name: web}]}]", None)]
#[case::other_namespace("hostnames: [x.org], rules: [{backendRefs: [{namespace: shop, name: web}]}]", None)]
fn an_http_route_leads_to_services_of_its_own_namespace(#[case] spec: &str, #[case] expected: Option<&str>) {
    assert_eq!(url([web(), http_route("r", &format!("{{{spec}}}"))]).as_deref(), expected);
}

#[rstest]
#[case::not_its_pods(service("web", "{selector: {app: app, tier: db}}"))]
#[case::no_selector(service("web", "{clusterIP: None}"))]
#[case::empty_selector(service("web", "{selector: {}}"))]
#[case::elsewhere(service("web", "{type: ExternalName, externalName: evil.org, selector: {app: app}}"))]
#[case::other_name(service("front", "{selector: {app: app}}"))]
#[case::other_namespace(with(web(), "/metadata/namespace", json!("shop")))]
fn only_a_service_that_selects_the_pods_counts(#[case] service: Value) {
    assert_eq!(url([service, leading("i", "x.org")]), None);
}

#[test]
fn a_route_of_another_namespace_gives_no_address() {
    assert_eq!(url([web(), with(leading("i", "evil.org"), "/metadata/namespace", json!("shop"))]), None);
}

#[rstest]
#[case::encrypted_first(&[("a.org", "path: /", false), ("b.org", "path: /b, pathType: Prefix", true)], "https://b.org/b/")]
#[case::then_the_whole_host(&[("a.org", "path: /a, pathType: Prefix", true), ("b.org", "path: /", true)], "https://b.org/")]
#[case::then_byte_order(&[("b.org", "path: /", true), ("a-b.org", "path: /", true), ("a.org", "path: /", true)], "https://a-b.org/")]
#[case::then_the_path(&[("a.org", "path: /b, pathType: Exact", true), ("a.org", "path: /a, pathType: Exact", true)], "https://a.org/a/")]
fn of_several_the_same_is_taken_whatever_comes_first(
    #[case] ways: &[(&str, &str, bool)],
    #[case] expected: &str,
    #[values(false, true)] is_reversed: bool,
    #[values(false, true)] is_by_two_services: bool,
) {
    let mut objects = vec![web(), service("front", "{selector: {app: app}}")];
    for (index, (host, path, is_encrypted)) in ways.iter().enumerate() {
        let tls = if *is_encrypted { "tls: [{}], " } else { "" };
        let spec = format!("{{{tls}{}}}", rule(host, path));
        let spec =
            if is_by_two_services && index == 0 { spec.replace("name: web", "name: front") } else { spec };
        objects.push(ingress(&format!("i{index}"), &spec));
    }
    if is_reversed {
        objects.reverse();
    }
    assert_eq!(url(objects).as_deref(), Some(expected));
}

#[test]
fn rules_of_one_ingress_are_weighed_like_those_of_many() {
    let spec = "{tls: [{hosts: [c.org]}], rules: [{host: a.org, http: {paths: [{backend: {service: {name: web}}}]}},
        {host: c.org, http: {paths: [{path: /, backend: {resource: {kind: Bucket, name: web}}}, {backend: null}, 7,
            {path: /c, pathType: Prefix, backend: {service: {name: web}}}]}}, {http: {paths: []}}, null, {host: [b.org]}]}";
    assert_eq!(url([web(), ingress("i", spec)]).as_deref(), Some("https://c.org/c/"));
}

#[rstest]
#[case::empty(json!({}))]
#[case::null(json!(null))]
#[case::text(json!("spec"))]
#[case::odd_lists(json!({"rules": {"host": "x.org"}, "tls": 7, "hostnames": "x.org"}))]
#[case::odd_items(json!({"rules": [[], 7, {"host": 7, "http": []}], "hostnames": [7, null], "tls": [[]]}))]
#[case::default_backend(json!({"defaultBackend": {"service": {"name": "web"}}, "tls": [{"hosts": ["x.org"]}]}))]
fn what_leads_nowhere_is_no_error(#[case] spec: Value) {
    for object in [ingress("i", "{}"), http_route("i", "{}")] {
        let mut inventory = inventory();
        assert_eq!(inventory.apply(&with(object, "/spec", spec.clone())), Ok(Taken::Ignored));
    }
}

#[test]
fn one_object_leads_to_so_many_services_and_no_more() {
    let paths: Vec<Value> = (0..10_000)
        .map(|index| json!({"backend": {"service": {"name": format!("s{index}")}}}))
        .chain([json!({"backend": {"service": {"name": "web"}}})])
        .collect();
    let crowded = with(leading("i", "x.org"), "/spec/rules/0/http/paths", Value::Array(paths));
    assert_eq!(url([web(), crowded]), None);
}

/// An inventory of these objects, from which a first catalog was taken.
fn known(objects: &[Value]) -> Inventory {
    let mut inventory = inventory();
    for object in objects {
        inventory.apply(object).unwrap();
    }
    inventory.snapshot();
    inventory
}

#[rstest]
#[case::ingress(leading("i", "x.org"))]
#[case::http_route(http_route("i", "{hostnames: [x.org], rules: [{backendRefs: [{name: web}]}]}"))]
fn a_catalog_follows_routes_as_they_come_change_and_go(#[case] route: Value) {
    let kind = route["kind"].as_str().unwrap().to_owned();
    let mut inventory = known(&[web()]);
    assert_eq!(inventory.apply(&route), Ok(Taken::Known));
    assert_eq!(url_in(&inventory.changed().unwrap()).as_deref(), Some("https://x.org/"));

    let at = if kind == "Ingress" { "/spec/rules/0/host" } else { "/spec/hostnames/0" };
    inventory.apply(&with(route.clone(), at, json!("y.org"))).unwrap();
    assert!(url_in(&inventory.changed().unwrap()).unwrap().ends_with("//y.org/"));

    // One that leads nowhere any more, and one of another namespace.
    inventory.apply(&with(route.clone(), "/spec/rules", json!([]))).unwrap();
    assert_eq!(url_in(&inventory.changed().unwrap()), None);
    inventory.apply(&route).unwrap();
    inventory.remove(&with(route.clone(), "/metadata/namespace", json!("shop"))).unwrap();
    assert!(url_in(&inventory.changed().unwrap()).is_some());

    inventory.retain(&kind, &HashSet::from([Inventory::key(&route).unwrap()]));
    assert!(inventory.changed().is_none());
    inventory.retain(&kind, &HashSet::new());
    assert_eq!(url_in(&inventory.changed().unwrap()), None);

    inventory.apply(&route).unwrap();
    assert!(inventory.changed().is_some());
    inventory.remove(&route).unwrap();
    assert_eq!(url_in(&inventory.changed().unwrap()), None);
}

#[test]
fn an_ingress_and_an_http_route_of_one_name_are_two() {
    let route = http_route("i", "{hostnames: [a.org], rules: [{backendRefs: [{name: web}]}]}");
    let mut inventory = known(&[web(), route.clone(), leading("i", "b.org")]);
    inventory.remove(&route).unwrap();
    assert_eq!(url_in(&inventory.changed().unwrap()).as_deref(), Some("https://b.org/"));
}

#[test]
fn what_makes_no_difference_makes_no_new_catalog() {
    let mut inventory = known(&[web(), leading("i", "x.org")]);
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    inventory.apply(&with(leading("i", "x.org"), "/status", status.clone())).unwrap();
    assert!(inventory.changed().is_none(), "a status");
    inventory.apply(&with(web(), "/status", status)).unwrap();
    assert!(inventory.changed().is_none(), "a Service's status");
    inventory.apply(&leading("j", "z.org")).unwrap();
    assert!(inventory.changed().is_none(), "one that comes behind");
    inventory.apply(&with(leading("k", "a.org"), "/metadata/namespace", json!("shop"))).unwrap();
    assert!(inventory.changed().is_none(), "one that leads to no Service that is there");
    inventory.remove(&leading("j", "z.org")).unwrap();
    assert!(inventory.changed().is_none(), "one that came behind goes");
    inventory.apply(&service("other", "{selector: {app: other}}")).unwrap();
    assert!(inventory.changed().is_none(), "a Service that no route names");
}

#[test]
fn a_catalog_follows_the_services_between() {
    let mut inventory = known(&[leading("i", "x.org")]);
    inventory.apply(&web()).unwrap();
    assert!(url_in(&inventory.changed().unwrap()).is_some());
    inventory.apply(&service("web", "{selector: {app: other}}")).unwrap();
    assert_eq!(url_in(&inventory.changed().unwrap()), None);
    inventory.apply(&web()).unwrap();
    assert!(url_in(&inventory.changed().unwrap()).is_some());
    inventory.remove(&web()).unwrap();
    assert_eq!(url_in(&inventory.changed().unwrap()), None);
}

#[test]
fn a_template_names_the_workloads_own_address() {
    let lines = "SITE=[[app.url]]\nDOMAIN=[[app.host]]\nFEED=[[app.url]]feed?by=[[mail.from|uri]]\nPLAIN=[[mail.host]]";
    let object = asking(deployment("x"), &[("wants", "mail"), ("env.mail", lines)]);
    let without = World::full().and(web());
    let before = inject(&object, &without.catalog());
    assert!(variables(&before, "app", "SITE").is_empty() && variables(&before, "app", "DOMAIN").is_empty());
    assert!(variables(&before, "app", "FEED").is_empty() && literal(&before, "PLAIN").is_some());

    let catalog = without.and(leading("i", "blog.example.org")).catalog();
    let after =
        update(&with(before.clone(), "/spec/template/metadata/labels/v", json!("2")), &before, &catalog);
    assert_eq!(literal(&after, "SITE"), Some("https://blog.example.org/"));
    assert_eq!(literal(&after, "DOMAIN"), Some("blog.example.org"));
    assert_eq!(literal(&after, "FEED"), Some("https://blog.example.org/feed?by=noreply%40example.org"));
    assert_eq!(inject(&after, &catalog), after);
    assert_eq!(taken_out(&before), object);

    let again = look_again(&before, "blog", &catalog, &Options::default()).unwrap();
    assert!(
        again.pending.iter().any(|intent| intent.as_str() == "mail"),
        "a route that came is a reason to refresh"
    );
}

#[test]
fn an_address_beside_a_credential_is_written_into_the_delivered_key() {
    let object =
        asking(deployment("x"), &[("wants", "mail"), ("env.mail", "L=[[mail.password]]@[[app.host]]")]);
    let world = World::full().and(web());
    assert!(variables(&inject(&object, &world.catalog()), "app", "L").is_empty());
    let catalog = world.and(leading("i", "blog.example.org")).catalog();
    let (_, verdict) = admitted(&object, None, &catalog, &Options::default());
    let composed: Vec<_> =
        verdict.delivery.secrets.values().flat_map(|secret| secret.composed.values()).collect();
    assert_eq!(composed, ["[[mail.password]]@blog.example.org"]);
}
