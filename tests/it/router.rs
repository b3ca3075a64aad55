//! The two routers, without a network.
use arc_swap::ArcSwap;
use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt;
use hyper::body::Frame;
use opportune::{
    observe::Metrics,
    serve::{Admin, Limits, Readiness, Unanswered, Webhook, admin_router, webhook_router},
    tls::{Certificates, Source},
    watch::Pulses,
};
use opportune_core::{
    admit::{Inheritance, Options},
    discover::{Catalog, Inventory},
    inject::profile::Profiles,
    review::{Answer, Facts, NotAReview},
};
use rstest::rstest;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tower::ServiceExt;

fn facts(uid: &str) -> Facts {
    Facts {
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        name: "wordpress".to_owned(),
        kind: "Deployment",
        operation: "CREATE",
        outcome: "patched",
        reason: String::new(),
        intents: vec![("ldap", "bound")],
    }
}

/// Answers with the body it got, unless that asks for something else.
fn review(body: &[u8], policy: Option<&str>) -> Result<Answer, Unanswered> {
    if let Some(policy) = policy {
        return match policy {
            "known" => Ok(Answer { body: b"for a policy".to_vec(), facts: facts("a-uid") }),
            other => Err(Unanswered::NotReady(format!("policy {other} is not known here yet"))),
        };
    }
    match body {
        b"panic" => panic!("asked for"),
        b"fails" => {
            let facts = Facts {
                name: "word\npress".to_owned(),
                outcome: "failed_open",
                reason: "the annotation wants can't be read".to_owned(),
                ..facts("a-uid")
            };
            Ok(Answer { body: Vec::new(), facts })
        }
        b"no review" => {
            Err(Unanswered::NotAReview(NotAReview { reason: "this is no AdmissionReview".to_owned() }))
        }
        body => Ok(Answer { body: body.to_vec(), facts: facts(&String::from_utf8_lossy(body)) }),
    }
}

fn webhook_with(limits: Limits) -> (Router, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    (webhook_router(Arc::new(Webhook::new(review, Arc::clone(&metrics), limits))), metrics)
}

fn webhook() -> (Router, Arc<Metrics>) {
    webhook_with(Limits::default())
}

fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/mutate").body(body.into()).unwrap()
}

async fn send(router: &Router, request: Request<Body>) -> Response {
    router.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn rendered(metrics: &Metrics) -> String {
    metrics.render(&Catalog::default(), None, &Pulses::default()).unwrap()
}

/// A body that is announced and never comes.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

fn endless() -> Request<Body> {
    post(Body::new(Endless))
}

#[tokio::test]
async fn a_review_is_answered_as_json_and_counted() {
    let (router, metrics) = webhook();
    let response = send(&router, post("a-uid")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(text(response).await, "a-uid");
    assert!(rendered(&metrics).contains(r#"operation="CREATE",outcome="patched"} 1"#));
}

#[rstest]
#[case("GET", "/mutate", StatusCode::METHOD_NOT_ALLOWED)]
#[case("PUT", "/mutate", StatusCode::METHOD_NOT_ALLOWED)]
#[case("POST", "/", StatusCode::NOT_FOUND)]
#[case("POST", "/mutate/", StatusCode::NOT_FOUND)]
#[case("GET", "/metrics", StatusCode::NOT_FOUND)]
#[tokio::test]
async fn only_post_to_mutate_is_served(
    #[case] method: &str,
    #[case] path: &str,
    #[case] expected: StatusCode,
) {
    let (router, _) = webhook();
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    assert_eq!(send(&router, request).await.status(), expected);
}

#[tokio::test]
async fn what_is_no_review_is_400_with_the_reason() {
    let (router, metrics) = webhook();
    let response = send(&router, post("no review")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert_eq!(text(response).await, "this is no AdmissionReview\n");
    assert!(rendered(&metrics).contains(r#"outcome="not_a_review"} 1"#));
}

#[tokio::test]
async fn the_core_itself_is_asked() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let (catalog, options) = (Arc::<ArcSwap<Catalog>>::default(), Arc::<ArcSwap<Options>>::default());
    let webhook = Webhook::with_core(catalog, options, metrics, Limits::default());
    let response = send(&webhook_router(Arc::new(webhook)), post("neither JSON nor a review")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_largest_body_is_read_and_one_byte_more_is_413() {
    let (router, _) = webhook_with(Limits { body: 1 << 20, ..Limits::default() });
    assert_eq!(send(&router, post(vec![b'x'; 1 << 20])).await.status(), StatusCode::OK);
    let response = send(&router, post(vec![b'x'; (1 << 20) + 1])).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await, "the body is larger than 1048576 bytes\n");
}

#[tokio::test]
async fn a_body_of_unannounced_size_is_cut_off_as_well() {
    let (router, _) = webhook_with(Limits { body: 10, ..Limits::default() });
    let unannounced = Body::new(Body::from("more than ten bytes").map_frame(|frame| frame));
    assert_eq!(send(&router, post(unannounced)).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let (router, _) = webhook();
    let begun = tokio::time::Instant::now();
    let response = send(&router, endless()).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(text(response).await, "the request did not arrive in time\n");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_gets_it_when_it_is_free() {
    let (router, _) = webhook_with(Limits { in_work: 1, wait: Duration::from_secs(8), ..Limits::default() });
    let stuck = tokio::spawn(router.clone().oneshot(endless()));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(send(&router, post("waits")).await.status(), StatusCode::OK);
    assert_eq!(begun.elapsed().as_secs(), 7);
    assert_eq!(stuck.await.unwrap().unwrap().status(), StatusCode::REQUEST_TIMEOUT);
}

const MISSABLE: &str = r#"{"request":{"uid":"a-uid","object":{"opportune.libre.sh/wants":"ldap"}}}"#;
const DEMANDING: &str = r#"{"request":{"uid":"a-uid","object":{"opportune.libre.sh/requires":"ldap"}}}"#;

#[rstest]
#[case::what_may_be_missed(
    "/mutate",
    MISSABLE,
    StatusCode::OK,
    r#""allowed":true,"warnings":["opportune: too busy"#
)]
#[case::what_must_not("/mutate", DEMANDING, StatusCode::SERVICE_UNAVAILABLE, "too busy: try again")]
#[case::what_a_policy_asks_for(
    "/mutate/policies/known",
    MISSABLE,
    StatusCode::SERVICE_UNAVAILABLE,
    "too busy: try again"
)]
#[case::what_is_no_review("/mutate", "waits", StatusCode::SERVICE_UNAVAILABLE, "too busy: try again")]
#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_told_in_time(
    #[case] path: &str,
    #[case] body: &'static str,
    #[case] status: StatusCode,
    #[case] says: &str,
) {
    let (router, metrics) = webhook_with(Limits { in_work: 1, ..Limits::default() });
    let stuck = tokio::spawn(router.clone().oneshot(endless()));
    tokio::task::yield_now().await;
    let begun = tokio::time::Instant::now();
    let response = send(&router, Request::post(path).body(body.into()).unwrap()).await;
    assert_eq!(begun.elapsed(), Limits::default().wait);
    assert_eq!(response.status(), status);
    let answer = text(response).await;
    assert!(answer.contains(says), "{answer}");
    assert!(rendered(&metrics).contains(r#"outcome="shed"} 1"#));
    stuck.abort();
}

#[rstest]
#[case::one_that_requires("blog", StatusCode::SERVICE_UNAVAILABLE)]
#[case::another("shop", StatusCode::OK)]
#[tokio::test(start_paused = true)]
async fn what_a_namespace_requires_is_not_missed(#[case] namespace: &str, #[case] status: StatusCode) {
    let mut inventory = Inventory::new(Arc::default(), Profiles::default());
    let annotations = serde_json::json!({"opportune.libre.sh/requires": "ldap"});
    let blog = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blog", "annotations": annotations}});
    inventory.apply(&blog).unwrap();
    let catalog = Arc::new(ArcSwap::from_pointee(inventory.snapshot()));
    let options = Options { inheritance: Inheritance::FromNamespace, ..Options::default() };
    let metrics = Arc::new(Metrics::new().unwrap());
    let limits = Limits { in_work: 1, ..Limits::default() };
    let webhook = Webhook::with_core(catalog, Arc::new(ArcSwap::from_pointee(options)), metrics, limits);
    let router = webhook_router(Arc::new(webhook));
    let stuck = tokio::spawn(router.clone().oneshot(endless()));
    tokio::task::yield_now().await;
    let review = format!(r#"{{"request":{{"uid":"a-uid","namespace":"{namespace}","object":{{}}}}}}"#);
    assert_eq!(send(&router, post(review)).await.status(), status);
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn a_large_body_that_there_is_no_time_for_is_not_read() {
    let (router, metrics) = webhook_with(Limits { large_in_work: 1, ..Limits::default() });
    let stuck = tokio::spawn(router.clone().oneshot(endless()));
    tokio::task::yield_now().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(send(&router, endless()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(begun.elapsed(), Limits::default().wait);
    assert!(rendered(&metrics).contains(r#"outcome="shed"} 1"#));
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn large_bodies_that_wait_do_not_hold_up_small_ones() {
    let (router, _) = webhook_with(Limits { in_work: 4, large_in_work: 2, ..Limits::default() });
    // Of unknown size, so possibly large: two get a place, the others wait for one.
    for _ in 0..8 {
        tokio::spawn(router.clone().oneshot(endless()));
    }
    tokio::task::yield_now().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(send(&router, post("small")).await.status(), StatusCode::OK);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_panic_is_a_500_for_its_own_request_only() {
    let (router, metrics) = webhook();
    let response = send(&router, post("panic")).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text(response).await, "internal error\n");
    assert!(rendered(&metrics).contains(r#"outcome="panicked"} 1"#));
    assert_eq!(send(&router, post("next")).await.status(), StatusCode::OK);
}

/// Where the log goes in a test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged about one request, at `level` and above.
async fn logged(level: tracing::Level, body: &'static str) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    send(&webhook().0, post(body)).await;
    drop(guard);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn failing_open_is_a_warning_of_one_line_that_says_which_and_why() {
    let log = logged(tracing::Level::INFO, "fails").await;
    assert_eq!(log.lines().count(), 1, "{log}");
    for part in [
        "WARN",
        r#"uid="a-uid""#,
        r#"namespace="shop""#,
        r#"name="word\npress""#,
        r#"outcome="failed_open""#,
        r#"reason="the annotation wants can't be read""#,
    ] {
        assert!(log.contains(part), "{part} is missing in {log}");
    }
}

#[tokio::test]
async fn an_answer_is_logged_for_debugging_only_and_never_with_the_body() {
    assert_eq!(logged(tracing::Level::INFO, "answered").await, "");
    let log = logged(tracing::Level::TRACE, "the body, which may hold a secret").await;
    assert!(log.contains(r#"outcome="patched""#), "{log}");
    // The double in this test takes the body as uid; nothing else shows it.
    assert_eq!(log.matches("secret").count(), log.matches("uid=").count(), "{log}");
}

async fn admin() -> (Router, Readiness) {
    let readiness = Readiness::default();
    let state = Admin {
        metrics: Arc::new(Metrics::new().unwrap()),
        readiness: readiness.clone(),
        catalog: Arc::default(),
        certificates: Some(Certificates::load(&Source::SelfSigned { names: Vec::new() }).await.unwrap()),
        pulses: Pulses::default(),
    };
    (admin_router(state), readiness)
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let response = send(router, Request::get(path).body(Body::empty()).unwrap()).await;
    (response.status(), text(response).await)
}

#[tokio::test]
async fn readiness_lists_its_conditions_and_liveness_does_not_care() {
    let (router, readiness) = admin().await;
    let loaded = readiness.register("certificate loaded");
    let unready = (StatusCode::SERVICE_UNAVAILABLE, "certificate loaded: no\n".to_owned());
    assert_eq!(get(&router, "/readyz").await, unready);
    assert_eq!(get(&router, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    loaded.set(true);
    assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "certificate loaded: yes\n".to_owned()));
    readiness.drain();
    assert_eq!(get(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_text_with_every_series_from_the_start() {
    let (router, _) = admin().await;
    let (status, text) = get(&router, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        r#"opportune_admission_requests_total{kind="StatefulSet",operation="UPDATE",outcome="failed_open"} 0"#,
        r#"opportune_intents_total{intent="storage",result="withdrawn"} 0"#,
        r#"opportune_admission_duration_seconds_bucket{le="0.0001"} 0"#,
        "# TYPE opportune_certificate_expiry_timestamp_seconds gauge",
        r#"opportune_build_info{revision="#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn the_admin_port_does_not_mutate() {
    let (router, _) = admin().await;
    assert_eq!(send(&router, post("a")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_webhook_of_a_policy_that_nobody_knows_is_not_answered() {
    let (router, metrics) = webhook();
    let post = |policy: &str| {
        Request::post(format!("/mutate/policies/{policy}")).body(Body::from("a review")).unwrap()
    };
    let known = router.clone().oneshot(post("known")).await.unwrap();
    assert_eq!((known.status(), text(known).await), (StatusCode::OK, "for a policy".to_owned()));
    let unknown = router.oneshot(post("nobodys.policy")).await.unwrap();
    assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(unknown).await.contains("policy nobodys.policy is not known here yet"));
    let counted = metrics.render(&Catalog::default(), None, &Pulses::default()).unwrap();
    assert!(counted.contains(r#"outcome="not_ready"} 1"#), "{counted}");
}
