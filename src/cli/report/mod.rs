//! `opportune report`: every workload with wishes or a record, and what became of each of its intents.
mod entry;
mod print;
mod standing;

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, ValueEnum};
use opportune_core::{
    admit::{Inheritance, Options, Request, admit},
    decide::Wishes,
    discover::Catalog,
    inject::account::Account,
    json::Json,
    workload::{Kind, Workload},
};
use serde_json::Value;

use self::entry::{Entry, Reported, State};
use super::{
    Failure, InjectionArgs, inject,
    manifest::{self, Manifest},
    source::{self, block_on},
    style::{self, plain},
};
use crate::{
    cluster::look::{Look, with_causes},
    watch::{self, Wanted},
};

/// Options of `opportune report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opportune report                              (the cluster of the current kubeconfig, all namespaces)
  opportune report -n blog -o csv > blog.csv
  opportune report -f deploy/ --catalog cluster.yaml --check
  helm template blog bitnami/wordpress | opportune report -f - --catalog cluster/ -o json

Result: bound, kept, absent, incomplete, declined, forbidden or withdrawn. Of a workload in a cluster it is what its pods have, of a
manifest what it would get, by the same decision as `inject`.

State:
  current   it is so, and a decision made now says the same
  pending   it changes with the next rollout; the reason says to what
  missed    it was asked for while the webhook was away or too busy; the next rollout brings it
  planned   a manifest: it would be so
  off       injection is off in the namespace; the reason says what to do
  unknown   what would be can't be told: you may not see all offers, or an annotation can't be read

JSON is one object:
  {\"workloads\": [{\"namespace\", \"kind\", \"name\", \"problem\": why nothing can be decided, or null,
                  \"policies\": {each that acts on it: {what it lacks of that: why}},
                  \"intents\": [{\"intent\", \"result\", \"offer\", \"required\", \"origin\", \"enforced\", \"state\", \"reason\"}]}],
   \"summary\": {\"workloads\", \"intents\", \"results\": {a count for each}, \"states\": {a count for each},
               \"unsatisfied\": what --check objects to, \"partial\": whether you may not see all workloads,
               \"policies\": {each: {\"matched\", \"conforming\", \"lacking\"}}}}

Origin: who asks for an intent: the workload, its namespace (--namespace-defaults), or a policy; what a policy enforces nobody can
decline. Workloads without annotations are listed where a policy or their namespace asks something of them.

CSV is that of RFC 4180. A cell that a spreadsheet would take for a formula begins with an apostrophe.

--check looks at what workloads require, and at what policies enforce and forbid, whether they refuse (onAbsent: Deny) or warn:
a workload that lacks something enforced, or still has something forbidden, does not conform. Where injection is off, `requires`
is ignored, here as in the webhook; what is enforced is not.

Exit codes: 0 fine, 1 bad input, 2 wrong usage, 3 with --check: a required or enforced intent is not satisfied (the report
is printed all the same).")]
pub struct ReportArgs {
    /// Manifests: files, folders, or `-` for standard input. Without it, the workloads of the live cluster are read.
    #[arg(short = 'f', long = "filename", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Only this namespace of the live cluster (default: all); or that of manifests that name none (default: `default`).
    #[arg(short, long, value_parser = super::namespace)]
    namespace: Option<String>,
    #[command(flatten)]
    injection: InjectionArgs,
    /// How to print the report.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// End with exit code 3 when a required or enforced intent is not satisfied, or a forbidden one is there.
    #[arg(long)]
    check: bool,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table, with a summary below it.
    Table,
    /// JSON.
    Json,
    /// CSV, with the summary on standard error.
    Csv,
}

/// All that is known, in order.
#[derive(Debug, Default)]
struct Report {
    workloads: Vec<Reported>,
    /// Whether there may be workloads or policies that the person can't see.
    is_partial: bool,
    /// Of each policy: on how many workloads it acts, and how many of them lack something.
    policies: BTreeMap<String, (usize, usize)>,
}

/// Runs `opportune report`; what it returns goes to standard output, and says whether the check was passed.
///
/// # Errors
/// Bad input, or a cluster that can't be read.
pub fn run(args: &ReportArgs) -> Result<(String, Result<(), Failure>), Failure> {
    let mut report = match args.files.is_empty() {
        true => live(args)?,
        false => offline(args)?,
    };
    report.count_policies();
    report.workloads.retain(Reported::is_concerned);
    report.workloads.sort_by(|a, b| a.key().cmp(&b.key()));
    let text = match args.output {
        Output::Table => print::table(&report),
        Output::Json => print::json(&report),
        Output::Csv => {
            anstream::eprintln!("{}", print::summary(&report));
            print::csv(&report)?
        }
    };
    let unsatisfied = report.unsatisfied();
    match args.check && !unsatisfied.is_empty() {
        true => Ok((text, Err(Failure::Unsatisfied(unsatisfied)))),
        false => Ok((text, Ok(()))),
    }
}

// === impl Report ===

impl Report {
    /// A report of nothing yet, in which each policy is named.
    fn new(catalog: &Catalog) -> Self {
        let policies = catalog.policies().iter().map(|policy| (policy.name.clone(), (0, 0)));
        Self { policies: policies.collect(), ..Self::default() }
    }

    /// Counts what conforms, before what nothing is to be said of is left out.
    fn count_policies(&mut self) {
        for (policy, lacks) in self.workloads.iter().flat_map(|workload| &workload.conformance) {
            let (matched, lacking) = self.policies.entry(policy.clone()).or_default();
            *matched += 1;
            *lacking += usize::from(!lacks.is_empty());
        }
    }

    /// The requirements that are not satisfied, a line for each.
    fn unsatisfied(&self) -> Vec<String> {
        let of = |workload: &Reported| {
            let (kind, namespace, name) = (workload.kind, plain(&workload.namespace), plain(&workload.name));
            let lines =
                workload.unsatisfied().map(|line| format!("{kind} {namespace}/{name}: {}", plain(&line)));
            lines.collect::<Vec<_>>()
        };
        self.workloads.iter().flat_map(of).collect()
    }
}

/// What manifests would get.
fn offline(args: &ReportArgs) -> Result<Report, Failure> {
    let default = args.namespace.as_deref().unwrap_or("default");
    source::ensure_stdin_once(&args.files, &args.injection.cluster.catalog)?;
    let (catalog, options) = args.injection.read(default)?;
    let mut report = Report::new(&catalog);
    for manifest in manifest::read(&args.files)? {
        let namespace = manifest.namespace(default);
        report.workloads.extend(planned(&manifest, namespace, &catalog, &options)?);
    }
    Ok(report)
}

/// What one manifest would get; `None` where it is no workload.
fn planned(
    manifest: &Manifest,
    namespace: &str,
    catalog: &Catalog,
    options: &Options,
) -> Result<Option<Reported>, Failure> {
    let object = &manifest.object;
    let Some(kind) = Kind::of(object) else { return Ok(None) };
    let verdict = admit(&Request { namespace, object: &Json::from(object), old: None }, catalog, options);
    if let Some(failure) = inject::unread(&verdict) {
        return Err(Failure::input(format!("{}: {failure}", manifest.place)));
    }
    warn_of_slips(object, &manifest.place.to_string());
    let Some(plan) = &verdict.plan else {
        return Ok(standing::of(object, namespace, catalog, options, &|_| false));
    };
    let entry = |(intent, decision)| {
        let mut entry = Entry::decided(intent, decision, State::Planned);
        if decision.refusal(intent).is_some() {
            entry.reason += "; it would be refused";
        }
        entry
    };
    let mut entries: Vec<Entry> = plan.decisions.iter().map(entry).collect();
    if options.why_off(catalog, namespace).is_some() {
        // Besides what is enforced, what it asks for in vain.
        let standing = standing::of(object, namespace, catalog, options, &|_| false);
        let others = standing.into_iter().flat_map(|standing| standing.entries);
        entries.extend(others.filter(|other| !plan.decisions.contains_key(&other.intent)));
        entries.sort_by(|a, b| a.intent.cmp(&b.intent));
    }
    let lacks = |policy: &String| {
        let enforced = catalog.policy(policy).into_iter().flat_map(|policy| &policy.spec.enforce);
        let decided = enforced.filter_map(|intent| Some((intent, plan.decisions.get(intent)?)));
        let enforced = decided.filter(|(_, decision)| decision.enforced.is_some());
        enforced.filter_map(|(intent, decision)| Some((intent.clone(), decision.lack()?))).collect()
    };
    let conformance = plan.policies.iter().map(|policy| (policy.clone(), lacks(policy))).collect();
    Ok(Some(Reported { entries, conformance, ..Reported::of(object, namespace, kind.name()) }))
}

/// What the workloads of the live cluster have.
fn live(args: &ReportArgs) -> Result<Report, Failure> {
    if !args.injection.cluster.is_live() {
        let message = "--catalog (OPPORTUNE_CATALOG) goes with manifests: name them by -f, or leave it out for the live cluster";
        return Err(Failure::Usage(message.into()));
    }
    block_on(async {
        let cluster = args.injection.cluster.connect().await?;
        let own = args.namespace.clone().unwrap_or_else(|| cluster.namespace.clone());
        let (catalog, unread) = args.injection.cluster.read_from(&cluster, &own).await?;
        let (options, reach) = args.injection.scope.live_options(&cluster).await;
        let is_hidden = |intent: &_| unread.iter().any(|unread| unread.hides_offers_of(intent));
        let mut report = Report::new(&catalog);
        let mut take = |object: &Value| {
            let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
            report.workloads.extend(standing::of(object, namespace, &catalog, &options, &is_hidden));
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            warn_of_slips(object, &format!("{namespace}/{name}"));
        };
        // Policies and Namespaces ask of those, too, that ask for nothing themselves.
        let is_unasked = catalog.policies().iter().any(|policy| policy.acts_unasked());
        let inherits = options.inheritance == Inheritance::FromNamespace;
        let wanted = if is_unasked || inherits { Wanted::All } else { Wanted::WithKeyOfOurs };
        let not_listed = watch::read_workloads(
            &cluster.client,
            args.namespace.as_deref(),
            &own,
            &options.kinds,
            wanted,
            &mut take,
        )
        .await;
        let not_listed = not_listed
            .map_err(|error| Failure::input(format!("can't read the cluster: {}", with_causes(&error))))?;
        if not_listed.len() == options.kinds.iter().count()
            && not_listed.iter().all(|unread| !unread.is_partly_read)
        {
            return Err(Failure::input(format!(
                "you have no right to list {}, not even in namespace {own} ({cluster}): choose another namespace by \
                 -n, or ask who runs the cluster",
                not_listed.iter().map(|unread| unread.resource).collect::<Vec<_>>().join(" or ")
            )));
        }
        // The catalog is read from workloads, too: what was told then is not told again.
        not_listed.iter().filter(|left| !unread.contains(left)).for_each(|left| source::tell(left, &own));
        let hides_policies = unread.iter().any(|unread| unread.kind == "InjectionPolicy");
        report.is_partial = !not_listed.is_empty() || hides_policies;
        if unread.iter().any(watch::Unread::hides_offers) {
            style::warn("the webhook sees what you may not: what depends on it is reported as unknown");
        }
        if matches!(reach, Look::Missing) {
            style::warn(
                "no webhook configuration of ours is in this cluster: nothing is injected (`opportune doctor` tells more)",
            );
        }
        let namespaces = report.workloads.iter().filter(|workload| workload.is_concerned());
        args.injection.scope.warn_of_mode(&reach, &catalog, namespaces.map(|w| w.namespace.as_str()));
        Ok(report)
    })
}

/// Warns of annotations of ours that nobody knows, and of a record that nobody can read.
fn warn_of_slips(object: &Value, place: &str) {
    let object = Json::from(object);
    let Ok(Some(workload)) = Workload::read(&object) else { return };
    let unknown = Wishes::read(&workload).map(|wishes| wishes.unknown_keys).unwrap_or_default();
    let unknown = unknown.iter().map(|key| format!("unknown annotation {key}"));
    let record = Account::of(&workload).err().map(|error| error.to_string());
    for slip in unknown.chain(record) {
        style::warn(&plain(&format!("{place}: {slip}")));
    }
}
