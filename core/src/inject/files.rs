//! Settings as files, in the layout of servicebinding.io: `$SERVICE_BINDING_ROOT/<intent>/<setting>`.
use super::{Target, additions::Entry, fitted::Fitted};
use crate::{
    decide::{Skipped, data_path},
    discover::Offer,
    intent::Intent,
    json::Json,
    keys,
    name::{bounded, hex},
    workload::Container,
};

/// The mode of files in a volume. The server would add it, and the entry would no longer be as we wrote it.
pub(super) const DEFAULT_MODE: i64 = 0o644;

/// Adds the files of one intent to what is fitted.
pub(super) fn add(target: &Target<'_>, intent: &Intent, offer: &Offer, fitted: &mut Fitted) {
    let volume = bounded(&format!("opportune-{intent}"), &hex(&["files", intent.as_str()], 6));
    if target.workload.volumes().iter().any(|other| other.text("name") == volume) {
        fitted.skipped.push(Skipped::new(volume, "a volume of this name exists"));
        return;
    }
    let mut is_mounted = false;
    for container in &target.containers {
        let Some(root) = root(container) else {
            fitted.skipped.push(Skipped::new("files", "SERVICE_BINDING_ROOT is not a plain path"));
            continue;
        };
        let path = format!("{root}/{intent}");
        if let Some(obstacle) = target.obstacle(container, &path) {
            fitted.skipped.push(Skipped::new(path, obstacle));
            continue;
        }
        is_mounted = true;
        let mount = Json::object([
            ("name", volume.clone().into()),
            ("mountPath", path.clone().into()),
            ("readOnly", true.into()),
        ]);
        let mounts = fitted.additions.mounts.entry(container.name.to_owned()).or_default();
        mounts.push(Entry::new(intent, path, mount));
        if container.variable(keys::SERVICE_BINDING_ROOT).is_none() {
            let value = Json::object([("name", keys::SERVICE_BINDING_ROOT.into()), ("value", root.into())]);
            let env = fitted.additions.env.entry(container.name.to_owned()).or_default();
            env.push(Entry::new(intent, keys::SERVICE_BINDING_ROOT, value));
        }
    }
    if is_mounted {
        let secret = fitted.secret(intent, offer);
        let value = Json::object([
            ("name", volume.clone().into()),
            ("secret", Json::object([("secretName", secret.into()), ("defaultMode", DEFAULT_MODE.into())])),
        ]);
        fitted.additions.volumes.push(Entry::new(intent, volume, value));
    }
}

/// The root that the user set, else ours; `None` where it can't be known now.
fn root(container: &Container<'_>) -> Option<String> {
    match container.variable(keys::SERVICE_BINDING_ROOT) {
        None => Some(keys::DEFAULT_BINDING_ROOT.to_owned()),
        Some(entry) => {
            let value = entry.get("value").and_then(Json::as_str)?;
            data_path(value).ok().filter(|path| !path.contains('$'))
        }
    }
}
