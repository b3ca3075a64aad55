//! Our own annotations: the controller alone may change them, and by its own field manager; everybody else gets them back.
use crate::{
    trial::{Cluster, trials},
    webhook::{self, CONFIGURATION, SOON},
    workload::{Kind, annotation, live, text, wishing},
    writer::Writer,
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::{ControlPlane, Namespace, Program, Tool, eventually, free_address};
use serde_json::{Value, json};
use std::path::Path;

const BOTH: [Kind; 2] = [Kind::Deployment, Kind::StatefulSet];
const NOTE: &str = "ldap=withdrawn: on trial";
/// The field manager of the controller. Its user is that of the webhook that all tests share: their administrator.
const OURS: &str = "--field-manager=opportune";
/// May do what the controller may, and is somebody else.
const SOMEBODY: [&str; 2] = ["--as=somebody", "--as-group=system:masters"];

/// A workload with a wish, whose `status` and record are changed by whom we like.
struct Workload<'a> {
    plane: &'a ControlPlane,
    kubectl: Tool,
    namespace: Namespace,
    manifest: Value,
}

// === impl Workload ===

impl<'a> Workload<'a> {
    fn new(plane: &'a ControlPlane, kind: Kind, kubectl: Tool) -> Result<Self> {
        let namespace = webhook::namespace(plane, "notes")?;
        // The controller at work writes no `status` of its own into it.
        let manifest = wishing(kind, "web", &[("wants", "ldap, nothing"), ("refresh", "never")]);
        Writer::Apply.begin(plane, &namespace, &manifest)?;
        Ok(Self { plane, kubectl, namespace, manifest })
    }

    fn live(&self) -> Result<Value> {
        live(self.plane, &self.namespace, &self.manifest)
    }

    /// What becomes of it by one merge patch.
    fn patched(&self, patch: &Value, options: &[&str]) -> Result<Value> {
        let (kind, patch) = (text(&self.manifest, "/kind"), patch.to_string());
        let arguments = ["-n", &self.namespace, "patch", kind, "web", "--type=merge", "-p", &patch];
        self.kubectl.run(&[&arguments, options].concat())?;
        self.live()
    }

    /// What becomes of one of our annotations.
    fn noted(&self, key: &str, value: Value, options: &[&str]) -> Result<String> {
        let patch = json!({"metadata": {"annotations": {format!("opportune.libre.sh/{key}"): value}}});
        Ok(annotation(&self.patched(&patch, options)?, key).to_owned())
    }
}

async fn the_controller_changes_our_annotations(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    for kind in BOTH {
        let workload = Workload::new(&cluster, kind, cluster.kubectl_for(&cluster.kubeconfig())?)?;
        let before = workload.live()?;
        assert_eq!(workload.noted("status", NOTE.into(), &[OURS])?, NOTE);
        assert_eq!(workload.noted("injected", "{\"v\":1}".into(), &[OURS])?, "{\"v\":1}");
        assert_eq!(workload.noted("status", Value::Null, &[OURS])?, "");
        let after = workload.live()?;
        assert_eq!(after["spec"], before["spec"], "{kind:?}");
        // By server-side apply too, where the field manager is the owner.
        let applied = json!({
            "apiVersion": "apps/v1",
            "kind": format!("{kind:?}"),
            "metadata": {"name": "web", "annotations": {"opportune.libre.sh/status": NOTE}},
        });
        let apply = ["-n", &workload.namespace, "apply", "--server-side", OURS, "-f", "-"];
        workload.kubectl.feed(&apply, &applied.to_string())?;
        assert_eq!(annotation(&workload.live()?, "status"), NOTE, "{kind:?}");
    }
    Ok(())
}

async fn anybody_else_gets_our_annotations_back(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    let [name, group] = SOMEBODY;
    let others: [&[&str]; 4] =
        [&[], &["--field-manager=opportune-2"], &[OURS, name, group], &["--field-manager=", name, group]];
    for kind in BOTH {
        let workload = Workload::new(&cluster, kind, cluster.kubectl_for(&cluster.kubeconfig())?)?;
        let before = workload.live()?;
        ensure!(annotation(&before, "status").starts_with("ldap="), "{}", annotation(&before, "status"));
        for options in others {
            for key in ["status", "injected"] {
                for value in [NOTE.into(), Value::Null] {
                    let after = workload.noted(key, value, options)?;
                    assert_eq!(after, annotation(&before, key), "{kind:?} {key} {options:?}");
                }
            }
        }
    }
    Ok(())
}

async fn what_the_controller_changes_in_a_template_is_looked_at(cluster: Cluster) -> Result<()> {
    webhook::shared(&cluster).await?;
    for kind in BOTH {
        let workload = Workload::new(&cluster, kind, cluster.kubectl_for(&cluster.kubeconfig())?)?;
        let before = workload.live()?;
        assert_eq!(workload.noted("status", NOTE.into(), &[OURS])?, NOTE);
        let wants = json!({"opportune.libre.sh/wants": "ldap, mail"});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": wants}}}});
        let after = workload.patched(&patch, &[OURS])?;
        let status = annotation(&after, "status");
        ensure!(status != NOTE && status.contains("mail="), "{kind:?}: {status}");
        assert_ne!(annotation(&after, "injected"), annotation(&before, "injected"), "{kind:?}");
        // A note beside another change of the spec, such as a scaling, is not let through unseen either.
        let scaled = json!({
            "metadata": {"annotations": {"opportune.libre.sh/status": NOTE}},
            "spec": {"replicas": 3},
        });
        assert_eq!(annotation(&workload.patched(&scaled, &[OURS])?, "status"), status, "{kind:?}");
    }
    Ok(())
}

/// A second registration would change whom the shared webhook lets through.
async fn a_controller_with_any_name_is_known_by_it() -> Result<()> {
    let plane = ControlPlane::start(opportune_e2e::Options::default())?;
    let name = r#"o'brien' || true || "\U0001 {{x}} CONTROLLER: "#;
    let controller = plane.user_kubeconfig(name, &["system:masters"])?;
    let _webhook = serve_as(&plane, &controller)?;
    // Only what compiles is taken; that it is true of nobody else is tried.
    let conditions = plane.kubectl(&[
        "get",
        "mutatingwebhookconfiguration",
        CONFIGURATION,
        "-o=jsonpath={.webhooks[*].matchConditions[3].expression}",
    ])?;
    assert_eq!(conditions.matches(r"o\U00000027brien").count(), 2, "{conditions}");

    let workload = Workload::new(&plane, Kind::Deployment, plane.kubectl_for(&controller)?)?;
    let status = eventually("the API server knows the webhook", SOON, async || {
        let touch = json!({"spec": {"template": {"metadata": {"annotations": {"touched": "yes"}}}}});
        let object = workload.patched(&touch, &[])?;
        let status = annotation(&object, "status").to_owned();
        let again = json!({"spec": {"template": {"metadata": {"annotations": {"touched": null}}}}});
        workload.patched(&again, &[])?;
        Ok((!status.is_empty()).then_some(status))
    })
    .await
    .context("no status")?;
    let admin = Workload { kubectl: plane.kubectl_for(&plane.kubeconfig())?, ..workload };
    assert_eq!(admin.noted("status", NOTE.into(), &[OURS])?, status, "the administrator is not the controller here");
    let workload = Workload { kubectl: plane.kubectl_for(&controller)?, ..admin };
    assert_eq!(workload.noted("status", NOTE.into(), &[])?, status);
    assert_eq!(workload.noted("status", NOTE.into(), &[OURS])?, NOTE);
    Ok(())
}

/// The webhook, by the kubeconfig of this user.
fn serve_as(plane: &ControlPlane, kubeconfig: &Path) -> Result<Program> {
    let (listen, admin) = (free_address()?, free_address()?);
    let arguments = ["serve", "--settle=0", "--register", &format!("https://{listen}")].map(str::to_owned);
    Program::against(plane, kubeconfig, arguments)
        .arguments(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
        .start_ready(admin, SOON)
}

trials![
    shared the_controller_changes_our_annotations,
    shared anybody_else_gets_our_annotations_back,
    shared what_the_controller_changes_in_a_template_is_looked_at,
    own a_controller_with_any_name_is_known_by_it,
];
