//! Slots: the names of the places in a workload where something of ours can stand.

/// A place in a workload: `env/<container>/<name>`, `mount/<container>/<path>`, `volume/<name>`, `template/<name>`,
/// `class/<template>` or `pod/<field>`.
pub(crate) type Slot = String;

/// The kinds of places: the first part of a slot.
pub(super) const ENV: &str = "env";
pub(super) const MOUNT: &str = "mount";
pub(super) const VOLUME: &str = "volume";
pub(super) const TEMPLATE: &str = "template";
pub(super) const CLASS: &str = "class";
pub(super) const POD: &str = "pod";
/// The place of the workload's own annotations among those that may be empty.
pub(super) const ANNOTATIONS: &str = "annotations";

/// The slot of these parts.
pub(super) fn slot(parts: &[&str]) -> Slot {
    parts.join("/")
}

/// The place of a variable.
pub(super) fn variable_slot(container: &str, name: &str) -> Slot {
    slot(&[ENV, container, name])
}
