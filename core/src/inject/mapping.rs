//! Mappings: which variables an app takes for an intent, by its own annotation, by its profile, or by generic names.
use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use super::{
    Target,
    fitted::Fitted,
    profile::{Mapped, Takes, Variable},
};
use crate::{
    decide::{Absence, Question},
    discover::Offer,
    intent::{Intent, Known},
    name,
    template::Template,
};

/// The variables to set, in order.
pub(super) type Variables<'a> = Vec<(Cow<'a, str>, Cow<'a, Variable>)>;
type Aliases = BTreeMap<String, Vec<String>>;

/// What an app takes for one intent.
#[derive(Debug, Default)]
pub(super) struct Mapping<'a> {
    pub variables: Variables<'a>,
    /// Other names under which the user may have set one of them.
    pub aliases: Option<&'a Aliases>,
    /// What the workload's own mapping adds to what is enforced.
    pub added: Variables<'a>,
}

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

/// An intent with its generic names.
type Generic = (Known, Vec<(&'static str, Variable)>);

/// The generic names of the known intents, read once.
static GENERIC: LazyLock<[Generic; 3]> = LazyLock::new(|| {
    let known = |known: Known, names: &[(&'static str, &str)]| {
        let intent = Intent::parse(known.name()).ok();
        let read = |text: &str| Template::parse(text, intent.as_ref()?).ok();
        let variables =
            names.iter().filter_map(|(name, text)| Some((*name, Variable::Template(read(text)?))));
        (known, variables.collect())
    };
    [known(Known::Ldap, &LDAP), known(Known::Mail, &MAIL), known(Known::Analytics, &ANALYTICS)]
});

// === impl Mapping ===

impl<'a> Mapping<'a> {
    /// The workload's own, the profile's, or the generic names. Of what is enforced, the workload's own mapping takes nothing
    /// away: it comes besides.
    pub(super) fn of(
        target: &Target<'a>,
        question: &Question<'_>,
        offer: &Offer,
        is_required: bool,
        fitted: &mut Fitted,
    ) -> Result<Self, Absence> {
        let own = target.wishes.env.get(question.intent).map(|lines| {
            let variable = |template: &Template| Cow::Owned(Variable::Template(template.clone()));
            lines.iter().map(|(name, template)| (Cow::from(name), variable(template))).collect()
        });
        let mut added: Variables<'a> = match own {
            Some(variables) if !question.is_enforced => return Ok(Self { variables, ..Self::default() }),
            own => own.unwrap_or_default(),
        };
        let is_firm = is_required || question.is_enforced;
        let (variables, aliases) = match known(target, question.intent, offer, is_firm, fitted) {
            Ok(known) => known,
            Err(absence) if added.is_empty() => return Err(absence),
            Err(_) => (Vec::new(), None),
        };
        added.retain(|(name, _)| variables.iter().all(|(other, _)| other != name));
        Ok(Self { variables, aliases, added })
    }
}

/// What the profile maps, or else the generic names.
fn known<'a>(
    target: &Target<'a>,
    intent: &Intent,
    offer: &Offer,
    is_firm: bool,
    fitted: &mut Fitted,
) -> Result<(Variables<'a>, Option<&'a Aliases>), Absence> {
    let mapping = target.profile.and_then(|profile| profile.intents.get(intent));
    match mapping.map(|mapping| &mapping.takes) {
        Some(Takes::Mapped(mapping)) => {
            check(target, intent, offer, mapping, is_firm)?;
            if mapping.first_boot_only {
                fitted.notes.push("first boot only".into());
            }
            let variables = mapping.variables.iter();
            let variables = variables.map(|(name, variable)| (Cow::from(name), Cow::Borrowed(variable)));
            Ok((variables.collect(), Some(&mapping.aliases)))
        }
        Some(Takes::Unsupported(how)) if !target.wishes.files => Err(Absence::Unsupported(how.clone())),
        Some(Takes::Unsupported(_)) => Ok((Vec::new(), None)),
        None => {
            if target.profile.is_some() {
                fitted.notes.push("generic names".into());
            }
            Ok((generic(intent, offer), None))
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

fn generic(intent: &Intent, offer: &Offer) -> Variables<'static> {
    let Some(known) = intent.known() else { return custom(intent, offer) };
    let variables = GENERIC.iter().filter(|(other, _)| *other == known).flat_map(|(_, variables)| variables);
    variables.map(|(name, variable)| (Cow::Borrowed(*name), Cow::Borrowed(variable))).collect()
}

/// `CACHE_HOST` and so on: everything that is known of a custom offer.
fn custom(intent: &Intent, offer: &Offer) -> Variables<'static> {
    let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    let settings = offer.settings.iter().filter(|(name, _)| *name != "type");
    let named = settings.filter_map(|(setting, _)| {
        let name = format!("{}_{}", upper(intent.as_str()), upper(setting));
        // A variable can't begin with a digit, an intent can.
        let name = if name::is_env_name(&name) { name } else { format!("_{name}") };
        let template = Template::parse(&format!("[[{intent}.{setting}]]"), intent).ok()?;
        Some((name.into(), Cow::Owned(Variable::Template(template))))
    });
    named.collect()
}
