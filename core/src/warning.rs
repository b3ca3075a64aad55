//! Warnings: what the person who applies an object is told, in one line.
use crate::keys;

/// The longest line, in characters.
const MAX_CHARS: usize = 120;

/// One printable line of at most 120 characters that says who speaks.
pub(crate) fn line(text: &str) -> String {
    let line = format!("opportune: {text}");
    let printable: String = line
        .chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .collect();
    if printable.chars().count() <= MAX_CHARS {
        return printable;
    }
    let cut: String = printable.chars().take(MAX_CHARS - 3).collect();
    format!("{cut}...")
}

/// `; did you mean wants?` where a key of ours is close.
pub(crate) fn did_you_mean(key: &str) -> String {
    let typed: String = key.strip_prefix(keys::PREFIX).unwrap_or(key).chars().take(40).collect();
    let known = [
        keys::WANTS,
        keys::REQUIRES,
        keys::DECLINES,
        keys::PROFILE,
        keys::CONTAINERS,
        keys::FILES,
        keys::STORAGE,
        keys::RETAIN,
        keys::REFRESH,
        keys::INJECT,
        keys::INHERIT,
    ];
    let names = known.iter().filter_map(|key| key.strip_prefix(keys::PREFIX));
    let close = names
        .map(|name| (strsim::levenshtein(&typed, name), name))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    close.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_short_and_printable() {
        let line = line(&"é\n\u{7f}".repeat(100));
        assert_eq!(line.chars().count(), 120);
        assert!(line.chars().all(|c| !c.is_control()));
    }

    #[test]
    fn a_slip_is_named() {
        assert_eq!(did_you_mean("opportune.libre.sh/want"), "; did you mean wants?");
        assert_eq!(did_you_mean("opportune.libre.sh/require"), "; did you mean requires?");
        assert_eq!(did_you_mean("opportune.libre.sh/colour"), "");
    }
}
