//! What follows from the settings that are given, what is wrong with them, and what is still missing.
use std::borrow::Cow;

use super::{Fact, Problem, Settings, names::SECRETS};
use crate::{
    intent::{Intent, Known},
    name::is_dns_subdomain,
    template::{Part, Template},
};

// === impl Settings ===

impl Settings {
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
