//! `POST /mutate`, and `POST /mutate/policies/NAME` for what a policy acts on: one AdmissionReview in, one out.
use super::{
    Limits, Shared,
    memory::Memory,
    shed,
    turns::{Turn, Turns, Waiting},
};
use crate::observe::Metrics;
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{Path, Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use opportune_core::{
    admit::{CatalogState, Inheritance, Options, Selection},
    discover::Catalog,
    review::{Answer, Facts, NotAReview, Review},
};
use std::{borrow::Cow, sync::Arc, time::Instant};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{timeout, timeout_at},
};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Level;

/// What a body may weigh without being one of the few large ones.
const LARGE: u64 = 256 * 1024;
/// Bodies read at once of requests that there is no time for.
const IN_PASSING: usize = 32;
/// The longest name that Kubernetes knows; a review may claim any.
const NAME: usize = 253;

/// Whether a namespace requires something of its workloads.
type Requires = dyn Fn(&str) -> bool + Send + Sync;
type Answers = dyn Fn(&[u8], Option<&str>) -> Result<Answer, Unanswered> + Send + Sync;

/// Why a review has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The body is none.
    NotAReview(NotAReview),
    /// The policy whose webhook was called is not known here: the API server goes by that webhook's `failurePolicy`.
    NotReady(String),
}

impl From<NotAReview> for Unanswered {
    fn from(not_a_review: NotAReview) -> Self {
        Self::NotAReview(not_a_review)
    }
}

/// What answers the reviews.
pub struct Webhook {
    review: Box<Answers>,
    requires: Box<Requires>,
    metrics: Arc<Metrics>,
    limits: Limits,
    turns: Turns,
    in_work: Semaphore,
    large_in_work: Semaphore,
    in_passing: Semaphore,
}

/// A place among the requests in work.
type Place<'a> = (Option<SemaphorePermit<'a>>, SemaphorePermit<'a>);
/// A request whose turn it is: its body, its place and its turn.
type Taken<'a> = (Bytes, Place<'a>, Turn<'a>);

// === impl Webhook ===

impl Webhook {
    /// A webhook that answers by `review`, which must neither block nor wait; it is told of the policy whose webhook was called.
    pub fn new(
        review: impl Fn(&[u8], Option<&str>) -> Result<Answer, Unanswered> + Send + Sync + 'static,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Self {
        Self {
            review: Box::new(review),
            requires: Box::new(|_| false),
            metrics,
            limits,
            turns: Turns::new(limits.at_once, limits.wait),
            in_work: Semaphore::new(limits.in_work),
            large_in_work: Semaphore::new(limits.large_in_work),
            in_passing: Semaphore::new(IN_PASSING),
        }
    }

    /// A webhook that asks the core, with the catalog and the options of the moment.
    pub fn with_core(
        catalog: Shared<Catalog>,
        options: Shared<Options>,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Self {
        let (known, asked) = (Arc::clone(&catalog), Arc::clone(&options));
        // Of what was not read yet, nobody knows.
        let requires = move |namespace: &str| {
            let (catalog, options) = (known.load(), asked.load());
            let defaults = catalog.namespace_defaults(namespace);
            options.inheritance == Inheritance::FromNamespace
                && (options.catalog == CatalogState::Unread
                    || defaults.is_some_and(|defaults| !defaults.wishes.requires.is_empty()))
        };
        let memory = Memory::default();
        let answer = move |body: &[u8], policy: Option<&str>| {
            let (catalog, options) = (catalog.load_full(), options.load_full());
            let asked = match policy {
                None => Cow::Borrowed(&*options),
                Some(policy) => Cow::Owned(for_policy(policy, &catalog, &options)?),
            };
            let review = Review::read(body)?;
            if let Some(settled) = review.settled(&catalog, &asked) {
                return Ok(settled.to(&review));
            }
            let question = review.question(policy);
            let decide = || review.decide(&catalog, &asked);
            Ok(memory.response(&question, &catalog, &options, decide)?.to(&review))
        };
        Self { requires: Box::new(requires), ..Self::new(answer, metrics, limits) }
    }

    /// Reads the body and waits for the request's turn. What that keeps is kept until the answer is made.
    async fn receive(&self, request: Request) -> Result<Taken<'_>, Refusal> {
        let body = request.into_body();
        let size = body.size_hint();
        if size.lower() > self.limits.body as u64 {
            return Err(Refusal::TooLarge(self.limits.body));
        }
        let is_large = size.upper().is_none_or(|upper| upper > LARGE);
        let Some(waiting) = self.turns.join() else { return Err(self.refuse(body, is_large).await) };
        let Ok(place) = timeout_at(waiting.until(), self.place(is_large)).await else {
            return Err(self.refuse(body, is_large).await);
        };
        let (place, body) = (place?, self.read(body).await?);
        self.turn(waiting, body, place).await
    }

    async fn place(&self, is_large: bool) -> Result<Place<'_>, Refusal> {
        // First the scarce place: who waits for it must not hold one of the others.
        let large = if is_large { Some(place(&self.large_in_work).await?) } else { None };
        Ok((large, place(&self.in_work).await?))
    }

    async fn turn<'a>(
        &'a self,
        waiting: Waiting<'a>,
        body: Bytes,
        place: Place<'a>,
    ) -> Result<Taken<'a>, Refusal> {
        match waiting.turn().await {
            Some(turn) => Ok((body, place, turn)),
            None => Err(Refusal::Busy(Some(body))),
        }
    }

    /// There is no time for it; a small body is read nevertheless, as its answer depends on it.
    async fn refuse(&self, body: Body, is_large: bool) -> Refusal {
        let read = async {
            let _place = place(&self.in_passing).await.ok()?;
            self.read(body).await.ok()
        };
        match is_large {
            true => Refusal::Busy(None),
            false => Refusal::Busy(timeout(self.limits.wait, read).await.ok().flatten()),
        }
    }

    async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        match Limited::new(body, self.limits.body).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(self.limits.body)),
            Err(_) => Err(Refusal::CutShort),
        }
    }

    /// What is not decided: see [`shed`]. Where a policy's webhook was called, its `failurePolicy` decides.
    fn shed(&self, body: Option<&[u8]>, policy: Option<&str>) -> Response {
        self.metrics.shed();
        tracing::debug!("too busy to decide");
        match body.filter(|_| policy.is_none()).and_then(|body| shed::answer(body, &*self.requires)) {
            Some(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
            None => Refusal::Busy(None).into_response(),
        }
    }

    fn answer(&self, body: &[u8], policy: Option<&str>, begun: Instant) -> Response {
        match (self.review)(body, policy) {
            Ok(Answer { body, facts }) => {
                self.metrics.answered(&facts, begun.elapsed());
                log(&facts);
                ([(CONTENT_TYPE, "application/json")], body).into_response()
            }
            Err(Unanswered::NotReady(reason)) => {
                self.metrics.not_ready();
                tracing::warn!(reason, "not answered");
                (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
            }
            Err(Unanswered::NotAReview(NotAReview { reason })) => {
                self.metrics.not_a_review();
                tracing::debug!(reason, "not a review");
                (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response()
            }
        }
    }
}

/// Why a request is not looked at.
enum Refusal {
    /// There is no time for it; with the body where that was read.
    Busy(Option<Bytes>),
    TooLarge(usize),
    TooSlow,
    CutShort,
    Closing,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::TooLarge(limit) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes\n"))
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time\n".to_owned()),
            Self::CutShort => (StatusCode::BAD_REQUEST, "the body ended too early\n".to_owned()),
            Self::Busy(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "too busy: try again in a moment\n".to_owned())
            }
            Self::Closing => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned()),
        };
        (status, text).into_response()
    }
}

/// `POST /mutate`; a panic is a 500 for its own request only.
pub fn webhook_router(webhook: Arc<Webhook>) -> Router {
    let metrics = Arc::clone(&webhook.metrics);
    let on_panic = move |_| {
        metrics.panicked();
        (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n").into_response()
    };
    Router::new()
        .route("/mutate", post(mutate))
        .route("/mutate/policies/{name}", post(mutate_for_policy))
        .layer(CatchPanicLayer::custom(on_panic))
        .with_state(webhook)
}

async fn mutate(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    answered(&webhook, None, request).await
}

async fn mutate_for_policy(
    State(webhook): State<Arc<Webhook>>,
    Path(policy): Path<String>,
    request: Request,
) -> Response {
    answered(&webhook, Some(&policy), request).await
}

async fn answered(webhook: &Webhook, policy: Option<&str>, request: Request) -> Response {
    let begun = Instant::now();
    match timeout(webhook.limits.request, webhook.receive(request)).await {
        Ok(Ok((body, _place, _turn))) => webhook.answer(&body, policy, begun),
        Ok(Err(Refusal::Busy(body))) => webhook.shed(body.as_deref(), policy),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => Refusal::TooSlow.into_response(),
    }
}

/// What the core is told where the webhook of a policy was called. A policy that is no more has nothing to say; of one that
/// nobody here heard of yet, nobody can say what it says.
fn for_policy(policy: &str, catalog: &Catalog, options: &Options) -> Result<Options, Unanswered> {
    let selection = match catalog.policy(policy) {
        Some(policy) => Selection::Policy(policy.name.clone()),
        None if catalog.is_gone_policy(policy) => Selection::Catalog,
        None if options.catalog == CatalogState::Unread => {
            return Err(Unanswered::NotReady(
                "the cluster is still being read: try again in a moment".into(),
            ));
        }
        None => {
            let name: String = policy.chars().filter(|c| !c.is_control()).take(NAME).collect();
            return Err(Unanswered::NotReady(format!(
                "policy {name} is not known here yet: try again in a moment"
            )));
        }
    };
    Ok(Options { selection, ..options.clone() })
}

async fn place(places: &Semaphore) -> Result<SemaphorePermit<'_>, Refusal> {
    places.acquire().await.map_err(|_| Refusal::Closing)
}

/// Says what happened, in a span of the review. The names come from the request: cut, and escaped by the log's writer.
fn log(facts: &Facts) {
    // Where nobody reads the span, it costs nothing: it is made when all is known, at the level of what is said in it.
    macro_rules! span {
        ($level:expr) => {
            tracing::span!(
                $level,
                "review",
                uid = cut(&facts.uid),
                namespace = cut(&facts.namespace),
                name = cut(&facts.name),
                kind = facts.kind,
                operation = facts.operation,
                outcome = facts.outcome,
                reason = facts.reason,
            )
        };
    }
    match facts.outcome {
        "failed_open" => {
            span!(Level::WARN).in_scope(|| tracing::warn!("left as it came: nothing was injected"));
        }
        _ => span!(Level::DEBUG).in_scope(|| tracing::debug!("answered")),
    }
}

fn cut(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME)).unwrap_or(name)
}
