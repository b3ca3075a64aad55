//! A person with few rights, who asks the API server for one thing after the other; and what is asked, as a table.
use crate::workload::text;
use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use hyper::http::{Method, Request};
use kube::{Client, client::Body};
use opportune_e2e::{ControlPlane, Tool};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Somebody whom the API server knows by a client certificate.
pub struct Person {
    client: Client,
    kubeconfig: PathBuf,
}

/// What the API server said.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    /// The object, or why there is none.
    pub body: Value,
    pub warnings: Vec<String>,
}

/// One thing that a person tries.
pub struct Attempt {
    what: &'static str,
    verb: &'static str,
    path: String,
    body: Value,
    /// What the refusal says; `None`: it is allowed.
    refusal: Option<&'static str>,
}

/// Where objects of this kind are, in the plural and with the version of their group, as in `apps/v1/deployments`.
pub fn place(kind: &str, namespace: &str, name: &str) -> String {
    let (version, resource) = kind.rsplit_once('/').unwrap_or(("v1", kind));
    let root = if version.contains('/') { "apis" } else { "api" };
    let namespace = if namespace.is_empty() { String::new() } else { format!("namespaces/{namespace}/") };
    format!("/{root}/{version}/{namespace}{resource}/{name}").trim_end_matches('/').to_owned()
}

pub const DEPLOYMENTS: &str = "apps/v1/deployments";
pub const OFFERS: &str = "opportune.libre.sh/v1alpha1/serviceoffers";
pub const POLICIES: &str = "opportune.libre.sh/v1alpha1/injectionpolicies";
pub const PROFILES: &str = "opportune.libre.sh/v1alpha1/appprofiles";
pub const CONFIGURATIONS: &str = "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
pub const GUARDS: &str = "admissionregistration.k8s.io/v1/validatingadmissionpolicies";
pub const GUARD_BINDINGS: &str = "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
pub const LEASES: &str = "coordination.k8s.io/v1/leases";
pub const ROLES: &str = "rbac.authorization.k8s.io/v1/clusterroles";
pub const BINDINGS: &str = "rbac.authorization.k8s.io/v1/rolebindings";
pub const CLUSTER_BINDINGS: &str = "rbac.authorization.k8s.io/v1/clusterrolebindings";

/// An attempt that has to succeed.
pub fn may(what: &'static str, verb: &'static str, path: String, body: Value) -> Attempt {
    Attempt { what, verb, path, body, refusal: None }
}

/// An attempt that RBAC has to refuse.
pub fn may_not(what: &'static str, verb: &'static str, path: String, body: Value) -> Attempt {
    Attempt { what, verb, path, body, refusal: Some("cannot") }
}

/// A merge patch of one annotation or label of ours: `kind` is `annotations` or `labels`.
pub fn keyed(kind: &str, key: &str, value: impl Into<Value>) -> Value {
    json!({"metadata": {kind: {format!("opportune.libre.sh/{key}"): value.into()}}})
}

/// A binding of a ClusterRole to a user in a namespace.
pub fn binding(namespace: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": format!("{user}-{role}"), "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    })
}

// === impl Attempt ===

impl Attempt {
    /// The same, where these words have to be in the refusal.
    pub fn because(self, words: &'static str) -> Self {
        Self { refusal: Some(words), ..self }
    }
}

// === impl Person ===

impl Person {
    pub async fn of(plane: &ControlPlane, name: &str) -> Result<Self> {
        Self::with(plane, plane.user_kubeconfig(name, &[])?).await
    }

    /// Whoever this kubeconfig is of.
    pub async fn with(plane: &ControlPlane, kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self { client: plane.client_for(&kubeconfig).await?, kubeconfig })
    }

    /// `opportune` with their rights.
    pub fn opportune(&self, plane: &ControlPlane) -> Result<Tool> {
        plane.opportune_for(&self.kubeconfig)
    }

    /// Asks for one thing. `apply` is a server-side apply by force; a verb may be followed by whom to impersonate, as in
    /// `get as somebody`, or by the field manager, as in `patch by opportune`.
    pub async fn ask(&self, verb: &str, path: &str, body: &Value) -> Result<Answer> {
        let (verb, user) = verb.split_once(" as ").map_or((verb, None), |(verb, user)| (verb, Some(user)));
        let (verb, manager) = verb.split_once(" by ").unwrap_or((verb, "e2e"));
        let (method, kind) = match verb {
            "get" => (Method::GET, ""),
            "create" => (Method::POST, "application/json"),
            "replace" => (Method::PUT, "application/json"),
            "patch" => (Method::PATCH, "application/merge-patch+json"),
            "apply" => (Method::PATCH, "application/apply-patch+yaml"),
            "delete" => (Method::DELETE, ""),
            other => anyhow::bail!("{other} is no verb"),
        };
        let query = match verb {
            "get" | "delete" => String::new(),
            "apply" => format!("?fieldManager={manager}&force=true"),
            _ => format!("?fieldManager={manager}"),
        };
        let mut request = Request::builder().method(method).uri(format!("{path}{query}"));
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        if let Some(user) = user {
            request = request.header("impersonate-user", user);
        }
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.client.send(request.body(Body::from(bytes))?).await?;
        let code = answer.status().as_u16();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings = warnings.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let bytes = answer.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
        Ok(Answer { code, body, warnings })
    }

    /// Makes an object, or says why not.
    pub async fn create(&self, kind: &str, object: &Value) -> Result<Answer> {
        self.ask("create", &place(kind, text(object, "/metadata/namespace"), ""), object).await
    }

    /// Tries each, and names all that came out otherwise.
    pub async fn tries(&self, attempts: Vec<Attempt>) -> Result<()> {
        let (mut wrong, mut refused, count) = (Vec::new(), 0, attempts.len());
        for attempt in attempts {
            let answer = self.ask(attempt.verb, &attempt.path, &attempt.body).await?;
            let fits = match attempt.refusal {
                None => answer.is_fine(),
                Some(words) => answer.code == 403 && answer.message().contains(words),
            };
            refused += usize::from(attempt.refusal.is_some());
            if !fits {
                wrong.push(format!(
                    "{} ({} {}): {} {}",
                    attempt.what,
                    attempt.verb,
                    attempt.path,
                    answer.code,
                    answer.message()
                ));
            }
        }
        println!("    {count} attempts, {refused} of them refused");
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }
}

// === impl Answer ===

impl Answer {
    pub fn is_fine(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub fn message(&self) -> &str {
        text(&self.body, "/message")
    }

    /// The object; an error where there is none.
    pub fn object(self) -> Result<Value> {
        ensure!(self.is_fine(), "{} {}", self.code, self.message());
        Ok(self.body)
    }

    /// Why it was refused; an error where it was not, or for another reason.
    pub fn refused(&self, words: &str) -> Result<()> {
        ensure!((400..500).contains(&self.code), "it was not refused: {}", self.code);
        ensure!(self.message().contains(words), "{} {}", self.code, self.message());
        Ok(())
    }
}

/// What a person may be given besides, in one namespace: verbs on resources of the core group, narrowed to names where there are some.
pub fn extra(
    name: &str,
    namespace: &str,
    resources: &[&str],
    verbs: &[&str],
    names: &[&str],
) -> Result<[Value; 2]> {
    let (role, user) = name.split_once('/').context("role/user")?;
    let mut rule = json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    let mut binding = binding(namespace, role, user);
    binding["roleRef"]["kind"] = "Role".into();
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": role, "namespace": namespace},
        "rules": [rule],
    });
    Ok([role, binding])
}
