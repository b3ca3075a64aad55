use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json, value::RawValue};
use std::collections::BTreeMap;

use super::*;

/// The members of an object, as this reader finds them.
fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &str)>, Malformed> {
    let (mut found, mut reader) = (Vec::new(), Skim::new(text));
    reader.members(|key, value| {
        found.push((key, value.raw()?));
        Ok(())
    })?;
    reader.end().map(|()| found)
}

#[rstest]
#[case::nothing("{}", &[])]
#[case::spaces(" { \"a\" :\n1 ,\t\"b\" : [ ] } \r\n", &[("a", "1"), ("b", "[ ]")])]
#[case::scalars(r#"{"a":null,"b":true,"c":-1.5e3,"d":""}"#, &[("a", "null"), ("b", "true"), ("c", "-1.5e3"), ("d", r#""""#)])]
#[case::brackets_in_strings(r#"{"a":{"b":"}]\"}"},"c":["[{"]}"#, &[("a", r#"{"b":"}]\"}"}"#), ("c", r#"["[{"]"#)])]
#[case::backslashes(r#"{"a":"\\","b":{"c":"\\\\\""}}"#, &[("a", r#""\\""#), ("b", r#"{"c":"\\\\\""}"#)])]
#[case::an_escaped_key("{\"\\u0061\\n\":1}", &[("a\n", "1")])]
#[case::the_same_key_twice(r#"{"a":1,"a":2}"#, &[("a", "1"), ("a", "2")])]
fn members_are_found_as_they_stand(#[case] text: &str, #[case] expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(key, raw)| (Cow::from(*key), *raw)).collect();
    assert_eq!(members(text), Ok(expected));
}

#[rstest]
#[case("", "an object", 0)]
#[case("[1]", "an object", 0)]
#[case("{", "a string", 1)]
#[case("{1:2}", "a string", 1)]
#[case(r#"{"a"}"#, "a colon", 4)]
#[case(r#"{"a":}"#, "a value, whole", 5)]
#[case(r#"{"a":"b}"#, "a value, whole", 5)]
#[case(r#"{"a":"b\"}"#, "a value, whole", 5)]
#[case(r#"{"a":{"b":[]}"#, "a comma or the end of an object", 13)]
#[case(r#"{"a":["}""#, "a value, whole", 5)]
#[case(r#"{"a":1 "b":2}"#, "a comma or the end of an object", 7)]
#[case(r#"{"a":1,}"#, "a string", 7)]
#[case(r#"{"a":1}}"#, "the end", 7)]
#[case(r#"{"\x":1}"#, "a string", 1)]
fn what_is_cut_short_or_torn_is_told(#[case] text: &str, #[case] expected: &'static str, #[case] at: usize) {
    assert_eq!(members(text), Err(Malformed { expected, at }));
}

#[rstest]
#[case(r#""a""#, Some("a"))]
#[case(r#" "é\"" "#, Some("é\""))]
#[case("null", None)]
fn a_string_may_be_null(#[case] text: &str, #[case] expected: Option<&str>) {
    assert_eq!(Skim::new(text).unless_null(Skim::string).unwrap().as_deref(), expected);
}

/// Everything that JSON has, and what could be mistaken for its end.
fn value() -> impl Strategy<Value = Value> {
    let text = r#"[a{}\[\]",:\\ \n/é😀]{0,20}"#;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_map(|number| json!(number)),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(text, inner, 0..6).prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

/// The kinds of processors that this one can stand in for, itself among them.
fn levels() -> Vec<Level> {
    let best = Level::new();
    let mut levels = vec![best];
    #[cfg(target_arch = "x86_64")]
    levels.extend(
        [
            best.as_sse2().map(Level::Sse2),
            best.as_sse4_2().map(Level::Sse4_2),
            best.as_avx2().map(Level::Avx2),
            best.as_avx512().map(Level::Avx512),
        ]
        .into_iter()
        .flatten(),
    );
    levels
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_object_is_seen_as_a_parser_sees_it(map in prop::collection::btree_map(".{0,8}", value(), 0..8), is_pretty: bool) {
        let text = if is_pretty { serde_json::to_string_pretty(&map) } else { serde_json::to_string(&map) }.unwrap();
        let parsed: BTreeMap<String, &RawValue> = serde_json::from_str(&text).unwrap();
        let parsed: Vec<_> = parsed.into_iter().map(|(key, raw)| (Cow::from(key), raw.get())).collect();
        prop_assert_eq!(members(&text).unwrap(), parsed);
    }

    #[test]
    fn a_text_that_is_cut_short_has_no_end(value in prop::collection::vec(value(), 0..8), cut in any::<prop::sample::Index>()) {
        let text = Value::from(value).to_string();
        let cut = cut.index(text.len());
        prop_assume!(text.is_char_boundary(cut));
        prop_assert!(Skim::new(&text[..cut]).raw().is_err());
    }

    #[test]
    fn every_kind_of_processor_finds_the_same_end(value in prop::collection::vec(value(), 1..8), behind in r#"[\]},"\\\\]{0,80}"#) {
        let text = Value::from(value).to_string();
        let (length, text) = (text.len(), text + &behind);
        for level in levels() {
            let found = dispatch!(level, simd => length_of_nested_by(simd, text.as_bytes()));
            prop_assert_eq!(found, Some(length), "{:?}", level);
        }
    }

    #[test]
    fn no_text_is_too_wild(text in r#"[a{}\[\]",:\\ n\n]{0,200}"#) {
        let _ = members(&text);
    }
}
