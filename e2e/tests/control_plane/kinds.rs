//! Workloads besides Deployments and StatefulSets: DaemonSets, Jobs, CronJobs and Pods, where they are switched on.
use crate::{
    admin::Admin,
    delivered::{PROMPT, copies, directory, has, idle, now, owners, reader, says},
    installed::Installed,
    offers::service,
    trial::{Cluster, trials},
    webhook,
    workload::{Kind, annotation, text, variables},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use serde_json::{Value, json};

const KINDS: [&str; 4] = ["DaemonSet", "Job", "CronJob", "Pod"];
const ALL: &str = "kinds={deployments,statefulsets,daemonsets,jobs,cronjobs,pods}";
const WEBHOOKS: [&str; 4] = [
    "wants.opportune.libre.sh",
    "requires.opportune.libre.sh",
    "wants.runs.opportune.libre.sh",
    "requires.runs.opportune.libre.sh",
];
const TEAM: &str = "team";

/// A workload of that kind, as its owner writes it, with these wishes.
fn made(kind: &str, namespace: &str, name: &str, wishes: &[(&str, &str)]) -> Value {
    let mut metadata = json!({"labels": {"app": name}});
    for (key, value) in wishes {
        metadata["annotations"][format!("opportune.libre.sh/{key}")] = (*value).into();
    }
    let containers = json!([{"name": "main", "image": "example.invalid/main:1"}]);
    let pods = json!({"metadata": metadata, "spec": {"restartPolicy": "Never", "containers": containers}});
    let mut object = match kind {
        "DaemonSet" => {
            let template = json!({"metadata": metadata, "spec": {"containers": containers}});
            json!({"spec": {"selector": {"matchLabels": {"app": name}}, "template": template}})
        }
        "Job" => json!({"spec": {"template": pods}}),
        // Nobody waits for its next run.
        "CronJob" => json!({"spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pods}}}}),
        _ => pods,
    };
    object["apiVersion"] = match kind {
        "DaemonSet" => "apps/v1",
        "Pod" => "v1",
        _ => "batch/v1",
    }
    .into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// The object with its pods where a Deployment has them.
fn as_deployment(object: &Value) -> Value {
    let templates = ["/spec/jobTemplate/spec/template", "/spec/template"];
    let pods = templates.into_iter().find_map(|template| object.pointer(template)).unwrap_or(object);
    json!({"metadata": object["metadata"], "spec": {"template": pods}})
}

/// How often each webhook was called.
fn calls(installed: &Installed) -> Result<Vec<u64>> {
    WEBHOOKS.iter().map(|webhook| installed.plane.webhook_calls(webhook)).collect()
}

async fn each_kind_is_injected_delivered_and_told_of() -> Result<()> {
    let installed = Installed::start(&["platform"], &[ALL, "rollouts=true"], 1).await?;
    let admin = installed.admin.clone();
    admin.namespace(TEAM, &[("inject", "enabled")]).await?;
    admin.create(&reader("platform", "reader", "s3cret")).await?;
    admin.create(&directory("platform")).await?;
    let wishes = [("wants", "ldap, mail"), ("refresh", "rollout")];
    let mut all = Vec::new();
    for kind in KINDS {
        let manifest = made(kind, TEAM, &kind.to_lowercase(), &wishes);
        let wanted = "ldap=platform/openldap; mail=absent: no offer";
        eventually(&format!("a {kind} gets what it wants"), PROMPT, async || {
            let object = admin.try_out(&manifest).await?;
            let status = annotation(&object, "status");
            ensure!(status == wanted, "it says {status:?}");
            Ok(Some(()))
        })
        .await
        .with_context(|| installed.complaints().unwrap_or_default())?;
        let object = admin.create(&manifest).await?;
        let pods = as_deployment(&object);
        has(&admin, &pods, "LDAP_BIND_PASSWORD", "s3cret", PROMPT).await.context(kind)?;
        // What its owner applies again changes nothing, and is not refused.
        let again = installed.plane.apply(&manifest.to_string())?;
        ensure!(!again.contains("created"), "{again}");
        ensure!(now(&admin, &object).await?["spec"] == object["spec"], "{kind} was changed by its own manifest");
        all.push(object);
    }
    let everybody = ["CronJob/cronjob", "DaemonSet/daemonset", "Job/job", "Pod/pod"].map(str::to_owned);
    eventually("the copy belongs to all of them", PROMPT, async || {
        let copies = copies(&admin, TEAM).await?;
        let owners = owners(copies.first().context("no copy")?);
        ensure!(owners.iter().eq(everybody.iter()), "it is of {owners:?}");
        Ok(Some(()))
    })
    .await?;
    what_changes_later(&installed, &all).await?;
    what_commands_say(&installed)?;
    who_has_ended_needs_nothing(&admin).await
}

/// A mail server that comes late is used by what makes pods again, and told of to what does not.
async fn what_changes_later(installed: &Installed, all: &[Value]) -> Result<()> {
    let admin = &installed.admin;
    admin.create(&service("platform", "mail", "mail", 587, "from: a@example.org", None)).await?;
    for object in all {
        let words = match text(object, "/kind") {
            "DaemonSet" | "CronJob" => "mail=platform/mail",
            _ => "mail=absent: platform/mail at the next creation",
        };
        let later = says(admin, object, words, PROMPT * 2).await.with_context(|| installed.complaints().unwrap_or_default())?;
        let is_used = !variables(&as_deployment(&later), "SMTP_HOST").is_empty();
        ensure!(is_used == words.ends_with("platform/mail"), "{words}: {}", later["spec"]);
    }
    Ok(())
}

fn what_commands_say(installed: &Installed) -> Result<()> {
    let opportune = installed.plane.opportune_for(&installed.plane.kubeconfig())?;
    let report = opportune.run(&["report", "-n", TEAM, "-o", "csv"])?;
    for kind in KINDS {
        let name = kind.to_lowercase();
        ensure!(report.contains(&format!("{TEAM},{kind},{name},ldap,bound")), "{report}");
        let told = opportune.run(&["explain", &format!("{name}/{name}"), "-n", TEAM])?;
        ensure!(told.contains("LDAP_BIND_PASSWORD from Secret opportune-ldap-openldap-"), "{told}");
        ensure!(!told.contains("would be taken out"), "{told}");
    }
    // Some of what a whole cluster has is not here; the rights and the webhooks are.
    let doctor = opportune.output(&["doctor", "-o", "json"], "")?;
    let findings: Value = serde_json::from_slice(&doctor.stdout)?;
    let findings = findings.as_array().or(findings["findings"].as_array()).context("no findings")?;
    let of = |check: &'static str| findings.iter().filter(move |finding| finding["check"] == check);
    for finding in of("webhooks") {
        ensure!(finding["result"] == "ok", "{finding}");
    }
    let is_whole = |finding: &Value| {
        let what = text(finding, "/what");
        what.starts_with("opportune-controller has the ") && what.ends_with(" rights that it needs")
    };
    ensure!(of("rights").any(is_whole) && of("webhooks").count() > 0, "{findings:?}");
    Ok(())
}

async fn who_has_ended_needs_nothing(admin: &Admin) -> Result<()> {
    let ended = json!({"status": {"phase": "Succeeded"}});
    let pods = admin.api("Pod", TEAM);
    let parameters = kube::api::PatchParams::default();
    pods.patch_status("pod", &parameters, &kube::api::Patch::Merge(&ended)).await?;
    eventually("the copy belongs to a Pod no longer that has ended", PROMPT, async || {
        let copies = copies(admin, TEAM).await?;
        let owners = owners(copies.first().context("no copy")?);
        ensure!(owners.len() == 3 && !owners.contains("Pod/pod"), "it is of {owners:?}");
        Ok(Some(()))
    })
    .await
}

async fn what_others_make_and_what_changes_later_never_reaches_us() -> Result<()> {
    let mut installed = Installed::start(&["platform"], &[ALL], 1).await?;
    let admin = installed.admin.clone();
    admin.namespace(TEAM, &[("inject", "enabled")]).await?;
    admin.create(&reader("platform", "reader", "s3cret")).await?;
    admin.create(&directory("platform")).await?;
    let wishes = [("wants", "ldap")];
    let mut all = Vec::new();
    for kind in KINDS {
        all.push(crate::delivered::served(&admin, &made(kind, TEAM, &kind.to_lowercase(), &wishes)).await?);
    }
    let mut web = idle(Kind::Deployment, TEAM, "web", &wishes);
    web["spec"]["replicas"] = 2.into();
    crate::delivered::served(&admin, &web).await?;
    let before = calls(&installed)?;
    ensure!(before[0] > 0 && before[2] > 0, "nobody called us: {before:?}");

    // The controller-manager makes ReplicaSets, Pods, and a Job by hand has a controller, too.
    installed.plane.kubectl(&["-n", TEAM, "create", "job", "by-hand", "--from=cronjob/cronjob"])?;
    let made = eventually("the pods of a Deployment and two Jobs are there", PROMPT, async || {
        let pods = admin.list("Pod", TEAM).await?;
        Ok((pods.len() == 5).then_some(pods))
    })
    .await?;
    let by_hand = admin.get("Job", TEAM, "by-hand").await?;
    let owned = made.iter().filter(|pod| !owners(pod).is_empty()).chain([&by_hand]);
    let mut count = 0;
    for object in owned.chain(&admin.list("ReplicaSet", TEAM).await?) {
        count += 1;
        // A ReplicaSet has the annotations of its Deployment, and with them ours.
        let is_of_deployment = owners(object).contains("Deployment/web");
        let is_noted = !is_of_deployment && !annotation(object, "status").is_empty();
        ensure!(!is_noted, "{} was seen", text(object, "/metadata/name"));
        let pods = as_deployment(object);
        ensure!(variables(&pods, "LDAP_BIND_PASSWORD").len() == 1, "what its maker has is not in {pods}");
    }
    ensure!(count == 6, "4 pods, a Job and a ReplicaSet, not {count}");
    for object in &all {
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        admin.merge(kind, TEAM, name, &json!({"metadata": {"labels": {"changed": "yes"}}})).await?;
        if ["Job", "Pod"].contains(&kind) {
            let wants = json!({"metadata": {"annotations": {"opportune.libre.sh/wants": "mail"}}});
            admin.merge(kind, TEAM, name, &wants).await?;
        }
    }
    admin.merge("Job", TEAM, "job", &json!({"spec": {"suspend": true}})).await?;
    admin.merge("CronJob", TEAM, "cronjob", &json!({"spec": {"suspend": true}})).await?;
    ensure!(calls(&installed)? == before, "{:?} calls became {:?}", before, calls(&installed)?);
    // Some of them were made before the calls were counted; what is made by others, the program would ignore.
    let ignored = [("outcome", "ignored")];
    let ignored = installed.webhook.metrics()?.sum("opportune_admission_requests_total", &ignored);
    ensure!(ignored == 0.0, "{ignored} calls for what is none of our business");
    refused_and_let_through(&mut installed).await
}

/// What is required is not missed, with the webhook or without; what asks for nothing never waits for us.
async fn refused_and_let_through(installed: &mut Installed) -> Result<()> {
    let admin = installed.admin.clone();
    for kind in KINDS {
        let needy = made(kind, TEAM, "needy", &[("requires", "nothing-of-this-kind")]);
        let refused = admin.create(&needy).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("nothing-of-this-kind is required but absent"), "{kind}: {refused}");
    }
    installed.webhook.program.kill();
    for kind in KINDS {
        let plain = admin.create(&made(kind, TEAM, "plain", &[])).await.context("asks for nothing")?;
        admin.merge(kind, TEAM, "plain", &json!({"metadata": {"annotations": {"a": "b"}}})).await?;
        admin.delete(kind, TEAM, text(&plain, "/metadata/name")).await?;
        admin.create(&made(kind, TEAM, "wishful", &[("wants", "ldap")])).await.context("wants only")?;
        let needy = made(kind, TEAM, "needy", &[("requires", "ldap")]);
        let refused = admin.create(&needy).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("failed calling webhook"), "{kind}: {refused}");
    }
    for kind in ["DaemonSet", "CronJob"] {
        let change = json!({"metadata": {"annotations": {"opportune.libre.sh/requires": "ldap"}}});
        let refused = admin.merge(kind, TEAM, "wishful", &change).await.err();
        let refused = refused.map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("failed calling webhook"), "{kind}: {refused}");
    }
    Ok(())
}

async fn by_default_other_kinds_are_left_alone(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let namespace = webhook::namespace(&cluster, "kinds")?;
    let admin = Admin::of(&cluster).await?;
    for kind in KINDS {
        for wish in ["wants", "requires"] {
            let manifest = made(kind, &namespace, "left", &[(wish, "ldap, nothing-of-this-kind")]);
            let object = admin.try_out(&manifest).await?;
            ensure!(annotation(&object, "status").is_empty(), "{kind} was seen");
            ensure!(variables(&as_deployment(&object), "LDAP_HOST").is_empty(), "{kind} was injected");
        }
    }
    Ok(())
}

trials![
    own each_kind_is_injected_delivered_and_told_of,
    own what_others_make_and_what_changes_later_never_reaches_us,
    shared by_default_other_kinds_are_left_alone,
];
