//! Credentials on their way: how soon a new password is everywhere, who is told and who rolls out, what a copy holds, and what
//! is never copied.
use crate::{
    admin::Admin,
    delivered::{
        PASSWORD, PROMPT, READ, change_password, content, copies, directory, has, idle, namespace_with_directory, now,
        reader, reference, rollouts, served, told, together, value,
    },
    installed::{Installed, readiness},
    offers::{secret, service},
    trial::trials,
    workload::{Kind, annotation, text},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How soon a copy follows where Secrets are watched.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Rollouts of one namespace come one after the other.
const ROLLED_OUT: Duration = Duration::from_secs(30);
/// How long nothing more may happen.
const QUIET: Duration = Duration::from_secs(20);
/// What a pod template says after a rollout of ours.
const REFRESHED: &str = "/spec/template/metadata/annotations/opportune.libre.sh~1refreshed";

async fn settled(admin: &Admin, object: &Value, variable: &str) -> Result<Value> {
    has(admin, object, variable, "s3cret", PROMPT).await?;
    now(admin, object).await
}

/// What a user sees of a workload: its spec and what we wrote on it. (Kubernetes writes its own, such as the revision.)
fn visible(object: &Value) -> [&Value; 3] {
    let annotations = &object["metadata"]["annotations"];
    [&object["spec"], &annotations["opportune.libre.sh/status"], &annotations["opportune.libre.sh/injected"]]
}

async fn a_watched_password_is_everywhere_at_once(admin: &Admin) -> Result<()> {
    admin.create(&reader("directory", "reader", "s3cret")).await?;
    admin.create(&directory("directory")).await?;
    let mut workloads = Vec::new();
    for number in 0..3 {
        let namespace = format!("reads-{number}");
        admin.namespace(&namespace, &[("inject", "enabled")]).await?;
        for refresh in ["rollout", "notify", "never"] {
            let wishes = [("wants", "ldap"), ("refresh", refresh)];
            workloads.push((refresh, served(admin, &idle(Kind::Deployment, &namespace, refresh, &wishes)).await?));
        }
    }
    for (_, object) in &mut workloads {
        *object = settled(admin, object, PASSWORD).await?;
    }
    change_password(admin, "directory", "reader", "changed").await?;
    let start = Instant::now();
    for (_, object) in &workloads {
        has(admin, object, PASSWORD, "changed", AT_ONCE).await?;
    }
    println!("    3 copies of a watched password follow within {} ms", start.elapsed().as_millis());
    for (refresh, before) in &workloads {
        eventually(&format!("{refresh} in {}", text(before, "/metadata/namespace")), ROLLED_OUT, async || {
            let (object, told) = (now(admin, before).await?, told(admin, before).await?);
            Ok(match *refresh {
                "rollout" => object["spec"] != before["spec"],
                "notify" => !told.is_empty(),
                _ => true,
            }
            .then_some(()))
        })
        .await?;
    }
    // What changes nothing of a credential is no cause.
    let label = json!({"metadata": {"labels": {"team": "a"}}});
    admin.merge("Secret", "directory", "reader", &label).await?;
    tokio::time::sleep(QUIET).await;
    for (refresh, before) in &workloads {
        let (object, told) = (now(admin, before).await?, told(admin, before).await?);
        let rolled = rollouts(admin, before).await?;
        match *refresh {
            "rollout" => {
                ensure!(rolled == 1, "{rolled} rollouts; told {told:?}");
                ensure!(!text(&object, REFRESHED).is_empty(), "{}", object["spec"]["template"]["metadata"]);
            }
            "notify" => {
                ensure!(object["spec"] == before["spec"] && told.len() == 1, "{rolled} rollouts; told {told:?}");
            }
            _ => ensure!(
                visible(&object) == visible(before) && told.is_empty(),
                "{:?} was {:?}; told {told:?}",
                visible(&object),
                visible(before)
            ),
        }
    }
    println!("    notify is told {:?}", told(admin, &workloads[1].1).await?);
    Ok(())
}

async fn a_password_that_is_not_watched_comes_within_half_a_minute(admin: &Admin) -> Result<()> {
    admin.create(&secret("post", "sender", json!({"username": "blog", "password": "s3cret"}))).await?;
    let offer = json!({
        "apiVersion": "opportune.libre.sh/v1alpha1",
        "kind": "ServiceOffer",
        "metadata": {"name": "relay", "namespace": "post"},
        "spec": {
            "intent": "mail",
            "consumers": {"namespaceSelector": {}},
            "settings": {"host": "smtp.example.org", "port": 587, "from": "noreply@example.org"},
            "credentials": {"secretRef": {"name": "sender"}},
        },
    });
    admin.create(&offer).await?;
    let mut workloads = Vec::new();
    for namespace in ["letters", "parcels"] {
        admin.namespace(namespace, &[("inject", "enabled")]).await?;
        let manifest = idle(Kind::StatefulSet, namespace, "web", &[("wants", "mail")]);
        workloads.push(served(admin, &manifest).await?);
    }
    for object in &workloads {
        settled(admin, object, "SMTP_PASSWORD").await?;
    }
    let (status, reason, message) = eventually("the offer says who uses it", READ, async || {
        let offer = now(admin, &offer).await?;
        ensure!(offer["status"]["consumers"] == 2, "{}", offer["status"]);
        Ok(Some(readiness(&offer)))
    })
    .await?;
    println!("    of an offer that is not watched: {status} {reason} {message}");
    ensure!(status == "True" && message.contains("opportune-provider"), "{status} {reason} {message}");
    change_password(admin, "post", "sender", "changed").await?;
    let start = Instant::now();
    for object in &workloads {
        has(admin, object, "SMTP_PASSWORD", "changed", READ).await?;
    }
    println!("    2 copies of one that is not watched follow within {} ms", start.elapsed().as_millis());
    Ok(())
}

async fn composed_values_hold_every_character(admin: &Admin) -> Result<()> {
    let namespace = "composed";
    admin.namespace(namespace, &[("inject", "enabled")]).await?;
    let keys = json!({
        "username": "blog user@example.org",
        "password": "p@:/ %ü€$(HOME)\n",
        "api-key": "not-for-mail",
        "bind-dn": "not-for-mail-either",
    });
    admin.create(&secret(namespace, "sender", keys)).await?;
    let mail = service(namespace, "mail", "mail", 587, "from: noreply@example.org", Some("sender"));
    admin.create(&mail).await?;
    let web = served(admin, &idle(Kind::Deployment, namespace, "web", &[("wants", "mail")])).await?;
    let dsn = "DSN=smtp+auth://[[mail.username|uri]]:[[mail.password|uri]]@[[mail.host]]:[[mail.port]]?from=[[mail.from]]";
    let mapped = idle(Kind::Deployment, namespace, "mapped", &[("wants", "mail"), ("env.mail", dsn)]);
    let mapped = served(admin, &mapped).await?;
    let user = "blog%20user%40example.org";
    let password = "p%40%3A%2F%20%25%C3%BC%E2%82%AC%24%28HOME%29";
    for (object, variable, wanted) in [
        (&web, "SMTP_USERNAME", "blog user@example.org".to_owned()),
        (&web, "SMTP_PASSWORD", "p@:/ %ü€$(HOME)".to_owned()),
        (&web, "SMTP_URL", format!("smtp://{user}:{password}@mail.composed.svc:587")),
        (&mapped, "DSN", format!("smtp+auth://{user}:{password}@mail.composed.svc:587?from=noreply@example.org")),
    ] {
        has(admin, object, variable, &wanted, PROMPT).await?;
    }
    let copies = copies(admin, namespace).await?;
    ensure!(!copies.is_empty());
    for copy in copies {
        for key in copy["data"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let value = content(&copy, key).context("no text")?;
            ensure!(!value.contains("not-for-mail"), "{key} was copied");
        }
    }
    Ok(())
}

/// An offer of an intent of one's own, whose password is in this Secret under this key.
fn custom(namespace: &str, intent: &str, source: &str, key: &str) -> Value {
    json!({
        "apiVersion": "opportune.libre.sh/v1alpha1",
        "kind": "ServiceOffer",
        "metadata": {"name": intent, "namespace": namespace},
        "spec": {
            "intent": intent,
            "settings": {"host": "example.org"},
            "credentials": {"secretRef": {"name": source}, "keys": {"password": key}},
        },
    })
}

async fn secrets_that_are_not_for_apps_are_refused(admin: &Admin) -> Result<()> {
    let namespace = "refused";
    namespace_with_directory(admin, namespace).await?;
    let web = served(admin, &idle(Kind::Deployment, namespace, "web", &[("wants", "ldap")])).await?;
    settled(admin, &web, PASSWORD).await?;
    let ours = reference(&web, PASSWORD).context("not injected")?.0;
    eventually("the namespace has a ServiceAccount", PROMPT, async || {
        admin.get("ServiceAccount", namespace, "default").await.map(Some)
    })
    .await?;
    for (name, type_, key) in [
        ("account", "kubernetes.io/service-account-token", "extra"),
        ("release", "helm.sh/release.v1", "release"),
        ("bootstrap", "bootstrap.kubernetes.io/token", "token-secret"),
    ] {
        let mut source = secret(namespace, name, json!({key: "refused"}));
        source["type"] = type_.into();
        source["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
        admin.create(&source).await?;
        admin.create(&custom(namespace, name, name, key)).await?;
    }
    admin.create(&custom(namespace, "copied", ours, "password")).await?;
    let intents = ["account", "release", "bootstrap", "copied"];
    let taker = idle(Kind::Deployment, namespace, "taker", &[("wants", &intents.join(", "))]);
    let taker = served(admin, &taker).await?;
    let check = async |intent: &str| {
        let offer = eventually(&format!("the offer {intent} is not ready"), READ, async || {
            let offer = admin.get("ServiceOffer", namespace, intent).await?;
            ensure!(readiness(&offer).0 == "False", "{}", offer["status"]);
            Ok(Some(offer))
        })
        .await?;
        println!("    of a Secret that is refused: {:?}", readiness(&offer));
        anyhow::Ok(())
    };
    for intent in intents {
        check(intent).await?;
    }
    let status = eventually("nothing of them is left", Duration::from_secs(60), async || {
        let taker = now(admin, &taker).await?;
        ensure!(!taker["spec"].to_string().contains("secretKeyRef"), "{}", annotation(&taker, "status"));
        Ok(Some(annotation(&taker, "status").to_owned()))
    })
    .await?;
    println!("    who wanted them says {status}");
    let copies = copies(admin, namespace).await?;
    let names: Vec<_> = copies.iter().map(|copy| text(copy, "/metadata/name")).collect();
    ensure!(names == [ours], "something was copied: {names:?}");
    ensure!(value(admin, &web, PASSWORD).await? == "s3cret", "the copy has changed");
    Ok(())
}

async fn credentials_are_copied_as_they_change_and_no_others() -> Result<()> {
    let values = ["providerNamespaces={directory}", "rollouts=true"];
    let installed = Installed::start(&["directory", "post"], &values, 1).await?;
    let admin = &installed.admin;
    let checks = together(vec![
        ("a watched password", Box::pin(a_watched_password_is_everywhere_at_once(admin))),
        ("one that is not watched", Box::pin(a_password_that_is_not_watched_comes_within_half_a_minute(admin))),
        ("composed values", Box::pin(composed_values_hold_every_character(admin))),
        ("refused Secrets", Box::pin(secrets_that_are_not_for_apps_are_refused(admin))),
    ]);
    checks.await.with_context(|| installed.complaints().unwrap_or_default())
}

trials![own credentials_are_copied_as_they_change_and_no_others];
