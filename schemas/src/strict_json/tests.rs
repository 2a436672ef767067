//! Tests of the strict reader.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::{GenerationParams, Job};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sample {
    small: u8,
    signed: i64,
    large: Option<u64>,
    real: Option<f64>,
    map: BTreeMap<String, String>,
    nested: Option<Box<Sample>>,
    list: Vec<Sample>,
    any: Value,
}

fn error(text: &str) -> String {
    from_str::<Sample>(text).unwrap_err().to_string()
}

#[test]
fn an_array_is_not_an_object_at_any_depth() {
    for text in ["[1]", r#"{"nested":[1]}"#, r#"{"list":[[1]]}"#] {
        assert!(error(text).starts_with("invalid type: sequence"), "{text}");
        let value: Value = serde_json::from_str(text).unwrap();
        assert!(from_value::<Sample>(value).is_err(), "{text}");
    }
    assert!(from_slice::<Job>(br#"["id","text"]"#).is_err());
    assert!(from_str::<GenerationParams>("[7]").is_err());
}

#[test]
fn one_of_several_names_is_a_string() {
    for text in [
        r#"{"long_text":{"truncate":null}}"#,
        r#"{"early_stopping":{"never":null}}"#,
        r#"{"long_text":7}"#,
        r#"{"early_stopping":"sometimes"}"#,
    ] {
        let error = from_str::<GenerationParams>(text).unwrap_err();
        assert!(
            error.is_data() && error.to_string().contains("expected "),
            "{error}"
        );
        let value: Value = serde_json::from_str(text).unwrap();
        assert!(from_value::<GenerationParams>(value).is_err(), "{text}");
    }
    let text = r#"{"long_text":"map_reduce","early_stopping":"never"}"#;
    assert!(from_str::<GenerationParams>(text).is_ok());
    let flag = from_str::<GenerationParams>(r#"{"early_stopping":true}"#).unwrap();
    assert_eq!(
        serde_json::to_string(&flag).unwrap(),
        r#"{"early_stopping":true}"#
    );
    let job = r#"{"id":"a","text":"x","channel":{"direct":null}}"#;
    assert!(from_str::<Job>(job).is_err());
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = "\u{feff}{\"small\":1}";
    assert_eq!(from_str::<Sample>(text).unwrap().small, 1);
    assert_eq!(from_slice::<Sample>(text.as_bytes()).unwrap().small, 1);
}

#[test]
fn a_repeated_key_is_refused_in_structs_maps_and_values() {
    for (text, key) in [
        (r#"{"small":1,"small":1}"#, "small"),
        (r#"{"map":{"k":"a","k":"b"}}"#, "k"),
        (
            r#"{"nested":{"list":[{"any":{"x":1,"y":[{"z":1,"z":2}]}}]}}"#,
            "z",
        ),
        (r#"{"any":{"a":1,"\u0061":2}}"#, "a"),
    ] {
        let error = error(text);
        assert!(
            error.starts_with(&format!("duplicate field `{key}` at line 1")),
            "{error}"
        );
    }
}

#[test]
fn integers_may_be_written_with_a_fraction_or_exponent() {
    let read = |text: &str| from_str::<Sample>(text);
    let sample = read(r#"{"small":4.0,"signed":-2e1,"large":1.5e3,"real":2}"#).unwrap();
    assert_eq!((sample.small, sample.signed), (4, -20));
    assert_eq!((sample.large, sample.real), (Some(1_500), Some(2.0)));
    assert_eq!(read(r#"{"small":-0.0,"large":null}"#).unwrap(), Sample::default());
    assert_eq!(
        read(r#"{"large":18446744073709551615}"#).unwrap().large,
        Some(u64::MAX)
    );
    for text in [
        r#"{"small":4.5}"#,
        r#"{"small":256.0}"#,
        r#"{"small":-1.0}"#,
        r#"{"large":18446744073709551616}"#,
        r#"{"large":1e20}"#,
        // This double may stand for its odd neighbours too.
        r#"{"large":9007199254740994.0}"#,
        r#"{"signed":-1e19}"#,
        r#"{"small":1e400}"#,
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    // A string stays a string, and a number a number.
    assert!(read(r#"{"small":"4"}"#).is_err());
    assert_eq!(read(r#"{"any":4.0}"#).unwrap().any, serde_json::json!(4.0));
}

#[test]
fn nothing_may_follow_the_value() {
    assert!(from_str::<Sample>("{} {}").is_err());
    assert!(from_slice::<Sample>(b"{}\n").is_ok());
    assert!(from_slice::<Sample>(b"{\"any\":\"\xff\"}").is_err());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,3}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn everything_else_is_read_as_serde_json_reads_it(value in value()) {
        let text = value.to_string();
        prop_assert_eq!(&from_str::<Value>(&text).unwrap(), &value);
        prop_assert_eq!(&from_slice::<Value>(text.as_bytes()).unwrap(), &value);
        prop_assert_eq!(from_value::<Value>(value).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
    }
}
