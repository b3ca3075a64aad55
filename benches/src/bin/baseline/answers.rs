//! The baselines' answers.
use axum::{
    body::Bytes,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{borrow::Cow, hint::black_box, sync::LazyLock};

const FIXED: &[u8] =
    br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"-","allowed":true}}"#;

/// Four variables and a volume with its mount.
const PATCH: &str = r#"[
    {"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"LDAP_HOST","value":"ldap.directory.svc"}},
    {"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"LDAP_PORT","value":"636"}},
    {"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"LDAP_PASSWORD","valueFrom":{"secretKeyRef":{"name":"ldap","key":"password"}}}},
    {"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"SMTP_HOST","value":"mail.post.svc"}},
    {"op":"add","path":"/spec/template/spec/volumes/-","value":{"name":"uploads","persistentVolumeClaim":{"claimName":"uploads"}}},
    {"op":"add","path":"/spec/template/spec/containers/0/volumeMounts/-","value":{"name":"uploads","mountPath":"/srv/uploads"}}
]"#;

/// In the form of an answer: without spaces, in base64.
static ENCODED: LazyLock<String> =
    LazyLock::new(|| STANDARD.encode(PATCH.lines().map(str::trim).collect::<String>()));

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Answer<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    uid: &'a str,
    allowed: bool,
    patch_type: &'static str,
    patch: &'a str,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    object: Object<'a>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    spec: Spec<'a>,
}

#[derive(Deserialize, Default)]
struct Spec<'a> {
    #[serde(borrow, default)]
    template: Template<'a>,
}

#[derive(Deserialize, Default)]
struct Template<'a> {
    #[serde(borrow, default)]
    spec: Pod<'a>,
}

#[derive(Deserialize, Default)]
struct Pod<'a> {
    #[serde(borrow, default)]
    containers: Vec<Container<'a>>,
}

#[derive(Deserialize)]
struct Container<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    env: Vec<Variable<'a>>,
}

#[derive(Deserialize)]
struct Variable<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

pub(super) async fn echo(body: Bytes) -> Response {
    black_box(body);
    json(FIXED)
}

pub(super) async fn select(body: Bytes) -> Response {
    let Ok(asked) = serde_json::from_slice::<Asked>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    for container in &asked.request.object.spec.template.spec.containers {
        black_box(&container.name);
        container.env.iter().for_each(|variable| {
            black_box(&variable.name);
        });
    }
    patched(&asked.request.uid)
}

pub(super) async fn parse(body: Bytes) -> Response {
    let Ok(review) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(uid) = review.pointer("/request/uid").and_then(Value::as_str) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    black_box(review.pointer("/request/object/spec/template/spec/containers"));
    patched(uid)
}

fn patched(uid: &str) -> Response {
    let response = Answer { uid, allowed: true, patch_type: "JSONPatch", patch: &ENCODED };
    let review = Review { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response };
    match serde_json::to_vec(&review) {
        Ok(bytes) => json(bytes),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn json(bytes: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, "application/json")], bytes).into_response()
}
