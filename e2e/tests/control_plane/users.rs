//! Whom the API server lets in.
use crate::trial::{Cluster, trials};
use anyhow::Result;

async fn a_service_account_without_rights_is_refused(cluster: Cluster) -> Result<()> {
    let namespace = cluster.namespace("powerless")?;
    cluster.kubectl(&["-n", &namespace, "create", "serviceaccount", "nobody"])?;
    let kubectl = cluster.kubectl_for(&cluster.service_account_kubeconfig(&namespace, "nobody")?)?;

    let said = kubectl.refused(&["-n", &namespace, "get", "secrets"], "")?;
    let name = format!("system:serviceaccount:{namespace}:nobody");
    assert!(said.contains(&name) && said.contains("cannot list resource \"secrets\""), "{said}");
    Ok(())
}

async fn a_user_is_known_by_name_and_groups(cluster: Cluster) -> Result<()> {
    let kubectl = cluster.kubectl_for(&cluster.user_kubeconfig("jane", &["team-a", "team-b"])?)?;
    let user = kubectl.run(&["auth", "whoami", "-o=jsonpath={.status.userInfo.username} {.status.userInfo.groups}"])?;
    assert_eq!(user, r#"jane ["team-a","team-b","system:authenticated"]"#);
    Ok(())
}

trials![
    shared a_service_account_without_rights_is_refused,
    shared a_user_is_known_by_name_and_groups,
];
