//! The names of settings (design 1.5), and what may be given for them.
use std::borrow::Cow;

use super::Problem;
use crate::{
    intent::{Intent, Known},
    name::is_setting_name,
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
pub(super) const SECRETS: [&str; 2] = ["password", "token"];

/// A setting's name, without memory of its own where it is a known one.
pub(super) fn named(name: &str) -> Cow<'static, str> {
    let mut known = COMMON.iter().chain(&LDAP).chain(&MAIL).chain(&ANALYTICS).chain(&STORAGE);
    known.find(|known| **known == name).map_or_else(|| name.to_owned().into(), |known| (*known).into())
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
