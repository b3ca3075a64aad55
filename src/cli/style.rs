//! How things look on a terminal. Colours are left out where the output is no terminal or `NO_COLOR` is set.
use anstyle::{AnsiColor, Style};

/// Good news, and added lines.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Bad news, and removed lines.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What a person should look at.
pub const NOTE: Style = AnsiColor::Yellow.on_default();
/// Headings.
pub const HEAD: Style = Style::new().bold();
/// Asides.
pub const FAINT: Style = Style::new().dimmed();
/// Places in a diff.
pub const PLACE: Style = AnsiColor::Cyan.on_default();

/// `text` in a style.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The style of a result's word.
pub fn of_result(word: &str) -> Style {
    match word {
        "bound" | "kept" | "complete" => GOOD,
        "absent" | "declined" => NOTE,
        _ => BAD,
    }
}

/// A warning, on standard error.
pub fn warn(text: &str) {
    anstream::eprintln!("{NOTE}warning{NOTE:#}: {text}");
}
