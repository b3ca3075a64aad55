//! Each encoding, read back by the real reader of its language: what an offer says stays a value.
use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use opportune_core::encode::Encoding;
use proptest::prelude::*;
use serde_json::Value;

/// Values that want to become code.
const VALUES: [&str; 22] = [
    "",
    " ",
    "plain",
    "it's",
    "\"quoted\"",
    "back\\slash",
    "ends with \\",
    "\\'",
    "\\\\'",
    "\\\" ; x=1",
    "#{system('id')}",
    "$(id)",
    "${HOME}",
    "`id`",
    "$HOME",
    "<script>alert(1)</script>",
    "a&amp;b",
    "é ü 漢字 🦀",
    "; comment # comment",
    "[section]",
    "%s %d %(x)s",
    "line\nbreak\r\ntab\t",
];

fn is_one_line(value: &str) -> bool {
    !value.chars().any(char::is_control)
}

/// The table of values as JSON, each read by `reader` out of what `encoding` wrote; `None` where nobody can read it here.
fn read_back(program: &str, arguments: &[&str], script: &str) -> Option<Vec<String>> {
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let Ok(mut child) = spawned else {
        // Past the test harness, which shows what a passing test prints to nobody.
        let message = format!("skipped: {program} is not on this machine\n");
        std::io::stderr().write_all(message.as_bytes()).unwrap();
        return None;
    };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} refuses this script:\n{script}");
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.split('\0').map(str::to_owned).collect())
}

fn assert_all(read: Option<Vec<String>>, expected: impl Iterator<Item = String>) {
    let Some(mut read) = read else { return };
    assert_eq!(read.pop().as_deref(), Some(""), "every value ends with a NUL");
    assert_eq!(read, expected.collect::<Vec<_>>());
}

fn values() -> impl Iterator<Item = String> {
    VALUES.iter().map(|value| (*value).to_owned())
}

#[test]
fn a_shell_reads_its_values_back() {
    let mut script = String::new();
    for value in VALUES {
        writeln!(script, "printf '%s\\0' {}", Encoding::Shell.encode(value)).unwrap();
    }
    assert_all(read_back("sh", &["-s"], &script), values());
}

#[test]
fn php_reads_its_values_back() {
    let mut script = String::from("<?php\n");
    for value in VALUES {
        writeln!(script, "echo {}, \"\\0\";", Encoding::Php.encode(value)).unwrap();
    }
    assert_all(read_back("php", &["-n"], &script), values());
}

#[test]
fn ruby_reads_its_values_back() {
    let mut script = String::from("# encoding: utf-8\nSTDOUT.binmode\n");
    for value in VALUES {
        writeln!(script, "print {}, \"\\0\"", Encoding::Ruby.encode(value)).unwrap();
    }
    // Its parser reads a line break of two characters as one, whatever the quotes.
    assert_all(read_back("ruby", &["-"], &script), values().map(|value| value.replace("\r\n", "\n")));
}

#[test]
fn a_browser_would_read_its_values_back() {
    let mut script = String::from(
        "import html.parser, sys\n\
         class Reader(html.parser.HTMLParser):\n\
        \x20   def handle_starttag(self, tag, attributes):\n\
        \x20       assert tag == 'b' and [k for k, v in attributes] == ['x'], (tag, attributes)\n\
        \x20       self.found = attributes[0][1]; self.text = ''\n\
        \x20   def handle_data(self, data): self.text += data\n\
        \x20   def handle_endtag(self, tag):\n\
        \x20       assert tag == 'b' and self.text == self.found\n\
        \x20       sys.stdout.buffer.write(self.found.encode() + b'\\0')\n\
         reader = Reader()\n",
    );
    for value in VALUES {
        let encoded = Encoding::Html.encode(value);
        let page = Value::from(format!("<b x=\"{encoded}\">{encoded}</b>")).to_string();
        writeln!(script, "reader.feed({page})").unwrap();
    }
    assert_all(read_back("python3", &["-X", "utf8", "-"], &script), values());
}

/// Where INI readers agree: a key holds the quoted text, and no value makes another key or section.
#[test]
fn no_value_makes_another_key_in_an_ini_file() {
    let mut file = String::from("[main]\n");
    for (index, value) in VALUES.iter().enumerate() {
        writeln!(file, "key{index} = {}", Encoding::Ini.encode(value)).unwrap();
    }
    let file = Value::from(file).to_string();
    let script = format!(
        "import configparser, json, sys\n\
         c = configparser.RawConfigParser(); c.read_string({file})\n\
         assert c.sections() == ['main'], c.sections()\n\
         assert len(c['main']) == {}, list(c['main'])\n\
         for v in c['main'].values():\n\
        \x20   assert v[0] == '\"' and v[-1] == '\"', v\n\
        \x20   sys.stdout.buffer.write(json.loads(v).encode() + b'\\0')\n",
        VALUES.len()
    );
    let on_one_line = |value: String| value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    assert_all(read_back("python3", &["-X", "utf8", "-"], &script), values().map(on_one_line));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn json_reads_back(value in "[^\0]{0,40}") {
        prop_assert_eq!(serde_json::from_str::<String>(&Encoding::Json.encode(&value)).unwrap(), value);
    }

    #[test]
    fn toml_reads_back(value in "[^\0]{0,40}") {
        let table: toml::Table = format!("key = {}\n", Encoding::Toml.encode(&value)).parse().unwrap();
        prop_assert_eq!(table.len(), 1);
        prop_assert_eq!(table["key"].as_str(), Some(value.as_str()));
    }

    #[test]
    fn uri_reads_back(value in "[^\0]{0,40}") {
        let encoded = Encoding::Uri.encode(&value);
        prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
        prop_assert_eq!(decoded.as_ref(), value.as_str());
    }

    #[test]
    fn quotes_are_closed_by_their_own_end_only(value in "[^\0]{0,40}") {
        // The readers' own rule, written down: after an opening quote, a backslash takes the next character along.
        for encoding in [Encoding::Php, Encoding::Ruby, Encoding::Ini] {
            let encoded = encoding.encode(&value);
            let quote = encoded.chars().next().unwrap();
            let mut rest = encoded.chars().skip(1);
            let mut ends = None;
            let mut at = 1;
            while let Some(c) = rest.next() {
                at += 1;
                if c == '\\' {
                    rest.next();
                    at += 1;
                } else if c == quote {
                    ends = Some(at);
                    break;
                }
            }
            prop_assert_eq!(ends, Some(encoded.chars().count()), "{:?} {}", encoding, encoded);
        }
        prop_assert!(is_one_line(&Encoding::Ini.encode(&value)));
        prop_assert!(!Encoding::Html.encode(&value).contains(['<', '>', '"', '\'']));
    }
}
