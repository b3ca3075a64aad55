//! A tenant who may do all in his namespace can't get rid of what a policy enforces there: not by annotations, labels, records,
//! a new namespace, or another kind.
use crate::{
    delivered::PROMPT,
    installed::Installed,
    trial::trials,
    workload::{Kind, annotation, plain, text, variables, wishing},
    writer,
};
use anyhow::{Context, Result, bail, ensure};
use opportune_e2e::{Tool, eventually};
use serde_json::{Value, json};

/// The tenant's namespace, which no label opts in.
const TENANT: &str = "tenant";
/// What every workload has to get.
const HOST: &str = "openldap.platform.svc";

/// What a try has to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is admitted, with what is enforced.
    Enforced,
    /// It is refused by the policy.
    Refused,
}

/// The platform's policy, and a tenant with all rights in his namespace.
struct Scene {
    installed: Installed,
    tenant: Tool,
}

async fn a_tenant_can_not_escape_what_is_enforced() -> Result<()> {
    let mut scene = Scene::start().await?;
    let mut failures = Vec::new();
    let tries = tries();
    for (number, (what, end, manifest)) in tries.iter().enumerate() {
        let manifest = with(manifest.clone(), "/metadata/name", json!(format!("try-{number}")));
        if let Err(error) = scene.try_to_create(*end, &manifest) {
            failures.push(format!("{what}: {error:#}"));
        }
    }
    for (what, result) in [
        ("changing what stands there", scene.changes_what_stands().await),
        ("labelling his namespace", scene.labels_his_namespace().await),
        ("offering something of his own", scene.offers_something_of_his_own().await),
        ("using a namespace before anybody knows of it", scene.is_faster_than_the_watch().await),
        ("waiting until we are away", scene.waits_until_we_are_away().await),
    ] {
        failures.extend(result.err().map(|error| format!("{what}: {error:#}")));
    }
    let complaints = if failures.is_empty() { String::new() } else { scene.installed.complaints()? };
    ensure!(failures.is_empty(), "{}\n{complaints}", failures.join("\n"));
    ensure!(tries.len() >= 20, "only {} tries", tries.len());
    Ok(())
}

/// What a tenant may think of, each with what has to come of it.
fn tries() -> Vec<(&'static str, End, Value)> {
    use End::{Enforced, Refused};
    let deployment = |annotations: &[(&str, &str)]| wishing(Kind::Deployment, "x", annotations);
    let own_variable = json!([{"name": "LDAP_HOST", "value": "mine.example.org"}]);
    let from_elsewhere = json!([{"name": "LDAP_HOST", "valueFrom": {"configMapKeyRef": {"name": "mine", "key": "host"}}}]);
    let env = "/spec/template/spec/containers/0/env";
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "controller": true,
        "uid": "d9607e19-f88f-11e6-a518-42010a800195"}]);
    let record = |record: Value| {
        with(deployment(&[]), "/metadata/annotations/opportune.libre.sh~1injected", json!(record.to_string()))
    };
    let template = plain(Kind::Deployment, "x")["spec"]["template"].clone();
    let selector = json!({"matchLabels": {"app": "x"}});
    let of_kind = |api_version: &str, kind: &str, spec: Value| {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "labels": {"app": "x"}}, "spec": spec})
    };
    let run_once = with(template.clone(), "/spec/restartPolicy", json!("Never"));
    let pod = of_kind("v1", "Pod", template["spec"].clone());
    vec![
        ("saying nothing", Enforced, deployment(&[])),
        ("declining it", Enforced, deployment(&[("declines", "ldap")])),
        ("declining all", Enforced, deployment(&[("declines", "*"), ("inject", "false")])),
        ("wanting to be left alone", Enforced, deployment(&[("inject", "false")])),
        ("taking no profile", Enforced, deployment(&[("profile", "none")])),
        ("taking a profile that nobody has", Enforced, deployment(&[("profile", "nonesuch")])),
        ("taking another app's profile", Enforced, deployment(&[("profile", "none"), ("containers", "web")])),
        ("naming a container that is not there", Enforced, deployment(&[("containers", "nobody")])),
        ("an empty mapping", Enforced, deployment(&[("env.ldap", "# nothing")])),
        ("a mapping of his own", Enforced, deployment(&[("env.ldap", "LDAP_HOST=mine.example.org")])),
        ("an offer that nobody has", Enforced, deployment(&[("use.ldap", "nobody/nothing")])),
        ("an annotation that can't be read", Enforced, deployment(&[("wants", "!"), ("storage", "..")])),
        ("an annotation that is too long", Enforced, deployment(&[("env.ldap", &"A".repeat(200_000))])),
        ("a variable of his own", Enforced, with(deployment(&[]), env, own_variable.clone())),
        ("a variable from elsewhere", Enforced, with(deployment(&[]), env, from_elsewhere)),
        ("an owner of his own", Enforced, with(deployment(&[]), "/metadata/ownerReferences", owner.clone())),
        ("a record of a withdrawal", Enforced, record(json!({"v": 1, "withdrawn":
            {"ldap": {"offer": "Service/platform/openldap", "print": "", "reason": "gone"}}}))),
        ("a record of another offer", Enforced, record(json!({"v": 1, "offers":
            {"ldap": "Service/tenant/mine"}, "added": {"ldap": {"env/web/LDAP_HOST": "00000000"}}}))),
        ("a record that can't be read", Enforced, record(json!({"v": 7}))),
        ("labels", Enforced, with(deployment(&[]), "/metadata/labels",
            json!({"app": "x", "opportune.libre.sh/inject": "disabled"}))),
        ("a StatefulSet", Enforced, wishing(Kind::StatefulSet, "x", &[("declines", "*")])),
        ("a ReplicaSet", Refused, of_kind("apps/v1", "ReplicaSet", json!({"selector": selector, "template": template}))),
        ("a ReplicaSet with an owner", Refused, with(of_kind("apps/v1", "ReplicaSet",
            json!({"selector": selector, "template": template})), "/metadata/ownerReferences", json!([{"apiVersion": "apps/v1",
            "kind": "Deployment", "name": "x", "controller": true, "uid": "d9607e19-f88f-11e6-a518-42010a800195"}]))),
        ("a ReplicationController", Refused, of_kind("v1", "ReplicationController", json!({"template": template}))),
        ("a bare Pod", Refused, pod.clone()),
        ("a Pod with an owner", Refused, with(pod, "/metadata/ownerReferences", owner)),
        ("a DaemonSet", Refused, of_kind("apps/v1", "DaemonSet", json!({"selector": selector, "template": template}))),
        ("a Job", Refused, of_kind("batch/v1", "Job", json!({"template": run_once}))),
        ("a CronJob", Refused, of_kind("batch/v1", "CronJob",
            json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": run_once}}}))),
    ]
}

// === impl Scene ===

impl Scene {
    async fn start() -> Result<Self> {
        let installed = Installed::start(&["platform"], &[], 1).await?;
        let plane = &installed.plane;
        for offer in [directory("platform", "openldap"), directory("platform", "zentyal")] {
            installed.admin.create(&offer).await?;
        }
        installed.admin.namespace(TENANT, &[]).await?;
        plane.kubectl(&["-n", TENANT, "create", "serviceaccount", "tenant"])?;
        let user = format!("--serviceaccount={TENANT}:tenant");
        plane.kubectl(&["-n", TENANT, "create", "rolebinding", "tenant", "--clusterrole=admin", &user])?;
        let tenant = plane.kubectl_for(&plane.service_account_kubeconfig(TENANT, "tenant")?)?;
        let policy = |name: &str, labels: Value| {
            json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "InjectionPolicy", "metadata": {"name": name}, "spec": {
                "namespaceSelector": {"matchLabels": labels}, "enforce": ["ldap"], "onAbsent": "Deny", "overwrite": true,
                "prefer": {"ldap": "platform/openldap"}}})
        };
        let named = policy("directory", json!({"kubernetes.io/metadata.name": TENANT}));
        let labelled = policy("teams", json!({"team": "a"}));
        plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [named, labelled]}).to_string())?;
        let scene = Self { installed, tenant };
        eventually("both policies act", PROMPT, async || {
            let configuration = ["get", "mutatingwebhookconfiguration", "opportune-policies", "-o", "json"];
            let configuration: Value = serde_json::from_str(&scene.installed.plane.kubectl(&configuration)?)?;
            let webhooks = configuration["webhooks"].as_array().map_or(0, Vec::len);
            ensure!(webhooks >= 4, "{webhooks} webhooks");
            scene.try_to_create(End::Enforced, &wishing(Kind::Deployment, "first", &[]))?;
            scene.tenant.run(&["-n", TENANT, "delete", "deployment", "first"])?;
            Ok(Some(()))
        })
        .await?;
        Ok(scene)
    }

    /// Makes an object as the tenant, and looks at what came of it.
    fn try_to_create(&self, end: End, manifest: &Value) -> Result<()> {
        let output = self.tenant.output(&["-n", TENANT, "create", "-o", "json", "-f", "-"], &manifest.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        match (output.status.success(), end) {
            (true, End::Enforced) => is_enforced(&serde_json::from_slice(&output.stdout)?),
            (false, End::Refused) => {
                ensure!(said.contains("policy directory enforces ldap"), "refused for another reason: {said}");
                Ok(())
            }
            (true, End::Refused) => bail!("it was admitted"),
            (false, End::Enforced) => bail!("it was refused: {said}"),
        }
    }

    /// What he gets when he changes a workload so.
    fn patched(&self, name: &str, kind: &str, patch: &Value) -> Result<Value> {
        let patch = patch.to_string();
        let arguments = ["-n", TENANT, "patch", "deployment", name, "--type", kind, "-p", &patch, "-o", "json"];
        Ok(serde_json::from_str(&self.tenant.run(&arguments)?)?)
    }

    async fn changes_what_stands(&self) -> Result<()> {
        let manifest = wishing(Kind::Deployment, "standing", &[]);
        self.try_to_create(End::Enforced, &manifest)?;
        let env = "/spec/template/spec/containers/0/env";
        let injected = "/metadata/annotations/opportune.libre.sh~1injected";
        for (what, kind, patch) in [
            ("taking the variables out", "json", json!([{"op": "remove", "path": env}])),
            ("taking the record out", "json", json!([{"op": "remove", "path": injected}])),
            ("taking both out", "json", json!([{"op": "remove", "path": env}, {"op": "remove", "path": injected}])),
            ("setting them himself", "strategic", json!({"spec": {"template": {"spec": {"containers":
                [{"name": "web", "env": [{"name": "LDAP_HOST", "value": "mine.example.org"}]}]}}}})),
            ("setting them himself, with a record that says so", "json", json!([
                {"op": "replace", "path": env, "value": [{"name": "LDAP_HOST", "value": "mine.example.org"}]},
                {"op": "replace", "path": injected, "value": r#"{"v":1}"#}])),
            ("another record", "merge", json!({"metadata": {"annotations": {"opportune.libre.sh/injected": "{}"}}})),
            ("wanting to be left alone", "merge", json!({"spec": {"template": {
                "metadata": {"annotations": {"opportune.libre.sh/inject": "false"}}}}})),
        ] {
            is_enforced(&self.patched("standing", kind, &patch)?).context(what)?;
        }
        let arguments = ["-n", TENANT, "replace", "-o", "json", "-f", "-"];
        let replaced = writer::replace(&self.tenant, &arguments, &manifest.to_string())?;
        is_enforced(&serde_json::from_str(&replaced)?).context("replacing it")?;
        // The last one: Kubernetes collects what an owner that is not there has left.
        let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x",
            "controller": true, "uid": "d9607e19-f88f-11e6-a518-42010a800195"}]},
            "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}}});
        is_enforced(&self.patched("standing", "merge", &owner)?).context("another owner")
    }

    async fn labels_his_namespace(&self) -> Result<()> {
        for change in ["opportune.libre.sh/inject=disabled", "opportune.libre.sh/provider=true", "team=b"] {
            let said = self.tenant.refused(&["label", "namespace", TENANT, change], "")?;
            ensure!(said.contains("forbidden") || said.contains("Forbidden"), "{said}");
        }
        // And where somebody does it who may, it does not help.
        self.installed.plane.kubectl(&["label", "namespace", TENANT, "opportune.libre.sh/inject=disabled"])?;
        for name in ["off-1", "off-2", "off-3"] {
            self.try_to_create(End::Enforced, &wishing(Kind::Deployment, name, &[("declines", "*")]))?;
        }
        Ok(())
    }

    async fn offers_something_of_his_own(&self) -> Result<()> {
        self.tenant.feed(&["-n", TENANT, "create", "-f", "-"], &directory(TENANT, "mine").to_string())?;
        eventually("his offer is in the catalog", PROMPT, async || {
            let opportune = self.installed.plane.opportune_for(&self.installed.plane.kubeconfig())?;
            Ok(opportune.run(&["catalog"])?.contains("tenant/mine").then_some(()))
        })
        .await?;
        for (name, annotations) in [
            ("own-1", vec![]),
            ("own-2", vec![("use.ldap", "mine")]),
            ("own-3", vec![("wants", "ldap"), ("use.ldap", "tenant/mine")]),
            ("own-4", vec![("use.ldap", "platform/zentyal")]),
        ] {
            self.try_to_create(End::Enforced, &wishing(Kind::Deployment, name, &annotations)).context(name)?;
        }
        Ok(())
    }

    /// A namespace and a workload in one breath, twenty times.
    async fn is_faster_than_the_watch(&self) -> Result<()> {
        for number in 0..20 {
            let name = format!("breath-{number}");
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"team": "a", "opportune.libre.sh/inject": "enabled"}}});
            self.installed.admin.create(&namespace).await?;
            let workload = with(wishing(Kind::Deployment, "x", &[("declines", "*")]), "/metadata/namespace", json!(name));
            is_enforced(&self.installed.admin.create(&workload).await?).with_context(|| name)?;
        }
        Ok(())
    }

    async fn waits_until_we_are_away(&mut self) -> Result<()> {
        self.installed.webhook.program.kill();
        let manifest = wishing(Kind::Deployment, "away", &[("declines", "*")]);
        let said = self.tenant.refused(&["-n", TENANT, "create", "-f", "-"], &manifest.to_string())?;
        ensure!(said.contains("failed calling webhook") && said.contains("directory"), "{said}");
        self.installed.start_webhook()?;
        self.try_to_create(End::Enforced, &manifest)
    }
}

/// Whether a workload has what is enforced.
fn is_enforced(object: &Value) -> Result<()> {
    let found = variables(object, "LDAP_HOST");
    let is_there = found.len() == 1 && text(found[0], "/value") == HOST && found[0].get("valueFrom").is_none();
    ensure!(is_there, "LDAP_HOST is {found:?}; status: {}", annotation(object, "status"));
    Ok(())
}

fn directory(namespace: &str, name: &str) -> Value {
    crate::offers::service(namespace, name, "ldap", 389, "base-dn: dc=example,dc=org", None)
}

/// The object with a value set at a pointer, its parents made where they are missing.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let mut at = &mut object;
    for token in pointer.split('/').skip(1) {
        at = match token.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[token.replace("~1", "/")],
        };
    }
    *at = value;
    object
}

trials![own a_tenant_can_not_escape_what_is_enforced];
