//! Every key that Opportune reads or writes on Kubernetes objects; nowhere else is one written out.

/// The API group and prefix of all our annotations and labels.
pub const GROUP: &str = "opportune.libre.sh";
/// The version of our own resources.
pub const API_VERSION: &str = "opportune.libre.sh/v1alpha1";
/// What every key of ours starts with.
pub const PREFIX: &str = "opportune.libre.sh/";

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $suffix:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = concat!("opportune.libre.sh/", $suffix);)*
    };
}

keys! {
    /// Workload: use these intents if the cluster has them.
    WANTS = "wants";
    /// Workload: refuse the workload when these can't be satisfied.
    REQUIRES = "requires";
    /// Workload: never these.
    DECLINES = "declines";
    /// Workload: the profile to use, or `none`.
    PROFILE = "profile";
    /// Workload: only these containers.
    CONTAINERS = "containers";
    /// Workload: also mount the settings as files.
    FILES = "files";
    /// Workload: data paths that want a volume, with sizes.
    STORAGE = "storage";
    /// Workload: whether claims outlive it.
    RETAIN = "retain";
    /// Workload: what happens when an offer appears or changes later.
    REFRESH = "refresh";
    /// Workload: `false` leaves it alone. Namespace label: `enabled` or `disabled`.
    INJECT = "inject";
    /// Workload: `false` takes no defaults from the namespace.
    INHERIT = "inherit";
    /// Workload, prefix: only this offer for the intent that follows.
    USE_PREFIX = "use.";
    /// Workload, prefix: the mapping for the intent that follows.
    ENV_PREFIX = "env.";
    /// Written by us: the record of what was added.
    INJECTED = "injected";
    /// Written by us: the outcome for people.
    STATUS = "status";
    /// Written by us on a pod template: the cause of a rollout.
    REFRESHED = "refreshed";
    /// Namespace label: offers of this namespace may reach others.
    PROVIDER = "provider";
    /// Namespace annotation: narrows `provider` to these intents.
    PROVIDES = "provides";
    /// Service label: this Service is an offer of that intent.
    OFFERS = "offers";
    /// Service annotation: a YAML map of settings.
    SETTINGS = "settings";
    /// Service annotation: the Secret beside it that holds credentials.
    CREDENTIALS = "credentials";
    /// Service annotation: which key of the Secret holds which setting.
    CREDENTIALS_KEYS = "credentials-keys";
    /// Service annotation: a label selector over the namespaces that may use it.
    CONSUMERS = "consumers";
    /// Service annotation: higher comes first.
    PRIORITY = "priority";
    /// Delivered objects: the intent that they serve.
    INTENT = "intent";
    /// Delivered objects: the offer that they come from.
    OFFER = "offer";
    /// Delivered Secrets: changes with their values, and tells nothing of them.
    REVISION = "revision";
    /// Delivered Secrets: workloads whose pods were made with earlier values.
    STALE = "stale";
    /// Delivered claims, label: the workload that they were made for, as `kind.name`.
    WORKLOAD = "workload";
    /// Delivered claims, annotation: the path at which they are mounted.
    PATH = "path";
}

/// The label that Kubernetes itself keeps on each Namespace: its name, which can't be forged.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Who manages an object: `opportune` on all that delivery makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The variable that names the root of files in the servicebinding.io layout.
pub const SERVICE_BINDING_ROOT: &str = "SERVICE_BINDING_ROOT";
/// The root that we choose where the user set none.
pub const DEFAULT_BINDING_ROOT: &str = "/bindings";
/// The namespace that is never touched.
pub const KUBE_SYSTEM: &str = "kube-system";
