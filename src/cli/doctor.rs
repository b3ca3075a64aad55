//! `opportune doctor`: what is wrong with an install, and what to do about it.
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    Failure,
    source::block_on,
    style::{self, plain},
};
use crate::{
    cluster::{Cluster, NAMESPACE, look::with_causes},
    doctor::{self, Finding, Mark, Subject},
    knowledge::Folders,
};

/// Options of `opportune doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opportune doctor
  opportune doctor -n opportune-system --probe-namespace blog
  opportune doctor -o json | jq '.[] | select(.result == \"fail\")'

Each line is ok, warn, fail or skip (can't be looked at from here). Nothing is changed: the trials are dry runs. No Secret is
read.

Exit codes: 0 nothing failed, 1 no cluster answers, 2 wrong usage, 3 something failed.")]
pub struct DoctorArgs {
    /// The context of the kubeconfig to use, in place of the current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace in which Opportune is installed [default: opportune-system; in a pod, its own].
    #[arg(short, long, value_parser = super::namespace, env = "OPPORTUNE_NAMESPACE")]
    namespace: Option<String>,
    /// Where to try the webhook by a dry run [default: the first namespace in which injection is on].
    #[arg(long, value_name = "NAMESPACE", value_parser = super::namespace)]
    probe_namespace: Option<String>,
    #[command(flatten)]
    folders: Folders,
    /// How to print the findings.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line each.
    Table,
    /// A list of objects with `check`, `result`, `what` and `todo`.
    Json,
}

/// Runs `opportune doctor`: what goes to standard output, and how the command ends then.
///
/// # Errors
/// No cluster answers.
pub fn run(args: &DoctorArgs) -> Result<(String, Result<(), Failure>), Failure> {
    let findings = block_on(async {
        let cluster = Cluster::connect(args.context.as_deref())
            .await
            .map_err(|error| Failure::input(format!("{}\n  Set KUBECONFIG", with_causes(&error))))?;
        let default = if cluster.is_inside { cluster.namespace.as_str() } else { NAMESPACE };
        let subject = Subject {
            cluster: &cluster,
            namespace: args.namespace.as_deref().unwrap_or(default),
            probe_namespace: args.probe_namespace.as_deref(),
            folders: &args.folders,
        };
        let tell = |next: &str| anstream::eprintln!("looking at {next} ...");
        doctor::examine(&subject, &tell).await.map_err(|error| Failure::input(plain(&error.to_string())))
    })?;
    let failed = findings.iter().filter(|finding| finding.result == Mark::Fail).count();
    let health = match failed {
        0 => Ok(()),
        count => Err(Failure::Unsatisfied(vec![format!("{count} checks failed")])),
    };
    let text = match args.output {
        Output::Table => table(&findings),
        Output::Json => format!("{:#}\n", json!(findings)),
    };
    Ok((text, health))
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text: String = findings.iter().map(|finding| line(finding, width)).collect();
    let count = |mark: Mark| findings.iter().filter(|finding| finding.result == mark).count();
    let counts =
        [Mark::Ok, Mark::Warn, Mark::Fail, Mark::Skip].map(|mark| format!("{} {}", count(mark), mark.word()));
    text += &format!("\n{}\n", counts.join(", "));
    text
}

fn line(finding: &Finding, width: usize) -> String {
    let style = match finding.result {
        Mark::Ok => style::GOOD,
        Mark::Skip => style::FAINT,
        Mark::Warn => style::NOTE,
        Mark::Fail => style::BAD,
    };
    let word = style::paint(style, &format!("{:<4}", finding.result.word()));
    let todo = finding.todo.as_ref().map(|todo| format!(" — {}", plain(todo))).unwrap_or_default();
    format!("{word}  {:<width$}  {}{todo}\n", finding.check, plain(&finding.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_whatever_the_cluster_says() {
        let what = "a\n\u{1b}[2Jb".to_owned();
        let finding = Finding { check: "way", result: Mark::Fail, what, todo: Some("see\nto it".to_owned()) };
        let line = anstream::adapter::strip_str(&line(&finding, 5)).to_string();
        assert_eq!(line, "fail  way    a\\n\\u{1b}[2Jb — see\\nto it\n");
        assert_eq!(
            json!([finding])[0],
            json!({"check": "way", "result": "fail", "what": "a\n\u{1b}[2Jb", "todo": "see\nto it"})
        );
    }
}
