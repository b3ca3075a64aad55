//! Secrets for many workloads, at once and without loss: also while leaders and the API server come and go.
use crate::{
    admin::Admin,
    delivered::{copies, directory, idle, owners, reader, reference},
    installed::Installed,
    offers::{secret, service},
    trial::trials,
    workload::{Kind, annotation, doubled, text},
};
use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use kube::{api::WatchParams, core::WatchEvent};
use opportune_e2e::eventually;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const NAMESPACES: usize = 50;
const CLIENTS: usize = 8;
const FIRST: usize = 200;
const CROWD: usize = 1000;
/// A Lease is free after 15 s; then a thousand workloads are looked at.
const TAKEN_OVER: Duration = Duration::from_secs(90);
/// Longer than a delivery may fail before it is taken back.
const OUTAGE: Duration = Duration::from_secs(35);

/// When a copy for the workload with this uid was first seen, by uid and the copy's name.
type Seen = Arc<Mutex<HashMap<(String, String), Instant>>>;

/// Notes the owners of all copies as they come.
async fn follow(admin: Admin, seen: Seen) -> Result<()> {
    let secrets = admin.api("Secret", "");
    let mut events = pin!(secrets.watch(&WatchParams::default(), "0").await?);
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(copy) | WatchEvent::Modified(copy)) = event else { continue };
        let name = copy.metadata.name.unwrap_or_default();
        for owner in copy.metadata.owner_references.unwrap_or_default() {
            let mut seen = seen.lock().ok().context("somebody panicked")?;
            seen.entry((owner.uid, name.clone())).or_insert_with(Instant::now);
        }
    }
    Ok(())
}

fn crowd(number: usize) -> Value {
    let kind = if number.is_multiple_of(3) { Kind::StatefulSet } else { Kind::Deployment };
    let namespace = format!("team-{}", number % NAMESPACES);
    idle(kind, &namespace, &format!("app-{number}"), &[("wants", "ldap, mail")])
}

/// Makes the workloads of these numbers by several clients; for each its uid and when that was answered.
async fn create(admin: &Admin, numbers: std::ops::Range<usize>, done: &Arc<AtomicUsize>) -> Result<Vec<(Value, Instant)>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (admin, done, numbers) = (admin.clone(), Arc::clone(done), numbers.clone());
        clients.spawn(async move {
            let mut made = Vec::new();
            for number in numbers.skip(client).step_by(CLIENTS) {
                made.push((admin.create(&crowd(number)).await?, Instant::now()));
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(made)
        });
    }
    let made: Result<Vec<_>> = clients.join_all().await.into_iter().collect();
    Ok(made?.into_iter().flatten().collect())
}

/// How long each workload waited for the last of its copies, in order.
async fn waits(made: &[(Value, Instant)], seen: &Seen) -> Result<Vec<Duration>> {
    eventually("every workload has its copies", Duration::from_secs(30), async || {
        let seen = seen.lock().ok().context("somebody panicked")?;
        let mut waits = Vec::new();
        for (object, answered) in made {
            for variable in ["LDAP_BIND_PASSWORD", "SMTP_PASSWORD"] {
                let (copy, _) = reference(object, variable).context("not injected")?;
                let key = (text(object, "/metadata/uid").to_owned(), copy.to_owned());
                let seen = seen.get(&key).with_context(|| format!("no {copy} for {}", text(object, "/metadata/name")))?;
                waits.push(seen.saturating_duration_since(*answered));
            }
        }
        waits.sort();
        Ok(Some(waits))
    })
    .await
}

fn is_name(name: &str, offer: &str) -> bool {
    let hash = name.strip_prefix(&format!("opportune-{offer}-"));
    hash.is_some_and(|hash| hash.len() == 6 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// An error where a copy is missing, doubled, or not owned by exactly its workloads, or where something was withdrawn.
async fn all_is_delivered(admin: &Admin) -> Result<()> {
    let mut workloads = BTreeMap::<String, BTreeSet<String>>::new();
    for kind in ["Deployment", "StatefulSet"] {
        for object in admin.list(kind, "").await? {
            let (namespace, name) = (text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
            if !namespace.starts_with("team-") {
                continue;
            }
            let status = annotation(&object, "status");
            ensure!(status == "ldap=platform/openldap; mail=platform/mail", "{namespace}/{name} says {status}");
            ensure!(doubled(&object).is_none(), "{namespace}/{name}: {:?}", doubled(&object));
            workloads.entry(namespace.to_owned()).or_default().insert(format!("{kind}/{name}"));
        }
    }
    for (namespace, workloads) in &workloads {
        let copies = copies(admin, namespace).await?;
        ensure!(copies.len() == 2, "{namespace} has {} copies", copies.len());
        for (intent, offer) in [("ldap", "ldap-openldap"), ("mail", "mail-mail")] {
            let copy = copies.iter().find(|copy| is_name(text(copy, "/metadata/name"), offer));
            let copy = copy.with_context(|| format!("{namespace} has no copy of {offer}"))?;
            ensure!(text(copy, "/type") == format!("servicebinding.io/{intent}"), "{}", text(copy, "/type"));
            let owners = owners(copy);
            ensure!(owners == *workloads, "{namespace}: {intent} is of {owners:?}, not of {workloads:?}");
        }
    }
    Ok(())
}

async fn offer_to_all(admin: &Admin) -> Result<()> {
    admin.create(&reader("platform", "reader", "s3cret")).await?;
    admin.create(&secret("platform", "sender", json!({"username": "blog", "password": "s3cret"}))).await?;
    admin.create(&directory("platform")).await?;
    admin.create(&service("platform", "mail", "mail", 587, "from: a@example.org", Some("sender"))).await?;
    for number in 0..NAMESPACES {
        admin.namespace(&format!("team-{number}"), &[("inject", "enabled")]).await?;
    }
    Ok(())
}

async fn a_killed_leader_and_an_api_server_that_is_away_lose_none_of_a_thousand_workloads() -> Result<()> {
    let mut installed = Installed::start(&["platform"], &[], 2).await?;
    let admin = installed.admin.clone();
    offer_to_all(&admin).await?;
    let (seen, done) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let follower = tokio::spawn(follow(admin.clone(), Arc::clone(&seen)));

    let made = create(&admin, 0..FIRST, &done).await?;
    let waits = waits(&made, &seen).await.with_context(|| installed.complaints().unwrap_or_default())?;
    let part = |per_cent: usize| waits[(waits.len() - 1) * per_cent / 100].as_millis();
    println!("    {FIRST} workloads: a copy is there after {} ms (p50), {} ms (p99)", part(50), part(99));
    follower.abort();

    let begun = Instant::now();
    let crowd = tokio::spawn({
        let (admin, done) = (admin.clone(), Arc::clone(&done));
        async move { create(&admin, FIRST..FIRST + CROWD, &done).await }
    });
    eventually("half of them are there", Duration::from_secs(120), async || {
        Ok((done.load(Ordering::Relaxed) > FIRST + CROWD / 2).then_some(()))
    })
    .await?;
    installed.controllers.remove(0).program.kill();
    let killed = Instant::now();
    crowd.await??;
    println!("    {CROWD} workloads are made in {} ms, the leader killed amid", begun.elapsed().as_millis());
    eventually("all is delivered", TAKEN_OVER, async || Ok(Some(all_is_delivered(&admin).await?)))
        .await
        .with_context(|| installed.complaints().unwrap_or_default())?;
    println!("    all is delivered {} ms after the leader was killed", killed.elapsed().as_millis());
    the_api_server_is_away(&installed).await.with_context(|| installed.complaints().unwrap_or_default())
}

/// Kills the API server after workloads came, and starts it later than a delivery may fail: nothing was tried in that time.
async fn the_api_server_is_away(installed: &Installed) -> Result<()> {
    let admin = &installed.admin;
    create(admin, FIRST + CROWD..FIRST + CROWD + FIRST, &Arc::default()).await?;
    installed.plane.stop_api_server();
    tokio::time::sleep(OUTAGE).await;
    installed.plane.start_api_server()?;
    let start = Instant::now();
    eventually("all is delivered", TAKEN_OVER, async || Ok(Some(all_is_delivered(admin).await?))).await?;
    println!("    all is delivered {} ms after the API server came back", start.elapsed().as_millis());
    Ok(())
}

trials![
    patient a_killed_leader_and_an_api_server_that_is_away_lose_none_of_a_thousand_workloads,
];
