//! What a workload looks like afterwards (1.4): golden objects, and what is never done.
use insta::assert_yaml_snapshot;
use opportune_core::admit::{AdmissionResult, Options};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

const EVERYTHING: &[(&str, &str)] = &[("wants", "ldap, mail, analytics, storage")];

fn generic(annotations: &[(&str, &str)]) -> Value {
    asking(deployment("example.org/unknown:1"), annotations)
}

/// A directory in the workload's own namespace with these settings (YAML), and the credentials of a Secret where asked.
fn own_directory(settings: &str, credentials: Option<&str>) -> World {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dir", "namespace": "blog",
        "labels": {"opportune.libre.sh/offers": "ldap"}, "annotations": {"opportune.libre.sh/settings": settings}},
        "spec": {"ports": [{"name": "ldap", "port": 389}]}});
    World::empty().and(match credentials {
        Some(name) => with(service, "/metadata/annotations/opportune.libre.sh~1credentials", json!(name)),
        None => service,
    })
}

// === golden ===

#[test]
fn wordpress_where_everything_is_offered() {
    assert_yaml_snapshot!(inject(&asking(wordpress(), EVERYTHING), &World::full().catalog()));
}

#[test]
fn wordpress_where_only_mail_is_offered() {
    let world = World::full().without("Service", "openldap").without("ServiceOffer", "matomo");
    let world = world.without("StorageClass", "rook-cephfs").without("StorageClass", "rook-ceph-block");
    assert_yaml_snapshot!(inject(&asking(wordpress(), EVERYTHING), &world.catalog()));
}

#[test]
fn wordpress_where_nothing_is_offered() {
    assert_yaml_snapshot!(inject(&asking(wordpress(), EVERYTHING), &World::empty().catalog()));
}

#[test]
fn gitea_where_everything_is_offered() {
    assert_yaml_snapshot!(inject(&asking(gitea(), EVERYTHING), &World::full().catalog()));
}

#[test]
fn gitea_where_only_shared_storage_is_offered() {
    let world = World::empty().and(shared_storage());
    assert_yaml_snapshot!(inject(&asking(gitea(), EVERYTHING), &world.catalog()));
}

#[test]
fn gitea_where_nothing_is_offered() {
    assert_yaml_snapshot!(inject(&asking(gitea(), EVERYTHING), &World::empty().catalog()));
}

#[rstest]
#[case::nextcloud("nextcloud", "nextcloud:31-apache")]
#[case::forgejo("forgejo", "codeberg.org/forgejo/forgejo:11-rootless")]
#[case::mastodon("mastodon", "ghcr.io/mastodon/mastodon:v4.3.2")]
#[case::mattermost("mattermost", "mattermost/mattermost-team-edition:10.5")]
#[case::rocketchat("rocketchat", "registry.rocket.chat/rocketchat/rocket.chat:7.3.0")]
#[case::vaultwarden("vaultwarden", "vaultwarden/server:1.33.2")]
#[case::grafana("grafana", "docker.io/grafana/grafana:11.5.1")]
#[case::jitsi_web("jitsi-web", "jitsi/web:stable-9823")]
fn an_app_where_everything_is_offered(#[case] name: &str, #[case] image: &str) {
    assert_yaml_snapshot!(name, inject(&asking(deployment(image), EVERYTHING), &World::full().catalog()));
}

#[test]
fn a_workload_without_a_profile_takes_the_generic_names() {
    assert_yaml_snapshot!(inject(&generic(EVERYTHING), &World::full().catalog()));
}

// === only adds ===

#[test]
fn a_user_set_variable_is_left_alone_and_named_in_the_status() {
    let user = json!([{"name": "LDAP_HOST", "value": "mine.example.net"}, {"name": "OTHER", "value": "1"}]);
    let object = with(generic(&[("wants", "ldap")]), "/spec/template/spec/containers/0/env", user.clone());
    let after = inject(&object, &World::full().catalog());
    assert_eq!(variables(&after, "app", "LDAP_HOST"), [&user[0]]);
    assert_eq!(variables(&after, "app", "OTHER"), [&user[1]]);
    assert_eq!(literal(&after, "LDAP_PORT"), Some("389"));
    assert!(status_of(&after, "ldap").contains("LDAP_HOST"), "{}", status(&after));
}

#[rstest]
#[case::empty_value(json!({"name": "LDAP_HOST", "value": ""}))]
#[case::no_value(json!({"name": "LDAP_HOST"}))]
#[case::reference(json!({"name": "LDAP_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}))]
fn a_variable_counts_as_set_whatever_its_value(#[case] entry: Value) {
    let object = with(generic(&[("wants", "ldap")]), "/spec/template/spec/containers/0/env", json!([entry]));
    let after = inject(&object, &World::full().catalog());
    assert_eq!(variables(&after, "app", "LDAP_HOST"), [&entry]);
}

#[test]
fn an_alias_that_the_user_set_stands_for_the_variable() {
    let user = json!([{"name": "SMTP_PASSWORD_FILE", "value": "/run/secrets/smtp"}]);
    let object = asking(deployment("vaultwarden/server:1"), &[("wants", "mail")]);
    let after = inject(&with(object, "/spec/template/spec/containers/0/env", user), &World::full().catalog());
    assert!(variables(&after, "app", "SMTP_PASSWORD").is_empty(), "{after:#}");
    assert!(!variables(&after, "app", "SMTP_HOST").is_empty());
}

#[test]
fn several_intents_all_act_and_nothing_of_the_pod_is_lost() {
    let before = asking(wordpress(), EVERYTHING);
    let after = inject(&before, &World::full().catalog());
    assert_eq!(taken_out(&after), before);
    for list in ["containers", "initContainers", "volumes"] {
        let had = pod(&before)[list].as_array().unwrap();
        let has = pod(&after)[list].as_array().unwrap();
        assert_eq!(had.len(), has.len().min(had.len()), "{list}");
    }
    assert_eq!(pod(&after)["fieldOfTomorrow"], pod(&before)["fieldOfTomorrow"]);
}

#[test]
fn user_entries_come_first_and_keep_their_order() {
    let before = asking(wordpress(), EVERYTHING);
    let after = inject(&before, &World::full().catalog());
    let had = container(&before, "wordpress")["env"].as_array().unwrap();
    let has = container(&after, "wordpress")["env"].as_array().unwrap();
    assert_eq!(&has[..had.len()], &had[..]);
    assert!(has.len() > had.len());
}

#[rstest]
#[case::something_is_added("mail")]
#[case::only_the_status_is_written("cache")]
fn an_empty_map_of_annotations_comes_back_empty(#[case] wish: &str) {
    let object = with(generic(&[("wants", wish)]), "/metadata/annotations", json!({}));
    assert_eq!(taken_out(&inject(&object, &World::full().catalog())), object);
}

#[test]
fn the_pod_template_gets_no_annotation_of_ours() {
    let before = asking(wordpress(), EVERYTHING);
    let after = inject(&before, &World::full().catalog());
    let annotations = "/spec/template/metadata/annotations";
    assert_eq!(after.pointer(annotations), before.pointer(annotations));
}

// === containers ===

#[test]
fn init_containers_of_the_profiles_image_are_injected_and_others_are_not() {
    let after = inject(&asking(wordpress(), &[("wants", "mail")]), &World::full().catalog());
    assert_eq!(variables(&after, "wordpress", "WORDPRESS_SMTP_HOST").len(), 1);
    assert_eq!(variables(&after, "prepare-base-dir", "WORDPRESS_SMTP_HOST").len(), 1);
    assert!(container(&after, "wait-for-database").get("env").is_none());
    assert!(container(&after, "metrics").get("env").is_none());
}

#[test]
fn without_a_profile_all_regular_containers_are_injected_and_no_init_container() {
    let object = with(
        generic(&[("wants", "ldap")]),
        "/spec/template/spec/initContainers",
        json!([{"name": "setup", "image": "example.org/unknown:1"}]),
    );
    let object = with(object, "/spec/template/spec/containers/1", json!({"name": "side", "image": "x"}));
    let after = inject(&object, &World::full().catalog());
    assert_eq!(variables(&after, "app", "LDAP_HOST").len(), 1);
    assert_eq!(variables(&after, "side", "LDAP_HOST").len(), 1);
    assert!(container(&after, "setup").get("env").is_none());
}

#[test]
fn a_named_init_container_is_injected_and_only_it() {
    let object = with(
        generic(&[("wants", "ldap"), ("containers", "setup")]),
        "/spec/template/spec/initContainers",
        json!([{"name": "setup", "image": "busybox"}]),
    );
    let after = inject(&object, &World::full().catalog());
    assert_eq!(variables(&after, "setup", "LDAP_HOST").len(), 1);
    assert!(container(&after, "app").get("env").is_none());
}

// === env ===

#[test]
fn a_secret_setting_is_a_reference_that_is_not_optional() {
    let after = inject(&generic(&[("wants", "ldap, mail")]), &World::full().catalog());
    for name in ["LDAP_BIND_DN", "LDAP_BIND_PASSWORD", "SMTP_USERNAME", "SMTP_PASSWORD", "SMTP_URL"] {
        let entry = variables(&after, "app", name)[0];
        assert!(entry.get("value").is_none(), "{entry}");
        let reference = &entry["valueFrom"]["secretKeyRef"];
        assert!(reference["name"].as_str().unwrap().starts_with("opportune-"), "{entry}");
        assert!(reference["key"].is_string());
        assert_ne!(reference["optional"], json!(true));
    }
}

#[test]
fn an_offers_value_can_not_read_the_apps_variables() {
    let world = own_directory("{base-dn: 'dc=$(DB_PASSWORD),dc=$x$', host: '$(HOST)'}", None);
    let after = inject(&generic(&[("wants", "ldap")]), &world.catalog());
    assert_eq!(literal(&after, "LDAP_BASE_DN"), Some("dc=$$(DB_PASSWORD),dc=$$x$$"));
    assert_eq!(literal(&after, "LDAP_HOST"), Some("$$(HOST)"));
}

#[test]
fn a_templates_own_dollar_right_before_a_setting_is_doubled() {
    let world = own_directory("{base-dn: '(DB_PASSWORD)'}", None);
    let object = generic(&[("wants", "ldap"), ("env.ldap", "A=$[[ldap.base-dn|html]]\nB=x$(POD)y")]);
    let after = inject(&object, &world.catalog());
    assert_eq!(literal(&after, "A"), Some("$$(DB_PASSWORD)"), "{}", status(&after));
    assert_eq!(literal(&after, "B"), Some("x$(POD)y"), "{}", status(&after));
}

#[test]
fn what_a_reference_names_stands_before_it_in_the_list() {
    let mapping = "A_URL=ldap://$(Z_HOST):$(Z_PORT)\nZ_HOST=[[ldap.host]]\nZ_PORT=[[ldap.port]]";
    let after = inject(&generic(&[("wants", "ldap"), ("env.ldap", mapping)]), &World::full().catalog());
    let names: Vec<_> = container(&after, "app")["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    let at = |name| names.iter().position(|n| *n == name).unwrap();
    assert!(at("Z_HOST") < at("A_URL") && at("Z_PORT") < at("A_URL"), "{names:?}");
}

#[test]
fn a_template_that_mixes_a_secret_with_others_holds_no_secret_and_expands_to_it() {
    let mapping = "AUTH=[[ldap.host|uri]]:[[ldap.password|uri]]";
    let (after, verdict) = admitted(
        &generic(&[("wants", "ldap"), ("env.ldap", mapping)]),
        None,
        &World::full().catalog(),
        &Options::default(),
    );
    let entry = variables(&after, "app", "AUTH")[0].clone();
    let secret = verdict.delivery.secrets.iter().next().unwrap();
    if let Some(value) = entry["value"].as_str() {
        assert!(value.contains("$("), "{entry}");
    } else {
        assert_eq!(entry["valueFrom"]["secretKeyRef"]["name"], json!(secret.0));
        let key = entry["valueFrom"]["secretKeyRef"]["key"].as_str().unwrap();
        assert!(secret.1.composed.contains_key(key), "{entry} {secret:?}");
    }
}

// === encodings ===

#[rstest]
#[case::space_is_plain("dc=a b,dc=c", true)]
#[case::quote("dc=\"a\"", false)]
#[case::backslash(r"dc=a\\,b", false)]
#[case::braces("dc={a}", false)]
#[case::umlaut("dc=ä", false)]
fn a_value_that_needs_an_encoding_inside_a_composed_template_is_not_written(
    #[case] base: &str,
    #[case] safe: bool,
) {
    let world = own_directory(&json!({"base-dn": base}).to_string(), None);
    let object = generic(&[("wants", "ldap"), ("env.ldap", "X=base=[[ldap.base-dn]]")]);
    let after = inject(&object, &world.catalog());
    if safe {
        assert_eq!(literal(&after, "X").unwrap(), format!("base={base}"));
    } else {
        assert!(container(&after, "app").get("env").is_none(), "{after:#}");
        assert!(
            status_of(&after, "ldap").starts_with("absent: value can't be written safely"),
            "{}",
            status(&after)
        );
    }
}

#[test]
fn a_value_alone_in_its_template_is_written_as_it_is() {
    let world = own_directory(r#"{"base-dn": "dc=\"ä\" {b};'`"}"#, None);
    let after = inject(&generic(&[("wants", "ldap")]), &world.catalog());
    assert_eq!(literal(&after, "LDAP_BASE_DN"), Some("dc=\"ä\" {b};'`"), "{}", status(&after));
}

#[rstest]
#[case("uri", "a%26b%20%22c%22%2F%C3%A4")]
#[case("json", r#""a&b \"c\"/ä""#)]
#[case("toml", r#""a&b \"c\"/ä""#)]
#[case("html", "a&amp;b &quot;c&quot;/ä")]
fn an_encoding_is_applied(#[case] encoding: &str, #[case] encoded: &str) {
    let world = own_directory(r#"{"base-dn": "a&b \"c\"/ä"}"#, None);
    let mapping = format!("X=<[[ldap.base-dn|{encoding}]]>");
    let after = inject(&generic(&[("wants", "ldap"), ("env.ldap", &mapping)]), &world.catalog());
    assert_eq!(literal(&after, "X"), Some(format!("<{encoded}>").as_str()), "{}", status(&after));
}

#[test]
fn an_unknown_encoding_leaves_the_object_as_it_came() {
    let object = generic(&[("wants", "ldap"), ("env.ldap", "X=[[ldap.host|sql]]")]);
    let (after, verdict) = admitted(&object, None, &World::full().catalog(), &Options::default());
    assert_eq!(after, object);
    assert!(matches!(verdict.result, AdmissionResult::FailedOpen(_)), "{:?}", verdict.result);
    assert_eq!(verdict.warnings.len(), 1);
}

#[test]
fn an_apps_own_placeholders_stay_as_they_are() {
    let mapping = "FILTER=(|({{user}}=%{uid})(${X}=%s))[[ldap.port]]";
    let after = inject(&generic(&[("wants", "ldap"), ("env.ldap", mapping)]), &World::full().catalog());
    assert_eq!(literal(&after, "FILTER"), Some("(|({{user}}=%{uid})(${X}=%s))389"), "{}", status(&after));
}

#[test]
fn an_unknown_setting_sets_nothing() {
    let mapping = "A=[[ldap.host]]\nB=[[ldap.user-filter]]";
    let after = inject(&generic(&[("wants", "ldap"), ("env.ldap", mapping)]), &World::full().catalog());
    assert!(literal(&after, "A").is_some());
    assert!(variables(&after, "app", "B").is_empty());
}

// === files ===

#[test]
fn files_are_mounted_in_the_layout_of_servicebinding() {
    let after = inject(&generic(&[("wants", "ldap, mail"), ("files", "true")]), &World::full().catalog());
    assert_eq!(literal(&after, "SERVICE_BINDING_ROOT"), Some("/bindings"));
    for intent in ["ldap", "mail"] {
        let volume = volume_at(&after, &format!("/bindings/{intent}")).expect("mounted");
        assert!(volume.to_string().contains("opportune-"), "{volume}");
    }
}

#[test]
fn a_secret_that_only_files_point_at_is_made() {
    let wish = [("wants", "ldap"), ("files", "true"), ("env.ldap", "HOST=[[ldap.host]]")];
    let (catalog, options) = (World::full().catalog(), Options::default());
    let (after, verdict) = admitted(&generic(&wish), None, &catalog, &options);
    let volumes = pod(&after)["volumes"].as_array().unwrap();
    let named: Vec<&str> = volumes.iter().filter_map(|v| v["secret"]["secretName"].as_str()).collect();
    assert_eq!(named, verdict.delivery.secrets.keys().collect::<Vec<_>>());
    assert_eq!(named.len(), 1);
}

#[test]
fn a_binding_root_that_the_user_set_is_kept() {
    let env = json!([{"name": "SERVICE_BINDING_ROOT", "value": "/platform/bindings"}]);
    let object = generic(&[("wants", "ldap"), ("files", "true")]);
    let after =
        inject(&with(object, "/spec/template/spec/containers/0/env", env.clone()), &World::full().catalog());
    assert_eq!(variables(&after, "app", "SERVICE_BINDING_ROOT"), [&env[0]]);
    assert!(volume_at(&after, "/platform/bindings/ldap").is_some(), "{after:#}");
    assert!(volume_at(&after, "/bindings/ldap").is_none());
}

#[rstest]
#[case::relative(json!({"name": "SERVICE_BINDING_ROOT", "value": "bindings"}))]
#[case::upwards(json!({"name": "SERVICE_BINDING_ROOT", "value": "/bindings/../etc"}))]
#[case::reference(json!({"name": "SERVICE_BINDING_ROOT", "value": "$(HOME)/b"}))]
#[case::from(json!({"name": "SERVICE_BINDING_ROOT", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}))]
fn a_binding_root_that_can_not_be_used_mounts_nothing_strange(#[case] root: Value) {
    let object = generic(&[("wants", "ldap"), ("files", "true")]);
    let object = with(object, "/spec/template/spec/containers/0/env", json!([root]));
    let (after, _) = admitted(&object, None, &World::full().catalog(), &Options::default());
    assert_eq!(variables(&after, "app", "SERVICE_BINDING_ROOT"), [&root]);
    for mount in container(&after, "app")["volumeMounts"].as_array().into_iter().flatten() {
        let path = mount["mountPath"].as_str().unwrap();
        assert!(path.starts_with('/') && !path.contains("..") && !path.contains('$'), "{mount}");
    }
}

#[test]
fn a_users_mount_at_a_files_path_stays() {
    let mount = json!({"name": "mine", "mountPath": "/bindings/ldap"});
    let object = generic(&[("wants", "ldap"), ("files", "true")]);
    let object = with(object, "/spec/template/spec/containers/0/volumeMounts", json!([mount]));
    let object = with(object, "/spec/template/spec/volumes", json!([{"name": "mine", "emptyDir": {}}]));
    let after = inject(&object, &World::full().catalog());
    assert_eq!(volume_at(&after, "/bindings/ldap").unwrap()["name"], "mine");
}
