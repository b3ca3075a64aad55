//! Configuration files of an app, mounted read-only at their paths. They travel in a ConfigMap, or as a key of the
//! delivered Secret where they hold a credential.
use super::{
    Target,
    additions::Entry,
    env::{check_unencoded, encoded},
    files::DEFAULT_MODE,
    fitted::Fitted,
    profile::{ConfigFile, Content},
};
use crate::{
    decide::{Absence, Skipped},
    deliver,
    discover::Offer,
    intent::Intent,
    json::Json,
    name::{bounded, hex, slug},
    settings::Fact,
    template::{Part, Template},
};

/// Adds the files of one intent to what is fitted.
///
/// # Errors
/// When a value can't be written into a file without an encoding.
pub(super) fn add(
    target: &Target<'_>,
    intent: &Intent,
    offer: &Offer,
    files: &[ConfigFile],
    fitted: &mut Fitted,
) -> Result<(), Absence> {
    for file in files {
        let key = file.path.rsplit('/').next().unwrap_or_default();
        let held = match &file.content {
            Content::Fixed(text) => Held::Open(text.clone()),
            Content::Blocks(_) => match held(intent, offer, file)? {
                Some(held) => held,
                None => continue,
            },
        };
        let (volume_source, key) = match held {
            Held::Open(text) => {
                let name = deliver::config_map_name(&target.app(), &file.path, &text);
                fitted.config_maps.insert(name.clone(), (key.to_owned(), text));
                let source = [("name", name.into()), ("defaultMode", DEFAULT_MODE.into())];
                (("configMap", Json::object(source)), key.to_owned())
            }
            Held::Secret(template) => {
                let key = format!("{key}.{}", hex(&[template.source()], 6));
                fitted.composed.insert(key.clone(), template);
                let secret = fitted.secret(intent, offer);
                let source = [("secretName", secret.into()), ("defaultMode", DEFAULT_MODE.into())];
                (("secret", Json::object(source)), key)
            }
        };
        mount(target, intent, &file.path, volume_source, &key, fitted);
    }
    Ok(())
}

/// What a file holds, and so how it travels.
enum Held {
    /// Nothing that is secret.
    Open(String),
    /// A credential: a controller composes it.
    Secret(Template),
}

/// The blocks of a file whose settings are known, put together; `None` where there is none.
fn held(intent: &Intent, offer: &Offer, file: &ConfigFile) -> Result<Option<Held>, Absence> {
    let Content::Blocks(blocks) = &file.content else { return Ok(None) };
    let mut source = String::new();
    let mut open = String::new();
    let mut has_secret = false;
    for block in blocks {
        let is_meant = block.when.as_ref().is_none_or(|(setting, values)| {
            offer.settings.literal(setting).is_some_and(|value| values.iter().any(|other| other == value))
        });
        let facts: Option<Vec<&Fact>> = block
            .template
            .placeholders()
            .map(|p| offer.settings.get(&p.setting).filter(|_| !p.is_app))
            .collect();
        let (true, Some(facts)) = (is_meant, facts) else { continue };
        check_unencoded(&block.template, &facts, block.template.parts().len() > 1)?;
        has_secret |= facts.iter().any(|fact| fact.is_secret());
        source.push_str(block.template.source());
        let mut facts = facts.into_iter();
        for part in block.template.parts() {
            match part {
                Part::Text(text) => open.push_str(text),
                Part::Setting(placeholder) => {
                    let value = facts.next().and_then(Fact::literal).unwrap_or_default();
                    open.push_str(&encoded(placeholder, value));
                }
            }
        }
    }
    if source.is_empty() {
        return Ok(None);
    }
    if !has_secret {
        return Ok(Some(Held::Open(open)));
    }
    let template = Template::parse(&source, intent).map_err(|_| Absence::Unsafe(file.path.clone()))?;
    Ok(Some(Held::Secret(template)))
}

/// Mounts one key of a ConfigMap or Secret as a file.
fn mount(
    target: &Target<'_>,
    intent: &Intent,
    path: &str,
    source: (&'static str, Json<'static>),
    key: &str,
    fitted: &mut Fitted,
) {
    let name = bounded(&format!("opportune-{}", slug(path)), &hex(&["file", path], 6));
    if target.workload.volumes().iter().any(|other| other.text("name") == name) {
        fitted.skipped.push(Skipped::new(path, format!("a volume named {name} exists")));
        return;
    }
    let mut is_mounted = false;
    for container in &target.containers {
        if let Some(obstacle) = target.obstacle(container, path) {
            fitted.skipped.push(Skipped::new(path, obstacle));
            continue;
        }
        is_mounted = true;
        let mount = Json::object([
            ("name", name.clone().into()),
            ("mountPath", path.to_owned().into()),
            ("subPath", key.to_owned().into()),
            ("readOnly", true.into()),
        ]);
        let mounts = fitted.additions.mounts.entry(container.name.to_owned()).or_default();
        mounts.push(Entry::new(intent, path, mount));
    }
    if is_mounted {
        let volume = Json::object([("name", name.clone().into()), source]);
        fitted.additions.volumes.push(Entry::new(intent, name, volume));
    }
}
