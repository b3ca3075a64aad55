//! More is asked than there is time for: who is sent away is told so, found afterwards, and gets what was missed.
use crate::{
    delivered::{PASSWORD, READ, has, hears, idle, namespace_with_directory, says},
    installed::Installed,
    trial::trials,
    workload::{Kind, annotation, text},
};
use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt as _;
use hyper::{Request, header::WARNING};
use kube::{Client, client::Body};
use opportune_e2e::{Caller, Reviews, Share, eventually};
use serde_json::Value;
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::ServerName;

/// What the webhook has of a processor, in hundredths.
const LITTLE: u32 = 10;
/// Further containers of each workload that is asked for: to send it away is little beside a decision.
const CONTAINERS: usize = 120;
/// Requests on their way at once: more than there is time for in the second for which anybody waits, and fewer than the 512
/// connections that a webhook takes.
const FLOOD: usize = 300;
/// How long it may take until one is sent away, and until one is found and rolled out.
const SOON: Duration = Duration::from_secs(60);
/// How many workloads lack what their wishes would bring them.
const MISSED: &str = "opportune_workloads_missed";
const SHED: &str = "too busy to add anything";

/// So many connections to the webhook.
async fn callers(installed: &Installed) -> Result<Vec<Caller>> {
    let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
    let bundle = installed.plane.kubectl(&["get", "mutatingwebhookconfiguration", "opportune", "-o", path])?;
    let authority = String::from_utf8(STANDARD.decode(bundle.trim())?)?;
    let mut callers = Vec::new();
    for _ in 0..FLOOD {
        let name = ServerName::try_from("opportune.opportune-system.svc")?;
        callers.push(Caller::connect_to(name, installed.listen(), &authority).await?);
    }
    Ok(callers)
}

/// Asks on all of them as fast as answers come, until it is dropped.
fn flood(callers: Vec<Caller>, reviews: &Reviews) -> JoinSet<()> {
    let mut asking = JoinSet::new();
    for mut caller in callers {
        let reviews = reviews.clone();
        asking.spawn(async move {
            loop {
                // Where the connection breaks, there is one less.
                let Ok(_) = caller.post("/mutate", reviews.another()).await else { return };
            }
        });
    }
    asking
}

/// Creates a Deployment; it as it was stored, and what its author was warned of.
async fn create(client: &Client, object: &Value) -> Result<(Value, String)> {
    let namespace = text(object, "/metadata/namespace");
    let request = Request::post(format!("/apis/apps/v1/namespaces/{namespace}/deployments"))
        .header("content-type", "application/json")
        .body(Body::from(object.to_string().into_bytes()))?;
    let answer = client.send(request).await?;
    let (status, warnings) = (answer.status(), answer.headers().get_all(WARNING).iter());
    let warnings: Vec<String> =
        warnings.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok((serde_json::from_slice(&body)?, warnings.join("\n")))
}

/// Creates workloads until one is sent away.
async fn sent_away(client: &Client, namespace: &str, refresh: &str) -> Result<Value> {
    let number = AtomicUsize::new(0);
    let what = format!("one with refresh {refresh} is sent away");
    eventually(&what, SOON, async || {
        let name = format!("{refresh}-{}", number.fetch_add(1, Ordering::Relaxed));
        let object = idle(Kind::Deployment, namespace, &name, &[("wants", "ldap"), ("refresh", refresh)]);
        let (object, warnings) = create(client, &object).await?;
        ensure!(warnings.contains(SHED), "warned of `{warnings}`, status `{}`", annotation(&object, "status"));
        ensure!(annotation(&object, "status").is_empty(), "sent away, and yet it has a status");
        Ok(Some(object))
    })
    .await
}

async fn who_was_sent_away_is_found_and_gets_what_was_missed() -> Result<()> {
    // First, so that it is dropped last: a group goes when nobody is in it any more.
    let share = Share::new(LITTLE).context("this needs a control group")?;
    let namespace = "busy";
    let installed = Installed::start(&[], &["rollouts=true"], 1).await?;
    let admin = &installed.admin;
    namespace_with_directory(admin, namespace).await?;
    let before = idle(Kind::Deployment, namespace, "before", &[("wants", "ldap")]);
    eventually("one is served before", READ, async || {
        let before = admin.try_out(&before).await?;
        Ok((annotation(&before, "status") == "ldap=busy/openldap").then_some(()))
    })
    .await?;

    let callers = callers(&installed).await?;
    let reviews = Reviews::new(namespace, &[("wants", "ldap")])?.with_containers(CONTAINERS)?;
    share.give(installed.webhook.program.id())?;
    let flood = flood(callers, &reviews);
    let client = installed.plane.client().await?;
    let rollout = sent_away(&client, namespace, "rollout").await?;
    let notify = sent_away(&client, namespace, "notify").await?;
    drop(flood);
    let shed = installed.webhook.metrics()?.sum("opportune_admission_requests_total", &[("outcome", "shed")]);
    ensure!(shed >= 2.0, "only {shed} counted as shed");

    let found = async {
        let after = says(admin, &rollout, "ldap=busy/openldap", SOON).await?;
        has(admin, &after, PASSWORD, "s3cret", READ).await?;
        println!("    one that was sent away: {}", hears(admin, &notify, "Changed", SOON).await?);
        // Those that are told of it are left to their owners.
        eventually("what is told of stays missed", READ, async || {
            Ok((installed.figure(MISSED, &[]) >= 1.0).then_some(()))
        })
        .await
    };
    found.await.with_context(|| installed.complaints().unwrap_or_default())
}

trials![alone who_was_sent_away_is_found_and_gets_what_was_missed];
