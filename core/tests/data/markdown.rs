//! Small pieces of Markdown, made from what the data files hold.
use serde_json::Value;

/// A text in code quotes, whatever it holds.
pub fn code(text: &str) -> String {
    match (text.is_empty(), text.contains('`')) {
        (true, _) => "(empty)".to_owned(),
        (_, true) => format!("`` {text} ``"),
        _ => format!("`{text}`"),
    }
}

/// A text as it is read; only what stands in its own code quotes is left alone.
pub fn prose(text: &str) -> String {
    let escaped = text.split('`').enumerate().map(|(index, part)| match index % 2 {
        0 => part.replace('<', "&lt;").replace('*', "\\*").replace('[', "\\["),
        _ => part.to_owned(),
    });
    escaped.collect::<Vec<_>>().join("`")
}

pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

pub fn texts<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    value[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A list of texts in code quotes, with commas.
pub fn codes(texts: &[&str]) -> String {
    texts.iter().map(|text| code(text)).collect::<Vec<_>>().join(", ")
}

/// A map's entries, in the order in which they are written.
pub fn entries<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    value[field].as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// The address of a heading on its page.
pub fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

/// How sure we are, what nobody verified, and where it was read.
pub fn proof(value: &Value) -> String {
    let confidence = match text(value, "confidence") {
        "verified" => "verified (read in the project's own repository, chart or documentation)",
        "secondary" => "secondary (seen in somebody else's configuration or documentation)",
        _ => "memory (not verified)",
    };
    let mut out = format!("Confidence: {confidence}.\n\n");
    let list = |title: &str, lines: Vec<String>| match lines.as_slice() {
        [] => String::new(),
        [one] => format!("- {title}: {one}\n"),
        many => {
            format!("- {title}:\n{}", many.iter().map(|line| format!("  - {line}\n")).collect::<String>())
        }
    };
    out += &list("Not verified", texts(value, "unverified").into_iter().map(prose).collect());
    out += &list("Sources", texts(value, "sources").into_iter().map(code).collect());
    out
}

/// A table whose cells are text already.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let rule: Vec<String> = header.iter().map(|_| "---".to_owned()).collect();
    line(&header) + &line(&rule) + &rows.iter().map(|row| line(row)).collect::<String>()
}
