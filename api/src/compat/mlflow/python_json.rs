//! Reads JSON as Python's `json.loads` does, which MLflow's scoring server uses.
//!
//! Python takes more than JSON: `NaN` and infinities, numbers beyond the range of a float, halves of surrogate pairs, a
//! byte order mark, UTF-16 and UTF-32. The last value of a repeated key counts. Clients send such bodies: `json.dumps`
//! writes an empty cell of a pandas table as `NaN`.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use serde::de::IgnoredAny;
use serde_json::Value;

/// Stands for numbers that a float can't hold.
const LARGEST: &str = "1.7976931348623157e308";

/// Decodes a body. `NaN` becomes null, as pandas takes it for a missing value.
///
/// # Errors
/// If Python would not take the body for JSON, or if it is nested too deeply.
pub(super) fn parse(body: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(body).or_else(|error| match decode(body) {
        Some(text) => serde_json::from_str(&to_json(&text)),
        None => Err(error),
    })
}

/// Decodes a text in one of the encodings that Python detects by the first bytes.
fn decode(body: &[u8]) -> Option<Cow<'_, str>> {
    fn utf_8(bytes: &[u8]) -> Option<Cow<'_, str>> {
        std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
    }
    fn utf_16<'a>(encoding: &'static Encoding, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        encoding.decode_without_bom_handling_and_without_replacement(bytes)
    }
    fn utf_32(number: fn([u8; 4]) -> u32, bytes: &[u8]) -> Option<Cow<'_, str>> {
        let (units, rest) = bytes.as_chunks::<4>();
        let text: Option<String> = units.iter().map(|unit| char::from_u32(number(*unit))).collect();
        text.filter(|_| rest.is_empty()).map(Cow::Owned)
    }
    match body {
        [0xff, 0xfe, 0, 0, text @ ..] => utf_32(u32::from_le_bytes, text),
        [0, 0, 0xfe, 0xff, text @ ..] => utf_32(u32::from_be_bytes, text),
        [0xff, 0xfe, text @ ..] => utf_16(UTF_16LE, text),
        [0xfe, 0xff, text @ ..] => utf_16(UTF_16BE, text),
        [0xef, 0xbb, 0xbf, text @ ..] => utf_8(text),
        // JSON begins with an ASCII character.
        [0, 0, _, _, ..] => utf_32(u32::from_be_bytes, body),
        [_, 0, 0, 0, ..] => utf_32(u32::from_le_bytes, body),
        [0, _, ..] => utf_16(UTF_16BE, body),
        [_, 0, ..] => utf_16(UTF_16LE, body),
        _ => utf_8(body),
    }
}

/// Replaces what JSON does not have. What Python refuses too stays as it is.
fn to_json(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((outside, string)) = rest.split_once('"') {
        add_outside(&mut json, outside);
        json.push('"');
        rest = add_string(&mut json, string);
    }
    add_outside(&mut json, rest);
    json
}

/// Adds text that is not in a string.
fn add_outside(json: &mut String, text: &str) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    for piece in text.split_inclusive(|c| !is_word(c)) {
        let word = piece.trim_end_matches(|c| !is_word(c));
        let (sign, size) = match word.strip_prefix('-') {
            Some(size) => ("-", size),
            None => ("", word),
        };
        match word {
            "NaN" => json.push_str("null"),
            _ if size == "Infinity" || is_too_large(word) => {
                json.push_str(sign);
                json.push_str(LARGEST);
            }
            _ => json.push_str(word),
        }
        json.push_str(&piece[word.len()..]);
    }
}

/// Whether `word` is a number in JSON's syntax that a float can't hold.
fn is_too_large(word: &str) -> bool {
    word.parse().is_ok_and(f64::is_infinite) && serde_json::from_str::<IgnoredAny>(word).is_ok()
}

/// Adds a string from behind its first quote to its last one. Returns what follows.
fn add_string<'a>(json: &mut String, text: &'a str) -> &'a str {
    let mut rest = text;
    while let Some(next) = rest.find(['"', '\\']) {
        let (plain, marked) = rest.split_at(next);
        json.push_str(plain);
        if let Some(after) = marked.strip_prefix('"') {
            json.push('"');
            return after;
        }
        let length = match (surrogate(marked), marked.get(6..).and_then(surrogate)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                json.push_str("\\ufffd");
                rest = &marked[6..];
                continue;
            }
            // An escape is a backslash and one more character, which may be a quote.
            _ => marked.chars().take(2).map(char::len_utf8).sum(),
        };
        json.push_str(&marked[..length]);
        rest = &marked[length..];
    }
    json.push_str(rest);
    ""
}

/// The number in the escape `\uXXXX` at the start of `text`.
fn surrogate(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| are_digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_that_json_does_not_have_are_read() {
        assert_eq!(read("[NaN, 1, null]"), json!([null, 1, null]));
        assert_eq!(read("[Infinity,-Infinity]"), json!([f64::MAX, f64::MIN]));
        assert_eq!(
            read("[1e400,-1E+999,0.5,1e-400]"),
            json!([f64::MAX, f64::MIN, 0.5, 0.0])
        );
        assert_eq!(
            read(r#"{"NaN":"NaN, \"NaN\", 1e400","x":NaN}"#),
            json!({"NaN": "NaN, \"NaN\", 1e400", "x": null})
        );
        for text in [
            "nan",
            "[Inf]",
            "[+Infinity]",
            "[-NaN]",
            "[NaNs]",
            "[01e400]",
            "[1e400x]",
            "[.1e400]",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        assert_eq!(
            read(r#"["\ud800", "a\udfffb", "\ud83d\ude00", "\\ud800"]"#),
            json!(["\u{fffd}", "a\u{fffd}b", "😀", "\\ud800"])
        );
        assert_eq!(
            read(r#"["\ud800\ud83d\ude00", "\ud800\n", "\ud800"]"#),
            json!(["\u{fffd}😀", "\u{fffd}\n", "\u{fffd}"])
        );
        for text in [
            r#"["\ud80"]"#,
            r#"["\ud+00"]"#,
            r#"["\"#,
            r#"["\ud800"#,
            "[\"\u{1}\"]",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn encodings_are_detected_by_the_first_bytes() {
        let text = r#"{"a":"é😀"}"#;
        let marked = format!("\u{feff}{text}");
        let utf_16 =
            |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let utf_32 = |text: &str, bytes: fn(u32) -> [u8; 4]| {
            text.chars().map(u32::from).flat_map(bytes).collect::<Vec<u8>>()
        };
        for text in [text, &marked] {
            for body in [
                text.as_bytes().to_vec(),
                utf_16(text, u16::to_le_bytes),
                utf_16(text, u16::to_be_bytes),
                utf_32(text, u32::to_le_bytes),
                utf_32(text, u32::to_be_bytes),
            ] {
                assert_eq!(parse(&body).unwrap(), json!({"a": "é😀"}), "{body:?}");
            }
        }
        for body in [
            &b"\xef\xbb\xbf\xef\xbb\xbf{}"[..],
            b" \xef\xbb\xbf{}",
            b"[\"\xe9\"]",
            b"{\0}\0\0",
            b"",
        ] {
            assert!(parse(body).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn other_text_is_unchanged(text in r#"[\[\]{},:"\\u0-9a-fdNI. \-]{0,40}"#, string in ".{0,20}") {
            let quoted = serde_json::to_string(&string).unwrap();
            for text in [text, format!("[{quoted}, 1]")] {
                if let Ok(value) = serde_json::from_str::<Value>(&text) {
                    prop_assert_eq!(serde_json::from_str::<Value>(&to_json(&text)).unwrap(), value);
                }
            }
        }
    }
}
