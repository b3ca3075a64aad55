//! What the whole engine is asked and what it answers, for one workload.

/// Where injection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Only in namespaces labelled `opportune.libre.sh/inject: enabled`.
    #[default]
    OptIn,
    /// In every namespace that is not labelled `opportune.libre.sh/inject: disabled`.
    ClusterWide,
}

/// What the operator of this replica decided.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where injection is on.
    pub mode: Mode,
    /// Namespaces that are never touched, besides `kube-system`.
    pub excluded_namespaces: Vec<String>,
    /// Whether somebody is there to make Secrets and claims.
    pub delivery: DeliveryState,
}

/// Whether a controller is there to make what a patch points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryState {
    /// Somebody delivers (or we are offline, where it is taken as given).
    #[default]
    Present,
    /// Nobody renewed the Lease lately: nothing that needs delivery is newly injected.
    Away,
}
