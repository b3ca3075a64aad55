//! Data that can't be used: the message names the file, the field and what to do.
use opportune_core::{discover::Recipes, inject::profile::Profiles};
use rstest::rstest;

fn recipe_error(text: &str) -> String {
    Recipes::read([("mine.yaml", text)]).unwrap_err().to_string()
}

fn profile_error(text: &str) -> String {
    let source = |name: &str| (name == "there.txt").then(|| "text".to_owned());
    Profiles::read([("mine.yaml", text)], &source).unwrap_err().to_string()
}

/// A profile whose mail is mapped by this line.
fn mapping(line: &str) -> String {
    format!("{{name: x, app: X, images: [docker.io/x/x], intents: {{mail: {{confidence: memory, {line}}}}}}}")
}

/// A recipe with this line.
fn recipe(line: &str) -> String {
    format!(
        "{{name: x, title: X, intent: ldap, confidence: memory, sources: [], ports: [{{number: 389}}], {line}}}"
    )
}

#[rstest]
#[case("colour: red", "intents.mail.colour: unknown field `colour`")]
#[case("env: {A: {map: mail.tls, to: {}, colour: red}}", "intents.mail.env.A.colour: unknown field `colour`")]
#[case("env: {A: {map: mail.tls}}", "intents.mail.env.A: missing field `to`")]
#[case("env: {A: 25}", "intents.mail.env.A: invalid type: integer `25`, expected a text (in quotes")]
#[case("env: {A: '[[mail.hots]]'}", "intents.mail.env.A: unknown setting `mail.hots`")]
#[case("env: {A: '[[mail.host|xml]]'}", "intents.mail.env.A: unknown encoding `xml`")]
#[case("env: {A: '[[ldap.host]]'}", "intents.mail.env.A: `ldap.host` belongs to another intent")]
#[case("env: {A: {map: mail.tsl, to: {}}}", "intents.mail.env.A: map: unknown setting `mail.tsl`")]
#[case("env: {A: {map: ldap.tls, to: {}}}", "intents.mail.env.A: map: unknown setting `ldap.tls`")]
#[case("env: {'1A': x}", "intents.mail.env.1A: not the name of a variable")]
#[case("env: {A: x}, needs: [hots]", "intents.mail.needs: unknown setting `hots`")]
#[case("env: {A: x}, aliases: {B: [C]}", "intents.mail.aliases: `B` is not in env")]
#[case("env: {A: x}, login: replaces", "intents.mail.login: only a directory")]
#[case("env: {A: x}, unsupported: by hand", "intents.mail.unsupported: say how a person sets it")]
#[case("note: nothing", "intents.mail.env: give `env`, `files` or `unsupported`")]
#[case("files: [{path: x.conf, blocks: [a]}]", "intents.mail.files: `x.conf` is not an absolute path")]
#[case("files: [{path: /a/../b, blocks: [a]}]", "intents.mail.files: `/a/../b` is not an absolute path")]
#[case("files: [{path: /run/x.conf, blocks: [a]}]", "intents.mail.files: /run/x.conf is in /run")]
#[case("files: [{path: /usr/bin/x, blocks: [a]}]", "intents.mail.files: /usr/bin/x is in /usr/bin")]
#[case("files: [{path: /x, source: gone.txt}]", "intents.mail.files: there is no text file `gone.txt`")]
#[case("files: [{path: /x, source: there.txt, blocks: [a]}]", "intents.mail.files: /x: give either")]
#[case("files: [{path: /x}]", "intents.mail.files: /x: give either `source` or `blocks`")]
#[case(
    "files: [{path: /x, blocks: [{when: mail.tsl, is: [tls], text: a}]}]",
    "intents.mail.files: /x: when: unknown setting `mail.tsl`"
)]
#[case(
    "files: [{path: /x, blocks: [{when: mail.tls, is: [tls], text: a, colour: red}]}]",
    "intents.mail.files[0].blocks[0].colour: unknown field `colour`"
)]
fn a_bad_mapping_is_named(#[case] line: &str, #[case] expected: &str) {
    let error = profile_error(&mapping(line));
    assert!(error.starts_with(&format!("mine.yaml: {expected}")), "{error}");
}

#[rstest]
#[case("", "images: `` is empty")]
#[case("*", "images: `*` matches every image")]
#[case("*/*", "images: `*/*` matches every image")]
#[case("https://docker.io/x/x", "images: `https://docker.io/x/x` is an address")]
#[case("docker.io/x x", "images: `docker.io/x x` may hold a-z")]
#[case("docker.io/X", "images: `docker.io/X` may hold a-z")]
#[case("docker.io/x?", "images: `docker.io/x?` may hold a-z")]
#[case("docker.io/x\\t", "images: `docker.io/x\\t` may hold a-z")]
fn a_bad_image_pattern_is_named(#[case] pattern: &str, #[case] expected: &str) {
    let error = profile_error(&format!("{{name: x, app: X, images: [docker.io/x/x, \"{pattern}\"]}}"));
    assert!(error.starts_with(&format!("mine.yaml: {expected}")), "{error}");
    let error = recipe_error(&recipe(&format!("match: {{images: [\"{pattern}\"]}}")));
    assert!(error.starts_with(&format!("mine.yaml: match.{expected}")), "{error}");
}

#[rstest]
#[case("{name: x, app: X, images: []}", "images: name at least one")]
#[case("{name: X, app: X, images: [a]}", "name: `X` is not a DNS label")]
#[case("{name: x, app: X, images: [a], tags: 'a b'}", "tags: `a b` is not a pattern of tags")]
#[case("{name: x, app: X, images: [a], data: [{path: data}]}", "data: `data` is not an absolute path")]
#[case("{name: x, app: X, images: [a], data: [{path: /d, size: much}]}", "data: `much` is not a size")]
#[case("{name: x, app: X, images: [a], data: [{path: /d, tags: '/'}]}", "data: `/` is not a pattern of tags")]
#[case("{name: x, app: X, images: [a], data: [{path: /d, colour: red}]}", "data[0].colour: unknown field")]
#[case("{name: x, app: X, images: [a], intents: {app: {}}}", "intents.app: `app` is not an intent")]
#[case("{name: x, images: [a]}", "missing field `app`")]
#[case("[]", "expected mapping start")]
#[case("{name: x", "")]
fn a_bad_profile_is_named(#[case] text: &str, #[case] expected: &str) {
    let error = profile_error(text);
    assert!(error.starts_with(&format!("mine.yaml: {expected}")), "{error}");
}

#[rstest]
#[case("colour: red", "colour: unknown field `colour`")]
#[case("match: {image: [a]}", "match.image: unknown field `image`")]
#[case("settings: {base: 'dc=x'}", "settings: unknown setting `base`")]
#[case("settings: {base-dn: '[[ldap.bsae]]'}", "settings.base-dn: unknown setting `ldap.bsae`")]
#[case("config-map: {name: '*', settings: {base: B}}", "config-map.settings: unknown setting `base`")]
#[case("provisioners: [x]", "storage needs `provisioners`")]
fn a_bad_recipe_is_named(#[case] line: &str, #[case] expected: &str) {
    let error = recipe_error(&recipe(line));
    assert!(error.starts_with(&format!("mine.yaml: {expected}")), "{error}");
}

#[rstest]
#[case("ports: [{name: ldap, tls: ssl}]", "ports: tls is none, starttls or tls")]
#[case("ports: [{tls: tls}]", "ports: give each a name or a number")]
#[case("ports: [{number: 70000}]", "ports[0].number: ")]
#[case("ports: []", "storage needs `provisioners`, everything else needs `ports`")]
fn a_bad_port_of_a_recipe_is_named(#[case] line: &str, #[case] expected: &str) {
    let text = format!("{{name: x, title: X, intent: ldap, confidence: memory, sources: [], {line}}}");
    let error = recipe_error(&text);
    assert!(error.starts_with(&format!("mine.yaml: {expected}")), "{error}");
}

#[test]
fn what_is_called_verified_names_where() {
    let error = profile_error(&mapping("env: {A: x}").replace("memory", "verified"));
    assert_eq!(
        error,
        "mine.yaml: intents.mail.sources: name where this was read, or set `confidence: memory`"
    );
    let error = recipe_error(&recipe("hint: x").replace("memory", "secondary"));
    assert_eq!(error, "mine.yaml: sources: name where this was read, or set `confidence: memory`");
}

#[test]
fn two_of_one_name_are_refused() {
    let text = mapping("env: {A: x}");
    let error =
        Profiles::read([("a.yaml", text.as_str()), ("b.yaml", text.as_str())], &|_| None).unwrap_err();
    assert_eq!(error.to_string(), "b.yaml: two profiles are named x");
}
