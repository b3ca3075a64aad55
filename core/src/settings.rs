//! Settings: the facts about an offer, by their canonical names (design 1.5), and what follows from them.
use std::borrow::Cow;

use crate::{
    encode,
    intent::{Intent, Known},
    name::{is_dns_subdomain, is_setting_name},
    template::{Part, Template},
};

/// The longest value of a setting, in bytes.
pub const MAX_BYTES: usize = 4096;
/// What is known of the consumer itself: `[[app.name]]` and so on.
pub const APP_SETTINGS: [&str; 4] = ["name", "namespace", "url", "host"];

const COMMON: [&str; 9] =
    ["type", "provider", "host", "port", "uri", "tls", "username", "password", "certificates"];
const LDAP: [&str; 12] = [
    "scheme",
    "base-dn",
    "users-dn",
    "groups-dn",
    "bind-dn",
    "uid-attribute",
    "mail-attribute",
    "name-attribute",
    "user-object-class",
    "group-object-class",
    "group-member-attribute",
    "user-filter",
];
const MAIL: [&str; 7] = ["auth", "from", "from-local", "from-domain", "from-name", "imap-host", "imap-port"];
const ANALYTICS: [&str; 6] = ["url", "url-no-slash", "endpoint", "script", "site-id", "token"];
const STORAGE: [&str; 3] = ["class", "access-modes", "kind"];
/// Never written out in a Service or ServiceOffer: they come from a Secret that is named there.
const SECRETS: [&str; 2] = ["password", "token"];

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Its value.
    Literal(String),
    /// It stands in the credentials Secret, under the first of these keys that is there.
    Credential(Vec<String>),
    /// It is made of others, one of which is a credential.
    Composed(Template),
}

/// The facts about one offer, by canonical name: a sorted list, as there are many offers and few facts about each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Settings(Vec<(Cow<'static, str>, Fact)>);

/// Why a setting can't be used: its offer is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The setting's name.
    pub setting: String,
    /// What is wrong with it.
    pub reason: String,
}

// === impl Problem ===

impl Problem {
    /// A problem with one setting.
    pub fn new(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { setting: setting.into(), reason: reason.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

// === impl Fact ===

impl Fact {
    /// The value, where it may be seen.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Credential(_) | Self::Composed(_) => None,
        }
    }

    /// Whether it may never stand in a pod template, a log or a record.
    pub fn is_secret(&self) -> bool {
        self.literal().is_none()
    }
}

// === impl Settings ===

impl Settings {
    /// The fact of that name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.0.get(self.place(name).ok()?).map(|(_, fact)| fact)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_ref().cmp(name))
    }

    fn remove(&mut self, name: &str) {
        if let Ok(place) = self.place(name) {
            self.0.remove(place);
        }
    }

    /// The value of that name, where it is known and no secret.
    pub fn literal(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Fact::literal)
    }

    /// All facts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.0.iter().map(|(name, fact)| (name.as_ref(), fact))
    }

    /// Whether any of them is a secret.
    pub fn has_secrets(&self) -> bool {
        self.0.iter().any(|(_, fact)| fact.is_secret())
    }

    /// Sets a fact that may be corrected later.
    pub fn set(&mut self, name: &str, fact: Fact) {
        match self.place(name) {
            Ok(place) => {
                if let Some((_, known)) = self.0.get_mut(place) {
                    *known = fact;
                }
            }
            Err(place) => self.0.insert(place, (named(name), fact)),
        }
    }

    /// Sets a fact where none is yet.
    pub fn set_default(&mut self, name: &str, fact: impl FnOnce() -> Fact) {
        if let Err(place) = self.place(name) {
            self.0.insert(place, (named(name), fact()));
        }
    }

    fn default_literal(&mut self, name: &str, value: impl Into<String>) {
        self.set_default(name, || Fact::Literal(value.into()));
    }

    fn copy(&mut self, from: &str, to: &str) {
        if let Some(fact) = self.get(from).cloned() {
            self.set_default(to, || fact);
        }
    }

    /// Adds what a product is known to have (`users-dn: ou=people,[[ldap.base-dn]]`), where nothing else is said and all
    /// that it is made of is known.
    fn add_product_facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, &'a Template)>) {
        for (name, template) in facts {
            if self.get(name).is_some() {
                continue;
            }
            let parts: Option<Vec<&Fact>> = template.placeholders().map(|p| self.get(&p.setting)).collect();
            let Some(facts) = parts else { continue };
            let fact = match facts.iter().any(|fact| fact.is_secret()) {
                true => Fact::Composed(template.clone()),
                false => Fact::Literal(self.fill(template)),
            };
            self.set(name, fact);
        }
    }

    /// The template's text with literals put in as they are.
    fn fill(&self, template: &Template) -> String {
        template
            .parts()
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Setting(p) => {
                    let value = self.literal(&p.setting).unwrap_or_default();
                    p.encoding.map_or_else(|| value.to_owned(), |e| e.encode(value))
                }
            })
            .collect()
    }

    /// Adds everything that follows from what is known: defaults, parts, composed addresses.
    ///
    /// `intent` decides which; `product` is what is known of the product behind the offer. Returns what is wrong with the
    /// values given.
    pub fn complete<'a>(
        &mut self,
        intent: &Intent,
        product: impl IntoIterator<Item = (&'a str, &'a Template)>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_common(&mut problems);
        if intent.known() == Some(Known::Analytics) {
            self.complete_analytics(&mut problems);
        }
        self.add_product_facts(product);
        self.set("type", Fact::Literal(intent.to_string()));
        if let Some(port) = self.literal("port") {
            let tls = match port {
                "636" | "465" => "tls",
                "587" => "starttls",
                _ => "none",
            };
            self.default_literal("tls", tls);
        }
        match intent.known() {
            Some(Known::Ldap) => self.complete_ldap(),
            Some(Known::Mail) => self.complete_mail(intent),
            Some(Known::Storage) => self.check_storage(&mut problems),
            Some(Known::Analytics) | None => {}
        }
        self.0.shrink_to_fit();
        problems
    }

    fn check_common(&mut self, problems: &mut Vec<Problem>) {
        for port in ["port", "imap-port"] {
            if self.literal(port).is_some_and(|p| !p.parse::<u16>().is_ok_and(|n| n > 0)) {
                problems.push(Problem::new(port, "expected a number from 1 to 65535"));
            }
        }
        if self.literal("tls").is_some_and(|tls| !["none", "starttls", "tls"].contains(&tls)) {
            problems.push(Problem::new("tls", "expected none, starttls or tls"));
        }
        for secret in SECRETS {
            if self.literal(secret).is_some() {
                // Not even an operator's list of offers shall repeat it.
                self.remove(secret);
                problems.push(Problem::new(secret, "a secret: name the Secret that holds it as credentials"));
            }
        }
        let has_login = |(name, fact): &(Cow<'static, str>, Fact)| {
            fact.literal().is_some_and(has_login).then(|| name.clone())
        };
        let with_login: Vec<_> = self.0.iter().filter_map(has_login).collect();
        for name in with_login {
            self.remove(&name);
            problems.push(Problem::new(
                name,
                "has a password in it: name the Secret that holds it as credentials",
            ));
        }
    }

    fn complete_ldap(&mut self) {
        self.copy("bind-dn", "username");
        self.copy("username", "bind-dn");
        self.copy("base-dn", "users-dn");
        self.copy("base-dn", "groups-dn");
        let scheme = if self.literal("tls") == Some("tls") { "ldaps" } else { "ldap" };
        self.default_literal("scheme", scheme);
        if let Some(authority) = self.authority() {
            self.default_literal("uri", format!("{scheme}://{authority}"));
        }
    }

    fn complete_mail(&mut self, intent: &Intent) {
        if let Some((local, domain)) = self.literal("from").and_then(|from| from.rsplit_once('@')) {
            let (local, domain) = (local.to_owned(), domain.to_owned());
            self.default_literal("from-local", local);
            self.default_literal("from-domain", domain);
        } else if let (None, Some(local), Some(domain)) =
            (self.get("from"), self.literal("from-local"), self.literal("from-domain"))
        {
            self.set("from", Fact::Literal(format!("{local}@{domain}")));
        }
        let auth = if self.get("password").is_some() { "password" } else { "none" };
        self.default_literal("auth", auth);
        let scheme = if self.literal("tls") == Some("tls") { "smtps" } else { "smtp" };
        let Some(authority) = self.authority() else { return };
        if self.get("username").is_some() && self.get("password").is_some() {
            let text = format!("{scheme}://[[mail.username|uri]]:[[mail.password|uri]]@{authority}");
            if let Ok(template) = Template::parse(&text, intent) {
                self.set_default("uri", || Fact::Composed(template));
            }
        } else {
            self.default_literal("uri", format!("{scheme}://{authority}"));
        }
    }

    fn complete_analytics(&mut self, problems: &mut Vec<Problem>) {
        let Some(url) = self.literal("url").map(str::to_owned) else { return };
        let Some(rest) = url.strip_prefix("https://").filter(|rest| !rest.is_empty()) else {
            problems.push(Problem::new("url", "expected a public address that starts with https://"));
            return;
        };
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default().to_owned();
        let bare = url.trim_end_matches('/').to_owned();
        self.set("host", Fact::Literal(host));
        self.set("url", Fact::Literal(format!("{bare}/")));
        self.default_literal("url-no-slash", bare);
    }

    fn check_storage(&self, problems: &mut Vec<Problem>) {
        if self.literal("kind").is_some_and(|kind| !["block", "shared"].contains(&kind)) {
            problems.push(Problem::new("kind", "expected block or shared"));
        }
        if self.literal("class").is_some_and(|class| !is_dns_subdomain(class)) {
            problems.push(Problem::new("class", "expected the name of a StorageClass"));
        }
    }

    /// `host:port`, where both can stand in an address.
    fn authority(&self) -> Option<String> {
        let (host, port) = (self.literal("host")?, self.literal("port")?);
        let is_v6 = host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_ok();
        let is_name =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        match (is_v6, is_name) {
            (true, _) => Some(format!("[{host}]:{port}")),
            (_, true) => Some(format!("{host}:{port}")),
            _ => None,
        }
    }

    /// What an offer of `intent` still lacks to be complete (design 1.3).
    pub fn lacks(&self, intent: &Intent) -> Vec<&'static str> {
        let needed: &[&'static str] = match intent.known() {
            Some(Known::Ldap) => &["host", "port", "tls", "base-dn"],
            Some(Known::Mail) => &["host", "port", "tls", "from"],
            Some(Known::Analytics) => &["provider", "url"],
            Some(Known::Storage) => &["class", "kind"],
            None => {
                let any = ["host", "uri", "url"].iter().any(|name| self.get(name).is_some());
                return if any { Vec::new() } else { vec!["host, uri or url"] };
            }
        };
        let is_missing = |name: &&str| match *name {
            // It follows from the port.
            "tls" => self.get("tls").is_none() && self.get("port").is_some(),
            name => self.get(name).is_none(),
        };
        needed.iter().copied().filter(is_missing).collect()
    }
}

/// A setting's name, without memory of its own where it is a known one.
fn named(name: &str) -> Cow<'static, str> {
    let mut known = COMMON.iter().chain(&LDAP).chain(&MAIL).chain(&ANALYTICS).chain(&STORAGE);
    known.find(|known| **known == name).map_or_else(|| name.to_owned().into(), |known| (*known).into())
}

/// Whether a text is an address with a password: `scheme://user:password@host`, or one in its query.
fn has_login(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    // A password may hold a slash, a path may hold an `@`: what stands before a colon tells them apart.
    let before_at = rest.rsplit_once('@').map(|(login, _)| login);
    let in_login =
        before_at.and_then(|login| login.split_once(':')).is_some_and(|(user, _)| !user.contains('/'));
    let query = rest.split_once('?').map(|(_, query)| query.to_ascii_lowercase()).unwrap_or_default();
    let words = ["password=", "passwd=", "pwd=", "token=", "secret="];
    in_login || query.split('&').any(|pair| words.iter().any(|word| pair.starts_with(word)))
}

/// The settings of a known intent.
pub fn names(intent: Known) -> impl Iterator<Item = &'static str> {
    let own: &[&str] = match intent {
        Known::Ldap => &LDAP,
        Known::Mail => &MAIL,
        Known::Analytics => &ANALYTICS,
        Known::Storage => &STORAGE,
    };
    COMMON.iter().chain(own).copied()
}

/// Whether `name` is a setting of `intent`; a custom intent may have any.
pub fn is_known(intent: &Intent, name: &str) -> bool {
    match intent.known() {
        Some(known) => names(known).any(|setting| setting == name),
        None => is_setting_name(name),
    }
}

/// The settings that a credentials Secret is taken to hold when only its name is given, each with the keys under which
/// it may stand, best first.
pub fn implied_credentials(intent: &Intent) -> Vec<(&'static str, Vec<String>)> {
    let plain = |name: &'static str| (name, vec![name.to_owned()]);
    match intent.known() {
        Some(Known::Ldap) => vec![("bind-dn", vec!["bind-dn".into(), "username".into()]), plain("password")],
        Some(Known::Mail) => vec![plain("username"), plain("password")],
        Some(Known::Analytics) => vec![plain("token")],
        Some(Known::Storage) => Vec::new(),
        None => vec![plain("username"), plain("password")],
    }
}

/// Checks the name of a setting as it was given.
///
/// # Errors
/// The [`Problem`] to report.
pub fn check_name(name: &str) -> Result<(), Problem> {
    match is_setting_name(name) {
        true => Ok(()),
        false => {
            // It may stand in somebody else's status: nothing in it shall look like more than a name.
            let harmless = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '?' };
            let shown: String = name.chars().take(40).map(harmless).collect();
            Err(Problem::new(
                "settings",
                format!("`{shown}` is not a name of lower-case letters, digits and dashes"),
            ))
        }
    }
}

/// Checks one value as it was given: 4 KiB at most, no control characters (line breaks only in `certificates`).
///
/// # Errors
/// The [`Problem`] to report.
pub fn check_value(name: &str, value: &str) -> Result<(), Problem> {
    check_name(name)?;
    if value.len() > MAX_BYTES {
        return Err(Problem::new(name, format!("{} bytes, more than 4 KiB", value.len())));
    }
    let is_pem = name == "certificates" && value.trim_start().starts_with("-----BEGIN CERTIFICATE-----");
    if value.chars().any(|c| c.is_control() && !(is_pem && matches!(c, '\n' | '\r'))) {
        return Err(Problem::new(name, "has control characters"));
    }
    Ok(())
}

/// Whether `value` can stand unencoded in a composed template.
pub fn is_plain(value: &str) -> bool {
    encode::is_plain(value)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn completed(intent: &str, given: &[(&str, &str)]) -> (Settings, Vec<Problem>) {
        let mut settings = Settings::default();
        for (name, value) in given {
            settings.set(name, Fact::Literal((*value).to_owned()));
        }
        let problems = settings.complete(&Intent::parse(intent).unwrap(), []);
        (settings, problems)
    }

    #[rstest]
    #[case("ldap", &[("host", "d"), ("port", "636")], "uri", "ldaps://d:636")]
    #[case("ldap", &[("host", "fd00::1"), ("port", "389")], "uri", "ldap://[fd00::1]:389")]
    #[case("ldap", &[("base-dn", "dc=x")], "users-dn", "dc=x")]
    #[case("ldap", &[("username", "cn=a")], "bind-dn", "cn=a")]
    #[case("mail", &[("host", "m"), ("port", "587")], "tls", "starttls")]
    #[case("mail", &[("host", "m"), ("port", "465")], "uri", "smtps://m:465")]
    #[case("mail", &[("from", "a@b@c")], "from-domain", "c")]
    #[case("mail", &[("from-local", "a"), ("from-domain", "c")], "from", "a@c")]
    #[case("analytics", &[("url", "https://s.example.org:8443/m")], "url", "https://s.example.org:8443/m/")]
    #[case("analytics", &[("url", "https://s.example.org/"), ("host", "x.y.svc")], "host", "s.example.org")]
    fn what_follows_is_added(
        #[case] intent: &str,
        #[case] given: &[(&str, &str)],
        #[case] name: &str,
        #[case] value: &str,
    ) {
        let (settings, problems) = completed(intent, given);
        assert_eq!(settings.literal(name), Some(value));
        assert_eq!(problems, []);
    }

    #[rstest]
    #[case("ldap", "port", "many")]
    #[case("ldap", "port", "0")]
    #[case("mail", "tls", "ssl")]
    #[case("mail", "password", "hunter2")]
    #[case("analytics", "url", "http://s.example.org/")]
    #[case("storage", "kind", "tape")]
    fn a_bad_value_is_named(#[case] intent: &str, #[case] name: &str, #[case] value: &str) {
        let (_, problems) = completed(intent, &[(name, value)]);
        assert_eq!(problems.iter().map(|p| p.setting.as_str()).collect::<Vec<_>>(), [name]);
    }

    #[rstest]
    #[case("redis://u:pw@h:1", true)]
    #[case("redis://u:p/w@h:1", true)]
    #[case("redis://:pw@h", true)]
    #[case("redis://h:1/?x=1&password=s", true)]
    #[case("redis://h:1/0", false)]
    #[case("https://h/a:b@c", false)]
    #[case("noreply@example.org", false)]
    fn a_password_in_an_address_is_found(#[case] value: &str, #[case] expected: bool) {
        assert_eq!(has_login(value), expected);
    }

    #[test]
    fn an_address_with_credentials_is_a_secret() {
        let mut settings = Settings::default();
        settings.set("host", Fact::Literal("m".into()));
        settings.set("port", Fact::Literal("465".into()));
        settings.set("username", Fact::Credential(vec!["username".into()]));
        settings.set("password", Fact::Credential(vec!["password".into()]));
        settings.complete(&Intent::parse("mail").unwrap(), []);
        assert!(settings.get("uri").unwrap().is_secret());
        assert_eq!(settings.literal("auth"), Some("password"));
    }

    #[test]
    fn a_host_that_is_no_name_stands_in_no_address() {
        let (settings, _) = completed("ldap", &[("host", "$(DB_PASSWORD)"), ("port", "389")]);
        assert_eq!(settings.get("uri"), None);
    }
}
