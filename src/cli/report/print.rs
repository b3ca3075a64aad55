//! A report as a table, as JSON and as CSV. Names and reasons are text that anybody may have written.
use std::borrow::Cow;

use comfy_table::{Table, presets::NOTHING};
use csv::{Terminator, WriterBuilder};
use serde_json::{Map, Value, json};

use super::{
    Report,
    entry::{Entry, RESULTS, Reported, State},
};
use crate::cli::{Failure, style::plain};

const COLUMNS: [&str; 10] =
    ["namespace", "kind", "name", "intent", "result", "offer", "required", "origin", "state", "reason"];
/// What makes a spreadsheet take a cell for a formula, where it stands at its beginning; some take the wide forms, too.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// A table, with the summary below it.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    if !report.workloads.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(COLUMNS.map(str::to_uppercase));
        for row in rows(report) {
            table.add_row(
                row.map(|cell| if cell.is_empty() { "-".to_owned() } else { plain(&cell).into_owned() }),
            );
        }
        text = table.lines().map(|line| line.trim().to_owned() + "\n").collect();
        text.push('\n');
    }
    text + &summary(report) + "\n"
}

/// One object.
pub fn json(report: &Report) -> String {
    let workloads: Vec<Value> = report.workloads.iter().map(described).collect();
    let counts = Counts::of(report);
    let by = |counted: Vec<(&str, usize)>| {
        counted.into_iter().map(|(word, count)| (word.to_owned(), json!(count))).collect::<Map<_, _>>()
    };
    let summary = json!({
        "workloads": report.workloads.len(),
        "intents": counts.entries.len(),
        "results": by(counts.results()),
        "states": by(counts.states()),
        "unsatisfied": report.unsatisfied().len(),
        "policies": policies(report),
        "partial": report.is_partial,
    });
    format!("{:#}\n", json!({"workloads": workloads, "summary": summary}))
}

/// A line for each intent, and a first one with the names of the columns.
///
/// # Errors
/// When it can't be written, which nothing is known to cause.
pub fn csv(report: &Report) -> Result<String, Failure> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    let failed = |error: &dyn std::fmt::Display| Failure::input(format!("the CSV can't be written: {error}"));
    writer.write_record(COLUMNS).map_err(|error| failed(&error))?;
    for row in rows(report) {
        let cells = row.map(|cell| guarded(&cell).into_owned());
        writer.write_record(cells).map_err(|error| failed(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// How many there are, in one line.
pub fn summary(report: &Report) -> String {
    let counts = Counts::of(report);
    let mut text = match counts.entries.is_empty() {
        true => "no workload asks for anything or holds anything of ours".to_owned(),
        false => {
            let (workloads, intents) = (report.workloads.len(), counts.entries.len());
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            let listed = |counted: Vec<(&str, usize)>| {
                let there = counted.into_iter().filter(|(_, count)| *count > 0);
                there.map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
            };
            format!(
                "{workloads} workload{}, {intents} intent{}: {} ({})",
                plural(workloads),
                plural(intents),
                listed(counts.results()),
                listed(counts.states())
            )
        }
    };
    let undecided = report.workloads.iter().filter(|workload| workload.problem.is_some()).count();
    if undecided > 0 {
        text += &format!("; {undecided} can't be decided on");
    }
    let required = report.workloads.iter().flat_map(|workload| &workload.entries);
    match required.filter(|entry| entry.is_unsatisfied()).count() {
        0 => {}
        count => text += &format!("; {count} required and not satisfied"),
    }
    match report.workloads.iter().filter(|workload| !workload.is_conforming()).count() {
        0 => {}
        1 => text += "; 1 workload does not conform to a policy",
        count => text += &format!("; {count} workloads do not conform to a policy"),
    }
    if report.is_partial {
        text += "; you may not see all workloads or policies";
    }
    text
}

/// On how many workloads each policy acts, and how many of them are as it wants.
fn policies(report: &Report) -> Map<String, Value> {
    let counted = |(policy, (matched, lacking)): (&String, &(usize, usize))| {
        let counts = json!({"matched": matched, "conforming": matched - lacking, "lacking": lacking});
        (policy.clone(), counts)
    };
    report.policies.iter().map(counted).collect()
}

/// What is counted.
struct Counts<'a> {
    entries: Vec<&'a Entry>,
}

// === impl Counts ===

impl<'a> Counts<'a> {
    fn of(report: &'a Report) -> Self {
        Self { entries: report.workloads.iter().flat_map(|workload| &workload.entries).collect() }
    }

    fn results(&self) -> Vec<(&'static str, usize)> {
        RESULTS.map(|word| (word, self.entries.iter().filter(|entry| entry.result == word).count())).to_vec()
    }

    fn states(&self) -> Vec<(&'static str, usize)> {
        State::ALL
            .map(|state| (state.word(), self.entries.iter().filter(|entry| entry.state == state).count()))
            .to_vec()
    }
}

/// One line for each intent; and one for a workload of which no intent is known.
fn rows(report: &Report) -> impl Iterator<Item = [Cow<'_, str>; 10]> {
    report.workloads.iter().flat_map(|workload| {
        let (namespace, kind, name) = (workload.namespace.as_str(), workload.kind, workload.name.as_str());
        let known = workload.entries.iter().map(move |entry| {
            let required = if entry.is_required { "yes" } else { "no" };
            let offer = entry.offer.as_deref().unwrap_or_default();
            let (intent, state) = (entry.intent.as_str(), entry.state.word());
            let cells =
                [namespace, kind, name, intent, entry.result, offer, required, "", state, &entry.reason];
            let mut cells = cells.map(Cow::Borrowed);
            if let Some(origin) = cells.get_mut(7) {
                *origin = self::origin(entry).into();
            }
            cells
        });
        let problem = workload.problem.iter().filter(|_| workload.entries.is_empty());
        let unknown = State::Unknown.word();
        let problems = problem
            .map(move |why| [namespace, kind, name, "", "", "", "", "", unknown, why].map(Cow::Borrowed));
        known.chain(problems)
    })
}

/// Who asks for an intent, or enforces it.
fn origin(entry: &Entry) -> String {
    match (&entry.enforced, &entry.origin) {
        (Some(policy), _) => format!("policy {policy} (enforced)"),
        (None, Some(asker)) => asker.to_string(),
        (None, None) => String::new(),
    }
}

fn described(workload: &Reported) -> Value {
    let entry = |entry: &Entry| {
        json!({
            "intent": entry.intent,
            "result": entry.result,
            "offer": entry.offer,
            "required": entry.is_required,
            "origin": entry.origin.as_ref().map(ToString::to_string),
            "enforced": entry.enforced,
            "state": entry.state.word(),
            "reason": entry.reason,
        })
    };
    json!({
        "namespace": workload.namespace,
        "kind": workload.kind,
        "name": workload.name,
        "problem": workload.problem,
        "policies": workload.conformance,
        "intents": workload.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

/// A cell of a CSV that no spreadsheet takes for a formula, and that moves no terminal.
fn guarded(cell: &str) -> Cow<'_, str> {
    match cell.starts_with(FORMULA) {
        true => Cow::Owned(format!("'{}", plain(cell))),
        false => plain(cell),
    }
}
