//! `opportune catalog`: all offers, complete or not, and what each lacks.
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use opportune_core::{
    discover::{Catalog, Consumers, NotForNamespace, Offer, Origin, Source},
    keys,
    settings::Fact,
};
use serde_json::{Map, Value, json};

use super::{
    Failure, output,
    source::{ClusterArgs, block_on},
    style::{self, plain},
};
use crate::watch::Unread;

/// Options of `opportune catalog`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opportune catalog
  opportune catalog --catalog cluster.yaml
  opportune catalog --context prod
  kubectl get ns,svc,deploy,sts,ds,sc,cm -A -o yaml | opportune catalog --catalog - -o json")]
pub struct CatalogArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How to print the offers.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How offers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table, with advice.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Runs `opportune catalog`; what it returns goes to standard output.
///
/// # Errors
/// Bad input.
pub fn run(args: &CatalogArgs) -> Result<String, Failure> {
    let (catalog, is_partial) = match args.cluster.is_live() {
        true => {
            let (catalog, unread) = block_on(args.cluster.read_live(None))?;
            (catalog, unread.iter().any(Unread::hides_offers))
        }
        false => (args.cluster.read(None)?, false),
    };
    match args.output {
        Output::Table if is_partial => Ok(table(&catalog)
            + "\nYou may not see everything (the warnings say what): there may be more offers.\n"),
        Output::Table => Ok(table(&catalog)),
        Output::Json => {
            Ok(format!("{:#}\n", Value::Array(catalog.offers().map(|o| described(&catalog, o)).collect())))
        }
        Output::Yaml => {
            output::yaml(&Value::Array(catalog.offers().map(|o| described(&catalog, o)).collect()))
        }
    }
}

/// The offers as a table, with what the incomplete ones lack and how to supply it.
pub fn table(catalog: &Catalog) -> String {
    if catalog.offers().next().is_none() {
        return "no offers: nothing in the catalog is marked or recognised\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["INTENT", "OFFER", "FROM", "PROVIDER", "FOR", "STATE"]);
    for offer in catalog.offers() {
        let state = if offer.is_trap { "trap".to_owned() } else { state(offer) };
        table.add_row([
            offer.intent.to_string(),
            offer.id.to_string(),
            format!("{} {}", offer.origin.word(), offer.id.source),
            plain(offer.provider().unwrap_or("-")).into_owned(),
            consumers(catalog, offer),
            state,
        ]);
    }
    let lines = table.lines().map(|line| line.trim_end().trim_start_matches(' ').to_owned() + "\n");
    let mut text: String = lines.collect();
    let advice: Vec<String> =
        catalog.offers().filter(|o| !o.is_complete() && !o.is_trap).flat_map(|o| advice(o)).collect();
    if !advice.is_empty() {
        text += &format!("\n{}\n", style::paint(style::HEAD, "To complete them:"));
        text += &advice.join("");
    }
    text
}

fn state(offer: &Offer) -> String {
    match offer.is_complete() {
        true => "complete".to_owned(),
        false => format!("incomplete: {}", plain(&offer.incompleteness())),
    }
}

/// Who may use an offer, as a person reads it.
fn consumers(catalog: &Catalog, offer: &Offer) -> String {
    let Some(namespace) = &offer.id.namespace else { return "all namespaces".to_owned() };
    // No namespace has the empty name: what keeps it out is the provider's side, not the consumer's.
    match (catalog.admits(offer, ""), &offer.consumers) {
        (Err(NotForNamespace::NoProvider | NotForNamespace::NotProvided), _)
        | (_, Consumers::OwnNamespace) => {
            format!("{namespace} only")
        }
        (_, Consumers::Selected(selector)) if selector.is_everything() => "all namespaces".to_owned(),
        (_, Consumers::Selected(_)) => "selected namespaces".to_owned(),
    }
}

/// How to supply what an offer lacks.
fn advice(offer: &Offer) -> Vec<String> {
    let mut lines = Vec::new();
    let of = format!("{} {}", offer.id.source.to_string().to_lowercase(), offer.id);
    for setting in offer.lacks() {
        let setting = setting.split(',').next().unwrap_or(setting);
        let example = example(offer.intent.as_str(), setting);
        let how = match (offer.id.source, &offer.origin) {
            (Source::ServiceOffer, _) => format!("set spec.settings.{setting}, for example {example}"),
            (Source::Service, Origin::Marked) => {
                format!("add `{setting}: {example}` to its annotation {}", keys::SETTINGS)
            }
            (Source::Service, Origin::Recognised) => format!(
                "label it {}={} and add `{setting}: {example}` to its annotation {}",
                keys::OFFERS,
                offer.intent,
                keys::SETTINGS
            ),
            (Source::StorageClass, _) => "its recipe lacks it".to_owned(),
        };
        lines.push(format!("  {of} lacks {setting}: {how}\n"));
    }
    lines.extend(offer.problems.iter().map(|problem| format!("  {of}: {}\n", plain(&problem.to_string()))));
    if let (Some(hint), false) = (&offer.hint, lines.is_empty()) {
        lines.push(format!("    {}\n", style::paint(style::FAINT, hint)));
    }
    lines
}

fn example(intent: &str, setting: &str) -> &'static str {
    match setting {
        "port" if intent == "mail" => "587",
        "base-dn" => "dc=example,dc=org",
        "from" => "noreply@example.org",
        "url" => "https://stats.example.org/",
        "provider" => "matomo",
        "port" => "389",
        "kind" => "shared",
        "class" => "rook-cephfs",
        _ => "service.example.org",
    }
}

/// An offer as data; a secret's place is shown, never its value.
fn described(catalog: &Catalog, offer: &Offer) -> Value {
    let settings: Map<String, Value> = offer
        .settings
        .iter()
        .map(|(name, fact)| {
            let shown = match fact {
                Fact::Literal(value) => json!(value),
                Fact::Credential(keys) => json!({"secretKey": keys.join(" or ")}),
                Fact::Composed(_) => json!({"composed": true}),
            };
            (name.to_owned(), shown)
        })
        .collect();
    json!({
        "intent": offer.intent,
        "name": offer.id.name,
        "namespace": offer.id.namespace,
        "source": offer.id.source.to_string(),
        "origin": offer.origin.word(),
        "provider": offer.provider(),
        "recipe": offer.recipe,
        "consumers": consumers(catalog, offer),
        "priority": offer.priority,
        "trap": offer.is_trap,
        "complete": offer.is_complete(),
        "lacks": offer.lacks(),
        "problems": offer.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "credentials": offer.credentials.as_ref().map(|secret| secret.name.clone()),
        "hint": offer.hint,
        "settings": settings,
    })
}
