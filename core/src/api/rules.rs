//! What may stand in a field, as schemas and CEL rules that an API server checks.
//!
//! Every rule that this crate's readers have is said again here, as far as CEL can say it within an API server's cost
//! budget: hence the bounds on lengths and numbers. Patterns are rules rather than `pattern`s, so that the message says what
//! to write. A server's patterns know no look-ahead.
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::settings::MAX_BYTES;

/// An RFC 1123 label.
const LABEL: &str = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";
/// What comes before the slash of a label's key.
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
/// The value of a label, or its key without the prefix.
const NAME: &str = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?";
/// A size above zero.
const SIZE: &str = "[0-9]{1,18}([.][0-9]{1,9})?([kMGTPE]|[KMGTPE]i)?";

/// No control characters; line breaks in certificates. A pattern, since Kubernetes 1.30 takes a value that may be a number
/// for one of three megabytes, and grants no rule that looks at all of them.
const NO_CONTROL_CHARACTERS: &str = r"^(\P{Cc}*|[\r\n ]*-----BEGIN CERTIFICATE-----(\P{Cc}|[\r\n])*)$";

const INTENT_MESSAGE: &str = "an intent is `ldap`, `mail`, `analytics`, `storage` or a name of your own: lower-case letters, \
    digits and dashes, at most 63, and not `app`";
const SIZE_MESSAGE: &str =
    "a size is a number above zero with a unit, such as 10Gi or 500Mi (units: Ki Mi Gi Ti Pi Ei k M G T P E)";

/// One rule: a CEL expression, and what to tell somebody who breaks it.
pub(super) fn rule(rule: impl Into<String>, message: &str) -> Value {
    json!({"rule": rule.into(), "message": message})
}

/// A text of at most so many characters, under one rule.
fn text(max: usize, expression: String, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": max,
        "x-kubernetes-validations": [rule(expression, message)],
    })
}

/// A CEL expression: whether `what` is an intent.
pub(super) fn is_intent(what: &str) -> String {
    format!("{what}.matches(r'^{LABEL}$') && {what} != 'app'")
}

pub(super) fn intent(_: &mut SchemaGenerator) -> Schema {
    text(63, is_intent("self"), INTENT_MESSAGE)
}

pub(super) fn intents(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 64, "x-kubernetes-list-type": "set", "items": intent(generator),
    })
}

/// The rule that every key of a map is an intent.
pub(super) fn intent_keys() -> Value {
    rule(format!("self.all(intent, {})", is_intent("intent")), INTENT_MESSAGE)
}

pub(super) fn provider(_: &mut SchemaGenerator) -> Schema {
    let message = "a provider is the name of a product, such as openldap or matomo: lower-case letters, digits and dashes";
    text(63, format!("self.matches(r'^{LABEL}$')"), message)
}

pub(super) fn secret_name(_: &mut SchemaGenerator) -> Schema {
    let message =
        "give the name of a Secret in the same namespace: lower-case letters, digits, dashes and dots";
    text(253, is_object_name("self"), message)
}

pub(super) fn class_name(_: &mut SchemaGenerator) -> Schema {
    let message = "give the name of a StorageClass: lower-case letters, digits, dashes and dots";
    text(253, is_object_name("self"), message)
}

/// A CEL expression: whether `what` can be the name of an object.
fn is_object_name(what: &str) -> String {
    format!("{what}.matches(r'^{LABEL}([.]{LABEL})*$')")
}

pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    text(30, is_size("self"), SIZE_MESSAGE)
}

fn is_size(what: &str) -> String {
    format!("{what}.matches(r'^{SIZE}$') && {what}.matches('[1-9]')")
}

pub(super) fn truth(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["True", "False", "Unknown"]})
}

pub(super) fn on_absent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Deny", "Warn"]})
}

pub(super) fn refresh(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["never", "notify", "rollout"]})
}

pub(super) fn conflicts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 1024}})
}

/// Values are integers or strings: only so can a rule look at them, and at the names. (A value of any type, which a boolean
/// would need, hides the whole map from CEL.)
pub(super) fn settings(_: &mut SchemaGenerator) -> Schema {
    let no_secret = |name: &str| {
        rule(
            format!("!('{name}' in self)"),
            &format!(
                "`{name}` is a secret: put it into a Secret beside this offer, and name that in spec.credentials"
            ),
        )
    };
    let no_login = |name: &str| {
        let login = r"://([^/:]*:.*@|[^?]*[?](.*&)?(?i:password|passwd|pwd|token|secret)=)";
        rule(
            format!("!('{name}' in self) || !string(self['{name}']).matches(r'{login}')"),
            &format!(
                "`{name}` has a password in it: put that into a Secret beside this offer, and name it in spec.credentials"
            ),
        )
    };
    let port = |name: &str| {
        let value = format!("string(self['{name}'])");
        rule(
            format!(
                "!('{name}' in self) || ({value}.matches('^[0-9]{{1,5}}$') && int({value}) > 0 && int({value}) < 65536)"
            ),
            &format!("`{name}` is a number from 1 to 65535"),
        )
    };
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": MAX_BYTES,
            "pattern": NO_CONTROL_CHARACTERS,
        },
        "x-kubernetes-validations": [
            rule(setting_names(), "the name of a setting is lower-case letters, digits and dashes, begins with a letter and \
                has at most 63 characters, such as base-dn"),
            no_secret("password"),
            no_secret("token"),
            no_login("uri"),
            no_login("url"),
            no_login("endpoint"),
            port("port"),
            port("imap-port"),
            rule("!('tls' in self) || self['tls'] in ['none', 'starttls', 'tls']",
                "`tls` is none, starttls or tls (from the first byte on)"),
        ],
    })
}

/// A CEL expression: whether all keys of a map are names of settings.
fn setting_names() -> &'static str {
    "self.all(name, name.matches(r'^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$'))"
}

pub(super) fn credential_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": text(253, "self.matches('^[-._a-zA-Z0-9]+$')".into(),
            "a key of a Secret is letters, digits, dashes, underscores and dots"),
        "x-kubernetes-validations": [rule(setting_names(),
            "write SETTING: KEY, where SETTING is the name of a setting, such as `password: LDAP_PASSWORD`")],
    })
}

/// What no field of an offer says alone.
pub(super) fn offer_rules() -> Value {
    let when = |intent: &str, setting: &str, then: &str| {
        format!(
            "self.intent != '{intent}' || !has(self.settings) || !('{setting}' in self.settings) || {then}"
        )
    };
    json!([
        rule(
            "!has(self.provider) || !has(self.settings) || !('provider' in self.settings)",
            "the provider is given twice: leave it in spec.provider and take it out of spec.settings"
        ),
        rule(
            when(
                "analytics",
                "url",
                "(type(self.settings['url']) == string && self.settings['url'].matches('^https://.'))"
            ),
            "the `url` of an analytics service is the public address that browsers use: it begins with https://"
        ),
        rule(
            when("storage", "kind", "self.settings['kind'] in ['block', 'shared']"),
            "the `kind` of storage is block or shared"
        ),
        rule(
            when("storage", "class", &is_object_name("string(self.settings['class'])")),
            "the `class` of storage is the name of a StorageClass"
        ),
    ])
}

/// What a label selector's `matchLabels` has to keep to.
pub(crate) fn label_rules(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": text(63, format!("self.matches(r'^({NAME})?$')"),
            "the value of a label is letters, digits, dashes, underscores and dots, at most 63"),
        "x-kubernetes-validations": [
            rule(format!("self.all(key, {})", is_label_key("key")), "a label's key is a name, such as team or example.org/team"),
        ],
    })
}

fn is_label_key(what: &str) -> String {
    format!("{what}.matches(r'^({SUBDOMAIN}/)?{NAME}$')")
}

/// What a label selector's `matchExpressions` have to keep to.
pub(crate) fn requirement_rules(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "required": ["key", "operator"],
            "properties": {
                "key": {
                    "description": "The label's key.",
                    "type": "string",
                    "maxLength": 317,
                    "x-kubernetes-validations":
                        [rule(is_label_key("self"), "a label's key is a name, such as team or example.org/team")],
                },
                "operator": {
                    "description": "How the label's value and `values` have to stand to each other.",
                    "type": "string",
                    "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                },
                "values": {
                    "description": "The values, for `In` and `NotIn`.",
                    "type": "array",
                    "maxItems": 64,
                    "x-kubernetes-list-type": "atomic",
                    "items": text(63, format!("self.matches(r'^({NAME})?$')"),
                        "the value of a label is letters, digits, dashes, underscores and dots, at most 63"),
                },
            },
            "x-kubernetes-validations": [
                rule("!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
                    "In and NotIn need `values`"),
                rule("!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
                    "Exists and DoesNotExist take no `values`: use In or NotIn, or leave them out"),
            ],
        },
    })
}

/// What no field of a policy says alone.
pub(super) fn policy_rules() -> Value {
    let empty = |field: &str| format!("(!has(self.{field}) || size(self.{field}) == 0)");
    json!([
        rule(
            format!("!has(self.workloadSelector) || ({} && {})", empty("enforce"), empty("forbid")),
            "`workloadSelector` can't stand beside `enforce` and `forbid`: tenants choose the labels that it looks at. Select \
            by `namespaceSelector`, or make two policies"
        ),
        rule(
            "!has(self.enforce) || !has(self.forbid) || !self.enforce.exists(intent, intent in self.forbid)",
            "an intent is in both `enforce` and `forbid`: take it out of one"
        ),
    ])
}

pub(super) fn prefer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": text(317, format!("self.matches(r'^({LABEL}/)?{LABEL}([.]{LABEL})*$')"),
            "name an offer as namespace/name, or as name alone"),
        "x-kubernetes-validations": [intent_keys()],
    })
}

pub(super) fn storage_rules() -> Value {
    json!([rule(
        "!has(self.defaultSize) || !has(self.maxSize) || !isQuantity(self.defaultSize) || !isQuantity(self.maxSize) || \
        quantity(self.defaultSize).compareTo(quantity(self.maxSize)) <= 0",
        "`defaultSize` is more than `maxSize`: make one of them fit"
    )])
}

/// What a profile's name has to keep to.
pub(super) fn profile_rules() -> Value {
    json!([rule(
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
        "the name of an AppProfile is lower-case letters, digits and dashes, at most 63: workloads name it in the annotation \
        opportune.libre.sh/profile"
    )])
}

pub(super) fn images(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 64,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": 512,
            "x-kubernetes-validations": [
                rule("!self.contains('://')", "a pattern of images is no address: leave its scheme out"),
                rule("self.contains('://') || self.matches(r'^([a-z0-9._/*:-]*:[a-z0-9._*-]*/)?[a-z0-9._/*-]*(:[A-Za-z0-9._*-]+)?$')",
                    "a pattern of images is REPOSITORY or REPOSITORY:TAG, with * for anything: lower-case letters, digits \
                    and ._/- (a tag has no slash, and may have capitals)"),
                rule(r"self.matches(r'^[^:]*[a-z0-9]|:[^/]*/.*[a-z0-9]')",
                    "this pattern matches every image: name a part of the repository"),
            ],
        },
    })
}

pub(super) fn data(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": text(30, is_size("self"), SIZE_MESSAGE),
        "x-kubernetes-validations": [rule(
            r"self.all(path, size(path) <= 1024 && path.matches(r'^(/[^/:\\\p{Cc}]+)+/?$') && !path.matches(r'/[.][.]?(/|$)'))",
            "a data path is absolute, without `.`, `..`, doubled slashes, colons and backslashes, such as /var/lib/app"
        )],
    })
}
