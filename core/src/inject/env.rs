//! Environment variables: an offer's settings in the names and words of an app.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;

use super::{
    Target,
    additions::{Additions, Entry, variable_slot},
    profile::{Mapped, Takes, Variable},
};
use crate::{
    decide::{Absence, Question, Skipped},
    discover::Offer,
    encode::is_plain,
    intent::{Intent, Known},
    name::{self, hex},
    settings::Fact,
    template::{Part, Placeholder, Template, references},
    workload::{Container, text},
};

/// What one intent puts into one workload.
#[derive(Debug, Default)]
pub(crate) struct Fitted {
    pub additions: Additions,
    pub skipped: Vec<Skipped>,
    pub notes: Vec<String>,
    /// Keys of the delivered Secret that are made of several settings.
    pub composed: BTreeMap<String, Template>,
    /// ConfigMaps to make: by name, the one key of each and its text.
    pub config_maps: BTreeMap<String, (String, String)>,
    /// How policies bear on it.
    pub because: Vec<String>,
    /// Whether what the user set stands in the way of some of it.
    pub is_evaded: bool,
}

/// Where a variable's value comes from.
#[derive(Debug, PartialEq)]
enum Source {
    /// It may be seen; dollars are escaped.
    Value(String),
    /// A key of the delivered Secret, composed of a template or a setting as it is.
    Key(String, Option<Template>),
}

/// How much one intent may add to one workload, in bytes: etcd takes 1.5 MiB an object.
const MAX_BYTES: usize = 512 * 1024;

/// The names that an app without a profile is most likely to understand (design 1.4).
const LDAP: [(&str, &str); 7] = [
    ("LDAP_HOST", "[[ldap.host]]"),
    ("LDAP_PORT", "[[ldap.port]]"),
    ("LDAP_URI", "[[ldap.uri]]"),
    ("LDAP_TLS", "[[ldap.tls]]"),
    ("LDAP_BASE_DN", "[[ldap.base-dn]]"),
    ("LDAP_BIND_DN", "[[ldap.bind-dn]]"),
    ("LDAP_BIND_PASSWORD", "[[ldap.password]]"),
];
const MAIL: [(&str, &str); 7] = [
    ("SMTP_HOST", "[[mail.host]]"),
    ("SMTP_PORT", "[[mail.port]]"),
    ("SMTP_TLS", "[[mail.tls]]"),
    ("SMTP_USERNAME", "[[mail.username]]"),
    ("SMTP_PASSWORD", "[[mail.password]]"),
    ("SMTP_FROM", "[[mail.from]]"),
    ("SMTP_URL", "[[mail.uri]]"),
];
const ANALYTICS: [(&str, &str); 3] = [
    ("ANALYTICS_PROVIDER", "[[analytics.provider]]"),
    ("ANALYTICS_URL", "[[analytics.url]]"),
    ("ANALYTICS_SITE_ID", "[[analytics.site-id]]"),
];

/// The variables of one intent in the target's containers.
///
/// # Errors
/// Why the app can't use the offer.
pub(super) fn fit(
    target: &Target<'_>,
    question: &Question<'_>,
    offer: &Offer,
    is_required: bool,
) -> Result<Fitted, Absence> {
    let intent = question.intent;
    let mut fitted = Fitted::default();
    let (variables, aliases) = variables(target, question, offer, is_required, &mut fitted)?;
    let mut sources = Vec::new();
    for (name, variable) in variables {
        if let Some(source) = source(target, intent, offer, &name, &variable)? {
            sources.push((name, source));
        }
    }
    let bytes: usize = sources.iter().map(|(name, source)| name.len() + source.len()).sum();
    if bytes.saturating_mul(target.containers.len()) > MAX_BYTES {
        return Err(Absence::TooMuch);
    }
    let overwriting = target.terms.overwriting(intent);
    for container in &target.containers {
        let mut entries = Vec::new();
        for (name, source) in &sources {
            let value = target.variable(intent, offer, name, source);
            let users = container.variable(name).filter(|users| **users != value);
            if let (Some(policy), Some(users)) = (overwriting, users) {
                fitted.overwrite(container, name, users, policy);
            } else if let Some(skipped) = set_by_user(container, name, aliases.get(name)) {
                fitted.is_evaded |= container.variable(name).is_none_or(|users| *users != value);
                if !fitted.skipped.contains(&skipped) {
                    fitted.skipped.push(skipped);
                }
                continue;
            }
            entries.push(Entry::new(intent, name, value));
        }
        if !entries.is_empty() {
            fitted.additions.env.insert(container.name.to_owned(), entries);
        }
    }
    for (_, source) in sources {
        if let Source::Key(key, Some(template)) = source {
            fitted.composed.insert(key, template);
        }
    }
    Ok(fitted)
}

type Variables = Vec<(String, Variable)>;
type Aliases = BTreeMap<String, Vec<String>>;

/// The mapping to use: the workload's own, the profile's, or the generic names. Of what is enforced, the workload's own
/// mapping takes nothing away.
fn variables(
    target: &Target<'_>,
    question: &Question<'_>,
    offer: &Offer,
    is_required: bool,
    fitted: &mut Fitted,
) -> Result<(Variables, Aliases), Absence> {
    let lines = target.wishes.env.get(question.intent).into_iter().flatten();
    let lines = lines.map(|(name, template)| (name.clone(), Variable::Template(template.clone())));
    let mut own: Variables = lines.collect();
    if target.wishes.env.contains_key(question.intent) && !question.is_enforced {
        return Ok((own, Aliases::new()));
    }
    let is_firm = is_required || question.is_enforced;
    let (known, aliases) = known_variables(target, question.intent, offer, is_firm, fitted)?;
    own.extend(known.into_iter().filter(|(name, _)| !target.sets(question.intent, name)));
    Ok((own, aliases))
}

/// What the profile maps, or else the generic names.
fn known_variables(
    target: &Target<'_>,
    intent: &Intent,
    offer: &Offer,
    is_firm: bool,
    fitted: &mut Fitted,
) -> Result<(Variables, Aliases), Absence> {
    let mapping = target.profile.and_then(|profile| profile.intents.get(intent));
    match mapping.map(|mapping| &mapping.takes) {
        Some(Takes::Mapped(mapping)) => {
            check(target, intent, offer, mapping, is_firm)?;
            if mapping.first_boot_only {
                fitted.notes.push("first boot only".into());
            }
            let variables = mapping.variables.iter().map(|(name, v)| (name.clone(), v.clone()));
            Ok((variables.collect(), mapping.aliases.clone()))
        }
        Some(Takes::Unsupported(how)) if !target.wishes.files => Err(Absence::Unsupported(how.clone())),
        Some(Takes::Unsupported(_)) => Ok((Vec::new(), Aliases::new())),
        None => {
            if target.profile.is_some() {
                fitted.notes.push("generic names".into());
            }
            Ok((generic(intent, offer), Aliases::new()))
        }
    }
}

/// Whether the app can use the offer at all.
fn check(
    target: &Target<'_>,
    intent: &Intent,
    offer: &Offer,
    mapping: &Mapped,
    is_firm: bool,
) -> Result<(), Absence> {
    if mapping.replaces_login && !is_firm {
        return Err(Absence::ReplacesLogin(intent.clone()));
    }
    for (setting, values) in &mapping.only {
        let value =
            offer.settings.literal(setting).filter(|value| !values.iter().any(|other| other == value));
        if let Some(value) = value {
            return Err(Absence::UnsupportedMode {
                app: target.app(),
                setting: format!("{intent}.{setting}"),
                value: value.to_owned(),
            });
        }
    }
    let is_missing = |name: &&String| offer.settings.get(name).is_none();
    let missing: Vec<String> = mapping.needs.iter().filter(is_missing).cloned().collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Absence::Needs { app: target.app(), offer: offer.id.to_string(), settings: missing }),
    }
}

fn generic(intent: &Intent, offer: &Offer) -> Variables {
    let known: &[(&str, &str)] = match intent.known() {
        Some(Known::Ldap) => &LDAP,
        Some(Known::Mail) => &MAIL,
        Some(Known::Analytics) => &ANALYTICS,
        Some(Known::Storage) => &[],
        None => return custom(intent, offer),
    };
    let parsed = known.iter().filter_map(|(name, text)| {
        Some(((*name).to_owned(), Variable::Template(Template::parse(text, intent).ok()?)))
    });
    parsed.collect()
}

/// `CACHE_HOST` and so on: everything that is known of a custom offer.
fn custom(intent: &Intent, offer: &Offer) -> Variables {
    let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    let settings = offer.settings.iter().filter(|(name, _)| *name != "type");
    let named = settings.filter_map(|(setting, _)| {
        let name = format!("{}_{}", upper(intent.as_str()), upper(setting));
        // A variable can't begin with a digit, an intent can.
        let name = if name::is_env_name(&name) { name } else { format!("_{name}") };
        let template = Template::parse(&format!("[[{intent}.{setting}]]"), intent).ok()?;
        Some((name, Variable::Template(template)))
    });
    named.collect()
}

/// Where a variable's value comes from; `None` where a setting that it names is not known.
fn source(
    target: &Target<'_>,
    intent: &Intent,
    offer: &Offer,
    name: &str,
    variable: &Variable,
) -> Result<Option<Source>, Absence> {
    let template = match variable {
        Variable::Template(template) => template,
        Variable::Map { setting, words, unsupported } => {
            let Some(value) = offer.settings.literal(setting) else { return Ok(None) };
            if unsupported.iter().any(|word| word == value) {
                return Err(Absence::UnsupportedMode {
                    app: target.app(),
                    setting: format!("{intent}.{setting}"),
                    value: value.to_owned(),
                });
            }
            return Ok(words.get(value).map(|word| Source::Value(escape_dollars(word))));
        }
    };
    let mut facts = Vec::new();
    for placeholder in template.placeholders() {
        let fact = match placeholder.is_app {
            true => target.app_setting(&placeholder.setting).map(Fact::Literal),
            false => offer.settings.get(&placeholder.setting).cloned(),
        };
        match fact {
            Some(fact) => facts.push(fact),
            None => return Ok(None),
        }
    }
    check_unencoded(template, &facts, template.single().is_none())?;
    if !facts.iter().any(Fact::is_secret) {
        return Ok(Some(Source::Value(fill(template, &facts))));
    }
    if let Some(placeholder) = template.single() {
        return Ok(Some(Source::Key(placeholder.setting.clone(), None)));
    }
    if !template.references().is_empty() {
        return Err(Absence::MixesReference(name.to_owned()));
    }
    // The Secret is shared by all workloads of the namespace: what is said of this one is a part of the key's name.
    let Some(template) = template.for_app(intent, &|setting| target.app_setting(setting)) else {
        return Ok(None);
    };
    let key = format!("{name}.{}", hex(&[template.source()], 6));
    Ok(Some(Source::Key(key, Some(template))))
}

/// An unencoded value in a composed template must be harmless in any language. (A credential is checked when the
/// controller composes it.)
pub(super) fn check_unencoded(template: &Template, facts: &[Fact], is_composed: bool) -> Result<(), Absence> {
    if !is_composed {
        return Ok(());
    }
    for (placeholder, fact) in template.placeholders().zip(facts) {
        if placeholder.encoding.is_none() && fact.literal().is_some_and(|value| !is_plain(value)) {
            return Err(Absence::Unsafe(placeholder.setting.clone()));
        }
    }
    Ok(())
}

/// The template's text with its settings in it, so that the kubelet expands no dollar of theirs.
fn fill(template: &Template, facts: &[Fact]) -> String {
    let mut facts = facts.iter();
    let mut out = String::new();
    let parts = template.parts();
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Text(text) => {
                let is_before_setting = index + 1 < parts.len();
                out.push_str(&escape_open_end(text, is_before_setting));
            }
            Part::Setting(placeholder) => {
                let value = facts.next().and_then(Fact::literal).unwrap_or_default();
                out.push_str(&escape_dollars(&encoded(placeholder, value)));
            }
        }
    }
    out
}

/// A value as its placeholder wants it written.
pub(super) fn encoded(placeholder: &Placeholder, value: &str) -> String {
    placeholder.encoding.map_or_else(|| value.to_owned(), |encoding| encoding.encode(value))
}

fn escape_dollars(text: &str) -> String {
    text.replace('$', "$$")
}

/// Doubles a template's own dollar where a setting that follows could become the name that it expands.
fn escape_open_end(text: &str, is_before_setting: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = after;
            continue;
        }
        let is_open = after.is_empty() || (after.starts_with('(') && !after.contains(')'));
        out.push_str(if is_open && is_before_setting { "$$" } else { "$" });
        rest = after;
    }
    out + rest
}

/// Puts every variable behind those that it names as `$(NAME)`: the kubelet expands only what stands before. Variables that
/// name each other stay as they come.
pub(super) fn order_by_references(entries: &mut Vec<Entry>) {
    let places: HashMap<&str, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.key.as_str(), place)).collect();
    let mut waiting_for = vec![0_usize; entries.len()];
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
    for (place, entry) in entries.iter().enumerate() {
        let names: BTreeSet<&str> = references(text(&entry.value, "value")).into_iter().collect();
        for needed in names.iter().filter_map(|name| places.get(name)).filter(|needed| **needed != place) {
            if let (Some(count), Some(by)) = (waiting_for.get_mut(place), needed_by.get_mut(*needed)) {
                *count += 1;
                by.push(place);
            }
        }
    }
    let is_ready = |(place, count): (usize, &usize)| (*count == 0).then_some(place);
    let mut ready: BTreeSet<usize> = waiting_for.iter().enumerate().filter_map(is_ready).collect();
    let mut order = Vec::with_capacity(entries.len());
    while let Some(place) = ready.pop_first() {
        order.push(place);
        for next in needed_by.get(place).into_iter().flatten() {
            if let Some(count) = waiting_for.get_mut(*next) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(*next);
                }
            }
        }
    }
    let circular = waiting_for.iter().enumerate().filter(|(_, count)| **count > 0).map(|(place, _)| place);
    order.extend(circular.collect::<Vec<_>>());
    let mut taken: Vec<Option<Entry>> = std::mem::take(entries).into_iter().map(Some).collect();
    entries.extend(order.into_iter().filter_map(|place| taken.get_mut(place)?.take()));
}

fn set_by_user(container: &Container<'_>, name: &str, aliases: Option<&Vec<String>>) -> Option<Skipped> {
    if container.variable(name).is_some() {
        return Some(Skipped::new(name, "set by the workload"));
    }
    let alias = aliases.into_iter().flatten().find(|alias| container.variable(alias).is_some())?;
    Some(Skipped::new(name, format!("set by the workload as {alias}")))
}

// === impl Fitted ===

impl Fitted {
    /// Lets a variable of the user's give way, and keeps it for the day when ours is taken out.
    fn overwrite(&mut self, container: &Container<'_>, name: &str, users: &serde_json::Value, policy: &str) {
        let slot = variable_slot(container.name, name);
        self.additions.overwritten.insert(slot, users.clone());
        let because = format!("policy {policy} overwrites {name}");
        if !self.because.contains(&because) {
            self.because.push(because);
        }
    }
}

// === impl Source ===

impl Source {
    fn len(&self) -> usize {
        match self {
            Self::Value(text) | Self::Key(text, _) => text.len(),
        }
    }
}

// === impl Target ===

impl Target<'_> {
    fn variable(&self, intent: &Intent, offer: &Offer, name: &str, source: &Source) -> serde_json::Value {
        match source {
            // The server leaves an empty value out, and the entry would no longer be as we wrote it.
            Source::Value(value) if value.is_empty() => json!({"name": name}),
            Source::Value(value) => json!({"name": name, "value": value}),
            Source::Key(key, _) => {
                let secret = crate::deliver::secret_name(intent, &offer.id);
                json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
            }
        }
    }

    fn app_setting(&self, setting: &str) -> Option<String> {
        let address = self.address.as_ref();
        let value = match setting {
            "name" => self.workload.name,
            "namespace" => self.namespace,
            "url" => &address?.url,
            "host" => &address?.host,
            _ => return None,
        };
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// Whether the workload's own mapping sets a variable for an intent.
    fn sets(&self, intent: &Intent, name: &str) -> bool {
        self.wishes.env.get(intent).is_some_and(|lines| lines.iter().any(|(line, _)| line == name))
    }

    pub(super) fn app(&self) -> String {
        self.profile.map_or_else(|| "the app".to_owned(), |profile| profile.name.clone())
    }
}

/// Whether an entry of a container's list takes its value from a Secret.
pub(crate) fn has_secret(entry: &serde_json::Value) -> bool {
    entry.pointer("/valueFrom/secretKeyRef").is_some_and(|secret| !text(secret, "name").is_empty())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("[[ldap.host]]", "$(DB_PASSWORD)", "$$(DB_PASSWORD)")]
    #[case("$[[ldap.host]]", "x", "$$x")]
    #[case("$([[ldap.host]])", "DB", "$$(DB)")]
    #[case("$(A)-[[ldap.host]]", "x", "$(A)-x")]
    #[case("$$(A)-[[ldap.host]]", "x", "$$(A)-x")]
    #[case("$$$[[ldap.host]]", "x", "$$$$x")]
    #[case("${A}[[ldap.host]]$", "x", "${A}x$")]
    fn the_kubelet_expands_no_setting(#[case] text: &str, #[case] value: &str, #[case] expected: &str) {
        let template = Template::parse(text, &Intent::parse("ldap").unwrap()).unwrap();
        assert_eq!(fill(&template, &[Fact::Literal(value.into())]), expected);
    }
}
