//! The walk-through of docs/guide/custom-intents.md on a real API server, by the YAML that stands there.
use crate::{
    delivered::{PROMPT, value},
    installed::Installed,
    trial::trials,
    workload::{annotation, text, variables},
};
use anyhow::{Context, Result, ensure};
use opportune_e2e::eventually;
use std::{fs, path::Path};

async fn an_own_intent_and_an_own_app_need_no_rust() -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/custom-intents.md");
    let page = fs::read_to_string(page)?;
    let blocks: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [caches, profile, policy, shop] = blocks[..] else {
        anyhow::bail!("the page has {} blocks", blocks.len());
    };
    let installed = Installed::start(&[], &[], 1).await?;
    for block in [caches, profile, policy] {
        installed.plane.apply(block)?;
    }
    // The app's namespace comes first, as it does in the block, and the Deployment when the policy is known to act there.
    let (namespace, deployment) = shop.split_once("---\n").context("two objects")?;
    installed.plane.apply(namespace)?;
    let object = eventually("the policy acts on the app", PROMPT, async || {
        let kubectl = installed.plane.kubectl_for(&installed.plane.kubeconfig())?;
        let tried = kubectl.feed(&["apply", "--dry-run=server", "-o", "json", "-f", "-"], deployment)?;
        let tried: serde_json::Value = serde_json::from_str(&tried)?;
        ensure!(!annotation(&tried, "status").is_empty(), "nothing is asked for yet");
        installed.plane.apply(deployment)?;
        Ok(Some(installed.admin.get("Deployment", "shop", "storefront").await?))
    })
    .await?;
    let status = annotation(&object, "status");
    ensure!(status == "cache=caches/redis (by default of policy cache-for-shops)", "{status}");
    for (name, expected) in [("CACHE_ADDRESS", "redis.caches.svc:6379"), ("CACHE_PREFIX", "storefront:")] {
        let entry = variables(&object, name);
        ensure!(entry.first().is_some_and(|entry| text(entry, "/value") == expected), "{name} is {entry:?}");
    }
    eventually("the password is delivered", PROMPT, async || {
        let password = value(&installed.admin, &object, "CACHE_PASSWORD").await?;
        Ok((password == "not-a-real-one").then_some(()))
    })
    .await
}

trials![own an_own_intent_and_an_own_app_need_no_rust];
