//! Logs go to stderr, as text for people or as one JSON object a line for machines.
use std::io::IsTerminal;
use tracing_subscriber::{
    filter::{ParseError, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// The client of the API server logs each failed attempt, and the text of an answer that it can't read, be it a Secret; what
/// matters of its errors, we log ourselves. Who names it in a filter hears it.
const CLIENT: &str = "kube_client=off";

/// How log lines look (`--log-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people; coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A log filter that can't be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log {filter}: {source}; give a level (error, warn, info, debug, trace) or directives such as info,opportune=debug"
)]
pub struct BadFilter {
    filter: String,
    #[source]
    source: ParseError,
}

/// Starts logging to stderr. A second call changes nothing.
///
/// `filter` is a level, which is then ours alone (libraries stay at `warn`: at `debug` an HTTP or TLS library prints
/// what it carries), or directives of a level for a target, as in `RUST_LOG`.
///
/// # Errors
/// [`BadFilter`] when `filter` is neither.
pub fn init(format: Format, filter: &str) -> Result<(), BadFilter> {
    let filter = parse(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // Fails only where a subscriber is there already, which may then stay.
    let _ = match format {
        Format::Text => registry.with(lines.with_ansi(is_colour_wanted())).try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true).with_span_list(false)).try_init(),
    };
    Ok(())
}

/// Reports panics as one log line with the place in the source, and without the message: it may quote the object
/// that was being looked at.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task panicked: this is a bug, please report the place");
    }));
}

fn parse(filter: &str) -> Result<Targets, BadFilter> {
    let directives = match filter.parse::<tracing::level_filters::LevelFilter>() {
        Ok(level) => {
            let others = level.min(tracing::level_filters::LevelFilter::WARN);
            format!("{CLIENT},{others},opportune={level},opportune_core={level}")
        }
        Err(_) => format!("{CLIENT},{filter}"),
    };
    directives.parse().map_err(|source| BadFilter { filter: filter.to_owned(), source })
}

fn is_colour_wanted() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !is_refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("debug", "kube_client=off,warn,opportune=debug,opportune_core=debug")]
    #[case("error", "kube_client=off,error,opportune=error,opportune_core=error")]
    #[case("off", "kube_client=off,off,opportune=off,opportune_core=off")]
    #[case("info,h2=debug", "kube_client=off,info,h2=debug")]
    #[case("info,kube_client=debug", "info,kube_client=debug")]
    fn a_level_is_ours_alone_and_directives_are_taken_as_they_are(#[case] given: &str, #[case] meant: &str) {
        let mut got: Vec<_> = parse(given).unwrap().to_string().split(',').map(str::to_owned).collect();
        let mut expected: Vec<_> = meant.split(',').map(str::to_owned).collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = parse("info,opportune=loud").unwrap_err().to_string();
        assert!(error.starts_with("--log info,opportune=loud: "), "{error}");
    }
}
