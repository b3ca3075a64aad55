//! Medians, ratios and tables.
use super::{client::Measured, plan::Section, server::Memory};
use anyhow::{Context, Result};
use std::{fmt::Write as _, path::Path};

const BEGIN: &str = "<!-- bench:load -->";
const END: &str = "<!-- /bench -->";
/// What differs by less from what stands in the file is left as it is: a machine is never twice the same.
const NOISE: f64 = 0.1;

/// The medians of one row.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) at_once: usize,
    pub(super) median: Measured,
}

/// What a server held at its start, after all load, and at most.
pub(super) struct Held {
    pub(super) name: &'static str,
    pub(super) at_start: Memory,
    pub(super) after: Memory,
}

type Table = Vec<Vec<String>>;

/// In the place of a figure that can't be trusted.
const UNKNOWN: &str = "–";
/// The columns of figures that are worth nothing where others use the same cores.
const TIMES: [usize; 8] = [2, 3, 4, 8, 9, 10, 11, 12];

/// Takes out what another load on the machine falsifies; processor time is left.
pub(super) fn forget_times(tables: &mut [Table]) {
    for row in tables.iter_mut().filter(|table| !is_memory(table)).flat_map(|table| table.iter_mut().skip(1))
    {
        for column in TIMES {
            if let Some(cell) = row.get_mut(column).filter(|cell| !cell.is_empty()) {
                UNKNOWN.clone_into(cell);
            }
        }
    }
}

fn is_memory(table: &Table) -> bool {
    table.first().and_then(|head| head.first()).is_some_and(|title| title.starts_with("Resident"))
}

/// The median of each figure.
pub(super) fn median(rounds: &[Measured]) -> Option<Measured> {
    let of = |figure: fn(&Measured) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let upper = figures.get(middle).copied()?;
        let is_even = figures.len().is_multiple_of(2);
        let lower = if is_even { figures.get(middle.checked_sub(1)?).copied()? } else { upper };
        Some(f64::midpoint(lower, upper))
    };
    Some(Measured {
        rate: of(|round| round.rate)?,
        cpu: of(|round| round.cpu)?,
        p50: of(|round| round.p50)?,
        p99: of(|round| round.p99)?,
        p999: of(|round| round.p999)?,
        worst: of(|round| round.worst)?,
    })
}

/// The table of one section.
pub(super) fn table(section: &Section, lines: &[Line]) -> Table {
    let mut table = vec![row([
        section.title,
        "at once",
        "requests/s",
        "to parse",
        "to echo",
        "CPU, µs",
        "parse / it",
        "echo / it",
        "p50, ms",
        "p99, ms",
        "to parse",
        "p99.9, ms",
        "worst, ms",
    ])];
    for line in lines {
        let of = |name: &str| lines.iter().find(|other| other.name == name && other.at_once == line.at_once);
        let ratio = |name: &str, figure: fn(&Measured, &Measured) -> f64| {
            of(name).map_or_else(String::new, |other| digits(figure(&line.median, &other.median)))
        };
        let median = &line.median;
        table.push(vec![
            line.name.to_owned(),
            line.at_once.to_string(),
            digits(median.rate),
            ratio("parse", |it, parse| it.rate / parse.rate),
            ratio("echo", |it, echo| it.rate / echo.rate),
            digits(median.cpu),
            ratio("parse", |it, parse| parse.cpu / it.cpu),
            ratio("echo", |it, echo| echo.cpu / it.cpu),
            digits(median.p50),
            digits(median.p99),
            ratio("parse", |it, parse| it.p99 / parse.p99),
            digits(median.p999),
            digits(median.worst),
        ]);
    }
    table
}

pub(super) fn memory(held: &[Held]) -> Table {
    let mut table = vec![row(["Resident memory, MiB", "at start", "after", "peak"])];
    for Held { name, at_start, after } in held {
        let figures = [at_start.resident, after.resident, after.peak].map(digits);
        table.push([vec![(*name).to_owned()], figures.to_vec()].concat());
    }
    table
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Two digits that count, and no more than two after the point.
fn digits(figure: f64) -> String {
    if figure < 0.995 {
        return format!("{figure:.2}");
    }
    if figure < 9.95 {
        return format!("{figure:.1}");
    }
    let step = 10_f64.powf(figure.log10().floor() - 1.0);
    let rounded = format!("{:.0}", (figure / step).round() * step);
    // Thousands apart.
    match rounded.len() {
        length @ 4.. => {
            let (thousands, rest) = rounded.split_at(length - 3);
            format!("{thousands},{rest}")
        }
        _ => rounded,
    }
}

/// A table in Markdown whose columns stand below each other.
pub(super) fn markdown(table: &Table) -> String {
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for (number, row) in table.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            let _ = match column {
                0 => write!(text, "| {cell:<width$} |"),
                _ => write!(text, " {cell:>width$} |"),
            };
        }
        text.push('\n');
        if number == 0 {
            text.push_str(&"|---".repeat(row.len()));
            text.push_str("|\n");
        }
    }
    text
}

/// Writes the tables between the markers of a document. Figures that are nearly what stands there stay.
///
/// # Errors
/// The file can't be read or written, or has no markers.
pub(super) fn write(path: &Path, mut tables: Vec<Table>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (old, after) = rest.split_once(END)?;
        Some((before, old, after))
    });
    let (before, old, after) = parts.with_context(|| format!("{} lacks {BEGIN} or {END}", path.display()))?;
    let mut title = String::new();
    for line in old.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        // A table's head names it: the same words stand in the tables of two sections.
        match tables.iter().find(|table| {
            table.first().is_some_and(|head| head.first().map(String::as_str) == cells.first().copied())
        }) {
            Some(_) => title = cells.first().copied().unwrap_or_default().to_owned(),
            None => keep(&mut tables, &title, &cells),
        }
    }
    let tables: Vec<String> = tables.iter().map(markdown).collect();
    let text = format!("{before}{BEGIN}\n{}{END}{after}", tables.join("\n"));
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Puts the old figures of one row in the place of new ones that are nearly the same.
fn keep(tables: &mut [Table], title: &str, old: &[&str]) {
    let table = tables
        .iter_mut()
        .find(|table| table.first().and_then(|head| head.first()).is_some_and(|it| it == title));
    let is_it = |row: &&mut Vec<String>| row.iter().zip(old).take(2).all(|(new, old)| new == old);
    let by_name = |row: &&mut Vec<String>| row.first().is_some_and(|new| Some(&new.as_str()) == old.first());
    let is_memory = title.starts_with("Resident");
    let Some(row) = table
        .and_then(|table| table.iter_mut().find(|row| if is_memory { by_name(row) } else { is_it(row) }))
    else {
        return;
    };
    let number = |text: &str| text.replace(',', "").parse::<f64>().ok();
    for (new, old) in row.iter_mut().zip(old).skip(1) {
        let is_near = match (number(new), number(old)) {
            (Some(is), Some(was)) => (is - was).abs() <= was * NOISE,
            _ => false,
        };
        if is_near || new == UNKNOWN {
            (*old).clone_into(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "Before.\n\n<!-- bench:load -->\n\
        | A | at once | requests/s |\n|---|---|---|\n| echo | 8 | 1,000 |\n| parse | 8 | 500 |\n\n\
        | Resident memory, MiB | at start |\n|---|---|\n| echo | 10 |\n<!-- /bench -->\n\nAfter.\n";

    fn table_of(rows: &[&[&str]]) -> Table {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    fn written(text: &str, tables: Vec<Table>) -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        write(file.path(), tables)?;
        Ok(std::fs::read_to_string(file.path())?)
    }

    #[test]
    fn figures_that_hardly_changed_stay_and_others_are_replaced() {
        let new = vec![
            table_of(&[&["A", "at once", "requests/s"], &["echo", "8", "1,090"], &["parse", "8", "440"]]),
            table_of(&[&["Resident memory, MiB", "at start"], &["echo", "12"]]),
        ];
        let text = written(OLD, new).unwrap();
        let cells: Vec<String> = text.lines().map(|line| line.replace(' ', "")).collect();
        for line in ["|echo|8|1,000|", "|parse|8|440|", "|echo|12|", "Before.", "After."] {
            assert!(cells.iter().any(|it| it == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn times_of_a_busy_machine_are_not_written() {
        let row = |rate| vec!["echo", "8", rate, "1.0", "1.0", "24"];
        let mut tables = vec![table_of(&[&["A", "at once", "requests/s"], &row("3,000")])];
        forget_times(&mut tables);
        assert_eq!(
            tables,
            [table_of(&[&["A", "at once", "requests/s"], &["echo", "8", "–", "–", "–", "24"]])]
        );
        let text = written(OLD, tables).unwrap().replace(' ', "");
        assert!(text.contains("|echo|8|1,000|–|–|24|"), "{text}");
    }

    #[test]
    fn what_was_written_is_written_again_the_same() {
        let tables = || vec![table_of(&[&["A", "at once", "requests/s"], &["echo", "8", "1,000"]])];
        let once = written(OLD, tables()).unwrap();
        assert_eq!(written(&once, tables()).unwrap(), once);
    }

    #[test]
    fn a_document_without_markers_is_refused() {
        assert!(written("Nothing.\n", Vec::new()).is_err());
    }

    #[test]
    fn two_digits_count() {
        let figures = [0.004, 0.336, 0.994, 0.995, 9.94, 9.95, 99.6, 104.0, 995.0, 12_345.0];
        let told = ["0.00", "0.34", "0.99", "1.0", "9.9", "10", "100", "100", "1,000", "12,000"];
        assert_eq!(figures.map(digits), told);
    }

    #[test]
    fn a_median_is_the_middle_one_or_between_two() {
        let round = |rate| Measured { rate, cpu: 1.0, p50: 1.0, p99: 1.0, p999: 1.0, worst: 1.0 };
        assert_eq!(median(&[round(9.0), round(1.0), round(2.0)]).unwrap().rate, 2.0);
        assert_eq!(median(&[round(4.0), round(1.0)]).unwrap().rate, 2.5);
        assert!(median(&[]).is_none());
    }
}
