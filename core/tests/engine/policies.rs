//! Policies (1.6): what a platform team defaults, enforces, forbids, prefers and limits, and what a workload can't undo.
use serde_json::{Value, json};

use crate::world::*;

/// A policy of that name, its spec as YAML.
pub fn policy(name: &str, spec: &str) -> Value {
    json!({"apiVersion": "opportune.libre.sh/v1alpha1", "kind": "InjectionPolicy",
        "metadata": {"name": name}, "spec": yaml(spec)})
}

fn app() -> Value {
    deployment("example.org/unknown:1")
}

#[test]
fn a_default_is_as_good_as_a_wish_and_gives_way_to_a_decline() {
    let world = World::full().and(policy("base", "defaults: [ldap, mail]"));
    let after = inject(&app(), &world.catalog());
    assert_eq!(literal(&after, "LDAP_HOST"), Some("openldap.directory.svc"));
    assert_eq!(
        status(&after),
        "ldap=directory/openldap (by default of policy base); mail=mail/mailu-front (by default of policy base)"
    );
    let after = inject(&asking(app(), &[("declines", "mail"), ("wants", "ldap")]), &world.catalog());
    assert_eq!(status(&after), "ldap=directory/openldap; mail=declined");
}
