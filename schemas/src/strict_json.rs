//! Reads JSON that clients send. Every interface uses this parser, so all accept the same JSON.
//!
//! It differs from `serde_json` in five ways:
//!
//! * An object is an object. serde also takes an array with the fields in their order.
//! * A key that occurs twice in an object is an error. serde takes the last value of a map.
//! * An integer may be written as `4.0` or `2e1`, as in JSON Schema, up to 2⁵³: above, not every integer has such a form.
//! * A value that is one of several names is a string. serde also takes an object with the name as its key.
//! * A byte order mark at the beginning is skipped (RFC 8259, 8.1).

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::Value;

/// The byte order mark of UTF-8.
pub const BYTE_ORDER_MARK: &str = "\u{feff}";
/// 2⁵³: up to here, every integer is a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Decodes a JSON text.
///
/// # Errors
/// If the text is not JSON, or is not a `T`.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let text = text.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(text);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(Strict(&mut reader))?;
    reader.end()?;
    Ok(value)
}

/// Decodes a JSON text.
///
/// # Errors
/// See [`from_slice`].
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Strict(&mut reader))?;
    reader.end()?;
    Ok(value)
}

/// Decodes a JSON value. Its objects can't have a key twice any more.
///
/// # Errors
/// If the value is not a `T`.
pub fn from_value<T: DeserializeOwned>(value: Value) -> serde_json::Result<T> {
    T::deserialize(Strict(value))
}

/// A deserializer of JSON that is strict about arrays and repeated keys.
#[derive(Debug)]
pub struct Strict<D>(pub D);

/// What the type that is decoded asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Anything,
    Integer,
    Object,
}

/// Passes values on to another visitor.
struct StrictVisitor<V> {
    visitor: V,
    expected: Expected,
}

macro_rules! deserialize {
    ($expected:ident: $($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let expected = Expected::$expected;
            self.0.deserialize_any(StrictVisitor { visitor, expected })
        })+
    };
}

/// The text says what it has, so most hints about the wanted type don't matter.
impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    deserialize! {
        Anything:
        deserialize_any deserialize_bool deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier
    }

    deserialize! {
        Integer:
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(StrictVisitor {
            visitor,
            expected: Expected::Anything,
        })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(StrictVisitor {
            visitor,
            expected: Expected::Object,
        })
    }

    /// No enum that clients send has fields in its variants.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(NameVisitor { visitor, names })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// Reads one of several names.
struct NameVisitor<V> {
    visitor: V,
    names: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NameVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(|name| format!("\"{name}\"")).collect();
        f.write_str(&names.join(" or "))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<V::Value, E> {
        self.visitor.visit_enum(name.into_deserializer())
    }
}

macro_rules! pass_on {
    ($($method:ident($type:ty))+) => {
        $(fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value)
        })+
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for StrictVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    pass_on! {
        visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<V::Value, E> {
        let is_integer =
            self.expected == Expected::Integer && value.fract() == 0.0 && value.abs() <= MAX_EXACT;
        if is_integer && value >= 0.0 {
            self.visitor.visit_u64(value as u64)
        } else if is_integer {
            self.visitor.visit_i64(value as i64)
        } else {
            self.visitor.visit_f64(value)
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Strict(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        match self.expected {
            Expected::Object => Err(A::Error::invalid_type(Unexpected::Seq, &self)),
            _ => self.visitor.visit_seq(StrictItems(items)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(StrictFields {
            fields,
            seen: HashSet::new(),
        })
    }
}

/// Decodes a value inside an array or object strictly.
struct StrictSeed<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for StrictSeed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(deserializer))
    }
}

struct StrictItems<A>(A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for StrictItems<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(StrictSeed(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

struct StrictFields<A> {
    fields: A,
    /// The keys so far.
    seen: HashSet<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for StrictFields<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(key) = self.fields.next_key::<String>()? else {
            return Ok(None);
        };
        if !self.seen.insert(key.clone()) {
            return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
        }
        let key: StringDeserializer<A::Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.fields.next_value_seed(StrictSeed(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.fields.size_hint()
    }
}

#[cfg(test)]
mod tests {
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
}
