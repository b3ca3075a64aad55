//! AdmissionReviews, as kube-apiserver sends them and as nobody should.
use base64::{Engine, engine::general_purpose::STANDARD};
use opportune_core::{
    admit::{Options, Request, admit},
    inject::standard,
    json::Json,
    review::{Review, answer},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::*;

const CREATE: &str = include_str!("reviews/deployment-create.json");
const UPDATE: &str = include_str!("reviews/deployment-update-ssa.json");
const SCALE: &str = include_str!("reviews/deployment-scale-update.json");

fn review(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The response to a review in a cluster that offers everything; its envelope is checked.
fn response(review: &Value) -> Value {
    let body = serde_json::to_vec(review).unwrap();
    let answer = answer(&body, &World::full().catalog(), &Options::default()).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    let response = &answer["response"];
    assert_eq!(response["uid"], review["request"]["uid"]);
    assert!(response["allowed"].is_boolean());
    assert_eq!(response.get("patch").is_some(), response.get("patchType").is_some());
    for warning in response["warnings"].as_array().into_iter().flatten() {
        let warning = warning.as_str().unwrap();
        assert!(warning.chars().count() <= 120 && !warning.chars().any(char::is_control), "{warning:?}");
    }
    for (key, value) in response["auditAnnotations"].as_object().into_iter().flatten() {
        assert!(!key.contains('/') && value.is_string(), "{key}");
    }
    response.clone()
}

/// The review's object with the response's patch applied.
fn patched(review: &Value, response: &Value) -> Value {
    let mut object = review["request"]["object"].clone();
    if let Some(patch) = response.get("patch") {
        assert_eq!(response["patchType"], "JSONPatch");
        let bytes = STANDARD.decode(patch.as_str().unwrap()).unwrap();
        json_patch::patch(&mut object, &serde_json::from_slice::<json_patch::Patch>(&bytes).unwrap())
            .unwrap();
    }
    object
}

#[rstest]
#[case::create(CREATE)]
#[case::create_by_apply(include_str!("reviews/deployment-create-kubectl-apply.json"))]
#[case::create_by_ssa(include_str!("reviews/deployment-create-ssa.json"))]
#[case::update_by_apply(include_str!("reviews/deployment-update-kubectl-apply.json"))]
#[case::update_by_ssa(UPDATE)]
#[case::scale(SCALE)]
fn what_the_server_sends_is_answered_as_admit_decides(
    #[case] text: &str,
    #[values("", "ldap, mail, analytics, storage", "nonsense/x")] wants: &str,
    #[values(false, true)] on_template: bool,
) {
    let mut review = review(text);
    if !wants.is_empty() && review["request"]["kind"]["kind"] == "Deployment" {
        let object = review["request"]["object"].take();
        let ask = if on_template { asking } else { asking_on_itself };
        review["request"]["object"] = ask(object, &[("wants", wants)]);
    }
    let response = response(&review);
    assert_eq!(response["allowed"], true);
    let request = &review["request"];
    let mut expected = request["object"].clone();
    let verdict = admit(
        &Request {
            namespace: "default",
            object: &Json::from(&request["object"]),
            old: Some(&request["oldObject"]).filter(|o| !o.is_null()).map(Json::from).as_ref(),
        },
        &World::full().catalog(),
        &Options::default(),
    );
    json_patch::patch(&mut expected, &standard(&verdict.patch)).unwrap();
    assert_eq!(patched(&review, &response), expected);
    if wants.starts_with("ldap") && request["kind"]["kind"] == "Deployment" {
        assert!(response.get("patch").is_some());
        assert_eq!(response["auditAnnotations"]["mail"], "mail/mailu-front");
    } else {
        assert!(response.get("patch").is_none());
    }
}

#[rstest]
#[case::create(CREATE, true)]
#[case::update(UPDATE, true)]
#[case::escaped(&CREATE.replacen("\"annotations\":{", r#""annotations":{"opportune\u002elibre.sh/wants":"ldap","#, 1), false)]
#[case::asking(&CREATE.replacen("\"annotations\":{", r#""annotations":{"opportune.libre.sh/wants":"ldap","#, 1), false)]
fn what_asks_for_nothing_is_settled_at_a_glance(#[case] text: &str, #[case] is_settled: bool) {
    let catalog = World::full().catalog();
    let review = Review::read(text.as_bytes()).unwrap();
    assert_eq!(review.settled(&catalog, &Options::default()).is_some(), is_settled);
    let decided = review.decide(&catalog, &Options::default()).unwrap().to(&review);
    assert_eq!(decided.facts.outcome, if is_settled { "unchanged" } else { "patched" });
}

#[rstest]
#[case::uid("/request/uid", json!("other"), true)]
#[case::user("/request/userInfo", json!({"username": "other"}), true)]
#[case::dry_run("/request/dryRun", json!(true), true)]
#[case::managed_fields("/request/object/metadata/managedFields", json!([]), true)]
#[case::generation("/request/object/metadata/generation", json!(7), true)]
#[case::status("/request/object/status", json!({"replicas": 7}), true)]
#[case::operation("/request/operation", json!("CREATE"), false)]
#[case::namespace("/request/namespace", json!("other"), false)]
#[case::sub_resource("/request/subResource", json!("status"), false)]
#[case::kind("/request/kind/kind", json!("StatefulSet"), false)]
#[case::object_kind("/request/object/kind", json!("StatefulSet"), false)]
#[case::name("/request/object/metadata/name", json!("other"), false)]
#[case::labels("/request/object/metadata/labels", json!({}), false)]
#[case::no_labels("/request/object/metadata/labels", Value::Null, false)]
#[case::owners("/request/object/metadata/ownerReferences", json!([]), false)]
#[case::annotation("/request/object/metadata/annotations/a", json!("b"), false)]
#[case::image("/request/object/spec/template/spec/containers/0/image", json!("b"), false)]
#[case::old("/request/oldObject/spec/replicas", json!(7), false)]
#[case::old_kind("/request/oldObject/kind", json!("StatefulSet"), false)]
#[case::no_old("/request/oldObject", Value::Null, false)]
#[case::no_metadata("/request/object/metadata", Value::Null, false)]
#[case::no_object("/request/object", Value::Null, false)]
fn a_question_is_all_that_a_decision_is_made_of(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] is_same: bool,
) {
    let question = |review: &Value, policy: Option<&str>| {
        let body = serde_json::to_vec(review).unwrap();
        Review::read(&body).unwrap().question(policy)
    };
    let asked = asked(review(UPDATE), &[("wants", "ldap")]);
    let other = with(asked.clone(), pointer, value);
    assert_eq!(question(&asked, None) == question(&other, None), is_same);
    assert_ne!(question(&asked, None), question(&asked, Some("a")));
    assert_ne!(question(&asked, Some("b")), question(&asked, Some("a")));
}

#[test]
fn where_a_policy_asks_nothing_is_settled_at_a_glance() {
    let world = World::full().and(policy("all", "defaults: [ldap]"));
    let review = Review::read(CREATE.as_bytes()).unwrap();
    assert!(review.settled(&world.catalog(), &Options::default()).is_none());
}

fn asked(mut review: Value, annotations: &[(&str, &str)]) -> Value {
    let object = review["request"]["object"].take();
    review["request"]["object"] = asking(object, annotations);
    review
}

#[test]
fn only_an_unsatisfied_requirement_is_denied_with_its_reason() {
    let response = response(&asked(review(CREATE), &[("requires", "cache")]));
    assert_eq!(response["allowed"], false);
    assert!(response.get("patch").is_none());
    let status = &response["status"];
    assert_eq!(status["code"], 403);
    assert!(status["message"].as_str().unwrap().contains("cache"), "{status}");
}

#[rstest]
#[case::scale(SCALE)]
fn a_subresource_is_left_alone(#[case] text: &str) {
    let response = response(&review(text));
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
}

#[rstest]
#[case::subresource("/request/subResource", json!("scale"))]
#[case::status("/request/subResource", json!("status"))]
#[case::delete("/request/operation", json!("DELETE"))]
#[case::connect("/request/operation", json!("CONNECT"))]
#[case::null_object("/request/object", Value::Null)]
#[case::list_object("/request/object", json!([]))]
#[case::text_object("/request/object", json!("x"))]
#[case::no_metadata("/request/object/metadata", Value::Null)]
#[case::other_kind("/request/object/kind", json!("ReplicaSet"))]
#[case::old_version("/request/object/apiVersion", json!("apps/v1beta1"))]
#[case::odd_old_object("/request/oldObject", json!([1]))]
#[case::odd_containers("/request/object/spec/template/spec/containers", json!({"a": 1}))]
fn an_odd_request_is_allowed(#[case] pointer: &str, #[case] value: Value) {
    let review = with(asked(review(CREATE), &[("requires", "ldap")]), pointer, value);
    assert_eq!(response(&review)["allowed"], true);
}

#[test]
fn a_deletion_has_no_object() {
    let mut review = review(UPDATE);
    review["request"]["operation"] = json!("DELETE");
    review["request"]["object"] = Value::Null;
    let response = response(&review);
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
}

#[rstest]
#[case::no_body(String::new())]
#[case::text("hello".to_owned())]
#[case::list("[]".to_owned())]
#[case::null("null".to_owned())]
#[case::no_request(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_owned())]
#[case::null_request(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}"#.to_owned())]
#[case::other_version(CREATE.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1"))]
#[case::other_kind(CREATE.replace("AdmissionReview", "ConversionReview"))]
#[case::truncated(CREATE[..CREATE.len() / 2].to_owned())]
#[case::two(format!("{CREATE}{CREATE}"))]
fn what_is_no_review_is_refused_with_a_line(#[case] body: String) {
    let refused = answer(body.as_bytes(), &World::full().catalog(), &Options::default()).unwrap_err();
    assert!(!refused.reason.is_empty() && !refused.reason.chars().any(char::is_control), "{refused}");
}

#[test]
fn an_object_that_is_nested_too_deeply_to_be_read_is_refused_with_a_line() {
    let deep = format!("\"spec\":{{\"deep\":{}{},", "[".repeat(10_000), "]".repeat(10_000));
    let asked = asked(review(CREATE), &[("wants", "ldap")]).to_string();
    let at = asked.rfind("\"spec\":{\"").unwrap();
    let outer = asked[..at].rfind("\"spec\":{").unwrap();
    let body = asked[..outer].to_owned() + &asked[outer..].replacen("\"spec\":{", &deep, 1);
    let refused = answer(body.as_bytes(), &World::full().catalog(), &Options::default()).unwrap_err();
    assert!(refused.reason.contains("nested less deeply"), "{refused}");
}

#[test]
fn a_field_that_we_never_read_may_be_as_deep_as_it_likes() {
    let deep = format!("\"deep\":{}{},\"object\":", "[".repeat(10_000), "]".repeat(10_000));
    let body = CREATE.replacen("\"object\":", &deep, 1);
    if let Ok(answer) = answer(body.as_bytes(), &World::full().catalog(), &Options::default()) {
        assert!(String::from_utf8(answer.body).unwrap().contains("\"allowed\":true"));
    }
}

#[test]
fn invalid_utf_8_is_refused_with_a_line() {
    let mut body = CREATE.as_bytes().to_vec();
    let at = CREATE.find("wordpress").unwrap();
    body[at] = 0xff;
    assert!(answer(&body, &World::full().catalog(), &Options::default()).is_err());
}

#[test]
fn no_refusal_repeats_what_it_was_sent() {
    let body = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","subResource":["hunter2"]}}"#;
    match answer(body.as_bytes(), &World::full().catalog(), &Options::default()) {
        Err(refused) => assert!(!refused.reason.contains("hunter2"), "{refused}"),
        Ok(answer) => assert!(!String::from_utf8(answer.body).unwrap().contains("hunter2")),
    }
}

#[test]
fn a_users_secret_is_in_no_warning_audit_annotation_or_fact() {
    let env =
        json!([{"name": "SMTP_PASSWORD", "value": "hunter2"}, {"name": "LDAP_HOST", "value": "hunter2"}]);
    let pointer = "/request/object/spec/template/spec/containers/0/env";
    for annotations in [&[("wants", "ldap, mail")][..], &[("wants", "ldap"), ("files", "perhaps")]] {
        let review = with(asked(review(CREATE), annotations), pointer, env.clone());
        let answer =
            answer(&serde_json::to_vec(&review).unwrap(), &World::full().catalog(), &Options::default())
                .unwrap();
        assert!(!format!("{:?}", answer.facts).contains("hunter2"), "{:?}", answer.facts);
        let mut response = response(&review);
        if let Some(patch) = response.get("patch") {
            let patch = String::from_utf8(STANDARD.decode(patch.as_str().unwrap()).unwrap()).unwrap();
            assert!(!patch.contains("hunter2"));
        }
        response["patch"] = Value::Null;
        assert!(!response.to_string().contains("hunter2"), "{response}");
    }
}
