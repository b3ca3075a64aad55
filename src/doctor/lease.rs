//! Whether a controller is alive: its Lease has to change while we look. Clocks of two machines are not compared.
use kube::Client;
use serde_json::Value;
use std::time::Duration;
use tokio::time::sleep;

use super::{Finding, text};
use crate::{
    cluster::{
        LEASE,
        look::{Kind, Look},
    },
    control::Times,
};

const CHECK: &str = "lease";
const LEASES: Kind = Kind::of("coordination.k8s.io", "v1", "leases");
/// Between two looks: longer than between two renewals.
const PAUSE: Duration = Duration::from_secs(3);

/// Looks until the Lease changes, at most for as long as it is held after a renewal.
pub(super) async fn look(client: &Client, namespace: &str) -> Finding {
    let get = || LEASES.get(client, Some(namespace), LEASE);
    let first = get().await;
    let Some(seen) = first.found() else { return absent(&first, namespace) };
    let mut waited = Duration::ZERO;
    while waited < Times::default().lease {
        if text(seen, "/spec/holderIdentity").is_empty() {
            break;
        }
        sleep(PAUSE).await;
        waited += PAUSE;
        let now = get().await;
        let Some(now) = now.found() else { return absent(&now, namespace) };
        if now.get("spec") != seen.get("spec") {
            return Finding::ok(
                CHECK,
                format!("{} leads, and renewed the Lease while we looked", text(now, "/spec/holderIdentity")),
            );
        }
    }
    stale(seen, namespace, waited)
}

fn absent(look: &Look<Value>, namespace: &str) -> Finding {
    Finding::blind(CHECK, look).unwrap_or_else(|| {
        let todo = "run a replica with the role controller, in the same --namespace, and read its log; `doctor -n` names another \
                    namespace";
        Finding::fail(CHECK, format!("there is no Lease {namespace}/{LEASE}: no controller ever ran there"), todo)
    })
}

fn stale(lease: &Value, namespace: &str, waited: Duration) -> Finding {
    let holder = text(lease, "/spec/holderIdentity");
    let renewed = text(lease, "/spec/renewTime");
    let what = match holder {
        "" => format!("nobody holds the Lease {namespace}/{LEASE}; it was given back at {renewed}"),
        holder => format!(
            "{holder} holds the Lease {namespace}/{LEASE} and has not renewed it for {} s; its last renewal says {renewed}",
            waited.as_secs()
        ),
    };
    let todo = "nothing that needs a Secret or a claim is injected until a controller runs: read its log and its rights";
    Finding::fail(CHECK, what, todo)
}
