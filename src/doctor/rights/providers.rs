//! Whether the controller sees at once that a Secret of a provider changed. Nothing is broken where it does not.
use super::{CHECK, ask_for};
use crate::{
    cluster::{CONTROLLER_ACCOUNT, look::Look},
    doctor::Finding,
};
use kube::Client;
use serde_json::{Value, json};

/// The ClusterRole that is bound in a provider's namespace.
const ROLE: &str = "opportune-provider";

/// Asks for each namespace whose credentials are offered.
pub(super) async fn look(client: &Client, namespace: &str, providers: &[String]) -> Vec<Finding> {
    let attributes: Vec<Value> = providers
        .iter()
        .map(|provider| json!({"group": "", "resource": "secrets", "verb": "watch", "namespace": provider}))
        .collect();
    let answers = ask_for(client, namespace, CONTROLLER_ACCOUNT, attributes).await;
    let pairs = providers.iter().zip(&answers);
    pairs.map(|(provider, answer)| judge(namespace, provider, answer)).collect()
}

fn judge(namespace: &str, provider: &str, answer: &Look<bool>) -> Finding {
    match answer {
        Look::Found(true) => Finding::ok(
            CHECK,
            format!("{CONTROLLER_ACCOUNT} may watch Secrets in {provider}, which offers some"),
        ),
        Look::Found(false) => Finding::warn(
            CHECK,
            format!(
                "{CONTROLLER_ACCOUNT} may not watch Secrets in {provider}, and reads those that are offered every 30 s: \
                 rotation is seen late"
            ),
            format!(
                "kubectl create rolebinding {ROLE} -n {provider} --clusterrole={ROLE} \
                 --serviceaccount={namespace}:{CONTROLLER_ACCOUNT}"
            ),
        ),
        look => Finding::blind(CHECK, look)
            .unwrap_or_else(|| Finding::skip(CHECK, format!("Secrets in {provider}: no answer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    #[test]
    fn a_provider_that_is_not_watched_is_named_with_the_command_that_helps() {
        let finding = judge("ours", "directory", &Look::Found(false));
        assert_eq!(finding.result, Mark::Warn);
        assert_eq!(
            finding.todo.as_deref(),
            Some(
                "kubectl create rolebinding opportune-provider -n directory --clusterrole=opportune-provider \
                 --serviceaccount=ours:opportune-controller"
            )
        );
        assert_eq!(judge("ours", "directory", &Look::Found(true)).result, Mark::Ok);
        assert_eq!(judge("ours", "directory", &Look::Failed("x".into())).result, Mark::Warn);
    }
}
