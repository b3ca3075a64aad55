//! Attacks by what is written on workloads, and by objects that lie where ours will be.
use crate::{
    attacks::{ABSENT, PLANTED, Scene, offer},
    delivered::{Check, GIVEN_UP, PROMPT, READ, directory, has, hears, idle, now, says, served, watched},
    offers::{secret, storage_class},
    person::{DEPLOYMENTS, binding, keyed, place},
    workload::{Kind, annotation, text},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use serde_json::{Value, json};

pub fn all(scene: &Scene) -> Vec<(&'static str, Check<'_>)> {
    vec![
        ("14: a workload with a forged record", Box::pin(creating_with_a_forged_record(scene))),
        ("15: a forged record that nobody looks at", Box::pin(creating_where_nobody_is_asked(scene))),
        ("16: a forged record beside a slip", Box::pin(failing_open_with_a_forged_record(scene))),
        ("17: a record written later", Box::pin(writing_a_record(scene))),
        ("18: a record that waits for others' credentials", Box::pin(listening_to_a_secret(scene))),
        ("19: a Secret where a copy will be", Box::pin(lying_in_wait_as_a_secret(scene))),
        ("20: a claim where ours will be", Box::pin(lying_in_wait_as_a_claim(scene))),
        ("21: a record that takes out", Box::pin(removing_by_a_record(scene))),
    ]
}

/// A cluster in which the offer of this name in `finance` is for everybody.
fn a_better_world(name: &str) -> [Value; 2] {
    let labels = json!({"opportune.libre.sh/provider": "true"});
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "finance", "labels": labels}}),
        offer("finance", name, Some("ledger"), json!({"namespaceSelector": {}})),
    ]
}

/// A workload that has the offer of this name, by its record.
fn forged(scene: &Scene, namespace: &str, name: &str, offer: &str) -> Result<Value> {
    let wishes = [("wants", "cache"), ("use.cache", &format!("finance/{offer}"))];
    let forged = scene.forged(&idle(Kind::Deployment, namespace, name, &wishes), &a_better_world(offer))?;
    ensure!(forged["spec"].to_string().contains("secretKeyRef"), "{}", forged["spec"]);
    Ok(forged)
}

fn refers(object: &Value) -> bool {
    object["spec"]["template"].to_string().contains("secretKeyRef")
}

async fn creating_with_a_forged_record(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("forger").await?;
    let mut said = Vec::new();
    for offer in ["ledger", "nothing"] {
        let object =
            scene.mallory.create(DEPLOYMENTS, &forged(scene, &tenant, offer, offer)?).await?.object()?;
        ensure!(!refers(&object), "the reference stayed: {}", annotation(&object, "injected"));
        said.push(annotation(&object, "status").replace(offer, "IT"));
    }
    ensure!(said[0] == said[1] && said[0].starts_with("cache=absent"), "{said:?}");
    scene.has_nothing(&tenant).await
}

/// Injection is off here, so the webhook is not asked; the controller sees the workload all the same.
async fn creating_where_nobody_is_asked(scene: &Scene) -> Result<()> {
    scene.admin.namespace("asleep", &[]).await?;
    scene.admin.create(&binding("asleep", "edit", "mallory")).await?;
    let mut said = Vec::new();
    for offer in ["ledger", "nothing"] {
        let object = forged(scene, "asleep", offer, offer)?;
        let made = eventually("mallory may make it", PROMPT, async || {
            Ok(Some(scene.mallory.create(DEPLOYMENTS, &object).await?).filter(|answer| answer.code != 403))
        })
        .await?
        .object()?;
        ensure!(refers(&made), "nothing was forged");
        said.push(made);
    }
    let mut notes = Vec::new();
    for (offer, made) in ["ledger", "nothing"].iter().zip(&said) {
        notes.push(hears(&scene.admin, made, "Withdrawn", GIVEN_UP).await?.replace(offer, "IT"));
        ensure!(!refers(&now(&scene.admin, made).await?), "the reference stayed");
    }
    ensure!(notes[0] == notes[1], "it can be told apart: {notes:?}");
    println!("    who has a forged record is told {:?}", notes[0]);
    scene.has_nothing("asleep").await
}

/// What can't be read is left as it came, with its record, and corrected later. A record that no decision wrote says nothing of what
/// was in use: or it would tell what there is in other namespaces.
async fn failing_open_with_a_forged_record(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("slip").await?;
    let mut said = Vec::new();
    for offer in ["ledger", "nothing"] {
        let mut object = forged(scene, &tenant, offer, offer)?;
        object["spec"]["template"]["metadata"]["annotations"]["opportune.libre.sh/storage"] =
            "no path".into();
        let answer = scene.mallory.create(DEPLOYMENTS, &object).await?;
        ensure!(
            answer.warnings.iter().any(|warning| warning.contains("not injected")),
            "{:?}",
            answer.warnings
        );
        let path = place(DEPLOYMENTS, &tenant, offer);
        answer.object()?;
        let corrected = json!({"spec": {"template": keyed("annotations", "storage", Value::Null)}});
        let object = eventually("the slip is corrected", PROMPT, async || {
            let answer = scene.mallory.ask("patch", &path, &corrected).await?;
            Ok(Some(answer).filter(|answer| answer.code != 409))
        })
        .await?
        .object()?;
        said.push(annotation(&object, "status").replace(offer, "IT"));
    }
    ensure!(said[0] == said[1], "it can be told apart: {said:?}");
    scene.has_nothing(&tenant).await
}

/// `injected` and `status` come back as they were, whatever field manager somebody takes.
async fn writing_a_record(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("scribe").await?;
    let made = scene.wishes(&tenant, "app", &[("wants", "cache")]).await?.object()?;
    let forged = forged(scene, &tenant, "app", "ledger")?;
    let path = place(DEPLOYMENTS, &tenant, "app");
    let record = annotation(&forged, "injected");
    for verb in ["patch", "patch by opportune", "apply by opportune"] {
        for (key, value) in [("injected", record), ("status", "cache=finance/ledger")] {
            let mut change = keyed("annotations", key, value);
            if verb.starts_with("apply") {
                change["apiVersion"] = "apps/v1".into();
                change["kind"] = "Deployment".into();
            }
            let object = scene.mallory.ask(verb, &path, &change).await?.object()?;
            for key in ["injected", "status"] {
                ensure!(
                    annotation(&object, key) == annotation(&made, key),
                    "{verb}: {}",
                    annotation(&object, key)
                );
            }
        }
    }
    // With the references, too: what there is elsewhere, and what there is not.
    let (mut whole, mut said) = (Value::Null, Vec::new());
    for offer in ["ledger", "nothing"] {
        let name = format!("whole-{offer}");
        let use_ = format!("finance/{offer}");
        scene.wishes(&tenant, &name, &[("wants", "cache"), ("use.cache", &use_)]).await?.object()?;
        let other = self::forged(scene, &tenant, &name, offer)?;
        whole = json!({
            "metadata": {"annotations": other["metadata"]["annotations"]},
            "spec": {"template": other["spec"]["template"]},
        });
        let object =
            scene.mallory.ask("patch", &place(DEPLOYMENTS, &tenant, &name), &whole).await?.object()?;
        ensure!(!refers(&object), "the reference stayed");
        said.push(annotation(&object, "status").replace(offer, "IT"));
    }
    ensure!(said[0] == said[1] && said[0].starts_with("cache=absent"), "it can be told apart: {said:?}");
    let controller = "patch as system:serviceaccount:opportune-system:opportune-controller";
    scene.mallory.ask(controller, &path, &whole).await?.refused("cannot impersonate")?;
    scene.has_nothing(&tenant).await
}

/// A record says what was withdrawn, and it is tried again when the credentials of that offer change: of others' offers nobody may hear.
async fn listening_to_a_secret(scene: &Scene) -> Result<()> {
    scene.admin.namespace("ear", &[]).await?;
    scene.admin.create(&binding("ear", "edit", "mallory")).await?;
    watched(&scene.admin, "finance").await?;
    let record = json!({"v": 1, "wishes": "", "added": {}, "withdrawn": {"cache": {
        "offer": "ServiceOffer/finance/ledger", "print": "00000000", "reason": "forged",
    }}});
    let mut ear = idle(Kind::Deployment, "ear", "app", &[("wants", "cache")]);
    ear["metadata"]["annotations"]["opportune.libre.sh/injected"] = record.to_string().into();
    let ear = eventually("mallory may make it", PROMPT, async || {
        Ok(Some(scene.mallory.create(DEPLOYMENTS, &ear).await?).filter(|answer| answer.code != 403))
    })
    .await?
    .object()?;
    let owners =
        served(&scene.admin, &idle(Kind::Deployment, "finance", "app", &[("wants", "cache")])).await?;
    has(&scene.admin, &owners, "CACHE_PASSWORD", &format!("{PLANTED}ledger"), PROMPT).await?;
    let marked = json!({"metadata": {"labels": {"seen": "yes"}}});
    let ear = scene
        .mallory
        .ask("patch", &place(DEPLOYMENTS, "ear", text(&ear, "/metadata/name")), &marked)
        .await?
        .object()?;
    for turn in ["first", "second"] {
        let password = format!("{PLANTED}{turn}");
        scene
            .admin
            .merge("Secret", "finance", "ledger", &json!({"stringData": {"password": password}}))
            .await?;
        has(&scene.admin, &owners, "CACHE_PASSWORD", &password, READ).await?;
    }
    let heard = now(&scene.admin, &ear).await?;
    ensure!(
        annotation(&heard, "injected") == annotation(&ear, "injected"),
        "it heard: {}",
        annotation(&heard, "injected")
    );
    let offer = scene.admin.get("ServiceOffer", "finance", "ledger").await?;
    ensure!(offer["status"]["consumers"] == 1, "who only says so counts: {}", offer["status"]);
    scene.has_nothing("ear").await
}

/// A Secret of somebody else under the name of a copy is neither overwritten, nor used for long, nor deleted.
async fn lying_in_wait_as_a_secret(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("reused").await?;
    let app = idle(Kind::Deployment, &tenant, "app", &[("wants", "ldap")]);
    let provider = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "directory", "labels": {"opportune.libre.sh/provider": "true"},
    }});
    let forged = scene.forged(&app, &[provider, directory("directory")])?;
    let env = forged["spec"]["template"]["spec"]["containers"][0]["env"].as_array().context("no env")?;
    let name =
        env.iter().map(|entry| text(entry, "/valueFrom/secretKeyRef/name")).find(|name| !name.is_empty());
    let name = name.context("no Secret is named")?;
    let mut squatter = secret(&tenant, name, json!({"bind-dn": "mine", "password": "mine"}));
    squatter["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "opportune"});
    let squatter = scene.mallory.create("secrets", &squatter).await?.object()?;
    let app = served(&scene.admin, &app).await?;
    let note = hears(&scene.admin, &app, "Conflict", READ).await?;
    ensure!(note.contains("not ours"), "{note}");
    let app = says(&scene.admin, &app, "withdrawn: conflict", GIVEN_UP).await?;
    ensure!(!refers(&app), "it still names the Secret");
    scene.mallory.ask("delete", &place(DEPLOYMENTS, &tenant, "app"), &Value::Null).await?.object()?;
    eventually("the workload is gone", PROMPT, async || {
        Ok(scene.admin.find("Deployment", &tenant, "app").await?.is_none().then_some(()))
    })
    .await?;
    let left = scene.admin.get("Secret", &tenant, name).await?;
    ensure!(
        left["data"] == squatter["data"] && left["metadata"]["ownerReferences"].is_null(),
        "{}",
        left["metadata"]
    );
    Ok(())
}

/// A claim of somebody else under the name of ours is not used, and does not go with the workload.
async fn lying_in_wait_as_a_claim(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("disk").await?;
    let wishes = [("wants", "storage"), ("storage", "/data=1Gi"), ("retain", "false")];
    let app = idle(Kind::Deployment, &tenant, "app", &wishes);
    let forged = scene.forged(&app, &[storage_class("files", "rook-ceph.cephfs.csi.ceph.com")])?;
    let volumes = forged["spec"]["template"]["spec"]["volumes"].as_array().context("no volumes")?;
    let name = volumes
        .iter()
        .map(|volume| text(volume, "/persistentVolumeClaim/claimName"))
        .find(|name| !name.is_empty());
    let name = name.context("no claim is named")?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": tenant, "labels": {"app.kubernetes.io/managed-by": "opportune"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    scene.mallory.create("persistentvolumeclaims", &claim).await?.object()?;
    let app = served(&scene.admin, &app).await?;
    let app = says(&scene.admin, &app, "conflict", GIVEN_UP).await?;
    ensure!(!app["spec"].to_string().contains(name), "it is still mounted");
    let claim = scene.admin.get("PersistentVolumeClaim", &tenant, name).await?;
    ensure!(claim["metadata"]["ownerReferences"].is_null(), "{}", claim["metadata"]);
    Ok(())
}

/// A record takes out nothing but what it describes exactly, in its own workload.
async fn removing_by_a_record(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("eraser").await?;
    let record = json!({"v": 1, "wishes": "", "added": {"cache": {
        "env/web/OWN": "00000000", "volume/data": "00000000", "pod/serviceAccountName": "00000000", "env/other/OWN": "00000000",
    }}});
    let mut app = idle(Kind::Deployment, &tenant, "app", &[("wants", "cache")]);
    app["metadata"]["annotations"]["opportune.libre.sh/injected"] = record.to_string().into();
    app["spec"]["template"]["spec"]["serviceAccountName"] = "default".into();
    app["spec"]["template"]["spec"]["volumes"] = json!([{"name": "data", "secret": {"secretName": "own"}}]);
    let made = scene.mallory.create(DEPLOYMENTS, &app).await?.object()?;
    let spec = &made["spec"]["template"]["spec"];
    ensure!(spec["containers"][0]["env"] == json!([{"name": "OWN", "value": "mine"}]), "{spec}");
    ensure!(
        spec["serviceAccountName"] == "default" && spec["volumes"][0]["secret"]["secretName"] == "own",
        "{spec}"
    );
    ensure!(annotation(&made, "status") == ABSENT, "{}", annotation(&made, "status"));
    // What is no record at all, or too much of one, is none.
    for (name, text) in
        [("deep", "[".repeat(50_000)), ("long", format!(r#"{{"v":1,"wishes":"{}"}}"#, "x".repeat(150_000)))]
    {
        app["metadata"]["name"] = name.into();
        app["metadata"]["annotations"]["opportune.libre.sh/injected"] = text.into();
        let answer = scene.mallory.create(DEPLOYMENTS, &app).await?;
        ensure!(
            answer.warnings.iter().any(|warning| warning.contains("can't be read")),
            "{name}: {:?}",
            answer.warnings
        );
        ensure!(annotation(&answer.object()?, "status") == ABSENT, "{name}");
    }
    Ok(())
}
