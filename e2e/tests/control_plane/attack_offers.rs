//! Attacks by offers: what is offered, by whom, and to whom.
use crate::{
    attacks::{ABSENT, PLANTED, Scene, offer, planted},
    delivered::{Check, PASSWORD, PROMPT, READ, copies, has, idle, now, served, value},
    installed::{SYSTEM, readiness},
    offers::service,
    person::{OFFERS, Person, binding, extra, keyed, place},
    workload::{Kind, annotation, text},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use serde_json::{Value, json};

pub fn all(scene: &Scene) -> Vec<(&'static str, Check<'_>)> {
    vec![
        ("1: another namespace's offer by name", Box::pin(naming_an_offer_of_others(scene))),
        ("2: names that are paths", Box::pin(naming_an_offer_by_a_path(scene))),
        ("3: a ServiceOffer of another namespace's Secret", Box::pin(offering_a_secret_of_others(scene))),
        ("4: a Service with another namespace's Secret", Box::pin(marking_with_a_secret_of_others(scene))),
        ("5: a Secret that one may not read", Box::pin(offering_what_one_may_not_read(scene))),
        ("6: Secrets that are for no app", Box::pin(offering_what_is_for_no_app(scene))),
        ("7: a copy offered on", Box::pin(offering_a_copy_on(scene))),
        ("8: a provider by oneself", Box::pin(becoming_a_provider(scene))),
        ("9: another namespace's name", Box::pin(posing_as_a_consumer(scene))),
        ("10: advertising to others", Box::pin(advertising_to_others(scene))),
        ("11: more than a provider provides", Box::pin(providing_more(scene))),
        ("12: a consumer's copy changed", Box::pin(changing_a_copy(scene))),
        ("13: two offers with one delivered name", Box::pin(sharing_a_delivered_name(scene))),
    ]
}

/// That there is something elsewhere, and that there is nothing, is said in the same words.
async fn naming_an_offer_of_others(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("names").await?;
    let mut said = Vec::new();
    for (name, wish) in [("there", "finance/ledger"), ("not-there", "finance/nothing")] {
        let object =
            scene.wishes(&tenant, name, &[("wants", "cache"), ("use.cache", wish)]).await?.object()?;
        said.push(annotation(&object, "status").replace(wish, "IT"));
        let refused = scene.wishes(&tenant, "must", &[("requires", "cache"), ("use.cache", wish)]).await?;
        refused.refused("cache")?;
        said.push(refused.message().replace(wish, "IT"));
    }
    ensure!(said[..2] == said[2..] && said[0].starts_with("cache=absent"), "{said:?}");
    scene.has_nothing(&tenant).await
}

async fn naming_an_offer_by_a_path(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("paths").await?;
    let names = [
        "kube-system/x",
        "../finance/ledger",
        "finance/../finance/ledger",
        "finance/ledger/x",
        "/",
        "..",
        "finance/%6cedger",
    ];
    for (number, wish) in names.iter().enumerate() {
        let name = format!("app-{number}");
        let answer = scene.wishes(&tenant, &name, &[("wants", "cache"), ("use.cache", wish)]).await?;
        let is_warned = !answer.warnings.is_empty();
        let object = answer.object()?;
        let status = annotation(&object, "status");
        ensure!(status.starts_with("cache=absent") || (status.is_empty() && is_warned), "{wish}: {status:?}");
        ensure!(
            object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().map(Vec::len) == Some(1),
            "{wish}"
        );
    }
    scene.has_nothing(&tenant).await
}

async fn offering_a_secret_of_others(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("borrower").await?;
    for name in [
        "finance/ledger",
        "../finance/ledger",
        "../../finance/secrets/ledger",
        "..",
        "ledger?watch=1",
        "ledger#",
        "%2e%2e",
        "ledger\n",
    ] {
        let answer = scene.mallory.create(OFFERS, &offer(&tenant, "mine", Some(name), Value::Null)).await?;
        ensure!(answer.code == 422, "{name:?}: {} {}", answer.code, answer.message());
    }
    let mut elsewhere = offer("finance", "mine", Some("ledger"), json!({"namespaceSelector": {}}));
    scene.mallory.create(OFFERS, &elsewhere).await?.refused("cannot create")?;
    // A namespace beside the Secret's name is no field.
    elsewhere["metadata"]["namespace"] = tenant.as_str().into();
    elsewhere["spec"]["credentials"]["secretRef"]["namespace"] = "finance".into();
    let made = scene.mallory.create(OFFERS, &elsewhere).await?;
    ensure!(
        !made.is_fine() || made.body["spec"]["credentials"]["secretRef"].get("namespace").is_none(),
        "{}",
        made.body
    );
    scene.has_nothing(&tenant).await
}

async fn marking_with_a_secret_of_others(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("marker").await?;
    for (number, name) in
        ["finance/ledger", "../finance/ledger", "../../finance/secrets/ledger", ".."].iter().enumerate()
    {
        let (marked, app) = (format!("cache-{number}"), format!("app-{number}"));
        let object = service(&tenant, &marked, "cache", 6379, "", Some(name));
        if !scene.mallory.create("services", &object).await?.is_fine() {
            continue;
        }
        let wishes = [("wants", "cache"), ("use.cache", marked.as_str())];
        let said = eventually("the offer is known, and can't be used", PROMPT, async || {
            let object = scene.admin.try_out(&idle(Kind::Deployment, &tenant, &app, &wishes)).await?;
            Ok(Some(annotation(&object, "status").to_owned()).filter(|status| status.contains("incomplete")))
        })
        .await?;
        ensure!(said.contains("name of a Secret in the same namespace"), "{name}: {said}");
    }
    scene.has_nothing(&tenant).await
}

async fn offering_what_one_may_not_read(scene: &Scene) -> Result<()> {
    let (admin, unreadable) = (&scene.admin, "may not read");
    admin.namespace("kiosk", &[("inject", "enabled")]).await?;
    admin.create(&planted("kiosk", "private")).await?;
    for role in ["opportune-app-developer", "opportune-service-owner"] {
        admin.create(&binding("kiosk", role, "trudy")).await?;
    }
    for object in extra("services/trudy", "kiosk", &["services", "services/status"], &["*"], &[])? {
        admin.create(&object).await?;
    }
    let trudy = Person::of(scene.plane(), "trudy").await?;
    let named = service("kiosk", "new", "cache", 6379, "", Some("private"));
    let mut bare = service("kiosk", "bare", "cache", 6379, "", None);
    bare["metadata"]["labels"] = Value::Null;
    let (services, bare_path) = (place("services", "kiosk", ""), place("services", "kiosk", "bare"));
    eventually("trudy may make a Service", PROMPT, async || {
        Ok(trudy.ask("create", &services, &bare).await?.is_fine().then_some(()))
    })
    .await?;
    let names = || keyed("annotations", "credentials", "private");
    trudy.ask("create", &services, &named).await?.refused(unreadable)?;
    trudy.ask("apply", &place("services", "kiosk", "new"), &named).await?.refused(unreadable)?;
    trudy.ask("patch", &bare_path, &names()).await?.refused(unreadable)?;
    trudy.ask("patch", &format!("{bare_path}/status"), &names()).await?.refused(unreadable)?;
    // The label first, then the annotation; by each way of writing.
    trudy.ask("patch", &bare_path, &keyed("labels", "offers", "cache")).await?.object()?;
    trudy.ask("patch", &bare_path, &names()).await?.refused(unreadable)?;
    trudy
        .ask("apply", &bare_path, &service("kiosk", "bare", "cache", 6379, "", Some("private")))
        .await?
        .refused(unreadable)?;
    let mut whole = trudy.ask("get", &bare_path, &Value::Null).await?.object()?;
    whole["metadata"]["annotations"]["opportune.libre.sh/credentials"] = "\t private \n".into();
    trudy.ask("replace", &bare_path, &whole).await?.refused(unreadable)?;
    trudy.create(OFFERS, &offer("kiosk", "new", Some("private"), Value::Null)).await?.refused(unreadable)?;
    trudy.create(OFFERS, &offer("kiosk", "bare", None, Value::Null)).await?.object()?;
    let later = json!({"spec": {"credentials": {"secretRef": {"name": "private"}}}});
    trudy.ask("patch", &place(OFFERS, "kiosk", "bare"), &later).await?.refused(unreadable)?;
    trudy.ask("patch", &place(OFFERS, "kiosk", "bare/status"), &later).await?.refused("cannot patch")?;
    // What its owner offered to the own namespace can't be widened by who may not read it.
    let mut owned = service("kiosk", "owned", "cache", 6379, "", Some("private"));
    owned["metadata"]["annotations"]["opportune.libre.sh/consumers"] = "".into();
    admin.create(&owned).await?;
    trudy
        .ask("patch", &place("services", "kiosk", "owned"), &keyed("annotations", "consumers", "*"))
        .await?
        .refused(unreadable)?;
    ensure!(copies(admin, "kiosk").await?.is_empty());
    Ok(())
}

async fn offering_what_is_for_no_app(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("hoarder").await?;
    // A token of a ServiceAccount that is not there yet is deleted.
    eventually("there is a ServiceAccount", READ, async || {
        scene.admin.get("ServiceAccount", &tenant, "default").await.map(Some)
    })
    .await?;
    let types =
        ["kubernetes.io/service-account-token", "helm.sh/release.v1", "bootstrap.kubernetes.io/token"];
    for (number, type_) in types.iter().enumerate() {
        let name = format!("source-{number}");
        let mut source = planted(&tenant, &name);
        source["stringData"]["password"] = "not-for-apps".into();
        source["type"] = (*type_).into();
        source["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
        scene.mallory.create("secrets", &source).await?.object()?;
        scene.mallory.create(OFFERS, &offer(&tenant, &name, Some(&name), Value::Null)).await?.object()?;
        scene.wishes(&tenant, &name, &[("wants", "cache"), ("use.cache", &name)]).await?.object()?;
    }
    // Not even the administrator hands out the authority.
    scene
        .admin
        .create(&offer(SYSTEM, "authority", Some("opportune-ca"), json!({"namespaceSelector": {}})))
        .await?;
    for (namespace, name) in
        [(tenant.as_str(), "source-0"), (&tenant, "source-1"), (&tenant, "source-2"), (SYSTEM, "authority")]
    {
        let (_, reason, _) = eventually(&format!("{name} is refused"), READ, async || {
            let offer = scene.admin.get("ServiceOffer", namespace, name).await?;
            Ok(Some(readiness(&offer)).filter(|(status, ..)| status == "False"))
        })
        .await?;
        ensure!(reason == "CredentialsRefused", "{name}: {reason}");
    }
    ensure!(copies(&scene.admin, &tenant).await?.is_empty(), "something was copied");
    Ok(())
}

/// Who was given a copy may read it, and so pass it on by hand; not by us.
async fn offering_a_copy_on(scene: &Scene) -> Result<()> {
    let consented = scene.tenant("consented").await?;
    let app = served(&scene.admin, &idle(Kind::Deployment, &consented, "app", &[("wants", "ldap")])).await?;
    has(&scene.admin, &app, PASSWORD, &format!("{PLANTED}reader"), PROMPT).await?;
    let all = copies(&scene.admin, &consented).await?;
    let copy = text(all.first().context("no copy")?, "/metadata/name");
    let everybody = json!({"namespaceSelector": {}});
    scene.mallory.create(OFFERS, &offer(&consented, "passed-on", Some(copy), everybody)).await?.object()?;
    let marked = service(&consented, "marked", "cache", 6379, "", Some(copy));
    scene.mallory.create("services", &marked).await?.object()?;
    let (_, reason, message) = eventually("it is refused", READ, async || {
        let offer = scene.admin.get("ServiceOffer", &consented, "passed-on").await?;
        Ok(Some(readiness(&offer)).filter(|(status, ..)| status == "False"))
    })
    .await?;
    ensure!(reason == "CredentialsRefused" && message.contains("Opportune itself"), "{reason} {message}");
    let elsewhere = scene.tenant("fence").await?;
    let object = scene.wishes(&elsewhere, "app", &[("wants", "cache")]).await?.object()?;
    ensure!(annotation(&object, "status") == ABSENT, "{}", annotation(&object, "status"));
    scene.has_nothing(&elsewhere).await
}

async fn becoming_a_provider(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("upstart").await?;
    let (path, label) = (place("namespaces", "", &tenant), || keyed("labels", "provider", "true"));
    scene.mallory.ask("patch", &path, &label()).await?.refused("cannot patch")?;
    let mut object = scene.admin.get("Namespace", "", &tenant).await?;
    object["metadata"]["labels"]["opportune.libre.sh/provider"] = "true".into();
    scene.mallory.ask("replace", &path, &object).await?.refused("cannot update")?;
    // Where tenants may change their own Namespace, the guard holds: by each way of writing.
    let resources = ["namespaces", "namespaces/status", "namespaces/finalize"];
    for object in extra("own-namespace/mallory", &tenant, &resources, &["get", "patch", "update"], &[])? {
        scene.admin.create(&object).await?;
    }
    eventually("mallory may change her Namespace", PROMPT, async || {
        let harmless = json!({"metadata": {"labels": {"team": "m"}}});
        Ok(scene.mallory.ask("patch", &path, &harmless).await?.is_fine().then_some(()))
    })
    .await?;
    let guarded = "the platform team's";
    scene.mallory.ask("patch", &path, &label()).await?.refused(guarded)?;
    scene.mallory.ask("patch", &format!("{path}/status"), &label()).await?.refused(guarded)?;
    scene.mallory.ask("patch", &path, &keyed("annotations", "provides", "cache")).await?.refused(guarded)?;
    let mut object = scene.admin.get("Namespace", "", &tenant).await?;
    object["metadata"]["labels"]["opportune.libre.sh/provider"] = "true".into();
    scene.mallory.ask("replace", &path, &object).await?.refused(guarded)?;
    scene.mallory.ask("replace", &format!("{path}/finalize"), &object).await?.refused(guarded)?;
    let applied = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant, "labels": label()["metadata"]["labels"]}});
    scene.mallory.ask("apply", &path, &applied).await?.refused(guarded)
}

/// Consumers are selected by a label that nobody can forge, also by who may change the Namespace.
async fn posing_as_a_consumer(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("poser").await?;
    let path = place("namespaces", "", &tenant);
    for object in extra("own-namespace/mallory", &tenant, &["namespaces"], &["get", "patch", "update"], &[])?
    {
        scene.admin.create(&object).await?;
    }
    let name =
        |name: &str| json!({"metadata": {"labels": {"kubernetes.io/metadata.name": name, "team": "m"}}});
    let answer = eventually("mallory may change her Namespace", PROMPT, async || {
        Ok(Some(scene.mallory.ask("patch", &path, &name("consented")).await?)
            .filter(|answer| answer.code != 403))
    })
    .await?;
    println!("    who calls a Namespace by another's name hears: {} {}", answer.code, answer.message());
    let namespace = scene.admin.get("Namespace", "", &tenant).await?;
    ensure!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] == *tenant,
        "{}",
        namespace["metadata"]
    );
    let object = scene.wishes(&tenant, "app", &[("wants", "ldap")]).await?.object()?;
    ensure!(annotation(&object, "status") == "ldap=absent: no offer", "{}", annotation(&object, "status"));
    scene.has_nothing(&tenant).await
}

/// An offer that everybody should prefer, from a namespace that provides to nobody.
async fn advertising_to_others(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("barker").await?;
    let mut shout = offer(&tenant, "best", None, json!({"namespaceSelector": {}}));
    shout["spec"]["priority"] = 1000.into();
    scene.mallory.create(OFFERS, &shout).await?.object()?;
    let service = service(&tenant, "better", "ldap", 389, "base-dn: dc=evil", None);
    scene.mallory.create("services", &service).await?.object()?;
    let (status, _, message) = eventually("its status says for whom it is", PROMPT, async || {
        let offer = scene.admin.get("ServiceOffer", &tenant, "best").await?;
        Ok(Some(readiness(&offer)).filter(|(status, ..)| !status.is_empty()))
    })
    .await?;
    ensure!(
        status == "True" && message.contains("not labelled opportune.libre.sh/provider=true"),
        "{status} {message}"
    );
    // It is known by now, and would be taken.
    served(&scene.admin, &idle(Kind::Deployment, &tenant, "own", &[("wants", "cache, ldap")])).await?;
    scene.admin.namespace("passer-by", &[("inject", "enabled")]).await?;
    let victim =
        scene.admin.create(&idle(Kind::Deployment, "passer-by", "app", &[("wants", "cache, ldap")])).await?;
    let status = annotation(&victim, "status");
    ensure!(status == "cache=absent: no offer; ldap=absent: no offer", "{status}");
    Ok(())
}

async fn providing_more(scene: &Scene) -> Result<()> {
    scene.admin.namespace("narrow", &[("provider", "true")]).await?;
    scene.admin.merge("Namespace", "", "narrow", &keyed("annotations", "provides", "ldap")).await?;
    scene.admin.create(&binding("narrow", "opportune-service-owner", "oscar")).await?;
    let oscar = Person::of(scene.plane(), "oscar").await?;
    let more = offer("narrow", "more", None, json!({"namespaceSelector": {}}));
    eventually("oscar may offer", PROMPT, async || {
        Ok(oscar.create(OFFERS, &more).await?.is_fine().then_some(()))
    })
    .await?;
    oscar
        .ask("patch", &place("namespaces", "", "narrow"), &keyed("annotations", "provides", "ldap, cache"))
        .await?
        .refused("cannot patch")?;
    let (_, _, message) = eventually("its status says for whom it is", PROMPT, async || {
        let offer = oscar.ask("get", &place(OFFERS, "narrow", "more"), &Value::Null).await?.object()?;
        Ok(Some(readiness(&offer)).filter(|(status, ..)| !status.is_empty()))
    })
    .await?;
    ensure!(message.contains("provides other intents only"), "{message}");
    scene.admin.namespace("customer", &[("inject", "enabled")]).await?;
    let customer =
        scene.admin.create(&idle(Kind::Deployment, "customer", "app", &[("wants", "cache")])).await?;
    ensure!(annotation(&customer, "status") == ABSENT, "{}", annotation(&customer, "status"));
    Ok(())
}

/// A copy that its tenant changes is put right, and nobody else ever has what it held.
async fn changing_a_copy(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("consented-too").await?;
    let app = served(&scene.admin, &idle(Kind::Deployment, &tenant, "app", &[("wants", "ldap")])).await?;
    let right = format!("{PLANTED}reader");
    has(&scene.admin, &app, PASSWORD, &right, PROMPT).await?;
    let all = copies(&scene.admin, &tenant).await?;
    let path = place("secrets", &tenant, text(all.first().context("no copy")?, "/metadata/name"));
    // Owned by nothing that is there, Kubernetes would collect it; under other owners it would outlive its users.
    let nobody = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "nobody", "uid": "00000000-0000-0000-0000-000000000000"}]);
    let change = json!({
        "stringData": {"password": "mine", "more": "mine"},
        "metadata": {"ownerReferences": nobody, "annotations": {"opportune.libre.sh/offer": "finance/ledger"}},
    });
    scene.mallory.ask("patch", &path, &change).await?.object()?;
    let elsewhere =
        served(&scene.admin, &idle(Kind::Deployment, "consented", "witness", &[("wants", "ldap")])).await?;
    has(&scene.admin, &elsewhere, PASSWORD, &right, PROMPT).await?;
    eventually("it is put right", READ, async || {
        let copy = scene.mallory.ask("get", &path, &Value::Null).await?.object()?;
        let owners = crate::delivered::owners(&copy);
        let data = copy["data"].as_object().context("no data")?;
        ensure!(
            !data.contains_key("more") && owners.contains("Deployment/app"),
            "{:?} of {owners:?}",
            data.keys()
        );
        ensure!(copy["metadata"]["annotations"]["opportune.libre.sh/offer"] == "directory/openldap");
        Ok(Some(()))
    })
    .await?;
    has(&scene.admin, &app, PASSWORD, &right, READ).await
}

/// Two names that six hexadecimal digits of a hash can't tell apart: found in a second. The rival would get the password of the other
/// one's consumers, or give them its own.
async fn sharing_a_delivered_name(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("shared").await?;
    let stem = "shared-cache-of-the-whole-company-in-one-place";
    let consumers = || json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": tenant}}});
    let mut apps = Vec::new();
    for (namespace, number) in [("directory", 7511), ("rival", 773)] {
        scene.admin.create(&planted(namespace, "cache")).await?;
        let password = json!({"stringData": {"password": format!("{PLANTED}{namespace}")}});
        scene.admin.merge("Secret", namespace, "cache", &password).await?;
        let name = format!("{stem}-{number}");
        scene.admin.create(&offer(namespace, &name, Some("cache"), consumers())).await?;
        let wishes = [("wants", "cache"), ("use.cache", &format!("{namespace}/{name}"))];
        let app = served(&scene.admin, &idle(Kind::Deployment, &tenant, namespace, &wishes)).await?;
        has(&scene.admin, &app, "CACHE_PASSWORD", &format!("{PLANTED}{namespace}"), PROMPT).await?;
        apps.push((namespace, app));
    }
    for (namespace, app) in apps {
        let object = now(&scene.admin, &app).await?;
        let held = value(&scene.admin, &object, "CACHE_PASSWORD").await?;
        ensure!(held == format!("{PLANTED}{namespace}"), "who uses {namespace} holds {held}");
    }
    Ok(())
}
