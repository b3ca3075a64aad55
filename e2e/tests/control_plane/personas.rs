//! The chart's three personas: what each may do, and what each tries in vain.
use crate::{
    admin::Admin,
    delivered::{PROMPT, PASSWORD, has, idle, reader, served, together, directory},
    installed::{Installed, SYSTEM},
    offers::{secret, service},
    person::{
        BINDINGS, CLUSTER_BINDINGS, CONFIGURATIONS, DEPLOYMENTS, GUARD_BINDINGS, GUARDS, LEASES, OFFERS, POLICIES, PROFILES,
        Person, ROLES, binding, extra, keyed, may, may_not, place,
    },
    trial::trials,
    workload::{Kind, annotation, text},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::{ControlPlane, eventually};
use serde_json::{Value, json};

const CONTROLLER: &str = "get as system:serviceaccount:opportune-system:opportune-controller";
const UNREADABLE: &str = "may not read";
const PLATFORM_ONLY: &str = "may not `update` namespaces/opportune";

fn offer(namespace: &str, name: &str, source: Option<&str>) -> Value {
    let mut offer = json!({
        "apiVersion": "opportune.libre.sh/v1alpha1",
        "kind": "ServiceOffer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"intent": "cache", "settings": {"host": "cache.example.org"}, "consumers": {"namespaceSelector": {}}},
    });
    if let Some(source) = source {
        offer["spec"]["credentials"] = json!({"secretRef": {"name": source}});
    }
    offer
}

fn cluster_wide(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn policy(name: &str) -> Value {
    cluster_wide("InjectionPolicy", name, json!({"namespaceSelector": {}, "defaults": ["mail"]}))
}

fn profile(name: &str) -> Value {
    cluster_wide("AppProfile", name, json!({"images": ["example.org/app"], "env": {"ldap": {"HOST": "[[ldap.host]]"}}}))
}

fn labelled_namespace(name: &str) -> Value {
    let metadata = json!({"name": name, "labels": {"opportune.libre.sh/provider": "true"}});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

/// What nobody of the three may touch: our own objects, and what would make them somebody else.
fn untouchable() -> Vec<crate::person::Attempt> {
    let none = || json!({"metadata": {"labels": {"touched": "yes"}}});
    vec![
        may_not("changes our webhooks", "patch", place(CONFIGURATIONS, "", "opportune"), none()),
        may_not("changes the policies' webhooks", "patch", place(CONFIGURATIONS, "", "opportune-policies"), none()),
        may_not("deletes our webhooks", "delete", place(CONFIGURATIONS, "", "opportune"), Value::Null),
        may_not("changes a guard", "patch", place(GUARDS, "", "opportune-credentials"), none()),
        may_not("deletes a guard", "delete", place(GUARD_BINDINGS, "", "opportune-providers"), Value::Null),
        may_not("reads the authority", "get", place("secrets", SYSTEM, "opportune-ca"), Value::Null),
        may_not("replaces the authority", "delete", place("secrets", SYSTEM, "opportune-ca"), Value::Null),
        may_not("takes the Lease", "patch", place(LEASES, SYSTEM, "opportune"), none()),
        may_not("acts as the controller", CONTROLLER, place("secrets", "directory", "reader"), Value::Null)
            .because("cannot impersonate"),
        may_not(
            "takes the controller's token",
            "create",
            place("serviceaccounts", SYSTEM, "opportune-controller/token"),
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}),
        ),
        may_not("widens a persona", "patch", place(ROLES, "", "opportune-app-developer"), none()),
        may_not("lists the cluster's Secrets", "get", place("secrets", "", ""), Value::Null),
        may_not("changes our definitions", "patch", place("apiextensions.k8s.io/v1/customresourcedefinitions", "", "serviceoffers.opportune.libre.sh"), none()),
    ]
}

async fn the_app_developer(installed: &Installed) -> Result<()> {
    let (plane, admin) = (&installed.plane, &installed.admin);
    for role in ["edit", "opportune-app-developer"] {
        admin.create(&binding("blog", role, "jane")).await?;
    }
    let jane = Person::of(plane, "jane").await?;
    let web = idle(Kind::Deployment, "blog", "jane", &[("wants", "ldap, mail")]);
    let patch = keyed("annotations", "wants", "ldap, mail, cache");
    let mut attempts = vec![
        may("makes a workload with wishes", "create", place(DEPLOYMENTS, "blog", ""), web),
        may("changes a wish", "patch", place(DEPLOYMENTS, "blog", "jane"), patch),
        may("sees the status", "get", place(DEPLOYMENTS, "blog", "jane"), Value::Null),
        may("sees Events", "get", place("events", "blog", ""), Value::Null),
        may("sees newer Events", "get", place("events.k8s.io/v1/events", "blog", ""), Value::Null),
        may("sees offers", "get", place(OFFERS, "blog", ""), Value::Null),
        may("offers to the own namespace", "create", place(OFFERS, "blog", ""), offer("blog", "jane", None)),
        may_not("reads a provider's Secret", "get", place("secrets", "directory", "reader"), Value::Null),
        may_not("lists a provider's Secrets", "get", place("secrets", "directory", ""), Value::Null),
        may_not("changes the source of a credential", "patch", place("secrets", "directory", "reader"), json!({"stringData": {"password": "mine"}})),
        may_not("sees offers elsewhere", "get", place(OFFERS, "directory", ""), Value::Null),
        may_not("offers elsewhere", "create", place(OFFERS, "directory", ""), offer("directory", "jane", None)),
        may_not("marks a Service elsewhere", "patch", place("services", "directory", "openldap"), keyed("labels", "offers", "mail")),
        may_not("says how an offer is", "patch", place(OFFERS, "blog", "jane/status"), json!({"status": {"consumers": 7}})),
        may_not("makes the own namespace a provider", "patch", place("namespaces", "", "blog"), keyed("labels", "provider", "true")),
        may_not("makes a provider", "create", place("namespaces", "", ""), labelled_namespace("janes")),
        may_not("makes a policy", "create", place(POLICIES, "", ""), policy("jane")),
        may_not("makes a profile", "create", place(PROFILES, "", ""), profile("jane")),
        may_not("sees policies by a RoleBinding", "get", place(POLICIES, "", ""), Value::Null),
        may_not("lets the controller watch Secrets", "create", place(BINDINGS, "blog", ""), binding("blog", "opportune-provider", "jane")),
    ];
    attempts.extend(untouchable());
    jane.tries(attempts).await.context("the app developer")?;

    let opportune = jane.opportune(plane)?;
    let said = opportune.run(&["explain", "deploy/jane", "-n", "blog"])?;
    for part in ["ldap", "directory/openldap", "labelled opportune.libre.sh/inject=enabled", "Events"] {
        ensure!(said.contains(part), "explain says nothing of {part}:\n{said}");
    }
    ensure!(!said.contains("no right to get"), "{said}");
    let said = opportune.run(&["report", "-n", "blog"])?;
    ensure!(said.contains("jane") && said.contains("directory/openldap"), "{said}");
    the_administrator_of_one_namespace(installed).await?;
    a_developer_who_may_not_read_secrets(installed).await
}

/// Somebody with `admin` in a namespace, who may bind roles there: those whose rights they have.
async fn the_administrator_of_one_namespace(installed: &Installed) -> Result<()> {
    let (plane, admin) = (&installed.plane, &installed.admin);
    admin.create(&binding("blog", "admin", "ada")).await?;
    let ada = Person::of(plane, "ada").await?;
    let bind = |role: &str| binding("blog", role, "eve");
    let bindings = || place(BINDINGS, "blog", "");
    let mut attempts = vec![
        may("makes a developer", "create", bindings(), bind("opportune-app-developer")),
        may("makes a service owner", "create", bindings(), bind("opportune-service-owner")),
        may("lets the controller watch", "create", bindings(), bind("opportune-provider")),
    ];
    for role in ["opportune-controller", "opportune-webhook", "opportune-platform-admin", "opportune-platform"] {
        let attempt = may_not("hands out what she has not", "create", bindings(), bind(role));
        attempts.push(attempt.because("attempting to grant RBAC permissions not currently held"));
    }
    attempts.extend(untouchable());
    ada.tries(attempts).await.context("the administrator of one namespace")
}

/// Somebody who may write workloads, Services and offers, and read what the persona reads, but no Secret.
async fn a_developer_who_may_not_read_secrets(installed: &Installed) -> Result<()> {
    let (plane, admin) = (&installed.plane, &installed.admin);
    for role in ["opportune-app-developer", "opportune-edit"] {
        admin.create(&binding("blog", role, "joe")).await?;
    }
    for object in extra("services/joe", "blog", &["services"], &["*"], &[])? {
        admin.create(&object).await?;
    }
    admin.create(&secret("blog", "private", json!({"password": "s3cret"}))).await?;
    let joe = Person::of(plane, "joe").await?;
    let named = service("blog", "named", "cache", 6379, "", Some("private"));
    let plain = service("blog", "plain", "cache", 6379, "", None);
    let spec = json!({"spec": {"credentials": {"secretRef": {"name": "private"}}}});
    joe.tries(vec![
        may_not("reads a Secret", "get", place("secrets", "blog", "private"), Value::Null),
        may_not("offers it by a Service", "create", place("services", "blog", ""), named).because(UNREADABLE),
        may("makes a Service", "create", place("services", "blog", ""), plain),
        may_not("names it later", "patch", place("services", "blog", "plain"), keyed("annotations", "credentials", "private"))
            .because(UNREADABLE),
        may_not("offers it by a ServiceOffer", "create", place(OFFERS, "blog", ""), offer("blog", "joe", Some("private")))
            .because(UNREADABLE),
        may("makes a ServiceOffer", "create", place(OFFERS, "blog", ""), offer("blog", "joe", None)),
        may_not("names it there later", "patch", place(OFFERS, "blog", "joe"), spec).because(UNREADABLE),
    ])
    .await
    .context("the developer without Secrets")
}

async fn the_service_owner(installed: &Installed) -> Result<()> {
    let (plane, admin) = (&installed.plane, &installed.admin);
    admin.create(&binding("directory", "opportune-service-owner", "olga")).await?;
    // What the provider's administrator gives besides: one Secret; and so much of the Namespace that the guard has to hold.
    let rights = [
        extra("one-secret/olga", "directory", &["secrets"], &["get"], &["reader"])?,
        extra("namespace/olga", "directory", &["namespaces"], &["get", "patch"], &[])?,
    ];
    for object in rights.iter().flatten() {
        admin.create(object).await?;
    }
    admin.create(&secret("directory", "root", json!({"password": "r00t"}))).await?;
    let unmarked = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "cache", "namespace": "directory"},
        "spec": {"ports": [{"port": 6379}]},
    });
    admin.create(&unmarked).await?;
    let copy = served(admin, &idle(Kind::Deployment, "blog", "olgas-reader", &[("wants", "ldap")])).await?;
    has(admin, &copy, PASSWORD, "s3cret", PROMPT).await?;
    let copies = crate::delivered::copies(admin, "blog").await?;
    let copy = text(copies.first().context("no copy")?, "/metadata/name").to_owned();

    let olga = Person::of(plane, "olga").await?;
    let on_cache = place("services", "directory", "cache");
    let root = json!({"spec": {"credentials": {"secretRef": {"name": "root"}}}});
    let mut attempts = vec![
        may("marks a Service", "patch", on_cache.clone(), keyed("labels", "offers", "cache")),
        may("says who may use it", "patch", on_cache.clone(), keyed("annotations", "consumers", "kubernetes.io/metadata.name in (blog)")),
        may("offers what she may read", "patch", on_cache.clone(), keyed("annotations", "credentials", "reader")),
        may("makes an offer", "create", place(OFFERS, "directory", ""), offer("directory", "olga", Some("reader"))),
        may("changes it", "patch", place(OFFERS, "directory", "olga"), json!({"spec": {"priority": 5}})),
        may("sees offers and how they are", "get", place(OFFERS, "directory", ""), Value::Null),
        may_not("reads another Secret of hers", "get", place("secrets", "directory", "root"), Value::Null),
        may_not("offers it by a Service", "patch", on_cache.clone(), keyed("annotations", "credentials", "root")).because(UNREADABLE),
        may_not("offers it by a ServiceOffer", "create", place(OFFERS, "directory", ""), offer("directory", "root", Some("root")))
            .because(UNREADABLE),
        may_not("offers it by the offer that she has", "patch", place(OFFERS, "directory", "olga"), root).because(UNREADABLE),
        may_not("says by services/status what she may not say", "patch", format!("{on_cache}/status"), keyed("annotations", "credentials", "root")),
        may_not("says herself how an offer is", "patch", place(OFFERS, "directory", "olga/status"), json!({"status": {"consumers": 7}})),
        may_not("widens what is provided", "patch", place("namespaces", "", "directory"), keyed("annotations", "provides", "ldap, cache, mail"))
            .because(PLATFORM_ONLY),
        may_not("takes the narrowing away", "patch", place("namespaces", "", "directory"), keyed("annotations", "provides", Value::Null))
            .because(PLATFORM_ONLY),
        may_not("makes another namespace a provider", "patch", place("namespaces", "", "blog"), keyed("labels", "provider", "true")),
        may_not("makes a provider", "create", place("namespaces", "", ""), labelled_namespace("olgas")),
        may_not("reads a consumer's copy", "get", place("secrets", "blog", &copy), Value::Null),
        may_not("lists a consumer's Secrets", "get", place("secrets", "blog", ""), Value::Null),
        may_not("sees a consumer's workloads", "get", place(DEPLOYMENTS, "blog", ""), Value::Null),
        may_not("offers in a consumer's namespace", "create", place(OFFERS, "blog", ""), offer("blog", "olga", None)),
        may_not("makes a policy", "create", place(POLICIES, "", ""), policy("olga")),
        may_not("makes a profile", "create", place(PROFILES, "", ""), profile("olga")),
        may_not("makes a Service", "create", place("services", "directory", ""), service("directory", "more", "cache", 1, "", None)),
        may_not("becomes the platform", "create", place(CLUSTER_BINDINGS, "", ""), json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "olga"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "opportune-platform-admin"},
            "subjects": [{"kind": "User", "name": "olga", "apiGroup": "rbac.authorization.k8s.io"}],
        })),
    ];
    attempts.extend(untouchable());
    olga.tries(attempts).await.context("the service owner")?;
    let user = served(admin, &idle(Kind::Deployment, "blog", "cached", &[("wants", "cache"), ("use.cache", "directory/olga")])).await?;
    ensure!(annotation(&user, "status") == "cache=directory/olga", "{}", annotation(&user, "status"));
    eventually("the owner sees the number of consumers", PROMPT, async || {
        let offer = olga.ask("get", &place(OFFERS, "directory", "olga"), &Value::Null).await?.object()?;
        ensure!(offer["status"]["consumers"] == 1, "{}", offer["status"]);
        Ok(Some(()))
    })
    .await
}

async fn the_platform_admin(installed: &Installed) -> Result<()> {
    let (plane, admin) = (&installed.plane, &installed.admin);
    let bind = |role: &str| {
        let mut binding = binding("", role, "pat");
        binding["kind"] = "ClusterRoleBinding".into();
        binding["metadata"] = json!({"name": format!("pat-{role}")});
        plane.apply(&binding.to_string())
    };
    bind("opportune-platform-admin")?;
    admin.create(&offer("shop", "theirs", None)).await?;
    let mut theirs = offer("shop", "guarded", Some("till"));
    theirs["spec"]["consumers"] = Value::Null;
    admin.create(&secret("shop", "till", json!({"password": "t1ll"}))).await?;
    admin.create(&theirs).await?;

    let pat = Person::of(plane, "pat").await?;
    let provider = || keyed("labels", "provider", "true");
    let wider = json!({"spec": {"consumers": {"namespaceSelector": {}}}});
    let mut attempts = vec![
        may("makes a policy", "create", place(POLICIES, "", ""), policy("pat")),
        may("changes a policy", "patch", place(POLICIES, "", "pat"), json!({"spec": {"priority": 1}})),
        may("deletes a policy", "delete", place(POLICIES, "", "pat"), Value::Null),
        may("makes a profile", "create", place(PROFILES, "", ""), profile("pat")),
        may("sees all offers", "get", place(OFFERS, "", ""), Value::Null),
        may("changes an offer", "patch", place(OFFERS, "shop", "theirs"), json!({"spec": {"priority": 3}})),
        may("deletes an offer", "delete", place(OFFERS, "shop", "theirs"), Value::Null),
        may("sees all namespaces", "get", place("namespaces", "", ""), Value::Null),
        may("sees all workloads", "get", place(DEPLOYMENTS, "", ""), Value::Null),
        may("sees our webhooks", "get", place(CONFIGURATIONS, "", "opportune"), Value::Null),
        may_not("reads a Secret", "get", place("secrets", "directory", "reader"), Value::Null),
        may_not("lists a namespace's Secrets", "get", place("secrets", "shop", ""), Value::Null),
        may_not("offers a Secret", "create", place(OFFERS, "shop", ""), offer("shop", "pat", Some("till"))).because(UNREADABLE),
        may_not("widens an offer of a Secret", "patch", place(OFFERS, "shop", "guarded"), wider).because(UNREADABLE),
        may_not("marks a Service", "patch", place("services", "directory", "openldap"), keyed("labels", "offers", "mail")),
        may_not("sees webhooks of others", "get", place(CONFIGURATIONS, "", "other"), Value::Null),
        may_not("makes webhooks", "create", place(CONFIGURATIONS, "", ""), json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "pat"},
        })),
        may_not("says how an offer is", "patch", place(OFFERS, "shop", "guarded/status"), json!({"status": {"consumers": 7}})),
        may_not("changes a workload", "patch", place(DEPLOYMENTS, "blog", "web"), keyed("annotations", "wants", "ldap")),
        may_not("makes a pod", "create", place("pods", "blog", ""), json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pat"}})),
        may_not("reads a ConfigMap", "get", place("configmaps", "kube-system", "kube-root-ca.crt"), Value::Null),
        may_not("changes a Namespace", "patch", place("namespaces", "", "shop"), provider()),
        may_not("binds a role", "create", place(BINDINGS, "shop", ""), binding("shop", "opportune-provider", "pat")),
    ];
    attempts.extend(untouchable());
    pat.tries(attempts).await.context("the platform's administrator")?;

    let said = pat.opportune(plane)?.output(&["report"], "")?;
    let (said, told) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    ensure!(said.contains("blog") && said.contains("directory/openldap"), "{said}");
    ensure!(!told.contains("no right") && !told.contains("unknown") && !said.contains("unknown"), "{told}\n{said}");

    // With the right to change Namespaces, the persona's is what the guard asks for; and without it that alone is not enough.
    plane.apply(
        r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "labels"},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["patch"]}]}"#,
    )?;
    bind("labels")?;
    plane.kubectl(&["create", "clusterrolebinding", "sam-labels", "--clusterrole=labels", "--user=sam"])?;
    let label = || place("namespaces", "", "shop");
    pat.tries(vec![may("makes a provider", "patch", label(), provider())]).await?;
    let sam = Person::of(plane, "sam").await?;
    let narrower = keyed("annotations", "provides", "mail");
    let is_refused = may_not("narrows what is provided", "patch", label(), narrower).because(PLATFORM_ONLY);
    sam.tries(vec![is_refused]).await
}

/// An operator's own rule comes into a persona by its label; and what Kubernetes wrote stays in an upgrade.
async fn a_persona_is_extended_by_a_label(plane: &ControlPlane) -> Result<()> {
    plane.apply(
        r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "more",
        "labels": {"rbac.opportune.libre.sh/aggregate-to-service-owner": "true"}},
        "rules": [{"apiGroups": ["example.org"], "resources": ["gadgets"], "verbs": ["get"]}]}"#,
    )?;
    let rules = |role: &str| plane.kubectl(&["get", "clusterrole", role, "-o=jsonpath={.rules}"]);
    eventually("the rule is in the persona", PROMPT, async || {
        Ok(rules("opportune-service-owner")?.contains("gadgets").then_some(()))
    })
    .await?;
    ensure!(!rules("opportune-app-developer")?.contains("gadgets"));
    let personas = ["opportune-app-developer", "opportune-service-owner", "opportune-platform-admin"];
    let versions = || {
        let version = "-o=jsonpath={.metadata.resourceVersion}";
        personas.iter().map(|name| plane.kubectl(&["get", "clusterrole", name, version])).collect::<Result<Vec<_>>>()
    };
    let before = versions()?;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/chart");
    plane.helm_for(&plane.kubeconfig())?.run(&["upgrade", "opportune", chart, "-n", SYSTEM, "--reuse-values"])?;
    ensure!(versions()? == before, "an upgrade wrote a persona: it would take rights away for a moment");
    Ok(())
}

async fn prepare(admin: &Admin) -> Result<()> {
    for namespace in ["blog", "shop"] {
        admin.namespace(namespace, &[("inject", "enabled")]).await?;
    }
    // As in a cluster that runs for a while: Kubernetes writes the personas a moment after they are made.
    for persona in ["opportune-app-developer", "opportune-service-owner", "opportune-platform-admin", "edit", "admin"] {
        eventually(&format!("{persona} has its rules"), PROMPT, async || {
            let role = admin.get("ClusterRole", "", persona).await?;
            Ok(role["rules"].to_string().contains("serviceoffers").then_some(()))
        })
        .await?;
    }
    let provides = keyed("annotations", "provides", "ldap, cache");
    admin.merge("Namespace", "", "directory", &provides).await?;
    admin.create(&reader("directory", "reader", "s3cret")).await?;
    admin.create(&directory("directory")).await?;
    served(admin, &idle(Kind::Deployment, "blog", "web", &[("wants", "ldap")])).await?;
    Ok(())
}

async fn each_persona_may_do_its_work_and_nothing_else() -> Result<()> {
    let installed = Installed::start(&["directory"], &["rollouts=true"], 1).await?;
    prepare(&installed.admin).await?;
    together(vec![
        ("app developer", Box::pin(the_app_developer(&installed))),
        ("service owner", Box::pin(the_service_owner(&installed))),
        ("platform administrator", Box::pin(the_platform_admin(&installed))),
    ])
    .await
    .with_context(|| installed.complaints().unwrap_or_default())?;
    a_persona_is_extended_by_a_label(&installed.plane).await
}

trials![own each_persona_may_do_its_work_and_nothing_else];
