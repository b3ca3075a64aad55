//! Encodings: how a setting is written into the language that a template is in, so that nothing from an offer can become
//! code in the consumer. `json`, `toml`, `ini`, `php`, `ruby` and `shell` give a whole quoted literal, quotes included.
use std::fmt::Write as _;

/// How a placeholder's value is written, `[[ldap.base-dn|json]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Percent-encoded, all but RFC 3986's unreserved characters.
    Uri,
    /// A JSON string with its quotes.
    Json,
    /// A TOML basic string with its quotes.
    Toml,
    /// A double-quoted value as INI readers take it, with its quotes.
    Ini,
    /// A single-quoted PHP string with its quotes.
    Php,
    /// A single-quoted Ruby string with its quotes.
    Ruby,
    /// One word of a POSIX shell, with its quotes.
    Shell,
    /// Text of an HTML element or a quoted attribute.
    Html,
}

// === impl Encoding ===

impl Encoding {
    /// All encodings, in the order of the documentation.
    pub const ALL: [Self; 8] =
        [Self::Uri, Self::Json, Self::Toml, Self::Ini, Self::Php, Self::Ruby, Self::Shell, Self::Html];

    /// The name by which templates know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uri => "uri",
            Self::Json => "json",
            Self::Toml => "toml",
            Self::Ini => "ini",
            Self::Php => "php",
            Self::Ruby => "ruby",
            Self::Shell => "shell",
            Self::Html => "html",
        }
    }

    /// The encoding of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }

    /// Writes `value` in this encoding. A NUL, which no target can hold, is left out.
    pub fn encode(self, value: &str) -> String {
        let value = value.replace('\0', "");
        match self {
            Self::Uri => uri(&value),
            Self::Json => serde_json::Value::from(value).to_string(),
            Self::Toml => toml(&value),
            Self::Ini => ini(&value),
            Self::Php | Self::Ruby => single_quoted(&value),
            Self::Shell => format!("'{}'", value.replace('\'', r"'\''")),
            Self::Html => html(&value),
        }
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub fn uri(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn toml(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// INI has no standard: in quotes, with quotes and backslashes escaped and line breaks written as spaces, no reader can
/// be led to see another key.
fn ini(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// PHP's and Ruby's single-quoted strings know two escapes only, and expand nothing.
fn single_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

fn html(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Whether `value` can stand in any composed text without an encoding.
pub fn is_plain(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._:/@=,+-".contains(&b))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Encoding::Uri, "a b/é'", "a%20b%2F%C3%A9%27")]
    #[case(Encoding::Json, "a\"\\\n", r#""a\"\\\n""#)]
    #[case(Encoding::Toml, "a\"\\\né", "\"a\\\"\\\\\\u000Aé\"")]
    #[case(Encoding::Ini, "a\"\\\n[x]", "\"a\\\"\\\\ [x]\"")]
    #[case(Encoding::Php, r"it's \ $x #{y}", r"'it\'s \\ $x #{y}'")]
    #[case(Encoding::Ruby, r"it's #{y}\", r"'it\'s #{y}\\'")]
    #[case(Encoding::Shell, "it's $(x) `y`", r"'it'\''s $(x) `y`'")]
    #[case(Encoding::Html, "<script>'&\"", "&lt;script&gt;&#39;&amp;&quot;")]
    #[case(Encoding::Shell, "", "''")]
    #[case(Encoding::Json, "", "\"\"")]
    #[case(Encoding::Uri, "", "")]
    fn a_value_becomes_a_literal(#[case] encoding: Encoding, #[case] value: &str, #[case] expected: &str) {
        assert_eq!(encoding.encode(value), expected);
    }

    #[test]
    fn names_read_back() {
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::parse(encoding.name()), Some(encoding));
        }
        assert_eq!(Encoding::parse("xml"), None);
    }
}
