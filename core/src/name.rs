//! Names: which are allowed, and how the ones that we make are formed.
use sha2::{Digest, Sha256};

/// Whether `text` is an RFC 1123 label: lower-case letters, digits and inner dashes, 1 to 63.
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Whether `text` is an RFC 1123 subdomain: labels joined by dots, 1 to 253.
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// The longest name of a variable: with seven characters more it is a key of a Secret, which may have 253.
const MAX_ENV_NAME: usize = 240;

/// Whether `text` can name an environment variable in every supported Kubernetes.
pub fn is_env_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !text.is_empty()
        && text.len() <= MAX_ENV_NAME
        && text.bytes().all(allowed)
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.starts_with("..")
        && text != "."
}

/// Whether `text` can name a setting: a lower-case letter, then letters, digits and dashes, at most 63.
/// (No dots or slashes: it is also the name of a file and of a key in a Secret.)
pub fn is_setting_name(text: &str) -> bool {
    is_dns_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The first `digits` hexadecimal digits (at most 64) of the SHA-256 of the parts, which can't run into each other.
pub fn hex<T: AsRef<[u8]>>(parts: &[T], digits: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts.iter().map(AsRef::as_ref) {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().flat_map(|b| [b >> 4, b & 15]).take(digits).map(hex_digit).collect()
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

/// Turns any text into the inside of a DNS label: other characters become single dashes.
pub fn slug(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches('-').to_owned()
}

/// Joins `stem` and `tail` with a dash, cutting the stem so that the whole has at most 63 characters.
pub fn bounded(stem: &str, tail: &str) -> String {
    let room = 63usize.saturating_sub(tail.len() + 1);
    let cut: String = stem.chars().take(room).collect();
    format!("{}-{tail}", cut.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_name_is_a_label_of_at_most_63_characters() {
        let long = "a".repeat(200);
        let name = bounded(&format!("{long}-{}", slug("/var/www/html")), &hex(&["x"], 6));
        assert!(is_dns_label(&name), "{name}");
        assert_eq!(name.len(), 63);
    }

    #[test]
    fn parts_of_a_hash_do_not_run_into_each_other() {
        assert_ne!(hex(&["ab", "c"], 8), hex(&["a", "bc"], 8));
    }

    #[test]
    fn a_setting_is_never_a_path() {
        for bad in ["", ".", "..", "a/b", "a.b", "-a", "A", "1a"] {
            assert!(!is_setting_name(bad), "{bad}");
        }
    }
}
