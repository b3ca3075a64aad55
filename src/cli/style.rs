//! How things look on a terminal. Colours are left out where the output is no terminal or `NO_COLOR` is set.
use std::borrow::Cow;

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

/// Text that somebody else wrote, fit for a terminal: what would move the cursor, colour or reorder it stands there as an
/// escape.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| match is_unprintable(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(escaped).collect())
}

fn is_unprintable(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_terminal_is_escaped_and_the_rest_stays() {
        assert_eq!(plain("é = $ \u{1b}[2J\r\n\u{9b}1m\u{202e}"), "é = $ \\u{1b}[2J\\r\\n\\u{9b}1m\\u{202e}");
        assert!(matches!(plain("plain"), Cow::Borrowed(_)));
    }
}
