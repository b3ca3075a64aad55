//! The webhooks of configuration `opportune-policies`: one for each policy that acts on workloads without annotations, one more
//! for what it enforces and can't be given to other kinds, and two for the defaults of Namespaces.
//!
//! What they have in common with configuration `opportune` (where to call, how long to wait, who the controller is) is read from
//! that one, so that the chart and `--register` need not say it twice.
use super::{CONFIGURATIONS, controller::CONDITION};
use crate::cluster::{POLICIES_CONFIGURATION, look::Look};
use kube::Client;
use opportune_core::{
    admit::{Inheritance, Mode, Options, uninjected_kinds},
    api::OnAbsent,
    discover::{Catalog, LabelSelector, Policy},
    keys,
    name::hex,
};
use serde_json::{Value, json};

/// What follows the name of a policy in that of its webhook.
const OF_POLICY: &str = "policies.opportune.libre.sh";
/// What follows it in that of the webhook for kinds that are not injected.
const OF_OTHERS: &str = "others.opportune.libre.sh";
/// The webhooks for the defaults of Namespaces, which begin with what they are about.
const OF_NAMESPACES: &str = "namespaces.opportune.libre.sh";
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

/// One webhook, in what it does not share with the others.
struct Webhook {
    name: String,
    /// Whether a request fails where nobody answers.
    is_strict: bool,
    rules: Value,
    conditions: Vec<Value>,
    client_config: Value,
    namespaces: Value,
    objects: Value,
}

/// Whether configuration `opportune-policies` of a cluster has webhooks for the defaults of Namespaces; what can't be read has none.
pub async fn has_namespaces(client: &Client) -> bool {
    let Look::Found(configuration) = CONFIGURATIONS.get(client, None, POLICIES_CONFIGURATION).await else {
        return false;
    };
    let names = configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    let mut names = names.filter_map(|webhook| webhook.get("name")?.as_str());
    names.any(|name| name.ends_with(OF_NAMESPACES))
}

/// The webhooks that policies and Namespaces ask for; `None` where `model`, the configuration `opportune`, has no webhook to
/// take after.
pub fn webhooks(catalog: &Catalog, options: &Options, model: &Value) -> Option<Vec<Value>> {
    let model = model.pointer("/webhooks/0").filter(|webhook| can_be_called(webhook))?;
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
            let concerns = format!("[object, oldObject].exists(o, o != null && {})", has_key());
            conditions.push(condition("concerns", &concerns));
        }
        conditions.push(match spec.enforce.is_empty() {
            true => is_no_operators(&format!(" || [object].exists(o, {})", has_key())),
            false => is_not_made_by_kubernetes(),
        });
        let webhook = Webhook {
            name: webhook_name(policy, OF_POLICY),
            is_strict: is_strict(policy),
            rules: self.rules_of_injected(),
            conditions,
            client_config: self.called_for(policy),
            namespaces: self.namespaces(spec.namespace_selector.as_ref(), policy.acts_where_on(), None),
            objects: spec.workload_selector.as_ref().map_or_else(|| json!({}), |selector| json!(selector)),
        };
        Some(webhook.write(self.model))
    }

    /// The webhook by which what is enforced is not got round by a kind that can't be given it.
    fn of_others(&self, policy: &Policy) -> Option<Value> {
        if policy.spec.enforce.is_empty() {
            return None;
        }
        let kinds = uninjected_kinds(&self.options.kinds);
        let webhook = Webhook {
            name: webhook_name(policy, OF_OTHERS),
            is_strict: is_strict(policy),
            rules: rules(kinds.map(|kind| (kind.group, kind.plural, kind.is_made_once))),
            conditions: vec![changes(), is_not_made_by_kubernetes()],
            client_config: self.called_for(policy),
            namespaces: self.namespaces(policy.spec.namespace_selector.as_ref(), false, None),
            objects: json!({}),
        };
        Some(webhook.write(self.model))
    }

    /// Those by which workloads without annotations get what their Namespaces say.
    fn of_namespaces(&self, catalog: &Catalog) -> Vec<Value> {
        let mut saying: Vec<(&str, bool)> = catalog
            .namespaces()
            .filter(|(name, _)| self.options.is_on(catalog, name))
            .filter_map(|(name, facts)| Some((name, !facts.defaults.as_ref()?.wishes.requires.is_empty())))
            .collect();
        saying.sort_unstable();
        let one = |what: &str, is_strict: bool, not: &str| {
            let named = saying.iter().filter(|(_, requires)| *requires == is_strict);
            let names: Vec<&str> = named.map(|(name, _)| *name).collect();
            let webhook = Webhook {
                name: format!("{what}.{OF_NAMESPACES}"),
                is_strict,
                rules: self.rules_of_injected(),
                // The last: those for which the webhooks of configuration `opportune` are called.
                conditions: vec![changes(), is_no_operators(""), condition("is-nobody-elses", not)],
                client_config: self.model.get("clientConfig").cloned().unwrap_or_default(),
                namespaces: self.namespaces(None, true, Some(&names)),
                objects: json!({}),
            };
            (!names.is_empty()).then(|| webhook.write(self.model))
        };
        let untouched = format!("![object, oldObject].exists(o, o != null && {})", has_key());
        let not_required = format!("![object].exists(o, {ANNOTATIONS}.exists(a, '{}' in a))", keys::REQUIRES);
        let both = [one("defaults", false, &untouched), one("requires", true, &not_required)];
        both.into_iter().flatten().collect()
    }

    fn rules_of_injected(&self) -> Value {
        let kinds = self.options.kinds.iter();
        rules(kinds.map(|kind| (kind.group(), kind.plural(), kind.is_made_once())))
    }

    /// Where to call for a policy: as for annotations, at the policy's own path.
    fn called_for(&self, policy: &Policy) -> Value {
        let mut config = self.model.get("clientConfig").cloned().unwrap_or_default();
        let place = match config.get("url").is_some() {
            true => config.pointer_mut("/url"),
            false => config.pointer_mut("/service/path"),
        };
        if let Some(Value::String(place)) = place {
            *place = format!("{}/policies/{}", place.trim_end_matches('/'), policy.name);
        }
        config
    }

    /// The namespaces that `selector` selects, or those of these names, but for those that are never touched; where `is_by_label`,
    /// only those in which injection is on.
    fn namespaces(
        &self,
        selector: Option<&LabelSelector>,
        is_by_label: bool,
        names: Option<&[&str]>,
    ) -> Value {
        let selector = selector.map_or_else(|| json!({}), |selector| json!(selector));
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        let mut expressions = expressions.cloned().unwrap_or_default();
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
        match selector.get("matchLabels") {
            Some(labels) => json!({"matchLabels": labels, "matchExpressions": expressions}),
            None => json!({"matchExpressions": expressions}),
        }
    }
}

// === impl Webhook ===

impl Webhook {
    /// As the API server would give it back, so that what is there can be compared with it.
    fn write(self, model: &Value) -> Value {
        let conditions = model.get("matchConditions").and_then(Value::as_array).into_iter().flatten();
        let note = conditions.filter(|condition| condition.get("name").is_some_and(|name| name == CONDITION));
        let stays = condition("stays", "!has(object.metadata.deletionTimestamp)");
        let conditions: Vec<Value> =
            std::iter::once(stays).chain(self.conditions).chain(note.cloned()).collect();
        json!({
            "name": self.name,
            "admissionReviewVersions": ["v1"],
            "clientConfig": self.client_config,
            "failurePolicy": if self.is_strict { "Fail" } else { "Ignore" },
            "matchConditions": conditions,
            "matchPolicy": "Equivalent",
            "namespaceSelector": self.namespaces,
            "objectSelector": self.objects,
            "reinvocationPolicy": "IfNeeded",
            "rules": self.rules,
            "sideEffects": "None",
            "timeoutSeconds": model.get("timeoutSeconds").cloned().unwrap_or_else(|| json!(5)),
        })
    }
}

/// Whether it says where to call and whom to trust there: nobody but us vouches for a Service, so that without our authority every
/// call fails. A URL may be that of a certificate that the API server trusts anyway.
fn can_be_called(webhook: &Value) -> bool {
    let config = webhook.get("clientConfig");
    config.is_some_and(|config| config.get("service").is_none() || config.get("caBundle").is_some())
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

/// What an operator made is left alone, `unless` that is a CEL expression that says otherwise.
fn is_no_operators(unless: &str) -> Value {
    condition("is-not-an-operators", &format!("!{IS_OWNED}{unless}"))
}

/// What Kubernetes' own controllers make of a template was decided on as that template.
fn is_not_made_by_kubernetes() -> Value {
    condition("is-not-made-by-kubernetes", &format!("!({IS_OWNED} && {IS_KUBERNETES})"))
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
    if let Some(fields) = configuration.as_object_mut() {
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
