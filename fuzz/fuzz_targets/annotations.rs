//! Texts for every annotation, for templates and for encodings: they are read or refused with a reason, and what is
//! encoded can't break out of its literal.
#![no_main]
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use opportune_core::{
    decide::Wishes,
    encode::Encoding,
    intent::Intent,
    json::{Json, Object},
    template::{Part, Template},
};
use opportune_fuzz::PREFIX;

const KEYS: [&str; 17] = [
    "wants",
    "requires",
    "declines",
    "use.ldap",
    "use.cache",
    "use.",
    "profile",
    "containers",
    "env.ldap",
    "env.cache",
    "env.",
    "files",
    "storage",
    "retain",
    "refresh",
    "inject",
    "inherit",
];
const INTENTS: [&str; 5] = ["ldap", "mail", "analytics", "storage", "cache"];

fuzz_target!(|data: &[u8]| {
    let _ = read(&mut Unstructured::new(data));
});

fn read(u: &mut Unstructured<'_>) -> Result<()> {
    let key = *u.choose(&KEYS)?;
    let intent = Intent::parse(u.choose(&INTENTS)?).expect("an intent");
    let encoding = *u.choose(&Encoding::ALL)?;
    let text = String::from_utf8_lossy(u.bytes(u.len())?).into_owned();
    annotation(key, &text);
    template(&text, &intent);
    encoded(encoding, &text);
    Ok(())
}

fn annotation(key: &str, text: &str) {
    let map = Object::from_iter([(format!("{PREFIX}{key}"), Json::from(text))]);
    match Wishes::parse(Some(&map), None) {
        Ok(wishes) => {
            let hidden = Wishes::parse(None, Some(&map)).expect("the same text can be read on the workload");
            assert_eq!(wishes, hidden);
            assert_eq!(wishes.digest().len(), 8);
            let _ = wishes.asked();
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
}

fn template(text: &str, intent: &Intent) {
    let Ok(template) = Template::parse(text, intent) else { return };
    assert_eq!(template.source(), text);
    let is_plain = template.placeholders().next().is_none();
    let plain: String = template
        .parts()
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Setting(_) => "",
        })
        .collect();
    assert!(plain.len() <= text.len());
    assert!(!is_plain || plain == text, "text without settings stays as it is");
    let _ = template.references();
}

fn encoded(encoding: Encoding, text: &str) {
    let code = encoding.encode(text);
    let wanted = text.replace('\0', "");
    match encoding {
        Encoding::Json => assert_eq!(serde_json::from_str::<String>(&code).expect("JSON"), wanted),
        Encoding::Uri => assert!(code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b))),
        Encoding::Html => assert!(!code.contains(['<', '>', '"', '\''])),
        Encoding::Shell => assert_eq!(unquoted_shell(&code), Some(wanted)),
        Encoding::Php | Encoding::Ruby => assert_eq!(unquoted(&code, '\''), Some(wanted)),
        Encoding::Toml | Encoding::Ini => {
            assert!(!code.chars().any(char::is_control), "{code:?}");
            assert!(unquoted(&code, '"').is_some(), "{code:?}");
        }
    }
}

/// The inside of a literal in which a backslash escapes; `None` where the literal ends early.
fn unquoted(code: &str, quote: char) -> Option<String> {
    let inner = code.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            c if c == quote => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// What a POSIX shell makes of single quotes with `\'` between them.
fn unquoted_shell(code: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = code;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix(r"\'") {
            out.push('\'');
            rest = tail;
        } else {
            let (inner, tail) = rest.strip_prefix('\'')?.split_once('\'')?;
            out.push_str(inner);
            rest = tail;
        }
    }
    Some(out)
}
