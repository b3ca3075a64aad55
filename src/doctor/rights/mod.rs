//! The rights of our ServiceAccounts: those that the code needs, some that they must not have, and those that make delivery
//! prompt.
mod providers;
mod table;

use futures_util::{StreamExt, stream};
use kube::Client;
use opportune_core::workload::Kinds;
use serde_json::{Value, json};

use self::table::{CONTROLLER_EXCESS, EXCESS, Right, WEBHOOK_EXCESS};
use super::{Finding, some};
use crate::cluster::{
    CA_SECRET, CONTROLLER_ACCOUNT,
    look::{Kind, Look, post},
};

const CHECK: &str = "rights";
const ACCOUNTS: Kind = Kind::of("", "v1", "serviceaccounts");
const SECRETS: Kind = Kind::of("", "v1", "secrets");
const WEBHOOK_ACCOUNT: &str = "opportune-webhook";
/// How many questions are asked at once.
const AT_ONCE: usize = 8;

/// Asks the API server what the ServiceAccounts may do; `providers` are the namespaces whose credentials are offered.
pub(super) async fn look(
    client: &Client,
    namespace: &str,
    configuration: Option<&Value>,
    kinds: &Kinds,
    providers: &[String],
) -> Vec<Finding> {
    let is_managed = is_managed(client, namespace, configuration).await;
    let accounts: [(_, Vec<Right>, _); 2] = [
        (WEBHOOK_ACCOUNT, table::webhook().collect(), [EXCESS.as_slice(), &WEBHOOK_EXCESS].concat()),
        (
            CONTROLLER_ACCOUNT,
            table::controller(kinds).collect(),
            [EXCESS.as_slice(), &CONTROLLER_EXCESS].concat(),
        ),
    ];
    let mut findings = Vec::new();
    for (account, needed, excess) in accounts {
        let there = ACCOUNTS.get(client, Some(namespace), account).await;
        if there == Look::Missing {
            let what = format!("{account}: no such ServiceAccount in {namespace}; rights not asked for");
            findings.push(Finding::skip(CHECK, what));
            continue;
        }
        let needed: Vec<Right> =
            needed.into_iter().filter(|right| is_managed || !right.is_for_managed()).collect();
        let answers = ask(client, namespace, account, &needed).await;
        findings.push(judge_needed(namespace, account, &needed, &answers));
        if answers.iter().all(|answer| answer.found().is_some()) {
            let answers = ask(client, namespace, account, &excess).await;
            findings.push(judge_excess(account, &excess, &answers));
            if account == CONTROLLER_ACCOUNT {
                findings.extend(providers::look(client, namespace, providers).await);
            }
        }
    }
    findings
}

/// Whether we make the certificates ourselves: where our authority is missing and yet somebody is trusted, others do. (Where
/// nobody is, a right may be what lacks.)
async fn is_managed(client: &Client, namespace: &str, configuration: Option<&Value>) -> bool {
    let is_missing = SECRETS.metadata(client, Some(namespace), CA_SECRET).await == Look::Missing;
    let trusts =
        configuration.is_some_and(|object| object.pointer("/webhooks/0/clientConfig/caBundle").is_some());
    !(is_missing && trusts)
}

async fn ask(client: &Client, namespace: &str, account: &str, rights: &[Right]) -> Vec<Look<bool>> {
    let questions = rights.iter().map(|right| right.attributes(namespace)).collect();
    ask_for(client, namespace, account, questions).await
}

/// Whether a ServiceAccount of ours may do each of these.
async fn ask_for(client: &Client, namespace: &str, account: &str, attributes: Vec<Value>) -> Vec<Look<bool>> {
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answers = stream::iter(attributes).map(async |attributes| {
        let answer = post(client, path, &question(namespace, account, &attributes)).await;
        answer.map(|answer| answer.pointer("/status/allowed").and_then(Value::as_bool) == Some(true))
    });
    answers.buffered(AT_ONCE).collect().await
}

fn question(namespace: &str, account: &str, attributes: &Value) -> Value {
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{namespace}:{account}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "resourceAttributes": attributes,
        },
    })
}

fn judge_needed(namespace: &str, account: &str, rights: &[Right], answers: &[Look<bool>]) -> Finding {
    if let Some(why) = answers.iter().find_map(Look::blocked) {
        let why = if why.starts_with("no right") {
            "no right to create subjectaccessreviews".to_owned()
        } else {
            why
        };
        let what = format!("{account}: can't look: {why}");
        return Finding::warn(CHECK, what, "ask somebody who may, or go on without this check");
    }
    let lacking: Vec<String> = chosen(rights, answers, false).map(|right| right.told(namespace)).collect();
    match lacking.is_empty() {
        true => Finding::ok(CHECK, format!("{account} has the {} rights that it needs", rights.len())),
        false => Finding::fail(
            CHECK,
            format!(
                "{account} lacks {} of {} rights: {}",
                lacking.len(),
                rights.len(),
                some(lacking.iter().map(String::as_str))
            ),
            "install the chart's roles and bindings again",
        ),
    }
}

fn judge_excess(account: &str, rights: &[Right], answers: &[Look<bool>]) -> Finding {
    let excess: Vec<String> =
        chosen(rights, answers, true).map(|right| format!("{} ({})", right.short(), right.code)).collect();
    match excess.is_empty() {
        true => {
            Finding::ok(CHECK, format!("{account} has none of {} rights that it must not have", rights.len()))
        }
        false => Finding::warn(
            CHECK,
            format!("{account} may do what it need not: {}", some(excess.iter().map(String::as_str))),
            "take away the roles that give it more than the chart does",
        ),
    }
}

fn chosen<'a>(
    rights: &'a [Right],
    answers: &'a [Look<bool>],
    allowed: bool,
) -> impl Iterator<Item = &'a Right> {
    let pairs = rights.iter().zip(answers);
    pairs.filter(move |(_, answer)| answer.found() == Some(&allowed)).map(|(right, _)| right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    #[test]
    fn every_right_is_needed_by_code_that_exists() {
        for right in table::webhook().chain(table::controller(&Kinds::all())) {
            let path = right.code.split(':').next().unwrap();
            assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
        }
    }

    #[test]
    fn what_lacks_and_what_is_too_much_is_named() {
        let rights: Vec<Right> = table::controller(&Kinds::default()).take(2).collect();
        let finding = judge_needed("ours", "a", &rights, &[Look::Found(true), Look::Found(false)]);
        assert_eq!(finding.result, Mark::Fail);
        assert!(
            finding.what.contains("get leases.coordination.k8s.io opportune in ours"),
            "{}",
            finding.what
        );
        let finding = judge_excess("a", &EXCESS[..1], &[Look::Found(true)]);
        assert!(finding.result == Mark::Warn && finding.what.contains("list secrets"), "{finding:?}");
        let finding =
            judge_needed("ours", "a", &rights, &[Look::Forbidden(String::new()), Look::Found(true)]);
        assert!(finding.what.contains("no right to create subjectaccessreviews"), "{finding:?}");
    }
    #[test]
    fn a_subresource_is_asked_for_as_one() {
        let right =
            table::controller(&Kinds::default()).find(|right| right.short().contains("/status")).unwrap();
        assert_eq!(right.short(), "patch serviceoffers/status.opportune.libre.sh");
        let asked = right.attributes("ours");
        assert_eq!((&asked["resource"], &asked["subresource"]), (&json!("serviceoffers"), &json!("status")));
    }
}
