//! The webhooks of configuration `opportune-policies`: one for each policy that acts on workloads without annotations, one more
//! for what it enforces and can't be given to other kinds, and two for the defaults of Namespaces.
//!
//! What they have in common with configuration `opportune` (where to call, how long to wait, who the controller is) is read from
//! that one, so that the chart and `--register` need not say it twice.
use opportune_core::{
    admit::{Inheritance, Mode, Options, uninjected_kinds},
    api::OnAbsent,
    discover::{Catalog, Policy},
    keys,
    name::hex,
    workload::Kind,
};
use serde_json::{Map, Value, json};

/// What follows the name of a policy in that of its webhook.
const OF_POLICY: &str = "policies.opportune.libre.sh";
/// What follows it in that of the webhook for kinds that are not injected.
const OF_OTHERS: &str = "others.opportune.libre.sh";
/// The webhooks for the defaults of Namespaces, which begin with what they are about.
pub const OF_NAMESPACES: &str = "namespaces.opportune.libre.sh";
/// The longest name of a policy that stands as it is in a webhook's, which has 253 characters at most.
const MAX_NAME: usize = 200;

/// Where a workload's annotations of ours may stand, as lists of maps.
const ANNOTATIONS: &str = "[o.metadata.?annotations.orValue({}), o.spec.?template.?metadata.?annotations.orValue({}), \
                           o.spec.?jobTemplate.?spec.?template.?metadata.?annotations.orValue({})]";
/// Another controller owns the object.
const IS_OWNED: &str =
    "object.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false))";
/// A controller of Kubernetes asks, or a kubelet: what these make of a template was decided on as that template.
const IS_KUBERNETES: &str = "(request.userInfo.username == 'system:kube-controller-manager' || \
                             request.userInfo.?groups.orValue([]).exists(group, \
                             group in ['system:serviceaccounts:kube-system', 'system:nodes']))";

/// What all webhooks have in common.
struct Common<'a> {
    options: &'a Options,
    /// The first webhook of configuration `opportune`.
    model: &'a Value,
}

/// The webhooks that policies and Namespaces ask for; `None` where `model`, the configuration `opportune`, has no webhook to
/// take after.
pub fn webhooks(catalog: &Catalog, options: &Options, model: &Value) -> Option<Vec<Value>> {
    let model = model.pointer("/webhooks/0").filter(|webhook| webhook.get("clientConfig").is_some())?;
    let common = Common { options, model };
    let mut webhooks = Vec::new();
    for policy in catalog.policies() {
        webhooks.extend(common.of_policy(policy));
        webhooks.extend(common.of_others(policy));
    }
    if options.inheritance == Inheritance::FromNamespace {
        webhooks.extend(common.of_namespaces(catalog));
    }
    Some(webhooks)
}

// === impl Common ===

impl Common<'_> {
    /// The webhook by which a policy acts on workloads that are injected.
    fn of_policy(&self, policy: &Policy) -> Option<Value> {
        let spec = &policy.spec;
        if !policy.acts_unasked() && spec.forbid.is_empty() {
            return None;
        }
        let mut conditions = vec![changes()];
        if !policy.acts_unasked() {
            // Where nothing of ours was asked for or added, there is nothing to forbid.
            conditions.push(condition(
                "concerns",
                &format!("[object, oldObject].exists(o, o != null && {})", has_key()),
            ));
        }
        if spec.enforce.is_empty() {
            let annotated = format!("[object].exists(o, {})", has_key());
            conditions.push(condition("is-not-an-operators", &format!("!{IS_OWNED} || {annotated}")));
        } else {
            conditions
                .push(condition("is-not-made-by-kubernetes", &format!("!({IS_OWNED} && {IS_KUBERNETES})")));
        }
        let is_by_label = spec.enforce.is_empty() && spec.forbid.is_empty();
        let rules = rules(
            Kind::ALL
                .into_iter()
                .filter(|kind| self.options.kinds.has(*kind))
                .map(|kind| (kind.group(), kind.plural(), kind.is_made_once())),
        );
        let mut webhook =
            self.webhook(&webhook_name(policy, OF_POLICY), is_strict(policy), rules, conditions);
        webhook["clientConfig"] = self.called_for(policy);
        webhook["namespaceSelector"] = self.namespaces(Some(policy), is_by_label, None);
        if let Some(selector) = &spec.workload_selector {
            webhook["objectSelector"] = json!(selector);
        }
        Some(webhook)
    }

    /// The webhook by which what is enforced is not got round by a kind that can't be given it.
    fn of_others(&self, policy: &Policy) -> Option<Value> {
        if policy.spec.enforce.is_empty() {
            return None;
        }
        let rules = rules(
            uninjected_kinds(&self.options.kinds).map(|kind| (kind.group, kind.plural, kind.is_made_once)),
        );
        let conditions = vec![
            changes(),
            condition("is-not-made-by-kubernetes", &format!("!({IS_OWNED} && {IS_KUBERNETES})")),
        ];
        let mut webhook =
            self.webhook(&webhook_name(policy, OF_OTHERS), is_strict(policy), rules, conditions);
        webhook["clientConfig"] = self.called_for(policy);
        webhook["namespaceSelector"] = self.namespaces(Some(policy), false, None);
        Some(webhook)
    }

    /// Those by which workloads without annotations get what their Namespaces say.
    fn of_namespaces(&self, catalog: &Catalog) -> Vec<Value> {
        let mut saying: Vec<(&String, bool)> = catalog
            .namespaces()
            .filter(|(name, _)| self.options.is_on(catalog, name))
            .filter_map(|(name, facts)| Some((name, !facts.defaults.as_ref()?.wishes.requires.is_empty())))
            .collect();
        saying.sort_unstable();
        let named = |requires: bool| -> Vec<&String> {
            saying.iter().filter(|(_, other)| *other == requires).map(|(name, _)| *name).collect()
        };
        let kinds = || Kind::ALL.into_iter().filter(|kind| self.options.kinds.has(*kind));
        let rules = || rules(kinds().map(|kind| (kind.group(), kind.plural(), kind.is_made_once())));
        let one = |what: &str, requires: bool, not: &str| {
            let names = named(requires);
            if names.is_empty() {
                return None;
            }
            let conditions = vec![
                changes(),
                condition("is-not-an-operators", &format!("!{IS_OWNED}")),
                // Those the webhooks of configuration `opportune` are called for.
                condition("is-nobody-elses", not),
            ];
            let mut webhook = self.webhook(&format!("{what}.{OF_NAMESPACES}"), requires, rules(), conditions);
            webhook["clientConfig"] = self.model.get("clientConfig").cloned().unwrap_or_default();
            webhook["namespaceSelector"] = self.namespaces(None, true, Some(&names));
            Some(webhook)
        };
        let untouched = format!("![object, oldObject].exists(o, o != null && {})", has_key());
        let not_required = format!("![object].exists(o, {ANNOTATIONS}.exists(a, '{}' in a))", keys::REQUIRES);
        [one("defaults", false, &untouched), one("requires", true, &not_required)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn webhook(&self, name: &str, is_strict: bool, rules: Value, mut conditions: Vec<Value>) -> Value {
        conditions.insert(0, condition("stays", "!has(object.metadata.deletionTimestamp)"));
        let models = self.model.get("matchConditions").and_then(Value::as_array).into_iter().flatten();
        let note = |condition: &&Value| {
            condition.get("name").is_some_and(|name| name == super::controller::CONDITION)
        };
        conditions.extend(models.filter(note).cloned());
        let taken = |field: &str, default: Value| self.model.get(field).cloned().unwrap_or(default);
        json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "failurePolicy": if is_strict { "Fail" } else { "Ignore" },
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "timeoutSeconds": taken("timeoutSeconds", json!(5)),
            "objectSelector": {},
            "rules": rules,
            "matchConditions": conditions,
        })
    }

    /// Where to call for a policy: as for annotations, at the policy's own path.
    fn called_for(&self, policy: &Policy) -> Value {
        let mut config = self.model.get("clientConfig").cloned().unwrap_or_default();
        let further =
            |path: &str| Value::from(format!("{}/policies/{}", path.trim_end_matches('/'), policy.name));
        if let Some(url) = config.get("url").and_then(Value::as_str) {
            config["url"] = further(url);
        } else if let Some(service) = config.get_mut("service").and_then(Value::as_object_mut) {
            let path = service.get("path").and_then(Value::as_str).unwrap_or_default();
            let path = further(path);
            service.insert("path".to_owned(), path);
        }
        config
    }

    /// The namespaces: those of a policy or by name, but for those that are never touched; where `is_by_label`, only those in
    /// which injection is on.
    fn namespaces(&self, policy: Option<&Policy>, is_by_label: bool, names: Option<&Vec<&String>>) -> Value {
        let selector = policy.and_then(|policy| policy.spec.namespace_selector.as_ref());
        let mut selector = selector.map_or_else(|| json!({}), |selector| json!(selector));
        let mut expressions =
            selector.get("matchExpressions").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut excluded = vec![keys::KUBE_SYSTEM];
        excluded.extend(self.options.excluded_namespaces.iter().map(String::as_str));
        excluded.sort_unstable();
        excluded.dedup();
        if let Some(names) = names {
            expressions.push(json!({"key": keys::NAMESPACE_NAME, "operator": "In", "values": names}));
        }
        expressions.push(json!({"key": keys::NAMESPACE_NAME, "operator": "NotIn", "values": excluded}));
        if is_by_label {
            expressions.push(match self.options.mode {
                Mode::OptIn => json!({"key": keys::INJECT, "operator": "In", "values": ["enabled"]}),
                Mode::ClusterWide => {
                    json!({"key": keys::INJECT, "operator": "NotIn", "values": ["disabled"]})
                }
            });
        }
        selector["matchExpressions"] = expressions.into();
        selector
    }
}

/// Whether a workload is refused while nobody can say whether it gets what the policy enforces.
fn is_strict(policy: &Policy) -> bool {
    policy.spec.on_absent == OnAbsent::Deny && !policy.spec.enforce.is_empty()
}

fn webhook_name(policy: &Policy, suffix: &str) -> String {
    match policy.name.len() <= MAX_NAME {
        true => format!("{}.{suffix}", policy.name),
        false => format!("{}.{suffix}", hex(&[&policy.name], 40)),
    }
}

fn condition(name: &str, expression: &str) -> Value {
    json!({"name": name, "expression": expression})
}

/// A CEL expression: whether `o` has a key of ours.
fn has_key() -> String {
    format!("{ANNOTATIONS}.exists(a, a.exists(k, k.startsWith('{}')))", keys::PREFIX)
}

/// Something changed that we look at.
fn changes() -> Value {
    let template = |o: &str| {
        format!(
            "[{o}.spec.?template.orValue({{}}), {o}.spec.?jobTemplate.?spec.?template.orValue({{}}), \
             {o}.spec.?volumeClaimTemplates.orValue([])]"
        )
    };
    let annotations = |o: &str| format!("{o}.metadata.?annotations.orValue({{}})");
    let (new, old) = (annotations("object"), annotations("oldObject"));
    let prefix = keys::PREFIX;
    condition(
        "changes",
        &format!(
            "oldObject == null || {} != {} || [[{new}, {old}], [{old}, {new}]].exists(pair, pair[0].exists(k, \
             k.startsWith('{prefix}') && (!(k in pair[1]) || pair[0][k] != pair[1][k])))",
            template("object"),
            template("oldObject")
        ),
    )
}

/// Rules for resources, each with its group and whether it can't change once it is there.
fn rules(resources: impl Iterator<Item = (&'static str, &'static str, bool)>) -> Value {
    let mut rules: Vec<(&str, bool, Vec<&str>)> = Vec::new();
    for (group, plural, is_made_once) in resources {
        match rules.iter_mut().find(|(other, once, _)| (*other, *once) == (group, is_made_once)) {
            Some((.., plurals)) => plurals.push(plural),
            None => rules.push((group, is_made_once, vec![plural])),
        }
    }
    let rule = |(group, is_made_once, plurals): (&str, bool, Vec<&str>)| {
        let operations = if is_made_once { json!(["CREATE"]) } else { json!(["CREATE", "UPDATE"]) };
        json!({"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": plurals, "scope": "Namespaced"})
    };
    rules.into_iter().map(rule).collect()
}

/// The same webhooks with the `caBundle` that each has in `configuration`; a new one takes the model's, since one without would
/// refuse every request. `None` where the configuration has them all as they are.
pub fn written(configuration: &Value, mut webhooks: Vec<Value>) -> Option<Value> {
    let known = configuration.get("webhooks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for webhook in &mut webhooks {
        let known = known.iter().find(|known| known.get("name") == webhook.get("name"));
        let bundle = known.and_then(|known| known.pointer("/clientConfig/caBundle"));
        if let (Some(bundle), Some(config)) =
            (bundle, webhook.get_mut("clientConfig").and_then(Value::as_object_mut))
        {
            config.insert("caBundle".to_owned(), bundle.clone());
        }
    }
    if known == webhooks {
        return None;
    }
    let mut configuration = configuration.clone();
    let fields: Option<&mut Map<String, Value>> = configuration.as_object_mut();
    if let Some(fields) = fields {
        match webhooks.is_empty() {
            true => drop(fields.remove("webhooks")),
            false => drop(fields.insert("webhooks".to_owned(), webhooks.into())),
        }
    }
    Some(configuration)
}

#[cfg(test)]
#[path = "policies/tests.rs"]
mod tests;
